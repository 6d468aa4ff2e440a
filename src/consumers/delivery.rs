//! What a poll hands out, and the moment at which it counts as delivered.

use std::sync::Arc;

use tokio::sync::OwnedMutexGuard;

use super::cut::{Budget, Range};
use super::instance::Call;
use super::poll::Turn;
use super::positions::find_slot_mut;
use super::settings::{Format, Settings};
use crate::base::ids::{Offset, PartitionId, TopicName, TopicPartition};
use crate::protocol::record_batch::{BatchRecords, Record};

/// A range of records of one batch, as its bytes are.
#[derive(Debug, Clone)]
pub struct PollBatch {
    partition: TopicPartition,
    range: Range,
}

impl PollBatch {
    pub(super) const fn new(partition: TopicPartition, range: Range) -> Self {
        Self { partition, range }
    }

    /// The partition the records come from.
    #[must_use]
    pub const fn partition(&self) -> &TopicPartition {
        &self.partition
    }

    /// The batch; it may hold records outside the range.
    #[must_use]
    pub const fn batch(&self) -> &BatchRecords {
        &self.range.records
    }

    /// Offset of the first record delivered.
    #[must_use]
    pub const fn first_offset(&self) -> Offset {
        self.range.first_offset
    }

    /// Offset to read next, behind the last record delivered.
    #[must_use]
    pub const fn end_offset(&self) -> Offset {
        self.range.end_offset
    }

    /// Walks the records of the range, in order.
    pub fn records(&self) -> impl Iterator<Item = Record<'_>> {
        let (first, end) = (self.range.first_offset, self.range.end_offset);
        // They were all read once when the range was cut, so none is damaged.
        let records = self.range.records.iter().map_while(Result::ok);
        records.skip_while(move |r| r.offset < first).take_while(move |r| r.offset < end)
    }
}

/// The answer to a poll.
///
/// The instance's positions move only with [`Delivery::confirm`]: a delivery that is dropped,
/// because a record cannot be shown in the instance's format or the client is gone, will be
/// delivered again. Until then the next poll of the instance waits.
#[derive(Debug)]
#[must_use = "a delivery that is not confirmed is delivered again"]
pub struct Delivery {
    pub(super) call: Call,
    pub(super) batches: Vec<PollBatch>,
    pub(super) advances: Vec<Advance>,
    pub(super) budget: Budget,
    /// Keeps the next poll out until the positions are where it must begin.
    pub(super) _turn: OwnedMutexGuard<Turn>,
}

/// A move of one position.
#[derive(Debug, Clone)]
pub(super) struct Advance {
    pub(super) partition: TopicPartition,
    pub(super) token: u64,
    pub(super) from: Offset,
    pub(super) to: Offset,
}

impl Delivery {
    /// The ranges of batches, for encoders that go by batch.
    #[must_use]
    pub fn batches(&self) -> &[PollBatch] {
        &self.batches
    }

    /// Walks all records: by partition in rotation, in order within a partition.
    pub fn records(&self) -> impl Iterator<Item = (&TopicName, PartitionId, Record<'_>)> {
        self.batches.iter().flat_map(|batch| {
            let partition = &batch.partition;
            batch.records().map(move |record| (&partition.topic, partition.partition, record))
        })
    }

    /// Number of records.
    #[must_use]
    pub const fn record_count(&self) -> usize {
        self.budget.records
    }

    /// Bytes of keys, values and headers.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.budget.bytes
    }

    /// Tells whether there is no record.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.budget.records == 0
    }

    /// The settings of the instance.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.call.instance.settings
    }

    /// The format of the instance.
    #[must_use]
    pub fn format(&self) -> Format {
        self.call.instance.settings.format
    }

    /// Counts only the first `count` records as delivered: those behind them come again.
    pub fn confirm_first(mut self, count: usize) {
        if count < self.budget.records {
            self.keep_first(count);
        }
        self.confirm();
    }

    fn keep_first(&mut self, count: usize) {
        // The first record of each partition that was not shown is where that one goes on.
        let mut left_out: Vec<(&TopicPartition, Offset)> = Vec::new();
        let mut shown = 0;
        for batch in &self.batches {
            let taken = batch.records().take(count.saturating_sub(shown)).count();
            shown += taken;
            let is_known = left_out.iter().any(|(partition, _)| **partition == batch.partition);
            if let Some(record) = batch.records().nth(taken)
                && !is_known
            {
                left_out.push((&batch.partition, record.offset));
            }
        }
        for advance in &mut self.advances {
            let stop = left_out.iter().find(|(partition, _)| **partition == advance.partition);
            if let Some((_, offset)) = stop {
                advance.to = *offset;
            }
        }
        self.advances.retain(|advance| advance.to > advance.from);
    }

    /// Counts the records as delivered: positions move behind them, except where a seek or a
    /// rebalance came between.
    pub fn confirm(self) {
        let instance = Arc::clone(&self.call.instance);
        let mut state = instance.state();
        for advance in &self.advances {
            if let Some(slot) = find_slot_mut(&mut state.slots, &advance.partition) {
                slot.advance(advance.token, advance.from, advance.to);
            }
        }
    }
}
