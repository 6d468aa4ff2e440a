//! An engine for tests of this door: one topic, a log in memory, answers that can be held back.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, oneshot, watch};

use super::{KafkaMetrics, KafkaOptions, Session, Shared};
use crate::base::ids::{GroupId, Offset, PartitionId, TopicId, TopicName, TopicPartition};
use crate::base::shutdown::Shutdown;
use crate::engine::configs::{
    AlterConfigsError, ConfigEdit, ConfigEntry, ConfigKind, ConfigSource, Execution, Mutability,
    ServerScope,
};
use crate::engine::cursors::{CursorStoreError, SnapshotKey};
use crate::engine::groups::{
    CommitResults, CommittedOffset, DeleteOffsetResults, GroupDescription, GroupError, Join,
    JoinRefusal, JoinReply, LeaveMember, LeaveResult, Membership, OffsetQuery, OffsetToCommit,
    Sync, SyncReply,
};
use crate::engine::instances::{InstanceKey, InstanceStoreError};
use crate::engine::log::{
    AckLevel, Append, AppendError, Bounds, DeleteRecordsError, DeleteUpTo, Fetched, Isolation,
    ListedOffset, OffsetSpec, Read, ReadError, Receipt, Records,
};
use crate::engine::producers::{ProducerIdError, ProducerIdentity};
use crate::engine::topics::{
    CreatePartitions, CreatePartitionsError, CreateTopic, CreateTopicError, DeleteTopicError, Topic,
};
use crate::engine::transactions::{
    AtomicAppendError, Claimed, Fingerprint, Keep, TooManyKeys, Transactions,
};
use crate::engine::{
    BoxFuture, Configs, Engine, GroupChanges, Groups, Instances, Later, Log, Node, Producers,
    Topics,
};
use crate::log::LogSlice;

/// The topic that exists from the start, with two partitions.
pub(super) const TOPIC: &str = "orders";

/// What the tests look at and turn.
#[derive(Default)]
pub(super) struct Fake {
    partitions: Mutex<HashMap<(String, PartitionId), FakePartition>>,
    topics: Mutex<Vec<Arc<Topic>>>,
    /// Whether durable appends wait for [`Fake::release`].
    pub(super) holds_durability: AtomicBool,
    held: Mutex<Vec<oneshot::Sender<()>>>,
    /// Whether reads give ranges of a file.
    pub(super) reads_files: AtomicBool,
    pub(super) joins_parked: AtomicUsize,
    pub(super) joins_withdrawn: AtomicUsize,
}

struct FakePartition {
    batches: Vec<Bytes>,
    high_watermark: watch::Sender<Offset>,
}

impl Fake {
    pub(super) fn new() -> Arc<Self> {
        let fake = Arc::new(Self::default());
        fake.add_topic(TOPIC);
        fake
    }

    fn add_topic(&self, name: &str) -> Arc<Topic> {
        let mut topics = self.topics.lock();
        let topic = Arc::new(Topic {
            name: TopicName::parse(name).unwrap(),
            id: TopicId::random(),
            partition_count: 2,
            is_internal: false,
            incarnation: topics.len() as u64,
            overrides: BTreeMap::new(),
        });
        for partition in 0..2 {
            let high_watermark = watch::Sender::new(0);
            let empty = FakePartition { batches: Vec::new(), high_watermark };
            self.partitions.lock().insert((name.to_owned(), partition), empty);
        }
        topics.push(Arc::clone(&topic));
        topic
    }

    /// Number of batches in a partition of [`TOPIC`].
    pub(super) fn batch_count(&self, partition: PartitionId) -> usize {
        self.partitions.lock()[&(TOPIC.to_owned(), partition)].batches.len()
    }

    pub(super) fn held_count(&self) -> usize {
        self.held.lock().len()
    }

    /// Lets the durable append number `index` of those held be answered.
    pub(super) fn release(&self, index: usize) {
        let _ = self.held.lock().remove(index).send(());
    }

    pub(super) fn engine(self: &Arc<Self>) -> Engine {
        Engine {
            log: Arc::new(FakeLog(Arc::clone(self))),
            topics: Arc::new(FakeTopics(Arc::clone(self))),
            configs: Arc::new(FakeTopics(Arc::clone(self))),
            groups: Arc::new(FakeGroups(Arc::clone(self))),
            producers: Arc::new(FakeProducers),
            transactions: Arc::new(FakeProducers),
            instances: Arc::new(FakeInstances),
            cursors: Arc::new(FakeInstances),
            node: Node { id: 7, cluster_id: "fake-cluster".to_owned() },
        }
    }

    /// A session without a socket.
    pub(super) fn session(self: &Arc<Self>) -> Arc<Session> {
        let shared = Shared {
            engine: self.engine(),
            options: KafkaOptions::default(),
            metrics: Arc::new(KafkaMetrics::new()),
            shutdown: Shutdown::new(),
            frame_budget: Arc::new(Semaphore::new(1 << 20)),
        };
        Arc::new(Session { shared: Arc::new(shared), client_host: "/127.0.0.1".to_owned() })
    }

    /// Serves the engine on a free port.
    pub(super) async fn serve(self: &Arc<Self>, options: KafkaOptions) -> (SocketAddr, Shutdown) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = Shutdown::new();
        let metrics = Arc::new(KafkaMetrics::new());
        let serving = super::serve(listener, self.engine(), options, metrics, shutdown.clone());
        shutdown.spawn(serving);
        (address, shutdown)
    }
}

/// Waits until `is_true` is.
pub(super) async fn eventually(is_true: impl Fn() -> bool) {
    for _ in 0..2000 {
        if is_true() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("condition did not come true");
}

struct FakeLog(Arc<Fake>);

impl FakeLog {
    fn with<T>(
        &self,
        topic: &TopicName,
        partition: PartitionId,
        look: impl FnOnce(&mut FakePartition) -> T,
    ) -> Result<T, ReadError> {
        let mut partitions = self.0.partitions.lock();
        match partitions.get_mut(&(topic.as_str().to_owned(), partition)) {
            Some(found) => Ok(look(found)),
            None => {
                let topic = topic.as_str().to_owned();
                Err(ReadError::UnknownPartition { topic, partition })
            }
        }
    }
}

impl FakePartition {
    fn bounds(&self) -> Bounds {
        let end = *self.high_watermark.borrow();
        Bounds { log_start_offset: 0, high_watermark: end, last_stable_offset: end }
    }
}

impl Log for FakeLog {
    fn append(&self, append: Append) -> Later<Result<Receipt, AppendError>> {
        let appended = self.with(&append.topic, append.partition, |partition| {
            let base_offset = Offset::try_from(partition.batches.len()).unwrap();
            partition.batches.push(append.batch);
            partition.high_watermark.send_replace(base_offset + 1);
            Receipt { base_offset, log_append_time: -1, log_start_offset: 0, is_duplicate: false }
        });
        let receipt = appended.map_err(|_| AppendError::UnknownPartition {
            topic: append.topic.as_str().to_owned(),
            partition: append.partition,
        });
        if append.level != AckLevel::Durable || !self.0.holds_durability.load(Ordering::Relaxed) {
            return Later::Now(receipt);
        }
        let (sender, receiver) = oneshot::channel();
        self.0.held.lock().push(sender);
        Later::Then(Box::pin(async move {
            let _ = receiver.await;
            receipt
        }))
    }

    fn read(&self, read: Read) -> Later<Result<Fetched, ReadError>> {
        let found = self.with(&read.topic, read.partition, |partition| {
            let bounds = partition.bounds();
            let from =
                usize::try_from(read.offset).ok().filter(|at| *at <= partition.batches.len());
            let Some(from) = from else {
                return Err(ReadError::OffsetOutOfRange { requested: read.offset, bounds });
            };
            let mut bytes = Vec::new();
            for batch in &partition.batches[from..] {
                if bytes.is_empty() || bytes.len() + batch.len() <= read.bytes_max {
                    bytes.extend_from_slice(batch);
                }
            }
            Ok((bytes, bounds))
        });
        Later::Now(found.flatten().map(|(bytes, bounds)| {
            let records = if self.0.reads_files.load(Ordering::Relaxed) {
                // Surrounded by what must not be sent.
                let mut file = tempfile::tempfile().unwrap();
                file.write_all(b"before").unwrap();
                file.write_all(&bytes).unwrap();
                file.write_all(b"after").unwrap();
                Records::File(LogSlice { file: Arc::new(file), position: 6, len: bytes.len() })
            } else {
                Records::Memory(Bytes::from(bytes))
            };
            Fetched { records, bounds, aborted: Vec::new() }
        }))
    }

    fn list_offset(
        &self,
        topic: &TopicName,
        partition: PartitionId,
        spec: OffsetSpec,
        _isolation: Isolation,
    ) -> Later<Result<Option<ListedOffset>, ReadError>> {
        Later::Now(self.bounds(topic, partition).map(|bounds| match spec {
            OffsetSpec::Earliest => Some(ListedOffset { offset: 0, timestamp: -1 }),
            OffsetSpec::Latest => {
                Some(ListedOffset { offset: bounds.high_watermark, timestamp: -1 })
            }
            OffsetSpec::MaxTimestamp | OffsetSpec::AtOrAfter(_) => None,
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
        self.with(topic, partition, |partition| partition.bounds())
    }

    fn watch(
        &self,
        topic: &TopicName,
        partition: PartitionId,
    ) -> Result<watch::Receiver<Offset>, ReadError> {
        self.with(topic, partition, |partition| partition.high_watermark.subscribe())
    }
}

struct FakeTopics(Arc<Fake>);

impl Topics for FakeTopics {
    fn find(&self, name: &str) -> Option<Arc<Topic>> {
        self.0.topics.lock().iter().find(|topic| topic.name.as_str() == name).cloned()
    }

    fn find_by_id(&self, id: TopicId) -> Option<Arc<Topic>> {
        self.0.topics.lock().iter().find(|topic| topic.id == id).cloned()
    }

    fn list(&self) -> Vec<Arc<Topic>> {
        self.0.topics.lock().clone()
    }

    fn create(&self, request: CreateTopic) -> BoxFuture<Result<Arc<Topic>, CreateTopicError>> {
        let created = match (TopicName::parse(&request.name), self.find(&request.name)) {
            (Err(error), _) => Err(CreateTopicError::InvalidName(error)),
            (_, Some(_)) => Err(CreateTopicError::Exists(request.name)),
            (Ok(_), None) => Ok(self.0.add_topic(&request.name)),
        };
        Box::pin(std::future::ready(created))
    }

    fn auto_create(&self, name: &str) -> BoxFuture<Option<Result<Arc<Topic>, CreateTopicError>>> {
        let created = self.create(CreateTopic { name: name.to_owned(), ..Default::default() });
        Box::pin(async move { Some(created.await) })
    }

    fn create_partitions(
        &self,
        request: CreatePartitions,
    ) -> BoxFuture<Result<Arc<Topic>, CreatePartitionsError>> {
        let checked = match self.find(&request.topic) {
            None => Err(CreatePartitionsError::Unknown(request.topic)),
            Some(topic) if topic.partition_count >= request.partition_count => {
                let (current, count) = (topic.partition_count, request.partition_count);
                Err(CreatePartitionsError::NotMore { topic: request.topic, current, count })
            }
            Some(topic) => Ok(topic),
        };
        Box::pin(std::future::ready(checked))
    }

    fn delete(&self, name: &str) -> BoxFuture<Result<(), DeleteTopicError>> {
        let mut topics = self.0.topics.lock();
        let count = topics.len();
        topics.retain(|topic| topic.name.as_str() != name);
        let is_gone = topics.len() < count;
        self.0.partitions.lock().retain(|(topic, _), _| topic != name);
        let result = if is_gone { Ok(()) } else { Err(DeleteTopicError::Unknown(name.to_owned())) };
        Box::pin(std::future::ready(result))
    }

    fn watch_changes(&self) -> watch::Receiver<u64> {
        watch::Sender::new(0).subscribe()
    }
}

impl Configs for FakeTopics {
    fn describe_topic(&self, _: &Topic) -> Vec<ConfigEntry> {
        vec![ConfigEntry {
            name: "cleanup.policy",
            value: "delete".to_owned(),
            source: ConfigSource::Default,
            kind: ConfigKind::List,
            mutability: Mutability::Dynamic,
            synonyms: Vec::new(),
        }]
    }

    fn describe_broker(&self) -> Vec<ConfigEntry> {
        Vec::new()
    }

    fn describe_cluster(&self) -> Vec<ConfigEntry> {
        Vec::new()
    }

    fn alter_topic(
        &self,
        topic: &str,
        _: ConfigEdit,
        _: Execution,
    ) -> BoxFuture<Result<(), AlterConfigsError>> {
        let unknown = || AlterConfigsError::UnknownTopic(topic.to_owned());
        Box::pin(std::future::ready(self.find(topic).map(|_| ()).ok_or_else(unknown)))
    }

    fn alter_server(
        &self,
        _: ServerScope,
        _: ConfigEdit,
        _: Execution,
    ) -> BoxFuture<Result<(), AlterConfigsError>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

struct FakeGroups(Arc<Fake>);

/// Counts a join that nobody waits for any more.
struct ParkedJoin(Arc<Fake>);

impl Drop for ParkedJoin {
    fn drop(&mut self) {
        self.0.joins_withdrawn.fetch_add(1, Ordering::Relaxed);
    }
}

fn unknown_member<T: Send + 'static>() -> BoxFuture<Result<T, GroupError>> {
    Box::pin(std::future::ready(Err(GroupError::UnknownMemberId)))
}

impl Groups for FakeGroups {
    fn join(&self, _join: Join) -> BoxFuture<Result<JoinReply, JoinRefusal>> {
        self.0.joins_parked.fetch_add(1, Ordering::Relaxed);
        let parked = ParkedJoin(Arc::clone(&self.0));
        Box::pin(async move {
            let _parked = parked;
            std::future::pending().await
        })
    }

    fn sync(&self, _sync: Sync) -> BoxFuture<Result<SyncReply, GroupError>> {
        unknown_member()
    }

    fn heartbeat(&self, _member: Membership) -> BoxFuture<Result<(), GroupError>> {
        unknown_member()
    }

    fn leave(
        &self,
        _group: GroupId,
        members: Vec<LeaveMember>,
    ) -> BoxFuture<Result<Vec<LeaveResult>, GroupError>> {
        let left = members.into_iter().map(|member| (member, Err(GroupError::UnknownMemberId)));
        Box::pin(std::future::ready(Ok(left.collect())))
    }

    fn commit(
        &self,
        _member: Membership,
        offsets: Vec<OffsetToCommit>,
    ) -> BoxFuture<Result<CommitResults, GroupError>> {
        Box::pin(std::future::ready(Ok(offsets.iter().map(|_| Ok(())).collect())))
    }

    fn committed(
        &self,
        _group: &GroupId,
        query: &OffsetQuery,
    ) -> Result<Vec<(TopicPartition, Option<CommittedOffset>)>, GroupError> {
        let OffsetQuery::Partitions(partitions) = query else { return Ok(Vec::new()) };
        Ok(partitions.iter().map(|partition| (partition.clone(), None)).collect())
    }

    fn delete(&self, _group: &GroupId) -> BoxFuture<Result<(), GroupError>> {
        Box::pin(std::future::ready(Err(GroupError::GroupIdNotFound)))
    }

    fn delete_offsets(
        &self,
        _group: &GroupId,
        _partitions: &[TopicPartition],
    ) -> BoxFuture<Result<DeleteOffsetResults, GroupError>> {
        Box::pin(std::future::ready(Err(GroupError::GroupIdNotFound)))
    }

    fn describe(&self, _group: &GroupId) -> Option<GroupDescription> {
        None
    }

    fn list(&self) -> Vec<GroupDescription> {
        Vec::new()
    }

    fn changes(&self) -> Arc<GroupChanges> {
        Arc::default()
    }
}

struct FakeProducers;

impl Producers for FakeProducers {
    fn named(&self, _: &str) -> BoxFuture<Result<i64, crate::engine::producers::ProducerIdError>> {
        Box::pin(std::future::ready(Ok(1)))
    }

    fn init_producer_id(
        &self,
        transactional_id: Option<String>,
    ) -> BoxFuture<Result<ProducerIdentity, ProducerIdError>> {
        Box::pin(std::future::ready(match transactional_id {
            None => Ok(ProducerIdentity { id: 1, epoch: 0 }),
            Some(id) => Err(ProducerIdError::TransactionsUnsupported(id)),
        }))
    }
}

struct FakeInstances;

impl Instances for FakeInstances {
    fn load(&self) -> Vec<(InstanceKey, Bytes)> {
        Vec::new()
    }

    fn put(&self, _key: &InstanceKey, _doc: Bytes) -> BoxFuture<Result<(), InstanceStoreError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn remove(&self, _key: &InstanceKey) -> BoxFuture<Result<(), InstanceStoreError>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

impl crate::engine::Cursors for FakeInstances {
    fn put(&self, _: SnapshotKey, _: Bytes) -> BoxFuture<Result<(), CursorStoreError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn find(&self, _: SnapshotKey) -> Option<Bytes> {
        None
    }
}

impl Transactions for FakeProducers {
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
