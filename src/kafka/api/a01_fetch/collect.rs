//! One pass over the partitions of a fetch: what is there now, within the limits.

use bytes::Bytes;

use super::super::errors;
use super::{PartitionAnswer, Plan, Wanted};
use crate::base::ids::TopicName;
use crate::engine::Log;
use crate::engine::log::{Bounds, Fetched, Read, ReadError, Records};
use crate::protocol::ErrorCode;

/// Bounds of a partition that cannot be read.
const UNKNOWN_BOUNDS: Bounds =
    Bounds { log_start_offset: -1, high_watermark: -1, last_stable_offset: -1 };

/// What one pass found, in the order of the request.
#[derive(Debug)]
pub(super) struct Collected {
    pub(super) answers: Vec<PartitionAnswer>,
    pub(super) bytes: usize,
    pub(super) has_error: bool,
}

/// Reads every partition of `plan` in the order of the request.
///
/// The first partition with records gives at least one whole batch, however large, so that every
/// consumer gets on; after it the limits are hard.
pub(super) async fn collect(plan: &Plan, log: &dyn Log) -> Collected {
    let mut collected = Collected {
        answers: Vec::with_capacity(plan.partitions.len()),
        bytes: 0,
        has_error: false,
    };
    for wanted in &plan.partitions {
        let limit = wanted.bytes_max.min(plan.bytes_max.saturating_sub(collected.bytes));
        let answer = match &wanted.source {
            Err(error) => PartitionAnswer::failed(*error),
            // A hard limit of nothing: the bounds alone, without looking for a batch.
            Ok(topic) if collected.bytes > 0 && limit == 0 => bounds_of(topic, wanted, log),
            Ok(topic) => {
                let answer = read(topic, wanted, limit, (plan, log)).await;
                let is_over = collected.bytes > 0 && answer.records.len() > limit;
                if is_over { answer.without_records() } else { answer }
            }
        };
        collected.bytes += answer.records.len();
        collected.has_error |= answer.error != ErrorCode::None;
        collected.answers.push(answer);
    }
    collected
}

async fn read(
    topic: &TopicName,
    wanted: &Wanted,
    bytes_max: usize,
    (plan, log): (&Plan, &dyn Log),
) -> PartitionAnswer {
    let read = Read {
        topic: topic.clone(),
        partition: wanted.partition,
        offset: wanted.offset,
        bytes_max,
        isolation: plan.isolation,
    };
    match log.read(read).await {
        Ok(Fetched { records, bounds, aborted }) => {
            PartitionAnswer { error: ErrorCode::None, bounds, records, aborted }
        }
        Err(error) => {
            let mut answer = PartitionAnswer::failed(errors::read(&error));
            // The client resets to these.
            if let ReadError::OffsetOutOfRange { bounds, .. } = error {
                answer.bounds = bounds;
            }
            answer
        }
    }
}

fn bounds_of(topic: &TopicName, wanted: &Wanted, log: &dyn Log) -> PartitionAnswer {
    match log.bounds(topic, wanted.partition) {
        Ok(bounds) => {
            let (error, records, aborted) = (ErrorCode::None, no_records(), Vec::new());
            PartitionAnswer { error, bounds, records, aborted }
        }
        Err(error) => PartitionAnswer::failed(errors::read(&error)),
    }
}

impl PartitionAnswer {
    pub(super) const fn failed(error: ErrorCode) -> Self {
        Self { error, bounds: UNKNOWN_BOUNDS, records: no_records(), aborted: Vec::new() }
    }

    fn without_records(self) -> Self {
        Self { records: no_records(), aborted: Vec::new(), ..self }
    }
}

const fn no_records() -> Records {
    Records::Memory(Bytes::new())
}
