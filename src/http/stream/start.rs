//! Where a stream begins: resolved before the first byte is sent.
//!
//! A cursor goes before `from`. What a cursor says of topics or partitions that were not asked for
//! is ignored: it never widens a request. A position that the log does not have becomes a gap.

use http::StatusCode;

use super::cursor::{ClusterTag, Cursor};
use super::events::{Gap, GapReason};
use super::params::{From, Named, OnGap, Params, Resume, Until};
use crate::base::ids::{Offset, PartitionId, TimestampMs};
use crate::base::limits::STREAM_PARTITIONS_MAX;
use crate::engine::Engine;
use crate::engine::log::{Bounds, Isolation, OffsetSpec};
use crate::engine::topics::Topic;
use crate::http::error::{ApiError, ApiResult};

/// Where one partition begins and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) partition: PartitionId,
    /// The next offset to deliver.
    pub(super) next: Offset,
    /// The first offset not to deliver.
    pub(super) bound: Offset,
}

/// How a stream relates to the one it continues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resumed {
    /// It continues none.
    Fresh,
    /// It continues with the very next record.
    Exact,
    /// Records are missing.
    Gap,
}

impl Resumed {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Exact => "exact",
            Self::Gap => "gap",
        }
    }
}

/// Everything about the beginning of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Start {
    pub(super) spans: Vec<Span>,
    pub(super) gaps: Vec<Gap>,
    pub(super) resumed: Resumed,
    /// Records still to deliver, if that is bounded.
    pub(super) remaining: Option<u64>,
}

/// What the client wants of one partition.
enum Wish {
    /// This very offset.
    Exactly(Offset),
    /// What `from` says, or the beginning.
    From,
    /// The first record that is not older.
    Timestamp(TimestampMs),
    /// The old topic's offset, which means nothing any more.
    Recreated(Option<Offset>),
}

/// Resolves everything.
///
/// # Errors
/// 404 for partitions that do not exist, 410 for gaps if the client wants it so, 400 for too many
/// partitions, and what reading the log may answer.
///
/// # Cancel safety
/// Safe: nothing changes.
pub(super) async fn resolve(
    engine: &Engine,
    topic: &Topic,
    params: &Params,
    cluster: ClusterTag,
    now: TimestampMs,
) -> ApiResult<Start> {
    let partitions = select(topic, params)?;
    let mut spans = Vec::with_capacity(partitions.len());
    let mut gaps = Vec::new();
    for partition in partitions {
        let bounds = engine.log.bounds(&topic.name, partition)?;
        let wish = wish(topic, partition, params, cluster);
        let resolver = Resolver { engine, topic, partition, bounds };
        let (next, gap) =
            resolver.place(wish, params.subscription.from.as_ref(), is_resumed(params)).await?;
        gaps.extend(gap);
        let bound = resolver.bound(params.subscription.until, now).await?;
        spans.push(Span { partition, next, bound });
    }
    if params.subscription.on_gap == OnGap::Fail
        && let Some(gap) = gaps.first()
    {
        return Err(ApiError::status(StatusCode::GONE, gap.sentence(topic.name.as_str())));
    }
    let resumed = match (gaps.is_empty(), is_resumed(params)) {
        (false, _) => Resumed::Gap,
        (true, true) => Resumed::Exact,
        (true, false) => Resumed::Fresh,
    };
    Ok(Start { spans, gaps, resumed, remaining: remaining(params) })
}

fn select(topic: &Topic, params: &Params) -> ApiResult<Vec<PartitionId>> {
    let name = topic.name.as_str();
    let all = 0..topic.partition_count;
    let named = match &params.subscription.from {
        Some(From::Offsets(offsets)) => offsets.iter().map(|(partition, _)| *partition).collect(),
        _ => Vec::new(),
    };
    let chosen = params.subscription.partitions.iter().flatten().chain(&named);
    if let Some(unknown) = chosen.copied().find(|p| !all.contains(p)) {
        return Err(ApiError::partition_not_found(name, unknown));
    }
    let selected = params.subscription.partitions.clone().unwrap_or_else(|| all.collect());
    if selected.len() > STREAM_PARTITIONS_MAX {
        let count = selected.len();
        let message = format!(
            "topic '{name}' has {count} partitions, a stream takes {STREAM_PARTITIONS_MAX}: \
             select some with partitions="
        );
        return Err(ApiError::bad_request(message));
    }
    Ok(selected)
}

fn is_resumed(params: &Params) -> bool {
    match &params.subscription.resume {
        Some(Resume::Cursor(cursor)) => !cursor.positions.is_empty(),
        Some(Resume::Named(named)) => !named.is_empty(),
        None => false,
    }
}

fn wish(topic: &Topic, partition: PartitionId, params: &Params, cluster: ClusterTag) -> Wish {
    match &params.subscription.resume {
        Some(Resume::Cursor(cursor)) => wish_of_cursor(topic, partition, cursor, cluster),
        Some(Resume::Named(named)) => wish_of_name(topic, partition, named),
        None => Wish::From,
    }
}

fn wish_of_cursor(
    topic: &Topic,
    partition: PartitionId,
    cursor: &Cursor,
    cluster: ClusterTag,
) -> Wish {
    let mut of_partition = cursor.positions.iter().filter(|p| p.partition == partition);
    let is_ours = cursor.head.cluster == cluster;
    let is_current = |incarnation| is_ours && incarnation == topic.incarnation;
    if cursor.positions.iter().any(|p| is_current(p.incarnation)) {
        let found = of_partition.find(|p| is_current(p.incarnation));
        return found.map_or(Wish::From, |position| Wish::Exactly(position.next));
    }
    match of_partition.next() {
        Some(stale) => Wish::Recreated(Some(stale.next)),
        None if cursor.positions.is_empty() => Wish::From,
        None => Wish::Recreated(None),
    }
}

fn wish_of_name(topic: &Topic, partition: PartitionId, named: &[Named]) -> Wish {
    let is_it = |n: &&Named| n.topic == topic.name.as_str() && n.partition == partition;
    match named.iter().find(is_it) {
        Some(Named { offset: Some(offset), .. }) => Wish::Exactly(*offset),
        Some(Named { timestamp: Some(timestamp), .. }) => Wish::Timestamp(*timestamp),
        _ => Wish::From,
    }
}

/// A cursor's budget counts only while the client still asks for one.
fn remaining(params: &Params) -> Option<u64> {
    let limit = params.subscription.limit?;
    match &params.subscription.resume {
        Some(Resume::Cursor(Cursor { head, .. })) => {
            Some(head.limit.map_or(limit, |left| left.min(limit)))
        }
        _ => Some(limit),
    }
}

/// One partition with its bounds of this moment.
struct Resolver<'a> {
    engine: &'a Engine,
    topic: &'a Topic,
    partition: PartitionId,
    bounds: Bounds,
}

impl Resolver<'_> {
    async fn place(
        &self,
        wish: Wish,
        from: Option<&From>,
        is_resumed: bool,
    ) -> ApiResult<(Offset, Option<Gap>)> {
        match wish {
            Wish::Exactly(offset) => Ok(self.within(offset)),
            Wish::Timestamp(at) => Ok((self.at_or_after(at).await?, None)),
            // A partition that a cursor does not know yet is new: nothing of it may be skipped.
            Wish::From if is_resumed => self.from(from.unwrap_or(&From::Earliest)).await,
            Wish::From => self.from(from.unwrap_or(&From::Latest)).await,
            Wish::Recreated(requested) => {
                let (next, _) = self.from(from.unwrap_or(&From::Earliest)).await?;
                let (resumed, reason) = (Some(next), GapReason::Recreated);
                let partition = self.partition;
                Ok((next, Some(Gap { partition, requested, resumed, reason })))
            }
        }
    }

    async fn from(&self, from: &From) -> ApiResult<(Offset, Option<Gap>)> {
        let Bounds { log_start_offset: start, high_watermark: end, .. } = self.bounds;
        let offset = match from {
            From::Latest => end,
            From::Earliest => start,
            From::Last(count) => end.saturating_sub(*count).max(start),
            From::Timestamp(at) => self.at_or_after(*at).await?,
            From::Offsets(offsets) => {
                let named = offsets.iter().find(|(partition, _)| *partition == self.partition);
                match named {
                    Some((_, offset)) => return Ok(self.within(*offset)),
                    None => end,
                }
            }
        };
        Ok((offset, None))
    }

    /// The offset if the log has it, else the nearest one and the gap.
    fn within(&self, requested: Offset) -> (Offset, Option<Gap>) {
        let gap = gap_between(self.partition, requested, self.bounds);
        (gap.and_then(|gap| gap.resumed).unwrap_or(requested), gap)
    }

    /// The first record that is not older, or the end.
    async fn at_or_after(&self, at: TimestampMs) -> ApiResult<Offset> {
        Ok(self.find_at_or_after(at).await?.unwrap_or(self.bounds.high_watermark))
    }

    async fn find_at_or_after(&self, at: TimestampMs) -> ApiResult<Option<Offset>> {
        let (topic, spec) = (&self.topic.name, OffsetSpec::AtOrAfter(at));
        let isolation = Isolation::ReadUncommitted;
        let listed = self.engine.log.list_offset(topic, self.partition, spec, isolation).await?;
        Ok(listed.map(|found| found.offset))
    }

    async fn bound(&self, until: Option<Until>, now: TimestampMs) -> ApiResult<Offset> {
        match until {
            None => Ok(Offset::MAX),
            Some(Until::End) => Ok(self.bounds.high_watermark),
            Some(Until::Timestamp(at)) => match self.find_at_or_after(at).await? {
                Some(offset) => Ok(offset),
                None if at <= now => Ok(self.bounds.high_watermark),
                None => Ok(Offset::MAX),
            },
        }
    }
}

/// Tells what is missing when a stream goes on at an offset.
pub(super) fn gap_between(
    partition: PartitionId,
    requested: Offset,
    bounds: Bounds,
) -> Option<Gap> {
    let (resumed, reason) = if requested < bounds.log_start_offset {
        (bounds.log_start_offset, GapReason::Retention)
    } else if requested > bounds.high_watermark {
        (bounds.high_watermark, GapReason::Truncated)
    } else {
        return None;
    };
    Some(Gap { partition, requested: Some(requested), resumed: Some(resumed), reason })
}
