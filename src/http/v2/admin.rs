//! `POST /admin/topics`: create a topic, in the shape of Strimzi's bridge.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::engine::topics::CreateTopic;
use crate::http::error::{ApiResult, ErrorBody};
use crate::http::state::AppState;
use crate::http::{body, media};

/// A topic to create.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"topic_name": "orders", "partitions_count": 4}))]
pub struct NewTopic {
    /// Its name.
    #[schema(example = "orders")]
    pub topic_name: String,
    /// Number of partitions; the server's default if absent.
    #[schema(example = 4)]
    pub partitions_count: Option<i32>,
    /// Number of replicas; one node offers 1.
    #[schema(example = 1)]
    pub replication_factor: Option<i32>,
    /// Configuration by Kafka's names.
    #[serde(default)]
    #[schema(example = json!({"retention.ms": "3600000"}))]
    pub configs: BTreeMap<String, String>,
}

/// Creates a topic.
#[utoipa::path(
    post, path = "/admin/topics", tag = "admin", operation_id = "createTopic",
    request_body(content = NewTopic, content_type = "application/json"),
    responses(
        (status = 201, description = "The topic exists and survives a crash"),
        (status = 400, body = ErrorBody, description = "40002: name, count or configuration is invalid",
            content_type = "application/vnd.kafka.v2+json"),
        (status = 409, body = ErrorBody, description = "40002: the topic exists",
            content_type = "application/vnd.kafka.v2+json"),
        (status = 415, body = ErrorBody, content_type = "application/vnd.kafka.v2+json"),
        (status = 422, body = ErrorBody, description = "The body is not a topic",
            content_type = "application/vnd.kafka.v2+json"),
    )
)]
pub async fn create_topic(
    State(state): State<AppState>,
    headers: HeaderMap,
    request: Body,
) -> ApiResult<Response> {
    media::content(&headers)?;
    let bytes = body::read(&state.bodies, request).await?;
    let wanted: NewTopic = body::parse(&bytes)?;
    let configs = wanted.configs.into_iter().map(|(name, value)| (name, Some(value)));
    let request = CreateTopic {
        name: wanted.topic_name,
        partition_count: wanted.partitions_count,
        replication_factor: wanted.replication_factor,
        configs: configs.collect(),
        dry_run: false,
    };
    state.engine.topics.create(request).await?;
    Ok(StatusCode::CREATED.into_response())
}
