//! What can happen to a group: requests of members, the passing of time, lost connections.

use bytes::Bytes;

use crate::base::ids::MemberId;

use super::effect::{Effects, JoinRefusal, Reply};
use super::error::GroupError;

/// A token that names one waiting request; the machine keeps it and gives it back in a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReplyTo(pub u64);

/// One thing that happens to a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A member wants to be in the next generation.
    Join(JoinRequest),
    /// A member of the current generation asks for its assignment; the leader brings all of them.
    Sync(SyncRequest),
    /// A member says that it lives.
    Heartbeat(HeartbeatRequest),
    /// Members leave, by themselves or by an administrator.
    Leave(LeaveRequest),
    /// The time named by `Group::next_deadline` has come.
    Tick,
    /// The connection that waited for this reply is gone; the member itself stays.
    Cancel {
        /// The token of the request whose reply nobody waits for any more.
        reply_to: ReplyTo,
    },
    /// This node stops coordinating the group: nobody may be left waiting.
    Shutdown,
}

/// Whether a dynamic member must come back with the id it was given before it is admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberIdPolicy {
    /// `JoinGroup` v0 to v3: a member without an id is admitted at once.
    AdmitUnknown,
    /// `JoinGroup` v4 and later: it is sent back with an id first (KIP-394).
    RequireKnown,
}

/// Whether the client understands `skip_assignment` in the reply to a join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SkipAssignmentSupport {
    /// `JoinGroup` v0 to v8: a returning static leader must not learn that it leads.
    Unsupported,
    /// `JoinGroup` v9 and later: it is told to lead without assigning (KIP-814).
    Supported,
}

/// A request to join the group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinRequest {
    /// Where the reply goes.
    pub reply_to: ReplyTo,
    /// The id the client was given earlier; empty if none.
    pub member_id: String,
    /// The identity of a static member (KIP-345).
    pub group_instance_id: Option<String>,
    /// The client's own name, for administrators.
    pub client_id: String,
    /// The address the client connects from, for administrators.
    pub client_host: String,
    /// After how long without a sign of life the member is removed.
    pub session_timeout_ms: i32,
    /// How long a rebalance waits for the member; 0 or less means the session timeout (v0).
    pub rebalance_timeout_ms: i32,
    /// The family of protocols: `consumer`, `connect` and so on.
    pub protocol_type: String,
    /// The protocols the member can follow, most wanted first, each with opaque metadata.
    pub protocols: Vec<(String, Bytes)>,
    /// A fresh unique id, used if the machine needs one (it may not make random values itself).
    pub new_member_id: MemberId,
    /// Whether a member without an id is admitted at once.
    pub member_id_policy: MemberIdPolicy,
    /// Whether the reply may ask the leader to skip the assignment.
    pub skip_assignment_support: SkipAssignmentSupport,
}

/// A request for the member's assignment in the current generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncRequest {
    /// Where the reply goes.
    pub reply_to: ReplyTo,
    /// The member that asks.
    pub member_id: String,
    /// The generation the member believes in.
    pub generation_id: i32,
    /// The identity of a static member.
    pub group_instance_id: Option<String>,
    /// The protocol type the member believes in (v5 and later).
    pub protocol_type: Option<String>,
    /// The protocol the member believes to be elected (v5 and later).
    pub protocol_name: Option<String>,
    /// The assignments of all members, from the leader alone.
    pub assignments: Vec<(MemberId, Bytes)>,
}

/// A sign of life of one member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeartbeatRequest {
    /// Where the reply goes.
    pub reply_to: ReplyTo,
    /// The member that lives.
    pub member_id: String,
    /// The generation the member believes in.
    pub generation_id: i32,
    /// The identity of a static member.
    pub group_instance_id: Option<String>,
}

/// A request to remove members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaveRequest {
    /// Where the reply goes.
    pub reply_to: ReplyTo,
    /// Who leaves, each answered separately.
    pub members: Vec<LeaveMember>,
}

/// One member that leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaveMember {
    /// The member's id; empty if an administrator names it by its instance id alone.
    pub member_id: String,
    /// The identity of a static member.
    pub group_instance_id: Option<String>,
}

impl Event {
    /// Answers the request in this event with `error`, for callers that refuse it themselves
    /// (group loading, not coordinated here); events that expect no reply add nothing.
    pub fn refuse(&self, error: GroupError, effects: &mut Effects) {
        match self {
            Self::Join(request) => {
                let refusal = JoinRefusal { member_id: request.member_id.clone(), error };
                effects.reply(request.reply_to, Reply::Join(Err(refusal)));
            }
            Self::Sync(request) => effects.reply(request.reply_to, Reply::Sync(Err(error))),
            Self::Heartbeat(request) => {
                effects.reply(request.reply_to, Reply::Heartbeat(Err(error)));
            }
            Self::Leave(request) => effects.reply(request.reply_to, Reply::Leave(Err(error))),
            Self::Tick | Self::Cancel { .. } | Self::Shutdown => {}
        }
    }
}
