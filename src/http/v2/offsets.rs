//! Offsets of an instance: commit, read what is committed, seek.

use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::consumers::{Partitions, topic_partition, topic_partitions};
use super::instance_path::InstancePath;
use crate::base::ids::{Offset, PartitionId, TopicPartition};
use crate::consumers::OffsetCommit;
use crate::http::error::{ApiError, ApiResult, ErrorBody};
use crate::http::state::AppState;
use crate::http::{body, media, query, time};

/// An offset of a partition.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct PartitionOffset {
    /// The topic.
    #[schema(example = "orders")]
    pub topic: String,
    /// The partition.
    #[schema(example = 0)]
    pub partition: PartitionId,
    /// The offset.
    #[schema(example = 41)]
    pub offset: Offset,
    /// The client's own note.
    #[serde(default)]
    pub metadata: Option<String>,
}

/// Offsets to commit: of the last records processed, so one more is committed.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({"offsets": [{"topic": "orders", "partition": 0, "offset": 41}]}))]
pub struct Offsets {
    /// The offsets.
    #[serde(alias = "partitions")]
    pub offsets: Vec<PartitionOffset>,
}

/// The body of a commit; without offsets what was delivered is committed.
#[derive(Debug, Default, Deserialize)]
struct CommitBody {
    #[serde(default, alias = "partitions")]
    offsets: Option<Vec<PartitionOffset>>,
}

/// A time to seek to.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct PartitionTimestamp {
    /// The topic.
    #[schema(example = "orders")]
    pub topic: String,
    /// The partition.
    #[schema(example = 0)]
    pub partition: PartitionId,
    /// RFC 3339.
    #[schema(example = "2026-01-31T12:00:00Z")]
    pub timestamp: String,
}

/// Where to go on reading.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({"offsets": [{"topic": "orders", "partition": 0, "offset": 0}]}))]
pub struct Seek {
    /// By offset: the next record read.
    #[serde(default)]
    pub offsets: Vec<PartitionOffset>,
    /// By time: the first record that is not older; the end if there is none.
    #[serde(default)]
    pub timestamps: Vec<PartitionTimestamp>,
}

/// Commits offsets, or what was delivered.
#[utoipa::path(
    post, path = "/consumers/{group}/instances/{instance}/offsets", tag = "consumers",
    operation_id = "commitOffsets",
    params(
        InstancePath,
        ("async" = Option<bool>, Query, description = "true answers before the commit is done"),
    ),
    request_body(content(
        (Offsets = "application/vnd.kafka.v2+json"), (Offsets = "application/json"),
    ), description = "Offsets of the last records processed; without a body exactly what was delivered is committed"),
    responses(
        (status = 200, body = Vec<String>, description = "An empty array: the commit survives loss of power",
            content_type = "application/vnd.kafka.v2+json"),
        (status = 404, body = ErrorBody, description = "40402: no such partition, 40403: no such instance",
            content_type = "application/vnd.kafka.v2+json"),
        (status = 409, body = ErrorBody, description = "40903: the partitions were given to others",
            content_type = "application/vnd.kafka.v2+json"),
    )
)]
pub async fn commit(
    State(state): State<AppState>,
    Path(path): Path<InstancePath>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    request: Body,
) -> ApiResult<Response> {
    media::content(&headers)?;
    let bytes = body::read(&state.bodies, request).await?;
    let body: CommitBody = body::parse_optional(&bytes)?;
    let key = path.key();
    state.consumers.describe(&key)?;
    let offsets = body.offsets.map(|offsets| commits(&state, offsets)).transpose()?;
    if query::find(query.as_deref(), "async")?.as_deref() == Some("true") {
        let behind = state.clone();
        state.shutdown.spawn(async move {
            if let Err(error) = behind.consumers.commit(&key, offsets).await {
                tracing::warn!(group = %key.group, instance = key.name, %error, "commit failed");
            }
        });
    } else {
        state.consumers.commit(&key, offsets).await?;
    }
    Ok(super::raw_json(StatusCode::OK, b"[]".to_vec()))
}

fn commits(state: &AppState, offsets: Vec<PartitionOffset>) -> ApiResult<Vec<OffsetCommit>> {
    let commit = |offset: PartitionOffset| {
        let partition = topic_partition(&offset.topic, offset.partition)?;
        if state.engine.topics.find(&offset.topic).is_none() {
            return Err(ApiError::topic_not_found(&offset.topic));
        }
        if offset.offset < 0 || offset.offset == Offset::MAX {
            let message = format!("offset {} of {partition} is out of range", offset.offset);
            return Err(ApiError::unprocessable(message));
        }
        // v2 clients name the last record processed; the log keeps the next one to read.
        let next = offset.offset + 1;
        Ok(OffsetCommit { partition, offset: next, metadata: offset.metadata.unwrap_or_default() })
    };
    offsets.into_iter().map(commit).collect()
}

/// Reads committed offsets: of the partitions named in the body or the query, else of all that
/// are assigned.
#[utoipa::path(
    get, path = "/consumers/{group}/instances/{instance}/offsets", tag = "consumers",
    operation_id = "getCommittedOffsets",
    params(
        InstancePath,
        ("topic" = Option<String>, Query, description = "Topic of the partition asked for"),
        ("partition" = Option<i32>, Query, description = "Partition asked for"),
    ),
    responses(
        (status = 200, body = Offsets, description = "Partitions without a committed offset are left out",
            content_type = "application/vnd.kafka.v2+json"),
        (status = 422, body = ErrorBody, description = "A topic's name is not valid",
            content_type = "application/vnd.kafka.v2+json"),
        (status = 404, body = ErrorBody, description = "40403: no such instance",
            content_type = "application/vnd.kafka.v2+json"),
    )
)]
pub async fn committed(
    State(state): State<AppState>,
    Path(path): Path<InstancePath>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    request: Body,
) -> ApiResult<Response> {
    let bytes = body::read(&state.bodies, request).await?;
    let asked = match asked_in_body(&bytes)? {
        None => asked_in_query(query.as_deref())?,
        named => named,
    };
    answer_committed(&state, &path, &headers, asked).await
}

/// Reads committed offsets of the partitions named in the body, for clients that cannot send a
/// body with a GET; without a body of all that are assigned.
#[utoipa::path(
    post, path = "/consumers/{group}/instances/{instance}/offsets/query", tag = "consumers",
    operation_id = "queryCommittedOffsets",
    params(InstancePath),
    request_body(content(
        (Partitions = "application/vnd.kafka.v2+json"), (Partitions = "application/json"),
    )),
    responses(
        (status = 200, body = Offsets, description = "Partitions without a committed offset are left out",
            content_type = "application/vnd.kafka.v2+json"),
        (status = 400, body = ErrorBody, content_type = "application/vnd.kafka.v2+json"),
        (status = 404, body = ErrorBody, description = "40403: no such instance",
            content_type = "application/vnd.kafka.v2+json"),
        (status = 415, body = ErrorBody, content_type = "application/vnd.kafka.v2+json"),
        (status = 422, body = ErrorBody, description = "A topic's name is not valid",
            content_type = "application/vnd.kafka.v2+json"),
    )
)]
pub async fn query_committed(
    State(state): State<AppState>,
    Path(path): Path<InstancePath>,
    headers: HeaderMap,
    request: Body,
) -> ApiResult<Response> {
    media::content(&headers)?;
    let bytes = body::read(&state.bodies, request).await?;
    let asked = asked_in_body(&bytes)?;
    answer_committed(&state, &path, &headers, asked).await
}

/// The partitions that a body names; none if it is empty.
fn asked_in_body(bytes: &[u8]) -> ApiResult<Option<Vec<TopicPartition>>> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    let body: Partitions = body::parse(bytes)?;
    Ok(Some(topic_partitions(&body.partitions)?))
}

async fn answer_committed(
    state: &AppState,
    path: &InstancePath,
    headers: &HeaderMap,
    asked: Option<Vec<TopicPartition>>,
) -> ApiResult<Response> {
    let found = state.consumers.committed(&path.key(), asked).await?;
    let offset =
        |(partition, committed): (TopicPartition, crate::engine::groups::CommittedOffset)| {
            PartitionOffset {
                topic: partition.topic.to_string(),
                partition: partition.partition,
                offset: committed.offset,
                metadata: Some(committed.metadata),
            }
        };
    super::json(headers, &Offsets { offsets: found.into_iter().map(offset).collect() })
}

fn asked_in_query(query: Option<&str>) -> ApiResult<Option<Vec<TopicPartition>>> {
    let topic = query::find(query, "topic")?;
    let partition: Option<PartitionId> = query::number(query, "partition")?;
    match (topic, partition) {
        (Some(topic), Some(partition)) => Ok(Some(vec![topic_partition(&topic, partition)?])),
        (None, None) => Ok(None),
        _ => Err(ApiError::bad_request("topic and partition are needed together")),
    }
}

/// Seeks: the next read of each partition begins at its offset or time.
#[utoipa::path(
    post, path = "/consumers/{group}/instances/{instance}/positions", tag = "consumers",
    operation_id = "seek",
    params(InstancePath),
    request_body(content(
        (Seek = "application/vnd.kafka.v2+json"), (Seek = "application/json"),
    )),
    responses(
        (status = 204, description = "The next read begins there"),
        (status = 404, body = ErrorBody, content_type = "application/vnd.kafka.v2+json"),
        (status = 409, body = ErrorBody, description = "40903: a partition is not assigned",
            content_type = "application/vnd.kafka.v2+json"),
        (status = 422, body = ErrorBody, content_type = "application/vnd.kafka.v2+json"),
    )
)]
pub async fn seek(
    State(state): State<AppState>,
    Path(path): Path<InstancePath>,
    headers: HeaderMap,
    request: Body,
) -> ApiResult<Response> {
    media::content(&headers)?;
    let bytes = body::read(&state.bodies, request).await?;
    let wanted: Seek = body::parse(&bytes)?;
    let mut offsets = Vec::with_capacity(wanted.offsets.len());
    for offset in &wanted.offsets {
        offsets.push((topic_partition(&offset.topic, offset.partition)?, offset.offset));
    }
    let mut times = Vec::with_capacity(wanted.timestamps.len());
    for wanted in &wanted.timestamps {
        let at = time::parse_rfc3339_ms(&wanted.timestamp).ok_or_else(|| {
            let message = format!("timestamp '{}' is not RFC 3339", wanted.timestamp);
            ApiError::unprocessable(message)
        })?;
        times.push((topic_partition(&wanted.topic, wanted.partition)?, at));
    }
    let key = path.key();
    state.consumers.describe(&key)?;
    if !offsets.is_empty() {
        state.consumers.seek(&key, offsets).await?;
    }
    if !times.is_empty() {
        state.consumers.seek_to_timestamp(&key, times).await?;
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Seeks to the first records of partitions.
#[utoipa::path(
    post, path = "/consumers/{group}/instances/{instance}/positions/beginning",
    tag = "consumers", operation_id = "seekToBeginning",
    params(InstancePath),
    request_body(content(
        (Partitions = "application/vnd.kafka.v2+json"), (Partitions = "application/json"),
    )),
    responses(
        (status = 204, description = "The next read begins there"),
        (status = 404, body = ErrorBody, content_type = "application/vnd.kafka.v2+json"),
        (status = 409, body = ErrorBody, description = "40903: a partition is not assigned",
            content_type = "application/vnd.kafka.v2+json"),
    )
)]
pub async fn seek_to_beginning(
    State(state): State<AppState>,
    Path(path): Path<InstancePath>,
    headers: HeaderMap,
    request: Body,
) -> ApiResult<Response> {
    let partitions = partitions_of(&state, &headers, request).await?;
    state.consumers.seek_to_beginning(&path.key(), partitions).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Seeks behind the last records of partitions.
#[utoipa::path(
    post, path = "/consumers/{group}/instances/{instance}/positions/end",
    tag = "consumers", operation_id = "seekToEnd",
    params(InstancePath),
    request_body(content(
        (Partitions = "application/vnd.kafka.v2+json"), (Partitions = "application/json"),
    )),
    responses(
        (status = 204, description = "The next read begins there"),
        (status = 404, body = ErrorBody, content_type = "application/vnd.kafka.v2+json"),
        (status = 409, body = ErrorBody, description = "40903: a partition is not assigned",
            content_type = "application/vnd.kafka.v2+json"),
    )
)]
pub async fn seek_to_end(
    State(state): State<AppState>,
    Path(path): Path<InstancePath>,
    headers: HeaderMap,
    request: Body,
) -> ApiResult<Response> {
    let partitions = partitions_of(&state, &headers, request).await?;
    state.consumers.seek_to_end(&path.key(), partitions).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn partitions_of(
    state: &AppState,
    headers: &HeaderMap,
    request: Body,
) -> ApiResult<Vec<TopicPartition>> {
    media::content(headers)?;
    let bytes = body::read(&state.bodies, request).await?;
    let wanted: Partitions = body::parse(&bytes)?;
    topic_partitions(&wanted.partitions)
}
