//! State as a log: internal, compacted topics that the broker writes to itself.
//!
//! A change is a keyed record, a tombstone removes the key. The state machines hold their state in
//! memory and write here first; the store's thread copies the newest value of each key into the
//! store behind them. On start the view of the store plus the records behind it give the state.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::base::clock::SharedClock;
use crate::base::ids::{Offset, TopicId, TopicName};
use crate::log::journal::JournalKey;
use crate::log::{AppendError, Durability, LogConfig, Partition, Promise, ReadError};
use crate::protocol::record_batch::{BatchBuilder, BatchHeader, BatchRecords};
use crate::store::StateChange;

/// Closed bytes after which compaction can begin: what a restart without a store replays.
pub(super) const STATE_SEGMENT_BYTES: u64 = 16 * 1024 * 1024;

/// Bytes read at once when a state topic is replayed.
const REPLAY_BYTES: usize = 1024 * 1024;

/// The internal topics. Tags and ids are on disk: never change or reuse one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StateTopic {
    /// Topics, their configuration, producer ids, the identity of the cluster.
    Metadata,
    /// Groups and committed offsets, in Kafka's own record format.
    Offsets,
    /// Consumer instances of the HTTP door.
    Instances,
    /// Decisions about transactions, and requests with idempotency keys.
    Transactions,
    /// Snapshots of streams whose cursor is too long to send.
    Cursors,
}

impl StateTopic {
    /// All of them, in the order in which they are opened.
    pub(super) const ALL: [Self; 5] =
        [Self::Metadata, Self::Offsets, Self::Instances, Self::Transactions, Self::Cursors];

    /// The number of the topic in keys of the store.
    pub(super) const fn tag(self) -> u8 {
        match self {
            Self::Metadata => 1,
            Self::Offsets => 2,
            Self::Instances => 3,
            Self::Transactions => 4,
            Self::Cursors => 5,
        }
    }

    /// The name clients see.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Metadata => "__cluster_metadata",
            Self::Offsets => "__consumer_offsets",
            Self::Instances => "__consumer_instances",
            Self::Transactions => "__transaction_state",
            Self::Cursors => "__stream_cursors",
        }
    }

    /// The topic's id. 1 is Kafka's own for `__cluster_metadata`.
    pub(super) const fn id(self) -> TopicId {
        TopicId::from_u128(self.tag() as u128)
    }

    pub(super) fn topic_name(self) -> Option<TopicName> {
        TopicName::parse(self.name()).ok()
    }

    /// How the log of a state topic is kept.
    pub(super) fn log_config() -> LogConfig {
        LogConfig {
            segment_bytes: STATE_SEGMENT_BYTES,
            retention_ms: None,
            deletes: false,
            compacts: true,
            ..LogConfig::default()
        }
    }
}

/// One change to append: a key and its new value, or none to remove it.
pub(super) type Change = (Bytes, Option<Bytes>);

/// The writer of one state topic.
#[derive(Debug, Clone)]
pub(super) struct StateLog {
    partition: Arc<Partition>,
    key: JournalKey,
    durability: Arc<Durability>,
    clock: SharedClockDebug,
}

/// A clock that prints as nothing.
#[derive(Clone)]
struct SharedClockDebug(SharedClock);

impl std::fmt::Debug for SharedClockDebug {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clock")
    }
}

impl StateLog {
    pub(super) fn new(
        topic: StateTopic,
        partition: Arc<Partition>,
        durability: Arc<Durability>,
        clock: SharedClock,
    ) -> Self {
        let key = JournalKey { topic: topic.id(), partition: 0 };
        Self { partition, key, durability, clock: SharedClockDebug(clock) }
    }

    /// Appends changes as one batch: all of them survive or none. They survive a kill of the
    /// process at once, and loss of power when the promise is kept.
    pub(super) fn append(&self, changes: &[Change]) -> Result<Promise, AppendError> {
        let now = self.clock.0.now_ms();
        let mut builder = BatchBuilder::new();
        for (key, value) in changes {
            builder.push(now, Some(key), value.as_deref(), std::iter::empty());
        }
        let batch = builder.finish();
        let header = BatchHeader::parse(&batch).map_err(std::io::Error::other)?;
        let appended = self.partition.append(&header, &batch, now)?;
        Ok(self.durability.promise(self.key, &self.partition, &appended, &header, &batch))
    }

    /// Waits until a promise is kept.
    pub(super) async fn wait(&self, promise: Promise) -> Result<(), AppendError> {
        self.durability.wait(promise).await
    }

    /// Appends changes and waits until they are on disk.
    pub(super) async fn commit(&self, changes: &[Change]) -> Result<(), AppendError> {
        let promise = self.append(changes)?;
        self.wait(promise).await
    }
}

/// Reads the records of a state topic from `from` to its end and returns the newest change of
/// each key, with the offset reached. Blocks on the disk.
pub(super) fn changes_since(
    partition: &Partition,
    from: Offset,
    until: Offset,
) -> Result<(Vec<StateChange>, Offset), ReadError> {
    let mut newest: BTreeMap<Vec<u8>, Option<Vec<u8>>> = BTreeMap::new();
    let mut offset = from.max(partition.log_start_offset());
    while offset < until {
        let slice = match partition.read(offset, REPLAY_BYTES) {
            Ok(Some(slice)) => slice,
            Ok(None) => break,
            Err(ReadError::IndexNotLoaded(segment)) => {
                segment.rebuild_index()?;
                continue;
            }
            Err(error) => return Err(error),
        };
        let mut rest = slice.read()?;
        while !rest.is_empty() {
            let header = BatchHeader::parse(&rest).map_err(std::io::Error::other)?;
            let batch = rest.split_to(header.total_bytes().min(rest.len()));
            let records = BatchRecords::open(header, &batch).map_err(std::io::Error::other)?;
            for record in &records {
                let record = record.map_err(std::io::Error::other)?;
                if record.offset >= from
                    && let Some(key) = record.key
                {
                    newest.insert(key.to_vec(), record.value.map(<[u8]>::to_vec));
                }
            }
            offset = header.next_offset();
        }
    }
    Ok((newest.into_iter().collect(), offset))
}
