//! `/livez`, `/readyz`, `/healthz` and `/metrics`.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use serde::Serialize;
use utoipa::ToSchema;

use super::state::AppState;

/// Whether the server can do its work.
#[derive(Debug, Serialize, ToSchema)]
pub struct Health {
    /// `ok` or `unavailable`.
    #[schema(example = "ok")]
    pub status: &'static str,
    /// Why it is unavailable; empty when all is well.
    pub reasons: Vec<String>,
}

/// Tells that the process lives.
#[utoipa::path(
    get, path = "/livez", tag = "operations", operation_id = "livez",
    responses((status = 200, body = Health))
)]
pub async fn livez() -> Json<Health> {
    Json(Health { status: "ok", reasons: Vec::new() })
}

/// The older name of `/livez`.
#[utoipa::path(
    get, path = "/healthz", tag = "operations", operation_id = "healthz",
    responses((status = 200, body = Health))
)]
pub async fn healthz() -> Json<Health> {
    livez().await
}

/// Tells whether requests can be served, and why not.
#[utoipa::path(
    get, path = "/readyz", tag = "operations", operation_id = "readyz",
    responses((status = 200, body = Health), (status = 503, body = Health))
)]
pub async fn readyz(State(state): State<AppState>) -> Response {
    match (state.readiness)() {
        Ok(()) => Json(Health { status: "ok", reasons: Vec::new() }).into_response(),
        Err(reasons) => {
            let health = Health { status: "unavailable", reasons };
            (StatusCode::SERVICE_UNAVAILABLE, Json(health)).into_response()
        }
    }
}

/// Metrics in the OpenMetrics text format, for Prometheus.
#[utoipa::path(
    get, path = "/metrics", tag = "operations", operation_id = "metrics",
    responses((status = 200, body = String, content_type = "application/openmetrics-text"))
)]
pub async fn metrics(State(state): State<AppState>) -> Response {
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, content_type)], (state.render_metrics)()).into_response()
}
