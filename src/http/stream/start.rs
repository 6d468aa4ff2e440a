//! Where a stream begins: resolved before the first byte is sent.
//!
//! A cursor goes before `from`. What a cursor says of topics or partitions that were not asked for
//! is ignored: it never widens a request. A position that the log does not have becomes a gap.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use http::StatusCode;

use super::events::{Gap, GapReason};
use super::params::{From, Named, OnGap, Resume, StartOffset, Subscription, Until};
use super::wanted::{Wanted, check_size};
use crate::base::ids::{Offset, PartitionId, TimestampMs};
use crate::base::shutdown::Shutdown;
use crate::engine::Engine;
use crate::engine::log::{Bounds, Isolation, OffsetSpec, ReadError};
use crate::engine::topics::Topic;
use crate::http::error::{ApiError, ApiResult};
use crate::http::record::cursor::{Budget, ClusterTag, Cursor};
pub(super) use crate::http::record::last::end_of;
use crate::http::record::last::{LookBack, Seen};

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
    /// In the order of topics' creation and of partitions, as cursors have them.
    pub(super) spans: Vec<(Arc<Topic>, Span)>,
    pub(super) gaps: Vec<Gap>,
    pub(super) resumed: Resumed,
    pub(super) budget: Budget,
    pub(super) isolation: Isolation,
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
/// 404 for topics and partitions that do not exist, 410 for gaps if the client wants it so, 400 for
/// too many partitions, and what reading the log may answer: of some partitions only if none can
/// be read, or if the client wants no gap.
///
/// # Cancel safety
/// Safe: nothing changes.
pub(super) async fn resolve(
    engine: &Engine,
    shutdown: &Shutdown,
    wanted: &Wanted,
    subscription: &Subscription,
    cluster: ClusterTag,
    now: TimestampMs,
) -> ApiResult<Start> {
    let resume = Resumption::of(engine, subscription, cluster);
    let (topics, mut gaps) = find_topics(engine, wanted, &resume)?;
    let chosen = select(&topics, subscription)?;
    let is_single = matches!(wanted, Wanted::Only(_)) || topics.len() == 1;
    gaps.extend(resume.lost(is_single));
    let isolation = isolation(subscription);
    let mut spans = Vec::with_capacity(chosen.len());
    let mut look_back = LookBack::of(chosen.len(), shutdown);
    let (mut offline, mut is_any_served) = (None, false);
    for (topic, partition) in chosen {
        let wish = resume.wish(&topic, partition, is_single);
        let bounds = match engine.log.bounds(&topic.name, partition) {
            Ok(bounds) => bounds,
            Err(error @ ReadError::Storage(_)) => {
                let (span, gap) = unreadable(&topic, partition, &wish);
                gaps.push(gap);
                spans.extend(span.map(|span| (topic, span)));
                offline.get_or_insert(error);
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        is_any_served = true;
        let resolver =
            Resolver { engine, topic: &topic, partition, bounds, isolation, subscription };
        let (next, gap) = resolver.place(wish, resume.is_any(), &mut look_back).await?;
        gaps.extend(gap);
        let bound = resolver.bound(now).await?;
        spans.push((topic, Span { partition, next, bound }));
    }
    // Nothing would flow, or not all that the client insists on.
    if let Some(error) = offline
        && (!is_any_served || subscription.on_gap == OnGap::Fail)
    {
        return Err(error.into());
    }
    if subscription.on_gap == OnGap::Fail
        && let Some(gap) = gaps.first()
    {
        return Err(ApiError::status(StatusCode::GONE, gap.sentence()));
    }
    let resumed = match (gaps.is_empty(), resume.is_any()) {
        (false, _) => Resumed::Gap,
        (true, true) => Resumed::Exact,
        (true, false) => Resumed::Fresh,
    };
    Ok(Start { spans, gaps, resumed, budget: budget(subscription), isolation })
}

/// What a stream has of a partition that cannot be read: its place in the cursor, if that is
/// known, so that who comes back when it can be read goes on there; and what the client is told.
fn unreadable(topic: &Topic, partition: PartitionId, wish: &Wish) -> (Option<Span>, Gap) {
    let requested = match wish {
        Wish::Exactly(next) => Some(*next),
        Wish::From | Wish::Timestamp(_) | Wish::Recreated(_) => None,
    };
    let span = requested.map(|next| Span { partition, next, bound: next });
    let reason = GapReason::Offline;
    let (topic, partition) = (Some(topic.name.clone()), Some(partition));
    (span, Gap { topic, partition, requested, resumed: None, reason })
}

/// Finds the topics, by the order of their creation. One that is gone is an error for a stream
/// that begins, and a gap for one that goes on with others.
fn find_topics(
    engine: &Engine,
    wanted: &Wanted,
    resume: &Resumption<'_>,
) -> ApiResult<(Vec<Arc<Topic>>, Vec<Gap>)> {
    let (mut topics, missing) = wanted.find(&*engine.topics);
    if let Some(name) = missing.first()
        && (topics.is_empty() || !resume.is_any())
    {
        return Err(ApiError::topic_not_found(name.as_str()));
    }
    let internal = topics.iter().find(|topic| topic.is_internal);
    if let Some(internal) = internal.filter(|_| topics.len() > 1) {
        let message =
            format!("topics '{}' is not possible: an internal topic stands alone", internal.name);
        return Err(ApiError::bad_request(message));
    }
    topics.sort_by_key(|topic| topic.incarnation);
    let gap = |topic| Gap {
        topic: Some(topic),
        partition: None,
        requested: None,
        resumed: None,
        reason: GapReason::Deleted,
    };
    Ok((topics, missing.into_iter().map(gap).collect()))
}

/// The partitions that the stream begins with.
fn select(
    topics: &[Arc<Topic>],
    subscription: &Subscription,
) -> ApiResult<Vec<(Arc<Topic>, PartitionId)>> {
    check_offsets(topics, &subscription.offsets)?;
    let mut chosen = Vec::new();
    if let Some(partitions) = &subscription.partitions {
        let [topic] = topics else {
            let count = topics.len();
            let message = format!("partitions is not possible with {count} topics, only with one");
            return Err(ApiError::bad_request(message));
        };
        let all = 0..topic.partition_count;
        if let Some(unknown) = partitions.iter().find(|p| !all.contains(p)) {
            return Err(ApiError::partition_not_found(topic.name.as_str(), *unknown));
        }
        chosen.extend(partitions.iter().map(|partition| (Arc::clone(topic), *partition)));
    } else {
        let count = |topic: &Arc<Topic>| usize::try_from(topic.partition_count).unwrap_or(0);
        check_size(topics.len(), topics.iter().map(count).sum()).map_err(ApiError::bad_request)?;
        for topic in topics {
            chosen.extend((0..topic.partition_count).map(|p| (Arc::clone(topic), p)));
        }
    }
    check_size(topics.len(), chosen.len()).map_err(ApiError::bad_request)?;
    Ok(chosen)
}

fn check_offsets(topics: &[Arc<Topic>], offsets: &[StartOffset]) -> ApiResult<()> {
    for StartOffset { topic: name, partition, .. } in offsets {
        let topic = match (name, topics) {
            (Some(name), _) => topics
                .iter()
                .find(|topic| topic.name.as_str() == name)
                .ok_or_else(|| ApiError::topic_not_found(name))?,
            (None, [topic]) => topic,
            (None, _) => {
                let message = format!(
                    "from: the offset of partition {partition} needs its topic, as                      offset:TOPIC:P=O, because the stream is of {} topics",
                    topics.len()
                );
                return Err(ApiError::bad_request(message));
            }
        };
        if !(0..topic.partition_count).contains(partition) {
            return Err(ApiError::partition_not_found(topic.name.as_str(), *partition));
        }
    }
    Ok(())
}

/// What a client says of the stream that it continues.
struct Resumption<'a> {
    cursor: Option<&'a Cursor>,
    /// Positions of the cursor that are of this cluster.
    ours: HashMap<(u64, PartitionId), Offset>,
    incarnations: HashSet<u64>,
    /// Those of the incarnations that exist no more.
    dead: HashSet<u64>,
    named: &'a [Named],
    /// Nobody knows any more what the cursor said.
    is_lost: bool,
}

impl<'a> Resumption<'a> {
    fn of(engine: &Engine, subscription: &'a Subscription, cluster: ClusterTag) -> Self {
        let (cursor, named): (_, &[Named]) = match &subscription.resume {
            Some(Resume::Cursor(cursor)) => (Some(cursor), &[]),
            Some(Resume::Named(named)) => (None, named),
            Some(Resume::Stored(_) | Resume::Lost) | None => (None, &[]),
        };
        let is_lost = matches!(subscription.resume, Some(Resume::Stored(_) | Resume::Lost));
        let ours = cursor.filter(|cursor| cursor.head.cluster == cluster);
        let ours: HashMap<_, _> = ours
            .into_iter()
            .flat_map(|cursor| &cursor.positions)
            .map(|p| ((p.incarnation, p.partition), p.next))
            .collect();
        let incarnations: HashSet<_> = ours.keys().map(|(incarnation, _)| *incarnation).collect();
        let mut dead = incarnations.clone();
        if !dead.is_empty() {
            for topic in engine.topics.list() {
                dead.remove(&topic.incarnation);
            }
        }
        Self { cursor, ours, incarnations, dead, named, is_lost }
    }

    /// Tells whether it continues anything.
    fn is_any(&self) -> bool {
        let is_cursor = self.cursor.is_some_and(|cursor| !cursor.positions.is_empty());
        is_cursor || !self.named.is_empty() || self.is_lost
    }

    /// Topics of the cursor that do not exist any more, as gaps; a stream of one topic finds them
    /// by its topic's being another one. Also a cursor that is not kept any more.
    fn lost(&self, is_single: bool) -> Option<Gap> {
        let is_deleted = !is_single && !self.dead.is_empty();
        let reason = if self.is_lost { GapReason::Expired } else { GapReason::Deleted };
        (is_deleted || self.is_lost).then_some(Gap {
            topic: None,
            partition: None,
            requested: None,
            resumed: None,
            reason,
        })
    }

    fn wish(&self, topic: &Topic, partition: PartitionId, is_single: bool) -> Wish {
        let Some(cursor) = self.cursor else {
            return wish_of_name(topic, partition, self.named);
        };
        if self.incarnations.contains(&topic.incarnation) {
            let known = self.ours.get(&(topic.incarnation, partition));
            return known.map_or(Wish::From, |next| Wish::Exactly(*next));
        }
        let is_foreign = self.ours.is_empty() && !cursor.positions.is_empty();
        let is_stale = is_foreign || (is_single && !self.dead.is_empty());
        if !is_stale {
            // The cursor does not know the topic, and nothing of it may be skipped.
            return Wish::From;
        }
        let is_it = |incarnation| is_single && (is_foreign || self.dead.contains(&incarnation));
        let mut positions = cursor.positions.iter().filter(|p| is_it(p.incarnation));
        Wish::Recreated(positions.find(|p| p.partition == partition).map(|p| p.next))
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

/// What the client asks for, else what the stream had that it continues, else what Kafka's newer
/// clients have.
fn isolation(subscription: &Subscription) -> Isolation {
    let of_cursor = match &subscription.resume {
        Some(Resume::Cursor(cursor)) => cursor.head.isolation,
        _ => Isolation::ReadCommitted,
    };
    subscription.isolation.unwrap_or(of_cursor)
}

/// A cursor's budget counts only while the client still asks for one.
pub(super) fn budget(subscription: &Subscription) -> Budget {
    let left = match &subscription.resume {
        Some(Resume::Cursor(Cursor { head, .. })) => head.budget,
        _ => Budget::default(),
    };
    let least = |asked: Option<u64>, left: Option<u64>| {
        asked.map(|asked| left.map_or(asked, |left| left.min(asked)))
    };
    Budget {
        records: least(subscription.limit, left.records),
        bytes: least(subscription.max_bytes, left.bytes),
    }
}

/// One partition with its bounds of this moment.
struct Resolver<'a> {
    engine: &'a Engine,
    topic: &'a Topic,
    partition: PartitionId,
    bounds: Bounds,
    isolation: Isolation,
    subscription: &'a Subscription,
}

impl Resolver<'_> {
    async fn place(
        &self,
        wish: Wish,
        is_resumed: bool,
        look_back: &mut LookBack,
    ) -> ApiResult<(Offset, Option<Gap>)> {
        let from = self.subscription.from.as_ref();
        match wish {
            Wish::Exactly(offset) => Ok(self.within(offset)),
            Wish::Timestamp(at) => Ok((self.at_or_after(at).await?, None)),
            // A partition that a cursor does not know yet is new: nothing of it may be skipped.
            Wish::From if is_resumed => self.from(from.unwrap_or(&From::Earliest), look_back).await,
            Wish::From => self.from(from.unwrap_or(&From::Latest), look_back).await,
            Wish::Recreated(requested) => {
                let (next, _) = self.from(from.unwrap_or(&From::Earliest), look_back).await?;
                let reason = GapReason::Recreated;
                Ok((next, Some(Gap { requested, resumed: Some(next), ..self.gap(reason) })))
            }
        }
    }

    fn gap(&self, reason: GapReason) -> Gap {
        let topic = Some(self.topic.name.clone());
        Gap { topic, partition: Some(self.partition), requested: None, resumed: None, reason }
    }

    async fn from(
        &self,
        from: &From,
        look_back: &mut LookBack,
    ) -> ApiResult<(Offset, Option<Gap>)> {
        let is_it = |start: &&StartOffset| {
            let is_topic = |name: &String| name == self.topic.name.as_str();
            start.partition == self.partition && start.topic.as_ref().is_none_or(is_topic)
        };
        if let Some(start) = self.subscription.offsets.iter().find(is_it) {
            return Ok(self.within(start.offset));
        }
        let (start, end) = (self.bounds.log_start_offset, self.end());
        let offset = match from {
            From::Latest => end,
            From::Earliest => start,
            From::Last(count) => {
                let seen = Seen {
                    topic: &self.topic.name,
                    partition: self.partition,
                    bounds: self.bounds,
                    isolation: self.isolation,
                };
                look_back.find(&*self.engine.log, seen, *count).await
            }
            From::Timestamp(at) => self.at_or_after(*at).await?,
        };
        Ok((offset, None))
    }

    /// The offset after the last record that the stream may see.
    const fn end(&self) -> Offset {
        end_of(self.bounds, self.isolation)
    }

    /// The offset if the log has it, else the nearest one and the gap.
    fn within(&self, requested: Offset) -> (Offset, Option<Gap>) {
        let gap = gap_between(self.topic, self.partition, requested, self.bounds);
        (gap.as_ref().and_then(|gap| gap.resumed).unwrap_or(requested), gap)
    }

    /// The first record that is not older, or the end.
    async fn at_or_after(&self, at: TimestampMs) -> ApiResult<Offset> {
        Ok(self.find_at_or_after(at).await?.unwrap_or_else(|| self.end()))
    }

    async fn find_at_or_after(&self, at: TimestampMs) -> ApiResult<Option<Offset>> {
        let (topic, spec) = (&self.topic.name, OffsetSpec::AtOrAfter(at));
        let isolation = self.isolation;
        let listed = self.engine.log.list_offset(topic, self.partition, spec, isolation).await?;
        Ok(listed.map(|found| found.offset))
    }

    async fn bound(&self, now: TimestampMs) -> ApiResult<Offset> {
        match self.subscription.until {
            None => Ok(Offset::MAX),
            Some(Until::End) => Ok(self.end()),
            Some(Until::Timestamp(at)) => match self.find_at_or_after(at).await? {
                Some(offset) => Ok(offset),
                None if at <= now => Ok(self.end()),
                None => Ok(Offset::MAX),
            },
        }
    }
}

/// Tells what is missing when a stream goes on at an offset.
pub(super) fn gap_between(
    topic: &Topic,
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
    Some(Gap {
        topic: Some(topic.name.clone()),
        partition: Some(partition),
        requested: Some(requested),
        resumed: Some(resumed),
        reason,
    })
}
