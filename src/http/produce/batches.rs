//! Places records into batches: by their partition, by murmur2 of their key, or in turn.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::headers::RecordHeaders;
use super::ledger::{BatchEntry, Ledger, Outcome, Placed};
use super::options::ProduceOptions;
use crate::base::ids::{PartitionId, TimestampMs};
use crate::engine::log::Append;
use crate::engine::topics::Topic;
use crate::http::error::ApiError;
use crate::http::state::AppState;
use crate::protocol::murmur2::partition_for_key;
use crate::protocol::record_batch::BatchBuilder;

/// A batch is closed when it reaches this size, well below the default `max.message.bytes` of
/// 1 MiB, so that a large request is split and not refused.
const BATCH_BYTES: usize = 512 * 1024;

/// Upper bound of what a record takes beside its key, value and headers.
const RECORD_OVERHEAD_BYTES: usize = 64;

/// With more batches than this, the last one of a partition is found by hash and not by looking.
const SEARCHED_BATCHES_MAX: usize = 16;

/// One record to produce, decoded.
#[derive(Debug, Clone, Copy)]
pub struct NewRecord<'a> {
    /// Its partition; by murmur2 of the key if none, and the same for all keyless records of a
    /// topic.
    pub partition: Option<PartitionId>,
    /// Milliseconds since the epoch; now if none.
    pub timestamp: Option<TimestampMs>,
    /// The key, if any.
    pub key: Option<&'a [u8]>,
    /// The value; none is a tombstone.
    pub value: Option<&'a [u8]>,
    /// The headers.
    pub headers: &'a RecordHeaders,
}

/// A topic that [`Batches::topic`] was told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TopicIndex(usize);

/// A topic of the request, and where its keyless records go.
#[derive(Debug)]
struct Target {
    topic: Arc<Topic>,
    keyless: Option<PartitionId>,
}

/// A batch being filled, and which records of the request are in it.
#[derive(Debug)]
struct Slot {
    topic: TopicIndex,
    partition: PartitionId,
    builder: BatchBuilder,
    records: Vec<Placed>,
}

/// Batches being filled with the records of one request.
#[derive(Debug)]
pub struct Batches<'a> {
    state: &'a AppState,
    options: &'a ProduceOptions,
    now: TimestampMs,
    /// How many records are expected, for the size of buffers.
    expected: usize,
    targets: Vec<Target>,
    slots: Vec<Slot>,
    /// The last slot of a partition; filled only once there are many slots.
    last: HashMap<(TopicIndex, PartitionId), usize>,
    outcomes: Vec<Option<Outcome>>,
}

impl<'a> Batches<'a> {
    /// Begins with no batch; `expected` records are about to come.
    #[must_use]
    pub fn new(state: &'a AppState, options: &'a ProduceOptions, expected: usize) -> Self {
        Self {
            state,
            options,
            now: state.clock.now_ms(),
            expected,
            targets: Vec::with_capacity(1),
            slots: Vec::with_capacity(1),
            last: HashMap::new(),
            outcomes: Vec::with_capacity(expected),
        }
    }

    /// Adds a topic to produce to.
    pub fn topic(&mut self, topic: Arc<Topic>) -> TopicIndex {
        self.targets.push(Target { topic, keyless: None });
        TopicIndex(self.targets.len() - 1)
    }

    /// Records taken so far, the refused ones included.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.outcomes.len()
    }

    /// Tells whether no record was taken.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.outcomes.is_empty()
    }

    /// Takes the next record into a batch of its partition; one whose partition does not exist
    /// is refused and nothing else.
    pub fn push(&mut self, topic: TopicIndex, record: &NewRecord<'_>) {
        let Some(target) = self.targets.get_mut(topic.0) else {
            return self.refuse(ApiError::unprocessable("record has no topic"));
        };
        let partition_count = target.topic.partition_count;
        let place = record.partition.unwrap_or_else(|| match record.key {
            Some(key) => partition_for_key(key, partition_count),
            None => {
                let numbered = self.options.numbered.as_ref();
                *target.keyless.get_or_insert_with(|| match numbered {
                    // A repeated request must go where it went the first time.
                    Some(by) => partition_for_key(by.id.as_bytes(), partition_count),
                    None => next_keyless(self.state, partition_count),
                })
            }
        });
        if !(0..partition_count).contains(&place) {
            let missing = ApiError::partition_not_found(target.topic.name.as_str(), place);
            return self.refuse(missing);
        }
        let bytes = record.key.map_or(0, <[u8]>::len)
            + record.value.map_or(0, <[u8]>::len)
            + record.headers.batch_bytes()
            + RECORD_OVERHEAD_BYTES;
        let timestamp = record.timestamp.unwrap_or(self.now);
        let index = self.outcomes.len();
        let options = self.options;
        let slot = self.slot_for(topic, place, bytes);
        write(&mut slot.builder, record, timestamp, options);
        slot.records.push(Placed { index, timestamp });
        self.outcomes.push(None);
    }

    /// Takes the next record as one that goes nowhere.
    pub fn refuse(&mut self, error: ApiError) {
        self.outcomes.push(Some(Err(error)));
    }

    /// Finds the last batch of a partition if it has room for `bytes` more, or starts one. A
    /// record that is too large for any batch is alone in its own, so it fails alone.
    fn slot_for(&mut self, topic: TopicIndex, partition: PartitionId, bytes: usize) -> &mut Slot {
        let last = if self.last.is_empty() {
            self.slots.iter().rposition(|slot| slot.topic == topic && slot.partition == partition)
        } else {
            self.last.get(&(topic, partition)).copied()
        };
        let has_room = |slot: &Slot| slot.builder.bytes() + bytes <= BATCH_BYTES;
        let at = last.filter(|at| self.slots.get(*at).is_some_and(has_room)).unwrap_or_else(|| {
            let builder = BatchBuilder::with_capacity(bytes.max(self.expected.min(1024) * 64));
            self.slots.push(Slot { topic, partition, builder, records: Vec::new() });
            self.remember_last();
            self.slots.len() - 1
        });
        &mut self.slots[at]
    }

    /// Keeps `last` true after a slot was added.
    fn remember_last(&mut self) {
        if self.slots.len() <= SEARCHED_BATCHES_MAX {
            return;
        }
        let known = if self.last.is_empty() { 0 } else { self.slots.len() - 1 };
        for (at, slot) in self.slots.iter().enumerate().skip(known) {
            self.last.insert((slot.topic, slot.partition), at);
        }
    }

    /// Ends the batches: the appends, in the order in which their first records came, and what
    /// turns the answers to them into outcomes.
    #[must_use]
    pub fn finish(self) -> (Vec<Append>, Ledger) {
        let mut appends = Vec::with_capacity(self.slots.len());
        let mut entries = Vec::with_capacity(self.slots.len());
        for slot in self.slots {
            let Some(target) = self.targets.get(slot.topic.0) else { continue };
            appends.push(Append {
                topic: target.topic.name.clone(),
                partition: slot.partition,
                batch: slot.builder.finish(),
                level: self.options.level,
            });
            entries.push(BatchEntry { partition: slot.partition, records: slot.records });
        }
        (appends, Ledger::new(entries, self.outcomes))
    }
}

fn next_keyless(state: &AppState, partition_count: PartitionId) -> PartitionId {
    // Only spreads requests over partitions: no order is needed.
    let turn = state.keyless_turn.fetch_add(1, Ordering::Relaxed) & 0x7fff_ffff;
    turn.cast_signed().checked_rem(partition_count).unwrap_or(0)
}

fn write(
    builder: &mut BatchBuilder,
    record: &NewRecord<'_>,
    timestamp: TimestampMs,
    options: &ProduceOptions,
) {
    if record.headers.is_empty() && options.trace.is_empty() {
        return builder.push(timestamp, record.key, record.value, std::iter::empty());
    }
    let own = record.headers.iter();
    let has_own_trace = own.clone().any(|(name, _)| name == b"traceparent");
    let traces: &[_] = if has_own_trace { &[] } else { &options.trace };
    let traces = traces.iter().map(|(name, value)| (name.as_bytes(), Some(value.as_bytes())));
    builder.push(timestamp, record.key, record.value, own.chain(traces));
}
