//! Files for browsers that are part of the binary: `hydrant.js`, its types, an example page.

use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::error::{ApiError, ApiResult, ErrorBody};
use super::state::AppState;

const SCRIPT: &str = include_str!("../../web/hydrant.js");
const TYPES: &str = include_str!("../../web/hydrant.d.ts");
const TAIL: &str = include_str!("../../web/tail.html");

/// The routes of this file.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(script)).routes(routes!(types)).routes(routes!(example))
}

/// The browser client: an ES module without dependencies.
#[utoipa::path(
    get, path = "/hydrant.js", tag = "operations", operation_id = "getBrowserClient",
    responses(
        (status = 200, body = String, content_type = "text/javascript", description = "The module"),
        (status = 304, description = "It is the one of the ETag"),
    )
)]
pub async fn script(headers: HeaderMap) -> Response {
    file(&headers, "text/javascript; charset=utf-8", SCRIPT)
}

/// The types of the browser client, for TypeScript.
#[utoipa::path(
    get, path = "/hydrant.d.ts", tag = "operations", operation_id = "getBrowserClientTypes",
    responses(
        (status = 200, body = String, content_type = "application/typescript", description = "The declarations"),
        (status = 304, description = "They are those of the ETag"),
    )
)]
pub async fn types(headers: HeaderMap) -> Response {
    file(&headers, "application/typescript; charset=utf-8", TYPES)
}

/// An example page; `tail.html` follows a topic.
#[utoipa::path(
    get, path = "/examples/{page}", tag = "operations", operation_id = "getExample",
    params(("page" = String, Path, description = "Name of the page", example = "tail.html")),
    responses(
        (status = 200, body = String, content_type = "text/html", description = "The page"),
        (status = 304, description = "It is the one of the ETag"),
        (status = 404, body = ErrorBody, description = "There is no such page",
            content_type = "application/vnd.kafka.v2+json"),
    )
)]
pub async fn example(Path(page): Path<String>, headers: HeaderMap) -> ApiResult<Response> {
    if page == "tail.html" {
        return Ok(file(&headers, "text/html; charset=utf-8", TAIL));
    }
    Err(ApiError::status(StatusCode::NOT_FOUND, format!("example '{page}' does not exist")))
}

/// Answers a file, or that the client has it.
fn file(headers: &HeaderMap, content_type: &'static str, text: &'static str) -> Response {
    let tag = format!("\"{:08x}-{:x}\"", crc32c::crc32c(text.as_bytes()), text.len());
    let known = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    let is_known = known.is_some_and(|known| {
        let plain = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
        known.split(',').any(|one| one.trim() == "*" || plain(one) == tag)
    });
    let mut response = if is_known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        ([(header::CONTENT_TYPE, content_type)], text).into_response()
    };
    for (name, value) in [
        (header::CACHE_CONTROL, "no-cache"),
        // A module may be loaded by pages of other origins.
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (HeaderName::from_static("x-content-type-options"), "nosniff"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}
