//! What administrators may take away: a group as a whole, or committed offsets of it.
//!
//! As with commits there are two phases, because the broker appends tombstones in between: a
//! check here, then the caller forgets the group, or calls `remove_offsets`.

use std::collections::BTreeSet;

use crate::base::ids::{TopicName, TopicPartition};
use crate::protocol::consumer_protocol::{PROTOCOL_TYPE, decode_subscription};

use super::state::State;
use super::{Group, GroupError};

/// The topics that the members of a group want to read.
enum Subscribed {
    To(BTreeSet<TopicName>),
    /// A member's metadata cannot be read, so it may want any topic.
    Unknown,
}

impl Group {
    /// Says whether the group may be deleted: only without members. Ids that were given out and
    /// have not joined yet do not count; their holders start over.
    ///
    /// # Errors
    /// [`GroupError::NonEmptyGroup`].
    pub fn check_deletion(&self) -> Result<(), GroupError> {
        if self.state == State::Empty { Ok(()) } else { Err(GroupError::NonEmptyGroup) }
    }

    /// Says for each partition whether its committed offset may be deleted: not while a member
    /// is subscribed to its topic (KIP-496).
    ///
    /// # Errors
    /// [`GroupError::NonEmptyGroup`] if there are members that are not consumers, whose metadata
    /// says nothing about topics.
    pub fn check_offset_deletion<'a>(
        &self,
        partitions: impl IntoIterator<Item = &'a TopicPartition>,
    ) -> Result<Vec<Result<(), GroupError>>, GroupError> {
        let subscribed = if self.state == State::Empty {
            Subscribed::To(BTreeSet::new())
        } else if self.protocol_type() == Some(PROTOCOL_TYPE) {
            self.subscribed()
        } else {
            return Err(GroupError::NonEmptyGroup);
        };
        let check = |partition: &TopicPartition| match &subscribed {
            Subscribed::To(topics) if !topics.contains(&partition.topic) => Ok(()),
            Subscribed::To(_) | Subscribed::Unknown => Err(GroupError::GroupSubscribedToTopic),
        };
        Ok(partitions.into_iter().map(check).collect())
    }

    /// The topics of all members, by the metadata of every protocol they offer: the elected one
    /// may change with the next generation.
    fn subscribed(&self) -> Subscribed {
        let mut topics = BTreeSet::new();
        for (_, metadata) in self.members.iter().flat_map(|member| &member.protocols) {
            match decode_subscription(metadata) {
                Ok(names) => topics.extend(names),
                Err(_unreadable) => return Subscribed::Unknown,
            }
        }
        Subscribed::To(topics)
    }
}

#[cfg(test)]
mod tests {
    use super::super::harness::Harness;
    use super::super::{Group, GroupState};
    use super::*;
    use crate::base::ids::GroupId;
    use crate::coordinator::group::CommittedOffset;
    use crate::protocol::consumer_protocol::encode_subscription;
    use bytes::Bytes;

    fn partition(topic: &str) -> TopicPartition {
        TopicPartition::new(TopicName::parse(topic).unwrap(), 0)
    }

    fn member_with(h: &mut Harness, protocol_type: &str, metadata: Bytes) -> String {
        let mut request = h.request("", &[]);
        request.protocol_type = protocol_type.to_owned();
        request.protocols = vec![("range".to_owned(), metadata)];
        let token = h.send(request);
        let reply = h.joined(token);
        let id = reply.member_id.to_string();
        h.sync(&id, reply.generation_id, &[(&id, "all")]);
        assert_eq!(h.group.state(), GroupState::Stable);
        id
    }

    fn harness() -> Harness {
        let mut h = Harness::new();
        h.config.initial_rebalance_delay_ms = 0;
        h
    }

    #[test]
    fn a_group_is_deleted_only_without_members() {
        let mut h = harness();
        assert_eq!(h.group.check_deletion(), Ok(()));
        let id = h.stable_one();
        assert_eq!(h.group.check_deletion(), Err(GroupError::NonEmptyGroup));
        h.leave(&id, None).unwrap();
        assert_eq!(h.group.check_deletion(), Ok(()));
    }

    #[test]
    fn offsets_of_subscribed_topics_stay_while_there_are_members() {
        let mut h = harness();
        let topics = [TopicName::parse("a").unwrap(), TopicName::parse("b").unwrap()];
        let id = member_with(&mut h, "consumer", encode_subscription(&topics));
        let asked = [partition("b"), partition("c")];
        let subscribed = Err(GroupError::GroupSubscribedToTopic);
        let checked = h.group.check_offset_deletion(&asked).unwrap();
        assert_eq!(checked, [subscribed, Ok(())]);
        h.leave(&id, None).unwrap();
        assert_eq!(h.group.check_offset_deletion(&asked).unwrap(), [Ok(()), Ok(())]);
    }

    #[test]
    fn offsets_of_topics_that_no_member_wants_expire_beside_members() {
        let mut h = harness();
        let topics = [TopicName::parse("a").unwrap()];
        member_with(&mut h, "consumer", encode_subscription(&topics));
        let committed = |at: i64| CommittedOffset {
            offset: 1,
            leader_epoch: -1,
            metadata: String::new(),
            commit_timestamp: at,
        };
        let (start, kept) = (h.now, h.config.offsets_retention_ms);
        h.group.apply_commit(["a", "b"].map(|topic| (partition(topic), committed(start))));
        h.group.apply_commit([(partition("c"), committed(start + 1))]);
        assert!(h.group.expired_offsets(start + kept - 1, &h.config).is_empty());
        assert_eq!(h.group.expired_offsets(start + kept, &h.config), [partition("b")]);
        // In a rebalance it is not certain what members want.
        h.join("");
        assert!(h.group.expired_offsets(start + kept, &h.config).is_empty());
        h.group = Group::new(GroupId::from("other"));
        member_with(&mut h, "connect", Bytes::new());
        h.group.apply_commit([(partition("b"), committed(start))]);
        assert!(h.group.expired_offsets(start + 2 * kept, &h.config).is_empty());
    }

    #[test]
    fn members_whose_metadata_says_nothing_keep_all_offsets() {
        let mut h = harness();
        member_with(&mut h, "consumer", Bytes::from_static(b"?"));
        let refused = Err(GroupError::GroupSubscribedToTopic);
        assert_eq!(h.group.check_offset_deletion(&[partition("a")]).unwrap(), [refused]);
        h.group = Group::new(GroupId::from("other"));
        member_with(&mut h, "connect", Bytes::new());
        let refused = Err(GroupError::NonEmptyGroup);
        assert_eq!(h.group.check_offset_deletion(&[partition("a")]), refused);
    }
}
