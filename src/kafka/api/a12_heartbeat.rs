//! 12 Heartbeat: versions 0 to 4.
//!
//! - v1: throttle time
//! - v2: throttling after the answer (KIP-219)
//! - v3: group instance id (KIP-345)
//! - v4: flexible encoding
//!
//! Deviations: none known.

use crate::base::ids::GroupId;
use crate::engine::Later;
use crate::engine::groups::Membership;
use crate::protocol::ErrorCode;
use crate::protocol::messages::{HeartbeatRequestData, HeartbeatResponseData};

use super::{Call, Reply, VersionRange, errors, later, owned, ready};
use crate::kafka::reader::DecodeError;

pub(super) const RANGE: VersionRange = VersionRange::new(0, 4);

pub(super) fn start(mut call: Call) -> Result<Later<Reply>, DecodeError> {
    let request = HeartbeatRequestData::read(&mut call.body, call.version)?;
    if request.group_id.is_empty() {
        return Ok(ready(message(ErrorCode::InvalidGroupId), ErrorCode::InvalidGroupId));
    }
    let beating = call.engine().groups.heartbeat(Membership {
        group: GroupId::from(request.group_id.as_str()),
        member_id: request.member_id.as_str().to_owned(),
        generation_id: request.generation_id,
        group_instance_id: owned(request.group_instance_id.as_ref()),
    });
    Ok(later(async move {
        let error = match beating.await {
            Ok(()) => ErrorCode::None,
            Err(error) => errors::group(&error),
        };
        Reply::message(message(error), error)
    }))
}

fn message(error: ErrorCode) -> HeartbeatResponseData {
    HeartbeatResponseData { error_code: error.code(), ..Default::default() }
}
