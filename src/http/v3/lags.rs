//! How far consumer groups are behind.

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::envelope::{Link, ResourceMetadata, collection};
use super::groups::find;
use super::{Scope, V3Error, V3Result, json};
use crate::http::error::ErrorBody;
use crate::http::groups::{self, Lag};
use crate::http::state::AppState;

/// The routes of this resource.
pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(summary)).routes(routes!(list)).routes(routes!(get))
}

/// How far a consumer group is behind on one partition.
#[derive(Debug, Serialize, ToSchema)]
pub struct KafkaConsumerLag {
    /// What this is.
    #[schema(example = "KafkaConsumerLag")]
    pub kind: &'static str,
    /// Where it is.
    pub metadata: ResourceMetadata,
    /// The cluster it belongs to.
    #[schema(example = "lkc-1")]
    pub cluster_id: String,
    /// The group.
    #[schema(example = "billing")]
    pub consumer_group_id: String,
    /// The topic.
    #[schema(example = "orders")]
    pub topic_name: String,
    /// The partition.
    #[schema(example = 0)]
    pub partition_id: i32,
    /// The next offset the group will read.
    #[schema(example = 40)]
    pub current_offset: i64,
    /// Offset after the last record.
    #[schema(example = 42)]
    pub log_end_offset: i64,
    /// Records between the two.
    #[schema(example = 2)]
    pub lag: i64,
    /// The member that reads the partition; empty if nobody does.
    #[schema(example = "worker-1-5b8e1a9c-6d4f-4c0e-9f0b-2a7c3d1e8f60")]
    pub consumer_id: String,
    /// The identity of a static member.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<String>,
    /// The client's own name; empty if nobody reads the partition.
    #[schema(example = "worker-1")]
    pub client_id: String,
}

collection! {
    /// How far a consumer group is behind on each partition, the largest lag first.
    KafkaConsumerLagList of KafkaConsumerLag
}

/// How far a consumer group is behind.
#[derive(Debug, Serialize, ToSchema)]
pub struct KafkaConsumerGroupLagSummary {
    /// What this is.
    #[schema(example = "KafkaConsumerGroupLagSummary")]
    pub kind: &'static str,
    /// Where it is.
    pub metadata: ResourceMetadata,
    /// The cluster it belongs to.
    #[schema(example = "lkc-1")]
    pub cluster_id: String,
    /// The group.
    #[schema(example = "billing")]
    pub consumer_group_id: String,
    /// The member that reads the partition with the largest lag; empty if nobody does.
    #[schema(example = "worker-1-5b8e1a9c-6d4f-4c0e-9f0b-2a7c3d1e8f60")]
    pub max_lag_consumer_id: String,
    /// The identity of that member if it is a static one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_lag_instance_id: Option<String>,
    /// That client's own name; empty if nobody reads the partition.
    #[schema(example = "worker-1")]
    pub max_lag_client_id: String,
    /// The topic of the partition with the largest lag.
    #[schema(example = "orders")]
    pub max_lag_topic_name: String,
    /// The partition with the largest lag.
    #[schema(example = 0)]
    pub max_lag_partition_id: i32,
    /// The largest lag.
    #[schema(example = 2)]
    pub max_lag: i64,
    /// The sum of all lags.
    #[schema(example = 3)]
    pub total_lag: i64,
    /// The member that reads the partition with the largest lag.
    pub max_lag_consumer: Link,
    /// The partition with the largest lag.
    pub max_lag_partition: Link,
}

fn describe(scope: &Scope, group: &str, lag: &Lag) -> KafkaConsumerLag {
    let (topic, number) = (lag.partition.topic.as_str(), lag.partition.partition.to_string());
    let path = ["consumer-groups", group, "lags", topic, "partitions", &number];
    let name = [("consumer-group", group), ("lag", topic), ("partition", &number)];
    let owner = lag.owner.as_ref();
    KafkaConsumerLag {
        kind: "KafkaConsumerLag",
        metadata: ResourceMetadata::new(scope, &path, &name),
        cluster_id: scope.cluster_id.clone(),
        consumer_group_id: group.to_owned(),
        topic_name: topic.to_owned(),
        partition_id: lag.partition.partition,
        current_offset: lag.committed.offset,
        log_end_offset: lag.log_end_offset,
        lag: lag.lag,
        consumer_id: owner.map(|owner| owner.member_id.clone()).unwrap_or_default(),
        instance_id: owner.and_then(|owner| owner.instance_id.clone()),
        client_id: owner.map(|owner| owner.client_id.clone()).unwrap_or_default(),
    }
}

/// Tells how far a consumer group is behind.
#[utoipa::path(
    get, path = "/v3/clusters/{cluster_id}/consumer-groups/{consumer_group_id}/lag-summary",
    tag = "groups", operation_id = "getConsumerGroupLagSummaryV3",
    params(
        ("cluster_id" = String, Path, description = "Identity of the cluster", example = "lkc-1"),
        ("consumer_group_id" = String, Path, description = "Id of the group", example = "billing"),
    ),
    responses(
        (status = 200, body = KafkaConsumerGroupLagSummary),
        (status = 404, body = ErrorBody,
            description = "404: no such cluster or group, or the group has committed nothing"),
        (status = 406, body = ErrorBody),
    )
)]
pub async fn summary(State(state): State<AppState>, scope: Scope) -> V3Result<Response> {
    let group = find(&scope, &state)?;
    let id = group.group_id.as_str();
    let lags = groups::lags(&state, &group)?;
    let total_lag = groups::total(&lags);
    let max = lags.first().map(|lag| describe(&scope, id, lag));
    let nothing = || V3Error::not_found(format!("consumer group '{id}' has no committed offsets"));
    let max = max.ok_or_else(nothing)?;
    let partition = max.partition_id.to_string();
    let member = ["consumer-groups", id, "consumers", &max.consumer_id];
    let name = [("consumer-groups", id), ("lag-summary", "")];
    Ok(json(&KafkaConsumerGroupLagSummary {
        kind: "KafkaConsumerGroupLagSummary",
        metadata: ResourceMetadata::new(&scope, &["consumer-groups", id, "lag-summary"], &name),
        cluster_id: scope.cluster_id.clone(),
        consumer_group_id: id.to_owned(),
        max_lag_consumer: Link::new(&scope, &member),
        max_lag_partition: Link::new(
            &scope,
            &["topics", &max.topic_name, "partitions", &partition],
        ),
        max_lag_consumer_id: max.consumer_id,
        max_lag_instance_id: max.instance_id,
        max_lag_client_id: max.client_id,
        max_lag_topic_name: max.topic_name,
        max_lag_partition_id: max.partition_id,
        max_lag: max.lag,
        total_lag,
    }))
}

/// Tells how far a consumer group is behind on each partition, the largest lag first.
#[utoipa::path(
    get, path = "/v3/clusters/{cluster_id}/consumer-groups/{consumer_group_id}/lags",
    tag = "groups", operation_id = "listConsumerLagsV3",
    params(
        ("cluster_id" = String, Path, description = "Identity of the cluster", example = "lkc-1"),
        ("consumer_group_id" = String, Path, description = "Id of the group", example = "billing"),
    ),
    responses(
        (status = 200, body = KafkaConsumerLagList),
        (status = 404, body = ErrorBody, description = "404: no such cluster or group"),
        (status = 406, body = ErrorBody),
    )
)]
pub async fn list(State(state): State<AppState>, scope: Scope) -> V3Result<Response> {
    let group = find(&scope, &state)?;
    let id = group.group_id.as_str();
    let lags = groups::lags(&state, &group)?;
    let data = lags.iter().map(|lag| describe(&scope, id, lag)).collect();
    Ok(json(&KafkaConsumerLagList::new(&scope, &["consumer-groups", id, "lags"], data)))
}

/// Tells how far a consumer group is behind on one partition.
#[utoipa::path(
    get,
    path = "/v3/clusters/{cluster_id}/consumer-groups/{consumer_group_id}/lags/{topic_name}/partitions/{partition_id}",
    tag = "groups", operation_id = "getConsumerLagV3",
    params(
        ("cluster_id" = String, Path, description = "Identity of the cluster", example = "lkc-1"),
        ("consumer_group_id" = String, Path, description = "Id of the group", example = "billing"),
        ("topic_name" = String, Path, description = "Name of the topic", example = "orders"),
        ("partition_id" = i32, Path, description = "Number of the partition", example = 0),
    ),
    responses(
        (status = 200, body = KafkaConsumerLag),
        (status = 404, body = ErrorBody,
            description = "404: no such cluster or group, or the group has committed nothing there"),
        (status = 406, body = ErrorBody),
    )
)]
pub async fn get(State(state): State<AppState>, scope: Scope) -> V3Result<Response> {
    let group = find(&scope, &state)?;
    let (topic, number) = (scope.text("topic_name"), scope.number("partition_id")?);
    let lags = groups::lags(&state, &group)?;
    let id = group.group_id.as_str();
    let of =
        |lag: &&Lag| lag.partition.topic.as_str() == topic && lag.partition.partition == number;
    let found = lags.iter().find(of).ok_or_else(|| {
        let message = format!("consumer group '{id}' has no committed offset for {topic}-{number}");
        V3Error::not_found(message)
    })?;
    Ok(json(&describe(&scope, id, found)))
}
