//! Cuts what a poll delivers out of whole batches, without copying a record.
//!
//! Pure: bytes and a budget in, ranges of batches out. Every batch is checked against its CRC
//! before a record of it is delivered; control batches, batches of aborted transactions and what
//! lies before the position are passed over.

use bytes::Bytes;

use crate::base::ids::Offset;
use crate::engine::log::AbortedTransaction;
use crate::protocol::record_batch::header::verify_crc;
use crate::protocol::record_batch::{BatchError, BatchHeader, BatchRecords, Record};

/// What a poll may still deliver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Budget {
    /// Bytes of keys, values and headers that may be delivered in all.
    pub(super) bytes_max: usize,
    /// Records that may be delivered in all.
    pub(super) records_max: usize,
    /// Bytes so far.
    pub(super) bytes: usize,
    /// Records so far.
    pub(super) records: usize,
    /// A record did not fit.
    pub(super) is_full: bool,
}

impl Budget {
    pub(super) const fn new(bytes_max: usize) -> Self {
        Self { bytes_max, records_max: usize::MAX, bytes: 0, records: 0, is_full: false }
    }

    pub(super) const fn with_records_max(self, records_max: usize) -> Self {
        Self { records_max, ..self }
    }

    /// Takes a record in, if it fits; the first one always does.
    fn admit(&mut self, record: &Record<'_>) -> bool {
        let total = self.bytes.saturating_add(record_bytes(record));
        let is_over = total > self.bytes_max || self.records >= self.records_max;
        if self.records > 0 && is_over {
            self.is_full = true;
            return false;
        }
        self.bytes = total;
        self.records += 1;
        true
    }

    /// Says whether nothing more can fit.
    pub(super) const fn is_spent(&self) -> bool {
        let is_reached = self.bytes >= self.bytes_max || self.records >= self.records_max;
        self.is_full || (self.records > 0 && is_reached)
    }
}

/// Bytes of a record by which polls are limited: key, value and headers.
fn record_bytes(record: &Record<'_>) -> usize {
    let length = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len);
    let headers = record.headers().map(|(key, value)| key.len() + length(value));
    length(record.key) + length(record.value) + headers.sum::<usize>()
}

/// The records of one batch from `first_offset` up to, not including, `end_offset`.
#[derive(Debug, Clone)]
pub(super) struct Range {
    pub(super) records: BatchRecords,
    pub(super) first_offset: Offset,
    pub(super) end_offset: Offset,
}

/// What was cut out of one partition.
#[derive(Debug)]
pub(super) struct Cut {
    pub(super) ranges: Vec<Range>,
    /// The next offset to read.
    pub(super) next: Offset,
    /// What is left of the budget.
    pub(super) budget: Budget,
    /// The batch at `next`, if it was opened and not delivered to its end.
    pub(super) opened: Option<BatchRecords>,
    /// Why the batch at `next` cannot be delivered.
    pub(super) damage: Option<BatchError>,
}

impl Cut {
    pub(super) const fn new(next: Offset, budget: Budget) -> Self {
        Self { ranges: Vec::new(), next, budget, opened: None, damage: None }
    }

    /// Takes from the batches in `bytes`, which lie back to back, except those of `aborted`.
    pub(super) fn take_batches(&mut self, bytes: &Bytes, aborted: &[AbortedTransaction]) {
        let mut rest = bytes.clone();
        while !rest.is_empty() && !self.budget.is_spent() && self.damage.is_none() {
            match self.take_batch(&rest, aborted) {
                Ok(length) => rest = rest.slice(length.min(rest.len())..),
                Err(damage) => self.damage = Some(damage),
            }
        }
    }

    /// Takes from the first batch in `bytes` and returns its length.
    fn take_batch(
        &mut self,
        bytes: &Bytes,
        aborted: &[AbortedTransaction],
    ) -> Result<usize, BatchError> {
        let header = BatchHeader::parse(bytes)?;
        let length = header.total_bytes();
        if header.last_offset() < self.next {
            return Ok(length);
        }
        verify_crc(&header, bytes)?;
        if header.is_control() || aborted.iter().any(|aborted| aborted.covers(&header)) {
            self.next = header.next_offset();
        } else {
            self.take_records(BatchRecords::open(header, bytes)?);
        }
        Ok(length)
    }

    /// Takes from one opened batch, which holds or follows the next offset.
    pub(super) fn take_records(&mut self, records: BatchRecords) {
        let mut first_offset = None;
        let mut next = self.next;
        let mut is_whole = true;
        for record in &records {
            match record {
                Ok(record) if record.offset < next => {}
                Ok(record) if self.budget.admit(&record) => {
                    first_offset.get_or_insert(record.offset);
                    next = record.offset.saturating_add(1);
                }
                Ok(_) => {
                    is_whole = false;
                    break;
                }
                Err(damage) => {
                    is_whole = false;
                    self.damage = Some(damage);
                    break;
                }
            }
        }
        if is_whole {
            // Compaction may have taken the last records of the batch.
            next = records.header().next_offset();
        } else if self.damage.is_none() {
            self.opened = Some(records.clone());
        }
        self.next = next;
        if let Some(first_offset) = first_offset {
            self.ranges.push(Range { records, first_offset, end_offset: next });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::record_batch::{BatchBuilder, ProducerStamp};

    fn batch(base: Offset, values: &[&[u8]]) -> Vec<u8> {
        let mut builder = BatchBuilder::new().at_offset(base);
        for value in values {
            builder.push(1, None, Some(value), std::iter::empty());
        }
        builder.finish().to_vec()
    }

    fn cut(bytes: Vec<u8>, next: Offset, bytes_max: usize) -> Cut {
        let mut cut = Cut::new(next, Budget::new(bytes_max));
        cut.take_batches(&Bytes::from(bytes), &[]);
        cut
    }

    fn offsets(cut: &Cut) -> Vec<Offset> {
        let delivered = cut.ranges.iter().flat_map(|range| {
            let records = range.records.iter().map(|record| record.unwrap().offset);
            records
                .filter(|o| (range.first_offset..range.end_offset).contains(o))
                .collect::<Vec<_>>()
        });
        delivered.collect()
    }

    #[test]
    fn records_before_the_position_are_passed_over() {
        let bytes = [batch(0, &[b"a", b"b"]), batch(2, &[b"c", b"d"])].concat();
        let cut = cut(bytes, 3, 100);
        assert_eq!(offsets(&cut), [3]);
        assert_eq!(cut.next, 4);
    }

    #[test]
    fn a_budget_ends_inside_a_batch_and_the_batch_is_handed_back() {
        let first = cut(batch(0, &[b"aa", b"bb", b"cc"]), 0, 5);
        assert_eq!(offsets(&first), [0, 1]);
        assert!(first.budget.is_full);
        let mut second = Cut::new(first.next, Budget::new(5));
        second.take_records(first.opened.unwrap());
        assert_eq!(offsets(&second), [2]);
        assert_eq!((second.next, second.opened.is_none()), (3, true));
    }

    #[test]
    fn a_record_larger_than_the_budget_comes_alone() {
        let cut = cut(batch(0, &[b"too long", b"b"]), 0, 3);
        assert_eq!(offsets(&cut), [0]);
        assert!(cut.budget.is_spent());
    }

    #[test]
    fn aborted_transactions_and_markers_are_passed_over() {
        let stamp = |id| ProducerStamp { id, epoch: 0, base_sequence: 0 };
        let in_transaction = |base, id, value: &[u8]| {
            let mut builder = BatchBuilder::new().at_offset(base).for_producer(stamp(id));
            builder.push(1, None, Some(value), std::iter::empty());
            builder.as_transactional().finish().to_vec()
        };
        let bytes = [in_transaction(0, 1, b"gone"), in_transaction(1, 2, b"kept")].concat();
        let aborted = AbortedTransaction { producer_id: 1, first_offset: 0, last_offset: 2 };
        let mut cut = Cut::new(0, Budget::new(100));
        cut.take_batches(&Bytes::from(bytes), &[aborted]);
        assert_eq!((offsets(&cut), cut.next), (vec![1], 2));
    }

    #[test]
    fn a_damaged_batch_is_never_delivered() {
        let mut bytes = [batch(0, &[b"good"]), batch(1, &[b"bad"])].concat();
        let last = bytes.len() - 2;
        bytes[last] ^= 1;
        let cut = cut(bytes, 0, 100);
        assert_eq!(offsets(&cut), [0]);
        assert!(matches!(cut.damage, Some(BatchError::CrcMismatch { .. })));
        assert_eq!(cut.next, 1);
    }
}
