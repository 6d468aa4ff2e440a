//! What the Kafka door counts. The registry adds the prefix `hydrant_`.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::api;
use crate::protocol::ErrorCode;

/// Upper bounds in seconds: from an answer out of memory to a parked join.
const SECONDS_BUCKETS: [f64; 12] =
    [0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 300.0];

/// Label of requests without an error.
const NO_ERROR: &str = "none";

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ApiLabels {
    api: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    api: &'static str,
    error: String,
}

/// The metrics of one API that every request touches, found once instead of per request.
#[derive(Debug)]
struct HotMetrics {
    succeeded: Counter,
    seconds: Histogram,
}

/// Counters, gauges and histograms of the Kafka door.
#[derive(Debug)]
pub struct KafkaMetrics {
    requests: Family<RequestLabels, Counter>,
    seconds: Family<ApiLabels, Histogram, fn() -> Histogram>,
    connections: Gauge,
    received_bytes: Counter,
    sent_bytes: Counter,
    /// In the order of the API table.
    hot: Vec<HotMetrics>,
}

impl Default for KafkaMetrics {
    fn default() -> Self {
        Self::new()
    }
}

impl KafkaMetrics {
    /// Makes metrics that are all zero.
    #[must_use]
    pub fn new() -> Self {
        let requests = Family::<RequestLabels, Counter>::default();
        let seconds =
            Family::<ApiLabels, Histogram, fn() -> Histogram>::new_with_constructor(|| {
                Histogram::new(SECONDS_BUCKETS)
            });
        let hot = api::TABLE.iter().map(|api| HotMetrics {
            succeeded: requests
                .get_or_create_owned(&RequestLabels { api: api.name, error: NO_ERROR.to_owned() }),
            seconds: seconds.get_or_create_owned(&ApiLabels { api: api.name }),
        });
        let hot = hot.collect();
        Self {
            requests,
            seconds,
            connections: Gauge::default(),
            received_bytes: Counter::default(),
            sent_bytes: Counter::default(),
            hot,
        }
    }

    /// Adds the metrics to `registry`.
    pub fn register(&self, registry: &mut Registry) {
        let requests = self.requests.clone();
        registry.register("kafka_requests", "Kafka requests answered, by API and error", requests);
        let help = "Seconds from a Kafka request to its answer, waiting included";
        registry.register("kafka_request_seconds", help, self.seconds.clone());
        let help = "Kafka connections open now";
        registry.register("kafka_connections", help, self.connections.clone());
        let help = "Bytes received on Kafka connections";
        registry.register("kafka_received_bytes", help, self.received_bytes.clone());
        let help = "Bytes sent on Kafka connections";
        registry.register("kafka_sent_bytes", help, self.sent_bytes.clone());
    }

    /// Counts one answered request of the API at `index` of the table.
    pub(super) fn answered(&self, index: usize, error: ErrorCode, elapsed: Duration) {
        let (Some(hot), Some(api)) = (self.hot.get(index), api::TABLE.get(index)) else {
            return;
        };
        hot.seconds.observe(elapsed.as_secs_f64());
        if error == ErrorCode::None {
            hot.succeeded.inc();
        } else {
            // The set of codes is fixed by us, so the number of series is bounded.
            let labels = RequestLabels { api: api.name, error: format!("{error:?}") };
            self.requests.get_or_create(&labels).inc();
        }
    }

    pub(super) fn connection_opened(&self) {
        self.connections.inc();
    }

    pub(super) fn connection_closed(&self) {
        self.connections.dec();
    }

    pub(super) fn received(&self, bytes: usize) {
        self.received_bytes.inc_by(bytes as u64);
    }

    pub(super) fn sent(&self, bytes: usize) {
        self.sent_bytes.inc_by(bytes as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_appear_under_their_names() {
        let metrics = KafkaMetrics::new();
        metrics.answered(0, ErrorCode::None, Duration::from_millis(2));
        metrics.answered(1, ErrorCode::OffsetOutOfRange, Duration::from_millis(2));
        let mut registry = Registry::with_prefix("hydrant");
        metrics.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        assert!(text.contains("hydrant_kafka_requests_total{api=\"Produce\",error=\"none\"} 1"));
        let failed = "hydrant_kafka_requests_total{api=\"Fetch\",error=\"OffsetOutOfRange\"} 1";
        assert!(text.contains(failed));
        assert!(text.contains("hydrant_kafka_request_seconds_count{api=\"Fetch\"} 1"));
    }
}
