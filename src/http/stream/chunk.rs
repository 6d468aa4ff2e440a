//! Encoded records: what the log holds, written as events, once for everybody.
//!
//! A [`Chunk`] is a run of records of one partition in one format. An event has its `id` line in
//! front of its `data` lines, as a stream of this partition alone sends it: such streams send
//! ranges of the chunk as they are. Other streams take the `data` lines and write ids of their own.
//! A filtered stream sees the chunk without the records that it does not want, on the same text.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use parking_lot::Mutex;

use super::filter::{Document, Filter, Verdict};
use crate::base::ids::{Offset, PartitionId, TimestampMs};
use crate::protocol::record_batch::SharedRecord;

/// Encoded bytes after which a chunk takes no further record: what one partition may send in its
/// turn.
pub(super) const CHUNK_BYTES: usize = 64 * 1024;

/// Bytes that a chunk and an entry of its index take beside the text, about.
const CHUNK_OVERHEAD_BYTES: usize = 160;

/// How many times its bytes a kept record takes, when it is also kept as a document, about.
const KEPT_FACTOR: usize = 6;

/// Filtered views that a chunk remembers.
const VIEWS_MAX: usize = 16;

/// One record of a chunk, by places in its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) offset: Offset,
    pub(super) timestamp: TimestampMs,
    /// Where its `event` line begins, if it has one.
    pub(super) start: u32,
    /// Where its `id` line begins, if it has one.
    pub(super) id: u32,
    /// Where its data begins.
    pub(super) data: u32,
    /// Where it ends.
    pub(super) end: u32,
}

/// Whether the records themselves are kept beside their text, for filters to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Keep {
    /// Only the text.
    Text,
    /// The records too.
    Records,
}

/// A record for filters to look at.
#[derive(Debug)]
pub(super) struct Kept {
    record: SharedRecord,
    /// Its value as a document, read by the first filter that needs it.
    document: OnceLock<Document>,
}

/// A run of encoded records: everything there is from `first` up to `next`, or what a filter left
/// of it.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) first: Offset,
    /// The offset to go on with; slots without a record may lie before it.
    pub(super) next: Offset,
    bytes: Bytes,
    index: Box<[Entry]>,
    /// One for each entry, or nothing.
    kept: Box<[Kept]>,
    /// Offsets of records that a filter took away, in order.
    filtered: Box<[Offset]>,
    /// Those among them for which its expression has no answer.
    failed: Box<[Offset]>,
    views: Mutex<Vec<(Arc<Filter>, Arc<Chunk>)>>,
}

/// Records that a filter took away from a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Filtered {
    /// All of them.
    pub(super) records: u64,
    /// Those for which the expression has no answer.
    pub(super) errors: u64,
}

impl std::ops::AddAssign for Filtered {
    fn add_assign(&mut self, other: Self) {
        self.records += other.records;
        self.errors += other.errors;
    }
}

impl Kept {
    /// Keeps a record; its document is read when it is asked for.
    pub(super) const fn new(record: SharedRecord) -> Self {
        Self { record, document: OnceLock::new() }
    }
}

impl Chunk {
    /// Puts together what was encoded; `kept` has one for each entry, or nothing.
    pub(super) fn new(
        offsets: Range<Offset>,
        bytes: Bytes,
        index: Vec<Entry>,
        kept: Vec<Kept>,
    ) -> Self {
        Self {
            first: offsets.start,
            next: offsets.end,
            bytes,
            index: index.into_boxed_slice(),
            kept: kept.into_boxed_slice(),
            filtered: Box::default(),
            failed: Box::default(),
            views: Mutex::default(),
        }
    }

    /// Bytes that the chunk takes in memory, about.
    pub(super) fn cost(&self) -> usize {
        let kept = |kept: &Kept| size_of::<Kept>() + kept.record.bytes() * KEPT_FACTOR;
        CHUNK_OVERHEAD_BYTES
            + self.bytes.len()
            + std::mem::size_of_val(&*self.index)
            + self.kept.iter().map(kept).sum::<usize>()
    }

    /// Bytes of the text.
    #[cfg(test)]
    pub(super) fn text_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The records with offsets in a range, by their place in the index.
    pub(super) fn entries_between(&self, from: Offset, bound: Offset) -> Range<usize> {
        let start = self.index.partition_point(|entry| entry.offset < from);
        let end = self.index.partition_point(|entry| entry.offset < bound);
        start..end.max(start)
    }

    /// Records with offsets in a range that a filter took away.
    pub(super) fn filtered_between(&self, from: Offset, bound: Offset) -> Filtered {
        let count = |offsets: &[Offset]| {
            let behind = offsets.partition_point(|offset| *offset < from);
            offsets.partition_point(|offset| *offset < bound).saturating_sub(behind) as u64
        };
        Filtered { records: count(&self.filtered), errors: count(&self.failed) }
    }

    /// One record.
    pub(super) fn entry(&self, at: usize) -> Option<&Entry> {
        self.index.get(at)
    }

    /// The records of a range.
    pub(super) fn entries(&self, range: Range<usize>) -> &[Entry] {
        self.index.get(range).unwrap_or_default()
    }

    /// The text of a range, shared if the records lie together.
    pub(super) fn whole(&self, range: Range<usize>) -> Bytes {
        let entries = self.entries(range);
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
            return Bytes::new();
        };
        let sum: usize = entries.iter().map(|entry| (entry.end - entry.start) as usize).sum();
        let (start, end) = (first.start as usize, last.end as usize);
        if end - start == sum {
            return self.bytes.slice(start..end);
        }
        let mut text = Vec::with_capacity(sum);
        for entry in entries {
            text.extend_from_slice(self.text(entry.start, entry.end));
        }
        text.into()
    }

    /// The `event` line of a record, if it has one.
    pub(super) fn event_line(&self, at: usize) -> &[u8] {
        self.index.get(at).map_or(&[], |entry| self.text(entry.start, entry.id))
    }

    /// The data of one record, with what ends it.
    pub(super) fn data(&self, at: usize) -> Bytes {
        let range = self.index.get(at).map_or(0..0, |e| e.data as usize..e.end as usize);
        self.bytes.slice(range)
    }

    /// Like [`Chunk::data`], without a reference of its own.
    pub(super) fn data_slice(&self, at: usize) -> &[u8] {
        self.index.get(at).map_or(&[], |entry| self.text(entry.data, entry.end))
    }

    fn text(&self, start: u32, end: u32) -> &[u8] {
        self.bytes.get(start as usize..end as usize).unwrap_or_default()
    }

    /// The chunk as a filter leaves it. Streams that share a filter share its view as well.
    pub(super) fn seen_by(
        &self,
        filter: &Arc<Filter>,
        topic: &str,
        partition: PartitionId,
    ) -> Arc<Self> {
        let known = |views: &Vec<(Arc<Filter>, Arc<Self>)>| {
            let view = views.iter().find(|(of, _)| Arc::ptr_eq(of, filter));
            view.map(|(_, view)| Arc::clone(view))
        };
        // Only the stream has a filter that nobody else asked for: nobody comes for its view.
        if Arc::strong_count(filter) == 1 {
            return Arc::new(self.judge(filter, topic, partition));
        }
        let mut views = self.views.lock();
        if let Some(view) = known(&views) {
            return view;
        }
        let view = Arc::new(self.judge(filter, topic, partition));
        if views.len() < VIEWS_MAX {
            views.push((Arc::clone(filter), Arc::clone(&view)));
        }
        view
    }

    fn judge(&self, filter: &Filter, topic: &str, partition: PartitionId) -> Self {
        let (mut index, mut filtered, mut failed) = (Vec::new(), Vec::new(), Vec::new());
        for (entry, kept) in self.index.iter().zip(&self.kept) {
            let record = kept.record.as_record();
            let document = || kept.document.get_or_init(|| Document::read(record.value));
            match filter.judge(topic, partition, &record, document) {
                Verdict::Wanted => index.push(*entry),
                Verdict::Unwanted => filtered.push(entry.offset),
                Verdict::Failed => {
                    filtered.push(entry.offset);
                    failed.push(entry.offset);
                }
            }
        }
        Self {
            first: self.first,
            next: self.next,
            bytes: self.bytes.clone(),
            index: index.into_boxed_slice(),
            kept: Box::default(),
            filtered: filtered.into_boxed_slice(),
            failed: failed.into_boxed_slice(),
            views: Mutex::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::encode::Batches;
    use super::super::encode::tests::{batch, encode_as, offsets};
    use super::super::filter::{Conditions, Filters};
    use super::super::params::{Format, Framing};
    use super::*;

    fn filter(name: &str, value: &str) -> Arc<Filter> {
        let mut conditions = Conditions::default();
        conditions.set(name, value);
        Filters::default().filter(&conditions).unwrap()
    }

    #[test]
    fn a_view_has_what_a_filter_leaves() {
        let values: Vec<_> = (0..6).map(|n| format!("{{\"n\":{n}}}")).collect();
        let mut values: Vec<_> = values.iter().map(String::as_bytes).collect();
        values.push(b"{}");
        let framing = Format { framing: Framing::Lines, ..Format::default() };
        let chunk = encode_as(&framing, &mut Batches::new(batch(10, &values).into()), 10).unwrap();
        let even = filter("filter", "value.n % 2 == 0");
        let view = chunk.seen_by(&even, "t", 0);
        assert_eq!((view.first, view.next, offsets(&view)), (10, 17, vec![10, 12, 14]));
        assert_eq!(view.filtered_between(10, 17), Filtered { records: 4, errors: 1 });
        assert_eq!(view.filtered_between(12, 16), Filtered { records: 2, errors: 0 });
        let whole = String::from_utf8(view.whole(0..3).to_vec()).unwrap();
        let lines: Vec<_> = whole.lines().collect();
        assert!(lines.len() == 3 && lines[1].ends_with("\"value\":{\"n\":2}}"), "{whole}");
        assert_eq!(view.whole(1..2), chunk.whole(2..3));
        // A filter that two streams have is applied once.
        let other_stream = Arc::clone(&even);
        let view = chunk.seen_by(&even, "t", 0);
        assert!(Arc::ptr_eq(&view, &chunk.seen_by(&other_stream, "t", 0)));
    }
}
