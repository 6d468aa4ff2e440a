//! The one task that keeps all instances alive.
//!
//! It visits a tenth of the registry ten times per heartbeat interval: heartbeats for stable
//! members, the end of idle instances, the release of buffers nobody came back for. Those
//! heartbeats only keep sessions alive. That something happened in a group, the keeper hears from
//! the engine, and beats for the members of that group at once. It also hears of changes of topics.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::{self, FuturesUnordered};
use tokio::time::MissedTickBehavior;

use super::instance::{Instance, Phase};
use super::membership;
use super::positions::CommitExtent;
use super::registry::{SHARDS, Shared};
use super::subscription::Matcher;
use super::{closing, commit};
use crate::engine::groups::{GroupError, Membership};

/// After how long without a call the buffers of an instance are released, in milliseconds.
const BUFFERS_IDLE_MS: i64 = 5_000;

/// Commits at once when the server stops.
const COMMITS_AT_ONCE: usize = 64;

/// How long the last commits may take when the server stops.
const LAST_COMMITS_WAIT: Duration = Duration::from_secs(10);

/// Instances that take a change of topics in before other tasks have their turn.
const INSTANCES_PER_YIELD: usize = 256;

/// Why a member is given a heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// Its session must not end.
    Time,
    /// Something happened in its group.
    News,
}

/// What came back for a heartbeat.
struct Beat {
    instance: Arc<Instance>,
    speaker: Membership,
    answer: Result<(), GroupError>,
}

/// Keeps the instances until the server stops; then commits what is to be committed.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut changes = shared.engine.topics.watch_changes();
    let mut has_changes = true;
    let mut is_changed = false;
    let mut beats = FuturesUnordered::new();
    let group_changes = shared.engine.groups.changes();
    let period = shared.options.heartbeat_period() / u32::try_from(SHARDS).unwrap_or(1);
    let mut ticks = tokio::time::interval(period.max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut shard = 0;
    loop {
        tokio::select! {
            () = shared.shutdown.stopping() => break,
            Some(beat) = beats.next() => take_beat(&shared, beat),
            // The first instance came: the ticks begin.
            () = shared.keeper_wake.notified() => {}
            changed = group_changes.taken() => {
                for group in changed {
                    let members = shared.registry.in_group(&group);
                    beats.extend(members.iter().filter_map(|i| heartbeat(&shared, i, Cause::News)));
                }
            }
            changed = changes.changed(), if has_changes => {
                // Taken in with the next tick: topics tend to be created many at a time.
                (has_changes, is_changed) = (changed.is_ok(), true);
            }
            _ = ticks.tick(), if shared.registry.len() > 0 => {
                if std::mem::take(&mut is_changed) {
                    take_changes(&shared).await;
                }
                for instance in shared.registry.in_shard(shard) {
                    visit(&shared, &instance);
                    beats.extend(heartbeat(&shared, &instance, Cause::Time));
                }
                shard = (shard + 1) % SHARDS;
            }
        }
    }
    drop(beats);
    commit_last(&shared).await;
}

/// Tells a member that became stable what happened in its group before it was.
pub(super) async fn catch_up(shared: &Arc<Shared>, instance: &Arc<Instance>) {
    if let Some(beat) = heartbeat(shared, instance, Cause::News) {
        take_beat(shared, beat.await);
    }
}

/// Makes the heartbeat of an instance, if it is a member that needs one.
fn heartbeat(
    shared: &Shared,
    instance: &Arc<Instance>,
    cause: Cause,
) -> Option<impl Future<Output = Beat> + use<>> {
    let speaker = {
        let mut state = instance.state();
        // The answer under way may be older than the news.
        let is_needless = state.member.is_heartbeat_under_way && cause == Cause::Time;
        if state.member.phase != Phase::Stable || is_needless {
            return None;
        }
        state.member.is_heartbeat_under_way = true;
        instance.membership(&state)
    };
    let answer = shared.engine.groups.heartbeat(speaker.clone());
    let instance = instance.clone();
    Some(async move { Beat { instance, speaker, answer: answer.await } })
}

fn take_beat(shared: &Arc<Shared>, beat: Beat) {
    beat.instance.state().member.is_heartbeat_under_way = false;
    if let Err(error) = beat.answer {
        membership::react(shared, &beat.instance, &beat.speaker, &error);
    }
}

/// Ends an instance that is idle for too long, releases the buffers of one that is idle.
fn visit(shared: &Arc<Shared>, instance: &Arc<Instance>) {
    let Some(since) = instance.idle_since() else {
        return;
    };
    if shared.is_expired(instance, since) {
        let is_closed = instance.state().is_closed;
        if !is_closed {
            shared.shutdown.spawn(closing::expire(shared.clone(), instance.clone()));
        }
    } else if shared.now().saturating_sub(since) >= BUFFERS_IDLE_MS
        && let Ok(mut turn) = instance.turn.try_lock()
        && turn.opened.capacity() > 0
    {
        turn.opened = std::collections::HashMap::new();
    }
}

/// Lets all instances take in that topics changed.
async fn take_changes(shared: &Arc<Shared>) {
    for instances in shared.registry.all().chunks(INSTANCES_PER_YIELD) {
        {
            let mut matcher = Matcher::new(shared.engine.topics.as_ref());
            for instance in instances {
                membership::topics_changed(shared, instance, &mut matcher).await;
            }
        }
        tokio::task::yield_now().await;
    }
}

/// Commits what clients have shown to have received; the instances stay members.
async fn commit_last(shared: &Shared) {
    let instances = stream::iter(shared.registry.all());
    let commits = instances.for_each_concurrent(COMMITS_AT_ONCE, async |instance| {
        commit::auto_commit(shared, &instance, CommitExtent::Acknowledged).await;
    });
    if tokio::time::timeout(LAST_COMMITS_WAIT, commits).await.is_err() {
        tracing::warn!("auto-commits of consumer instances did not end in time");
    }
}
