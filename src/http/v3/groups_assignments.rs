//! What the members of consumer groups read.

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::envelope::{Link, ResourceMetadata, collection};
use super::groups::{find, find_member};
use super::{Scope, V3Error, V3Result, json};
use crate::base::ids::TopicPartition;
use crate::http::error::ErrorBody;
use crate::http::groups;
use crate::http::state::AppState;

/// The routes of this resource.
pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(get))
}

/// A partition that a member of a consumer group reads.
#[derive(Debug, Serialize, ToSchema)]
pub struct KafkaConsumerAssignment {
    /// What this is.
    #[schema(example = "KafkaConsumerAssignment")]
    pub kind: &'static str,
    /// Where it is.
    pub metadata: ResourceMetadata,
    /// The cluster it belongs to.
    #[schema(example = "lkc-1")]
    pub cluster_id: String,
    /// The group of the member.
    #[schema(example = "billing")]
    pub consumer_group_id: String,
    /// The member.
    #[schema(example = "worker-1-5b8e1a9c-6d4f-4c0e-9f0b-2a7c3d1e8f60")]
    pub consumer_id: String,
    /// The topic.
    #[schema(example = "orders")]
    pub topic_name: String,
    /// The partition.
    #[schema(example = 0)]
    pub partition_id: i32,
    /// The partition, as a resource.
    pub partition: Link,
    /// How far the group is behind on it.
    pub lag: Link,
}

collection! {
    /// The partitions that a member of a consumer group reads.
    KafkaConsumerAssignmentList of KafkaConsumerAssignment
}

fn describe(
    scope: &Scope,
    group: &str,
    member: &str,
    assigned: &TopicPartition,
) -> KafkaConsumerAssignment {
    let (topic, number) = (assigned.topic.as_str(), assigned.partition.to_string());
    let own = ["consumer-groups", group, "consumers", member, "assignments"];
    let place = [topic, "partitions", &number];
    let path: Vec<&str> = own.into_iter().chain(place).collect();
    let lag = ["consumer-groups", group, "lags"];
    let lag: Vec<&str> = lag.into_iter().chain(place).collect();
    let name = [
        ("consumer-group", group),
        ("consumer", member),
        ("assignment", topic),
        ("partition", &number),
    ];
    KafkaConsumerAssignment {
        kind: "KafkaConsumerAssignment",
        metadata: ResourceMetadata::new(scope, &path, &name),
        cluster_id: scope.cluster_id.clone(),
        consumer_group_id: group.to_owned(),
        consumer_id: member.to_owned(),
        topic_name: topic.to_owned(),
        partition_id: assigned.partition,
        partition: Link::new(scope, &["topics", topic, "partitions", &number]),
        lag: Link::new(scope, &lag),
    }
}

/// Lists the partitions that a member of a consumer group reads.
#[utoipa::path(
    get,
    path = "/v3/clusters/{cluster_id}/consumer-groups/{consumer_group_id}/consumers/{consumer_id}/assignments",
    tag = "groups", operation_id = "listConsumerAssignmentsV3",
    params(
        ("cluster_id" = String, Path, description = "Identity of the cluster", example = "lkc-1"),
        ("consumer_group_id" = String, Path, description = "Id of the group", example = "billing"),
        ("consumer_id" = String, Path, description = "Id of the member", example = "worker-1-5b8e1a9c"),
    ),
    responses(
        (status = 200, body = KafkaConsumerAssignmentList),
        (status = 404, body = ErrorBody, description = "404: no such cluster, group or member"),
        (status = 406, body = ErrorBody),
    )
)]
pub async fn list(State(state): State<AppState>, scope: Scope) -> V3Result<Response> {
    let group = find(&scope, &state)?;
    let member = find_member(&scope, &group)?;
    let (group_id, member_id) = (group.group_id.as_str(), member.member_id.as_str());
    let assigned = groups::assignment(&group, member);
    let data = assigned.iter().map(|assigned| describe(&scope, group_id, member_id, assigned));
    let path = ["consumer-groups", group_id, "consumers", member_id, "assignments"];
    Ok(json(&KafkaConsumerAssignmentList::new(&scope, &path, data.collect())))
}

/// Describes a partition that a member of a consumer group reads.
#[utoipa::path(
    get,
    path = "/v3/clusters/{cluster_id}/consumer-groups/{consumer_group_id}/consumers/{consumer_id}/assignments/{topic_name}/partitions/{partition_id}",
    tag = "groups", operation_id = "getConsumerAssignmentV3",
    params(
        ("cluster_id" = String, Path, description = "Identity of the cluster", example = "lkc-1"),
        ("consumer_group_id" = String, Path, description = "Id of the group", example = "billing"),
        ("consumer_id" = String, Path, description = "Id of the member", example = "worker-1-5b8e1a9c"),
        ("topic_name" = String, Path, description = "Name of the topic", example = "orders"),
        ("partition_id" = i32, Path, description = "Number of the partition", example = 0),
    ),
    responses(
        (status = 200, body = KafkaConsumerAssignment),
        (status = 404, body = ErrorBody,
            description = "404: no such cluster, group or member, or it does not read the partition"),
        (status = 406, body = ErrorBody),
    )
)]
pub async fn get(State(state): State<AppState>, scope: Scope) -> V3Result<Response> {
    let group = find(&scope, &state)?;
    let member = find_member(&scope, &group)?;
    let (topic, number) = (scope.text("topic_name"), scope.number("partition_id")?);
    let assigned = groups::assignment(&group, member);
    let found = assigned.iter().find(|p| p.topic.as_str() == topic && p.partition == number);
    let (group_id, member_id) = (group.group_id.as_str(), member.member_id.as_str());
    let found = found.ok_or_else(|| {
        let message = format!("consumer '{member_id}' does not read {topic}-{number}");
        V3Error::not_found(message)
    })?;
    Ok(json(&describe(&scope, group_id, member_id, found)))
}
