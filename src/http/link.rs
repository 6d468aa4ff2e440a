//! Links to ourselves, as the client reaches us: through proxies, by any name.

use http::{HeaderMap, Uri, header};

/// The scheme and authority to put before a path of ours.
///
/// `Forwarded` (RFC 7239) wins over `X-Forwarded-*`, those over the request's own authority, and
/// `fallback` answers a request that names none.
#[must_use]
pub fn base(uri: &Uri, headers: &HeaderMap, fallback: &str) -> String {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let first = |list: &str| list.split(',').next().unwrap_or_default().trim().to_owned();
    let forwarded = text("forwarded").map(first);
    let parameter = |name: &str| {
        let pairs = forwarded.as_deref().unwrap_or_default().split(';');
        let mut pairs = pairs.filter_map(|pair| pair.trim().split_once('='));
        let found = pairs.find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.trim_matches('"').to_owned())
    };
    let scheme = parameter("proto").or_else(|| text("x-forwarded-proto").map(first));
    let host = parameter("host")
        .or_else(|| text("x-forwarded-host").map(first))
        .or_else(|| uri.authority().map(ToString::to_string))
        .or_else(|| text(header::HOST.as_str()).map(str::to_owned));
    let scheme = scheme.filter(|s| matches!(s.as_str(), "http" | "https"));
    let host = host.filter(|h| !h.is_empty() && h.bytes().all(is_host_byte));
    let prefix = text("x-forwarded-path").or_else(|| text("x-forwarded-prefix"));
    let prefix = prefix.map(first).filter(|p| p.starts_with('/')).unwrap_or_default();
    format!(
        "{}://{}{}",
        scheme.as_deref().unwrap_or("http"),
        host.as_deref().unwrap_or(fallback),
        prefix.trim_end_matches('/')
    )
}

const fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':' | b'[' | b']')
}

/// Percent-encodes one segment of a path (RFC 3986).
#[must_use]
pub fn segment(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(list: &[(&'static str, &str)]) -> HeaderMap {
        list.iter().map(|(k, v)| (http::HeaderName::from_static(k), v.parse().unwrap())).collect()
    }

    #[test]
    fn proxies_say_where_we_are() {
        let uri: Uri = "/consumers/g".parse().unwrap();
        let with = |list: &[(&'static str, &str)]| base(&uri, &headers(list), "fallback:1");
        assert_eq!(with(&[]), "http://fallback:1");
        assert_eq!(with(&[("host", "a:8082")]), "http://a:8082");
        let x = [("host", "a"), ("x-forwarded-host", "b, c"), ("x-forwarded-proto", "https")];
        assert_eq!(with(&x), "https://b");
        let forwarded = [("host", "a"), ("forwarded", "for=1.2.3.4;proto=https;host=\"d:443\"")];
        assert_eq!(with(&forwarded), "https://d:443");
        assert_eq!(with(&[("host", "a"), ("x-forwarded-prefix", "/kafka/")]), "http://a/kafka");
        assert_eq!(with(&[("x-forwarded-host", "evil\"<>")]), "http://fallback:1");
    }

    #[test]
    fn segments_are_encoded() {
        assert_eq!(segment("a b/c\u{e9}"), "a%20b%2Fc%C3%A9");
    }
}
