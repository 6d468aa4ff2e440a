//! Reading request bodies within their limit, and JSON out of them.

use axum::body::Body;
use bytes::Bytes;
use http::StatusCode;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::Deserialize;

use super::error::{ApiError, ApiResult};
use crate::base::limits::HTTP_BODY_BYTES_MAX;

/// Reads the whole body.
///
/// # Errors
/// 413 over [`HTTP_BODY_BYTES_MAX`], 400 when the client breaks off.
///
/// # Cancel safety
/// What was read is lost; the request is over then anyway.
pub async fn read(body: Body) -> ApiResult<Bytes> {
    use http_body::Body as _;
    if body.size_hint().lower() > HTTP_BODY_BYTES_MAX as u64 {
        return Err(too_large());
    }
    match Limited::new(body, HTTP_BODY_BYTES_MAX).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large()),
        Err(error) => Err(ApiError::bad_request(format!("body cannot be read: {error}"))),
    }
}

fn too_large() -> ApiError {
    let message = format!("body is larger than {HTTP_BODY_BYTES_MAX} bytes");
    ApiError::status(StatusCode::PAYLOAD_TOO_LARGE, message)
}

/// Parses a JSON body.
///
/// # Errors
/// 400 with line and column for text that is not JSON or has the wrong type, 422 for fields that
/// are not known.
pub fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> ApiResult<T> {
    if bytes.is_empty() {
        return Err(ApiError::unprocessable("body is empty, a JSON object is needed"));
    }
    serde_json::from_slice(bytes).map_err(|error| explain(&error))
}

/// Parses a JSON body, or takes the default when there is none.
///
/// # Errors
/// As [`parse`].
pub fn parse_optional<'a, T: Deserialize<'a> + Default>(bytes: &'a [u8]) -> ApiResult<T> {
    if bytes.iter().all(u8::is_ascii_whitespace) { Ok(T::default()) } else { parse(bytes) }
}

fn explain(error: &serde_json::Error) -> ApiError {
    let message = error.to_string();
    // serde names unknown and missing fields only in its text.
    let is_shape = message.starts_with("unknown field") || message.starts_with("missing field");
    if error.is_data() && is_shape {
        ApiError::unprocessable(message)
    } else {
        ApiError::bad_request(format!("invalid JSON: {message}"))
    }
}
