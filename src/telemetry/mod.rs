//! Logs, traces and the metrics of the process.

pub mod broker_metrics;
pub mod logging;

pub use broker_metrics::ProcessMetrics;
pub use logging::{TelemetryError, TelemetryGuard, start};
