//! The one check of a client's batch before it is appended (KIP-98, `LogValidator`).

use bytes::Bytes;

use super::header::verify_crc;
use super::{BatchError, BatchHeader, BatchRecords};

/// Whether every record must have a key, as on a compacted topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyRule {
    /// Records may have no key.
    Optional,
    /// Records without a key are refused, because compaction could not treat them.
    Required,
}

/// Checks that `bytes` is exactly one batch that a client may append, and every record in it.
///
/// # Errors
/// [`BatchError`] names the first thing that is wrong.
pub fn validate_client_batch(bytes: &Bytes, keys: KeyRule) -> Result<BatchHeader, BatchError> {
    let header = BatchHeader::parse(bytes)?;
    let total = header.total_bytes();
    if bytes.len() > total {
        return Err(BatchError::TrailingBytes(bytes.len() - total));
    }
    verify_crc(&header, bytes)?;
    check_header(&header)?;
    let records = BatchRecords::open(header, bytes)?;
    check_records(&records, keys)?;
    Ok(header)
}

fn check_header(header: &BatchHeader) -> Result<(), BatchError> {
    if header.record_count <= 0 {
        return Err(BatchError::Empty);
    }
    if header.last_offset_delta.checked_add(1) != Some(header.record_count) {
        return Err(BatchError::BadHeader("last offset delta and record count disagree"));
    }
    if header.is_control() {
        return Err(BatchError::BadHeader("a client may not write control batches"));
    }
    if header.has_producer_id() && (header.base_sequence < 0 || header.producer_epoch < 0) {
        return Err(BatchError::BadHeader("a producer id needs a sequence and an epoch"));
    }
    Ok(())
}

fn check_records(records: &BatchRecords, keys: KeyRule) -> Result<(), BatchError> {
    let base_offset = records.header().base_offset;
    let mut iter = records.iter();
    let mut index = 0_i32;
    for record in iter.by_ref() {
        let record = record?;
        if record.offset.wrapping_sub(base_offset) != i64::from(index) {
            return Err(BatchError::BadRecord { index, reason: "offset delta is out of order" });
        }
        if keys == KeyRule::Required && record.key.is_none() {
            let reason = "a compacted topic needs a key";
            return Err(BatchError::BadRecord { index, reason });
        }
        index += 1;
    }
    if iter.remaining_bytes() > 0 {
        return Err(BatchError::BadRecord { index, reason: "bytes follow the last record" });
    }
    Ok(())
}
