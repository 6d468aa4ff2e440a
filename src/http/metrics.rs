//! Counters of the HTTP door. The route label is the template, never the raw path.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::base::sharded::Sharded;

/// Labels of one request.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabels {
    /// Template of the route.
    pub route: String,
    /// Method.
    pub method: &'static str,
    /// Status of the answer.
    pub status: u16,
}

/// Labels of what a stream's records came to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReasonLabels {
    /// Why.
    pub reason: &'static str,
}

/// The metrics.
#[derive(Debug)]
pub struct HttpMetrics {
    /// Requests answered.
    pub requests: Family<RequestLabels, Counter>,
    /// Time to the head of the answer.
    pub request_seconds: Histogram,
    /// Connections open.
    pub connections: Gauge,
    /// Live streams open.
    pub streams_active: Gauge,
    /// Live streams closed, by reason.
    pub streams_closed: Family<ReasonLabels, Counter>,
    /// Records written to live streams.
    pub stream_records: Counter<u64, Sharded>,
    /// Bytes written to live streams.
    pub stream_bytes: Counter<u64, Sharded>,
    /// Gaps reported on live streams, by reason.
    pub stream_gaps: Family<ReasonLabels, Counter>,
}

impl Default for HttpMetrics {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            request_seconds: Histogram::new(exponential_buckets(0.000_1, 4.0, 9)),
            connections: Gauge::default(),
            streams_active: Gauge::default(),
            streams_closed: Family::default(),
            stream_records: Counter::default(),
            stream_bytes: Counter::default(),
            stream_gaps: Family::default(),
        }
    }
}

impl HttpMetrics {
    /// Adds the metrics to a registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("http_requests", "Requests answered", self.requests.clone());
        registry.register_with_unit(
            "http_request",
            "Time from request to the head of the answer",
            Unit::Seconds,
            self.request_seconds.clone(),
        );
        registry.register("http_connections", "Connections open", self.connections.clone());
        registry.register("streams_active", "Live streams open", self.streams_active.clone());
        registry.register("streams_closed", "Live streams closed", self.streams_closed.clone());
        let records = self.stream_records.clone();
        registry.register("stream_records", "Records written to live streams", records);
        registry.register_with_unit(
            "stream",
            "Bytes written to live streams",
            Unit::Bytes,
            self.stream_bytes.clone(),
        );
        registry.register("stream_gaps", "Gaps reported on live streams", self.stream_gaps.clone());
    }
}
