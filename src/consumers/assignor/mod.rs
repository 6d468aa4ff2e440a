//! How the leader of a group shares partitions out: Kafka's own rules, member for member.
//!
//! A native client may lead the next generation, so both must come to the same result from the
//! same input; nothing here invents a better distribution.

mod range;
mod round_robin;

use std::collections::BTreeMap;

use super::settings::Assignor;
use crate::base::ids::{MemberId, PartitionId, TopicName, TopicPartition};

/// A member as the assignors see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AssignorMember {
    /// The member.
    pub(super) member_id: MemberId,
    /// The identity of a static member.
    pub(super) group_instance_id: Option<String>,
    /// The topics it subscribes to, sorted.
    pub(super) topics: Vec<TopicName>,
}

/// The number of partitions of each topic that exists.
pub(super) type PartitionCounts = BTreeMap<TopicName, PartitionId>;

/// What each member gets, sorted; the members are in the order of the input.
pub(super) type Assignment = Vec<(MemberId, Vec<TopicPartition>)>;

/// Shares all partitions of the subscribed topics out among `members`.
pub(super) fn assign(
    assignor: Assignor,
    members: &[AssignorMember],
    counts: &PartitionCounts,
) -> Assignment {
    let mut shares: Vec<Vec<TopicPartition>> = vec![Vec::new(); members.len()];
    let order = kafka_order(members);
    match assignor {
        Assignor::Range => range::assign(members, &order, counts, &mut shares),
        Assignor::RoundRobin => round_robin::assign(members, &order, counts, &mut shares),
    }
    let ids = members.iter().map(|member| member.member_id.clone());
    ids.zip(shares)
        .map(|(id, mut share)| {
            share.sort_unstable();
            (id, share)
        })
        .collect()
}

/// Returns the indexes of `members` in Kafka's order (`MemberInfo.compareTo`): static members
/// first, by their instance id, then the others by member id.
fn kafka_order(members: &[AssignorMember]) -> Vec<usize> {
    let mut order: Vec<(bool, &str, usize)> = members
        .iter()
        .enumerate()
        .map(|(index, member)| match &member.group_instance_id {
            Some(instance) => (false, instance.as_str(), index),
            None => (true, member.member_id.as_str(), index),
        })
        .collect();
    order.sort_unstable();
    order.into_iter().map(|(_, _, index)| index).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    pub(super) fn name(text: &str) -> TopicName {
        TopicName::parse(text).unwrap()
    }

    pub(super) fn member(id: &str, topics: &[&str]) -> AssignorMember {
        let topics = topics.iter().map(|topic| name(topic)).collect();
        AssignorMember { member_id: MemberId::from(id), group_instance_id: None, topics }
    }

    pub(super) fn counts(counts: &[(&str, PartitionId)]) -> PartitionCounts {
        counts.iter().map(|(topic, count)| (name(topic), *count)).collect()
    }

    /// Runs an assignor and prints each share as `topic-partition` words.
    pub(super) fn run(
        assignor: Assignor,
        members: &[AssignorMember],
        counts: &PartitionCounts,
    ) -> Vec<String> {
        let words = |share: &Vec<TopicPartition>| {
            share.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        assign(assignor, members, counts).iter().map(|(_, share)| words(share)).collect()
    }

    #[test]
    fn static_members_come_first_by_instance_id() {
        let mut members = vec![member("a", &["t"]), member("z", &["t"]), member("y", &["t"])];
        members[1].group_instance_id = Some("2".to_owned());
        members[2].group_instance_id = Some("1".to_owned());
        assert_eq!(kafka_order(&members), [2, 1, 0]);
    }

    fn cases() -> impl Strategy<Value = (Vec<AssignorMember>, PartitionCounts)> {
        let topics = prop::collection::btree_map("[a-e]", 0..12, 0..5);
        let subscriptions = prop::collection::vec(prop::collection::btree_set("[a-f]", 0..5), 1..8);
        (topics, subscriptions).prop_map(|(topics, subscriptions)| {
            let counts = topics.iter().map(|(topic, count)| (name(topic), *count)).collect();
            let members = subscriptions.iter().enumerate().map(|(index, topics)| {
                let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
                member(&format!("m{}", (index * 7) % 10), &topics)
            });
            (members.collect(), counts)
        })
    }

    proptest! {
        #[test]
        fn every_partition_has_one_owner_who_wants_it((members, counts) in cases(), range in any::<bool>()) {
            let assignor = if range { Assignor::Range } else { Assignor::RoundRobin };
            let assignment = assign(assignor, &members, &counts);
            let mut seen = BTreeSet::new();
            for (member, (id, share)) in members.iter().zip(&assignment) {
                prop_assert_eq!(&member.member_id, id);
                for partition in share {
                    prop_assert!(member.topics.contains(&partition.topic));
                    prop_assert!(partition.partition < counts[&partition.topic]);
                    prop_assert!(seen.insert(partition.clone()), "{} has two owners", partition);
                }
            }
            let wanted: BTreeSet<&TopicName> = members.iter().flat_map(|m| &m.topics).collect();
            let all: i32 = counts.iter().filter(|(t, _)| wanted.contains(t)).map(|(_, n)| n).sum();
            prop_assert_eq!(seen.len(), usize::try_from(all).unwrap());
        }

        #[test]
        fn equal_subscriptions_are_balanced(members in 1_usize..9, topics in prop::collection::vec(0..20, 1..4)) {
            let names = ["a", "b", "c"];
            let members: Vec<_> = (0..members).map(|i| member(&format!("m{i}"), &names[..topics.len()])).collect();
            let counts: PartitionCounts = names.iter().zip(&topics).map(|(t, n)| (name(t), *n)).collect();
            let sizes: Vec<usize> = assign(Assignor::RoundRobin, &members, &counts).iter().map(|(_, s)| s.len()).collect();
            prop_assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1);
            for topic in counts.keys() {
                let share = |s: &Vec<TopicPartition>| s.iter().filter(|p| p.topic == *topic).count();
                let sizes: Vec<usize> = assign(Assignor::Range, &members, &counts).iter().map(|(_, s)| share(s)).collect();
                prop_assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1);
            }
        }
    }
}
