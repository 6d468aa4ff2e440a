//! Keys and values of the store. All integers are big-endian, so keys sort by offset.
//!
//! | prefix | key | value |
//! |---|---|---|
//! | 0x00 | text | format version, history of migrations ([`super::migrate`]) |
//! | 0x01 | partition, base offset | catalogue row of a segment |
//! | 0x02 | partition, base offset, number of first entry | index entries |
//! | 0x03 | partition | producer table |
//! | 0x04 | partition | log start offset |
//! | 0x10 | state topic, record key | record value |
//! | 0x11 | state topic | offset up to which the topic is applied |
//!
//! `partition` is 16 bytes of topic id and 4 of partition number. Numbers are never reused.

use crate::base::ids::Offset;
use crate::log::checkpoint::SegmentRow;

/// Prefix of format and migrations.
pub(super) const META: u8 = 0x00;
/// Prefix of segment rows.
pub(super) const SEGMENT: u8 = 0x01;
const INDEX: u8 = 0x02;
const PRODUCERS: u8 = 0x03;
const LOG_START: u8 = 0x04;
const STATE: u8 = 0x10;
const APPLIED: u8 = 0x11;

/// One partition, as keys name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PartitionKey {
    /// The topic's id.
    pub topic: u128,
    /// The partition.
    pub partition: i32,
}

fn partition_key(kind: u8, partition: PartitionKey) -> Vec<u8> {
    let mut key = Vec::with_capacity(33);
    key.push(kind);
    key.extend_from_slice(&partition.topic.to_be_bytes());
    key.extend_from_slice(&partition.partition.to_be_bytes());
    key
}

pub(super) fn segment_prefix(partition: PartitionKey) -> Vec<u8> {
    partition_key(SEGMENT, partition)
}

pub(super) fn segment(partition: PartitionKey, base_offset: Offset) -> Vec<u8> {
    let mut key = segment_prefix(partition);
    key.extend_from_slice(&base_offset.to_be_bytes());
    key
}

pub(super) fn segment_base(key: &[u8]) -> Option<Offset> {
    key.last_chunk::<8>().map(|bytes| i64::from_be_bytes(*bytes))
}

pub(super) fn index_prefix(partition: PartitionKey, base_offset: Offset) -> Vec<u8> {
    let mut key = partition_key(INDEX, partition);
    key.extend_from_slice(&base_offset.to_be_bytes());
    key
}

pub(super) fn index_chunk(partition: PartitionKey, base: Offset, first_entry: u32) -> Vec<u8> {
    let mut key = index_prefix(partition, base);
    key.extend_from_slice(&first_entry.to_be_bytes());
    key
}

pub(super) fn producers(partition: PartitionKey) -> Vec<u8> {
    partition_key(PRODUCERS, partition)
}

pub(super) fn log_start(partition: PartitionKey) -> Vec<u8> {
    partition_key(LOG_START, partition)
}

pub(super) fn partition_prefixes(partition: PartitionKey) -> [Vec<u8>; 4] {
    [SEGMENT, INDEX, PRODUCERS, LOG_START].map(|kind| partition_key(kind, partition))
}

pub(super) const fn state_prefix(topic: u8) -> [u8; 2] {
    [STATE, topic]
}

pub(super) fn state(topic: u8, record_key: &[u8]) -> Vec<u8> {
    let mut key = state_prefix(topic).to_vec();
    key.extend_from_slice(record_key);
    key
}

pub(super) const fn applied(topic: u8) -> [u8; 2] {
    [APPLIED, topic]
}

pub(super) const fn encode_offset(offset: Offset) -> [u8; 8] {
    offset.to_be_bytes()
}

pub(super) fn decode_offset(bytes: &[u8]) -> Option<Offset> {
    bytes.try_into().ok().map(i64::from_be_bytes)
}

pub(super) fn encode_segment(row: &SegmentRow) -> Vec<u8> {
    let mut value = Vec::with_capacity(21);
    value.extend_from_slice(&row.position.to_be_bytes());
    value.extend_from_slice(&row.next_offset.to_be_bytes());
    value.extend_from_slice(&row.max_timestamp.to_be_bytes());
    value.push(u8::from(row.sealed));
    value
}

/// Decodes a catalogue row; none when it is damaged, which makes the segment be scanned.
pub(super) fn decode_segment(base_offset: Offset, value: &[u8]) -> Option<SegmentRow> {
    let (position, rest) = value.split_first_chunk::<4>()?;
    let (next_offset, rest) = rest.split_first_chunk::<8>()?;
    let (max_timestamp, rest) = rest.split_first_chunk::<8>()?;
    let [sealed] = rest else { return None };
    Some(SegmentRow {
        base_offset,
        position: u32::from_be_bytes(*position),
        next_offset: i64::from_be_bytes(*next_offset),
        max_timestamp: i64::from_be_bytes(*max_timestamp),
        sealed: *sealed == 1,
    })
}
