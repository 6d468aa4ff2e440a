//! Plain produce: the body is the record.
//!
//! [`head`] reads what query and headers say of a record, [`records`] makes records out of the
//! body, [`lines`] knows bodies of JSON lines and [`events`] CloudEvents. Nothing here knows the
//! envelopes of v2 or v3. The contract is in `docs/plain-http.md`.

mod events;
mod head;
mod lines;
mod records;
pub(in crate::http) mod schema;

use axum::extract::{Path, Request, State};
use axum::response::Response;
use http::request::Parts;
use http::{StatusCode, header};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use self::head::{Head, ValueKind};
use self::records::Mode;
use self::schema::{CloudEvent, RecordBytes};
use super::error::{ApiError, ApiResult, ErrorBody};
use super::produce::{
    Answer, Batches, DeliveryHeaders, DeliveryQuery, NewRecord, Once, Outcome, ProduceOptions,
    Produced, deliver, find_or_create, once,
};
use super::state::AppState;
use super::{body, media};
use crate::base::ids::PartitionId;
use crate::base::json;

/// The routes of this way to produce.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(to_topic, tombstone)).routes(routes!(to_partition))
}

/// Where a record went.
#[derive(Debug, Serialize, ToSchema)]
pub struct PlainRecord {
    /// The topic.
    #[schema(example = "orders")]
    pub topic: String,
    /// The partition.
    #[schema(example = 0)]
    pub partition: i32,
    /// The offset.
    #[schema(example = 12)]
    pub offset: i64,
    /// Milliseconds since the epoch, as stored.
    #[schema(example = 1_612_552_482_000_i64)]
    pub timestamp: i64,
}

/// What became of one record of several: where it went, or why it went nowhere.
#[derive(Debug, Serialize, ToSchema)]
pub struct PlainOutcome {
    /// The topic.
    #[schema(example = "orders")]
    pub topic: Option<String>,
    /// The partition.
    #[schema(example = 0)]
    pub partition: Option<i32>,
    /// The offset.
    #[schema(example = 12)]
    pub offset: Option<i64>,
    /// Milliseconds since the epoch, as stored.
    #[schema(example = 1_612_552_482_000_i64)]
    pub timestamp: Option<i64>,
    /// The code of the error, if it went nowhere.
    pub error_code: Option<u32>,
    /// The text of the error, if it went nowhere.
    pub message: Option<String>,
}

/// What became of several records, in their order.
#[derive(Debug, Serialize, ToSchema)]
pub struct PlainRecords {
    /// One entry a record.
    pub records: Vec<PlainOutcome>,
}

/// Produces the body as a record.
///
/// The body is the value, whatever its media type, which the record keeps as its header
/// `content-type`. Bodies of JSON lines and CloudEvents (binary, structured, batched) are told
/// by their headers.
#[utoipa::path(
    post, path = "/topics/{topic}/records", tag = "records", operation_id = "produceRecord",
    params(
        ("topic" = String, Path, description = "Name of the topic", example = "orders"),
        ("key" = Option<String>, Query, description = "The key; base64 between colons for bytes", example = "customer-17"),
        ("key_pointer" = Option<String>, Query, description = "Where in each JSON value its key is (RFC 6901)"),
        ("partition" = Option<i32>, Query, description = "The partition; by murmur2 of the key if absent, in turn without a key"),
        ("timestamp" = Option<String>, Query, description = "Milliseconds since the epoch, or RFC 3339; now if absent"),
        ("tombstone" = Option<bool>, Query, description = "No value at all; the body must be empty"),
        DeliveryQuery,
        DeliveryHeaders,
        ("Hydrant-Key" = Option<String>, Header, description = "The key, as with the parameter"),
        ("Hydrant-Header" = Option<String>, Header, description = "A record header as name=value; may be repeated. Hydrant-Header-NAME: value is the same in lower case"),
    ),
    request_body(content(
        (String = "text/plain", example = "hello"),
        (Value = "application/json", example = json!({"amount": 12.5})),
        (String = "application/x-ndjson", example = "{\"id\":1}\n{\"id\":2}\n"),
        (CloudEvent = "application/cloudevents+json", example = json!({
            "specversion": "1.0", "id": "1", "source": "/shop", "type": "order.placed", "data": {"amount": 12.5},
        })),
        (Vec<CloudEvent> = "application/cloudevents-batch+json", example = json!([{
            "specversion": "1.0", "id": "1", "source": "/shop", "type": "order.placed", "data": {"amount": 12.5},
        }])),
        (RecordBytes = "application/octet-stream", example = "any bytes"),
    )),
    responses(
        (status = 201, body = PlainRecord, description = "The record was produced; Location leads to it"),
        (status = 200, body = PlainRecords, description = "All of several records were produced"),
        (status = 207, body = PlainRecords, description = "Some of several records were produced"),
        (status = 400, body = ErrorBody, description = "A parameter, a header, a line or an event that cannot be read"),
        (status = 403, body = ErrorBody, description = "40301: the broker's own topics; or an epoch that is fenced"),
        (status = 404, body = ErrorBody, description = "40401: no such topic, 40402: no such partition"),
        (status = 409, body = ErrorBody, description = "A request with the idempotency key is being worked on"),
        (status = 413, body = ErrorBody, description = "The record or the body is too large"),
        (status = 422, body = ErrorBody, description = "No line in the body, too many, or an idempotency key that was used for another request"),
    )
)]
pub async fn to_topic(
    State(state): State<AppState>,
    Path(topic): Path<String>,
    request: Request,
) -> ApiResult<Response> {
    produce(&state, &topic, None, request).await.map_err(as_json)
}

/// Produces the body as a record of one partition.
#[utoipa::path(
    post, path = "/topics/{topic}/partitions/{partition}/records", tag = "records",
    operation_id = "produceRecordToPartition",
    params(
        ("topic" = String, Path, description = "Name of the topic", example = "orders"),
        ("partition" = i32, Path, description = "Number of the partition", example = 0),
        ("key" = Option<String>, Query, description = "The key; base64 between colons for bytes", example = "customer-17"),
        ("key_pointer" = Option<String>, Query, description = "Where in each JSON value its key is (RFC 6901)"),
        ("timestamp" = Option<String>, Query, description = "Milliseconds since the epoch, or RFC 3339; now if absent"),
        ("tombstone" = Option<bool>, Query, description = "No value at all; the body must be empty"),
        DeliveryQuery,
        DeliveryHeaders,
        ("Hydrant-Key" = Option<String>, Header, description = "The key, as with the parameter"),
        ("Hydrant-Header" = Option<String>, Header, description = "A record header as name=value; may be repeated"),
    ),
    request_body(content(
        (String = "text/plain", example = "hello"),
        (Value = "application/json", example = json!({"amount": 12.5})),
        (String = "application/x-ndjson", example = "{\"id\":1}\n{\"id\":2}\n"),
        (CloudEvent = "application/cloudevents+json", example = json!({
            "specversion": "1.0", "id": "1", "source": "/shop", "type": "order.placed", "data": {"amount": 12.5},
        })),
        (Vec<CloudEvent> = "application/cloudevents-batch+json", example = json!([{
            "specversion": "1.0", "id": "1", "source": "/shop", "type": "order.placed", "data": {"amount": 12.5},
        }])),
        (RecordBytes = "application/octet-stream", example = "any bytes"),
    )),
    responses(
        (status = 201, body = PlainRecord, description = "The record was produced; Location leads to it"),
        (status = 200, body = PlainRecords, description = "All of several records were produced"),
        (status = 207, body = PlainRecords, description = "Some of several records were produced"),
        (status = 400, body = ErrorBody, description = "A parameter, a header, a line or an event that cannot be read"),
        (status = 403, body = ErrorBody, description = "40301: the broker's own topics; or an epoch that is fenced"),
        (status = 404, body = ErrorBody, description = "40401: no such topic, 40402: no such partition"),
        (status = 409, body = ErrorBody, description = "A request with the idempotency key is being worked on"),
        (status = 413, body = ErrorBody, description = "The record or the body is too large"),
        (status = 422, body = ErrorBody, description = "No line in the body, too many, or an idempotency key that was used for another request"),
    )
)]
pub async fn to_partition(
    State(state): State<AppState>,
    Path((topic, partition)): Path<(String, String)>,
    request: Request,
) -> ApiResult<Response> {
    let number = partition.parse().map_err(|_| {
        let message = format!("partition '{partition}' is not a number");
        as_json(ApiError::status(StatusCode::NOT_FOUND, message))
    })?;
    produce(&state, &topic, Some(number), request).await.map_err(as_json)
}

/// Produces a tombstone: a record with a key and without a value.
#[utoipa::path(
    delete, path = "/topics/{topic}/records", tag = "records", operation_id = "produceTombstone",
    params(
        ("topic" = String, Path, description = "Name of the topic", example = "orders"),
        ("key" = Option<String>, Query, description = "The key, here or in Hydrant-Key", example = "customer-17"),
        ("partition" = Option<i32>, Query, description = "The partition; by murmur2 of the key if absent"),
        ("timestamp" = Option<String>, Query, description = "Milliseconds since the epoch, or RFC 3339; now if absent"),
        DeliveryQuery,
        DeliveryHeaders,
        ("Hydrant-Key" = Option<String>, Header, description = "The key, as with the parameter"),
    ),
    responses(
        (status = 200, body = PlainRecord, description = "The tombstone was produced; Location leads to it"),
        (status = 400, body = ErrorBody, description = "No key, or a parameter or header that cannot be read"),
        (status = 409, body = ErrorBody, description = "A request with the idempotency key is being worked on"),
        (status = 413, body = ErrorBody, description = "The record is too large"),
        (status = 422, body = ErrorBody, description = "A tombstone that the topic does not take"),
        (status = 403, body = ErrorBody, description = "40301: the broker's own topics; or an epoch that is fenced"),
        (status = 404, body = ErrorBody, description = "40401: no such topic, 40402: no such partition"),
    )
)]
pub async fn tombstone(
    State(state): State<AppState>,
    Path(topic): Path<String>,
    request: Request,
) -> ApiResult<Response> {
    delete(&state, &topic, request).await.map_err(as_json)
}

fn as_json(error: ApiError) -> ApiError {
    error.with_content_type(media::JSON)
}

async fn produce(
    state: &AppState,
    topic: &str,
    partition: Option<PartitionId>,
    request: Request,
) -> ApiResult<Response> {
    let (parts, upload) = request.into_parts();
    let query = parts.uri.query();
    let options = ProduceOptions::read(&parts.headers, query)?;
    let head = Head::read(&parts.headers, query, partition)?;
    let mode = Mode::read(&parts.headers);
    let bytes = body::read(&state.bodies, upload).await?;
    let claim = match begin(state, &parts, &bytes)? {
        Once::Begin(claim) => claim,
        Once::Replay(response) => return Ok(response),
    };
    let topic = find_or_create(state, topic).await?;
    let filled = {
        let expected = if mode.is_many() { bytes.len() / 128 + 1 } else { 1 };
        let mut batches = Batches::new(state, &options, expected);
        let target = batches.topic(topic.clone());
        records::fill(&mut batches, target, mode, &parts.headers, &head, &bytes)?;
        batches.finish()
    };
    let render = move |outcomes: &[Outcome]| match mode.is_many() {
        true => many(topic.name.as_str(), outcomes),
        false => one(StatusCode::CREATED, topic.name.as_str(), outcomes),
    };
    deliver(state, &options, claim, filled, render).await
}

/// Looks up the idempotency key of a request, which is the same one with the same method, target,
/// body and all headers that say something of the records.
fn begin(state: &AppState, parts: &Parts, body: &[u8]) -> ApiResult<Once> {
    let target = parts.uri.path_and_query().map_or("", |target| target.as_str());
    let mut identity = vec![parts.method.as_str().as_bytes(), target.as_bytes(), body];
    for (name, value) in &parts.headers {
        let text = name.as_str();
        let is_of_records = text.starts_with("hydrant-") || text.starts_with("ce-");
        if is_of_records || name == header::CONTENT_TYPE {
            identity.extend([text.as_bytes(), value.as_bytes()]);
        }
    }
    once::begin(state, &parts.headers, &identity)
}

async fn delete(state: &AppState, topic: &str, request: Request) -> ApiResult<Response> {
    let (parts, _) = request.into_parts();
    let query = parts.uri.query();
    let options = ProduceOptions::read(&parts.headers, query)?;
    let head = Head::read(&parts.headers, query, None)?;
    let Some(key) = &head.key else {
        let message = "a tombstone needs a key, by ?key= or Hydrant-Key";
        return Err(ApiError::bad_request(message));
    };
    if head.key_pointer.is_some() || head.value_kind == ValueKind::Tombstone {
        let message = "DELETE takes neither key_pointer nor tombstone: it is a tombstone";
        return Err(ApiError::bad_request(message));
    }
    let claim = match begin(state, &parts, b"")? {
        Once::Begin(claim) => claim,
        Once::Replay(response) => return Ok(response),
    };
    let topic = find_or_create(state, topic).await?;
    let filled = {
        let mut batches = Batches::new(state, &options, 1);
        let target = batches.topic(topic.clone());
        let record = NewRecord {
            partition: head.partition,
            timestamp: head.timestamp,
            key: Some(key),
            value: None,
            headers: &head.headers,
        };
        batches.push(target, &record);
        batches.finish()
    };
    let render = move |outcomes: &[Outcome]| one(StatusCode::OK, topic.name.as_str(), outcomes);
    deliver(state, &options, claim, filled, render).await
}

/// Answers one record with its place; its error is that of the request.
fn one(status: StatusCode, topic: &str, outcomes: &[Outcome]) -> ApiResult<Answer> {
    let outcome = outcomes.first().cloned();
    let produced = outcome.unwrap_or_else(|| Err(ApiError::unprocessable("body has no record")))?;
    let location =
        format!("/topics/{topic}/partitions/{}/records/{}", produced.partition, produced.offset);
    let mut body = Vec::with_capacity(96);
    place_into(topic, &produced, &mut body);
    // Names of topics have only characters that a URL may have.
    Ok(Answer { location: Some(location), ..Answer::new(status, media::JSON, body) })
}

/// Answers several records, each with its place or its error; when all have failed, the first
/// error is that of the request.
fn many(topic: &str, outcomes: &[Outcome]) -> ApiResult<Answer> {
    let failures = outcomes.iter().filter(|outcome| outcome.is_err()).count();
    if failures == outcomes.len()
        && let Some(Err(error)) = outcomes.first()
    {
        return Err(error.clone());
    }
    let status = if failures == 0 { StatusCode::OK } else { StatusCode::MULTI_STATUS };
    let mut body = Vec::with_capacity(16 + outcomes.len() * 80);
    body.extend_from_slice(b"{\"records\":[");
    for (at, outcome) in outcomes.iter().enumerate() {
        if at > 0 {
            body.push(b',');
        }
        match outcome {
            Ok(produced) => place_into(topic, produced, &mut body),
            Err(error) => {
                body.extend_from_slice(b"{\"error_code\":");
                json::integer_into(error.code, &mut body);
                body.extend_from_slice(b",\"message\":");
                json::string_into(&error.message, &mut body);
                body.push(b'}');
            }
        }
    }
    body.extend_from_slice(b"]}");
    Ok(Answer::new(status, media::JSON, body))
}

fn place_into(topic: &str, produced: &Produced, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"topic\":");
    json::string_into(topic, out);
    out.extend_from_slice(b",\"partition\":");
    json::integer_into(produced.partition, out);
    out.extend_from_slice(b",\"offset\":");
    json::integer_into(produced.offset, out);
    out.extend_from_slice(b",\"timestamp\":");
    json::integer_into(produced.timestamp, out);
    out.push(b'}');
}
