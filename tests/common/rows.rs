//! Requests and the answers they must get, as rows of a data file.
//!
//! A row is an object with `request` (`"GET /path"`), and optionally `body` (JSON, or `text` as it
//! is), `headers`, `status` (200), `code` (the error's), `says` (words of the error's text),
//! `location`, `answer` (the body). In all texts `{name}` stands for what the test gave.
//! In `answer` the text `"..."` stands for any value, as last element of a list for further
//! elements, and as a member's name for further members; all else must be exactly equal.
//! Rows run in order against one server, so a row sees what earlier ones did.

use serde_json::{Map, Value};

use super::{Answer, Http};

/// Runs the rows of `data`; panics with every row that failed.
pub(crate) fn run(http: &mut Http, data: &str, names: &[(&str, &str)]) {
    let mut text = data.to_owned();
    for (name, value) in names {
        text = text.replace(&format!("{{{name}}}"), value);
    }
    let rows: Vec<Map<String, Value>> = serde_json::from_str(&text).unwrap();
    assert!(!rows.is_empty());
    let failures: Vec<String> = rows.iter().filter_map(|row| check(http, row).err()).collect();
    assert!(failures.is_empty(), "{} of {}:\n{}", failures.len(), rows.len(), failures.join("\n"));
}

const MEMBERS: [&str; 9] =
    ["request", "body", "text", "headers", "status", "code", "says", "location", "answer"];

fn check(http: &mut Http, row: &Map<String, Value>) -> Result<(), String> {
    let unknown: Vec<_> = row.keys().filter(|key| !MEMBERS.contains(&key.as_str())).collect();
    assert!(unknown.is_empty(), "{unknown:?} in {row:?}");
    let request = row["request"].as_str().unwrap();
    let answer = send(http, row, request);
    let fail = |what: String| Err(format!("{request}: {what}\n  in {answer}"));
    let status = row.get("status").map_or(200, |status| status.as_u64().unwrap());
    if u64::from(answer.status) != status {
        return fail(format!("status is not {status}"));
    }
    if status == 204 && !answer.body.is_empty() {
        return fail("a body with 204".to_owned());
    }
    if !answer.body.is_empty() && answer.header("content-type") != Some("application/json") {
        return fail(format!("content type {:?}", answer.header("content-type")));
    }
    if let Some(location) = row.get("location")
        && answer.header("location") != location.as_str()
    {
        return fail(format!("location {:?} is not {location}", answer.header("location")));
    }
    let body = if answer.body.is_empty() { Value::Null } else { answer.json() };
    if let Some(code) = row.get("code")
        && (body.get("error_code") != Some(code) || body.as_object().unwrap().len() != 2)
    {
        return fail(format!("error code is not {code}"));
    }
    for word in row.get("says").and_then(Value::as_array).into_iter().flatten() {
        let message = body["message"].as_str().unwrap_or_default();
        if !message.contains(word.as_str().unwrap()) {
            return fail(format!("the message does not say {word}"));
        }
    }
    match row.get("answer").map(|wanted| differs(wanted, &body)) {
        Some(Some(difference)) => fail(difference),
        _ => Ok(()),
    }
}

fn send(http: &mut Http, row: &Map<String, Value>, request: &str) -> Answer {
    let (method, path) = request.split_once(' ').unwrap();
    let body = match (row.get("body"), row.get("text")) {
        (Some(json), _) => json.to_string(),
        (None, Some(text)) => text.as_str().unwrap().to_owned(),
        (None, None) => String::new(),
    };
    let mut headers = Vec::new();
    if let Some(named) = row.get("headers").and_then(Value::as_object) {
        headers.extend(named.iter().map(|(name, value)| (name.as_str(), value.as_str().unwrap())));
    } else if !body.is_empty() {
        headers.push(("content-type", "application/json"));
    }
    http.send(method, path, &headers, body.as_bytes()).unwrap()
}

/// Says where `found` is not what was `wanted`.
fn differs(wanted: &Value, found: &Value) -> Option<String> {
    match (wanted, found) {
        (Value::String(any), _) if any == "..." => None,
        (Value::Object(wanted), Value::Object(found)) => {
            let missing = wanted.keys().find(|key| *key != "..." && !found.contains_key(*key));
            if let Some(key) = missing {
                return Some(format!("'{key}' is missing"));
            }
            let is_open = wanted.contains_key("...");
            let further = found.keys().find(|key| !is_open && !wanted.contains_key(*key));
            if let Some(key) = further {
                return Some(format!("'{key}' is not expected"));
            }
            let mut members =
                wanted.iter().filter_map(|(key, value)| Some((key, value, found.get(key)?)));
            members.find_map(|(key, wanted, found)| {
                differs(wanted, found).map(|what| format!("{key}: {what}"))
            })
        }
        (Value::Array(wanted), Value::Array(found)) => {
            let is_open = wanted.last().is_some_and(|last| last == "...");
            let exact = if is_open { &wanted[..wanted.len() - 1] } else { wanted };
            if found.len() < exact.len() || (found.len() > exact.len() && !is_open) {
                return Some(format!("{} elements instead of {}", found.len(), exact.len()));
            }
            let mut pairs = exact.iter().zip(found).enumerate();
            pairs.find_map(|(at, (wanted, found))| {
                differs(wanted, found).map(|what| format!("[{at}]: {what}"))
            })
        }
        _ if wanted == found => None,
        _ => Some(format!("{found} instead of {wanted}")),
    }
}
