//! The committed offsets of a group, and who may commit.
//!
//! A commit has two phases, because the broker appends the records in between: `check_commit`,
//! then, when they are durable, `apply_commit`.

use crate::base::ids::{LeaderEpoch, Offset, TimestampMs, TopicPartition};

use super::state::State;
use super::{Group, GroupConfig, GroupError};

/// One committed offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The next offset the group will read.
    pub offset: Offset,
    /// The leader epoch of the record before it; -1 if the client named none.
    pub leader_epoch: LeaderEpoch,
    /// A text of the client's own, kept as it is.
    pub metadata: String,
    /// When it was committed.
    pub commit_timestamp: TimestampMs,
}

impl Group {
    /// Says whether a commit with these credentials is welcome now, and takes it as a sign of
    /// life of the member. An empty `member_id` with generation -1 is a simple consumer or an
    /// administrator, which may commit while the group has no members.
    ///
    /// # Errors
    /// The Kafka error that answers every partition of the commit.
    pub fn check_commit(
        &mut self,
        member_id: &str,
        generation_id: i32,
        group_instance_id: Option<&str>,
        now: TimestampMs,
    ) -> Result<(), GroupError> {
        if generation_id < 0 && self.state == State::Empty {
            return Ok(());
        }
        self.check_generation(member_id, generation_id, group_instance_id)?;
        self.touch(member_id, now);
        if self.state == State::CompletingRebalance {
            // The member does not own its new partitions yet, and no longer the old ones.
            return Err(GroupError::RebalanceInProgress);
        }
        Ok(())
    }

    /// Takes over offsets that were committed, from a commit or from replayed records.
    pub fn apply_commit(
        &mut self,
        offsets: impl IntoIterator<Item = (TopicPartition, CommittedOffset)>,
    ) {
        self.offsets.extend(offsets);
    }

    /// Returns the committed offset of one partition.
    #[must_use]
    pub fn committed(&self, partition: &TopicPartition) -> Option<&CommittedOffset> {
        self.offsets.get(partition)
    }

    /// Returns all committed offsets, ordered by topic and partition.
    pub fn committed_offsets(&self) -> impl Iterator<Item = (&TopicPartition, &CommittedOffset)> {
        self.offsets.iter()
    }

    /// Forgets offsets: they expired, were deleted, or a tombstone was replayed.
    pub fn remove_offsets<'a>(&mut self, partitions: impl IntoIterator<Item = &'a TopicPartition>) {
        for partition in partitions {
            self.offsets.remove(partition);
        }
    }

    /// Returns the partitions whose offsets nobody has needed for the retention time (KIP-211).
    ///
    /// Without members it is counted from the commit, or from the moment the last member was gone
    /// if that is later. While the group is stable, offsets of topics that no member is subscribed
    /// to are counted from their commit. A group in a rebalance keeps all.
    #[must_use]
    pub fn expired_offsets(&self, now: TimestampMs, config: &GroupConfig) -> Vec<TopicPartition> {
        let is_over = |since: TimestampMs| since.saturating_add(config.offsets_retention_ms) <= now;
        // A group of simple consumers never had members.
        let emptied_at = match (&self.state, &self.protocol_type) {
            (State::Empty, None) => None,
            (State::Empty, Some(_)) => Some(self.state_timestamp),
            (State::Stable, _) => None,
            _ => return Vec::new(),
        };
        let old: Vec<_> = self
            .offsets
            .iter()
            .filter(|(_, committed)| {
                let since = committed.commit_timestamp;
                is_over(emptied_at.map_or(since, |emptied_at| emptied_at.max(since)))
            })
            .map(|(partition, _)| partition)
            .collect();
        if old.is_empty() {
            return Vec::new();
        }
        // Members that are not consumers say nothing about topics.
        let unwanted = self.check_offset_deletion(old.iter().copied()).unwrap_or_default();
        let expired = old.into_iter().zip(unwanted).filter(|(_, checked)| checked.is_ok());
        expired.map(|(partition, _)| partition.clone()).collect()
    }
}
