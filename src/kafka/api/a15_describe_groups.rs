//! 15 DescribeGroups: versions 0 to 6.
//!
//! - v1: throttle time
//! - v2: throttling after the answer (KIP-219)
//! - v3: authorized operations (KIP-430)
//! - v4: group instance id (KIP-345)
//! - v5: flexible encoding
//! - v6: a group that does not exist is an error, not a dead group (KIP-1043)
//!
//! Deviations: none known.

use crate::base::ids::GroupId;
use crate::engine::groups::{GroupDescription, GroupState, MemberDescription};
use crate::engine::{Engine, Later};
use crate::protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use crate::protocol::messages::{DescribeGroupsRequestData, DescribeGroupsResponseData};
use crate::protocol::{ErrorCode, KafkaString};

use super::{Call, Reply, VersionRange, first_error, operations, ready, text};
use crate::kafka::reader::DecodeError;

pub(super) const RANGE: VersionRange = VersionRange::new(0, 6);

/// First version that has an error for a group that does not exist.
const NOT_FOUND_FROM: i16 = 6;

pub(super) fn start(mut call: Call) -> Result<Later<Reply>, DecodeError> {
    let request = DescribeGroupsRequestData::read(&mut call.body, call.version)?;
    let operations = operations::group(request.include_authorized_operations);
    let groups = request.groups.into_iter().map(|group_id| DescribedGroup {
        authorized_operations: operations,
        ..describe(call.engine(), group_id, call.version)
    });
    let groups: Vec<DescribedGroup> = groups.collect();
    let error = first_error(groups.iter().map(|group| group.error_code));
    Ok(ready(DescribeGroupsResponseData { groups, ..Default::default() }, error))
}

fn describe(engine: &Engine, group_id: KafkaString, version: i16) -> DescribedGroup {
    match engine.groups.describe(&GroupId::from(group_id.as_str())) {
        Some(group) => described(group_id, group),
        None => missing(group_id, version),
    }
}

fn described(group_id: KafkaString, group: GroupDescription) -> DescribedGroup {
    DescribedGroup {
        group_id,
        group_state: text(group.state.as_str()),
        protocol_type: KafkaString::from(group.protocol_type),
        protocol_data: KafkaString::from(group.protocol_name),
        members: group.members.into_iter().map(described_member).collect(),
        ..Default::default()
    }
}

fn described_member(member: MemberDescription) -> DescribedGroupMember {
    DescribedGroupMember {
        member_id: text(member.member_id.as_str()),
        group_instance_id: member.group_instance_id.map(KafkaString::from),
        client_id: KafkaString::from(member.client_id),
        client_host: KafkaString::from(member.client_host),
        member_metadata: member.metadata,
        member_assignment: member.assignment,
        ..Default::default()
    }
}

fn missing(group_id: KafkaString, version: i16) -> DescribedGroup {
    let dead =
        DescribedGroup { group_state: text(GroupState::Dead.as_str()), ..Default::default() };
    if version < NOT_FOUND_FROM {
        return DescribedGroup { group_id, ..dead };
    }
    DescribedGroup {
        error_code: ErrorCode::GroupIdNotFound.code(),
        error_message: Some(KafkaString::from(format!("group '{group_id}' does not exist"))),
        group_id,
        ..dead
    }
}
