//! Settings of a broker: what it really runs with.

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
use super::paths::{BrokerConfigPath, BrokerPath, ClusterPath};
use super::{Scope, V3Result, json, request};
use crate::engine::configs::{ConfigEntry, Execution, ServerScope};
use crate::http::error::ErrorBody;
use crate::http::state::AppState;

/// The routes of this resource.
pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list_all))
        .routes(routes!(list))
        .routes(routes!(alter))
        .routes(routes!(get, update, reset))
}

/// A setting of a broker.
#[derive(Debug, Serialize, ToSchema)]
pub struct KafkaBrokerConfig {
    /// What this is.
    #[schema(example = "KafkaBrokerConfig")]
    pub kind: &'static str,
    /// Where it is.
    pub metadata: ResourceMetadata,
    /// The cluster.
    #[schema(example = "lkc-1")]
    pub cluster_id: String,
    /// The broker.
    #[schema(example = 0)]
    pub broker_id: i32,
    /// The setting.
    #[serde(flatten)]
    pub details: ConfigDetails,
}

collection! {
    /// Settings of brokers.
    KafkaBrokerConfigList of KafkaBrokerConfig
}

fn describe(scope: &Scope, broker_id: i32, entry: ConfigEntry) -> KafkaBrokerConfig {
    let id = broker_id.to_string();
    let path = ["brokers", &id, "configs", entry.name];
    let name = [("broker", id.as_str()), ("config", entry.name)];
    KafkaBrokerConfig {
        kind: "KafkaBrokerConfig",
        metadata: ResourceMetadata::new(scope, &path, &name),
        cluster_id: scope.cluster_id.clone(),
        broker_id,
        details: entry.into(),
    }
}

/// Lists the settings of a broker.
#[utoipa::path(
    get, path = "/v3/clusters/{cluster_id}/brokers/{broker_id}/configs", tag = "clusters",
    operation_id = "listBrokerConfigsV3",
    params(BrokerPath),
    responses(
        (status = 200, body = KafkaBrokerConfigList, description = "Every setting, by name"),
        (status = 404, body = ErrorBody, description = "404: no such cluster or broker"),
        (status = 406, body = ErrorBody, description = "The client accepts no JSON"),
    )
)]
pub async fn list(State(state): State<AppState>, scope: Scope) -> V3Result<Response> {
    let broker = scope.broker(&state)?.to_string();
    let path = ["brokers", &broker, "configs"];
    Ok(json(&KafkaBrokerConfigList::new(&scope, &path, describe_all(&scope, &state))))
}

/// Lists the settings of all brokers.
#[utoipa::path(
    get, path = "/v3/clusters/{cluster_id}/brokers/-/configs", tag = "clusters",
    operation_id = "listAllBrokersConfigsV3",
    params(ClusterPath),
    responses(
        (status = 200, body = KafkaBrokerConfigList, description = "Every setting of every broker"),
        (status = 404, body = ErrorBody, description = "404: no such cluster"),
        (status = 406, body = ErrorBody, description = "The client accepts no JSON"),
    )
)]
pub async fn list_all(State(state): State<AppState>, scope: Scope) -> Response {
    let path = ["brokers", "-", "configs"];
    json(&KafkaBrokerConfigList::new(&scope, &path, describe_all(&scope, &state)))
}

fn describe_all(scope: &Scope, state: &AppState) -> Vec<KafkaBrokerConfig> {
    let entries = state.engine.configs.describe_broker().into_iter();
    entries.map(|entry| describe(scope, state.engine.node.id, entry)).collect()
}

/// Describes a setting of a broker.
#[utoipa::path(
    get, path = "/v3/clusters/{cluster_id}/brokers/{broker_id}/configs/{name}", tag = "clusters",
    operation_id = "getBrokerConfigV3",
    params(BrokerConfigPath),
    responses(
        (status = 200, body = KafkaBrokerConfig, description = "The setting"),
        (status = 404, body = ErrorBody, description = "404: no such cluster, broker or setting"),
        (status = 406, body = ErrorBody, description = "The client accepts no JSON"),
    )
)]
pub async fn get(State(state): State<AppState>, scope: Scope) -> V3Result<Response> {
    let broker = scope.broker(&state)?;
    let entry = configs::find(state.engine.configs.describe_broker(), scope.text("name"))?;
    Ok(json(&describe(&scope, broker, entry)))
}

/// Changes a setting for one broker; it is stronger than that of all brokers.
#[utoipa::path(
    put, path = "/v3/clusters/{cluster_id}/brokers/{broker_id}/configs/{name}", tag = "clusters",
    operation_id = "updateBrokerConfigV3",
    params(BrokerConfigPath),
    request_body(content = UpdateConfigRequest, content_type = "application/json",
        example = json!({"value": "86400000"})),
    responses(
        (status = 204, description = "The value is in force and survives a crash"),
        (status = 404, body = ErrorBody, description = "404: no such cluster, broker or setting"),
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
    scope.broker(&state)?;
    let edit = configs::set_one(scope.text("name"), wanted)?;
    let roles = &state.engine.configs;
    roles.alter_server(ServerScope::Broker, edit, Execution::Perform).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Takes back a change of a setting for one broker.
#[utoipa::path(
    delete, path = "/v3/clusters/{cluster_id}/brokers/{broker_id}/configs/{name}", tag = "clusters",
    operation_id = "deleteBrokerConfigV3",
    params(BrokerConfigPath),
    responses(
        (status = 204, description = "What is set for all brokers, or the server was started with, is in force"),
        (status = 400, body = ErrorBody, description = "40002: the setting cannot be changed"),
        (status = 404, body = ErrorBody, description = "404: no such cluster, broker or setting"),
        (status = 406, body = ErrorBody, description = "The client accepts no JSON"),
    )
)]
pub async fn reset(State(state): State<AppState>, scope: Scope) -> V3Result<Response> {
    scope.broker(&state)?;
    let edit = configs::reset_one(scope.text("name"));
    let roles = &state.engine.configs;
    roles.alter_server(ServerScope::Broker, edit, Execution::Perform).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Changes several settings for one broker, all or none.
#[utoipa::path(
    post, path = "/v3/clusters/{cluster_id}/brokers/{broker_id}/configs:alter", tag = "clusters",
    operation_id = "updateBrokerConfigBatchV3",
    params(BrokerPath),
    request_body(content = AlterConfigBatchRequest, content_type = "application/json",
        example = json!({"data": [{"name": "log.retention.ms", "value": "86400000"}]})),
    responses(
        (status = 204, description = "The values are in force and survive a crash"),
        (status = 404, body = ErrorBody, description = "404: no such cluster, broker or setting"),
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
    scope.broker(&state)?;
    let (execution, edit) = (configs::execution(wanted.validate_only), configs::edit(wanted.data)?);
    state.engine.configs.alter_server(ServerScope::Broker, edit, execution).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
