//! Consumer instances: create, delete, subscribe, assign.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, Uri};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::instance_path::InstancePath;
use crate::base::ids::{GroupId, PartitionId, TopicName, TopicPartition};
use crate::consumers::{Assignor, Format, NewInstance, OffsetReset, OnDecodeError, Subscribe};
use crate::engine::log::Isolation;
use crate::http::error::{ApiError, ApiResult, ErrorBody};
use crate::http::link;
use crate::http::state::AppState;
use crate::http::{body, media};

/// A consumer instance to create. Every field may be absent; unknown fields are ignored.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({"name": "c1", "format": "json", "auto.offset.reset": "earliest"}))]
pub struct NewConsumer {
    /// Name within the group; made up if absent.
    #[schema(example = "c1")]
    pub name: Option<String>,
    /// `binary` (default), `json` or `text`.
    #[schema(example = "json")]
    pub format: Option<String>,
    /// `earliest`, `latest` (default) or `none`.
    #[serde(rename = "auto.offset.reset")]
    #[schema(example = "earliest")]
    pub auto_offset_reset: Option<String>,
    /// Commit delivered records every 5 s and when the instance ends; true by default.
    #[serde(rename = "auto.commit.enable")]
    #[schema(value_type = Option<String>, example = "false")]
    pub auto_commit_enable: Option<Value>,
    /// Bytes that a read gathers before it answers early; -1 (default) answers with the first.
    #[serde(rename = "fetch.min.bytes")]
    #[schema(value_type = Option<i32>, example = -1)]
    pub fetch_min_bytes: Option<Value>,
    /// Longest wait of a read for its first record.
    #[serde(rename = "consumer.request.timeout.ms")]
    #[schema(value_type = Option<i64>, example = 1000)]
    pub consumer_request_timeout_ms: Option<Value>,
    /// `read_uncommitted` (default) or `read_committed`.
    #[serde(rename = "isolation.level")]
    #[schema(example = "read_uncommitted")]
    pub isolation_level: Option<String>,
    /// `fail` (default): a record that is not in the format fails the poll; `data`: it comes with
    /// `error` and its `raw` bytes.
    #[serde(rename = "on.decode.error")]
    #[schema(example = "fail")]
    pub on_decode_error: Option<String>,
    /// `range`, `roundrobin`, or both with a comma, most wanted first.
    #[serde(rename = "partition.assignment.strategy")]
    #[schema(example = "range,roundrobin")]
    pub partition_assignment_strategy: Option<String>,
}

/// The created instance.
#[derive(Debug, Serialize, ToSchema)]
pub struct CreatedConsumer {
    /// Its name.
    #[schema(example = "c1")]
    pub instance_id: String,
    /// Where its requests go. It stays valid across restarts of the server.
    #[schema(example = "http://127.0.0.1:8082/consumers/billing/instances/c1")]
    pub base_uri: String,
}

/// Topics to subscribe to: a list or a pattern.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({"topics": ["orders"]}))]
pub struct Subscription {
    /// Names of topics.
    #[schema(example = json!(["orders"]))]
    pub topics: Option<Vec<String>>,
    /// Regular expression that the whole name of a topic must match.
    #[schema(example = "orders-.*")]
    pub topic_pattern: Option<String>,
}

/// Topics subscribed to, and what the instance has of its topics now.
#[derive(Debug, Serialize, ToSchema)]
pub struct SubscribedTopics {
    /// Names of topics; for a pattern those it matches now.
    #[schema(example = json!(["orders"]))]
    pub topics: Vec<String>,
    /// The partitions that the instance has now: an object a topic, with the topic as its name.
    #[schema(example = json!([{"orders": [0, 1]}]))]
    pub partitions: Vec<BTreeMap<String, Vec<PartitionId>>>,
}

/// A partition by topic and number.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct PartitionName {
    /// The topic.
    #[schema(example = "orders")]
    pub topic: String,
    /// The partition.
    #[schema(example = 0)]
    pub partition: PartitionId,
}

/// A list of partitions.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({"partitions": [{"topic": "orders", "partition": 0}]}))]
pub struct Partitions {
    /// The partitions.
    pub partitions: Vec<PartitionName>,
}

/// Checks the name of a partition that a client wrote.
pub(super) fn topic_partition(topic: &str, partition: PartitionId) -> ApiResult<TopicPartition> {
    let name =
        TopicName::parse(topic).map_err(|error| ApiError::unprocessable(error.to_string()))?;
    Ok(TopicPartition::new(name, partition))
}

pub(super) fn topic_partitions(list: &[PartitionName]) -> ApiResult<Vec<TopicPartition>> {
    list.iter().map(|name| topic_partition(&name.topic, name.partition)).collect()
}

pub(super) fn partition_names(list: impl IntoIterator<Item = TopicPartition>) -> Partitions {
    let name =
        |p: TopicPartition| PartitionName { topic: p.topic.to_string(), partition: p.partition };
    Partitions { partitions: list.into_iter().map(name).collect() }
}

/// Creates a consumer instance in a group.
#[utoipa::path(
    post, path = "/consumers/{group}", tag = "consumers", operation_id = "createConsumer",
    params(("group" = String, Path, description = "Name of the group", example = "billing")),
    request_body(content(
        (NewConsumer = "application/vnd.kafka.v2+json"), (NewConsumer = "application/json"),
    )),
    responses(
        (status = 200, body = CreatedConsumer, content_type = "application/vnd.kafka.v2+json"),
        (status = 400, body = ErrorBody, content_type = "application/vnd.kafka.v2+json"),
        (status = 409, body = ErrorBody, description = "40902: the name is taken",
            content_type = "application/vnd.kafka.v2+json"),
        (status = 415, body = ErrorBody, content_type = "application/vnd.kafka.v2+json"),
        (status = 422, body = ErrorBody, description = "40001, 42204 or 422: a setting is invalid",
            content_type = "application/vnd.kafka.v2+json"),
    )
)]
pub async fn create(
    State(state): State<AppState>,
    Path(group): Path<String>,
    uri: Uri,
    headers: HeaderMap,
    request: Body,
) -> ApiResult<Response> {
    media::content(&headers)?;
    let bytes = body::read(&state.bodies, request).await?;
    let fields: Map<String, Value> = body::parse_optional(&bytes)?;
    let new = new_instance(&fields)?;
    let created = state.consumers.create(GroupId::from(group.as_str()), new).await?;
    let base = link::base(&uri, &headers, &state.options);
    let (group, name) = (link::segment(created.group.as_str()), link::segment(&created.name));
    let answer = CreatedConsumer {
        instance_id: created.name,
        base_uri: format!("{base}/consumers/{group}/instances/{name}"),
    };
    super::json(&headers, &answer)
}

/// Reads the settings of a new instance by all the names that the REST proxies use.
fn new_instance(fields: &Map<String, Value>) -> ApiResult<NewInstance> {
    let mut new = NewInstance::default();
    let setting =
        |names: &[&str]| names.iter().find_map(|n| fields.get(*n)).filter(|v| !v.is_null());
    if let Some(name) = setting(&["id", "name"]) {
        let text = name.as_str().map(str::to_owned);
        let invalid = || ApiError::unprocessable(format!("name '{name}' is not a string"));
        new.name = Some(text.ok_or_else(invalid)?);
    }
    if let Some(format) = setting(&["format"]) {
        new.format = parse_format(&text("format", format)?)?;
    }
    if let Some(reset) = setting(&["auto.offset.reset"]) {
        new.auto_offset_reset = match text("auto.offset.reset", reset)?.as_str() {
            "earliest" => OffsetReset::Earliest,
            "latest" => OffsetReset::Latest,
            "none" => OffsetReset::None,
            other => return Err(invalid_config("auto.offset.reset", other)),
        };
    }
    if let Some(commit) = setting(&["auto.commit.enable", "enable.auto.commit"]) {
        new.auto_commit = match text("auto.commit.enable", commit)?.trim() {
            // As Kafka reads booleans.
            yes if yes.eq_ignore_ascii_case("true") => true,
            no if no.eq_ignore_ascii_case("false") => false,
            other => return Err(invalid_config("auto.commit.enable", other)),
        };
    }
    if let Some(bytes) = setting(&["fetch.min.bytes", "responseMinBytes"]) {
        new.fetch_min_bytes = Some(number("fetch.min.bytes", bytes)?);
    }
    if let Some(wait) = setting(&["consumer.request.timeout.ms", "requestWaitMs"]) {
        new.request_timeout_ms = Some(number("consumer.request.timeout.ms", wait)?);
    }
    if let Some(level) = setting(&["isolation.level"]) {
        new.isolation = match text("isolation.level", level)?.as_str() {
            "read_uncommitted" => Isolation::ReadUncommitted,
            "read_committed" => Isolation::ReadCommitted,
            other => return Err(invalid_config("isolation.level", other)),
        };
    }
    if let Some(rule) = setting(&["on.decode.error"]) {
        new.on_decode_error = match text("on.decode.error", rule)?.as_str() {
            "fail" => OnDecodeError::Fail,
            "data" => OnDecodeError::Data,
            other => return Err(invalid_config("on.decode.error", other)),
        };
    }
    if let Some(list) = setting(&["partition.assignment.strategy"]) {
        for name in text("partition.assignment.strategy", list)?.split(',') {
            let assignor = Assignor::find(name.trim());
            let assignor =
                assignor.ok_or_else(|| invalid_config("partition.assignment.strategy", name))?;
            new.assignors.push(assignor);
        }
    }
    Ok(new)
}

fn parse_format(text: &str) -> ApiResult<Format> {
    match text.to_ascii_lowercase().as_str() {
        "binary" => Ok(Format::Binary),
        "json" => Ok(Format::Json),
        "text" => Ok(Format::Text),
        "avro" | "jsonschema" | "protobuf" => Err(ApiError::unprocessable(format!(
            "format '{text}' needs a schema registry, which this server does not offer"
        ))),
        _ => Err(ApiError::unprocessable(format!("format '{text}' is not binary, json or text"))),
    }
}

/// 42204: Kafka's configuration would refuse the value.
fn invalid_config(name: &str, value: &str) -> ApiError {
    let message = format!("{name} '{value}' is invalid");
    ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, 42204, message)
}

fn text(name: &str, value: &Value) -> ApiResult<String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Bool(flag) => Ok(flag.to_string()),
        other => Err(ApiError::unprocessable(format!("{name} '{other}' is not a string"))),
    }
}

/// A number, or a string that holds one: clients send both. 40001 when it is neither.
fn number<T: std::str::FromStr>(name: &str, value: &Value) -> ApiResult<T> {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    text.parse().map_err(|_| {
        let message = format!("{name} '{text}' is not a number");
        ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, 40001, message)
    })
}

/// Deletes a consumer instance; with auto commit its delivered records are committed first.
#[utoipa::path(
    delete, path = "/consumers/{group}/instances/{instance}", tag = "consumers",
    operation_id = "deleteConsumer",
    params(InstancePath),
    responses(
        (status = 204, description = "The instance is gone"),
        (status = 404, body = ErrorBody, description = "40403: no such instance",
            content_type = "application/vnd.kafka.v2+json"),
    )
)]
pub async fn delete(
    State(state): State<AppState>,
    Path(path): Path<InstancePath>,
) -> ApiResult<Response> {
    state.consumers.delete(&path.key()).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Subscribes to topics; replaces an earlier subscription.
#[utoipa::path(
    post, path = "/consumers/{group}/instances/{instance}/subscription", tag = "consumers",
    operation_id = "subscribe",
    params(InstancePath),
    request_body(content(
        (Subscription = "application/vnd.kafka.v2+json"), (Subscription = "application/json"),
    )),
    responses(
        (status = 204, description = "Subscribed"),
        (status = 404, body = ErrorBody, description = "40403: no such instance",
            content_type = "application/vnd.kafka.v2+json"),
        (status = 409, body = ErrorBody, description = "40903: partitions are assigned, or both or neither of topics and topic_pattern given",
            content_type = "application/vnd.kafka.v2+json"),
        (status = 422, body = ErrorBody, content_type = "application/vnd.kafka.v2+json"),
    )
)]
pub async fn subscribe(
    State(state): State<AppState>,
    Path(path): Path<InstancePath>,
    headers: HeaderMap,
    request: Body,
) -> ApiResult<Response> {
    media::content(&headers)?;
    let bytes = body::read(&state.bodies, request).await?;
    let wanted: Subscription = body::parse(&bytes)?;
    let conflict = |message| Err(ApiError::new(StatusCode::CONFLICT, 40903, message));
    let topics = match (wanted.topics, wanted.topic_pattern) {
        (Some(_), Some(_)) => return conflict("topics and topic_pattern exclude each other"),
        (None, None) => return conflict("topics or topic_pattern is needed"),
        (Some(topics), None) => Subscribe::Topics(topics),
        (None, Some(pattern)) => Subscribe::Pattern(pattern),
    };
    state.consumers.subscribe(&path.key(), topics).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Lists the topics subscribed to.
#[utoipa::path(
    get, path = "/consumers/{group}/instances/{instance}/subscription", tag = "consumers",
    operation_id = "getSubscription",
    params(InstancePath),
    responses(
        (status = 200, body = SubscribedTopics, content_type = "application/vnd.kafka.v2+json"),
        (status = 404, body = ErrorBody, content_type = "application/vnd.kafka.v2+json"),
    )
)]
pub async fn subscription(
    State(state): State<AppState>,
    Path(path): Path<InstancePath>,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let key = path.key();
    let topics = state.consumers.subscription(&key)?;
    let mut assigned: BTreeMap<String, Vec<PartitionId>> = BTreeMap::new();
    for held in state.consumers.assignment(&key).await? {
        assigned.entry(held.topic.to_string()).or_default().push(held.partition);
    }
    let partitions = assigned.into_iter().map(|held| BTreeMap::from([held])).collect();
    let topics = topics.iter().map(ToString::to_string).collect();
    super::json(&headers, &SubscribedTopics { topics, partitions })
}

/// Unsubscribes from everything; partitions that were assigned by hand are given up too.
#[utoipa::path(
    delete, path = "/consumers/{group}/instances/{instance}/subscription", tag = "consumers",
    operation_id = "unsubscribe",
    params(InstancePath),
    responses(
        (status = 204, description = "Unsubscribed"),
        (status = 404, body = ErrorBody, content_type = "application/vnd.kafka.v2+json"),
    )
)]
pub async fn unsubscribe(
    State(state): State<AppState>,
    Path(path): Path<InstancePath>,
) -> ApiResult<Response> {
    state.consumers.unsubscribe(&path.key()).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Assigns partitions by hand; replaces an earlier assignment.
#[utoipa::path(
    post, path = "/consumers/{group}/instances/{instance}/assignments", tag = "consumers",
    operation_id = "assign",
    params(InstancePath),
    request_body(content(
        (Partitions = "application/vnd.kafka.v2+json"), (Partitions = "application/json"),
    )),
    responses(
        (status = 204, description = "Assigned"),
        (status = 404, body = ErrorBody, content_type = "application/vnd.kafka.v2+json"),
        (status = 409, body = ErrorBody, description = "40903: the instance is subscribed",
            content_type = "application/vnd.kafka.v2+json"),
    )
)]
pub async fn assign(
    State(state): State<AppState>,
    Path(path): Path<InstancePath>,
    headers: HeaderMap,
    request: Body,
) -> ApiResult<Response> {
    media::content(&headers)?;
    let bytes = body::read(&state.bodies, request).await?;
    let wanted: Partitions = body::parse(&bytes)?;
    let partitions = topic_partitions(&wanted.partitions)?;
    state.consumers.assign(&path.key(), partitions).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Lists the partitions that the instance has now, assigned by hand or by its group.
#[utoipa::path(
    get, path = "/consumers/{group}/instances/{instance}/assignments", tag = "consumers",
    operation_id = "getAssignment",
    params(InstancePath),
    responses(
        (status = 200, body = Partitions, content_type = "application/vnd.kafka.v2+json"),
        (status = 404, body = ErrorBody, content_type = "application/vnd.kafka.v2+json"),
    )
)]
pub async fn assignment(
    State(state): State<AppState>,
    Path(path): Path<InstancePath>,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let partitions = state.consumers.assignment(&path.key()).await?;
    super::json(&headers, &partition_names(partitions))
}
