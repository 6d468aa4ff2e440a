//! `GET /topics` and `GET /topics/{topic}`.

use std::collections::BTreeMap;

use axum::extract::{Path, State};
use axum::response::Response;
use http::HeaderMap;
use serde::Serialize;
use utoipa::ToSchema;

use super::partitions::{PartitionInfo, describe_partitions};
use crate::http::error::{ApiError, ApiResult, ErrorBody};
use crate::http::state::AppState;

/// One topic.
#[derive(Debug, Serialize, ToSchema)]
pub struct TopicInfo {
    /// Its name.
    #[schema(example = "orders")]
    pub name: String,
    /// Its whole configuration, defaults included.
    #[schema(example = json!({"cleanup.policy": "delete"}))]
    pub configs: BTreeMap<&'static str, String>,
    /// Its partitions.
    pub partitions: Vec<PartitionInfo>,
}

/// Lists the names of all topics, the internal ones included.
#[utoipa::path(
    get, path = "/topics", tag = "topics", operation_id = "listTopics",
    responses(
        (status = 200, body = Vec<String>, content_type = "application/vnd.kafka.v2+json",
            example = json!(["orders", "payments"])),
        (status = 406, body = ErrorBody, content_type = "application/vnd.kafka.v2+json"),
    )
)]
pub async fn list(State(state): State<AppState>, headers: HeaderMap) -> ApiResult<Response> {
    let topics = state.engine.topics.list();
    let names: Vec<&str> = topics.iter().map(|topic| topic.name.as_str()).collect();
    super::json(&headers, &names)
}

/// Describes one topic.
#[utoipa::path(
    get, path = "/topics/{topic}", tag = "topics", operation_id = "getTopic",
    params(("topic" = String, Path, description = "Name of the topic", example = "orders")),
    responses(
        (status = 200, body = TopicInfo, content_type = "application/vnd.kafka.v2+json"),
        (status = 404, body = ErrorBody, description = "40403: no such topic",
            content_type = "application/vnd.kafka.v2+json"),
        (status = 406, body = ErrorBody, content_type = "application/vnd.kafka.v2+json"),
    )
)]
pub async fn get(
    State(state): State<AppState>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let missing = || {
        // Confluent's code for an unknown topic on this one route.
        ApiError { code: 40403, ..ApiError::topic_not_found(&name) }
    };
    let topic = state.engine.topics.find(&name).ok_or_else(missing)?;
    let configs = state.engine.configs.describe_topic(&topic);
    let info = TopicInfo {
        name: topic.name.to_string(),
        configs: configs.into_iter().map(|entry| (entry.name, entry.value)).collect(),
        partitions: describe_partitions(&state, &topic),
    };
    super::json(&headers, &info)
}
