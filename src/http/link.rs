//! Links to ourselves, as the client reaches us: through proxies, by any name.

use http::{HeaderMap, Uri, header};

use super::state::HttpOptions;

/// Which words of proxies are believed: a client without a proxy can send them too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forwarded {
    /// None.
    Ignored,
    /// Where we are, in links to ourselves, which only the client that sent them gets to see.
    Links,
    /// Also who the client is, in limits by client. Only behind a proxy that sets the header.
    All,
}

/// The scheme, authority and prefix to put before a path of ours.
///
/// An advertised address wins over everything. Then `Forwarded` (RFC 7239) wins over
/// `X-Forwarded-*`, those over the request's own authority, and our own address answers a request
/// that names none. `X-Forwarded-Path` is the whole path as the client sent it, or its beginning.
#[must_use]
pub fn base(uri: &Uri, headers: &HeaderMap, options: &HttpOptions) -> String {
    if let Some(advertised) = &options.advertised {
        return advertised.trim_end_matches('/').to_owned();
    }
    let is_ignored = options.forwarded == Forwarded::Ignored;
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let told = |name: &str| text(name).filter(|_| !is_ignored).map(|list| first(list).to_owned());
    let forwarded = told("forwarded").unwrap_or_default();
    let scheme = parameter(&forwarded, "proto").or_else(|| told("x-forwarded-proto"));
    let own_host = || {
        let authority = uri.authority().map(ToString::to_string);
        authority.or_else(|| text(header::HOST.as_str()).map(str::to_owned))
    };
    let other_host = parameter(&forwarded, "host").or_else(|| told("x-forwarded-host"));
    let host = other_host.or_else(own_host);
    let scheme = scheme.map(|scheme| scheme.to_ascii_lowercase());
    let scheme = scheme.filter(|s| matches!(s.as_str(), "http" | "https"));
    let host = host.filter(|h| !h.is_empty() && h.bytes().all(is_host_byte));
    let host = host.unwrap_or_else(|| options.authority.clone());
    let port = told("x-forwarded-port").filter(|_| !has_port(&host));
    let port = port.and_then(|port| port.parse::<u16>().ok());
    let path = told("x-forwarded-path").or_else(|| told("x-forwarded-prefix"));
    let path = path.filter(|path| path.starts_with('/') && path.bytes().all(is_path_byte));
    let path = path.unwrap_or_default();
    let prefix = path.trim_end_matches('/');
    let prefix = prefix.strip_suffix(uri.path().trim_end_matches('/')).unwrap_or(prefix);
    let port = port.map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{host}{port}{prefix}", scheme.as_deref().unwrap_or("http"))
}

/// The first of a list: what the proxy next to the client said.
fn first(list: &str) -> &str {
    list.split(',').next().unwrap_or_default().trim()
}

fn has_port(host: &str) -> bool {
    host.rsplit_once(':').is_some_and(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()))
}

/// A parameter of one element of `Forwarded`.
#[must_use]
pub fn parameter(element: &str, name: &str) -> Option<String> {
    let mut pairs = element.split(';').filter_map(|pair| pair.trim().split_once('='));
    let found = pairs.find(|(key, _)| key.trim().eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.trim().trim_matches('"').to_owned())
}

const fn is_path_byte(byte: u8) -> bool {
    is_host_byte(byte)
        || matches!(byte, b'/' | b'%' | b'~' | b'!' | b'$' | b'&' | b'+' | b',' | b'=' | b'@')
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

    fn options(forwarded: Forwarded, advertised: Option<&str>) -> HttpOptions {
        HttpOptions {
            authority: "fallback:1".to_owned(),
            forwarded,
            advertised: advertised.map(str::to_owned),
            ..HttpOptions::default()
        }
    }

    #[test]
    fn proxies_say_where_we_are() {
        let uri: Uri = "/consumers/g".parse().unwrap();
        let trusting = options(Forwarded::Links, None);
        let with = |list: &[(&'static str, &str)]| base(&uri, &headers(list), &trusting);
        assert_eq!(with(&[]), "http://fallback:1");
        assert_eq!(with(&[("host", "a:8082")]), "http://a:8082");
        let x = [("host", "a"), ("x-forwarded-host", "b, c"), ("x-forwarded-proto", "https")];
        assert_eq!(with(&x), "https://b");
        let forwarded = [
            ("host", "a"),
            ("x-forwarded-host", "b"),
            ("forwarded", "for=1.2.3.4;Proto=HTTPS;host=\"d:443\", for=5.6.7.8;host=e"),
        ];
        assert_eq!(with(&forwarded), "https://d:443");
        assert_eq!(with(&[("host", "a"), ("x-forwarded-prefix", "/kafka/")]), "http://a/kafka");
        // Strimzi's bridge takes the whole path.
        let whole = [("host", "a"), ("x-forwarded-path", "/my-bridge/consumers/g/")];
        assert_eq!(with(&whole), "http://a/my-bridge");
        assert_eq!(
            with(&[("host", "a"), ("x-forwarded-path", "/my-bridge")]),
            "http://a/my-bridge"
        );
        assert_eq!(with(&[("host", "a"), ("x-forwarded-port", "8443")]), "http://a:8443");
        assert_eq!(with(&[("host", "a:1"), ("x-forwarded-port", "8443")]), "http://a:1");
        assert_eq!(with(&[("host", "[::1]"), ("x-forwarded-port", "2")]), "http://[::1]:2");
    }

    #[test]
    fn nonsense_and_strangers_are_not_believed() {
        let uri: Uri = "/consumers/g".parse().unwrap();
        let trusting = options(Forwarded::Links, None);
        for list in [
            [("x-forwarded-host", "evil\"<>"), ("host", "a")],
            [("x-forwarded-proto", "javascript"), ("host", "fallback:1")],
            [("x-forwarded-port", "1/x"), ("host", "fallback:1")],
            [("x-forwarded-path", "/<script>"), ("host", "fallback:1")],
        ] {
            let base = base(&uri, &headers(&list), &trusting);
            assert_eq!(base, "http://fallback:1", "{list:?}");
        }
        let list = [("host", "a"), ("x-forwarded-host", "b"), ("forwarded", "host=c")];
        let wary = options(Forwarded::Ignored, None);
        assert_eq!(base(&uri, &headers(&list), &wary), "http://a");
        let advertised = options(Forwarded::Links, Some("https://x.example/kafka/"));
        assert_eq!(base(&uri, &headers(&list), &advertised), "https://x.example/kafka");
    }

    #[test]
    fn segments_are_encoded() {
        assert_eq!(segment("a b/c\u{e9}"), "a%20b%2Fc%C3%A9");
    }
}
