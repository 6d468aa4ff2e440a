//! Settings of all brokers that were changed at runtime.

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::configs::{self, AlterConfigBatchRequest, ConfigDetails, UpdateConfigRequest};
use super::envelope::{ResourceMetadata, collection};
use super::paths::{ClusterConfigPath, ClusterPath};
use super::{Scope, V3Result, json, request};
use crate::engine::configs::{ConfigEntry, Execution, ServerScope};
use crate::http::error::ErrorBody;
use crate::http::state::AppState;

/// The routes of this resource.
pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(alter))
        .routes(routes!(get, update, reset))
}

/// A setting of all brokers.
#[derive(Debug, Serialize, ToSchema)]
pub struct KafkaClusterConfig {
    /// What this is.
    #[schema(example = "KafkaClusterConfig")]
    pub kind: &'static str,
    /// Where it is.
    pub metadata: ResourceMetadata,
    /// The cluster.
    #[schema(example = "lkc-1")]
    pub cluster_id: String,
    /// Always `BROKER`.
    #[schema(example = "BROKER")]
    pub config_type: &'static str,
    /// The setting.
    #[serde(flatten)]
    pub details: ConfigDetails,
}

collection! {
    /// Settings of all brokers.
    KafkaClusterConfigList of KafkaClusterConfig
}

fn describe(scope: &Scope, entry: ConfigEntry) -> KafkaClusterConfig {
    let path = ["broker-configs", entry.name];
    KafkaClusterConfig {
        kind: "KafkaClusterConfig",
        metadata: ResourceMetadata::new(scope, &path, &[("broker-config", entry.name)]),
        cluster_id: scope.cluster_id.clone(),
        config_type: "BROKER",
        details: entry.into(),
    }
}

/// Lists the settings that were changed at runtime for all brokers.
#[utoipa::path(
    get, path = "/v3/clusters/{cluster_id}/broker-configs", tag = "clusters",
    operation_id = "listClusterConfigsV3",
    params(ClusterPath),
    responses(
        (status = 200, body = KafkaClusterConfigList, description = "The settings, by name; empty when none was changed"),
        (status = 404, body = ErrorBody, description = "404: no such cluster"),
        (status = 406, body = ErrorBody, description = "The client accepts no JSON"),
    )
)]
pub async fn list(State(state): State<AppState>, scope: Scope) -> Response {
    let entries = state.engine.configs.describe_cluster().into_iter();
    let data = entries.map(|entry| describe(&scope, entry)).collect();
    json(&KafkaClusterConfigList::new(&scope, &["broker-configs"], data))
}

/// Describes a setting that was changed at runtime for all brokers.
#[utoipa::path(
    get, path = "/v3/clusters/{cluster_id}/broker-configs/{name}", tag = "clusters",
    operation_id = "getClusterConfigV3",
    params(ClusterConfigPath),
    responses(
        (status = 200, body = KafkaClusterConfig, description = "The setting"),
        (status = 404, body = ErrorBody, description = "404: no such cluster, or the setting was not changed"),
        (status = 406, body = ErrorBody, description = "The client accepts no JSON"),
    )
)]
pub async fn get(State(state): State<AppState>, scope: Scope) -> V3Result<Response> {
    let entry = configs::find(state.engine.configs.describe_cluster(), scope.text("name"))?;
    Ok(json(&describe(&scope, entry)))
}

/// Changes a setting for all brokers.
#[utoipa::path(
    put, path = "/v3/clusters/{cluster_id}/broker-configs/{name}", tag = "clusters",
    operation_id = "updateClusterConfigV3",
    params(ClusterConfigPath),
    request_body(content = UpdateConfigRequest, content_type = "application/json",
        example = json!({"value": "86400000"})),
    responses(
        (status = 204, description = "The value is in force and survives a crash"),
        (status = 404, body = ErrorBody, description = "404: no such cluster or setting"),
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
    let edit = configs::set_one(scope.text("name"), wanted)?;
    let roles = &state.engine.configs;
    roles.alter_server(ServerScope::Cluster, edit, Execution::Perform).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Takes back a change of a setting for all brokers.
#[utoipa::path(
    delete, path = "/v3/clusters/{cluster_id}/broker-configs/{name}", tag = "clusters",
    operation_id = "deleteClusterConfigV3",
    params(ClusterConfigPath),
    responses(
        (status = 204, description = "What the server was started with is in force"),
        (status = 400, body = ErrorBody, description = "40002: the setting cannot be changed"),
        (status = 404, body = ErrorBody, description = "404: no such cluster or setting"),
        (status = 406, body = ErrorBody, description = "The client accepts no JSON"),
    )
)]
pub async fn reset(State(state): State<AppState>, scope: Scope) -> V3Result<Response> {
    let edit = configs::reset_one(scope.text("name"));
    let roles = &state.engine.configs;
    roles.alter_server(ServerScope::Cluster, edit, Execution::Perform).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Changes several settings for all brokers, all or none.
#[utoipa::path(
    post, path = "/v3/clusters/{cluster_id}/broker-configs:alter", tag = "clusters",
    operation_id = "updateClusterConfigsBatchV3",
    params(ClusterPath),
    request_body(content = AlterConfigBatchRequest, content_type = "application/json",
        example = json!({"data": [{"name": "log.retention.ms", "value": "86400000"}]})),
    responses(
        (status = 204, description = "The values are in force and survive a crash"),
        (status = 404, body = ErrorBody, description = "404: no such cluster or setting"),
        (status = 400, body = ErrorBody, description = "400: the body cannot be read, 40002: a value is invalid or cannot be changed"),
        (status = 415, body = ErrorBody, description = "The body is not JSON"),
        (status = 422, body = ErrorBody, description = "42206: there is no body, or a member is missing"),
    )
)]
pub async fn alter(
    State(state): State<AppState>,
    _: Scope,
    headers: HeaderMap,
    body: Body,
) -> V3Result<Response> {
    let wanted: AlterConfigBatchRequest = request::read(&state, &headers, body).await?;
    let (execution, edit) = (configs::execution(wanted.validate_only), configs::edit(wanted.data)?);
    state.engine.configs.alter_server(ServerScope::Cluster, edit, execution).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
