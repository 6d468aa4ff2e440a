//! The one thread that touches the store.
//!
//! It pulls: every interval it asks each partition what changed since its last checkpoint and
//! reads the state topics from where it stopped. Nothing is ever queued for it that could be lost
//! or could fill up, because the log keeps everything (ADR 0002). Checkpoints only bound what a
//! start has to read again.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::registry::Registry;
use super::state_log::{StateTopic, changes_since};
use crate::base::ids::Offset;
use crate::log::index::SparseIndex;
use crate::store::keys::PartitionKey;
use crate::store::{Store, StoreError};

/// Time between sweeps: what is replayed after a kill was written within one interval.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// Sweeps between checkpoints of users' partitions: a checkpoint syncs, and a sync each second
/// costs a busy log much of its speed. A start after a kill verifies at most what was written
/// since, at several GB/s.
const SWEEPS_PER_CHECKPOINT: u32 = 5;

/// Requests that may wait for the thread; cold index loads and deletions are rare.
const REQUESTS_MAX: usize = 1024;

enum Request {
    LoadIndex(PartitionKey, Offset, oneshot::Sender<SparseIndex>),
    Forget(Vec<PartitionKey>),
    Stop,
}

/// The way to the store's thread.
#[derive(Debug)]
pub(super) struct StoreThread {
    requests: SyncSender<Request>,
    thread: Mutex<Option<JoinHandle<()>>>,
    healthy: Arc<AtomicBool>,
}

impl StoreThread {
    /// Starts the thread; `applied` says how far each state topic is in the store.
    pub(super) fn start(
        store: Store,
        registry: Arc<Registry>,
        applied: HashMap<u8, Offset>,
    ) -> std::io::Result<Self> {
        let (requests, inbox) = mpsc::sync_channel(REQUESTS_MAX);
        let healthy = Arc::new(AtomicBool::new(true));
        let worker = Worker { store, registry, applied, healthy: Arc::clone(&healthy) };
        let builder = std::thread::Builder::new().name("store".to_owned());
        let thread = builder.spawn(move || worker.serve(&inbox))?;
        Ok(Self { requests, thread: Mutex::new(Some(thread)), healthy })
    }

    /// Loads the saved index of a segment; empty when there is none or the thread is busy, which
    /// makes the caller scan the segment instead.
    pub(super) async fn load_index(&self, key: PartitionKey, base_offset: Offset) -> SparseIndex {
        let (reply, answer) = oneshot::channel();
        let request = Request::LoadIndex(key, base_offset, reply);
        match self.requests.try_send(request) {
            Ok(()) => answer.await.unwrap_or_default(),
            Err(_) => SparseIndex::default(),
        }
    }

    /// Forgets deleted partitions; when the thread is busy their rows stay and are never read,
    /// because topic ids are not reused.
    pub(super) fn forget(&self, keys: Vec<PartitionKey>) {
        let _may_stay = self.requests.try_send(Request::Forget(keys));
    }

    /// Tells whether the last sweep could write the store.
    pub(super) fn is_healthy(&self) -> bool {
        self.healthy.load(Ordering::Relaxed)
    }

    /// Makes a last checkpoint and ends the thread. Blocks until it has ended.
    pub(super) fn stop(&self) {
        let _ended_already = self.requests.send(Request::Stop);
        if let Some(thread) = self.thread.lock().take() {
            let _panicked = thread.join();
        }
    }
}

/// Which partitions a sweep covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extent {
    /// Those of the state topics.
    State,
    /// All.
    All,
}

struct Worker {
    store: Store,
    registry: Arc<Registry>,
    applied: HashMap<u8, Offset>,
    healthy: Arc<AtomicBool>,
}

impl Worker {
    fn serve(mut self, inbox: &Receiver<Request>) {
        let mut sweeps = 0_u32;
        loop {
            match inbox.recv_timeout(SWEEP_INTERVAL) {
                Ok(Request::LoadIndex(key, base_offset, reply)) => {
                    let index = self.store.load_index(key, base_offset);
                    // Nobody may wait any more; without an index the segment is scanned.
                    let _unheard = reply.send(index.unwrap_or_default());
                }
                Ok(Request::Forget(keys)) => self.forget(&keys),
                Err(RecvTimeoutError::Timeout) => {
                    sweeps = sweeps.wrapping_add(1);
                    let is_due = sweeps.is_multiple_of(SWEEPS_PER_CHECKPOINT);
                    self.sweep(if is_due { Extent::All } else { Extent::State });
                }
                Ok(Request::Stop) | Err(RecvTimeoutError::Disconnected) => {
                    self.sweep(Extent::All);
                    return;
                }
            }
        }
    }

    fn forget(&self, keys: &[PartitionKey]) {
        for key in keys {
            if let Err(error) = self.store.forget_partition(*key) {
                tracing::warn!(%error, "store keeps rows of a deleted partition");
            }
        }
    }

    fn sweep(&mut self, extent: Extent) {
        let result = self.checkpoint(extent).and_then(|changed| {
            let changed = changed | self.apply_state()?;
            if changed { self.store.flush() } else { Ok(()) }
        });
        let was_healthy = self.healthy.swap(result.is_ok(), Ordering::Relaxed);
        if let Err(error) = result
            && was_healthy
        {
            tracing::error!(%error, "store cannot be written, starts will be slower until it can");
        }
    }

    fn checkpoint(&self, extent: Extent) -> Result<bool, StoreError> {
        let mut changed = false;
        for entry in self.registry.snapshot() {
            if extent == Extent::State && !entry.topic.is_internal {
                continue;
            }
            for (key, partition) in entry.served() {
                // A failed sync has been logged and took the partition offline.
                let Ok(Some(checkpoint)) = partition.checkpoint() else { continue };
                changed = true;
                if let Err(error) = self.store.apply_checkpoint(key, &checkpoint) {
                    partition.forget_checkpoint();
                    return Err(error);
                }
            }
        }
        Ok(changed)
    }

    fn apply_state(&mut self) -> Result<bool, StoreError> {
        let mut changed = false;
        for topic in StateTopic::ALL {
            let Some(entry) = self.registry.find(topic.name()) else { continue };
            let Some((_, partition)) = entry.served().next() else { continue };
            let from = self.applied.get(&topic.tag()).copied().unwrap_or(0);
            let until = partition.durable_end();
            if from >= until {
                continue;
            }
            match changes_since(partition, from, until) {
                Ok((changes, reached)) => {
                    self.store.apply_state(topic.tag(), &changes, reached)?;
                    self.applied.insert(topic.tag(), reached);
                    changed = true;
                }
                Err(error) => {
                    tracing::error!(topic = topic.name(), %error, "state topic cannot be read");
                }
            }
        }
        Ok(changed)
    }
}
