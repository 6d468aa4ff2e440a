//! 13 LeaveGroup: versions 0 to 5.
//!
//! - v0: one member leaves
//! - v1: throttle time
//! - v2: throttling after the answer (KIP-219)
//! - v3: several members, each by id or instance id, each with its own result (KIP-345)
//! - v4: flexible encoding
//! - v5: reason in the request (KIP-800)
//!
//! Deviations: the reason is not used.

use crate::base::ids::GroupId;
use crate::engine::Later;
use crate::engine::groups::{GroupError, LeaveMember, LeaveResult};
use crate::protocol::messages::{LeaveGroupRequestData, LeaveGroupResponseData, MemberResponse};
use crate::protocol::{ErrorCode, KafkaString};

use super::{Call, Reply, VersionRange, errors, first_error, later, owned, ready};
use crate::kafka::reader::DecodeError;

pub(super) const RANGE: VersionRange = VersionRange::new(0, 5);

/// First version with a list of members.
const MEMBERS_FROM: i16 = 3;

pub(super) fn start(mut call: Call) -> Result<Later<Reply>, DecodeError> {
    let request = LeaveGroupRequestData::read(&mut call.body, call.version)?;
    let version = call.version;
    if request.group_id.is_empty() {
        let code = ErrorCode::InvalidGroupId;
        return Ok(ready(failed(code), code));
    }
    let group = GroupId::from(request.group_id.as_str());
    let leaving = call.engine().groups.leave(group, members(&request, version));
    Ok(later(async move {
        let message = answer(leaving.await, version);
        let members = message.members.iter().map(|member| member.error_code);
        let error = first_error(std::iter::once(message.error_code).chain(members));
        Reply::message(message, error)
    }))
}

fn members(request: &LeaveGroupRequestData, version: i16) -> Vec<LeaveMember> {
    if version < MEMBERS_FROM {
        let member_id = request.member_id.as_str().to_owned();
        return vec![LeaveMember { member_id, group_instance_id: None }];
    }
    let members = request.members.iter().map(|member| LeaveMember {
        member_id: member.member_id.as_str().to_owned(),
        group_instance_id: owned(member.group_instance_id.as_ref()),
    });
    members.collect()
}

fn answer(results: Result<Vec<LeaveResult>, GroupError>, version: i16) -> LeaveGroupResponseData {
    let results = match results {
        Ok(results) => results,
        Err(error) => return failed(errors::group(&error)),
    };
    let members = results.into_iter().map(|(member, result)| {
        let code = result.map_or_else(|error| errors::group(&error), |()| ErrorCode::None);
        MemberResponse {
            member_id: KafkaString::from(member.member_id),
            group_instance_id: member.group_instance_id.map(KafkaString::from),
            error_code: code.code(),
            ..Default::default()
        }
    });
    let members: Vec<MemberResponse> = members.collect();
    if version < MEMBERS_FROM {
        // The one member's result is the result.
        return failed(first_error(members.iter().map(|member| member.error_code)));
    }
    LeaveGroupResponseData { members, ..Default::default() }
}

fn failed(code: ErrorCode) -> LeaveGroupResponseData {
    LeaveGroupResponseData { error_code: code.code(), ..Default::default() }
}
