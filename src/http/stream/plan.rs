//! What a stream does, besides where it is.

use std::sync::Arc;
use std::time::Duration;

use super::filter::Filter;
use super::frame::IdMode;
use super::params::{Batch, Format, Framing, Ids, OnGap};
use super::waits::Rhythm;
use super::wire::Wire;
use crate::base::ids::{Offset, TimestampMs};
use crate::engine::log::Isolation;
use crate::http::record::cursor::Budget;

/// Partitions up to which every record has a cursor by default.
const IDS_EACH_PARTITIONS_MAX: usize = 8;

/// What a stream does, besides where it is.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) ids: Ids,
    pub(super) format: Format,
    pub(super) wire: Wire,
    pub(super) filter: Option<Arc<Filter>>,
    pub(super) batch: Option<Batch>,
    pub(super) isolation: Isolation,
    pub(super) on_gap: OnGap,
    /// Lag after which a partition goes on at its end, if the client wants that.
    pub(super) lag_max: Option<Offset>,
    pub(super) until: Option<TimestampMs>,
    pub(super) budget: Budget,
    pub(super) ending: Ending,
}

/// When a stream has come to its end although nobody asked for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// With the first of its topics that is deleted.
    Topic,
    /// When no topic is left.
    AllTopics,
    /// Never: others may come.
    Never,
}

impl Plan {
    /// How often it looks at what is new. A filter may find nothing in it, so it looks less often,
    /// and always at several records where many come.
    pub(super) const fn rhythm(&self) -> Rhythm {
        match self.filter {
            None => Rhythm { distance: Duration::from_millis(1), ahead: 4 },
            Some(_) => Rhythm { distance: Duration::from_millis(5), ahead: 0 },
        }
    }

    /// Which ids it writes while it has so many partitions.
    pub(super) const fn id_mode(&self, partition_count: usize) -> IdMode {
        match (self.wire.framing(), self.ids) {
            (Framing::Events, _) => {}
            // Lines and lists have no cursor of their own, unless it is asked for.
            (_, Ids::Auto) => return IdMode::Shared,
            (Framing::Lines, Ids::Each) => return IdMode::Each,
            _ => return IdMode::Flush,
        }
        match self.ids {
            Ids::Flush => IdMode::Flush,
            Ids::Auto if partition_count > IDS_EACH_PARTITIONS_MAX => IdMode::Flush,
            // The ids that chunks have say nothing of other partitions and of a budget.
            _ if partition_count == 1 && self.budget.is_unlimited() => IdMode::Shared,
            Ids::Auto | Ids::Each => IdMode::Each,
        }
    }
}
