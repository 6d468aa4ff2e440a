//! The connection that reads as a static member now, and what it has acknowledged.

use std::sync::Arc;

use crate::base::ids::{Offset, TopicPartition};
use crate::consumers::commit;
use crate::consumers::instance::{Instance, Kind, State};
use crate::consumers::positions::{CommitExtent, Slot};
use crate::consumers::registry::Shared;

/// What moves the committed offsets of a live member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AckMode {
    /// Time: what was written a while ago to a connection that took more bytes since.
    #[default]
    Auto,
    /// The client says what it is done with.
    Explicit,
    /// Nothing.
    None,
}

impl AckMode {
    /// Returns the name that clients use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Explicit => "explicit",
            Self::None => "none",
        }
    }
}

/// The connection of a member.
#[derive(Debug, Default)]
pub(in crate::consumers) struct Session {
    /// Grows with every connection: the newest one is the member's.
    pub(super) number: u64,
    /// A stream is open; false while the member lingers and between bounded reads.
    pub(super) is_streaming: bool,
    pub(super) mode: AckMode,
    /// Grows with every acknowledgement.
    pub(super) acks: u64,
    /// Where the client says it stands in partitions that are not assigned yet; sorted.
    pub(super) resume: Vec<(TopicPartition, Offset)>,
    /// Where the newest connection begins in partitions of which nothing is committed; sorted.
    pub(super) start: Vec<(TopicPartition, Offset)>,
    /// A task looks for starts that are not known; there is never a second one.
    pub(super) is_seeking: bool,
}

impl Session {
    /// Says whether anything is committed in the name of this member.
    pub(in crate::consumers) fn commits(&self) -> bool {
        self.mode != AckMode::None
    }

    /// Says whether the connection of this number is the newest one.
    pub(in crate::consumers) const fn is_of(&self, number: u64) -> bool {
        self.number == number
    }

    /// Puts a new slot back to where the client says it stands, if nothing is committed: a cursor
    /// goes before the settings. One that says more is left to [`Session::resume`], because what
    /// lies before it may not be acknowledged.
    pub(in crate::consumers) fn begin(&self, slot: &mut Slot) {
        let Some(next) = find(&self.start, &slot.partition) else { return };
        if slot.committed.is_none() && slot.position.is_some_and(|position| next < position) {
            (slot.position, slot.acknowledged) = (Some(next), Some(next));
            (slot.hold, slot.is_worth_commit) = (None, false);
        }
    }

    /// Puts a slot where the client says it stands, unless the group is further.
    pub(in crate::consumers) fn resume(&self, slot: &mut Slot) {
        let Some(next) = find(&self.resume, &slot.partition) else { return };
        if self.commits() {
            slot.acknowledge_up_to(next);
            // Also where it stands already: the group shall know it.
            slot.is_worth_commit |= slot.committed.is_none();
        }
        slot.position = slot.position.max(Some(next));
    }
}

/// Finds what a client says of a partition.
fn find(said: &[(TopicPartition, Offset)], partition: &TopicPartition) -> Option<Offset> {
    let at = said.binary_search_by(|(held, _)| held.cmp(partition)).ok()?;
    said.get(at).map(|(_, next)| *next)
}

/// Of a partition named twice the further offset counts.
pub(super) fn sort(said: &mut Vec<(TopicPartition, Offset)>) {
    said.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
    said.dedup_by(|a, b| a.0 == b.0);
}

impl State {
    /// Begins a connection: what was written to the one before and not acknowledged comes again,
    /// except where the client says that it has it.
    pub(super) fn resume_all(&mut self, mut resume: Vec<(TopicPartition, Offset)>) {
        sort(&mut resume);
        self.session.resume = resume;
        let Self { session, slots, .. } = self;
        for slot in slots {
            slot.position = slot.acknowledged;
            session.resume(slot);
        }
        self.version += 1;
    }

    /// Offsets written to the client that it did not acknowledge, in all partitions.
    pub(super) fn unacknowledged(&self) -> u64 {
        self.slots.iter().map(Slot::unacknowledged).fold(0, u64::saturating_add)
    }

    fn awaits_acks(&self) -> bool {
        let session = &self.session;
        session.is_streaming && session.mode == AckMode::Explicit && self.unacknowledged() > 0
    }
}

/// Gives a connected client that acknowledges itself the time for its last acknowledgements,
/// before its partitions go to others.
pub(in crate::consumers) async fn await_final_acks(shared: &Shared, instance: &Instance) {
    if instance.kind != Kind::Static {
        return;
    }
    let settled = async {
        loop {
            let mut changed = std::pin::pin!(instance.changed.notified());
            changed.as_mut().enable();
            if !instance.state().awaits_acks() {
                return;
            }
            changed.await;
        }
    };
    // What is not acknowledged by then is delivered again.
    let _elapsed = tokio::time::timeout(shared.options.final_ack_wait, settled).await;
}

/// Commits where a member begins, as far as that says more than the settings: a start at the end
/// of the log is the end of this moment for whoever has the partition next.
pub(in crate::consumers) fn commit_start(shared: &Arc<Shared>, instance: &Arc<Instance>) {
    let (shared, instance) = (Arc::clone(shared), Arc::clone(instance));
    shared.shutdown.clone().spawn(async move {
        commit::auto_commit(&shared, &instance, CommitExtent::Acknowledged).await;
    });
}
