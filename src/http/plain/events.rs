//! CloudEvents 1.0 by their HTTP binding, stored by their Kafka binding.
//!
//! Binary: `ce-…` headers become `ce_…` record headers and the body is the value. Structured and
//! batched: the event as JSON is the value, and the record header `content-type` says so.
//! `partitionkey` becomes the key of the record.

use http::HeaderMap;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::http::error::{ApiError, ApiResult};
use crate::http::produce::RecordHeaders;

/// Prefix of attributes as HTTP headers.
const HTTP_PREFIX: &str = "ce-";

/// Prefix of attributes as record headers.
const KAFKA_PREFIX: &[u8] = b"ce_";

/// The version that is understood.
const SPEC_VERSION: &str = "1.0";

/// The attribute that becomes the key.
const PARTITION_KEY: &str = "partitionkey";

/// Tells whether the headers have an event in binary mode.
pub(super) fn is_binary(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| name.as_str().starts_with(HTTP_PREFIX))
}

/// The attributes that every event has.
#[derive(Debug, Default)]
struct Required {
    id: bool,
    source: bool,
    event_type: bool,
    spec_version: bool,
}

impl Required {
    fn note(&mut self, name: &str, value: &str) -> Result<(), String> {
        let is_given = !value.is_empty();
        match name {
            "id" => self.id = is_given,
            "source" => self.source = is_given,
            "type" => self.event_type = is_given,
            "specversion" if value == SPEC_VERSION => self.spec_version = true,
            "specversion" => return Err(format!("specversion '{value}' is not {SPEC_VERSION}")),
            _ => {}
        }
        Ok(())
    }

    fn missing(&self) -> Option<&'static str> {
        [
            ("specversion", self.spec_version),
            ("id", self.id),
            ("source", self.source),
            ("type", self.event_type),
        ]
        .into_iter()
        .find_map(|(name, is_given)| (!is_given).then_some(name))
    }
}

/// Reads the attributes of an event in binary mode into record headers; yields its partition key.
///
/// # Errors
/// 400 names the attribute.
pub(super) fn binary(headers: &HeaderMap, out: &mut RecordHeaders) -> ApiResult<Option<Vec<u8>>> {
    let mut required = Required::default();
    let mut key = None;
    for (header, value) in headers {
        let Some(name) = header.as_str().strip_prefix(HTTP_PREFIX) else { continue };
        let bad = |reason: &str| ApiError::bad_request(format!("{header}: {reason}"));
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()) {
            return Err(bad("names of attributes are letters and digits"));
        }
        let value = attribute(value.as_bytes());
        required
            .note(name, &value)
            .map_err(|reason| ApiError::bad_request(format!("ce-{reason}")))?;
        out.push(&[KAFKA_PREFIX, name.as_bytes()].concat(), Some(value.as_bytes()));
        if name == PARTITION_KEY {
            key = Some(value.into_bytes());
        }
    }
    match required.missing() {
        Some(name) => Err(ApiError::bad_request(format!("ce-{name} is missing or empty"))),
        None => Ok(key),
    }
}

/// Decodes the value of an attribute as HTTP headers carry it: quotes, then percent-encoding. What
/// is no UTF-8 then is ISO-8859-1, the old encoding of HTTP headers, which some SDKs send.
fn attribute(value: &[u8]) -> String {
    let mut rest = value;
    let quoted = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
    if let Some(inner) = quoted {
        rest = inner;
    }
    let mut out = Vec::with_capacity(rest.len());
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        let hex = || {
            let digit = |at: usize| tail.get(at).and_then(|b| char::from(*b).to_digit(16));
            u8::try_from(digit(0)? * 16 + digit(1)?).ok()
        };
        match (first, tail.split_first()) {
            (b'\\', Some((escaped, tail))) if quoted.is_some() => {
                out.push(*escaped);
                rest = tail;
            }
            (b'%', _) if let Some(byte) = hex() => {
                out.push(byte);
                rest = tail.get(2..).unwrap_or_default();
            }
            _ => out.push(*first),
        }
    }
    String::from_utf8(out)
        .unwrap_or_else(|error| error.into_bytes().into_iter().map(char::from).collect())
}

/// The attributes of an event in JSON that matter here.
#[derive(Debug, Deserialize)]
struct EventObject {
    #[serde(default)]
    specversion: Option<String>,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    source: Option<String>,
    #[serde(default, rename = "type")]
    event_type: Option<String>,
    #[serde(default)]
    partitionkey: Option<String>,
}

/// Checks an event in JSON and yields its partition key.
///
/// # Errors
/// 400 begins with `place` and names the attribute.
pub(super) fn structured(place: &str, event: &RawValue) -> ApiResult<Option<Vec<u8>>> {
    let bad = |reason: String| ApiError::bad_request(format!("{place}: {reason}"));
    if !event.get().starts_with('{') {
        return Err(bad("an event is a JSON object".to_owned()));
    }
    let event: EventObject =
        serde_json::from_str(event.get()).map_err(|error| bad(error.to_string()))?;
    let mut required = Required::default();
    let given = [
        ("specversion", event.specversion),
        ("id", event.id),
        ("source", event.source),
        ("type", event.event_type),
    ];
    for (name, value) in given {
        if let Some(value) = value {
            required.note(name, &value).map_err(bad)?;
        }
    }
    match required.missing() {
        Some(name) => Err(bad(format!("{name} is missing or empty"))),
        None => Ok(event.partitionkey.map(String::into_bytes)),
    }
}

/// The events of a batch.
///
/// # Errors
/// 400 for text that is not an array.
pub(super) fn batch(body: &[u8]) -> ApiResult<Vec<&RawValue>> {
    serde_json::from_slice(body).map_err(|error| {
        ApiError::bad_request(format!("body is not a JSON array of events: {error}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(headers: &[(&'static str, &str)]) -> Result<(Option<Vec<u8>>, RecordHeaders), String> {
        let headers = headers.iter().map(|(name, value)| {
            (http::HeaderName::from_static(name), http::HeaderValue::from_str(value).unwrap())
        });
        let mut out = RecordHeaders::default();
        let key = binary(&HeaderMap::from_iter(headers), &mut out);
        key.map(|key| (key, out)).map_err(|error| error.message)
    }

    const EVENT: [(&str, &str); 4] =
        [("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", "/s"), ("ce-type", "t")];

    #[test]
    fn binary_events_become_record_headers() {
        let mut headers = EVENT.to_vec();
        headers.push(("ce-partitionkey", "k%20%E2%82%AC"));
        headers.push(("ce-subject", "\"a \\\"b\\\" 100%\""));
        let (key, headers) = read(&headers).unwrap();
        assert_eq!(key.unwrap(), "k €".as_bytes());
        let all: Vec<_> = headers.iter().collect();
        assert_eq!(all.len(), 6);
        assert!(all.contains(&(b"ce_specversion", Some(b"1.0"))));
        assert!(all.contains(&(b"ce_subject", Some(b"a \"b\" 100%"))));
    }

    #[test]
    fn values_are_decoded_as_clients_encode_them() {
        assert_eq!(attribute(b"a%20%e2%82%ac"), "a €");
        assert_eq!(attribute("a €".as_bytes()), "a €");
        assert_eq!(attribute(b"caf\xe9 100% %zz"), "café 100% %zz");
        assert_eq!(attribute(b"\"a \\\"b\\\"\""), "a \"b\"");
        assert_eq!(attribute(b"\""), "\"");
    }

    #[test]
    fn a_missing_attribute_is_named() {
        for at in 0..EVENT.len() {
            let mut headers = EVENT.to_vec();
            let (name, _) = headers.remove(at);
            assert_eq!(read(&headers).unwrap_err(), format!("{name} is missing or empty"));
            headers.push((name, ""));
            assert!(read(&headers).is_err());
        }
        let old = [("ce-specversion", "0.3")];
        assert_eq!(read(&old).unwrap_err(), "ce-specversion '0.3' is not 1.0");
        assert!(read(&[("ce-foo-bar", "x")]).unwrap_err().starts_with("ce-foo-bar: "));
    }

    #[test]
    fn structured_events_are_checked_too() {
        let read = |text: &str| {
            let raw: &RawValue = serde_json::from_str(text).unwrap();
            structured("event", raw).map_err(|error| error.message)
        };
        let event = r#"{"specversion":"1.0","id":"1","source":"s","type":"t","data":{}}"#;
        assert_eq!(read(event), Ok(None));
        let keyed = event.replace("\"data\"", "\"partitionkey\":\"k\",\"data\"");
        assert_eq!(read(&keyed), Ok(Some(b"k".to_vec())));
        let without = event.replace("\"source\"", "\"sauce\"");
        assert_eq!(read(&without).unwrap_err(), "event: source is missing or empty");
        assert!(read("[]").is_err());
        assert!(read(&event.replace("\"1\"", "1")).is_err());
    }
}
