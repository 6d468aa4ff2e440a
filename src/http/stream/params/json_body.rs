//! Parameters as a JSON object: each field is the parameter of its name.

use serde_json::{Map, Value};

use crate::http::body;
use crate::http::error::{ApiError, ApiResult};

/// Largest body, in bytes: a cursor, positions of all partitions of a stream and filters fit.
const BODY_BYTES_MAX: usize = 512 * 1024;

/// Turns a body into names and values as a query has them.
///
/// Lists become text with commas, or one pair for each item where an item has commas of its own.
///
/// # Errors
/// 400 for what is not an object, or a field whose value cannot be a parameter; 413 for a body of
/// more than 512 KiB.
pub(super) fn pairs(bytes: &[u8]) -> ApiResult<Vec<(String, String)>> {
    if bytes.len() > BODY_BYTES_MAX {
        let message = format!("body of {} bytes is larger than {BODY_BYTES_MAX}", bytes.len());
        return Err(ApiError::status(http::StatusCode::PAYLOAD_TOO_LARGE, message));
    }
    let fields: Map<String, Value> = body::parse_optional(bytes)?;
    let mut pairs = Vec::with_capacity(fields.len());
    for (name, value) in fields {
        match (name.as_str(), value) {
            (_, Value::Null) => {}
            ("offsets", Value::Array(items)) => {
                let items = items.iter().map(offset).collect::<ApiResult<Vec<_>>>()?;
                if !items.is_empty() {
                    pairs.push((name, items.join(",")));
                }
            }
            // Positions are a list in a cursor's place too.
            ("last_event_id" | "lastEventId", list @ Value::Array(_)) => {
                pairs.push((name, list.to_string()));
            }
            ("topics" | "partitions" | "select", Value::Array(items)) => {
                let items = items.iter().map(|item| scalar(&name, item));
                let items = items.collect::<ApiResult<Vec<_>>>()?;
                pairs.push((name, items.join(",")));
            }
            (_, Value::Array(items)) => {
                for item in items {
                    pairs.push((name.clone(), scalar(&name, &item)?));
                }
            }
            (_, value) => {
                let value = scalar(&name, &value)?;
                pairs.push((name, value));
            }
        }
    }
    Ok(pairs)
}

fn scalar(name: &str, value: &Value) -> ApiResult<String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(is_true) => Ok(if *is_true { "1" } else { "0" }.to_owned()),
        other => Err(ApiError::bad_request(format!("{name} '{other}' is not text or a number"))),
    }
}

/// One `{"topic","partition","offset"}`; the topic may be left out where there is one.
fn offset(item: &Value) -> ApiResult<String> {
    let refuse = || {
        let message = format!("offsets '{item}' is not an object of topic, partition and offset");
        ApiError::bad_request(message)
    };
    let number = |name: &str| item.get(name).and_then(Value::as_u64).ok_or_else(refuse);
    let (partition, offset) = (number("partition")?, number("offset")?);
    match item.get("topic") {
        None => Ok(format!("{partition}={offset}")),
        Some(Value::String(topic)) => Ok(format!("{topic}:{partition}={offset}")),
        Some(_) => Err(refuse()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_become_parameters() {
        let body = br#"{"topics":["a","b"],"partitions":[0,2],"limit":5,"soft_errors":true,
            "key":["x,y","z"],"from":null,"offsets":[{"topic":"a","partition":0,"offset":7}],
            "last_event_id":[{"topic":"a","partition":0,"offset":1}]}"#;
        let mut pairs = pairs(body).unwrap();
        pairs.sort();
        let pairs: Vec<_> = pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(
            pairs,
            [
                ("key", "x,y"),
                ("key", "z"),
                ("last_event_id", r#"[{"offset":1,"partition":0,"topic":"a"}]"#),
                ("limit", "5"),
                ("offsets", "a:0=7"),
                ("partitions", "0,2"),
                ("soft_errors", "1"),
                ("topics", "a,b"),
            ]
        );
        assert_eq!(super::pairs(b"").unwrap(), []);
    }

    #[test]
    fn refusals_name_the_field() {
        for (body, part) in [
            (r#"{"limit":{}}"#, "limit '{}'"),
            (r#"{"topics":[["a"]]}"#, "topics"),
            (r#"{"offsets":[{"partition":-1,"offset":0}]}"#, "offsets"),
            (r#"{"offsets":[{"topic":1,"partition":1,"offset":0}]}"#, "offsets"),
            ("[]", "invalid JSON"),
        ] {
            let refused = pairs(body.as_bytes()).unwrap_err();
            assert_eq!(refused.code, 400, "{body}");
            assert!(refused.message.contains(part), "{}", refused.message);
        }
        assert_eq!(pairs(&vec![b' '; BODY_BYTES_MAX + 1]).unwrap_err().code, 413);
    }
}
