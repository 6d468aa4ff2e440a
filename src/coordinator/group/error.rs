//! The refusals of the group coordinator, one variant per Kafka error; wire numbers are the edge's.

use crate::base::ids::MemberId;

/// Why the coordinator refuses a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    /// The coordinator cannot answer just now; the client asks again.
    #[error("coordinator is not available")]
    CoordinatorNotAvailable,
    /// The coordinator still replays its groups after a start.
    #[error("coordinator is loading its groups")]
    CoordinatorLoadInProgress,
    /// This node does not coordinate the group, or no longer.
    #[error("this node is not the coordinator of the group")]
    NotCoordinator,
    /// The request names a generation other than the current one.
    #[error("generation is not the current one of the group")]
    IllegalGeneration,
    /// The protocol type differs, or no protocol is common to all members.
    #[error("protocols are not compatible with those of the group")]
    InconsistentGroupProtocol,
    /// The member is not in the group, or no longer.
    #[error("member is not known to the group")]
    UnknownMemberId,
    /// The session timeout is outside the configured range.
    #[error("session timeout is outside the allowed range")]
    InvalidSessionTimeout,
    /// The group rebalances: the member must join again.
    #[error("group is rebalancing")]
    RebalanceInProgress,
    /// The group, or the list of members about to join it, is full.
    #[error("group has reached its maximum size")]
    GroupMaxSizeReached,
    /// The client must join again with the id given here (KIP-394).
    #[error("member must join again with id '{0}'")]
    MemberIdRequired(MemberId),
    /// Another process has taken over the group instance id (KIP-345).
    #[error("group instance id is in use by another member")]
    FencedInstanceId,
    /// The group id is empty where members are concerned.
    #[error("group id is invalid")]
    InvalidGroupId,
    /// A text of the request is longer than Kafka's record format can hold.
    #[error("request has a text that is too long")]
    InvalidRequest,
    /// The group has members, so it cannot be deleted.
    #[error("group is not empty")]
    NonEmptyGroup,
    /// No group has this id.
    #[error("group does not exist")]
    GroupIdNotFound,
    /// The group has members that consume the topic, so its offsets cannot be deleted.
    #[error("group is subscribed to the topic")]
    GroupSubscribedToTopic,
    /// The metadata text of a committed offset is longer than the configured maximum.
    #[error("metadata of the committed offset is too large")]
    OffsetMetadataTooLarge,
}
