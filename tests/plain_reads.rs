//! Plain reads over HTTP: bounded, stateless, repeatable, with a cursor, a wait and an ETag.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use bytes::BytesMut;
use common::wire::text;
use common::{Answer, Http, Server};
use hydrant::protocol::messages as kafka;
use serde_json::{Value, json};

fn server() -> (tempfile::TempDir, Server) {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::on(dir.path());
    (dir, server)
}

fn with(http: &mut Http, path: &str, headers: &[(&str, &str)]) -> Answer {
    http.send("GET", path, headers, b"").unwrap()
}

/// Deletes what lies before an offset, by Kafka's protocol.
fn delete_before(server: &Server, topic: &str, offset: i64) {
    let partition = kafka::delete_records_request::DeleteRecordsPartition {
        partition_index: 0,
        offset,
        ..Default::default()
    };
    let topic = kafka::delete_records_request::DeleteRecordsTopic {
        name: text(topic),
        partitions: vec![partition],
        ..Default::default()
    };
    let request = kafka::DeleteRecordsRequestData {
        topics: vec![topic],
        timeout_ms: 1000,
        ..Default::default()
    };
    let mut body = BytesMut::new();
    request.write(&mut body, 2).unwrap();
    let mut answer = server.wire().call(21, 2, &body).unwrap();
    let answer = kafka::DeleteRecordsResponseData::read(&mut answer, 2).unwrap();
    assert_eq!(answer.topics[0].partitions[0].error_code, 0);
}

/// The values of a page, and its cursor.
fn page(http: &mut Http, path: &str) -> (Vec<Value>, String) {
    let answer = http.get(path);
    assert_eq!(answer.status, 200, "{path}: {answer}");
    let page = answer.json();
    let records = page["records"].as_array().unwrap();
    let next = page["next"].as_str().unwrap().to_owned();
    assert_eq!(answer.header("stream-cursor"), Some(next.as_str()));
    (records.iter().map(|record| record["value"].clone()).collect(), next)
}

#[test]
fn pages_follow_each_other_by_cursor_and_link() {
    let (_dir, server) = server();
    server.create_topic("t", 3, &[]);
    for partition in 0..3 {
        server.produce("t", partition, &["0", "1", "2", "3"]);
    }
    let mut http = server.http();
    let (mut seen, mut path) = (Vec::new(), "/topics/t/records?limit=5&decode=json".to_owned());
    loop {
        let answer = http.get(&path);
        assert_eq!(answer.status, 200, "{path}: {answer}");
        let page = answer.json();
        let records = page["records"].as_array().unwrap();
        if records.is_empty() {
            break;
        }
        assert!(records.len() <= 5, "{answer}");
        seen.extend(records.iter().map(|r| (r["partition"].clone(), r["offset"].clone())));
        let link = answer.header("link").unwrap();
        let url = link.strip_prefix("<http://").unwrap().split_once(">; rel=\"next\"").unwrap().0;
        path = url[url.find('/').unwrap()..].to_owned();
        assert!(path.contains("limit=5") && path.contains("decode=json"), "{path}");
    }
    let order = |(p, o): &(Value, Value)| (p.as_i64().unwrap(), o.as_i64().unwrap());
    let mut sorted: Vec<_> = seen.iter().map(order).collect();
    sorted.sort_unstable();
    let all: Vec<_> = (0..3).flat_map(|p| (0..4).map(move |o| (p, o))).collect();
    assert_eq!(sorted, all);
}

#[test]
fn one_busy_partition_hides_no_other() {
    let (_dir, server) = server();
    server.create_topic("t", 2, &[]);
    server.produce("t", 0, &["x"; 50]);
    server.produce("t", 1, &["y"]);
    let mut http = server.http();
    let (values, _) = page(&mut http, "/topics/t/records?limit=10");
    assert_eq!(values.len(), 10);
    assert!(values.contains(&json!("y")), "{values:?}");
    // With one record at a time the turn moves on by itself.
    let (mut seen, mut path) = (Vec::new(), "/topics/t/records?limit=1".to_owned());
    for _ in 0..4 {
        let (values, next) = page(&mut http, &path);
        seen.extend(values);
        path = format!("/topics/t/records?limit=1&after={next}");
    }
    assert!(seen.contains(&json!("y")), "{seen:?}");
}

#[test]
fn every_start_is_understood() {
    let (_dir, server) = server();
    server.create_topic("t", 1, &[]);
    let mut http = server.http();
    let record = |value: i64| json!({"value": value, "timestamp": 1000 * value});
    let records: Vec<_> = (0..5).map(record).collect();
    assert_eq!(http.post("/topics/t", &json!({"records": records})).status, 200);
    for (query, expected) in [
        ("", json!([0, 1, 2, 3, 4])),
        ("from=earliest", json!([0, 1, 2, 3, 4])),
        ("from=latest", json!([])),
        ("from=-2", json!([3, 4])),
        ("from=-99", json!([0, 1, 2, 3, 4])),
        ("from=offset:0=4", json!([4])),
        ("from=3000", json!([3, 4])),
        ("since=1970-01-01T00:00:02.5Z", json!([3, 4])),
        ("from=9999999", json!([])),
        ("partitions=0&limit=2", json!([0, 1])),
        ("max_bytes=1", json!([0])),
        ("isolation=read_uncommitted&from=-1", json!([4])),
    ] {
        let (values, _) = page(&mut http, &format!("/topics/t/records?{query}"));
        assert_eq!(json!(values), expected, "{query}");
    }
    let (values, next) = page(&mut http, "/topics/t/partitions/0/records?offset=2&limit=2");
    assert_eq!(json!(values), json!([2, 3]));
    let (values, _) = page(&mut http, &format!("/topics/t/partitions/0/records?after={next}"));
    assert_eq!(json!(values), json!([4]));
}

#[test]
fn a_page_says_where_everything_stands() {
    let (_dir, server) = server();
    server.create_topic("t", 1, &[]);
    server.produce("t", 0, &["a", "b", "c"]);
    let mut http = server.http();
    let page = http.get("/topics/t/partitions/0/records?limit=1").json();
    let end = json!([{"partition": 0, "next": 1, "log_start_offset": 0, "high_watermark": 3}]);
    assert_eq!(page["end"], end);
    let record = &page["records"][0];
    assert_eq!((&record["topic"], &record["offset"]), (&json!("t"), &json!(0)));
    assert_eq!((&record["headers"], &record["timestamp_type"]), (&json!([]), &json!("create")));
}

#[test]
fn offsets_outside_of_the_log_are_refused_with_the_nearest() {
    let (_dir, server) = server();
    server.create_topic("t", 1, &[]);
    server.produce("t", 0, &["a", "b"]);
    let mut http = server.http();
    let refused = http.get("/topics/t/partitions/0/records?offset=3");
    assert_eq!((refused.status, &refused.json()["error_code"]), (416, &json!(416)), "{refused}");
    assert!(refused.text().contains("past the tail 2"), "{refused}");
    let tail = refused.header("stream-cursor").unwrap();
    let (values, _) = page(&mut http, &format!("/topics/t/records?after={tail}"));
    assert!(values.is_empty());
    // The tail itself is no error: there is nothing yet.
    assert_eq!(http.get("/topics/t/partitions/0/records?offset=2").status, 200);
    let (_, next) = page(&mut http, "/topics/t/records");
    // A topic of the same name that was made anew has other records.
    server.create_topic("u", 1, &[]);
    let gone = http.get(&format!("/topics/u/records?after={next}"));
    assert_eq!(gone.status, 410, "{gone}");
    assert!(gone.text().contains("from="), "{gone}");
}

#[test]
fn what_was_deleted_is_gone_and_the_first_offset_is_named() {
    let (_dir, server) = server();
    server.create_topic("t", 1, &[]);
    server.produce("t", 0, &["a", "b", "c"]);
    delete_before(&server, "t", 2);
    let mut http = server.http();
    for path in ["/topics/t/partitions/0/records?offset=1", "/topics/t/partitions/0/records/1"] {
        let gone = http.get(path);
        assert_eq!((gone.status, &gone.json()["error_code"]), (410, &json!(410)), "{gone}");
        assert!(gone.text().contains("first is 2"), "{gone}");
    }
    let gone = http.get("/topics/t/partitions/0/records?offset=1");
    let nearest = gone.header("stream-cursor").unwrap();
    let (values, _) = page(&mut http, &format!("/topics/t/records?after={nearest}"));
    assert_eq!(json!(values), json!(["c"]));
    let (values, _) = page(&mut http, "/topics/t/records?from=earliest");
    assert_eq!(json!(values), json!(["c"]));
}

#[test]
fn a_wait_ends_with_the_first_record_or_in_vain() {
    let (_dir, server) = server();
    server.create_topic("t", 2, &[]);
    let mut http = server.http();
    let quiet = http.get("/topics/t/records?wait=20ms");
    assert_eq!((quiet.status, quiet.body.len()), (204, 0), "{quiet}");
    let next = quiet.header("stream-cursor").unwrap().to_owned();
    // The long poll is under way or not yet begun when the record comes: both must see it.
    let path = format!("/topics/t/records?after={next}&wait=25s");
    let waiting = std::thread::scope(|scope| {
        let mut other = server.http();
        let poll = scope.spawn(move || other.get(&path));
        server.produce("t", 1, &["late"]);
        poll.join().unwrap()
    });
    assert_eq!(waiting.status, 200, "{waiting}");
    assert_eq!(waiting.json()["records"][0]["value"], "late");
    let v2 = [("accept", "application/vnd.kafka.json.v2+json")];
    let quiet = with(&mut http, "/topics/t/records?from=latest&timeout=1", &v2);
    assert_eq!((quiet.status, quiet.text()), (200, "[]".to_owned()));
}

#[test]
fn ranges_are_revalidated_and_closed_ones_are_kept() {
    let (_dir, server) = server();
    server.create_topic("t", 1, &[]);
    server.produce("t", 0, &["a", "b"]);
    let mut http = server.http();
    let open = http.get("/topics/t/records");
    assert_eq!(open.header("cache-control"), Some("no-cache"));
    let etag = open.header("etag").unwrap().to_owned();
    let known = [("if-none-match", etag.as_str())];
    let same = with(&mut http, "/topics/t/records", &known);
    assert_eq!((same.status, same.body.len()), (304, 0), "{same}");
    assert_eq!(same.header("stream-cursor"), open.header("stream-cursor"));
    // Another representation is another thing.
    assert_eq!(with(&mut http, "/topics/t/records?decode=base64", &known).status, 200);
    assert_eq!(with(&mut http, "/topics/t/records?format=ndjson", &known).status, 200);
    // With a wait, 304 comes only when nothing changed in time.
    let path = "/topics/t/records?wait=25s";
    let changed = std::thread::scope(|scope| {
        let mut other = server.http();
        let poll = scope.spawn(move || with(&mut other, path, &known));
        server.produce("t", 0, &["c"]);
        poll.join().unwrap()
    });
    assert_eq!(changed.status, 200, "{changed}");
    let closed = "/topics/t/partitions/0/records?offset=0&limit=2";
    let answer = http.get(closed);
    assert_eq!(answer.header("cache-control"), Some("private, max-age=3600"), "{answer}");
    let etag = answer.header("etag").unwrap().to_owned();
    server.produce("t", 0, &["d"]);
    assert_eq!(with(&mut http, closed, &[("if-none-match", &etag)]).status, 304);
}

#[test]
fn lines_and_v2_arrays_are_served() {
    let (_dir, server) = server();
    server.create_topic("t", 1, &[]);
    let mut http = server.http();
    let text = [("content-type", "application/vnd.kafka.text.v2+json")];
    let records = json!({"records": [{"value": "{\"a\": 1}"}, {"value": "not json"}]});
    let posted = http.send("POST", "/topics/t", &text, records.to_string().as_bytes()).unwrap();
    assert_eq!(posted.status, 200, "{posted}");
    let lines = with(&mut http, "/topics/t/records", &[("accept", "application/x-ndjson")]);
    assert_eq!(lines.header("content-type"), Some("application/x-ndjson"));
    let text = lines.text();
    let values: Vec<Value> =
        text.lines().map(|l| serde_json::from_str::<Value>(l).unwrap()["value"].clone()).collect();
    assert_eq!(json!(values), json!([{"a": 1}, "not json"]));
    let path = "/topics/t/partitions/0/records?offset=0&timeout=10&max_bytes=100000";
    let v2 = with(&mut http, path, &[("accept", "application/vnd.kafka.json.v2+json")]);
    assert_eq!(v2.header("content-type"), Some("application/vnd.kafka.json.v2+json"));
    let records = v2.json();
    assert_eq!(records[0]["value"], json!({"a": 1}));
    assert_eq!(
        (&records[1]["value"], &records[1]["raw"]["value"]),
        (&json!(null), &json!("bm90IGpzb24="))
    );
    assert!(records[1]["error"].as_str().unwrap().contains("offset 1"), "{v2}");
    let binary = with(&mut http, path, &[("accept", "application/vnd.kafka.binary.v2+json")]);
    assert_eq!(binary.json()[1]["value"], "bm90IGpzb24=");
    assert_eq!(with(&mut http, path, &[("accept", "text/event-stream")]).status, 406);
}

#[test]
fn a_record_larger_than_the_bound_comes_alone() {
    let (_dir, server) = server();
    server.create_topic("t", 1, &[]);
    let large = "x".repeat(100_000);
    server.produce("t", 0, &["s", &large, "e"]);
    let mut http = server.http();
    let mut path = "/topics/t/records?max_bytes=10".to_owned();
    let mut lengths = Vec::new();
    for _ in 0..3 {
        let (values, next) = page(&mut http, &path);
        lengths.push(values.iter().map(|v| v.as_str().unwrap().len()).collect::<Vec<_>>());
        path = format!("/topics/t/records?max_bytes=10&after={next}");
    }
    assert_eq!(lengths, [vec![1], vec![100_000], vec![1]]);
}

#[test]
fn one_record_is_its_value() {
    let (_dir, server) = server();
    server.create_topic("t", 1, &[]);
    let mut http = server.http();
    let records = json!({"records": [
        {"key": "k", "value": {"a": 1.10}, "headers": [{"key": "source", "value": "d2Vi"}]},
        {"key": "k", "value": null},
    ]});
    assert_eq!(http.post("/topics/t", &records).status, 200);
    let path = "/topics/t/partitions/0/records/0";
    let one = http.get(path);
    assert_eq!((one.status, one.text()), (200, "{\"a\":1.1}".to_owned()), "{one}");
    assert_eq!(one.header("content-type"), Some("application/json"));
    assert_eq!(one.header("hydrant-key"), Some("\"k\""));
    assert_eq!(one.header("hydrant-header-source"), Some("web"));
    let etag = one.header("etag").unwrap().to_owned();
    assert_eq!(with(&mut http, path, &[("if-none-match", &etag)]).status, 304);
    let tombstone = http.get("/topics/t/partitions/0/records/1");
    assert_eq!((tombstone.status, tombstone.header("hydrant-tombstone")), (204, Some("true")));
    for offset in ["2", "-1", "x"] {
        let missing = http.get(&format!("/topics/t/partitions/0/records/{offset}"));
        assert_eq!((missing.status, &missing.json()["error_code"]), (404, &json!(404)));
        assert!(missing.text().contains(offset), "{missing}");
    }
    assert_eq!(http.get("/topics/t/partitions/9/records/0").json()["error_code"], 40402);
    assert_eq!(http.get("/topics/nope/records").json()["error_code"], 40401);
    assert_eq!(http.get("/topics/t/records?partitions=7").json()["error_code"], 40402);
}
