//! Commits: those a client asks for and those that happen by themselves.

use std::time::Duration;

use super::error::ConsumerError;
use super::instance::{Instance, Kind, Phase, Source, State};
use super::membership;
use super::positions::{CommitExtent, find_slot, find_slot_mut};
use super::registry::{Consumers, Shared};
use crate::base::ids::{Offset, TopicPartition};
use crate::engine::groups::{
    CommitRefusal, CommittedOffset, GroupError, Membership, OffsetQuery, OffsetToCommit,
};
use crate::engine::instances::InstanceKey;

/// How long a commit waits for a rebalance that it met, before it gives up.
const REBALANCE_WAIT: Duration = Duration::from_secs(10);

/// One offset that a client commits by hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetCommit {
    /// Which partition; it need not be assigned.
    pub partition: TopicPartition,
    /// The next offset to read.
    pub offset: Offset,
    /// The client's own note.
    pub metadata: String,
}

impl Consumers {
    /// Commits the given offsets; with none, exactly what was delivered so far.
    ///
    /// A commit that meets a rebalance waits for its end and is made again if the instance still
    /// has the partitions.
    ///
    /// # Errors
    /// [`ConsumerError::NotFound`], `InvalidOffset`, `UnknownPartition`, `MetadataTooLarge`,
    /// `Fenced`, `Group`.
    ///
    /// # Cancel safety
    /// Dropping the future may or may not leave the offsets committed.
    pub async fn commit(
        &self,
        key: &InstanceKey,
        offsets: Option<Vec<OffsetCommit>>,
    ) -> Result<(), ConsumerError> {
        let call = self.call(key)?;
        let (shared, instance) = (&self.shared, &call.instance);
        if let Some(bad) = offsets.iter().flatten().find(|commit| commit.offset < 0) {
            let (partition, offset) = (bad.partition.clone(), bad.offset);
            return Err(ConsumerError::InvalidOffset { partition, offset });
        }
        let committed = commit_once(shared, instance, offsets.as_deref()).await;
        let Err(ConsumerError::Group(error)) = &committed else {
            return committed;
        };
        if !is_rebalance(error) || !matches!(instance.state().source, Source::Subscribed { .. }) {
            return committed;
        }
        membership::settle(instance, REBALANCE_WAIT).await;
        {
            let state = instance.state();
            let is_lost = |commit: &OffsetCommit| !state.is_assigned(&commit.partition);
            if state.member.phase != Phase::Stable || offsets.iter().flatten().any(is_lost) {
                return Err(ConsumerError::Fenced);
            }
        }
        commit_once(shared, instance, offsets.as_deref()).await
    }

    /// Reads committed offsets of the group; with none asked for, of all assigned partitions.
    /// Partitions without one are left out.
    ///
    /// # Errors
    /// [`ConsumerError::NotFound`], `Group`.
    ///
    /// # Cancel safety
    /// Safe: nothing changes.
    pub async fn committed(
        &self,
        key: &InstanceKey,
        partitions: Option<Vec<TopicPartition>>,
    ) -> Result<Vec<(TopicPartition, CommittedOffset)>, ConsumerError> {
        let call = self.call(key)?;
        let partitions = match partitions {
            Some(partitions) => partitions,
            None => self.assigned_after_settling(&call.instance).await,
        };
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let query = OffsetQuery::Partitions(partitions);
        let found = self.shared.engine.groups.committed(&key.group, &query)?;
        Ok(found.into_iter().filter_map(|(p, committed)| Some((p, committed?))).collect())
    }
}

impl State {
    fn is_assigned(&self, partition: &TopicPartition) -> bool {
        find_slot(&self.slots, partition).is_some()
    }
}

/// Says whether a commit may succeed once the member has joined again.
pub(super) const fn is_rebalance(error: &GroupError) -> bool {
    matches!(
        error,
        GroupError::RebalanceInProgress
            | GroupError::IllegalGeneration
            | GroupError::UnknownMemberId
            | GroupError::FencedInstanceId
    )
}

async fn commit_once(
    shared: &std::sync::Arc<Shared>,
    instance: &std::sync::Arc<Instance>,
    offsets: Option<&[OffsetCommit]>,
) -> Result<(), ConsumerError> {
    let speaker = instance.membership(&instance.state());
    let committed = match offsets {
        None => commit_positions(shared, instance, CommitExtent::Delivered).await,
        Some(offsets) => commit_given(shared, instance, offsets).await,
    };
    if let Err(ConsumerError::Group(error)) = &committed {
        // No need to wait for the next heartbeat to hear the same.
        membership::react(shared, instance, &speaker, error);
    }
    committed
}

async fn commit_given(
    shared: &Shared,
    instance: &Instance,
    offsets: &[OffsetCommit],
) -> Result<(), ConsumerError> {
    let to_commit = |commit: &OffsetCommit| OffsetToCommit {
        partition: commit.partition.clone(),
        offset: commit.offset,
        leader_epoch: -1,
        metadata: commit.metadata.clone(),
    };
    let _order = instance.commits.lock().await;
    let speaker = {
        let mut state = instance.state();
        state.acknowledge();
        instance.membership(&state)
    };
    let refused = send(shared, instance, speaker, offsets.iter().map(to_commit).collect()).await?;
    match refused {
        None => Ok(()),
        Some((partition, CommitRefusal::UnknownPartition)) => {
            Err(ConsumerError::UnknownPartition(partition))
        }
        Some((partition, CommitRefusal::MetadataTooLarge)) => {
            Err(ConsumerError::MetadataTooLarge(partition))
        }
    }
}

/// Commits positions, in the name of the member or of nobody.
pub(super) async fn commit_positions(
    shared: &Shared,
    instance: &Instance,
    extent: CommitExtent,
) -> Result<(), ConsumerError> {
    let _order = instance.commits.lock().await;
    let (speaker, offsets) = {
        let mut state = instance.state();
        if extent == CommitExtent::Delivered {
            state.acknowledge();
        }
        let worth = state.slots.iter().filter_map(|slot| {
            Some(OffsetToCommit {
                partition: slot.partition.clone(),
                offset: slot.to_commit(extent)?,
                leader_epoch: -1,
                metadata: String::new(),
            })
        });
        let offsets: Vec<OffsetToCommit> = worth.collect();
        (instance.membership(&state), offsets)
    };
    if offsets.is_empty() {
        return Ok(());
    }
    // A partition that is gone meanwhile needs no commit any more.
    send(shared, instance, speaker, offsets).await.map(|_| ())
}

/// Sends a commit, remembers what succeeded and returns the first refusal.
async fn send(
    shared: &Shared,
    instance: &Instance,
    speaker: Membership,
    offsets: Vec<OffsetToCommit>,
) -> Result<Option<(TopicPartition, CommitRefusal)>, ConsumerError> {
    let results = shared.engine.groups.commit(speaker, offsets.clone()).await?;
    let mut refused = None;
    let mut state = instance.state();
    for (commit, result) in offsets.into_iter().zip(results) {
        match result {
            Ok(()) => {
                if let Some(slot) = find_slot_mut(&mut state.slots, &commit.partition) {
                    slot.committed = Some(commit.offset);
                    slot.hold = slot.hold.filter(|hold| hold.committed == slot.committed);
                }
            }
            Err(refusal) => {
                refused.get_or_insert((commit.partition, refusal));
            }
        }
    }
    Ok(refused)
}

/// Commits positions if the instance wants that to happen by itself. A failure is not the
/// client's: the records are delivered again.
pub(super) async fn auto_commit(shared: &Shared, instance: &Instance, extent: CommitExtent) {
    let is_wanted = match instance.kind {
        Kind::Kept => instance.settings.auto_commit,
        Kind::Static => instance.state().session.commits(),
    };
    if !is_wanted {
        return;
    }
    instance.state().auto_committed_ms = shared.now();
    if let Err(error) = commit_positions(shared, instance, extent).await {
        let key = &instance.key;
        tracing::debug!(group = %key.group, name = key.name, %error, "an auto-commit failed");
    }
}

/// Auto-commits if the interval is over.
pub(super) async fn auto_commit_if_due(shared: &Shared, instance: &Instance) {
    let interval_ms = instance.settings.auto_commit_interval_ms;
    let is_due = {
        let state = instance.state();
        shared.now().saturating_sub(state.auto_committed_ms) >= interval_ms
            && !matches!(state.member.phase, Phase::Joining)
    };
    if is_due {
        auto_commit(shared, instance, CommitExtent::Acknowledged).await;
    }
}
