//! Which pages of browsers may call, and what they may send and see.

use std::time::Duration;

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderName, HeaderValue, Method, header};
use tower_http::cors::{AllowOrigin, CorsLayer};

/// How long a browser may remember what it was told.
const MAX_AGE: Duration = Duration::from_secs(7200);

/// Headers that pages may send.
const REQUEST_HEADERS: &[&str] = &[
    "accept",
    "authorization",
    "content-encoding",
    "content-type",
    "idempotency-key",
    "if-match",
    "if-none-match",
    "last-event-id",
    "producer-epoch",
    "producer-id",
    "producer-seq",
    "traceparent",
    "tracestate",
    "x-request-id",
];

/// Headers of records: their names are the pages' own.
const REQUEST_HEADER_FAMILIES: &[&str] = &["hydrant-", "ce-"];

/// Headers of answers that pages may see.
const RESPONSE_HEADERS: &[&str] = &[
    "allow",
    "etag",
    "idempotency-replayed",
    "link",
    "location",
    "ratelimit",
    "ratelimit-policy",
    "retry-after",
    "stream-cursor",
    "stream-id",
    "stream-resume",
    "x-request-id",
];

/// The layer for the listed origins, `*` for all; without any there is no CORS.
///
/// Credentials of the browser, such as cookies, are never asked for, so `*` gives away nothing
/// that the page could not send itself.
#[must_use]
pub fn layer(origins: &[String]) -> Option<CorsLayer> {
    if origins.is_empty() {
        return None;
    }
    let allowed = if origins.iter().any(|origin| origin == "*") {
        AllowOrigin::any()
    } else {
        AllowOrigin::list(origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()))
    };
    let methods =
        [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
    let names = |list: &'static [&'static str]| list.iter().map(|n| HeaderName::from_static(n));
    Some(
        CorsLayer::new()
            .allow_origin(allowed)
            .allow_methods(methods)
            .allow_headers(names(REQUEST_HEADERS).collect::<Vec<_>>())
            .expose_headers(names(RESPONSE_HEADERS).collect::<Vec<_>>())
            .max_age(MAX_AGE),
    )
}

/// Also allows the headers of records that a preflight asks for.
pub async fn allow_families(request: Request, next: Next) -> Response {
    let asked = (request.method() == Method::OPTIONS)
        .then(|| request.headers().get(header::ACCESS_CONTROL_REQUEST_HEADERS))
        .flatten();
    let asked = asked.and_then(|value| value.to_str().ok()).map(families);
    let mut response = next.run(request).await;
    if let Some(names) = asked.filter(|names| !names.is_empty())
        && response.headers().contains_key(header::ACCESS_CONTROL_ALLOW_HEADERS)
        && let Ok(names) = HeaderValue::try_from(names)
    {
        response.headers_mut().append(header::ACCESS_CONTROL_ALLOW_HEADERS, names);
    }
    response
}

fn families(asked: &str) -> String {
    let names = asked.split(',').map(str::trim);
    let of_records = |name: &&str| {
        let is_token = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        let name = name.to_ascii_lowercase();
        is_token && REQUEST_HEADER_FAMILIES.iter().any(|family| name.starts_with(family))
    };
    names.filter(of_records).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_records_are_picked_out() {
        let asked = "content-type, Hydrant-Header-Trace,x-evil,ce-id, hydrant-a b";
        assert_eq!(families(asked), "Hydrant-Header-Trace,ce-id");
    }
}
