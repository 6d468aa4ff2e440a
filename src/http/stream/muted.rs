//! Partitions that a stream goes on without, because they cannot be read.
//!
//! One failed read says little of the next one: after each heartbeat the stream tries again from
//! the position that it kept, and where that works the records flow on without a word. What is
//! damaged stays so until somebody mends it; it is tried again by who connects again.

use super::body::StreamBody;
use super::events::{Fault, Gap, GapReason};
use super::params::OnGap;
use super::part::Part;
use super::plan::Ending;
use crate::base::ids::Offset;

/// What a stream knows of a partition that it goes on without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Muted {
    /// Where the partition ends for the stream, once it can be read again.
    pub(super) bound: Offset,
    /// It is tried again.
    pub(super) is_passing: bool,
}

impl StreamBody {
    /// A partition cannot be read: the others go on, if there are any or may come, and its position
    /// stays in the cursor.
    pub(super) fn unreadable(&mut self, at: usize, fault: &Fault) {
        let is_it = |(other, part): (usize, &Part)| {
            other != at && part.is_open && part.span.next < part.span.bound
        };
        let has_others = self.parts.iter().enumerate().any(is_it);
        let is_alone = !has_others && self.plan.ending != Ending::Never;
        if is_alone || self.plan.on_gap == OnGap::Fail {
            return self.fault(fault);
        }
        let Some(part) = self.parts.get_mut(at) else { return };
        let (topic, partition) = (part.tail.topic().name.clone(), part.span.partition);
        let muted = Muted { bound: part.span.bound, is_passing: fault.is_retriable };
        let is_news = part.muted.replace(muted).is_none();
        // Its turn finds it at its end.
        part.span.bound = part.span.next;
        let requested = Some(part.span.next);
        if fault.is_retriable {
            self.life.look_later();
        }
        if !is_news {
            return;
        }
        let detail = &fault.detail;
        tracing::warn!(%topic, partition, detail, "a stream goes on without a partition");
        let (topic, partition) = (Some(topic), Some(partition));
        let reason = GapReason::Offline;
        self.report(&Gap { topic, partition, requested, resumed: None, reason });
    }

    /// Lets partitions that could not be read have a turn again.
    pub(super) fn look_again(&mut self) {
        let log = &self.permit.engine().log;
        let mut is_left = false;
        for (at, part) in self.parts.iter_mut().enumerate() {
            let Some(muted) = part.muted.filter(|muted| muted.is_passing) else { continue };
            if part.is_open {
                continue;
            }
            part.watch_again(log);
            if part.watch.is_none() {
                is_left = true;
                continue;
            }
            part.span.bound = muted.bound;
            part.is_open = true;
            self.parts_open += 1;
            self.turns.push(at);
        }
        if is_left {
            self.life.look_later();
        }
    }
}
