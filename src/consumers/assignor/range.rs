//! Kafka's `RangeAssignor`: the partitions of each topic, in order, in contiguous ranges.
//!
//! With `n` partitions and `m` members the first `n % m` members get one partition more. Racks
//! (KIP-881) do not matter on one node: without them Kafka's newer code gives the same ranges.

use super::{AssignorMember, PartitionCounts};
use crate::base::ids::TopicPartition;

pub(super) fn assign(
    members: &[AssignorMember],
    order: &[usize],
    counts: &PartitionCounts,
    shares: &mut [Vec<TopicPartition>],
) {
    for (topic, count) in counts {
        let is_subscribed = |index: &&usize| {
            members.get(**index).is_some_and(|m| m.topics.binary_search(topic).is_ok())
        };
        let takers: Vec<usize> = order.iter().filter(is_subscribed).copied().collect();
        let Ok(taker_count) = i32::try_from(takers.len()) else {
            continue;
        };
        if taker_count == 0 {
            continue;
        }
        let (each, extra) = (count / taker_count, count % taker_count);
        let mut next = 0;
        for (place, index) in (0_i32..).zip(takers) {
            let end = next + each + i32::from(place < extra);
            if let Some(share) = shares.get_mut(index) {
                share.extend((next..end).map(|p| TopicPartition::new(topic.clone(), p)));
            }
            next = end;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{counts, member, run};
    use crate::consumers::Assignor::Range;

    #[test]
    fn documented_example_of_two_topics_and_two_members() {
        let members = [member("C0", &["t0", "t1"]), member("C1", &["t0", "t1"])];
        let shares = run(Range, &members, &counts(&[("t0", 3), ("t1", 3)]));
        assert_eq!(shares, ["t0-0 t0-1 t1-0 t1-1", "t0-2 t1-2"]);
    }

    #[test]
    fn members_are_ordered_by_id_whatever_the_order_of_arrival() {
        let members = [member("b", &["t"]), member("a", &["t"])];
        assert_eq!(run(Range, &members, &counts(&[("t", 3)])), ["t-2", "t-0 t-1"]);
    }

    #[test]
    fn more_members_than_partitions_leave_some_without() {
        let members = [member("a", &["t"]), member("b", &["t"]), member("c", &["t"])];
        assert_eq!(run(Range, &members, &counts(&[("t", 2)])), ["t-0", "t-1", ""]);
    }

    #[test]
    fn different_subscriptions_share_only_what_both_want() {
        let members = [member("a", &["t1"]), member("b", &["t1", "t2"]), member("c", &["t1"])];
        let shares = run(Range, &members, &counts(&[("t1", 3), ("t2", 2)]));
        assert_eq!(shares, ["t1-0", "t1-1 t2-0 t2-1", "t1-2"]);
    }
}
