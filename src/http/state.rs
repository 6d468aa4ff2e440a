//! What every handler can reach.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use super::around::rate::RateLimiter;
use super::around::request_id::RequestIds;
use super::body::BodyBudget;
use super::link::Forwarded;
use super::metrics::HttpMetrics;
use super::stream::StreamHub;
use crate::base::clock::SharedClock;
use crate::base::shutdown::Shutdown;
use crate::consumers::Consumers;
use crate::engine::Engine;

/// Tells whether the server can do its work, with the reason when it cannot.
pub type Readiness = Arc<dyn Fn() -> Result<(), Vec<String>> + Send + Sync>;

/// Renders the metrics of the process.
pub type RenderMetrics = Arc<dyn Fn() -> String + Send + Sync>;

/// Settings of the HTTP door.
#[derive(Debug, Clone)]
pub struct HttpOptions {
    /// Authority to use in links when a request names none.
    pub authority: String,
    /// Host of the Kafka listener, as clients reach it.
    pub kafka_host: String,
    /// Port of the Kafka listener, as clients reach it.
    pub kafka_port: u16,
    /// Origins that browsers may call from; `*` allows all.
    pub cors_origins: Vec<String>,
    /// Records of one v3 produce batch (kafka-rest's `api.v3.produce.batch.maximum.entries`).
    pub produce_batch_entries_max: usize,
    /// What to put before our paths in links, whatever requests say.
    pub advertised: Option<String>,
    /// Which words of proxies are believed.
    pub forwarded: Forwarded,
    /// Whether answers are packed for clients that accept it.
    pub compression: Compression,
}

/// Whether answers are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Where the client accepts it and the answer is worth it.
    Accepted,
    /// Never.
    Off,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            authority: "127.0.0.1:8082".to_owned(),
            kafka_host: "127.0.0.1".to_owned(),
            kafka_port: 9092,
            cors_origins: Vec::new(),
            produce_batch_entries_max: 1000,
            advertised: None,
            forwarded: Forwarded::Links,
            compression: Compression::Accepted,
        }
    }
}

/// Settings of live streams.
#[derive(Debug, Clone)]
pub struct StreamOptions {
    /// Time between `ping` events on an idle stream.
    pub heartbeat: Duration,
    /// Longest life of one connection; streams end at 80 to 100 % of it.
    pub age_max: Duration,
    /// Longest time over which streams end when the server stops.
    pub drain_max: Duration,
    /// Streams open at once.
    pub streams_max: usize,
    /// Streams that one client may have open.
    pub streams_per_ip: StreamsPerIp,
}

/// How many streams one address may have open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamsPerIp {
    /// So many for everybody but loopback, from where a proxy on the same machine connects.
    Remote(usize),
    /// So many for everybody; 0 is no limit.
    All(usize),
}

impl StreamsPerIp {
    /// The limit of an address, if it has one.
    #[must_use]
    pub const fn most(self, ip: std::net::IpAddr) -> Option<usize> {
        match self {
            Self::Remote(_) if ip.is_loopback() => None,
            Self::Remote(0) | Self::All(0) => None,
            Self::Remote(most) | Self::All(most) => Some(most),
        }
    }
}

impl Default for StreamOptions {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(15),
            age_max: Duration::from_secs(15 * 60),
            drain_max: Duration::from_secs(24),
            streams_max: crate::base::limits::STREAMS_MAX,
            streams_per_ip: StreamsPerIp::Remote(crate::base::limits::STREAMS_PER_IP_MAX),
        }
    }
}

/// What every handler can reach. A clone is one more reference.
#[derive(Clone)]
pub struct AppState(Arc<Inner>);

/// The parts of an [`AppState`].
pub struct Inner {
    /// The seam.
    pub engine: Engine,
    /// Consumer instances.
    pub consumers: Consumers,
    /// Live streams.
    pub streams: StreamHub,
    /// Counters.
    pub metrics: Arc<HttpMetrics>,
    /// Time.
    pub clock: SharedClock,
    /// The end.
    pub shutdown: Shutdown,
    /// Settings.
    pub options: HttpOptions,
    /// Can work be done?
    pub readiness: Readiness,
    /// The text of `/metrics`.
    pub render_metrics: RenderMetrics,
    /// Room for request bodies.
    pub bodies: BodyBudget,
    /// Ids of requests that come without one.
    pub request_ids: RequestIds,
    /// How many requests a client may send, if that is limited.
    pub rate: Option<RateLimiter>,
    /// Where the next request without keys goes: a request's keyless records stay together, and
    /// requests take turns.
    pub keyless_turn: AtomicU32,
}

impl AppState {
    /// Wraps the parts.
    #[must_use]
    pub fn new(inner: Inner) -> Self {
        Self(Arc::new(inner))
    }
}

impl std::ops::Deref for AppState {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").field("options", &self.options).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for AppState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AppState")
    }
}
