//! Cursors as people read and write them: `POST /cursors:decode` and `POST /cursors:encode`.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use common::{Answer, Server, Sse};
use serde_json::{Value, json};

fn decode(server: &Server, cursor: &str) -> Value {
    let answer = server.http().post("/cursors:decode", &json!({ "cursor": cursor }));
    assert_eq!(answer.status, 200, "{answer}");
    answer.json()
}

fn try_encode(server: &Server, body: &Value) -> Answer {
    server.http().post("/cursors:encode", body)
}

fn encode(server: &Server, body: &Value) -> String {
    let answer = try_encode(server, body);
    assert_eq!(answer.status, 200, "{answer}");
    answer.json()["cursor"].as_str().unwrap().to_owned()
}

/// Topic, partition, next offset and state of every position.
fn places(decoded: &Value) -> Vec<(String, i64, i64, String)> {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let place = |p: &Value| {
        let (partition, offset) = (p["partition"].as_i64().unwrap(), p["offset"].as_i64().unwrap());
        (text(&p["topic"]), partition, offset, text(&p["state"]))
    };
    decoded["positions"].as_array().unwrap().iter().map(place).collect()
}

fn at(topic: &str, partition: i64, offset: i64, state: &str) -> (String, i64, i64, String) {
    (topic.to_owned(), partition, offset, state.to_owned())
}

/// The values that a stream sends until it ends.
fn values(server: &Server, path: &str, cursor: &str) -> Vec<String> {
    let mut stream = Sse::open(server.http, path, &[("last-event-id", cursor)]);
    let mut values = Vec::new();
    while let Some(event) = stream.try_next().unwrap() {
        if event.name.is_empty() {
            let record: Value = serde_json::from_str(&event.data).unwrap();
            values.push(record["value"].as_str().unwrap().to_owned());
        }
    }
    values
}

fn two_topics() -> (tempfile::TempDir, Server) {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::on(dir.path());
    server.create_topic("orders", 2, &[]);
    server.create_topic("payments", 1, &[]);
    server.produce("orders", 0, &["a0", "a1", "a2"]);
    server.produce("orders", 1, &["b0"]);
    server.produce("payments", 0, &["p0", "p1"]);
    (dir, server)
}

#[test]
fn what_is_encoded_is_decoded_and_used() {
    let (_dir, server) = two_topics();
    let cursor = encode(
        &server,
        &json!({
            "positions": [
                {"topic": "payments", "partition": 0, "offset": "earliest"},
                {"topic": "orders", "partition": 1, "offset": "latest"},
                {"topic": "orders", "partition": 0, "offset": 1},
            ],
            "isolation": "read_uncommitted", "limit": 3, "max_bytes": 9000,
        }),
    );
    assert!(cursor.starts_with("1."), "{cursor}");
    let decoded = decode(&server, &cursor);
    assert_eq!(
        places(&decoded),
        [at("orders", 0, 1, "exact"), at("orders", 1, 1, "exact"), at("payments", 0, 0, "exact")]
    );
    for (field, value) in [
        ("version", json!(1)),
        ("done", json!(false)),
        ("this_cluster", json!(true)),
        ("isolation", json!("read_uncommitted")),
        ("limit", json!(3)),
        ("max_bytes", json!(9000)),
    ] {
        assert_eq!(decoded[field], value, "{field}: {decoded}");
    }
    let position = &decoded["positions"][0];
    assert_eq!((&position["earliest"], &position["latest"]), (&json!(0), &json!(3)));

    // A stream of several topics, one of the topic, a read, and a stream of a group.
    let mut all = values(&server, "/stream?topics=orders,payments&until=end", &cursor);
    all.sort();
    assert_eq!(all, ["a1", "a2", "p0", "p1"]);
    let limited = "/stream?topics=orders,payments&until=end&limit=10";
    assert_eq!(values(&server, limited, &cursor).len(), 3, "the rest of the cursor's limit");
    assert_eq!(values(&server, "/topics/orders/stream?until=end", &cursor), ["a1", "a2"]);
    let read = server.http().get(&format!("/topics/orders/records?after={cursor}"));
    assert_eq!(read.status, 200, "{read}");
    assert!(read.text().contains("a1") && !read.text().contains("a0"), "{read}");
    let group = "/consumers/g/stream?topics=orders&from=latest&member=m";
    let mut stream = Sse::open(server.http, group, &[("last-event-id", &cursor)]);
    assert!(stream.record().data.contains("\"a1\""));

    // Also the other way: what a stream sent says where it was.
    let mut stream = Sse::open(server.http, "/topics/orders/stream?partitions=0&from=-2", &[]);
    let record = stream.record();
    assert_eq!(places(&decode(&server, &record.id)), [at("orders", 0, 2, "exact")]);
    let end = "/topics/orders/stream?from=earliest&until=end&limit=1";
    let mut stream = Sse::open(server.http, end, &[]);
    while stream.try_next().unwrap().is_some() {}
    let decoded = decode(&server, &stream.record_id());
    assert_eq!((&decoded["done"], &decoded["limit"]), (&json!(true), &json!(0)), "{decoded}");
}

#[test]
fn times_are_looked_up_for_all_partitions() {
    let (_dir, server) = two_topics();
    let first = server.http().get("/topics/orders/records?from=earliest&limit=1").json();
    let written = first["records"][0]["timestamp"].as_i64().unwrap();
    for (timestamp, expected) in [
        (json!(0), [0, 0]),
        (json!("1970-01-01T00:00:00Z"), [0, 0]),
        (json!(written + 3_600_000), [3, 1]),
        (json!("2999-01-01T00:00:00+02:00"), [3, 1]),
    ] {
        let body = json!({ "positions": [{ "topic": "orders", "timestamp": timestamp }] });
        let decoded = decode(&server, &encode(&server, &body));
        let [first, second] = expected;
        let expected = [at("orders", 0, first, "exact"), at("orders", 1, second, "exact")];
        assert_eq!(places(&decoded), expected, "{timestamp}");
        assert_eq!(decoded["isolation"], "read_committed");
    }
    let both = json!({ "topic": "orders", "partition": 0, "offset": 2, "timestamp": 0 });
    let decoded = decode(&server, &encode(&server, &json!({ "positions": [both] })));
    assert_eq!(places(&decoded), [at("orders", 0, 2, "exact")], "an offset goes before a time");
}

#[test]
fn refusals_name_field_and_value() {
    let (_dir, server) = two_topics();
    let one = |position: Value| json!({ "positions": [position] });
    let twice = json!([{ "topic": "orders", "offset": "earliest" },
        { "topic": "orders", "partition": 1, "offset": 0 }]);
    let entry = |_| json!({ "topic": "orders", "partition": 0, "offset": 0 });
    let many: Vec<_> = (0..4097).map(entry).collect();
    for (body, status, part) in [
        (json!({}), 422, "positions"),
        (json!({ "positions": [] }), 422, "positions is empty"),
        (json!({ "positions": many }), 422, "4097 positions"),
        (json!({ "positions": twice }), 422, "positions[1]: partition 1 of topic 'orders'"),
        (one(json!({ "topic": "orders", "partition": 0 })), 422, "positions[0]: offset or"),
        (one(json!({ "topic": "orders", "offset": 1 })), 422, "positions[0].offset '1'"),
        (one(json!({ "topic": "orders", "partition": 0, "offset": -1 })), 422, "offset '-1'"),
        (one(json!({ "topic": "orders", "partition": 0, "offset": "x" })), 422, "offset 'x'"),
        (one(json!({ "topic": "orders", "partition": 0, "offset": 4 })), 422, "offset '4'"),
        (one(json!({ "topic": "orders", "timestamp": "x" })), 422, "timestamp 'x'"),
        (one(json!({ "topic": "orders", "timestamp": -1 })), 422, "timestamp '-1'"),
        (one(json!({ "topic": "orders", "colour": 1 })), 422, "colour"),
        (one(json!({ "topic": "no", "offset": "latest" })), 404, "topic 'no'"),
        (one(json!({ "topic": "orders", "partition": 2, "offset": 0 })), 404, "partition 2"),
        (one(json!({ "topic": "orders", "partition": -1, "offset": 0 })), 404, "partition -1"),
    ] {
        let answer = try_encode(&server, &body);
        assert_eq!(answer.status, status, "{body}: {answer}");
        assert!(answer.text().contains(part), "{answer}");
    }
    let position = json!([{ "topic": "orders", "partition": 0, "offset": 0 }]);
    for (field, value) in [("isolation", json!("x")), ("limit", json!(0)), ("max_bytes", json!(0))]
    {
        let mut body = json!({ "positions": position });
        body[field] = value;
        let answer = try_encode(&server, &body);
        assert_eq!(answer.status, 422, "{answer}");
        assert!(answer.text().contains(field), "{answer}");
    }
    for (body, status, part) in [
        (json!({}), 422, "cursor"),
        (json!({ "cursor": 1 }), 400, "invalid type"),
        (json!({ "cursor": "" }), 400, "cursor '' is not a cursor"),
        (json!({ "cursor": "1.AQABAgMEBwIA_gEB2ATrXA" }), 400, "damaged"),
        (json!({ "cursor": "2.AAAA.1" }), 400, "damaged"),
        (json!({ "cursor": "2.AAAAAAAAAAAAAAAAAAAAAA.0" }), 410, "not kept any more"),
        (json!({ "cursor": "x".repeat(5000) }), 400, "longer than"),
    ] {
        let answer = server.http().post("/cursors:decode", &body);
        assert_eq!(answer.status, status, "{answer}");
        assert!(answer.text().contains(part), "{answer}");
    }
    // No other route takes these paths, and these take nothing but POST.
    assert_eq!(server.http().get("/cursors:decode").status, 405);
    assert_eq!(server.http().post("/cursors", &json!({})).status, 404);
}

#[test]
fn positions_that_mean_nothing_any_more_are_told() {
    let (_dir, server) = two_topics();
    let body = json!({ "positions": [{ "topic": "orders", "partition": 0, "offset": 2 },
        { "topic": "payments", "offset": "latest" }] });
    let cursor = encode(&server, &body);
    let gone = decode(&server, &cursor)["positions"][0]["incarnation"].as_u64().unwrap();

    // Another cluster knows nothing of it, whatever the numbers say.
    let (_other_dir, other) = two_topics();
    let foreign = decode(&other, &cursor);
    assert_eq!(foreign["this_cluster"], false);
    assert_eq!(places(&foreign), [at("-", 0, 2, "foreign"), at("-", 0, 2, "foreign")]);

    assert_eq!(server.http().delete("/admin/topics/orders").status, 204);
    server.create_topic("orders", 2, &[]);
    let decoded = decode(&server, &cursor);
    assert_eq!(places(&decoded), [at("-", 0, 2, "deleted"), at("payments", 0, 2, "exact")]);
    assert_eq!(decoded["positions"][0]["incarnation"], gone);

    // Records that are deleted before it.
    server.produce("orders", 0, &["c0", "c1", "c2"]);
    let old = encode(
        &server,
        &json!({ "positions": [{ "topic": "orders", "partition": 0, "offset": 1 }] }),
    );
    let delete = json!({ "partitions": [{ "partition": 0, "before_offset": 2 }] });
    let deleted = server.http().post("/admin/topics/orders/records:delete", &delete);
    assert_eq!(deleted.status, 200, "{deleted}");
    let decoded = decode(&server, &old);
    assert_eq!(places(&decoded), [at("orders", 0, 1, "retention")]);
    assert_eq!(decoded["positions"][0]["earliest"], 2);
    // Who writes such a position knows of it: it stands for a gap, not for an error.
    let again = json!({ "positions": [{ "topic": "orders", "partition": 0, "offset": 1 }] });
    assert_eq!(
        values(&server, "/topics/orders/stream?until=end", &encode(&server, &again)),
        ["c2"]
    );
}

#[test]
fn many_partitions_are_kept_by_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::on(dir.path());
    server.create_topic("wide", 600, &[]);
    server.produce("wide", 599, &["1", "2"]);
    let body = json!({ "positions": [{ "topic": "wide", "offset": "latest" }], "limit": 9 });
    let cursor = encode(&server, &body);
    assert!(cursor.starts_with("2."), "{cursor}");
    server.kill();
    let server = Server::on(dir.path());
    let decoded = decode(&server, &cursor);
    assert_eq!((&decoded["version"], &decoded["limit"]), (&json!(2), &json!(9)));
    assert_eq!(places(&decoded).len(), 600);
    assert_eq!(places(&decoded)[599], at("wide", 599, 2, "exact"));
    server.produce("wide", 599, &["3"]);
    let headers = [("last-event-id", cursor.as_str())];
    let mut stream = Sse::open(server.http, "/topics/wide/stream", &headers);
    assert_eq!(stream.head.header("stream-resume"), Some("exact"));
    assert!(stream.record().data.contains("\"offset\":2"));
}
