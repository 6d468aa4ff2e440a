//! Role: membership and committed offsets of consumer groups.
//!
//! The requests and answers of members are those of the pure coordinator; here they only lose
//! their reply tokens and gain futures.

use std::sync::Arc;

use bytes::Bytes;

use super::{BoxFuture, GroupChanges};
use crate::base::ids::{GroupId, MemberId, Offset, TopicPartition};

pub use crate::coordinator::group::{
    CommittedOffset, GroupDescription, GroupError, GroupState, JoinRefusal, JoinReply, LeaveMember,
    LeaveResult, MemberDescription, MemberIdPolicy, SkipAssignmentSupport, SyncReply,
};

/// A request to join a group.
#[derive(Debug, Clone)]
pub struct Join {
    /// The group.
    pub group: GroupId,
    /// The id the client was given earlier; empty if none.
    pub member_id: String,
    /// The identity of a static member (KIP-345).
    pub group_instance_id: Option<String>,
    /// The client's own name.
    pub client_id: String,
    /// The address the client connects from.
    pub client_host: String,
    /// After how long without a sign of life the member is removed.
    pub session_timeout_ms: i32,
    /// How long a rebalance waits for the member; 0 or less means the session timeout (v0).
    pub rebalance_timeout_ms: i32,
    /// The family of protocols, `consumer` for consumers.
    pub protocol_type: String,
    /// The protocols the member can follow, most wanted first.
    pub protocols: Vec<(String, Bytes)>,
    /// Whether a member without an id is admitted at once.
    pub member_id_policy: MemberIdPolicy,
    /// Whether the reply may ask the leader to skip the assignment.
    pub skip_assignment_support: SkipAssignmentSupport,
}

/// A request for an assignment.
#[derive(Debug, Clone)]
pub struct Sync {
    /// The group.
    pub group: GroupId,
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

/// Who speaks, in a heartbeat or a commit.
#[derive(Debug, Clone)]
pub struct Membership {
    /// The group.
    pub group: GroupId,
    /// The member; empty for a client that commits without being a member.
    pub member_id: String,
    /// The generation the member believes in; -1 without membership.
    pub generation_id: i32,
    /// The identity of a static member.
    pub group_instance_id: Option<String>,
}

impl Membership {
    /// Speaks for no member: a simple consumer or an administrator.
    #[must_use]
    pub const fn none(group: GroupId) -> Self {
        Self { group, member_id: String::new(), generation_id: -1, group_instance_id: None }
    }
}

/// One offset to commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetToCommit {
    /// Which partition.
    pub partition: TopicPartition,
    /// The next offset to read.
    pub offset: Offset,
    /// Leader epoch of the last record read, -1 for none.
    pub leader_epoch: i32,
    /// The client's own note.
    pub metadata: String,
}

/// Why one offset of an otherwise accepted commit was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitRefusal {
    /// There is no such topic or partition.
    #[error("partition does not exist")]
    UnknownPartition,
    /// The note is longer than `offset.metadata.max.bytes`.
    #[error("metadata is too long")]
    MetadataTooLarge,
}

/// The result for each offset of a commit, in the order of the request.
pub type CommitResults = Vec<Result<(), CommitRefusal>>;

/// Which committed offsets are asked for.
#[derive(Debug, Clone)]
pub enum OffsetQuery {
    /// All that the group has.
    All,
    /// These; partitions without one answer none.
    Partitions(Vec<TopicPartition>),
}

/// Why one committed offset was not deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DeleteOffsetRefusal {
    /// There is no such topic or partition.
    #[error("partition does not exist")]
    UnknownPartition,
    /// A member of the group is subscribed to the topic.
    #[error("group is subscribed to the topic")]
    Subscribed,
}

/// The result for each offset of a deletion, in the order of the request.
pub type DeleteOffsetResults = Vec<Result<(), DeleteOffsetRefusal>>;

/// Membership and committed offsets of consumer groups.
pub trait Groups: Send + std::marker::Sync + 'static {
    /// Joins a group; the answer comes when the rebalance is complete.
    ///
    /// # Cancel safety
    /// Dropping the future withdraws the request; the member stays until its session ends.
    fn join(&self, join: Join) -> BoxFuture<Result<JoinReply, JoinRefusal>>;

    /// Asks for the assignment; a follower's answer comes when the leader has brought it.
    ///
    /// # Cancel safety
    /// As [`Groups::join`].
    fn sync(&self, sync: Sync) -> BoxFuture<Result<SyncReply, GroupError>>;

    /// Shows a sign of life.
    ///
    /// # Cancel safety
    /// The heartbeat counts whether or not the answer is awaited.
    fn heartbeat(&self, member: Membership) -> BoxFuture<Result<(), GroupError>>;

    /// Removes members.
    ///
    /// # Cancel safety
    /// The members leave whether or not the answer is awaited.
    fn leave(
        &self,
        group: GroupId,
        members: Vec<LeaveMember>,
    ) -> BoxFuture<Result<Vec<LeaveResult>, GroupError>>;

    /// Commits offsets; when the answer comes they survive loss of power.
    ///
    /// # Cancel safety
    /// The commit happens whether or not the answer is awaited.
    fn commit(
        &self,
        member: Membership,
        offsets: Vec<OffsetToCommit>,
    ) -> BoxFuture<Result<CommitResults, GroupError>>;

    /// Reads committed offsets; a group that does not exist has none.
    ///
    /// # Errors
    /// [`GroupError::CoordinatorLoadInProgress`] during recovery.
    fn committed(
        &self,
        group: &GroupId,
        query: &OffsetQuery,
    ) -> Result<Vec<(TopicPartition, Option<CommittedOffset>)>, GroupError>;

    /// Deletes a group without members, with all its committed offsets; when the answer comes,
    /// that survives loss of power.
    ///
    /// # Errors
    /// [`GroupError::NonEmptyGroup`], [`GroupError::GroupIdNotFound`].
    ///
    /// # Cancel safety
    /// The deletion happens whether or not the answer is awaited.
    fn delete(&self, group: &GroupId) -> BoxFuture<Result<(), GroupError>>;

    /// Deletes committed offsets of topics that no member is subscribed to; one that is not there
    /// counts as deleted. When the answer comes, that survives loss of power.
    ///
    /// # Errors
    /// [`GroupError::GroupIdNotFound`]; [`GroupError::NonEmptyGroup`] if the members are no
    /// consumers.
    ///
    /// # Cancel safety
    /// The deletion happens whether or not the answer is awaited.
    fn delete_offsets(
        &self,
        group: &GroupId,
        partitions: &[TopicPartition],
    ) -> BoxFuture<Result<DeleteOffsetResults, GroupError>>;

    /// Describes a group; none if there is no such group.
    fn describe(&self, group: &GroupId) -> Option<GroupDescription>;

    /// Lists groups by id.
    fn list(&self) -> Vec<GroupDescription>;

    /// Returns where groups show up when their state, their generation or a member's identity
    /// changed: a heartbeat tells a member what that means for it. Always the same object.
    fn changes(&self) -> Arc<GroupChanges>;
}
