//! The cursor: the id of every event, from which a stream continues exactly.
//!
//! Text: `1.` and unpadded base64url of: version, flags, 4 bytes that stand for the cluster,
//! the remaining `limit` and `max_bytes` if there are any, then for each topic its incarnation, the number of its
//! partitions, and for each partition the difference to the one before and the *next* offset to
//! deliver. Numbers are LEB128. The last 2 bytes are those of the CRC-32C of the rest, which catch
//! what copying by hand damages. Clients do not look inside; old cursors are read for ever.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::base::ids::{Offset, PartitionId};
use crate::base::limits::CURSOR_BYTES_MAX;
use crate::engine::log::Isolation;

const PREFIX: &str = "1.";
const VERSION: u8 = 1;
const FLAG_DONE: u8 = 1;
const FLAG_LIMIT: u8 = 1 << 1;
const FLAG_COMMITTED: u8 = 1 << 2;
const FLAG_BYTES: u8 = 1 << 3;
const FLAGS: u8 = FLAG_DONE | FLAG_LIMIT | FLAG_COMMITTED | FLAG_BYTES;
const CRC_BYTES: usize = 2;

/// Bytes that a next offset is counted with when a stream opens: 5 hold 34 billion records, so a
/// cursor does not outgrow its bound while offsets grow.
const OFFSET_BYTES_RESERVED: usize = 5;

/// Four bytes that tell clusters apart.
pub(in crate::http) type ClusterTag = [u8; 4];

/// Makes the tag of a cluster.
pub(in crate::http) fn cluster_tag(cluster_id: &str) -> ClusterTag {
    crc32c::crc32c(cluster_id.as_bytes()).to_be_bytes()
}

/// What a stream may still deliver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::http) struct Budget {
    /// Records, if that is bounded.
    pub(in crate::http) records: Option<u64>,
    /// Bytes of events, if that is bounded; the record that reaches it is the last.
    pub(in crate::http) bytes: Option<u64>,
}

impl Budget {
    /// Tells whether nothing may follow.
    pub(in crate::http) fn is_spent(self) -> bool {
        self.records == Some(0) || self.bytes == Some(0)
    }

    /// Tells whether there is none.
    pub(in crate::http) const fn is_unlimited(self) -> bool {
        self.records.is_none() && self.bytes.is_none()
    }

    /// What is left after one record of so many bytes.
    pub(in crate::http) fn after(self, bytes: usize) -> Self {
        Self {
            records: self.records.map(|left| left.saturating_sub(1)),
            bytes: self.bytes.map(|left| left.saturating_sub(bytes as u64)),
        }
    }
}

/// What a cursor says besides positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::http) struct Head {
    /// The stream reached its bound: there is nothing to continue.
    pub(in crate::http) is_done: bool,
    /// The cluster that the positions belong to.
    pub(in crate::http) cluster: ClusterTag,
    /// What the stream may still deliver.
    pub(in crate::http) budget: Budget,
    /// Which records the stream shows.
    pub(in crate::http) isolation: Isolation,
}

/// The next offset of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) struct Position {
    /// The topic, by the number of its creation.
    pub(in crate::http) incarnation: u64,
    /// The partition.
    pub(in crate::http) partition: PartitionId,
    /// The next offset to deliver.
    pub(in crate::http) next: Offset,
}

/// A cursor that was read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in crate::http) struct Cursor {
    pub(in crate::http) head: Head,
    pub(in crate::http) positions: Vec<Position>,
}

/// Why a text is not a cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(in crate::http) enum CursorError {
    #[error("it is longer than {CURSOR_BYTES_MAX} bytes")]
    TooLong,
    #[error("it does not begin with '{PREFIX}'")]
    UnknownForm,
    #[error("it is not base64url")]
    NotBase64,
    #[error("it is damaged")]
    Damaged,
    #[error("it is of version {0}, which this server does not know")]
    UnknownVersion(u8),
}

/// Appends a cursor. Positions of one topic must follow each other, in order of partition.
///
/// `scratch` is room that a caller with many cursors to write keeps.
pub(in crate::http) fn write_into(
    head: Head,
    positions: impl Iterator<Item = Position> + Clone,
    scratch: &mut Vec<u8>,
    out: &mut Vec<u8>,
) {
    scratch.clear();
    document_into(head, positions, scratch);
    out.extend_from_slice(PREFIX.as_bytes());
    let from = out.len();
    out.resize(from + scratch.len().div_ceil(3) * 4, 0);
    let room = out.get_mut(from..).unwrap_or_default();
    let written = URL_SAFE_NO_PAD.encode_slice(&*scratch, room).unwrap_or(0);
    out.truncate(from + written);
}

/// Writes what a cursor says without making it a text: a server keeps it so.
pub(in crate::http) fn document(
    head: Head,
    positions: impl Iterator<Item = Position> + Clone,
) -> Vec<u8> {
    let mut out = Vec::new();
    document_into(head, positions, &mut out);
    out
}

fn document_into(
    head: Head,
    positions: impl Iterator<Item = Position> + Clone,
    scratch: &mut Vec<u8>,
) {
    scratch.push(VERSION);
    scratch.push(flags(head));
    scratch.extend_from_slice(&head.cluster);
    for left in [head.budget.records, head.budget.bytes].into_iter().flatten() {
        put_varint(left, scratch);
    }
    let mut rest = positions.peekable();
    while let Some(first) = rest.peek().copied() {
        let is_same = |position: &Position| position.incarnation == first.incarnation;
        let count = rest.clone().take_while(is_same).count();
        put_varint(first.incarnation, scratch);
        put_varint(count as u64, scratch);
        let mut previous = 0;
        while let Some(position) = rest.next_if(is_same) {
            put_varint(unsigned(i64::from(position.partition - previous)), scratch);
            put_varint(unsigned(position.next), scratch);
            previous = position.partition;
        }
    }
    let crc = check(scratch);
    scratch.extend_from_slice(&crc);
}

fn flags(head: Head) -> u8 {
    let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
    flag(head.is_done, FLAG_DONE)
        | flag(head.budget.records.is_some(), FLAG_LIMIT)
        | flag(head.budget.bytes.is_some(), FLAG_BYTES)
        | flag(head.isolation == Isolation::ReadCommitted, FLAG_COMMITTED)
}

/// Writes a cursor as text of its own.
pub(in crate::http) fn to_bytes(
    head: Head,
    positions: impl Iterator<Item = Position> + Clone,
) -> Vec<u8> {
    let (mut scratch, mut out) = (Vec::new(), Vec::new());
    write_into(head, positions, &mut scratch, &mut out);
    out
}

/// Bytes that the cursor of a stream may come to, as text.
pub(in crate::http) fn bytes_max(positions: impl Iterator<Item = Position>) -> usize {
    // Version, flags, cluster, limit, bytes and CRC.
    let mut raw = 2 + 4 + 10 + 10 + CRC_BYTES;
    let mut topic = None;
    for position in positions {
        if topic.replace(position.incarnation) != Some(position.incarnation) {
            // Incarnation and count.
            raw += varint_bytes(position.incarnation) + 2;
        }
        raw += 2 + varint_bytes(unsigned(position.next)).max(OFFSET_BYTES_RESERVED);
    }
    PREFIX.len() + raw.div_ceil(3) * 4
}

/// Reads a cursor.
///
/// # Errors
/// [`CursorError`] for every text that [`write_into`] did not write.
pub(in crate::http) fn read(text: &str) -> Result<Cursor, CursorError> {
    if text.len() > CURSOR_BYTES_MAX {
        return Err(CursorError::TooLong);
    }
    let encoded = text.strip_prefix(PREFIX).ok_or(CursorError::UnknownForm)?;
    read_document(&URL_SAFE_NO_PAD.decode(encoded).map_err(|_| CursorError::NotBase64)?)
}

/// Reads what [`document`] wrote.
///
/// # Errors
/// [`CursorError`] for everything else.
pub(in crate::http) fn read_document(raw: &[u8]) -> Result<Cursor, CursorError> {
    let body_bytes = raw.len().checked_sub(CRC_BYTES).ok_or(CursorError::Damaged)?;
    let (body, crc) = raw.split_at(body_bytes);
    if crc != check(body) {
        return Err(CursorError::Damaged);
    }
    match body.split_first() {
        Some((&VERSION, rest)) => read_body(rest).ok_or(CursorError::Damaged),
        Some((&other, _)) => Err(CursorError::UnknownVersion(other)),
        None => Err(CursorError::Damaged),
    }
}

fn read_body(body: &[u8]) -> Option<Cursor> {
    let (&flags, body) = body.split_first()?;
    if flags & !FLAGS != 0 {
        return None;
    }
    let (&cluster, mut rest) = body.split_first_chunk::<4>()?;
    let mut number = |flag: u8| {
        if flags & flag == 0 { Some(None) } else { take_varint(&mut rest).map(Some) }
    };
    let budget = Budget { records: number(FLAG_LIMIT)?, bytes: number(FLAG_BYTES)? };
    let isolation = match flags & FLAG_COMMITTED {
        0 => Isolation::ReadUncommitted,
        _ => Isolation::ReadCommitted,
    };
    let head = Head { is_done: flags & FLAG_DONE != 0, cluster, budget, isolation };
    let mut positions = Vec::new();
    while !rest.is_empty() {
        let incarnation = take_varint(&mut rest)?;
        let count = take_varint(&mut rest)?;
        let mut previous: Option<PartitionId> = None;
        // The count is not trusted for an allocation: each partition must be there in bytes.
        for _ in 0..count {
            let delta = PartitionId::try_from(take_varint(&mut rest)?).ok()?;
            if delta == 0 && previous.is_some() {
                return None;
            }
            let partition = previous.unwrap_or(0).checked_add(delta)?;
            let next = Offset::try_from(take_varint(&mut rest)?).ok()?;
            positions.push(Position { incarnation, partition, next });
            previous = Some(partition);
        }
    }
    Some(Cursor { head, positions })
}

fn check(body: &[u8]) -> [u8; CRC_BYTES] {
    let [_, _, low @ ..] = crc32c::crc32c(body).to_be_bytes();
    low
}

fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn varint_bytes(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

fn take_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for at in 0..10 {
        let (&byte, after) = rest.split_first()?;
        *rest = after;
        let bits = u64::from(byte & 0x7f);
        if at == 9 && bits > 1 {
            return None;
        }
        value |= bits << (7 * at);
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(cursor: &Cursor) -> String {
        String::from_utf8(to_bytes(cursor.head, cursor.positions.iter().copied())).unwrap()
    }

    fn at(incarnation: u64, partition: PartitionId, next: Offset) -> Position {
        Position { incarnation, partition, next }
    }

    #[test]
    fn the_text_is_stable() {
        let head = Head { cluster: [1, 2, 3, 4], ..Head::default() };
        let cursor = Cursor { head, positions: vec![at(7, 0, 254), at(7, 1, 600)] };
        assert_eq!(text(&cursor), "1.AQABAgMEBwIA_gEB2ATrXw");
        let budget = Budget { records: Some(5), bytes: None };
        let head = Head { is_done: true, budget, ..head };
        let cursor = Cursor { head, ..cursor };
        assert_eq!(text(&cursor), "1.AQMBAgMEBQcCAP4BAdgEtRY");
    }

    #[test]
    fn what_is_not_a_cursor_is_named() {
        assert_eq!(read(""), Err(CursorError::UnknownForm));
        assert_eq!(read("2.abc"), Err(CursorError::UnknownForm));
        assert_eq!(read("1.+/"), Err(CursorError::NotBase64));
        assert_eq!(read("1."), Err(CursorError::Damaged));
        assert_eq!(read(&"1".repeat(CURSOR_BYTES_MAX + 1)), Err(CursorError::TooLong));
        let mut other = vec![9, 0];
        other.extend(check(&other));
        let other = format!("1.{}", URL_SAFE_NO_PAD.encode(other));
        assert_eq!(read(&other), Err(CursorError::UnknownVersion(9)));
    }

    #[test]
    fn a_changed_character_is_noticed() {
        // One cursor, not any: 2 bytes of CRC cannot catch every change of every cursor.
        let text = "1.AQMBAgMEBQcCAP4BAdgEtRY";
        for at in 0..text.len() {
            let mut changed = text.as_bytes().to_vec();
            changed[at] = if changed[at] == b'B' { b'C' } else { b'B' };
            assert!(read(std::str::from_utf8(&changed).unwrap()).is_err(), "{at}");
        }
    }

    fn cursors() -> impl Strategy<Value = Cursor> {
        let offset = prop_oneof![0..300_i64, 0..=i64::MAX];
        let partitions = prop::collection::btree_map(0..=i32::MAX, offset, 1..20);
        let topics = prop::collection::btree_map(any::<u64>(), partitions, 0..4);
        let budget = prop::array::uniform2(prop::option::of(any::<u64>()));
        let head = (any::<bool>(), any::<[u8; 4]>(), budget, any::<bool>());
        let isolation = |is_committed| match is_committed {
            true => Isolation::ReadCommitted,
            false => Isolation::ReadUncommitted,
        };
        (head, topics).prop_map(move |((is_done, cluster, [records, bytes], committed), topics)| {
            Cursor {
                head: Head {
                    is_done,
                    cluster,
                    budget: Budget { records, bytes },
                    isolation: isolation(committed),
                },
                positions: topics
                    .into_iter()
                    .flat_map(|(i, parts)| parts.into_iter().map(move |(p, next)| at(i, p, next)))
                    .collect(),
            }
        })
    }

    proptest! {
        #[test]
        fn cursors_round_trip(cursor in cursors()) {
            let text = text(&cursor);
            prop_assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)));
            prop_assert_eq!(read(&text), Ok(cursor));
        }

        #[test]
        fn arbitrary_text_never_panics(
            text in ".{0,80}",
            raw in prop::collection::vec(any::<u8>(), 0..60),
        ) {
            let _ = read(&text);
            let _ = read(&format!("1.{text}"));
            let mut body = vec![VERSION];
            body.extend(raw);
            body.extend(check(&body));
            let _ = read(&format!("1.{}", URL_SAFE_NO_PAD.encode(body)));
        }

        #[test]
        fn the_bound_holds(cursor in cursors()) {
            prop_assume!(cursor.positions.iter().all(|p| p.partition < 10_000));
            let one: Vec<_> = cursor.positions.iter().map(|p| at(1, p.partition, p.next)).collect();
            let bytes = to_bytes(cursor.head, one.iter().copied()).len();
            prop_assert!(bytes <= bytes_max(one.into_iter()));
        }
    }
}
