//! Requests and the answers they must get, as rows of a data file.
//!
//! A row is an object with `request` (`"GET /path"`), and optionally
//! - of the request: `body` (JSON, or `text` as it is), `headers`, `connection` (`"new"`),
//! - of the answer: `status` (200), `type` (of its content), `code` (the error's), `says` (words of
//!   the error's text), `location`, `sent` (other headers), `answer` (the body), `contains` (texts
//!   in the body), `within_ms`,
//! - `meanwhile`, rows to run on another connection between the request and its answer, `save`
//!   (name and pointer: a value of the body for later rows) and `why` (for readers).
//!
//! In all texts `{name}` stands for what the test gave or a row saved.
//! In `answer` and `sent` the text `"..."` stands for any value, as last element of a list for
//! further elements, and as a member's name for further members; all else must be exactly equal.
//! Rows run in order against one server, so a row sees what earlier ones did.

use std::time::Duration;

use serde_json::{Map, Value};

use super::{Answer, Http, now};

/// What `{name}` stands for.
pub(crate) type Names = Vec<(String, String)>;

/// Runs the rows of `data`, whose bodies are plain JSON unless they say otherwise; panics with
/// every row that failed.
pub(crate) fn run(http: &mut Http, data: &str, names: &[(&str, &str)]) {
    run_as("application/json", http, data, names);
}

/// The same for bodies that have another media type unless they say otherwise.
pub(crate) fn run_as(usual: &str, http: &mut Http, data: &str, names: &[(&str, &str)]) {
    let mut text = data.to_owned();
    for (name, value) in names {
        text = text.replace(&format!("{{{name}}}"), value);
    }
    let mut rows: Vec<Map<String, Value>> = serde_json::from_str(&text).unwrap();
    assert!(!rows.is_empty());
    let mut names = Names::new();
    let usual = Value::from(usual);
    for row in &mut rows {
        row.entry("type").or_insert_with(|| usual.clone());
    }
    let failures: Vec<String> =
        rows.iter().filter_map(|row| check(http, row, &mut names).err()).collect();
    assert!(failures.is_empty(), "{} of {}:\n{}", failures.len(), rows.len(), failures.join("\n"));
}

const MEMBERS: [&str; 17] = [
    "request",
    "body",
    "text",
    "headers",
    "connection",
    "status",
    "type",
    "code",
    "says",
    "location",
    "sent",
    "answer",
    "contains",
    "within_ms",
    "meanwhile",
    "save",
    "why",
];

/// Runs one row.
pub(crate) fn check(
    http: &mut Http,
    row: &Map<String, Value>,
    names: &mut Names,
) -> Result<(), String> {
    let unknown: Vec<_> = row.keys().filter(|key| !MEMBERS.contains(&key.as_str())).collect();
    assert!(unknown.is_empty(), "{unknown:?} in {row:?}");
    let row = &filled(row, names);
    let request = row["request"].as_str().unwrap();
    if row.contains_key("connection") {
        *http = http.again();
    }
    let start = now();
    send(http, row, request);
    if let Some(rows) = row.get("meanwhile").and_then(Value::as_array) {
        let mut other = http.again();
        for row in rows {
            check(&mut other, row.as_object().unwrap(), names)?;
        }
    }
    let answer = http.answer().map_err(|error| format!("{request}: {error}"))?;
    let took = start.elapsed();
    let failed = |what: String| format!("{request}: {what}\n  in {answer}");
    let limit = row.get("within_ms").map(|ms| Duration::from_millis(ms.as_u64().unwrap()));
    if limit.is_some_and(|limit| took > limit) {
        return Err(failed(format!("took {took:?}")));
    }
    let body = check_head(row, &answer).map_err(failed)?;
    check_body(row, &body, &answer).map_err(failed)?;
    for (name, pointer) in row.get("save").and_then(Value::as_object).into_iter().flatten() {
        let found = body.pointer(pointer.as_str().unwrap());
        let Some(found) = found else { return Err(failed(format!("no {pointer} to save"))) };
        let text = found.as_str().map_or_else(|| found.to_string(), str::to_owned);
        names.push((name.clone(), text));
    }
    Ok(())
}

/// The row with the names' values in its texts; the latest of a name counts.
fn filled(row: &Map<String, Value>, names: &Names) -> Map<String, Value> {
    let mut text = serde_json::to_string(row).unwrap();
    for (name, value) in names.iter().rev() {
        let quoted = serde_json::to_string(value).unwrap();
        text = text.replace(&format!("{{{name}}}"), quoted.trim_matches('"'));
    }
    serde_json::from_str(&text).unwrap()
}

fn send(http: &mut Http, row: &Map<String, Value>, request: &str) {
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
    http.ask(method, path, &headers, body.as_bytes()).unwrap();
}

/// Checks status and headers, and gives the body if it is JSON, of several values as a list.
fn check_head(row: &Map<String, Value>, answer: &Answer) -> Result<Value, String> {
    let status = row.get("status").map_or(200, |status| status.as_u64().unwrap());
    if u64::from(answer.status) != status {
        return Err(format!("status is not {status}"));
    }
    if status == 204 && !answer.body.is_empty() {
        return Err("a body with 204".to_owned());
    }
    let kind = answer.header("content-type").unwrap_or_default();
    let wanted = row.get("type").and_then(Value::as_str);
    if !answer.body.is_empty() && wanted.is_some_and(|wanted| wanted != kind) {
        return Err(format!("content type {kind:?}"));
    }
    if let Some(location) = row.get("location")
        && answer.header("location") != location.as_str()
    {
        return Err(format!("location {:?} is not {location}", answer.header("location")));
    }
    for (name, wanted) in row.get("sent").and_then(Value::as_object).into_iter().flatten() {
        let Some(found) = answer.header(name) else { return Err(format!("no header {name}")) };
        if let Some(difference) = differs(wanted, &Value::from(found)) {
            return Err(format!("{name}: {difference}"));
        }
    }
    if !kind.ends_with("json") || kind.ends_with("ndjson") {
        return Ok(Value::Null);
    }
    let values = serde_json::Deserializer::from_slice(&answer.body).into_iter::<Value>();
    let mut values = values.collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())?;
    Ok(if values.len() == 1 { values.remove(0) } else { Value::Array(values) })
}

fn check_body(row: &Map<String, Value>, body: &Value, answer: &Answer) -> Result<(), String> {
    if let Some(code) = row.get("code")
        && (body.get("error_code") != Some(code) || body.as_object().unwrap().len() != 2)
    {
        return Err(format!("error code is not {code}"));
    }
    for word in row.get("says").and_then(Value::as_array).into_iter().flatten() {
        let message = body["message"].as_str().unwrap_or_default();
        if !message.contains(word.as_str().unwrap()) {
            return Err(format!("the message does not say {word}"));
        }
    }
    let text = answer.text();
    for part in row.get("contains").and_then(Value::as_array).into_iter().flatten() {
        if !text.contains(part.as_str().unwrap()) {
            return Err(format!("the body does not contain {part}"));
        }
    }
    row.get("answer").and_then(|wanted| differs(wanted, body)).map_or(Ok(()), Err)
}

/// Says where `found` is not what was `wanted`.
pub(crate) fn differs(wanted: &Value, found: &Value) -> Option<String> {
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
