//! Media types: what a body is, and what the client wants back.
//!
//! A superset of what the REST proxies accept: vendor types of v1 and v2, plain JSON, parameters
//! and quality values. Only an explicit type that nobody can serve is refused.

use http::{HeaderMap, StatusCode, header};

use super::error::{ApiError, ApiResult};

/// Metadata, control and errors.
pub const KAFKA_V2_JSON: &str = "application/vnd.kafka.v2+json";
/// Plain JSON.
pub const JSON: &str = "application/json";

/// How keys and values are embedded in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Embedded {
    /// Base64 strings.
    Binary,
    /// Any JSON.
    Json,
    /// Strings of UTF-8.
    Text,
    /// By a schema registry, which is not there yet.
    Schema,
}

impl Embedded {
    /// The media type of records in this format.
    #[must_use]
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Binary => "application/vnd.kafka.binary.v2+json",
            Self::Json => "application/vnd.kafka.json.v2+json",
            Self::Text => "application/vnd.kafka.text.v2+json",
            Self::Schema => KAFKA_V2_JSON,
        }
    }
}

/// What a media type says of embedded data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Media {
    /// `application/json`.
    Json,
    /// A vendor type that names no format, or raw octets.
    Vendor,
    /// A vendor type that names a format.
    Embedded(Embedded),
    /// A wildcard.
    Any,
}

fn parse(name: &str) -> Option<Media> {
    let name = name.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match name.as_str() {
        "*/*" | "application/*" => return Some(Media::Any),
        "application/json" => return Some(Media::Json),
        "application/octet-stream" => return Some(Media::Vendor),
        _ => {}
    }
    let rest = name.strip_prefix("application/vnd.kafka")?.strip_suffix("+json")?;
    let rest = rest.strip_suffix(".v2").or_else(|| rest.strip_suffix(".v1")).unwrap_or(rest);
    match rest {
        "" => Some(Media::Vendor),
        ".binary" => Some(Media::Embedded(Embedded::Binary)),
        ".json" => Some(Media::Embedded(Embedded::Json)),
        ".text" => Some(Media::Embedded(Embedded::Text)),
        ".avro" | ".jsonschema" | ".protobuf" => Some(Media::Embedded(Embedded::Schema)),
        _ => None,
    }
}

/// Reads the type of a request body; no header means plain JSON.
///
/// # Errors
/// 415 names the type.
pub fn content(headers: &HeaderMap) -> ApiResult<Media> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(Media::Json) };
    let text = value.to_str().unwrap_or("?");
    match parse(text) {
        Some(media) if media != Media::Any => Ok(media),
        _ => Err(ApiError::status(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            format!(
                "content type '{text}' is not supported, use application/json or {KAFKA_V2_JSON}"
            ),
        )),
    }
}

/// Reads the type of a produce body.
///
/// # Errors
/// 415 for types that are not embedded data, and for schema formats.
pub fn produce_format(headers: &HeaderMap) -> ApiResult<Embedded> {
    match content(headers)? {
        Media::Json | Media::Any => Ok(Embedded::Json),
        Media::Vendor => Ok(Embedded::Binary),
        Media::Embedded(Embedded::Schema) => Err(ApiError::status(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "avro, jsonschema and protobuf need a schema registry, which this server does not offer",
        )),
        Media::Embedded(embedded) => Ok(embedded),
    }
}

/// Reads what the client accepts; the most wanted type that can be served.
///
/// # Errors
/// 406 names the header when nothing in it can be served.
pub fn accepted(headers: &HeaderMap) -> ApiResult<Media> {
    let mut best: Option<(f32, Media)> = None;
    let mut any_header = false;
    for value in headers.get_all(header::ACCEPT) {
        for item in value.to_str().unwrap_or_default().split(',') {
            any_header |= !item.trim().is_empty();
            let quality = quality(item);
            if let Some(media) = parse(item)
                && quality > 0.0
                && best.is_none_or(|(known, _)| quality > known)
            {
                best = Some((quality, media));
            }
        }
    }
    match best {
        Some((_, media)) => Ok(media),
        None if !any_header => Ok(Media::Any),
        None => {
            let values = headers.get_all(header::ACCEPT).iter();
            let text: Vec<_> = values.filter_map(|v| v.to_str().ok()).collect();
            let message = format!("accept '{}' asks for nothing that is served", text.join(", "));
            Err(ApiError::status(StatusCode::NOT_ACCEPTABLE, message))
        }
    }
}

/// Whether `Accept` names a type, not only as its favourite, in which records of a format may come.
pub fn allows(headers: &HeaderMap, served: Embedded) -> bool {
    let values = headers.get_all(header::ACCEPT).iter();
    let mut items = values.filter_map(|value| value.to_str().ok()).flat_map(|text| text.split(','));
    items.any(|item| {
        let is_other = |media| matches!(media, Media::Embedded(wanted) if wanted != served);
        quality(item) > 0.0 && parse(item).is_some_and(|media| !is_other(media))
    })
}

fn quality(item: &str) -> f32 {
    let parameters = item.split(';').skip(1);
    let mut values = parameters.filter_map(|p| p.trim().strip_prefix("q="));
    values.next().map_or(1.0, |q| q.trim().parse().unwrap_or(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn with(name: header::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn a_list_allows_each_of_its_types() {
        let list = "application/vnd.kafka.binary.v2+json, application/vnd.kafka.json.v2+json";
        let headers = with(header::ACCEPT, list);
        assert!(allows(&headers, Embedded::Json));
        assert!(!allows(&headers, Embedded::Text));
        let refused = "application/vnd.kafka.json.v2+json;q=0";
        assert!(!allows(&with(header::ACCEPT, refused), Embedded::Json));
    }

    #[test]
    fn every_form_of_the_peers_is_understood() {
        for (text, media) in [
            ("application/vnd.kafka.v2+json", Media::Vendor),
            ("application/vnd.kafka+json", Media::Vendor),
            ("application/vnd.kafka.json+json", Media::Embedded(Embedded::Json)),
            ("application/vnd.kafka.binary.v1+json", Media::Embedded(Embedded::Binary)),
            ("Application/JSON; charset=utf-8", Media::Json),
            ("application/octet-stream", Media::Vendor),
        ] {
            assert_eq!(content(&with(header::CONTENT_TYPE, text)).unwrap(), media, "{text}");
        }
        for text in ["text/plain", "application/vnd.kafka.cbor.v2+json", "*/*"] {
            let refused = content(&with(header::CONTENT_TYPE, text)).unwrap_err();
            assert_eq!(refused.code, 415, "{text}");
        }
    }

    #[test]
    fn the_most_wanted_type_wins_and_strangers_are_refused() {
        let accept = |text| accepted(&with(header::ACCEPT, text));
        assert_eq!(accepted(&HeaderMap::new()).unwrap(), Media::Any);
        let json = Media::Embedded(Embedded::Json);
        let list = "text/html, application/vnd.kafka.binary.v2+json;q=0.5, application/vnd.kafka.json.v2+json";
        assert_eq!(accept(list).unwrap(), json);
        assert_eq!(accept("text/html, */*;q=0.1").unwrap(), Media::Any);
        assert_eq!(accept("text/html").unwrap_err().code, 406);
        assert_eq!(accept("application/json;q=0").unwrap_err().code, 406);
    }
}
