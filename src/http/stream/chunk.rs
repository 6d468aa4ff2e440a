//! Encoded records: what the log holds, checked, decoded and written as events, once for everybody.
//!
//! A [`Chunk`] is a run of records of one partition in one format. Each has its `id` line in front
//! of its `data` lines, as a stream of this partition alone sends it: such streams send ranges of
//! the chunk as they are. Other streams take the `data` lines and write ids of their own.

use std::ops::Range;

use bytes::Bytes;

use super::cursor::{self, ClusterTag, Head, Position};
use super::data;
use super::params::Format;
use crate::base::ids::{Offset, PartitionId, TimestampMs};
use crate::engine::log::{AbortedTransaction, Isolation};
use crate::engine::topics::Topic;
use crate::http::record::envelope::Envelope;
use crate::protocol::record_batch::header::verify_crc;
use crate::protocol::record_batch::{BatchError, BatchHeader, BatchRecords, Record};

/// Encoded bytes after which a chunk takes no further record: what one partition may send in its
/// turn.
pub(super) const CHUNK_BYTES: usize = 64 * 1024;

/// Bytes that a chunk and an entry of its index take beside the text, about.
const CHUNK_OVERHEAD_BYTES: usize = 160;

/// One record of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) offset: Offset,
    pub(super) timestamp: TimestampMs,
    /// Where its `id` line begins.
    start: u32,
    /// Where its `data` lines begin.
    data: u32,
}

/// A run of encoded records: everything there is from `first` up to `next`.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) first: Offset,
    /// The offset to go on with; slots without a record may lie before it.
    pub(super) next: Offset,
    bytes: Bytes,
    index: Box<[Entry]>,
}

impl Chunk {
    /// Bytes that the chunk takes in memory, about.
    pub(super) fn cost(&self) -> usize {
        CHUNK_OVERHEAD_BYTES + self.bytes.len() + std::mem::size_of_val(&*self.index)
    }

    /// The records with offsets in a range, by their place in the index.
    pub(super) fn entries_between(&self, from: Offset, bound: Offset) -> Range<usize> {
        let start = self.index.partition_point(|entry| entry.offset < from);
        let end = self.index.partition_point(|entry| entry.offset < bound);
        start..end.max(start)
    }

    /// One record.
    pub(super) fn entry(&self, at: usize) -> Option<&Entry> {
        self.index.get(at)
    }

    /// The records of a range.
    pub(super) fn entries(&self, range: Range<usize>) -> &[Entry] {
        self.index.get(range).unwrap_or_default()
    }

    /// The `id` and `data` lines of a range.
    pub(super) fn whole(&self, range: Range<usize>) -> Bytes {
        let start = self.index.get(range.start).map_or(self.bytes.len(), |e| e.start as usize);
        self.bytes.slice(start..self.end_before(range.end).max(start))
    }

    /// The `data` lines of one record, with the blank line.
    pub(super) fn data(&self, at: usize) -> Bytes {
        let start = self.index.get(at).map_or(self.bytes.len(), |e| e.data as usize);
        self.bytes.slice(start..self.end_before(at + 1).max(start))
    }

    /// Like [`Chunk::data`], without a reference of its own.
    pub(super) fn data_slice(&self, at: usize) -> &[u8] {
        let start = self.index.get(at).map_or(self.bytes.len(), |e| e.data as usize);
        self.bytes.get(start..self.end_before(at + 1)).unwrap_or_default()
    }

    fn end_before(&self, at: usize) -> usize {
        self.index.get(at).map_or(self.bytes.len(), |entry| entry.start as usize)
    }
}

/// What records are encoded for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target<'a> {
    pub(super) topic: &'a Topic,
    pub(super) partition: PartitionId,
    pub(super) format: Format,
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
}

impl Batches {
    /// Takes whole batches as the log gave them.
    pub(super) const fn new(bytes: Bytes) -> Self {
        Self { open: None, rest: bytes, aborted: Vec::new() }
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
                self.next = record.offset + 1;
            }
            *behind += 1;
        }
        self.next = self.next.max(header.next_offset());
        Ok(IsUsedUp(true))
    }

    fn push(&mut self, envelope: &Envelope<'_>, record: &Record<'_>) {
        let start = self.at();
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
        let data = self.at();
        data::record_into(self.target.format.data, envelope, record, &mut self.text);
        let (offset, timestamp) = (record.offset, record.timestamp);
        self.index.push(Entry { offset, timestamp, start, data });
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
        }
    }
}

#[cfg(test)]
mod tests {
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
        let topic = topic();
        let format = Format::default();
        let isolation = Isolation::default();
        let cluster = [0; 4];
        batches.encode(from, Target { topic: &topic, partition: 0, format, cluster, isolation })
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

    #[test]
    fn bytes_that_are_no_batch_are_refused() {
        assert!(encode(&mut Batches::new(Bytes::from_static(&[0; 100])), 0).is_err());
        let mut cut = batch(0, &[b"1"]);
        cut.pop();
        assert!(encode(&mut Batches::new(cut.into()), 0).is_err());
    }
}
