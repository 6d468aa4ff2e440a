//! What users of other HTTP doors to Kafka asked for, replayed: `tests/data/asks/NN-….json`.
//!
//! A file has the number of the `ask`, the `wish`, `where` it was made, and `steps` (rows of
//! `common::rows`, and `{"server": "kill"}`, which starts the server again on the same data) that
//! run against a server of its own with the settings of `serve`. `test` names a function below for
//! what rows cannot say, `elsewhere` where a figure is taken, `not_here` what of the wish is no
//! request, and `not_yet` why it cannot be granted: the steps then show how it is refused.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use common::{Http, Serve, Server, Sse, eventually, rows};
use serde_json::{Map, Value, json};

/// How many there are.
const ASKS: u64 = 30;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/asks")
}

fn ask(file: &Path) -> Map<String, Value> {
    let text = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{file:?}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{file:?}: {error}"))
}

fn start(dir: &Path, ask: &Map<String, Value>) -> Server {
    let mut serve = Serve::on(dir);
    for (name, value) in ask.get("serve").and_then(Value::as_object).into_iter().flatten() {
        serve = serve.arg(name, value.as_str().unwrap());
    }
    serve.start()
}

fn replay(name: &str) {
    let ask = ask(&folder().join(name).with_extension("json"));
    let dir = tempfile::tempdir().unwrap();
    let mut server = start(dir.path(), &ask);
    let mut http = server.http();
    let mut names = rows::Names::new();
    for step in ask["steps"].as_array().unwrap() {
        let step = step.as_object().unwrap();
        if step.get("server").is_some_and(|what| what == "kill") {
            server.kill();
            server = start(dir.path(), &ask);
            http = server.http();
        } else {
            let checked = rows::check(&mut http, step, &mut names);
            checked.unwrap_or_else(|failure| panic!("{} ({name})\n{failure}", ask["wish"]));
        }
    }
    server.assert_alive();
}

macro_rules! asks {
    ($($test:ident $file:literal)*) => {
        /// The files whose steps are replayed.
        const REPLAYED: &[&str] = &[$($file),*];

        $(#[test]
        fn $test() {
            replay($file);
        })*
    };
}

asks! {
    ask_01_no_sticky_sessions "01-no-sticky-sessions"
    ask_02_server_sent_events "02-server-sent-events"
    ask_03_long_poll "03-long-poll"
    ask_04_one_request_consumer "04-one-request-consumer"
    ask_05_headers "05-headers"
    ask_06_timestamps "06-timestamps"
    ask_07_consume_beside_v3 "07-consume-beside-v3"
    ask_08_read_by_offset_or_time "08-read-by-offset-or-time"
    ask_09_first_poll "09-first-poll"
    ask_10_large_record "10-large-record"
    ask_11_empty_commit "11-empty-commit"
    ask_12_committed_without_body "12-committed-without-body"
    ask_13_commit_single_offsets "13-commit-single-offsets"
    ask_14_slow_client "14-slow-client"
    ask_15_administer_groups "15-administer-groups"
    ask_16_name_clash "16-name-clash"
    ask_17_free_form_json "17-free-form-json"
    ask_18_text_and_raw_bytes "18-text-and-raw-bytes"
    ask_19_schema_addressing_is_refused "19-schema-addressing"
    ask_20_avro_is_refused "20-avro-json"
    ask_21_once_and_all_or_none "21-once-and-all-or-none"
    ask_22_acls_are_refused "22-identity"
    ask_23_cors "23-cors"
    ask_24_bounded_poll "24-bounded-poll"
    ask_25_malformed_json "25-malformed-json"
    ask_27_type_of_each_request "27-type-of-each-request"
    ask_28_committed_offsets_count "28-committed-offsets-count"
}

/// Every ask has a file, every file is replayed or says why not.
#[test]
fn every_ask_is_accounted_for() {
    let own = include_str!("asks.rs");
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        let (name, ask) = (path.file_stem().unwrap().to_string_lossy().into_owned(), ask(&path));
        let number = ask["ask"].as_u64().unwrap();
        assert!(name.starts_with(&format!("{number:02}-")), "{name} is {number}");
        assert!(ask["wish"].is_string() && !ask["where"].as_array().unwrap().is_empty(), "{name}");
        assert_eq!(ask.contains_key("steps"), REPLAYED.contains(&name.as_str()), "{name}");
        let test = ask.get("test").map(|test| format!("\nfn {}()", test.as_str().unwrap()));
        assert!(test.as_ref().is_none_or(|test| own.contains(test)), "{name}: {test:?}");
        let is_told = ask.contains_key("steps") || test.is_some() || ask.contains_key("elsewhere");
        assert!(is_told, "{name} says nothing");
        found.insert(number, name);
    }
    assert_eq!(found.keys().copied().collect::<Vec<_>>(), (1..=ASKS).collect::<Vec<_>>());
}

fn served() -> (tempfile::TempDir, Server, Http) {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::on(dir.path());
    let http = server.http();
    (dir, server, http)
}

/// The record of a message, and the id with it.
fn message(stream: &mut Sse) -> (Value, String) {
    let event = stream.record();
    (serde_json::from_str(&event.data).unwrap(), event.id)
}

#[test]
fn ask_02_an_event_comes_while_nobody_asks() {
    let (_dir, server, _http) = served();
    server.create_topic("orders", 1, &[]);
    let mut stream = Sse::open(server.http, "/topics/orders/stream", &[]);
    assert_eq!(stream.try_next().unwrap().unwrap().name, "ready");
    for n in 0..3 {
        server.produce("orders", 0, &[&n.to_string()]);
        let (record, id) = message(&mut stream);
        assert_eq!((record["offset"].as_i64(), id.is_empty()), (Some(n), false), "{record}");
    }
}

/// One request joins, reads and commits: what a connection saw is not sent to the next one.
#[test]
fn ask_04_one_request_streams_as_a_member() {
    let (_dir, server, mut http) = served();
    server.create_topic("orders", 1, &[]);
    server.produce("orders", 0, &["1", "2", "3"]);
    let path = "/consumers/billing/stream?topics=orders&member=m&from=earliest";
    let mut stream = Sse::open(server.http, path, &[]);
    assert_eq!(message(&mut stream).0["value"], "1");
    let (second, id) = message(&mut stream);
    assert_eq!(second["value"], "2");
    drop(stream);
    let mut stream = Sse::open(server.http, path, &[("last-event-id", &id)]);
    assert_eq!(message(&mut stream).0["value"], "3");
    eventually("what was received is committed", || {
        let group = http.get("/admin/groups/billing").json();
        (group["offsets"][0]["committed_offset"].as_i64() >= Some(2)).then_some(())
    });
}

/// More than a poll may have is in the topic, and the server never holds much of it.
#[test]
fn ask_24_a_large_topic_is_polled_in_little_memory() {
    const RECORDS: usize = 96;
    const RECORD_BYTES: usize = 512 * 1024;
    const POLL_BYTES: usize = 2 * 1024 * 1024;
    let (_dir, server, mut http) = served();
    server.create_topic("large", 1, &[]);
    let value = "x".repeat(RECORD_BYTES);
    for _ in 0..RECORDS {
        server.produce("large", 0, &[&value]);
    }
    let instance = json!({"name": "c", "format": "json", "auto.offset.reset": "earliest"});
    assert_eq!(http.post("/consumers/g", &instance).status, 200);
    let c = "/consumers/g/instances/c";
    let topics = json!({"topics": ["large"]});
    assert_eq!(http.post(&format!("{c}/subscription"), &topics).status, 204);
    let before = server.peak_memory_bytes();
    let mut got = 0;
    while got < RECORDS {
        let poll = http.get(&format!("{c}/records?max_bytes={POLL_BYTES}&timeout=20000"));
        let count = poll.json().as_array().unwrap().len();
        assert!((1..=POLL_BYTES / RECORD_BYTES).contains(&count), "{count} records");
        got += count;
    }
    assert_eq!(got, RECORDS);
    let grown = server.peak_memory_bytes() - before;
    let bound = u64::try_from(RECORDS * RECORD_BYTES / 2).unwrap();
    assert!(grown < bound, "{grown} bytes more");
}

#[test]
fn ask_29_a_stream_begins_now_and_a_restart_replays_nothing() {
    let (dir, server, _http) = served();
    server.create_topic("orders", 1, &[]);
    server.produce("orders", 0, &["before"]);
    let path = "/topics/orders/stream";
    let mut stream = Sse::open(server.http, path, &[]);
    assert_eq!(stream.try_next().unwrap().unwrap().name, "ready");
    server.produce("orders", 0, &["one"]);
    let (record, id) = message(&mut stream);
    assert_eq!(record["value"], "one");
    server.kill();

    let server = Server::on(dir.path());
    server.produce("orders", 0, &["two"]);
    let mut stream = Sse::open(server.http, path, &[("last-event-id", &id)]);
    assert_eq!(stream.head.header("stream-resume"), Some("exact"));
    assert_eq!(message(&mut stream).0["value"], "two");
}

/// All records have the same timestamp, so no timestamp could say which of them were seen.
#[test]
fn ask_30_a_stream_resumes_by_the_position_of_each_partition() {
    const EACH: usize = 4;
    let (_dir, server, mut http) = served();
    server.create_topic("orders", 3, &[]);
    let stamp = 1_790_000_000_000_u64;
    for n in 0..EACH {
        let records: Vec<_> = (0..3)
            .map(|partition| json!({"partition": partition, "timestamp": stamp, "value": n}))
            .collect();
        assert_eq!(http.post("/topics/orders", &json!({ "records": records })).status, 200);
    }
    let path = "/topics/orders/stream?from=earliest&until=end";
    let all = |headers: &[(&str, &str)]| {
        let mut stream = Sse::open(server.http, path, headers);
        let mut seen = Vec::new();
        while let Some(event) = stream.try_next().unwrap() {
            if event.name.is_empty() {
                let record: Value = serde_json::from_str(&event.data).unwrap();
                seen.push((record["partition"].as_i64(), record["offset"].as_i64(), event.id));
            }
        }
        seen
    };
    let whole = all(&[]);
    assert_eq!(whole.len(), 3 * EACH);
    for (at, (_, _, id)) in whole.iter().enumerate() {
        let (seen, mut rest) = (&whole[..=at], all(&[("last-event-id", id)]));
        rest.extend_from_slice(seen);
        let mut together: Vec<_> = rest.into_iter().map(|(p, o, _)| (p, o)).collect();
        together.sort_unstable();
        let mut wanted: Vec<_> = whole.iter().map(|(p, o, _)| (*p, *o)).collect();
        wanted.sort_unstable();
        assert_eq!(together, wanted, "resumed after {at}");
    }
}
