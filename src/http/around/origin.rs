//! Pages of other origins may neither change anything nor open a WebSocket, unless they are listed.
//!
//! A browser asks before it lets a page send most requests elsewhere, and CORS answers that. It
//! does not ask before a plain form, a picture or a WebSocket: without this check any page that a
//! user opens could write to a server on that user's machine. Clients other than browsers send
//! none of these headers, or can send what they like, and are not held up.

use axum::extract::Request;
use http::{HeaderMap, Method, StatusCode, Uri, header};

use crate::http::error::{ApiError, ApiResult};
use crate::http::link;
use crate::http::state::HttpOptions;

/// Whether reads of this path join a group or move its place.
#[must_use]
pub fn moves_groups(path: &str) -> bool {
    path.starts_with("/consumers/")
}

/// Checks where a request comes from, if it may change anything.
///
/// # Errors
/// 403 names the origin.
pub fn check(request: &Request, options: &HttpOptions) -> ApiResult<()> {
    let (method, headers) = (request.method(), request.headers());
    let is_read = method == Method::GET || method == Method::HEAD || method == Method::OPTIONS;
    if is_read && !moves_groups(request.uri().path()) {
        return Ok(());
    }
    check_origin(request.uri(), headers, options)
}

/// Checks where a request comes from.
///
/// # Errors
/// 403 names the origin.
pub fn check_origin(uri: &Uri, headers: &HeaderMap, options: &HttpOptions) -> ApiResult<()> {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let (site, origin) = (text("sec-fetch-site"), text(header::ORIGIN.as_str()));
    if matches!(site, Some("same-origin" | "none")) || (site.is_none() && origin.is_none()) {
        return Ok(());
    }
    let listed = &options.cors_origins;
    if listed.iter().any(|listed| listed == "*" || Some(listed.as_str()) == origin) {
        return Ok(());
    }
    let Some(origin) = origin else {
        let message = "requests from pages of other origins are not allowed here";
        return Err(ApiError::status(StatusCode::FORBIDDEN, message));
    };
    // What a browser says of the site it knows; without that, the origin has to be ours.
    if site.is_none() && is_own(origin, uri, headers, options) {
        return Ok(());
    }
    let message = format!("origin '{origin}' is not allowed, cors_origins can list it");
    Err(ApiError::status(StatusCode::FORBIDDEN, message))
}

/// Whether a page of this origin has us as its server, as the request or proxies name us.
fn is_own(origin: &str, uri: &Uri, headers: &HeaderMap, options: &HttpOptions) -> bool {
    let Some(origin) = place(origin) else { return false };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let named = host.and_then(|host| place(&format!("{}://{host}", origin.0)));
    let linked = place(&link::base(uri, headers, options));
    let is_same = |(_, host, port): &(String, String, u16)| *host == origin.1 && *port == origin.2;
    named.iter().chain(&linked).any(is_same)
}

/// Scheme, host and port of a URL.
fn place(url: &str) -> Option<(String, String, u16)> {
    let url: Uri = url.parse().ok()?;
    let scheme = url.scheme_str()?.to_owned();
    let default = if scheme == "https" { 443 } else { 80 };
    let port = url.port_u16().unwrap_or(default);
    Some((scheme, url.host()?.to_ascii_lowercase(), port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;

    const LISTED: &str = "https://shop.example";

    fn options(listed: &[&str]) -> HttpOptions {
        let cors_origins = listed.iter().map(|origin| (*origin).to_owned()).collect();
        HttpOptions { cors_origins, ..HttpOptions::default() }
    }

    fn ask(method: &str, path: &str, headers: &[(&str, &str)], listed: &[&str]) -> u16 {
        let mut request = Request::builder().method(method).uri(path);
        request = request.header("host", "hydrant.example:8082");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::empty()).unwrap();
        check(&request, &options(listed)).map_or_else(|error| error.status.as_u16(), |()| 200)
    }

    fn write(headers: &[(&str, &str)]) -> u16 {
        ask("POST", "/topics/t/records", headers, &[LISTED])
    }

    #[test]
    fn clients_that_are_no_browsers_are_let_in() {
        assert_eq!(write(&[]), 200);
    }

    #[test]
    fn own_and_listed_pages_write() {
        for origin in [LISTED, "http://hydrant.example:8082", "http://HYDRANT.example:8082"] {
            assert_eq!(write(&[("origin", origin)]), 200, "{origin}");
        }
        for site in ["same-origin", "none"] {
            let headers = [("sec-fetch-site", site), ("origin", "http://through.a.proxy")];
            assert_eq!(write(&headers), 200, "{site}");
        }
        assert_eq!(write(&[("sec-fetch-site", "cross-site"), ("origin", LISTED)]), 200);
        let foreign = [("sec-fetch-site", "cross-site"), ("origin", "null")];
        assert_eq!(ask("POST", "/records", &foreign, &["*"]), 200);
    }

    #[test]
    fn other_pages_do_not_write() {
        for origin in ["https://evil.example", "null", "http://hydrant.example", "file://", ""] {
            assert_eq!(write(&[("origin", origin)]), 403, "{origin}");
        }
        for site in ["cross-site", "same-site", "nonsense"] {
            assert_eq!(write(&[("sec-fetch-site", site)]), 403, "{site}");
            let claims = [("sec-fetch-site", site), ("origin", "http://hydrant.example:8082")];
            assert_eq!(write(&claims), 403, "{site}");
        }
    }

    #[test]
    fn reads_are_everybodys_but_those_that_move_a_group() {
        let foreign = [("sec-fetch-site", "cross-site"), ("origin", "https://evil.example")];
        assert_eq!(ask("GET", "/topics/t/stream", &foreign, &[]), 200);
        assert_eq!(ask("OPTIONS", "/topics/t/records", &foreign, &[]), 200);
        assert_eq!(ask("GET", "/consumers/g/records", &foreign, &[]), 403);
        assert_eq!(
            ask("GET", "/consumers/g/records", &[("sec-fetch-site", "cross-site")], &[]),
            403
        );
        assert_eq!(ask("GET", "/consumers/g/records", &foreign, &["https://evil.example"]), 200);
    }

    #[test]
    fn proxies_say_by_which_name_a_page_reached_us() {
        let through = |forwarded: &[(&str, &str)]| {
            write(&[&[("origin", "https://public.example")], forwarded].concat())
        };
        assert_eq!(through(&[]), 403);
        assert_eq!(
            through(&[("x-forwarded-host", "public.example"), ("x-forwarded-proto", "https")]),
            200
        );
        assert_eq!(through(&[("x-forwarded-host", "public.example:8443")]), 403);
        assert_eq!(through(&[("forwarded", "host=\"public.example\";proto=https")]), 200);
    }
}
