//! Refusals of the framework in the shape of all errors: what an extractor says as plain text, or
//! not at all, becomes `{"error_code", "message"}`.

use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use http_body::Body as _;
use http_body_util::BodyExt;

use crate::http::error::ApiError;

/// Longest text that is taken over, in bytes; the framework's own are far shorter.
const TEXT_BYTES_MAX: u64 = 4096;

/// Gives a refusal without a JSON body one; keeps its other headers.
pub async fn repair(response: Response) -> Response {
    let status = response.status();
    if !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let content_type = response.headers().get(header::CONTENT_TYPE);
    let content_type = content_type.and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_text = content_type.is_empty() || content_type.starts_with("text/plain");
    let is_short = response.body().size_hint().upper().is_some_and(|size| size <= TEXT_BYTES_MAX);
    if !is_text || !is_short {
        return response;
    }
    let (parts, body) = response.into_parts();
    let text = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    let mut repaired = ApiError::status(status, message(status, text)).into_response();
    for (name, value) in &parts.headers {
        if name != header::CONTENT_TYPE && name != header::CONTENT_LENGTH {
            repaired.headers_mut().append(name, value.clone());
        }
    }
    repaired
}

fn message(status: StatusCode, text: String) -> String {
    let reason = || status.canonical_reason().unwrap_or("refused").to_lowercase();
    if text.trim().is_empty() { reason() } else { text }
}

/// The answer that stands for one that hyper made itself, which has no body: a request that is
/// not HTTP, or a head that is too large even to be read.
#[must_use]
pub fn bare(status: u16) -> Option<Vec<u8>> {
    let status = StatusCode::from_u16(status).ok()?;
    let text = match status {
        StatusCode::BAD_REQUEST => "the request is not valid HTTP".to_owned(),
        StatusCode::URI_TOO_LONG => "the target of the request is too long".to_owned(),
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => {
            "the request has too many headers, or they are too large".to_owned()
        }
        other => message(other, String::new()),
    };
    of_connection(&ApiError::status(status, text))
}

/// A whole answer of HTTP/1.1 for a connection that is closed after it.
#[must_use]
pub fn of_connection(error: &ApiError) -> Option<Vec<u8>> {
    let body = serde_json::to_string(&error.body()).ok()?;
    let reason = error.status.canonical_reason().unwrap_or_default();
    // What is wrong with the request itself does not get better by repeating it.
    let is_passing = matches!(
        error.status,
        StatusCode::REQUEST_TIMEOUT
            | StatusCode::TOO_MANY_REQUESTS
            | StatusCode::SERVICE_UNAVAILABLE
    );
    let retry = if is_passing { "retry-after: 1\r\n" } else { "" };
    let head = format!(
        "HTTP/1.1 {} {reason}\r\ncontent-type: {}\r\ncontent-length: {}\r\n{retry}\
         connection: close\r\n\r\n",
        error.status.as_u16(),
        error.content_type,
        body.len()
    );
    Some((head + &body).into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_passes_is_worth_a_repetition() {
        for (status, is_passing) in [(400, false), (431, false), (408, true), (503, true)] {
            let answer = String::from_utf8(bare(status).unwrap()).unwrap();
            assert_eq!(answer.contains("retry-after: 1\r\n"), is_passing, "{answer}");
        }
    }

    #[tokio::test]
    async fn plain_refusals_become_errors_and_others_stay() {
        let text = (StatusCode::BAD_REQUEST, [("allow", "GET")], "Invalid URL: x").into_response();
        let repaired = repair(text).await;
        assert_eq!(repaired.headers()["allow"], "GET");
        assert_eq!(repaired.headers()["content-type"], "application/vnd.kafka.v2+json");
        let body = repaired.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, r#"{"error_code":400,"message":"Invalid URL: x"}"#);
        let empty = repair(StatusCode::NOT_FOUND.into_response()).await;
        let body = empty.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, r#"{"error_code":404,"message":"not found"}"#);
        let own = (StatusCode::CONFLICT, [("content-type", "application/json")], "{}");
        let kept = repair(own.into_response()).await.into_body().collect().await.unwrap();
        assert_eq!(kept.to_bytes(), "{}");
        let fine = repair("text".into_response()).await;
        assert_eq!(fine.into_body().collect().await.unwrap().to_bytes(), "text");
    }
}
