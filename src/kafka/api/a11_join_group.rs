//! 11 JoinGroup: versions 0 to 9.
//!
//! - v0: the session timeout bounds the rebalance too
//! - v1: rebalance timeout (KIP-62)
//! - v2: throttle time
//! - v3: throttling after the answer (KIP-219)
//! - v4: a member without an id is sent back with one first (KIP-394)
//! - v5: group instance id (KIP-345)
//! - v6: flexible encoding
//! - v7: protocol type in the answer (KIP-559)
//! - v8: reason in the request (KIP-800)
//! - v9: the leader may be told to skip the assignment (KIP-814)
//!
//! Deviations: the reason is not used.

use bytes::Bytes;

use crate::base::ids::GroupId;
use crate::engine::Later;
use crate::engine::groups::{Join, JoinRefusal, JoinReply, MemberIdPolicy, SkipAssignmentSupport};
use crate::protocol::messages::{
    JoinGroupRequestData, JoinGroupResponseData, JoinGroupResponseMember,
};
use crate::protocol::{ErrorCode, KafkaString};

use super::{Call, Reply, VersionRange, errors, first_error, later, owned, ready, text};
use crate::kafka::reader::DecodeError;

pub(super) const RANGE: VersionRange = VersionRange::new(0, 9);

const REBALANCE_TIMEOUT_FROM: i16 = 1;
const MEMBER_ID_REQUIRED_FROM: i16 = 4;
const PROTOCOL_TYPE_FROM: i16 = 7;
const SKIP_ASSIGNMENT_FROM: i16 = 9;

pub(super) fn start(mut call: Call) -> Result<Later<Reply>, DecodeError> {
    let request = JoinGroupRequestData::read(&mut call.body, call.version)?;
    let version = call.version;
    if request.group_id.is_empty() {
        let message = failed(ErrorCode::InvalidGroupId, request.member_id, version);
        return Ok(ready(message, ErrorCode::InvalidGroupId));
    }
    let joining = call.engine().groups.join(join(&call, &request));
    Ok(later(async move {
        let message = match joining.await {
            Ok(reply) => joined(reply),
            Err(JoinRefusal { member_id, error }) => {
                failed(errors::group(&error), KafkaString::from(member_id), version)
            }
        };
        let error = first_error([message.error_code]);
        Reply::message(message, error)
    }))
}

fn join(call: &Call, request: &JoinGroupRequestData) -> Join {
    let version = call.version;
    let protocols = request.protocols.iter().map(|protocol| {
        // The member keeps its metadata for as long as it lives: a slice of the frame would keep
        // the whole frame.
        (protocol.name.as_str().to_owned(), Bytes::copy_from_slice(&protocol.metadata))
    });
    Join {
        group: GroupId::from(request.group_id.as_str()),
        member_id: request.member_id.as_str().to_owned(),
        group_instance_id: owned(request.group_instance_id.as_ref()),
        client_id: owned(call.client_id.as_ref()).unwrap_or_default(),
        client_host: call.session.client_host.clone(),
        session_timeout_ms: request.session_timeout_ms,
        rebalance_timeout_ms: if version >= REBALANCE_TIMEOUT_FROM {
            request.rebalance_timeout_ms
        } else {
            request.session_timeout_ms
        },
        protocol_type: request.protocol_type.as_str().to_owned(),
        protocols: protocols.collect(),
        member_id_policy: if version >= MEMBER_ID_REQUIRED_FROM {
            MemberIdPolicy::RequireKnown
        } else {
            MemberIdPolicy::AdmitUnknown
        },
        skip_assignment_support: if version >= SKIP_ASSIGNMENT_FROM {
            SkipAssignmentSupport::Supported
        } else {
            SkipAssignmentSupport::Unsupported
        },
    }
}

fn joined(reply: JoinReply) -> JoinGroupResponseData {
    let members = reply.members.into_iter().map(|member| JoinGroupResponseMember {
        member_id: text(member.member_id.as_str()),
        group_instance_id: member.group_instance_id.map(KafkaString::from),
        metadata: member.metadata,
        ..Default::default()
    });
    JoinGroupResponseData {
        generation_id: reply.generation_id,
        protocol_type: reply.protocol_type.map(KafkaString::from),
        protocol_name: reply.protocol_name.map(KafkaString::from),
        leader: text(reply.leader.as_str()),
        skip_assignment: reply.skip_assignment,
        member_id: text(reply.member_id.as_str()),
        members: members.collect(),
        ..Default::default()
    }
}

fn failed(code: ErrorCode, member_id: KafkaString, version: i16) -> JoinGroupResponseData {
    // Before it could be null, the name of no protocol was empty.
    let protocol_name = (version < PROTOCOL_TYPE_FROM).then(KafkaString::default);
    JoinGroupResponseData {
        error_code: code.code(),
        member_id,
        protocol_name,
        ..Default::default()
    }
}
