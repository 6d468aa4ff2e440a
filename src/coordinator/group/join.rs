//! `JoinGroup`: who is admitted, and with which identity.

use crate::base::ids::MemberId;

use super::effect::{JoinReply, JoinReplyMember, PersistLevel, Reply};
use super::member::{self, JoinSlot, Member};
use super::state::State;
use super::{
    Group, GroupConfig, GroupError, JoinRequest, MemberIdPolicy, ReplyTo, SkipAssignmentSupport,
    TEXT_BYTES_MAX, Turn,
};

impl Group {
    pub(super) fn on_join(&mut self, request: JoinRequest, turn: &mut Turn<'_>) {
        let (to, member_id) = (request.reply_to, request.member_id.clone());
        let accepted = self.check_join(&request, turn.config).and_then(|()| {
            if member_id.is_empty() {
                self.join_unknown(request, turn)
            } else {
                self.join_known(request, turn)
            }
        });
        match accepted {
            Ok(()) => {}
            Err(GroupError::MemberIdRequired(id)) => {
                let error = GroupError::MemberIdRequired(id.clone());
                turn.effects.refuse_join(to, id.as_str(), error);
            }
            Err(error) => turn.effects.refuse_join(to, &member_id, error),
        }
    }

    /// Checks what does not depend on who the member is.
    fn check_join(&self, request: &JoinRequest, config: &GroupConfig) -> Result<(), GroupError> {
        config.check_session_timeout(request.session_timeout_ms)?;
        if texts(request).any(|text| text.len() > TEXT_BYTES_MAX) {
            return Err(GroupError::InvalidRequest);
        }
        let compatible = if self.members.is_empty() {
            !request.protocol_type.is_empty() && !request.protocols.is_empty()
        } else {
            self.protocol_type.as_ref() == Some(&request.protocol_type)
                && self.members.have_common(&request.protocols)
        };
        if compatible { Ok(()) } else { Err(GroupError::InconsistentGroupProtocol) }
    }

    /// Takes a join without a member id.
    fn join_unknown(
        &mut self,
        request: JoinRequest,
        turn: &mut Turn<'_>,
    ) -> Result<(), GroupError> {
        let new_id = request.new_member_id.clone();
        let is_taken =
            self.members.get(new_id.as_str()).is_some() || self.pending.contains_key(&new_id);
        if is_taken {
            // The caller's ids are random; the client asks again and gets another one.
            return Err(GroupError::CoordinatorNotAvailable);
        }
        let holder = request.group_instance_id.as_deref();
        let holder = holder.and_then(|instance| self.members.find_static(instance)).cloned();
        if let Some(old_id) = holder {
            self.replace_static(&old_id, request, turn);
            return Ok(());
        }
        self.check_size(turn.config)?;
        let is_dynamic = request.group_instance_id.is_none();
        if is_dynamic && request.member_id_policy == MemberIdPolicy::RequireKnown {
            return Err(self.hand_out_id(&request, turn));
        }
        self.admit(new_id, request, turn);
        Ok(())
    }

    /// Takes a join with a member id: of a member, or one handed out before.
    fn join_known(&mut self, request: JoinRequest, turn: &mut Turn<'_>) -> Result<(), GroupError> {
        let is_dynamic = request.group_instance_id.is_none();
        if is_dynamic && self.pending.contains_key(request.member_id.as_str()) {
            self.check_size(turn.config)?;
            let id = MemberId::from(request.member_id.as_str());
            self.pending.remove(&id);
            self.admit(id, request, turn);
            return Ok(());
        }
        self.check_member(&request.member_id, request.group_instance_id.as_deref())?;
        if self.answers_with_current_generation(&request) {
            self.answer_current_generation(&request, turn);
        } else {
            self.rejoin(request, turn);
        }
        Ok(())
    }

    fn check_size(&self, config: &GroupConfig) -> Result<(), GroupError> {
        if self.members.len() >= config.size_max {
            return Err(GroupError::GroupMaxSizeReached);
        }
        Ok(())
    }

    /// Sends a dynamic member back with an id (KIP-394), so that a client that tries again after
    /// a lost reply does not leave a ghost behind for every attempt.
    fn hand_out_id(&mut self, request: &JoinRequest, turn: &Turn<'_>) -> GroupError {
        if self.pending.len() >= turn.config.members_pending_max {
            return GroupError::GroupMaxSizeReached;
        }
        let expiry = turn.now.saturating_add(i64::from(request.session_timeout_ms));
        self.pending.insert(request.new_member_id.clone(), expiry);
        self.arm(expiry);
        GroupError::MemberIdRequired(request.new_member_id.clone())
    }

    fn admit(&mut self, id: MemberId, request: JoinRequest, turn: &mut Turn<'_>) {
        if self.members.is_empty() {
            self.protocol_type = Some(request.protocol_type.clone());
        }
        if self.leader.is_none() {
            self.leader = Some(id.clone());
        }
        let to = request.reply_to;
        let mut member = Member::new(id, request, turn.now);
        member.join = JoinSlot::Waiting(to);
        self.members.insert(member);
        if let State::PreparingRebalance(phase) = &mut self.state
            && let Some(gathering) = &mut phase.gathering
        {
            gathering.member_added = true;
        }
        self.rebalance(turn);
    }

    /// Says whether a member that joins again without need is told where the group stands:
    /// nothing changed that could change the assignment.
    fn answers_with_current_generation(&self, request: &JoinRequest) -> bool {
        let Some(member) = self.members.get(&request.member_id) else {
            return false;
        };
        let is_unchanged = member.protocols == request.protocols;
        match self.state {
            // Its reply may have been lost on the way.
            State::CompletingRebalance => is_unchanged,
            // A leader joins again to assign anew, for example because topics grew.
            State::Stable => is_unchanged && self.leader.as_ref() != Some(&member.id),
            State::Empty | State::PreparingRebalance(_) => false,
        }
    }

    fn answer_current_generation(&mut self, request: &JoinRequest, turn: &mut Turn<'_>) {
        self.touch(&request.member_id, turn.now);
        let reply = self.join_reply(&request.member_id);
        turn.effects.reply(request.reply_to, Reply::Join(Ok(reply)));
    }

    fn rejoin(&mut self, request: JoinRequest, turn: &mut Turn<'_>) {
        let id = request.member_id.clone();
        self.update_and_park(&id, request, turn);
        self.rebalance(turn);
    }

    /// Takes over what a member says of itself when it joins again, and parks the request.
    fn update_and_park(&mut self, id: &str, request: JoinRequest, turn: &mut Turn<'_>) {
        self.members.set_protocols(id, request.protocols);
        let Some(member) = self.members.get_mut(id) else {
            return;
        };
        member.client_id = request.client_id;
        member.client_host = request.client_host;
        member.session_timeout_ms = request.session_timeout_ms;
        member.rebalance_timeout_ms =
            member::rebalance_timeout_ms(request.rebalance_timeout_ms, request.session_timeout_ms);
        if let Some(superseded) = member.take_join() {
            let error = GroupError::RebalanceInProgress;
            turn.effects.refuse_join(superseded, id, error);
        }
        member.join = JoinSlot::Waiting(request.reply_to);
    }

    /// Lets a process that returned under a known instance id take its predecessor's place
    /// (KIP-345). The old id is fenced from here on.
    fn replace_static(&mut self, old_id: &MemberId, request: JoinRequest, turn: &mut Turn<'_>) {
        let (to, skip_support) = (request.reply_to, request.skip_assignment_support);
        let new_id = request.new_member_id.clone();
        if let Some(old) = self.members.get_mut(old_id.as_str()) {
            if let Some(parked) = old.take_join() {
                let error = GroupError::FencedInstanceId;
                turn.effects.refuse_join(parked, old_id.as_str(), error);
            }
            if let Some(parked) = old.take_sync() {
                let error = GroupError::FencedInstanceId;
                turn.effects.reply(parked, Reply::Sync(Err(error)));
            }
        }
        self.members.rename(old_id.as_str(), &new_id);
        let old_leader = self.leader.clone();
        if self.leader.as_ref() == Some(old_id) {
            self.leader = Some(new_id.clone());
        }
        self.update_and_park(new_id.as_str(), request, turn);
        let keeps_protocol = self.members.elect_protocol() == self.protocol_name;
        if self.state != State::Stable || !keeps_protocol {
            // While completing, the leader may be assigning to the old id: it must start over.
            self.rebalance(turn);
            return;
        }
        if let Some(member) = self.members.get_mut(new_id.as_str()) {
            member.join = JoinSlot::Absent;
        }
        self.touch(new_id.as_str(), turn.now);
        turn.effects.persist(self.snapshot(), PersistLevel::Durable);
        self.answer_replaced(to, &new_id, old_leader, skip_support, turn);
    }

    /// Answers a replacement that needs no rebalance. A leader that cannot skip the assignment
    /// is told its old id as the leader's, so that it does not recognise itself and assign.
    fn answer_replaced(
        &self,
        to: ReplyTo,
        new_id: &MemberId,
        old_leader: Option<MemberId>,
        skip_support: SkipAssignmentSupport,
        turn: &mut Turn<'_>,
    ) {
        let mut reply = self.join_reply(new_id.as_str());
        match skip_support {
            SkipAssignmentSupport::Supported => {
                reply.skip_assignment = reply.leader == reply.member_id;
            }
            SkipAssignmentSupport::Unsupported => {
                reply.members = Vec::new();
                reply.leader = old_leader.unwrap_or_else(|| new_id.clone());
            }
        }
        turn.effects.reply(to, Reply::Join(Ok(reply)));
    }

    /// Makes the reply that tells `member_id` the current generation.
    pub(super) fn join_reply(&self, member_id: &str) -> JoinReply {
        let member_id = MemberId::from(member_id);
        let leader = self.leader.clone().unwrap_or_else(|| member_id.clone());
        let protocol = self.protocol_name.as_deref().unwrap_or_default();
        let members = self.members.iter().map(|member| JoinReplyMember {
            member_id: member.id.clone(),
            group_instance_id: member.group_instance_id.clone(),
            metadata: member.metadata(protocol),
        });
        let members = if leader == member_id { members.collect() } else { Vec::new() };
        JoinReply {
            generation_id: self.generation_id,
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol_name.clone(),
            leader,
            member_id,
            skip_assignment: false,
            members,
        }
    }
}

/// Returns the texts of a join that end up in records.
fn texts(request: &JoinRequest) -> impl Iterator<Item = &str> {
    let fixed = [&request.client_id, &request.client_host, &request.protocol_type];
    let protocols = request.protocols.iter().map(|(name, _)| name.as_str());
    let id = std::iter::once(request.new_member_id.as_str());
    let instance = request.group_instance_id.as_deref().into_iter();
    fixed.into_iter().map(String::as_str).chain(protocols).chain(id).chain(instance)
}
