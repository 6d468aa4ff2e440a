//! Clusters: the one that this server is.

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::envelope::{Link, ListMetadata, ResourceMetadata, collection};
use super::{Scope, V3Result, json};
use crate::http::error::ErrorBody;
use crate::http::state::AppState;

/// The routes of this resource.
pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(get))
}

/// A cluster.
#[derive(Debug, Serialize, ToSchema)]
pub struct KafkaCluster {
    /// What this is.
    #[schema(example = "KafkaCluster")]
    pub kind: &'static str,
    /// Where it is.
    pub metadata: ResourceMetadata,
    /// Its identity; stable across restarts.
    #[schema(example = "lkc-1")]
    pub cluster_id: String,
    /// The broker that controls it.
    pub controller: Link,
    /// Its access control lists.
    pub acls: Link,
    /// Its brokers.
    pub brokers: Link,
    /// The settings of all its brokers.
    pub broker_configs: Link,
    /// Its consumer groups.
    pub consumer_groups: Link,
    /// Its topics.
    pub topics: Link,
    /// Partitions on their way between brokers.
    pub partition_reassignments: Link,
}

collection! {
    /// Clusters.
    KafkaClusterList of KafkaCluster
}

fn describe(scope: &Scope, state: &AppState) -> KafkaCluster {
    let link = |path: &[&str]| Link::new(scope, path);
    KafkaCluster {
        kind: "KafkaCluster",
        metadata: ResourceMetadata::new(scope, &[], &[]),
        cluster_id: scope.cluster_id.clone(),
        controller: link(&["brokers", &state.engine.node.id.to_string()]),
        acls: link(&["acls"]),
        brokers: link(&["brokers"]),
        broker_configs: link(&["broker-configs"]),
        consumer_groups: link(&["consumer-groups"]),
        topics: link(&["topics"]),
        partition_reassignments: link(&["topics", "-", "partitions", "-", "reassignment"]),
    }
}

/// Lists the clusters: the one that this server is.
#[utoipa::path(
    get, path = "/v3/clusters", tag = "clusters", operation_id = "listClustersV3",
    responses(
        (status = 200, body = KafkaClusterList),
        (status = 406, body = ErrorBody),
    )
)]
pub async fn list(State(state): State<AppState>, scope: Scope) -> Response {
    let metadata = ListMetadata { self_url: scope.clusters_url(), next: None };
    json(&KafkaClusterList {
        kind: "KafkaClusterList",
        metadata,
        data: vec![describe(&scope, &state)],
    })
}

/// Describes a cluster.
#[utoipa::path(
    get, path = "/v3/clusters/{cluster_id}", tag = "clusters", operation_id = "getClusterV3",
    params(("cluster_id" = String, Path, description = "Identity of the cluster", example = "lkc-1")),
    responses(
        (status = 200, body = KafkaCluster),
        (status = 404, body = ErrorBody, description = "404: no such cluster"),
        (status = 406, body = ErrorBody),
    )
)]
pub async fn get(State(state): State<AppState>, scope: Scope) -> V3Result<Response> {
    Ok(json(&describe(&scope, &state)))
}
