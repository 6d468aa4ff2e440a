//! The join phase: how a rebalance starts, when it ends, and what the next generation is.

use crate::base::ids::MemberId;

use super::effect::{PersistLevel, Reply};
use super::member::{JoinSlot, Member, SyncSlot};
use super::state::{Gathering, JoinPhase, State};
use super::{Group, GroupError, Turn};

/// The shortest further wait when a join phase ends and nobody has joined, in milliseconds; it
/// bounds the ticks of a group of absent static members with a tiny rebalance timeout.
const POSTPONED_JOIN_MS_MIN: i64 = 1_000;

impl Group {
    /// Starts a rebalance unless one is being prepared, and ends its join phase if it can end.
    pub(super) fn rebalance(&mut self, turn: &mut Turn<'_>) {
        if !matches!(self.state, State::PreparingRebalance(_)) {
            self.start_join_phase(turn);
        }
        self.try_end_join_phase(turn);
    }

    fn start_join_phase(&mut self, turn: &mut Turn<'_>) {
        self.refuse_parked_syncs(turn);
        self.sync_deadline = None;
        let latest = turn.now.saturating_add(self.members.rebalance_timeout_max_ms());
        let delay_ms = i64::from(turn.config.initial_rebalance_delay_ms.max(0));
        let phase = if self.state == State::Empty {
            let deadline = turn.now.saturating_add(delay_ms).min(latest);
            JoinPhase { deadline, gathering: Some(Gathering { latest, member_added: false }) }
        } else {
            JoinPhase { deadline: latest, gathering: None }
        };
        self.arm(phase.deadline);
        self.state = State::PreparingRebalance(phase);
        self.state_timestamp = turn.now;
    }

    /// Members that wait for an assignment of a generation that is given up must join again.
    fn refuse_parked_syncs(&mut self, turn: &mut Turn<'_>) {
        let mut earliest: Option<i64> = None;
        for member in self.members.iter_mut() {
            if let Some(to) = member.take_sync() {
                let error = GroupError::RebalanceInProgress;
                turn.effects.reply(to, Reply::Sync(Err(error)));
                let deadline = member.restart_session(turn.now);
                earliest = Some(earliest.map_or(deadline, |other| other.min(deadline)));
            }
        }
        if let Some(deadline) = earliest {
            self.arm(deadline);
        }
    }

    /// Ends the join phase if nobody is missing.
    pub(super) fn try_end_join_phase(&mut self, turn: &mut Turn<'_>) {
        let State::PreparingRebalance(phase) = &self.state else {
            return;
        };
        if self.members.is_empty() {
            self.next_generation(turn);
        } else if phase.gathering.is_some() {
            self.end_join_phase_if_due(turn);
        } else if self.pending.is_empty() && self.members.iter().all(Member::has_joined) {
            self.next_generation(turn);
        }
    }

    /// Ends the join phase, with whoever is there, if its time is over; a group that gathers
    /// its first members waits again if another one came.
    pub(super) fn end_join_phase_if_due(&mut self, turn: &mut Turn<'_>) {
        let State::PreparingRebalance(phase) = &mut self.state else {
            return;
        };
        if phase.deadline > turn.now {
            return;
        }
        let delay_ms = i64::from(turn.config.initial_rebalance_delay_ms.max(0));
        if let Some(gathering) = &mut phase.gathering
            && gathering.member_added
            && gathering.latest > turn.now
            && delay_ms > 0
        {
            gathering.member_added = false;
            phase.deadline = turn.now.saturating_add(delay_ms).min(gathering.latest);
            let deadline = phase.deadline;
            self.arm(deadline);
            return;
        }
        self.drop_missing_dynamic_members();
        let somebody_joined = self.members.iter().any(Member::has_joined);
        if somebody_joined || self.members.is_empty() {
            self.next_generation(turn);
        } else {
            self.postpone_join_phase(turn);
        }
    }

    /// Static members keep their place until their session ends, dynamic ones do not.
    fn drop_missing_dynamic_members(&mut self) {
        let is_missing = |member: &&Member| !member.has_joined() && !member.is_static();
        let missing: Vec<MemberId> =
            self.members.iter().filter(is_missing).map(|member| member.id.clone()).collect();
        for id in missing {
            // It has no parked request: it did not join, and a rebalance refuses parked syncs.
            self.members.remove(id.as_str());
            self.succeed_leader(&id);
        }
    }

    /// A generation that nobody is in is of no use: waits for static members, or for the end of
    /// their sessions.
    fn postpone_join_phase(&mut self, turn: &Turn<'_>) {
        let wait_ms = self.members.rebalance_timeout_max_ms().max(POSTPONED_JOIN_MS_MIN);
        let deadline = turn.now.saturating_add(wait_ms);
        self.state = State::PreparingRebalance(JoinPhase { deadline, gathering: None });
        self.arm(deadline);
    }

    fn next_generation(&mut self, turn: &mut Turn<'_>) {
        // 2^31 rebalances are a century of thirty a minute; then it starts over, as it must.
        self.generation_id = self.generation_id.checked_add(1).unwrap_or(1);
        self.state_timestamp = turn.now;
        if self.members.is_empty() {
            self.state = State::Empty;
            self.protocol_name = None;
            self.leader = None;
            turn.effects.persist(self.snapshot(), PersistLevel::Durable);
            return;
        }
        self.elect_joined_leader();
        self.protocol_name = self.members.elect_protocol();
        self.state = State::CompletingRebalance;
        turn.effects.persist(self.snapshot(), PersistLevel::Written);
        self.answer_joined_members(turn);
        let deadline = turn.now.saturating_add(self.members.rebalance_timeout_max_ms());
        self.sync_deadline = Some(deadline);
        self.arm(deadline);
    }

    /// The leader stays the leader while it is there; only an absent one is succeeded.
    fn elect_joined_leader(&mut self) {
        let leader = self.leader.as_ref().and_then(|id| self.members.get(id.as_str()));
        if leader.is_some_and(Member::has_joined) {
            return;
        }
        if let Some(id) = self.members.find_oldest(Member::has_joined) {
            self.leader = Some(id.clone());
        }
    }

    fn answer_joined_members(&mut self, turn: &mut Turn<'_>) {
        let joined = self.members.iter().filter(|member| member.has_joined());
        let joined: Vec<(MemberId, JoinSlot)> =
            joined.map(|member| (member.id.clone(), member.join)).collect();
        for (id, slot) in joined {
            let Some(member) = self.members.get_mut(id.as_str()) else {
                continue;
            };
            member.join = JoinSlot::Absent;
            member.sync = SyncSlot::Expected;
            let JoinSlot::Waiting(to) = slot else {
                // Its connection is lost, so its session already runs.
                continue;
            };
            self.touch(id.as_str(), turn.now);
            let reply = self.join_reply(id.as_str());
            turn.effects.reply(to, Reply::Join(Ok(reply)));
        }
    }

    /// Hands the lead of a removed leader to the member that arrived first.
    pub(super) fn succeed_leader(&mut self, removed: &MemberId) {
        if self.leader.as_ref() == Some(removed) {
            self.leader = self.members.find_oldest(|_| true).cloned();
        }
    }
}
