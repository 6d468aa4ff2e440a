//! The bytes that members leave for each other with the coordinator: subscriptions and
//! assignments of the protocol type `consumer` (Kafka's `ConsumerProtocol`).
//!
//! Both are a version and a body. A version that is newer than ours is read as our newest, as
//! Kafka's clients do, because versions only ever append fields.

use bytes::{Bytes, BytesMut};

use super::KafkaString;
use super::messages::{
    ConsumerProtocolAssignmentData, ConsumerProtocolSubscriptionData, consumer_protocol_assignment,
};
use crate::base::ids::{PartitionId, TopicName, TopicPartition};

/// The protocol type of consumers.
pub const PROTOCOL_TYPE: &str = "consumer";

/// Newest version of a subscription that is read: v1 owned partitions (KIP-429), v2 generation
/// (KIP-792), v3 rack (KIP-881).
const SUBSCRIPTION_READ_VERSION_MAX: i16 = 3;

/// The version of a subscription that is written.
const SUBSCRIPTION_WRITE_VERSION: i16 = 1;

/// The version of an assignment that is written: its fields never changed.
const ASSIGNMENT_VERSION: i16 = 0;

/// Why another member's bytes cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("consumer protocol: {0}")]
pub struct ConsumerProtocolError(String);

/// Encodes a subscription to `topics`.
///
/// No partition is owned: an eager member gives all of them
/// up before it joins, and unchanged bytes tell the coordinator that nothing changed.
#[must_use]
pub fn encode_subscription(topics: &[TopicName]) -> Bytes {
    let topics = topics.iter().map(|topic| KafkaString::from(topic.as_str().to_owned()));
    let body = ConsumerProtocolSubscriptionData::default().with_topics(topics.collect());
    let mut out = BytesMut::new();
    out.extend_from_slice(&SUBSCRIPTION_WRITE_VERSION.to_be_bytes());
    if body.write(&mut out, SUBSCRIPTION_WRITE_VERSION).is_err() {
        // Topic names have at most 249 bytes, so nothing is too long to be written.
        debug_assert!(false, "a subscription can always be written");
    }
    out.freeze()
}

/// Reads the topics of a subscription; names that no topic can have are left out.
///
/// # Errors
/// [`ConsumerProtocolError`] for bytes that are no subscription.
pub fn decode_subscription(bytes: &Bytes) -> Result<Vec<TopicName>, ConsumerProtocolError> {
    let (version, mut body) = split_version(bytes)?;
    let version = version.min(SUBSCRIPTION_READ_VERSION_MAX);
    let data = ConsumerProtocolSubscriptionData::read(&mut body, version).map_err(unreadable)?;
    let names = data.topics.iter().filter_map(|name| TopicName::parse(name.as_str()).ok());
    let mut names: Vec<TopicName> = names.collect();
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

/// Encodes an assignment; the partitions of one topic must be next to each other.
#[must_use]
pub fn encode_assignment(partitions: &[TopicPartition]) -> Bytes {
    let topics = partitions.chunk_by(|a, b| a.topic == b.topic).filter_map(|chunk| {
        let name = chunk.first()?.topic.as_str().to_owned();
        let numbers: Vec<PartitionId> = chunk.iter().map(|p| p.partition).collect();
        let topic = consumer_protocol_assignment::TopicPartition::default();
        Some(topic.with_topic(KafkaString::from(name)).with_partitions(numbers))
    });
    let body = ConsumerProtocolAssignmentData::default().with_assigned_partitions(topics.collect());
    let mut out = BytesMut::new();
    out.extend_from_slice(&ASSIGNMENT_VERSION.to_be_bytes());
    if body.write(&mut out, ASSIGNMENT_VERSION).is_err() {
        debug_assert!(false, "an assignment can always be written");
    }
    out.freeze()
}

/// Reads an assignment, sorted; the empty bytes of a member that was given nothing are empty.
///
/// # Errors
/// [`ConsumerProtocolError`] for bytes that are no assignment.
pub fn decode_assignment(bytes: &Bytes) -> Result<Vec<TopicPartition>, ConsumerProtocolError> {
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let (_, mut body) = split_version(bytes)?;
    let data = ConsumerProtocolAssignmentData::read(&mut body, ASSIGNMENT_VERSION);
    let data = data.map_err(unreadable)?;
    let mut partitions = Vec::new();
    for topic in &data.assigned_partitions {
        let Ok(name) = TopicName::parse(topic.topic.as_str()) else {
            continue;
        };
        let numbers = topic.partitions.iter();
        partitions.extend(numbers.map(|number| TopicPartition::new(name.clone(), *number)));
    }
    partitions.sort_unstable();
    partitions.dedup();
    Ok(partitions)
}

fn split_version(bytes: &Bytes) -> Result<(i16, Bytes), ConsumerProtocolError> {
    let Some((version, _)) = bytes.split_first_chunk::<2>() else {
        return Err(ConsumerProtocolError("no version".to_owned()));
    };
    match i16::from_be_bytes(*version) {
        version if version < 0 => {
            Err(ConsumerProtocolError(format!("version {version} is negative")))
        }
        version => Ok((version, bytes.slice(2..))),
    }
}

fn unreadable(error: impl std::fmt::Display) -> ConsumerProtocolError {
    ConsumerProtocolError(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::messages::consumer_protocol_subscription;
    use proptest::prelude::*;

    fn names(names: &[&str]) -> Vec<TopicName> {
        names.iter().map(|name| TopicName::parse(name).unwrap()).collect()
    }

    fn foreign_subscription(version: i16) -> Bytes {
        let owned = consumer_protocol_subscription::TopicPartition::default()
            .with_topic(KafkaString::from_static("a"))
            .with_partitions(vec![0, 1]);
        let data = ConsumerProtocolSubscriptionData::default()
            .with_topics(vec![KafkaString::from_static("b"), KafkaString::from_static("a")])
            .with_user_data(Some(Bytes::from_static(b"mine")))
            .with_owned_partitions(vec![owned])
            .with_generation_id(7)
            .with_rack_id(Some(KafkaString::from_static("r")));
        let mut out = BytesMut::new();
        out.extend_from_slice(&version.to_be_bytes());
        data.write(&mut out, version.min(3)).unwrap();
        out.freeze()
    }

    #[test]
    fn subscriptions_of_all_versions_are_read() {
        for version in 0..=5 {
            let read = decode_subscription(&foreign_subscription(version)).unwrap();
            assert_eq!(read, names(&["a", "b"]), "version {version}");
        }
        assert!(decode_subscription(&Bytes::from_static(&[0xff, 0xff])).is_err());
    }

    #[test]
    fn subscription_is_version_1_as_kafka_writes_it() {
        let bytes = encode_subscription(&names(&["t"]));
        let wanted = [0, 1, 0, 0, 0, 1, 0, 1, b't', 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
        assert_eq!(bytes.as_ref(), wanted);
    }

    #[test]
    fn empty_assignment_is_nothing() {
        assert_eq!(decode_assignment(&Bytes::new()), Ok(Vec::new()));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode_subscription(&Bytes::from(bytes.clone()));
            let _ = decode_assignment(&Bytes::from(bytes));
        }

        #[test]
        fn assignments_round_trip(pairs in prop::collection::btree_set(("[a-c]{1,2}", 0..50), 0..40)) {
            let partitions: Vec<TopicPartition> = pairs.iter().map(|(topic, number)| {
                TopicPartition::new(TopicName::parse(topic).unwrap(), *number)
            }).collect();
            let back = decode_assignment(&encode_assignment(&partitions)).unwrap();
            prop_assert_eq!(back, partitions);
        }

        #[test]
        fn cut_subscriptions_are_refused(cut in 0_usize..30, version in 0_i16..4) {
            let whole = foreign_subscription(version);
            prop_assume!(cut < whole.len());
            prop_assert!(decode_subscription(&whole.slice(..cut)).is_err());
        }
    }
}
