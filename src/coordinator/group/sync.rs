//! `SyncGroup`: the leader brings the assignments, everybody gets their own.

use std::collections::HashMap;

use bytes::Bytes;

use crate::base::ids::MemberId;

use super::effect::{PersistLevel, Reply, SyncReply};
use super::member::SyncSlot;
use super::state::State;
use super::{Group, GroupError, SyncRequest, Turn};

impl Group {
    pub(super) fn on_sync(&mut self, request: SyncRequest, turn: &mut Turn<'_>) {
        let to = request.reply_to;
        if let Err(error) = self.check_sync(&request) {
            turn.effects.reply(to, Reply::Sync(Err(error)));
            return;
        }
        self.touch(&request.member_id, turn.now);
        match self.state {
            State::Empty => {
                turn.effects.reply(to, Reply::Sync(Err(GroupError::UnknownMemberId)));
            }
            State::PreparingRebalance(_) => {
                turn.effects.reply(to, Reply::Sync(Err(GroupError::RebalanceInProgress)));
            }
            State::CompletingRebalance => {
                self.park_sync(&request, turn);
                if self.leader.as_ref().is_some_and(|id| id.as_str() == request.member_id) {
                    self.install_assignments(request.assignments, turn);
                }
            }
            State::Stable => self.repeat_assignment(&request, turn),
        }
        self.settle_syncs();
    }

    fn check_sync(&self, request: &SyncRequest) -> Result<(), GroupError> {
        self.check_generation(
            &request.member_id,
            request.generation_id,
            request.group_instance_id.as_deref(),
        )?;
        let differs = |said: &Option<String>, ours: &Option<String>| said.is_some() && said != ours;
        if differs(&request.protocol_type, &self.protocol_type)
            || differs(&request.protocol_name, &self.protocol_name)
        {
            // A group being prepared has no protocol that a member could be right about.
            return match self.state {
                State::PreparingRebalance(_) => Err(GroupError::RebalanceInProgress),
                _ => Err(GroupError::InconsistentGroupProtocol),
            };
        }
        Ok(())
    }

    fn park_sync(&mut self, request: &SyncRequest, turn: &mut Turn<'_>) {
        if let Some(member) = self.members.get_mut(&request.member_id) {
            if let Some(superseded) = member.take_sync() {
                let error = GroupError::RebalanceInProgress;
                turn.effects.reply(superseded, Reply::Sync(Err(error)));
            }
            member.sync = SyncSlot::Waiting(request.reply_to);
        }
    }

    /// Makes the group stable: every member owns what the leader gave it, or nothing.
    fn install_assignments(&mut self, assignments: Vec<(MemberId, Bytes)>, turn: &mut Turn<'_>) {
        let mut assignments: HashMap<MemberId, Bytes> = assignments.into_iter().collect();
        for member in self.members.iter_mut() {
            member.assignment = assignments.remove(&member.id).unwrap_or_default();
        }
        self.state = State::Stable;
        self.state_timestamp = turn.now;
        turn.effects.persist(self.snapshot(), PersistLevel::Durable);
        let mut earliest = i64::MAX;
        let (protocol_type, protocol_name) = (&self.protocol_type, &self.protocol_name);
        for member in self.members.iter_mut() {
            if let Some(to) = member.take_parked_sync() {
                earliest = earliest.min(member.restart_session(turn.now));
                let reply = SyncReply {
                    protocol_type: protocol_type.clone(),
                    protocol_name: protocol_name.clone(),
                    assignment: member.assignment.clone(),
                };
                turn.effects.reply(to, Reply::Sync(Ok(reply)));
            }
        }
        self.arm(earliest);
    }

    fn repeat_assignment(&mut self, request: &SyncRequest, turn: &mut Turn<'_>) {
        let Some(member) = self.members.get_mut(&request.member_id) else {
            return;
        };
        member.sync = SyncSlot::Idle;
        let reply = SyncReply {
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol_name.clone(),
            assignment: member.assignment.clone(),
        };
        turn.effects.reply(request.reply_to, Reply::Sync(Ok(reply)));
    }

    /// Stops the timer for missing syncs once every member has asked.
    fn settle_syncs(&mut self) {
        let is_settled = self.members.iter().all(|member| member.sync != SyncSlot::Expected);
        if self.sync_deadline.is_some() && is_settled {
            self.sync_deadline = None;
        }
    }
}
