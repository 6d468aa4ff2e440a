//! Reading a produce body without building a tree: values stay the text the client wrote.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::base::ids::{PartitionId, TimestampMs};
use crate::base::json;
use crate::base::limits::HTTP_PRODUCE_RECORDS_MAX;
use crate::http::error::{ApiError, ApiResult};
use crate::http::media::Embedded;
use crate::http::produce::RecordHeaders;

/// The body as it lies in the request.
#[derive(Debug, Deserialize)]
pub(super) struct ProduceRequest<'a> {
    #[serde(borrow, deserialize_with = "null_is_none")]
    pub(super) records: Vec<RecordRequest<'a>>,
    /// Fields of schema formats; accepted so that a client that always sends them is served.
    #[serde(default, borrow, rename = "key_schema")]
    _key_schema: Option<&'a RawValue>,
    #[serde(default, borrow, rename = "key_schema_id")]
    _key_schema_id: Option<&'a RawValue>,
    #[serde(default, borrow, rename = "value_schema")]
    _value_schema: Option<&'a RawValue>,
    #[serde(default, borrow, rename = "value_schema_id")]
    _value_schema_id: Option<&'a RawValue>,
}

/// One record of the body.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RecordRequest<'a> {
    #[serde(default, borrow)]
    key: Option<&'a RawValue>,
    #[serde(default, borrow)]
    value: Option<&'a RawValue>,
    #[serde(default)]
    pub(super) partition: Option<PartitionId>,
    /// Only where the path names no topic.
    #[serde(default, borrow)]
    pub(super) topic: Option<Cow<'a, str>>,
    #[serde(default)]
    pub(super) timestamp: Option<TimestampMs>,
    #[serde(default, borrow, deserialize_with = "null_is_none")]
    headers: Vec<HeaderRequest<'a>>,
}

/// One header of a record: the value is base64 or null.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct HeaderRequest<'a> {
    #[serde(borrow)]
    key: Cow<'a, str>,
    #[serde(default, borrow)]
    value: Option<Cow<'a, str>>,
}

/// Clients that write every member have null where there is no list.
fn null_is_none<'de, D, T>(source: D) -> Result<Vec<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::deserialize(source).map(Option::unwrap_or_default)
}

/// Room that is used again from record to record.
#[derive(Debug, Default)]
pub(super) struct Decoded {
    pub(super) key: Vec<u8>,
    pub(super) value: Vec<u8>,
    pub(super) headers: RecordHeaders,
}

impl<'a> ProduceRequest<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> ApiResult<Self> {
        let request: Self = crate::http::body::parse(bytes)?;
        let count = request.records.len();
        if count == 0 {
            return Err(ApiError::unprocessable("records is empty"));
        }
        if count > HTTP_PRODUCE_RECORDS_MAX {
            let message =
                format!("records has {count} entries, at most {HTTP_PRODUCE_RECORDS_MAX}");
            return Err(ApiError::unprocessable(message));
        }
        Ok(request)
    }
}

impl RecordRequest<'_> {
    pub(super) const fn has_key(&self) -> bool {
        self.key.is_some()
    }

    pub(super) const fn has_value(&self) -> bool {
        self.value.is_some()
    }

    /// Decodes key, value and headers, and checks the timestamp.
    pub(super) fn decode(&self, at: usize, format: Embedded, out: &mut Decoded) -> ApiResult<()> {
        out.key.clear();
        out.value.clear();
        out.headers.clear();
        if let Some(raw) = self.key {
            decode(raw, format, &mut out.key).map_err(|error| error.at(at, "key"))?;
        }
        if let Some(raw) = self.value {
            decode(raw, format, &mut out.value).map_err(|error| error.at(at, "value"))?;
        }
        for header in &self.headers {
            let name = header.key.as_bytes();
            let Some(text) = header.value.as_deref() else {
                out.headers.push(name, None);
                continue;
            };
            let decoded = out.headers.push_with(name, |value| STANDARD.decode_vec(text, value));
            decoded.map_err(|error| {
                let reason = format!("header '{}' is not base64: {error}", header.key);
                DecodeError(reason).at(at, "headers")
            })?;
        }
        if self.timestamp.is_some_and(|timestamp| timestamp < 0) {
            return Err(DecodeError("is negative".to_owned()).at(at, "timestamp"));
        }
        Ok(())
    }
}

/// What is wrong with one field.
struct DecodeError(String);

impl DecodeError {
    fn at(self, index: usize, field: &str) -> ApiError {
        ApiError::bad_request(format!("records[{index}].{field}: {}", self.0))
    }
}

fn decode(raw: &RawValue, format: Embedded, out: &mut Vec<u8>) -> Result<(), DecodeError> {
    match format {
        Embedded::Json => {
            json::minify_into(raw.get().as_bytes(), out);
            Ok(())
        }
        Embedded::Binary => {
            let text = string(raw, "a base64 string")?;
            let decoded = STANDARD.decode_vec(text.as_bytes(), out);
            decoded.map_err(|error| DecodeError(format!("'{}' is not base64: {error}", cut(&text))))
        }
        Embedded::Text => {
            out.extend_from_slice(string(raw, "a string")?.as_bytes());
            Ok(())
        }
        Embedded::Schema => Err(DecodeError("schema formats are not offered".to_owned())),
    }
}

fn string<'a>(raw: &'a RawValue, wanted: &str) -> Result<Cow<'a, str>, DecodeError> {
    #[derive(Deserialize)]
    struct Text<'t>(#[serde(borrow)] Cow<'t, str>);
    let parsed = serde_json::from_str::<Text<'a>>(raw.get());
    let parsed = parsed.map_err(|_| DecodeError(format!("{} is not {wanted}", cut(raw.get()))))?;
    Ok(parsed.0)
}

/// The beginning of a text, for an error message.
fn cut(text: &str) -> &str {
    let end = text.char_indices().nth(60).map_or(text.len(), |(at, _)| at);
    text.get(..end).unwrap_or_default()
}
