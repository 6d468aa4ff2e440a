//! Opening the data folder: state topics first, then what they say there is.

use std::collections::{BTreeMap, HashMap};
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::metadata::Metadata;
use super::registry::{Registry, Slot, TopicEntry};
use super::state_log::{StateTopic, changes_since};
use super::topic_config::TopicSettings;
use super::topics::internal_topic;
use crate::base::ids::{Offset, PartitionId, TimestampMs, TopicId, TopicPartition};
use crate::engine::topics::Topic;
use crate::log::journal::{JournalContents, JournalKey};
use crate::log::layout::{DataDir, DataDirError};
use crate::log::{Partition, ReadError, RecoveryError, SavedPartition, rescue};
use crate::store::keys::PartitionKey;
use crate::store::{Store, StoreError};

/// Why the broker cannot start on a data folder.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder is in use or unusable.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The store is of a newer format, or cannot even be made anew.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A state topic is damaged: without it nothing can be trusted.
    #[error("internal topic {topic}: {source}")]
    StateTopic {
        /// Its name.
        topic: &'static str,
        /// What is wrong with it.
        source: RecoveryError,
    },
    /// A state topic cannot be read.
    #[error("internal topic {topic}: {source}")]
    Replay {
        /// Its name.
        topic: &'static str,
        /// What is wrong with it.
        source: ReadError,
    },
    /// The journal cannot be opened.
    #[error("journal {}: {source}", path.display())]
    Journal {
        /// Its folder.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The system refused a thread or a file.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

/// The newest value of each key of a state topic.
pub(super) type View = BTreeMap<Vec<u8>, Vec<u8>>;

/// Everything that was found in the folder.
pub(super) struct Opened {
    pub(super) store: Store,
    pub(super) registry: Registry,
    pub(super) metadata: Metadata,
    pub(super) applied: HashMap<u8, Offset>,
    pub(super) views: HashMap<u8, View>,
    /// Emptied into the partitions; what is left belongs to topics that are gone.
    pub(super) journal: JournalContents,
}

/// Opens everything in `data`. Blocks on the disk.
pub(super) fn open(data: &DataDir, now: TimestampMs) -> Result<Opened, OpenError> {
    let store = open_store(&data.store_dir())?;
    let mut journal = JournalContents::read(&data.journal_dir())?;
    let registry = Registry::new();
    let mut applied = HashMap::new();
    let mut views = HashMap::new();
    for topic in StateTopic::ALL {
        let (entry, view, reached) = open_state_topic(data, &store, &mut journal, topic, now)?;
        registry.insert(Arc::new(entry));
        applied.insert(topic.tag(), reached);
        views.insert(topic.tag(), view);
    }
    let metadata = views.get(&StateTopic::Metadata.tag()).map(Metadata::from_view);
    let mut metadata = metadata.unwrap_or_default();
    for topic in std::mem::take(&mut metadata.topics) {
        let settings = TopicSettings::resolve(&topic.overrides, &metadata.server_configs);
        let starts = metadata.log_starts.get(&topic.id);
        let saved = |key: PartitionKey| {
            let mut saved = load_saved(&store, key);
            let start = starts.and_then(|starts| starts.get(&key.partition)).copied();
            saved.log_start_offset = saved.log_start_offset.max(start.unwrap_or(0));
            saved
        };
        let entry = open_entry(data, topic, settings, now, saved);
        restore_entry(data, &entry, &mut journal, now)?;
        registry.insert(Arc::new(entry));
    }
    clean_up(data, &registry);
    Ok(Opened { store, registry, metadata, applied, views, journal })
}

/// Opens the store; a damaged one is moved away, because the log has everything.
fn open_store(dir: &Path) -> Result<Store, OpenError> {
    let attempt = || {
        // sled can panic on damaged files.
        std::panic::catch_unwind(AssertUnwindSafe(|| Store::open(dir)))
            .unwrap_or(Err(StoreError::Damaged("sled panicked")))
    };
    match attempt() {
        Err(StoreError::Sled(_) | StoreError::Damaged(_)) => {}
        other => return Ok(other?),
    }
    let aside = dir.with_extension("damaged");
    if aside.exists() {
        std::fs::remove_dir_all(&aside)?;
    }
    std::fs::rename(dir, &aside)?;
    tracing::warn!(
        moved_to = %aside.display(),
        "store is damaged and was moved away, rebuilding it from the log"
    );
    Ok(attempt()?)
}

/// What the store saved of a partition; nothing when it cannot tell, which costs a scan.
fn load_saved(store: &Store, key: PartitionKey) -> SavedPartition {
    store.load_partition(key).unwrap_or_else(|error| {
        tracing::warn!(%error, "store cannot be read, scanning a partition instead");
        SavedPartition::default()
    })
}

fn open_state_topic(
    data: &DataDir,
    store: &Store,
    journal: &mut JournalContents,
    topic: StateTopic,
    now: TimestampMs,
) -> Result<(TopicEntry, View, Offset), OpenError> {
    let name = topic.topic_name().ok_or_else(|| std::io::Error::other("bad internal name"))?;
    let key = PartitionKey { topic: topic.id().as_u128(), partition: 0 };
    let dir = data.partition_dir(topic.id(), 0);
    let partition = Partition::open(
        TopicPartition::new(name.clone(), 0),
        &dir,
        StateTopic::log_config(),
        load_saved(store, key),
        now,
    );
    let failed = |source| OpenError::StateTopic { topic: topic.name(), source };
    let partition = Arc::new(partition.map_err(failed)?);
    restore(&partition, &journal.take(journal_key(key)), now)?;
    let end = partition.high_watermark();
    let mut applied = store.applied(topic.tag())?;
    let mut view = store.load_state(topic.tag())?;
    if applied > end {
        // The log is shorter than what the store has seen: only the log counts.
        let stale: Vec<_> = view.into_keys().map(|key| (key, None)).collect();
        store.apply_state(topic.tag(), &stale, 0)?;
        (applied, view) = (0, View::new());
    }
    let replayed = changes_since(&partition, applied, end);
    let (changes, _) =
        replayed.map_err(|source| OpenError::Replay { topic: topic.name(), source })?;
    for (key, value) in changes {
        match value {
            Some(value) => view.insert(key, value),
            None => view.remove(&key),
        };
    }
    // The store catches up later, when what was replayed is known to be on disk.
    let entry = TopicEntry::internal(internal_topic(name, topic.id()), partition);
    Ok((entry, view, applied))
}

const fn journal_key(key: PartitionKey) -> JournalKey {
    JournalKey { topic: TopicId::from_u128(key.topic), partition: key.partition }
}

/// Puts back what the journal has of a topic; what it has of a partition that is not served is
/// kept until it is.
fn restore_entry(
    data: &DataDir,
    entry: &TopicEntry,
    journal: &mut JournalContents,
    now: TimestampMs,
) -> std::io::Result<()> {
    let topic = entry.topic.id;
    for (partition, slot) in (0_i32..).zip(&entry.partitions) {
        let dir = data.partition_dir(topic, partition);
        let batches = journal.take(JournalKey { topic, partition });
        match slot {
            Ok(served) => {
                let rescued = rescue::read(&dir)?;
                restore(served, &rescued, now)?;
                restore(served, &batches, now)?;
                rescue::forget(&dir)?;
            }
            Err(_) => rescue::keep(&dir, &batches)?,
        }
    }
    Ok(())
}

/// Puts back what the journal has and the segments lost, and syncs it: the journal is written
/// anew after this.
fn restore(
    partition: &Partition,
    batches: &[(Offset, Bytes)],
    now: TimestampMs,
) -> std::io::Result<()> {
    if batches.is_empty() {
        return Ok(());
    }
    let restored = partition.restore(batches, now)?;
    if restored > 0 {
        tracing::warn!(partition = %partition.name(), restored, "batches came back by the journal");
    }
    // What is there already may be only in the page cache.
    partition.sync_now()
}

/// Opens the partitions of a topic; one that is damaged is served by errors, the others by data.
pub(super) fn open_entry(
    data: &DataDir,
    topic: Topic,
    settings: TopicSettings,
    now: TimestampMs,
    saved: impl Fn(PartitionKey) -> SavedPartition,
) -> TopicEntry {
    let all = 0..topic.partition_count;
    let partitions = open_partitions(data, &topic, all, &settings, now, saved);
    TopicEntry { topic: Arc::new(topic), settings, partitions }
}

/// Opens some partitions of a topic.
pub(super) fn open_partitions(
    data: &DataDir,
    topic: &Topic,
    numbers: std::ops::Range<PartitionId>,
    settings: &TopicSettings,
    now: TimestampMs,
    saved: impl Fn(PartitionKey) -> SavedPartition,
) -> Vec<Slot> {
    let open = |partition: PartitionId| -> Slot {
        let name = TopicPartition::new(topic.name.clone(), partition);
        let dir = data.partition_dir(topic.id, partition);
        let key = PartitionKey { topic: topic.id.as_u128(), partition };
        match Partition::open(name.clone(), &dir, settings.log.clone(), saved(key), now) {
            Ok(opened) => Ok(Arc::new(opened)),
            Err(error) => {
                tracing::error!(partition = %name, %error, "partition is not served");
                Err(Arc::from(error.to_string()))
            }
        }
    };
    numbers.map(open).collect()
}

/// Removes folders of deleted topics and reports folders that no topic claims.
fn clean_up(data: &DataDir, registry: &Registry) {
    let (live, condemned) = match data.list_topics() {
        Ok(listed) => listed,
        Err(error) => {
            tracing::warn!(%error, "data directory cannot be listed");
            return;
        }
    };
    for path in condemned {
        if let Err(error) = DataDir::remove_condemned(&path) {
            tracing::warn!(path = %path.display(), %error, "deleted topic cannot be removed");
        }
    }
    for id in live.into_iter().filter(|id| registry.find_by_id(*id).is_none()) {
        // A crash between making folders and recording the topic, or lost metadata: keep it.
        tracing::warn!(topic_id = %id, "folder belongs to no topic and is left alone");
    }
}
