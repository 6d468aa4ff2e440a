//! One reader of a group: what it is, what it reads, where it stands.
//!
//! It is either a consumer instance, which is kept in the store under its URL, or the static
//! member behind streams and bounded reads, of which nothing is kept ([`Kind`]).
//!
//! Locks, always taken in this order and the first three held over awaits:
//! `control` (one change of what is read at a time), `turn` (one poll at a time), `commits` (the
//! coordinator sees commits in the order of the positions), `saves` (documents are written in the
//! order of the changes), `state`. An idle instance has no task, no timer and no buffer.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Mutex as AsyncMutex, Notify};

use super::document::{Kept, KeptSource};
use super::error::ConsumerError;
use super::live::Session;
use super::poll::Turn;
use super::positions::{Hold, Slot, find_slot};
use super::registry::Shared;
use super::settings::Settings;
use super::subscription::Subscription;
use crate::base::clock::SharedClock;
use crate::base::ids::{TimestampMs, TopicName, TopicPartition};
use crate::engine::BoxFuture;
use crate::engine::groups::{GroupError, Membership};
use crate::engine::instances::{InstanceKey, InstanceStoreError};

/// Who an instance is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A consumer instance: a dynamic member that has a URL and is kept over restarts.
    Kept,
    /// A static member (KIP-345) whose name is its `group.instance.id`. Nothing of it is kept:
    /// after a restart its client's cursor, the committed offsets and the coordinator's memory of
    /// static members tell the rest.
    Static,
}

/// One consumer instance, or the static member of a stream.
pub(super) struct Instance {
    pub(super) key: InstanceKey,
    pub(super) kind: Kind,
    pub(super) settings: Settings,
    pub(super) created_ms: TimestampMs,
    /// When the last call began or ended; idle expiry counts from it.
    last_call_ms: AtomicI64,
    /// Calls under way: a long poll is no idleness.
    calls: AtomicU32,
    state: Mutex<State>,
    /// Woken when `State::version` or the member's phase changes.
    pub(super) changed: Notify,
    /// Held by a poll until its delivery is confirmed or dropped, hence shared.
    pub(super) turn: Arc<AsyncMutex<Turn>>,
    pub(super) control: AsyncMutex<()>,
    pub(super) commits: AsyncMutex<()>,
    saves: Mutex<()>,
}

/// What an instance reads.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Source {
    #[default]
    None,
    /// By membership in the group.
    Subscribed {
        subscription: Subscription,
        /// The topics of the subscription when it was last looked at, sorted.
        matched: Arc<[TopicName]>,
    },
    /// By hand, without membership; sorted.
    Assigned(Vec<TopicPartition>),
}

/// How far the membership is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Phase {
    /// The instance is no member and wants to be none.
    #[default]
    Out,
    /// A driver joins the group; no partition may be read.
    Joining,
    /// The slots are the member's assignment.
    Stable,
    /// The coordinator refused for good; the next poll tries again.
    Failed(GroupError),
}

/// The membership in the group.
#[derive(Debug, Default)]
pub(super) struct Member {
    /// Empty before the first join.
    pub(super) id: String,
    /// -1 before the first assignment.
    pub(super) generation_id: i32,
    pub(super) phase: Phase,
    /// A driver task runs; there is never a second one.
    pub(super) is_driven: bool,
    /// Something changed since the driver began its round: it must do another.
    pub(super) is_stale: bool,
    pub(super) is_heartbeat_under_way: bool,
}

/// The topics whose changes call for a new assignment: the leader watches those of all members.
#[derive(Debug, Clone, Default)]
pub(super) struct Watched {
    pub(super) topics: Arc<[TopicName]>,
    pub(super) fingerprint: u64,
}

/// The changing part of an instance.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) source: Source,
    pub(super) member: Member,
    pub(super) watched: Watched,
    /// Sorted by partition.
    pub(super) slots: Vec<Slot>,
    /// Positions from before a restart, until the first assignment takes them over; sorted.
    pub(super) revived: Vec<(TopicPartition, Hold)>,
    /// Changes whenever a poll under way must look again.
    pub(super) version: u64,
    /// Changes whenever the membership of before is over: a driver drops what it knows.
    pub(super) epoch: u64,
    pub(super) is_closed: bool,
    /// The stream that reads as this member; of no use to a kept instance.
    pub(super) session: Session,
    pub(super) auto_committed_ms: TimestampMs,
    token_last: u64,
}

// === impl Instance ===

impl Instance {
    pub(super) fn new(key: InstanceKey, kind: Kind, settings: Settings, now: TimestampMs) -> Self {
        let member = Member { generation_id: -1, ..Member::default() };
        let state = State { member, auto_committed_ms: now, ..State::default() };
        Self {
            key,
            kind,
            settings,
            created_ms: now,
            last_call_ms: AtomicI64::new(now),
            calls: AtomicU32::new(0),
            state: Mutex::new(state),
            changed: Notify::new(),
            turn: Arc::default(),
            control: AsyncMutex::new(()),
            commits: AsyncMutex::new(()),
            saves: Mutex::new(()),
        }
    }

    /// Makes the instance that `kept` describes; its membership is not revived yet.
    pub(super) fn revive(key: InstanceKey, kept: Kept, now: TimestampMs) -> Self {
        let mut instance = Self::new(key, Kind::Kept, kept.settings, now);
        instance.created_ms = kept.created_ms;
        let state = instance.state.get_mut();
        state.member.id = kept.member_id;
        state.member.generation_id = kept.generation_id;
        state.revived = kept.holds;
        state.source = match kept.source {
            KeptSource::None => Source::None,
            KeptSource::Subscribed(subscription) => {
                Source::Subscribed { subscription, matched: Arc::default() }
            }
            KeptSource::Assigned(partitions) => Source::Assigned(partitions),
        };
        instance
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Wakes whoever waits for a change of the state.
    pub(super) fn notify(&self) {
        self.changed.notify_waiters();
    }

    pub(super) fn not_found(&self) -> ConsumerError {
        ConsumerError::NotFound { group: self.key.group.to_string(), name: self.key.name.clone() }
    }

    /// Tells since when nobody called; none while a call is under way.
    pub(super) fn idle_since(&self) -> Option<TimestampMs> {
        let is_called = self.calls.load(Ordering::Acquire) > 0;
        (!is_called).then(|| self.last_call_ms.load(Ordering::Acquire))
    }

    /// The identity of a static member.
    pub(super) fn group_instance_id(&self) -> Option<String> {
        (self.kind == Kind::Static).then(|| self.key.name.clone())
    }

    /// Hands the document of the present state to the store. A closed instance has none, nor has
    /// a static member.
    ///
    /// The store keeps the document whether or not the answer is awaited.
    pub(super) fn save(&self, shared: &Shared) -> BoxFuture<Result<(), InstanceStoreError>> {
        let _order = self.saves.lock();
        let document = {
            let state = self.state();
            if state.is_closed || self.kind == Kind::Static {
                return Box::pin(std::future::ready(Ok(())));
            }
            self.kept(&state).encode()
        };
        shared.engine.instances.put(&self.key, document)
    }

    /// Removes the document; the instance must be closed already.
    pub(super) fn forget(&self, shared: &Shared) -> BoxFuture<Result<(), InstanceStoreError>> {
        let _order = self.saves.lock();
        match self.kind {
            Kind::Kept => shared.engine.instances.remove(&self.key),
            Kind::Static => Box::pin(std::future::ready(Ok(()))),
        }
    }

    /// Says who speaks when positions are committed.
    pub(super) fn membership(&self, state: &State) -> Membership {
        let group = self.key.group.clone();
        match &state.source {
            Source::Subscribed { .. } => Membership {
                group,
                member_id: state.member.id.clone(),
                generation_id: state.member.generation_id,
                group_instance_id: self.group_instance_id(),
            },
            Source::None | Source::Assigned(_) => Membership::none(group),
        }
    }

    fn kept(&self, state: &State) -> Kept {
        let source = match &state.source {
            Source::None => KeptSource::None,
            Source::Subscribed { subscription, .. } => KeptSource::Subscribed(subscription.clone()),
            Source::Assigned(partitions) => KeptSource::Assigned(partitions.clone()),
        };
        let held = state.slots.iter().filter_map(|s| Some((s.partition.clone(), s.hold?)));
        let mut holds: Vec<(TopicPartition, Hold)> = held.collect();
        let is_new = |held: &&(TopicPartition, Hold)| find_slot(&state.slots, &held.0).is_none();
        holds.extend(state.revived.iter().filter(is_new).cloned());
        holds.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        Kept {
            created_ms: self.created_ms,
            settings: self.settings.clone(),
            source,
            member_id: state.member.id.clone(),
            generation_id: state.member.generation_id,
            holds,
        }
    }
}

impl std::fmt::Debug for Instance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Instance").field("key", &self.key).finish_non_exhaustive()
    }
}

// === impl State ===

impl State {
    /// Makes a token that no slot has or had.
    pub(super) const fn fresh_token(&mut self) -> u64 {
        self.token_last += 1;
        self.token_last
    }

    /// Ends what is read and the membership; returns the id that must leave the group.
    pub(super) fn detach(&mut self) -> Option<String> {
        self.source = Source::None;
        self.slots = Vec::new();
        self.revived = Vec::new();
        self.watched = Watched::default();
        self.version += 1;
        self.epoch += 1;
        self.member.phase = Phase::Out;
        self.forget_member()
    }

    /// The coordinator refused for good: nothing is read any more.
    pub(super) fn fail(&mut self, error: GroupError) {
        self.member.phase = Phase::Failed(error);
        self.slots = Vec::new();
        self.version += 1;
    }

    /// Gives the member's identity up; the next join is that of a new member.
    pub(super) fn forget_member(&mut self) -> Option<String> {
        self.member.generation_id = -1;
        let id = std::mem::take(&mut self.member.id);
        (!id.is_empty()).then_some(id)
    }

    /// The client came back: everything delivered has arrived.
    pub(super) fn acknowledge(&mut self) {
        self.slots.iter_mut().for_each(Slot::acknowledge);
    }
}

// === Call ===

/// A call under way on an instance that exists.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) instance: Arc<Instance>,
    clock: ClockHandle,
}

/// The clock, in a wrapper that can be printed.
struct ClockHandle(SharedClock);

impl std::fmt::Debug for ClockHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clock")
    }
}

impl Call {
    /// Begins a call, unless the instance is closed.
    pub(super) fn begin(
        instance: Arc<Instance>,
        clock: SharedClock,
    ) -> Result<Self, ConsumerError> {
        // Counted first: expiry looks at the count while it holds the state.
        instance.calls.fetch_add(1, Ordering::AcqRel);
        let call = Self { instance, clock: ClockHandle(clock) };
        call.touch();
        if call.instance.state().is_closed {
            return Err(call.instance.not_found());
        }
        Ok(call)
    }

    fn touch(&self) {
        self.instance.last_call_ms.store(self.clock.0.now_ms(), Ordering::Release);
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.touch();
        self.instance.calls.fetch_sub(1, Ordering::AcqRel);
    }
}
