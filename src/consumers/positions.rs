//! Where an instance stands in each of its partitions.
//!
//! Three offsets per partition: `position`, the next record to read, moves when a delivery is
//! confirmed; `acknowledged` follows it when the client comes back, which shows that the records
//! arrived; `committed` is what the group has. Auto-commit only ever commits `acknowledged`.

use std::collections::HashMap;

use super::error::ConsumerError;
use super::settings::{OffsetReset, Settings};
use crate::base::ids::{GroupId, Offset, TopicId, TopicPartition};
use crate::engine::Engine;
use crate::engine::groups::OffsetQuery;
use crate::engine::log::{Bounds, Isolation, OffsetSpec, ReadError};

/// A position that is kept over a restart although nobody committed it.
///
/// It holds as long as the group's committed offset is the one of the time it was made: a later
/// commit is newer knowledge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hold {
    pub(super) offset: Offset,
    pub(super) committed: Option<Offset>,
}

/// One partition of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) partition: TopicPartition,
    /// A topic that is created again is another topic: nothing of the slot is true for it.
    pub(super) topic_id: TopicId,
    /// Renewed by a seek, so that a delivery from before it moves nothing.
    pub(super) token: u64,
    /// None while nothing tells where to begin.
    pub(super) position: Option<Offset>,
    pub(super) acknowledged: Option<Offset>,
    pub(super) committed: Option<Offset>,
    pub(super) hold: Option<Hold>,
    /// Whether the position says more than the settings would: it was delivered up to, sought,
    /// or is the end of the log at a time that passes.
    pub(super) is_worth_commit: bool,
}

impl Slot {
    /// The client came back: what was delivered has arrived.
    pub(super) const fn acknowledge(&mut self) {
        self.acknowledged = self.position;
    }

    /// Moves the position by hand and keeps it until the next commit.
    pub(super) const fn seek(&mut self, offset: Offset, token: u64) {
        self.position = Some(offset);
        self.acknowledged = Some(offset);
        self.hold = Some(Hold { offset, committed: self.committed });
        self.token = token;
        self.is_worth_commit = true;
    }

    /// Moves the position behind records that were delivered, unless it was moved meanwhile.
    pub(super) fn advance(&mut self, token: u64, from: Offset, to: Offset) {
        if self.token == token && self.position == Some(from) {
            self.position = Some(to);
            self.is_worth_commit = true;
        }
    }

    /// Takes over that the client is done with everything before `next`; never goes back.
    pub(super) fn acknowledge_up_to(&mut self, next: Offset) {
        if self.acknowledged.is_none_or(|before| before < next) {
            self.acknowledged = Some(next);
            self.is_worth_commit = true;
        }
    }

    /// Offsets written to the client that it did not acknowledge.
    pub(super) fn unacknowledged(&self) -> u64 {
        let (position, acknowledged) = (self.position.unwrap_or(0), self.acknowledged);
        let span = position.saturating_sub(acknowledged.unwrap_or(position));
        u64::try_from(span).unwrap_or(0)
    }

    /// Returns the offset that is worth a commit, up to `extent`.
    pub(super) fn to_commit(&self, extent: CommitExtent) -> Option<Offset> {
        let offset = match extent {
            CommitExtent::Delivered => self.position,
            CommitExtent::Acknowledged => self.acknowledged,
        };
        offset.filter(|offset| self.is_worth_commit && self.committed != Some(*offset))
    }
}

/// Up to where a commit goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CommitExtent {
    /// Everything delivered: the client itself says that it is done with it.
    Delivered,
    /// What the client has shown to have received, by coming back.
    Acknowledged,
}

/// Finds a partition among `slots`, which are sorted.
pub(super) fn find_slot<'a>(slots: &'a [Slot], partition: &TopicPartition) -> Option<&'a Slot> {
    let index = slots.binary_search_by(|slot| slot.partition.cmp(partition)).ok()?;
    slots.get(index)
}

/// Finds a partition among `slots`, which are sorted.
pub(super) fn find_slot_mut<'a>(
    slots: &'a mut [Slot],
    partition: &TopicPartition,
) -> Option<&'a mut Slot> {
    let index = slots.binary_search_by(|slot| slot.partition.cmp(partition)).ok()?;
    slots.get_mut(index)
}

/// Makes the slots of new partitions; those that do not exist are left out.
pub(super) struct Resolver<'a> {
    pub(super) engine: &'a Engine,
    pub(super) group: &'a GroupId,
    pub(super) settings: &'a Settings,
    /// Positions kept from before a restart, sorted.
    pub(super) holds: &'a [(TopicPartition, Hold)],
}

impl Resolver<'_> {
    /// Makes the slots of `partitions`: committed offset, else kept position, else reset.
    ///
    /// # Cancel safety
    /// Safe: nothing changes.
    pub(super) async fn slots(
        &self,
        partitions: Vec<TopicPartition>,
    ) -> Result<Vec<Slot>, ConsumerError> {
        let partitions: Vec<(TopicPartition, TopicId)> = partitions
            .into_iter()
            .filter_map(|p| find_topic_id(self.engine, &p).map(|id| (p, id)))
            .collect();
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let asked = partitions.iter().map(|(partition, _)| partition.clone()).collect();
        let found = self.engine.groups.committed(self.group, &OffsetQuery::Partitions(asked))?;
        let committed: HashMap<TopicPartition, Offset> = found
            .into_iter()
            .filter_map(|(partition, committed)| Some((partition, committed?.offset)))
            .collect();
        let mut slots = Vec::with_capacity(partitions.len());
        for (partition, topic_id) in partitions {
            let committed = committed.get(&partition).copied();
            slots.push(self.slot(partition, topic_id, committed).await);
        }
        Ok(slots)
    }

    async fn slot(
        &self,
        partition: TopicPartition,
        topic_id: TopicId,
        committed: Option<Offset>,
    ) -> Slot {
        let kept = self.holds.binary_search_by(|(held, _)| held.cmp(&partition)).ok();
        let kept = kept.and_then(|index| self.holds.get(index)).map(|(_, hold)| *hold);
        let mut hold = kept.filter(|hold| hold.committed == committed);
        let mut position = hold.map(|hold| hold.offset).or(committed);
        if position.is_none() {
            // What cannot be found now stays unknown: no offset stands for it.
            position = match reset_position(self.engine, &partition, self.settings).await {
                Ok(position) => position,
                Err(error) => {
                    tracing::debug!(%partition, %error, "a start cannot be found yet");
                    None
                }
            };
            if self.settings.auto_offset_reset.passes() {
                // After a restart "latest" would be later: what came between would be lost.
                hold = position.map(|offset| Hold { offset, committed });
            }
        }
        Slot {
            partition,
            topic_id,
            // It gets a token when it is installed.
            token: 0,
            position,
            acknowledged: position,
            committed,
            hold,
            is_worth_commit: hold.is_some(),
        }
    }
}

/// Returns the identity of a partition's topic, if the partition exists.
pub(super) fn find_topic_id(engine: &Engine, partition: &TopicPartition) -> Option<TopicId> {
    let topic = engine.topics.find(partition.topic.as_str())?;
    (0..topic.partition_count).contains(&partition.partition).then_some(topic.id)
}

/// Returns where `auto.offset.reset` begins; none when it is `none`.
///
/// # Cancel safety
/// Safe: nothing changes.
pub(super) async fn reset_position(
    engine: &Engine,
    partition: &TopicPartition,
    settings: &Settings,
) -> Result<Option<Offset>, ReadError> {
    if settings.auto_offset_reset == OffsetReset::None {
        return Ok(None);
    }
    let (topic, number, isolation) = (&partition.topic, partition.partition, settings.isolation);
    let bounds = engine.log.bounds(topic, number)?;
    let end = readable_end(&bounds, isolation);
    Ok(Some(match settings.auto_offset_reset {
        OffsetReset::None => return Ok(None),
        OffsetReset::Earliest => bounds.log_start_offset,
        OffsetReset::Latest => end,
        OffsetReset::Last(count) => end.saturating_sub(count).max(bounds.log_start_offset),
        OffsetReset::AtOrAfter(at) => {
            let spec = OffsetSpec::AtOrAfter(at);
            let found = engine.log.list_offset(topic, number, spec, isolation).await?;
            found.map_or(end, |found| found.offset)
        }
    }))
}

/// Returns the offset that the log has nearest to one that it has not.
pub(super) fn nearest_position(
    engine: &Engine,
    partition: &TopicPartition,
    offset: Offset,
) -> Result<Offset, ReadError> {
    let bounds = engine.log.bounds(&partition.topic, partition.partition)?;
    Ok(offset.max(bounds.log_start_offset).min(bounds.high_watermark))
}

/// Returns the offset after the last record that the isolation shows.
pub(super) const fn readable_end(bounds: &Bounds, isolation: Isolation) -> Offset {
    match isolation {
        Isolation::ReadUncommitted => bounds.high_watermark,
        Isolation::ReadCommitted => bounds.last_stable_offset,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::TopicName;

    fn slot() -> Slot {
        Slot {
            partition: TopicPartition::new(TopicName::parse("t").unwrap(), 0),
            topic_id: TopicId::from_u128(1),
            token: 1,
            position: Some(5),
            acknowledged: Some(5),
            committed: None,
            hold: None,
            is_worth_commit: false,
        }
    }

    #[test]
    fn a_first_position_is_not_worth_a_commit() {
        assert_eq!(slot().to_commit(CommitExtent::Delivered), None);
    }

    #[test]
    fn delivered_records_are_acknowledged_by_coming_back() {
        let mut slot = slot();
        slot.advance(1, 5, 8);
        assert_eq!(slot.to_commit(CommitExtent::Delivered), Some(8));
        assert_eq!(slot.to_commit(CommitExtent::Acknowledged), Some(5));
        slot.acknowledge();
        assert_eq!(slot.to_commit(CommitExtent::Acknowledged), Some(8));
        slot.committed = Some(8);
        assert_eq!(slot.to_commit(CommitExtent::Delivered), None);
    }

    #[test]
    fn a_delivery_from_before_a_seek_moves_nothing() {
        let mut slot = slot();
        slot.seek(5, 2);
        slot.advance(1, 5, 8);
        assert_eq!(slot.position, Some(5));
        assert_eq!(slot.hold, Some(Hold { offset: 5, committed: None }));
    }
}
