//! What a member does for all others when it is elected leader: assign, and watch their topics.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use super::assignor::{self, AssignorMember, PartitionCounts};
use super::instance::{Instance, Watched};
use super::registry::Shared;
use super::settings::Assignor;
use super::subscription::fingerprint;
use crate::base::ids::{MemberId, TopicName};
use crate::engine::groups::{GroupDescription, GroupState, JoinReply};
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

/// Returns the topics of all members, for a leader whose assignment still holds.
pub(super) fn topics_of_all(reply: &JoinReply) -> Arc<[TopicName]> {
    let topics = reply.members.iter().flat_map(|member| {
        // Who is unreadable got no partition either.
        protocol::decode_subscription(&member.metadata).unwrap_or_default()
    });
    topics.collect::<BTreeSet<TopicName>>().into_iter().collect()
}

/// Returns the generation of a stable group that knows a static member of this name.
pub(super) fn generation_of(shared: &Shared, instance: &Instance) -> Option<i32> {
    let group = shared.engine.groups.describe(&instance.key.group)?;
    let name = Some(instance.key.name.as_str());
    let is_known = group.members.iter().any(|m| m.group_instance_id.as_deref() == name);
    (is_known && group.state == GroupState::Stable).then_some(group.generation_id)
}

/// Says whether an assignment of before can be the one of a member that wants `matched`: it has
/// no other topic, and each of these is somebody's.
pub(super) fn is_assigned_for(
    shared: &Shared,
    instance: &Instance,
    assignment: &Bytes,
    matched: &[TopicName],
) -> bool {
    let partitions = protocol::decode_assignment(assignment).unwrap_or_default();
    if partitions.iter().any(|partition| !matched.contains(&partition.topic)) {
        return false;
    }
    let Some(group) = shared.engine.groups.describe(&instance.key.group) else { return false };
    let assigned: BTreeSet<TopicName> = group
        .members
        .iter()
        .flat_map(|member| protocol::decode_assignment(&member.assignment).unwrap_or_default())
        .map(|partition| partition.topic)
        .collect();
    let exists = |topic: &&TopicName| shared.engine.topics.find(topic.as_str()).is_some();
    matched.iter().filter(exists).all(|topic| assigned.contains(topic))
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
