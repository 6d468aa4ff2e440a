//! The configuration of topics.

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::configs::{
    self, AlterConfigBatchRequest, AlterConfigEntry, ConfigDetails, UpdateConfigRequest,
};
use super::envelope::{ResourceMetadata, collection};
use super::paths::{ClusterPath, TopicConfigPath, TopicPath};
use super::{Scope, V3Result, json, json_with, request};
use crate::engine::configs::{ConfigEdit, ConfigEntry, Execution};
use crate::http::error::ErrorBody;
use crate::http::state::AppState;

/// The routes of this resource.
pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list_all))
        .routes(routes!(alter_many))
        .routes(routes!(list))
        .routes(routes!(alter))
        .routes(routes!(get, update, reset))
}

/// An entry of a topic's configuration.
#[derive(Debug, Serialize, ToSchema)]
pub struct KafkaTopicConfig {
    /// What this is.
    #[schema(example = "KafkaTopicConfig")]
    pub kind: &'static str,
    /// Where it is.
    pub metadata: ResourceMetadata,
    /// The cluster.
    #[schema(example = "lkc-1")]
    pub cluster_id: String,
    /// The topic.
    #[schema(example = "orders")]
    pub topic_name: String,
    /// The entry.
    #[serde(flatten)]
    pub details: ConfigDetails,
}

collection! {
    /// Entries of topics' configurations.
    KafkaTopicConfigList of KafkaTopicConfig
}

fn describe(scope: &Scope, topic: &str, entry: ConfigEntry) -> KafkaTopicConfig {
    let path = ["topics", topic, "configs", entry.name];
    KafkaTopicConfig {
        kind: "KafkaTopicConfig",
        metadata: ResourceMetadata::new(scope, &path, &[("topic", topic), ("config", entry.name)]),
        cluster_id: scope.cluster_id.clone(),
        topic_name: topic.to_owned(),
        details: entry.into(),
    }
}

/// Lists the configurations of all topics.
#[utoipa::path(
    get, path = "/v3/clusters/{cluster_id}/topics/-/configs", tag = "clusters",
    operation_id = "listAllTopicConfigsV3",
    params(ClusterPath),
    responses(
        (status = 200, body = KafkaTopicConfigList, description = "Every entry of every topic"),
        (status = 404, body = ErrorBody, description = "404: no such cluster"),
        (status = 406, body = ErrorBody, description = "The client accepts no JSON"),
    )
)]
pub async fn list_all(State(state): State<AppState>, scope: Scope) -> Response {
    let mut data = Vec::new();
    for topic in state.engine.topics.list() {
        let entries = state.engine.configs.describe_topic(&topic).into_iter();
        data.extend(entries.map(|entry| describe(&scope, topic.name.as_str(), entry)));
    }
    json(&KafkaTopicConfigList::new(&scope, &["topics", "-", "configs"], data))
}

/// Lists the configuration of a topic.
#[utoipa::path(
    get, path = "/v3/clusters/{cluster_id}/topics/{topic_name}/configs", tag = "clusters",
    operation_id = "listTopicConfigsV3",
    params(TopicPath),
    responses(
        (status = 200, body = KafkaTopicConfigList, description = "Every entry, by name"),
        (status = 404, body = ErrorBody, description = "404: no such cluster, 40403: no such topic"),
        (status = 406, body = ErrorBody, description = "The client accepts no JSON"),
    )
)]
pub async fn list(State(state): State<AppState>, scope: Scope) -> V3Result<Response> {
    let topic = scope.topic(&state)?;
    let name = topic.name.as_str();
    let entries = state.engine.configs.describe_topic(&topic).into_iter();
    let data = entries.map(|entry| describe(&scope, name, entry)).collect();
    Ok(json(&KafkaTopicConfigList::new(&scope, &["topics", name, "configs"], data)))
}

/// Describes one entry of a topic's configuration.
#[utoipa::path(
    get, path = "/v3/clusters/{cluster_id}/topics/{topic_name}/configs/{name}", tag = "clusters",
    operation_id = "getTopicConfigV3",
    params(TopicConfigPath),
    responses(
        (status = 200, body = KafkaTopicConfig, description = "The entry"),
        (status = 404, body = ErrorBody, description = "404: no such cluster or entry, 40403: no such topic"),
        (status = 406, body = ErrorBody, description = "The client accepts no JSON"),
    )
)]
pub async fn get(State(state): State<AppState>, scope: Scope) -> V3Result<Response> {
    let topic = scope.topic(&state)?;
    let entries = state.engine.configs.describe_topic(&topic);
    let entry = configs::find(entries, scope.text("name"))?;
    Ok(json(&describe(&scope, topic.name.as_str(), entry)))
}

/// Sets one entry of a topic's configuration.
#[utoipa::path(
    put, path = "/v3/clusters/{cluster_id}/topics/{topic_name}/configs/{name}", tag = "clusters",
    operation_id = "updateTopicConfigV3",
    params(TopicConfigPath),
    request_body(content = UpdateConfigRequest, content_type = "application/json",
        example = json!({"value": "86400000"})),
    responses(
        (status = 204, description = "The value is in force and survives a crash"),
        (status = 404, body = ErrorBody, description = "404: no such cluster or entry, 40403: no such topic"),
        (status = 400, body = ErrorBody, description = "400: the body cannot be read, 40002: a value is invalid or cannot be changed"),
        (status = 415, body = ErrorBody, description = "The body is not JSON"),
        (status = 422, body = ErrorBody, description = "42206: there is no body, or a member is missing"),
    )
)]
pub async fn update(
    State(state): State<AppState>,
    scope: Scope,
    headers: HeaderMap,
    body: Body,
) -> V3Result<Response> {
    let wanted: UpdateConfigRequest = request::read(&state, &headers, body).await?;
    let topic = scope.topic(&state)?;
    let edit = configs::set_one(scope.text("name"), wanted)?;
    alter_one(&state, topic.name.as_str(), edit, Execution::Perform).await
}

/// Takes away what is set of one entry of a topic's configuration.
#[utoipa::path(
    delete, path = "/v3/clusters/{cluster_id}/topics/{topic_name}/configs/{name}", tag = "clusters",
    operation_id = "deleteTopicConfigV3",
    params(TopicConfigPath),
    responses(
        (status = 204, description = "The topic inherits the entry from the server"),
        (status = 404, body = ErrorBody, description = "404: no such cluster or entry, 40403: no such topic"),
        (status = 406, body = ErrorBody, description = "The client accepts no JSON"),
    )
)]
pub async fn reset(State(state): State<AppState>, scope: Scope) -> V3Result<Response> {
    let topic = scope.topic(&state)?;
    let edit = configs::reset_one(scope.text("name"));
    alter_one(&state, topic.name.as_str(), edit, Execution::Perform).await
}

/// Changes several entries of a topic's configuration, all or none.
#[utoipa::path(
    post, path = "/v3/clusters/{cluster_id}/topics/{topic_name}/configs:alter", tag = "clusters",
    operation_id = "updateTopicConfigBatchV3",
    params(TopicPath),
    request_body(content = AlterConfigBatchRequest, content_type = "application/json",
        example = json!({"data": [{"name": "retention.ms", "value": "86400000"},
            {"name": "segment.ms", "operation": "DELETE"}]})),
    responses(
        (status = 204, description = "The values are in force and survive a crash"),
        (status = 404, body = ErrorBody, description = "404: no such cluster or entry, 40403: no such topic"),
        (status = 400, body = ErrorBody, description = "400: the body cannot be read, 40002: a value is invalid or cannot be changed"),
        (status = 415, body = ErrorBody, description = "The body is not JSON"),
        (status = 422, body = ErrorBody, description = "42206: there is no body, or a member is missing"),
    )
)]
pub async fn alter(
    State(state): State<AppState>,
    scope: Scope,
    headers: HeaderMap,
    body: Body,
) -> V3Result<Response> {
    let wanted: AlterConfigBatchRequest = request::read(&state, &headers, body).await?;
    let topic = scope.topic(&state)?;
    let execution = configs::execution(wanted.validate_only);
    alter_one(&state, topic.name.as_str(), configs::edit(wanted.data)?, execution).await
}

async fn alter_one(
    state: &AppState,
    topic: &str,
    edit: ConfigEdit,
    execution: Execution,
) -> V3Result<Response> {
    state.engine.configs.alter_topic(topic, edit, execution).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Changes of the configurations of several topics.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AlterTopicsConfigsRequest {
    /// The topics; the changes of each are made all or none.
    pub data: Vec<TopicConfigChanges>,
    /// Check only.
    #[serde(default)]
    pub validate_only: Option<bool>,
}

/// Changes of the configuration of one topic.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TopicConfigChanges {
    /// The topic.
    #[schema(example = "orders")]
    pub topic_name: String,
    /// The changes; each entry once.
    pub configs: Vec<AlterConfigEntry>,
}

/// The topics whose configuration was not changed.
#[derive(Debug, Serialize, ToSchema)]
pub struct AlterTopicsConfigsFailures {
    /// One for each such topic.
    pub data: Vec<AlterTopicConfigsFailure>,
}

/// Why the configuration of a topic was not changed.
#[derive(Debug, Serialize, ToSchema)]
pub struct AlterTopicConfigsFailure {
    /// The topic.
    #[schema(example = "orders")]
    pub topic_name: String,
    /// The code that a request for this topic alone would get.
    #[schema(example = 40403)]
    pub error_code: u32,
    /// What is wrong.
    #[schema(example = "topic 'orders' does not exist")]
    pub message: String,
}

/// Changes the configurations of several topics, each all or none.
#[utoipa::path(
    post, path = "/v3/clusters/{cluster_id}/topics/-/configs:alter", tag = "clusters",
    operation_id = "updateTopicsConfigsBatchV3",
    params(ClusterPath),
    request_body(content = AlterTopicsConfigsRequest, content_type = "application/json",
        example = json!({"data": [{"topic_name": "orders",
            "configs": [{"name": "retention.ms", "value": "86400000"}]}]})),
    responses(
        (status = 204, description = "All were changed"),
        (status = 207, body = AlterTopicsConfigsFailures, description = "Some were not changed"),
        (status = 404, body = ErrorBody, description = "404: no such cluster"),
        (status = 400, body = ErrorBody, description = "400: the body cannot be read, 40002: a value is invalid or cannot be changed"),
        (status = 415, body = ErrorBody, description = "The body is not JSON"),
        (status = 422, body = ErrorBody, description = "42206: there is no body, or a member is missing"),
    )
)]
pub async fn alter_many(
    State(state): State<AppState>,
    _: Scope,
    headers: HeaderMap,
    body: Body,
) -> V3Result<Response> {
    let wanted: AlterTopicsConfigsRequest = request::read(&state, &headers, body).await?;
    let execution = configs::execution(wanted.validate_only);
    let mut data = Vec::new();
    for TopicConfigChanges { topic_name, configs } in wanted.data {
        let altered = match configs::edit(configs) {
            Ok(edit) => alter_one(&state, &topic_name, edit, execution).await,
            Err(error) => Err(error),
        };
        if let Err(error) = altered {
            let (error_code, message) = (error.api().code, error.api().message.clone());
            data.push(AlterTopicConfigsFailure { topic_name, error_code, message });
        }
    }
    if data.is_empty() {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    Ok(json_with(StatusCode::MULTI_STATUS, &AlterTopicsConfigsFailures { data }))
}
