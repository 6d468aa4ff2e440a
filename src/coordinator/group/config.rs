//! The limits and delays of groups, with Kafka's names and defaults where Kafka has them.

use crate::base::ids::TimestampMs;

use super::error::GroupError;

/// Limits and delays that all groups share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupConfig {
    /// The shortest session timeout a member may ask for (`group.min.session.timeout.ms`).
    pub session_timeout_min_ms: i32,
    /// The longest session timeout a member may ask for (`group.max.session.timeout.ms`).
    pub session_timeout_max_ms: i32,
    /// How long the first join of an empty group waits for company
    /// (`group.initial.rebalance.delay.ms`; Kafka's default is 3000, ours is no wait).
    pub initial_rebalance_delay_ms: i32,
    /// The most members one group may have (`group.max.size`).
    pub size_max: usize,
    /// The most ids that were handed out and have not joined yet; Kafka has no such limit, but an
    /// id costs memory until its session timeout and anyone may ask for one.
    pub members_pending_max: usize,
    /// The longest metadata text of a committed offset (`offset.metadata.max.bytes`).
    pub offset_metadata_bytes_max: usize,
    /// How long offsets outlive the group's last member, or the last commit of a topic that no
    /// member wants any more (`offsets.retention.minutes`).
    pub offsets_retention_ms: TimestampMs,
}

impl Default for GroupConfig {
    fn default() -> Self {
        Self {
            session_timeout_min_ms: 6_000,
            session_timeout_max_ms: 1_800_000,
            initial_rebalance_delay_ms: 0,
            size_max: 10_000,
            members_pending_max: 10_000,
            offset_metadata_bytes_max: 4_096,
            offsets_retention_ms: 7 * 24 * 60 * 60 * 1_000,
        }
    }
}

impl GroupConfig {
    /// Checks the metadata text of an offset that is about to be committed.
    ///
    /// # Errors
    /// [`GroupError::OffsetMetadataTooLarge`] when it is longer than the maximum.
    pub fn check_offset_metadata(&self, metadata: &str) -> Result<(), GroupError> {
        if metadata.len() > self.offset_metadata_bytes_max {
            return Err(GroupError::OffsetMetadataTooLarge);
        }
        Ok(())
    }

    /// Checks the session timeout that a joining member asks for.
    pub(super) fn check_session_timeout(&self, timeout_ms: i32) -> Result<(), GroupError> {
        if (self.session_timeout_min_ms..=self.session_timeout_max_ms).contains(&timeout_ms) {
            return Ok(());
        }
        Err(GroupError::InvalidSessionTimeout)
    }
}
