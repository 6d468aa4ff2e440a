//! The v3 API: the cluster as resources, as Confluent REST Proxy v3 shows it.
//!
//! One file per resource; each has a `routes` of its own. What they share is here: [`scope`] says
//! where a request points to and makes links, [`envelope`] has the parts of every answer,
//! [`request`] reads bodies, [`error`] has the codes of this API. The contract is in
//! `docs/rest-v3.md`.
//!
//! All routes are also served below `/kafka`, where the proxy inside a broker has them; links in
//! answers keep the prefix by which the request came.

pub mod acls;
pub mod broker_configs;
pub mod brokers;
pub mod cluster_configs;
pub mod clusters;
pub mod configs;
pub mod envelope;
pub mod error;
pub mod groups;
pub mod groups_assignments;
pub mod lags;
pub mod partitions;
pub mod paths;
pub mod produce;
pub mod request;
pub mod scope;
pub mod topic_configs;
pub mod topics;

use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use serde::Serialize;
use utoipa_axum::router::OpenApiRouter;

use super::media;
use super::state::AppState;
pub use error::{V3Error, V3Result};
pub use scope::Scope;

/// The routes of this API.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .merge(clusters::routes())
        .merge(acls::routes())
        .merge(brokers::routes())
        .merge(broker_configs::routes())
        .merge(cluster_configs::routes())
        .merge(topics::routes())
        .merge(topic_configs::routes())
        .merge(partitions::routes())
        .merge(groups::routes())
        .merge(groups_assignments::routes())
        .merge(lags::routes())
        .merge(produce::routes())
}

/// Answers 200 with JSON.
fn json<T: Serialize>(body: &T) -> Response {
    json_with(StatusCode::OK, body)
}

/// Answers JSON with a status.
fn json_with<T: Serialize>(status: StatusCode, body: &T) -> Response {
    let body = serde_json::to_vec(body).unwrap_or_default();
    (status, [(header::CONTENT_TYPE, media::JSON)], body).into_response()
}
