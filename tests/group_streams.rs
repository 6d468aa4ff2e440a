//! Groups over HTTP without a create step: streams, acknowledgements and reads, over real sockets.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use common::sse::{Event, until};
use common::{Serve, Server, Sse};
use serde_json::{Value, json};

fn produce(server: &Server, values: std::ops::Range<i64>) {
    let records: Vec<Value> = values.map(|n| json!({"value": n, "partition": n % 2})).collect();
    let answer = server.http().post("/topics/t", &json!({"records": records}));
    assert_eq!(answer.status, 200, "{}", answer.text());
}

fn create(server: &Server) {
    let answer =
        server.http().post("/admin/topics", &json!({"topic_name": "t", "partitions_count": 2}));
    assert_eq!(answer.status, 201, "{}", answer.text());
}

fn value(event: &Event) -> i64 {
    let record: Value = serde_json::from_str(&event.data).unwrap();
    record["value"].as_i64().unwrap()
}

fn values(stream: &mut Sse, count: usize) -> Vec<i64> {
    let mut values: Vec<i64> = (0..count).map(|_| value(&stream.record())).collect();
    values.sort_unstable();
    values
}

fn generation(event: &Event) -> i64 {
    let data: Value = serde_json::from_str(&event.data).unwrap();
    data["generation"].as_i64().unwrap()
}

/// What is committed, by an acknowledgement of what was acknowledged before.
fn committed(server: &Server, member: &str, cursor: &str) -> i64 {
    let path = format!("/consumers/g/acks?member={member}");
    let answer = server.http().post(&path, &json!({"cursor": cursor})).json();
    answer["acks"].as_array().unwrap().iter().map(|ack| ack["committed"].as_i64().unwrap()).sum()
}

#[test]
fn a_member_of_many_partitions_acknowledges_by_cursor() {
    let dir = tempfile::tempdir().unwrap();
    let server = Serve::on(dir.path()).start();
    let topic = json!({"topic_name": "t", "partitions_count": 600});
    assert_eq!(server.http().post("/admin/topics", &topic).status, 201);
    produce(&server, 0..12);
    let path = "/consumers/g/stream?topics=t&from=earliest&member=m&ack=explicit&max_unacked=4";
    let mut stream = Sse::open(server.http, path, &[]);
    let mut got = Vec::new();
    // The window opens only if the cursor says everything that was sent.
    for round in 1..=3 {
        got.extend((0..3).map(|_| value(&stream.record())));
        let last = stream.record();
        got.push(value(&last));
        assert!(last.id.starts_with("2."), "{last:?}");
        assert_eq!(committed(&server, "m", &last.id), round * 4);
    }
    got.sort_unstable();
    assert_eq!(got, (0..12).collect::<Vec<_>>());
    let unknown = json!({"cursor": "2.AAAAAAAAAAAAAAAAAAAAAQ.3"});
    assert_eq!(server.http().post("/consumers/g/acks?member=m", &unknown).status, 410);
}

#[test]
fn a_stream_is_acknowledged_and_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let server = Serve::on(dir.path()).start();
    create(&server);
    produce(&server, 0..10);
    let path = "/consumers/g/stream?topics=t&from=earliest&member=m&ack=explicit&max_unacked=4";
    let mut stream = Sse::open(server.http, path, &[]);
    assert_eq!(stream.head.header("stream-member"), Some("m"));
    let first = generation(&until(&mut stream, "assigned"));
    let got = values(&mut stream, 4);
    let last = stream.record_id();
    // The window is full: the next event is a record only after this.
    let acks = server.http().post("/consumers/g/acks?member=m", &json!({"cursor": last})).json();
    assert_eq!(acks["acks"].as_array().unwrap().len(), 2, "{acks}");
    let rest = values(&mut stream, 4);
    assert!(got.iter().all(|n| !rest.contains(n)), "{got:?} {rest:?}");
    drop(stream);
    // Not acknowledged, so it comes again, in the same generation.
    let mut stream = Sse::open(server.http, path, &[]);
    assert_eq!(generation(&until(&mut stream, "assigned")), first);
    let rest = values(&mut stream, 4);
    assert!(got.iter().all(|n| !rest.contains(n)), "{got:?} {rest:?}");
    let id = stream.record_id();
    // A reconnect with Last-Event-ID acknowledges, and fences the connection before.
    let mut newer = Sse::open(server.http, path, &[("last-event-id", &id)]);
    let fault = until(&mut stream, "fault");
    assert!(fault.data.contains("fenced"), "{}", fault.data);
    let mut all = [got, rest, values(&mut newer, 2)].concat();
    all.sort_unstable();
    assert_eq!(all, (0..10).collect::<Vec<_>>());
    server.stop();
}

#[test]
fn a_limit_counts_over_reconnects() {
    let dir = tempfile::tempdir().unwrap();
    let server = Serve::on(dir.path()).start();
    create(&server);
    produce(&server, 0..12);
    let path = "/consumers/g/stream?topics=t&from=earliest&member=m&ids=each&limit=7";
    let mut stream = Sse::open(server.http, path, &[]);
    let mut got: Vec<i64> = (0..2).map(|_| value(&stream.record())).collect();
    let last = stream.record();
    got.push(value(&last));
    drop(stream);
    let mut stream = Sse::open(server.http, path, &[("last-event-id", &last.id)]);
    let end = loop {
        let event = stream.try_next().unwrap().expect("the stream goes on to its end");
        match event.name.as_str() {
            // Its cursor would have no positions, and replace the client's.
            "ready" => assert_eq!(event.id, ""),
            "" => got.push(value(&event)),
            "end" => break event,
            _ => {}
        }
    };
    assert!(end.data.contains("limit"), "{end:?}");
    assert_eq!(got.len(), 7, "{got:?}");
    got.sort_unstable();
    got.dedup();
    assert_eq!(got.len(), 7, "{got:?}");
    let over = server.http().send("GET", path, &[("last-event-id", &end.id)], b"").unwrap();
    assert_eq!(over.status, 204, "{}", over.text());
    server.stop();
}

#[test]
fn a_killed_server_keeps_members_and_acknowledgements() {
    let dir = tempfile::tempdir().unwrap();
    let server = Serve::on(dir.path()).start();
    create(&server);
    produce(&server, 0..6);
    let path = "/consumers/g/stream?topics=t&from=earliest&member=m&ack=explicit";
    let mut stream = Sse::open(server.http, path, &[]);
    let before = generation(&until(&mut stream, "assigned"));
    values(&mut stream, 6);
    let id = stream.record_id();
    server.kill();
    let server = Serve::on(dir.path()).start();
    produce(&server, 6..8);
    let mut stream = Sse::open(server.http, path, &[("last-event-id", &id)]);
    assert_eq!(generation(&until(&mut stream, "assigned")), before);
    assert_eq!(values(&mut stream, 2), [6, 7]);
    assert_eq!(committed(&server, "m", &id), 6);
    let left = server.http().delete("/consumers/g/stream/m");
    assert_eq!(left.status, 204);
    assert!(until(&mut stream, "fault").data.contains("left"));
    server.stop();
}

#[test]
fn reads_by_cursor_repeat_and_survive() {
    let dir = tempfile::tempdir().unwrap();
    let server = Serve::on(dir.path()).start();
    create(&server);
    produce(&server, 0..10);
    let read = |server: &Server, after: &str| {
        let path =
            format!("/consumers/g/records?topics=t&from=earliest&max=4&wait=20s&after={after}");
        let answer = server.http().get(&path);
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    };
    let first = read(&server, "");
    assert_eq!(read(&server, ""), first);
    let cursor = first["cursor"].as_str().unwrap().to_owned();
    let second = read(&server, &cursor);
    assert_eq!(committed(&server, "records", &cursor), 4);
    server.kill();
    let server = Serve::on(dir.path()).start();
    assert_eq!(read(&server, &cursor), second);
    let third = read(&server, second["cursor"].as_str().unwrap());
    let records = [&first, &second, &third].map(|page| page["records"].as_array().unwrap().clone());
    let mut values: Vec<i64> =
        records.concat().iter().map(|record| record["value"].as_i64().unwrap()).collect();
    values.sort_unstable();
    assert_eq!(values, (0..10).collect::<Vec<_>>());
    server.stop();
}

#[test]
fn a_group_may_begin_by_count_time_or_cursor() {
    let dir = tempfile::tempdir().unwrap();
    let server = Serve::on(dir.path()).start();
    create(&server);
    produce(&server, 0..10);
    let first = server.http().get("/topics/t/records?from=earliest&limit=1").json();
    let time = first["records"][0]["timestamp"].as_i64().unwrap();
    for (group, from, expected) in [
        ("last", "from=-2".to_owned(), (6..10).collect::<Vec<_>>()),
        ("all", "from=-900".to_owned(), (0..10).collect()),
        ("time", format!("since={time}"), (0..10).collect()),
        ("date", "from=1970-01-01T00:00:00Z".to_owned(), (0..10).collect()),
        ("word", "from=latest&last_event_id=earliest".to_owned(), (0..10).collect()),
    ] {
        let path = format!("/consumers/{group}/stream?topics=t&ack=explicit&member=m&{from}");
        let mut stream = Sse::open(server.http, &path, &[]);
        assert_eq!(values(&mut stream, expected.len()), expected, "{from}");
        let path = format!("/consumers/{group}-read/records?topics=t&ack=none&wait=20s&{from}");
        if !from.contains("last_event_id") {
            let read = server.http().get(&path).json();
            let read = read["records"].as_array().unwrap().iter();
            let mut read: Vec<_> = read.map(|record| record["value"].as_i64().unwrap()).collect();
            read.sort_unstable();
            assert_eq!(read, expected, "{from}");
        }
    }
    // Nothing is older than the future: only what comes from now on.
    let path = "/consumers/future/stream?topics=t&from=2999-01-01T00:00:00Z&member=m";
    let mut stream = Sse::open(server.http, path, &[]);
    until(&mut stream, "caught-up");
    produce(&server, 10..12);
    assert_eq!(values(&mut stream, 2), [10, 11]);
    // A start by offset is a cursor.
    let positions = json!([{"topic": "t", "partition": 0, "offset": 4},
        {"topic": "t", "partition": 1, "offset": "latest"}]);
    let answer = server.http().post("/cursors:encode", &json!({"positions": positions}));
    let cursor = answer.json()["cursor"].as_str().unwrap().to_owned();
    let path = "/consumers/cursor/stream?topics=t&from=latest&member=m";
    let mut stream = Sse::open(server.http, path, &[("last-event-id", &cursor)]);
    assert_eq!(values(&mut stream, 2), [8, 10]);
    // What is committed goes before every start, also over a restart.
    let path = "/consumers/last/stream?topics=t&ack=explicit&from=-900";
    let mut stream = Sse::open(server.http, &format!("{path}&member=m"), &[]);
    assert_eq!(values(&mut stream, 6), [6, 7, 8, 9, 10, 11]);
    server.stop();
    let server = Serve::on(dir.path()).start();
    let mut stream = Sse::open(server.http, &format!("{path}&member=m"), &[]);
    assert_eq!(values(&mut stream, 6), [6, 7, 8, 9, 10, 11]);
    server.stop();
}

#[test]
fn refusals_say_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let server = Serve::on(dir.path()).start();
    create(&server);
    for (path, status, part) in [
        ("/consumers/g/stream", 400, "topics or pattern"),
        ("/consumers/g/stream?topics=t&partitions=0", 400, "partitions is not possible"),
        ("/consumers/g/stream?topics=t&until=end", 400, "until is not possible"),
        ("/consumers/g/stream?topics=t&ack=x", 400, "ack 'x'"),
        ("/consumers/g/stream?topics=t&max_unacked=0", 400, "max_unacked '0'"),
        ("/consumers/g/stream?topics=t&ack_timeout=x", 400, "ack_timeout 'x'"),
        ("/consumers/g/stream?topics=t&from=x", 400, "from 'x'"),
        ("/consumers/g/stream?topics=t&from=-", 400, "from '-'"),
        ("/consumers/g/stream?topics=t&from=-5&since=0", 400, "since '0'"),
        ("/consumers/g/stream?topics=t&from=offset:0=5", 400, "POST /cursors:encode"),
        ("/consumers/g/records?topics=t&from=offset:0=5", 400, "offsets:reset"),
        ("/consumers/g/records?topics=t&from=2026-13", 400, "from '2026-13'"),
        ("/consumers/g/stream?topics=t&member=a&member=b", 400, "member 'b' is given twice"),
        ("/consumers/g/stream?topics=t&colour=x", 400, "colour 'x'"),
        ("/consumers/g/stream?pattern=(", 422, "pattern"),
        ("/consumers/g/records?topics=t&after=x", 400, "after 'x'"),
    ] {
        let answer = server.http().get(path);
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
        assert!(answer.text().contains(part), "{path}: {}", answer.text());
    }
    for (path, body, status, part) in [
        ("/consumers/g/acks", json!({"offsets": []}), 400, "member is missing"),
        ("/consumers/g/acks?member=m", json!({}), 400, "cursor or offsets"),
        ("/consumers/g/acks?member=m", json!({"cursor": "x"}), 400, "cursor 'x'"),
        ("/consumers/g/acks?member=m", json!({"offsets": []}), 404, "member 'm'"),
        ("/consumers/g/acks", json!({"colour": 1}), 422, "colour"),
    ] {
        let answer = server.http().post(path, &body);
        assert_eq!(answer.status, status, "{path} {body}: {}", answer.text());
        assert!(answer.text().contains(part), "{path}: {}", answer.text());
    }
    server.stop();
}
