//! `POST /admin/groups/{group}/offsets:reset`: move the committed offsets of a group, with the
//! choices of Kafka's own tool.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response;
use http::HeaderMap;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::groups::{explain, missing};
use crate::base::ids::{GroupId, Offset, PartitionId, TimestampMs, TopicPartition};
use crate::engine::groups::{
    CommittedOffset, GroupError, GroupState, Membership, OffsetQuery, OffsetToCommit,
};
use crate::engine::log::{Bounds, Isolation, OffsetSpec};
use crate::http::error::{ApiError, ApiResult, ErrorBody};
use crate::http::state::{AppState, Inner};
use crate::http::{body, groups, media, time};

/// Where to move which offsets. Exactly one of `to`, `to_offset`, `to_timestamp`, `to_datetime`,
/// `by_duration_ms` and `shift_by` says where.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OffsetsToReset {
    /// To the first record, behind the last one, or to the committed offset as it is (`current`,
    /// which sets partitions without one to the end).
    #[schema(example = "earliest")]
    pub to: Option<ResetTo>,
    /// To this offset; the nearest that exists, if it is outside the partition.
    pub to_offset: Option<Offset>,
    /// To the first record with at least this timestamp, in ms since 1970; behind the last one if
    /// every record is older.
    pub to_timestamp: Option<TimestampMs>,
    /// As `to_timestamp`, in RFC 3339.
    pub to_datetime: Option<String>,
    /// As `to_timestamp`, so many ms before now.
    pub by_duration_ms: Option<i64>,
    /// By so many offsets from the committed one, backwards if negative, within the partition.
    pub shift_by: Option<i64>,
    /// All partitions of these topics. Without `topics` and `partitions`: all that the group
    /// committed.
    #[serde(default)]
    #[schema(example = json!(["orders"]))]
    pub topics: Vec<String>,
    /// These partitions.
    #[serde(default)]
    pub partitions: Vec<PartitionToReset>,
    /// Only tell what would be done.
    #[serde(default)]
    pub dry_run: bool,
}

/// A fixed place to move offsets to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ResetTo {
    /// The first record.
    Earliest,
    /// Behind the last record.
    Latest,
    /// The committed offset.
    Current,
}

/// A partition.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PartitionToReset {
    /// The topic.
    #[schema(example = "orders")]
    pub topic: String,
    /// The partition.
    #[schema(example = 0)]
    pub partition: PartitionId,
}

/// What was done, or would be.
#[derive(Debug, Serialize, ToSchema)]
pub struct ResetOffsets {
    /// The group.
    #[schema(example = "billing")]
    pub group_id: String,
    /// Nothing was changed.
    pub dry_run: bool,
    /// The partitions, by topic and number.
    pub offsets: Vec<ResetOffset>,
}

/// The offset of a partition, before and after.
#[derive(Debug, Serialize, ToSchema)]
pub struct ResetOffset {
    /// The topic.
    #[schema(example = "orders")]
    pub topic: String,
    /// The partition.
    #[schema(example = 0)]
    pub partition: PartitionId,
    /// What was committed; null if nothing was.
    #[schema(example = 40)]
    pub previous_offset: Option<Offset>,
    /// What is committed now.
    #[schema(example = 0)]
    pub offset: Offset,
}

/// Where offsets go.
#[derive(Debug, Clone, Copy)]
enum Target {
    Fixed(ResetTo),
    Offset(Offset),
    Timestamp(TimestampMs),
    Shift(i64),
}

/// The partitions of a reset with what is committed for each.
type Committed = BTreeMap<TopicPartition, Option<CommittedOffset>>;

/// Moves the committed offsets of a group without members.
#[utoipa::path(
    post, path = "/admin/groups/{group}/offsets:reset", tag = "admin",
    operation_id = "resetGroupOffsets",
    params(("group" = String, Path, description = "Id of the group", example = "billing")),
    request_body(content = OffsetsToReset, content_type = "application/json",
        example = json!({"to": "earliest", "topics": ["orders"], "dry_run": true})),
    responses(
        (status = 200, body = ResetOffsets),
        (status = 404, body = ErrorBody, content_type = "application/vnd.kafka.v2+json",
            description = "40401: no such topic, 40402: no such partition, 40405: no such group, and no topic was named"),
        (status = 409, body = ErrorBody, description = "40002: the group has members",
            content_type = "application/vnd.kafka.v2+json"),
        (status = 422, body = ErrorBody, content_type = "application/vnd.kafka.v2+json",
            description = "Not exactly one target, or it cannot be read"),
    )
)]
pub async fn reset_offsets(
    State(state): State<AppState>,
    Path(id): Path<String>,
    headers: HeaderMap,
    request: Body,
) -> ApiResult<Response> {
    media::content(&headers)?;
    media::accepted(&headers)?;
    let bytes = body::read(&state.bodies, request).await?;
    let wanted: OffsetsToReset = body::parse(&bytes)?;
    let target = target(&wanted, state.clock.now_ms())?;
    let group = groups::find(&state, &id);
    if group.as_ref().is_some_and(|group| group.state != GroupState::Empty) {
        return Err(explain(&id, GroupError::NonEmptyGroup));
    }
    let names_any = !wanted.topics.is_empty() || !wanted.partitions.is_empty();
    if group.is_none() && !names_any {
        return Err(missing(&id));
    }
    let mut offsets = Vec::new();
    for (name, committed) in select(&state, &id, &wanted)? {
        let previous = committed.map(|committed| committed.offset);
        let offset = place(&state, &name, previous, target).await?;
        offsets.push((name, previous, offset));
    }
    if !wanted.dry_run {
        commit(&state, &id, &offsets).await?;
    }
    let moved = offsets.into_iter().map(|(name, previous_offset, offset)| ResetOffset {
        topic: name.topic.to_string(),
        partition: name.partition,
        previous_offset,
        offset,
    });
    let reset = ResetOffsets { group_id: id, dry_run: wanted.dry_run, offsets: moved.collect() };
    super::json(&headers, &reset)
}

/// Finds the one target of a request.
fn target(wanted: &OffsetsToReset, now: TimestampMs) -> ApiResult<Target> {
    let datetime = match wanted.to_datetime.as_deref().map(|text| (text, parse(text))) {
        None => None,
        Some((_, Some(timestamp))) => Some(Target::Timestamp(timestamp)),
        Some((text, None)) => {
            let message = format!("to_datetime '{text}' is not a timestamp in RFC 3339");
            return Err(ApiError::unprocessable(message));
        }
    };
    let ago = |duration: i64| Target::Timestamp(now.saturating_sub(duration));
    let targets = [
        wanted.to.map(Target::Fixed),
        wanted.to_offset.map(Target::Offset),
        wanted.to_timestamp.map(Target::Timestamp),
        datetime,
        wanted.by_duration_ms.map(ago),
        wanted.shift_by.map(Target::Shift),
    ];
    let mut given = targets.into_iter().flatten();
    match (given.next(), given.next()) {
        (Some(target), None) => Ok(target),
        _ => Err(ApiError::unprocessable(
            "exactly one of to, to_offset, to_timestamp, to_datetime, by_duration_ms and shift_by \
             must be given",
        )),
    }
}

fn parse(text: &str) -> Option<TimestampMs> {
    time::parse_rfc3339_ms(text)
}

/// The partitions that a request means.
fn select(state: &Inner, group: &str, wanted: &OffsetsToReset) -> ApiResult<Committed> {
    let topics = &state.engine.topics;
    let mut named = Vec::new();
    for topic in &wanted.topics {
        let found = topics.find(topic).ok_or_else(|| ApiError::topic_not_found(topic))?;
        let all = 0..found.partition_count;
        named.extend(all.map(|number| TopicPartition::new(found.name.clone(), number)));
    }
    for PartitionToReset { topic, partition } in &wanted.partitions {
        let found = topics.find(topic).ok_or_else(|| ApiError::topic_not_found(topic))?;
        if !(0..found.partition_count).contains(partition) {
            return Err(ApiError::partition_not_found(topic, *partition));
        }
        named.push(TopicPartition::new(found.name.clone(), *partition));
    }
    let names_any = !wanted.topics.is_empty() || !wanted.partitions.is_empty();
    let query = if names_any { OffsetQuery::Partitions(named) } else { OffsetQuery::All };
    Ok(state.engine.groups.committed(&GroupId::from(group), &query)?.into_iter().collect())
}

/// Finds where the offset of one partition goes.
async fn place(
    state: &Inner,
    name: &TopicPartition,
    previous: Option<Offset>,
    target: Target,
) -> ApiResult<Offset> {
    let log = &state.engine.log;
    let bounds = log.bounds(&name.topic, name.partition)?;
    if let Target::Timestamp(timestamp) = target {
        let spec = OffsetSpec::AtOrAfter(timestamp);
        let isolation = Isolation::ReadUncommitted;
        let found = log.list_offset(&name.topic, name.partition, spec, isolation).await?;
        return Ok(found.map_or(bounds.high_watermark, |found| found.offset));
    }
    place_within(name, previous, target, bounds)
}

fn place_within(
    name: &TopicPartition,
    previous: Option<Offset>,
    target: Target,
    bounds: Bounds,
) -> ApiResult<Offset> {
    let (start, end) = (bounds.log_start_offset, bounds.high_watermark);
    match target {
        Target::Fixed(ResetTo::Earliest) => Ok(start),
        Target::Fixed(ResetTo::Latest) | Target::Timestamp(_) => Ok(end),
        Target::Fixed(ResetTo::Current) => Ok(previous.unwrap_or(end)),
        Target::Offset(offset) => Ok(offset.clamp(start, end)),
        Target::Shift(by) => match previous {
            Some(previous) => Ok(previous.saturating_add(by).clamp(start, end)),
            None => Err(ApiError::unprocessable(format!(
                "shift_by needs a committed offset, and the group has none for {}-{}",
                name.topic, name.partition
            ))),
        },
    }
}

async fn commit(
    state: &Inner,
    group: &str,
    offsets: &[(TopicPartition, Option<Offset>, Offset)],
) -> ApiResult<()> {
    let new = offsets.iter().map(|(partition, _, offset)| OffsetToCommit {
        partition: partition.clone(),
        offset: *offset,
        leader_epoch: -1,
        metadata: String::new(),
    });
    let nobody = Membership::none(GroupId::from(group));
    let results = state.engine.groups.commit(nobody, new.collect()).await;
    let results = results.map_err(|error| match error {
        // Somebody joined since the group was looked at.
        GroupError::UnknownMemberId | GroupError::IllegalGeneration => {
            explain(group, GroupError::NonEmptyGroup)
        }
        other => explain(group, other),
    })?;
    for result in results {
        result?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::TopicName;

    fn placed(target: Target, previous: Option<Offset>) -> ApiResult<Offset> {
        let name = TopicPartition::new(TopicName::parse("t").unwrap(), 3);
        let bounds = Bounds { log_start_offset: 10, high_watermark: 20, last_stable_offset: 20 };
        place_within(&name, previous, target, bounds)
    }

    #[test]
    fn offsets_stay_within_the_partition() {
        assert_eq!(placed(Target::Fixed(ResetTo::Earliest), None).unwrap(), 10);
        assert_eq!(placed(Target::Fixed(ResetTo::Latest), Some(12)).unwrap(), 20);
        assert_eq!(placed(Target::Fixed(ResetTo::Current), Some(12)).unwrap(), 12);
        assert_eq!(placed(Target::Fixed(ResetTo::Current), None).unwrap(), 20);
        assert_eq!(placed(Target::Offset(15), None).unwrap(), 15);
        assert_eq!(placed(Target::Offset(5), None).unwrap(), 10);
        assert_eq!(placed(Target::Offset(i64::MAX), None).unwrap(), 20);
        assert_eq!(placed(Target::Shift(3), Some(12)).unwrap(), 15);
        assert_eq!(placed(Target::Shift(i64::MIN), Some(12)).unwrap(), 10);
        assert_eq!(placed(Target::Shift(i64::MAX), Some(12)).unwrap(), 20);
        assert!(placed(Target::Shift(1), None).unwrap_err().message.contains("t-3"));
    }

    #[test]
    fn exactly_one_target_is_taken() {
        let of = |body: &str| target(&serde_json::from_str(body).unwrap(), 1_000);
        assert!(matches!(of(r#"{"shift_by":-1}"#), Ok(Target::Shift(-1))));
        assert!(matches!(of(r#"{"by_duration_ms":400}"#), Ok(Target::Timestamp(600))));
        let datetime = of(r#"{"to_datetime":"1970-01-01T00:00:01.5Z"}"#);
        assert!(matches!(datetime, Ok(Target::Timestamp(1_500))));
        for bad in ["{}", r#"{"to":"latest","shift_by":1}"#, r#"{"to_datetime":"noon"}"#] {
            assert_eq!(of(bad).unwrap_err().code, 422, "{bad}");
        }
    }
}
