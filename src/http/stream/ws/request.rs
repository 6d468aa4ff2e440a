//! What a client sends: one JSON object in each message.

use serde_json::{Map, Value};

use crate::http::error::{ApiError, ApiResult};

/// Longest id that a client may give.
const ID_BYTES_MAX: usize = 256;

/// Records that a subscription may send before its client grants more.
const CREDIT_DEFAULT: u64 = 256;

/// Most records that one message grants.
const CREDIT_MAX: u64 = 1_000_000;

/// A message, with the id that its answers carry.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Request {
    pub(super) id: Option<String>,
    pub(super) action: Action,
}

/// What a client wants.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Action {
    /// A stream: parameters as those of `POST /stream`, and records that it may send at once.
    Subscribe { id: String, parameters: Vec<u8>, credit: u64 },
    /// The end of a subscription.
    Unsubscribe { id: String },
    /// More records.
    Credit { id: String, records: u64 },
    /// A cursor was worked through.
    Ack { id: String },
    /// Records to produce: topic, query and headers as by REST, and the body.
    Produce { topic: String, acks: Option<String>, format: &'static str, body: Vec<u8> },
    /// A sign of life.
    Ping,
}

/// Why a message is not understood.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Refusal {
    /// It is not JSON: whatever the client speaks, it is not this protocol.
    NotJson(String),
    /// It cannot be done; the connection goes on.
    Error(Option<String>, ApiError),
}

impl Request {
    /// Reads a message.
    ///
    /// # Errors
    /// Names the field and its value.
    pub(super) fn parse(text: &str) -> Result<Self, Refusal> {
        let fields: Map<String, Value> =
            serde_json::from_str(text).map_err(|error| Refusal::NotJson(error.to_string()))?;
        let id = match fields.get("id") {
            None | Some(Value::Null) => None,
            Some(Value::String(id)) if id.len() <= ID_BYTES_MAX => Some(id.clone()),
            Some(other) => {
                let shown: String = other.to_string().chars().take(80).collect();
                let message = format!("id '{shown}' is not a string of up to {ID_BYTES_MAX} bytes");
                return Err(Refusal::Error(None, ApiError::bad_request(message)));
            }
        };
        match action(id.as_ref(), fields) {
            Ok(action) => Ok(Self { id, action }),
            Err(error) => Err(Refusal::Error(id, error)),
        }
    }
}

fn action(id: Option<&String>, mut fields: Map<String, Value>) -> ApiResult<Action> {
    fields.remove("id");
    let kind = match fields.remove("type") {
        Some(Value::String(kind)) => kind,
        other => {
            let other = other.unwrap_or_default();
            return Err(ApiError::bad_request(format!("type '{other}' is not a string")));
        }
    };
    let named =
        || id.cloned().ok_or_else(|| ApiError::bad_request(format!("type '{kind}' needs an id")));
    match kind.as_str() {
        "subscribe" => subscribe(named()?, fields),
        "unsubscribe" => Ok(Action::Unsubscribe { id: named()? }),
        "credit" => {
            let id = named()?;
            let records = credit(fields.get("records").unwrap_or(&Value::Null), "records")?;
            Ok(Action::Credit { id, records })
        }
        "ack" => Ok(Action::Ack { id: named()? }),
        "produce" => produce(fields),
        "ping" => Ok(Action::Ping),
        _ => {
            let message = format!(
                "type '{kind}' is not subscribe, unsubscribe, credit, ack, produce or ping"
            );
            Err(ApiError::bad_request(message))
        }
    }
}

fn credit(value: &Value, name: &str) -> ApiResult<u64> {
    match value.as_u64() {
        Some(records) if (1..=CREDIT_MAX).contains(&records) => Ok(records),
        _ => {
            let message = format!("{name} '{value}' is not a number from 1 to {CREDIT_MAX}");
            Err(ApiError::bad_request(message))
        }
    }
}

fn subscribe(id: String, mut fields: Map<String, Value>) -> ApiResult<Action> {
    let credit = match fields.remove("credit") {
        Some(value) => credit(&value, "credit")?,
        None => CREDIT_DEFAULT,
    };
    if let Some(group) = fields.get("group") {
        let message = format!("group {group}: WebSocket subscriptions are not members of groups");
        return Err(ApiError::bad_request(message));
    }
    for (name, value) in &fields {
        if matches!(name.as_str(), "format" | "ids" | "event") {
            let message = format!("{name} {value} is not possible on a WebSocket");
            return Err(ApiError::bad_request(message));
        }
    }
    if let Some(topic) = fields.remove("topic") {
        fields.insert("topics".to_owned(), Value::Array(vec![topic]));
    }
    if let Some(cursor) = fields.remove("cursor") {
        fields.insert("last_event_id".to_owned(), cursor);
    }
    let parameters = serde_json::to_vec(&fields).unwrap_or_default();
    Ok(Action::Subscribe { id, parameters, credit })
}

fn produce(mut fields: Map<String, Value>) -> ApiResult<Action> {
    let refuse = |name: &str, value: &Value, rule: &str| {
        Err(ApiError::bad_request(format!("{name} {value} is not {rule}")))
    };
    let topic = match fields.remove("topic") {
        Some(Value::String(topic)) => topic,
        other => return refuse("topic", &other.unwrap_or_default(), "a string"),
    };
    let acks = match fields.remove("acks") {
        None | Some(Value::Null) => None,
        Some(Value::String(acks)) => Some(acks),
        Some(Value::Number(acks)) => Some(acks.to_string()),
        Some(other) => return refuse("acks", &other, "0, 1 or all"),
    };
    let format = match fields.remove("format").as_ref().map(|v| v.as_str().unwrap_or_default()) {
        None | Some("json") => "application/vnd.kafka.json.v2+json",
        Some("binary") => "application/vnd.kafka.binary.v2+json",
        Some("text") => "application/vnd.kafka.text.v2+json",
        Some(other) => return refuse("format", &other.into(), "json, binary or text"),
    };
    if let Some(unknown) = fields.keys().find(|name| name.as_str() != "records") {
        let message = format!("'{unknown}' is not a field of produce");
        return Err(ApiError::bad_request(message));
    }
    let body = serde_json::to_vec(&fields).unwrap_or_default();
    Ok(Action::Produce { topic, acks, format, body })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn refused(text: &str) -> String {
        match Request::parse(text) {
            Err(Refusal::Error(_, error)) => error.message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_type_is_understood() {
        let parse = |text: &str| Request::parse(text).unwrap().action;
        let id = || "a".to_owned();
        let Action::Subscribe { id: of, parameters, credit } = parse(
            r#"{"type":"subscribe","id":"a","topic":"t","cursor":"1.x","credit":7,"from":"-5"}"#,
        ) else {
            panic!("no subscription")
        };
        assert_eq!((of.as_str(), credit), ("a", 7));
        let parameters: Value = serde_json::from_slice(&parameters).unwrap();
        let expected = serde_json::json!({"topics": ["t"], "last_event_id": "1.x", "from": "-5"});
        assert_eq!(parameters, expected);
        assert_eq!(parse(r#"{"type":"unsubscribe","id":"a"}"#), Action::Unsubscribe { id: id() });
        assert_eq!(
            parse(r#"{"type":"credit","id":"a","records":5}"#),
            Action::Credit { id: id(), records: 5 }
        );
        assert_eq!(parse(r#"{"type":"ack","id":"a","cursor":"1.x"}"#), Action::Ack { id: id() });
        assert_eq!(parse(r#"{"type":"ping"}"#), Action::Ping);
        let produce = parse(r#"{"type":"produce","topic":"t","acks":1,"records":[{"value":1}]}"#);
        let Action::Produce { topic, acks, format, body } = produce else { panic!("no produce") };
        assert_eq!((topic.as_str(), acks.as_deref()), ("t", Some("1")));
        assert!(format.contains("json") && body == br#"{"records":[{"value":1}]}"#);
    }

    #[test]
    fn refusals_name_the_field() {
        for (text, part) in [
            ("{}", "type"),
            (r#"{"type":"x"}"#, "type 'x'"),
            (r#"{"type":"subscribe"}"#, "needs an id"),
            (r#"{"type":"subscribe","id":7}"#, "id '7'"),
            (r#"{"type":"subscribe","id":"a","credit":0}"#, "credit '0'"),
            (r#"{"type":"subscribe","id":"a","format":"sse"}"#, "format"),
            (r#"{"type":"subscribe","id":"a","group":"g"}"#, "group"),
            (r#"{"type":"credit","id":"a","records":-1}"#, "records '-1'"),
            (r#"{"type":"credit","id":"a"}"#, "records 'null'"),
            (r#"{"type":"produce","records":[]}"#, "topic"),
            (r#"{"type":"produce","topic":"t","format":"avro"}"#, "avro"),
            (r#"{"type":"produce","topic":"t","colour":1}"#, "colour"),
        ] {
            assert!(refused(text).contains(part), "{text}: {}", refused(text));
        }
        assert!(matches!(Request::parse("x"), Err(Refusal::NotJson(_))));
        assert!(matches!(Request::parse("[]"), Err(Refusal::NotJson(_))));
    }

    proptest! {
        #[test]
        fn arbitrary_messages_never_panic(text in ".{0,60}", kind in "[a-z]{0,10}") {
            let _ = Request::parse(&text);
            let _ = Request::parse(&format!("{{\"type\":\"{kind}\",\"id\":\"a\",\"x\":{text}}}"));
        }
    }
}
