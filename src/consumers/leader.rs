//! What a member does for all others when it is elected leader: assign, and watch their topics.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use super::assignor::{self, AssignorMember, PartitionCounts};
use super::instance::Watched;
use super::registry::Shared;
use super::settings::Assignor;
use super::subscription::fingerprint;
use crate::base::ids::{MemberId, TopicName};
use crate::engine::groups::{GroupDescription, JoinReply};
use crate::protocol::consumer_protocol as protocol;

/// Shares the partitions out among all members, native ones included; also returns the topics of
/// them all.
pub(super) fn assign_for_all(
    shared: &Shared,
    reply: &JoinReply,
) -> (Vec<(MemberId, Bytes)>, Arc<[TopicName]>) {
    let members = reply.members.iter().map(|member| {
        let topics = protocol::decode_subscription(&member.metadata).unwrap_or_else(|error| {
            let member = member.member_id.as_str();
            tracing::warn!(member, %error, "a member gets no partition");
            Vec::new()
        });
        let (member_id, group_instance_id) =
            (member.member_id.clone(), member.group_instance_id.clone());
        AssignorMember { member_id, group_instance_id, topics }
    });
    let members: Vec<AssignorMember> = members.collect();
    let topics: BTreeSet<TopicName> = members.iter().flat_map(|m| m.topics.clone()).collect();
    // Only protocols that we offered can be elected.
    let elected = reply.protocol_name.as_deref().and_then(Assignor::find);
    let shares =
        assignor::assign(elected.unwrap_or(Assignor::Range), &members, &counts(shared, &topics));
    let encoded = shares.into_iter().map(|(id, share)| (id, protocol::encode_assignment(&share)));
    (encoded.collect(), topics.into_iter().collect())
}

/// After a restart: says what to watch if the assignment that the coordinator kept is the one
/// that would be made now; none if topics changed just before, so that the group must assign anew.
pub(super) fn kept_assignment(
    shared: &Shared,
    description: &GroupDescription,
    member_id: &str,
    matched: &[TopicName],
) -> Option<Watched> {
    let members = description.members.iter().map(|member| AssignorMember {
        member_id: member.member_id.clone(),
        group_instance_id: member.group_instance_id.clone(),
        topics: protocol::decode_subscription(&member.metadata).unwrap_or_default(),
    });
    let members: Vec<AssignorMember> = members.collect();
    let own = members.iter().find(|member| member.member_id.as_str() == member_id)?;
    if own.topics != matched {
        return None;
    }
    let is_leader = description.leader.as_ref().is_some_and(|id| id.as_str() == member_id);
    if !is_leader {
        return Some(watch(shared, matched.into()));
    }
    let topics: BTreeSet<TopicName> = members.iter().flat_map(|m| m.topics.clone()).collect();
    let elected = Assignor::find(&description.protocol_name)?;
    let shares = assignor::assign(elected, &members, &counts(shared, &topics));
    let is_same = shares.iter().zip(&description.members).all(|((_, share), member)| {
        protocol::decode_assignment(&member.assignment).is_ok_and(|kept| kept == *share)
    });
    is_same.then(|| watch(shared, topics.into_iter().collect()))
}

/// Counts the partitions of those of `topics` that exist.
fn counts(shared: &Shared, topics: &BTreeSet<TopicName>) -> PartitionCounts {
    let existing = topics.iter().filter_map(|name| shared.engine.topics.find(name.as_str()));
    existing.map(|topic| (topic.name.clone(), topic.partition_count)).collect()
}

/// Remembers how `topics` are now.
pub(super) fn watch(shared: &Shared, topics: Arc<[TopicName]>) -> Watched {
    let fingerprint = fingerprint(shared.engine.topics.as_ref(), &topics);
    Watched { topics, fingerprint }
}
