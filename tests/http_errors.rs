//! Every way to be refused by the HTTP door, as rows: status, code, and what the text names.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::io::Write;

use common::{Answer, Http, Server};
use serde_json::json;

/// One request and how it is refused. The columns: method, path, headers, body; status, code,
/// words that the text must hold.
type Row = (
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
    &'static str,
    u16,
    u64,
    &'static [&'static str],
);

const JSON: &[(&str, &str)] = &[("content-type", "application/json")];
const V2: &[(&str, &str)] = &[("content-type", "application/vnd.kafka.v2+json")];
const BINARY: &[(&str, &str)] = &[("content-type", "application/vnd.kafka.binary.v2+json")];
const TEXT: &[(&str, &str)] = &[("content-type", "application/vnd.kafka.text.v2+json")];
const AVRO: &[(&str, &str)] = &[("content-type", "application/vnd.kafka.avro.v2+json")];
const PLAIN: &[(&str, &str)] = &[("content-type", "text/plain")];
const WANTS_HTML: &[(&str, &str)] = &[("accept", "text/html")];
const WANTS_BINARY: &[(&str, &str)] = &[("accept", "application/vnd.kafka.binary.v2+json")];
const JSON_WANTS_HTML: &[(&str, &str)] =
    &[("content-type", "application/json"), ("accept", "text/html")];
const NONE: &[(&str, &str)] = &[];

const ONE: &str = r#"{"records":[{"value":1}]}"#;

/// Routes, methods and media types.
#[rustfmt::skip]
const ROUTES: &[Row] = &[
    ("GET", "/nowhere", NONE, "", 404, 404, &["/nowhere", "GET"]),
    ("GET", "/topics/t/nowhere/else", NONE, "", 404, 404, &["/topics/t/nowhere/else"]),
    ("POST", "/", PLAIN, "", 200, 0, &[]),
    ("PATCH", "/topics/t", NONE, "", 405, 405, &["PATCH", "/topics/t"]),
    ("DELETE", "/topics", NONE, "", 405, 405, &["DELETE", "/topics"]),
    ("GET", "/admin/topics", NONE, "", 405, 405, &["/admin/topics"]),
    ("GET", "/consumers/g", NONE, "", 405, 405, &["/consumers/g"]),
    ("POST", "/topics/t", PLAIN, ONE, 415, 415, &["text/plain"]),
    ("POST", "/topics/t", AVRO, ONE, 415, 415, &["schema registry"]),
    ("POST", "/topics/t/partitions/0", PLAIN, ONE, 415, 415, &["text/plain"]),
    ("POST", "/consumers/g", PLAIN, "{}", 415, 415, &["text/plain"]),
    ("POST", "/consumers/g/instances/idle/subscription", PLAIN, "{}", 415, 415, &["text/plain"]),
    ("POST", "/admin/topics", PLAIN, "{}", 415, 415, &["text/plain"]),
    ("GET", "/topics", WANTS_HTML, "", 406, 406, &["text/html"]),
    ("GET", "/topics/t", WANTS_HTML, "", 406, 406, &["text/html"]),
    ("GET", "/topics/t/partitions", WANTS_HTML, "", 406, 406, &["text/html"]),
    ("GET", "/brokers", WANTS_HTML, "", 406, 406, &["text/html"]),
    ("POST", "/topics/t", JSON_WANTS_HTML, ONE, 406, 406, &["text/html"]),
    ("GET", "/consumers/h/instances/assigned/records", WANTS_HTML, "", 406, 406, &["text/html"]),
    ("GET", "/consumers/h/instances/assigned/records", WANTS_BINARY, "", 406, 40601, &["json"]),
    ("GET", "/topics/t/stream", WANTS_HTML, "", 406, 406, &[]),
];

/// Topics, partitions and produce.
#[rustfmt::skip]
const PRODUCE: &[Row] = &[
    ("GET", "/topics/nope", NONE, "", 404, 40403, &["nope"]),
    ("GET", "/topics/nope/partitions", NONE, "", 404, 40401, &["nope"]),
    ("GET", "/topics/nope/partitions/0", NONE, "", 404, 40401, &["nope"]),
    ("GET", "/topics/nope/partitions/0/offsets", NONE, "", 404, 40401, &["nope"]),
    ("GET", "/topics/nope/stream", NONE, "", 404, 40401, &["nope"]),
    ("POST", "/topics/nope", JSON, ONE, 404, 40401, &["nope"]),
    ("POST", "/topics/nope/partitions/0", JSON, ONE, 404, 40401, &["nope"]),
    ("GET", "/topics/t/partitions/9", NONE, "", 404, 40402, &["9"]),
    ("GET", "/topics/t/partitions/-1", NONE, "", 404, 40402, &["-1"]),
    ("GET", "/topics/t/partitions/9/offsets", NONE, "", 404, 40402, &["9"]),
    ("POST", "/topics/t/partitions/9", JSON, ONE, 404, 40402, &["9"]),
    ("GET", "/topics/t/partitions/foo", NONE, "", 404, 404, &["foo"]),
    ("GET", "/topics/t/partitions/foo/offsets", NONE, "", 404, 404, &["foo"]),
    ("POST", "/topics/t/partitions/foo", JSON, ONE, 404, 404, &["foo"]),
    ("POST", "/topics/t/partitions/99999999999", JSON, ONE, 404, 404, &["99999999999"]),
    ("POST", "/topics/t", JSON, "{", 400, 400, &["line 1 column 1"]),
    ("POST", "/topics/t", JSON, "{\"records\":[\n {\"value\":nul}]}", 400, 400, &["line 2 column "]),
    ("POST", "/topics/t", JSON, "{\"records\":[{\"value\":1}]} x", 400, 400, &["line 1 column "]),
    ("POST", "/topics/t", JSON, r#"{"records":5}"#, 400, 400, &["line 1 column "]),
    ("POST", "/topics/t", JSON, "[]", 400, 400, &[]),
    ("POST", "/topics/t", JSON, "", 422, 422, &["empty"]),
    ("POST", "/topics/t", JSON, "{}", 422, 422, &["records"]),
    ("POST", "/topics/t", JSON, r#"{"records":[]}"#, 422, 422, &["records"]),
    ("POST", "/topics/t", JSON, r#"{"records":[{"valur":1}]}"#, 422, 422, &["valur"]),
    ("POST", "/topics/t", JSON, r#"{"records":[{"headers":[{"key":"a","vlue":"YQ=="}]}]}"#, 422, 422, &["vlue"]),
    ("POST", "/topics/t", JSON, r#"{"records":[{"value":1},{"partition":"x"}]}"#, 400, 400, &["line 1 column "]),
    ("POST", "/topics/t", JSON, r#"{"records":[{"headers":[{"key":"a","value":"?"}]}]}"#, 400, 400, &["records[0].headers"]),
    ("POST", "/topics/t", JSON, r#"{"records":[{"value":1,"timestamp":-5}]}"#, 400, 400, &["records[0].timestamp"]),
    ("POST", "/topics/t", BINARY, r#"{"records":[{"value":"YQ=="},{"value":"Y?=="}]}"#, 400, 400, &["records[1].value", "base64"]),
    ("POST", "/topics/t", BINARY, r#"{"records":[{"value":{"a":1}}]}"#, 400, 400, &["records[0].value"]),
    ("POST", "/topics/t", BINARY, r#"{"records":[{"key":"YQ","value":"YQ=="}]}"#, 400, 400, &["records[0].key"]),
    ("POST", "/topics/t", V2, r#"{"records":[{"value":7}]}"#, 400, 400, &["records[0].value"]),
    ("POST", "/topics/t", TEXT, r#"{"records":[{"value":7}]}"#, 400, 400, &["records[0].value"]),
    ("POST", "/topics/t?acks=2", JSON, ONE, 400, 400, &["acks", "2"]),
    ("POST", "/topics/t/partitions/0?acks=some", JSON, ONE, 400, 400, &["acks", "some"]),
    ("GET", "/topics/t/stream?from=yesterday", NONE, "", 400, 400, &["from", "yesterday"]),
    ("GET", "/topics/t/stream?partitions=0,9", NONE, "", 404, 40402, &["9"]),
    ("GET", "/topics/t/stream?partitions=a", NONE, "", 400, 400, &["partitions"]),
    ("GET", "/topics/t/stream?limit=0", NONE, "", 400, 400, &["limit"]),
    ("GET", "/topics/t/stream?heartbeat=61", NONE, "", 400, 400, &["heartbeat"]),
    ("GET", "/topics/t/stream", &[("last-event-id", "1.rubbish")], "", 400, 400, &[]),
];

/// Consumer instances.
#[rustfmt::skip]
const CONSUMERS: &[Row] = &[
    ("DELETE", "/consumers/g/instances/nope", NONE, "", 404, 40403, &["nope"]),
    ("POST", "/consumers/g/instances/nope/subscription", V2, r#"{"topics":["t"]}"#, 404, 40403, &["nope"]),
    ("GET", "/consumers/g/instances/nope/subscription", NONE, "", 404, 40403, &["nope"]),
    ("DELETE", "/consumers/g/instances/nope/subscription", NONE, "", 404, 40403, &["nope"]),
    ("POST", "/consumers/g/instances/nope/assignments", V2, r#"{"partitions":[]}"#, 404, 40403, &["nope"]),
    ("GET", "/consumers/g/instances/nope/assignments", NONE, "", 404, 40403, &["nope"]),
    ("GET", "/consumers/g/instances/nope/records", NONE, "", 404, 40403, &["nope"]),
    ("GET", "/consumers/other/instances/idle/records", NONE, "", 404, 40403, &["idle"]),
    ("POST", "/consumers/g/instances/nope/offsets", V2, "", 404, 40403, &["nope"]),
    ("GET", "/consumers/g/instances/nope/offsets", NONE, "", 404, 40403, &["nope"]),
    ("POST", "/consumers/g/instances/nope/positions", V2, "{}", 404, 40403, &["nope"]),
    ("POST", "/consumers/g/instances/nope/positions/beginning", V2, r#"{"partitions":[]}"#, 404, 40403, &["nope"]),
    ("POST", "/consumers/g/instances/nope/positions/end", V2, r#"{"partitions":[]}"#, 404, 40403, &["nope"]),
    ("POST", "/consumers/g", V2, r#"{"name":"idle"}"#, 409, 40902, &["idle"]),
    ("POST", "/consumers/g", V2, r#"{"id":"idle"}"#, 409, 40902, &["idle"]),
    ("POST", "/consumers/g", V2, r#"{"name":"n1","auto.offset.reset":"soon"}"#, 422, 42204, &["auto.offset.reset", "soon"]),
    ("POST", "/consumers/g", V2, r#"{"name":"n1","auto.commit.enable":"maybe"}"#, 422, 42204, &["auto.commit.enable", "maybe"]),
    ("POST", "/consumers/g", V2, r#"{"name":"n1","isolation.level":"none"}"#, 422, 42204, &["isolation.level"]),
    ("POST", "/consumers/g", V2, r#"{"name":"n1","partition.assignment.strategy":"luck"}"#, 422, 42204, &["luck"]),
    ("POST", "/consumers/g", V2, r#"{"name":"n1","fetch.min.bytes":-2}"#, 422, 40001, &["fetch.min.bytes"]),
    ("POST", "/consumers/g", V2, r#"{"name":"n1","fetch.min.bytes":10000001}"#, 422, 40001, &["fetch.min.bytes"]),
    ("POST", "/consumers/g", V2, r#"{"name":"n1","fetch.min.bytes":"lots"}"#, 422, 40001, &["fetch.min.bytes", "lots"]),
    ("POST", "/consumers/g", V2, r#"{"name":"n1","format":"xml"}"#, 422, 422, &["xml"]),
    ("POST", "/consumers/g", V2, r#"{"name":"n1","format":"avro"}"#, 422, 422, &["avro"]),
    ("POST", "/consumers/g", V2, r#"{"name":7}"#, 422, 422, &["name"]),
    ("POST", "/consumers/g", V2, "{oops", 400, 400, &["line 1 column "]),
    ("POST", "/consumers/g/instances/idle/subscription", V2, "{}", 409, 40903, &["topic"]),
    ("POST", "/consumers/g/instances/idle/subscription", V2, r#"{"topics":["t"],"topic_pattern":"t.*"}"#, 409, 40903, &["topic_pattern"]),
    ("POST", "/consumers/g/instances/idle/subscription", V2, r#"{"topics":"t"}"#, 400, 400, &["line 1 column "]),
    ("POST", "/consumers/g/instances/idle/subscription", V2, r#"{"topic_pattern":"("}"#, 422, 422, &[]),
    ("POST", "/consumers/g/instances/idle/subscription", V2, r#"{"topics":["a b"]}"#, 422, 422, &["a b"]),
    ("POST", "/consumers/h/instances/assigned/subscription", V2, r#"{"topics":["t"]}"#, 409, 40903, &[]),
    ("POST", "/consumers/g/instances/subscribed/assignments", V2, r#"{"partitions":[{"topic":"t","partition":0}]}"#, 409, 40903, &[]),
    ("POST", "/consumers/g/instances/idle/assignments", V2, r#"{"partitions":[{"topic":"t"}]}"#, 422, 422, &["partition"]),
    ("POST", "/consumers/g/instances/idle/assignments", V2, "{}", 422, 422, &["partitions"]),
    ("GET", "/consumers/g/instances/idle/records", NONE, "", 409, 40903, &[]),
    ("GET", "/consumers/h/instances/assigned/records?timeout=soon", NONE, "", 400, 400, &["timeout", "soon"]),
    ("GET", "/consumers/h/instances/assigned/records?max_bytes=x", NONE, "", 400, 400, &["max_bytes"]),
    ("POST", "/consumers/g/instances/idle/positions", V2, r#"{"offsets":[{"topic":"t","partition":0,"offset":1}]}"#, 409, 40903, &["t-0"]),
    ("POST", "/consumers/h/instances/assigned/positions", V2, r#"{"offsets":[{"topic":"t","partition":1,"offset":1}]}"#, 409, 40903, &["t-1"]),
    ("POST", "/consumers/h/instances/assigned/positions/beginning", V2, r#"{"partitions":[{"topic":"t","partition":1}]}"#, 409, 40903, &["t-1"]),
    ("POST", "/consumers/h/instances/assigned/positions/end", V2, r#"{"partitions":[{"topic":"t","partition":1}]}"#, 409, 40903, &["t-1"]),
    ("POST", "/consumers/h/instances/assigned/positions", V2, r#"{"timestamps":[{"topic":"t","partition":0,"timestamp":"noon"}]}"#, 422, 422, &["noon"]),
    ("POST", "/consumers/h/instances/assigned/positions", V2, r#"{"offsets":[{"topic":"t","partition":0,"offset":-1}]}"#, 422, 422, &["-1"]),
    ("POST", "/consumers/h/instances/assigned/offsets", V2, r#"{"offsets":[{"topic":"nope","partition":0,"offset":1}]}"#, 404, 40401, &["nope"]),
    ("POST", "/consumers/h/instances/assigned/offsets", V2, r#"{"offsets":[{"topic":"t","partition":9,"offset":1}]}"#, 404, 40402, &["9"]),
    ("POST", "/consumers/h/instances/assigned/offsets", V2, r#"{"offsets":[{"topic":"t","partition":0,"offset":-3}]}"#, 422, 422, &["-3"]),
    ("POST", "/consumers/h/instances/assigned/offsets", V2, "{\"offsets\":", 400, 400, &["line 1 column "]),
    ("GET", "/consumers/h/instances/assigned/offsets?topic=t", NONE, "", 400, 400, &["partition"]),
];

/// Administration.
#[rustfmt::skip]
const ADMIN: &[Row] = &[
    ("POST", "/admin/topics", JSON, r#"{"topic_name":"t"}"#, 409, 40002, &["t"]),
    ("POST", "/admin/topics", JSON, r#"{"topic_name":"a b"}"#, 400, 40002, &["a b"]),
    ("POST", "/admin/topics", JSON, r#"{"topic_name":".."}"#, 400, 40002, &[".."]),
    ("POST", "/admin/topics", JSON, r#"{"topic_name":"x","partitions_count":0}"#, 400, 40002, &["0"]),
    ("POST", "/admin/topics", JSON, r#"{"topic_name":"x","partitions_count":10001}"#, 400, 40002, &["10001"]),
    ("POST", "/admin/topics", JSON, r#"{"topic_name":"x","replication_factor":3}"#, 400, 40002, &["3"]),
    ("POST", "/admin/topics", JSON, r#"{"topic_name":"x","configs":{"retention.mz":"1"}}"#, 400, 40002, &["retention.mz"]),
    ("POST", "/admin/topics", JSON, r#"{"topic_name":"x","configs":{"retention.ms":"long"}}"#, 400, 40002, &["retention.ms", "long"]),
    ("POST", "/admin/topics", JSON, r#"{"topic_name":"x","configs":{"cleanup.policy":"burn"}}"#, 400, 40002, &["cleanup.policy", "burn"]),
    ("POST", "/admin/topics", JSON, r#"{"partitions_count":1}"#, 422, 422, &["topic_name"]),
    ("POST", "/admin/topics", JSON, r#"{"topic_name":"x","partition_count":1}"#, 422, 422, &["partition_count"]),
    ("POST", "/admin/topics", JSON, r#"{"topic_name":7}"#, 400, 400, &["line 1 column "]),
    ("POST", "/admin/topics", JSON, "", 422, 422, &["empty"]),
    ("GET", "/topics/x", NONE, "", 404, 40403, &["x"]),
];

/// A topic of two partitions and three instances: idle and subscribed to t in one group, assigned
/// to t-0 in another, because a group with members refuses commits of others.
fn prepared() -> (tempfile::TempDir, Server) {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::on(dir.path());
    server.create_topic("t", 2, &[]);
    let mut http = server.http();
    for (group, name) in [("g", "idle"), ("g", "subscribed"), ("h", "assigned")] {
        let path = format!("/consumers/{group}");
        let answer = http.post(&path, &json!({ "name": name, "format": "json" }));
        assert_eq!(answer.status, 200, "{answer}");
    }
    let partitions = json!({ "partitions": [{ "topic": "t", "partition": 0 }] });
    let assigned = http.post("/consumers/h/instances/assigned/assignments", &partitions);
    assert_eq!(assigned.status, 204, "{assigned}");
    let topics = json!({ "topics": ["t"] });
    let subscribed = http.post("/consumers/g/instances/subscribed/subscription", &topics);
    assert_eq!(subscribed.status, 204, "{subscribed}");
    (dir, server)
}

/// What is wrong with an answer, if anything.
fn fault(row: &Row, answer: &Answer) -> Option<String> {
    let (.., status, code, words) = row;
    if answer.status != *status {
        return Some(format!("status {} instead of {status}", answer.status));
    }
    if *status < 400 {
        return None;
    }
    let content_type = answer.header("content-type").unwrap_or_default();
    if !content_type.starts_with("application/") || !content_type.ends_with("json") {
        return Some(format!("content type '{content_type}'"));
    }
    let text = answer.text();
    let Ok(serde_json::Value::Object(body)) = serde_json::from_slice(&answer.body) else {
        return Some("the body is no JSON object".to_owned());
    };
    if body.len() != 2 || !text.starts_with("{\"error_code\":") || !body["message"].is_string() {
        return Some("the body is not error_code and message".to_owned());
    }
    if body["error_code"] != *code {
        return Some(format!("code {} instead of {code}", body["error_code"]));
    }
    let message = body["message"].as_str().unwrap();
    let missing = words.iter().find(|word| !message.contains(**word));
    missing.map(|word| format!("the text does not name '{word}'"))
}

/// Sends every row on one connection, so that a refusal must leave it usable.
fn check(rows: &[Row]) {
    let (_dir, mut server) = prepared();
    let mut http = server.http();
    let mut broken = Vec::new();
    for row in rows {
        let (method, path, headers, body, ..) = row;
        let answer = http.send(method, path, headers, body.as_bytes()).unwrap_or_else(|error| {
            server.assert_alive();
            panic!("{method} {path} {body}: {error}")
        });
        if let Some(fault) = fault(row, &answer) {
            broken.push(format!("{method} {path} {headers:?} {body}\n  {fault}: {answer}"));
        }
    }
    server.assert_alive();
    assert!(broken.is_empty(), "{} of {} rows:\n{}", broken.len(), rows.len(), broken.join("\n"));
}

#[test]
fn routes_methods_and_media_types() {
    check(ROUTES);
}

#[test]
fn topics_partitions_and_produce() {
    check(PRODUCE);
}

#[test]
fn consumer_instances() {
    check(CONSUMERS);
}

#[test]
fn administration() {
    check(ADMIN);
}

#[test]
fn one_record_that_cannot_be_placed_does_not_hurt_the_others() {
    let (_dir, server) = prepared();
    let records = json!({ "records": [
        { "value": 1, "partition": 0 },
        { "value": 2, "partition": 9 },
        { "value": 3, "partition": 1 },
    ] });
    let answer = server.http().post("/topics/t", &records);
    assert_eq!(answer.status, 200, "{answer}");
    let json = answer.json();
    assert_eq!(json["offsets"][0]["offset"], 0, "{json}");
    assert_eq!(json["offsets"][0]["error_code"], json!(null), "{json}");
    assert_eq!(json["offsets"][1]["error_code"], 40402, "{json}");
    assert_eq!(json["offsets"][1]["offset"], json!(null), "{json}");
    assert_eq!(json["offsets"][2]["partition"], 1, "{json}");
}

#[test]
fn a_record_above_the_topics_limit_fails_alone() {
    let (_dir, server) = prepared();
    server.create_topic("small", 1, &[("max.message.bytes", "1000")]);
    let records = json!({ "records": [{ "value": "a" }, { "value": "x".repeat(2000) }] });
    let answer = server.http().post("/topics/small", &records);
    assert_eq!(answer.status, 200, "{answer}");
    let codes: Vec<_> = answer.json()["offsets"].as_array().unwrap().clone();
    assert_eq!(codes[1]["error_code"], 50002, "{answer}");
}

/// One byte more than the door accepts.
const TOO_LARGE: usize = 64 * 1024 * 1024 + 1;

fn expect_413(answer: &Answer) {
    let row: Row = ("POST", "/topics/t", JSON, "", 413, 413, &["67108864"]);
    assert_eq!(fault(&row, answer), None, "{answer}");
}

#[test]
fn a_body_that_announces_too_much_is_refused_before_it_is_sent() {
    let (_dir, server) = prepared();
    let mut http = server.http();
    let length = TOO_LARGE.to_string();
    let headers = [("content-type", "application/json"), ("content-length", length.as_str())];
    let head = http.head("POST", "/topics/t", &headers) + "\r\n";
    http.write(head.as_bytes()).unwrap();
    expect_413(&http.answer().unwrap());
    // The next client does not notice.
    assert_eq!(server.http().get("/topics/t").status, 200);
}

#[test]
fn a_client_that_sends_all_of_it_first_still_reads_the_refusal() {
    let (_dir, server) = prepared();
    let length = TOO_LARGE.to_string();
    let headers = [("content-type", "application/json"), ("content-length", length.as_str())];
    let mut http = server.http();
    let head = http.head("POST", "/topics/t", &headers) + "\r\n";
    http.write(head.as_bytes()).unwrap();
    for _ in 0..64 {
        http.write(&vec![b' '; 0x10_0000]).unwrap();
    }
    http.write(b" ").unwrap();
    expect_413(&http.answer().unwrap());
}

#[test]
fn a_chunked_body_is_refused_when_it_becomes_too_large() {
    let (_dir, server) = prepared();
    let stream = std::net::TcpStream::connect(server.http).unwrap();
    let mut sender = stream.try_clone().unwrap();
    let sending = std::thread::spawn(move || {
        let head = "POST /topics/t HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
            transfer-encoding: chunked\r\n\r\n";
        sender.write_all(head.as_bytes()).unwrap();
        let chunk = [b"100000\r\n".as_slice(), &vec![b' '; 0x10_0000], b"\r\n"].concat();
        // The server may close before it has read everything.
        (0..=64).take_while(|_| sender.write_all(&chunk).is_ok()).count()
    });
    let answer = Http::adopt(stream).answer().unwrap();
    expect_413(&answer);
    assert!(sending.join().unwrap() >= 63, "refused too early");
    assert_eq!(server.http().get("/topics/t").status, 200);
}
