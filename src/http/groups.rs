//! Consumer groups as administrators see them: members with what they read, and lag.
//!
//! A snapshot each time it is asked for; nothing here is kept.

use std::collections::HashMap;

use super::state::Inner;
use crate::base::ids::{GroupId, Offset, TopicPartition};
use crate::engine::groups::{
    CommittedOffset, GroupDescription, GroupError, GroupState, MemberDescription, OffsetQuery,
};
use crate::protocol::consumer_protocol::{self, PROTOCOL_TYPE};

/// How far a group is behind on one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lag {
    /// The partition.
    pub partition: TopicPartition,
    /// What the group committed.
    pub committed: CommittedOffset,
    /// First readable offset.
    pub log_start_offset: Offset,
    /// Offset after the last readable record.
    pub log_end_offset: Offset,
    /// Records between the two; 0 if the commit is ahead of the log.
    pub lag: i64,
    /// The member that reads the partition now.
    pub owner: Option<Owner>,
}

/// Who reads a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The member.
    pub member_id: String,
    /// The identity of a static member.
    pub instance_id: Option<String>,
    /// The client's own name.
    pub client_id: String,
}

/// Returns the partitions of a member in a stable group, sorted; none for members of other
/// protocols and for bytes that are no assignment.
#[must_use]
pub fn assignment(group: &GroupDescription, member: &MemberDescription) -> Vec<TopicPartition> {
    if group.protocol_type != PROTOCOL_TYPE {
        return Vec::new();
    }
    consumer_protocol::decode_assignment(&member.assignment).unwrap_or_default()
}

/// Returns the lag on every partition that the group committed, the largest first. Partitions
/// that cannot be read now are left out.
///
/// # Errors
/// What the coordinator reports.
pub fn lags(state: &Inner, group: &GroupDescription) -> Result<Vec<Lag>, GroupError> {
    let mut owners = HashMap::new();
    for member in &group.members {
        for partition in assignment(group, member) {
            let owner = Owner {
                member_id: member.member_id.to_string(),
                instance_id: member.group_instance_id.clone(),
                client_id: member.client_id.clone(),
            };
            owners.insert(partition, owner);
        }
    }
    let committed = state.engine.groups.committed(&group.group_id, &OffsetQuery::All)?;
    let lag_of = |(partition, committed): (TopicPartition, Option<CommittedOffset>)| {
        let bounds = state.engine.log.bounds(&partition.topic, partition.partition).ok()?;
        let committed = committed?;
        Some(Lag {
            log_start_offset: bounds.log_start_offset,
            log_end_offset: bounds.high_watermark,
            lag: bounds.high_watermark.saturating_sub(committed.offset).max(0),
            owner: owners.remove(&partition),
            committed,
            partition,
        })
    };
    let mut lags: Vec<Lag> = committed.into_iter().filter_map(lag_of).collect();
    // The sort is stable: partitions with the same lag stay in their order.
    lags.sort_by_key(|lag| std::cmp::Reverse(lag.lag));
    Ok(lags)
}

/// The sum of lags.
#[must_use]
pub fn total(lags: &[Lag]) -> i64 {
    lags.iter().fold(0, |sum, lag| sum.saturating_add(lag.lag))
}

/// Finds a group; one that is dead is none.
#[must_use]
pub fn find(state: &Inner, id: &str) -> Option<GroupDescription> {
    let found = state.engine.groups.describe(&GroupId::from(id));
    found.filter(|group| group.state != GroupState::Dead)
}
