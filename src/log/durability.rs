//! Group commit: one `fdatasync` covers every batch that waited for it.
//!
//! A waiter asks for a sync of its partition and waits for the durable end to pass its batch. At
//! most one sync of a partition runs at a time; requests that arrive meanwhile share the next one.
//! A few threads serve all partitions, because the file system merges concurrent syncs (ADR 0003).

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex};

use super::append::AppendError;
use super::layout::sync_dir;
use super::partition::Partition;
use super::segment::Segment;
use crate::base::ids::Offset;

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
