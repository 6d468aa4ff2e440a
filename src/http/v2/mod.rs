//! The v2 API: a drop-in for Confluent REST Proxy v2, with headers and timestamps.
//!
//! One file per resource. The contract and the decisions where the peers disagree are in
//! `docs/rest-v2.md`.

pub mod brokers;
pub mod consumers;
pub mod encode;
pub mod instance_path;
pub mod offsets;
pub mod partitions;
pub mod produce;
pub mod produce_many;
pub mod produce_request;
pub mod records;
pub mod topics;

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};
use serde::Serialize;

use super::error::ApiResult;
use super::media;

/// Answers JSON in the v2 media type, if the client accepts it.
fn json<T: Serialize>(headers: &HeaderMap, body: &T) -> ApiResult<Response> {
    media::accepted(headers)?;
    Ok(raw_json(StatusCode::OK, serde_json::to_vec(body).unwrap_or_default()))
}

fn raw_json(status: StatusCode, body: Vec<u8>) -> Response {
    (status, [(header::CONTENT_TYPE, media::KAFKA_V2_JSON)], body).into_response()
}
