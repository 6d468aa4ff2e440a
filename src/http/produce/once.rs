//! Requests that count once: `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header-07).
//!
//! The answer to a request with a key is kept for a day by the same decision that makes its
//! records count, so whoever asks again gets the answer and nothing is written twice, also after
//! a `kill -9`. Only requests that were done are kept: after an error the key is free again.

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use crate::engine::transactions::{Claim, Claimed, Fingerprint};
use crate::http::error::{ApiError, ApiResult};
use crate::http::state::AppState;

/// The header of the key.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Tells that an answer was kept from an earlier request.
pub(super) const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// Longest key, in bytes.
const KEY_BYTES_MAX: usize = 255;

/// How long an answer is kept, in milliseconds.
pub const KEPT_MS: i64 = 24 * 3_600_000;

/// Version of a kept answer.
const VERSION: u8 = 1;

/// The answer to a produce request, ready to be sent or kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// Media type of the body.
    pub content_type: &'static str,
    /// `Location` of what was made, if it is one thing.
    pub location: Option<String>,
    /// The body.
    pub body: Vec<u8>,
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let content_type = HeaderValue::from_static(self.content_type);
        let mut response =
            (self.status, [(header::CONTENT_TYPE, content_type)], self.body).into_response();
        if let Some(Ok(location)) = self.location.map(HeaderValue::try_from) {
            response.headers_mut().insert(header::LOCATION, location);
        }
        response
    }
}

impl From<ApiError> for Answer {
    fn from(error: ApiError) -> Self {
        let body = serde_json::to_vec(&error.body()).unwrap_or_default();
        let (status, content_type) = (error.status, error.content_type);
        Self { status, content_type, location: None, body }
    }
}

impl Answer {
    /// An answer without a location.
    #[must_use]
    pub const fn new(status: StatusCode, content_type: &'static str, body: Vec<u8>) -> Self {
        Self { status, content_type, location: None, body }
    }

    /// The answer as it is kept.
    pub(super) fn encode(&self) -> Bytes {
        let location = self.location.as_deref().unwrap_or_default();
        let mut out = vec![VERSION];
        out.extend_from_slice(&self.status.as_u16().to_be_bytes());
        for text in [self.content_type, location] {
            let length = u16::try_from(text.len()).unwrap_or(0);
            out.extend_from_slice(&length.to_be_bytes());
            out.extend_from_slice(text.as_bytes().get(..usize::from(length)).unwrap_or_default());
        }
        out.extend_from_slice(&self.body);
        Bytes::from(out)
    }
}

/// Makes a response of a kept answer; none for bytes of another version.
fn replay(mut kept: Bytes) -> Option<Response> {
    let (version, rest) = kept.split_first_chunk::<3>()?;
    let [VERSION, high, low] = *version else { return None };
    let status = StatusCode::from_u16(u16::from_be_bytes([high, low])).ok()?;
    let (length, rest) = rest.split_first_chunk::<2>()?;
    let (content_type, rest) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
    let (length, rest) = rest.split_first_chunk::<2>()?;
    let (location, body) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
    let content_type = HeaderValue::from_bytes(content_type).ok()?;
    let location = HeaderValue::from_bytes(location).ok()?;
    let body = kept.split_off(kept.len() - body.len());
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, content_type);
    headers.insert(REPLAYED, HeaderValue::from_static("true"));
    if !location.is_empty() {
        headers.insert(header::LOCATION, location);
    }
    Some(response)
}

/// What to do with a request.
#[derive(Debug)]
pub enum Once {
    /// Do it; with a claim if it has a key.
    Begin(Option<Claim>),
    /// It was done: send this.
    Replay(Response),
}

/// Looks up the key of a request, which is the same request when all of `identity` is the same.
///
/// # Errors
/// 400 for a malformed key, 409 while a request with the key is at work, 422 when the key was used
/// for another request, 429 when no more keys can be remembered.
pub fn begin(state: &AppState, headers: &HeaderMap, identity: &[&[u8]]) -> ApiResult<Once> {
    let Some(key) = key(headers)? else { return Ok(Once::Begin(None)) };
    let claimed = state.engine.transactions.claim(key.clone(), fingerprint(identity));
    let shown = String::from_utf8_lossy(&key);
    match claimed {
        Ok(Claimed::New(claim)) => Ok(Once::Begin(Some(claim))),
        Ok(Claimed::InProgress) => {
            let message = format!("a request with idempotency key '{shown}' is being worked on");
            Err(ApiError::status(StatusCode::CONFLICT, message))
        }
        Ok(Claimed::Mismatch) => {
            let message = format!("idempotency key '{shown}' was used for another request");
            Err(ApiError::unprocessable(message))
        }
        Ok(Claimed::Done(kept)) => replay(kept).map(Once::Replay).ok_or_else(|| {
            let message = format!("answer kept of idempotency key '{shown}' cannot be read");
            ApiError::status(StatusCode::INTERNAL_SERVER_ERROR, message)
        }),
        Err(error) => Err(ApiError::status(StatusCode::TOO_MANY_REQUESTS, error.to_string())),
    }
}

/// Reads the key: a structured-field string, or the bare text that many clients send.
fn key(headers: &HeaderMap) -> ApiResult<Option<Bytes>> {
    let mut values = headers.get_all(&IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let malformed = |reason: &str| {
        let shown = String::from_utf8_lossy(value.as_bytes());
        ApiError::bad_request(format!("Idempotency-Key '{shown}' {reason}"))
    };
    if values.next().is_some() {
        return Err(malformed("is not the only one"));
    }
    let text = value.as_bytes().trim_ascii();
    let bare = match text {
        [b'"', inner @ .., b'"'] => inner,
        _ => text,
    };
    if bare.is_empty() || bare.len() > KEY_BYTES_MAX {
        return Err(malformed("has not 1 to 255 characters"));
    }
    if !bare.iter().all(|byte| (b' '..=b'~').contains(byte) && !matches!(byte, b'"' | b'\\')) {
        return Err(malformed("has characters other than printable ASCII without '\"' and '\\'"));
    }
    Ok(Some(Bytes::copy_from_slice(bare)))
}

/// SHA-1 of all parts, each with its length, cut to 16 bytes. It tells mistakes of a client from
/// repetitions; nobody gains by a collision in keys of their own.
fn fingerprint(identity: &[&[u8]]) -> Fingerprint {
    let total = identity.iter().map(|part| part.len() + 8).sum();
    let mut all = Vec::with_capacity(total);
    for part in identity {
        all.extend_from_slice(&(part.len() as u64).to_be_bytes());
        all.extend_from_slice(part);
    }
    uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_URL, &all).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(value: &[u8]) -> ApiResult<Option<Bytes>> {
        let mut headers = HeaderMap::new();
        headers.insert(IDEMPOTENCY_KEY, HeaderValue::from_bytes(value).unwrap());
        key(&headers)
    }

    #[test]
    fn keys_are_quoted_or_bare_printable_text() {
        assert_eq!(key(&HeaderMap::new()).unwrap(), None);
        assert_eq!(parsed(b"\"8e03-97\"").unwrap().unwrap(), "8e03-97");
        assert_eq!(parsed(b" 8e03 97 ").unwrap().unwrap(), "8e03 97");
        for bad in [&b""[..], b"\"\"", b"a\"b", b"a\\b", b"\xff", &[b'a'; 256]] {
            assert_eq!(parsed(bad).unwrap_err().code, 400, "{bad:?}");
        }
    }

    #[test]
    fn a_request_is_another_one_when_any_part_differs() {
        let of = |parts: &[&[u8]]| fingerprint(parts);
        assert_eq!(of(&[b"a", b"b"]), of(&[b"a", b"b"]));
        assert_ne!(of(&[b"a", b"b"]), of(&[b"ab", b""]));
        assert_ne!(of(&[b"a", b"b"]), of(&[b"a", b"c"]));
    }

    #[test]
    fn a_kept_answer_is_sent_as_it_was() {
        let answer = Answer {
            status: StatusCode::CREATED,
            content_type: "application/json",
            location: Some("/topics/t/partitions/0/records/7".to_owned()),
            body: b"{\"offset\":7}".to_vec(),
        };
        let replayed = replay(answer.encode()).unwrap();
        let sent = answer.into_response();
        assert_eq!(replayed.status(), sent.status());
        for name in [header::CONTENT_TYPE, header::LOCATION] {
            assert_eq!(replayed.headers().get(&name), sent.headers().get(&name));
        }
        assert_eq!(replayed.headers().get(REPLAYED).unwrap(), "true");
        assert!(replay(Bytes::from_static(&[1, 0])).is_none());
        assert!(replay(Bytes::from_static(&[9, 0, 200, 0, 0, 0, 0])).is_none());
    }
}
