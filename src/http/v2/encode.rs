//! Records as JSON, straight from the bytes of their batch.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::base::ids::{Offset, PartitionId, TopicName};
use crate::base::json;
use crate::consumers::{Format, OnDecodeError};
use crate::protocol::record_batch::Record;

/// A key or value that is not in the format of its reader.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{part} of the record at offset {offset} of partition {topic}-{partition} is not {format}")]
pub struct Undecodable {
    /// `key` or `value`.
    pub part: &'static str,
    /// Topic of the record.
    pub topic: String,
    /// Partition of the record.
    pub partition: PartitionId,
    /// Offset of the record.
    pub offset: Offset,
    /// The format of the reader.
    pub format: &'static str,
}

/// What became of an array of records.
#[derive(Debug, PartialEq, Eq)]
pub struct Encoded {
    /// Records that are in the array.
    pub count: usize,
    /// The record at which it ends too early.
    pub stopped: Option<Undecodable>,
}

/// Appends the array of a v2 poll. A record that is not in the format ends the array, or is an
/// element that holds the error and the raw bytes.
pub fn array_into<'r>(
    records: impl Iterator<Item = (&'r TopicName, PartitionId, Record<'r>)>,
    format: Format,
    on_error: OnDecodeError,
    out: &mut Vec<u8>,
) -> Encoded {
    let mut encoded = Encoded { count: 0, stopped: None };
    out.push(b'[');
    for (topic, partition, record) in records {
        let from = out.len();
        if encoded.count > 0 {
            out.push(b',');
        }
        let start = out.len();
        if let Err(error) = record_into(topic, partition, &record, format, out) {
            if on_error == OnDecodeError::Fail {
                out.truncate(from);
                encoded.stopped = Some(error);
                break;
            }
            out.truncate(start);
            undecodable_into(&error, &record, out);
        }
        encoded.count += 1;
    }
    out.push(b']');
    encoded
}

/// Appends a record that is not in the format: neither key nor value, but both as base64.
fn undecodable_into(error: &Undecodable, record: &Record<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"topic\":\"");
    out.extend_from_slice(error.topic.as_bytes());
    out.extend_from_slice(b"\",\"key\":null,\"value\":null,\"partition\":");
    place_into(error.partition, record, out);
    out.extend_from_slice(b",\"error\":");
    json::string_into(&error.to_string(), out);
    out.extend_from_slice(b",\"raw\":{\"key\":");
    raw_into(record.key, out);
    out.extend_from_slice(b",\"value\":");
    raw_into(record.value, out);
    out.extend_from_slice(b"}}");
}

/// Appends the number of the partition and all that follows it in every record.
fn place_into(partition: PartitionId, record: &Record<'_>, out: &mut Vec<u8>) {
    json::integer_into(partition, out);
    out.extend_from_slice(b",\"offset\":");
    json::integer_into(record.offset, out);
    out.extend_from_slice(b",\"timestamp\":");
    json::integer_into(record.timestamp, out);
    if record.header_count() > 0 {
        headers_into(record, out);
    }
}

fn raw_into(bytes: Option<&[u8]>, out: &mut Vec<u8>) {
    match bytes {
        None => out.extend_from_slice(b"null"),
        Some(bytes) => base64_into(bytes, out),
    }
}

/// Appends one record.
///
/// # Errors
/// [`Undecodable`]; `out` holds the beginning of the record then.
pub fn record_into(
    topic: &TopicName,
    partition: PartitionId,
    record: &Record<'_>,
    format: Format,
    out: &mut Vec<u8>,
) -> Result<(), Undecodable> {
    let undecodable = |part| Undecodable {
        part,
        topic: topic.to_string(),
        partition,
        offset: record.offset,
        format: format.as_str(),
    };
    out.extend_from_slice(b"{\"topic\":\"");
    // Topic names have no character that JSON escapes.
    out.extend_from_slice(topic.as_str().as_bytes());
    out.extend_from_slice(b"\",\"key\":");
    embed(record.key, format, out).ok_or_else(|| undecodable("key"))?;
    out.extend_from_slice(b",\"value\":");
    embed(record.value, format, out).ok_or_else(|| undecodable("value"))?;
    out.extend_from_slice(b",\"partition\":");
    place_into(partition, record, out);
    out.push(b'}');
    Ok(())
}

fn headers_into(record: &Record<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"headers\":[");
    for (at, (key, value)) in record.headers().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        out.extend_from_slice(b"{\"key\":");
        json::string_into(&String::from_utf8_lossy(key), out);
        out.extend_from_slice(b",\"value\":");
        raw_into(value, out);
        out.push(b'}');
    }
    out.push(b']');
}

fn embed(bytes: Option<&[u8]>, format: Format, out: &mut Vec<u8>) -> Option<()> {
    let Some(bytes) = bytes else {
        out.extend_from_slice(b"null");
        return Some(());
    };
    match format {
        Format::Binary => base64_into(bytes, out),
        Format::Text => json::string_into(std::str::from_utf8(bytes).ok()?, out),
        Format::Json => {
            if !json::is_valid(bytes) {
                return None;
            }
            json::minify_into(bytes, out);
        }
    }
    Some(())
}

fn base64_into(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    let start = out.len();
    let length = bytes.len().div_ceil(3) * 4;
    out.resize(start + length, 0);
    let target = out.get_mut(start..).unwrap_or_default();
    // The room is exactly what padded base64 needs.
    let _fits = STANDARD.encode_slice(bytes, target);
    out.push(b'"');
}
