//! The 61 fixed bytes of a batch.

use super::{BatchError, Codec};
use crate::base::ids::{Offset, TimestampMs};

/// Bytes from the start of a batch to its first record.
pub const HEADER_BYTES: usize = 61;

/// Bytes of `base_offset` and `batch_length`, which the length does not count.
pub const LOG_OVERHEAD_BYTES: usize = 12;

/// Where `attributes` begins: the CRC covers everything from here.
const CRC_FROM: usize = 21;

const ATTRIBUTES_AT: usize = 21;
const CRC_AT: usize = 17;
pub(super) const CODEC_MASK: i16 = 0b111;
const LOG_APPEND_TIME: i16 = 1 << 3;
pub(super) const TRANSACTIONAL: i16 = 1 << 4;
pub(super) const CONTROL: i16 = 1 << 5;

/// The header of one batch, decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record slot.
    pub base_offset: Offset,
    /// Bytes after the length field.
    pub batch_length: i32,
    /// Epoch of the leader that appended the batch.
    pub partition_leader_epoch: i32,
    /// CRC-32C over attributes to end, as stored.
    pub crc: u32,
    /// Codec, timestamp type, transactional and control bits.
    pub attributes: i16,
    /// Offset of the last record slot, relative to the base.
    pub last_offset_delta: i32,
    /// Timestamp from which records count their deltas.
    pub base_timestamp: TimestampMs,
    /// Largest timestamp in the batch.
    pub max_timestamp: TimestampMs,
    /// Id of the idempotent producer, -1 for none.
    pub producer_id: i64,
    /// Epoch of the idempotent producer.
    pub producer_epoch: i16,
    /// Sequence of the first record, -1 for none.
    pub base_sequence: i32,
    /// Records in the batch.
    pub record_count: i32,
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], BatchError> {
    let missing = BatchError::Truncated { available: bytes.len(), needed: HEADER_BYTES };
    bytes.get(at..at + N).and_then(|s| s.try_into().ok()).ok_or(missing)
}

impl BatchHeader {
    /// Reads the header that `bytes` begins with; the records need not be there.
    ///
    /// # Errors
    /// [`BatchError::Truncated`], [`BatchError::UnsupportedMagic`] or [`BatchError::BadLength`].
    pub fn parse(bytes: &[u8]) -> Result<Self, BatchError> {
        let fixed: [u8; HEADER_BYTES] = array(bytes, 0)?;
        let magic = i8::from_be_bytes(array(&fixed, 16)?);
        if magic != 2 {
            return Err(BatchError::UnsupportedMagic(magic));
        }
        let header = Self {
            base_offset: i64::from_be_bytes(array(&fixed, 0)?),
            batch_length: i32::from_be_bytes(array(&fixed, 8)?),
            partition_leader_epoch: i32::from_be_bytes(array(&fixed, 12)?),
            crc: u32::from_be_bytes(array(&fixed, CRC_AT)?),
            attributes: i16::from_be_bytes(array(&fixed, ATTRIBUTES_AT)?),
            last_offset_delta: i32::from_be_bytes(array(&fixed, 23)?),
            base_timestamp: i64::from_be_bytes(array(&fixed, 27)?),
            max_timestamp: i64::from_be_bytes(array(&fixed, 35)?),
            producer_id: i64::from_be_bytes(array(&fixed, 43)?),
            producer_epoch: i16::from_be_bytes(array(&fixed, 51)?),
            base_sequence: i32::from_be_bytes(array(&fixed, 53)?),
            record_count: i32::from_be_bytes(array(&fixed, 57)?),
        };
        if header.batch_length < (HEADER_BYTES - LOG_OVERHEAD_BYTES) as i32
            || header.last_offset_delta < 0
        {
            return Err(BatchError::BadLength(header.batch_length));
        }
        Ok(header)
    }

    /// Writes the header into the first 61 bytes of `batch`, the CRC included as it stands.
    pub(super) fn write(&self, batch: &mut [u8]) {
        let mut fixed = [0_u8; HEADER_BYTES];
        let mut at = 0;
        let mut put = |bytes: &[u8]| {
            if let Some(slot) = fixed.get_mut(at..at + bytes.len()) {
                slot.copy_from_slice(bytes);
            }
            at += bytes.len();
        };
        put(&self.base_offset.to_be_bytes());
        put(&self.batch_length.to_be_bytes());
        put(&self.partition_leader_epoch.to_be_bytes());
        put(&2_i8.to_be_bytes());
        put(&self.crc.to_be_bytes());
        put(&self.attributes.to_be_bytes());
        put(&self.last_offset_delta.to_be_bytes());
        put(&self.base_timestamp.to_be_bytes());
        put(&self.max_timestamp.to_be_bytes());
        put(&self.producer_id.to_be_bytes());
        put(&self.producer_epoch.to_be_bytes());
        put(&self.base_sequence.to_be_bytes());
        put(&self.record_count.to_be_bytes());
        if let Some(slot) = batch.get_mut(..HEADER_BYTES) {
            slot.copy_from_slice(&fixed);
        }
    }

    /// Bytes of the whole batch, its length field included.
    #[must_use]
    pub fn total_bytes(&self) -> usize {
        LOG_OVERHEAD_BYTES + usize::try_from(self.batch_length).unwrap_or(0)
    }

    /// Offset of the last record slot.
    #[must_use]
    pub const fn last_offset(&self) -> Offset {
        self.base_offset + self.last_offset_delta as i64
    }

    /// Offset that follows the batch.
    #[must_use]
    pub const fn next_offset(&self) -> Offset {
        self.last_offset() + 1
    }

    /// The codec of the records.
    ///
    /// # Errors
    /// [`BatchError::UnknownCodec`] for the numbers 5 to 7.
    pub fn codec(&self) -> Result<Codec, BatchError> {
        Codec::from_number(self.attributes & CODEC_MASK)
    }

    /// Tells whether the batch holds a transaction marker instead of records.
    #[must_use]
    pub const fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    /// Tells whether the batch belongs to a transaction.
    #[must_use]
    pub const fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    /// Tells whether the broker stamped the batch (`LogAppendTime`).
    #[must_use]
    pub const fn is_log_append_time(&self) -> bool {
        self.attributes & LOG_APPEND_TIME != 0
    }

    /// Tells whether an idempotent producer sent the batch.
    #[must_use]
    pub const fn has_producer_id(&self) -> bool {
        self.producer_id >= 0
    }

    /// Sequence of the last record; sequences wrap from `i32::MAX` to 0.
    #[must_use]
    pub fn last_sequence(&self) -> i32 {
        add_sequence(self.base_sequence, self.last_offset_delta)
    }
}

/// Adds to a sequence number with Kafka's wrap from `i32::MAX` to 0.
#[must_use]
pub fn add_sequence(sequence: i32, increment: i32) -> i32 {
    let sum = i64::from(sequence) + i64::from(increment);
    let wrapped = if sum > i64::from(i32::MAX) { sum - i64::from(i32::MAX) - 1 } else { sum };
    i32::try_from(wrapped).unwrap_or(0)
}

/// Checks that `batch` is whole and its CRC right.
///
/// # Errors
/// [`BatchError::Truncated`] or [`BatchError::CrcMismatch`].
pub fn verify_crc(header: &BatchHeader, batch: &[u8]) -> Result<(), BatchError> {
    let needed = header.total_bytes();
    let Some(covered) = batch.get(CRC_FROM..needed) else {
        return Err(BatchError::Truncated { available: batch.len(), needed });
    };
    let computed = crc32c::crc32c(covered);
    if computed == header.crc {
        Ok(())
    } else {
        Err(BatchError::CrcMismatch { stored: header.crc, computed })
    }
}

/// Computes and writes the CRC of a whole batch.
pub(super) fn seal(batch: &mut [u8]) {
    let crc = batch.get(CRC_FROM..).map_or(0, crc32c::crc32c);
    if let Some(slot) = batch.get_mut(CRC_AT..CRC_AT + 4) {
        slot.copy_from_slice(&crc.to_be_bytes());
    }
}

/// Returns the first 16 bytes of a batch as they are stored: the broker's own fields, which the
/// CRC does not cover, with `batch_length` between them.
#[must_use]
pub fn stored_prefix(header: &BatchHeader, base_offset: Offset, leader_epoch: i32) -> [u8; 16] {
    let mut prefix = [0; 16];
    let (offset, rest) = prefix.split_at_mut(8);
    let (length, epoch) = rest.split_at_mut(4);
    offset.copy_from_slice(&base_offset.to_be_bytes());
    length.copy_from_slice(&header.batch_length.to_be_bytes());
    epoch.copy_from_slice(&leader_epoch.to_be_bytes());
    prefix
}

/// Makes a batch part of a producer's transaction and renews the CRC.
pub fn stamp_transaction(batch: &mut [u8], stamp: super::ProducerStamp) {
    if let Some(low) = batch.get_mut(ATTRIBUTES_AT + 1) {
        *low |= TRANSACTIONAL as u8;
    }
    stamp_producer(batch, stamp);
}

/// Makes a batch one of an idempotent producer and renews the CRC.
pub fn stamp_producer(batch: &mut [u8], stamp: super::ProducerStamp) {
    let mut put = |at: usize, bytes: &[u8]| {
        if let Some(slot) = batch.get_mut(at..at + bytes.len()) {
            slot.copy_from_slice(bytes);
        }
    };
    put(43, &stamp.id.to_be_bytes());
    put(51, &stamp.epoch.to_be_bytes());
    put(53, &stamp.base_sequence.to_be_bytes());
    seal(batch);
}

/// Rewrites a batch to `LogAppendTime`: sets the bit and the largest timestamp, renews the CRC.
pub fn stamp_append_time(batch: &mut [u8], now: TimestampMs) {
    if let Some(low) = batch.get_mut(ATTRIBUTES_AT + 1) {
        *low |= LOG_APPEND_TIME as u8;
    }
    if let Some(slot) = batch.get_mut(35..43) {
        slot.copy_from_slice(&now.to_be_bytes());
    }
    seal(batch);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_wrap_to_zero() {
        assert_eq!(add_sequence(i32::MAX, 1), 0);
        assert_eq!(add_sequence(i32::MAX - 1, 1), i32::MAX);
        assert_eq!(add_sequence(i32::MAX, 5), 4);
    }

    #[test]
    fn short_or_old_bytes_are_refused() {
        assert!(matches!(BatchHeader::parse(&[0; 60]), Err(BatchError::Truncated { .. })));
        assert_eq!(BatchHeader::parse(&[0; 61]), Err(BatchError::UnsupportedMagic(0)));
        let mut bytes = [0; 61];
        bytes[16] = 2;
        assert_eq!(BatchHeader::parse(&bytes), Err(BatchError::BadLength(0)));
    }
}
