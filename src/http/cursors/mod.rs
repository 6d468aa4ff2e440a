//! `POST /cursors:decode` and `POST /cursors:encode`: cursors as people read and write them.
//!
//! For debugging, and for moving a reader by hand. Streams and reads need neither.

pub mod decode;
pub mod encode;

use axum::response::{IntoResponse, Response};
use http::header;
use serde::Serialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::media;
use super::state::AppState;

/// The routes of this folder.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(decode::decode_cursor))
        .routes(routes!(encode::encode_cursor))
}

fn json<T: Serialize>(answer: &T) -> Response {
    let body = serde_json::to_vec(answer).unwrap_or_default();
    let headers = [(header::CONTENT_TYPE, media::JSON), (header::CACHE_CONTROL, "no-store")];
    (headers, body).into_response()
}
