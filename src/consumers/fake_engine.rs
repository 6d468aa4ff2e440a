//! The engine's roles in memory, for tests of the instances; groups are in [`super::fake_groups`].

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};

use crate::base::clock::{Clock, ManualClock};
use crate::base::ids::{GroupId, Offset, PartitionId, TopicId, TopicName, TopicPartition};
use crate::coordinator::group::{Effect, Effects, Event, Group, GroupConfig, Reply, ReplyTo};
use crate::engine::configs::*;
use crate::engine::cursors::{CursorStoreError, SnapshotKey};
use crate::engine::instances::{InstanceKey, InstanceStoreError};
use crate::engine::log::*;
use crate::engine::producers::{ProducerIdError, ProducerIdentity};
use crate::engine::topics::*;
use crate::engine::transactions::{
    AtomicAppendError, Claimed, Fingerprint, Keep, TooManyKeys, Transactions,
};
use crate::engine::{BoxFuture, Engine, GroupChanges, Later, Node};
use crate::protocol::record_batch::{BatchBuilder, BatchHeader, header};

pub(super) struct FakePartition {
    pub(super) batches: Vec<Bytes>,
    pub(super) start: Offset,
    end: watch::Sender<Offset>,
}

#[derive(Default)]
pub(super) struct World {
    topics: BTreeMap<String, Arc<Topic>>,
    partitions: HashMap<TopicPartition, FakePartition>,
    pub(super) groups: HashMap<GroupId, Group>,
    waiting: HashMap<ReplyTo, oneshot::Sender<Reply>>,
    documents: BTreeMap<InstanceKey, Bytes>,
    /// Partitions that cannot be read.
    offline: HashSet<TopicPartition>,
}

/// Whether a partition can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Offline {
    Yes,
    No,
}

pub(super) struct FakeEngine {
    pub(super) world: Mutex<World>,
    pub(super) clock: Arc<ManualClock>,
    changes: watch::Sender<u64>,
    pub(super) group_changes: Arc<GroupChanges>,
    numbers: AtomicU64,
    /// Reads answered, to prove that nothing polls.
    pub(super) reads: AtomicU64,
    pub(super) joins: AtomicU64,
}

pub(super) fn now<T: Send + 'static>(value: T) -> BoxFuture<T> {
    Box::pin(std::future::ready(value))
}

impl FakeEngine {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            world: Mutex::default(),
            clock: Arc::new(ManualClock::at(1_000_000)),
            changes: watch::Sender::new(0),
            group_changes: Arc::default(),
            numbers: AtomicU64::new(1),
            reads: AtomicU64::new(0),
            joins: AtomicU64::new(0),
        })
    }

    pub(super) fn engine(self: &Arc<Self>) -> Engine {
        Engine {
            log: self.clone(),
            topics: self.clone(),
            configs: self.clone(),
            groups: self.clone(),
            producers: self.clone(),
            transactions: self.clone(),
            instances: self.clone(),
            cursors: self.clone(),
            node: Node { id: 0, cluster_id: "fake".to_owned() },
        }
    }

    /// Creates a topic, in place of an earlier one.
    pub(super) fn topic(&self, name: &str, partition_count: PartitionId) -> TopicName {
        let topic = TopicName::parse(name).unwrap();
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let mut world = self.world.lock();
        for partition in 0..partition_count {
            let key = TopicPartition::new(topic.clone(), partition);
            let (batches, start, end) = (Vec::new(), 0, watch::Sender::new(0));
            world.partitions.entry(key).or_insert(FakePartition { batches, start, end });
        }
        let described = Topic {
            name: topic.clone(),
            id: TopicId::from_u128(number.into()),
            partition_count,
            is_internal: name.starts_with("__"),
            incarnation: number,
            overrides: BTreeMap::new(),
        };
        world.topics.insert(name.to_owned(), Arc::new(described));
        self.changes.send_modify(|n| *n += 1);
        topic
    }

    pub(super) fn drop_topic(&self, name: &str) {
        let mut world = self.world.lock();
        world.topics.remove(name);
        world.partitions.retain(|partition, _| partition.topic.as_str() != name);
        self.changes.send_modify(|n| *n += 1);
    }

    /// Appends one batch of records without keys.
    pub(super) fn append_values(&self, topic: &TopicName, partition: PartitionId, values: &[&str]) {
        let mut builder = BatchBuilder::new();
        for value in values {
            builder.push(7, None, Some(value.as_bytes()), std::iter::empty());
        }
        self.append_batch(topic, partition, &builder.finish());
    }

    pub(super) fn append_batch(&self, topic: &TopicName, partition: PartitionId, batch: &[u8]) {
        let key = TopicPartition::new(topic.clone(), partition);
        let parsed = BatchHeader::parse(batch).unwrap();
        let mut world = self.world.lock();
        let log = world.partitions.get_mut(&key).unwrap();
        let base = *log.end.borrow();
        let mut stored = batch.to_vec();
        stored[..16].copy_from_slice(&header::stored_prefix(&parsed, base, 0));
        log.batches.push(Bytes::from(stored));
        log.end.send_modify(|end| *end += i64::from(parsed.last_offset_delta) + 1);
    }

    /// Lets retention take everything before `start`.
    pub(super) fn retain(&self, topic: &TopicName, partition: PartitionId, start: Offset) {
        let key = TopicPartition::new(topic.clone(), partition);
        self.world.lock().partitions.get_mut(&key).unwrap().start = start;
    }

    /// Takes a partition offline, or mends it.
    pub(super) fn set_offline(&self, topic: &TopicName, partition: PartitionId, offline: Offline) {
        let key = TopicPartition::new(topic.clone(), partition);
        let offline_now = &mut self.world.lock().offline;
        match offline {
            Offline::Yes => offline_now.insert(key),
            Offline::No => offline_now.remove(&key),
        };
    }

    pub(super) fn committed_offset(
        &self,
        group: &str,
        partition: &TopicPartition,
    ) -> Option<Offset> {
        let world = self.world.lock();
        world.groups.get(group)?.committed(partition).map(|committed| committed.offset)
    }

    pub(super) fn members(&self, group: &str) -> usize {
        let world = self.world.lock();
        world.groups.get(group).map_or(0, |group| group.describe().members.len())
    }

    /// Removes all members, as after a session timeout.
    pub(super) fn forget_members(&self, group: &str) {
        let mut world = self.world.lock();
        let Some(cell) = world.groups.get_mut(group) else { return };
        let mut fresh = Group::new(GroupId::from(group));
        fresh.apply_commit(cell.committed_offsets().map(|(p, c)| (p.clone(), c.clone())));
        *cell = fresh;
        self.group_changes.add(&GroupId::from(group));
    }

    pub(super) fn document(&self, key: &InstanceKey) -> Option<Bytes> {
        self.world.lock().documents.get(key).cloned()
    }

    pub(super) fn handle(
        &self,
        group: &GroupId,
        event: impl FnOnce(ReplyTo) -> Event,
    ) -> oneshot::Receiver<Reply> {
        let to = ReplyTo(self.numbers.fetch_add(1, Ordering::Relaxed));
        let (sender, receiver) = oneshot::channel();
        let mut world = self.world.lock();
        world.waiting.insert(to, sender);
        let cell = world.groups.entry(group.clone()).or_insert_with(|| Group::new(group.clone()));
        let mut effects = Effects::new();
        let before = (cell.state(), cell.generation_id());
        cell.handle(event(to), self.clock.now_ms(), &GroupConfig::default(), &mut effects);
        if before != (cell.state(), cell.generation_id()) || effects.persists() {
            self.group_changes.add(group);
        }
        for effect in effects.drain() {
            if let Effect::Reply { to, reply } = effect {
                let _dropped = world.waiting.remove(&to).unwrap().send(reply);
            }
        }
        receiver
    }

    fn with<T>(
        &self,
        topic: &TopicName,
        partition: PartitionId,
        f: impl FnOnce(&FakePartition) -> T,
    ) -> Result<T, ReadError> {
        let key = TopicPartition::new(topic.clone(), partition);
        let world = self.world.lock();
        let unknown = || ReadError::UnknownPartition { topic: topic.to_string(), partition };
        if world.offline.contains(&key) {
            return Err(ReadError::Storage("the partition is offline".to_owned()));
        }
        world.partitions.get(&key).map(f).ok_or_else(unknown)
    }
}

impl FakePartition {
    fn bounds(&self) -> Bounds {
        let end = *self.end.borrow();
        Bounds { log_start_offset: self.start, high_watermark: end, last_stable_offset: end }
    }
}

impl Log for FakeEngine {
    fn append(&self, _: Append) -> Later<Result<Receipt, AppendError>> {
        unreachable!("tests append by hand")
    }

    fn read(&self, read: Read) -> Later<Result<Fetched, ReadError>> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let found = self.with(&read.topic, read.partition, |log| {
            let bounds = log.bounds();
            if !(bounds.log_start_offset..=bounds.high_watermark).contains(&read.offset) {
                return Err(ReadError::OffsetOutOfRange { requested: read.offset, bounds });
            }
            let mut bytes = Vec::new();
            for batch in &log.batches {
                let is_wanted = BatchHeader::parse(batch).unwrap().last_offset() >= read.offset;
                if is_wanted && (bytes.is_empty() || bytes.len() + batch.len() <= read.bytes_max) {
                    bytes.extend_from_slice(batch);
                } else if is_wanted {
                    break;
                }
            }
            let records = Records::Memory(Bytes::from(bytes));
            Ok(Fetched { records, bounds, aborted: Vec::new() })
        });
        Later::Now(found.and_then(|found| found))
    }

    fn list_offset(
        &self,
        topic: &TopicName,
        partition: PartitionId,
        spec: OffsetSpec,
        _: Isolation,
    ) -> Later<Result<Option<ListedOffset>, ReadError>> {
        let OffsetSpec::AtOrAfter(timestamp) = spec else { unreachable!("not used by instances") };
        Later::Now(self.with(topic, partition, |log| {
            let fits = log.batches.iter().map(|b| BatchHeader::parse(b).unwrap());
            let found = fits.into_iter().find(|header| header.max_timestamp >= timestamp)?;
            Some(ListedOffset { offset: found.base_offset, timestamp: found.max_timestamp })
        }))
    }

    fn delete_records(
        &self,
        topic: &TopicName,
        partition: PartitionId,
        up_to: DeleteUpTo,
    ) -> BoxFuture<Result<Offset, DeleteRecordsError>> {
        let bounds = self.bounds(topic, partition);
        let unknown = |_| DeleteRecordsError::UnknownPartition {
            topic: topic.as_str().to_owned(),
            partition,
        };
        let deleted = bounds.map_err(unknown).map(|bounds| match up_to {
            DeleteUpTo::HighWatermark => bounds.high_watermark,
            DeleteUpTo::Offset(offset) => offset,
        });
        Box::pin(std::future::ready(deleted))
    }

    fn bounds(&self, topic: &TopicName, partition: PartitionId) -> Result<Bounds, ReadError> {
        self.with(topic, partition, FakePartition::bounds)
    }

    fn watch(
        &self,
        topic: &TopicName,
        partition: PartitionId,
    ) -> Result<watch::Receiver<Offset>, ReadError> {
        self.with(topic, partition, |log| log.end.subscribe())
    }
}

impl Topics for FakeEngine {
    fn find(&self, name: &str) -> Option<Arc<Topic>> {
        self.world.lock().topics.get(name).cloned()
    }

    fn find_by_id(&self, id: TopicId) -> Option<Arc<Topic>> {
        self.world.lock().topics.values().find(|topic| topic.id == id).cloned()
    }

    fn list(&self) -> Vec<Arc<Topic>> {
        self.world.lock().topics.values().cloned().collect()
    }

    fn create(&self, _: CreateTopic) -> BoxFuture<Result<Arc<Topic>, CreateTopicError>> {
        unreachable!("tests create by hand")
    }

    fn auto_create(&self, _: &str) -> BoxFuture<Option<Result<Arc<Topic>, CreateTopicError>>> {
        now(None)
    }

    fn create_partitions(
        &self,
        _: CreatePartitions,
    ) -> BoxFuture<Result<Arc<Topic>, CreatePartitionsError>> {
        unreachable!("tests grow topics by hand")
    }

    fn delete(&self, _: &str) -> BoxFuture<Result<(), DeleteTopicError>> {
        unreachable!("tests delete by hand")
    }

    fn watch_changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

impl crate::engine::Configs for FakeEngine {
    fn describe_topic(&self, _: &Topic) -> Vec<ConfigEntry> {
        Vec::new()
    }

    fn describe_broker(&self) -> Vec<ConfigEntry> {
        Vec::new()
    }

    fn describe_cluster(&self) -> Vec<ConfigEntry> {
        Vec::new()
    }

    fn alter_topic(
        &self,
        _: &str,
        _: ConfigEdit,
        _: Execution,
    ) -> BoxFuture<Result<(), AlterConfigsError>> {
        unreachable!("instances change no configuration")
    }

    fn alter_server(
        &self,
        _: ServerScope,
        _: ConfigEdit,
        _: Execution,
    ) -> BoxFuture<Result<(), AlterConfigsError>> {
        unreachable!("instances change no configuration")
    }
}

impl crate::engine::Producers for FakeEngine {
    fn named(&self, _: &str) -> BoxFuture<Result<i64, crate::engine::producers::ProducerIdError>> {
        Box::pin(std::future::ready(Ok(1)))
    }

    fn init_producer_id(
        &self,
        _: Option<String>,
    ) -> BoxFuture<Result<ProducerIdentity, ProducerIdError>> {
        unreachable!("instances do not produce")
    }
}

impl crate::engine::Instances for FakeEngine {
    fn load(&self) -> Vec<(InstanceKey, Bytes)> {
        self.world.lock().documents.clone().into_iter().collect()
    }

    fn put(&self, key: &InstanceKey, document: Bytes) -> BoxFuture<Result<(), InstanceStoreError>> {
        self.world.lock().documents.insert(key.clone(), document);
        now(Ok(()))
    }

    fn remove(&self, key: &InstanceKey) -> BoxFuture<Result<(), InstanceStoreError>> {
        self.world.lock().documents.remove(key);
        now(Ok(()))
    }
}

impl crate::engine::Cursors for FakeEngine {
    fn put(&self, _: SnapshotKey, _: Bytes) -> BoxFuture<Result<(), CursorStoreError>> {
        now(Ok(()))
    }

    fn find(&self, _: SnapshotKey) -> Option<Bytes> {
        None
    }
}

impl Transactions for FakeEngine {
    fn claim(&self, _: Bytes, _: Fingerprint) -> Result<Claimed, TooManyKeys> {
        Err(TooManyKeys { keys: 0, bytes: 0 })
    }

    fn append_all(
        &self,
        _: Vec<Append>,
        _: Option<Keep>,
    ) -> BoxFuture<Result<Vec<Receipt>, AtomicAppendError>> {
        let refused = AtomicAppendError::Storage("the fake has no transactions".to_owned());
        Box::pin(std::future::ready(Err(refused)))
    }
}
