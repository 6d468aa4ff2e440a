//! Plain reads: records over HTTP without a stream, a group or any state on the server.
//!
//! A request says where to begin and how much it takes; the answer has a cursor to go on with, and
//! `wait` makes it a long poll. The same request is answered with the same records, so caches and
//! repeats are harmless. `params` reads the request, `start` resolves it to offsets, `gather` reads
//! and waits, `answer` writes; `single` is one record as it was produced.

mod answer;
mod gather;
mod params;
mod single;
mod start;

use axum::extract::{OriginalUri, Path, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, Uri};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use self::answer::{Asked, STREAM_CURSOR, Waited};
use self::gather::{gather, grown, open};
use self::params::Params;
use self::start::{Begin, NoStart, resolve};
use super::error::{ApiError, ApiResult, ErrorBody};
use super::plain::schema::CloudEvent;
use super::record::cursor::Position;
use super::state::AppState;
use super::v2::partitions;
use super::v2::records::ConsumedRecord;
use crate::base::ids::PartitionId;
use crate::engine::topics::Topic;

/// The routes of this module.
pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(read_topic))
        .routes(routes!(read_partition))
        .routes(routes!(single::read_record))
}

/// The query of a plain read.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "describes the query, which is parsed by hand")]
struct ReadQuery {
    /// Where to begin: earliest (default), latest, -N (last N of each partition), offset:P=O,P=O,
    /// an RFC 3339 timestamp or epoch ms.
    #[param(example = "-10")]
    from: Option<String>,
    /// Another name of from.
    since: Option<String>,
    /// Where to begin: the cursor of an earlier answer or of a live stream.
    after: Option<String>,
    /// Records at most.
    #[param(minimum = 1, maximum = 100_000, default = 1000)]
    limit: Option<u32>,
    /// Bytes of keys, values and headers at most; a first record that is larger comes alone.
    #[param(minimum = 1, default = 4_194_304)]
    max_bytes: Option<u64>,
    /// How long to wait for a first record: 25s, 500ms or a number of milliseconds, at most 300 s.
    #[param(example = "25s")]
    wait: Option<String>,
    /// Another name of wait.
    timeout: Option<String>,
    /// `read_committed` (default) or `read_uncommitted`.
    isolation: Option<String>,
    /// How keys and values are shown: auto (default), json, text or base64.
    #[param(example = "auto")]
    decode: Option<String>,
    /// `json`, `ndjson` or `cloudevents`, in place of Accept.
    format: Option<String>,
}

/// What only a read of a whole topic takes.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "describes the query, which is parsed by hand")]
struct TopicQuery {
    /// Partitions to read; all by default.
    #[param(example = "0,2")]
    partitions: Option<String>,
}

/// What only a read of one partition takes.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "describes the query, which is parsed by hand")]
struct PartitionQuery {
    /// Where to begin: an offset.
    #[param(minimum = 0, example = 0)]
    offset: Option<i64>,
}

/// One record with everything about it, as live streams send it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RecordEnvelope {
    /// Its topic.
    #[schema(example = "orders")]
    pub(super) topic: String,
    /// Its partition.
    #[schema(example = 0)]
    pub(super) partition: i32,
    /// Its offset.
    #[schema(example = 42)]
    pub(super) offset: i64,
    /// Milliseconds since the epoch.
    #[schema(example = 1_790_000_000_000_i64)]
    pub(super) timestamp: i64,
    /// `create` or `append`: whose clock the timestamp is of.
    #[schema(example = "create")]
    pub(super) timestamp_type: String,
    /// Its key: JSON, text, or base64 as `key_encoding` says.
    #[schema(value_type = serde_json::Value, required = false)]
    pub(super) key: Option<serde_json::Value>,
    /// `base64`, if the key is that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) key_encoding: Option<String>,
    /// Its headers: name, value, and `base64` as a third element if the value is that.
    #[schema(example = json!([["source", "web"]]))]
    pub(super) headers: Vec<Vec<Option<String>>>,
    /// Its value: JSON, text, or base64 as `value_encoding` says; null for a tombstone.
    #[schema(value_type = serde_json::Value, required = false)]
    pub(super) value: Option<serde_json::Value>,
    /// `base64`, if the value is that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) value_encoding: Option<String>,
    /// true, if there is no value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tombstone: Option<bool>,
}

/// Where a partition stands.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PartitionEnd {
    /// The partition.
    #[schema(example = 0)]
    pub(super) partition: i32,
    /// Offset of the next record to read.
    #[schema(example = 43)]
    pub(super) next: i64,
    /// First readable offset.
    #[schema(example = 0)]
    pub(super) log_start_offset: i64,
    /// Offset after the last record.
    #[schema(example = 43)]
    pub(super) high_watermark: i64,
}

/// Records, and where to go on.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RecordPage {
    /// The records; in order within each partition.
    pub(super) records: Vec<RecordEnvelope>,
    /// The cursor: pass it as `after`.
    #[schema(example = "1.AQABAgMEBwIA_gEB2ATrXw")]
    pub(super) next: String,
    /// Where the partitions stand.
    pub(super) end: Vec<PartitionEnd>,
}

/// Reads records of a topic.
///
/// Nothing is kept on the server: the same request reads the same records, and `after` goes on.
#[utoipa::path(
    get, path = "/topics/{topic}/records", tag = "records", operation_id = "readTopic",
    params(
        ("topic" = String, Path, description = "Name of the topic", example = "orders"),
        TopicQuery, ReadQuery,
        ("If-None-Match" = Option<String>, Header, description = "The ETag of an earlier answer"),
    ),
    responses(
        (status = 200, description = "Records, perhaps none", content(
            (RecordPage = "application/json"),
            (RecordEnvelope = "application/x-ndjson"),
            (Vec<CloudEvent> = "application/cloudevents-batch+json"),
            (Vec<ConsumedRecord> = "application/vnd.kafka.json.v2+json"),
            (Vec<ConsumedRecord> = "application/vnd.kafka.binary.v2+json"),
            (Vec<ConsumedRecord> = "application/vnd.kafka.text.v2+json"),
        ), headers(
            ("Stream-Cursor" = String, description = "The cursor behind these records"),
            ("Link" = String, description = "The next page, rel=\"next\""),
            ("ETag" = String, description = "Stands for this range of records"),
        )),
        (status = 204, description = "wait is over and there was no record; Stream-Cursor says where to go on"),
        (status = 304, description = "The range is that of If-None-Match"),
        (status = 400, body = ErrorBody, description = "A parameter is not valid",
            content_type = "application/vnd.kafka.v2+json"),
        (status = 404, body = ErrorBody, description = "40401: no such topic, 40402: no such partition",
            content_type = "application/vnd.kafka.v2+json"),
        (status = 406, body = ErrorBody, description = "Nothing in Accept can be served",
            content_type = "application/vnd.kafka.v2+json"),
        (status = 410, body = ErrorBody, description = "The offset is gone; the message names the first there is",
            content_type = "application/vnd.kafka.v2+json"),
        (status = 416, body = ErrorBody, description = "The offset is past the tail, which the message names",
            content_type = "application/vnd.kafka.v2+json"),
    )
)]
async fn read_topic(
    State(state): State<AppState>,
    Path(topic): Path<String>,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let found = state.engine.topics.find(&topic);
    let topic = found.ok_or_else(|| ApiError::topic_not_found(&topic))?;
    read(&state, &topic, None, &uri, &headers).await
}

/// Reads records of one partition.
///
/// As for a topic, and `offset` says where to begin.
#[utoipa::path(
    get, path = "/topics/{topic}/partitions/{partition}/records", tag = "records",
    operation_id = "readPartition",
    params(
        ("topic" = String, Path, description = "Name of the topic", example = "orders"),
        ("partition" = i32, Path, description = "Number of the partition", example = 0),
        PartitionQuery, ReadQuery,
        ("If-None-Match" = Option<String>, Header, description = "The ETag of an earlier answer"),
    ),
    responses(
        (status = 200, description = "Records, perhaps none", content(
            (RecordPage = "application/json"),
            (RecordEnvelope = "application/x-ndjson"),
            (Vec<CloudEvent> = "application/cloudevents-batch+json"),
            (Vec<ConsumedRecord> = "application/vnd.kafka.json.v2+json"),
            (Vec<ConsumedRecord> = "application/vnd.kafka.binary.v2+json"),
            (Vec<ConsumedRecord> = "application/vnd.kafka.text.v2+json"),
        ), headers(
            ("Stream-Cursor" = String, description = "The cursor behind these records"),
            ("Link" = String, description = "The next page, rel=\"next\""),
            ("ETag" = String, description = "Stands for this range of records"),
        )),
        (status = 204, description = "wait is over and there was no record; Stream-Cursor says where to go on"),
        (status = 304, description = "The range is that of If-None-Match"),
        (status = 400, body = ErrorBody, description = "A parameter is not valid",
            content_type = "application/vnd.kafka.v2+json"),
        (status = 404, body = ErrorBody, description = "40401: no such topic, 40402: no such partition",
            content_type = "application/vnd.kafka.v2+json"),
        (status = 406, body = ErrorBody, description = "Nothing in Accept can be served",
            content_type = "application/vnd.kafka.v2+json"),
        (status = 410, body = ErrorBody, description = "The offset is gone; the message names the first there is",
            content_type = "application/vnd.kafka.v2+json"),
        (status = 416, body = ErrorBody, description = "The offset is past the tail, which the message names",
            content_type = "application/vnd.kafka.v2+json"),
    )
)]
async fn read_partition(
    State(state): State<AppState>,
    Path((topic, partition)): Path<(String, String)>,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let (topic, partition) = partitions::find(&state, &topic, &partition)?;
    read(&state, &topic, Some(partition), &uri, &headers).await
}

async fn read(
    state: &AppState,
    topic: &Topic,
    partition: Option<PartitionId>,
    uri: &Uri,
    headers: &HeaderMap,
) -> ApiResult<Response> {
    let params = Params::parse(uri.query(), headers, partition)?;
    let asked = Asked { state, topic, params: &params, uri, headers };
    let begins = match resolve(state, topic, &params).await {
        Ok(begins) => begins,
        Err(NoStart::Refused(error)) => return Err(error),
        Err(NoStart::Outside { error, nearest }) => {
            return Ok(outside(&asked, error, nearest));
        }
    };
    let mut deadline = std::pin::pin!(tokio::time::sleep(params.wait));
    let mut waited = Waited::No;
    loop {
        let lanes = open(state, topic, params.isolation, &begins)?;
        let mut gathered = gather(state, topic, &params, lanes).await?;
        let etag = asked.etag(&gathered.lanes);
        let is_new = gathered.records > 0 && !asked.has(etag.as_deref());
        if is_new || gathered.is_full || params.wait.is_zero() || waited == Waited::InVain {
            return Ok(asked.answer(&gathered, waited));
        }
        // A wait may be long: nothing is kept for it.
        gathered.pieces = Vec::new();
        tokio::select! {
            () = grown(&mut gathered.lanes) => {}
            () = deadline.as_mut() => waited = Waited::InVain,
            () = state.shutdown.stopping() => waited = Waited::InVain,
        }
    }
}

/// An error that says where a read of one partition may go on.
fn outside(asked: &Asked<'_>, error: ApiError, nearest: Begin) -> Response {
    let mut response = error.into_response();
    let only = asked.params.partitions.as_ref().map_or(asked.topic.partition_count, |chosen| {
        PartitionId::try_from(chosen.len()).unwrap_or(PartitionId::MAX)
    });
    let position = Position {
        incarnation: asked.topic.incarnation,
        partition: nearest.partition,
        next: nearest.offset,
    };
    if only == 1
        && let Ok(cursor) = HeaderValue::try_from(asked.cursor(std::iter::once(position)))
    {
        response.headers_mut().insert(STREAM_CURSOR, cursor);
    }
    response
}
