//! `POST /admin/topics`: create a topic, in the shape of Strimzi's bridge.
//! `PATCH` and `DELETE /admin/topics/{topic}`: change and delete one.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::engine::configs::{
    AlterConfigsError, ConfigChange, ConfigEdit, ConfigOperation, Execution,
};
use crate::engine::topics::{
    CreatePartitions, CreatePartitionsError, CreateTopic, DeleteTopicError,
};
use crate::http::error::{ApiError, ApiResult, ErrorBody};
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

/// Deletes a topic with its records and the offsets that groups committed for it.
#[utoipa::path(
    delete, path = "/admin/topics/{topic}", tag = "admin", operation_id = "deleteTopic",
    params(("topic" = String, Path, description = "Name of the topic", example = "orders")),
    responses(
        (status = 204, description = "The topic is gone, also after a crash"),
        (status = 403, body = ErrorBody, description = "40301: the topic is internal",
            content_type = "application/vnd.kafka.v2+json"),
        (status = 404, body = ErrorBody, description = "40401: no such topic",
            content_type = "application/vnd.kafka.v2+json"),
    )
)]
pub async fn delete_topic(
    State(state): State<AppState>,
    Path(topic): Path<String>,
) -> ApiResult<StatusCode> {
    state.engine.topics.delete(&topic).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What to change of a topic.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TopicChanges {
    /// How many partitions it shall have: more than it has.
    #[schema(example = 8)]
    pub partitions_count: Option<i32>,
    /// Configuration by Kafka's names; null sets an entry back to its default.
    #[serde(default)]
    #[schema(example = json!({"retention.ms": "3600000", "max.message.bytes": null}))]
    pub configs: BTreeMap<String, Option<String>>,
}

/// Gives a topic more partitions and changes its configuration.
#[utoipa::path(
    patch, path = "/admin/topics/{topic}", tag = "admin", operation_id = "changeTopic",
    params(("topic" = String, Path, description = "Name of the topic", example = "orders")),
    request_body(content = TopicChanges, content_type = "application/json",
        example = json!({"partitions_count": 8, "configs": {"retention.ms": "3600000"}})),
    responses(
        (status = 204, description = "The changes hold and survive a crash"),
        (status = 400, body = ErrorBody, description = "40002: count or configuration is invalid",
            content_type = "application/vnd.kafka.v2+json"),
        (status = 403, body = ErrorBody, description = "40301: the topic is internal",
            content_type = "application/vnd.kafka.v2+json"),
        (status = 404, body = ErrorBody, description = "40401: no such topic",
            content_type = "application/vnd.kafka.v2+json"),
        (status = 422, body = ErrorBody, description = "The body names nothing to change",
            content_type = "application/vnd.kafka.v2+json"),
    )
)]
pub async fn change_topic(
    State(state): State<AppState>,
    Path(topic): Path<String>,
    headers: HeaderMap,
    request: Body,
) -> ApiResult<StatusCode> {
    media::content(&headers)?;
    let bytes = body::read(&state.bodies, request).await?;
    let wanted: TopicChanges = body::parse(&bytes)?;
    if wanted.partitions_count.is_none() && wanted.configs.is_empty() {
        return Err(ApiError::unprocessable("partitions_count or configs is needed"));
    }
    let changes = wanted.configs.into_iter().map(|(name, value)| ConfigChange {
        name,
        operation: value.map_or(ConfigOperation::Delete, ConfigOperation::Set),
    });
    let edit = ConfigEdit::Change(changes.collect());
    // Everything is checked before anything is changed.
    for execution in [Execution::Check, Execution::Perform] {
        if let Some(partition_count) = wanted.partitions_count {
            let request = CreatePartitions { topic: topic.clone(), partition_count, execution };
            state.engine.topics.create_partitions(request).await.map_err(partitions_error)?;
        }
        let altered = state.engine.configs.alter_topic(&topic, edit.clone(), execution).await;
        altered.map_err(config_error)?;
    }
    Ok(StatusCode::NO_CONTENT)
}

fn refused(message: String) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, 40002, message)
}

fn partitions_error(error: CreatePartitionsError) -> ApiError {
    let message = error.to_string();
    match error {
        CreatePartitionsError::Unknown(topic) => DeleteTopicError::Unknown(topic).into(),
        CreatePartitionsError::Internal(_) => ApiError::new(StatusCode::FORBIDDEN, 40301, message),
        CreatePartitionsError::NotMore { .. }
        | CreatePartitionsError::TooMany { .. }
        | CreatePartitionsError::TooManyInAll(_) => refused(message),
        CreatePartitionsError::Storage(reason) => DeleteTopicError::Storage(reason).into(),
    }
}

fn config_error(error: AlterConfigsError) -> ApiError {
    let message = error.to_string();
    match error {
        AlterConfigsError::UnknownTopic(topic) => DeleteTopicError::Unknown(topic).into(),
        AlterConfigsError::InternalTopic(_) => ApiError::new(StatusCode::FORBIDDEN, 40301, message),
        AlterConfigsError::UnknownConfig(_)
        | AlterConfigsError::InvalidValue { .. }
        | AlterConfigsError::ReadOnly(_)
        | AlterConfigsError::Repeated(_)
        | AlterConfigsError::NotAList(_) => refused(message),
        AlterConfigsError::Storage(reason) => DeleteTopicError::Storage(reason).into(),
    }
}
