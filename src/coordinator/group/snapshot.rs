//! The group as it is persisted, and how it comes back after a restart.

use bytes::Bytes;

use crate::base::ids::{GroupId, MemberId, TimestampMs};

use super::Group;
use super::member::{JoinSlot, Member, SyncSlot};
use super::state::State;

/// A group in the shape of Kafka's `GroupMetadataValue` record.
///
/// Only a stable group has members here. In every other state the assignments are void, so the
/// record holds the generation alone; members that meet the restarted group join again.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GroupSnapshot {
    /// The protocol type; empty if there never was a member.
    pub protocol_type: String,
    /// The current generation.
    pub generation_id: i32,
    /// The elected protocol.
    pub protocol_name: Option<String>,
    /// The leader.
    pub leader: Option<MemberId>,
    /// When the state was entered; -1 in records that do not tell.
    pub state_timestamp: TimestampMs,
    /// The members with their assignments.
    pub members: Vec<MemberSnapshot>,
}

/// One member of a persisted group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberSnapshot {
    /// The member.
    pub member_id: MemberId,
    /// The identity of a static member.
    pub group_instance_id: Option<String>,
    /// The client's own name.
    pub client_id: String,
    /// The address the client connected from.
    pub client_host: String,
    /// How long a rebalance waits for the member.
    pub rebalance_timeout_ms: i32,
    /// After how long without a sign of life the member is removed.
    pub session_timeout_ms: i32,
    /// The member's metadata for the elected protocol.
    pub subscription: Bytes,
    /// The member's assignment.
    pub assignment: Bytes,
}

impl Group {
    /// Returns the group as a restart should find it.
    #[must_use]
    pub fn snapshot(&self) -> GroupSnapshot {
        let mut snapshot = GroupSnapshot {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            generation_id: self.generation_id,
            state_timestamp: self.state_timestamp,
            ..GroupSnapshot::default()
        };
        if self.state == State::Stable {
            let protocol = self.protocol_name.as_deref().unwrap_or_default();
            let members = self.members.iter().map(|member| member_snapshot(member, protocol));
            snapshot.members = members.collect();
            snapshot.protocol_name.clone_from(&self.protocol_name);
            snapshot.leader.clone_from(&self.leader);
        }
        snapshot
    }

    /// Makes the group that `snapshot` describes. Its members get a whole session from `now` on:
    /// they could not reach the coordinator while it was down.
    #[must_use]
    pub fn restore(id: GroupId, snapshot: GroupSnapshot, now: TimestampMs) -> Self {
        let mut group = Self::new(id);
        let protocol_type = snapshot.protocol_type;
        group.protocol_type = (!protocol_type.is_empty()).then_some(protocol_type);
        group.generation_id = snapshot.generation_id.max(0);
        let is_timed = snapshot.state_timestamp >= 0;
        group.state_timestamp = if is_timed { snapshot.state_timestamp } else { now };
        if snapshot.members.is_empty() {
            return group;
        }
        let protocol = snapshot.protocol_name.clone().unwrap_or_default();
        for member in snapshot.members {
            group.restore_member(member, &protocol, now);
        }
        group.state = State::Stable;
        group.protocol_name = snapshot.protocol_name;
        let leader = snapshot.leader.filter(|id| group.members.get(id.as_str()).is_some());
        group.leader = leader.or_else(|| group.members.find_oldest(|_| true).cloned());
        group.rearm();
        group
    }

    fn restore_member(&mut self, snapshot: MemberSnapshot, protocol: &str, now: TimestampMs) {
        // The last of two members with one identity wins, whatever the record says.
        self.members.remove(snapshot.member_id.as_str());
        let instance = snapshot.group_instance_id.as_deref();
        if let Some(holder) = instance.and_then(|i| self.members.find_static(i)).cloned() {
            self.members.remove(holder.as_str());
        }
        let mut member = Member {
            id: snapshot.member_id,
            group_instance_id: snapshot.group_instance_id,
            client_id: snapshot.client_id,
            client_host: snapshot.client_host,
            session_timeout_ms: snapshot.session_timeout_ms,
            rebalance_timeout_ms: snapshot.rebalance_timeout_ms,
            protocols: vec![(protocol.to_owned(), snapshot.subscription)],
            assignment: snapshot.assignment,
            join: JoinSlot::Absent,
            sync: SyncSlot::Idle,
            session_deadline: now,
            arrival: 0,
        };
        member.restart_session(now);
        self.members.insert(member);
    }
}

fn member_snapshot(member: &Member, protocol: &str) -> MemberSnapshot {
    MemberSnapshot {
        member_id: member.id.clone(),
        group_instance_id: member.group_instance_id.clone(),
        client_id: member.client_id.clone(),
        client_host: member.client_host.clone(),
        rebalance_timeout_ms: member.rebalance_timeout_ms,
        session_timeout_ms: member.session_timeout_ms,
        subscription: member.metadata(protocol),
        assignment: member.assignment.clone(),
    }
}
