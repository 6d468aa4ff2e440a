//! When an instance joins its group, joins again, or leaves.
//!
//! ```text
//!         subscribe                    synced
//!   Out -----------> Joining ----------------------> Stable
//!    ^               |  ^  ^      heartbeat: rebalance, unknown member;  |
//!    | unsubscribe,  |  |  +------ topics changed, other subscription ---+
//!    | delete        |  | next poll
//!    +---------------+  +--------- Failed (refused for good)
//! ```
//!
//! While an instance is `Joining`, one short-lived task drives it ([`super::driver`]); a stable
//! member has no task, the keeper beats for it. Nothing of this depends on polls.

use std::sync::Arc;
use std::time::Duration;

use super::driver;
use super::error::ConsumerError;
use super::instance::{Instance, Kind, Phase, Source, State, Watched};
use super::positions::{Resolver, Slot, find_slot, find_topic_id};
use super::registry::Shared;
use super::subscription::{Matcher, fingerprint};
use crate::base::ids::{TopicName, TopicPartition};
use crate::engine::groups::{GroupError, LeaveMember, Membership};

/// Longest pause between two attempts that the coordinator cannot answer yet.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Shortest pause; it doubles with every attempt.
const PAUSE_MIN: Duration = Duration::from_millis(5);

/// How long a member that is closed waits for the coordinator to let it go.
const LEAVE_WAIT: Duration = Duration::from_secs(5);

/// Has a subscribed instance join its group, or join again.
pub(super) fn join(shared: &Arc<Shared>, instance: &Arc<Instance>) {
    let must_spawn = begin(&mut instance.state());
    instance.notify();
    if must_spawn {
        shared.shutdown.spawn(driver::run(shared.clone(), instance.clone(), driver::Start::Join));
    }
}

/// Stops reading until there is a new assignment; says whether a driver must be spawned.
fn begin(state: &mut State) -> bool {
    if state.is_closed || !matches!(state.source, Source::Subscribed { .. }) {
        return false;
    }
    state.member.phase = Phase::Joining;
    state.member.is_stale = true;
    state.version += 1;
    !std::mem::replace(&mut state.member.is_driven, true)
}

/// Takes in what the coordinator said to a heartbeat or commit of `speaker`.
pub(super) fn react(
    shared: &Arc<Shared>,
    instance: &Arc<Instance>,
    speaker: &Membership,
    error: &GroupError,
) {
    {
        let mut state = instance.state();
        let member = &state.member;
        let is_current = member.phase == Phase::Stable
            && member.id == speaker.member_id
            && member.generation_id == speaker.generation_id;
        if !is_current {
            return;
        }
        match error {
            GroupError::RebalanceInProgress => {}
            // The partitions belong to others already; there is nothing left to commit.
            GroupError::IllegalGeneration => {
                state.member.generation_id = -1;
                state.slots = Vec::new();
            }
            // Somebody else came under the name: joining again would fence them in turn.
            GroupError::FencedInstanceId if instance.kind == Kind::Static => {
                state.fail(error.clone());
                drop(state);
                return instance.notify();
            }
            GroupError::UnknownMemberId | GroupError::FencedInstanceId => {
                state.forget_member();
                state.slots = Vec::new();
            }
            _ => return,
        }
    }
    join(shared, instance);
}

/// Waits until the instance has its assignment or was refused one, at most for `wait`.
pub(super) async fn settle(instance: &Instance, wait: Duration) {
    let settled = async {
        loop {
            let mut changed = std::pin::pin!(instance.changed.notified());
            changed.as_mut().enable();
            if instance.state().member.phase != Phase::Joining {
                return;
            }
            changed.await;
        }
    };
    // Whoever waits looks at the phase afterwards.
    let _elapsed = tokio::time::timeout(wait, settled).await;
}

/// Leaves the group under `member_id`, if there is one.
pub(super) async fn leave(shared: &Shared, instance: &Instance, member_id: Option<String>) {
    let Some(member_id) = member_id else {
        return;
    };
    let group = &instance.key.group;
    let group_instance_id = instance.group_instance_id();
    let member = LeaveMember { member_id, group_instance_id };
    let leaving = shared.engine.groups.leave(group.clone(), vec![member]);
    // Without an answer the session ends by itself.
    if let Ok(Err(error)) = tokio::time::timeout(LEAVE_WAIT, leaving).await {
        tracing::debug!(%group, %error, "a consumer instance could not leave its group");
    }
}

/// Marks an instance that was loaded: its polls wait until it is revived.
pub(super) fn expect_revival(state: &mut State) {
    match state.source {
        Source::None => {}
        Source::Subscribed { .. } => {
            state.member.phase = Phase::Joining;
            state.member.is_driven = true;
        }
        Source::Assigned(_) => state.member.phase = Phase::Joining,
    }
}

/// Brings an instance back that was loaded.
pub(super) fn revive(shared: &Arc<Shared>, instance: &Arc<Instance>) {
    let is_driven = instance.state().member.is_driven;
    let (shared, instance) = (shared.clone(), instance.clone());
    if is_driven {
        let start = driver::Start::Resume;
        shared.clone().shutdown.spawn(driver::run(shared, instance, start));
    } else {
        shared.clone().shutdown.spawn(async move {
            tokio::select! {
                () = shared.shutdown.stopping() => {}
                () = revive_assignment(&shared, &instance) => {}
            }
        });
    }
}

async fn revive_assignment(shared: &Shared, instance: &Instance) {
    let epoch = instance.state().epoch;
    for attempt in 0_u32.. {
        let Source::Assigned(partitions) = instance.state().source.clone() else {
            return;
        };
        match assign(shared, instance, &partitions, epoch).await {
            Ok(()) => return,
            Err(error) => tracing::debug!(%error, "an assignment cannot be revived yet"),
        }
        pause(attempt).await;
    }
}

/// Pauses between attempts, longer every time.
pub(super) async fn pause(attempt: u32) {
    let factor = 2_u32.saturating_pow(attempt.min(10));
    tokio::time::sleep(PAUSE_MIN.saturating_mul(factor).min(PAUSE_MAX)).await;
}

/// Makes `partitions` the manual assignment, unless the epoch is over; positions of partitions
/// that are assigned already stay.
pub(super) async fn assign(
    shared: &Shared,
    instance: &Instance,
    partitions: &[TopicPartition],
    epoch: u64,
) -> Result<(), ConsumerError> {
    let old: Vec<Slot> = instance.state().slots.clone();
    let slots = make_slots(shared, instance, partitions, &old).await?;
    let topics = topics_of(partitions);
    let fingerprint = fingerprint(shared.engine.topics.as_ref(), &topics);
    {
        let mut state = instance.state();
        if state.is_closed || state.epoch != epoch {
            return Err(instance.not_found());
        }
        state.source = Source::Assigned(partitions.to_vec());
        state.watched = Watched { topics: topics.into(), fingerprint };
        state.member.phase = Phase::Out;
        install(&mut state, slots, &old);
    }
    instance.notify();
    Ok(())
}

fn topics_of(partitions: &[TopicPartition]) -> Vec<TopicName> {
    let mut topics: Vec<TopicName> = partitions.iter().map(|p| p.topic.clone()).collect();
    topics.sort_unstable();
    topics.dedup();
    topics
}

/// Makes the slots of `partitions`: copies of what `kept` holds (of the same topic), else new ones.
pub(super) async fn make_slots(
    shared: &Shared,
    instance: &Instance,
    partitions: &[TopicPartition],
    kept: &[Slot],
) -> Result<Vec<Slot>, ConsumerError> {
    let (engine, group) = (&shared.engine, &instance.key.group);
    let (mut slots, mut fresh) = (Vec::new(), Vec::new());
    for partition in partitions {
        let topic_id = find_topic_id(engine, partition);
        match find_slot(kept, partition).filter(|slot| Some(slot.topic_id) == topic_id) {
            Some(slot) => slots.push(slot.clone()),
            None => fresh.push(partition.clone()),
        }
    }
    let holds = instance.state().revived.clone();
    let resolver = Resolver { engine, group, settings: &instance.settings, holds: &holds };
    slots.extend(resolver.slots(fresh).await?);
    slots.sort_unstable_by(|a, b| a.partition.cmp(&b.partition));
    slots.dedup_by(|a, b| a.partition == b.partition);
    Ok(slots)
}

/// Makes `slots` those of the instance. What was copied from `kept` is taken as it is now: a
/// delivery may have been confirmed meanwhile.
pub(super) fn install(state: &mut State, mut slots: Vec<Slot>, kept: &[Slot]) {
    let present = std::mem::take(&mut state.slots);
    for slot in &mut slots {
        let is_copy =
            find_slot(kept, &slot.partition).is_some_and(|old| old.topic_id == slot.topic_id);
        match find_slot(&present, &slot.partition).filter(|_| is_copy) {
            Some(now) => slot.clone_from(now),
            None => {
                slot.token = state.fresh_token();
                state.session.begin(slot);
                state.session.resume(slot);
            }
        }
    }
    slots.shrink_to_fit();
    state.slots = slots;
    state.revived = Vec::new();
    state.version += 1;
}

/// Lets one instance take in that topics were created, deleted or given partitions.
pub(super) async fn topics_changed(
    shared: &Arc<Shared>,
    instance: &Arc<Instance>,
    matcher: &mut Matcher<'_>,
) {
    let topics = shared.engine.topics.as_ref();
    let (source, watched, phase, epoch) = {
        let state = instance.state();
        let (source, watched) = (state.source.clone(), state.watched.clone());
        (source, watched, state.member.phase.clone(), state.epoch)
    };
    let is_changed = || fingerprint(topics, &watched.topics) != watched.fingerprint;
    match source {
        // A driver compares for itself when it is done.
        Source::Subscribed { subscription, matched } if phase == Phase::Stable => {
            if matcher.topics_of(&subscription) != matched || is_changed() {
                join(shared, instance);
            }
        }
        Source::Assigned(partitions) if phase == Phase::Out && is_changed() => {
            if let Err(error) = assign(shared, instance, &partitions, epoch).await {
                tracing::debug!(%error, "an assignment was not renewed after topics changed");
            }
        }
        Source::None | Source::Subscribed { .. } | Source::Assigned(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_a_subscription_joins() {
        let mut state = State::default();
        assert!(!begin(&mut state));
        assert_eq!(state.member.phase, Phase::Out);
    }
}
