//! A small Kafka client: enough to make a topic, find its leaders, produce and fetch.
//!
//! Versions are negotiated (`ApiVersions` v0, which every broker knows), so it talks to Hydrant
//! and to any Apache Kafka. Frames are read into one reused buffer and handed out as slices of
//! it. There is no TLS and no SASL.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::BenchResult;
use super::wire_frame::{FrameReader, Versions, encode_request, set_correlation};
use crate::protocol::messages::{
    ApiVersionsResponseData, CreateTopicsRequestData, CreateTopicsResponseData,
    DeleteTopicsRequestData, ListOffsetsRequestData, ListOffsetsResponseData, MetadataRequestData,
    MetadataResponseData,
};
use crate::protocol::messages::{create_topics_request, delete_topics_request};
use crate::protocol::messages::{list_offsets_request, metadata_request};
use crate::protocol::{ApiKey, ErrorCode, KafkaString, KafkaUuid};

/// How long creating a topic and electing its leaders may take.
const TOPIC_READY_WAIT_MAX: Duration = Duration::from_secs(30);

/// Pause between two looks at a topic that is not ready yet.
const TOPIC_READY_POLL: Duration = Duration::from_millis(100);

/// Timestamp that asks `ListOffsets` for the earliest offset.
pub(super) const EARLIEST: i64 = -2;

/// Timestamp that asks `ListOffsets` for the latest offset.
pub(super) const LATEST: i64 = -1;

/// First Metadata version with topic ids, which newer Produce and Fetch need.
const METADATA_WITH_TOPIC_IDS: i16 = 10;

/// One partition and the broker that leads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PartitionPlace {
    /// Index in the topic.
    pub(super) index: i32,
    /// `host:port` of its leader.
    pub(super) address: String,
}

/// A topic as its brokers describe it.
#[derive(Debug, Clone)]
pub(super) struct Topic {
    /// Its name.
    pub(super) name: KafkaString,
    /// Its id, zero if the broker has none.
    pub(super) id: KafkaUuid,
    /// Its partitions in order.
    pub(super) partitions: Vec<PartitionPlace>,
}

impl Topic {
    /// The cap on versions of an API that names topics by id from `with_ids` on.
    pub(super) fn version_cap(&self, with_ids: i16) -> i16 {
        if self.id == KafkaUuid::ZERO { with_ids - 1 } else { i16::MAX }
    }
}

/// Some partitions of one leader, for one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PartitionGroup {
    /// `host:port` of the leader of all of them.
    pub(super) address: String,
    /// Indexes.
    pub(super) partitions: Vec<i32>,
}

/// Spreads partitions over `connections` connections: round-robin, never two leaders in one.
/// A connection beyond the number of partitions shares one with another connection.
pub(super) fn spread(partitions: &[PartitionPlace], connections: usize) -> Vec<PartitionGroup> {
    let mut leaders: Vec<PartitionGroup> = Vec::new();
    for place in partitions {
        match leaders.iter_mut().find(|l| l.address == place.address) {
            Some(leader) => leader.partitions.push(place.index),
            None => leaders.push(PartitionGroup {
                address: place.address.clone(),
                partitions: vec![place.index],
            }),
        }
    }
    let connections = connections.max(leaders.len());
    let mut groups = Vec::new();
    for (at, leader) in leaders.iter().enumerate() {
        let share = (connections - at).div_ceil(leaders.len());
        for nth in 0..share {
            let own = leader.partitions.iter().copied().skip(nth).step_by(share);
            let mut partitions: Vec<i32> = own.collect();
            if partitions.is_empty() {
                let shared = leader.partitions.get(nth % leader.partitions.len());
                partitions.extend(shared.copied());
            }
            groups.push(PartitionGroup { address: leader.address.clone(), partitions });
        }
    }
    groups
}

/// A connection that asks one thing at a time.
#[derive(Debug)]
pub(super) struct WireClient {
    reader: FrameReader<TcpStream>,
    versions: Arc<Versions>,
    address: String,
    correlation: i32,
}

impl WireClient {
    /// Connects and asks for the versions.
    pub(super) async fn connect(address: &str) -> BenchResult<Self> {
        let stream = connect(address).await?;
        let (reader, versions) = (FrameReader::new(stream), Arc::default());
        let mut client = Self { reader, versions, address: address.to_owned(), correlation: 0 };
        client.versions = Arc::new(client.ask_versions().await?);
        Ok(client)
    }

    /// Goes on with a connected socket, on which every answer has been read, on this runtime.
    pub(super) fn adopt(stream: std::net::TcpStream, versions: Arc<Versions>) -> BenchResult<Self> {
        let reader = FrameReader::new(TcpStream::from_std(stream)?);
        Ok(Self { reader, versions, address: String::new(), correlation: 0 })
    }

    /// What the broker announced.
    pub(super) fn versions(&self) -> Arc<Versions> {
        Arc::clone(&self.versions)
    }

    /// Sends an encoded request and reads the answer behind its header.
    pub(super) async fn call(
        &mut self,
        api: ApiKey,
        version: i16,
        frame: &mut BytesMut,
    ) -> BenchResult<Bytes> {
        self.correlation = self.correlation.wrapping_add(1);
        set_correlation(frame, self.correlation);
        self.reader.socket.write_all(frame).await?;
        let (correlation, body) = self.reader.next(api, version).await?;
        if correlation != self.correlation {
            return Err(format!("{api:?} was answered out of order").into());
        }
        Ok(body)
    }

    async fn ask_versions(&mut self) -> BenchResult<Versions> {
        let mut frame = encode_request(ApiKey::ApiVersions, 0, |_, _| Ok(()))?;
        let mut body = self.call(ApiKey::ApiVersions, 0, &mut frame).await?;
        let answer = ApiVersionsResponseData::read(&mut body, 0)?;
        check(answer.error_code, "ApiVersions")?;
        Ok(Versions::announced(&answer.api_keys))
    }

    /// Makes the topic unless it exists, waits for its leaders and describes it.
    pub(super) async fn ensure_topic(&mut self, name: &str, count: i32) -> BenchResult<Topic> {
        let version = self.versions.pick(ApiKey::CreateTopics, i16::MAX)?;
        let request = CreateTopicsRequestData {
            topics: vec![create_topics_request::CreatableTopic {
                name: name.to_owned().into(),
                num_partitions: count,
                replication_factor: 1,
                ..Default::default()
            }],
            timeout_ms: 30_000,
            ..Default::default()
        };
        let mut frame = encode_request(ApiKey::CreateTopics, version, |b, v| request.write(b, v))?;
        let mut body = self.call(ApiKey::CreateTopics, version, &mut frame).await?;
        let answer = CreateTopicsResponseData::read(&mut body, version)?;
        for topic in &answer.topics {
            if topic.error_code != ErrorCode::TopicAlreadyExists.code() {
                check(topic.error_code, &format!("creating topic {name}"))?;
            }
        }
        let deadline = Instant::now() + TOPIC_READY_WAIT_MAX;
        loop {
            match self.describe_ready_topic(name).await {
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_not_ready) => tokio::time::sleep(TOPIC_READY_POLL).await,
                Ok(topic) => return Ok(topic),
            }
        }
    }

    /// Describes a topic whose leaders answer for it: a broker announces a leader somewhat before
    /// that leader has opened its log.
    async fn describe_ready_topic(&mut self, name: &str) -> BenchResult<Topic> {
        let topic = self.describe_topic(name).await?;
        for leader in spread(&topic.partitions, 1) {
            let mut client = Self::connect(&leader.address).await?;
            client.list_offsets(&topic, &leader.partitions, LATEST).await?;
        }
        Ok(topic)
    }

    /// Deletes the topic.
    pub(super) async fn delete_topic(&mut self, name: &str) -> BenchResult<()> {
        let version = self.versions.pick(ApiKey::DeleteTopics, i16::MAX)?;
        let mut request = DeleteTopicsRequestData { timeout_ms: 30_000, ..Default::default() };
        let topic: KafkaString = name.to_owned().into();
        if version >= 6 {
            let state = delete_topics_request::DeleteTopicState::default();
            request.topics = vec![state.with_name(Some(topic))];
        } else {
            request.topic_names = vec![topic];
        }
        let mut frame = encode_request(ApiKey::DeleteTopics, version, |b, v| request.write(b, v))?;
        self.call(ApiKey::DeleteTopics, version, &mut frame).await?;
        Ok(())
    }

    /// Describes an existing topic all of whose partitions have a leader.
    pub(super) async fn describe_topic(&mut self, name: &str) -> BenchResult<Topic> {
        let version = self.versions.pick(ApiKey::Metadata, i16::MAX)?;
        let topic = metadata_request::MetadataRequestTopic {
            name: Some(name.to_owned().into()),
            ..Default::default()
        };
        let request = MetadataRequestData {
            topics: Some(vec![topic]),
            allow_auto_topic_creation: version < 4,
            ..Default::default()
        };
        let mut frame = encode_request(ApiKey::Metadata, version, |b, v| request.write(b, v))?;
        let mut body = self.call(ApiKey::Metadata, version, &mut frame).await?;
        let answer = MetadataResponseData::read(&mut body, version)?;
        self.place(name, version, &answer)
    }

    fn place(&self, name: &str, version: i16, answer: &MetadataResponseData) -> BenchResult<Topic> {
        let topic = answer.topics.first().ok_or("Metadata has no topic")?;
        check(topic.error_code, &format!("describing topic {name}"))?;
        let mut partitions = Vec::new();
        for partition in &topic.partitions {
            check(partition.error_code, &format!("{name}-{}", partition.partition_index))?;
            let leader = answer.brokers.iter().find(|b| b.node_id == partition.leader_id);
            let leader = leader.ok_or_else(|| format!("{name} has no leader yet"))?;
            // One broker may announce a name that is not ours to resolve (containers, NAT).
            let address = match answer.brokers.len() {
                1 => self.address.clone(),
                _ => format!("{}:{}", leader.host.as_str(), leader.port),
            };
            partitions.push(PartitionPlace { index: partition.partition_index, address });
        }
        if partitions.is_empty() {
            return Err(format!("topic {name} has no partitions").into());
        }
        partitions.sort_by_key(|p| p.index);
        let id = if version >= METADATA_WITH_TOPIC_IDS { topic.topic_id } else { KafkaUuid::ZERO };
        Ok(Topic { name: name.to_owned().into(), id, partitions })
    }

    /// Asks for the offset of each partition at `timestamp`, or [`EARLIEST`] or [`LATEST`].
    pub(super) async fn list_offsets(
        &mut self,
        topic: &Topic,
        partitions: &[i32],
        timestamp: i64,
    ) -> BenchResult<HashMap<i32, i64>> {
        let api = ApiKey::ListOffsets;
        let version = self.versions.pick(api, i16::MAX)?;
        let partitions = partitions.iter().map(|index| {
            let partition = list_offsets_request::ListOffsetsPartition::default();
            partition.with_partition_index(*index).with_timestamp(timestamp)
        });
        let request = ListOffsetsRequestData {
            replica_id: -1,
            topics: vec![list_offsets_request::ListOffsetsTopic {
                name: topic.name.clone(),
                partitions: partitions.collect(),
                ..Default::default()
            }],
            ..Default::default()
        };
        let mut frame = encode_request(api, version, |b, v| request.write(b, v))?;
        let mut body = self.call(api, version, &mut frame).await?;
        let answer = ListOffsetsResponseData::read(&mut body, version)?;
        let mut offsets = HashMap::new();
        for partition in answer.topics.iter().flat_map(|t| &t.partitions) {
            check(partition.error_code, "ListOffsets")?;
            offsets.insert(partition.partition_index, partition.offset);
        }
        Ok(offsets)
    }
}

/// Opens a socket without Nagle's delay.
pub(super) async fn connect(address: &str) -> BenchResult<TcpStream> {
    let stream = TcpStream::connect(address).await;
    let stream = stream.map_err(|e| format!("cannot connect to {address}: {e}"))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Turns an error code of an answer into an error that says what was being done.
pub(super) fn check(code: i16, doing: &str) -> BenchResult<()> {
    if code == 0 {
        return Ok(());
    }
    Err(format!("{doing}: {:?} ({code})", ErrorCode::from(code)).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(addresses: &[&str]) -> Vec<PartitionPlace> {
        let places = addresses.iter().zip(0..);
        places.map(|(a, index)| PartitionPlace { index, address: (*a).to_owned() }).collect()
    }

    fn indexes(groups: &[PartitionGroup]) -> Vec<Vec<i32>> {
        groups.iter().map(|g| g.partitions.clone()).collect()
    }

    #[test]
    fn partitions_are_spread_over_connections() {
        let one = places(&["a", "a", "a", "a"]);
        assert_eq!(indexes(&spread(&one, 4)), vec![vec![0], vec![1], vec![2], vec![3]]);
        assert_eq!(indexes(&spread(&one, 2)), vec![vec![0, 2], vec![1, 3]]);
        assert_eq!(spread(&one, 16).len(), 16);
        assert!(spread(&one, 16).iter().all(|g| g.partitions.len() == 1));
    }

    #[test]
    fn a_connection_has_one_leader() {
        let two = places(&["a", "b", "a", "b"]);
        assert_eq!(indexes(&spread(&two, 1)), vec![vec![0, 2], vec![1, 3]]);
        let three = spread(&two, 3);
        assert_eq!(indexes(&three), vec![vec![0], vec![2], vec![1, 3]]);
    }
}
