//! Encoding: batches as the log gives them become chunks of events or lines.
//!
//! Batches are checked before they are decoded, and what readers do not get (markers, aborted
//! transactions) is passed over.

use bytes::Bytes;

use super::chunk::{CHUNK_BYTES, Chunk, Entry, Keep, Kept};
use super::cursor::{self, ClusterTag, Head, Position};
use super::data;
use super::params::{Format, Framing};
use crate::base::ids::{Offset, PartitionId};
use crate::engine::log::{AbortedTransaction, Isolation};
use crate::engine::topics::Topic;
use crate::http::record::envelope::Envelope;
use crate::protocol::record_batch::header::verify_crc;
use crate::protocol::record_batch::{BatchError, BatchHeader, BatchRecords, Record};

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
                    self.kept.push(Kept::new(record));
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
        Chunk::new(self.first..self.next, self.text.into(), self.index, self.kept)
    }
}

#[cfg(test)]
pub(super) mod tests {
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

    pub(in super::super) fn batch(base: Offset, values: &[&[u8]]) -> Vec<u8> {
        let mut builder = BatchBuilder::new().at_offset(base);
        for value in values {
            builder.push(5, None, Some(value), std::iter::empty());
        }
        builder.finish().to_vec()
    }

    pub(in super::super) fn offsets(chunk: &Chunk) -> Vec<Offset> {
        let all = chunk.entries_between(0, Offset::MAX);
        chunk.entries(all).iter().map(|entry| entry.offset).collect()
    }

    fn encode(batches: &mut Batches, from: Offset) -> Result<Chunk, BatchError> {
        encode_as(&Format::default(), batches, from)
    }

    pub(in super::super) fn encode_as(
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
        assert_eq!(chunk.whole(0..3).len(), chunk.text_bytes());
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
            assert!(chunk.text_bytes() < CHUNK_BYTES + 2000 && chunk.next > next);
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
