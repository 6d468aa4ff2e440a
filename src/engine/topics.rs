//! Role: create, grow, find, list and delete topics. Their configuration is the role `Configs`.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;

use super::BoxFuture;
use super::configs::Execution;
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

/// A request to give a topic more partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatePartitions {
    /// The topic.
    pub topic: String,
    /// How many partitions it shall have; more than it has.
    pub partition_count: i32,
    /// Do it, or only check.
    pub execution: Execution,
}

/// Why a topic did not get more partitions.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CreatePartitionsError {
    /// There is no such topic.
    #[error("topic '{0}' does not exist")]
    Unknown(String),
    /// Internal topics stay as they are.
    #[error("topic '{0}' is internal and cannot be given more partitions")]
    Internal(String),
    /// A topic can only grow.
    #[error("topic '{topic}' has {current} partitions and cannot be given {count}, only more")]
    NotMore {
        /// The topic.
        topic: String,
        /// What it has.
        current: i32,
        /// What was asked.
        count: i32,
    },
    /// The number is out of range.
    #[error("partition count {count} is not between 1 and {max}")]
    TooMany {
        /// What was asked.
        count: i32,
        /// What is possible.
        max: i32,
    },
    /// The server has as many partitions as it may.
    #[error("server would have more than {0} partitions")]
    TooManyInAll(usize),
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

/// Create, grow, find, list and delete topics.
pub trait Topics: Send + Sync + 'static {
    /// Finds a topic by name.
    fn find(&self, name: &str) -> Option<Arc<Topic>>;

    /// Finds a topic by its identity.
    fn find_by_id(&self, id: TopicId) -> Option<Arc<Topic>>;

    /// Lists all topics by name, the internal ones included.
    fn list(&self) -> Vec<Arc<Topic>>;

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

    /// Gives a topic more partitions; when the answer comes, every one can be used and survives a
    /// crash. Records stay where they are, so keys may go elsewhere from then on.
    ///
    /// # Cancel safety
    /// Dropping the future may or may not leave the partitions created.
    fn create_partitions(
        &self,
        request: CreatePartitions,
    ) -> BoxFuture<Result<Arc<Topic>, CreatePartitionsError>>;

    /// Deletes a topic and its records.
    ///
    /// # Cancel safety
    /// Dropping the future may or may not leave the topic deleted.
    fn delete(&self, name: &str) -> BoxFuture<Result<(), DeleteTopicError>>;

    /// Watches a number that changes with every creation and deletion of topics and partitions.
    fn watch_changes(&self) -> watch::Receiver<u64>;
}
