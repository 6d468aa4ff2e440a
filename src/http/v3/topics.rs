//! Topics.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::envelope::{Link, ResourceMetadata, collection};
use super::error::{self, V3Error};
use super::paths::{ClusterPath, TopicPath};
use super::{Scope, V3Result, configs, json, json_with, request};
use crate::engine::configs::Execution;
use crate::engine::topics::{CreatePartitions, CreateTopic, Topic};
use crate::http::error::ErrorBody;
use crate::http::state::AppState;

/// The routes of this resource.
pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(get, grow, delete))
}

/// Replicas of every partition: there is one node.
const REPLICATION_FACTOR: i32 = 1;

/// Leaves a number to the server.
const BY_DEFAULT: i32 = -1;

/// What a client may do with a topic: everything, as there is no access control.
const OPERATIONS: [&str; 8] =
    ["ALTER", "ALTER_CONFIGS", "CREATE", "DELETE", "DESCRIBE", "DESCRIBE_CONFIGS", "READ", "WRITE"];

/// A topic.
#[derive(Debug, Serialize, ToSchema)]
pub struct KafkaTopic {
    /// What this is.
    #[schema(example = "KafkaTopic")]
    pub kind: &'static str,
    /// Where it is.
    pub metadata: ResourceMetadata,
    /// The cluster.
    #[schema(example = "lkc-1")]
    pub cluster_id: String,
    /// Its name.
    #[schema(example = "orders")]
    pub topic_name: String,
    /// It belongs to the broker, not to users.
    pub is_internal: bool,
    /// Replicas of each partition.
    #[schema(example = 1)]
    pub replication_factor: i32,
    /// Number of partitions.
    #[schema(example = 4)]
    pub partitions_count: i32,
    /// Its partitions.
    pub partitions: Link,
    /// Its configuration.
    pub configs: Link,
    /// Its partitions on their way between brokers.
    pub partition_reassignments: Link,
    /// What the client may do with it, if that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = json!(["DESCRIBE", "READ"]))]
    pub authorized_operations: Option<Vec<&'static str>>,
}

collection! {
    /// Topics.
    KafkaTopicList of KafkaTopic
}

fn describe(scope: &Scope, topic: &Topic) -> KafkaTopic {
    let name = topic.name.as_str();
    let link = |rest: &[&str]| Link::new(scope, &[&["topics", name], rest].concat());
    KafkaTopic {
        kind: "KafkaTopic",
        metadata: ResourceMetadata::new(scope, &["topics", name], &[("topic", name)]),
        cluster_id: scope.cluster_id.clone(),
        topic_name: name.to_owned(),
        is_internal: topic.is_internal,
        replication_factor: REPLICATION_FACTOR,
        partitions_count: topic.partition_count,
        partitions: link(&["partitions"]),
        configs: link(&["configs"]),
        partition_reassignments: link(&["partitions", "-", "reassignment"]),
        authorized_operations: None,
    }
}

/// Reads whether operations are asked for; both spellings are in use.
fn authorized_operations(scope: &Scope) -> V3Result<Option<Vec<&'static str>>> {
    for name in ["include_authorized_operations", "includeAuthorizedOperations"] {
        match scope.query(name)?.as_deref() {
            None | Some("false") => {}
            Some("true") => return Ok(Some(OPERATIONS.to_vec())),
            Some(other) => {
                let message = format!("{name} '{other}' is neither true nor false");
                return Err(V3Error::bad_request(message));
            }
        }
    }
    Ok(None)
}

/// Lists the topics of a cluster by name, the internal ones included.
#[utoipa::path(
    get, path = "/v3/clusters/{cluster_id}/topics", tag = "clusters", operation_id = "listTopicsV3",
    params(
        ClusterPath,
        ("includeAuthorizedOperations" = Option<bool>, Query,
            description = "Tell what the client may do with each", example = false),
    ),
    responses(
        (status = 200, body = KafkaTopicList, description = "The topics"),
        (status = 400, body = ErrorBody, description = "400: a parameter is neither true nor false"),
        (status = 404, body = ErrorBody, description = "404: no such cluster"),
        (status = 406, body = ErrorBody, description = "The client accepts no JSON"),
    )
)]
pub async fn list(State(state): State<AppState>, scope: Scope) -> V3Result<Response> {
    let operations = authorized_operations(&scope)?;
    let topics = state.engine.topics.list();
    let describe = |topic: &std::sync::Arc<Topic>| KafkaTopic {
        authorized_operations: operations.clone(),
        ..describe(&scope, topic)
    };
    let data = topics.iter().map(describe).collect();
    Ok(json(&KafkaTopicList::new(&scope, &["topics"], data)))
}

/// Describes a topic.
#[utoipa::path(
    get, path = "/v3/clusters/{cluster_id}/topics/{topic_name}", tag = "clusters",
    operation_id = "getTopicV3",
    params(
        TopicPath,
        ("include_authorized_operations" = Option<bool>, Query,
            description = "Tell what the client may do with it", example = false),
    ),
    responses(
        (status = 200, body = KafkaTopic, description = "The topic"),
        (status = 400, body = ErrorBody, description = "400: a parameter is neither true nor false"),
        (status = 404, body = ErrorBody, description = "404: no such cluster, 40403: no such topic"),
        (status = 406, body = ErrorBody, description = "The client accepts no JSON"),
    )
)]
pub async fn get(State(state): State<AppState>, scope: Scope) -> V3Result<Response> {
    let operations = authorized_operations(&scope)?;
    let topic = scope.topic(&state)?;
    json_ok(&KafkaTopic { authorized_operations: operations, ..describe(&scope, &topic) })
}

fn json_ok(topic: &KafkaTopic) -> V3Result<Response> {
    Ok(json(topic))
}

/// A topic to create.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateTopicRequest {
    /// Its name.
    #[schema(example = "orders")]
    pub topic_name: String,
    /// Number of partitions; the server's default if absent.
    #[serde(default)]
    #[schema(example = 4)]
    pub partitions_count: Option<i32>,
    /// Replicas of each partition; one node offers 1.
    #[serde(default)]
    #[schema(example = 1)]
    pub replication_factor: Option<i32>,
    /// The brokers of each partition; it determines both numbers.
    #[serde(default)]
    #[schema(example = json!({"0": [0], "1": [0]}))]
    pub replicas_assignments: Option<BTreeMap<String, Vec<i32>>>,
    /// Its configuration.
    #[serde(default)]
    pub configs: Option<Vec<CreateTopicConfig>>,
    /// Check only.
    #[serde(default)]
    pub validate_only: Option<bool>,
}

/// An entry of the configuration of a topic to create.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateTopicConfig {
    /// Kafka's name of the entry.
    #[schema(example = "cleanup.policy")]
    pub name: String,
    /// Its value.
    #[serde(default, deserialize_with = "configs::scalar")]
    #[schema(example = "compact")]
    pub value: Option<String>,
}

/// Creates a topic.
#[utoipa::path(
    post, path = "/v3/clusters/{cluster_id}/topics", tag = "clusters",
    operation_id = "createTopicV3",
    params(ClusterPath),
    request_body(content = CreateTopicRequest, content_type = "application/json",
        example = json!({"topic_name": "orders", "partitions_count": 4,
            "configs": [{"name": "cleanup.policy", "value": "compact"}]})),
    responses(
        (status = 200, body = KafkaTopic, description = "The topic could be created (`validate_only`)"),
        (status = 201, body = KafkaTopic, description = "The topic exists and survives a crash",
            headers(("Location" = String, description = "Its URL"))),
        (status = 400, body = ErrorBody, description = "400: the body cannot be read, 40002: the topic exists, or a number or entry is invalid"),
        (status = 404, body = ErrorBody, description = "404: no such cluster"),
        (status = 415, body = ErrorBody, description = "The body is not JSON"),
        (status = 422, body = ErrorBody, description = "42206: there is no body, a member is missing, or the name breaks a rule"),
    )
)]
pub async fn create(
    State(state): State<AppState>,
    scope: Scope,
    headers: HeaderMap,
    body: Body,
) -> V3Result<Response> {
    let wanted: CreateTopicRequest = request::read(&state, &headers, body).await?;
    let is_dry_run = wanted.validate_only == Some(true);
    let (partition_count, replication_factor) = shape(&wanted, state.engine.node.id)?;
    let configs = wanted.configs.unwrap_or_default().into_iter();
    let created = state.engine.topics.create(CreateTopic {
        name: wanted.topic_name,
        partition_count,
        replication_factor,
        configs: configs.map(|entry| (entry.name, entry.value)).collect(),
        dry_run: is_dry_run,
    });
    let topic = describe(&scope, &*created.await.map_err(error::create_topic)?);
    if is_dry_run {
        return json_ok(&topic);
    }
    let mut response = json_with(StatusCode::CREATED, &topic);
    // Links consist of checked hosts and percent-encoded segments, so they are header values.
    if let Ok(location) = HeaderValue::from_str(&topic.metadata.self_url) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// The partition count and replication factor asked for, by number or by assignment.
fn shape(wanted: &CreateTopicRequest, node_id: i32) -> V3Result<(Option<i32>, Option<i32>)> {
    let given = |number: Option<i32>| number.filter(|number| *number != BY_DEFAULT);
    let Some(assignments) = wanted.replicas_assignments.as_ref().filter(|a| !a.is_empty()) else {
        return Ok((given(wanted.partitions_count), given(wanted.replication_factor)));
    };
    let mut numbers: Vec<i32> = assignments.keys().filter_map(|key| key.parse().ok()).collect();
    numbers.sort_unstable();
    let is_gapless = numbers.iter().zip(0..).all(|(number, expected)| *number == expected);
    let is_here = assignments.values().all(|brokers| *brokers == [node_id]);
    if numbers.len() != assignments.len() || !is_gapless || !is_here {
        let message = format!(
            "replicas_assignments must number partitions from 0, each on broker {node_id} alone"
        );
        return Err(V3Error::refused(message));
    }
    Ok((i32::try_from(numbers.len()).ok(), Some(REPLICATION_FACTOR)))
}

/// How a topic shall be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdatePartitionCountRequest {
    /// Number of partitions; more than the topic has.
    #[schema(example = 8)]
    pub partitions_count: i32,
}

/// Gives a topic more partitions.
#[utoipa::path(
    patch, path = "/v3/clusters/{cluster_id}/topics/{topic_name}", tag = "clusters",
    operation_id = "updatePartitionCountV3",
    params(TopicPath),
    request_body(content = UpdatePartitionCountRequest, content_type = "application/json",
        example = json!({"partitions_count": 8})),
    responses(
        (status = 200, body = KafkaTopic, description = "The partitions exist and survive a crash"),
        (status = 400, body = ErrorBody, description = "400: the body cannot be read, 40002: the number is not larger, or too large"),
        (status = 404, body = ErrorBody, description = "404: no such cluster, 40403: no such topic"),
        (status = 415, body = ErrorBody, description = "The body is not JSON"),
        (status = 422, body = ErrorBody, description = "42206: there is no body, or a member is missing"),
    )
)]
pub async fn grow(
    State(state): State<AppState>,
    scope: Scope,
    headers: HeaderMap,
    body: Body,
) -> V3Result<Response> {
    let wanted: UpdatePartitionCountRequest = request::read(&state, &headers, body).await?;
    let topic = scope.topic(&state)?;
    let grown = state.engine.topics.create_partitions(CreatePartitions {
        topic: topic.name.to_string(),
        partition_count: wanted.partitions_count,
        execution: Execution::Perform,
    });
    json_ok(&describe(&scope, &*grown.await?))
}

/// Deletes a topic and its records.
#[utoipa::path(
    delete, path = "/v3/clusters/{cluster_id}/topics/{topic_name}", tag = "clusters",
    operation_id = "deleteTopicV3",
    params(TopicPath),
    responses(
        (status = 204, description = "The topic is gone"),
        (status = 403, body = ErrorBody, description = "40301: the topic is internal"),
        (status = 404, body = ErrorBody, description = "404: no such cluster, 40403: no such topic"),
        (status = 406, body = ErrorBody, description = "The client accepts no JSON"),
    )
)]
pub async fn delete(State(state): State<AppState>, scope: Scope) -> V3Result<Response> {
    let deleted = state.engine.topics.delete(scope.text("topic_name")).await;
    deleted.map_err(error::delete_topic)?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
