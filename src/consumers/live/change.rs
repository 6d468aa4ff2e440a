//! What happens to the partitions of a connection, one change after the other.

use std::pin::pin;
use std::sync::Arc;

use super::open::LiveMember;
use crate::base::ids::{Offset, TopicPartition};
use crate::consumers::commit;
use crate::consumers::instance::{Instance, Phase, State};
use crate::consumers::positions::{CommitExtent, find_slot_mut};
use crate::engine::BoxFuture;
use crate::engine::groups::GroupError;

/// One partition of an assignment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssignedPartition {
    /// The partition.
    pub partition: TopicPartition,
    /// The next offset to send; none while it is not known where to begin, because the partition
    /// cannot be read. An assignment follows as soon as it is.
    pub position: Option<Offset>,
}

/// What a member may read now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// The generation of the group.
    pub generation_id: i32,
    /// The partitions, sorted.
    pub partitions: Vec<AssignedPartition>,
}

/// A change that a connection must follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// These partitions may be read.
    Assigned(Assignment),
    /// Nothing may be read until the next assignment.
    Revoked,
    /// The client acknowledged something.
    Acknowledged,
    /// Another connection has the member now, here or by the Kafka protocol.
    Fenced,
    /// The member left its group.
    Closed,
    /// The coordinator refused for good.
    Failed(GroupError),
}

/// What a connection knows of its member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Seen {
    /// The version of the state whose assignment it reads, if it reads one.
    assigned: Option<u64>,
    acks: u64,
}

impl LiveMember {
    /// The name of the member.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.call.instance.key.name
    }

    /// Waits for the next change after what was `seen`, and says what is seen then.
    ///
    /// A new assignment is always preceded by `Revoked` of the one before.
    pub fn change(self: &Arc<Self>, seen: Seen) -> BoxFuture<(Change, Seen)> {
        let member = Arc::clone(self);
        Box::pin(async move {
            let instance = &member.call.instance;
            loop {
                let mut changed = pin!(instance.changed.notified());
                changed.as_mut().enable();
                let change = look(&instance.state(), member.number, seen);
                if let Some(change) = change {
                    return change;
                }
                changed.await;
            }
        })
    }

    /// Notes which records were written to the connection, as the offset after the last one of
    /// each partition, and says how many offsets the client has not acknowledged.
    pub fn wrote<'a>(&self, next: impl Iterator<Item = (&'a TopicPartition, Offset)>) -> u64 {
        let mut state = self.call.instance.state();
        if !state.session.is_of(self.number) {
            return 0;
        }
        for (partition, next) in next {
            if let Some(slot) = find_slot_mut(&mut state.slots, partition) {
                slot.position = slot.position.max(Some(next));
            }
        }
        state.unacknowledged()
    }

    /// Offsets written to the client that it did not acknowledge.
    #[must_use]
    pub fn unacknowledged(&self) -> u64 {
        self.call.instance.state().unacknowledged()
    }

    /// Begins again behind what is acknowledged; none while nothing is assigned.
    #[must_use]
    pub fn rewind(&self) -> Option<(Assignment, Seen)> {
        let mut state = self.call.instance.state();
        if !state.session.is_of(self.number) || state.member.phase != Phase::Stable {
            return None;
        }
        for slot in &mut state.slots {
            slot.position = slot.acknowledged;
        }
        let seen = Seen { assigned: Some(state.version), acks: state.session.acks };
        Some((assignment(&state), seen))
    }

    /// Takes over that the client has everything before these offsets, and commits that in the
    /// background.
    pub fn acknowledge<'a>(&self, next: impl Iterator<Item = (&'a TopicPartition, Offset)>) {
        let instance = &self.call.instance;
        {
            let mut state = instance.state();
            if !state.session.is_of(self.number) {
                return;
            }
            for (partition, next) in next {
                if let Some(slot) = find_slot_mut(&mut state.slots, partition) {
                    slot.acknowledge_up_to(next);
                }
            }
        }
        let (shared, instance) = (self.shared.clone(), Arc::clone(instance));
        self.shared.shutdown.spawn(async move {
            commit::auto_commit(&shared, &instance, CommitExtent::Acknowledged).await;
        });
    }
}

/// Finds the first change after what was seen.
fn look(state: &State, number: u64, seen: Seen) -> Option<(Change, Seen)> {
    if state.is_closed {
        return Some((Change::Closed, seen));
    }
    if !state.session.is_of(number) {
        return Some((Change::Fenced, seen));
    }
    let revoked = (Change::Revoked, Seen { assigned: None, ..seen });
    match &state.member.phase {
        Phase::Failed(GroupError::FencedInstanceId) => return Some((Change::Fenced, seen)),
        Phase::Failed(error) => return Some((Change::Failed(error.clone()), seen)),
        Phase::Out => return Some((Change::Closed, seen)),
        Phase::Joining if seen.assigned.is_some() => return Some(revoked),
        Phase::Stable if seen.assigned.is_some_and(|version| version != state.version) => {
            return Some(revoked);
        }
        Phase::Stable if seen.assigned.is_none() => {
            let seen = Seen { assigned: Some(state.version), acks: state.session.acks };
            return Some((Change::Assigned(assignment(state)), seen));
        }
        Phase::Joining | Phase::Stable => {}
    }
    let acks = state.session.acks;
    (acks != seen.acks).then_some((Change::Acknowledged, Seen { acks, ..seen }))
}

fn assignment(state: &State) -> Assignment {
    let partitions = state.slots.iter().map(|slot| AssignedPartition {
        partition: slot.partition.clone(),
        position: slot.position,
    });
    Assignment { generation_id: state.member.generation_id, partitions: partitions.collect() }
}

impl Instance {
    /// Notes an acknowledgement, so that a stream with a full window goes on.
    pub(super) fn note_ack(&self) {
        self.state().session.acks += 1;
        self.notify();
    }
}
