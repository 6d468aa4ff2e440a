//! What is recorded of every request: counters, a span, a line at debug level.

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderMap, Method};
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Instrument;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::around::{self, request_id};
use super::metrics::RequestLabels;
use super::state::AppState;

/// Counts and times one request and runs it inside its span.
///
/// The span is at debug level: without a trace exporter nothing is built.
pub async fn observe(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let started = tokio::time::Instant::now();
    let method = method_name(request.method());
    let matched = request.extensions().get::<MatchedPath>();
    let route = matched.map_or_else(|| "unmatched".to_owned(), |path| path.as_str().to_owned());
    let id = state.request_ids.take(request.headers());
    let request_id = id.to_str().unwrap_or_default();
    let span =
        tracing::debug_span!("http_request", otel.kind = "server", method, route, request_id);
    let mut response = if span.is_disabled() {
        around::run(&state, request, next).await
    } else {
        let parent = TraceContextPropagator::new().extract(&Headers(request.headers()));
        // Without a parent, or without an exporter, the span simply has none.
        let _no_parent = span.set_parent(parent);
        around::run(&state, request, next).instrument(span).await
    };
    let seconds = started.elapsed().as_secs_f64();
    let status = response.status().as_u16();
    tracing::debug!(method, route, status, seconds, request_id, "http request");
    if response.status().is_server_error() {
        tracing::warn!(method, route, status, request_id, "http request failed");
    }
    state.metrics.request_seconds.observe(seconds);
    state.metrics.requests.get_or_create(&RequestLabels { route, method, status }).inc();
    response.headers_mut().insert(request_id::HEADER, id);
    response
}

/// A closed set of names, so that a client cannot make labels.
const fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::DELETE => "DELETE",
        Method::PUT => "PUT",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        Method::PATCH => "PATCH",
        _ => "OTHER",
    }
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}
