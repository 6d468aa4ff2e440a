//! The embedded broker: the engine's roles on the log of this process.
//!
//! [`Embedded::open`] recovers a data folder and starts what runs in the background: the sync
//! threads, the store's thread, the group timers and the janitor. [`Embedded::close`] ends them in
//! the order in which they depend on each other.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::base::clock::SharedClock;
use crate::base::shutdown::Shutdown;
use crate::coordinator::group::GroupConfig;
use crate::engine::configs::ConfigKind;
use crate::engine::{Engine, Node};
use crate::log::Durability;
use crate::log::layout::DataDir;

mod accept;
mod config_edit;
mod config_table;
mod configs;
mod cursors;
mod group_timers;
mod groups;
mod instances;
mod janitor;
mod log;
mod log_starts;
mod metadata;
mod open;
mod producer_ids;
mod registry;
mod server_config;
mod state_log;
mod store_thread;
#[cfg(test)]
mod tests;
mod topic_config;
mod topics;
mod transactions;

pub use open::OpenError;
use open::View;
pub use server_config::ServerSetting;

use groups::{EmbeddedGroups, GroupParts, LoadedGroups};
use metadata::Metadata;
use registry::Registry;
use server_config::ServerConfig;
use state_log::{StateLog, StateTopic};
use store_thread::StoreThread;
use topics::EmbeddedTopics;
use transactions::{EmbeddedTransactions, TransactionParts};

/// The broker id of the one node.
const NODE_ID: i32 = 0;

/// How to open the embedded broker.
#[derive(Clone)]
pub struct EmbeddedOptions {
    /// The data folder.
    pub data_dir: PathBuf,
    /// Settings of the server as it was started, by Kafka's names. `num.partitions` and
    /// `auto.create.topics.enable` steer the creation of topics; without them a topic has one
    /// partition and must be created by name. The others are shown.
    pub settings: Vec<ServerSetting>,
    /// Limits and delays of groups.
    pub groups: GroupConfig,
    /// Time between rounds of retention and compaction.
    pub janitor_interval: Duration,
    /// Time.
    pub clock: SharedClock,
}

/// The running broker.
pub struct Embedded {
    engine: Engine,
    registry: Arc<Registry>,
    groups: EmbeddedGroups,
    durability: Arc<Durability>,
    store: Arc<StoreThread>,
    /// Holds the lock on the folder.
    _data: Arc<DataDir>,
}

impl std::fmt::Debug for EmbeddedOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmbeddedOptions").field("data_dir", &self.data_dir).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Embedded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Embedded").field("engine", &self.engine).finish_non_exhaustive()
    }
}

/// Figures for metrics and readiness.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EmbeddedStatus {
    /// Topics, the internal ones included.
    pub topics: usize,
    /// Partitions of all topics.
    pub partitions: usize,
    /// Partitions that are not served because they are damaged or a sync failed.
    pub partitions_offline: usize,
    /// Bytes of all segments.
    pub log_bytes: u64,
    /// Consumer groups.
    pub groups: usize,
    /// Members of all groups.
    pub group_members: usize,
    /// The store was written at its last sweep.
    pub store_healthy: bool,
}

impl Embedded {
    /// Recovers the data folder and starts the broker.
    ///
    /// # Errors
    /// [`OpenError`] with the path or topic concerned.
    ///
    /// # Cancel safety
    /// Not safe: threads may be left running. Call it once, at start.
    pub async fn open(options: EmbeddedOptions, shutdown: Shutdown) -> Result<Self, OpenError> {
        let (base, mut metadata, mut views) = Base::open(&options, &shutdown).await?;
        let Base { data, registry, durability, store } = base;
        let state = |topic| state_log(topic, &registry, &durability, &options.clock);
        let mut view = |topic: StateTopic| views.remove(&topic.tag()).unwrap_or_default();

        let metadata_log = state(StateTopic::Metadata)?;
        let cluster_id = match metadata.cluster_id.take() {
            Some(known) => known,
            None => new_cluster_id(&metadata_log).await?,
        };
        let known = std::mem::take(&mut metadata.log_starts);
        let log_starts = log_starts::LogStarts::new(metadata_log.clone(), known);
        let offsets_log = state(StateTopic::Offsets)?;
        let offsets_view = view(StateTopic::Offsets);
        let groups = start_groups(offsets_log, &offsets_view, &registry, &options, &shutdown);
        let next = metadata.next_producer_id;
        let names = std::mem::take(&mut metadata.producer_names);
        let producers = producer_ids::EmbeddedProducers::new(metadata_log.clone(), next, names);
        let parts = TransactionParts {
            state: state(StateTopic::Transactions)?,
            registry: Arc::clone(&registry),
            durability: Arc::clone(&durability),
            producers: producers.clone(),
            clock: Arc::clone(&options.clock),
            shutdown: shutdown.clone(),
        };
        let transactions =
            start_transactions(parts, view(StateTopic::Transactions), &shutdown).await?;
        let kept = (state(StateTopic::Instances)?, view(StateTopic::Instances));
        let cursors = cursors::EmbeddedCursors::new(
            state(StateTopic::Cursors)?,
            &view(StateTopic::Cursors),
            Arc::clone(&options.clock),
        );
        let log = log::EmbeddedLog {
            registry: Arc::clone(&registry),
            durability: Arc::clone(&durability),
            store: Arc::clone(&store),
            log_starts,
            clock: Arc::clone(&options.clock),
            shutdown: shutdown.clone(),
        };
        let server = server_config(options.settings, &mut metadata);
        let next = metadata.next_incarnation;
        let topics = EmbeddedTopics::new(&log, (metadata_log, next), &groups, &data, server);
        let engine = Engine {
            log: Arc::new(log),
            topics: Arc::new(topics.clone()),
            configs: Arc::new(topics),
            groups: Arc::new(groups.clone()),
            producers: Arc::new(producers),
            transactions: Arc::new(transactions.clone()),
            instances: Arc::new(instances::EmbeddedInstances::new(kept.0, kept.1)),
            cursors: Arc::new(cursors.clone()),
            node: Node { id: NODE_ID, cluster_id },
        };
        let janitor = janitor::Janitor {
            registry: Arc::clone(&registry),
            groups: groups.clone(),
            transactions,
            cursors,
            clock: Arc::clone(&options.clock),
            clean_until: Arc::new(Mutex::new(HashMap::new())),
        };
        janitor.start(options.janitor_interval, &shutdown);
        Ok(Self { engine, registry, groups, durability, store, _data: data })
    }

    /// The engine, for the doors.
    #[must_use]
    pub fn engine(&self) -> Engine {
        self.engine.clone()
    }

    /// Figures of this moment.
    #[must_use]
    pub fn status(&self) -> EmbeddedStatus {
        let mut status =
            EmbeddedStatus { store_healthy: self.store.is_healthy(), ..EmbeddedStatus::default() };
        (status.groups, status.group_members) = self.groups.counts();
        for entry in self.registry.snapshot() {
            status.topics += 1;
            for slot in &entry.partitions {
                status.partitions += 1;
                match slot {
                    Ok(partition) if !partition.is_offline() => {
                        status.log_bytes += partition.size_bytes();
                    }
                    _ => status.partitions_offline += 1,
                }
            }
        }
        status
    }

    /// Checks every batch of every partition, whatever checkpoints say; returns what is damaged.
    /// Blocks on the disk.
    #[must_use]
    pub fn verify(&self) -> Vec<String> {
        let mut findings = Vec::new();
        for entry in self.registry.sorted() {
            for (number, slot) in entry.partitions.iter().enumerate() {
                let found = match slot {
                    Ok(partition) => partition.verify().map_err(|error| error.to_string()),
                    Err(reason) => Err(reason.to_string()),
                };
                if let Err(reason) = found {
                    findings.push(format!("{}-{number}: {reason}", entry.topic.name));
                }
            }
        }
        findings
    }

    /// Answers members that wait for a rebalance. Call it when the doors begin to close.
    pub fn release_waiters(&self) {
        self.groups.release_waiters();
    }

    /// Makes everything durable and ends the threads. Call it after the doors are closed.
    /// Blocks until done.
    pub fn close(&self) {
        self.durability.stop();
        self.store.stop();
    }
}

/// The settings of the server: those given, those that the broker itself decides, and over them
/// what was changed at runtime.
fn server_config(mut given: Vec<ServerSetting>, metadata: &mut Metadata) -> Arc<ServerConfig> {
    given.extend([
        ServerSetting::own("broker.id", ConfigKind::Int, &NODE_ID),
        ServerSetting::own("node.id", ConfigKind::Int, &NODE_ID),
        ServerSetting::fixed("default.replication.factor", ConfigKind::Int, &1),
        ServerSetting::fixed("delete.topic.enable", ConfigKind::Boolean, &true),
        ServerSetting::fixed(
            "producer.id.expiration.ms",
            ConfigKind::Int,
            &janitor::PRODUCER_EXPIRY_MS,
        ),
    ]);
    Arc::new(ServerConfig::new(given, std::mem::take(&mut metadata.server_configs)))
}

/// What everything else is built on.
struct Base {
    data: Arc<DataDir>,
    registry: Arc<Registry>,
    durability: Arc<Durability>,
    store: Arc<StoreThread>,
}

impl Base {
    /// Recovers the data folder; also returns what the state topics say.
    async fn open(
        options: &EmbeddedOptions,
        shutdown: &Shutdown,
    ) -> Result<(Self, Metadata, HashMap<u8, View>), OpenError> {
        let data = Arc::new(DataDir::open(&options.data_dir)?);
        let now = options.clock.now_ms();
        let folder = Arc::clone(&data);
        let opening = shutdown.run_blocking(move || open::open(&folder, now)).await;
        let opened =
            opening.unwrap_or_else(|| Err(std::io::Error::other("opening was stopped").into()))?;
        let registry = Arc::new(opened.registry);
        let path = data.journal_dir();
        let durability = Durability::start(&path, &opened.journal)
            .map_err(|source| OpenError::Journal { path, source })?;
        let durability = Arc::new(durability);
        let store = StoreThread::start(opened.store, Arc::clone(&registry), opened.applied)?;
        let base = Self { data, registry, durability, store: Arc::new(store) };
        Ok((base, opened.metadata, opened.views))
    }
}

fn state_log(
    topic: StateTopic,
    registry: &Registry,
    durability: &Arc<Durability>,
    clock: &SharedClock,
) -> Result<StateLog, OpenError> {
    let entry = registry.find(topic.name());
    let partition = entry.and_then(|entry| entry.served().next().map(|(_, p)| Arc::clone(p)));
    let missing = || std::io::Error::other("internal topic is missing");
    let partition = partition.ok_or_else(missing)?;
    Ok(StateLog::new(topic, partition, Arc::clone(durability), Arc::clone(clock)))
}

fn start_groups(
    state: StateLog,
    view: &View,
    registry: &Arc<Registry>,
    options: &EmbeddedOptions,
    shutdown: &Shutdown,
) -> EmbeddedGroups {
    let parts = GroupParts {
        state,
        registry: Arc::clone(registry),
        config: options.groups.clone(),
        clock: Arc::clone(&options.clock),
        shutdown: shutdown.clone(),
    };
    EmbeddedGroups::start(parts, LoadedGroups::from_view(view))
}

/// Ends what was open at the last stop before anybody can see it.
async fn start_transactions(
    parts: TransactionParts,
    view: View,
    shutdown: &Shutdown,
) -> Result<EmbeddedTransactions, OpenError> {
    let transactions = EmbeddedTransactions::start(parts, &view);
    let recovering = transactions.clone();
    let recovery = shutdown.run_blocking(move || recovering.recover(&view)).await;
    let recovered = recovery.ok_or_else(|| std::io::Error::other("opening was stopped"))?;
    recovered.map_err(std::io::Error::other)?;
    Ok(transactions)
}

/// Makes an identity for a new cluster and keeps it.
async fn new_cluster_id(state: &StateLog) -> Result<String, OpenError> {
    use base64::Engine as _;
    let bytes = uuid::Uuid::new_v4().into_bytes();
    let cluster_id = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes);
    let kept = state.commit(&[metadata::set_cluster_id(&cluster_id)]).await;
    kept.map_err(std::io::Error::other)?;
    Ok(cluster_id)
}
