//! Plain reads: records as CloudEvents, and the last N of them whatever else takes offsets.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use common::{Http, Server, Sse};
use serde_json::{Value, json};

const BATCH: &str = "application/cloudevents-batch+json";

fn server() -> (tempfile::TempDir, Server) {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::on(dir.path());
    (dir, server)
}

fn post(http: &mut Http, path: &str, headers: &[(&str, &str)], body: &[u8]) {
    let answer = http.send("POST", path, headers, body).unwrap();
    assert!(answer.status < 300, "{path}: {answer}");
}

fn events(http: &mut Http, path: &str) -> Value {
    let answer = http.send("GET", path, &[("accept", BATCH)], b"").unwrap();
    assert_eq!((answer.status, answer.header("content-type")), (200, Some(BATCH)), "{answer}");
    assert!(answer.header("stream-cursor").is_some());
    answer.json()
}

#[test]
fn events_of_all_modes_are_read_as_one_batch_and_go_round() {
    let (_dir, server) = server();
    server.create_topic("t", 1, &[]);
    server.create_topic("copy", 1, &[]);
    let mut http = server.http();
    let structured = json!({
        "specversion": "1.0", "id": "s", "source": "/shop", "type": "order.placed",
        "partitionkey": "k", "data": {"amount": 12.5, "n": 12_345_678_901_234_567_890_u64},
    });
    let binary = [
        ("ce-specversion", "1.0"),
        ("ce-id", "b"),
        ("ce-source", "/shop/%C3%A9"),
        ("ce-type", "order.placed"),
        ("ce-dataschema", "/schemas/1"),
        ("ce-time", "2026-01-01T00:00:00Z"),
        ("ce-subject", "100% \"sure\""),
        ("content-type", "text/plain"),
    ];
    post(&mut http, "/topics/t/records", &binary, b"17");
    let media = [("content-type", "application/cloudevents+json")];
    post(&mut http, "/topics/t/records", &media, structured.to_string().as_bytes());
    let media = [("content-type", "application/json")];
    post(&mut http, "/topics/t/records?key=k", &media, b"{\"n\": 1.50}");
    let read = events(&mut http, "/topics/t/records");
    let found = read.as_array().unwrap();
    assert_eq!(found.len(), 3, "{read}");
    assert_eq!(
        found[0],
        json!({
            "specversion": "1.0", "id": "b", "source": "/shop/é", "type": "order.placed",
            "dataschema": "/schemas/1", "time": "2026-01-01T00:00:00Z",
            "subject": "100% \"sure\"", "datacontenttype": "text/plain", "data": "17",
        })
    );
    assert_eq!(found[1], structured);
    assert_eq!(found[2]["id"], "t/0/2");
    assert_eq!(found[2]["partitionkey"], "k");
    assert_eq!(found[2]["data"], json!({"n": 1.5}));
    // What was read can be posted, and is read the same again.
    post(
        &mut http,
        "/topics/copy/records",
        &[("content-type", BATCH)],
        read.to_string().as_bytes(),
    );
    assert_eq!(events(&mut http, "/topics/copy/partitions/0/records?offset=0"), read);
    let second = http.get("/topics/copy/records?format=cloudevents&limit=1&from=-2");
    assert_eq!(second.json(), json!([structured]), "{second}");
    let nothing = http.get("/topics/copy/records?format=cloudevents&from=latest");
    assert_eq!((nothing.status, nothing.json()), (200, json!([])));
}

/// Writes single records, each as a transaction of its own, whose end takes an offset too.
fn write_atomically(http: &mut Http, count: usize) {
    for n in 0..count {
        let records = json!({ "records": [{ "value": format!("v{n}") }] });
        let answer = http.post("/topics/t?atomic=true", &records);
        assert_eq!(answer.status, 200, "{answer}");
    }
}

fn values(http: &mut Http, query: &str) -> Vec<String> {
    let answer = http.get(&format!("/topics/t/records?{query}"));
    assert_eq!(answer.status, 200, "{answer}");
    let page = answer.json();
    let records = page["records"].as_array().unwrap();
    records.iter().map(|record| record["value"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_last_records_are_records_and_not_ends_of_transactions() {
    let (_dir, server) = server();
    server.create_topic("t", 1, &[]);
    let mut http = server.http();
    write_atomically(&mut http, 20);
    let ends = http.get("/topics/t/partitions/0/offsets").json();
    assert_eq!(ends["end_offset"], 40, "{ends}");
    let expected: Vec<_> = (15..20).map(|n| format!("v{n}")).collect();
    for isolation in ["read_committed", "read_uncommitted"] {
        assert_eq!(values(&mut http, &format!("from=-5&isolation={isolation}")), expected);
    }
    assert_eq!(values(&mut http, "from=-1"), ["v19"]);
    assert_eq!(values(&mut http, "from=-0"), [""; 0]);
    assert_eq!(values(&mut http, "from=-21").len(), 20);
    assert_eq!(values(&mut http, "from=-9223372036854775807").len(), 20);
    let path = "/topics/t/stream?from=-5&until=end&data=value";
    let mut stream = Sse::open(server.http, path, &[]);
    let mut seen = Vec::new();
    while let Some(event) = stream.try_next().unwrap() {
        if event.name.is_empty() {
            seen.push(event.data.trim_matches('"').to_owned());
        }
    }
    assert_eq!(seen, expected);
}
