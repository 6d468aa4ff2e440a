//! Administration beyond what v2 and v3 offer: topics, groups, offsets and records.
//!
//! Bodies and errors are those of v2. The contract is in `docs/admin.md`.

pub mod groups;
pub mod records;
pub mod reset;
pub mod topics;

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, header};
use serde::Serialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::error::ApiResult;
use super::media;
use super::state::AppState;

/// The routes of this API.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(topics::create_topic))
        .routes(routes!(topics::change_topic, topics::delete_topic))
        .routes(routes!(records::delete_records))
        .routes(routes!(groups::list_groups))
        .routes(routes!(groups::get_group, groups::delete_group))
        .routes(routes!(groups::delete_offsets))
        .routes(routes!(reset::reset_offsets))
}

/// Answers JSON, if the client accepts it.
fn json<T: Serialize>(headers: &HeaderMap, body: &T) -> ApiResult<Response> {
    media::accepted(headers)?;
    let body = serde_json::to_vec(body).unwrap_or_default();
    Ok(([(header::CONTENT_TYPE, media::JSON)], body).into_response())
}
