//! Encoded records: what the log holds, checked, decoded and written as events, once for everybody.
//!
//! A [`Chunk`] is a run of records of one partition in one format. An event has its `id` line in
//! front of its `data` lines, as a stream of this partition alone sends it: such streams send
//! ranges of the chunk as they are. Other streams take the `data` lines and write ids of their own.
//! A filtered stream sees the chunk without the records that it does not want, on the same text.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use parking_lot::Mutex;

use super::cursor::{self, ClusterTag, Head, Position};
use super::data;
use super::filter::{Document, Filter, Verdict};
use super::params::{Format, Framing};
use crate::base::ids::{Offset, PartitionId, TimestampMs};
use crate::engine::log::{AbortedTransaction, Isolation};
use crate::engine::topics::Topic;
use crate::http::record::envelope::Envelope;
use crate::protocol::record_batch::header::verify_crc;
use crate::protocol::record_batch::{BatchError, BatchHeader, BatchRecords, Record, SharedRecord};

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
    start: u32,
    /// Where its `id` line begins, if it has one.
    id: u32,
    /// Where its data begins.
    data: u32,
    /// Where it ends.
    end: u32,
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
struct Kept {
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

impl Chunk {
    /// Bytes that the chunk takes in memory, about.
    pub(super) fn cost(&self) -> usize {
        let kept = |kept: &Kept| size_of::<Kept>() + kept.record.bytes() * KEPT_FACTOR;
        CHUNK_OVERHEAD_BYTES
            + self.bytes.len()
            + std::mem::size_of_val(&*self.index)
            + self.kept.iter().map(kept).sum::<usize>()
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

/// What records are encoded for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target<'a> {
    pub(super) topic: &'a Topic,
    pub(super) partition: PartitionId,
    pub(super) format: &'a Format,
    pub(super) keep: Keep,
    pub(super) cluster: ClusterTag,
    pub(super) isolation: Isolation,
}

/// Batches that were read, with a place among their records.
#[derive(Debug)]
pub(super) struct Batches {
    /// The batch begun: its header, its records, and how many of them are behind.
    open: Option<(BatchHeader, BatchRecords, usize)>,
    rest: Bytes,
    aborted: Vec<AbortedTransaction>,
    high_watermark: Offset,
}

impl Batches {
    /// Takes whole batches as the log gave them.
    pub(super) const fn new(bytes: Bytes) -> Self {
        Self { open: None, rest: bytes, aborted: Vec::new(), high_watermark: Offset::MAX }
    }

    /// Remembers how far the log went when they were read.
    pub(super) const fn read_at(mut self, high_watermark: Offset) -> Self {
        self.high_watermark = high_watermark;
        self
    }

    /// How far the log went when they were read.
    pub(super) const fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// Passes over batches of these transactions.
    pub(super) fn without(self, aborted: Vec<AbortedTransaction>) -> Self {
        Self { aborted, ..self }
    }

    /// Tells whether readers get nothing of a batch.
    fn is_hidden(&self, header: &BatchHeader) -> bool {
        header.is_control() || self.aborted.iter().any(|aborted| aborted.covers(header))
    }

    /// Tells whether a batch is compressed: opening it takes time that its size does not tell.
    pub(super) fn is_compressed(&self) -> bool {
        let mut rest = self.rest.clone();
        while let Ok(header) = BatchHeader::parse(&rest) {
            if header.codec() != Ok(crate::protocol::record_batch::Codec::None) {
                return true;
            }
            if rest.len() <= header.total_bytes() {
                break;
            }
            rest = rest.split_off(header.total_bytes());
        }
        false
    }

    /// Tells whether a batch is decoded and not used up.
    pub(super) const fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Opens the next batch that has records from `from` on, and tells where to go on after it.
    fn advance(&mut self, from: Offset) -> Result<Option<BatchHeader>, BatchError> {
        while !self.rest.is_empty() {
            let header = BatchHeader::parse(&self.rest)?;
            let (available, needed) = (self.rest.len(), header.total_bytes());
            if available < needed {
                return Err(BatchError::Truncated { available, needed });
            }
            let batch = self.rest.split_to(needed);
            if header.next_offset() <= from {
                continue;
            }
            verify_crc(&header, &batch)?;
            if !self.is_hidden(&header) {
                self.open = Some((header, BatchRecords::open(header, &batch)?, 0));
            }
            return Ok(Some(header));
        }
        Ok(None)
    }

    /// Encodes records from `from` on until a chunk is full or the batches are used up.
    ///
    /// # Errors
    /// Damage in the very first batch. What comes before a damaged batch is a chunk of its own.
    pub(super) fn encode(&mut self, from: Offset, target: Target<'_>) -> Result<Chunk, BatchError> {
        let mut writer = Writer::new(from, target);
        while !writer.is_full() {
            if self.open.is_none() {
                match self.advance(from) {
                    Ok(Some(header)) if self.is_hidden(&header) => {
                        writer.next = header.next_offset();
                        continue;
                    }
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(_) if writer.next > from => break,
                    Err(error) => return Err(error),
                }
            }
            let Some((header, records, behind)) = &mut self.open else { break };
            match writer.push_records(header, records, behind) {
                Ok(IsUsedUp(true)) => self.open = None,
                Ok(IsUsedUp(false)) => {}
                Err(_) if writer.next > from => break,
                Err(error) => return Err(error),
            }
        }
        Ok(writer.finish())
    }
}

/// Whether a batch has no further record.
struct IsUsedUp(bool);

/// Writes the text and the index of a chunk.
struct Writer<'a> {
    target: Target<'a>,
    first: Offset,
    next: Offset,
    text: Vec<u8>,
    index: Vec<Entry>,
    kept: Vec<Kept>,
    scratch: Vec<u8>,
}

impl<'a> Writer<'a> {
    fn new(first: Offset, target: Target<'a>) -> Self {
        Self {
            target,
            first,
            next: first,
            text: Vec::new(),
            index: Vec::new(),
            kept: Vec::new(),
            scratch: Vec::new(),
        }
    }

    fn is_full(&self) -> bool {
        self.text.len() >= CHUNK_BYTES
    }

    fn push_records(
        &mut self,
        header: &BatchHeader,
        records: &BatchRecords,
        behind: &mut usize,
    ) -> Result<IsUsedUp, BatchError> {
        let timestamp_type = if header.is_log_append_time() { "append" } else { "create" };
        let Target { topic, partition, format, .. } = self.target;
        let (topic, decode) = (topic.name.as_str(), format.decode);
        let envelope = Envelope { topic, partition, timestamp_type, decode };
        for record in records.iter().skip(*behind) {
            let record = record?;
            if record.offset >= self.next {
                // A record that would overfill a chunk begins the next one, unless it is alone.
                if self.is_full() {
                    return Ok(IsUsedUp(false));
                }
                self.push(&envelope, &record);
                if self.target.keep == Keep::Records {
                    let record = records.share(&record);
                    self.kept.push(Kept { record, document: OnceLock::new() });
                }
                self.next = record.offset + 1;
            }
            *behind += 1;
        }
        self.next = self.next.max(header.next_offset());
        Ok(IsUsedUp(true))
    }

    fn push(&mut self, envelope: &Envelope<'_>, record: &Record<'_>) {
        let start = self.at();
        let mut id = start;
        let format = self.target.format;
        if format.framing == Framing::Events {
            if let Some(name) = data::event_name(format, self.target.topic.name.as_str(), record) {
                self.text.extend_from_slice(b"event: ");
                self.text.extend_from_slice(&name);
                self.text.push(b'\n');
                id = self.at();
            }
            self.push_id(record);
        }
        let data = self.at();
        data::record_into(self.target.format, envelope, record, &mut self.text);
        let (offset, timestamp, end) = (record.offset, record.timestamp, self.at());
        self.index.push(Entry { offset, timestamp, start, id, data, end });
    }

    fn push_id(&mut self, record: &Record<'_>) {
        self.text.extend_from_slice(b"id: ");
        let Target { cluster, isolation, .. } = self.target;
        let head = Head { cluster, isolation, ..Head::default() };
        let position = Position {
            incarnation: self.target.topic.incarnation,
            partition: self.target.partition,
            next: record.offset + 1,
        };
        let positions = std::iter::once(position);
        cursor::write_into(head, positions, &mut self.scratch, &mut self.text);
        self.text.push(b'\n');
    }

    /// Where the text ends. A batch decompresses to 64 MiB at most, so 32 bits are enough.
    fn at(&self) -> u32 {
        u32::try_from(self.text.len()).unwrap_or(u32::MAX)
    }

    fn finish(mut self) -> Chunk {
        self.text.shrink_to_fit();
        Chunk {
            first: self.first,
            next: self.next,
            bytes: Bytes::from(self.text),
            index: self.index.into_boxed_slice(),
            kept: self.kept.into_boxed_slice(),
            filtered: Box::default(),
            failed: Box::default(),
            views: Mutex::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::filter::{Conditions, Filters};
    use super::super::params::EventName;
    use super::*;
    use crate::base::ids::{TopicId, TopicName};
    use crate::protocol::record_batch::BatchBuilder;

    fn topic() -> Topic {
        Topic {
            name: TopicName::parse("t").unwrap(),
            id: TopicId::from_u128(1),
            partition_count: 1,
            is_internal: false,
            incarnation: 7,
            overrides: Default::default(),
        }
    }

    fn batch(base: Offset, values: &[&[u8]]) -> Vec<u8> {
        let mut builder = BatchBuilder::new().at_offset(base);
        for value in values {
            builder.push(5, None, Some(value), std::iter::empty());
        }
        builder.finish().to_vec()
    }

    fn offsets(chunk: &Chunk) -> Vec<Offset> {
        chunk.index.iter().map(|entry| entry.offset).collect()
    }

    fn encode(batches: &mut Batches, from: Offset) -> Result<Chunk, BatchError> {
        encode_as(&Format::default(), batches, from)
    }

    fn encode_as(
        format: &Format,
        batches: &mut Batches,
        from: Offset,
    ) -> Result<Chunk, BatchError> {
        let (topic, keep) = (topic(), Keep::Records);
        let (cluster, isolation) = ([0; 4], Isolation::default());
        let target = Target { topic: &topic, partition: 0, format, keep, cluster, isolation };
        batches.encode(from, target)
    }

    #[test]
    fn a_chunk_begins_inside_of_a_batch_and_crosses_batches() {
        let mut bytes = batch(0, &[b"1", b"2", b"3"]);
        bytes.extend(batch(3, &[b"4"]));
        let chunk = encode(&mut Batches::new(bytes.into()), 1).unwrap();
        assert_eq!((chunk.first, chunk.next, offsets(&chunk)), (1, 4, vec![1, 2, 3]));
        assert!(chunk.data_slice(2).ends_with(b"\"value\":4}\n\n"));
        assert_eq!(chunk.whole(0..3).len(), chunk.bytes.len());
        assert_eq!(chunk.entries_between(2, 3), 1..2);
        assert_eq!(chunk.entries_between(9, 3), 3..3);
    }

    #[test]
    fn long_batches_become_several_chunks() {
        let value = [b'x'; 1000];
        let values = vec![&value[..]; 200];
        let mut batches = Batches::new(batch(0, &values).into());
        let (mut next, mut seen) = (0, Vec::new());
        while next < 200 {
            let chunk = encode(&mut batches, next).unwrap();
            assert!(chunk.bytes.len() < CHUNK_BYTES + 2000 && chunk.next > next);
            seen.extend(offsets(&chunk));
            next = chunk.next;
        }
        assert_eq!(seen, (0..200).collect::<Vec<_>>());
        assert!(!batches.is_open());
    }

    #[test]
    fn damage_is_found_after_everything_before_it() {
        let mut bytes = batch(0, &[b"1"]);
        let mut second = batch(1, &[b"2"]);
        let last = second.len() - 1;
        second[last] ^= 1;
        bytes.extend(second);
        let mut batches = Batches::new(bytes.clone().into());
        let chunk = encode(&mut batches, 0).unwrap();
        assert_eq!((chunk.next, offsets(&chunk)), (1, vec![0]));
        let mut batches = Batches::new(bytes.into());
        assert!(matches!(encode(&mut batches, 1), Err(BatchError::CrcMismatch { .. })));
    }

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

    #[test]
    fn names_of_events_come_before_their_ids() {
        let format = Format { event: EventName::Topic, ..Format::default() };
        let chunk = encode_as(&format, &mut Batches::new(batch(0, &[b"1"]).into()), 0).unwrap();
        let text = String::from_utf8(chunk.whole(0..1).to_vec()).unwrap();
        assert!(text.starts_with("event: t\nid: 1."), "{text}");
        assert_eq!(chunk.event_line(0), b"event: t\n");
        assert!(chunk.data_slice(0).starts_with(b"data: {"));
    }

    #[test]
    fn bytes_that_are_no_batch_are_refused() {
        assert!(encode(&mut Batches::new(Bytes::from_static(&[0; 100])), 0).is_err());
        let mut cut = batch(0, &[b"1"]);
        cut.pop();
        assert!(encode(&mut Batches::new(cut.into()), 0).is_err());
    }
}
