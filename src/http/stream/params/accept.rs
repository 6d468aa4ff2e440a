//! Which protocol the client takes, by its `Accept` header.

use http::{HeaderMap, StatusCode, header};

use super::shape::Transport;
use crate::http::error::{ApiError, ApiResult};

/// Types that are served, in the order in which they are preferred.
const TYPES: [(&str, Transport, &str); 3] = [
    ("text/event-stream", Transport::Sse, "text/*"),
    ("application/x-ndjson", Transport::Lines, "application/*"),
    ("application/jsonl", Transport::Lines, "application/*"),
];

/// Finds the protocol that the client likes best; server-sent events if it does not care.
///
/// # Errors
/// 406 names the header.
pub(in super::super) fn negotiate(headers: &HeaderMap) -> ApiResult<Transport> {
    let values = headers.get_all(header::ACCEPT).iter();
    let text = values.filter_map(|v| v.to_str().ok()).collect::<Vec<_>>().join(", ");
    if text.trim().is_empty() {
        return Ok(Transport::Sse);
    }
    let mut best: Option<(f32, Transport)> = None;
    for (name, transport, range) in TYPES {
        let quality = quality(&text, name, range);
        if quality > 0.0 && best.is_none_or(|(known, _)| quality > known) {
            best = Some((quality, transport));
        }
    }
    best.map(|(_, transport)| transport).ok_or_else(|| {
        let message =
            format!("accept '{text}' takes neither text/event-stream nor application/x-ndjson");
        ApiError::status(StatusCode::NOT_ACCEPTABLE, message)
    })
}

/// How much a type is liked. What is said of the type itself counts more than what is said of a
/// range that it is in.
fn quality(accept: &str, name: &str, range: &str) -> f32 {
    let mut best: Option<(u8, f32)> = None;
    for item in accept.split(',') {
        let mut parts = item.split(';').map(str::trim);
        let said = parts.next().unwrap_or_default().to_ascii_lowercase();
        let rank = match said.as_str() {
            said if said == name => 3,
            said if said == range => 2,
            "*/*" => 1,
            _ => continue,
        };
        let quality = parts.find_map(|p| p.strip_prefix("q=")).map_or(Ok(1.0), str::parse::<f32>);
        if best.is_none_or(|(known, _)| rank > known) {
            best = Some((rank, quality.unwrap_or(0.0)));
        }
    }
    best.map_or(0.0, |(_, quality)| quality)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn accept(text: &str) -> Result<Transport, u32> {
        let value = HeaderValue::from_str(text).unwrap();
        negotiate(&HeaderMap::from_iter([(header::ACCEPT, value)])).map_err(|e| e.code)
    }

    #[test]
    fn the_best_liked_protocol_is_spoken() {
        assert_eq!(negotiate(&HeaderMap::new()), Ok(Transport::Sse));
        for text in [
            "text/event-stream",
            "*/*",
            "text/*;q=0.2",
            "text/html, */*;q=0.1",
            "",
            "application/x-ndjson;q=0.5, text/event-stream",
        ] {
            assert_eq!(accept(text), Ok(Transport::Sse), "{text}");
        }
        for text in [
            "application/x-ndjson",
            "Application/JSONL; charset=utf-8",
            "application/*",
            "text/event-stream;q=0.1, application/jsonl;q=0.2",
            "text/event-stream;q=0, */*",
        ] {
            assert_eq!(accept(text), Ok(Transport::Lines), "{text}");
        }
        for text in ["application/json", "text/html", "*/*;q=0", "text/event-stream;q=x"] {
            assert_eq!(accept(text), Err(406), "{text}");
        }
    }
}
