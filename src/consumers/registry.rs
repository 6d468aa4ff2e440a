//! All instances of the server, and how they begin and end.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::RwLock;
use tokio::sync::{Notify, oneshot};

use super::document::Kept;
use super::error::ConsumerError;
use super::instance::{Call, Instance, Kind, Source};
use super::positions::CommitExtent;
use super::settings::{ConsumersOptions, NewInstance, Settings, check_name};
use super::{closing, keeper, membership};
use crate::base::clock::SharedClock;
use crate::base::ids::{GroupId, TimestampMs};
use crate::base::shutdown::Shutdown;
use crate::engine::Engine;
use crate::engine::instances::InstanceKey;

/// Parts of the registry; the keeper visits one after the other, so that heartbeats of many
/// instances are spread over the interval.
pub(super) const SHARDS: usize = 10;

/// Instances whose membership is revived at once after a start.
const REVIVED_AT_ONCE: usize = 256;

/// The consumer instances of the HTTP door. A clone is the same registry.
#[derive(Debug, Clone)]
pub struct Consumers {
    pub(super) shared: Arc<Shared>,
}

/// What all instances share.
pub(super) struct Shared {
    pub(super) engine: Engine,
    pub(super) clock: SharedClock,
    pub(super) shutdown: Shutdown,
    pub(super) options: ConsumersOptions,
    pub(super) registry: Registry,
    /// Wakes the keeper when there may be a first instance.
    pub(super) keeper_wake: Notify,
}

type Shard = HashMap<GroupId, HashMap<String, Arc<Instance>>>;

/// The instances by name.
#[derive(Debug)]
pub(super) struct Registry {
    shards: Vec<RwLock<Shard>>,
    count: AtomicUsize,
}

// === impl Registry ===

impl Registry {
    fn new() -> Self {
        let shards = (0..SHARDS).map(|_| RwLock::default()).collect();
        Self { shards, count: AtomicUsize::new(0) }
    }

    fn shard_of(&self, name: &str) -> Option<&RwLock<Shard>> {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        let hash = usize::try_from(hasher.finish() >> 32).unwrap_or(0);
        self.shards.get(hash % SHARDS)
    }

    pub(super) fn insert(&self, instance: &Arc<Instance>, max: usize) -> Result<(), ConsumerError> {
        let key = &instance.key;
        let Some(shard) = self.shard_of(&key.name) else {
            return Ok(());
        };
        let mut shard = shard.write();
        let group = shard.entry(key.group.clone()).or_default();
        if group.contains_key(&key.name) {
            let (group, name) = (key.group.to_string(), key.name.clone());
            return Err(ConsumerError::NameTaken { group, name });
        }
        // Only a bound: nothing is published through the count.
        if self.count.fetch_add(1, Ordering::Relaxed) >= max {
            self.count.fetch_sub(1, Ordering::Relaxed);
            if group.is_empty() {
                shard.remove(&key.group);
            }
            return Err(ConsumerError::TooManyInstances(max));
        }
        group.insert(key.name.clone(), instance.clone());
        Ok(())
    }

    pub(super) fn remove(&self, key: &InstanceKey) {
        let Some(shard) = self.shard_of(&key.name) else {
            return;
        };
        let mut shard = shard.write();
        if let Some(group) = shard.get_mut(&key.group) {
            if group.remove(&key.name).is_some() {
                self.count.fetch_sub(1, Ordering::Relaxed);
            }
            if group.is_empty() {
                shard.remove(&key.group);
            }
        }
    }

    pub(super) fn find(&self, key: &InstanceKey) -> Option<Arc<Instance>> {
        self.shard_of(&key.name)?.read().get(&key.group)?.get(&key.name).cloned()
    }

    pub(super) fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Returns the instances of one part.
    pub(super) fn in_shard(&self, index: usize) -> Vec<Arc<Instance>> {
        let shard = self.shards.get(index).map(RwLock::read);
        shard.iter().flat_map(|s| s.values()).flat_map(HashMap::values).cloned().collect()
    }

    /// Returns the instances of one group.
    pub(super) fn in_group(&self, group: &GroupId) -> Vec<Arc<Instance>> {
        let mut found = Vec::new();
        for shard in &self.shards {
            found.extend(shard.read().get(group).into_iter().flat_map(HashMap::values).cloned());
        }
        found
    }

    /// Returns all instances.
    pub(super) fn all(&self) -> Vec<Arc<Instance>> {
        (0..SHARDS).flat_map(|index| self.in_shard(index)).collect()
    }
}

// === impl Shared ===

impl Shared {
    pub(super) fn now(&self) -> TimestampMs {
        self.clock.now_ms()
    }

    /// Says whether an instance that was last called at `since` has lived out its idle time. A
    /// static member whose connection is gone is given its session to come back.
    pub(super) fn is_expired(&self, instance: &Instance, since: TimestampMs) -> bool {
        let timeout_ms = match instance.kind {
            Kind::Kept => self.options.instance_timeout_ms,
            Kind::Static => i64::from(self.options.session_timeout_ms),
        };
        self.now().saturating_sub(since) >= timeout_ms
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("instances", &self.registry.len()).finish_non_exhaustive()
    }
}

// === impl Consumers ===

impl Consumers {
    /// Loads the instances that are kept, revives them in the background and starts the keeper.
    ///
    /// When `shutdown` is asked for, polls end, auto-commits are finished and the instances stay
    /// members of their groups; the engine must work until `shutdown` has drained.
    #[must_use]
    pub fn start(
        engine: Engine,
        clock: SharedClock,
        shutdown: Shutdown,
        options: ConsumersOptions,
    ) -> Self {
        let shared = Arc::new(Shared {
            engine,
            clock,
            shutdown,
            options,
            registry: Registry::new(),
            keeper_wake: Notify::new(),
        });
        let revived = load(&shared);
        shared.shutdown.spawn(revive(shared.clone(), revived));
        shared.shutdown.spawn(keeper::run(shared.clone()));
        Self { shared }
    }

    /// Creates an instance; when the answer comes it survives a restart.
    ///
    /// # Errors
    /// [`ConsumerError::InvalidSetting`], `NameTaken`, `TooManyInstances`, `Storage`,
    /// `ShuttingDown`.
    ///
    /// # Cancel safety
    /// Dropping the future may or may not leave the instance created.
    pub async fn create(
        &self,
        group: GroupId,
        new: NewInstance,
    ) -> Result<InstanceKey, ConsumerError> {
        let shared = &self.shared;
        if shared.shutdown.is_stopping() {
            return Err(ConsumerError::ShuttingDown);
        }
        let settings = Settings::check(&new)?;
        let name = new.name.unwrap_or_else(|| format!("rest-consumer-{}", uuid::Uuid::new_v4()));
        check_name(&name)?;
        let key = InstanceKey { group, name };
        let instance = Arc::new(Instance::new(key.clone(), Kind::Kept, settings, shared.now()));
        shared.registry.insert(&instance, shared.options.instances_max)?;
        shared.keeper_wake.notify_one();
        if let Err(error) = instance.save(shared).await {
            instance.state().is_closed = true;
            shared.registry.remove(&key);
            return Err(error.into());
        }
        Ok(key)
    }

    /// Closes an instance: commits what was delivered if auto-commit is on, leaves the group.
    ///
    /// # Errors
    /// [`ConsumerError::NotFound`], `Storage`.
    ///
    /// # Cancel safety
    /// The instance is closed whether or not the answer is awaited.
    pub async fn delete(&self, key: &InstanceKey) -> Result<(), ConsumerError> {
        let call = self.call(key)?;
        let (done, answer) = oneshot::channel();
        let (shared, instance) = (self.shared.clone(), call.instance.clone());
        self.shared.shutdown.spawn(async move {
            let closed = closing::close(&shared, &instance, CommitExtent::Delivered).await;
            // Nobody may be waiting any more.
            let _unheard = done.send(closed);
        });
        answer.await.unwrap_or(Err(ConsumerError::ShuttingDown))
    }

    /// Returns the number of instances.
    #[must_use]
    pub fn count(&self) -> usize {
        self.shared.registry.len()
    }

    /// Lists the instances of a group, by name.
    #[must_use]
    pub fn list(&self, group: &GroupId) -> Vec<InstanceKey> {
        let found = self.shared.registry.in_group(group);
        let kept = found.iter().filter(|instance| instance.kind == Kind::Kept);
        let mut keys: Vec<InstanceKey> = kept.map(|i| i.key.clone()).collect();
        keys.sort_unstable();
        keys
    }

    /// Begins a call on an instance.
    pub(super) fn call(&self, key: &InstanceKey) -> Result<Call, ConsumerError> {
        let found = self.shared.registry.find(key);
        let Some(instance) = found.filter(|instance| instance.kind == Kind::Kept) else {
            let (group, name) = (key.group.to_string(), key.name.clone());
            return Err(ConsumerError::NotFound { group, name });
        };
        Call::begin(instance, self.shared.clock.clone())
    }
}

/// Puts the kept instances into the registry, so that their URLs answer from the start.
fn load(shared: &Shared) -> Vec<Arc<Instance>> {
    let mut revived = Vec::new();
    for (key, document) in shared.engine.instances.load() {
        let kept = match Kept::decode(&document) {
            Ok(kept) => kept,
            Err(error) => {
                let (group, name) = (&key.group, &key.name);
                tracing::warn!(%group, name, %error, "a kept consumer instance cannot be read");
                continue;
            }
        };
        let instance = Arc::new(Instance::revive(key, kept, shared.now()));
        let is_reading = {
            let mut state = instance.state();
            membership::expect_revival(&mut state);
            state.source != Source::None
        };
        if let Err(error) = shared.registry.insert(&instance, usize::MAX) {
            tracing::warn!(%error, "a kept consumer instance exists twice");
        } else if is_reading {
            revived.push(instance);
        }
    }
    revived
}

async fn revive(shared: Arc<Shared>, instances: Vec<Arc<Instance>>) {
    for some in instances.chunks(REVIVED_AT_ONCE) {
        for instance in some {
            membership::revive(&shared, instance);
        }
        tokio::task::yield_now().await;
    }
}
