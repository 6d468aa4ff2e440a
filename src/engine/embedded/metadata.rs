//! What the metadata topic says: records, and the state they add up to.
//!
//! Keys are text, values JSON, so the history can be read with any Kafka consumer.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::config_edit::Entries;
use super::log_starts::LogStartsByTopic;
use super::server_config::Layers;
use super::state_log::Change;
use crate::base::ids::{Offset, PartitionId, TopicId, TopicName};
use crate::engine::configs::ServerScope;
use crate::engine::topics::Topic;

const TOPIC_PREFIX: &str = "topic/";
const LOG_START_PREFIX: &str = "log-start/";
const PRODUCER_PREFIX: &str = "producer/";
const CLUSTER_KEY: &str = "cluster";
const PRODUCER_IDS_KEY: &str = "producer-ids";
const INCARNATIONS_KEY: &str = "incarnations";
const CLUSTER_CONFIGS_KEY: &str = "configs/cluster";
const BROKER_CONFIGS_KEY: &str = "configs/broker";

/// Value of a topic's record.
#[derive(Debug, Serialize, Deserialize)]
struct TopicRecord {
    id: String,
    partitions: i32,
    incarnation: u64,
    configs: BTreeMap<String, String>,
}

/// Value of the cluster's record.
#[derive(Debug, Serialize, Deserialize)]
struct ClusterRecord {
    cluster_id: String,
}

/// Value of the record of a producer with a name.
#[derive(Debug, Serialize, Deserialize)]
struct ProducerRecord {
    id: i64,
}

/// Value of a counter's record.
#[derive(Debug, Serialize, Deserialize)]
struct CounterRecord {
    next: u64,
}

/// Value of the record of a log start offset.
#[derive(Debug, Serialize, Deserialize)]
struct LogStartRecord {
    offset: Offset,
}

/// Value of a record of settings.
#[derive(Debug, Serialize, Deserialize)]
struct ConfigsRecord {
    configs: Entries,
}

/// Everything the metadata topic says.
#[derive(Debug, Default)]
pub(super) struct Metadata {
    pub(super) topics: Vec<Topic>,
    pub(super) cluster_id: Option<String>,
    pub(super) next_producer_id: u64,
    pub(super) next_incarnation: u64,
    pub(super) producer_names: HashMap<String, i64>,
    pub(super) log_starts: LogStartsByTopic,
    /// Settings of the server that were changed at runtime.
    pub(super) server_configs: Layers,
}

impl Metadata {
    /// Adds up the newest records; a record that makes no sense is reported and passed over.
    pub(super) fn from_view(view: &BTreeMap<Vec<u8>, Vec<u8>>) -> Self {
        let mut metadata = Self::default();
        for (key, value) in view {
            if metadata.take(key, value).is_none() {
                let key = String::from_utf8_lossy(key);
                tracing::error!(%key, "metadata record cannot be read and is passed over");
            }
        }
        metadata
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        let key = std::str::from_utf8(key).ok()?;
        if let Some(name) = key.strip_prefix(TOPIC_PREFIX) {
            let record: TopicRecord = serde_json::from_slice(value).ok()?;
            self.topics.push(Topic {
                name: TopicName::parse(name).ok()?,
                id: TopicId::parse_hex(&record.id)?,
                partition_count: record.partitions,
                is_internal: false,
                incarnation: record.incarnation,
                overrides: record.configs,
            });
            return Some(());
        }
        if let Some(name) = key.strip_prefix(PRODUCER_PREFIX) {
            let record: ProducerRecord = serde_json::from_slice(value).ok()?;
            self.producer_names.insert(name.to_owned(), record.id);
            return Some(());
        }
        if let Some(name) = key.strip_prefix(LOG_START_PREFIX) {
            let (id, partition) = name.split_once('/')?;
            let record: LogStartRecord = serde_json::from_slice(value).ok()?;
            let partitions = self.log_starts.entry(TopicId::parse_hex(id)?).or_default();
            partitions.insert(partition.parse().ok()?, record.offset);
            return Some(());
        }
        match key {
            CLUSTER_KEY => {
                let record: ClusterRecord = serde_json::from_slice(value).ok()?;
                self.cluster_id = Some(record.cluster_id);
            }
            PRODUCER_IDS_KEY => self.next_producer_id = counter(value)?,
            INCARNATIONS_KEY => self.next_incarnation = counter(value)?,
            CLUSTER_CONFIGS_KEY => self.server_configs.cluster = entries(value)?,
            BROKER_CONFIGS_KEY => self.server_configs.broker = entries(value)?,
            _ => return None,
        }
        Some(())
    }
}

fn counter(value: &[u8]) -> Option<u64> {
    serde_json::from_slice::<CounterRecord>(value).ok().map(|record| record.next)
}

fn entries(value: &[u8]) -> Option<Entries> {
    serde_json::from_slice::<ConfigsRecord>(value).ok().map(|record| record.configs)
}

fn change(key: String, value: &impl Serialize) -> Change {
    // Plain structs of strings and numbers always serialize.
    (Bytes::from(key), serde_json::to_vec(value).ok().map(Bytes::from))
}

/// The records that create a topic: itself, and the next incarnation number.
pub(super) fn create_topic(topic: &Topic) -> [Change; 2] {
    let next = CounterRecord { next: topic.incarnation + 1 };
    [put_topic(topic), change(INCARNATIONS_KEY.to_owned(), &next)]
}

/// The record of a producer's name.
pub(super) fn set_producer_name(name: &str, id: i64) -> Change {
    change(format!("{PRODUCER_PREFIX}{name}"), &ProducerRecord { id })
}

/// The record of a topic as it is now.
pub(super) fn put_topic(topic: &Topic) -> Change {
    let record = TopicRecord {
        id: topic.id.to_string(),
        partitions: topic.partition_count,
        incarnation: topic.incarnation,
        configs: topic.overrides.clone(),
    };
    change(format!("{TOPIC_PREFIX}{}", topic.name), &record)
}

/// The record of the settings of the server in one scope.
pub(super) fn put_server_configs(scope: ServerScope, configs: &Entries) -> Change {
    let key = match scope {
        ServerScope::Cluster => CLUSTER_CONFIGS_KEY,
        ServerScope::Broker => BROKER_CONFIGS_KEY,
    };
    if configs.is_empty() {
        return (Bytes::from_static(key.as_bytes()), None);
    }
    change(key.to_owned(), &ConfigsRecord { configs: configs.clone() })
}

/// The record that deletes a topic.
pub(super) fn delete_topic(name: &TopicName) -> Change {
    (Bytes::from(format!("{TOPIC_PREFIX}{name}")), None)
}

fn log_start_key(topic: TopicId, partition: PartitionId) -> String {
    format!("{LOG_START_PREFIX}{topic}/{partition}")
}

/// The record that keeps where the records of a partition begin.
pub(super) fn set_log_start(topic: TopicId, partition: PartitionId, offset: Offset) -> Change {
    change(log_start_key(topic, partition), &LogStartRecord { offset })
}

/// The record that forgets where the records of a partition began.
pub(super) fn delete_log_start(topic: TopicId, partition: PartitionId) -> Change {
    (Bytes::from(log_start_key(topic, partition)), None)
}

/// The record that fixes the identity of the cluster.
pub(super) fn set_cluster_id(cluster_id: &str) -> Change {
    change(CLUSTER_KEY.to_owned(), &ClusterRecord { cluster_id: cluster_id.to_owned() })
}

/// The record that takes producer ids below `next` out of use.
pub(super) fn set_next_producer_id(next: u64) -> Change {
    change(PRODUCER_IDS_KEY.to_owned(), &CounterRecord { next })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_add_up_to_what_was_written() {
        let topic = Topic {
            name: TopicName::parse("orders").unwrap(),
            id: TopicId::from_u128(77),
            partition_count: 3,
            is_internal: false,
            incarnation: 5,
            overrides: BTreeMap::from([("retention.ms".to_owned(), "1".to_owned())]),
        };
        let [created, incarnation] = create_topic(&topic);
        let mut view = BTreeMap::new();
        let ids = set_next_producer_id(2000);
        let start = set_log_start(TopicId::from_u128(77), 2, 41);
        let settings = Entries::from([("num.partitions".to_owned(), "9".to_owned())]);
        let configs = put_server_configs(ServerScope::Broker, &settings);
        for (key, value) in [created, incarnation, ids, configs, set_cluster_id("abc"), start] {
            view.insert(key.to_vec(), value.unwrap().to_vec());
        }
        view.insert(b"topic/bad".to_vec(), b"{".to_vec());
        let metadata = Metadata::from_view(&view);
        assert_eq!(metadata.topics, [topic]);
        let starts = BTreeMap::from([(2, 41)]);
        assert_eq!(metadata.log_starts, [(TopicId::from_u128(77), starts)].into());
        let kept = set_log_start(TopicId::from_u128(77), 2, 41).0;
        assert_eq!(delete_log_start(TopicId::from_u128(77), 2), (kept, None));
        assert_eq!(metadata.next_incarnation, 6);
        assert_eq!(metadata.next_producer_id, 2000);
        assert_eq!(metadata.cluster_id.as_deref(), Some("abc"));
        assert_eq!(metadata.server_configs.broker, settings);
        assert!(metadata.server_configs.cluster.is_empty());
        let (_, tombstone) = put_server_configs(ServerScope::Cluster, &Entries::new());
        assert_eq!(tombstone, None);
    }
}
