//! One member of a group: who it is, what it can do, and what it waits for.

use bytes::Bytes;

use crate::base::ids::{MemberId, TimestampMs};

use super::event::{JoinRequest, ReplyTo};

/// A member of the group.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) id: MemberId,
    pub(super) group_instance_id: Option<String>,
    pub(super) client_id: String,
    pub(super) client_host: String,
    pub(super) session_timeout_ms: i32,
    pub(super) rebalance_timeout_ms: i32,
    /// Most wanted first. Changed only through `Members`, which counts who supports what.
    pub(super) protocols: Vec<(String, Bytes)>,
    /// What the leader gave to this member in the last generation that became stable.
    pub(super) assignment: Bytes,
    pub(super) join: JoinSlot,
    pub(super) sync: SyncSlot,
    /// When silence removes the member; not looked at while a request of it is parked here.
    pub(super) session_deadline: TimestampMs,
    /// The order of arrival, by which a lost leader is succeeded; `Members` sets it.
    pub(super) arrival: u64,
}

/// Whether the member has joined the generation that is being prepared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum JoinSlot {
    Absent,
    Waiting(ReplyTo),
    /// It joined and its connection was lost: it counts as joined, but its session runs.
    Abandoned,
}

/// How far the member is with the assignment of the current generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SyncSlot {
    /// Nothing is expected of it.
    Idle,
    /// It was told the generation and has not asked for its assignment yet.
    Expected,
    Waiting(ReplyTo),
}

impl Member {
    /// Makes the member that `request` describes, not yet waiting for anything.
    pub(super) fn new(id: MemberId, request: JoinRequest, now: TimestampMs) -> Self {
        let mut member = Self {
            id,
            group_instance_id: request.group_instance_id,
            client_id: request.client_id,
            client_host: request.client_host,
            session_timeout_ms: request.session_timeout_ms,
            rebalance_timeout_ms: rebalance_timeout_ms(
                request.rebalance_timeout_ms,
                request.session_timeout_ms,
            ),
            protocols: request.protocols,
            assignment: Bytes::new(),
            join: JoinSlot::Absent,
            sync: SyncSlot::Idle,
            session_deadline: now,
            arrival: 0,
        };
        member.restart_session(now);
        member
    }

    /// Starts the session anew and returns when it ends.
    pub(super) fn restart_session(&mut self, now: TimestampMs) -> TimestampMs {
        self.session_deadline = now.saturating_add(i64::from(self.session_timeout_ms));
        self.session_deadline
    }

    /// Returns when silence removes the member; none while the coordinator itself keeps the
    /// member waiting, because it cannot send heartbeats on a connection that waits.
    pub(super) const fn running_session_deadline(&self) -> Option<TimestampMs> {
        match (self.join, self.sync) {
            (JoinSlot::Waiting(_), _) | (_, SyncSlot::Waiting(_)) => None,
            _ => Some(self.session_deadline),
        }
    }

    pub(super) const fn is_static(&self) -> bool {
        self.group_instance_id.is_some()
    }

    pub(super) fn has_joined(&self) -> bool {
        self.join != JoinSlot::Absent
    }

    /// Returns the metadata for `protocol`, empty if the member does not know it.
    pub(super) fn metadata(&self, protocol: &str) -> Bytes {
        let found = self.protocols.iter().find(|(name, _)| name == protocol);
        found.map(|(_, metadata)| metadata.clone()).unwrap_or_default()
    }

    /// Takes the token of a parked join; the member then has to join again.
    pub(super) fn take_join(&mut self) -> Option<ReplyTo> {
        match std::mem::replace(&mut self.join, JoinSlot::Absent) {
            JoinSlot::Waiting(to) => Some(to),
            JoinSlot::Absent | JoinSlot::Abandoned => None,
        }
    }

    /// Takes the token of a parked sync and leaves a sync that is still expected as it is.
    pub(super) fn take_parked_sync(&mut self) -> Option<ReplyTo> {
        matches!(self.sync, SyncSlot::Waiting(_)).then(|| self.take_sync()).flatten()
    }

    /// Takes the token of a parked sync; nothing is expected of the member then.
    pub(super) fn take_sync(&mut self) -> Option<ReplyTo> {
        match std::mem::replace(&mut self.sync, SyncSlot::Idle) {
            SyncSlot::Waiting(to) => Some(to),
            SyncSlot::Idle | SyncSlot::Expected => None,
        }
    }
}

/// Returns the rebalance timeout that counts: `JoinGroup` v0 has none and means the session's.
pub(super) const fn rebalance_timeout_ms(asked: i32, session_timeout_ms: i32) -> i32 {
    if asked > 0 { asked } else { session_timeout_ms }
}
