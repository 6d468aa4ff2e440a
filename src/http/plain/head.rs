//! What the query and the headers of a plain request say of its records.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, header};

use crate::base::ids::{PartitionId, TimestampMs};
use crate::http::error::{ApiError, ApiResult};
use crate::http::produce::RecordHeaders;
use crate::http::query;
use crate::http::time::parse_rfc3339_ms;

/// The key of the record.
const KEY: HeaderName = HeaderName::from_static("hydrant-key");

/// One header of the record, as `Name=value`: keeps the case of its name.
const HEADER: HeaderName = HeaderName::from_static("hydrant-header");

/// One header of the record: what follows the prefix is its name, in lower case.
const HEADER_PREFIX: &str = "hydrant-header-";

/// Whether the record has a value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum ValueKind {
    /// The body.
    #[default]
    Body,
    /// None: the record is a tombstone.
    Tombstone,
}

/// What a request says of its records beside their values.
#[derive(Debug, Default)]
pub(super) struct Head {
    pub(super) key: Option<Vec<u8>>,
    /// Where in each JSON value its key is (RFC 6901).
    pub(super) key_pointer: Option<String>,
    pub(super) partition: Option<PartitionId>,
    pub(super) timestamp: Option<TimestampMs>,
    pub(super) value_kind: ValueKind,
    /// The headers of every record but `content-type`.
    pub(super) headers: RecordHeaders,
}

impl Head {
    /// Reads query and headers; `partition` is the path's.
    ///
    /// # Errors
    /// 400 names the parameter or header and its value.
    pub(super) fn read(
        headers: &HeaderMap,
        query: Option<&str>,
        partition: Option<PartitionId>,
    ) -> ApiResult<Self> {
        let mut head = Self { partition, ..Self::default() };
        for pair in query::borrowed(query.unwrap_or_default()) {
            let (name, value) = pair?;
            head.parameter(&name, value)?;
        }
        let mut keys = headers.get_all(&KEY).iter();
        if let Some(key) = keys.next() {
            if head.key.is_some() || keys.next().is_some() {
                return Err(ApiError::bad_request("the key is given more than once"));
            }
            let mut bytes = Vec::new();
            value_into("hydrant-key", key.as_bytes(), &mut bytes)?;
            head.key = Some(bytes);
        }
        if head.key.is_some() && head.key_pointer.is_some() {
            return Err(ApiError::bad_request("key and key_pointer exclude each other"));
        }
        head.record_headers(headers)?;
        Ok(head)
    }

    fn parameter(&mut self, name: &str, value: Cow<'_, str>) -> ApiResult<()> {
        match name {
            // Read with the options of every produce.
            "acks" => {}
            "key" => {
                let mut bytes = Vec::new();
                value_into("key", value.as_bytes(), &mut bytes)?;
                self.key = Some(bytes);
            }
            "key_pointer" => {
                if !value.is_empty() && !value.starts_with('/') {
                    let message = format!("key_pointer '{value}' does not begin with /");
                    return Err(ApiError::bad_request(message));
                }
                self.key_pointer = Some(value.into_owned());
            }
            "partition" => {
                let number: PartitionId = value.parse().map_err(|_| {
                    ApiError::bad_request(format!("partition '{value}' is not a number"))
                })?;
                if self.partition.is_some_and(|path| path != number) {
                    let message = format!("partition '{value}' is not that of the path");
                    return Err(ApiError::bad_request(message));
                }
                self.partition = Some(number);
            }
            "timestamp" => {
                let parsed = value.parse().ok().or_else(|| parse_rfc3339_ms(&value));
                let parsed = parsed.filter(|timestamp| *timestamp >= 0).ok_or_else(|| {
                    ApiError::bad_request(format!(
                        "timestamp '{value}' is neither milliseconds since the epoch nor RFC 3339"
                    ))
                })?;
                self.timestamp = Some(parsed);
            }
            "tombstone" => {
                self.value_kind = match &*value {
                    "true" | "" => ValueKind::Tombstone,
                    "false" => ValueKind::Body,
                    other => {
                        let message = format!("tombstone '{other}' is not true or false");
                        return Err(ApiError::bad_request(message));
                    }
                };
            }
            other => {
                return Err(ApiError::bad_request(format!("parameter '{other}' is not known")));
            }
        }
        Ok(())
    }

    fn record_headers(&mut self, headers: &HeaderMap) -> ApiResult<()> {
        for (name, value) in headers {
            let value = value.as_bytes();
            let (name, value) = if *name == HEADER {
                let split = value.iter().position(|byte| *byte == b'=');
                let (name, value) = split.map_or((value, None), |at| {
                    let (name, rest) = value.split_at(at);
                    (name, rest.get(1..))
                });
                (name.trim_ascii(), value.map(<[u8]>::trim_ascii))
            } else if let Some(name) = name.as_str().strip_prefix(HEADER_PREFIX) {
                (name.as_bytes(), Some(value))
            } else {
                continue;
            };
            let shown = String::from_utf8_lossy(name);
            if name.is_empty() {
                return Err(ApiError::bad_request("hydrant-header has no name before its ="));
            }
            match value {
                None => self.headers.push(name, None),
                Some(value) => {
                    self.headers.push_with(name, |out| value_into(&shown, value, out))?;
                }
            }
        }
        Ok(())
    }
}

/// Appends the bytes that a value means: those between colons are base64, as byte sequences of
/// structured fields are (RFC 9651), anything else means itself.
fn value_into(name: &str, value: &[u8], out: &mut Vec<u8>) -> ApiResult<()> {
    let coded = value.strip_prefix(b":").and_then(|rest| rest.strip_suffix(b":"));
    let Some(coded) = coded else {
        out.extend_from_slice(value);
        return Ok(());
    };
    STANDARD.decode_vec(coded, out).map_err(|error| {
        let shown = String::from_utf8_lossy(value);
        ApiError::bad_request(format!("{name} '{shown}' is not base64 between colons: {error}"))
    })
}

/// The media type of a body as a record keeps it: not when it says nothing, which is so for bytes
/// and for what curl sends unasked.
pub(super) fn kept_content_type(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(header::CONTENT_TYPE)?.as_bytes();
    let essence = value.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    let says_nothing = essence.is_empty()
        || essence.eq_ignore_ascii_case(b"application/octet-stream")
        || essence.eq_ignore_ascii_case(b"application/x-www-form-urlencoded");
    (!says_nothing).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str, headers: &[(&str, &str)]) -> ApiResult<Head> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
        }
        Head::read(&map, Some(query), None)
    }

    #[test]
    fn keys_are_text_or_bytes() {
        let key = |query, headers: &[_]| read(query, headers).unwrap().key;
        assert_eq!(key("", &[]), None);
        assert_eq!(key("key=a%20b", &[]), Some(b"a b".to_vec()));
        assert_eq!(key("key=", &[]), Some(vec![]));
        assert_eq!(key("", &[("hydrant-key", "plain")]), Some(b"plain".to_vec()));
        assert_eq!(key("", &[("hydrant-key", ":AAH/:")]), Some(vec![0, 1, 255]));
        assert_eq!(key("", &[("hydrant-key", "::")]), Some(vec![]));
        assert_eq!(key("", &[("hydrant-key", ":")]), Some(b":".to_vec()));
        assert_eq!(read("", &[("hydrant-key", ":?:")]).unwrap_err().code, 400);
        assert_eq!(read("key=a", &[("hydrant-key", "b")]).unwrap_err().code, 400);
        let twice = [("hydrant-key", "a"), ("hydrant-key", "b")];
        assert_eq!(read("", &twice).unwrap_err().code, 400);
        assert_eq!(read("key=a&key_pointer=/b", &[]).unwrap_err().code, 400);
    }

    #[test]
    fn headers_keep_order_and_bytes() {
        let head = read(
            "",
            &[
                ("hydrant-header-a", "1"),
                ("accept", "*/*"),
                ("hydrant-header-B", ":AAH/:"),
                ("hydrant-header", "Camel = x=y "),
                ("hydrant-header", "nothing"),
                ("hydrant-header", "Camel=:eA==:"),
            ],
        );
        let head = head.unwrap();
        let all: Vec<_> = head.headers.iter().collect();
        let expected: [(&[u8], Option<&[u8]>); 5] = [
            (b"a", Some(b"1")),
            (b"b", Some(&[0, 1, 255])),
            (b"Camel", Some(b"x=y")),
            (b"nothing", None),
            (b"Camel", Some(b"x")),
        ];
        assert_eq!(all, expected);
        assert_eq!(read("", &[("hydrant-header", "=x")]).unwrap_err().code, 400);
    }

    #[test]
    fn parameters_are_checked() {
        let head = read("partition=3&timestamp=5&acks=1&tombstone=true", &[]).unwrap();
        assert_eq!((head.partition, head.timestamp), (Some(3), Some(5)));
        assert_eq!(head.value_kind, ValueKind::Tombstone);
        let head = read("timestamp=2021-02-05T19:14:42Z", &[]).unwrap();
        assert_eq!(head.timestamp, Some(1_612_552_482_000));
        for bad in [
            "partition=x",
            "timestamp=-1",
            "timestamp=soon",
            "tombstone=1",
            "keyy=a",
            "key_pointer=a",
        ] {
            assert_eq!(read(bad, &[]).unwrap_err().code, 400, "{bad}");
        }
        let refused = Head::read(&HeaderMap::new(), Some("partition=1"), Some(0)).unwrap_err();
        assert_eq!(refused.message, "partition '1' is not that of the path");
    }

    #[test]
    fn a_content_type_is_kept_when_it_says_something() {
        let kept = |text: &str| {
            let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, text.parse().unwrap())]);
            kept_content_type(&headers).is_some()
        };
        assert!(kept("text/plain; charset=utf-8"));
        assert!(!kept("Application/octet-stream"));
        assert!(!kept("application/x-www-form-urlencoded"));
    }
}
