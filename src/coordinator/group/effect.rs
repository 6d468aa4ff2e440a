//! What the machine wants done: replies to requests and records to persist, in order.
//!
//! The order is a promise: a reply that depends on a record comes after it in the list.

use bytes::Bytes;

use crate::base::ids::MemberId;

use super::error::GroupError;
use super::event::{LeaveMember, ReplyTo};
use super::snapshot::GroupSnapshot;

/// One thing the caller must do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Answer the request named by `to`; each token is answered at most once.
    Reply {
        /// The request.
        to: ReplyTo,
        /// The answer.
        reply: Reply,
    },
    /// Append a record, before any reply that follows in the list.
    Persist(Persist),
}

/// One record to append to `__consumer_offsets`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Persist {
    /// The group as a restart should find it.
    Group {
        /// The state of the group.
        snapshot: GroupSnapshot,
        /// How safe the record must be before the effects that follow.
        level: PersistLevel,
    },
}

/// How safe a record must be before the replies that follow it may go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PersistLevel {
    /// Handed to the operating system: the end of a join phase, so that a restarted process
    /// never gives the same generation number again.
    Written,
    /// On disk by the broker's durability rule: a new assignment, a replaced static member, an
    /// empty group.
    Durable,
}

/// The answer to one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// To a join.
    Join(Result<JoinReply, JoinRefusal>),
    /// To a sync.
    Sync(Result<SyncReply, GroupError>),
    /// To a heartbeat.
    Heartbeat(Result<(), GroupError>),
    /// To a leave: one result per member asked for, in the order of the request.
    Leave(Result<Vec<LeaveResult>, GroupError>),
}

/// What became of one member of a leave request.
pub type LeaveResult = (LeaveMember, Result<(), GroupError>);

/// A join that succeeded: the member is in generation `generation_id`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinReply {
    /// The generation the member is in.
    pub generation_id: i32,
    /// The protocol type of the group.
    pub protocol_type: Option<String>,
    /// The elected protocol.
    pub protocol_name: Option<String>,
    /// The member that assigns.
    pub leader: MemberId,
    /// The id of the member that joined.
    pub member_id: MemberId,
    /// Whether the leader keeps the current assignment instead of making one (v9).
    pub skip_assignment: bool,
    /// All members, for the leader alone.
    pub members: Vec<JoinReplyMember>,
}

/// One member as the leader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinReplyMember {
    /// The member.
    pub member_id: MemberId,
    /// The identity of a static member.
    pub group_instance_id: Option<String>,
    /// The member's metadata for the elected protocol.
    pub metadata: Bytes,
}

/// A join that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinRefusal {
    /// The id that the answer carries: the one asked with, or the one to come back with.
    pub member_id: String,
    /// The reason.
    pub error: GroupError,
}

/// The assignment of one member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncReply {
    /// The protocol type of the group.
    pub protocol_type: Option<String>,
    /// The elected protocol.
    pub protocol_name: Option<String>,
    /// The bytes the leader gave to this member; empty if it gave none.
    pub assignment: Bytes,
}

/// The list of things to do, in order; the caller empties it after each event.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Effects {
    list: Vec<Effect>,
}

impl Effects {
    /// Makes an empty list.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes all effects out, in order, and keeps the room for more.
    pub fn drain(&mut self) -> std::vec::Drain<'_, Effect> {
        self.list.drain(..)
    }

    /// Says whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Says whether anything must be kept: what the group tells its members is new then.
    #[must_use]
    pub fn persists(&self) -> bool {
        self.list.iter().any(|effect| matches!(effect, Effect::Persist(_)))
    }

    pub(super) fn reply(&mut self, to: ReplyTo, reply: Reply) {
        self.list.push(Effect::Reply { to, reply });
    }

    pub(super) fn persist(&mut self, snapshot: GroupSnapshot, level: PersistLevel) {
        self.list.push(Effect::Persist(Persist::Group { snapshot, level }));
    }

    pub(super) fn refuse_join(&mut self, to: ReplyTo, member_id: &str, error: GroupError) {
        let refusal = JoinRefusal { member_id: member_id.to_owned(), error };
        self.reply(to, Reply::Join(Err(refusal)));
    }
}
