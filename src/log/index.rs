//! The sparse index of one segment: one entry every few KiB, searched by offset, position or time.

use crate::base::ids::{Offset, TimestampMs};

/// Bytes of log between two entries. Kafka's default is 4 KiB; twice that halves the memory, and
/// the scan it costs is one `pread` of 8 KiB.
pub const INDEX_INTERVAL_BYTES: u32 = 8192;

/// Bytes of one encoded entry.
const ENTRY_BYTES: usize = 16;

/// Where one batch of a segment lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexEntry {
    /// Base offset of the batch, relative to the segment's.
    pub offset_delta: u32,
    /// Position of the batch in the file, in bytes.
    pub position: u32,
    /// Largest timestamp in the segment before this position.
    pub max_timestamp_before: TimestampMs,
}

/// The entries of one segment in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SparseIndex {
    entries: Vec<IndexEntry>,
}

impl SparseIndex {
    /// Appends an entry for a batch after the last one.
    pub fn push(&mut self, entry: IndexEntry) {
        debug_assert!(self.entries.last().is_none_or(|last| last.position < entry.position));
        self.entries.push(entry);
    }

    /// Position from which a scan finds the batch that holds `offset_delta`.
    #[must_use]
    pub fn position_for_offset(&self, offset_delta: u32) -> u32 {
        self.before(|entry| entry.offset_delta <= offset_delta)
    }

    /// The last known batch boundary at or before `position`.
    #[must_use]
    pub fn boundary_at_or_before(&self, position: u32) -> u32 {
        self.before(|entry| entry.position <= position)
    }

    /// Position from which a scan finds the first batch with a timestamp of at least `timestamp`.
    #[must_use]
    pub fn position_for_timestamp(&self, timestamp: TimestampMs) -> u32 {
        self.before(|entry| entry.max_timestamp_before < timestamp)
    }

    fn before(&self, matches: impl Fn(&IndexEntry) -> bool) -> u32 {
        let count = self.entries.partition_point(matches);
        count.checked_sub(1).and_then(|at| self.entries.get(at)).map_or(0, |entry| entry.position)
    }

    /// Number of entries.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.entries.len()
    }

    /// Tells whether there is no entry.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Forgets entries at or after `position`.
    pub fn truncate(&mut self, position: u32) {
        let keep = self.entries.partition_point(|entry| entry.position < position);
        self.entries.truncate(keep);
    }

    /// Encodes the entries from number `from` on, for the store.
    #[must_use]
    pub fn encode_from(&self, from: usize) -> Vec<u8> {
        let entries = self.entries.get(from..).unwrap_or_default();
        let mut out = Vec::with_capacity(entries.len() * ENTRY_BYTES);
        for entry in entries {
            out.extend_from_slice(&entry.offset_delta.to_be_bytes());
            out.extend_from_slice(&entry.position.to_be_bytes());
            out.extend_from_slice(&entry.max_timestamp_before.to_be_bytes());
        }
        out
    }

    /// Appends entries that [`SparseIndex::encode_from`] wrote; a damaged chunk adds none, and the
    /// scan that an index saves is done instead.
    pub fn extend_encoded(&mut self, chunk: &[u8]) {
        let (rows, _) = chunk.as_chunks::<ENTRY_BYTES>();
        for row in rows {
            let [o0, o1, o2, o3, p0, p1, p2, p3, time @ ..] = *row;
            let entry = IndexEntry {
                offset_delta: u32::from_be_bytes([o0, o1, o2, o3]),
                position: u32::from_be_bytes([p0, p1, p2, p3]),
                max_timestamp_before: i64::from_be_bytes(time),
            };
            let grows = self.entries.last().is_none_or(|last| {
                last.position < entry.position && last.offset_delta < entry.offset_delta
            });
            if !grows {
                return;
            }
            self.entries.push(entry);
        }
    }
}

/// Decides which batches get an entry while a segment is written or scanned.
#[derive(Debug, Clone)]
pub struct IndexBuilder {
    base_offset: Offset,
    next_entry_at: u32,
    max_timestamp: TimestampMs,
}

impl IndexBuilder {
    /// Starts at the beginning of a segment.
    #[must_use]
    pub const fn new(base_offset: Offset) -> Self {
        Self { base_offset, next_entry_at: INDEX_INTERVAL_BYTES, max_timestamp: -1 }
    }

    /// Continues a segment whose batches before `position` are indexed.
    #[must_use]
    pub const fn resume(base_offset: Offset, position: u32, max_timestamp: TimestampMs) -> Self {
        let next_entry_at = position.saturating_add(INDEX_INTERVAL_BYTES);
        Self { base_offset, next_entry_at, max_timestamp }
    }

    /// Takes note of a batch at `position`; returns the entry it gets, if it gets one.
    pub fn observe(
        &mut self,
        position: u32,
        base_offset: Offset,
        batch_max_timestamp: TimestampMs,
    ) -> Option<IndexEntry> {
        let before = self.max_timestamp;
        self.max_timestamp = before.max(batch_max_timestamp);
        if position < self.next_entry_at {
            return None;
        }
        self.next_entry_at = position.saturating_add(INDEX_INTERVAL_BYTES);
        let offset_delta = u32::try_from(base_offset - self.base_offset).ok()?;
        Some(IndexEntry { offset_delta, position, max_timestamp_before: before })
    }

    /// Largest timestamp seen so far.
    #[must_use]
    pub const fn max_timestamp(&self) -> TimestampMs {
        self.max_timestamp
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index() -> SparseIndex {
        let mut index = SparseIndex::default();
        for n in 1..=3_u32 {
            let max_timestamp_before = i64::from(n) * 1000;
            index.push(IndexEntry {
                offset_delta: n * 10,
                position: n * 100,
                max_timestamp_before,
            });
        }
        index
    }

    #[test]
    fn searches_return_the_last_safe_position() {
        let index = index();
        assert_eq!(index.position_for_offset(9), 0);
        assert_eq!(index.position_for_offset(10), 100);
        assert_eq!(index.position_for_offset(29), 200);
        assert_eq!(index.boundary_at_or_before(250), 200);
        assert_eq!(index.position_for_timestamp(1000), 0);
        assert_eq!(index.position_for_timestamp(1001), 100);
        assert_eq!(index.position_for_timestamp(9999), 300);
    }

    #[test]
    fn encoding_round_trips_in_chunks_and_ignores_damage() {
        let index = index();
        let mut back = SparseIndex::default();
        back.extend_encoded(&index.encode_from(0));
        assert_eq!(back, index);
        back.extend_encoded(&index.encode_from(1));
        assert_eq!(back, index, "entries that go backwards are not taken");
        back.truncate(200);
        assert_eq!(back.len(), 1);
    }
}
