//! What streams look like from outside: filters, shapes, lines and batches.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use common::{PATIENCE, Server};
use serde_json::{Value, json};

/// Asks for a stream that comes to an end by itself and returns its head and its body.
fn fetch(server: &Server, path: &str, accept: &str) -> (String, String) {
    let mut socket = TcpStream::connect(server.http).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(socket, "GET {path} HTTP/1.0\r\nhost: x\r\naccept: {accept}\r\n\r\n").unwrap();
    let mut answer = String::new();
    BufReader::new(socket).read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_lowercase(), body.to_owned())
}

fn lines(body: &str) -> Vec<Value> {
    body.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Offsets of the records among lines.
fn offsets(lines: &[Value]) -> Vec<i64> {
    let of = |line: &Value| line["offset"].as_i64();
    lines.iter().filter(|line| line.get("@").is_none()).filter_map(of).collect()
}

fn orders(server: &Server) {
    server.create_topic("orders", 1, &[]);
    let records: Vec<_> = (0..10)
        .map(|n| {
            let kind = if n % 2 == 0 { "ZXZlbg==" } else { "b2Rk" };
            json!({
                "key": format!("user-{}", n % 3), "value": {"id": n, "user": {"name": "Ada"}},
                "headers": [{"key": "kind", "value": kind}],
            })
        })
        .collect();
    let answer = server.http().post("/topics/orders", &json!({ "records": records }));
    assert_eq!(answer.status, 200, "{answer}");
}

#[test]
fn filters_are_seen_from_outside() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::on(dir.path());
    orders(&server);
    // Keys that were produced as JSON have their quotes.
    let found = |query: &str| {
        let path = format!("/topics/orders/stream?from=earliest&until=end&{query}");
        offsets(&lines(&fetch(&server, &path, "application/x-ndjson").1))
    };
    assert_eq!(found(""), (0..10).collect::<Vec<_>>());
    assert_eq!(found("key=%22user-1%22&key=%22user-2%22"), [1, 2, 4, 5, 7, 8]);
    assert_eq!(found("key_prefix=%22user-2"), [2, 5, 8]);
    assert_eq!(found("header.kind=even&key=%22user-0%22"), [0, 6]);
    assert_eq!(found("header.kind!=even"), [1, 3, 5, 7, 9]);
    assert_eq!(found("filter=value.id%20%3E%206%20%26%26%20headers.kind%20==%20'odd'"), [7, 9]);
    // A limit counts what is delivered.
    assert_eq!(found("key=%22user-2%22&limit=2"), [2, 5]);
    let (head, body) = fetch(&server, "/topics/orders/stream?filter=value.id%20==", "*/*");
    assert!(head.starts_with("http/1.0 400") || head.starts_with("http/1.1 400"), "{head}");
    assert!(body.contains("line 1, column "), "{body}");
}

#[test]
fn a_filtered_stream_checkpoints_and_tells_what_it_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::on(dir.path());
    orders(&server);
    let filter = "filter=value.nope%20==%201%20%7C%7C%20value.id%20%3C%200";
    let path = format!("/topics/orders/stream?from=earliest&heartbeat=1&format=ndjson&{filter}");
    let mut socket = TcpStream::connect(server.http).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(socket, "GET {path} HTTP/1.0\r\nhost: x\r\n\r\n").unwrap();
    let ping = BufReader::new(socket)
        .lines()
        .map(|line| line.unwrap())
        .find(|line| line.starts_with("{\"@\":\"ping\""))
        .unwrap();
    let ping: Value = serde_json::from_str(&ping).unwrap();
    assert_eq!((&ping["filtered"], &ping["filter_errors"]), (&json!(10), &json!(10)));
    // The cursor of the ping is behind all of them.
    let cursor = ping["cursor"].as_str().unwrap();
    let path = format!("/topics/orders/stream?until=end&format=ndjson&last_event_id={cursor}");
    let rest = lines(&fetch(&server, &path, "*/*").1);
    assert!(offsets(&rest).is_empty());
    assert_eq!(rest[0]["resume"], "exact");
}

#[test]
fn the_protocol_is_negotiated() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::on(dir.path());
    orders(&server);
    let path = "/topics/orders/stream?from=earliest&until=end";
    for (query, accept, expected) in [
        ("", "*/*", "text/event-stream"),
        ("", "application/jsonl", "application/x-ndjson"),
        ("", "text/event-stream;q=0.5, application/x-ndjson", "application/x-ndjson"),
        ("&format=ndjson", "text/event-stream", "application/x-ndjson"),
        ("&format=sse", "application/x-ndjson", "text/event-stream"),
    ] {
        let (head, body) = fetch(&server, &format!("{path}{query}"), accept);
        assert!(head.contains(&format!("content-type: {expected}")), "{accept}: {head}");
        assert!(head.contains("stream-cursor: 1."), "{head}");
        if expected == "application/x-ndjson" {
            let lines = lines(&body);
            assert_eq!((&lines[0]["@"], &lines[11]["@"]), (&json!("ready"), &json!("end")));
            assert_eq!(lines.len(), 12, "{body}");
        }
    }
    assert!(fetch(&server, path, "application/json").0.contains(" 406 "));
}

#[test]
fn shapes_are_seen_from_outside() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::on(dir.path());
    orders(&server);
    let get = |query: &str| {
        let path = format!("/topics/orders/stream?from=earliest&until=end&{query}");
        fetch(&server, &path, "*/*").1
    };
    let values = get("format=ndjson&data=value&select=/user/name&limit=2");
    assert_eq!(values, "{\"user\":{\"name\":\"Ada\"}}\n{\"user\":{\"name\":\"Ada\"}}\n");
    let batches = get("format=ndjson&data=value&select=/id&batch=4");
    assert_eq!(
        batches,
        "[{\"id\":0},{\"id\":1},{\"id\":2},{\"id\":3}]\n\
         [{\"id\":4},{\"id\":5},{\"id\":6},{\"id\":7}]\n[{\"id\":8},{\"id\":9}]\n"
    );
    let text = get("event=header:kind&data=value&select=/id&limit=2");
    assert!(text.contains("event: even\nid: 1."), "{text}");
    assert!(text.contains("event: odd\nid: 1.") && text.contains("data: {\"id\":1}\n\n"), "{text}");
    let text = get("batch=3&numbers=string&limit=4");
    let batches: Vec<_> = text.split("\n\n").filter(|e| e.contains("event: batch\n")).collect();
    assert_eq!(batches.len(), 2, "{text}");
    assert!(batches[0].contains("\ndata: [{\"topic\":\"orders\""), "{text}");
    assert!(batches[1].contains("\"offset\":\"3\""), "{text}");
    let events = lines(&get("format=ndjson&data=cloudevent&limit=1"));
    assert_eq!((&events[1]["id"], &events[1]["data"]["id"]), (&json!("orders/0/0"), &json!(0)));
    for (query, part) in [("decode=avro", "schema registry"), ("select=id", "JSON Pointer")] {
        let refused = fetch(&server, &format!("/topics/orders/stream?{query}"), "*/*");
        assert!(refused.0.contains(" 400 ") && refused.1.contains(part), "{query}: {}", refused.1);
    }
}

#[test]
fn lines_continue_where_they_were_cut() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::on(dir.path());
    orders(&server);
    let path = "/topics/orders/stream?from=earliest&until=end&format=ndjson&ids=each";
    let all = lines(&fetch(&server, path, "*/*").1);
    let cursors: Vec<_> = all.iter().filter(|line| line["@"] == "cursor").collect();
    assert_eq!(cursors.len(), 10);
    for (at, cursor) in (0..).zip(cursors) {
        let cursor = cursor["cursor"].as_str().unwrap();
        let rest = lines(&fetch(&server, &format!("{path}&lastEventId={cursor}"), "*/*").1);
        assert_eq!(offsets(&rest), (at + 1..10).collect::<Vec<_>>(), "after {at}");
    }
}
