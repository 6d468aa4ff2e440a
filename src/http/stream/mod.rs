//! Live streams: records as server-sent events, as they come.
//!
//! The log is the buffer: a [`body`] pulls from the log at its client's pace, and what
//! is new is encoded once for all streams of a partition ([`tail`]). Every event has an id from
//! which a stream continues exactly, on this server or after it was restarted ([`cursor`]).
//!
//! `params` reads what the client wants, `wanted` finds its topics, `start` resolves both to
//! positions, `source` lets topics join later, `encode` makes chunks of records, `frame` gathers
//! them, `waits` and `life` say when to go on and when to end.

mod admin;
mod announce;
mod body;
mod chunk;
mod data;
#[allow(dead_code, reason = "it describes what `params` reads, for the specification")]
mod described;
mod encode;
mod events;
mod fill;
mod filter;
mod frame;
mod group;
mod life;
mod muted;
mod open_streams;
mod pace;
pub(super) mod params;
mod part;
mod plan;
mod routes;
mod source;
mod sse;
mod start;
mod stored;
mod tail;
mod take;
mod turns;
mod waits;
mod wanted;
mod wire;
mod ws;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use self::body::{Course, StreamBody};
use self::events::Fault;
use self::filter::Filters;
use self::life::Life;
use self::open_streams::{OpenStreams, Permit};
use self::params::{Format, Overflow, Params, Refusals, Subscription, Until, negotiate};
use self::part::{Part, Parts, places, positions};
use self::plan::{Ending, Plan};
use self::source::{Source, TopicsSource};
use self::start::Start;
use self::stored::StoredIds;
use self::tail::Tails;
use self::waits::Watch;
use self::wanted::Wanted;
use self::wire::Wire;
use super::error::{ApiError, ApiResult};
use super::metrics::HttpMetrics;
#[cfg(test)]
use super::metrics::ReasonLabels;
use super::record::cursor::{self, ClusterTag, Head, cluster_tag};
use super::state::StreamOptions;
use crate::base::clock::SharedClock;
use crate::base::shutdown::Shutdown;
use crate::engine::Engine;
use crate::engine::log::ReadError;

pub(super) use self::routes::routes;

/// Records that a partition may be behind by with `overflow=latest`, unless `max_lag` says.
const LAG_MAX_DEFAULT: i64 = 10_000;

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
    filters: Filters,
    websockets: ws::Count,
    open: OpenStreams,
}

impl std::fmt::Debug for StreamHub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamHub").field("open", &self.0.open.len()).finish_non_exhaustive()
    }
}

/// A request for a stream.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ask<'a> {
    /// The topic of the path; without it, parameters name topics.
    pub(super) topic: Option<&'a str>,
    pub(super) query: Option<&'a str>,
    /// Parameters as a JSON object.
    pub(super) body: Option<&'a [u8]>,
    pub(super) headers: &'a HeaderMap,
    /// Who asks, if that is known.
    pub(super) client: Option<SocketAddr>,
}

/// A stream that is open.
struct Opened {
    body: StreamBody,
    stream_id: String,
    cursor: Vec<u8>,
    resumed: &'static str,
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
        Self(Arc::new(Hub {
            engine,
            clock,
            options,
            metrics,
            shutdown,
            cluster,
            tails,
            filters: Filters::default(),
            websockets: ws::Count::default(),
            open: OpenStreams::default(),
        }))
    }

    /// Time over which the open streams end when the server stops.
    #[must_use]
    pub fn drain_spread(&self) -> Duration {
        self.0.drain_spread()
    }

    /// Opens a stream and answers it.
    ///
    /// # Errors
    /// As the routes document.
    ///
    /// # Cancel safety
    /// Safe: nothing changes.
    pub(super) async fn open(&self, ask: Ask<'_>) -> ApiResult<Response> {
        let params = Params::parse(ask.query, ask.body, ask.headers)?;
        let transport = params.shape.transport.map_or_else(|| negotiate(ask.headers), Ok)?;
        let wire = Wire::http(&params.shape, transport);
        let refusals = params.subscription.refusals;
        match self.0.open(&ask, params, wire.clone()).await {
            Ok(Some(opened)) => Ok(opened.answer(&wire)),
            Ok(None) => Ok(over()),
            Err(error) if refusals == Refusals::Soft && is_transient(&error) => {
                Ok(soften(&error, &wire))
            }
            Err(error) => Err(error),
        }
    }
}

impl Hub {
    fn drain_spread(&self) -> Duration {
        life::drain_spread(self.open.len(), self.options.drain_max)
    }

    /// Opens a stream; none if it came to its end before.
    async fn open(
        self: &Arc<Self>,
        ask: &Ask<'_>,
        mut params: Params,
        wire: Wire,
    ) -> ApiResult<Option<Opened>> {
        params.subscription.find_stored(&*self.engine.cursors);
        if params.subscription.is_done() {
            return Ok(None);
        }
        let wanted = match ask.topic {
            Some(topic) => Wanted::only(topic, &params.subscription)?,
            None => Wanted::several(&params.subscription)?,
        };
        let permit = Permit::acquire(self, ask.client)?;
        // Seen before the topics are looked up: what changes after that is news.
        let mut changes = self.engine.topics.watch_changes();
        changes.borrow_and_update();
        let (now, subscription) = (self.clock.now_ms(), &params.subscription);
        let (engine, shutdown) = (&self.engine, &self.shutdown);
        let start =
            start::resolve(engine, shutdown, &wanted, subscription, self.cluster, now).await?;
        let plan = self.plan(&wanted, &params, &start, wire);
        let parts = self.parts(&permit, &start, &plan)?;
        let stored = self.stored(&parts, &plan).await?;
        for gap in &start.gaps {
            permit.count_gap(gap);
        }
        let source = is_growing(&wanted, subscription).then(|| {
            let known: HashMap<_, _> =
                start.spans.iter().map(|(topic, _)| (topic.id, topic.partition_count)).collect();
            let topics = Arc::clone(&self.engine.topics);
            Box::new(TopicsSource::new(wanted, topics, known, changes)) as Box<dyn Source>
        });
        Ok(Some(self.begin(permit, Course { parts, source, stored }, plan, (&start, subscription))))
    }

    fn plan(&self, wanted: &Wanted, params: &Params, start: &Start, wire: Wire) -> Plan {
        let subscription = &params.subscription;
        Plan {
            ids: params.shape.ids,
            format: Format { framing: wire.framing(), ..params.shape.format.clone() },
            wire,
            filter: self.filters.filter(&params.shape.conditions),
            batch: params.shape.batch,
            isolation: start.isolation,
            on_gap: subscription.on_gap,
            lag_max: match subscription.overflow {
                Overflow::Latest => Some(subscription.max_lag.unwrap_or(LAG_MAX_DEFAULT)),
                Overflow::Lag => None,
            },
            until: match subscription.until {
                Some(Until::Timestamp(at)) => Some(at),
                Some(Until::End) | None => None,
            },
            budget: start.budget,
            ending: match wanted {
                Wanted::Only(_) => Ending::Topic,
                Wanted::Names(_) => Ending::AllTopics,
                Wanted::Pattern(_) => Ending::Never,
            },
        }
    }

    fn parts(&self, permit: &Permit, start: &Start, plan: &Plan) -> ApiResult<Parts> {
        let part = |(topic, span): &(_, start::Span)| {
            let topic: &Arc<crate::engine::topics::Topic> = topic;
            let watch = match self.engine.log.watch(&topic.name, span.partition) {
                Ok(watched) => Some(Watch::new(watched)),
                // It was told as a gap, and is only in the cursor.
                Err(ReadError::Storage(_)) if span.next >= span.bound => None,
                Err(error) => return Err(error.into()),
            };
            let tail = permit.tail(topic, span.partition, plan);
            Ok(Part { span: *span, sent: span.next, tail, watch, is_open: true, muted: None })
        };
        start.spans.iter().map(part).collect()
    }

    fn head(&self, plan: &Plan) -> Head {
        let Plan { budget, isolation, .. } = *plan;
        Head { is_done: false, cluster: self.cluster, budget, isolation }
    }

    /// The ids of a stream whose cursor is too long to send.
    async fn stored(&self, parts: &[Part], plan: &Plan) -> ApiResult<Option<Box<StoredIds>>> {
        if !StoredIds::are_needed(parts) {
            return Ok(None);
        }
        let store = Arc::clone(&self.engine.cursors);
        let opened = StoredIds::open(store, self.head(plan), parts).await;
        let refuse = |error: crate::engine::cursors::CursorStoreError| {
            ApiError::status(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
        };
        opened.map(|ids| Some(Box::new(ids))).map_err(refuse)
    }

    fn begin(
        &self,
        permit: Permit,
        course: Course,
        plan: Plan,
        (start, subscription): (&Start, &Subscription),
    ) -> Opened {
        let stream_id = permit.id().to_owned();
        let cursor = match &course.stored {
            Some(stored) => stored.text().to_vec(),
            None => cursor::to_bytes(self.head(&plan), positions(&course.parts)),
        };
        let opening = opening(&plan.wire, (&stream_id, &cursor), &course, start);
        let wait_ms = plan.until.map(|at| at.saturating_sub(self.clock.now_ms()));
        let wait = wait_ms.and_then(|ms| u64::try_from(ms).ok()).filter(|ms| *ms > 0);
        let life = Life::new(
            subscription.heartbeat.unwrap_or(self.options.heartbeat),
            plan.wire.age_max(self.options.age_max),
            wait.map(Duration::from_millis),
            &self.shutdown,
        );
        let body = StreamBody::new(permit.opened(), course, plan, life, opening);
        Opened { body, stream_id, cursor, resumed: start.resumed.as_str() }
    }
}

impl Opened {
    /// The answer over HTTP.
    fn answer(self, wire: &Wire) -> Response {
        let mut response = event_stream(Body::new(self.body), wire);
        let headers = response.headers_mut();
        let resumed = HeaderValue::from_static(self.resumed);
        headers.insert(HeaderName::from_static("stream-resume"), resumed);
        let (id, cursor) = (self.stream_id.as_bytes(), &self.cursor);
        for (name, value) in [("stream-id", id), ("stream-cursor", cursor)] {
            if let Ok(value) = HeaderValue::from_bytes(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
        response
    }
}

/// Tells whether topics or partitions may join a stream: not if it is bound to what there is.
fn is_growing(wanted: &Wanted, subscription: &Subscription) -> bool {
    match subscription.until {
        Some(Until::End) => false,
        Some(Until::Timestamp(_)) => wanted.is_growing(),
        None => subscription.partitions.is_none(),
    }
}

fn event_stream(body: Body, wire: &Wire) -> Response {
    let mut response = Response::new(body);
    for (name, value) in [
        (header::CONTENT_TYPE, wire.media_type()),
        (header::CACHE_CONTROL, "no-cache, no-store, no-transform"),
        (HeaderName::from_static("x-accel-buffering"), "no"),
        (header::VARY, "accept, origin"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// The answer to a client whose stream came to its end before: an EventSource stops at it.
fn over() -> Response {
    (StatusCode::NO_CONTENT, [(header::CACHE_CONTROL, "no-store")]).into_response()
}

/// Tells whether asking again may help.
fn is_transient(error: &ApiError) -> bool {
    error.status == StatusCode::TOO_MANY_REQUESTS || error.status.is_server_error()
}

/// A refusal as a stream: an EventSource reads it and comes back, where a status would end it.
fn soften(error: &ApiError, wire: &Wire) -> Response {
    let mut out = Vec::new();
    let fault = Fault::refused(error.status.as_u16(), error.message.clone());
    wire.event_into("fault", None, &fault.json(), &mut out);
    wire.retry_into(life::random_retry_ms(), &mut out);
    event_stream(Body::from(out), wire)
}

/// The first frame, which is sent at once: it primes the client's cursor before there is a record.
fn opening(wire: &Wire, (stream, cursor): (&str, &[u8]), course: &Course, start: &Start) -> Bytes {
    let mut out = wire.opening().to_vec();
    let member = course.source.as_ref().and_then(|source| source.member());
    let ready = events::ready(stream, start.resumed.as_str(), &places(&course.parts), member);
    // A cursor without positions would only replace a better one that the client has. In a group
    // the positions come with the assignment, and before it nothing is taken from the budget.
    let is_bounded = !start.budget.is_unlimited() && member.is_none();
    let id = (!course.parts.is_empty() || is_bounded).then_some(cursor);
    wire.event_into("ready", id, &ready, &mut out);
    for gap in &start.gaps {
        wire.event_into("gap", Some(cursor), &gap.json(), &mut out);
    }
    out.into()
}
