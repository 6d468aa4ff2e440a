//! Bodies of requests: JSON in UTF-8 or ISO-8859-1, one object.

use std::borrow::Cow;

use axum::body::Body;
use http::{HeaderMap, StatusCode, header};
use serde::de::DeserializeOwned;

use super::error::{V3Error, V3Result};
use crate::http::body;
use crate::http::error::ApiError;
use crate::http::state::AppState;

/// How the text of a body is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Charset {
    /// UTF-8, also when nothing is said.
    Utf8,
    /// One byte for each of the first 256 code points.
    Latin1,
}

/// Reads a body of JSON.
///
/// # Errors
/// 415 for other types, 400/400 for another charset and for text that is not JSON, has a wrong
/// type or an unknown member; 422/42206 for no body, `null` and missing members; 413 and 503 as
/// [`body::read`].
///
/// # Cancel safety
/// What was read is lost; the request is over then anyway.
pub async fn read<T: DeserializeOwned>(
    state: &AppState,
    headers: &HeaderMap,
    body: Body,
) -> V3Result<T> {
    let charset = charset(headers)?;
    let bytes = body::read(&state.bodies, body).await?;
    parse(&decode(&bytes, charset))
}

/// Reads the charset out of the content type; no header means JSON in UTF-8.
///
/// # Errors
/// 415 for a type other than `application/json`, 400/400 for another charset.
pub fn charset(headers: &HeaderMap) -> V3Result<Charset> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(Charset::Utf8) };
    let text = value.to_str().unwrap_or("?");
    let mut parts = text.split(';').map(str::trim);
    if !parts.next().unwrap_or_default().eq_ignore_ascii_case("application/json") {
        let message = format!("content type '{text}' is not supported, use application/json");
        return Err(ApiError::status(StatusCode::UNSUPPORTED_MEDIA_TYPE, message).into());
    }
    let mut parameters = parts.filter_map(|part| part.split_once('='));
    let charset = parameters.find(|(name, _)| name.trim().eq_ignore_ascii_case("charset"));
    let Some((_, charset)) = charset else { return Ok(Charset::Utf8) };
    match charset.trim().trim_matches('"').to_ascii_lowercase().as_str() {
        "utf-8" | "utf8" | "us-ascii" => Ok(Charset::Utf8),
        "iso-8859-1" | "latin1" => Ok(Charset::Latin1),
        other => {
            let message = format!("charset '{other}' is not supported, use utf-8 or iso-8859-1");
            Err(V3Error::bad_request(message))
        }
    }
}

/// Brings text into UTF-8.
#[must_use]
pub fn decode(bytes: &[u8], charset: Charset) -> Cow<'_, [u8]> {
    match charset {
        Charset::Utf8 => Cow::Borrowed(bytes),
        Charset::Latin1 => {
            let text: String = bytes.iter().map(|byte| char::from(*byte)).collect();
            Cow::Owned(text.into_bytes())
        }
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> V3Result<T> {
    let trimmed = bytes.trim_ascii();
    if trimmed.is_empty() || trimmed == b"null" {
        return Err(V3Error::invalid_payload("body is empty, a JSON object is needed"));
    }
    body::check_object(trimmed).map_err(V3Error::bad_request)?;
    serde_json::from_slice(trimmed).map_err(|error| {
        let message = error.to_string();
        // serde names missing members only in its text.
        if error.is_data() && message.starts_with("missing field") {
            V3Error::invalid_payload(message)
        } else {
            V3Error::bad_request(format!("invalid JSON: {message}"))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Named {
        name: String,
    }

    fn with_type(content_type: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::CONTENT_TYPE, content_type.parse().unwrap())])
    }

    #[test]
    fn only_json_in_two_charsets_is_read() {
        assert_eq!(charset(&HeaderMap::new()).unwrap(), Charset::Utf8);
        let known = charset(&with_type("Application/JSON; Charset=\"UTF-8\"")).unwrap();
        assert_eq!(known, Charset::Utf8);
        let latin = charset(&with_type("application/json;charset=ISO-8859-1")).unwrap();
        assert_eq!(latin, Charset::Latin1);
        let code = |text| charset(&with_type(text)).unwrap_err().api().code;
        assert_eq!(code("application/json;charset=utf-16"), 400);
        assert_eq!(code("text/plain"), 415);
        assert_eq!(code("application/vnd.kafka.v2+json"), 415);
    }

    #[test]
    fn text_of_both_charsets_means_the_same() {
        let utf8: Named = parse(&decode("{\"name\":\"é\"}".as_bytes(), Charset::Utf8)).unwrap();
        let latin: Named = parse(&decode(b"{\"name\":\"\xe9\"}", Charset::Latin1)).unwrap();
        assert_eq!((utf8.name.as_str(), latin.name.as_str()), ("é", "é"));
    }

    #[test]
    fn bad_bodies_are_told_apart() {
        let code = |text: &str| parse::<Named>(text.as_bytes()).unwrap_err().api().code;
        assert_eq!((code(""), code(" null "), code("{}")), (42206, 42206, 42206));
        assert_eq!((code("[\"a\"]"), code("1")), (400, 400));
        assert_eq!((code("{"), code("{\"name\":1}"), code("{\"nome\":\"a\"}")), (400, 400, 400));
    }
}
