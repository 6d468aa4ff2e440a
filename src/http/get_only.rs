//! Reads that change something: they are for GET alone.
//!
//! The framework answers HEAD by the handler of GET. A poll delivers records, though, and joins a
//! group; a client that only looks must not lose them.

use axum::extract::FromRequestParts;
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode, header};

use super::error::ApiError;

/// An extractor that refuses HEAD with 405.
#[derive(Debug, Clone, Copy)]
pub struct GetOnly;

impl<S: Sync> FromRequestParts<S> for GetOnly {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Response> {
        if parts.method != Method::HEAD {
            return Ok(Self);
        }
        let message = format!("HEAD is not allowed on {}: a read moves on", parts.uri.path());
        let error = ApiError::status(StatusCode::METHOD_NOT_ALLOWED, message);
        let mut response = error.into_response();
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET"));
        Err(response)
    }
}
