//! One record as v3 writes it: an object that is read without a tree, its rules, its bytes.
//!
//! JSON data stays the text that the client wrote, without the white space between its tokens.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::base::ids::{PartitionId, TimestampMs};
use crate::base::json;
use crate::http::error::{ApiError, ApiResult};
use crate::http::produce::{NewRecord, RecordHeaders};
use crate::http::time::parse_rfc3339_ms;

/// A text that borrows from the request unless it has escapes.
#[derive(Debug, Deserialize)]
pub(super) struct Text<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

/// A record as it lies in the request.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RecordObject<'a> {
    /// Only in a batch, where its own reader has checked it.
    #[serde(default, borrow)]
    pub(super) id: Option<&'a RawValue>,
    #[serde(default)]
    partition_id: Option<PartitionId>,
    #[serde(default, borrow)]
    timestamp: Option<Text<'a>>,
    #[serde(default, borrow)]
    headers: Option<Vec<HeaderObject<'a>>>,
    #[serde(default, borrow)]
    key: Option<DataObject<'a>>,
    #[serde(default, borrow)]
    value: Option<DataObject<'a>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct HeaderObject<'a> {
    #[serde(borrow)]
    name: Text<'a>,
    #[serde(default, borrow)]
    value: Option<Text<'a>>,
}

/// A key or a value, and how it is to be serialised.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DataObject<'a> {
    #[serde(default, rename = "type")]
    data_type: Option<DataType>,
    #[serde(default, borrow)]
    subject: Option<Text<'a>>,
    #[serde(default)]
    subject_name_strategy: Option<NameStrategy>,
    #[serde(default)]
    schema_id: Option<i32>,
    #[serde(default)]
    schema_version: Option<i32>,
    #[serde(default, borrow)]
    schema: Option<Text<'a>>,
    #[serde(default, borrow)]
    data: Option<&'a RawValue>,
}

/// How data is serialised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum DataType {
    /// A base64 string.
    Binary,
    /// Any JSON.
    Json,
    /// A string of UTF-8.
    String,
    /// By a schema registry.
    Avro,
    /// By a schema registry.
    JsonSchema,
    /// By a schema registry.
    Protobuf,
}

impl DataType {
    /// Its name in requests and answers.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Binary => "BINARY",
            Self::Json => "JSON",
            Self::String => "STRING",
            Self::Avro => "AVRO",
            Self::JsonSchema => "JSONSCHEMA",
            Self::Protobuf => "PROTOBUF",
        }
    }

    const fn has_schema(self) -> bool {
        matches!(self, Self::Avro | Self::JsonSchema | Self::Protobuf)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
enum NameStrategy {
    #[serde(rename = "TOPIC_NAME")]
    Topic,
    #[serde(rename = "RECORD_NAME")]
    Record,
    #[serde(rename = "TOPIC_RECORD_NAME")]
    TopicRecord,
}

/// What the answer says of a key or a value: its type and its size in bytes.
pub(super) type Described = Option<(DataType, usize)>;

/// A decoded record; the room is used again from record to record.
#[derive(Debug, Default)]
pub(super) struct Decoded {
    partition: Option<PartitionId>,
    timestamp: Option<TimestampMs>,
    key: Vec<u8>,
    value: Vec<u8>,
    has_key: bool,
    has_value: bool,
    headers: RecordHeaders,
    pub(super) key_shape: Described,
    pub(super) value_shape: Described,
}

impl Decoded {
    /// Bytes that are kept for the next record.
    pub(super) const fn capacity(&self) -> usize {
        self.key.capacity() + self.value.capacity() + self.headers.capacity()
    }

    /// The record to produce.
    pub(super) fn record(&self) -> NewRecord<'_> {
        NewRecord {
            partition: self.partition,
            timestamp: self.timestamp,
            key: self.has_key.then_some(&self.key),
            value: self.has_value.then_some(&self.value),
            headers: &self.headers,
        }
    }
}

/// Why a text is no record.
#[derive(Debug)]
pub(super) enum ReadError {
    /// It is not JSON; nothing after it can be trusted.
    Syntax(ApiError),
    /// It is JSON of another shape.
    Shape(ApiError),
}

impl<'a> RecordObject<'a> {
    /// Reads one object.
    pub(super) fn read(text: &'a [u8]) -> Result<Self, ReadError> {
        serde_json::from_slice(text).map_err(|error| {
            if error.is_data() {
                ReadError::Shape(ApiError::bad_request(format!("record cannot be read: {error}")))
            } else {
                ReadError::Syntax(ApiError::bad_request(format!("invalid JSON: {error}")))
            }
        })
    }

    /// Checks the record and turns it into bytes.
    ///
    /// # Errors
    /// 400 names the member; 422 for data that needs a schema registry.
    pub(super) fn decode(&self, out: &mut Decoded) -> ApiResult<()> {
        out.partition = self.partition_id;
        out.timestamp = self.timestamp.as_ref().map(parse_timestamp).transpose()?;
        out.headers.clear();
        for header in self.headers.iter().flatten() {
            let name = header.name.0.as_bytes();
            let Some(text) = &header.value else {
                out.headers.push(name, None);
                continue;
            };
            let base64 = text.0.as_bytes();
            let decoded = out.headers.push_with(name, |value| STANDARD.decode_vec(base64, value));
            decoded.map_err(|error| {
                let message =
                    format!("headers: value of '{}' is not base64: {error}", header.name.0);
                ApiError::bad_request(message)
            })?;
        }
        let key = self.key.as_ref().map(|data| data.decode("key", &mut out.key)).transpose()?;
        let value =
            self.value.as_ref().map(|data| data.decode("value", &mut out.value)).transpose()?;
        out.has_key = self.key.as_ref().is_some_and(|data| data.data.is_some());
        out.has_value = self.value.as_ref().is_some_and(|data| data.data.is_some());
        out.key_shape = key.flatten();
        out.value_shape = value.flatten();
        Ok(())
    }
}

fn parse_timestamp(text: &Text<'_>) -> ApiResult<TimestampMs> {
    let parsed = parse_rfc3339_ms(&text.0).filter(|timestamp| *timestamp >= 0);
    parsed.ok_or_else(|| {
        let message = format!("timestamp '{}' is not an ISO-8601 instant from 1970 on", text.0);
        ApiError::bad_request(message)
    })
}

impl DataObject<'_> {
    /// Turns the data into bytes; says its type if it is known.
    fn decode(&self, member: &str, out: &mut Vec<u8>) -> ApiResult<Described> {
        out.clear();
        self.check(member)?;
        let Some(data_type) = self.data_type.filter(|data_type| !data_type.has_schema()) else {
            return match (self.needs_schema(), self.data) {
                (false, None) => Ok(None),
                (false, Some(_)) => Err(needs_registry(member, "no type means the latest schema")),
                (true, _) => Err(needs_registry(member, "schemas are kept there")),
            };
        };
        let Some(raw) = self.data else { return Ok(Some((data_type, 0))) };
        let text = || -> ApiResult<Cow<'_, str>> {
            let text = serde_json::from_str::<Text<'_>>(raw.get());
            text.map(|text| text.0).map_err(|_| {
                let message =
                    format!("{member}: data of type {} is not a string", data_type.name());
                ApiError::bad_request(message)
            })
        };
        match data_type {
            DataType::Binary => STANDARD.decode_vec(text()?.as_bytes(), out).map_err(|error| {
                ApiError::bad_request(format!("{member}: data is not base64: {error}"))
            })?,
            DataType::String => out.extend_from_slice(text()?.as_bytes()),
            DataType::Json | DataType::Avro | DataType::JsonSchema | DataType::Protobuf => {
                json::minify_into(raw.get().as_bytes(), out);
            }
        }
        Ok(Some((data_type, out.len())))
    }

    const fn needs_schema(&self) -> bool {
        self.data_type.is_some()
            || self.subject.is_some()
            || self.subject_name_strategy.is_some()
            || self.schema_id.is_some()
            || self.schema_version.is_some()
            || self.schema.is_some()
    }

    /// The legal combinations of the members that say how data is serialised.
    fn check(&self, member: &str) -> ApiResult<()> {
        let refuse = |reason: &str| Err(ApiError::bad_request(format!("{member}: {reason}")));
        let has_subject = self.subject.is_some() || self.subject_name_strategy.is_some();
        if let Some(data_type) = self.data_type.filter(|data_type| !data_type.has_schema()) {
            let has_schema =
                self.schema.is_some() || self.schema_id.is_some() || self.schema_version.is_some();
            if has_subject || has_schema {
                let name = data_type.name();
                return refuse(&format!(
                    "type {name} takes no schema, schema_id, schema_version, subject or subject_name_strategy"
                ));
            }
            return Ok(());
        }
        if self.subject.is_some() && self.subject_name_strategy.is_some() {
            return refuse("subject and subject_name_strategy exclude each other");
        }
        let sources =
            [self.schema.is_some(), self.schema_id.is_some(), self.schema_version.is_some()];
        if sources.iter().filter(|is_given| **is_given).count() > 1 {
            return refuse("schema, schema_id and schema_version exclude each other");
        }
        match (self.data_type, self.schema.is_some()) {
            (Some(data_type), false) => {
                return refuse(&format!("type {} goes with schema only", data_type.name()));
            }
            (None, true) => return refuse("schema needs type AVRO, JSONSCHEMA or PROTOBUF"),
            _ => {}
        }
        let by_topic = matches!(self.subject_name_strategy, None | Some(NameStrategy::Topic));
        if self.schema.is_none() && self.schema_id.is_none() && !by_topic {
            return refuse("subject_name_strategy must be TOPIC_NAME without schema and schema_id");
        }
        Ok(())
    }
}

fn needs_registry(member: &str, why: &str) -> ApiError {
    let message = format!(
        "Error 42207: {member} needs a schema registry ({why}), which this server does not offer: \
         use type BINARY, JSON or STRING"
    );
    ApiError::status(StatusCode::UNPROCESSABLE_ENTITY, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(text: &str) -> Result<Decoded, ApiError> {
        let object = match RecordObject::read(text.as_bytes()) {
            Ok(object) => object,
            Err(ReadError::Shape(error) | ReadError::Syntax(error)) => return Err(error),
        };
        let mut decoded = Decoded::default();
        object.decode(&mut decoded).map(|()| decoded)
    }

    fn value(data: &str) -> Result<Option<Vec<u8>>, u32> {
        let decoded = decode(&format!("{{\"value\":{data}}}")).map_err(|error| error.code)?;
        Ok(decoded.record().value.map(<[u8]>::to_vec))
    }

    #[test]
    fn values_are_exact() {
        let json =
            |data| value(&format!("{{\"type\":\"JSON\",\"data\":{data}}}")).unwrap().unwrap();
        assert_eq!(json("12345678901234567890.10"), b"12345678901234567890.10");
        assert_eq!(json("{ \"a b\" : [ 1.0 ] }"), b"{\"a b\":[1.0]}");
        for falsy in ["0", "false", "\"\"", "{}", "[]", "0.0", "-0"] {
            assert_eq!(json(falsy), falsy.as_bytes());
        }
        assert_eq!(value(r#"{"type":"JSON","data":null}"#), Ok(None));
        assert_eq!(value(r#"{"type":"JSON"}"#), Ok(None));
        assert_eq!(value(r#"{"type":"STRING","data":"é\n\""}"#), Ok(Some("é\n\"".into())));
        assert_eq!(value(r#"{"type":"STRING","data":""}"#), Ok(Some(vec![])));
        assert_eq!(value(r#"{"type":"BINARY","data":"AAH/"}"#), Ok(Some(vec![0, 1, 255])));
        assert_eq!(value(r#"{"type":"BINARY","data":""}"#), Ok(Some(vec![])));
        assert_eq!(value("{}"), Ok(None));
        assert_eq!(value("null"), Ok(None));
        assert_eq!(value(r#"{"data":null}"#), Ok(None));
    }

    #[test]
    fn shapes_are_told_only_when_the_type_is_known() {
        let decoded =
            decode(r#"{"key":{"data":null},"value":{"type":"JSON","data":{"a": 1}}}"#).unwrap();
        assert_eq!(decoded.key_shape, None);
        assert_eq!(decoded.value_shape, Some((DataType::Json, 7)));
        let nothing = decode(r#"{"value":{"type":"BINARY"}}"#).unwrap();
        assert_eq!(nothing.value_shape, Some((DataType::Binary, 0)));
    }

    #[test]
    fn only_legal_combinations_pass() {
        // Legal, but for a registry: 422.
        for data in [
            r#"{"schema_id":1,"data":1}"#,
            r#"{"schema_id":1,"subject":"s","data":1}"#,
            r#"{"schema_id":1,"subject_name_strategy":"RECORD_NAME","data":1}"#,
            r#"{"schema_version":1,"data":1}"#,
            r#"{"schema_version":1,"subject":"s","data":1}"#,
            r#"{"schema_version":1,"subject_name_strategy":"TOPIC_NAME","data":1}"#,
            r#"{"type":"AVRO","schema":"{}","data":1}"#,
            r#"{"type":"PROTOBUF","schema":"{}","subject":"s","data":1}"#,
            r#"{"type":"JSONSCHEMA","schema":"{}","subject_name_strategy":"TOPIC_RECORD_NAME","data":1}"#,
            r#"{"data":{"foo":1}}"#,
            r#"{"subject":"s","data":null}"#,
            r#"{"subject_name_strategy":"TOPIC_NAME","data":1}"#,
        ] {
            assert_eq!(value(data), Err(422), "{data}");
        }
        // Illegal: 400.
        for data in [
            r#"{"type":"JSON","schema_id":1,"data":1}"#,
            r#"{"type":"BINARY","subject":"s","data":""}"#,
            r#"{"type":"STRING","schema":"{}","data":""}"#,
            r#"{"type":"JSON","schema_version":1,"data":1}"#,
            r#"{"type":"JSON","subject_name_strategy":"TOPIC_NAME","data":1}"#,
            r#"{"type":"AVRO","data":1}"#,
            r#"{"type":"AVRO","schema_id":1,"data":1}"#,
            r#"{"schema":"{}","data":1}"#,
            r#"{"schema_id":1,"schema_version":1,"data":1}"#,
            r#"{"schema_id":1,"subject":"s","subject_name_strategy":"TOPIC_NAME","data":1}"#,
            r#"{"schema_version":1,"subject_name_strategy":"RECORD_NAME","data":1}"#,
            r#"{"subject_name_strategy":"RECORD_NAME","data":1}"#,
            r#"{"type":"XML","data":1}"#,
            r#"{"type":"STRING","data":1}"#,
            r#"{"type":"BINARY","data":"?"}"#,
            r#"{"type":"BINARY","data":{}}"#,
            r#"{"typ":"JSON","data":1}"#,
        ] {
            assert_eq!(value(data), Err(400), "{data}");
        }
    }

    #[test]
    fn headers_and_timestamps_are_checked() {
        let decoded = decode(
            r#"{"timestamp":"2021-02-05T19:14:42.5+01:00","partition_id":3,
                "headers":[{"name":"a","value":"aGk="},{"name":"a","value":null},{"name":"é"}]}"#,
        );
        let decoded = decoded.unwrap();
        let record = decoded.record();
        assert_eq!((record.partition, record.timestamp), (Some(3), Some(1_612_548_882_500)));
        let headers: Vec<_> = record.headers.iter().collect();
        let expected: [(&[u8], Option<&[u8]>); 3] =
            [(b"a", Some(b"hi")), (b"a", None), ("é".as_bytes(), None)];
        assert_eq!(headers, expected);
        for bad in [
            r#"{"timestamp":"yesterday"}"#,
            r#"{"timestamp":1612548882500}"#,
            r#"{"timestamp":"1969-12-31T23:59:59Z"}"#,
            r#"{"headers":[{"name":"a","value":"?"}]}"#,
            r#"{"headers":[{"value":"aGk="}]}"#,
            r#"{"partition_id":"1"}"#,
            r#"{"valur":1}"#,
        ] {
            assert_eq!(decode(bad).unwrap_err().code, 400, "{bad}");
        }
    }

    #[test]
    fn syntax_and_shape_are_told_apart() {
        assert!(matches!(
            RecordObject::read(b"{\"a\" 1}"),
            Err(ReadError::Syntax(_) | ReadError::Shape(_))
        ));
        assert!(matches!(RecordObject::read(b"{]"), Err(ReadError::Syntax(_))));
        assert!(matches!(
            RecordObject::read(b"{\"value\":{\"data\":tru}}"),
            Err(ReadError::Syntax(_))
        ));
        assert!(matches!(RecordObject::read(b"{\"value\":1}"), Err(ReadError::Shape(_))));
    }
}
