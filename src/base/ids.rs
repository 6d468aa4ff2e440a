//! Identifiers and positions of the log, as types.
//!
//! Names arrive as text from two doors; a value of one of these types has been checked once and
//! is cheap to clone (`Arc<str>`), so it can be a map key and travel through channels.
//! Kafka's own limits apply to topic names (KIP-303, `Topic.validate`).

use std::fmt;
use std::sync::Arc;

/// A position in a partition: the number of a record, counted from 0 and never reused.
pub type Offset = i64;

/// The number of a partition within its topic, counted from 0.
pub type PartitionId = i32;

/// The epoch of a partition's leadership; constant 0 on one node (KIP-101).
pub type LeaderEpoch = i32;

/// Milliseconds since 1970-01-01T00:00:00Z.
pub type TimestampMs = i64;

/// The longest topic name that Kafka allows, in bytes (`Topic.MAX_NAME_LENGTH`).
pub const TOPIC_NAME_BYTES_MAX: usize = 249;

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Returns the identifier as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

text_id! {
    /// The name of a topic: 1 to 249 characters of `[a-zA-Z0-9._-]`, not `.` or `..`.
    TopicName
}
text_id! {
    /// The name of a consumer group; any text, the empty one included where Kafka allows it.
    GroupId
}
text_id! {
    /// The identity the coordinator gave to one member of a group.
    MemberId
}

/// Why a text is not a topic name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTopicName {
    /// The name has no character.
    #[error("topic name is empty")]
    Empty,
    /// The name is `.` or `..`, which would be a folder of the file system.
    #[error("topic name '{0}' is reserved")]
    Reserved(String),
    /// The name is longer than [`TOPIC_NAME_BYTES_MAX`].
    #[error("topic name of {0} bytes is longer than {TOPIC_NAME_BYTES_MAX}")]
    TooLong(usize),
    /// The name has a character other than ASCII letters, digits, `.`, `_` and `-`.
    #[error("topic name '{0}' has a character other than [a-zA-Z0-9._-]")]
    IllegalCharacter(String),
}

impl TopicName {
    /// Checks `name` by Kafka's rules.
    ///
    /// # Errors
    /// [`InvalidTopicName`] says which rule the name breaks.
    pub fn parse(name: &str) -> Result<Self, InvalidTopicName> {
        if name.is_empty() {
            return Err(InvalidTopicName::Empty);
        }
        if name.len() > TOPIC_NAME_BYTES_MAX {
            return Err(InvalidTopicName::TooLong(name.len()));
        }
        if name == "." || name == ".." {
            return Err(InvalidTopicName::Reserved(name.to_owned()));
        }
        let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        if !name.bytes().all(legal) {
            return Err(InvalidTopicName::IllegalCharacter(name.to_owned()));
        }
        Ok(Self(Arc::from(name)))
    }
}

impl From<&str> for GroupId {
    fn from(text: &str) -> Self {
        Self(Arc::from(text))
    }
}

impl From<&str> for MemberId {
    fn from(text: &str) -> Self {
        Self(Arc::from(text))
    }
}

/// The identity of a topic, different for every creation of the same name (KIP-516).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicId(u128);

impl TopicId {
    /// Makes a new random identity.
    #[must_use]
    pub fn random() -> Self {
        Self(uuid::Uuid::new_v4().as_u128())
    }

    /// Takes the identity from its 128 bits.
    #[must_use]
    pub const fn from_u128(bits: u128) -> Self {
        Self(bits)
    }

    /// Returns the 128 bits of the identity.
    #[must_use]
    pub const fn as_u128(self) -> u128 {
        self.0
    }

    /// Reads the 32 hexadecimal digits that `Display` writes.
    #[must_use]
    pub fn parse_hex(text: &str) -> Option<Self> {
        (text.len() == 32).then(|| u128::from_str_radix(text, 16).ok()).flatten().map(Self)
    }
}

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One partition of one topic, by name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// The topic.
    pub topic: TopicName,
    /// The partition within it.
    pub partition: PartitionId,
}

impl TopicPartition {
    /// Names partition `partition` of `topic`.
    #[must_use]
    pub const fn new(topic: TopicName, partition: PartitionId) -> Self {
        Self { topic, partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_names_follow_kafkas_rules() {
        assert!(TopicName::parse("orders.eu-1_x").is_ok());
        assert!(TopicName::parse(&"x".repeat(249)).is_ok());
        assert_eq!(TopicName::parse(""), Err(InvalidTopicName::Empty));
        assert!(matches!(TopicName::parse(".."), Err(InvalidTopicName::Reserved(_))));
        assert!(matches!(TopicName::parse(&"x".repeat(250)), Err(InvalidTopicName::TooLong(250))));
        assert!(matches!(TopicName::parse("a b"), Err(InvalidTopicName::IllegalCharacter(_))));
        assert!(matches!(TopicName::parse("é"), Err(InvalidTopicName::IllegalCharacter(_))));
    }

    #[test]
    fn topic_id_round_trips_through_hex() {
        let id = TopicId::from_u128(0xabc);
        assert_eq!(TopicId::parse_hex(&id.to_string()), Some(id));
        assert_eq!(TopicId::parse_hex("xyz"), None);
    }
}
