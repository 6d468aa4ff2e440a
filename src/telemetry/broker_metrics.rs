//! The registry of the process: what the doors count, what the broker holds, what the build is.

use std::sync::Arc;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::engine::embedded::EmbeddedStatus;

/// Everything that `/metrics` shows.
#[derive(Debug)]
pub struct ProcessMetrics {
    registry: Registry,
    broker: BrokerGauges,
}

#[derive(Debug, Default)]
struct BrokerGauges {
    topics: Gauge,
    partitions: Gauge,
    partitions_offline: Gauge,
    log_bytes: Gauge,
    groups: Gauge,
    group_members: Gauge,
    resident_bytes: Gauge,
}

impl ProcessMetrics {
    /// Makes the registry; `register` adds the metrics of the doors.
    pub fn new(register: impl FnOnce(&mut Registry)) -> Arc<Self> {
        let mut registry = Registry::with_prefix("hydrant");
        let broker = BrokerGauges::default();
        let version = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "Version of the binary", version);
        let mut gauge = |name: &str, help: &str, gauge: &Gauge| {
            registry.register(name, help, gauge.clone());
        };
        gauge("topics", "Topics, the internal ones included", &broker.topics);
        gauge("partitions", "Partitions of all topics", &broker.partitions);
        gauge("partitions_offline", "Partitions not served", &broker.partitions_offline);
        gauge("log_size_bytes", "Bytes of all segments", &broker.log_bytes);
        gauge("groups", "Consumer groups", &broker.groups);
        gauge("group_members", "Members of all consumer groups", &broker.group_members);
        gauge("resident_memory_bytes", "Memory of the process", &broker.resident_bytes);
        register(&mut registry);
        Arc::new(Self { registry, broker })
    }

    /// Renders everything in the OpenMetrics text format.
    #[must_use]
    pub fn render(&self, status: &EmbeddedStatus) -> String {
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        self.broker.topics.set(count(status.topics));
        self.broker.partitions.set(count(status.partitions));
        self.broker.partitions_offline.set(count(status.partitions_offline));
        self.broker.log_bytes.set(i64::try_from(status.log_bytes).unwrap_or(i64::MAX));
        self.broker.groups.set(count(status.groups));
        self.broker.group_members.set(count(status.group_members));
        self.broker.resident_bytes.set(resident_bytes().unwrap_or(0));
        let mut text = String::new();
        // Writing into a string does not fail.
        let _never = encode(&mut text, &self.registry);
        text
    }
}

/// Resident memory as the system counts it; none where there is no /proc.
fn resident_bytes() -> Option<i64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: i64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    let page = i64::try_from(rustix::param::page_size()).ok()?;
    Some(pages * page)
}
