//! What a client sends: one JSON object in each message.

use serde_json::{Map, Value};

use super::wish::{Wish, records};
use crate::http::error::{ApiError, ApiResult};

/// Longest id that a client may give.
const ID_BYTES_MAX: usize = 256;

/// A message, with the id that its answers carry.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Request {
    pub(super) id: Option<String>,
    pub(super) action: Action,
}

/// What a client wants.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Action {
    /// A stream.
    Subscribe { id: String, wish: Wish },
    /// The end of a subscription.
    Unsubscribe { id: String, goodbye: Goodbye },
    /// More records.
    Credit { id: String, records: u64 },
    /// Records were worked through: an object as that of `POST /consumers/{group}/acks`.
    Ack { id: String, acks: Vec<u8> },
    /// Records to produce.
    Produce(Records),
    /// A sign of life.
    Ping,
}

/// Records to produce: topic, `acks` and media type as by REST, and the body.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Records {
    pub(super) topic: String,
    pub(super) acks: Option<String>,
    pub(super) format: &'static str,
    pub(super) body: Vec<u8>,
}

/// What becomes of a member whose subscription its client ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Goodbye {
    /// It leaves its group, so that others have its partitions at once.
    Leave,
    /// It keeps its partitions for its session, as if the connection had broken.
    Linger,
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
        "subscribe" => Ok(Action::Subscribe { id: named()?, wish: Wish::parse(fields)? }),
        "unsubscribe" => unsubscribe(named()?, fields),
        "credit" => {
            let id = named()?;
            let records = records(fields.get("records").unwrap_or(&Value::Null), "records")?;
            Ok(Action::Credit { id, records })
        }
        "ack" => ack(named()?, &fields),
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

fn unsubscribe(id: String, mut fields: Map<String, Value>) -> ApiResult<Action> {
    let goodbye = match fields.remove("leave") {
        None | Some(Value::Null | Value::Bool(true)) => Goodbye::Leave,
        Some(Value::Bool(false)) => Goodbye::Linger,
        Some(other) => {
            return Err(ApiError::bad_request(format!("leave {other} is not true or false")));
        }
    };
    only_known("unsubscribe", &fields, &[])?;
    Ok(Action::Unsubscribe { id, goodbye })
}

fn ack(id: String, fields: &Map<String, Value>) -> ApiResult<Action> {
    // Whose acknowledgement it is, the subscription says.
    only_known("ack", fields, &["cursor", "offsets"])?;
    let refuse = |name: &str, value: &Value, rule: &str| {
        Err(ApiError::bad_request(format!("{name} {value} is not {rule}")))
    };
    match (fields.get("cursor"), fields.get("offsets")) {
        (Some(cursor), _) if !matches!(cursor, Value::String(_) | Value::Null) => {
            refuse("cursor", cursor, "a string")
        }
        (_, Some(offsets)) if !matches!(offsets, Value::Array(_) | Value::Null) => {
            refuse("offsets", offsets, "a list")
        }
        _ => Ok(Action::Ack { id, acks: serde_json::to_vec(fields).unwrap_or_default() }),
    }
}

fn only_known(kind: &str, fields: &Map<String, Value>, known: &[&str]) -> ApiResult<()> {
    match fields.keys().find(|name| !known.contains(&name.as_str())) {
        Some(unknown) => {
            Err(ApiError::bad_request(format!("'{unknown}' is not a field of {kind}")))
        }
        None => Ok(()),
    }
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
    only_known("produce", &fields, &["records"])?;
    let body = serde_json::to_vec(&fields).unwrap_or_default();
    Ok(Action::Produce(Records { topic, acks, format, body }))
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
        let Action::Subscribe { id: of, wish } = parse(
            r#"{"type":"subscribe","id":"a","topic":"t","cursor":"1.x","credit":7,"from":"-5"}"#,
        ) else {
            panic!("no subscription")
        };
        assert_eq!((of.as_str(), wish.credit, wish.group), ("a", 7, None));
        let parameters: Value = serde_json::from_slice(&wish.parameters).unwrap();
        let expected = serde_json::json!({"topics": ["t"], "last_event_id": "1.x", "from": "-5"});
        assert_eq!(parameters, expected);
        for (text, goodbye) in [
            (r#"{"type":"unsubscribe","id":"a"}"#, Goodbye::Leave),
            (r#"{"type":"unsubscribe","id":"a","leave":true}"#, Goodbye::Leave),
            (r#"{"type":"unsubscribe","id":"a","leave":false}"#, Goodbye::Linger),
        ] {
            assert_eq!(parse(text), Action::Unsubscribe { id: id(), goodbye }, "{text}");
        }
        assert_eq!(
            parse(r#"{"type":"credit","id":"a","records":5}"#),
            Action::Credit { id: id(), records: 5 }
        );
        let acks = br#"{"cursor":"1.x"}"#.to_vec();
        let ack = parse(r#"{"type":"ack","id":"a","cursor":"1.x"}"#);
        assert_eq!(ack, Action::Ack { id: id(), acks });
        assert_eq!(parse(r#"{"type":"ping"}"#), Action::Ping);
        let produce = parse(r#"{"type":"produce","topic":"t","acks":1,"records":[{"value":1}]}"#);
        let Action::Produce(Records { topic, acks, format, body }) = produce else {
            panic!("no produce")
        };
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
            (r#"{"type":"subscribe","id":"a","group":""}"#, r#"group """#),
            (r#"{"type":"subscribe","id":"a","group":7}"#, "group 7"),
            (r#"{"type":"subscribe","id":"a","topic":"t","topics":["u"]}"#, "topic \"t\""),
            (r#"{"type":"unsubscribe","id":"a","leave":1}"#, "leave 1"),
            (r#"{"type":"unsubscribe","id":"a","colour":1}"#, "'colour'"),
            (r#"{"type":"ack","cursor":"1.x"}"#, "needs an id"),
            (r#"{"type":"ack","id":"a","cursor":5}"#, "cursor 5"),
            (r#"{"type":"ack","id":"a","offsets":{}}"#, "offsets {}"),
            (r#"{"type":"ack","id":"a","cursor":"1.x","member":"m"}"#, "'member'"),
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
