//! What a partition knows of transactions: which are open, and which were aborted (KIP-98).
//!
//! The first offset of the oldest open transaction bounds what `read_committed` readers see: the
//! last stable offset. Records of aborted transactions stay in the log; readers skip them by this
//! list. Derived from the log: saved with a checkpoint and replayed from there.

use std::collections::BTreeMap;

use crate::base::ids::Offset;
use crate::protocol::record_batch::BatchHeader;
use crate::protocol::record_batch::control::Marker;

/// A transaction whose records do not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbortedTransaction {
    /// Who wrote it.
    pub producer_id: i64,
    /// Offset of its first record in the partition.
    pub first_offset: Offset,
    /// Offset of its marker.
    pub last_offset: Offset,
}

impl AbortedTransaction {
    /// Tells whether the batch belongs to this transaction.
    #[must_use]
    pub const fn covers(&self, header: &BatchHeader) -> bool {
        header.is_transactional()
            && header.producer_id == self.producer_id
            && header.base_offset >= self.first_offset
            && header.base_offset <= self.last_offset
    }
}

/// A transaction without a marker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenTransaction {
    /// Who writes it.
    pub producer_id: i64,
    /// The producer's epoch.
    pub epoch: i16,
    /// Offset of its first record in the partition.
    pub first_offset: Offset,
}

/// The transactions of one partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct TransactionTable {
    /// By producer: each has at most one transaction at a time.
    open: BTreeMap<i64, OpenTransaction>,
    /// In the order of their markers.
    aborted: Vec<AbortedTransaction>,
}

impl TransactionTable {
    /// Takes in a batch that was written; `marker` is what a control batch says.
    pub(super) fn observe(
        &mut self,
        header: &BatchHeader,
        base_offset: Offset,
        marker: Option<Marker>,
    ) {
        if !header.is_transactional() {
            return;
        }
        let producer_id = header.producer_id;
        if !header.is_control() {
            let epoch = header.producer_epoch;
            let begun = OpenTransaction { producer_id, epoch, first_offset: base_offset };
            self.open.entry(producer_id).or_insert(begun);
            return;
        }
        let (Some(ended), Some(marker)) = (self.open.remove(&producer_id), marker) else { return };
        if marker == Marker::Abort {
            let first_offset = ended.first_offset;
            let last_offset = base_offset;
            self.aborted.push(AbortedTransaction { producer_id, first_offset, last_offset });
        }
    }

    /// First offset of the oldest open transaction, `Offset::MAX` without one.
    pub(super) fn first_unstable(&self) -> Offset {
        let first = |transaction: &OpenTransaction| transaction.first_offset;
        self.open.values().map(first).min().unwrap_or(Offset::MAX)
    }

    /// The open transactions.
    pub(super) fn open(&self) -> Vec<OpenTransaction> {
        self.open.values().copied().collect()
    }

    /// Tells whether the producer has a transaction open.
    pub(super) fn is_open(&self, producer_id: i64) -> bool {
        self.open.contains_key(&producer_id)
    }

    /// Aborted transactions with records from `from` on and before `until`.
    pub(super) fn aborted_between(&self, from: Offset, until: Offset) -> Vec<AbortedTransaction> {
        let behind = self.aborted.partition_point(|aborted| aborted.last_offset < from);
        let ahead = self.aborted.get(behind..).unwrap_or_default();
        ahead.iter().filter(|aborted| aborted.first_offset < until).copied().collect()
    }

    /// Forgets aborted transactions before the log start.
    pub(super) fn forget_before(&mut self, log_start: Offset) {
        self.aborted.retain(|aborted| aborted.last_offset >= log_start);
    }

    /// Appends the table to a snapshot.
    pub(super) fn encode_into(&self, out: &mut Vec<u8>) {
        put_count(self.open.len(), out);
        for transaction in self.open.values() {
            out.extend_from_slice(&transaction.producer_id.to_be_bytes());
            out.extend_from_slice(&transaction.epoch.to_be_bytes());
            out.extend_from_slice(&transaction.first_offset.to_be_bytes());
        }
        put_count(self.aborted.len(), out);
        for aborted in &self.aborted {
            out.extend_from_slice(&aborted.producer_id.to_be_bytes());
            out.extend_from_slice(&aborted.first_offset.to_be_bytes());
            out.extend_from_slice(&aborted.last_offset.to_be_bytes());
        }
    }

    /// Takes a table off the front of a snapshot; none for damaged bytes.
    pub(super) fn decode_from(rest: &mut &[u8]) -> Option<Self> {
        let mut table = Self::default();
        for _ in 0..u32::from_be_bytes(take(rest)?) {
            let producer_id = i64::from_be_bytes(take(rest)?);
            let epoch = i16::from_be_bytes(take(rest)?);
            let first_offset = i64::from_be_bytes(take(rest)?);
            table.open.insert(producer_id, OpenTransaction { producer_id, epoch, first_offset });
        }
        for _ in 0..u32::from_be_bytes(take(rest)?) {
            table.aborted.push(AbortedTransaction {
                producer_id: i64::from_be_bytes(take(rest)?),
                first_offset: i64::from_be_bytes(take(rest)?),
                last_offset: i64::from_be_bytes(take(rest)?),
            });
        }
        Some(table)
    }
}

fn put_count(count: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_be_bytes());
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

    fn data(producer_id: i64) -> BatchHeader {
        let stamp = ProducerStamp { id: producer_id, epoch: 0, base_sequence: 0 };
        let mut builder = BatchBuilder::new().for_producer(stamp).as_transactional();
        builder.push(1, None, Some(b"v"), std::iter::empty());
        BatchHeader::parse(&builder.finish()).unwrap()
    }

    fn end(table: &mut TransactionTable, producer_id: i64, at: Offset, marker: Marker) {
        let header = BatchHeader::parse(&marker.batch(producer_id, 0, 1)).unwrap();
        table.observe(&header, at, Some(marker));
    }

    fn table() -> TransactionTable {
        let mut table = TransactionTable::default();
        table.observe(&data(1), 10, None);
        table.observe(&data(2), 12, None);
        table.observe(&data(1), 14, None);
        table
    }

    #[test]
    fn the_oldest_open_transaction_bounds_what_is_stable() {
        let mut table = table();
        assert_eq!(table.first_unstable(), 10);
        end(&mut table, 1, 15, Marker::Abort);
        assert_eq!(table.first_unstable(), 12);
        end(&mut table, 2, 16, Marker::Commit);
        assert_eq!(table.first_unstable(), Offset::MAX);
        // A marker of a transaction that wrote nothing here changes nothing.
        end(&mut table, 9, 17, Marker::Abort);
        assert_eq!(table.aborted.len(), 1);
    }

    #[test]
    fn aborted_transactions_are_found_by_range_and_forgotten_with_the_log() {
        let mut table = table();
        end(&mut table, 1, 15, Marker::Abort);
        let aborted = AbortedTransaction { producer_id: 1, first_offset: 10, last_offset: 15 };
        assert_eq!(table.aborted_between(0, 100), [aborted]);
        assert_eq!(table.aborted_between(15, 100), [aborted]);
        assert_eq!(table.aborted_between(16, 100), []);
        assert_eq!(table.aborted_between(0, 10), []);
        table.forget_before(16);
        assert_eq!(table.aborted_between(0, 100), []);
    }

    #[test]
    fn only_batches_of_the_producer_in_the_range_are_covered() {
        let aborted = AbortedTransaction { producer_id: 1, first_offset: 10, last_offset: 15 };
        let at = |header: BatchHeader, base_offset| BatchHeader { base_offset, ..header };
        assert!(aborted.covers(&at(data(1), 10)) && aborted.covers(&at(data(1), 14)));
        assert!(!aborted.covers(&at(data(1), 9)) && !aborted.covers(&at(data(1), 16)));
        assert!(!aborted.covers(&at(data(2), 12)));
    }

    #[test]
    fn the_snapshot_round_trips_and_damage_is_seen() {
        let mut table = table();
        end(&mut table, 1, 15, Marker::Abort);
        let mut encoded = Vec::new();
        table.encode_into(&mut encoded);
        assert_eq!(TransactionTable::decode_from(&mut encoded.as_slice()), Some(table));
        encoded.pop();
        assert_eq!(TransactionTable::decode_from(&mut encoded.as_slice()), None);
    }
}
