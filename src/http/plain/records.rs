//! Turns a plain body into records, by what its headers say it is.

use http::{HeaderMap, header};
use serde_json::value::RawValue;

use super::events;
use super::head::{Head, ValueKind, kept_content_type};
use super::lines;
use crate::base::json;
use crate::base::limits::HTTP_PRODUCE_RECORDS_MAX;
use crate::http::error::{ApiError, ApiResult};
use crate::http::produce::{Batches, NewRecord, RecordHeaders, TopicIndex};

/// The record header that says what a value is.
const CONTENT_TYPE: &[u8] = b"content-type";

/// The media type of an event in JSON.
const EVENT_JSON: &[u8] = b"application/cloudevents+json";

/// What a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// One value.
    Raw,
    /// One JSON value a line.
    Lines,
    /// A CloudEvent in headers and body.
    Event,
    /// A CloudEvent as JSON.
    StructuredEvent,
    /// An array of CloudEvents as JSON.
    EventBatch,
}

impl Mode {
    /// Reads what the headers say.
    pub(super) fn read(headers: &HeaderMap) -> Self {
        let content_type = headers.get(header::CONTENT_TYPE);
        let essence = content_type.and_then(|value| value.to_str().ok()).unwrap_or_default();
        let essence = essence.split(';').next().unwrap_or_default().trim();
        let is = |name: &str| essence.eq_ignore_ascii_case(name);
        if is("application/cloudevents+json") {
            Self::StructuredEvent
        } else if is("application/cloudevents-batch+json") {
            Self::EventBatch
        } else if events::is_binary(headers) {
            Self::Event
        } else if [
            "application/x-ndjson",
            "application/ndjson",
            "application/jsonl",
            "application/x-jsonlines",
        ]
        .into_iter()
        .any(is)
        {
            Self::Lines
        } else {
            Self::Raw
        }
    }

    /// Tells whether the answer is about one record or a list of them.
    pub(super) const fn is_many(self) -> bool {
        matches!(self, Self::Lines | Self::EventBatch)
    }
}

/// Takes the records of a body into batches.
///
/// # Errors
/// 400 says what cannot be read; then no record was taken for good.
pub(super) fn fill(
    batches: &mut Batches<'_>,
    topic: TopicIndex,
    mode: Mode,
    request: &HeaderMap,
    head: &Head,
    body: &[u8],
) -> ApiResult<()> {
    if head.value_kind == ValueKind::Tombstone && (mode != Mode::Raw || !body.is_empty()) {
        return Err(ApiError::bad_request("tombstone=true goes without a body"));
    }
    let mut filler = Filler { batches, topic, head, headers: RecordHeaders::default() };
    match mode {
        Mode::Raw => filler.raw(kept_content_type(request), body),
        Mode::Lines => filler.lines(body),
        Mode::Event => {
            let content_type = request.get(header::CONTENT_TYPE).map(|value| value.as_bytes());
            filler.begin(content_type);
            let key = events::binary(request, &mut filler.headers)?;
            filler.push(key.as_deref(), Some(body));
            Ok(())
        }
        Mode::StructuredEvent => {
            let content_type = request.get(header::CONTENT_TYPE).map(|value| value.as_bytes());
            let event = lines::value("body", body)?;
            let key = events::structured("body", event)?;
            filler.begin(content_type);
            filler.push(key.as_deref(), Some(body));
            Ok(())
        }
        Mode::EventBatch => filler.events(body),
    }
}

struct Filler<'f, 'b> {
    batches: &'f mut Batches<'b>,
    topic: TopicIndex,
    head: &'f Head,
    headers: RecordHeaders,
}

impl Filler<'_, '_> {
    /// Begins the headers of a record, or of all records.
    fn begin(&mut self, content_type: Option<&[u8]>) {
        self.headers.clear();
        if content_type.is_some() {
            self.headers.push(CONTENT_TYPE, content_type);
        }
        for (name, value) in self.head.headers.iter() {
            self.headers.push(name, value);
        }
    }

    /// Takes a record; a key of the request wins over the record's.
    fn push(&mut self, key: Option<&[u8]>, value: Option<&[u8]>) {
        let record = NewRecord {
            partition: self.head.partition,
            timestamp: self.head.timestamp,
            key: self.head.key.as_deref().or(key),
            value,
            headers: &self.headers,
        };
        self.batches.push(self.topic, &record);
    }

    fn raw(&mut self, content_type: Option<&[u8]>, body: &[u8]) -> ApiResult<()> {
        self.begin(content_type);
        if self.head.value_kind == ValueKind::Tombstone {
            self.push(None, None);
            return Ok(());
        }
        let mut key = Vec::new();
        let has_key = match &self.head.key_pointer {
            Some(pointer) => lines::key_into(lines::value("body", body)?, pointer, &mut key),
            None => false,
        };
        self.push(has_key.then_some(&key), Some(body));
        Ok(())
    }

    fn lines(&mut self, body: &[u8]) -> ApiResult<()> {
        self.begin(Some(b"application/json"));
        let mut key = Vec::new();
        for (number, line) in lines::lines(body) {
            self.check_count()?;
            let value = lines::value(&format!("line {number}"), line)?;
            let has_key = match &self.head.key_pointer {
                Some(pointer) => lines::key_into(value, pointer, &mut key),
                None => false,
            };
            self.push(has_key.then_some(&key), Some(line));
        }
        if self.batches.is_empty() {
            return Err(ApiError::unprocessable("body has no line that is not blank"));
        }
        Ok(())
    }

    fn events(&mut self, body: &[u8]) -> ApiResult<()> {
        self.begin(Some(EVENT_JSON));
        let mut value = Vec::new();
        for (at, event) in events::batch(body)?.into_iter().enumerate() {
            self.check_count()?;
            let key = events::structured(&format!("events[{at}]"), event)?;
            value.clear();
            json::minify_into(RawValue::get(event).as_bytes(), &mut value);
            self.push(key.as_deref(), Some(&value));
        }
        Ok(())
    }

    fn check_count(&self) -> ApiResult<()> {
        if self.batches.len() < HTTP_PRODUCE_RECORDS_MAX {
            return Ok(());
        }
        let message = format!("body has more than {HTTP_PRODUCE_RECORDS_MAX} records");
        Err(ApiError::unprocessable(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_say_what_a_body_is() {
        let mode = |list: &[(&'static str, &'static str)]| {
            let pairs = list.iter().map(|(name, value)| {
                (http::HeaderName::from_static(name), http::HeaderValue::from_static(value))
            });
            Mode::read(&HeaderMap::from_iter(pairs))
        };
        assert_eq!(mode(&[]), Mode::Raw);
        assert_eq!(mode(&[("content-type", "application/json")]), Mode::Raw);
        assert_eq!(mode(&[("content-type", "Application/X-NDJSON; charset=utf-8")]), Mode::Lines);
        assert_eq!(mode(&[("content-type", "application/jsonl")]), Mode::Lines);
        let json = ("content-type", "application/json");
        assert_eq!(mode(&[json, ("ce-id", "1")]), Mode::Event);
        let structured = ("content-type", "application/cloudevents+json; charset=utf-8");
        assert_eq!(mode(&[structured, ("ce-id", "1")]), Mode::StructuredEvent);
        let batch = ("content-type", "application/cloudevents-batch+json");
        assert_eq!(mode(&[batch]), Mode::EventBatch);
    }
}
