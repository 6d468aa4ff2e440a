//! The `Topics` role of the embedded broker.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::groups::EmbeddedGroups;
use super::log::EmbeddedLog;
use super::log_starts::LogStarts;
use super::metadata;
use super::open::{open_entry, open_partitions};
use super::registry::{Registry, TopicEntry};
use super::server_config::{Layers, ServerConfig};
use super::state_log::{STATE_SEGMENT_BYTES, StateLog};
use super::store_thread::StoreThread;
use super::topic_config::{self, TopicSettings};
use crate::base::clock::SharedClock;
use crate::base::ids::{TopicId, TopicName};
use crate::base::limits::{PARTITIONS_MAX, PARTITIONS_PER_TOPIC_MAX};
use crate::base::shutdown::Shutdown;
use crate::engine::BoxFuture;
use crate::engine::configs::Execution;
use crate::engine::topics::{
    CreatePartitions, CreatePartitionsError, CreateTopic, CreateTopicError, DeleteTopicError,
    Topic, Topics,
};
use crate::log::layout::DataDir;
use crate::log::{SavedPartition, layout};

/// Create, grow, configure, find, list and delete the topics of this process.
#[derive(Clone)]
pub(super) struct EmbeddedTopics {
    pub(super) registry: Arc<Registry>,
    pub(super) state: StateLog,
    pub(super) log_starts: LogStarts,
    pub(super) groups: EmbeddedGroups,
    pub(super) store: Arc<StoreThread>,
    pub(super) data: Arc<DataDir>,
    pub(super) clock: SharedClock,
    pub(super) shutdown: Shutdown,
    pub(super) server: Arc<ServerConfig>,
    /// Changes of topics and settings happen one at a time.
    pub(super) changing: Arc<tokio::sync::Mutex<()>>,
    pub(super) next_incarnation: Arc<Mutex<u64>>,
}

impl Topics for EmbeddedTopics {
    fn find(&self, name: &str) -> Option<Arc<Topic>> {
        self.registry.find(name).map(|entry| Arc::clone(&entry.topic))
    }

    fn find_by_id(&self, id: TopicId) -> Option<Arc<Topic>> {
        self.registry.find_by_id(id).map(|entry| Arc::clone(&entry.topic))
    }

    fn list(&self) -> Vec<Arc<Topic>> {
        self.registry.sorted().into_iter().map(|entry| Arc::clone(&entry.topic)).collect()
    }

    fn create(&self, request: CreateTopic) -> BoxFuture<Result<Arc<Topic>, CreateTopicError>> {
        let this = self.clone();
        Box::pin(async move {
            let _one_at_a_time = this.changing.lock().await;
            this.create_locked(request).await
        })
    }

    fn auto_create(&self, name: &str) -> BoxFuture<Option<Result<Arc<Topic>, CreateTopicError>>> {
        if !self.server.auto_creates_topics() {
            return Box::pin(std::future::ready(None));
        }
        let this = self.clone();
        let request = CreateTopic { name: name.to_owned(), ..CreateTopic::default() };
        Box::pin(async move {
            let _one_at_a_time = this.changing.lock().await;
            // Another request may have created it while this one waited.
            if let Some(topic) = this.find(&request.name) {
                return Some(Ok(topic));
            }
            Some(this.create_locked(request).await)
        })
    }

    fn create_partitions(
        &self,
        request: CreatePartitions,
    ) -> BoxFuture<Result<Arc<Topic>, CreatePartitionsError>> {
        let this = self.clone();
        Box::pin(async move {
            let _one_at_a_time = this.changing.lock().await;
            this.create_partitions_locked(request).await
        })
    }

    fn delete(&self, name: &str) -> BoxFuture<Result<(), DeleteTopicError>> {
        let this = self.clone();
        let name = name.to_owned();
        Box::pin(async move {
            let _one_at_a_time = this.changing.lock().await;
            this.delete_locked(&name).await
        })
    }

    fn watch_changes(&self) -> watch::Receiver<u64> {
        self.registry.watch_changes()
    }
}

impl EmbeddedTopics {
    /// Works on what `log` serves; `metadata` is the log of changes and the next incarnation.
    pub(super) fn new(
        log: &EmbeddedLog,
        metadata: (StateLog, u64),
        groups: &EmbeddedGroups,
        data: &Arc<DataDir>,
        server: Arc<ServerConfig>,
    ) -> Self {
        let (state, next_incarnation) = metadata;
        Self {
            registry: Arc::clone(&log.registry),
            state,
            log_starts: log.log_starts.clone(),
            groups: groups.clone(),
            store: Arc::clone(&log.store),
            data: Arc::clone(data),
            clock: Arc::clone(&log.clock),
            shutdown: log.shutdown.clone(),
            server,
            changing: Arc::default(),
            next_incarnation: Arc::new(Mutex::new(next_incarnation.max(1))),
        }
    }

    async fn create_locked(&self, request: CreateTopic) -> Result<Arc<Topic>, CreateTopicError> {
        let topic = self.plan(&request)?;
        if request.dry_run {
            return Ok(Arc::new(topic));
        }
        let settings = TopicSettings::resolve(&topic.overrides, &self.server.layers());
        let changes = metadata::create_topic(&topic);
        *self.next_incarnation.lock() = topic.incarnation + 1;
        let (data, now) = (Arc::clone(&self.data), self.clock.now_ms());
        let open = move || open_entry(&data, topic, settings, now, |_| SavedPartition::default());
        let stopped = || CreateTopicError::Storage("server is stopping".to_owned());
        let entry = self.shutdown.run_blocking(open).await.ok_or_else(stopped)?;
        if let Some(Err(reason)) = entry.partitions.iter().find(|slot| slot.is_err()) {
            return Err(CreateTopicError::Storage(reason.to_string()));
        }
        let committed = self.state.commit(&changes).await;
        committed.map_err(|error| CreateTopicError::Storage(error.to_string()))?;
        let topic = Arc::clone(&entry.topic);
        tracing::info!(topic = %topic.name, partitions = topic.partition_count, "topic created");
        self.registry.insert(Arc::new(entry));
        Ok(topic)
    }

    /// Checks a request and decides what the topic will be.
    fn plan(&self, request: &CreateTopic) -> Result<Topic, CreateTopicError> {
        let name = TopicName::parse(&request.name)?;
        if self.registry.find(name.as_str()).is_some() {
            return Err(CreateTopicError::Exists(request.name.clone()));
        }
        let alike = |other: &str| other.replace('.', "_") == name.as_str().replace('.', "_");
        let topics = self.registry.snapshot();
        if let Some(other) = topics.iter().find(|entry| alike(entry.topic.name.as_str())) {
            return Err(CreateTopicError::CollidingName {
                name: request.name.clone(),
                existing: other.topic.name.to_string(),
            });
        }
        let by_default = || self.server.num_partitions();
        let partition_count = request.partition_count.unwrap_or_else(by_default);
        if !(1..=PARTITIONS_PER_TOPIC_MAX).contains(&partition_count) {
            let (count, max) = (partition_count, PARTITIONS_PER_TOPIC_MAX);
            return Err(CreateTopicError::InvalidPartitions { count, max });
        }
        let wanted = usize::try_from(partition_count).unwrap_or(usize::MAX);
        if self.registry.partition_total().saturating_add(wanted) > PARTITIONS_MAX {
            return Err(CreateTopicError::TooManyPartitions(PARTITIONS_MAX));
        }
        if let Some(factor) = request.replication_factor.filter(|factor| *factor != 1) {
            return Err(CreateTopicError::InvalidReplicationFactor(factor));
        }
        Ok(Topic {
            name,
            id: TopicId::random(),
            partition_count,
            is_internal: false,
            incarnation: *self.next_incarnation.lock(),
            overrides: topic_config::check(&request.configs)?,
        })
    }

    async fn create_partitions_locked(
        &self,
        request: CreatePartitions,
    ) -> Result<Arc<Topic>, CreatePartitionsError> {
        let storage = |reason: String| CreatePartitionsError::Storage(reason);
        let (entry, topic) = self.plan_growth(&request)?;
        if request.execution == Execution::Check {
            return Ok(Arc::new(topic));
        }
        let change = metadata::put_topic(&topic);
        let settings = TopicSettings::resolve(&topic.overrides, &self.server.layers());
        let (data, now, first) =
            (Arc::clone(&self.data), self.clock.now_ms(), entry.partitions.len());
        let open = move || {
            let new = i32::try_from(first).unwrap_or(i32::MAX)..topic.partition_count;
            let saved = |_| SavedPartition::default();
            let opened = open_partitions(&data, &topic, new, &settings, now, saved);
            (topic, settings, opened)
        };
        let opened = self.shutdown.run_blocking(open).await;
        let (topic, settings, opened) =
            opened.ok_or_else(|| storage("server is stopping".to_owned()))?;
        if let Some(Err(reason)) = opened.iter().find(|slot| slot.is_err()) {
            return Err(storage(reason.to_string()));
        }
        let committed = self.state.commit(&[change]).await;
        committed.map_err(|error| storage(error.to_string()))?;
        tracing::info!(topic = %topic.name, partitions = topic.partition_count, "topic grew");
        let topic = Arc::new(topic);
        let partitions = entry.partitions.iter().cloned().chain(opened).collect();
        let grown = TopicEntry { topic: Arc::clone(&topic), settings, partitions };
        self.registry.insert(Arc::new(grown));
        Ok(topic)
    }

    /// Checks whether a topic can grow and gives it as it will be.
    fn plan_growth(
        &self,
        request: &CreatePartitions,
    ) -> Result<(Arc<TopicEntry>, Topic), CreatePartitionsError> {
        let (name, count) = (&request.topic, request.partition_count);
        let entry = self.registry.find(name);
        let entry = entry.ok_or_else(|| CreatePartitionsError::Unknown(name.clone()))?;
        if entry.topic.is_internal {
            return Err(CreatePartitionsError::Internal(name.clone()));
        }
        let current = entry.topic.partition_count;
        if count <= current {
            let topic = name.clone();
            return Err(CreatePartitionsError::NotMore { topic, current, count });
        }
        if count > PARTITIONS_PER_TOPIC_MAX {
            return Err(CreatePartitionsError::TooMany { count, max: PARTITIONS_PER_TOPIC_MAX });
        }
        let more = usize::try_from(count - current).unwrap_or(usize::MAX);
        if self.registry.partition_total().saturating_add(more) > PARTITIONS_MAX {
            return Err(CreatePartitionsError::TooManyInAll(PARTITIONS_MAX));
        }
        let topic = Topic { partition_count: count, ..Topic::clone(&entry.topic) };
        Ok((entry, topic))
    }

    async fn delete_locked(&self, name: &str) -> Result<(), DeleteTopicError> {
        let storage = |error: &dyn std::fmt::Display| DeleteTopicError::Storage(error.to_string());
        let entry = self.registry.find(name);
        let entry = entry.ok_or_else(|| DeleteTopicError::Unknown(name.to_owned()))?;
        if entry.topic.is_internal {
            return Err(DeleteTopicError::Internal(name.to_owned()));
        }
        let mut tombstones = vec![metadata::delete_topic(&entry.topic.name)];
        tombstones.extend(self.log_starts.take(entry.topic.id));
        self.state.commit(&tombstones).await.map_err(|error| storage(&error))?;
        self.registry.remove(name);
        self.groups.remove_offsets_of(&entry.topic.name);
        entry.served().for_each(|(_, partition)| partition.abandon());
        self.store.forget(entry.served().map(|(key, _)| key).collect());
        let condemned = self.data.condemn_topic(entry.topic.id).map_err(|e| storage(&e))?;
        tracing::info!(topic = name, "topic deleted");
        // Unlinking gigabytes takes time; the rename above already made the deletion final.
        let shutdown = self.shutdown.clone();
        self.shutdown.spawn(async move {
            let path = condemned.clone();
            let removed = shutdown.run_blocking(move || layout::DataDir::remove_condemned(&path));
            if let Some(Err(error)) = removed.await {
                let path = condemned.display();
                tracing::warn!(%path, %error, "deleted topic leaves files until the next start");
            }
        });
        Ok(())
    }
}

/// Describes an internal topic.
pub(super) fn internal_topic(name: TopicName, id: TopicId) -> Topic {
    Topic {
        name,
        id,
        partition_count: 1,
        is_internal: true,
        incarnation: 0,
        overrides: std::collections::BTreeMap::from([
            ("cleanup.policy".to_owned(), "compact".to_owned()),
            ("segment.bytes".to_owned(), STATE_SEGMENT_BYTES.to_string()),
        ]),
    }
}

impl TopicEntry {
    /// The entry of an internal topic around its one partition.
    pub(super) fn internal(topic: Topic, partition: Arc<crate::log::Partition>) -> Self {
        let settings = TopicSettings::resolve(&topic.overrides, &Layers::default());
        Self { topic: Arc::new(topic), settings, partitions: vec![Ok(partition)] }
    }
}
