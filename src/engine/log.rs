//! Role: append to partitions, read them, watch them grow.

use bytes::Bytes;
use tokio::sync::watch;

use super::{BoxFuture, Later};
use crate::base::ids::{Offset, PartitionId, TimestampMs, TopicName};
use crate::log::LogSlice;
use crate::protocol::record_batch::BatchError;

pub use crate::log::{AbortedTransaction, AckLevel};

/// One validated batch for one partition.
#[derive(Debug, Clone)]
pub struct Append {
    /// The topic.
    pub topic: TopicName,
    /// The partition.
    pub partition: PartitionId,
    /// Exactly one record batch v2, as the producer sent it. The engine validates it.
    pub batch: Bytes,
    /// What must hold before the answer comes.
    pub level: AckLevel,
}

/// Where an appended batch went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// Offset of the first record.
    pub base_offset: Offset,
    /// The broker's timestamp, -1 when producers' timestamps are kept.
    pub log_append_time: TimestampMs,
    /// First readable offset of the partition.
    pub log_start_offset: Offset,
    /// An idempotent producer had it appended before; this is where it went then.
    pub is_duplicate: bool,
}

/// Why a batch was not appended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// There is no such topic or partition.
    #[error("partition {partition} of topic '{topic}' does not exist")]
    UnknownPartition {
        /// The topic asked for.
        topic: String,
        /// The partition asked for.
        partition: PartitionId,
    },
    /// A client may not write to an internal topic.
    #[error("topic '{0}' is internal and cannot be written to")]
    InternalTopic(String),
    /// The batch is larger than the topic allows.
    #[error("batch of {bytes} bytes is larger than max.message.bytes of {bytes_max}")]
    TooLarge {
        /// Bytes of the batch.
        bytes: usize,
        /// What the topic allows.
        bytes_max: usize,
    },
    /// The batch is damaged or breaks a rule.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// A timestamp lies outside what the topic allows.
    #[error("timestamp {timestamp} is outside what the topic allows")]
    InvalidTimestamp {
        /// The timestamp in question.
        timestamp: TimestampMs,
    },
    /// The topic wants more in-sync replicas than one node has.
    #[error("topic wants {wanted} in-sync replicas and this node is 1")]
    NotEnoughReplicas {
        /// `min.insync.replicas`.
        wanted: i32,
    },
    /// The idempotent producer's sequence has a gap.
    #[error("sequence {sequence} came where {expected} follows")]
    OutOfOrderSequence {
        /// What came.
        sequence: i32,
        /// What would have followed.
        expected: i32,
    },
    /// The idempotent producer's epoch is stale.
    #[error("epoch {epoch} came after epoch {current}")]
    InvalidProducerEpoch {
        /// What came.
        epoch: i16,
        /// The newest one seen.
        current: i16,
    },
    /// The disk refused.
    #[error("storage failed: {0}")]
    Storage(String),
}

/// Which isolation a reader wants (KIP-98).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Isolation {
    /// Records up to the high watermark.
    #[default]
    ReadUncommitted,
    /// Records up to the last stable offset.
    ReadCommitted,
}

/// A read of one partition.
#[derive(Debug, Clone)]
pub struct Read {
    /// The topic.
    pub topic: TopicName,
    /// The partition.
    pub partition: PartitionId,
    /// The batch that holds this offset comes first.
    pub offset: Offset,
    /// Whole batches up to this many bytes, but always at least one.
    pub bytes_max: usize,
    /// What the reader may see.
    pub isolation: Isolation,
}

/// The bounds of a partition at the time of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// First readable offset.
    pub log_start_offset: Offset,
    /// Offset after the last readable record.
    pub high_watermark: Offset,
    /// Offset after the last record that no open transaction can undo.
    pub last_stable_offset: Offset,
}

/// Bytes of whole batches: in memory, or still in a file for the kernel to send.
#[derive(Debug, Clone)]
pub enum Records {
    /// The bytes.
    Memory(Bytes),
    /// A range of a file.
    File(LogSlice),
}

impl Records {
    /// Number of bytes.
    #[must_use]
    pub const fn len(&self) -> usize {
        match self {
            Self::Memory(bytes) => bytes.len(),
            Self::File(slice) => slice.len,
        }
    }

    /// Tells whether there is no byte.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Brings the bytes into memory.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn into_bytes(self) -> std::io::Result<Bytes> {
        match self {
            Self::Memory(bytes) => Ok(bytes),
            Self::File(slice) => slice.read(),
        }
    }
}

/// What a read found.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// Whole batches; empty at the end of the log. The first may begin before the offset asked.
    pub records: Records,
    /// The partition's bounds.
    pub bounds: Bounds,
    /// Aborted transactions that `records` may have records of: a reader of committed records
    /// passes over the batches that one of them covers. None for other readers.
    pub aborted: Vec<AbortedTransaction>,
}

/// Why a read found nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// There is no such topic or partition.
    #[error("partition {partition} of topic '{topic}' does not exist")]
    UnknownPartition {
        /// The topic asked for.
        topic: String,
        /// The partition asked for.
        partition: PartitionId,
    },
    /// The offset lies outside the log.
    #[error("offset {requested} is outside {} to {}", bounds.log_start_offset, bounds.high_watermark)]
    OffsetOutOfRange {
        /// What was asked.
        requested: Offset,
        /// The bounds it lies outside of.
        bounds: Bounds,
    },
    /// The disk refused or holds damaged bytes.
    #[error("storage failed: {0}")]
    Storage(String),
}

/// A question for an offset (ListOffsets).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetSpec {
    /// First readable offset.
    Earliest,
    /// Offset after the last record the isolation allows.
    Latest,
    /// The record with the largest timestamp (KIP-734).
    MaxTimestamp,
    /// The first record with at least this timestamp.
    AtOrAfter(TimestampMs),
}

/// The answer to an [`OffsetSpec`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListedOffset {
    /// The offset.
    pub offset: Offset,
    /// Timestamp of the record found, -1 for `Earliest` and `Latest`.
    pub timestamp: TimestampMs,
}

/// Up to where records are deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeleteUpTo {
    /// All that can be read now.
    HighWatermark,
    /// Those before this offset.
    Offset(Offset),
}

/// Why records were not deleted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeleteRecordsError {
    /// There is no such topic or partition.
    #[error("partition {partition} of topic '{topic}' does not exist")]
    UnknownPartition {
        /// The topic asked for.
        topic: String,
        /// The partition asked for.
        partition: PartitionId,
    },
    /// Records of internal topics stay.
    #[error("topic '{0}' is internal, its records cannot be deleted")]
    InternalTopic(String),
    /// The topic's records are only ever compacted.
    #[error(
        "cleanup.policy of topic '{0}' does not include 'delete', its records cannot be deleted"
    )]
    NotDeletable(String),
    /// The offset is negative or beyond the high watermark.
    #[error("offset {requested} is outside 0 to {}", bounds.high_watermark)]
    OffsetOutOfRange {
        /// What was asked.
        requested: Offset,
        /// The bounds of the partition.
        bounds: Bounds,
    },
    /// The disk refused.
    #[error("storage failed: {0}")]
    Storage(String),
}

/// Append, read and watch partitions.
pub trait Log: Send + Sync + 'static {
    /// Appends one batch.
    ///
    /// # Ordering
    /// Batches for one partition are appended in the order of the calls, not of the awaits: the
    /// write happens in the call, only the wait for durability is left to the future.
    ///
    /// # Cancel safety
    /// Dropping the answer does not undo the append.
    fn append(&self, append: Append) -> Later<Result<Receipt, AppendError>>;

    /// Reads what is there now; never waits for records.
    ///
    /// # Cancel safety
    /// Safe: a read changes nothing.
    fn read(&self, read: Read) -> Later<Result<Fetched, ReadError>>;

    /// Finds an offset; none when no record fits.
    ///
    /// # Cancel safety
    /// Safe: nothing changes.
    fn list_offset(
        &self,
        topic: &TopicName,
        partition: PartitionId,
        spec: OffsetSpec,
        isolation: Isolation,
    ) -> Later<Result<Option<ListedOffset>, ReadError>>;

    /// Deletes the oldest records of a partition; returns the log start offset after it, which
    /// never moves back. When the answer comes, that survives loss of power.
    ///
    /// # Cancel safety
    /// Dropping the future may or may not leave the records deleted.
    fn delete_records(
        &self,
        topic: &TopicName,
        partition: PartitionId,
        up_to: DeleteUpTo,
    ) -> BoxFuture<Result<Offset, DeleteRecordsError>>;

    /// The bounds of a partition now.
    ///
    /// # Errors
    /// [`ReadError::UnknownPartition`].
    fn bounds(&self, topic: &TopicName, partition: PartitionId) -> Result<Bounds, ReadError>;

    /// Watches the high watermark; the receiver's channel closes when the partition is deleted.
    ///
    /// # Errors
    /// [`ReadError::UnknownPartition`].
    fn watch(
        &self,
        topic: &TopicName,
        partition: PartitionId,
    ) -> Result<watch::Receiver<Offset>, ReadError>;
}
