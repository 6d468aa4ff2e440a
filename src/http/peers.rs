//! Other names of what is here: where probes and clients of the other REST proxies look for it.
//!
//! Strimzi's bridge has `/healthy`, `/ready`, `/openapi` and `/openapi/v3`, Karapace `/_health`,
//! Redpanda `/status/ready`. They are not in the specification, which has the names to use.

use axum::Router;
use axum::routing::get;

use super::health;
use super::router::specification_3_0;
use super::state::AppState;

/// The routes.
pub(super) fn routes() -> Router<AppState> {
    let document = axum::Json(specification_3_0());
    let openapi = get(async move || document.clone());
    Router::new()
        .route("/healthy", get(health::livez))
        .route("/_health", get(health::livez))
        .route("/ready", get(health::readyz))
        .route("/status/ready", get(health::readyz))
        .route("/openapi", openapi.clone())
        .route("/openapi/v3", openapi)
}
