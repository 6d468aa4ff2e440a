//! Positions moved by hand: to an offset, a timestamp, an end of the log.

use super::error::ConsumerError;
use super::instance::{Instance, Phase};
use super::positions::{find_slot, find_slot_mut, readable_end};
use super::registry::Consumers;
use crate::base::ids::{Offset, TimestampMs, TopicPartition};
use crate::engine::instances::InstanceKey;
use crate::engine::log::OffsetSpec;

impl Consumers {
    /// Sets positions. An offset outside the log is put right by the next poll.
    ///
    /// # Errors
    /// [`ConsumerError::NotFound`], `NotAssigned`, `InvalidOffset`, `Storage`.
    ///
    /// # Cancel safety
    /// Dropping the future may or may not leave the positions moved, all or none of them.
    pub async fn seek(
        &self,
        key: &InstanceKey,
        offsets: Vec<(TopicPartition, Offset)>,
    ) -> Result<(), ConsumerError> {
        let call = self.call(key)?;
        if let Some((partition, offset)) = offsets.iter().find(|(_, offset)| *offset < 0) {
            let (partition, offset) = (partition.clone(), *offset);
            return Err(ConsumerError::InvalidOffset { partition, offset });
        }
        self.settle(&call.instance).await;
        self.move_to(&call.instance, offsets).await
    }

    /// Sets positions to the first record of at least a timestamp, or behind the last record.
    ///
    /// # Errors
    /// As [`Consumers::seek`], and `Read`.
    ///
    /// # Cancel safety
    /// As [`Consumers::seek`].
    pub async fn seek_to_timestamp(
        &self,
        key: &InstanceKey,
        timestamps: Vec<(TopicPartition, TimestampMs)>,
    ) -> Result<(), ConsumerError> {
        let call = self.call(key)?;
        self.settle(&call.instance).await;
        let partitions = timestamps.iter().map(|(partition, _)| partition);
        check_assigned(&call.instance, partitions)?;
        let isolation = call.instance.settings.isolation;
        let log = &self.shared.engine.log;
        let mut offsets = Vec::with_capacity(timestamps.len());
        for (partition, timestamp) in timestamps {
            let (topic, number) = (&partition.topic, partition.partition);
            let spec = OffsetSpec::AtOrAfter(timestamp);
            let offset = match log.list_offset(topic, number, spec, isolation).await? {
                Some(found) => found.offset,
                None => readable_end(&log.bounds(topic, number)?, isolation),
            };
            offsets.push((partition, offset));
        }
        self.move_to(&call.instance, offsets).await
    }

    /// Sets positions to the first record there is; none named means all assigned partitions.
    ///
    /// # Errors
    /// As [`Consumers::seek`], and `Read`.
    ///
    /// # Cancel safety
    /// As [`Consumers::seek`].
    pub async fn seek_to_beginning(
        &self,
        key: &InstanceKey,
        partitions: Vec<TopicPartition>,
    ) -> Result<(), ConsumerError> {
        self.seek_to_edge(key, partitions, Edge::Beginning).await
    }

    /// Sets positions behind the last record; none named means all assigned partitions.
    ///
    /// # Errors
    /// As [`Consumers::seek`], and `Read`.
    ///
    /// # Cancel safety
    /// As [`Consumers::seek`].
    pub async fn seek_to_end(
        &self,
        key: &InstanceKey,
        partitions: Vec<TopicPartition>,
    ) -> Result<(), ConsumerError> {
        self.seek_to_edge(key, partitions, Edge::End).await
    }

    async fn seek_to_edge(
        &self,
        key: &InstanceKey,
        mut partitions: Vec<TopicPartition>,
        edge: Edge,
    ) -> Result<(), ConsumerError> {
        let call = self.call(key)?;
        let assigned = self.assigned_after_settling(&call.instance).await;
        if partitions.is_empty() {
            partitions = assigned;
        }
        check_assigned(&call.instance, partitions.iter())?;
        let mut offsets = Vec::with_capacity(partitions.len());
        for partition in partitions {
            let bounds = self.shared.engine.log.bounds(&partition.topic, partition.partition)?;
            let offset = match edge {
                Edge::Beginning => bounds.log_start_offset,
                Edge::End => readable_end(&bounds, call.instance.settings.isolation),
            };
            offsets.push((partition, offset));
        }
        self.move_to(&call.instance, offsets).await
    }

    async fn move_to(
        &self,
        instance: &Instance,
        offsets: Vec<(TopicPartition, Offset)>,
    ) -> Result<(), ConsumerError> {
        check_assigned(instance, offsets.iter().map(|(partition, _)| partition))?;
        {
            let mut state = instance.state();
            for (partition, offset) in offsets {
                let token = state.fresh_token();
                if let Some(slot) = find_slot_mut(&mut state.slots, &partition) {
                    slot.seek(offset, token);
                }
            }
            state.version += 1;
        }
        instance.notify();
        Ok(instance.save(&self.shared).await?)
    }
}

/// An end of a log.
#[derive(Debug, Clone, Copy)]
enum Edge {
    Beginning,
    End,
}

fn check_assigned<'a>(
    instance: &Instance,
    mut partitions: impl Iterator<Item = &'a TopicPartition>,
) -> Result<(), ConsumerError> {
    let state = instance.state();
    let is_reading = state.member.phase != Phase::Joining;
    let is_missing = |p: &&TopicPartition| !is_reading || find_slot(&state.slots, p).is_none();
    match partitions.find(is_missing) {
        Some(partition) => Err(ConsumerError::NotAssigned(partition.clone())),
        None => Ok(()),
    }
}
