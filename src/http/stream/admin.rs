//! Looking at live streams, and ending them.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use utoipa::ToSchema;

use super::StreamHub;
use super::open_streams::{OpenStream, Progress, Spot};
use crate::base::ids::TimestampMs;
use crate::http::error::{ApiError, ApiResult, ErrorBody};
use crate::http::state::AppState;
use crate::http::{media, query};

/// Streams that one answer lists unless `limit` says.
const PAGE_DEFAULT: usize = 100;

/// Streams that one answer lists at most.
const PAGE_MAX: usize = 1000;

/// Code of a stream that is not there.
const STREAM_NOT_FOUND: u32 = 40406;

/// One open stream.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct StreamInfo {
    /// Its identity, as `Stream-Id` has it.
    #[schema(example = "s-000e5b638bc89ed9")]
    id: String,
    /// Address and port of the client, or of the proxy in front of it.
    #[schema(example = "192.0.2.7:51334")]
    client: Option<String>,
    /// Its topics.
    #[schema(example = json!(["orders"]))]
    topics: Vec<String>,
    /// Number of its partitions.
    #[schema(example = 2)]
    partitions: usize,
    /// Records that it is behind by, in all partitions.
    #[schema(example = 0)]
    lag: i64,
    /// Milliseconds since it was opened.
    #[schema(example = 15_000)]
    age_ms: i64,
    /// Records sent.
    #[schema(example = 1024)]
    records: u64,
    /// Bytes sent.
    #[schema(example = 524_288)]
    bytes: u64,
    /// Where it is; only when one stream is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    positions: Option<Vec<StreamPosition>>,
}

/// Where a stream is in one partition.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct StreamPosition {
    /// The topic.
    #[schema(example = "orders")]
    topic: String,
    /// The partition.
    #[schema(example = 0)]
    partition: i32,
    /// The next offset to deliver.
    #[schema(example = 254)]
    offset: i64,
    /// Records that are behind it.
    #[schema(example = 0)]
    lag: i64,
}

/// A page of open streams.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct StreamList {
    /// Streams by identity.
    streams: Vec<StreamInfo>,
    /// All streams that are open.
    #[schema(example = 1)]
    total: usize,
}

impl StreamHub {
    fn lag(&self, spot: &Spot) -> i64 {
        let bounds = self.0.engine.log.bounds(&spot.topic.name, spot.partition);
        bounds.map_or(0, |bounds| bounds.high_watermark.saturating_sub(spot.next).max(0))
    }

    fn describe(&self, stream: &OpenStream, progress: &Progress, now: TimestampMs) -> StreamInfo {
        let Progress { records, bytes, spots } = progress;
        let topics: BTreeSet<_> = spots.iter().map(|spot| spot.topic.name.to_string()).collect();
        StreamInfo {
            id: stream.id.clone(),
            client: stream.client.map(|client| client.to_string()),
            topics: topics.into_iter().collect(),
            partitions: spots.len(),
            lag: spots.iter().map(|spot| self.lag(spot)).fold(0, i64::saturating_add),
            age_ms: now.saturating_sub(stream.opened).max(0),
            records: *records,
            bytes: *bytes,
            positions: None,
        }
    }
}

/// Lists the open live streams.
#[utoipa::path(
    get, path = "/streams", tag = "streams", operation_id = "listStreams",
    params(
        ("limit" = Option<usize>, Query, minimum = 1, maximum = 1000,
            description = "Streams to list, 100 by default"),
        ("after" = Option<String>, Query, example = "s-000e5b638bc89ed9",
            description = "List those whose identity is behind this one"),
    ),
    responses(
        (status = 200, body = StreamList, description = "Streams, by identity"),
        (status = 400, body = ErrorBody, description = "limit is not a number from 1 to 1000",
            content_type = "application/vnd.kafka.v2+json"),
    )
)]
pub(super) async fn list(
    State(state): State<AppState>,
    RawQuery(query): RawQuery,
) -> ApiResult<Response> {
    let query = query.as_deref();
    let limit: usize = query::number(query, "limit")?.unwrap_or(PAGE_DEFAULT);
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(ApiError::bad_request(format!("limit '{limit}' is not from 1 to {PAGE_MAX}")));
    }
    let after = query::find(query, "after")?.unwrap_or_default();
    let (hub, now) = (&state.streams, state.clock.now_ms());
    let streams = hub.0.open.list(&after, limit);
    let describe = |stream: &Arc<OpenStream>| hub.describe(stream, &stream.progress(), now);
    let streams = streams.iter().map(describe).collect();
    Ok(json(&StreamList { streams, total: hub.0.open.len() }))
}

/// Describes one live stream.
#[utoipa::path(
    get, path = "/streams/{id}", tag = "streams", operation_id = "getStream",
    params(("id" = String, Path, description = "Identity of the stream",
        example = "s-000e5b638bc89ed9")),
    responses(
        (status = 200, body = StreamInfo, description = "The stream, with its positions"),
        (status = 404, body = ErrorBody, description = "40406: no such stream is open",
            content_type = "application/vnd.kafka.v2+json"),
    )
)]
pub(super) async fn get(
    State(state): State<AppState>,
    Path(id): Path<String>,
) -> ApiResult<Response> {
    let hub = &state.streams;
    let stream = hub.0.open.find(&id).ok_or_else(|| not_found(&id))?;
    let position = |spot: &Spot| StreamPosition {
        topic: spot.topic.name.to_string(),
        partition: spot.partition,
        offset: spot.next,
        lag: hub.lag(spot),
    };
    let progress = stream.progress();
    let mut info = hub.describe(&stream, &progress, state.clock.now_ms());
    info.positions = Some(progress.spots.iter().map(position).collect());
    Ok(json(&info))
}

/// Ends a live stream: its client gets a `fault` and, at its next try, 204.
#[utoipa::path(
    delete, path = "/streams/{id}", tag = "streams", operation_id = "closeStream",
    params(("id" = String, Path, description = "Identity of the stream",
        example = "s-000e5b638bc89ed9")),
    responses(
        (status = 204, description = "The stream ends"),
        (status = 404, body = ErrorBody, description = "40406: no such stream is open",
            content_type = "application/vnd.kafka.v2+json"),
    )
)]
pub(super) async fn close(
    State(state): State<AppState>,
    Path(id): Path<String>,
) -> ApiResult<StatusCode> {
    if state.streams.0.open.condemn(&id) {
        tracing::info!(stream = id, "stream closed by administrator");
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(not_found(&id))
    }
}

fn not_found(id: &str) -> ApiError {
    let message = format!("stream '{id}' is not open");
    ApiError::new(StatusCode::NOT_FOUND, STREAM_NOT_FOUND, message)
}

fn json(value: &impl Serialize) -> Response {
    let body = serde_json::to_vec(value).unwrap_or_default();
    ([(header::CONTENT_TYPE, HeaderValue::from_static(media::JSON))], body).into_response()
}
