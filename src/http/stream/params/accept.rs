//! What the client can take, by its `Accept` header.

use http::{HeaderMap, StatusCode, header};

use crate::http::error::{ApiError, ApiResult};

/// The media type of a stream.
pub(in super::super) const EVENT_STREAM: &str = "text/event-stream; charset=utf-8";

/// Checks that the client can take a stream.
///
/// # Errors
/// 406 names the header.
pub(in super::super) fn check_accept(headers: &HeaderMap) -> ApiResult<()> {
    let values = headers.get_all(header::ACCEPT).iter();
    let text = values.filter_map(|v| v.to_str().ok()).collect::<Vec<_>>().join(", ");
    if text.trim().is_empty() {
        return Ok(());
    }
    // What is said of the type itself counts more than what is said of a wildcard.
    let mut best: Option<(u8, bool)> = None;
    for item in text.split(',') {
        let mut parts = item.split(';').map(str::trim);
        let rank = match parts.next().unwrap_or_default().to_ascii_lowercase().as_str() {
            "text/event-stream" => 3,
            "text/*" => 2,
            "*/*" => 1,
            _ => continue,
        };
        let quality = parts.find_map(|p| p.strip_prefix("q=")).map_or(Ok(1.0), str::parse::<f32>);
        let is_wanted = quality.is_ok_and(|q| q > 0.0);
        if best.is_none_or(|(known, _)| rank > known) {
            best = Some((rank, is_wanted));
        }
    }
    if best.is_some_and(|(_, is_wanted)| is_wanted) {
        return Ok(());
    }
    let message = format!("accept '{text}' does not take text/event-stream");
    Err(ApiError::status(StatusCode::NOT_ACCEPTABLE, message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn with(name: &'static str, value: &str) -> HeaderMap {
        let name = http::HeaderName::from_static(name);
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn accept_must_allow_events() {
        let accept = |text| check_accept(&with("accept", text)).map_err(|e| e.code);
        assert_eq!(check_accept(&HeaderMap::new()), Ok(()));
        for text in ["text/event-stream", "*/*", "text/*;q=0.2", "text/html, */*;q=0.1", ""] {
            assert_eq!(accept(text), Ok(()), "{text}");
        }
        for text in ["application/json", "text/html", "text/event-stream;q=0, */*", "*/*;q=0"] {
            assert_eq!(accept(text), Err(406), "{text}");
        }
    }
}
