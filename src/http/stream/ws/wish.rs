//! What a client wants a subscription to be.

use serde_json::{Map, Value};

use crate::http::error::{ApiError, ApiResult};

/// Longest name of a group, as that of a member.
const GROUP_BYTES_MAX: usize = 1_024;

/// Parameters that only a member of a group has.
const OF_MEMBERS: [&str; 4] = ["member", "ack", "max_unacked", "ack_timeout"];

/// Records that a subscription may send before its client grants more.
const CREDIT_DEFAULT: u64 = 256;

/// Most records that one message grants.
const CREDIT_MAX: u64 = 1_000_000;

/// What a subscription shall be.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Wish {
    /// The group whose member it is, if it is one.
    pub(super) group: Option<String>,
    /// An object as that of `POST /stream`, in a group with what its member says of itself.
    pub(super) parameters: Vec<u8>,
    /// Records that it may send at once.
    pub(super) credit: u64,
}

impl Wish {
    /// Reads the fields of a `subscribe`.
    ///
    /// # Errors
    /// 400 names the field and its value.
    pub(super) fn parse(mut fields: Map<String, Value>) -> ApiResult<Self> {
        let credit = match fields.remove("credit") {
            Some(value) => records(&value, "credit")?,
            None => CREDIT_DEFAULT,
        };
        let group = group(fields.remove("group"))?;
        let is_of_member = |(name, value): &(&String, &Value)| {
            OF_MEMBERS.contains(&name.as_str()) && !value.is_null()
        };
        if group.is_none()
            && let Some((name, value)) = fields.iter().find(is_of_member)
        {
            let message = format!("{name} {value} is not possible without a group");
            return Err(ApiError::bad_request(message));
        }
        for (name, value) in &fields {
            if matches!(name.as_str(), "format" | "ids" | "event") {
                let message = format!("{name} {value} is not possible on a WebSocket");
                return Err(ApiError::bad_request(message));
            }
        }
        if let Some(topic) = fields.remove("topic").filter(|topic| !topic.is_null()) {
            if fields.contains_key("topics") {
                let message = format!("topic {topic} is not possible: topics is given too");
                return Err(ApiError::bad_request(message));
            }
            fields.insert("topics".to_owned(), Value::Array(vec![topic]));
        }
        if let Some(cursor) = fields.remove("cursor") {
            fields.insert("last_event_id".to_owned(), cursor);
        }
        let parameters = serde_json::to_vec(&fields).unwrap_or_default();
        Ok(Self { group, parameters, credit })
    }
}

/// Reads a number of records that a client grants, of the field `name`.
///
/// # Errors
/// 400 names it and its value.
pub(super) fn records(value: &Value, name: &str) -> ApiResult<u64> {
    match value.as_u64() {
        Some(records) if (1..=CREDIT_MAX).contains(&records) => Ok(records),
        _ => {
            let message = format!("{name} '{value}' is not a number from 1 to {CREDIT_MAX}");
            Err(ApiError::bad_request(message))
        }
    }
}

fn group(value: Option<Value>) -> ApiResult<Option<String>> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(group)) if (1..=GROUP_BYTES_MAX).contains(&group.len()) => {
            Ok(Some(group))
        }
        Some(other) => {
            let shown: String = other.to_string().chars().take(80).collect();
            let message = format!("group {shown} is not a string of 1 to {GROUP_BYTES_MAX} bytes");
            Err(ApiError::bad_request(message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> ApiResult<Wish> {
        Wish::parse(serde_json::from_str(text).unwrap())
    }

    #[test]
    fn members_of_groups_have_parameters_of_their_own() {
        let wish =
            parse(r#"{"group":"g","topic":"t","member":"m","ack":"explicit","max_unacked":5}"#)
                .unwrap();
        assert_eq!((wish.group.as_deref(), wish.credit), (Some("g"), CREDIT_DEFAULT));
        let parameters: Value = serde_json::from_slice(&wish.parameters).unwrap();
        let expected = serde_json::json!({
            "topics": ["t"], "member": "m", "ack": "explicit", "max_unacked": 5,
        });
        assert_eq!(parameters, expected);
        for field in OF_MEMBERS {
            let text = format!(r#"{{"topic":"t","{field}":"x"}}"#);
            let expected = format!(r#"{field} "x" is not possible without a group"#);
            assert_eq!(parse(&text).unwrap_err().message, expected);
        }
        let long = "g".repeat(GROUP_BYTES_MAX + 1);
        let text = format!(r#"{{"topic":"t","group":"{long}"}}"#);
        assert!(
            parse(&text).unwrap_err().message.contains("1 to 1024 bytes"),
            "{}",
            parse(&text).unwrap_err().message
        );
    }
}
