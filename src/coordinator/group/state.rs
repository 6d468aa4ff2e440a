//! The states of a group and what each has to remember.

use std::fmt;

use crate::base::ids::TimestampMs;

/// The name of a group's state, as Kafka prints it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GroupState {
    /// No members; offsets may remain.
    Empty,
    /// Members are asked to join the next generation.
    PreparingRebalance,
    /// The next generation is formed; its leader has not assigned yet.
    CompletingRebalance,
    /// Every member can have its assignment.
    Stable,
    /// The group does not exist; only callers that describe a missing group use it.
    Dead,
}

impl GroupState {
    /// Returns the name that Kafka's tools know.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
            Self::Dead => "Dead",
        }
    }
}

impl fmt::Display for GroupState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The state with its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    Empty,
    PreparingRebalance(JoinPhase),
    CompletingRebalance,
    Stable,
}

/// The time limit of a join phase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct JoinPhase {
    /// When the phase ends even if members are missing.
    pub(super) deadline: TimestampMs,
    /// Present while an empty group waits for its first members to gather.
    pub(super) gathering: Option<Gathering>,
}

/// The initial delay of an empty group, which every new member extends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Gathering {
    /// The latest time to which extensions may go: the rebalance timeout.
    pub(super) latest: TimestampMs,
    /// Whether somebody joined since the delay was last set.
    pub(super) member_added: bool,
}

impl State {
    pub(super) const fn name(&self) -> GroupState {
        match self {
            Self::Empty => GroupState::Empty,
            Self::PreparingRebalance(_) => GroupState::PreparingRebalance,
            Self::CompletingRebalance => GroupState::CompletingRebalance,
            Self::Stable => GroupState::Stable,
        }
    }
}
