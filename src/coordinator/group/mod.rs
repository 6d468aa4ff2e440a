//! One consumer group of Kafka's classic protocol, as a state machine.
//!
//! ```text
//!           join                       all joined, or rebalance timeout
//!  Empty ----------> PreparingRebalance ----------> CompletingRebalance
//!    ^                |     ^      ^                   |           |
//!    | nobody left    |     |      | join, leave,      | leader's  |
//!    +----------------+     |      | session timeout,  | sync      |
//!                           |      | missing sync      v           |
//!                           |      +---------------- Stable        |
//!                           +--------------------------------------+
//! ```
//!
//! Owns members, generations, timers and committed offsets of one group. It does no I/O: requests
//! come as [`Event`]s, waiting ones are kept as [`ReplyTo`] tokens, and everything to be done
//! goes into [`Effects`]. It assumes that a `Persist` effect succeeds; a caller whose append
//! fails must refuse the replies that follow and load the group anew.
//!
//! Invariants: a token is answered at most once; the generation only grows; while there are
//! members, there is a protocol known to all of them. KIP-62, KIP-345, KIP-394, KIP-814.

mod config;
mod deletion;
mod describe;
mod effect;
mod error;
mod event;
mod heartbeat;
mod join;
mod leave;
mod member;
mod members;
mod offsets;
mod rebalance;
pub mod records;
mod snapshot;
mod state;
mod sync;
mod timers;

#[cfg(test)]
mod harness;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use crate::base::ids::{GroupId, MemberId, TimestampMs, TopicPartition};

pub use config::GroupConfig;
pub use describe::{GroupDescription, MemberDescription};
pub use effect::{
    Effect, Effects, JoinRefusal, JoinReply, JoinReplyMember, LeaveResult, Persist, PersistLevel,
    Reply, SyncReply,
};
pub use error::GroupError;
pub use event::{
    Event, HeartbeatRequest, JoinRequest, LeaveMember, LeaveRequest, MemberIdPolicy, ReplyTo,
    SkipAssignmentSupport, SyncRequest,
};
pub use offsets::CommittedOffset;
pub use snapshot::{GroupSnapshot, MemberSnapshot};
pub use state::GroupState;

use member::{JoinSlot, SyncSlot};
use members::Members;
use state::State;

/// The longest text that Kafka's record format can hold (an int16 length).
pub const TEXT_BYTES_MAX: usize = i16::MAX as usize;

/// The state of one consumer group.
#[derive(Debug)]
pub struct Group {
    id: GroupId,
    state: State,
    /// When `state` was entered; offsets of an empty group expire by it.
    state_timestamp: TimestampMs,
    /// None until the first member joined: a group that only holds commits of simple consumers.
    protocol_type: Option<String>,
    generation_id: i32,
    protocol_name: Option<String>,
    /// Present whenever there are members.
    leader: Option<MemberId>,
    members: Members,
    /// Ids given out that have not joined yet, each with the time at which it is forgotten.
    pending: BTreeMap<MemberId, TimestampMs>,
    /// When members that were told the generation and never asked for an assignment are removed.
    sync_deadline: Option<TimestampMs>,
    offsets: BTreeMap<TopicPartition, CommittedOffset>,
    /// Whether a member was removed and the group has not reacted yet, within one event.
    removed_since_settled: bool,
    /// No timer is due earlier. A lower bound, so that a heartbeat costs no search; a tick that
    /// comes too early finds the true value.
    wake_at: Option<TimestampMs>,
}

/// What every step of one event needs.
struct Turn<'a> {
    now: TimestampMs,
    config: &'a GroupConfig,
    effects: &'a mut Effects,
}

impl Group {
    /// Makes a group without members and offsets.
    #[must_use]
    pub fn new(id: GroupId) -> Self {
        Self {
            id,
            state: State::Empty,
            state_timestamp: 0,
            protocol_type: None,
            generation_id: 0,
            protocol_name: None,
            leader: None,
            members: Members::default(),
            pending: BTreeMap::new(),
            sync_deadline: None,
            offsets: BTreeMap::new(),
            removed_since_settled: false,
            wake_at: None,
        }
    }

    /// Returns the group's id.
    #[must_use]
    pub const fn id(&self) -> &GroupId {
        &self.id
    }

    /// Returns the name of the group's state.
    #[must_use]
    pub const fn state(&self) -> GroupState {
        self.state.name()
    }

    /// Returns the current generation; 0 before the first.
    #[must_use]
    pub const fn generation_id(&self) -> i32 {
        self.generation_id
    }

    /// Returns the protocol type; none if the group never had members.
    #[must_use]
    pub fn protocol_type(&self) -> Option<&str> {
        self.protocol_type.as_deref()
    }

    /// Says whether nothing would be lost by forgetting the group. Its generation number is not
    /// counted as a loss: without members, nobody holds an older one that could be confused.
    #[must_use]
    pub fn is_disposable(&self) -> bool {
        self.state == State::Empty
            && self.members.is_empty()
            && self.pending.is_empty()
            && self.offsets.is_empty()
    }

    /// Takes one event at the time `now` and appends what must be done to `effects`.
    pub fn handle(
        &mut self,
        event: Event,
        now: TimestampMs,
        config: &GroupConfig,
        effects: &mut Effects,
    ) {
        if self.id.as_str().is_empty() {
            // The empty id is legal for simple consumers that only commit.
            event.refuse(GroupError::InvalidGroupId, effects);
            return;
        }
        let mut turn = Turn { now, config, effects };
        match event {
            Event::Join(request) => self.on_join(request, &mut turn),
            Event::Sync(request) => self.on_sync(request, &mut turn),
            Event::Heartbeat(request) => self.on_heartbeat(&request, &mut turn),
            Event::Leave(request) => self.on_leave(request, &mut turn),
            Event::Tick => self.on_tick(&mut turn),
            Event::Cancel { reply_to } => self.on_cancel(reply_to, &turn),
            Event::Shutdown => self.on_shutdown(&mut turn),
        }
    }

    /// Forgets a token. The member keeps its place: a client that lost its connection comes back
    /// with the same id, and a client that died is found by its session timeout.
    fn on_cancel(&mut self, reply_to: ReplyTo, turn: &Turn<'_>) {
        for member in self.members.iter_mut() {
            if member.join == JoinSlot::Waiting(reply_to) {
                member.join = JoinSlot::Abandoned;
            } else if member.sync == SyncSlot::Waiting(reply_to) {
                member.sync = SyncSlot::Idle;
            } else {
                continue;
            }
            let deadline = member.restart_session(turn.now);
            self.arm(deadline);
            return;
        }
    }

    fn on_shutdown(&mut self, turn: &mut Turn<'_>) {
        for member in self.members.iter_mut() {
            if let JoinSlot::Waiting(to) = member.join {
                member.join = JoinSlot::Abandoned;
                turn.effects.refuse_join(to, member.id.as_str(), GroupError::NotCoordinator);
            }
            if let Some(to) = member.take_sync() {
                turn.effects.reply(to, Reply::Sync(Err(GroupError::NotCoordinator)));
            }
            // Even if the caller keeps the group, members that never return must go.
            member.restart_session(turn.now);
        }
        self.rearm();
    }
}
