//! Kafka's `RoundRobinAssignor`: all partitions of all topics, one to each member in turn.
//!
//! A member that does not want a partition is passed over, and the turn goes on behind the one
//! that took it, exactly as in Kafka: unequal subscriptions are therefore not balanced.

use super::{AssignorMember, PartitionCounts};
use crate::base::ids::TopicPartition;

pub(super) fn assign(
    members: &[AssignorMember],
    order: &[usize],
    counts: &PartitionCounts,
    shares: &mut [Vec<TopicPartition>],
) {
    let mut turn = 0;
    for (topic, count) in counts {
        let wants: Vec<bool> = order
            .iter()
            .map(|i| members.get(*i).is_some_and(|m| m.topics.binary_search(topic).is_ok()))
            .collect();
        if !wants.contains(&true) {
            continue;
        }
        for partition in 0..*count {
            while wants.get(turn) != Some(&true) {
                turn = (turn + 1) % order.len();
            }
            if let Some(share) = order.get(turn).and_then(|index| shares.get_mut(*index)) {
                share.push(TopicPartition::new(topic.clone(), partition));
            }
            turn = (turn + 1) % order.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{counts, member, run};
    use crate::consumers::Assignor::RoundRobin;

    #[test]
    fn documented_example_with_equal_subscriptions() {
        let members = [member("C0", &["t0", "t1"]), member("C1", &["t0", "t1"])];
        let shares = run(RoundRobin, &members, &counts(&[("t0", 3), ("t1", 3)]));
        assert_eq!(shares, ["t0-0 t0-2 t1-1", "t0-1 t1-0 t1-2"]);
    }

    #[test]
    fn documented_example_with_different_subscriptions() {
        let members =
            [member("C0", &["t0"]), member("C1", &["t0", "t1"]), member("C2", &["t0", "t1", "t2"])];
        let shares = run(RoundRobin, &members, &counts(&[("t0", 1), ("t1", 2), ("t2", 3)]));
        assert_eq!(shares, ["t0-0", "t1-0", "t1-1 t2-0 t2-1 t2-2"]);
    }

    #[test]
    fn a_topic_nobody_wants_is_not_assigned() {
        let members = [member("a", &["t"])];
        assert_eq!(run(RoundRobin, &members, &counts(&[("t", 1), ("u", 2)])), ["t-0"]);
    }
}
