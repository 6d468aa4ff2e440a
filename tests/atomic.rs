//! Records that count together, and requests that count once, also when the server is killed.
//!
//! `HYDRANT_SLOW_TESTS=1` runs ten times as many rounds.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::Duration;

use common::{Answer, Http, Random, Server, steer};
use serde_json::{Value, json};

const TOPICS: [&str; 3] = ["left", "middle", "right"];

fn server() -> (tempfile::TempDir, Server) {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::on(dir.path());
    for topic in TOPICS {
        server.create_topic(topic, 2, &[]);
    }
    (dir, server)
}

/// One record with the same value for every topic.
fn everywhere(value: &str) -> Value {
    let records = TOPICS.map(|topic| json!({ "topic": topic, "key": value, "value": value }));
    json!({ "records": records })
}

fn send(http: &mut Http, path: &str, key: Option<&str>, body: &Value) -> std::io::Result<Answer> {
    let mut headers = vec![("content-type", "application/json")];
    headers.extend(key.map(|key| ("idempotency-key", key)));
    http.send("POST", path, &headers, body.to_string().as_bytes())
}

/// How often each value is in each topic, as a new group with this isolation reads it.
fn counts(
    server: &Server,
    group: &str,
    isolation: &str,
) -> BTreeMap<String, BTreeMap<String, usize>> {
    let mut http = server.http();
    let new = json!({
        "name": "reader", "format": "json", "auto.offset.reset": "earliest",
        "isolation.level": isolation,
    });
    assert_eq!(http.post(&format!("/consumers/{group}"), &new).status, 200);
    let instance = format!("/consumers/{group}/instances/reader");
    let partitions: Vec<_> = TOPICS
        .iter()
        .flat_map(|topic| [0, 1].map(|p| json!({ "topic": topic, "partition": p })))
        .collect();
    let assigned =
        http.post(&format!("{instance}/assignments"), &json!({ "partitions": partitions }));
    assert_eq!(assigned.status, 204, "{assigned}");
    let mut counts: BTreeMap<String, BTreeMap<String, usize>> = BTreeMap::new();
    loop {
        let answer = http.get(&format!("{instance}/records?timeout=200"));
        assert_eq!(answer.status, 200, "{answer}");
        let records = answer.json();
        if records.as_array().unwrap().is_empty() {
            assert_eq!(http.delete(&instance).status, 204);
            return counts;
        }
        for record in records.as_array().unwrap() {
            let of = counts.entry(record["topic"].as_str().unwrap().to_owned()).or_default();
            let value =
                record["value"].as_str().map_or_else(|| record["value"].to_string(), str::to_owned);
            *of.entry(value).or_insert(0) += 1;
        }
    }
}

#[test]
fn one_bad_record_refuses_all_of_an_atomic_request_and_names_it() {
    let (_dir, server) = server();
    let mut http = server.http();
    let mut body = everywhere("v");
    body["records"][1]["partition"] = json!(9);
    let answer = http.post("/records?atomic=true", &body);
    assert_eq!(
        (answer.status, answer.json()["error_code"].as_i64()),
        (404, Some(40402)),
        "{answer}"
    );
    assert!(answer.text().contains("records[1]"), "{answer}");
    let large = "x".repeat(3_000_000);
    let records = json!({ "records": [{ "value": "v" }, { "value": large }] });
    let answer = http.post("/topics/left?atomic=true", &records);
    assert_eq!(answer.status, 413, "{answer}");
    assert!(answer.text().contains("records[1]"), "{answer}");
    assert_eq!(counts(&server, "g", "read_uncommitted"), BTreeMap::new());
    // Without it the others count.
    let answer = http.post("/records", &body);
    assert_eq!(answer.status, 200, "{answer}");
    assert_eq!(answer.json()["offsets"][1]["error_code"], 40402);
    assert_eq!(counts(&server, "h", "read_committed").len(), 2);
    for (path, wanted) in [
        ("/records?atomic=true&acks=1", "atomic=true needs acks=all"),
        ("/records?atomic=yes", "atomic 'yes' is not true or false"),
    ] {
        let answer = http.post(path, &body);
        assert_eq!(answer.status, 400);
        assert!(answer.text().contains(wanted), "{answer}");
    }
    let nowhere = json!({ "records": [{ "value": 1 }] });
    assert!(http.post("/records", &nowhere).text().contains("records[0].topic is missing"));
}

#[test]
fn the_same_key_is_answered_the_same_and_written_once() {
    let (_dir, server) = server();
    let mut http = server.http();
    let first =
        send(&mut http, "/topics/left", Some("\"k-1\""), &json!({ "records": [{ "value": "v" }] }))
            .unwrap();
    assert_eq!(first.status, 200, "{first}");
    assert_eq!(first.header("idempotency-replayed"), None);
    let again =
        send(&mut http, "/topics/left", Some("k-1"), &json!({ "records": [{ "value": "v" }] }))
            .unwrap();
    assert_eq!((again.status, again.text()), (200, first.text()));
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    assert_eq!(again.header("content-type"), first.header("content-type"));
    // Another body, another path, another query: another request.
    let other = json!({ "records": [{ "value": "w" }] });
    for (path, body) in
        [("/topics/left", &other), ("/topics/right", &json!({ "records": [{ "value": "v" }] }))]
    {
        let answer = send(&mut http, path, Some("k-1"), body).unwrap();
        assert_eq!(
            (answer.status, answer.json()["error_code"].as_i64()),
            (422, Some(422)),
            "{answer}"
        );
    }
    // What was refused leaves its key free.
    let bad = json!({ "records": [{ "partition": 77, "value": "v" }] });
    assert_eq!(send(&mut http, "/topics/left", Some("k-2"), &bad).unwrap().status, 404);
    assert_eq!(send(&mut http, "/topics/left", Some("k-2"), &other).unwrap().status, 200);
    assert_eq!(send(&mut http, "/topics/left", Some(""), &other).unwrap().status, 400);
    let expected = [("v".to_owned(), 1), ("w".to_owned(), 1)];
    assert_eq!(counts(&server, "g", "read_committed")["left"], expected.into());
}

#[test]
fn every_way_to_produce_that_is_answered_as_a_whole_takes_a_key() {
    let (_dir, server) = server();
    let mut http = server.http();
    let cluster = http.get("/v3/clusters").json()["data"][0]["cluster_id"].clone();
    let v3 = format!("/v3/clusters/{}/topics/left", cluster.as_str().unwrap());
    let batch = json!({ "entries": [{ "id": "1", "value": { "type": "JSON", "data": "v3" } }] });
    let record = json!({ "plain": true });
    for (path, body, status) in [
        (format!("{v3}/records:batch"), &batch, 207),
        ("/topics/left/records".to_owned(), &record, 201),
    ] {
        let first = send(&mut http, &path, Some(&path), body).unwrap();
        let again = send(&mut http, &path, Some(&path), body).unwrap();
        assert_eq!((first.status, again.status), (status, status), "{first}");
        assert_eq!(
            (again.text(), again.header("location")),
            (first.text(), first.header("location"))
        );
        assert_eq!(again.header("idempotency-replayed"), Some("true"));
    }
    assert_eq!(counts(&server, "g", "read_committed")["left"].values().sum::<usize>(), 2);
    let stream = send(&mut http, &format!("{v3}/records"), Some("k"), &record).unwrap();
    assert_eq!(stream.status, 400, "{stream}");
}

/// Sends one record numbered by a producer.
fn numbered(server: &Server, epoch: i32, seq: i32, value: &str) -> Answer {
    let (epoch, seq) = (epoch.to_string(), seq.to_string());
    let headers = [
        ("content-type", "application/json"),
        ("producer-id", "till-7"),
        ("producer-epoch", epoch.as_str()),
        ("producer-seq", seq.as_str()),
    ];
    let body = json!({ "records": [{ "value": value }] }).to_string();
    server.http().send("POST", "/topics/left", &headers, body.as_bytes()).unwrap()
}

#[test]
fn numbered_records_count_once_in_order_and_old_epochs_are_fenced() {
    let (dir, server) = server();
    let first = numbered(&server, 0, 0, "a");
    assert_eq!(first.status, 200, "{first}");
    let second = numbered(&server, 0, 1, "b");
    assert_eq!(second.json()["offsets"][0]["offset"], 1, "{second}");
    let again = numbered(&server, 0, 0, "a");
    assert_eq!((again.status, again.text()), (200, first.text()));
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    let gap = numbered(&server, 0, 5, "f");
    assert_eq!(gap.status, 409, "{gap}");
    assert!(gap.text().contains("2 is expected"), "{gap}");
    server.kill();
    // The log itself remembers.
    let server = Server::on(dir.path());
    assert_eq!(numbered(&server, 0, 1, "b").text(), second.text());
    assert_eq!(numbered(&server, 1, 0, "c").status, 200);
    let fenced = numbered(&server, 0, 2, "d");
    assert_eq!(fenced.status, 403, "{fenced}");
    let expected = [("a", 1), ("b", 1), ("c", 1)].map(|(value, count)| (value.to_owned(), count));
    assert_eq!(counts(&server, "g", "read_committed")["left"], expected.into());
    let headers = [("producer-id", "till-7"), ("producer-epoch", "1")];
    let answer = server.http().send("POST", "/topics/left/records", &headers, b"x").unwrap();
    assert_eq!(answer.status, 400, "{answer}");
    let many = [
        ("producer-id", "till-7"),
        ("producer-epoch", "1"),
        ("producer-seq", "1"),
        ("content-type", "application/json"),
    ];
    let records = json!({ "records": [{ "partition": 0 }, { "partition": 1 }] }).to_string();
    let answer = server.http().send("POST", "/topics/left", &many, records.as_bytes()).unwrap();
    assert_eq!(answer.status, 400, "{answer}");
    assert!(answer.text().contains("one batch of one partition, not 2"), "{answer}");
}

#[test]
fn a_marker_takes_an_offset_and_is_never_delivered() {
    let (_dir, server) = server();
    let answer = send(&mut server.http(), "/records?atomic=true", None, &everywhere("v")).unwrap();
    assert_eq!(answer.status, 200, "{answer}");
    for (topic, place) in TOPICS.iter().zip(answer.json()["offsets"].as_array().unwrap()) {
        let partition = place["partition"].as_i64().unwrap();
        let answer = server.http().get(&format!("/topics/{topic}/partitions/{partition}/offsets"));
        // The record and its marker.
        assert_eq!(answer.json()["end_offset"], 2, "{answer}");
    }
    let both = ["read_committed", "read_uncommitted"].map(|i| counts(&server, i, i));
    assert_eq!(both[0], both[1]);
}

/// Sends requests to all topics until the server is gone; every one with a key of its own.
fn write(address: SocketAddr, first: u64) -> (u64, Option<u64>) {
    let mut next = first;
    let mut http = Http::connect(address);
    loop {
        let value = format!("v{next}");
        match send(&mut http, "/records", Some(&value), &everywhere(&value)) {
            Ok(answer) => assert_eq!(answer.status, 200, "{answer}"),
            Err(_gone) => return (next, Some(next)),
        }
        next += 1;
    }
}

#[test]
fn a_killed_server_has_all_or_none_and_a_repeated_request_counts_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut random = Random::seeded("atomic");
    let rounds = if steer("HYDRANT_SLOW_TESTS").is_some() { 50 } else { 5 };
    let (mut next, mut in_doubt) = (0, None);
    for round in 0..rounds {
        let server = Server::on(dir.path());
        if round == 0 {
            for topic in TOPICS {
                server.create_topic(topic, 2, &[]);
            }
        }
        if let Some(id) = in_doubt {
            let value = format!("v{id}");
            let answer = send(&mut server.http(), "/records", Some(&value), &everywhere(&value));
            assert_eq!(answer.unwrap().status, 200);
            next = id + 1;
        }
        let seen = counts(&server, &format!("g{round}"), "read_committed");
        let expected: BTreeMap<String, usize> = (0..next).map(|id| (format!("v{id}"), 1)).collect();
        for topic in TOPICS {
            let found = seen.get(topic).cloned().unwrap_or_default();
            assert_eq!(found, expected, "{topic} in round {round}");
        }
        let moment = Duration::from_millis(50 + random.below(300));
        std::thread::scope(|scope| {
            let address = server.http;
            let writer = scope.spawn(move || write(address, next));
            // The moment of the crash is chance, not a wait for anything.
            let (_never, timer) = mpsc::channel::<()>();
            let _elapsed = timer.recv_timeout(moment);
            server.kill();
            (next, in_doubt) = writer.join().unwrap();
        });
    }
    assert!(next > 10, "{next} requests are too few to mean anything");
}

#[test]
fn a_stream_shows_what_was_decided_and_never_waits_for_more_than_that() {
    let (_dir, server) = server();
    let path = "/stream?topics=left,middle,right&from=earliest&data=value&ids=each&limit=300";
    let mut stream = common::Sse::open(server.http, path, &[]);
    let mut http = server.http();
    for n in 0..100 {
        let answer = send(&mut http, "/records?atomic=true", None, &everywhere(&format!("v{n}")));
        assert_eq!(answer.unwrap().status, 200);
    }
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..300 {
        *seen.entry(stream.record().data).or_insert(0) += 1;
    }
    let expected = (0..100).map(|n| (format!("\"v{n}\""), 3)).collect();
    assert_eq!(seen, expected);
}
