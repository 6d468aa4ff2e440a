//! Live streams: records as server-sent events, as they come.
//!
//! The log is the buffer: a [`body`] pulls from the log at its client's pace, and what
//! is new is encoded once for all streams of a partition ([`tail`]). Every event has an id from
//! which a stream continues exactly, on this server or after it was restarted ([`cursor`]).
//!
//! `params` reads what the client wants, `start` resolves it to positions, `chunk` and `data`
//! encode records, `frame` gathers them, `waits` and `life` say when to go on and when to end.

mod announce;
mod body;
mod chunk;
mod data;
mod events;
mod frame;
mod life;
mod params;
mod sse;
mod start;
mod tail;
mod waits;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use self::body::{Part, Plan, StreamBody, positions};
use self::cursor::{ClusterTag, Head, cluster_tag};
use self::events::Gap;
use self::frame::IdMode;
use self::life::{Closed, Life};
use self::params::{Ids, Params, Until};
use self::start::Start;
use self::tail::Tails;
use super::error::{ApiError, ApiResult, ErrorBody};
use super::metrics::{HttpMetrics, ReasonLabels};
use super::record::cursor;
use super::state::{AppState, StreamOptions};
use crate::base::clock::SharedClock;
use crate::base::ids::TimestampMs;
use crate::base::limits::CURSOR_BYTES_MAX;
use crate::base::shutdown::Shutdown;
use crate::engine::Engine;
use crate::engine::topics::Topic;

/// How long a client shall wait before it connects again when the connection breaks.
const RETRY: &[u8] = b"retry: 2000\n";

/// Partitions up to which every record has a cursor by default.
const IDS_EACH_PARTITIONS_MAX: usize = 8;

/// All live streams of a server. A clone is the same hub.
#[derive(Clone)]
pub struct StreamHub(Arc<Hub>);

struct Hub {
    engine: Engine,
    clock: SharedClock,
    options: StreamOptions,
    metrics: Arc<HttpMetrics>,
    shutdown: Shutdown,
    cluster: ClusterTag,
    tails: Arc<Tails>,
    /// Streams open. A plain counter: nothing else is published through it.
    open: AtomicUsize,
}

impl std::fmt::Debug for StreamHub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let open = self.0.open.load(Ordering::Relaxed);
        f.debug_struct("StreamHub").field("open", &open).finish_non_exhaustive()
    }
}

/// The right to have one stream open, until it is dropped.
struct Permit {
    hub: Arc<Hub>,
    phase: Phase,
}

/// How far a stream came, so that its end is counted once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// It may still be refused.
    Opening,
    /// It was answered.
    Open,
    /// Its end was counted.
    Closed,
}

// === impl Permit ===

impl Permit {
    fn acquire(hub: &Arc<Hub>) -> ApiResult<Self> {
        let before = hub.open.fetch_add(1, Ordering::Relaxed);
        if before >= hub.options.streams_max {
            hub.open.fetch_sub(1, Ordering::Relaxed);
            let message = format!("server has {before} live streams open, as many as it may");
            return Err(ApiError::status(StatusCode::TOO_MANY_REQUESTS, message));
        }
        hub.metrics.streams_active.inc();
        Ok(Self { hub: Arc::clone(hub), phase: Phase::Opening })
    }

    fn engine(&self) -> &Engine {
        &self.hub.engine
    }

    fn cluster(&self) -> ClusterTag {
        self.hub.cluster
    }

    fn now_ms(&self) -> TimestampMs {
        self.hub.clock.now_ms()
    }

    fn count_records(&self, records: u64) {
        self.hub.metrics.stream_records.inc_by(records);
    }

    fn count_bytes(&self, bytes: usize) {
        self.hub.metrics.stream_bytes.inc_by(bytes as u64);
    }

    fn count_gap(&self, gap: Gap) {
        self.hub.metrics.stream_gaps.get_or_create(&gap.reason.labels()).inc();
    }

    fn opened(mut self) -> Self {
        self.phase = Phase::Open;
        self
    }

    fn close(&mut self, reason: Closed) {
        if self.phase == Phase::Open {
            self.phase = Phase::Closed;
            let labels = ReasonLabels { reason: reason.as_str() };
            self.hub.metrics.streams_closed.get_or_create(&labels).inc();
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        // Who drops the body before its end is the client.
        self.close(Closed::Client);
        self.hub.open.fetch_sub(1, Ordering::Relaxed);
        self.hub.metrics.streams_active.dec();
    }
}

// === impl StreamHub ===

impl StreamHub {
    /// Makes a hub without streams.
    #[must_use]
    pub fn new(
        engine: Engine,
        clock: SharedClock,
        options: StreamOptions,
        metrics: Arc<HttpMetrics>,
        shutdown: Shutdown,
    ) -> Self {
        let cluster = cluster_tag(&engine.node.cluster_id);
        let tails = Tails::new(engine.clone(), shutdown.clone(), cluster);
        let open = AtomicUsize::new(0);
        Self(Arc::new(Hub { engine, clock, options, metrics, shutdown, cluster, tails, open }))
    }

    /// Opens a stream of one topic and answers it.
    ///
    /// # Errors
    /// As [`topic_stream`] documents.
    ///
    /// # Cancel safety
    /// Safe: nothing changes.
    pub async fn open(
        &self,
        topic: &str,
        query: Option<&str>,
        headers: &HeaderMap,
    ) -> ApiResult<Response> {
        let hub = &self.0;
        params::check_accept(headers)?;
        let params = Params::parse(query, headers)?;
        if params.subscription.is_done() {
            let no_store = [(header::CACHE_CONTROL, "no-store")];
            return Ok((StatusCode::NO_CONTENT, no_store).into_response());
        }
        let topic =
            hub.engine.topics.find(topic).ok_or_else(|| ApiError::topic_not_found(topic))?;
        let permit = Permit::acquire(hub)?;
        let now = hub.clock.now_ms();
        let start = start::resolve(&hub.engine, &topic, &params, hub.cluster, now).await?;
        let parts = hub.parts(&topic, &params, &start)?;
        let bytes = cursor::bytes_max(positions(&parts));
        if bytes > CURSOR_BYTES_MAX {
            let count = parts.len();
            let message = format!(
                "the cursor of {count} partitions would take {bytes} bytes of \
                 {CURSOR_BYTES_MAX}: select some with partitions="
            );
            return Err(ApiError::bad_request(message));
        }
        for gap in &start.gaps {
            permit.count_gap(*gap);
        }
        Ok(hub.respond(permit, topic, parts, &params, &start))
    }
}

impl Hub {
    fn parts(&self, topic: &Arc<Topic>, params: &Params, start: &Start) -> ApiResult<Vec<Part>> {
        let part = |span: &start::Span| {
            let receiver = Some(self.engine.log.watch(&topic.name, span.partition)?);
            let tail = self.tails.tail(topic, span.partition, params.shape.format);
            Ok(Part { span: *span, tail, receiver, is_open: true })
        };
        start.spans.iter().map(part).collect()
    }

    fn respond(
        &self,
        permit: Permit,
        topic: Arc<Topic>,
        parts: Vec<Part>,
        params: &Params,
        start: &Start,
    ) -> Response {
        let stream_id = life::random_stream_id();
        let head = Head { is_done: false, cluster: self.cluster, limit: start.remaining };
        let cursor = cursor::to_bytes(head, positions(&parts));
        let opening = opening(&stream_id, &cursor, &topic, &parts, start);
        let until = match params.subscription.until {
            Some(Until::Timestamp(at)) => Some(at),
            Some(Until::End) | None => None,
        };
        let wait_ms = until.map(|at| at.saturating_sub(self.clock.now_ms()));
        let wait = wait_ms.and_then(|ms| u64::try_from(ms).ok()).filter(|ms| *ms > 0);
        let life = Life::new(
            params.subscription.heartbeat.unwrap_or(self.options.heartbeat),
            self.options.age_max,
            wait.map(Duration::from_millis),
            &self.shutdown,
        );
        let plan = Plan {
            ids: id_mode(params.shape.ids, parts.len(), start.remaining),
            on_gap: params.subscription.on_gap,
            until,
            remaining: start.remaining,
        };
        let body = StreamBody::new(permit.opened(), topic, parts, plan, life, opening);
        let mut response = Response::new(Body::new(body));
        let headers = response.headers_mut();
        for (name, value) in [
            (header::CONTENT_TYPE, params::EVENT_STREAM),
            (header::CACHE_CONTROL, "no-cache, no-store, no-transform"),
            (HeaderName::from_static("x-accel-buffering"), "no"),
            (header::VARY, "accept, origin"),
            (HeaderName::from_static("stream-resume"), start.resumed.as_str()),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        for (name, value) in [("stream-id", stream_id.as_bytes()), ("stream-cursor", &cursor)] {
            if let Ok(value) = HeaderValue::from_bytes(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
        response
    }
}

/// The first frame, which is sent at once: it primes the client's cursor before there is a record.
fn opening(stream: &str, cursor: &[u8], topic: &Topic, parts: &[Part], start: &Start) -> Bytes {
    let name = topic.name.as_str();
    let mut out = RETRY.to_vec();
    let ready = events::ready(stream, start.resumed.as_str(), name, positions(parts));
    sse::event_into("ready", Some(cursor), &ready, &mut out);
    for gap in &start.gaps {
        sse::event_into("gap", Some(cursor), &gap.json(name), &mut out);
    }
    out.into()
}

fn id_mode(ids: Ids, partition_count: usize, remaining: Option<u64>) -> IdMode {
    match ids {
        Ids::Flush => IdMode::Flush,
        Ids::Auto if partition_count > IDS_EACH_PARTITIONS_MAX => IdMode::Flush,
        // The ids that chunks have say nothing of other partitions and of a budget.
        _ if partition_count == 1 && remaining.is_none() => IdMode::Shared,
        Ids::Auto | Ids::Each => IdMode::Each,
    }
}

/// Streams the records of a topic as server-sent events.
///
/// The first event is `ready`; records are events without a name (`message`) whose id is a cursor.
/// An EventSource that connects again sends the cursor itself and continues with the next record.
#[utoipa::path(
    get, path = "/topics/{topic}/stream", tag = "streams", operation_id = "streamTopic",
    params(
        ("topic" = String, Path, description = "Name of the topic", example = "orders"),
        ("from" = Option<String>, Query, example = "latest",
            description = "Where to begin: latest (default), earliest, -N (last N of each \
                partition), offset:P=O,P=O, an RFC 3339 timestamp or epoch ms"),
        ("since" = Option<String>, Query, description = "Another name of from"),
        ("partitions" = Option<String>, Query, example = "0,2",
            description = "Partitions to stream; all by default"),
        ("until" = Option<String>, Query,
            description = "Where to end: end (what is the end now), an RFC 3339 timestamp or \
                epoch ms"),
        ("limit" = Option<u64>, Query, minimum = 1, description = "Records after which to end"),
        ("data" = Option<String>, Query, example = "envelope",
            description = "What an event carries: envelope (default) or value"),
        ("decode" = Option<String>, Query, example = "auto",
            description = "How values are shown: auto (default), json, text or base64"),
        ("ids" = Option<String>, Query, example = "auto",
            description = "Which events carry a cursor: each, flush (the last one written at \
                once), or auto (default): each for up to 8 partitions"),
        ("heartbeat" = Option<u64>, Query, minimum = 1, maximum = 60,
            description = "Seconds between pings on an idle stream"),
        ("on_gap" = Option<String>, Query, example = "event",
            description = "When records are missing: event (default) tells and goes on, fail ends"),
        ("last_event_id" = Option<String>, Query,
            description = "A cursor, or a JSON list of {topic, partition, offset or timestamp}"),
        ("lastEventId" = Option<String>, Query, description = "Another name of last_event_id"),
        ("Last-Event-ID" = Option<String>, Header,
            description = "A cursor; goes before last_event_id, which goes before from"),
    ),
    responses(
        (status = 200, body = String, content_type = "text/event-stream",
            description = "Events without an end: ready, records, ping, caught-up, gap, fault, end",
            headers(
                ("Stream-Id" = String, description = "Identity of this stream"),
                ("Stream-Resume" = String, description = "fresh, exact or gap"),
                ("Stream-Cursor" = String, description = "The cursor that the stream begins at"),
            )),
        (status = 204, description = "The cursor is of a stream that came to its end"),
        (status = 400, body = ErrorBody, description = "A parameter or the cursor is not valid",
            content_type = "application/vnd.kafka.v2+json"),
        (status = 404, body = ErrorBody, content_type = "application/vnd.kafka.v2+json",
            description = "40401: no such topic, 40402: no such partition"),
        (status = 406, body = ErrorBody, content_type = "application/vnd.kafka.v2+json",
            description = "The client does not accept text/event-stream"),
        (status = 410, body = ErrorBody, description = "Records are missing and on_gap is fail",
            content_type = "application/vnd.kafka.v2+json"),
        (status = 429, body = ErrorBody, description = "Too many streams are open",
            content_type = "application/vnd.kafka.v2+json"),
    )
)]
pub async fn topic_stream(
    State(state): State<AppState>,
    Path(topic): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> ApiResult<Response> {
    state.streams.open(&topic, query.as_deref(), &headers).await
}
