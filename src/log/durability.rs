//! Group commit: one `fdatasync` covers every batch that waited for it.
//!
//! [`Durability`] has the one question: is this on disk? A small batch goes through the
//! [`journal`](super::journal) of all partitions, a large one syncs its segment here.
//!
//! A waiter asks for a sync of its partition and waits for the durable end to pass its batch. At
//! most one sync of a partition runs at a time; requests that arrive meanwhile share the next one.
//! A few threads serve all partitions, because the file system merges concurrent syncs (ADR 0003).

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};

use super::append::{AppendError, Appended, LEADER_EPOCH};
use super::journal::{JOURNAL_BATCH_BYTES_MAX, Journal, JournalContents, JournalKey};
use super::layout::sync_dir;
use super::partition::Partition;
use super::segment::Segment;
use crate::base::ids::Offset;
use crate::protocol::record_batch::BatchHeader;
use crate::protocol::record_batch::header::stored_prefix;

/// Threads that sync; measured in `benches/log.rs` (ADR 0003).
pub const SYNC_THREADS: usize = 8;

/// How much an acknowledgement promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AckLevel {
    /// Nothing (`acks=0`).
    None,
    /// The batch is in the operating system: it survives a kill of the process (`acks=1`).
    Written,
    /// The batch is on disk: it survives loss of power (`acks=all`).
    Durable,
}

/// What of a partition still has to be synced.
#[derive(Debug, Default)]
pub(super) struct SyncState {
    phase: Phase,
    /// Segments that were closed since the last sync.
    sealed: Vec<Arc<Segment>>,
    /// Files were created or removed since the last sync.
    dir_changed: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Phase {
    #[default]
    Idle,
    Queued,
    Running,
    /// Running, and somebody asked meanwhile.
    RunningAgain,
}

impl SyncState {
    pub(super) fn note_roll(&mut self, sealed: &Arc<Segment>) {
        self.sealed.push(Arc::clone(sealed));
        self.dir_changed = true;
    }

    pub(super) const fn note_dir_change(&mut self) {
        self.dir_changed = true;
    }
}

impl Partition {
    /// Waits until everything before `end` is on disk, asking `committer` to make it so.
    ///
    /// # Errors
    /// [`AppendError::Offline`] when the sync failed.
    ///
    /// # Cancel safety
    /// Safe: the sync happens all the same.
    pub async fn wait_durable(
        self: &Arc<Self>,
        end: Offset,
        committer: &Committer,
    ) -> Result<(), AppendError> {
        if self.durable_end() >= end {
            return Ok(());
        }
        let mut durable = self.durable_end.subscribe();
        committer.request(self);
        // The guard that `wait_for` returns must go at once: a second look at the value while a
        // sync waits to write it would block for ever.
        let reached = durable.wait_for(|now| *now >= end || self.is_offline()).await;
        let is_durable = reached.is_ok_and(|now| *now >= end);
        if is_durable { Ok(()) } else { Err(AppendError::Offline) }
    }

    /// Syncs everything appended so far, on the calling thread.
    ///
    /// # Errors
    /// What the file system reports; the partition is offline then, because a later sync could
    /// succeed without the lost pages (the "fsyncgate" of 2018).
    pub fn sync_now(&self) -> io::Result<()> {
        let (active, end) = {
            let writer = self.writer.lock();
            (Arc::clone(&writer.active), writer.next_offset)
        };
        let (sealed, dir_changed) = {
            let mut sync = self.sync.lock();
            (std::mem::take(&mut sync.sealed), std::mem::take(&mut sync.dir_changed))
        };
        if self.abandoned.load(Ordering::Acquire) {
            self.durable_end.send_replace(end);
            return Ok(());
        }
        let result = sealed
            .iter()
            .chain([&active])
            .try_for_each(|segment| segment.file().sync_data())
            .and_then(|()| if dir_changed { sync_dir(&self.dir) } else { Ok(()) });
        if let Err(error) = result {
            self.offline.store(true, Ordering::Release);
            self.durable_end.send_modify(|_| {});
            tracing::error!(partition = %self.name, %error, "sync failed, partition is offline");
            return Err(error);
        }
        self.durable_end.send_if_modified(|now| {
            let grows = end > *now;
            *now = end.max(*now);
            grows
        });
        Ok(())
    }
}

/// How a batch that was appended gets onto the disk.
#[derive(Debug)]
#[must_use = "a promise is kept by waiting for it"]
pub enum Promise {
    /// It is there already.
    Kept,
    /// By the journal, at this position.
    Journal(u64),
    /// By a sync of its partition, up to this offset.
    Segment(Arc<Partition>, Offset),
}

/// The journal and the sync threads together.
#[derive(Debug)]
pub struct Durability {
    committer: Committer,
    journal: Journal,
}

impl Durability {
    /// Starts the threads on a journal whose contents are in their segments and synced.
    ///
    /// # Errors
    /// What the system reports.
    pub fn start(journal_dir: &Path, contents: &JournalContents) -> io::Result<Self> {
        let committer = Committer::start(SYNC_THREADS)?;
        Ok(Self { committer, journal: Journal::start(journal_dir, contents)? })
    }

    /// Starts to make a batch durable that was just appended.
    pub fn promise(
        &self,
        key: JournalKey,
        partition: &Arc<Partition>,
        appended: &Appended,
        header: &BatchHeader,
        batch: &Bytes,
    ) -> Promise {
        let end = appended.end_offset;
        if partition.durable_end() >= end {
            return Promise::Kept;
        }
        // A batch that the broker stamped is stored with other bytes than it came with, and one
        // that was appended by an earlier call may not be in the journal.
        let is_as_it_came = appended.log_append_time < 0 && !appended.is_duplicate;
        if is_as_it_came && batch.len() <= JOURNAL_BATCH_BYTES_MAX {
            let prefix = stored_prefix(header, appended.base_offset, LEADER_EPOCH);
            if let Some(at) = self.journal.append(key, partition, end, prefix, batch) {
                return Promise::Journal(at);
            }
        }
        Promise::Segment(Arc::clone(partition), end)
    }

    /// Waits until a promise is kept.
    ///
    /// # Errors
    /// [`AppendError::Offline`] when it cannot be kept.
    ///
    /// # Cancel safety
    /// Safe: what was promised happens all the same.
    pub async fn wait(&self, promise: Promise) -> Result<(), AppendError> {
        match promise {
            Promise::Kept => Ok(()),
            Promise::Journal(position) => {
                if self.journal.wait(position).await {
                    Ok(())
                } else {
                    Err(AppendError::Offline)
                }
            }
            Promise::Segment(partition, end) => partition.wait_durable(end, &self.committer).await,
        }
    }

    /// Finishes what is waiting and ends the threads.
    pub fn stop(&self) {
        self.journal.stop();
        self.committer.stop();
    }
}

/// The threads that sync partitions on request.
#[derive(Debug)]
pub struct Committer {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Bounded by the number of partitions: each is queued at most once.
    queue: Mutex<Queue>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    partitions: VecDeque<Arc<Partition>>,
    stopping: bool,
}

impl Committer {
    /// Starts the threads.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn start(thread_count: usize) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let mut threads = Vec::with_capacity(thread_count);
        for number in 0..thread_count {
            let shared = Arc::clone(&shared);
            let name = format!("log-sync-{number}");
            threads.push(std::thread::Builder::new().name(name).spawn(move || shared.serve())?);
        }
        Ok(Self { shared, threads: Mutex::new(threads) })
    }

    /// Asks for a sync of `partition`; returns at once.
    pub fn request(&self, partition: &Arc<Partition>) {
        let mut sync = partition.sync.lock();
        match sync.phase {
            Phase::Idle => sync.phase = Phase::Queued,
            Phase::Running => {
                sync.phase = Phase::RunningAgain;
                return;
            }
            Phase::Queued | Phase::RunningAgain => return,
        }
        drop(sync);
        self.shared.push(Arc::clone(partition));
    }

    /// Finishes what is queued and ends the threads.
    pub fn stop(&self) {
        self.shared.queue.lock().stopping = true;
        self.shared.wake.notify_all();
        for thread in self.threads.lock().drain(..) {
            let _ended = thread.join();
        }
    }
}

impl Shared {
    fn push(&self, partition: Arc<Partition>) {
        self.queue.lock().partitions.push_back(partition);
        self.wake.notify_one();
    }

    fn next(&self) -> Option<Arc<Partition>> {
        let mut queue = self.queue.lock();
        loop {
            if let Some(partition) = queue.partitions.pop_front() {
                return Some(partition);
            }
            if queue.stopping {
                return None;
            }
            self.wake.wait(&mut queue);
        }
    }

    fn serve(&self) {
        while let Some(partition) = self.next() {
            partition.sync.lock().phase = Phase::Running;
            // A failure has marked the partition offline and woken its waiters.
            let _logged = partition.sync_now();
            let again = {
                let mut sync = partition.sync.lock();
                let again = sync.phase == Phase::RunningAgain;
                sync.phase = if again { Phase::Queued } else { Phase::Idle };
                again
            };
            if again {
                self.push(partition);
            }
        }
    }
}
