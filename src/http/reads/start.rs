//! Where a plain read begins in each partition, resolved before anything is read.

use http::StatusCode;

use super::params::{Params, Start};
use crate::base::ids::{Offset, PartitionId};
use crate::base::limits::{CURSOR_BYTES_MAX, STREAM_PARTITIONS_MAX};
use crate::engine::log::{Bounds, Isolation, OffsetSpec};
use crate::engine::topics::Topic;
use crate::http::error::{ApiError, ApiResult};
use crate::http::record::cursor::{self, ClusterTag, Cursor, Position};
pub(super) use crate::http::record::last::end_of;
use crate::http::record::last::{LookBack, Seen};
use crate::http::state::Inner;
use crate::http::stream::params::From;

/// Where one partition begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Begin {
    pub(super) partition: PartitionId,
    pub(super) offset: Offset,
}

/// Why a start is not possible, with what a client needs to go on.
#[derive(Debug)]
pub(super) enum NoStart {
    /// The request is wrong.
    Refused(ApiError),
    /// An offset lies outside of the log; the read may begin at `nearest` instead.
    Outside { error: ApiError, nearest: Begin },
}

impl<E: Into<ApiError>> std::convert::From<E> for NoStart {
    fn from(error: E) -> Self {
        Self::Refused(error.into())
    }
}

/// Resolves the start of every partition that is asked for, in their order.
///
/// # Errors
/// 404 for partitions that do not exist, 400 for too many, 410 for what the log has no longer or
/// what was said of an earlier topic, 416 for what it has not yet.
///
/// # Cancel safety
/// Safe: nothing changes.
pub(super) async fn resolve(
    state: &Inner,
    topic: &Topic,
    params: &Params,
) -> Result<Vec<Begin>, NoStart> {
    let cluster = cursor::cluster_tag(&state.engine.node.cluster_id);
    let partitions = select(topic, params)?;
    if let Start::After(after) = &params.start {
        check_incarnation(topic, after, cluster)?;
    }
    let mut begins = Vec::with_capacity(partitions.len());
    let mut look_back = LookBack::of(partitions.len(), &state.shutdown);
    for partition in partitions {
        let bounds = state.engine.log.bounds(&topic.name, partition)?;
        let wish = match &params.start {
            Start::After(after) => {
                let own = after.positions.iter().filter(|p| p.incarnation == topic.incarnation);
                let own = own.filter(|p| p.partition == partition).map(|p| p.next).next();
                // A partition that the cursor does not know is new: nothing of it is skipped.
                own.map_or(Wish::At(bounds.log_start_offset), Wish::Exactly)
            }
            Start::From(from) => wish_of(from, bounds, params.isolation),
            Start::Offsets(offsets) => {
                let named = offsets.iter().find(|(named, _)| *named == partition);
                let end = end_of(bounds, params.isolation);
                named.map_or(Wish::At(end), |(_, offset)| Wish::Exactly(*offset))
            }
        };
        let offset = match wish {
            Wish::At(offset) => offset,
            Wish::Exactly(offset) => within(topic, partition, offset, bounds)?,
            Wish::Last(count) => {
                let (topic, isolation) = (&topic.name, params.isolation);
                let seen = Seen { topic, partition, bounds, isolation };
                look_back.find(&*state.engine.log, seen, count).await
            }
            Wish::AtOrAfter(at) => {
                let (spec, isolation) = (OffsetSpec::AtOrAfter(at), params.isolation);
                let found =
                    state.engine.log.list_offset(&topic.name, partition, spec, isolation).await?;
                found.map_or(end_of(bounds, isolation), |found| found.offset)
            }
        };
        begins.push(Begin { partition, offset });
    }
    let positions = begins.iter().map(|begin| Position {
        incarnation: topic.incarnation,
        partition: begin.partition,
        next: begin.offset,
    });
    if cursor::bytes_max(positions) > CURSOR_BYTES_MAX {
        return Err(too_many(topic, begins.len()).into());
    }
    Ok(begins)
}

/// What is wanted of one partition.
enum Wish {
    /// This offset, which the log has.
    At(Offset),
    /// This offset, which the log may not have.
    Exactly(Offset),
    /// So many records.
    Last(i64),
    /// The first record that is not older.
    AtOrAfter(i64),
}

fn wish_of(from: &From, bounds: Bounds, isolation: Isolation) -> Wish {
    let end = end_of(bounds, isolation);
    match from {
        From::Latest => Wish::At(end),
        From::Earliest => Wish::At(bounds.log_start_offset),
        From::Last(count) => Wish::Last(*count),
        From::Timestamp(at) => Wish::AtOrAfter(*at),
    }
}

fn within(
    topic: &Topic,
    partition: PartitionId,
    offset: Offset,
    bounds: Bounds,
) -> Result<Offset, NoStart> {
    let (first, tail) = (bounds.log_start_offset, bounds.high_watermark);
    let name = topic.name.as_str();
    let (status, message, nearest) = if offset < first {
        let message = format!(
            "offset {offset} of partition {partition} of topic '{name}' is gone, first is {first}"
        );
        (StatusCode::GONE, message, first)
    } else if offset > tail {
        let message = format!(
            "offset {offset} of partition {partition} of topic '{name}' is past the tail {tail}"
        );
        (StatusCode::RANGE_NOT_SATISFIABLE, message, tail)
    } else {
        return Ok(offset);
    };
    let nearest = Begin { partition, offset: nearest };
    Err(NoStart::Outside { error: ApiError::status(status, message), nearest })
}

/// A cursor of an earlier topic of the same name says nothing of this one.
fn check_incarnation(topic: &Topic, after: &Cursor, cluster: ClusterTag) -> ApiResult<()> {
    let is_current = |position: &Position| position.incarnation == topic.incarnation;
    let knows_topic = after.head.cluster == cluster && after.positions.iter().any(is_current);
    if knows_topic || after.positions.is_empty() {
        return Ok(());
    }
    let message = format!(
        "after is a cursor of another topic, or of an earlier one named '{}': begin with from=",
        topic.name
    );
    Err(ApiError::status(StatusCode::GONE, message))
}

fn select(topic: &Topic, params: &Params) -> ApiResult<Vec<PartitionId>> {
    let all = 0..topic.partition_count;
    let named: &[_] = match &params.start {
        Start::Offsets(offsets) => offsets,
        _ => &[],
    };
    let chosen = params.partitions.iter().flatten().copied();
    let mut chosen = chosen.chain(named.iter().map(|(partition, _)| *partition));
    if let Some(unknown) = chosen.find(|partition| !all.contains(partition)) {
        return Err(ApiError::partition_not_found(topic.name.as_str(), unknown));
    }
    let selected = params.partitions.clone().unwrap_or_else(|| all.collect());
    if selected.len() > STREAM_PARTITIONS_MAX {
        return Err(too_many(topic, selected.len()));
    }
    Ok(selected)
}

fn too_many(topic: &Topic, count: usize) -> ApiError {
    ApiError::bad_request(format!(
        "a cursor of {count} partitions of topic '{}' would be longer than {CURSOR_BYTES_MAX} \
         bytes: select some with partitions=",
        topic.name
    ))
}
