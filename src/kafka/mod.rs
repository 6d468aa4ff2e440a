//! Layer 6: the native Kafka door: wire bytes to the engine's typed requests and back.
//!
//! `listener` accepts, `connection` owns one socket and the order of its answers, `frame` cuts the
//! byte stream into requests within their limits, `dispatch` reads request headers, and `api/` has
//! one file per Kafka API; the table in `api/mod.rs` is the only list of what is offered.
//! `output` collects answers and hands ranges of log files to the kernel (`sendfile(2)`).
//!
//! Invariants:
//! - nothing here trusts a length from the wire: memory grows with the bytes that arrived;
//! - answers leave in the order of the requests; only Produce may be under way more than once;
//! - a version is advertised only if the table serves it (KIP-511, KIP-896);
//! - record batches pass through as bytes, in and out.
//!
//! This module knows the engine's traits and the wire; it knows neither HTTP nor how a log is kept.

mod answers;
mod api;
mod connection;
mod dispatch;
mod frame;
mod listener;
mod metrics;
mod output;
mod reader;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::base::limits;
use crate::base::shutdown::Shutdown;
use crate::engine::Engine;

pub use listener::serve;
pub use metrics::KafkaMetrics;

/// What an operator may choose about the Kafka door.
#[derive(Debug, Clone)]
pub struct KafkaOptions {
    /// Host that metadata tells clients to connect to.
    pub advertised_host: String,
    /// Port that metadata tells clients to connect to.
    pub advertised_port: u16,
    /// Connections open at once; more are closed as they come.
    pub connections_max: usize,
    /// After how long without a request a connection is closed (`connections.max.idle.ms`).
    pub idle_timeout: Duration,
}

impl Default for KafkaOptions {
    fn default() -> Self {
        Self {
            advertised_host: "127.0.0.1".to_owned(),
            advertised_port: 9092,
            connections_max: limits::KAFKA_CONNECTIONS_MAX,
            idle_timeout: Duration::from_secs(600),
        }
    }
}

/// What all connections share.
#[derive(Debug)]
struct Shared {
    engine: Engine,
    options: KafkaOptions,
    metrics: Arc<KafkaMetrics>,
    /// Spawns connections, and tells them and parked fetches to end.
    shutdown: Shutdown,
    /// Bytes of large request frames that may be in memory at once; a connection takes a frame's
    /// whole size before it buffers it, so half-read frames cannot wait for each other.
    frame_budget: Arc<Semaphore>,
}

/// One client's connection, as handlers see it.
#[derive(Debug)]
struct Session {
    shared: Arc<Shared>,
    /// The client's address as Kafka shows it to administrators: `/127.0.0.1`.
    client_host: String,
}

#[cfg(test)]
mod fake_engine;
#[cfg(test)]
mod tests;
