//! Why a call on a consumer instance fails; the HTTP door turns each variant into a status.

use crate::base::ids::{InvalidTopicName, Offset, TopicPartition};
use crate::engine::groups::GroupError;
use crate::engine::instances::InstanceStoreError;
use crate::engine::log::ReadError;
use crate::protocol::record_batch::BatchError;

/// Why a call on a consumer instance failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConsumerError {
    /// There is no such instance, or no longer.
    #[error("consumer instance '{name}' does not exist in group '{group}'")]
    NotFound {
        /// The group asked for.
        group: String,
        /// The instance asked for.
        name: String,
    },
    /// The group has no static member of this name here, or no longer.
    #[error("member '{member}' of group '{group}' has no stream and did not read here lately")]
    UnknownMember {
        /// The group asked for.
        group: String,
        /// The member asked for.
        member: String,
    },
    /// The member was opened to commit nothing.
    #[error("member '{member}' reads with ack=none and acknowledges nothing")]
    ObservesOnly {
        /// The member.
        member: String,
    },
    /// A newer connection has the member.
    #[error("member '{member}' connected again elsewhere")]
    Superseded {
        /// The member.
        member: String,
    },
    /// A live stream reads as this member.
    #[error("member '{member}' of group '{group}' has a live stream")]
    MemberStreams {
        /// The group.
        group: String,
        /// The member.
        member: String,
    },
    /// The group has an instance of this name.
    #[error("consumer instance '{name}' already exists in group '{group}'")]
    NameTaken {
        /// The group.
        group: String,
        /// The name that is taken.
        name: String,
    },
    /// A setting of a new instance is out of range.
    #[error("{setting} = {value}: {reason}")]
    InvalidSetting {
        /// Kafka's name of the setting.
        setting: &'static str,
        /// The value given.
        value: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// As many instances exist as may.
    #[error("server has the {0} consumer instances it may have")]
    TooManyInstances(usize),
    /// A subscription names more topics than it may.
    #[error("subscription of {count} topics is larger than {max}")]
    TooManyTopics {
        /// Topics named.
        count: usize,
        /// Topics allowed.
        max: usize,
    },
    /// An assignment names more partitions than it may.
    #[error("assignment of {count} partitions is larger than {max}")]
    TooManyPartitions {
        /// Partitions named.
        count: usize,
        /// Partitions allowed.
        max: usize,
    },
    /// The instance has neither a subscription nor an assignment.
    #[error("consumer instance has no subscription and no assignment")]
    NotSubscribed,
    /// Topics are subscribed to or partitions assigned, not both.
    #[error("subscription to topics and assignment of partitions exclude each other")]
    SubscriptionConflict,
    /// A topic name breaks Kafka's rules.
    #[error(transparent)]
    InvalidTopic(#[from] InvalidTopicName),
    /// The pattern is not a regular expression that can be used.
    #[error("topic pattern is invalid: {0}")]
    InvalidPattern(String),
    /// The partition is not assigned to the instance.
    #[error("partition {0} is not assigned to the consumer instance")]
    NotAssigned(TopicPartition),
    /// There is no such topic or partition.
    #[error("partition {0} does not exist")]
    UnknownPartition(TopicPartition),
    /// An offset is negative.
    #[error("offset {offset} of partition {partition} is negative")]
    InvalidOffset {
        /// The partition.
        partition: TopicPartition,
        /// The offset given.
        offset: Offset,
    },
    /// An acknowledgement is negative or beyond the end of the log.
    #[error(
        "offset {next} of partition {partition} is not between 0 and {end}, the end of the log"
    )]
    AckOutOfRange {
        /// The partition.
        partition: TopicPartition,
        /// The offset given, as the next one to read.
        next: Offset,
        /// The end of the log.
        end: Offset,
    },
    /// Nothing is committed and `auto.offset.reset` is `none`.
    #[error("partition {0} has no committed offset and auto.offset.reset is none")]
    NoOffset(TopicPartition),
    /// The position is gone (retention) and `auto.offset.reset` is `none`.
    #[error(
        "offset {offset} of partition {partition} is out of range and auto.offset.reset is none"
    )]
    OffsetOutOfRange {
        /// The partition.
        partition: TopicPartition,
        /// The position that is gone.
        offset: Offset,
    },
    /// The note of a commit is too long.
    #[error("metadata of the commit of partition {0} is too long")]
    MetadataTooLarge(TopicPartition),
    /// The instance was put out of its group and the commit came too late: others may own the
    /// partitions now.
    #[error("consumer instance lost its partitions before the commit")]
    Fenced,
    /// The coordinator refused.
    #[error("group coordinator: {0}")]
    Group(#[from] GroupError),
    /// The log refused a read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A stored batch is damaged; its records are not delivered.
    #[error("batch at offset {offset} of partition {partition} is damaged: {reason}")]
    Damaged {
        /// The partition.
        partition: TopicPartition,
        /// The offset that cannot be read.
        offset: Offset,
        /// What is wrong.
        reason: BatchError,
    },
    /// The state of the instance could not be kept.
    #[error("consumer instance cannot be kept: {0}")]
    Storage(#[from] InstanceStoreError),
    /// The server is stopping; the instance itself will be there after the restart.
    #[error("server is shutting down")]
    ShuttingDown,
}
