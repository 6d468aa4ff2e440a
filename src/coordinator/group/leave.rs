//! `LeaveGroup`, and the removal of members for whatever reason.

use crate::base::ids::MemberId;

use super::effect::{LeaveResult, Reply};
use super::state::State;
use super::{Group, GroupError, LeaveMember, LeaveRequest, Turn};

impl Group {
    pub(super) fn on_leave(&mut self, request: LeaveRequest, turn: &mut Turn<'_>) {
        let results: Vec<LeaveResult> = request
            .members
            .into_iter()
            .map(|leaving| {
                let result = self.leave_one(&leaving, turn);
                (leaving, result)
            })
            .collect();
        turn.effects.reply(request.reply_to, Reply::Leave(Ok(results)));
        self.settle_after_removal(turn);
    }

    fn leave_one(&mut self, leaving: &LeaveMember, turn: &mut Turn<'_>) -> Result<(), GroupError> {
        let Some(instance) = leaving.group_instance_id.as_deref() else {
            if self.pending.remove(leaving.member_id.as_str()).is_some() {
                return Ok(());
            }
            self.check_member(&leaving.member_id, None)?;
            self.remove_member(&MemberId::from(leaving.member_id.as_str()), turn);
            return Ok(());
        };
        let holder = self.members.find_static(instance).cloned();
        let holder = holder.ok_or(GroupError::UnknownMemberId)?;
        // Administrators name a static member by its instance id alone.
        if !leaving.member_id.is_empty() && leaving.member_id != holder.as_str() {
            return Err(GroupError::FencedInstanceId);
        }
        self.remove_member(&holder, turn);
        Ok(())
    }

    /// Takes a member out. Whoever still waits under its name is told to start over.
    pub(super) fn remove_member(&mut self, id: &MemberId, turn: &mut Turn<'_>) {
        let Some(mut member) = self.members.remove(id.as_str()) else {
            return;
        };
        if let Some(to) = member.take_join() {
            turn.effects.refuse_join(to, "", GroupError::UnknownMemberId);
        }
        if let Some(to) = member.take_sync() {
            turn.effects.reply(to, Reply::Sync(Err(GroupError::UnknownMemberId)));
        }
        self.succeed_leader(id);
        self.removed_since_settled = true;
    }

    /// Lets the group react after members or pending ids were taken out, once for all of them.
    pub(super) fn settle_after_removal(&mut self, turn: &mut Turn<'_>) {
        let removed = std::mem::take(&mut self.removed_since_settled);
        match self.state {
            State::Stable | State::CompletingRebalance if removed => self.rebalance(turn),
            // A forgotten pending id may have been all that a join phase waited for.
            State::PreparingRebalance(_) => self.try_end_join_phase(turn),
            State::Empty | State::Stable | State::CompletingRebalance => {}
        }
    }
}
