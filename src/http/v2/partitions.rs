//! `GET /topics/{topic}/partitions[/{partition}[/offsets]]`.

use axum::extract::{Path, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use crate::base::ids::PartitionId;
use crate::engine::topics::Topic;
use crate::http::error::{ApiError, ApiResult, ErrorBody};
use crate::http::state::{AppState, Inner};

/// One partition.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct PartitionInfo {
    /// Its number.
    #[schema(example = 0)]
    pub partition: PartitionId,
    /// Broker id of the leader.
    #[schema(example = 0)]
    pub leader: i32,
    /// Its replicas.
    pub replicas: Vec<ReplicaInfo>,
}

/// One replica of a partition.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ReplicaInfo {
    /// Broker id.
    #[schema(example = 0)]
    pub broker: i32,
    /// It leads.
    pub leader: bool,
    /// It has everything.
    pub in_sync: bool,
}

/// The offsets of a partition.
#[derive(Debug, Serialize, ToSchema)]
pub struct PartitionOffsets {
    /// First readable offset.
    #[schema(example = 0)]
    pub beginning_offset: i64,
    /// Offset after the last record.
    #[schema(example = 5)]
    pub end_offset: i64,
}

pub(super) fn describe_partitions(state: &Inner, topic: &Topic) -> Vec<PartitionInfo> {
    (0..topic.partition_count).map(|partition| describe(state, partition)).collect()
}

fn describe(state: &Inner, partition: PartitionId) -> PartitionInfo {
    let broker = state.engine.node.id;
    let replicas = vec![ReplicaInfo { broker, leader: true, in_sync: true }];
    PartitionInfo { partition, leader: broker, replicas }
}

/// Finds the topic, and the partition by the text in the path.
pub(in crate::http) fn find(
    state: &Inner,
    topic: &str,
    partition: &str,
) -> ApiResult<(std::sync::Arc<Topic>, PartitionId)> {
    let Ok(number) = partition.parse::<PartitionId>() else {
        let message = format!("partition '{partition}' is not a number");
        return Err(ApiError::status(StatusCode::NOT_FOUND, message));
    };
    let found = state.engine.topics.find(topic);
    let found = found.ok_or_else(|| ApiError::topic_not_found(topic))?;
    if !(0..found.partition_count).contains(&number) {
        return Err(ApiError::partition_not_found(topic, number));
    }
    Ok((found, number))
}

/// Lists the partitions of a topic.
#[utoipa::path(
    get, path = "/topics/{topic}/partitions", tag = "topics", operation_id = "listPartitions",
    params(("topic" = String, Path, description = "Name of the topic", example = "orders")),
    responses(
        (status = 200, body = Vec<PartitionInfo>, content_type = "application/vnd.kafka.v2+json"),
        (status = 404, body = ErrorBody, description = "40401: no such topic",
            content_type = "application/vnd.kafka.v2+json"),
    )
)]
pub async fn list(
    State(state): State<AppState>,
    Path(topic): Path<String>,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let found = state.engine.topics.find(&topic);
    let found = found.ok_or_else(|| ApiError::topic_not_found(&topic))?;
    super::json(&headers, &describe_partitions(&state, &found))
}

/// Describes one partition.
#[utoipa::path(
    get, path = "/topics/{topic}/partitions/{partition}", tag = "topics",
    operation_id = "getPartition",
    params(
        ("topic" = String, Path, description = "Name of the topic", example = "orders"),
        ("partition" = i32, Path, description = "Number of the partition", example = 0),
    ),
    responses(
        (status = 200, body = PartitionInfo, content_type = "application/vnd.kafka.v2+json"),
        (status = 404, body = ErrorBody, description = "40401: no such topic, 40402: no such partition",
            content_type = "application/vnd.kafka.v2+json"),
    )
)]
pub async fn get(
    State(state): State<AppState>,
    Path((topic, partition)): Path<(String, String)>,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let (_, number) = find(&state, &topic, &partition)?;
    super::json(&headers, &describe(&state, number))
}

/// Tells the first and the next offset of a partition.
#[utoipa::path(
    get, path = "/topics/{topic}/partitions/{partition}/offsets", tag = "topics",
    operation_id = "getPartitionOffsets",
    params(
        ("topic" = String, Path, description = "Name of the topic", example = "orders"),
        ("partition" = i32, Path, description = "Number of the partition", example = 0),
    ),
    responses(
        (status = 200, body = PartitionOffsets, content_type = "application/vnd.kafka.v2+json"),
        (status = 404, body = ErrorBody, description = "40401: no such topic, 40402: no such partition",
            content_type = "application/vnd.kafka.v2+json"),
    )
)]
pub async fn offsets(
    State(state): State<AppState>,
    Path((topic, partition)): Path<(String, String)>,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let (found, number) = find(&state, &topic, &partition)?;
    let bounds = state.engine.log.bounds(&found.name, number)?;
    let offsets = PartitionOffsets {
        beginning_offset: bounds.log_start_offset,
        end_offset: bounds.high_watermark,
    };
    super::json(&headers, &offsets)
}
