//! `GET /brokers`.

use axum::extract::State;
use axum::response::Response;
use http::HeaderMap;
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::error::{ApiResult, ErrorBody};
use crate::http::state::AppState;

/// The brokers of the cluster.
#[derive(Debug, Serialize, ToSchema)]
pub struct Brokers {
    /// Broker ids.
    #[schema(example = json!([0]))]
    pub brokers: Vec<i32>,
}

/// Lists the brokers.
#[utoipa::path(
    get, path = "/brokers", tag = "topics", operation_id = "listBrokers",
    responses(
        (status = 200, body = Brokers, content_type = "application/vnd.kafka.v2+json"),
        (status = 406, body = ErrorBody, content_type = "application/vnd.kafka.v2+json"),
    )
)]
pub async fn list(State(state): State<AppState>, headers: HeaderMap) -> ApiResult<Response> {
    super::json(&headers, &Brokers { brokers: vec![state.engine.node.id] })
}
