//! Keys and values of `__consumer_offsets`, in Kafka's own layout, so that Kafka's tools read it.
//!
//! | record | key | value |
//! |---|---|---|
//! | offset | int16 0 or 1, group, topic, int32 partition | v0 to v3, v3 written |
//! | group  | int16 2, group | v0 to v3, v3 written |
//!
//! A text is an int16 length and UTF-8; nullable texts use length -1; bytes have an int32 length.
//! Decoders take any bytes: they never panic and allocate no more than the input justifies.

use bytes::{BufMut, Bytes, BytesMut};

use crate::base::ids::{GroupId, InvalidTopicName, MemberId, TopicName, TopicPartition};

use super::{CommittedOffset, GroupSnapshot, MemberSnapshot};

const OFFSET_KEY_VERSION: i16 = 1;
const GROUP_KEY_VERSION: i16 = 2;
/// The newest version of both kinds of value without flexible (tagged) fields.
const VALUE_VERSION: i16 = 3;

/// Why bytes are not a record, or a value cannot be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The bytes end within a field.
    #[error("record ends within a field")]
    Truncated,
    /// Bytes follow the last field.
    #[error("record has {0} bytes after its last field")]
    TrailingBytes(usize),
    /// The key is of a kind that is not known.
    #[error("record key has unknown version {0}")]
    UnknownKeyVersion(i16),
    /// The value has a layout that is not known.
    #[error("record value has unknown version {0}")]
    UnknownValueVersion(i16),
    /// A length is negative where null is not allowed.
    #[error("record has a field of length {0}")]
    InvalidLength(i32),
    /// A text is not UTF-8.
    #[error("record has a text that is not utf-8")]
    InvalidText,
    /// The topic has no legal name.
    #[error("record has an invalid topic: {0}")]
    InvalidTopic(#[from] InvalidTopicName),
    /// A text or list is too long for its length field.
    #[error("field of length {0} is too long for a record")]
    TooLong(usize),
}

/// A decoded key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RecordKey {
    /// The record holds a committed offset.
    Offset {
        /// The group that committed.
        group: GroupId,
        /// The partition it read.
        partition: TopicPartition,
    },
    /// The record holds the state of a group.
    Group(GroupId),
}

/// Encodes the key of a committed offset.
///
/// # Errors
/// [`RecordError::TooLong`] if the group's id does not fit.
pub fn encode_offset_key(
    group: &GroupId,
    partition: &TopicPartition,
) -> Result<Bytes, RecordError> {
    let mut out = BytesMut::new();
    out.put_i16(OFFSET_KEY_VERSION);
    put_text(&mut out, group.as_str())?;
    put_text(&mut out, partition.topic.as_str())?;
    out.put_i32(partition.partition);
    Ok(out.freeze())
}

/// Encodes the key of a group's state.
///
/// # Errors
/// [`RecordError::TooLong`] if the group's id does not fit.
pub fn encode_group_key(group: &GroupId) -> Result<Bytes, RecordError> {
    let mut out = BytesMut::new();
    out.put_i16(GROUP_KEY_VERSION);
    put_text(&mut out, group.as_str())?;
    Ok(out.freeze())
}

/// Encodes the value of a committed offset.
///
/// # Errors
/// [`RecordError::TooLong`] if the metadata does not fit.
pub fn encode_offset_value(committed: &CommittedOffset) -> Result<Bytes, RecordError> {
    let mut out = BytesMut::new();
    out.put_i16(VALUE_VERSION);
    out.put_i64(committed.offset);
    out.put_i32(committed.leader_epoch);
    put_text(&mut out, &committed.metadata)?;
    out.put_i64(committed.commit_timestamp);
    Ok(out.freeze())
}

/// Encodes the value of a group's state.
///
/// # Errors
/// [`RecordError::TooLong`] if a text does not fit; [`super::Group`] admits no such text.
pub fn encode_group_value(snapshot: &GroupSnapshot) -> Result<Bytes, RecordError> {
    let mut out = BytesMut::new();
    out.put_i16(VALUE_VERSION);
    put_text(&mut out, &snapshot.protocol_type)?;
    out.put_i32(snapshot.generation_id);
    put_nullable_text(&mut out, snapshot.protocol_name.as_deref())?;
    put_nullable_text(&mut out, snapshot.leader.as_ref().map(MemberId::as_str))?;
    out.put_i64(snapshot.state_timestamp);
    put_length(&mut out, snapshot.members.len())?;
    for member in &snapshot.members {
        put_text(&mut out, member.member_id.as_str())?;
        put_nullable_text(&mut out, member.group_instance_id.as_deref())?;
        put_text(&mut out, &member.client_id)?;
        put_text(&mut out, &member.client_host)?;
        out.put_i32(member.rebalance_timeout_ms);
        out.put_i32(member.session_timeout_ms);
        put_bytes(&mut out, &member.subscription)?;
        put_bytes(&mut out, &member.assignment)?;
    }
    Ok(out.freeze())
}

/// Decodes a key.
///
/// # Errors
/// [`RecordError`] if the bytes are not a key of a known version.
pub fn decode_key(bytes: &[u8]) -> Result<RecordKey, RecordError> {
    let mut reader = Reader { rest: bytes };
    let key = match reader.i16()? {
        0 | OFFSET_KEY_VERSION => {
            let group = GroupId::from(reader.text()?);
            let topic = TopicName::parse(reader.text()?)?;
            let partition = TopicPartition::new(topic, reader.i32()?);
            RecordKey::Offset { group, partition }
        }
        GROUP_KEY_VERSION => RecordKey::Group(GroupId::from(reader.text()?)),
        version => return Err(RecordError::UnknownKeyVersion(version)),
    };
    reader.finish(key)
}

/// Decodes the value of a committed offset.
///
/// # Errors
/// [`RecordError`] if the bytes are not such a value of a known version.
pub fn decode_offset_value(bytes: &[u8]) -> Result<CommittedOffset, RecordError> {
    let mut reader = Reader { rest: bytes };
    let version = reader.value_version()?;
    let offset = reader.i64()?;
    let leader_epoch = if version >= 3 { reader.i32()? } else { -1 };
    let metadata = reader.text()?.to_owned();
    let commit_timestamp = reader.i64()?;
    if version == 1 {
        // The expiry that a client chose; later versions expire by retention alone.
        reader.i64()?;
    }
    reader.finish(CommittedOffset { offset, leader_epoch, metadata, commit_timestamp })
}

/// Decodes the value of a group's state.
///
/// # Errors
/// [`RecordError`] if the bytes are not such a value of a known version.
pub fn decode_group_value(bytes: &[u8]) -> Result<GroupSnapshot, RecordError> {
    let mut reader = Reader { rest: bytes };
    let version = reader.value_version()?;
    let protocol_type = reader.text()?.to_owned();
    let generation_id = reader.i32()?;
    let protocol_name = reader.nullable_text()?.map(str::to_owned);
    let leader = reader.nullable_text()?.map(MemberId::from);
    let state_timestamp = if version >= 2 { reader.i64()? } else { -1 };
    let mut members = Vec::new();
    // The count is not trusted with an allocation; each member takes bytes of the input.
    for _ in 0..reader.length()? {
        members.push(decode_member(&mut reader, version)?);
    }
    reader.finish(GroupSnapshot {
        protocol_type,
        generation_id,
        protocol_name,
        leader,
        state_timestamp,
        members,
    })
}

fn decode_member(reader: &mut Reader<'_>, version: i16) -> Result<MemberSnapshot, RecordError> {
    let member_id = MemberId::from(reader.text()?);
    let instance = if version >= 3 { reader.nullable_text()? } else { None };
    let client_id = reader.text()?.to_owned();
    let client_host = reader.text()?.to_owned();
    let rebalance_timeout_ms = if version >= 1 { Some(reader.i32()?) } else { None };
    let session_timeout_ms = reader.i32()?;
    Ok(MemberSnapshot {
        member_id,
        group_instance_id: instance.map(str::to_owned),
        client_id,
        client_host,
        rebalance_timeout_ms: rebalance_timeout_ms.unwrap_or(session_timeout_ms),
        session_timeout_ms,
        subscription: reader.bytes()?,
        assignment: reader.bytes()?,
    })
}

fn put_text(out: &mut BytesMut, text: &str) -> Result<(), RecordError> {
    let length = i16::try_from(text.len()).map_err(|_| RecordError::TooLong(text.len()))?;
    out.put_i16(length);
    out.put_slice(text.as_bytes());
    Ok(())
}

fn put_nullable_text(out: &mut BytesMut, text: Option<&str>) -> Result<(), RecordError> {
    if let Some(text) = text {
        return put_text(out, text);
    }
    out.put_i16(-1);
    Ok(())
}

fn put_length(out: &mut BytesMut, length: usize) -> Result<(), RecordError> {
    out.put_i32(i32::try_from(length).map_err(|_| RecordError::TooLong(length))?);
    Ok(())
}

fn put_bytes(out: &mut BytesMut, bytes: &[u8]) -> Result<(), RecordError> {
    put_length(out, bytes.len())?;
    out.put_slice(bytes);
    Ok(())
}

/// Reads fields from the front of a slice.
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], RecordError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(RecordError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], RecordError> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(RecordError::Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }

    fn i16(&mut self) -> Result<i16, RecordError> {
        self.array().map(i16::from_be_bytes)
    }

    fn i32(&mut self) -> Result<i32, RecordError> {
        self.array().map(i32::from_be_bytes)
    }

    fn i64(&mut self) -> Result<i64, RecordError> {
        self.array().map(i64::from_be_bytes)
    }

    fn length(&mut self) -> Result<usize, RecordError> {
        let length = self.i32()?;
        usize::try_from(length).map_err(|_| RecordError::InvalidLength(length))
    }

    fn value_version(&mut self) -> Result<i16, RecordError> {
        let version = self.i16()?;
        if (0..=VALUE_VERSION).contains(&version) {
            return Ok(version);
        }
        Err(RecordError::UnknownValueVersion(version))
    }

    fn nullable_text(&mut self) -> Result<Option<&'a str>, RecordError> {
        let length = self.i16()?;
        if length == -1 {
            return Ok(None);
        }
        let invalid = RecordError::InvalidLength(i32::from(length));
        let bytes = self.take(usize::try_from(length).map_err(|_| invalid)?)?;
        std::str::from_utf8(bytes).map(Some).map_err(|_| RecordError::InvalidText)
    }

    fn text(&mut self) -> Result<&'a str, RecordError> {
        self.nullable_text()?.ok_or(RecordError::InvalidLength(-1))
    }

    /// Copies the bytes: a slice would keep the whole batch of the log in memory.
    fn bytes(&mut self) -> Result<Bytes, RecordError> {
        let length = self.length()?;
        self.take(length).map(Bytes::copy_from_slice)
    }

    fn finish<T>(self, value: T) -> Result<T, RecordError> {
        if self.rest.is_empty() {
            Ok(value)
        } else {
            Err(RecordError::TrailingBytes(self.rest.len()))
        }
    }
}

#[cfg(test)]
mod tests;
