//! The records inside a batch, read without copying.
//!
//! Keys may be null, values may be null (a tombstone), headers keep their order and duplicates.

use bytes::Bytes;

use super::header::HEADER_BYTES;
use super::{BatchError, BatchHeader};
use crate::base::ids::{Offset, TimestampMs};

/// One record; its slices point into the (decompressed) batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Position in the partition.
    pub offset: Offset,
    /// Milliseconds since the epoch, -1 for none.
    pub timestamp: TimestampMs,
    /// The key, if any.
    pub key: Option<&'a [u8]>,
    /// The value; none is a tombstone.
    pub value: Option<&'a [u8]>,
    header_bytes: &'a [u8],
    header_count: usize,
}

impl<'a> Record<'a> {
    /// Reads the headers in their order. They were checked when the record was read.
    pub fn headers(&self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + use<'a> {
        let mut cursor = Cursor { rest: self.header_bytes };
        (0..self.header_count).map_while(move |_| cursor.header().ok())
    }

    /// Number of headers.
    #[must_use]
    pub const fn header_count(&self) -> usize {
        self.header_count
    }
}

/// Largest batch that a shared record keeps alive.
const SHARED_BATCH_BYTES_MAX: usize = 256 * 1024;

/// One record beyond the borrow of its batch.
#[derive(Debug, Clone)]
pub struct SharedRecord {
    offset: Offset,
    timestamp: TimestampMs,
    key: Option<Bytes>,
    value: Option<Bytes>,
    header_bytes: Bytes,
    header_count: usize,
}

impl SharedRecord {
    /// The record.
    #[must_use]
    pub fn as_record(&self) -> Record<'_> {
        Record {
            offset: self.offset,
            timestamp: self.timestamp,
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            header_bytes: &self.header_bytes,
            header_count: self.header_count,
        }
    }

    /// Bytes of key, value and headers.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        length(&self.key) + length(&self.value) + self.header_bytes.len()
    }
}

/// The records of one batch, decompressed once.
#[derive(Debug, Clone)]
pub struct BatchRecords {
    header: BatchHeader,
    body: Bytes,
}

impl BatchRecords {
    /// Decompresses the records of `batch`, whose header is `header`.
    ///
    /// # Errors
    /// [`BatchError::Truncated`] or what the codec reports.
    pub fn open(header: BatchHeader, batch: &Bytes) -> Result<Self, BatchError> {
        let total = header.total_bytes();
        if batch.len() < total {
            return Err(BatchError::Truncated { available: batch.len(), needed: total });
        }
        let body = header.codec()?.decompress(&batch.slice(HEADER_BYTES..total))?;
        Ok(Self { header, body })
    }

    /// The header of the batch.
    #[must_use]
    pub const fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// Keeps a record of this batch beyond its borrow. A large batch is not kept alive for it: the
    /// record is copied then.
    #[must_use]
    pub fn share(&self, record: &Record<'_>) -> SharedRecord {
        let range = self.body.as_ptr_range();
        let slice = |part: &[u8]| {
            let part_range = part.as_ptr_range();
            let is_ours = range.start <= part_range.start && part_range.end <= range.end;
            if is_ours && self.body.len() <= SHARED_BATCH_BYTES_MAX {
                self.body.slice_ref(part)
            } else {
                Bytes::copy_from_slice(part)
            }
        };
        SharedRecord {
            offset: record.offset,
            timestamp: record.timestamp,
            key: record.key.map(slice),
            value: record.value.map(slice),
            header_bytes: slice(record.header_bytes),
            header_count: record.header_count,
        }
    }

    /// Walks the records in order; after an error it ends.
    #[must_use]
    pub fn iter(&self) -> RecordIter<'_> {
        RecordIter { header: &self.header, cursor: Cursor { rest: &self.body }, index: 0 }
    }
}

impl<'a> IntoIterator for &'a BatchRecords {
    type Item = Result<Record<'a>, BatchError>;
    type IntoIter = RecordIter<'a>;

    fn into_iter(self) -> RecordIter<'a> {
        self.iter()
    }
}

/// Iterator over the records of a batch.
#[derive(Debug, Clone)]
pub struct RecordIter<'a> {
    header: &'a BatchHeader,
    cursor: Cursor<'a>,
    index: i32,
}

impl<'a> RecordIter<'a> {
    /// Bytes that follow the records read so far.
    pub(super) const fn remaining_bytes(&self) -> usize {
        self.cursor.rest.len()
    }

    fn read(&mut self) -> Result<Record<'a>, &'static str> {
        let length = self.cursor.length()?.ok_or("length is negative")?;
        let body = self.cursor.take(length).ok_or("length exceeds the batch")?;
        let mut body = Cursor { rest: body };
        body.take(1).ok_or("no attributes")?;
        let timestamp_delta = body.varint()?;
        let offset_delta = body.varint()?;
        let key = body.nullable()?;
        let value = body.nullable()?;
        let header_count = body.length()?.ok_or("header count is negative")?;
        let header_bytes = body.rest;
        if header_count > header_bytes.len() {
            return Err("header count exceeds the record");
        }
        for _ in 0..header_count {
            body.header()?;
        }
        if !body.rest.is_empty() {
            return Err("bytes follow the last header");
        }
        let timestamp = if self.header.is_log_append_time() {
            self.header.max_timestamp
        } else {
            self.header.base_timestamp.wrapping_add(timestamp_delta)
        };
        Ok(Record {
            offset: self.header.base_offset.wrapping_add(offset_delta),
            timestamp,
            key,
            value,
            header_bytes,
            header_count,
        })
    }
}

impl<'a> Iterator for RecordIter<'a> {
    type Item = Result<Record<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.index >= self.header.record_count {
            return None;
        }
        let index = self.index;
        let record = self.read();
        self.index = if record.is_ok() { index + 1 } else { i32::MAX };
        Some(record.map_err(|reason| BatchError::BadRecord { index, reason }))
    }
}

/// Reads zigzag varints and slices off the front.
#[derive(Debug, Clone)]
struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
    }

    fn varint(&mut self) -> Result<i64, &'static str> {
        let mut value = 0_u64;
        for (at, byte) in self.rest.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                self.rest = self.rest.get(at + 1..).unwrap_or_default();
                return Ok((value >> 1).cast_signed() ^ -((value & 1).cast_signed()));
            }
        }
        Err("varint is cut short or too long")
    }

    /// A length: none when it is negative, which means null.
    fn length(&mut self) -> Result<Option<usize>, &'static str> {
        Ok(usize::try_from(self.varint()?).ok())
    }

    fn nullable(&mut self) -> Result<Option<&'a [u8]>, &'static str> {
        match self.length()? {
            None => Ok(None),
            Some(length) => self.take(length).map(Some).ok_or("field exceeds the record"),
        }
    }

    fn header(&mut self) -> Result<(&'a [u8], Option<&'a [u8]>), &'static str> {
        let key = self.nullable()?.ok_or("header key is null")?;
        Ok((key, self.nullable()?))
    }
}
