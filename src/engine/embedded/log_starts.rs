//! Where the records of a partition begin after a command deleted the older ones.
//!
//! A command can move the log start offset into the middle of a segment, which no file says, so
//! it is a record of `__cluster_metadata`. Retention needs none: what it deletes is gone.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;

use super::metadata;
use super::state_log::{Change, StateLog};
use crate::base::ids::{Offset, PartitionId, TopicId};
use crate::log::{AppendError, Promise};

/// The log start offsets that commands have set, by topic and partition.
pub(super) type LogStartsByTopic = HashMap<TopicId, BTreeMap<PartitionId, Offset>>;

/// Keeps log start offsets; a clone is one more reference.
#[derive(Debug, Clone)]
pub(super) struct LogStarts {
    state: StateLog,
    known: Arc<Mutex<LogStartsByTopic>>,
}

impl LogStarts {
    pub(super) fn new(state: StateLog, known: LogStartsByTopic) -> Self {
        Self { state, known: Arc::new(Mutex::new(known)) }
    }

    /// Appends the record of a new log start offset; none if it would move back. The records are
    /// in the order of the offsets, because the append happens under the lock.
    fn append(
        &self,
        topic: TopicId,
        partition: PartitionId,
        offset: Offset,
    ) -> Result<Option<Promise>, AppendError> {
        let mut known = self.known.lock();
        let topics = known.entry(topic).or_default();
        if topics.get(&partition).is_some_and(|known| *known >= offset) {
            return Ok(None);
        }
        let promise = self.state.append(&[metadata::set_log_start(topic, partition, offset)])?;
        topics.insert(partition, offset);
        Ok(Some(promise))
    }

    /// Keeps a log start offset and waits until that is on disk.
    ///
    /// # Cancel safety
    /// The record is written whether or not the future is awaited to its end.
    pub(super) async fn keep(
        &self,
        topic: TopicId,
        partition: PartitionId,
        offset: Offset,
    ) -> Result<(), AppendError> {
        match self.append(topic, partition, offset)? {
            Some(promise) => self.state.wait(promise).await,
            None => Ok(()),
        }
    }

    /// The tombstones of everything kept for a topic that is being deleted.
    pub(super) fn take(&self, topic: TopicId) -> Vec<Change> {
        let kept = self.known.lock().remove(&topic).unwrap_or_default();
        kept.into_keys().map(|partition| metadata::delete_log_start(topic, partition)).collect()
    }
}
