//! `POST …/records:batch`: several records in one request, each with an id of the client's.
//!
//! The request is refused as a whole when its ids or their number are wrong (422/42208); beyond
//! that each entry succeeds or fails by itself.

use std::collections::HashSet;

use http::StatusCode;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::answer::{Names, Shape, error_into, produced_into};
use super::record::{Decoded, ReadError, RecordObject, Text};
use crate::base::json;
use crate::http::body;
use crate::http::error::{ApiError, ApiResult};
use crate::http::produce::{Batches, Outcome, TopicIndex};

/// Longest id of an entry, in characters.
const ID_CHARS_MAX: usize = 80;

/// The code of a batch that is refused as a whole.
const BATCH_ERROR: u32 = 42208;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BatchRequest<'a> {
    #[serde(borrow)]
    entries: Vec<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
struct EntryHead<'a> {
    #[serde(borrow)]
    id: Text<'a>,
}

/// One entry of a batch.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    id: String,
    text: &'a RawValue,
}

impl Entry<'_> {
    /// The id alone.
    pub(super) fn into_id(self) -> String {
        self.id
    }
}

fn refused(message: impl Into<String>) -> ApiError {
    ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, BATCH_ERROR, message)
}

/// Reads the entries and checks their ids.
///
/// # Errors
/// 400 for text that is not JSON, 422/42208 for everything else.
pub(super) fn entries(body: &[u8], entries_max: usize) -> ApiResult<Vec<Entry<'_>>> {
    body::check_object(body).map_err(refused)?;
    let request: BatchRequest<'_> = serde_json::from_slice(body).map_err(|error| {
        if error.is_data() || body.trim_ascii().is_empty() {
            refused(format!("batch cannot be read: {error}"))
        } else {
            ApiError::bad_request(format!("invalid JSON: {error}"))
        }
    })?;
    let count = request.entries.len();
    if count == 0 || count > entries_max {
        return Err(refused(format!("entries has {count} records, not 1 to {entries_max}")));
    }
    let mut seen = HashSet::with_capacity(count);
    let mut entries = Vec::with_capacity(count);
    for (at, text) in request.entries.into_iter().enumerate() {
        let head: EntryHead<'_> = serde_json::from_str(text.get())
            .map_err(|error| refused(format!("entries[{at}] has no usable id: {error}")))?;
        let id = head.id.0.into_owned();
        let length = id.chars().count();
        if !(1..=ID_CHARS_MAX).contains(&length) {
            let message =
                format!("entries[{at}].id has {length} characters, not 1 to {ID_CHARS_MAX}");
            return Err(refused(message));
        }
        if !seen.insert(id.clone()) {
            return Err(refused(format!("entries[{at}].id '{id}' is not unique")));
        }
        entries.push(Entry { id, text });
    }
    Ok(entries)
}

/// Takes every entry into the batches, the unusable ones as refused.
pub(super) fn fill(
    batches: &mut Batches<'_>,
    topic: TopicIndex,
    entries: &[Entry<'_>],
) -> Vec<Shape> {
    let mut decoded = Decoded::default();
    let mut shapes = Vec::with_capacity(entries.len());
    for entry in entries {
        let read = RecordObject::read(entry.text.get().as_bytes());
        let read = read.map_err(|(ReadError::Syntax(error) | ReadError::Shape(error))| error);
        match read.and_then(|record| record.decode(&mut decoded)) {
            Ok(()) => {
                batches.push(topic, &decoded.record());
                shapes.push(Shape { key: decoded.key_shape, value: decoded.value_shape });
            }
            Err(error) => {
                batches.refuse(error);
                shapes.push(Shape::default());
            }
        }
    }
    shapes
}

/// The answer: what succeeded and what failed, each in the order of the request.
pub(super) fn answer(
    names: &Names,
    ids: &[String],
    outcomes: &[Outcome],
    shapes: &[Shape],
) -> Vec<u8> {
    let mut out = b"{\"successes\":[".to_vec();
    let mut failures = b"],\"failures\":[".to_vec();
    let (mut has_success, mut has_failure) = (false, false);
    for ((id, outcome), shape) in ids.iter().zip(outcomes).zip(shapes) {
        let (list, has_one) = match outcome {
            Ok(_) => (&mut out, &mut has_success),
            Err(_) => (&mut failures, &mut has_failure),
        };
        if std::mem::replace(has_one, true) {
            list.push(b',');
        }
        list.extend_from_slice(b"{\"id\":");
        json::string_into(id, list);
        list.push(b',');
        match outcome {
            Ok(produced) => produced_into(names, produced, *shape, list),
            Err(error) => error_into(error, list),
        }
        list.push(b'}');
    }
    out.append(&mut failures);
    out.extend_from_slice(b"]}");
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::produce::Produced;

    #[test]
    fn ids_and_counts_are_checked() {
        let code = |body: &str| entries(body.as_bytes(), 2).unwrap_err().code;
        assert_eq!(
            entries(br#"{"entries":[{"id":"a"},{"id":"b","value":1}]}"#, 2).unwrap().len(),
            2
        );
        assert_eq!(entries("{\"entries\":[{\"id\":\"é\"}]}".as_bytes(), 2).unwrap()[0].id, "é");
        let long = "x".repeat(81);
        for body in [
            "",
            "{}",
            r#"{"entries":[]}"#,
            r#"{"entries":[{"id":"a"},{"id":"b"},{"id":"c"}]}"#,
            r#"{"entries":[{"id":"a"},{"id":"a"}]}"#,
            r#"{"entries":[{"id":""}]}"#,
            r#"{"entries":[{"id":1}]}"#,
            r#"{"entries":[{}]}"#,
            r#"{"entries":[1]}"#,
            r#"{"entries":{}}"#,
            r#"{"records":[]}"#,
            &format!(r#"{{"entries":[{{"id":"{long}"}}]}}"#),
        ] {
            assert_eq!(code(body), 42208, "{body}");
        }
        assert_eq!(code("{\"entries\":[{]}"), 400);
    }

    #[test]
    fn successes_and_failures_are_apart() {
        let body = br#"{"entries":[{"id":"a"},{"id":"b"},{"id":"c"}]}"#;
        let entries = entries(body, 3).unwrap();
        let produced = |offset| Ok(Produced { partition: 0, offset, timestamp: 0 });
        let outcomes = [produced(5), Err(ApiError::bad_request("no")), produced(6)];
        let names = Names { cluster_id: "c".to_owned(), topic: "t".to_owned() };
        let ids: Vec<_> = entries.into_iter().map(Entry::into_id).collect();
        let answer = answer(&names, &ids, &outcomes, &[Shape::default(); 3]);
        let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!(answer["successes"][1]["id"], "c");
        assert_eq!(answer["successes"][1]["offset"], 6);
        assert_eq!(
            answer["failures"],
            serde_json::json!([{"id":"b","error_code":400,"message":"no"}])
        );
    }
}
