//! `POST /topics/{topic}` and `POST /topics/{topic}/partitions/{partition}`.
//!
//! Records are placed (by partition, by murmur2 of the key, or together when they have no key),
//! written straight into batches, appended, and answered in the order of the request.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode, header};
use serde::Serialize;
use utoipa::ToSchema;

use super::partitions;
use super::produce_request::{Decoded, ProduceRequest, RecordRequest};
use crate::base::ids::PartitionId;
use crate::base::json;
use crate::engine::topics::Topic;
use crate::engine::transactions::Claim;
use crate::http::error::{ApiError, ApiResult, ErrorBody, KAFKA_ERROR};
use crate::http::media::Embedded;
use crate::http::produce::{
    Answer, Batches, DeliveryHeaders, DeliveryQuery, NewRecord, Once, Outcome, ProduceOptions,
    TopicIndex, deliver, find_or_create, once,
};
use crate::http::state::AppState;
use crate::http::{body, media};

/// Records to produce.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({"records": [{"key": "customer-17", "value": {"amount": 12.5}}]}))]
pub struct ProduceBody {
    /// The records, at least one.
    pub records: Vec<ProduceRecord>,
}

/// One record to produce.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProduceRecord {
    /// The key in the request's format; null or absent for none.
    #[schema(value_type = Value, required = false, example = "customer-17")]
    pub key: Option<serde_json::Value>,
    /// The value in the request's format; null or absent is a tombstone.
    #[schema(value_type = Value, required = false, example = json!({"amount": 12.5}))]
    pub value: Option<serde_json::Value>,
    /// The partition; by murmur2 of the key if absent, and the same for all keyless records.
    pub partition: Option<i32>,
    /// Milliseconds since the epoch; now if absent.
    pub timestamp: Option<i64>,
    /// Headers in their order; values are base64 or null.
    #[schema(value_type = Option<Vec<RecordHeader>>)]
    pub headers: Option<Vec<RecordHeader>>,
}

/// One header of a record.
#[derive(Debug, Serialize, ToSchema)]
pub struct RecordHeader {
    /// Its key.
    #[schema(example = "trace-id")]
    pub key: String,
    /// Its value as base64, or null.
    #[schema(example = "YWJj")]
    pub value: Option<String>,
}

/// Where each record went, in the order of the request.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProduceAnswer {
    /// One entry a record.
    pub offsets: Vec<ProducedOffset>,
    /// Always null without a schema registry.
    pub key_schema_id: Option<i32>,
    /// Always null without a schema registry.
    pub value_schema_id: Option<i32>,
}

/// Why nothing may be written: entry by entry, or of the request as a whole.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum ProduceRefusal {
    /// One entry a record.
    Entries(ProduceAnswer),
    /// All or none was asked for.
    Whole(ErrorBody),
}

/// Where one record went, or why it went nowhere.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProducedOffset {
    /// Its partition.
    pub partition: Option<i32>,
    /// Its offset.
    pub offset: Option<i64>,
    /// Code of the error, if any.
    pub error_code: Option<u32>,
    /// Text of the error, if any.
    pub error: Option<String>,
}

/// Produces records to a topic.
#[utoipa::path(
    post, path = "/topics/{topic}", tag = "records", operation_id = "produce",
    params(
        ("topic" = String, Path, description = "Name of the topic", example = "orders"),
        DeliveryQuery,
        DeliveryHeaders,
    ),
    request_body(content(
        (ProduceBody = "application/vnd.kafka.json.v2+json"),
        (ProduceBody = "application/vnd.kafka.binary.v2+json",
            example = json!({"records": [{"key": "Yw==", "value": "YWJj"}]})),
        (ProduceBody = "application/vnd.kafka.text.v2+json",
            example = json!({"records": [{"key": "customer-17", "value": "hello"}]})),
        (ProduceBody = "application/json"),
    )),
    responses(
        (status = 200, body = ProduceAnswer, description = "One entry a record, errors included",
            content_type = "application/vnd.kafka.v2+json"),
        (status = 400, body = ErrorBody, description = "Malformed JSON, or a key or value that is not in the format",
            content_type = "application/vnd.kafka.v2+json"),
        (status = 403, body = ProduceRefusal, description = "40301, in an entry or of the whole: the broker's own topics cannot be written to",
            content_type = "application/vnd.kafka.v2+json"),
        (status = 404, body = ErrorBody, description = "40401: no such topic",
            content_type = "application/vnd.kafka.v2+json"),
        (status = 409, body = ErrorBody, description = "A request with the idempotency key is being worked on",
            content_type = "application/vnd.kafka.v2+json"),
        (status = 413, body = ErrorBody, content_type = "application/vnd.kafka.v2+json"),
        (status = 415, body = ErrorBody, content_type = "application/vnd.kafka.v2+json"),
        (status = 422, body = ErrorBody, description = "No records, unknown fields, or an idempotency key that was used for another request",
            content_type = "application/vnd.kafka.v2+json"),
    )
)]
pub async fn to_topic(
    State(state): State<AppState>,
    Path(topic): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    request: Body,
) -> ApiResult<Response> {
    let head = Head::read(&headers, query.as_deref())?;
    let bytes = body::read(&state.bodies, request).await?;
    let identity = head.identity([topic.as_bytes(), b"", &bytes]);
    let claim = match once::begin(&state, &headers, &identity)? {
        Once::Begin(claim) => claim,
        Once::Replay(response) => return Ok(response),
    };
    let topic = find_or_create(&state, &topic).await?;
    produce(&state, &head, claim, (topic, None), &bytes).await
}

/// Produces records to one partition.
#[utoipa::path(
    post, path = "/topics/{topic}/partitions/{partition}", tag = "records",
    operation_id = "produceToPartition",
    params(
        ("topic" = String, Path, description = "Name of the topic", example = "orders"),
        ("partition" = i32, Path, description = "Number of the partition; a record's own wins", example = 0),
        DeliveryQuery,
        DeliveryHeaders,
    ),
    request_body(content(
        (ProduceBody = "application/vnd.kafka.json.v2+json"),
        (ProduceBody = "application/vnd.kafka.binary.v2+json",
            example = json!({"records": [{"key": "Yw==", "value": "YWJj"}]})),
        (ProduceBody = "application/vnd.kafka.text.v2+json",
            example = json!({"records": [{"key": "customer-17", "value": "hello"}]})),
        (ProduceBody = "application/json"),
    )),
    responses(
        (status = 200, body = ProduceAnswer, content_type = "application/vnd.kafka.v2+json"),
        (status = 400, body = ErrorBody, content_type = "application/vnd.kafka.v2+json"),
        (status = 403, body = ProduceRefusal, description = "40301, in an entry or of the whole: the broker's own topics cannot be written to",
            content_type = "application/vnd.kafka.v2+json"),
        (status = 404, body = ErrorBody, description = "40401: no such topic, 40402: no such partition",
            content_type = "application/vnd.kafka.v2+json"),
        (status = 409, body = ErrorBody, description = "A request with the idempotency key is being worked on",
            content_type = "application/vnd.kafka.v2+json"),
        (status = 413, body = ErrorBody, content_type = "application/vnd.kafka.v2+json"),
        (status = 415, body = ErrorBody, content_type = "application/vnd.kafka.v2+json"),
        (status = 422, body = ErrorBody, content_type = "application/vnd.kafka.v2+json"),
    )
)]
pub async fn to_partition(
    State(state): State<AppState>,
    Path((topic, partition)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    request: Body,
) -> ApiResult<Response> {
    let head = Head::read(&headers, query.as_deref())?;
    let bytes = body::read(&state.bodies, request).await?;
    let identity = head.identity([topic.as_bytes(), partition.as_bytes(), &bytes]);
    let claim = match once::begin(&state, &headers, &identity)? {
        Once::Begin(claim) => claim,
        Once::Replay(response) => return Ok(response),
    };
    find_or_create(&state, &topic).await?;
    let (topic, partition) = partitions::find(&state, &topic, &partition)?;
    produce(&state, &head, claim, (topic, Some(partition)), &bytes).await
}

async fn produce(
    state: &AppState,
    head: &Head<'_>,
    claim: Option<Claim>,
    (topic, partition): (Arc<Topic>, Option<PartitionId>),
    bytes: &[u8],
) -> ApiResult<Response> {
    let filled = {
        let request = ProduceRequest::parse(bytes)?;
        let mut batches = Batches::new(state, &head.options, request.records.len());
        let topic = batches.topic(topic);
        fill(&mut batches, head.format, &request, |_, record| {
            record.topic.is_none().then_some((topic, partition)).ok_or_else(|| {
                ApiError::unprocessable("records have a topic where the path names it: 'topic'")
            })
        })?;
        batches.finish()
    };
    deliver(state, &head.options, claim, filled, answer).await
}

/// What the head of a request says.
pub(super) struct Head<'a> {
    pub(super) format: Embedded,
    pub(super) options: ProduceOptions,
    content_type: &'a [u8],
    query: &'a [u8],
}

impl<'a> Head<'a> {
    pub(super) fn read(headers: &'a HeaderMap, query: Option<&'a str>) -> ApiResult<Self> {
        let format = media::produce_format(headers)?;
        media::accepted(headers)?;
        let options = ProduceOptions::read(headers, query)?;
        let content_type = headers.get(header::CONTENT_TYPE).map_or(&b""[..], |v| v.as_bytes());
        Ok(Self { format, options, content_type, query: query.unwrap_or_default().as_bytes() })
    }

    /// What makes a request the same request.
    pub(super) fn identity(&self, rest: [&'a [u8]; 3]) -> [&'a [u8]; 5] {
        let [topic, partition, body] = rest;
        [topic, partition, self.content_type, self.query, body]
    }
}

/// Decodes every record into a batch of the topic and partition that `place` says; nothing is
/// appended before all are decoded.
pub(super) fn fill(
    batches: &mut Batches<'_>,
    format: Embedded,
    request: &ProduceRequest<'_>,
    place: impl Fn(usize, &RecordRequest<'_>) -> ApiResult<(TopicIndex, Option<PartitionId>)>,
) -> ApiResult<()> {
    let mut decoded = Decoded::default();
    for (index, record) in request.records.iter().enumerate() {
        let (topic, partition) = place(index, record)?;
        record.decode(index, format, &mut decoded)?;
        batches.push(
            topic,
            &NewRecord {
                partition: record.partition.or(partition),
                timestamp: record.timestamp,
                key: record.has_key().then_some(&decoded.key),
                value: record.has_value().then_some(&decoded.value),
                headers: &decoded.headers,
            },
        );
    }
    Ok(())
}

/// The code of one record's error. v2 has none of its own for records that are too large: they
/// are errors of Kafka that stay errors.
fn record_code(error: &ApiError) -> u32 {
    if error.status == StatusCode::PAYLOAD_TOO_LARGE { KAFKA_ERROR } else { error.code }
}

/// The status of an answer. A record's own error does not make the request fail, except for what
/// the client may not do: 401 and 403 are the status of the whole answer.
fn status_of(outcomes: &[Outcome]) -> StatusCode {
    let errors = || outcomes.iter().filter_map(|outcome| outcome.as_ref().err());
    [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN]
        .into_iter()
        .find(|status| errors().any(|error| error.status == *status))
        .unwrap_or(StatusCode::OK)
}

pub(super) fn answer(outcomes: &[Outcome]) -> ApiResult<Answer> {
    let mut out = Vec::with_capacity(64 + outcomes.len() * 64);
    out.extend_from_slice(b"{\"offsets\":[");
    for (at, outcome) in outcomes.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        match outcome {
            Ok(produced) => {
                out.extend_from_slice(b"{\"partition\":");
                json::integer_into(produced.partition, &mut out);
                out.extend_from_slice(b",\"offset\":");
                json::integer_into(produced.offset, &mut out);
                out.extend_from_slice(b",\"error_code\":null,\"error\":null}");
            }
            Err(error) => {
                out.extend_from_slice(b"{\"partition\":null,\"offset\":null,\"error_code\":");
                json::integer_into(record_code(error), &mut out);
                out.extend_from_slice(b",\"error\":");
                json::string_into(&error.message, &mut out);
                out.push(b'}');
            }
        }
    }
    out.extend_from_slice(b"],\"key_schema_id\":null,\"value_schema_id\":null}");
    Ok(Answer::new(status_of(outcomes), media::KAFKA_V2_JSON, out))
}
