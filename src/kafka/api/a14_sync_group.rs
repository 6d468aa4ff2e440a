//! 14 SyncGroup: versions 0 to 5.
//!
//! - v1: throttle time
//! - v2: throttling after the answer (KIP-219)
//! - v3: group instance id (KIP-345)
//! - v4: flexible encoding
//! - v5: protocol type and name in request and answer (KIP-559)
//!
//! Deviations: a member of a `consumer` group to which the leader gave nothing receives a valid
//! empty assignment instead of no bytes, which some clients cannot read.

use bytes::Bytes;

use crate::base::ids::{GroupId, MemberId};
use crate::engine::Later;
use crate::engine::groups::{self, SyncReply};
use crate::protocol::messages::{SyncGroupRequestData, SyncGroupResponseData};
use crate::protocol::{ErrorCode, KafkaString};

use super::{Call, Reply, VersionRange, errors, first_error, later, owned, ready};
use crate::kafka::reader::DecodeError;

pub(super) const RANGE: VersionRange = VersionRange::new(0, 5);

/// The protocol type of consumers, the one whose assignments have a common format.
const CONSUMER: &str = "consumer";

/// `ConsumerProtocolAssignment` version 0: no partition, and user data that is null.
const EMPTY_ASSIGNMENT: &[u8] = &[0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff];

pub(super) fn start(mut call: Call) -> Result<Later<Reply>, DecodeError> {
    let request = SyncGroupRequestData::read(&mut call.body, call.version)?;
    if request.group_id.is_empty() {
        return Ok(ready(failed(ErrorCode::InvalidGroupId), ErrorCode::InvalidGroupId));
    }
    let syncing = call.engine().groups.sync(sync(&request));
    Ok(later(async move {
        let message = match syncing.await {
            Ok(reply) => synced(reply),
            Err(error) => failed(errors::group(&error)),
        };
        let error = first_error([message.error_code]);
        Reply::message(message, error)
    }))
}

fn sync(request: &SyncGroupRequestData) -> groups::Sync {
    let assignments = request.assignments.iter().map(|assigned| {
        // The group keeps assignments: a slice of the frame would keep the whole frame.
        let bytes = Bytes::copy_from_slice(&assigned.assignment);
        (MemberId::from(assigned.member_id.as_str()), bytes)
    });
    groups::Sync {
        group: GroupId::from(request.group_id.as_str()),
        member_id: request.member_id.as_str().to_owned(),
        generation_id: request.generation_id,
        group_instance_id: owned(request.group_instance_id.as_ref()),
        protocol_type: owned(request.protocol_type.as_ref()),
        protocol_name: owned(request.protocol_name.as_ref()),
        assignments: assignments.collect(),
    }
}

fn synced(reply: SyncReply) -> SyncGroupResponseData {
    let is_consumer = reply.protocol_type.as_deref() == Some(CONSUMER);
    let assignment = if reply.assignment.is_empty() && is_consumer {
        Bytes::from_static(EMPTY_ASSIGNMENT)
    } else {
        reply.assignment
    };
    SyncGroupResponseData {
        protocol_type: reply.protocol_type.map(KafkaString::from),
        protocol_name: reply.protocol_name.map(KafkaString::from),
        assignment,
        ..Default::default()
    }
}

fn failed(code: ErrorCode) -> SyncGroupResponseData {
    SyncGroupResponseData { error_code: code.code(), ..Default::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::messages::ConsumerProtocolAssignmentData;

    #[test]
    fn the_empty_assignment_is_a_valid_one() {
        let mut bytes = Bytes::from_static(EMPTY_ASSIGNMENT);
        assert_eq!(bytes.split_to(2), [0, 0].as_slice());
        let read = ConsumerProtocolAssignmentData::read(&mut bytes, 0).unwrap();
        assert!(read.assigned_partitions.is_empty() && read.user_data.is_none());
        assert!(bytes.is_empty());
    }

    #[test]
    fn only_consumers_get_it() {
        let reply = |protocol_type: &str| SyncReply {
            protocol_type: Some(protocol_type.to_owned()),
            protocol_name: Some("range".to_owned()),
            assignment: Bytes::new(),
        };
        assert_eq!(synced(reply("consumer")).assignment, EMPTY_ASSIGNMENT);
        assert!(synced(reply("connect")).assignment.is_empty());
    }
}
