//! The `Log` role of the embedded broker.

use std::sync::Arc;

use tokio::sync::watch;

use super::accept::{Accepted, accept, append_error};
use super::log_starts::LogStarts;
use super::registry::{Missing, Registry};
use super::store_thread::StoreThread;
use crate::base::clock::SharedClock;
use crate::base::ids::{Offset, PartitionId, TopicName};
use crate::base::shutdown::Shutdown;
use crate::engine::log::{
    AckLevel, Append, AppendError, Bounds, DeleteRecordsError, DeleteUpTo, Fetched, Isolation,
    ListedOffset, Log, OffsetSpec, Read, ReadError, Receipt, Records,
};
use crate::engine::{BoxFuture, Later};
use crate::log::append::Appended;
use crate::log::index::INDEX_INTERVAL_BYTES;
use crate::log::journal::JournalKey;
use crate::log::read::TimestampHit;
use crate::log::segment::Segment;
use crate::log::{self, Durability, Partition, Promise};
use crate::store::keys::PartitionKey;

/// Append, read and watch the partitions of this process.
#[derive(Clone)]
pub(super) struct EmbeddedLog {
    pub(super) registry: Arc<Registry>,
    pub(super) durability: Arc<Durability>,
    pub(super) store: Arc<StoreThread>,
    pub(super) log_starts: LogStarts,
    pub(super) clock: SharedClock,
    pub(super) shutdown: Shutdown,
}

impl Log for EmbeddedLog {
    fn append(&self, append: Append) -> Later<Result<Receipt, AppendError>> {
        let (appended, promise) = match self.write(&append) {
            Ok(written) => written,
            Err(error) => return Later::Now(Err(error)),
        };
        let receipt = Receipt {
            base_offset: appended.base_offset,
            log_append_time: appended.log_append_time,
            log_start_offset: appended.log_start_offset,
            is_duplicate: appended.is_duplicate,
        };
        if matches!(promise, Promise::Kept) {
            return Later::Now(Ok(receipt));
        }
        let durability = Arc::clone(&self.durability);
        Later::Then(Box::pin(async move {
            match durability.wait(promise).await {
                Ok(()) => Ok(receipt),
                Err(error) => Err(append_error(error)),
            }
        }))
    }

    fn read(&self, read: Read) -> Later<Result<Fetched, ReadError>> {
        let (key, partition) = match self.find(&read.topic, read.partition) {
            Ok(found) => found,
            Err(error) => return Later::Now(Err(error)),
        };
        self.with_indexes(key, partition, move |partition| {
            let bounds = bounds_of(partition);
            let (slice, aborted) = match read.isolation {
                Isolation::ReadUncommitted => {
                    (partition.read(read.offset, read.bytes_max)?, Vec::new())
                }
                Isolation::ReadCommitted => {
                    let until = bounds.last_stable_offset;
                    let slice = partition.read_before(until, read.offset, read.bytes_max)?;
                    (slice, partition.aborted_between(read.offset, until))
                }
            };
            let records = slice.map_or(Records::Memory(bytes::Bytes::new()), Records::File);
            Ok(Fetched { records, bounds, aborted })
        })
    }

    fn list_offset(
        &self,
        topic: &TopicName,
        partition: PartitionId,
        spec: OffsetSpec,
        isolation: Isolation,
    ) -> Later<Result<Option<ListedOffset>, ReadError>> {
        let (key, partition) = match self.find(topic, partition) {
            Ok(found) => found,
            Err(error) => return Later::Now(Err(error)),
        };
        let hit = |hit: TimestampHit| ListedOffset { offset: hit.offset, timestamp: hit.timestamp };
        let bound = |offset| Ok(Some(ListedOffset { offset, timestamp: -1 }));
        self.with_indexes(key, partition, move |partition| {
            let end = match isolation {
                Isolation::ReadUncommitted => partition.high_watermark(),
                Isolation::ReadCommitted => partition.last_stable_offset(),
            };
            let found = match spec {
                OffsetSpec::Earliest => return bound(partition.log_start_offset()),
                OffsetSpec::Latest => return bound(end),
                OffsetSpec::MaxTimestamp => partition.find_max_timestamp()?,
                OffsetSpec::AtOrAfter(at) => partition.find_timestamp(at)?,
            };
            Ok(found.filter(|found| found.offset < end).map(hit))
        })
    }

    fn delete_records(
        &self,
        topic: &TopicName,
        partition: PartitionId,
        up_to: DeleteUpTo,
    ) -> BoxFuture<Result<Offset, DeleteRecordsError>> {
        let (this, topic) = (self.clone(), topic.clone());
        Box::pin(async move { this.delete_up_to(&topic, partition, up_to).await })
    }

    fn bounds(&self, topic: &TopicName, partition: PartitionId) -> Result<Bounds, ReadError> {
        Ok(bounds_of(&self.find(topic, partition)?.1))
    }

    fn watch(
        &self,
        topic: &TopicName,
        partition: PartitionId,
    ) -> Result<watch::Receiver<Offset>, ReadError> {
        Ok(self.find(topic, partition)?.1.watch_high_watermark())
    }
}

impl EmbeddedLog {
    /// Validates and writes a batch; what is left is the wait for durability.
    fn write(&self, append: &Append) -> Result<(Appended, Promise), AppendError> {
        let now = self.clock.now_ms();
        let Accepted { entry, partition, header, .. } = accept(&self.registry, append, now)?;
        let appended = partition.append(&header, &append.batch, now).map_err(append_error)?;
        if append.level < AckLevel::Durable {
            return Ok((appended, Promise::Kept));
        }
        let key = JournalKey { topic: entry.topic.id, partition: append.partition };
        let promise = self.durability.promise(key, &partition, &appended, &header, &append.batch);
        Ok((appended, promise))
    }

    /// What is deleted must not come back and what stays must not go: first everything before
    /// the new log start offset gets onto the disk, then the offset itself, then it holds.
    async fn delete_up_to(
        &self,
        topic: &TopicName,
        partition: PartitionId,
        up_to: DeleteUpTo,
    ) -> Result<Offset, DeleteRecordsError> {
        let storage =
            |error: &dyn std::fmt::Display| DeleteRecordsError::Storage(error.to_string());
        let found = self.registry.partition(topic, partition).map_err(|missing| match missing {
            Missing::Unknown => {
                DeleteRecordsError::UnknownPartition { topic: topic.to_string(), partition }
            }
            Missing::Unserved(reason) => DeleteRecordsError::Storage(reason.to_string()),
        });
        let (entry, served) = found?;
        if entry.topic.is_internal {
            return Err(DeleteRecordsError::InternalTopic(topic.to_string()));
        }
        if !served.config().deletes {
            return Err(DeleteRecordsError::NotDeletable(topic.to_string()));
        }
        let bounds = bounds_of(&served);
        let offset = match up_to {
            DeleteUpTo::HighWatermark => bounds.high_watermark,
            DeleteUpTo::Offset(offset) if (0..=bounds.high_watermark).contains(&offset) => offset,
            DeleteUpTo::Offset(requested) => {
                return Err(DeleteRecordsError::OffsetOutOfRange { requested, bounds });
            }
        };
        if offset <= bounds.log_start_offset {
            return Ok(bounds.log_start_offset);
        }
        let stopped = || DeleteRecordsError::Storage("server is stopping".to_owned());
        let syncing = Arc::clone(&served);
        let synced = self.shutdown.run_blocking(move || syncing.sync_now()).await;
        synced.ok_or_else(stopped)?.map_err(|error| storage(&error))?;
        let kept = self.log_starts.keep(entry.topic.id, partition, offset).await;
        kept.map_err(|error| storage(&error))?;
        let deleted = self.shutdown.run_blocking(move || served.delete_before(offset)).await;
        deleted.ok_or_else(stopped)?.map_err(|error| storage(&error))
    }

    fn find(
        &self,
        topic: &TopicName,
        partition: PartitionId,
    ) -> Result<(PartitionKey, Arc<Partition>), ReadError> {
        match self.registry.partition(topic, partition) {
            Ok((entry, served)) => {
                Ok((PartitionKey { topic: entry.topic.id.as_u128(), partition }, served))
            }
            Err(Missing::Unknown) => {
                Err(ReadError::UnknownPartition { topic: topic.to_string(), partition })
            }
            Err(Missing::Unserved(reason)) => Err(ReadError::Storage(reason.to_string())),
        }
    }

    /// Runs `question` at once, or after the indexes that it misses are loaded.
    fn with_indexes<T: Send + 'static>(
        &self,
        key: PartitionKey,
        partition: Arc<Partition>,
        question: impl Fn(&Partition) -> Result<T, log::ReadError> + Send + 'static,
    ) -> Later<Result<T, ReadError>> {
        let first = question(&partition);
        let Err(log::ReadError::IndexNotLoaded(missing)) = first else {
            return Later::Now(first.map_err(|error| read_error(&error, &partition)));
        };
        let this = self.clone();
        Later::Then(Box::pin(async move {
            let mut missing = missing;
            loop {
                this.load_index(key, missing).await;
                match question(&partition) {
                    Err(log::ReadError::IndexNotLoaded(next)) => missing = next,
                    other => return other.map_err(|error| read_error(&error, &partition)),
                }
            }
        }))
    }

    async fn load_index(&self, key: PartitionKey, segment: Arc<Segment>) {
        let index = self.store.load_index(key, segment.base_offset).await;
        if !index.is_empty() || segment.len() <= u64::from(INDEX_INTERVAL_BYTES) {
            segment.load_index(index);
            return;
        }
        let scanned = self.shutdown.run_blocking(move || {
            if let Err(error) = segment.rebuild_index() {
                let segment_path = segment.path().display();
                tracing::error!(segment = %segment_path, %error, "segment cannot be indexed");
                // An empty index makes reads scan from the start and meet the error themselves.
                segment.load_index(log::index::SparseIndex::default());
            }
        });
        scanned.await;
    }
}

fn bounds_of(partition: &Partition) -> Bounds {
    let high_watermark = partition.high_watermark();
    Bounds {
        log_start_offset: partition.log_start_offset(),
        high_watermark,
        last_stable_offset: partition.last_stable_offset().min(high_watermark),
    }
}

fn read_error(error: &log::ReadError, partition: &Partition) -> ReadError {
    match error {
        log::ReadError::OutOfRange { requested, .. } => {
            ReadError::OffsetOutOfRange { requested: *requested, bounds: bounds_of(partition) }
        }
        log::ReadError::IndexNotLoaded(_) | log::ReadError::Io(_) => {
            ReadError::Storage(error.to_string())
        }
    }
}
