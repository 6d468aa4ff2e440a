//! Acknowledgements that a client sends.

use super::session::AckMode;
use crate::base::ids::{GroupId, Offset, TopicPartition};
use crate::consumers::instance::{Call, Instance, Phase, State};
use crate::consumers::positions::{CommitExtent, find_slot, find_slot_mut};
use crate::consumers::registry::Consumers;
use crate::consumers::{ConsumerError, commit, membership};
use crate::engine::log::ReadError;

/// One partition of an acknowledgement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ack {
    /// The partition.
    pub partition: TopicPartition,
    /// The first offset that the client is not done with; not negative, not behind the log's end.
    pub next: Offset,
}

/// What became of an [`Ack`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AckStatus {
    /// It is committed.
    Committed,
    /// As much or more was committed before; nothing goes back.
    Unchanged,
    /// The member does not have the partition (any more): others may be reading it.
    NotAssigned,
}

impl AckStatus {
    /// Returns the name that clients see.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Committed => "committed",
            Self::Unchanged => "unchanged",
            Self::NotAssigned => "not_assigned",
        }
    }
}

/// Who acknowledges for a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speaker {
    /// Whoever knows its name.
    Anybody,
    /// Its connection of this number, as long as there is no newer one.
    Connection(u64),
}

impl Speaker {
    fn check(self, instance: &Instance, state: &State) -> Result<(), ConsumerError> {
        match self {
            Self::Connection(number) if !state.session.is_of(number) => {
                Err(ConsumerError::Superseded { member: instance.key.name.clone() })
            }
            Self::Anybody | Self::Connection(_) => Ok(()),
        }
    }
}

/// What became of an acknowledgement, by partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AckOutcome {
    /// The partition.
    pub partition: TopicPartition,
    /// What happened.
    pub status: AckStatus,
    /// The committed offset of an assigned partition, if there is one: the next to read.
    pub committed: Option<Offset>,
}

impl Consumers {
    /// Takes acknowledgements of a member and commits them; answers in the order of `acks`.
    ///
    /// Works whether the member's stream is open or lingers, and while its partitions are revoked.
    ///
    /// # Errors
    /// [`ConsumerError::UnknownMember`], `ObservesOnly`, `AckOutOfRange`, `UnknownPartition`,
    /// `Fenced` (the group has given the partitions away), `Group`.
    ///
    /// # Cancel safety
    /// Dropping the future may or may not leave the offsets committed.
    pub async fn acknowledge(
        &self,
        group: &GroupId,
        member: &str,
        acks: &[Ack],
    ) -> Result<Vec<AckOutcome>, ConsumerError> {
        let call = self.static_call(group, member)?;
        self.acknowledge_by(&call, Speaker::Anybody, acks).await
    }

    /// Takes acknowledgements for the member that was called.
    pub(super) async fn acknowledge_by(
        &self,
        call: &Call,
        speaker: Speaker,
        acks: &[Ack],
    ) -> Result<Vec<AckOutcome>, ConsumerError> {
        let instance = &call.instance;
        speaker.check(instance, &instance.state())?;
        if instance.state().session.mode == AckMode::None {
            return Err(ConsumerError::ObservesOnly { member: instance.key.name.clone() });
        }
        for ack in acks {
            self.check_ack(ack)?;
        }
        self.settle_first(instance).await;
        let statuses = take(instance, speaker, acks)?;
        let member = instance.membership(&instance.state());
        let committed =
            commit::commit_positions(&self.shared, instance, CommitExtent::Acknowledged).await;
        instance.note_ack();
        if let Err(ConsumerError::Group(error)) = &committed {
            membership::react(&self.shared, instance, &member, error);
            if commit::is_rebalance(error) {
                return Err(ConsumerError::Fenced);
            }
        }
        committed?;
        let state = instance.state();
        let outcomes = acks.iter().zip(statuses).map(|(ack, status)| AckOutcome {
            partition: ack.partition.clone(),
            status,
            committed: find_slot(&state.slots, &ack.partition).and_then(|slot| slot.committed),
        });
        Ok(outcomes.collect())
    }

    /// A member that was opened a moment ago has no partitions yet.
    async fn settle_first(&self, instance: &Instance) {
        let has_none = {
            let state = instance.state();
            state.slots.is_empty() && state.member.phase == Phase::Joining
        };
        if has_none {
            self.settle(instance).await;
        }
    }

    fn check_ack(&self, ack: &Ack) -> Result<(), ConsumerError> {
        let partition = &ack.partition;
        let bounds = self.shared.engine.log.bounds(&partition.topic, partition.partition);
        let bounds = bounds.map_err(|error| match error {
            ReadError::UnknownPartition { .. } => {
                ConsumerError::UnknownPartition(partition.clone())
            }
            error => ConsumerError::Read(error),
        })?;
        if (0..=bounds.high_watermark).contains(&ack.next) {
            return Ok(());
        }
        Err(ConsumerError::AckOutOfRange {
            partition: partition.clone(),
            next: ack.next,
            end: bounds.high_watermark,
        })
    }
}

/// Moves what is acknowledged.
fn take(
    instance: &Instance,
    speaker: Speaker,
    acks: &[Ack],
) -> Result<Vec<AckStatus>, ConsumerError> {
    let mut state = instance.state();
    // The member may have connected elsewhere while this one waited.
    speaker.check(instance, &state)?;
    let statuses = acks.iter().map(|ack| {
        let Some(slot) = find_slot_mut(&mut state.slots, &ack.partition) else {
            return AckStatus::NotAssigned;
        };
        let is_news = slot.committed.is_none_or(|committed| committed < ack.next);
        slot.acknowledge_up_to(ack.next);
        // Also where it stands already: the group shall know it.
        slot.is_worth_commit = true;
        if is_news { AckStatus::Committed } else { AckStatus::Unchanged }
    });
    Ok(statuses.collect())
}
