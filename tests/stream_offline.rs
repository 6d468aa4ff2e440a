//! Live streams beside partitions that cannot be read: the others flow, the client is told, and
//! nothing is missed when the partition is mended.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use common::sse::{data, until};
use common::{Server, Sse, flip_bit, partition_dir, segments, wire};
use serde_json::json;

/// Records in each of the two partitions of `t`.
const RECORDS: i64 = 30;

/// A folder with `t`, stopped, and the first of several segments of t-0. A cursor stands at
/// offset 5 of t-0 and at 7 of t-1.
fn stopped() -> (tempfile::TempDir, PathBuf, String) {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::on(dir.path());
    server.create_topic("t", 2, &[("segment.bytes", "1000")]);
    server.create_topic("u", 1, &[]);
    let mut wire = server.wire();
    let topic_id = wire.topic_id("t");
    for n in 0..RECORDS {
        for partition in 0..2 {
            let value = format!("\"value {n:090}\"");
            let batch = wire::batch(&[value.as_bytes()]);
            assert_eq!(wire.produce("t", partition, 1, batch).unwrap(), (0, n));
        }
    }
    server.produce("u", 0, &["other"]);
    let positions = json!([{"topic": "t", "partition": 0, "offset": 5},
        {"topic": "t", "partition": 1, "offset": 7}]);
    let answer = server.http().post("/cursors:encode", &json!({ "positions": positions }));
    let cursor = answer.json()["cursor"].as_str().unwrap().to_owned();
    server.stop();
    let segments = segments(&partition_dir(dir.path(), &topic_id, 0));
    assert!(segments.len() > 2, "{segments:?}");
    (dir, segments[0].clone(), cursor)
}

/// Makes the damage known at once: without the store every segment is checked on start.
fn offline(dir: &tempfile::TempDir, segment: &std::path::Path) -> Server {
    flip_bit(segment, 100);
    fs::remove_dir_all(dir.path().join("store")).unwrap();
    Server::on(dir.path())
}

/// Topic, partition and offset of records, up to the event that says that there is no more.
fn caught_up(stream: &mut Sse) -> (BTreeSet<(String, i64, i64)>, String) {
    let mut seen = BTreeSet::new();
    loop {
        let event = stream.try_next().unwrap().expect("the stream goes on");
        if event.name == "caught-up" {
            return (seen, event.id);
        }
        if event.name.is_empty() {
            let record = data(&event);
            let number = |name: &str| record[name].as_i64().unwrap();
            let topic = record["topic"].as_str().unwrap().to_owned();
            assert!(seen.insert((topic, number("partition"), number("offset"))), "{record}");
        }
    }
}

fn records(topic: &str, partition: i64, offsets: std::ops::Range<i64>) -> Vec<(String, i64, i64)> {
    offsets.map(|offset| (topic.to_owned(), partition, offset)).collect()
}

#[test]
fn the_others_flow_and_nothing_is_missed_once_it_is_mended() {
    let (dir, segment, cursor) = stopped();
    let server = offline(&dir, &segment);
    let path = "/stream?topics=t,u&from=earliest&ids=each";
    let mut fresh = Sse::open(server.http, path, &[]);
    assert_eq!(fresh.head.header("stream-resume"), Some("gap"));
    let gap = data(&until(&mut fresh, "gap"));
    let expected = json!({"topic": "t", "partition": 0, "requested": null, "resumed": null,
        "reason": "offline"});
    assert_eq!(gap, expected);
    let (seen, fresh_id) = caught_up(&mut fresh);
    let mut every = records("t", 1, 0..RECORDS);
    every.extend(records("u", 0, 0..1));
    assert_eq!(seen, every.into_iter().collect());

    // A position that is known stays in the cursor.
    let mut resumed = Sse::open(server.http, path, &[("last-event-id", &cursor)]);
    let gap = data(&until(&mut resumed, "gap"));
    assert_eq!((&gap["requested"], &gap["reason"]), (&json!(5), &json!("offline")));
    let (seen, id) = caught_up(&mut resumed);
    assert!(seen.contains(&("t".to_owned(), 1, 7)) && !seen.contains(&("t".to_owned(), 1, 6)));
    let decoded = server.http().post("/cursors:decode", &json!({ "cursor": id })).json();
    let first = &decoded["positions"][0];
    assert_eq!((&first["offset"], &first["state"]), (&json!(5), &json!("offline")), "{decoded}");
    // Live as well.
    server.produce("t", 1, &["new"]);
    assert_eq!(data(&resumed.record())["offset"], RECORDS);

    // Alone, or where nothing may be missing, it is refused; the bounded read of all is, too.
    let mut http = server.http();
    for path in
        ["/topics/t/stream?partitions=0", "/topics/t/stream?on_gap=fail", "/topics/t/records"]
    {
        let refused = http.get(path);
        assert_eq!(refused.status, 500, "{path}: {refused}");
        assert_eq!(refused.json()["error_code"], 50003, "{refused}");
    }
    assert!(http.get("/metrics").text().contains(r#"gaps_total{reason="offline"} 2"#));
    drop((fresh, resumed));
    server.stop();

    flip_bit(&segment, 100);
    fs::remove_dir_all(dir.path().join("store")).unwrap();
    let server = Server::on(dir.path());
    let mut resumed = Sse::open(server.http, path, &[("last-event-id", &id)]);
    assert_eq!(resumed.head.header("stream-resume"), Some("exact"));
    let (seen, _) = caught_up(&mut resumed);
    let mut rest = records("t", 0, 5..RECORDS);
    rest.extend(records("t", 1, RECORDS..RECORDS + 1));
    assert_eq!(seen, rest.into_iter().collect());
    // One that was never read comes from its beginning.
    let mut resumed = Sse::open(server.http, path, &[("last-event-id", &fresh_id)]);
    let (seen, _) = caught_up(&mut resumed);
    assert_eq!(seen.iter().filter(|(_, partition, _)| *partition == 0).count(), 30);
}

#[test]
fn damage_that_is_met_on_the_way_ends_one_partition_only() {
    let (dir, segment, _) = stopped();
    // The store knows the segment: nothing looks into it on start.
    flip_bit(&segment, 100);
    let server = Server::on(dir.path());
    for path in ["/topics/t/stream?from=earliest", "/stream?pattern=t&from=earliest&ids=each"] {
        let mut stream = Sse::open(server.http, path, &[]);
        let gap = until(&mut stream, "gap");
        assert_eq!(data(&gap)["reason"], "offline", "{gap:?}");
        server.produce("t", 1, &["live"]);
        let mut last = stream.record();
        while data(&last)["value"] != "live" {
            assert_eq!(data(&last)["partition"], 1, "{last:?}");
            last = stream.record();
        }
        let decoded = server.http().post("/cursors:decode", &json!({ "cursor": last.id })).json();
        let (position, requested) = (&decoded["positions"][0], &data(&gap)["requested"]);
        assert_eq!((&position["partition"], &position["offset"]), (&json!(0), requested));
    }
    // A member of a group keeps its other partitions, too.
    let path = "/consumers/g/stream?topics=t&from=earliest&member=m";
    let mut stream = Sse::open(server.http, path, &[]);
    let gap = until(&mut stream, "gap");
    assert_eq!(data(&gap)["partition"], 0, "{gap:?}");
    assert_eq!(data(&stream.record())["partition"], 1);
    // Alone it is a fault, as it is where nothing may be missing.
    for path in ["/topics/t/stream?partitions=0", "/stream?topics=t&on_gap=fail"] {
        let mut stream = Sse::open(server.http, &format!("{path}&from=earliest"), &[]);
        let fault = data(&until(&mut stream, "fault"));
        assert_eq!(fault["title"], "record batch is damaged", "{fault}");
        assert_eq!(data(&until(&mut stream, "end"))["reason"], "fault");
    }
}

#[test]
fn a_member_that_cannot_find_its_start_replays_nothing_once_it_is_mended() {
    let (dir, segment, _) = stopped();
    let server = offline(&dir, &segment);
    let path = "/consumers/g/stream?topics=t&from=latest&member=m&ack=explicit";
    let mut stream = Sse::open(server.http, path, &[]);
    let gap = until(&mut stream, "gap");
    let expected = json!({"topic": "t", "partition": 0, "requested": null, "resumed": null,
        "reason": "offline"});
    assert_eq!(data(&gap), expected);
    server.produce("t", 1, &["live"]);
    let last = stream.record();
    assert_eq!((&data(&last)["partition"], &data(&last)["offset"]), (&json!(1), &json!(RECORDS)));
    let decoded = server.http().post("/cursors:decode", &json!({ "cursor": last.id })).json();
    assert_eq!(decoded["positions"].as_array().unwrap().len(), 1, "{decoded}");
    assert_eq!(decoded["positions"][0]["partition"], 1);
    // A bounded read goes on with the others as well, and its cursor says as little.
    let mut http = server.http();
    let answer = http.get("/consumers/r/records?topics=t&from=earliest&wait=20s&ack=none");
    assert_eq!(answer.status, 200, "{answer}");
    let decoded = http.post("/cursors:decode", &json!({"cursor": answer.json()["cursor"]})).json();
    assert_eq!(decoded["positions"].as_array().unwrap().len(), 1, "{decoded}");
    drop(stream);
    server.stop();

    flip_bit(&segment, 100);
    fs::remove_dir_all(dir.path().join("store")).unwrap();
    let server = Server::on(dir.path());
    let mut stream = Sse::open(server.http, path, &[("last-event-id", &last.id)]);
    let (seen, _) = caught_up(&mut stream);
    assert_eq!(seen, BTreeSet::new());
    server.produce("t", 0, &["new"]);
    let first = data(&stream.record());
    assert_eq!((&first["partition"], &first["offset"]), (&json!(0), &json!(RECORDS)));
}
