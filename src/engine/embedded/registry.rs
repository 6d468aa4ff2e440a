//! Which topics there are and where their partitions are: what every request looks up first.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::RwLock;
use tokio::sync::watch;

use super::topic_config::TopicSettings;
use crate::base::ids::{PartitionId, TopicId, TopicName};
use crate::engine::topics::Topic;
use crate::log::Partition;
use crate::store::keys::PartitionKey;

/// A partition that is served, or the reason why it is not.
pub(super) type Slot = Result<Arc<Partition>, Arc<str>>;

/// One topic with everything the data path needs.
#[derive(Debug)]
pub(super) struct TopicEntry {
    pub(super) topic: Arc<Topic>,
    pub(super) settings: TopicSettings,
    pub(super) partitions: Vec<Slot>,
}

impl TopicEntry {
    /// The partitions that are served, with their keys in the store.
    pub(super) fn served(&self) -> impl Iterator<Item = (PartitionKey, &Arc<Partition>)> {
        let topic = self.topic.id.as_u128();
        let numbered = (0_i32..).zip(&self.partitions);
        numbered.filter_map(move |(partition, slot)| {
            slot.as_ref().ok().map(|served| (PartitionKey { topic, partition }, served))
        })
    }
}

/// Why a partition cannot be used.
#[derive(Debug)]
pub(super) enum Missing {
    /// There is no such topic or partition.
    Unknown,
    /// It exists, but its files are damaged.
    Unserved(Arc<str>),
}

/// All topics, behind one short lock.
#[derive(Debug)]
pub(super) struct Registry {
    topics: RwLock<HashMap<TopicName, Arc<TopicEntry>>>,
    changes: watch::Sender<u64>,
}

impl Registry {
    pub(super) fn new() -> Self {
        Self { topics: RwLock::default(), changes: watch::Sender::new(0) }
    }

    pub(super) fn find(&self, name: &str) -> Option<Arc<TopicEntry>> {
        self.topics.read().get(name).cloned()
    }

    pub(super) fn find_by_id(&self, id: TopicId) -> Option<Arc<TopicEntry>> {
        self.topics.read().values().find(|entry| entry.topic.id == id).cloned()
    }

    pub(super) fn partition(
        &self,
        topic: &TopicName,
        partition: PartitionId,
    ) -> Result<(Arc<TopicEntry>, Arc<Partition>), Missing> {
        let entry = self.find(topic.as_str()).ok_or(Missing::Unknown)?;
        let number = usize::try_from(partition).map_err(|_| Missing::Unknown)?;
        let slot = entry.partitions.get(number).ok_or(Missing::Unknown)?.clone();
        let partition = slot.map_err(Missing::Unserved)?;
        Ok((entry, partition))
    }

    /// All topics by name.
    pub(super) fn sorted(&self) -> Vec<Arc<TopicEntry>> {
        let topics = self.topics.read();
        let by_name: BTreeMap<_, _> = topics.iter().collect();
        by_name.into_values().cloned().collect()
    }

    /// All topics in no order.
    pub(super) fn snapshot(&self) -> Vec<Arc<TopicEntry>> {
        self.topics.read().values().cloned().collect()
    }

    pub(super) fn partition_total(&self) -> usize {
        self.topics.read().values().map(|entry| entry.partitions.len()).sum()
    }

    pub(super) fn insert(&self, entry: Arc<TopicEntry>) {
        self.topics.write().insert(entry.topic.name.clone(), entry);
        self.changes.send_modify(|version| *version += 1);
    }

    /// Replaces the entry of a topic whose partitions stay; nobody has to look anew.
    pub(super) fn replace(&self, entry: Arc<TopicEntry>) {
        self.topics.write().insert(entry.topic.name.clone(), entry);
    }

    pub(super) fn remove(&self, name: &str) -> Option<Arc<TopicEntry>> {
        let removed = self.topics.write().remove(name);
        self.changes.send_modify(|version| *version += 1);
        removed
    }

    pub(super) fn watch_changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}
