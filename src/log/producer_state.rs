//! What a partition remembers of idempotent producers (KIP-98, KIP-360).
//!
//! Per producer: epoch and the last five batches. A batch that repeats one of the five is answered
//! with its first offset; the next must follow without a gap. Derived from the log: saved with
//! a checkpoint and replayed from there.

use std::collections::{HashMap, VecDeque};

use crate::base::ids::{Offset, TimestampMs};
use crate::base::limits::PRODUCERS_PER_PARTITION_MAX;
use crate::protocol::record_batch::BatchHeader;
use crate::protocol::record_batch::header::add_sequence;

/// Batches remembered per producer: as many as a client may have in flight.
const BATCHES_REMEMBERED: usize = 5;

/// One remembered batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct BatchMemory {
    first_sequence: i32,
    last_sequence: i32,
    base_offset: Offset,
    timestamp: TimestampMs,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct ProducerEntry {
    epoch: i16,
    /// Wall-clock time of the last append, for expiry.
    touched: TimestampMs,
    batches: VecDeque<BatchMemory>,
}

/// What to do with a producer's batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SequenceCheck {
    /// It follows what is there: append it.
    Append,
    /// It was appended before: answer with the offset it got then.
    Duplicate {
        /// Base offset of the first copy.
        base_offset: Offset,
        /// Timestamp of the first copy.
        timestamp: TimestampMs,
    },
}

/// Why a producer's batch is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SequenceError {
    /// There is a gap, or a new epoch does not begin at 0.
    #[error("producer {producer_id} sent sequence {sequence} where {expected} follows")]
    OutOfOrder {
        /// Who sent it.
        producer_id: i64,
        /// What came.
        sequence: i32,
        /// What would have followed.
        expected: i32,
    },
    /// A newer instance of the producer exists.
    #[error("producer {producer_id} sent epoch {epoch} after epoch {current}")]
    StaleEpoch {
        /// Who sent it.
        producer_id: i64,
        /// Its epoch.
        epoch: i16,
        /// The newest epoch seen.
        current: i16,
    },
}

/// The producers of one partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProducerTable {
    entries: HashMap<i64, ProducerEntry>,
}

impl ProducerTable {
    /// Checks whether the batch may follow what its producer sent before.
    ///
    /// # Errors
    /// [`SequenceError`]; the table is unchanged.
    pub fn check(&self, header: &BatchHeader) -> Result<SequenceCheck, SequenceError> {
        let Some(entry) = self.entries.get(&header.producer_id) else {
            return Ok(SequenceCheck::Append);
        };
        let producer_id = header.producer_id;
        let out_of_order = |expected| SequenceError::OutOfOrder {
            producer_id,
            sequence: header.base_sequence,
            expected,
        };
        if header.producer_epoch < entry.epoch {
            let (epoch, current) = (header.producer_epoch, entry.epoch);
            return Err(SequenceError::StaleEpoch { producer_id, epoch, current });
        }
        if header.producer_epoch > entry.epoch {
            return match header.base_sequence {
                0 => Ok(SequenceCheck::Append),
                _ => Err(out_of_order(0)),
            };
        }
        let (first, last) = (header.base_sequence, header.last_sequence());
        let repeats = |b: &&BatchMemory| b.first_sequence == first && b.last_sequence == last;
        if let Some(known) = entry.batches.iter().find(repeats) {
            let (base_offset, timestamp) = (known.base_offset, known.timestamp);
            return Ok(SequenceCheck::Duplicate { base_offset, timestamp });
        }
        let expected = entry.batches.back().map_or(0, |b| add_sequence(b.last_sequence, 1));
        if first == expected { Ok(SequenceCheck::Append) } else { Err(out_of_order(expected)) }
    }

    /// Remembers an appended batch; batches without a producer id change nothing.
    pub fn record(&mut self, header: &BatchHeader, base_offset: Offset, now: TimestampMs) {
        if !header.has_producer_id() || header.is_control() {
            return;
        }
        if self.entries.len() >= PRODUCERS_PER_PARTITION_MAX
            && !self.entries.contains_key(&header.producer_id)
        {
            self.forget_oldest();
        }
        let entry = self.entries.entry(header.producer_id).or_insert_with(|| ProducerEntry {
            epoch: header.producer_epoch,
            touched: now,
            batches: VecDeque::with_capacity(BATCHES_REMEMBERED),
        });
        if entry.epoch != header.producer_epoch {
            entry.epoch = header.producer_epoch;
            entry.batches.clear();
        }
        entry.touched = now;
        if entry.batches.len() == BATCHES_REMEMBERED {
            entry.batches.pop_front();
        }
        entry.batches.push_back(BatchMemory {
            first_sequence: header.base_sequence,
            last_sequence: header.last_sequence(),
            base_offset,
            timestamp: header.max_timestamp,
        });
    }

    fn forget_oldest(&mut self) {
        let oldest = self.entries.iter().min_by_key(|(_, e)| e.touched).map(|(id, _)| *id);
        if let Some(id) = oldest {
            self.entries.remove(&id);
        }
    }

    /// Forgets producers that have not written since `before`.
    pub fn expire(&mut self, before: TimestampMs) {
        self.entries.retain(|_, entry| entry.touched >= before);
    }

    /// Number of producers remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Tells whether no producer is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Largest producer id remembered.
    #[must_use]
    pub fn max_producer_id(&self) -> Option<i64> {
        self.entries.keys().max().copied()
    }

    /// Appends the table to a snapshot.
    pub(super) fn encode_into(&self, out: &mut Vec<u8>) {
        for (id, entry) in &self.entries {
            out.extend_from_slice(&id.to_be_bytes());
            out.extend_from_slice(&entry.epoch.to_be_bytes());
            out.extend_from_slice(&entry.touched.to_be_bytes());
            out.push(u8::try_from(entry.batches.len()).unwrap_or(0));
            for batch in &entry.batches {
                out.extend_from_slice(&batch.first_sequence.to_be_bytes());
                out.extend_from_slice(&batch.last_sequence.to_be_bytes());
                out.extend_from_slice(&batch.base_offset.to_be_bytes());
                out.extend_from_slice(&batch.timestamp.to_be_bytes());
            }
        }
    }

    /// Decodes the rest of a snapshot; none for damaged bytes.
    pub(super) fn decode(mut rest: &[u8]) -> Option<Self> {
        let mut table = Self::default();
        while !rest.is_empty() {
            let id = i64::from_be_bytes(take(&mut rest)?);
            let epoch = i16::from_be_bytes(take(&mut rest)?);
            let touched = i64::from_be_bytes(take(&mut rest)?);
            let [count] = take(&mut rest)?;
            let mut batches = VecDeque::with_capacity(BATCHES_REMEMBERED);
            for _ in 0..count {
                batches.push_back(BatchMemory {
                    first_sequence: i32::from_be_bytes(take(&mut rest)?),
                    last_sequence: i32::from_be_bytes(take(&mut rest)?),
                    base_offset: i64::from_be_bytes(take(&mut rest)?),
                    timestamp: i64::from_be_bytes(take(&mut rest)?),
                });
            }
            table.entries.insert(id, ProducerEntry { epoch, touched, batches });
        }
        Some(table)
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::record_batch::{BatchBuilder, ProducerStamp};

    fn batch(epoch: i16, base_sequence: i32, records: i32) -> BatchHeader {
        let stamp = ProducerStamp { id: 7, epoch, base_sequence };
        let mut builder = BatchBuilder::new().for_producer(stamp);
        for _ in 0..records {
            builder.push(1, None, None, std::iter::empty());
        }
        BatchHeader::parse(&builder.finish()).unwrap()
    }

    #[test]
    fn repeats_are_answered_gaps_and_stale_epochs_refused() {
        let mut table = ProducerTable::default();
        table.record(&batch(1, 0, 3), 100, 1);
        let repeat = table.check(&batch(1, 0, 3)).unwrap();
        assert_eq!(repeat, SequenceCheck::Duplicate { base_offset: 100, timestamp: 1 });
        assert_eq!(table.check(&batch(1, 3, 1)), Ok(SequenceCheck::Append));
        assert!(matches!(
            table.check(&batch(1, 4, 1)),
            Err(SequenceError::OutOfOrder { expected: 3, .. })
        ));
        assert!(matches!(table.check(&batch(0, 3, 1)), Err(SequenceError::StaleEpoch { .. })));
        assert_eq!(table.check(&batch(2, 0, 1)), Ok(SequenceCheck::Append));
        assert!(table.check(&batch(2, 5, 1)).is_err(), "a new epoch begins at 0");
    }

    #[test]
    fn sequences_wrap_and_unknown_producers_may_start_anywhere() {
        let mut table = ProducerTable::default();
        assert_eq!(table.check(&batch(0, 99, 1)), Ok(SequenceCheck::Append));
        table.record(&batch(0, i32::MAX, 1), 5, 1);
        assert_eq!(table.check(&batch(0, 0, 1)), Ok(SequenceCheck::Append));
    }

    #[test]
    fn only_five_batches_are_remembered_and_the_snapshot_round_trips() {
        let mut table = ProducerTable::default();
        for n in 0..6 {
            table.record(&batch(0, n, 1), i64::from(n), 1);
        }
        assert!(table.check(&batch(0, 0, 1)).is_err(), "the sixth batch pushed out the first");
        assert!(matches!(table.check(&batch(0, 1, 1)), Ok(SequenceCheck::Duplicate { .. })));
        let mut encoded = Vec::new();
        table.encode_into(&mut encoded);
        assert_eq!(ProducerTable::decode(&encoded), Some(table));
        assert_eq!(ProducerTable::decode(&encoded[..encoded.len() - 1]), None);
    }
}
