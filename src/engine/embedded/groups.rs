//! The `Groups` role: gives events to the pure coordinator and performs what it answers.
//!
//! A group's events are handled under its lock, and its records are appended under the same lock,
//! so the log has them in the order of the states. Replies that depend on a durable record wait
//! for it outside the lock. Nothing here decides anything about groups.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use tokio::sync::oneshot;

mod commit;
mod loaded;
mod removal;

use super::group_timers::GroupTimers;
use super::registry::Registry;
use super::state_log::StateLog;
use crate::base::clock::SharedClock;
use crate::base::ids::{GroupId, MemberId, TopicName, TopicPartition};
use crate::base::limits::GROUPS_MAX;
use crate::base::shutdown::Shutdown;
use crate::coordinator::group::{
    Effect, Effects, Event, Group, GroupConfig, GroupSnapshot, HeartbeatRequest, JoinRequest,
    LeaveRequest, Persist, PersistLevel, Reply, ReplyTo, SyncRequest, records,
};
use crate::engine::groups::{
    CommitResults, CommittedOffset, DeleteOffsetResults, GroupDescription, GroupError, Groups,
    Join, JoinRefusal, JoinReply, LeaveMember, LeaveResult, Membership, OffsetQuery,
    OffsetToCommit, Sync, SyncReply,
};
use crate::engine::{BoxFuture, GroupChanges};
use crate::log::Promise;

pub(super) use loaded::LoadedGroups;

/// One group with the requests that wait for it.
#[derive(Debug)]
pub(super) struct GroupCell {
    id: GroupId,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    group: Group,
    waiters: HashMap<ReplyTo, oneshot::Sender<Reply>>,
    /// The cell is out of the map: look the group up again.
    retired: bool,
}

/// Whether a reply goes out at once or after the record before it is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    No,
    ForRecord,
}

/// A reply on its way.
type Delivery = (oneshot::Sender<Reply>, Reply, Wait);

/// The replies of one event, and what some of them wait for.
type Performed = (Vec<Delivery>, Option<Promise>);

/// The groups of this process.
#[derive(Clone)]
pub(super) struct EmbeddedGroups {
    shared: Arc<Shared>,
}

struct Shared {
    cells: RwLock<HashMap<GroupId, Arc<GroupCell>>>,
    state: StateLog,
    registry: Arc<Registry>,
    config: GroupConfig,
    clock: SharedClock,
    shutdown: Shutdown,
    timers: GroupTimers,
    changes: Arc<GroupChanges>,
    next_reply: AtomicU64,
}

/// Withdraws a parked request when nobody waits for it any more.
struct Waiting {
    shared: Arc<Shared>,
    cell: Option<Arc<GroupCell>>,
    reply_to: ReplyTo,
    answer: oneshot::Receiver<Reply>,
}

impl Waiting {
    async fn reply(mut self) -> Option<Reply> {
        let reply = (&mut self.answer).await.ok();
        self.cell = None;
        reply
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(cell) = self.cell.take() {
            self.shared.handle(&cell, Event::Cancel { reply_to: self.reply_to }, None);
        }
    }
}

/// What the groups need from the rest of the broker.
pub(super) struct GroupParts {
    pub(super) state: StateLog,
    pub(super) registry: Arc<Registry>,
    pub(super) config: GroupConfig,
    pub(super) clock: SharedClock,
    pub(super) shutdown: Shutdown,
}

impl EmbeddedGroups {
    /// Brings the groups back and starts the task that wakes them in time.
    pub(super) fn start(parts: GroupParts, mut loaded: LoadedGroups) -> Self {
        let now = parts.clock.now_ms();
        let mut cells = HashMap::new();
        let timers = GroupTimers::default();
        let only_offsets: Vec<_> = loaded.offsets.keys().cloned().collect();
        for id in only_offsets {
            loaded.groups.entry(id).or_default();
        }
        for (id, snapshot) in loaded.groups {
            let mut group = Group::restore(id.clone(), snapshot, now);
            group.apply_commit(loaded.offsets.remove(&id).unwrap_or_default());
            timers.schedule(&id, group.next_deadline());
            cells.insert(id.clone(), Arc::new(GroupCell::new(id, group)));
        }
        let shared = Arc::new(Shared {
            cells: RwLock::new(cells),
            state: parts.state,
            registry: parts.registry,
            config: parts.config,
            clock: parts.clock,
            shutdown: parts.shutdown.clone(),
            timers,
            changes: Arc::default(),
            next_reply: AtomicU64::new(1),
        });
        shared.remove_orphaned_offsets();
        let ticking = Arc::clone(&shared);
        parts.shutdown.spawn(async move {
            let stopping = ticking.shutdown.clone();
            let tick = |id: &GroupId| {
                if let Some(cell) = ticking.find(id) {
                    ticking.handle(&cell, Event::Tick, None);
                }
            };
            tokio::select! {
                () = stopping.stopping() => {}
                () = ticking.timers.run(&ticking.clock, tick) => {}
            }
        });
        Self { shared }
    }

    /// Answers every parked join and sync, so that their connections can close.
    pub(super) fn release_waiters(&self) {
        self.shared.release_waiters();
    }

    /// Drops expired offsets and groups that hold nothing any more.
    pub(super) fn expire(&self) {
        self.shared.expire();
    }

    /// Removes the offsets that any group committed for a topic that is out of the registry.
    pub(super) fn remove_offsets_of(&self, topic: &TopicName) {
        self.shared.remove_offsets_of(topic);
    }

    /// An answer that waits until its records are on disk.
    fn when_kept<T: Send + 'static>(
        &self,
        done: Result<(T, Option<Promise>), GroupError>,
    ) -> BoxFuture<Result<T, GroupError>> {
        let state = self.shared.state.clone();
        Box::pin(async move {
            let (answer, promise) = done?;
            if let Some(promise) = promise {
                let durable = state.wait(promise).await;
                durable.map_err(|_| GroupError::CoordinatorNotAvailable)?;
            }
            Ok(answer)
        })
    }

    /// Number of groups, and of their members.
    pub(super) fn counts(&self) -> (usize, usize) {
        let cells = self.shared.cells.read();
        let members = cells.values().map(|cell| cell.inner.lock().group.describe().members.len());
        (cells.len(), members.sum())
    }
}

impl GroupCell {
    fn new(id: GroupId, group: Group) -> Self {
        let inner = Inner { group, waiters: HashMap::new(), retired: false };
        Self { id, inner: Mutex::new(inner) }
    }
}

impl Shared {
    fn find(&self, id: &GroupId) -> Option<Arc<GroupCell>> {
        self.cells.read().get(id).cloned()
    }

    fn find_or_create(&self, id: &GroupId) -> Result<Arc<GroupCell>, GroupError> {
        if let Some(cell) = self.find(id) {
            return Ok(cell);
        }
        let mut cells = self.cells.write();
        if cells.len() >= GROUPS_MAX && !cells.contains_key(id) {
            return Err(GroupError::GroupMaxSizeReached);
        }
        let fresh = || Arc::new(GroupCell::new(id.clone(), Group::new(id.clone())));
        Ok(Arc::clone(cells.entry(id.clone()).or_insert_with(fresh)))
    }

    fn next_reply_to(&self) -> ReplyTo {
        // A plain counter: nothing else is published through it.
        ReplyTo(self.next_reply.fetch_add(1, Ordering::Relaxed))
    }

    /// Gives one event to a group and performs the effects; returns false when the cell is
    /// retired and the event must be given to a new one.
    fn handle(
        &self,
        cell: &GroupCell,
        event: Event,
        waiter: Option<(ReplyTo, oneshot::Sender<Reply>)>,
    ) -> bool {
        let now = self.clock.now_ms();
        let mut effects = Effects::new();
        let (deliveries, promise, is_changed) = {
            let mut inner = cell.inner.lock();
            if inner.retired {
                return false;
            }
            inner.waiters.extend(waiter);
            let before = (inner.group.state(), inner.group.generation_id());
            inner.group.handle(event, now, &self.config, &mut effects);
            // A static member that is replaced changes only what is kept.
            let is_changed =
                before != (inner.group.state(), inner.group.generation_id()) || effects.persists();
            let (deliveries, promise) = self.perform(cell, &mut inner, &mut effects);
            self.timers.schedule(&cell.id, inner.group.next_deadline());
            (deliveries, promise, is_changed)
        };
        if is_changed {
            self.changes.add(&cell.id);
        }
        self.deliver(deliveries, promise);
        true
    }

    /// Appends what must be kept and collects the replies; a reply behind a record that could not
    /// be appended is dropped, which its waiter reads as "not available".
    fn perform(&self, cell: &GroupCell, inner: &mut Inner, effects: &mut Effects) -> Performed {
        let mut deliveries = Vec::new();
        let mut promise = None;
        let mut failed = false;
        for effect in effects.drain() {
            match effect {
                Effect::Persist(Persist::Group { snapshot, level }) => {
                    match self.append_group(&cell.id, &snapshot) {
                        Ok(kept) if level == PersistLevel::Durable => promise = Some(kept),
                        Ok(_survives_a_kill) => {}
                        Err(reason) => {
                            tracing::error!(group = %cell.id, reason, "group cannot be kept");
                            failed = true;
                        }
                    }
                }
                Effect::Reply { to, reply } => {
                    if let Some(waiter) = inner.waiters.remove(&to)
                        && !failed
                    {
                        let wait = if promise.is_some() { Wait::ForRecord } else { Wait::No };
                        deliveries.push((waiter, reply, wait));
                    }
                }
            }
        }
        (deliveries, promise)
    }

    fn append_group(&self, id: &GroupId, snapshot: &GroupSnapshot) -> Result<Promise, String> {
        let key = records::encode_group_key(id).map_err(|error| error.to_string())?;
        let value = records::encode_group_value(snapshot).map_err(|error| error.to_string())?;
        self.state.append(&[(key, Some(value))]).map_err(|error| error.to_string())
    }

    fn deliver(&self, deliveries: Vec<Delivery>, promise: Option<Promise>) {
        let mut later = Vec::new();
        for (waiter, reply, wait) in deliveries {
            match wait {
                Wait::ForRecord => later.push((waiter, reply)),
                // The waiter may have gone away; its group knows by its session.
                Wait::No => drop(waiter.send(reply)),
            }
        }
        let Some(promise) = promise else { return };
        let state = self.state.clone();
        self.shutdown.spawn(async move {
            // A reply that is not sent reads as "not available".
            if state.wait(promise).await.is_ok() {
                for (waiter, reply) in later {
                    drop(waiter.send(reply));
                }
            }
        });
    }

    /// Starts a request and returns what waits for its answer.
    fn request(
        self: &Arc<Self>,
        group: &GroupId,
        event: impl Fn(ReplyTo) -> Event,
    ) -> Result<Waiting, GroupError> {
        loop {
            let cell = self.find_or_create(group)?;
            let reply_to = self.next_reply_to();
            let (sender, answer) = oneshot::channel();
            if self.handle(&cell, event(reply_to), Some((reply_to, sender))) {
                let shared = Arc::clone(self);
                return Ok(Waiting { shared, cell: Some(cell), reply_to, answer });
            }
        }
    }

    fn release_waiters(&self) {
        let cells: Vec<_> = self.cells.read().values().cloned().collect();
        for cell in cells {
            self.handle(&cell, Event::Shutdown, None);
        }
    }
}

impl Groups for EmbeddedGroups {
    fn join(&self, join: Join) -> BoxFuture<Result<JoinReply, JoinRefusal>> {
        let asked_with = join.member_id.clone();
        let refuse = move |error| Err(JoinRefusal { member_id: asked_with, error });
        let new_member_id = format!("{}-{}", join.client_id, uuid::Uuid::new_v4());
        let new_member_id = MemberId::from(new_member_id.as_str());
        let group = join.group.clone();
        let waiting = self.shared.request(&group, |reply_to| {
            Event::Join(JoinRequest {
                reply_to,
                member_id: join.member_id.clone(),
                group_instance_id: join.group_instance_id.clone(),
                client_id: join.client_id.clone(),
                client_host: join.client_host.clone(),
                session_timeout_ms: join.session_timeout_ms,
                rebalance_timeout_ms: join.rebalance_timeout_ms,
                protocol_type: join.protocol_type.clone(),
                protocols: join.protocols.clone(),
                new_member_id: new_member_id.clone(),
                member_id_policy: join.member_id_policy,
                skip_assignment_support: join.skip_assignment_support,
            })
        });
        Box::pin(async move {
            let waiting = match waiting {
                Ok(waiting) => waiting,
                Err(error) => return refuse(error),
            };
            match waiting.reply().await {
                Some(Reply::Join(reply)) => reply,
                _ => refuse(GroupError::CoordinatorNotAvailable),
            }
        })
    }

    fn sync(&self, sync: Sync) -> BoxFuture<Result<SyncReply, GroupError>> {
        let group = sync.group.clone();
        let waiting = self.shared.request(&group, |reply_to| {
            Event::Sync(SyncRequest {
                reply_to,
                member_id: sync.member_id.clone(),
                generation_id: sync.generation_id,
                group_instance_id: sync.group_instance_id.clone(),
                protocol_type: sync.protocol_type.clone(),
                protocol_name: sync.protocol_name.clone(),
                assignments: sync.assignments.clone(),
            })
        });
        Box::pin(async move {
            match waiting?.reply().await {
                Some(Reply::Sync(reply)) => reply,
                _ => Err(GroupError::CoordinatorNotAvailable),
            }
        })
    }

    fn heartbeat(&self, member: Membership) -> BoxFuture<Result<(), GroupError>> {
        if self.shared.find(&member.group).is_none() {
            return Box::pin(std::future::ready(Err(GroupError::UnknownMemberId)));
        }
        let waiting = self.shared.request(&member.group, |reply_to| {
            Event::Heartbeat(HeartbeatRequest {
                reply_to,
                member_id: member.member_id.clone(),
                generation_id: member.generation_id,
                group_instance_id: member.group_instance_id.clone(),
            })
        });
        Box::pin(async move {
            match waiting?.reply().await {
                Some(Reply::Heartbeat(reply)) => reply,
                _ => Err(GroupError::CoordinatorNotAvailable),
            }
        })
    }

    fn leave(
        &self,
        group: GroupId,
        members: Vec<LeaveMember>,
    ) -> BoxFuture<Result<Vec<LeaveResult>, GroupError>> {
        if self.shared.find(&group).is_none() {
            let unknown = |member| (member, Err(GroupError::UnknownMemberId));
            let results = members.into_iter().map(unknown).collect();
            return Box::pin(std::future::ready(Ok(results)));
        }
        let waiting = self.shared.request(&group, |reply_to| {
            Event::Leave(LeaveRequest { reply_to, members: members.clone() })
        });
        Box::pin(async move {
            match waiting?.reply().await {
                Some(Reply::Leave(reply)) => reply,
                _ => Err(GroupError::CoordinatorNotAvailable),
            }
        })
    }

    fn commit(
        &self,
        member: Membership,
        offsets: Vec<OffsetToCommit>,
    ) -> BoxFuture<Result<CommitResults, GroupError>> {
        let committed = self.shared.commit(&member, offsets);
        self.when_kept(committed)
    }

    fn committed(
        &self,
        group: &GroupId,
        query: &OffsetQuery,
    ) -> Result<Vec<(TopicPartition, Option<CommittedOffset>)>, GroupError> {
        let cell = self.shared.find(group);
        let inner = cell.as_ref().map(|cell| cell.inner.lock());
        Ok(match (query, inner) {
            (OffsetQuery::All, None) => Vec::new(),
            (OffsetQuery::All, Some(inner)) => {
                let all = inner.group.committed_offsets();
                all.map(|(partition, committed)| (partition.clone(), Some(committed.clone())))
                    .collect()
            }
            (OffsetQuery::Partitions(asked), None) => {
                asked.iter().map(|partition| (partition.clone(), None)).collect()
            }
            (OffsetQuery::Partitions(asked), Some(inner)) => {
                let find = |p: &TopicPartition| (p.clone(), inner.group.committed(p).cloned());
                asked.iter().map(find).collect()
            }
        })
    }

    fn delete(&self, group: &GroupId) -> BoxFuture<Result<(), GroupError>> {
        let deleted = self.shared.delete(group);
        self.when_kept(deleted.map(|promise| ((), Some(promise))))
    }

    fn delete_offsets(
        &self,
        group: &GroupId,
        partitions: &[TopicPartition],
    ) -> BoxFuture<Result<DeleteOffsetResults, GroupError>> {
        let deleted = self.shared.delete_offsets(group, partitions);
        self.when_kept(deleted)
    }

    fn describe(&self, group: &GroupId) -> Option<GroupDescription> {
        self.shared.find(group).map(|cell| cell.inner.lock().group.describe())
    }

    fn list(&self) -> Vec<GroupDescription> {
        let cells: Vec<_> = self.shared.cells.read().values().cloned().collect();
        let mut groups: Vec<_> =
            cells.iter().map(|cell| cell.inner.lock().group.describe()).collect();
        groups.sort_by(|a, b| a.group_id.cmp(&b.group_id));
        groups
    }

    fn changes(&self) -> Arc<GroupChanges> {
        Arc::clone(&self.shared.changes)
    }
}
