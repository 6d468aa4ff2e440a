//! The partitions of a stream, and where it is in them.

use std::sync::Arc;

use smallvec::SmallVec;

use super::cursor::Position;
use super::events::Place;
use super::muted::Muted;
use super::start::Span;
use super::tail::Tail;
use super::waits::Watch;
use crate::base::ids::{Offset, PartitionId, TopicId};
use crate::engine::log::Log;

/// One partition of a stream.
pub(super) struct Part {
    pub(super) span: Span,
    /// What follows the last record that was sent. The position is further where a filter, or the
    /// end of a transaction, left nothing to send.
    pub(super) sent: Offset,
    pub(super) tail: Arc<Tail>,
    /// None while the partition is waited for.
    pub(super) watch: Option<Watch>,
    pub(super) is_open: bool,
    /// Set while the partition cannot be read, and while it is tried again.
    pub(super) muted: Option<Muted>,
}

impl Part {
    /// Where the stream is in this partition.
    pub(super) fn place(&self) -> Place<'_> {
        Place {
            topic: self.tail.topic().name.as_str(),
            partition: self.span.partition,
            next: self.span.next,
        }
    }

    /// Watches the partition, unless something does; it may be gone.
    pub(super) fn watch_again(&mut self, log: &Arc<dyn Log>) {
        if self.watch.is_none() {
            let watched = log.watch(&self.tail.topic().name, self.span.partition);
            self.watch = watched.map(Watch::new).ok();
        }
    }

    /// Tells whether it is the partition of this number of a topic.
    pub(super) fn is_of(&self, topic: TopicId, partition: PartitionId) -> bool {
        self.tail.topic().id == topic && self.span.partition == partition
    }
}

/// The partitions of a stream. Most have one, which is then at hand with everything else.
pub(super) type Parts = SmallVec<[Part; 1]>;

/// Where a stream is, as its cursor says it.
pub(super) fn positions(parts: &[Part]) -> impl Iterator<Item = Position> + Clone {
    parts.iter().map(|part| Position {
        incarnation: part.tail.topic().incarnation,
        partition: part.span.partition,
        next: part.span.next,
    })
}

/// Where a stream is, as its events say it.
pub(super) fn places(parts: &[Part]) -> Vec<Place<'_>> {
    parts.iter().map(Part::place).collect()
}
