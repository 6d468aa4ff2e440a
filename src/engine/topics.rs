//! Role: create, find, list and delete topics.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;

use super::BoxFuture;
use crate::base::ids::{InvalidTopicName, PartitionId, TopicId, TopicName};

/// One topic as metadata shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: TopicName,
    /// Its identity, new for every creation.
    pub id: TopicId,
    /// Number of partitions; they are numbered from 0.
    pub partition_count: PartitionId,
    /// It belongs to the broker, not to users.
    pub is_internal: bool,
    /// A number that grows with every topic ever created: the incarnation in stream cursors.
    pub incarnation: u64,
    /// The configuration that was set for this topic, by Kafka's names.
    pub overrides: BTreeMap<String, String>,
}

/// Where the value of a configuration entry comes from (KIP-226).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigSource {
    /// Set for this topic.
    Topic,
    /// Built in.
    Default,
}

/// One entry of a topic's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigEntry {
    /// Kafka's name of the entry.
    pub name: &'static str,
    /// Its value as text.
    pub value: String,
    /// Where the value comes from.
    pub source: ConfigSource,
}

/// A request to create a topic.
#[derive(Debug, Clone, Default)]
pub struct CreateTopic {
    /// The name as the client wrote it.
    pub name: String,
    /// Partitions; none takes the server's default.
    pub partition_count: Option<i32>,
    /// Replicas; none takes the server's default. One node offers 1.
    pub replication_factor: Option<i32>,
    /// Configuration to set; a null value is refused.
    pub configs: Vec<(String, Option<String>)>,
    /// Check only.
    pub dry_run: bool,
}

/// Why a topic was not created.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CreateTopicError {
    /// The name breaks a rule.
    #[error(transparent)]
    InvalidName(#[from] InvalidTopicName),
    /// The name differs from an existing one only in `.` and `_`, which metrics cannot tell apart.
    #[error("topic '{name}' collides with existing topic '{existing}': '.' and '_' are alike")]
    CollidingName {
        /// The name asked for.
        name: String,
        /// The name that is taken.
        existing: String,
    },
    /// The topic exists.
    #[error("topic '{0}' already exists")]
    Exists(String),
    /// The number of partitions is out of range.
    #[error("partition count {count} is not between 1 and {max}")]
    InvalidPartitions {
        /// What was asked.
        count: i32,
        /// What is possible.
        max: i32,
    },
    /// One node has one replica.
    #[error("replication factor {0} is not 1, the number of brokers")]
    InvalidReplicationFactor(i32),
    /// A configuration entry is unknown or its value invalid.
    #[error("configuration '{name}' = '{value}': {reason}")]
    InvalidConfig {
        /// The entry.
        name: String,
        /// The value.
        value: String,
        /// What is wrong.
        reason: String,
    },
    /// The server has as many partitions as it may.
    #[error("server would have more than {0} partitions")]
    TooManyPartitions(usize),
    /// The disk refused.
    #[error("storage failed: {0}")]
    Storage(String),
}

/// Why a topic was not deleted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeleteTopicError {
    /// There is no such topic.
    #[error("topic '{0}' does not exist")]
    Unknown(String),
    /// Internal topics stay.
    #[error("topic '{0}' is internal and cannot be deleted")]
    Internal(String),
    /// The disk refused.
    #[error("storage failed: {0}")]
    Storage(String),
}

/// Create, find, list and delete topics.
pub trait Topics: Send + Sync + 'static {
    /// Finds a topic by name.
    fn find(&self, name: &str) -> Option<Arc<Topic>>;

    /// Finds a topic by its identity.
    fn find_by_id(&self, id: TopicId) -> Option<Arc<Topic>>;

    /// Lists all topics by name, the internal ones included.
    fn list(&self) -> Vec<Arc<Topic>>;

    /// Lists the whole configuration of a topic, defaults included.
    fn describe_configs(&self, topic: &Topic) -> Vec<ConfigEntry>;

    /// Creates a topic; when the answer comes, every partition can be used and survives a crash.
    ///
    /// # Cancel safety
    /// Dropping the future may or may not leave the topic created.
    fn create(&self, request: CreateTopic) -> BoxFuture<Result<Arc<Topic>, CreateTopicError>>;

    /// Creates a topic by default settings if the server's `auto.create.topics.enable` allows it;
    /// none when it does not.
    ///
    /// # Cancel safety
    /// As [`Topics::create`].
    fn auto_create(&self, name: &str) -> BoxFuture<Option<Result<Arc<Topic>, CreateTopicError>>>;

    /// Deletes a topic and its records.
    ///
    /// # Cancel safety
    /// Dropping the future may or may not leave the topic deleted.
    fn delete(&self, name: &str) -> BoxFuture<Result<(), DeleteTopicError>>;

    /// Watches a number that changes with every creation and deletion.
    fn watch_changes(&self) -> watch::Receiver<u64>;
}
