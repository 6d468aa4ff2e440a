//! Logs go to stderr, pretty on a terminal and JSON otherwise; traces go to an OTLP endpoint if
//! there is one.
//!
//! `HYDRANT_LOG` (or `RUST_LOG`) filters logs, `info` by default. Request spans are at debug level
//! and reach the exporter whatever the filter of the logs is.

use std::io::IsTerminal;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::runtime::Tokio;
use opentelemetry_sdk::trace::SdkTracerProvider;
use opentelemetry_sdk::trace::span_processor_with_async_runtime::BatchSpanProcessor;
use tracing_subscriber::filter::{EnvFilter, LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

/// Why logging or tracing cannot start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The exporter refused its endpoint.
    #[error("otlp exporter: {0}")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
    /// Something else already logs in this process.
    #[error("logging: {0}")]
    Logging(#[from] tracing_subscriber::util::TryInitError),
}

/// Sends what is buffered when it is shut down.
#[derive(Debug, Default)]
pub struct TelemetryGuard {
    provider: Option<SdkTracerProvider>,
}

impl TelemetryGuard {
    /// Exports what is buffered. Blocks.
    pub fn shutdown(&self) {
        if let Some(provider) = &self.provider
            && let Err(error) = provider.shutdown()
        {
            tracing::warn!(%error, "last spans were not exported");
        }
    }
}

/// Starts logging, and trace export if `endpoint` is set.
///
/// # Errors
/// [`TelemetryError`].
pub fn start(endpoint: Option<&str>) -> Result<TelemetryGuard, TelemetryError> {
    let provider = endpoint.map(provider).transpose()?;
    let export = provider.as_ref().map(|provider| {
        let only_ours = Targets::new().with_target("hydrant", LevelFilter::DEBUG);
        let tracer = provider.tracer("hydrant");
        tracing_opentelemetry::layer().with_tracer(tracer).with_filter(only_ours)
    });
    let filter =
        EnvFilter::try_from_env("HYDRANT_LOG").or_else(|_| EnvFilter::try_from_default_env());
    let filter = filter.unwrap_or_else(|_| EnvFilter::new("info"));
    let stderr = std::io::stderr();
    let logs = if stderr.is_terminal() {
        fmt::layer().with_writer(std::io::stderr).with_filter(filter).boxed()
    } else {
        fmt::layer().json().with_writer(std::io::stderr).with_filter(filter).boxed()
    };
    tracing_subscriber::registry().with(logs).with(export).try_init()?;
    Ok(TelemetryGuard { provider })
}

fn provider(endpoint: &str) -> Result<SdkTracerProvider, TelemetryError> {
    let endpoint = format!("{}/v1/traces", endpoint.trim_end_matches('/'));
    let exporter = SpanExporter::builder().with_http().with_endpoint(endpoint).build()?;
    let resource = Resource::builder().with_service_name("hydrant").build();
    // The exporter speaks HTTP on our reactor, so its processor must be a task there: the one with
    // a thread of its own has no reactor.
    let processor = BatchSpanProcessor::builder(exporter, Tokio).build();
    Ok(SdkTracerProvider::builder().with_span_processor(processor).with_resource(resource).build())
}
