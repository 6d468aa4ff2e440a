//! Builds uncompressed batches: for records that come by HTTP, for internal state, for markers.

use bytes::{BufMut, Bytes, BytesMut};

use super::header::{self, BatchHeader, HEADER_BYTES, LOG_OVERHEAD_BYTES};
use crate::base::ids::{Offset, TimestampMs};

/// The idempotent producer that a batch is written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerStamp {
    /// Producer id.
    pub id: i64,
    /// Producer epoch.
    pub epoch: i16,
    /// Sequence of the first record.
    pub base_sequence: i32,
}

/// Collects records into one batch.
#[derive(Debug)]
pub struct BatchBuilder {
    buffer: BytesMut,
    base_offset: Offset,
    base_timestamp: Option<TimestampMs>,
    max_timestamp: TimestampMs,
    last_offset_delta: i32,
    record_count: i32,
    producer: Option<ProducerStamp>,
    attributes: i16,
}

impl Default for BatchBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl BatchBuilder {
    /// Starts an empty batch at offset 0.
    #[must_use]
    pub fn new() -> Self {
        Self::with_capacity(512)
    }

    /// Starts an empty batch with room for `bytes` bytes.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        let mut buffer = BytesMut::with_capacity(bytes + HEADER_BYTES);
        buffer.resize(HEADER_BYTES, 0);
        Self {
            buffer,
            base_offset: 0,
            base_timestamp: None,
            max_timestamp: -1,
            last_offset_delta: -1,
            record_count: 0,
            producer: None,
            attributes: 0,
        }
    }

    /// Writes the batch for an idempotent producer.
    #[must_use]
    pub const fn for_producer(mut self, producer: ProducerStamp) -> Self {
        self.producer = Some(producer);
        self
    }

    /// Makes the batch part of its producer's transaction.
    #[must_use]
    pub const fn as_transactional(mut self) -> Self {
        self.attributes |= header::TRANSACTIONAL;
        self
    }

    /// Makes the batch a transaction marker.
    #[must_use]
    pub const fn as_control(mut self) -> Self {
        self.attributes |= header::TRANSACTIONAL | header::CONTROL;
        self
    }

    /// Takes over what `original` says of its records, except their codec (for compaction).
    #[must_use]
    pub const fn like(mut self, original: &BatchHeader) -> Self {
        self.attributes = original.attributes & !header::CODEC_MASK;
        self
    }

    /// Starts the batch at `base_offset` (for rewriting a batch in compaction).
    #[must_use]
    pub const fn at_offset(mut self, base_offset: Offset) -> Self {
        self.base_offset = base_offset;
        self
    }

    /// Bytes collected so far, the header included.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Records collected so far.
    #[must_use]
    pub const fn record_count(&self) -> i32 {
        self.record_count
    }

    /// Appends a record after the last one.
    pub fn push<'h>(
        &mut self,
        timestamp: TimestampMs,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl Iterator<Item = (&'h [u8], Option<&'h [u8]>)> + Clone,
    ) {
        let delta = self.last_offset_delta + 1;
        self.push_at(delta, timestamp, key, value, headers);
    }

    /// Appends a record at `offset_delta` from the base, which must grow from record to record.
    pub fn push_at<'h>(
        &mut self,
        offset_delta: i32,
        timestamp: TimestampMs,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl Iterator<Item = (&'h [u8], Option<&'h [u8]>)> + Clone,
    ) {
        debug_assert!(offset_delta > self.last_offset_delta, "offset deltas must grow");
        let base = *self.base_timestamp.get_or_insert(timestamp);
        self.max_timestamp = self.max_timestamp.max(timestamp);
        self.last_offset_delta = offset_delta;
        self.record_count += 1;
        let timestamp_delta = timestamp.wrapping_sub(base);
        let offset_delta = i64::from(offset_delta);
        let header_bytes: usize =
            headers.clone().map(|(k, v)| nullable_len(Some(k)) + nullable_len(v)).sum();
        let header_count = length_of_count(headers.clone().count());
        let length = 1
            + varint_len(timestamp_delta)
            + varint_len(offset_delta)
            + nullable_len(key)
            + nullable_len(value)
            + varint_len(header_count)
            + header_bytes;
        let length_field = length_of_count(length);
        let out = &mut self.buffer;
        out.reserve(varint_len(length_field) + length);
        put_varint(out, length_field);
        out.put_u8(0);
        put_varint(out, timestamp_delta);
        put_varint(out, offset_delta);
        put_nullable(out, key);
        put_nullable(out, value);
        put_varint(out, header_count);
        for (key, value) in headers {
            put_nullable(out, Some(key));
            put_nullable(out, value);
        }
    }

    /// Keeps offset slots up to `offset_delta` although their records are gone.
    #[must_use]
    pub const fn ending_at(mut self, offset_delta: i32) -> Self {
        self.last_offset_delta = offset_delta;
        self
    }

    /// Ends the batch and seals it with its CRC.
    #[must_use]
    pub fn finish(mut self) -> Bytes {
        let length = self.buffer.len() - LOG_OVERHEAD_BYTES;
        let producer =
            self.producer.unwrap_or(ProducerStamp { id: -1, epoch: -1, base_sequence: -1 });
        let header = BatchHeader {
            base_offset: self.base_offset,
            batch_length: i32::try_from(length).unwrap_or(i32::MAX),
            partition_leader_epoch: 0,
            crc: 0,
            attributes: self.attributes,
            last_offset_delta: self.last_offset_delta,
            base_timestamp: self.base_timestamp.unwrap_or(-1),
            max_timestamp: self.max_timestamp,
            producer_id: producer.id,
            producer_epoch: producer.epoch,
            base_sequence: producer.base_sequence,
            record_count: self.record_count,
        };
        header.write(&mut self.buffer);
        header::seal(&mut self.buffer);
        self.buffer.freeze()
    }
}

fn length_of(bytes: &[u8]) -> i64 {
    length_of_count(bytes.len())
}

fn length_of_count(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

/// Bytes that a varint takes: 7 bits each.
const fn varint_len(value: i64) -> usize {
    let bits = 64 - (zigzag(value) | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

fn nullable_len(bytes: Option<&[u8]>) -> usize {
    varint_len(bytes.map_or(-1, length_of)) + bytes.map_or(0, <[u8]>::len)
}

fn put_varint(out: &mut BytesMut, value: i64) {
    let mut rest = zigzag(value);
    while rest >= 0x80 {
        out.put_u8((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.put_u8(rest as u8);
}

fn put_nullable(out: &mut BytesMut, bytes: Option<&[u8]>) {
    put_varint(out, bytes.map_or(-1, length_of));
    out.extend_from_slice(bytes.unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::super::validate::{KeyRule, validate_client_batch};
    use super::super::{BatchError, BatchRecords};
    use super::*;
    use proptest::prelude::*;

    type Headers = Vec<(Vec<u8>, Option<Vec<u8>>)>;
    type Row = (i64, Option<Vec<u8>>, Option<Vec<u8>>, Headers);

    fn rows() -> impl Strategy<Value = Vec<Row>> {
        let bytes = || prop::collection::vec(any::<u8>(), 0..40);
        let optional = move || prop::option::of(bytes());
        let headers = prop::collection::vec((bytes(), optional()), 0..4);
        prop::collection::vec((0..i64::from(u32::MAX), optional(), optional(), headers), 1..20)
    }

    fn build(rows: &[Row]) -> Bytes {
        let mut builder = BatchBuilder::new();
        for (timestamp, key, value, headers) in rows {
            let headers = headers.iter().map(|(k, v)| (k.as_slice(), v.as_deref()));
            builder.push(*timestamp, key.as_deref(), value.as_deref(), headers);
        }
        builder.finish()
    }

    proptest! {
        #[test]
        fn batches_round_trip(rows in rows()) {
            let batch = build(&rows);
            let header = validate_client_batch(&batch, KeyRule::Optional).unwrap();
            let records = BatchRecords::open(header, &batch).unwrap();
            let back: Vec<Row> = records.iter().map(|r| {
                let r = r.unwrap();
                let headers = r.headers().map(|(k, v)| (k.to_vec(), v.map(<[u8]>::to_vec)));
                (r.timestamp, r.key.map(<[u8]>::to_vec), r.value.map(<[u8]>::to_vec), headers.collect())
            }).collect();
            prop_assert_eq!(back, rows);
        }

        #[test]
        fn a_changed_or_cut_batch_is_refused(rows in rows(), at in any::<prop::sample::Index>(), bit in 0..8_u32) {
            let batch = build(&rows);
            let mut broken = batch.to_vec();
            let at = 16 + at.index(batch.len() - 16);
            broken[at] ^= 1 << bit;
            prop_assert!(validate_client_batch(&Bytes::from(broken), KeyRule::Optional).is_err());
            let cut = batch.slice(..at);
            prop_assert!(validate_client_batch(&cut, KeyRule::Optional).is_err());
        }

        #[test]
        fn arbitrary_records_never_panic(body in prop::collection::vec(any::<u8>(), 0..200), count in any::<i32>()) {
            let mut header = BatchHeader::parse(&build(&[(1, None, None, vec![])])).unwrap();
            header.record_count = count;
            header.batch_length = i32::try_from(body.len() + HEADER_BYTES - LOG_OVERHEAD_BYTES).unwrap();
            let mut batch = vec![0; HEADER_BYTES];
            batch.extend_from_slice(&body);
            let records = BatchRecords::open(header, &Bytes::from(batch)).unwrap();
            let _ = records.iter().take(500).count();
        }
    }

    #[test]
    fn compacted_topics_need_keys() {
        let batch = build(&[(1, Some(vec![1]), None, vec![]), (1, None, None, vec![])]);
        let refused = validate_client_batch(&batch, KeyRule::Required);
        assert!(matches!(refused, Err(BatchError::BadRecord { index: 1, .. })));
    }
}
