//! One partition: its segments, its writer, and what readers and waiters see of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use super::durability::SyncState;
use super::index::IndexBuilder;
use super::producer_state::ProducerTable;
use super::segment::Segment;
use super::transactions::{AbortedTransaction, OpenTransaction, TransactionTable};
use crate::base::ids::{Offset, TimestampMs, TopicPartition};

/// The settings of a log that come from its topic's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// A segment is closed before it grows over this many bytes (`segment.bytes`).
    pub segment_bytes: u64,
    /// A segment is closed when its first batch is older than this, in ms (`segment.ms`).
    pub segment_ms: i64,
    /// Segments older than this are deleted, in ms; none keeps them (`retention.ms`).
    pub retention_ms: Option<i64>,
    /// Oldest segments beyond this many bytes are deleted; none keeps them (`retention.bytes`).
    pub retention_bytes: Option<u64>,
    /// Old segments are deleted (`cleanup.policy` has `delete`).
    pub deletes: bool,
    /// Older values of a key are dropped (`cleanup.policy` has `compact`).
    pub compacts: bool,
    /// Tombstones are kept this long after compaction first saw them (`delete.retention.ms`).
    pub delete_retention_ms: i64,
    /// The broker stamps batches (`message.timestamp.type=LogAppendTime`).
    pub log_append_time: bool,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            segment_bytes: 256 * 1024 * 1024,
            segment_ms: 7 * 24 * 3_600_000,
            retention_ms: Some(7 * 24 * 3_600_000),
            retention_bytes: None,
            deletes: true,
            compacts: false,
            delete_retention_ms: 24 * 3_600_000,
            log_append_time: false,
        }
    }
}

/// What only the appender touches, behind one lock: the critical section of the partition.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) active: Arc<Segment>,
    /// Bytes of the active segment that are whole batches.
    pub(super) position: u64,
    pub(super) next_offset: Offset,
    pub(super) index_builder: IndexBuilder,
    pub(super) producers: ProducerTable,
    /// Wall-clock time of the first append to the active segment, for `segment.ms`.
    pub(super) segment_started: Option<TimestampMs>,
    /// What of the active segment's index the last checkpoint has saved.
    pub(super) saved_index_entries: usize,
    /// Sealed segments whose row the store does not have yet.
    pub(super) newly_sealed: Vec<Arc<Segment>>,
    /// Segments removed since the last checkpoint: their rows must go.
    pub(super) removed: Vec<Offset>,
    /// `producers` changed since the last checkpoint.
    pub(super) producers_changed: bool,
    /// End of the log at the last checkpoint, to skip a checkpoint that has nothing to save.
    pub(super) checkpointed: Option<Offset>,
}

/// One partition of one topic.
///
/// Lock order: `cleaning`, `writer`, `segments`, `transactions`, `sync`. None is held across an await.
#[derive(Debug)]
pub struct Partition {
    pub(super) name: TopicPartition,
    pub(super) dir: PathBuf,
    pub(super) config: RwLock<Arc<LogConfig>>,
    pub(super) writer: Mutex<Writer>,
    /// In order of base offset; the last one is active. Never empty.
    pub(super) segments: RwLock<Vec<Arc<Segment>>>,
    pub(super) log_start: AtomicI64,
    /// Offset after the last batch that readers may see. Stored before the bytes are published and
    /// before the watch is sent: a reader that got a batch, from whichever it saw first, must
    /// never be told that the offset behind it is out of range.
    pub(super) log_end: AtomicI64,
    /// First offset of the oldest open transaction, `Offset::MAX` without one. Stored before
    /// `log_end`: who sees the end of a transaction's batch sees what it changed here.
    pub(super) first_unstable: AtomicI64,
    pub(super) transactions: RwLock<TransactionTable>,
    /// Wakes who waits for more; may lag behind `log_end` for a moment.
    pub(super) high_watermark: watch::Sender<Offset>,
    /// Offset before which everything is on disk.
    pub(super) durable_end: watch::Sender<Offset>,
    pub(super) sync: Mutex<SyncState>,
    /// Held by whoever rewrites or removes segments: compaction, retention, deletion of records.
    /// Before `writer` in the lock order, and held over disk work.
    pub(super) cleaning: Mutex<()>,
    /// Set for good when the topic is deleted: its files go and need no sync any more.
    pub(super) abandoned: AtomicBool,
    /// Set for good when a sync failed: what is on disk is unknown from then on.
    pub(super) offline: AtomicBool,
}

impl Partition {
    /// Which partition this is.
    #[must_use]
    pub const fn name(&self) -> &TopicPartition {
        &self.name
    }

    /// The folder of the segments.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// First offset that can be read.
    #[must_use]
    pub fn log_start_offset(&self) -> Offset {
        self.log_start.load(Ordering::Acquire)
    }

    /// Offset after the last record that can be read.
    #[must_use]
    pub fn high_watermark(&self) -> Offset {
        self.log_end.load(Ordering::Acquire)
    }

    /// Offset after the last record that no open transaction can undo.
    #[must_use]
    pub fn last_stable_offset(&self) -> Offset {
        // In this order: a batch that is seen in the end is seen in what is unstable.
        let end = self.high_watermark();
        end.min(self.first_unstable.load(Ordering::Acquire))
    }

    /// Transactions without a marker.
    #[must_use]
    pub fn open_transactions(&self) -> Vec<OpenTransaction> {
        self.transactions.read().open()
    }

    /// Tells whether the producer has a transaction open here.
    #[must_use]
    pub fn is_in_transaction(&self, producer_id: i64) -> bool {
        self.transactions.read().is_open(producer_id)
    }

    /// Aborted transactions with records from `from` on and before `until`.
    #[must_use]
    pub fn aborted_between(&self, from: Offset, until: Offset) -> Vec<AbortedTransaction> {
        self.transactions.read().aborted_between(from, until)
    }

    /// Offset before which every record is on disk.
    #[must_use]
    pub fn durable_end(&self) -> Offset {
        *self.durable_end.borrow()
    }

    /// Watches the high watermark. A receiver sees the latest value, not every one.
    #[must_use]
    pub fn watch_high_watermark(&self) -> watch::Receiver<Offset> {
        self.high_watermark.subscribe()
    }

    /// Bytes of all segments.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.segments.read().iter().map(|segment| segment.len()).sum()
    }

    /// Number of segments.
    #[must_use]
    pub fn segment_count(&self) -> usize {
        self.segments.read().len()
    }

    /// The settings in force.
    #[must_use]
    pub fn config(&self) -> Arc<LogConfig> {
        Arc::clone(&self.config.read())
    }

    /// Replaces the settings; they hold from the next append and sweep on.
    pub fn set_config(&self, config: LogConfig) {
        *self.config.write() = Arc::new(config);
    }

    /// Tells whether a failed sync took the partition out of service.
    #[must_use]
    pub fn is_offline(&self) -> bool {
        self.offline.load(Ordering::Acquire)
    }

    /// Tells whether the partition was given up.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Acquire)
    }

    /// Gives the partition up: its topic is deleted.
    pub fn abandon(&self) {
        self.abandoned.store(true, Ordering::Release);
    }

    /// Largest producer id that wrote here.
    #[must_use]
    pub fn max_producer_id(&self) -> Option<i64> {
        self.writer.lock().producers.max_producer_id()
    }

    /// Forgets producers that have not written since `before`.
    pub fn expire_producers(&self, before: TimestampMs) {
        let mut writer = self.writer.lock();
        let known = writer.producers.len();
        writer.producers.expire(before);
        writer.producers_changed |= writer.producers.len() != known;
    }

    /// Unloads indexes of sealed segments that nobody read since the last call.
    pub fn unload_idle_indexes(&self) {
        let segments = self.segments.read();
        for segment in segments.iter().rev().skip(1) {
            segment.unload_idle_index();
        }
    }
}
