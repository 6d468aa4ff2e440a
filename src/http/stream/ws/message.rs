//! What the server sends besides the messages of streams.

use crate::base::json;
use crate::http::error::ApiError;

/// A message that only has its type, and the id of what it answers.
pub(super) fn control(kind: &str, id: Option<&str>) -> Vec<u8> {
    let mut out = begin(kind, id);
    out.push(b'}');
    out
}

/// A message with data, which are JSON.
pub(super) fn with_data(kind: &str, id: Option<&str>, data: &[u8]) -> Vec<u8> {
    let mut out = begin(kind, id);
    out.extend_from_slice(b",\"data\":");
    out.extend_from_slice(data);
    out.push(b'}');
    out
}

/// An `error`: the connection goes on.
pub(super) fn refusal(id: Option<&str>, error: &ApiError) -> Vec<u8> {
    let mut out = begin("error", id);
    out.extend_from_slice(b",\"error_code\":");
    json::integer_into(error.code, &mut out);
    out.extend_from_slice(b",\"message\":");
    json::string_into(&error.message, &mut out);
    out.push(b'}');
    out
}

fn begin(kind: &str, id: Option<&str>) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(kind.as_bytes());
    out.push(b'"');
    if let Some(id) = id {
        out.extend_from_slice(b",\"id\":");
        json::string_into(id, &mut out);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_is_an_object() {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        assert_eq!(text(control("pong", None)), r#"{"type":"pong"}"#);
        let acked = text(with_data("acked", Some("a\"b"), br#"{"acks":[]}"#));
        assert_eq!(acked, r#"{"type":"acked","id":"a\"b","data":{"acks":[]}}"#);
        let error = ApiError::bad_request("type 'x'\n");
        let expected = r#"{"type":"error","error_code":400,"message":"type 'x'\n"}"#;
        assert_eq!(text(refusal(None, &error)), expected);
    }
}
