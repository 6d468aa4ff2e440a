//! `POST /topics/{topic}` and `POST /topics/{topic}/partitions/{partition}`.
//!
//! Records are placed (by partition, by murmur2 of the key, or together when they have no key),
//! written straight into batches, appended, and answered in the order of the request.

use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::response::Response;
use http::{HeaderMap, HeaderName, StatusCode};
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use utoipa::ToSchema;

use super::partitions;
use super::produce_request::{Decoded, ProduceRequest, RecordRequest};
use crate::base::ids::PartitionId;
use crate::base::json;
use crate::engine::log::{AckLevel, Append, AppendError, Receipt};
use crate::engine::topics::Topic;
use crate::http::error::{ApiError, ApiResult, ErrorBody, KAFKA_ERROR};
use crate::http::media::Embedded;
use crate::http::state::AppState;
use crate::http::{body, media, query};
use crate::protocol::murmur2::partition_for_key;
use crate::protocol::record_batch::BatchBuilder;

/// A batch is closed when it reaches this size, well below the default `max.message.bytes` of
/// 1 MiB, so that a large request is split and not refused.
const BATCH_BYTES: usize = 512 * 1024;

/// Upper bound of what a record takes beside its key, value and headers.
const RECORD_OVERHEAD_BYTES: usize = 64;

/// W3C trace context: a record gets the request's when it has none of its own.
const TRACE_HEADERS: [HeaderName; 2] =
    [HeaderName::from_static("traceparent"), HeaderName::from_static("tracestate")];

/// Records to produce.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProduceBody {
    /// The records, at least one.
    pub records: Vec<ProduceRecord>,
}

/// One record to produce.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProduceRecord {
    /// The key in the request's format; null or absent for none.
    #[schema(value_type = Option<Object>, example = "customer-17")]
    pub key: Option<serde_json::Value>,
    /// The value in the request's format; null or absent is a tombstone.
    #[schema(value_type = Option<Object>, example = json!({"amount": 12.5}))]
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
        ("acks" = Option<String>, Query, description = "0, 1 or all (default): nothing, in the operating system, on disk"),
    ),
    request_body(content(
        (ProduceBody = "application/vnd.kafka.json.v2+json"),
        (ProduceBody = "application/vnd.kafka.binary.v2+json"),
        (ProduceBody = "application/vnd.kafka.text.v2+json"),
        (ProduceBody = "application/json"),
    )),
    responses(
        (status = 200, body = ProduceAnswer, description = "One entry a record, errors included",
            content_type = "application/vnd.kafka.v2+json"),
        (status = 400, body = ErrorBody, description = "Malformed JSON, or a key or value that is not in the format",
            content_type = "application/vnd.kafka.v2+json"),
        (status = 404, body = ErrorBody, description = "40401: no such topic",
            content_type = "application/vnd.kafka.v2+json"),
        (status = 413, body = ErrorBody, content_type = "application/vnd.kafka.v2+json"),
        (status = 415, body = ErrorBody, content_type = "application/vnd.kafka.v2+json"),
        (status = 422, body = ErrorBody, description = "No records, or unknown fields",
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
    let options = ProduceOptions::read(&headers, query.as_deref())?;
    let bytes = body::read(&state.bodies, request).await?;
    let topic = find_or_create(&state, &topic).await?;
    produce(&state, &topic, None, &options, &bytes).await
}

/// Produces records to one partition.
#[utoipa::path(
    post, path = "/topics/{topic}/partitions/{partition}", tag = "records",
    operation_id = "produceToPartition",
    params(
        ("topic" = String, Path, description = "Name of the topic", example = "orders"),
        ("partition" = i32, Path, description = "Number of the partition; a record's own wins", example = 0),
        ("acks" = Option<String>, Query, description = "0, 1 or all (default)"),
    ),
    request_body(content(
        (ProduceBody = "application/vnd.kafka.json.v2+json"),
        (ProduceBody = "application/vnd.kafka.binary.v2+json"),
        (ProduceBody = "application/vnd.kafka.text.v2+json"),
        (ProduceBody = "application/json"),
    )),
    responses(
        (status = 200, body = ProduceAnswer, content_type = "application/vnd.kafka.v2+json"),
        (status = 400, body = ErrorBody, content_type = "application/vnd.kafka.v2+json"),
        (status = 404, body = ErrorBody, description = "40401: no such topic, 40402: no such partition",
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
    let options = ProduceOptions::read(&headers, query.as_deref())?;
    let bytes = body::read(&state.bodies, request).await?;
    find_or_create(&state, &topic).await?;
    let (topic, partition) = partitions::find(&state, &topic, &partition)?;
    produce(&state, &topic, Some(partition), &options, &bytes).await
}

/// What the head of a request says.
struct ProduceOptions {
    format: Embedded,
    level: AckLevel,
    trace: Vec<(&'static str, Vec<u8>)>,
}

impl ProduceOptions {
    fn read(headers: &HeaderMap, query: Option<&str>) -> ApiResult<Self> {
        let format = media::produce_format(headers)?;
        media::accepted(headers)?;
        let level = match query::find(query, "acks")?.as_deref() {
            None | Some("all" | "-1") => AckLevel::Durable,
            Some("1") => AckLevel::Written,
            Some("0") => AckLevel::None,
            Some(other) => {
                let message = format!("acks '{other}' is not 0, 1 or all");
                return Err(ApiError::bad_request(message));
            }
        };
        Ok(Self { format, level, trace: trace_context(headers) })
    }
}

/// Takes the trace context of a request, if it is one (W3C Trace Context, section 3.2).
fn trace_context(headers: &HeaderMap) -> Vec<(&'static str, Vec<u8>)> {
    let parent = headers.get(&TRACE_HEADERS[0]).map(http::HeaderValue::as_bytes);
    let is_valid = |value: &[u8]| {
        value.len() >= 55
            && value.get(2) == Some(&b'-')
            && value.get(35) == Some(&b'-')
            && value.get(52) == Some(&b'-')
            && value.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f' | b'-'))
    };
    let Some(parent) = parent.filter(|value| is_valid(value)) else { return Vec::new() };
    let mut context = vec![("traceparent", parent.to_vec())];
    if let Some(tracestate) = headers.get(&TRACE_HEADERS[1]) {
        context.push(("tracestate", tracestate.as_bytes().to_vec()));
    }
    context
}

async fn find_or_create(state: &AppState, name: &str) -> ApiResult<Arc<Topic>> {
    if let Some(topic) = state.engine.topics.find(name) {
        return Ok(topic);
    }
    match state.engine.topics.auto_create(name).await {
        Some(created) => Ok(created?),
        None => Err(ApiError::topic_not_found(name)),
    }
}

/// A batch being filled, and which records of the request are in it.
struct Slot {
    partition: PartitionId,
    builder: BatchBuilder,
    /// Index of each record in the request, in the order of the batch.
    indexes: Vec<usize>,
}

/// The fate of one record.
type Outcome = Result<(PartitionId, i64), ApiError>;

async fn produce(
    state: &AppState,
    topic: &Topic,
    partition: Option<PartitionId>,
    options: &ProduceOptions,
    bytes: &[u8],
) -> ApiResult<Response> {
    let (slots, mut outcomes) = {
        let request = ProduceRequest::parse(bytes)?;
        fill(state, topic, partition, options, &request)?
    };
    // Every batch is written before the first wait, in the order of the request.
    let mut pending = Vec::with_capacity(slots.len());
    for slot in slots {
        let append = Append {
            topic: topic.name.clone(),
            partition: slot.partition,
            batch: slot.builder.finish(),
            level: options.level,
        };
        let answer = state.engine.log.append(append);
        pending.push((slot.partition, slot.indexes, answer));
    }
    for (partition, indexes, answer) in pending {
        note(partition, &indexes, answer.await, &mut outcomes);
    }
    Ok(super::raw_json(StatusCode::OK, encode_answer(&outcomes)))
}

/// Places every record into a batch of its partition.
fn fill(
    state: &AppState,
    topic: &Topic,
    partition: Option<PartitionId>,
    options: &ProduceOptions,
    request: &ProduceRequest<'_>,
) -> ApiResult<(Vec<Slot>, Vec<Option<Outcome>>)> {
    let now = state.clock.now_ms();
    let count = request.records.len();
    let mut outcomes: Vec<Option<Outcome>> = vec![None; count];
    let mut slots: Vec<Slot> = Vec::with_capacity(1);
    let mut decoded = Decoded::default();
    let mut keyless = None;
    for (index, record) in request.records.iter().enumerate() {
        record.decode_key(index, options.format, &mut decoded.key)?;
        record.decode_rest(index, options.format, &mut decoded)?;
        let place = record.partition.or(partition).unwrap_or_else(|| {
            if record.has_key() {
                partition_for_key(&decoded.key, topic.partition_count)
            } else {
                *keyless.get_or_insert_with(|| next_keyless(state, topic.partition_count))
            }
        });
        if !(0..topic.partition_count).contains(&place) {
            let missing = ApiError::partition_not_found(topic.name.as_str(), place);
            if let Some(outcome) = outcomes.get_mut(index) {
                *outcome = Some(Err(missing));
            }
            continue;
        }
        let bytes = decoded.bytes() + RECORD_OVERHEAD_BYTES;
        let slot = slot_for(&mut slots, place, bytes, count);
        push(slot, record, &decoded, options, now);
        slot.indexes.push(index);
    }
    Ok((slots, outcomes))
}

fn next_keyless(state: &AppState, partition_count: PartitionId) -> PartitionId {
    // Only spreads requests over partitions: no order is needed.
    let turn = state.keyless_turn.fetch_add(1, Ordering::Relaxed) & 0x7fff_ffff;
    turn.cast_signed().checked_rem(partition_count).unwrap_or(0)
}

/// Finds the last batch of a partition if it has room for `bytes` more, or starts one. A record
/// that is too large for any batch is alone in its own, so it fails alone.
fn slot_for(
    slots: &mut Vec<Slot>,
    partition: PartitionId,
    bytes: usize,
    records: usize,
) -> &mut Slot {
    let last = slots.iter().rposition(|slot| slot.partition == partition);
    let has_room = |slot: &Slot| slot.builder.bytes() + bytes <= BATCH_BYTES;
    let at = last.filter(|at| slots.get(*at).is_some_and(has_room)).unwrap_or_else(|| {
        let builder = BatchBuilder::with_capacity(bytes.max(records.min(1024) * 64));
        slots.push(Slot { partition, builder, indexes: Vec::new() });
        slots.len() - 1
    });
    &mut slots[at]
}

fn push(
    slot: &mut Slot,
    record: &RecordRequest<'_>,
    decoded: &Decoded,
    options: &ProduceOptions,
    now: i64,
) {
    let key = record.has_key().then_some(decoded.key.as_slice());
    let value = record.has_value().then_some(decoded.value.as_slice());
    let own = decoded.headers.iter().map(|(k, v)| (k.as_slice(), v.as_deref()));
    let has_own_trace = own.clone().any(|(key, _)| key == b"traceparent");
    let traces: &[_] = if has_own_trace { &[] } else { &options.trace };
    let traces = traces.iter().map(|(k, v)| (k.as_bytes(), Some(v.as_slice())));
    slot.builder.push(record.timestamp.unwrap_or(now), key, value, own.chain(traces));
}

fn note(
    partition: PartitionId,
    indexes: &[usize],
    answer: Result<Receipt, AppendError>,
    outcomes: &mut [Option<Outcome>],
) {
    let answer = answer.map_err(record_error);
    for (index, delta) in indexes.iter().zip(0_i64..) {
        if let Some(outcome) = outcomes.get_mut(*index) {
            let fate = answer.as_ref().map(|receipt| (partition, receipt.base_offset + delta));
            *outcome = Some(fate.map_err(ApiError::clone));
        }
    }
}

/// The error of one record. v2 has no code of its own for records that are too large: they are
/// errors of Kafka that stay errors.
fn record_error(error: AppendError) -> ApiError {
    let is_too_large = matches!(error, AppendError::TooLarge { .. });
    let error = ApiError::from(error);
    if is_too_large { ApiError { code: KAFKA_ERROR, ..error } } else { error }
}

fn encode_answer(outcomes: &[Option<Outcome>]) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + outcomes.len() * 64);
    out.extend_from_slice(b"{\"offsets\":[");
    for (at, outcome) in outcomes.iter().flatten().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        match outcome {
            Ok((partition, offset)) => {
                out.extend_from_slice(b"{\"partition\":");
                json::integer_into(*partition, &mut out);
                out.extend_from_slice(b",\"offset\":");
                json::integer_into(*offset, &mut out);
                out.extend_from_slice(b",\"error_code\":null,\"error\":null}");
            }
            Err(error) => {
                out.extend_from_slice(b"{\"partition\":null,\"offset\":null,\"error_code\":");
                json::integer_into(error.code, &mut out);
                out.extend_from_slice(b",\"error\":");
                json::string_into(&error.message, &mut out);
                out.push(b'}');
            }
        }
    }
    out.extend_from_slice(b"],\"key_schema_id\":null,\"value_schema_id\":null}");
    out
}
