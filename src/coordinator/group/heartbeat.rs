//! `Heartbeat`, and the checks that every request of a member passes first.

use crate::base::ids::TimestampMs;

use super::effect::Reply;
use super::state::State;
use super::{Group, GroupError, HeartbeatRequest, Turn};

impl Group {
    pub(super) fn on_heartbeat(&mut self, request: &HeartbeatRequest, turn: &mut Turn<'_>) {
        let checked = self.check_generation(
            &request.member_id,
            request.generation_id,
            request.group_instance_id.as_deref(),
        );
        let result = checked.and_then(|()| {
            // Also while preparing: the member lives, it only has not joined again yet.
            self.touch(&request.member_id, turn.now);
            match self.state {
                State::Empty => Err(GroupError::UnknownMemberId),
                State::PreparingRebalance(_) => Err(GroupError::RebalanceInProgress),
                State::CompletingRebalance | State::Stable => Ok(()),
            }
        });
        turn.effects.reply(request.reply_to, Reply::Heartbeat(result));
    }

    /// Checks that the member is in the group and not fenced by another holder of its instance id.
    pub(super) fn check_member(
        &self,
        member_id: &str,
        group_instance_id: Option<&str>,
    ) -> Result<(), GroupError> {
        if let Some(instance) = group_instance_id {
            return match self.members.find_static(instance) {
                Some(holder) if holder.as_str() == member_id => Ok(()),
                Some(_) => Err(GroupError::FencedInstanceId),
                None => Err(GroupError::UnknownMemberId),
            };
        }
        match self.members.get(member_id) {
            Some(_) => Ok(()),
            None => Err(GroupError::UnknownMemberId),
        }
    }

    /// Checks the member, and that it believes in the current generation.
    pub(super) fn check_generation(
        &self,
        member_id: &str,
        generation_id: i32,
        group_instance_id: Option<&str>,
    ) -> Result<(), GroupError> {
        self.check_member(member_id, group_instance_id)?;
        if generation_id != self.generation_id {
            return Err(GroupError::IllegalGeneration);
        }
        Ok(())
    }

    /// Starts the member's session anew.
    pub(super) fn touch(&mut self, member_id: &str, now: TimestampMs) {
        if let Some(member) = self.members.get_mut(member_id) {
            let deadline = member.restart_session(now);
            self.arm(deadline);
        }
    }
}
