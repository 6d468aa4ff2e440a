//! Limits on the head of a request.

use axum::extract::Request;
use http::StatusCode;

use crate::base::limits::{HTTP_HEADER_BYTES_MAX, HTTP_HEADERS_MAX, HTTP_URI_BYTES_MAX};
use crate::http::error::{ApiError, ApiResult, Limit};

/// Checks target and headers.
///
/// # Errors
/// 414 and 431 name the size and the limit.
pub fn check(request: &Request) -> ApiResult<()> {
    let uri = request.uri();
    let target = uri.path().len() + uri.query().map_or(0, |query| query.len() + 1);
    if target > HTTP_URI_BYTES_MAX {
        let message = format!("target of {target} bytes is longer than {HTTP_URI_BYTES_MAX}");
        return Err(refused(StatusCode::URI_TOO_LONG, message, "target", HTTP_URI_BYTES_MAX));
    }
    let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
    let headers = request.headers();
    if headers.len() > HTTP_HEADERS_MAX {
        let message = format!("{} headers are more than {HTTP_HEADERS_MAX}", headers.len());
        return Err(refused(status, message, "headers", HTTP_HEADERS_MAX));
    }
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if bytes > HTTP_HEADER_BYTES_MAX {
        let message = format!("headers of {bytes} bytes are more than {HTTP_HEADER_BYTES_MAX}");
        return Err(refused(status, message, "header-bytes", HTTP_HEADER_BYTES_MAX));
    }
    Ok(())
}

fn refused(status: StatusCode, message: String, name: &'static str, max: usize) -> ApiError {
    let unit = if name == "headers" { "headers" } else { "bytes" };
    ApiError::status(status, message).with_limit(Limit { name, max: max as u64, unit })
}
