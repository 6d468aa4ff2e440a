//! Brokers: the one that this process is.

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::envelope::{Link, ResourceMetadata, collection};
use super::{Scope, V3Result, json};
use crate::http::error::ErrorBody;
use crate::http::state::AppState;

/// The routes of this resource.
pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(get))
}

/// A broker.
#[derive(Debug, Serialize, ToSchema)]
pub struct KafkaBroker {
    /// What this is.
    #[schema(example = "KafkaBroker")]
    pub kind: &'static str,
    /// Where it is.
    pub metadata: ResourceMetadata,
    /// The cluster it belongs to.
    #[schema(example = "lkc-1")]
    pub cluster_id: String,
    /// Its number; stable across restarts.
    #[schema(example = 0)]
    pub broker_id: i32,
    /// Host of its Kafka listener.
    #[schema(example = "127.0.0.1")]
    pub host: String,
    /// Port of its Kafka listener.
    #[schema(example = 9092)]
    pub port: u16,
    /// Its settings.
    pub configs: Link,
    /// The replicas that it has.
    pub partition_replicas: Link,
}

collection! {
    /// Brokers.
    KafkaBrokerList of KafkaBroker
}

fn describe(scope: &Scope, state: &AppState) -> KafkaBroker {
    let id = state.engine.node.id.to_string();
    KafkaBroker {
        kind: "KafkaBroker",
        metadata: ResourceMetadata::new(scope, &["brokers", &id], &[("broker", &id)]),
        cluster_id: scope.cluster_id.clone(),
        broker_id: state.engine.node.id,
        host: state.options.kafka_host.clone(),
        port: state.options.kafka_port,
        configs: Link::new(scope, &["brokers", &id, "configs"]),
        partition_replicas: Link::new(scope, &["brokers", &id, "partition-replicas"]),
    }
}

/// Lists the brokers of a cluster.
#[utoipa::path(
    get, path = "/v3/clusters/{cluster_id}/brokers", tag = "clusters",
    operation_id = "listBrokersV3",
    params(("cluster_id" = String, Path, description = "Identity of the cluster", example = "lkc-1")),
    responses(
        (status = 200, body = KafkaBrokerList),
        (status = 404, body = ErrorBody, description = "404: no such cluster"),
        (status = 406, body = ErrorBody),
    )
)]
pub async fn list(State(state): State<AppState>, scope: Scope) -> Response {
    json(&KafkaBrokerList::new(&scope, &["brokers"], vec![describe(&scope, &state)]))
}

/// Describes a broker.
#[utoipa::path(
    get, path = "/v3/clusters/{cluster_id}/brokers/{broker_id}", tag = "clusters",
    operation_id = "getBrokerV3",
    params(
        ("cluster_id" = String, Path, description = "Identity of the cluster", example = "lkc-1"),
        ("broker_id" = i32, Path, description = "Number of the broker", example = 0),
    ),
    responses(
        (status = 200, body = KafkaBroker),
        (status = 404, body = ErrorBody, description = "404: no such cluster or broker"),
        (status = 406, body = ErrorBody),
    )
)]
pub async fn get(State(state): State<AppState>, scope: Scope) -> V3Result<Response> {
    scope.broker(&state)?;
    Ok(json(&describe(&scope, &state)))
}
