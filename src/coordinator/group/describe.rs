//! The group as `DescribeGroups` and `ListGroups` show it.

use bytes::Bytes;

use crate::base::ids::{GroupId, MemberId};

use super::Group;
use super::state::{GroupState, State};

/// What administrators may see of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupDescription {
    /// The group.
    pub group_id: GroupId,
    /// Its state.
    pub state: GroupState,
    /// The protocol type; empty if there never was a member.
    pub protocol_type: String,
    /// The elected protocol of a stable group, else empty.
    pub protocol_name: String,
    /// The current generation.
    pub generation_id: i32,
    /// The leader, if there are members.
    pub leader: Option<MemberId>,
    /// The members.
    pub members: Vec<MemberDescription>,
}

/// What administrators may see of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberDescription {
    /// The member.
    pub member_id: MemberId,
    /// The identity of a static member.
    pub group_instance_id: Option<String>,
    /// The client's own name.
    pub client_id: String,
    /// The address the client connects from.
    pub client_host: String,
    /// The metadata for the elected protocol of a stable group, else empty.
    pub metadata: Bytes,
    /// The assignment in a stable group, else empty.
    pub assignment: Bytes,
}

impl Group {
    /// Describes the group; protocol, metadata and assignments only while they are in force.
    #[must_use]
    pub fn describe(&self) -> GroupDescription {
        let is_stable = self.state == State::Stable;
        let protocol = self.protocol_name.as_deref().filter(|_| is_stable);
        let members = self.members.iter().map(|member| MemberDescription {
            member_id: member.id.clone(),
            group_instance_id: member.group_instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            metadata: protocol.map(|name| member.metadata(name)).unwrap_or_default(),
            assignment: protocol.map(|_| member.assignment.clone()).unwrap_or_default(),
        });
        GroupDescription {
            group_id: self.id.clone(),
            state: self.state(),
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            protocol_name: protocol.unwrap_or_default().to_owned(),
            generation_id: self.generation_id,
            leader: self.leader.clone(),
            members: members.collect(),
        }
    }
}
