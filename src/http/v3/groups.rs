//! Consumer groups and the members of each.

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::envelope::{Link, ResourceMetadata, collection};
use super::{Scope, V3Error, V3Result, json};
use crate::engine::groups::{GroupDescription, GroupState, MemberDescription};
use crate::http::error::ErrorBody;
use crate::http::groups;
use crate::http::state::AppState;
use crate::protocol::consumer_protocol::PROTOCOL_TYPE;

/// The routes of this resource.
pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(get))
        .routes(routes!(list_consumers))
        .routes(routes!(get_consumer))
}

/// A consumer group.
#[derive(Debug, Serialize, ToSchema)]
pub struct KafkaConsumerGroup {
    /// What this is.
    #[schema(example = "KafkaConsumerGroup")]
    pub kind: &'static str,
    /// Where it is.
    pub metadata: ResourceMetadata,
    /// The cluster it belongs to.
    #[schema(example = "lkc-1")]
    pub cluster_id: String,
    /// Its id.
    #[schema(example = "billing")]
    pub consumer_group_id: String,
    /// It never had a member: clients only commit in its name.
    pub is_simple: bool,
    /// The rule by which partitions are assigned; empty unless the group is stable.
    #[schema(example = "range")]
    pub partition_assignor: String,
    /// What it is doing.
    pub state: ConsumerGroupState,
    /// The protocol of its members.
    #[serde(rename = "type")]
    pub group_type: ConsumerGroupType,
    /// Whether members of both protocols are in it.
    pub is_mixed_consumer_group: bool,
    /// The broker that coordinates it.
    pub coordinator: Link,
    /// Its members.
    pub consumers: Link,
    /// How far it is behind.
    pub lag_summary: Link,
}

collection! {
    /// Consumer groups, by id.
    KafkaConsumerGroupList of KafkaConsumerGroup
}

/// What a consumer group is doing.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ConsumerGroupState {
    /// Members are asked to join the next generation.
    PreparingRebalance,
    /// The next generation is formed, its assignment is awaited.
    CompletingRebalance,
    /// Every member has its assignment.
    Stable,
    /// It does not exist.
    Dead,
    /// It has no members.
    Empty,
}

/// The protocol of a group's members.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ConsumerGroupType {
    /// Members assign the partitions among themselves.
    Classic,
}

/// A member of a consumer group.
#[derive(Debug, Serialize, ToSchema)]
pub struct KafkaConsumer {
    /// What this is.
    #[schema(example = "KafkaConsumer")]
    pub kind: &'static str,
    /// Where it is.
    pub metadata: ResourceMetadata,
    /// The cluster it belongs to.
    #[schema(example = "lkc-1")]
    pub cluster_id: String,
    /// Its group.
    #[schema(example = "billing")]
    pub consumer_group_id: String,
    /// Its id, given by the server.
    #[schema(example = "worker-1-5b8e1a9c-6d4f-4c0e-9f0b-2a7c3d1e8f60")]
    pub consumer_id: String,
    /// The identity of a static member.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<String>,
    /// The client's own name; of an HTTP consumer instance, the name of the instance.
    #[schema(example = "worker-1")]
    pub client_id: String,
    /// What it reads.
    pub assignments: Link,
}

collection! {
    /// The members of a consumer group.
    KafkaConsumerList of KafkaConsumer
}

impl From<GroupState> for ConsumerGroupState {
    fn from(state: GroupState) -> Self {
        match state {
            GroupState::Empty => Self::Empty,
            GroupState::PreparingRebalance => Self::PreparingRebalance,
            GroupState::CompletingRebalance => Self::CompletingRebalance,
            GroupState::Stable => Self::Stable,
            GroupState::Dead => Self::Dead,
        }
    }
}

/// Groups of other protocols, such as those of Kafka Connect, are not consumer groups.
fn is_consumer_group(group: &GroupDescription) -> bool {
    group.protocol_type.is_empty() || group.protocol_type == PROTOCOL_TYPE
}

/// The group of the path.
pub(super) fn find(scope: &Scope, state: &AppState) -> V3Result<GroupDescription> {
    let id = scope.text("consumer_group_id");
    let found = groups::find(state, id).filter(is_consumer_group);
    found.ok_or_else(|| V3Error::not_found(format!("consumer group '{id}' does not exist")))
}

/// The member of the path, out of its group.
pub(super) fn find_member<'a>(
    scope: &Scope,
    group: &'a GroupDescription,
) -> V3Result<&'a MemberDescription> {
    let id = scope.text("consumer_id");
    let found = group.members.iter().find(|member| member.member_id.as_str() == id);
    found.ok_or_else(|| {
        let group = group.group_id.as_str();
        V3Error::not_found(format!("consumer '{id}' is not a member of group '{group}'"))
    })
}

fn describe(scope: &Scope, state: &AppState, group: &GroupDescription) -> KafkaConsumerGroup {
    let id = group.group_id.as_str();
    let path = ["consumer-groups", id];
    let [groups, id_segment] = path;
    KafkaConsumerGroup {
        kind: "KafkaConsumerGroup",
        metadata: ResourceMetadata::new(scope, &path, &[("consumer-group", id)]),
        cluster_id: scope.cluster_id.clone(),
        consumer_group_id: id.to_owned(),
        is_simple: group.protocol_type.is_empty(),
        partition_assignor: group.protocol_name.clone(),
        state: group.state.into(),
        group_type: ConsumerGroupType::Classic,
        is_mixed_consumer_group: false,
        coordinator: Link::new(scope, &["brokers", &state.engine.node.id.to_string()]),
        consumers: Link::new(scope, &[groups, id_segment, "consumers"]),
        lag_summary: Link::new(scope, &[groups, id_segment, "lag-summary"]),
    }
}

fn describe_member(scope: &Scope, group: &str, member: &MemberDescription) -> KafkaConsumer {
    let id = member.member_id.as_str();
    let path = ["consumer-groups", group, "consumers", id];
    let name = [("consumer-group", group), ("consumer", id)];
    KafkaConsumer {
        kind: "KafkaConsumer",
        metadata: ResourceMetadata::new(scope, &path, &name),
        cluster_id: scope.cluster_id.clone(),
        consumer_group_id: group.to_owned(),
        consumer_id: id.to_owned(),
        instance_id: member.group_instance_id.clone(),
        client_id: member.client_id.clone(),
        assignments: Link::new(scope, &["consumer-groups", group, "consumers", id, "assignments"]),
    }
}

/// Lists the consumer groups of a cluster.
#[utoipa::path(
    get, path = "/v3/clusters/{cluster_id}/consumer-groups", tag = "groups",
    operation_id = "listConsumerGroupsV3",
    params(("cluster_id" = String, Path, description = "Identity of the cluster", example = "lkc-1")),
    responses(
        (status = 200, body = KafkaConsumerGroupList),
        (status = 404, body = ErrorBody, description = "404: no such cluster"),
        (status = 406, body = ErrorBody),
    )
)]
pub async fn list(State(state): State<AppState>, scope: Scope) -> Response {
    let all = state.engine.groups.list();
    let groups = all.iter().filter(|group| is_consumer_group(group));
    let groups = groups.map(|group| describe(&scope, &state, group)).collect();
    json(&KafkaConsumerGroupList::new(&scope, &["consumer-groups"], groups))
}

/// Describes a consumer group.
#[utoipa::path(
    get, path = "/v3/clusters/{cluster_id}/consumer-groups/{consumer_group_id}", tag = "groups",
    operation_id = "getConsumerGroupV3",
    params(
        ("cluster_id" = String, Path, description = "Identity of the cluster", example = "lkc-1"),
        ("consumer_group_id" = String, Path, description = "Id of the group", example = "billing"),
    ),
    responses(
        (status = 200, body = KafkaConsumerGroup),
        (status = 404, body = ErrorBody, description = "404: no such cluster or group"),
        (status = 406, body = ErrorBody),
    )
)]
pub async fn get(State(state): State<AppState>, scope: Scope) -> V3Result<Response> {
    Ok(json(&describe(&scope, &state, &find(&scope, &state)?)))
}

/// Lists the members of a consumer group.
#[utoipa::path(
    get, path = "/v3/clusters/{cluster_id}/consumer-groups/{consumer_group_id}/consumers",
    tag = "groups", operation_id = "listConsumersV3",
    params(
        ("cluster_id" = String, Path, description = "Identity of the cluster", example = "lkc-1"),
        ("consumer_group_id" = String, Path, description = "Id of the group", example = "billing"),
    ),
    responses(
        (status = 200, body = KafkaConsumerList),
        (status = 404, body = ErrorBody, description = "404: no such cluster or group"),
        (status = 406, body = ErrorBody),
    )
)]
pub async fn list_consumers(State(state): State<AppState>, scope: Scope) -> V3Result<Response> {
    let group = find(&scope, &state)?;
    let id = group.group_id.as_str();
    let members = group.members.iter().map(|member| describe_member(&scope, id, member));
    let path = ["consumer-groups", id, "consumers"];
    Ok(json(&KafkaConsumerList::new(&scope, &path, members.collect())))
}

/// Describes a member of a consumer group.
#[utoipa::path(
    get,
    path = "/v3/clusters/{cluster_id}/consumer-groups/{consumer_group_id}/consumers/{consumer_id}",
    tag = "groups", operation_id = "getConsumerV3",
    params(
        ("cluster_id" = String, Path, description = "Identity of the cluster", example = "lkc-1"),
        ("consumer_group_id" = String, Path, description = "Id of the group", example = "billing"),
        ("consumer_id" = String, Path, description = "Id of the member", example = "worker-1-5b8e1a9c"),
    ),
    responses(
        (status = 200, body = KafkaConsumer),
        (status = 404, body = ErrorBody, description = "404: no such cluster, group or member"),
        (status = 406, body = ErrorBody),
    )
)]
pub async fn get_consumer(State(state): State<AppState>, scope: Scope) -> V3Result<Response> {
    let group = find(&scope, &state)?;
    let member = find_member(&scope, &group)?;
    Ok(json(&describe_member(&scope, group.group_id.as_str(), member)))
}
