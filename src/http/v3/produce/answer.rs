//! What a client hears of each record.

use super::record::Described;
use crate::base::json;
use crate::http::error::ApiError;
use crate::http::produce::{Outcome, Produced};
use crate::http::time::rfc3339_ms_into;

/// What all answers of a request have in common.
#[derive(Debug, Clone)]
pub(super) struct Names {
    /// Identity of the cluster.
    pub(super) cluster_id: String,
    /// Name of the topic.
    pub(super) topic: String,
}

/// What the answer says of the data of one record.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Shape {
    pub(super) key: Described,
    pub(super) value: Described,
}

/// Appends the members of a record that was produced, without the braces around them.
pub(super) fn produced_into(names: &Names, produced: &Produced, shape: Shape, out: &mut Vec<u8>) {
    out.extend_from_slice(b"\"cluster_id\":");
    json::string_into(&names.cluster_id, out);
    out.extend_from_slice(b",\"topic_name\":");
    json::string_into(&names.topic, out);
    out.extend_from_slice(b",\"partition_id\":");
    json::integer_into(produced.partition, out);
    out.extend_from_slice(b",\"offset\":");
    json::integer_into(produced.offset, out);
    out.extend_from_slice(b",\"timestamp\":\"");
    rfc3339_ms_into(produced.timestamp, out);
    out.push(b'"');
    for (member, described) in [("key", shape.key), ("value", shape.value)] {
        let Some((data_type, bytes)) = described else { continue };
        out.extend_from_slice(b",\"");
        out.extend_from_slice(member.as_bytes());
        out.extend_from_slice(b"\":{\"type\":\"");
        out.extend_from_slice(data_type.name().as_bytes());
        out.extend_from_slice(b"\",\"size\":");
        json::integer_into(bytes, out);
        out.push(b'}');
    }
}

/// Appends the members of an error.
pub(super) fn error_into(error: &ApiError, out: &mut Vec<u8>) {
    out.extend_from_slice(b"\"error_code\":");
    json::integer_into(error.code, out);
    out.extend_from_slice(b",\"message\":");
    json::string_into(&error.message, out);
}

/// Appends the answer to one record of a stream, and the separator after it.
pub(super) fn line_into(names: &Names, outcome: &Outcome, shape: Shape, out: &mut Vec<u8>) {
    out.push(b'{');
    match outcome {
        Ok(produced) => {
            out.extend_from_slice(b"\"error_code\":200,");
            produced_into(names, produced, shape, out);
        }
        Err(error) => error_into(error, out),
    }
    out.extend_from_slice(b"}\r\n");
}

#[cfg(test)]
mod tests {
    use super::super::record::DataType;
    use super::*;

    #[test]
    fn absent_members_are_left_out() {
        let names = Names { cluster_id: "c\"1".to_owned(), topic: "t".to_owned() };
        let produced = Produced { partition: 1, offset: 7, timestamp: 1_612_552_482_000 };
        let mut out = Vec::new();
        let shape = Shape { key: None, value: Some((DataType::Json, 13)) };
        line_into(&names, &Ok(produced), shape, &mut out);
        line_into(&names, &Err(ApiError::bad_request("no \"x\"")), shape, &mut out);
        let text = String::from_utf8(out).unwrap();
        assert_eq!(
            text,
            "{\"error_code\":200,\"cluster_id\":\"c\\\"1\",\"topic_name\":\"t\",\"partition_id\":1,\
             \"offset\":7,\"timestamp\":\"2021-02-05T19:14:42Z\",\
             \"value\":{\"type\":\"JSON\",\"size\":13}}\r\n\
             {\"error_code\":400,\"message\":\"no \\\"x\\\"\"}\r\n"
        );
    }
}
