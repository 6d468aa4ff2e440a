//! Bodies of lines, each of which is a JSON value, and keys that lie within JSON values.

use std::borrow::Cow;
use std::collections::HashMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::base::json;
use crate::http::error::{ApiError, ApiResult};

/// The lines that are not blank, with their numbers from 1.
pub(super) fn lines(body: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let lines = body.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    (1..).zip(lines).filter(|(_, line)| !line.is_empty())
}

/// Reads a JSON value as text.
///
/// # Errors
/// 400 begins with `place`.
pub(super) fn value<'a>(place: &str, text: &'a [u8]) -> ApiResult<&'a RawValue> {
    serde_json::from_slice(text)
        .map_err(|error| ApiError::bad_request(format!("{place}: invalid JSON: {error}")))
}

/// Appends the key at `pointer` in `value`: the text of a string, else the JSON. False when there
/// is none or it is null.
pub(super) fn key_into(value: &RawValue, pointer: &str, out: &mut Vec<u8>) -> bool {
    out.clear();
    let mut found = Some(value);
    for token in pointer.split('/').skip(1) {
        let token = token.replace("~1", "/").replace("~0", "~");
        found = found.and_then(|value| member(value, &token));
    }
    let Some(found) = found.map(RawValue::get).filter(|text| *text != "null") else {
        return false;
    };
    match serde_json::from_str::<Text<'_>>(found) {
        Ok(text) => out.extend_from_slice(text.0.as_bytes()),
        Err(_) => json::minify_into(found.as_bytes(), out),
    }
    true
}

#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

fn member<'a>(value: &'a RawValue, token: &str) -> Option<&'a RawValue> {
    let text = value.get();
    if text.starts_with('[') {
        let is_index = token == "0" || !token.starts_with(['0', '+']);
        let at: usize = token.parse().ok().filter(|_| is_index)?;
        return serde_json::from_str::<Vec<&RawValue>>(text).ok()?.get(at).copied();
    }
    let members: HashMap<String, &RawValue> = serde_json::from_str(text).ok()?;
    members.get(token).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str, pointer: &str) -> Option<String> {
        let mut out = b"old".to_vec();
        let value = value("body", text.as_bytes()).unwrap();
        key_into(value, pointer, &mut out).then(|| String::from_utf8(out).unwrap())
    }

    #[test]
    fn keys_are_found_by_pointers() {
        let text =
            r#"{"id": 12345678901234567890.10, "a/b~c": {"x": ["é\n", {"y": 1}]}, "n": null}"#;
        assert_eq!(key(text, "/id").unwrap(), "12345678901234567890.10");
        assert_eq!(key(text, "/a~1b~0c/x/0").unwrap(), "é\n");
        assert_eq!(key(text, "/a~1b~0c/x/1").unwrap(), "{\"y\":1}");
        assert_eq!(key("\"whole\"", "").unwrap(), "whole");
        for pointer in ["/n", "/none", "/id/x", "/a~1b~0c/x/2", "/a~1b~0c/x/01", "/"] {
            assert_eq!(key(text, pointer), None, "{pointer}");
        }
    }

    #[test]
    fn blank_lines_are_skipped_and_counted() {
        let found: Vec<_> = lines(b"1\r\n\n  {\"a\": 2}  \n\t\n3").collect();
        let expected: [(usize, &[u8]); 3] = [(1, b"1"), (3, b"{\"a\": 2}"), (5, b"3")];
        assert_eq!(found, expected);
        assert_eq!(lines(b" \n").count(), 0);
        assert!(value("line 3", b"{").unwrap_err().message.starts_with("line 3: invalid JSON"));
    }
}
