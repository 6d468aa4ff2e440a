//! Records: streamed produce and batch produce.
//!
//! [`split`] cuts an upload into objects, [`record`] turns an object into bytes, [`stream`] is the
//! body that answers while the upload goes on, [`batch`] the bounded form, [`answer`] what a
//! client hears of each record.

mod answer;
mod arrival;
mod batch;
mod record;
mod split;
mod stream;

use std::time::Duration;

use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use self::answer::Names;
use self::stream::ProduceStream;
use super::request;
use super::{Scope, V3Error, V3Result};
use crate::http::error::{ApiError, ErrorBody};
use crate::http::produce::options::Together;
use crate::http::produce::{
    Answer, Batches, DeliveryHeaders, DeliveryQuery, Once, Outcome, ProduceOptions, deliver,
    find_or_create, once,
};
use crate::http::state::AppState;
use crate::http::{body, media};

/// How long the head of a stream's answer waits for the first record. Until then an empty body is
/// an error of the request; after it a client that sends nothing before it sees the head goes on.
const HEAD_WAIT: Duration = Duration::from_millis(250);

/// What is wrong with a body without any record.
const EMPTY: &str = "body is empty, a JSON object for each record is needed";

/// The routes of this resource.
pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(records)).routes(routes!(records_batch))
}

/// A key or a value, and how it is serialised.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProduceDataV3 {
    /// BINARY (a base64 string), JSON (anything) or STRING. AVRO, JSONSCHEMA and PROTOBUF, and no
    /// type at all, mean a schema registry, which this server does not offer.
    #[schema(rename = "type", example = "JSON")]
    #[serde(rename = "type")]
    pub data_type: Option<String>,
    /// The data; null or absent makes a null key, or a tombstone.
    #[schema(value_type = serde_json::Value, required = false, example = json!({"amount": 12.5}))]
    pub data: Option<serde_json::Value>,
}

/// A header of a record.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProduceHeaderV3 {
    /// Its name.
    #[schema(example = "trace-id")]
    pub name: String,
    /// Its value in base64; null or absent for none.
    #[schema(example = "YWJj")]
    pub value: Option<String>,
}

/// One record to produce; every member may be absent.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProduceRecordV3 {
    /// The partition; by murmur2 of the key if absent, in turn without a key.
    #[schema(example = 0)]
    pub partition_id: Option<i32>,
    /// ISO-8601; now if absent.
    #[schema(example = "2021-02-05T19:14:42Z")]
    pub timestamp: Option<String>,
    /// Headers in their order.
    pub headers: Option<Vec<ProduceHeaderV3>>,
    /// The key.
    pub key: Option<ProduceDataV3>,
    /// The value.
    pub value: Option<ProduceDataV3>,
}

/// The type and the size of a key or a value.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProducedDataV3 {
    /// Its type.
    #[schema(rename = "type", example = "JSON")]
    #[serde(rename = "type")]
    pub data_type: String,
    /// Its bytes as stored.
    #[schema(example = 15)]
    pub size: u64,
}

/// Where a record went. Absent members are left out.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProducedRecordV3 {
    /// 200 in a stream; left out in a batch.
    #[schema(example = 200)]
    pub error_code: Option<u32>,
    /// The id of the entry; only in a batch.
    #[schema(example = "1")]
    pub id: Option<String>,
    /// The cluster.
    #[schema(example = "lkc-1")]
    pub cluster_id: String,
    /// The topic.
    #[schema(example = "orders")]
    pub topic_name: String,
    /// The partition.
    #[schema(example = 0)]
    pub partition_id: i32,
    /// The offset.
    #[schema(example = 12)]
    pub offset: i64,
    /// The timestamp as stored.
    #[schema(example = "2021-02-05T19:14:42Z")]
    pub timestamp: String,
    /// What the key is, if its type was given.
    pub key: Option<ProducedDataV3>,
    /// What the value is, if its type was given.
    pub value: Option<ProducedDataV3>,
}

/// What became of one record of a stream.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum StreamedRecordV3 {
    /// It was produced.
    Produced(Box<ProducedRecordV3>),
    /// It was not.
    Refused(ErrorBody),
}

/// A record of a batch, with an id.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProduceBatchEntryV3 {
    /// 1 to 80 characters, unique in the batch.
    #[schema(example = "1")]
    pub id: String,
    /// The partition; by murmur2 of the key if absent, in turn without a key.
    pub partition_id: Option<i32>,
    /// ISO-8601; now if absent.
    pub timestamp: Option<String>,
    /// Headers in their order.
    pub headers: Option<Vec<ProduceHeaderV3>>,
    /// The key.
    pub key: Option<ProduceDataV3>,
    /// The value.
    pub value: Option<ProduceDataV3>,
}

/// A batch of records.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProduceBatchV3 {
    /// The records, at least one.
    pub entries: Vec<ProduceBatchEntryV3>,
}

/// A record of a batch that was not produced.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProduceBatchFailureV3 {
    /// The id of the entry.
    #[schema(example = "2")]
    pub id: String,
    /// Why.
    #[schema(example = 40402)]
    pub error_code: u32,
    /// Why, as text.
    #[schema(example = "partition 9 of topic 'orders' does not exist")]
    pub message: String,
}

/// What became of each entry.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProduceBatchAnswerV3 {
    /// What was produced, in the order of the request.
    pub successes: Vec<ProducedRecordV3>,
    /// What was not, in the order of the request.
    pub failures: Vec<ProduceBatchFailureV3>,
}

/// Produces a stream of records, and answers each as it is done.
///
/// The body is one or many JSON objects one after the other, with or without white space between
/// them; the upload may go on for as long as the client likes. The answer has one JSON object for
/// each record, in their order, each followed by CR LF, and begins before the upload ends. An
/// error of one record (its `error_code` is not 200) does not end the stream; text that is not
/// JSON does.
#[utoipa::path(
    post, path = "/v3/clusters/{cluster_id}/topics/{topic_name}/records", tag = "records",
    operation_id = "produceRecordsV3",
    params(
        ("cluster_id" = String, Path, description = "Identity of the cluster", example = "lkc-1"),
        ("topic_name" = String, Path, description = "Name of the topic", example = "orders"),
        ("acks" = Option<String>, Query, description = "0, 1 or all (default): nothing, in the operating system, on disk"),
    ),
    request_body(content((ProduceRecordV3 = "application/json", example = json!({
        "partition_id": 0,
        "headers": [{"name": "trace-id", "value": "YWJj"}],
        "key": {"type": "BINARY", "data": "Zm9v"},
        "value": {"type": "JSON", "data": {"amount": 12.5}},
    })))),
    responses(
        (status = 200, body = StreamedRecordV3, description = "One object a record, errors included"),
        (status = 400, body = ErrorBody, description = "A charset or an acks that is not known"),
        (status = 404, body = ErrorBody, description = "404: no such cluster, 40401: no such topic"),
        (status = 406, body = ErrorBody),
        (status = 415, body = ErrorBody),
        (status = 422, body = ErrorBody, description = "42206: the body is empty"),
    )
)]
pub async fn records(
    State(state): State<AppState>,
    scope: Scope,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    mut upload: Body,
) -> V3Result<Response> {
    let charset = request::charset(&headers)?;
    let options = ProduceOptions::read(&headers, query.as_deref())?;
    let wants_once = options.numbered.is_some() || headers.contains_key(once::IDEMPOTENCY_KEY);
    if wants_once || options.together == Together::AllOrNone {
        let message = "a stream is never a whole: atomic=true, Idempotency-Key and Producer-Seq \
                       need records:batch";
        return Err(ApiError::bad_request(message).into());
    }
    let topic = find_or_create(&state, scope.text("topic_name")).await?;
    let names = names(&scope, topic.name.as_str());
    let first = tokio::select! {
        first = tokio::time::timeout(HEAD_WAIT, first_frame(&mut upload)) => first.ok().transpose()?,
        () = state.shutdown.stopping() => return Err(stopping().into()),
    };
    let stream = ProduceStream::new(state, options, names, charset, (first, upload));
    Ok(([(header::CONTENT_TYPE, media::JSON)], Body::new(stream)).into_response())
}

/// Waits for the first byte that is not white space, so that an empty body is an error of the
/// request and not of a record.
async fn first_frame(upload: &mut Body) -> V3Result<Bytes> {
    while let Some(frame) = upload.frame().await {
        let broken = |error| ApiError::bad_request(format!("body cannot be read: {error}"));
        let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
        if !data.iter().all(u8::is_ascii_whitespace) {
            return Ok(data);
        }
    }
    Err(V3Error::invalid_payload(EMPTY))
}

fn stopping() -> ApiError {
    let message = "server is stopping: what was not answered was not produced";
    ApiError::status(StatusCode::SERVICE_UNAVAILABLE, message)
}

fn names(scope: &Scope, topic: &str) -> Names {
    Names { cluster_id: scope.cluster_id.clone(), topic: topic.to_owned() }
}

/// Produces a batch of records; each has an id and succeeds or fails by itself.
#[utoipa::path(
    post, path = "/v3/clusters/{cluster_id}/topics/{topic_name}/records:batch", tag = "records",
    operation_id = "produceRecordsBatchV3",
    params(
        ("cluster_id" = String, Path, description = "Identity of the cluster", example = "lkc-1"),
        ("topic_name" = String, Path, description = "Name of the topic", example = "orders"),
        DeliveryQuery,
        DeliveryHeaders,
    ),
    request_body(content((ProduceBatchV3 = "application/json", example = json!({
        "entries": [{"id": "1", "value": {"type": "STRING", "data": "hello"}}],
    })))),
    responses(
        (status = 207, body = ProduceBatchAnswerV3, description = "Each entry's fate"),
        (status = 400, body = ErrorBody, description = "Text that is not JSON"),
        (status = 404, body = ErrorBody, description = "404: no such cluster, 40401: no such topic"),
        (status = 406, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "A request with the idempotency key is being worked on"),
        (status = 413, body = ErrorBody),
        (status = 415, body = ErrorBody),
        (status = 422, body = ErrorBody, description = "42208: entries or ids that break a rule; 422: an idempotency key that was used for another request"),
    )
)]
pub async fn records_batch(
    State(state): State<AppState>,
    scope: Scope,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    upload: Body,
) -> V3Result<Response> {
    let charset = request::charset(&headers)?;
    let options = ProduceOptions::read(&headers, query.as_deref())?;
    let bytes = body::read(&state.bodies, upload).await?;
    let name = scope.text("topic_name");
    let query = query.as_deref().unwrap_or_default();
    let claim = match once::begin(&state, &headers, &[name.as_bytes(), query.as_bytes(), &bytes])? {
        Once::Begin(claim) => claim,
        Once::Replay(response) => return Ok(response),
    };
    let topic = find_or_create(&state, name).await?;
    let names = names(&scope, topic.name.as_str());
    let text = request::decode(&bytes, charset);
    let (filled, render) = {
        let entries = batch::entries(&text, state.options.produce_batch_entries_max)?;
        let mut batches = Batches::new(&state, &options, entries.len());
        let topic = batches.topic(topic);
        let shapes = batch::fill(&mut batches, topic, &entries);
        let ids: Vec<String> = entries.into_iter().map(batch::Entry::into_id).collect();
        let render = move |outcomes: &[Outcome]| {
            let body = batch::answer(&names, &ids, outcomes, &shapes);
            Ok(Answer::new(StatusCode::MULTI_STATUS, media::JSON, body))
        };
        (batches.finish(), render)
    };
    Ok(deliver(&state, &options, claim, filled, render).await?)
}
