//! The passing of time: sessions, pending ids, join phases, missing syncs.

use crate::base::ids::{MemberId, TimestampMs};

use super::member::{Member, SyncSlot};
use super::state::State;
use super::{Group, Turn};

impl Group {
    /// Returns the time at which [`super::Event::Tick`] must be delivered next, if at all.
    #[must_use]
    pub const fn next_deadline(&self) -> Option<TimestampMs> {
        self.wake_at
    }

    pub(super) fn on_tick(&mut self, turn: &mut Turn<'_>) {
        self.forget_expired_ids(turn.now);
        self.remove_silent_members(turn);
        self.remove_members_without_sync(turn);
        self.settle_after_removal(turn);
        self.end_join_phase_if_due(turn);
        self.rearm();
    }

    /// Makes sure that a tick comes at `deadline` or earlier.
    pub(super) fn arm(&mut self, deadline: TimestampMs) {
        self.wake_at = Some(self.wake_at.map_or(deadline, |wake_at| wake_at.min(deadline)));
    }

    /// Finds the earliest of all deadlines.
    pub(super) fn rearm(&mut self) {
        let sessions = self.members.iter().filter_map(Member::running_session_deadline).min();
        let pending = self.pending.values().copied().min();
        let join_phase = match &self.state {
            State::PreparingRebalance(phase) => Some(phase.deadline),
            State::Empty | State::CompletingRebalance | State::Stable => None,
        };
        let deadlines = [sessions, pending, join_phase, self.sync_deadline];
        self.wake_at = deadlines.into_iter().flatten().min();
    }

    fn forget_expired_ids(&mut self, now: TimestampMs) {
        self.pending.retain(|_, expiry| *expiry > now);
    }

    fn remove_silent_members(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now;
        let is_silent = |deadline: TimestampMs| deadline <= now;
        let members = self.members.iter();
        let silent = members.filter(|m| m.running_session_deadline().is_some_and(is_silent));
        let silent: Vec<MemberId> = silent.map(|member| member.id.clone()).collect();
        for id in silent {
            self.remove_member(&id, turn);
        }
    }

    /// A member that was told the generation and never asked for its assignment is stuck: its
    /// heartbeats may go on, but its partitions are not consumed.
    fn remove_members_without_sync(&mut self, turn: &mut Turn<'_>) {
        if self.sync_deadline.is_none_or(|deadline| deadline > turn.now) {
            return;
        }
        self.sync_deadline = None;
        let stuck = self.members.iter().filter(|member| member.sync == SyncSlot::Expected);
        let stuck: Vec<MemberId> = stuck.map(|member| member.id.clone()).collect();
        for id in stuck {
            self.remove_member(&id, turn);
        }
    }
}
