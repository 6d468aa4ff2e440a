//! Partitions, their offsets and their replicas, and partitions on their way between brokers.

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::envelope::{Link, ResourceMetadata, collection};
use super::error::V3Error;
use super::paths::{BrokerPath, ClusterPath, PartitionPath, ReplicaPath, TopicPath};
use super::{Scope, V3Result, json};
use crate::engine::topics::Topic;
use crate::http::error::ErrorBody;
use crate::http::state::AppState;

/// The routes of these resources.
pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(get))
        .routes(routes!(offsets))
        .routes(routes!(list_replicas))
        .routes(routes!(get_replica))
        .routes(routes!(list_broker_replicas))
        .routes(routes!(list_all_reassignments))
        .routes(routes!(list_reassignments))
        .routes(routes!(get_reassignment))
}

/// A partition.
#[derive(Debug, Serialize, ToSchema)]
pub struct KafkaPartition {
    /// What this is.
    #[schema(example = "KafkaPartition")]
    pub kind: &'static str,
    /// Where it is.
    pub metadata: ResourceMetadata,
    /// The cluster.
    #[schema(example = "lkc-1")]
    pub cluster_id: String,
    /// The topic.
    #[schema(example = "orders")]
    pub topic_name: String,
    /// Its number.
    #[schema(example = 0)]
    pub partition_id: i32,
    /// The replica that leads; none while the partition is not served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leader: Option<Link>,
    /// Its replicas.
    pub replicas: Link,
    /// Its way to other brokers.
    pub reassignment: Link,
}

collection! {
    /// Partitions.
    KafkaPartitionList of KafkaPartition
}

/// A partition with the ends of its log.
#[derive(Debug, Serialize, ToSchema)]
pub struct KafkaPartitionWithOffsets {
    /// What this is.
    #[schema(example = "KafkaPartitionWithOffsets")]
    pub kind: &'static str,
    /// Where it is.
    pub metadata: ResourceMetadata,
    /// The cluster.
    #[schema(example = "lkc-1")]
    pub cluster_id: String,
    /// The topic.
    #[schema(example = "orders")]
    pub topic_name: String,
    /// Its number.
    #[schema(example = 0)]
    pub partition_id: i32,
    /// First offset that can be read.
    #[schema(example = 0)]
    pub earliest_offset: i64,
    /// Offset that the next record gets.
    #[schema(example = 5)]
    pub latest_offset: i64,
}

/// A replica of a partition.
#[derive(Debug, Serialize, ToSchema)]
pub struct KafkaReplica {
    /// What this is.
    #[schema(example = "KafkaReplica")]
    pub kind: &'static str,
    /// Where it is.
    pub metadata: ResourceMetadata,
    /// The cluster.
    #[schema(example = "lkc-1")]
    pub cluster_id: String,
    /// The topic.
    #[schema(example = "orders")]
    pub topic_name: String,
    /// The partition.
    #[schema(example = 0)]
    pub partition_id: i32,
    /// The broker that has it.
    #[schema(example = 0)]
    pub broker_id: i32,
    /// It leads the partition.
    pub is_leader: bool,
    /// It has every record.
    pub is_in_sync: bool,
    /// The broker that has it.
    pub broker: Link,
}

collection! {
    /// Replicas.
    KafkaReplicaList of KafkaReplica
}

/// A partition on its way between brokers.
#[derive(Debug, Serialize, ToSchema)]
pub struct KafkaReassignment {
    /// What this is.
    #[schema(example = "KafkaReassignment")]
    pub kind: &'static str,
    /// Where it is.
    pub metadata: ResourceMetadata,
    /// The cluster.
    #[schema(example = "lkc-1")]
    pub cluster_id: String,
    /// The topic.
    #[schema(example = "orders")]
    pub topic_name: String,
    /// The partition.
    #[schema(example = 0)]
    pub partition_id: i32,
    /// The brokers that get a replica.
    pub adding_replicas: Vec<i32>,
    /// The brokers that lose theirs.
    pub removing_replicas: Vec<i32>,
    /// The replicas.
    pub replicas: Link,
}

collection! {
    /// Partitions on their way between brokers.
    KafkaReassignmentList of KafkaReassignment
}

/// Whether the partition can be used; a damaged one cannot.
fn is_served(state: &AppState, topic: &Topic, partition: i32) -> bool {
    state.engine.log.bounds(&topic.name, partition).is_ok()
}

fn describe(scope: &Scope, state: &AppState, topic: &Topic, partition_id: i32) -> KafkaPartition {
    let (name, id) = (topic.name.as_str(), partition_id.to_string());
    let node = state.engine.node.id.to_string();
    let path = ["topics", name, "partitions", &id];
    let link = |rest: &[&str]| Link::new(scope, &[&path, rest].concat());
    let leader = is_served(state, topic, partition_id).then(|| link(&["replicas", &node]));
    KafkaPartition {
        kind: "KafkaPartition",
        metadata: ResourceMetadata::new(scope, &path, &[("topic", name), ("partition", &id)]),
        cluster_id: scope.cluster_id.clone(),
        topic_name: name.to_owned(),
        partition_id,
        leader,
        replicas: link(&["replicas"]),
        reassignment: link(&["reassignment"]),
    }
}

fn describe_replica(
    scope: &Scope,
    state: &AppState,
    topic: &Topic,
    partition_id: i32,
) -> KafkaReplica {
    let (name, id) = (topic.name.as_str(), partition_id.to_string());
    let node = state.engine.node.id.to_string();
    let is_served = is_served(state, topic, partition_id);
    let path = ["topics", name, "partitions", &id, "replicas", &node];
    let segments = [("topic", name), ("partition", id.as_str()), ("replica", node.as_str())];
    KafkaReplica {
        kind: "KafkaReplica",
        metadata: ResourceMetadata::new(scope, &path, &segments),
        cluster_id: scope.cluster_id.clone(),
        topic_name: name.to_owned(),
        partition_id,
        broker_id: state.engine.node.id,
        is_leader: is_served,
        is_in_sync: is_served,
        broker: Link::new(scope, &["brokers", &node]),
    }
}

/// Lists the partitions of a topic.
#[utoipa::path(
    get, path = "/v3/clusters/{cluster_id}/topics/{topic_name}/partitions", tag = "clusters",
    operation_id = "listPartitionsV3",
    params(TopicPath),
    responses(
        (status = 200, body = KafkaPartitionList, description = "The partitions, by number"),
        (status = 404, body = ErrorBody, description = "404: no such cluster, 40403: no such topic"),
        (status = 406, body = ErrorBody, description = "The client accepts no JSON"),
    )
)]
pub async fn list(State(state): State<AppState>, scope: Scope) -> V3Result<Response> {
    let topic = scope.topic(&state)?;
    let all = 0..topic.partition_count;
    let data = all.map(|partition| describe(&scope, &state, &topic, partition)).collect();
    let path = ["topics", topic.name.as_str(), "partitions"];
    Ok(json(&KafkaPartitionList::new(&scope, &path, data)))
}

/// Describes a partition.
#[utoipa::path(
    get, path = "/v3/clusters/{cluster_id}/topics/{topic_name}/partitions/{partition_id}",
    tag = "clusters", operation_id = "getPartitionV3",
    params(PartitionPath),
    responses(
        (status = 200, body = KafkaPartition, description = "The partition"),
        (status = 404, body = ErrorBody, description = "404: no such cluster, 40402: no such partition, 40403: no such topic"),
        (status = 406, body = ErrorBody, description = "The client accepts no JSON"),
    )
)]
pub async fn get(State(state): State<AppState>, scope: Scope) -> V3Result<Response> {
    let (topic, partition) = scope.partition(&state)?;
    Ok(json(&describe(&scope, &state, &topic, partition)))
}

/// Tells the ends of a partition's log.
#[utoipa::path(
    get, path = "/v3/clusters/{cluster_id}/topics/{topic_name}/partitions/{partition_id}/offset",
    tag = "clusters", operation_id = "getPartitionOffsetsV3",
    params(
        PartitionPath,
        ("offset_type" = Option<String>, Query, description = "Which offsets; there is one choice",
            example = "earliest_and_latest"),
    ),
    responses(
        (status = 200, body = KafkaPartitionWithOffsets, description = "The partition with its offsets"),
        (status = 400, body = ErrorBody, description = "400: another offset_type"),
        (status = 404, body = ErrorBody, description = "404: no such cluster, 40402: no such partition, 40403: no such topic"),
        (status = 406, body = ErrorBody, description = "The client accepts no JSON"),
    )
)]
pub async fn offsets(State(state): State<AppState>, scope: Scope) -> V3Result<Response> {
    if let Some(other) = scope.query("offset_type")?.filter(|kind| kind != "earliest_and_latest") {
        let message = format!("offset_type '{other}' is not earliest_and_latest");
        return Err(V3Error::bad_request(message));
    }
    let (topic, partition_id) = scope.partition(&state)?;
    let bounds = state.engine.log.bounds(&topic.name, partition_id)?;
    let (name, id) = (topic.name.as_str(), partition_id.to_string());
    let path = ["topics", name, "partitions", &id, "offset"];
    Ok(json(&KafkaPartitionWithOffsets {
        kind: "KafkaPartitionWithOffsets",
        metadata: ResourceMetadata::new(&scope, &path, &[("topic", name), ("partition", &id)]),
        cluster_id: scope.cluster_id.clone(),
        topic_name: name.to_owned(),
        partition_id,
        earliest_offset: bounds.log_start_offset,
        latest_offset: bounds.high_watermark,
    }))
}

/// Lists the replicas of a partition.
#[utoipa::path(
    get, path = "/v3/clusters/{cluster_id}/topics/{topic_name}/partitions/{partition_id}/replicas",
    tag = "clusters", operation_id = "listReplicasV3",
    params(PartitionPath),
    responses(
        (status = 200, body = KafkaReplicaList, description = "The replicas"),
        (status = 404, body = ErrorBody, description = "404: no such cluster, 40402: no such partition, 40403: no such topic"),
        (status = 406, body = ErrorBody, description = "The client accepts no JSON"),
    )
)]
pub async fn list_replicas(State(state): State<AppState>, scope: Scope) -> V3Result<Response> {
    let (topic, partition) = scope.partition(&state)?;
    let data = vec![describe_replica(&scope, &state, &topic, partition)];
    let path = ["topics", topic.name.as_str(), "partitions", &partition.to_string(), "replicas"];
    Ok(json(&KafkaReplicaList::new(&scope, &path, data)))
}

/// Describes a replica.
#[utoipa::path(
    get, path = "/v3/clusters/{cluster_id}/topics/{topic_name}/partitions/{partition_id}/replicas/{broker_id}",
    tag = "clusters", operation_id = "getReplicaV3",
    params(ReplicaPath),
    responses(
        (status = 200, body = KafkaReplica, description = "The replica"),
        (status = 404, body = ErrorBody, description = "404: no such cluster or broker, 40402: no such partition, 40403: no such topic"),
        (status = 406, body = ErrorBody, description = "The client accepts no JSON"),
    )
)]
pub async fn get_replica(State(state): State<AppState>, scope: Scope) -> V3Result<Response> {
    let (topic, partition) = scope.partition(&state)?;
    scope.broker(&state)?;
    Ok(json(&describe_replica(&scope, &state, &topic, partition)))
}

/// Lists the replicas that a broker has.
#[utoipa::path(
    get, path = "/v3/clusters/{cluster_id}/brokers/{broker_id}/partition-replicas",
    tag = "clusters", operation_id = "listBrokerReplicasV3",
    params(BrokerPath),
    responses(
        (status = 200, body = KafkaReplicaList, description = "The replicas, by topic and partition"),
        (status = 404, body = ErrorBody, description = "404: no such cluster or broker"),
        (status = 406, body = ErrorBody, description = "The client accepts no JSON"),
    )
)]
pub async fn list_broker_replicas(
    State(state): State<AppState>,
    scope: Scope,
) -> V3Result<Response> {
    let broker = scope.broker(&state)?.to_string();
    let mut data = Vec::new();
    for topic in state.engine.topics.list() {
        let all = 0..topic.partition_count;
        data.extend(all.map(|partition| describe_replica(&scope, &state, &topic, partition)));
    }
    let path = ["brokers", &broker, "partition-replicas"];
    Ok(json(&KafkaReplicaList::new(&scope, &path, data)))
}

/// Lists the partitions of all topics that are on their way between brokers: none, with one broker.
#[utoipa::path(
    get, path = "/v3/clusters/{cluster_id}/topics/-/partitions/-/reassignment", tag = "clusters",
    operation_id = "listAllReassignmentsV3",
    params(ClusterPath),
    responses(
        (status = 200, body = KafkaReassignmentList, description = "An empty list"),
        (status = 404, body = ErrorBody, description = "404: no such cluster"),
        (status = 406, body = ErrorBody, description = "The client accepts no JSON"),
    )
)]
pub async fn list_all_reassignments(scope: Scope) -> Response {
    let path = ["topics", "-", "partitions", "-", "reassignment"];
    json(&KafkaReassignmentList::new(&scope, &path, Vec::new()))
}

/// Lists the partitions of a topic that are on their way between brokers: none, with one broker.
#[utoipa::path(
    get, path = "/v3/clusters/{cluster_id}/topics/{topic_name}/partitions/-/reassignment",
    tag = "clusters", operation_id = "listTopicReassignmentsV3",
    params(TopicPath),
    responses(
        (status = 200, body = KafkaReassignmentList, description = "An empty list"),
        (status = 404, body = ErrorBody, description = "404: no such cluster, 40403: no such topic"),
        (status = 406, body = ErrorBody, description = "The client accepts no JSON"),
    )
)]
pub async fn list_reassignments(State(state): State<AppState>, scope: Scope) -> V3Result<Response> {
    let topic = scope.topic(&state)?;
    let path = ["topics", topic.name.as_str(), "partitions", "-", "reassignment"];
    Ok(json(&KafkaReassignmentList::new(&scope, &path, Vec::new())))
}

/// Describes the way of a partition between brokers: there is none, with one broker.
#[utoipa::path(
    get, path = "/v3/clusters/{cluster_id}/topics/{topic_name}/partitions/{partition_id}/reassignment",
    tag = "clusters", operation_id = "getReassignmentV3",
    params(PartitionPath),
    responses(
        (status = 200, body = KafkaReassignment, description = "Not with one broker"),
        (status = 404, body = ErrorBody, description = "404: no such cluster, or the partition stays where it is, 40402: no such partition, 40403: no such topic"),
        (status = 406, body = ErrorBody, description = "The client accepts no JSON"),
    )
)]
pub async fn get_reassignment(State(state): State<AppState>, scope: Scope) -> V3Result<Response> {
    let (topic, partition) = scope.partition(&state)?;
    let message = format!("partition {partition} of topic '{}' is not reassigned", topic.name);
    Err(V3Error::not_found(message))
}
