//! A cursor of positions that a person wrote.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, Schema, Type};

use crate::base::ids::{Offset, PartitionId, TimestampMs};
use crate::base::limits::{CURSOR_BYTES_MAX, STREAM_PARTITIONS_MAX, STREAM_TOPICS_MAX};
use crate::engine::Engine;
use crate::engine::cursors::{CursorStoreError, SnapshotKey};
use crate::engine::log::{Isolation, OffsetSpec};
use crate::engine::topics::Topic;
use crate::http::error::{ApiError, ApiResult, ErrorBody};
use crate::http::record::cursor::{self, Budget, Head, Position, cluster_tag};
use crate::http::record::last::end_of;
use crate::http::record::stored;
use crate::http::state::AppState;
use crate::http::time::parse_rfc3339_ms;
use crate::http::{body, media};

/// What a position's `offset` may be.
const OFFSET_RULE: &str = "an offset from 0, earliest or latest";

/// What a position's `timestamp` may be.
const TIMESTAMP_RULE: &str = "ms since 1970 or an RFC 3339 timestamp";

/// What a cursor shall say.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CursorToEncode {
    /// Where to go on; up to 4,096 partitions of 256 topics, each once.
    #[schema(min_items = 1, max_items = 4096)]
    pub positions: Vec<PositionToEncode>,
    /// Which records to show, unless the request says so: `read_committed` (default) or
    /// `read_uncommitted`.
    #[schema(example = "read_committed")]
    pub isolation: Option<String>,
    /// Records to deliver at most. Counts as long as the request says a `limit` too.
    #[schema(example = 100, minimum = 1)]
    pub limit: Option<u64>,
    /// Bytes to deliver at most. Counts as long as the request says `max_bytes` too.
    #[schema(minimum = 1)]
    pub max_bytes: Option<u64>,
}

/// Where to go on in a partition: `offset` or `timestamp` says it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PositionToEncode {
    /// The topic.
    #[schema(example = "orders")]
    pub topic: String,
    /// The partition; all of the topic if absent.
    #[schema(example = 0, minimum = 0)]
    pub partition: Option<PartitionId>,
    /// The next offset to deliver, `earliest`, or `latest`: behind the last record.
    #[schema(schema_with = offset_schema, required = false)]
    pub offset: Option<Value>,
    /// The first record that is not older: ms since 1970 or RFC 3339; behind the last record if
    /// all are older. Counts if there is no `offset`.
    #[schema(schema_with = timestamp_schema, required = false)]
    pub timestamp: Option<Value>,
}

fn offset_schema() -> Schema {
    let number = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0)).build();
    let end = ObjectBuilder::new()
        .schema_type(Type::String)
        .enum_values(Some(["earliest", "latest"]))
        .build();
    let description = "The next offset to deliver, earliest, or latest: behind the last record";
    let one_of = OneOfBuilder::new().item(number).item(end).description(Some(description));
    Schema::OneOf(one_of.examples([41]).build())
}

fn timestamp_schema() -> Schema {
    let number = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0)).build();
    let text = ObjectBuilder::new().schema_type(Type::String).build();
    let description = "The first record that is not older: ms since 1970 or RFC 3339; behind the \
        last record if all are older. Counts if there is no offset";
    let one_of = OneOfBuilder::new().item(number).item(text).description(Some(description));
    Schema::OneOf(one_of.examples(["2026-01-31T00:00:00Z"]).build())
}

/// A cursor.
#[derive(Debug, Serialize, ToSchema)]
pub struct EncodedCursor {
    /// To be sent as `Last-Event-ID` of streams, or as `after` of reads.
    #[schema(example = "1.AQABAgMEBwIA_gEB2ATrXw")]
    pub cursor: String,
}

/// Where one entry of a request wants to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    Offset(Offset),
    Spec(OffsetSpec),
}

/// Makes a cursor of positions.
///
/// It can be used at once: as `Last-Event-ID` of streams, also of groups, and as `after` of reads.
/// Times, `earliest` and `latest` are looked up now. With more than about 430 partitions the
/// server keeps the positions itself, for 24 h, of up to 1,000 such cursors and 16 MiB.
#[utoipa::path(
    post, path = "/cursors:encode", tag = "streams", operation_id = "encodeCursor",
    request_body(content = CursorToEncode, content_type = "application/json",
        example = json!({"positions": [{"topic": "orders", "partition": 0, "offset": 41},
            {"topic": "payments", "timestamp": "2026-01-31T00:00:00Z"}]})),
    responses(
        (status = 200, body = EncodedCursor, description = "The cursor"),
        (status = 404, body = ErrorBody, content_type = "application/vnd.kafka.v2+json",
            description = "40401: no such topic, 40402: no such partition"),
        (status = 422, body = ErrorBody, content_type = "application/vnd.kafka.v2+json",
            description = "positions[0].offset '-1' is not an offset from 0, earliest or latest"),
        (status = 429, body = ErrorBody, content_type = "application/vnd.kafka.v2+json",
            description = "1000 made cursors of 7340032 bytes are kept, and no more may be for now"),
        (status = 500, body = ErrorBody, content_type = "application/vnd.kafka.v2+json",
            description = "50003: a partition cannot be read"),
    )
)]
pub async fn encode_cursor(
    State(state): State<AppState>,
    headers: HeaderMap,
    request: Body,
) -> ApiResult<Response> {
    media::content(&headers)?;
    media::accepted(&headers)?;
    let bytes = body::read(&state.bodies, request).await?;
    let wanted: CursorToEncode = body::parse(&bytes)?;
    let head = head(&state.engine, &wanted)?;
    let positions = resolve(&state.engine, &wanted.positions, head.isolation).await?;
    let cursor = write(&state.engine, head, &positions).await?;
    Ok(super::json(&EncodedCursor { cursor }))
}

fn head(engine: &Engine, wanted: &CursorToEncode) -> ApiResult<Head> {
    let isolation = match wanted.isolation.as_deref() {
        None | Some("read_committed") => Isolation::ReadCommitted,
        Some("read_uncommitted") => Isolation::ReadUncommitted,
        Some(other) => {
            let message = format!("isolation '{other}' is not read_committed or read_uncommitted");
            return Err(ApiError::unprocessable(message));
        }
    };
    for (name, left) in [("limit", wanted.limit), ("max_bytes", wanted.max_bytes)] {
        if left == Some(0) {
            return Err(ApiError::unprocessable(format!("{name} '0' is not a number from 1")));
        }
    }
    let budget = Budget { records: wanted.limit, bytes: wanted.max_bytes };
    let cluster = cluster_tag(&engine.node.cluster_id);
    Ok(Head { is_done: false, cluster, budget, isolation })
}

/// Finds the offsets, in the order that cursors have.
async fn resolve(
    engine: &Engine,
    wanted: &[PositionToEncode],
    isolation: Isolation,
) -> ApiResult<Vec<Position>> {
    if wanted.is_empty() {
        return Err(ApiError::unprocessable("positions is empty, a cursor needs one at least"));
    }
    check_count("positions", wanted.len())?;
    let mut chosen: BTreeMap<(u64, PartitionId), (Arc<Topic>, Wish)> = BTreeMap::new();
    for (at, entry) in wanted.iter().enumerate() {
        let wish = wish(at, entry)?;
        let topic = engine.topics.find(&entry.topic);
        let topic = topic.ok_or_else(|| ApiError::topic_not_found(&entry.topic))?;
        let partitions = match entry.partition {
            Some(partition) if (0..topic.partition_count).contains(&partition) => {
                partition..partition.saturating_add(1)
            }
            Some(unknown) => return Err(ApiError::partition_not_found(&entry.topic, unknown)),
            None => 0..topic.partition_count,
        };
        for partition in partitions {
            let key = (topic.incarnation, partition);
            if chosen.insert(key, (Arc::clone(&topic), wish)).is_some() {
                let name = &entry.topic;
                let message = format!(
                    "positions[{at}]: partition {partition} of topic '{name}' is given twice"
                );
                return Err(ApiError::unprocessable(message));
            }
        }
        check_count("partitions", chosen.len())?;
    }
    let topics: BTreeSet<u64> = chosen.keys().map(|(incarnation, _)| *incarnation).collect();
    if topics.len() > STREAM_TOPICS_MAX {
        let message = format!("{} topics are more than {STREAM_TOPICS_MAX}", topics.len());
        return Err(ApiError::unprocessable(message));
    }
    let mut positions = Vec::with_capacity(chosen.len());
    for ((incarnation, partition), (topic, wish)) in chosen {
        let next = find(engine, &topic, partition, (wish, isolation)).await?;
        positions.push(Position { incarnation, partition, next });
    }
    Ok(positions)
}

fn check_count(what: &str, count: usize) -> ApiResult<()> {
    if count > STREAM_PARTITIONS_MAX {
        let message = format!("{count} {what} are more than {STREAM_PARTITIONS_MAX}");
        return Err(ApiError::unprocessable(message));
    }
    Ok(())
}

/// Reads where an entry wants to go.
fn wish(at: usize, entry: &PositionToEncode) -> ApiResult<Wish> {
    let refuse = |field: &str, value: &Value, rule: &str| {
        let shown = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        ApiError::unprocessable(format!("positions[{at}].{field} '{shown}' is not {rule}"))
    };
    if let Some(value) = &entry.offset {
        let wish = match value {
            Value::String(text) if text == "earliest" => Wish::Spec(OffsetSpec::Earliest),
            Value::String(text) if text == "latest" => Wish::Spec(OffsetSpec::Latest),
            _ => {
                let offset = value.as_i64().filter(|offset| *offset >= 0);
                Wish::Offset(offset.ok_or_else(|| refuse("offset", value, OFFSET_RULE))?)
            }
        };
        if matches!(wish, Wish::Offset(_)) && entry.partition.is_none() {
            let rule = "possible without a partition: it is of one partition";
            return Err(refuse("offset", value, rule));
        }
        return Ok(wish);
    }
    let Some(value) = &entry.timestamp else {
        let message = format!("positions[{at}]: offset or timestamp is missing");
        return Err(ApiError::unprocessable(message));
    };
    let moment: Option<TimestampMs> = match value {
        Value::String(text) => parse_rfc3339_ms(text),
        _ => value.as_i64().filter(|ms| *ms >= 0),
    };
    let moment = moment.ok_or_else(|| refuse("timestamp", value, TIMESTAMP_RULE))?;
    Ok(Wish::Spec(OffsetSpec::AtOrAfter(moment)))
}

/// Finds the offset. One that retention has passed is taken, who uses it is told of the gap; one
/// that the log never had is refused.
async fn find(
    engine: &Engine,
    topic: &Topic,
    partition: PartitionId,
    (wish, isolation): (Wish, Isolation),
) -> ApiResult<Offset> {
    let bounds = engine.log.bounds(&topic.name, partition)?;
    let spec = match wish {
        Wish::Offset(offset) if offset <= bounds.high_watermark => return Ok(offset),
        Wish::Offset(offset) => {
            let end = bounds.high_watermark;
            let message = format!(
                "offset '{offset}' of partition {partition} of topic '{}' is behind the end, \
                 which is {end}",
                topic.name
            );
            return Err(ApiError::unprocessable(message));
        }
        Wish::Spec(spec) => spec,
    };
    let found = engine.log.list_offset(&topic.name, partition, spec, isolation).await?;
    Ok(found.map_or(end_of(bounds, isolation), |found| found.offset))
}

/// Writes the cursor, or keeps what it says if that is too long.
async fn write(engine: &Engine, head: Head, positions: &[Position]) -> ApiResult<String> {
    let positions = positions.iter().copied();
    let text = if cursor::bytes_max(positions.clone()) <= CURSOR_BYTES_MAX {
        cursor::to_bytes(head, positions)
    } else {
        let key = SnapshotKey::made(uuid::Uuid::new_v4().as_u128());
        let document = Bytes::from(cursor::document(head, positions));
        engine.cursors.put(key, document).await.map_err(|error| {
            let status = match error {
                CursorStoreError::Full { .. } => StatusCode::TOO_MANY_REQUESTS,
                CursorStoreError::Storage(_) => StatusCode::SERVICE_UNAVAILABLE,
            };
            ApiError::status(status, error.to_string())
        })?;
        stored::text(key)
    };
    Ok(String::from_utf8(text).unwrap_or_default())
}
