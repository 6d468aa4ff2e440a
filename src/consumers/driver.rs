//! One instance's way through a rebalance: join, assign for everybody if it leads, sync.
//!
//! Runs as a short-lived task, at most one per instance. It holds nothing of the state while it
//! waits: whatever a round brings counts only if the epoch is still the same.

use std::sync::Arc;

use bytes::Bytes;

use super::instance::{Instance, Kind, Phase, Source, Watched};
use super::membership::{self, pause};
use super::positions::{CommitExtent, Slot};
use super::registry::Shared;
use super::subscription::{Matcher, Subscription, fingerprint};
use super::{commit, keeper, leader, live};
use crate::base::ids::TopicName;
use crate::engine::groups::{
    GroupError, Join, JoinRefusal, JoinReply, MemberIdPolicy, SkipAssignmentSupport, Sync,
};
use crate::protocol::consumer_protocol as protocol;

/// Where members of ours seem to connect from.
const CLIENT_HOST: &str = "http";

/// How a driver begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// With a join.
    Join,
    /// After a restart: with the assignment that the coordinator may still have for the member.
    Resume,
}

/// What the state said when a round began.
struct Round {
    epoch: u64,
    member_id: String,
    generation_id: i32,
    subscription: Subscription,
    matched: Arc<[TopicName]>,
}

/// What a round came to.
enum Outcome {
    /// The member has an assignment.
    Assigned(Assigned),
    /// The coordinator gave out an id to join with.
    Named(String),
    /// The coordinator does not know the member.
    Unknown,
    /// The member is known, but not in this generation.
    Retry,
    /// The coordinator cannot answer yet.
    NotReady,
    /// There is no use in trying again.
    Refused(GroupError),
}

struct Assigned {
    member_id: String,
    generation_id: i32,
    watched: Watched,
    assignment: Bytes,
}

/// Drives `instance` until it is stable, refused, or no longer subscribed.
pub(super) async fn run(shared: Arc<Shared>, instance: Arc<Instance>, start: Start) {
    tokio::select! {
        // The member stays in its group: the coordinator waits for it over the restart.
        () = shared.shutdown.stopping() => {}
        () = drive(&shared, &instance, start) => {}
    }
}

async fn drive(shared: &Arc<Shared>, instance: &Arc<Instance>, mut start: Start) {
    // Before the partitions go to others: they begin where this member stopped.
    live::await_final_acks(shared, instance).await;
    commit::auto_commit(shared, instance, CommitExtent::Acknowledged).await;
    let mut failures = 0_u32;
    while let Some(round) = begin_round(shared, instance) {
        let outcome = match start {
            Start::Resume if round.generation_id >= 0 && !round.member_id.is_empty() => {
                resume(shared, instance, &round).await
            }
            Start::Resume | Start::Join => join(shared, instance, &round).await,
        };
        if !matches!(outcome, Outcome::NotReady) {
            start = Start::Join;
        }
        match outcome {
            Outcome::Assigned(assigned) => {
                match install(shared, instance, &round, assigned).await {
                    // What happened before it was stable passed it by.
                    Installed::Stable => return keeper::catch_up(shared, instance).await,
                    Installed::Stale => failures = 0,
                    Installed::NotYet => failures += 1,
                }
            }
            Outcome::Named(id) => name_member(shared, instance, &round, id).await,
            Outcome::Unknown => {
                let mut state = instance.state();
                if state.epoch == round.epoch {
                    state.forget_member();
                    state.slots = Vec::new();
                }
                failures += 1;
            }
            Outcome::Retry | Outcome::NotReady => failures += 1,
            Outcome::Refused(error) => {
                if refuse(instance, &round, error) {
                    return;
                }
            }
        }
        if failures > 1 {
            pause(failures).await;
        }
    }
}

/// Takes what the round needs from the state; none ends the driver.
fn begin_round(shared: &Shared, instance: &Instance) -> Option<Round> {
    let source = instance.state().source.clone();
    let matched = match &source {
        // Compiling a pattern takes its time: not under the lock.
        Source::Subscribed { subscription, .. } => {
            Matcher::new(shared.engine.topics.as_ref()).topics_of(subscription)
        }
        Source::None | Source::Assigned(_) => Arc::default(),
    };
    let mut state = instance.state();
    let is_over = state.is_closed || !matches!(state.source, Source::Subscribed { .. });
    if is_over {
        state.member.is_driven = false;
        return None;
    }
    let (epoch, member_id) = (state.epoch, state.member.id.clone());
    let generation_id = state.member.generation_id;
    state.member.is_stale = state.source != source;
    let Source::Subscribed { subscription, matched: seen } = &mut state.source else {
        return None;
    };
    let subscription = subscription.clone();
    if !matches!(&source, Source::Subscribed { subscription: s, .. } if *s == subscription) {
        // Changed a moment ago: the next round looks again.
        let matched = seen.clone();
        return Some(Round { epoch, member_id, generation_id, subscription, matched });
    }
    seen.clone_from(&matched);
    Some(Round { epoch, member_id, generation_id, subscription, matched })
}

/// Asks for the assignment that the group still has for a member that was away.
async fn resume(shared: &Shared, instance: &Instance, round: &Round) -> Outcome {
    let group = &instance.key.group;
    let request = Sync {
        group: group.clone(),
        member_id: round.member_id.clone(),
        generation_id: round.generation_id,
        group_instance_id: instance.group_instance_id(),
        protocol_type: None,
        protocol_name: None,
        assignments: Vec::new(),
    };
    let reply = match shared.engine.groups.sync(request).await {
        Ok(reply) => reply,
        Err(error) => return outcome_of(instance, error),
    };
    let description = shared.engine.groups.describe(group);
    let kept = description.and_then(|description| {
        leader::kept_assignment(shared, &description, &round.member_id, &round.matched)
    });
    match kept {
        Some(watched) => Outcome::Assigned(Assigned {
            member_id: round.member_id.clone(),
            generation_id: round.generation_id,
            watched,
            assignment: reply.assignment,
        }),
        None => Outcome::Retry,
    }
}

async fn join(shared: &Shared, instance: &Instance, round: &Round) -> Outcome {
    // A static member that was away may find itself in the generation of before.
    let returned_to = match instance.kind {
        Kind::Static if round.member_id.is_empty() => leader::generation_of(shared, instance),
        Kind::Static | Kind::Kept => None,
    };
    let metadata = protocol::encode_subscription(&round.matched);
    let protocols = instance.settings.assignors.iter().flat_map(|rule| rule.names());
    let timeout_ms = shared.options.session_timeout_ms;
    let request = Join {
        group: instance.key.group.clone(),
        member_id: round.member_id.clone(),
        group_instance_id: instance.group_instance_id(),
        client_id: instance.key.name.clone(),
        client_host: CLIENT_HOST.to_owned(),
        session_timeout_ms: timeout_ms,
        rebalance_timeout_ms: timeout_ms,
        protocol_type: protocol::PROTOCOL_TYPE.to_owned(),
        protocols: protocols.map(|name| ((*name).to_owned(), metadata.clone())).collect(),
        // Its id must be known before it waits, or a request given up leaves a ghost behind.
        member_id_policy: MemberIdPolicy::RequireKnown,
        // Only a static member that returns as the leader is asked to.
        skip_assignment_support: SkipAssignmentSupport::Supported,
    };
    match shared.engine.groups.join(request).await {
        Ok(reply) => {
            let is_of_before = returned_to == Some(reply.generation_id);
            let member_id = reply.member_id.as_str().to_owned();
            let outcome = sync(shared, instance, round, reply).await;
            if let Outcome::Assigned(assigned) = &outcome
                && is_of_before
                && !leader::is_assigned_for(shared, instance, &assigned.assignment, &round.matched)
            {
                // It wants other topics than before: the group has to assign anew.
                membership::leave(shared, instance, Some(member_id)).await;
                return Outcome::Unknown;
            }
            outcome
        }
        Err(JoinRefusal { error: GroupError::MemberIdRequired(id), .. }) => {
            Outcome::Named(id.as_str().to_owned())
        }
        Err(refusal) => outcome_of(instance, refusal.error),
    }
}

async fn sync(shared: &Shared, instance: &Instance, round: &Round, reply: JoinReply) -> Outcome {
    let is_leader = reply.leader == reply.member_id && !reply.skip_assignment;
    let (assignments, topics) = if is_leader {
        leader::assign_for_all(shared, &reply)
    } else if reply.skip_assignment {
        (Vec::new(), leader::topics_of_all(&reply))
    } else {
        (Vec::new(), round.matched.clone())
    };
    // Before the assignment is sent: a change from here on is noticed by comparison.
    let watched = leader::watch(shared, topics);
    let request = Sync {
        group: instance.key.group.clone(),
        member_id: reply.member_id.as_str().to_owned(),
        generation_id: reply.generation_id,
        group_instance_id: instance.group_instance_id(),
        protocol_type: reply.protocol_type,
        protocol_name: reply.protocol_name,
        assignments,
    };
    match shared.engine.groups.sync(request).await {
        Ok(synced) => Outcome::Assigned(Assigned {
            member_id: reply.member_id.as_str().to_owned(),
            generation_id: reply.generation_id,
            watched,
            assignment: synced.assignment,
        }),
        Err(error) => outcome_of(instance, error),
    }
}

fn outcome_of(instance: &Instance, error: GroupError) -> Outcome {
    match error {
        // Whoever holds the name now is newer.
        GroupError::FencedInstanceId if instance.kind == Kind::Static => Outcome::Refused(error),
        GroupError::UnknownMemberId | GroupError::FencedInstanceId => Outcome::Unknown,
        GroupError::RebalanceInProgress | GroupError::IllegalGeneration => Outcome::Retry,
        GroupError::CoordinatorNotAvailable
        | GroupError::CoordinatorLoadInProgress
        | GroupError::NotCoordinator => Outcome::NotReady,
        refusal => Outcome::Refused(refusal),
    }
}

/// Takes the id to join with; kept at once, so that a crash leaves no member that nobody is.
async fn name_member(shared: &Shared, instance: &Instance, round: &Round, id: String) {
    let is_wanted = {
        let mut state = instance.state();
        let is_wanted = state.epoch == round.epoch;
        if is_wanted {
            state.member.id.clone_from(&id);
        }
        is_wanted
    };
    if is_wanted {
        drop(instance.save(shared));
    } else {
        // The group would wait for the join of an id that it gave out.
        membership::leave(shared, instance, Some(id)).await;
    }
}

/// Says whether the driver is done: the refusal stands until the next poll.
fn refuse(instance: &Instance, round: &Round, error: GroupError) -> bool {
    {
        let mut state = instance.state();
        if state.epoch != round.epoch || state.member.is_stale {
            return false;
        }
        state.member.is_driven = false;
        state.fail(error);
    }
    instance.notify();
    true
}

enum Installed {
    Stable,
    /// Another round must follow.
    Stale,
    /// Committed offsets cannot be read yet.
    NotYet,
}

async fn install(
    shared: &Arc<Shared>,
    instance: &Arc<Instance>,
    round: &Round,
    assigned: Assigned,
) -> Installed {
    let partitions = protocol::decode_assignment(&assigned.assignment).unwrap_or_else(|error| {
        let group = &instance.key.group;
        tracing::warn!(%group, %error, "the leader's assignment is unreadable");
        Vec::new()
    });
    let kept = retained(instance, &assigned);
    let slots = match membership::make_slots(shared, instance, &partitions, &kept).await {
        Ok(slots) => slots,
        Err(error) => {
            tracing::debug!(%error, "positions cannot be found yet");
            return Installed::NotYet;
        }
    };
    let watched = assigned.watched.clone();
    {
        let mut state = instance.state();
        if state.epoch != round.epoch || state.is_closed {
            return Installed::Stale;
        }
        state.member.id = assigned.member_id;
        state.member.generation_id = assigned.generation_id;
        state.watched = assigned.watched;
        membership::install(&mut state, slots, &kept);
        if state.member.is_stale {
            return Installed::Stale;
        }
        state.member.phase = Phase::Stable;
        state.member.is_driven = false;
    }
    instance.notify();
    // Written in the background: an older generation costs a rebalance after a restart, no more.
    drop(instance.save(shared));
    if instance.kind == Kind::Static {
        live::commit_start(shared, instance);
        live::find_starts(shared, instance);
    }
    let topics = shared.engine.topics.as_ref();
    let is_changed = fingerprint(topics, &watched.topics) != watched.fingerprint
        || Matcher::new(topics).topics_of(&round.subscription) != round.matched;
    if is_changed {
        // The keeper passed over this instance while it was joining.
        membership::join(shared, instance);
    }
    Installed::Stable
}

/// Returns the slots whose positions stay good: nobody else can have owned the partitions if the
/// member was in every generation.
fn retained(instance: &Instance, assigned: &Assigned) -> Vec<Slot> {
    let state = instance.state();
    let member = &state.member;
    let is_next = assigned.generation_id == member.generation_id
        || member.generation_id.checked_add(1) == Some(assigned.generation_id);
    if is_next && member.id == assigned.member_id { state.slots.clone() } else { Vec::new() }
}
