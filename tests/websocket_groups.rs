//! Members of consumer groups on a WebSocket, beside those of other doors.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Mutex;

use common::ws::Client;
use common::{Server, Sse, eventually};
use serde_json::{Value, json};

/// A topic of one partition with so many records.
fn fill(server: &Server, count: usize) {
    server.create_topic("t", 1, &[]);
    more(server, 0..count);
}

fn more(server: &Server, values: std::ops::Range<usize>) {
    let values: Vec<_> = values.map(|n| n.to_string()).collect();
    let values: Vec<_> = values.iter().map(String::as_str).collect();
    server.produce("t", 0, &values);
}

fn committed(server: &Server, partition: i32) -> i64 {
    server.wire().committed("g", "t", partition).unwrap()
}

/// A subscription `a` of member `m` that acknowledges itself, with other fields.
fn explicit(fields: &Value) -> Value {
    let mut message = json!({
        "type": "subscribe", "id": "a", "group": "g", "topic": "t", "member": "m",
        "ack": "explicit", "from": "earliest",
    });
    message.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    message
}

/// Opens a subscription and waits for its first assignment.
fn join(client: &mut Client, message: &Value) -> Value {
    client.send(message);
    let ready = client.until("ready");
    assert_eq!(ready["data"]["member"], message["member"], "{ready}");
    client.until("assigned")["data"].clone()
}

fn ack(id: &str, offset: i64) -> Value {
    let offsets = json!([{"topic": "t", "partition": 0, "offset": offset}]);
    json!({"type": "ack", "id": id, "offsets": offsets})
}

/// Acknowledges up to an offset of partition 0; how it stands then.
fn acked(client: &mut Client, offset: i64) -> (String, i64) {
    let answer = client.ask(&ack("a", offset), "acked");
    assert_eq!(answer["id"], "a");
    let of_partition = &answer["data"]["acks"][0];
    let status = of_partition["status"].as_str().unwrap().to_owned();
    (status, of_partition["committed"].as_i64().unwrap())
}

fn refused(client: &mut Client, message: &Value) -> (i64, String) {
    client.send(message);
    let error = client.until("error");
    assert_eq!(error["id"], message["id"], "{error}");
    (error["error_code"].as_i64().unwrap(), error["message"].as_str().unwrap().to_owned())
}

fn partitions(data: &Value) -> Vec<i64> {
    let list = data["partitions"].as_array().unwrap();
    list.iter().map(|place| place["partition"].as_i64().unwrap()).collect()
}

#[test]
fn the_window_and_the_credit_both_hold() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::on(dir.path());
    fill(&server, 12);
    let mut client = Client::connect(&server);
    join(&mut client, &explicit(&json!({"max_unacked": 3, "credit": 5})));
    assert_eq!(client.records("a", 3), [0, 1, 2]);
    client.expect_silence();
    // What is acknowledged makes room, and is committed when the answer comes.
    assert_eq!(acked(&mut client, 0), ("committed".to_owned(), 1));
    assert_eq!(committed(&server, 0), 1);
    assert_eq!(client.records("a", 1), [3]);
    client.expect_silence();
    // There is room for three, but credit for one.
    assert_eq!(acked(&mut client, 3), ("committed".to_owned(), 4));
    assert_eq!(client.records("a", 1), [4]);
    client.expect_silence();
    client.send(&json!({"type": "credit", "id": "a", "records": 100}));
    assert_eq!(client.records("a", 2), [5, 6]);
    client.expect_silence();
    // Nothing goes back.
    assert_eq!(acked(&mut client, 1), ("unchanged".to_owned(), 4));
    client.expect_silence();
    assert_eq!(committed(&server, 0), 4);
}

#[test]
fn a_cursor_acknowledges_what_came_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::on(dir.path());
    server.create_topic("t", 3, &[]);
    for partition in 0..3 {
        server.produce("t", partition, &["a", "b"]);
    }
    let mut client = Client::connect(&server);
    join(&mut client, &explicit(&json!({"credit": 4})));
    let (mut count, mut cursor) = (0, Value::Null);
    while count < 4 {
        let message = client.until("records");
        count += message["records"].as_array().unwrap().len();
        cursor = message["cursor"].clone();
    }
    let answer = client.ask(&json!({"type": "ack", "id": "a", "cursor": cursor}), "acked");
    let acks = answer["data"]["acks"].as_array().unwrap();
    let sum: i64 = acks.iter().map(|ack| ack["committed"].as_i64().unwrap()).sum();
    assert_eq!((acks.len(), sum), (3, 4), "{answer}");
    let by_kafka: i64 = (0..3).map(|partition| committed(&server, partition)).sum();
    assert_eq!(by_kafka, 4);
    // The same by the other door: nothing is left to commit.
    let other = server.http().post("/consumers/g/acks?member=m", &json!({"cursor": cursor}));
    let other = other.json();
    let statuses = other["acks"].as_array().unwrap().iter().map(|ack| &ack["status"]);
    assert!(statuses.clone().all(|status| status == "unchanged"), "{other}");
}

#[test]
fn members_of_all_doors_share_partitions() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::on(dir.path());
    server.create_topic("t", 6, &[]);
    let mut http = server.http();
    let new = json!({"name": "i", "format": "json", "auto.offset.reset": "earliest"});
    assert_eq!(http.post("/consumers/g", &new).status, 200);
    let topics = json!({"topics": ["t"]});
    assert_eq!(http.post("/consumers/g/instances/i/subscription", &topics).status, 204);
    let path = "/consumers/g/stream?topics=t&from=earliest&member=sse";
    let mut sse = Sse::open(server.http, path, &[]);
    let mut client = Client::connect(&server);
    client.send(&explicit(&json!({})));
    let mine = loop {
        let assigned = client.until("assigned")["data"].clone();
        if partitions(&assigned).len() == 2 {
            break assigned;
        }
    };
    let theirs = loop {
        let event = sse.try_next().unwrap().unwrap();
        if event.name == "assigned" {
            let data: Value = serde_json::from_str(&event.data).unwrap();
            if data["generation"] == mine["generation"] {
                break data;
            }
        }
    };
    let others: BTreeSet<_> = partitions(&mine).into_iter().chain(partitions(&theirs)).collect();
    assert_eq!(others.len(), 4, "{mine} {theirs}");
    for partition in 0..6 {
        server.produce("t", partition, &["x"]);
    }
    let mut got = Vec::new();
    while got.len() < 2 {
        let message = client.until("records");
        let records = message["records"].as_array().unwrap().clone();
        got.extend(records.iter().map(|record| record["partition"].as_i64().unwrap()));
    }
    got.sort_unstable();
    assert_eq!(got, partitions(&mine));
    for _ in 0..2 {
        let record: Value = serde_json::from_str(&sse.record().data).unwrap();
        got.push(record["partition"].as_i64().unwrap());
    }
    while got.len() < 6 {
        let answer = http.get("/consumers/g/instances/i/records?timeout=5000");
        assert_eq!(answer.status, 200, "{answer}");
        let records = answer.json();
        got.extend(records.as_array().unwrap().iter().map(|r| r["partition"].as_i64().unwrap()));
    }
    got.sort_unstable();
    assert_eq!(got, (0..6).collect::<Vec<_>>());
    // What it has not is not its to acknowledge.
    let foreign = (0..6).find(|partition| !partitions(&mine).contains(partition)).unwrap();
    let offsets = json!([{"topic": "t", "partition": foreign, "offset": 0}]);
    let answer = client.ask(&json!({"type": "ack", "id": "a", "offsets": offsets}), "acked");
    assert_eq!(answer["data"]["acks"][0]["status"], "not_assigned", "{answer}");
}

#[test]
fn the_newer_connection_has_the_member() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::on(dir.path());
    fill(&server, 3);
    let mut older = Client::connect(&server);
    let before = join(&mut older, &explicit(&json!({"credit": 2})));
    older.records("a", 2);
    let mut newer = Client::connect(&server);
    let after = join(&mut newer, &explicit(&json!({})));
    assert_eq!(after["generation"], before["generation"]);
    assert_eq!(newer.records("a", 3), [0, 1, 2]);
    let fault = older.until("fault");
    assert_eq!((&fault["id"], &fault["data"]["title"]), (&json!("a"), &json!("fenced")));
    older.until("unsubscribed");
    let (code, message) = refused(&mut older, &ack("a", 1));
    assert_eq!(code, 40903, "{message}");
    assert!(message.contains("member 'm' connected again elsewhere"), "{message}");
    assert_eq!(committed(&server, 0), -1);
    // It is not its member any more that it could take out of the group.
    older.ask(&json!({"type": "unsubscribe", "id": "a"}), "unsubscribed");
    assert_eq!(refused(&mut older, &ack("a", 1)).0, 404);
    assert_eq!(acked(&mut newer, 2), ("committed".to_owned(), 3));
    more(&server, 3..4);
    assert_eq!(newer.records("a", 1), [3]);
}

#[test]
fn a_crash_loses_nothing_and_repeats_nothing_that_was_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::on(dir.path());
    fill(&server, 10);
    let mut client = Client::connect(&server);
    let before = join(&mut client, &explicit(&json!({"credit": 4})));
    assert_eq!(client.records("a", 4), [0, 1, 2, 3]);
    assert_eq!(acked(&mut client, 1), ("committed".to_owned(), 2));
    server.kill();
    // Without a cursor it goes on behind what was acknowledged.
    let server = Server::on(dir.path());
    let mut client = Client::connect(&server);
    let after = join(&mut client, &explicit(&json!({"credit": 4})));
    assert_eq!(after["generation"], before["generation"]);
    let message = client.until("records");
    let offsets: Vec<_> =
        message["records"].as_array().unwrap().iter().map(|r| r["offset"].clone()).collect();
    assert_eq!(offsets, [2, 3, 4, 5]);
    server.kill();
    // With the cursor behind all that it worked through, that is acknowledged.
    let server = Server::on(dir.path());
    let mut client = Client::connect(&server);
    client.send(&explicit(&json!({"cursor": message["cursor"]})));
    assert_eq!(client.until("ready")["data"]["resume"], "exact");
    assert_eq!(client.records("a", 4), [6, 7, 8, 9]);
    eventually("the cursor is committed", || (committed(&server, 0) == 6).then_some(()));
}

#[test]
fn who_unsubscribes_leaves_and_who_is_cut_off_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::on(dir.path());
    fill(&server, 4);
    let mut client = Client::connect(&server);
    let first = join(&mut client, &explicit(&json!({})));
    client.records("a", 4);
    drop(client);
    // Its session keeps the assignment, and by the other door it may still acknowledge.
    let offsets = json!({"offsets": [{"topic": "t", "partition": 0, "offset": 0}]});
    let answer = server.http().post("/consumers/g/acks?member=m", &offsets);
    assert_eq!(answer.status, 200, "{answer}");
    let mut client = Client::connect(&server);
    assert_eq!(join(&mut client, &explicit(&json!({})))["generation"], first["generation"]);
    client.records("a", 3);
    let linger = json!({"type": "unsubscribe", "id": "a", "leave": false});
    client.ask(&linger, "unsubscribed");
    assert_eq!(refused(&mut client, &linger).0, 404);
    assert_eq!(join(&mut client, &explicit(&json!({})))["generation"], first["generation"]);
    client.records("a", 3);
    // Messages count in their order, also those whose answers take time.
    client.send(&ack("a", 2));
    client.send(&json!({"type": "unsubscribe", "id": "a"}));
    assert_eq!(client.until("acked")["data"]["acks"][0]["committed"], 3);
    client.until("unsubscribed");
    assert_eq!(server.http().delete("/consumers/g/stream/m").status, 404);
    // Another one has its partition at once and goes on where it was.
    let mut other = Client::connect(&server);
    let assigned = join(&mut other, &explicit(&json!({"member": "n"})));
    assert_eq!(partitions(&assigned), [0]);
    assert_eq!(other.records("a", 1), [3]);
}

#[test]
fn an_ended_subscription_is_still_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::on(dir.path());
    fill(&server, 5);
    let mut client = Client::connect(&server);
    join(&mut client, &explicit(&json!({"limit": 3})));
    assert_eq!(client.records("a", 3), [0, 1, 2]);
    client.until("end");
    client.until("unsubscribed");
    assert_eq!(acked(&mut client, 2), ("committed".to_owned(), 3));
    // The same id goes on with the same member.
    join(&mut client, &explicit(&json!({"limit": 1})));
    assert_eq!(client.records("a", 1), [3]);
    client.until("unsubscribed");
    client.ask(&json!({"type": "unsubscribe", "id": "a"}), "unsubscribed");
    assert_eq!(refused(&mut client, &ack("a", 3)).0, 404);
    assert_eq!(server.http().delete("/consumers/g/stream/m").status, 404);
    assert_eq!(committed(&server, 0), 3);
}

#[test]
fn two_members_of_one_connection_share() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::on(dir.path());
    server.create_topic("t", 2, &[]);
    let mut client = Client::connect(&server);
    let mut shares = std::collections::HashMap::new();
    let mut names = BTreeSet::new();
    for id in ["a", "b"] {
        client.send(&json!({
            "type": "subscribe", "id": id, "group": "g", "pattern": "t", "ack": "auto",
        }));
    }
    while shares.values().map(Vec::len).collect::<Vec<_>>() != [1, 1] {
        let message = client.next();
        let id = message["id"].as_str().unwrap().to_owned();
        match message["type"].as_str().unwrap() {
            // Names are made up and told.
            "ready" => {
                names.insert(message["data"]["member"].as_str().unwrap().to_owned());
            }
            "assigned" => {
                shares.insert(id, partitions(&message["data"]));
            }
            "revoked" => {
                shares.remove(&id);
            }
            "caught-up" => {}
            other => panic!("{other}: {message}"),
        }
    }
    assert_eq!(names.len(), 2, "{names:?}");
    let all: BTreeSet<_> = shares.values().flatten().copied().collect();
    assert_eq!(all, BTreeSet::from([0, 1]));
}

#[test]
fn a_stopped_server_keeps_members() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::on(dir.path());
    fill(&server, 4);
    let mut client = Client::connect(&server);
    let before = join(&mut client, &explicit(&json!({})));
    client.records("a", 4);
    client.send(&ack("a", 1));
    client.until("acked");
    server.process.signal(rustix::process::Signal::TERM);
    client.until("retry");
    client.until("unsubscribed");
    assert_eq!(client.close_frame().0, 1001);
    drop(server);
    let server = Server::on(dir.path());
    let mut client = Client::connect(&server);
    assert_eq!(join(&mut client, &explicit(&json!({})))["generation"], before["generation"]);
    assert_eq!(client.records("a", 2), [2, 3]);
    server.stop();
}

#[test]
fn without_acknowledgements_time_commits() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::on(dir.path());
    fill(&server, 2);
    let mut client = Client::connect(&server);
    join(&mut client, &explicit(&json!({"ack": "auto", "heartbeat": 1})));
    assert_eq!(client.records("a", 2), [0, 1]);
    assert_eq!(committed(&server, 0), -1);
    eventually("what later bytes followed is committed", || {
        client.until("ping");
        (committed(&server, 0) == 2).then_some(())
    });
}

#[test]
fn what_was_not_acknowledged_in_time_comes_again() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::on(dir.path());
    fill(&server, 2);
    let mut client = Client::connect(&server);
    join(&mut client, &explicit(&json!({"ack_timeout": 1})));
    assert_eq!(client.records("a", 2), [0, 1]);
    assert_eq!(acked(&mut client, 0), ("committed".to_owned(), 1));
    let again = client.until("assigned");
    assert_eq!(again["data"]["partitions"][0]["offset"], 1, "{again}");
    assert_eq!(client.records("a", 1), [1]);
}

#[test]
fn refusals_name_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::on(dir.path());
    fill(&server, 2);
    let mut client = Client::connect(&server);
    for (fields, code, part) in [
        (json!({"group": ""}), 400, "group \"\""),
        (json!({"ack": "later"}), 400, "ack 'later'"),
        (json!({"max_unacked": 0}), 400, "max_unacked '0'"),
        (json!({"ack_timeout": 0}), 400, "ack_timeout '0'"),
        (json!({"from": "soon"}), 400, "from 'soon'"),
        (json!({"from": "offset:0=5"}), 400, "POST /cursors:encode"),
        (json!({"partitions": [0]}), 400, "partitions is not possible in a group"),
        (json!({"until": "end"}), 400, "until is not possible in a group"),
        (json!({"ticket": "x"}), 400, "ticket 'x'"),
        (json!({"cursor": "x"}), 400, "'x'"),
        (json!({"group": null}), 400, "is not possible without a group"),
        (json!({"member": "m".repeat(1025)}), 42204, "1025 bytes"),
        (json!({"topic": null}), 400, "topics or pattern is missing"),
    ] {
        let (found, message) = refused(&mut client, &explicit(&fields));
        assert_eq!(found, code, "{fields}: {message}");
        assert!(message.contains(part), "{fields}: {message}");
    }
    assert_eq!(refused(&mut client, &ack("a", 0)).0, 404);
    join(&mut client, &explicit(&json!({})));
    client.records("a", 2);
    let offsets = |topic: &str, partition: i32, offset: i64| json!({"offsets": [{"topic": topic, "partition": partition, "offset": offset}]});
    for (fields, code, part) in [
        (json!({}), 400, "cursor or offsets is missing"),
        (json!({"cursor": "x"}), 400, "cursor 'x'"),
        (json!({"cursor": 7}), 400, "cursor 7"),
        (json!({"cursor": "2.AAAAAAAAAAAAAAAAAAAAAQ.3"}), 410, "not kept any more"),
        (json!({"cursor": "1.x", "offsets": []}), 400, "exclude each other"),
        (json!({"offsets": 7}), 400, "offsets 7"),
        (json!({"offsets": [{"topic": "t"}]}), 422, "partition"),
        (json!({"offsets": [], "member": "n"}), 400, "'member'"),
        (offsets("nope", 0, 0), 40402, "nope-0"),
        (offsets("t", 7, 0), 40402, "t-7"),
        (offsets("t", 0, -1), 422, "offset -1"),
        (offsets("t", 0, 2), 422, "between 0 and 2"),
        (offsets("a b", 0, 0), 422, "a b"),
    ] {
        let mut message = json!({"type": "ack", "id": "a"});
        message.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let (found, text) = refused(&mut client, &message);
        assert_eq!(found, code, "{message}: {text}");
        assert!(text.contains(part), "{message}: {text}");
    }
    assert_eq!(committed(&server, 0), -1);
    // An observer has nothing to acknowledge, and an instance's name is not a member's.
    let observer = json!({"id": "o", "member": "o", "ack": "none"});
    join(&mut client, &explicit(&observer));
    let (code, message) = refused(&mut client, &ack("o", 0));
    assert_eq!((code, message.contains("ack=none")), (40903, true), "{message}");
    let new = json!({"name": "i", "format": "json"});
    assert_eq!(server.http().post("/consumers/g", &new).status, 200);
    let taken = explicit(&json!({"id": "i", "member": "i"}));
    assert_eq!(refused(&mut client, &taken).0, 40902);
}

#[test]
fn what_a_filter_takes_away_needs_no_acknowledgement() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::on(dir.path());
    fill(&server, 10);
    let mut client = Client::connect(&server);
    let filter = json!({"filter": "int(value) >= 10", "max_unacked": 2, "credit": 9});
    join(&mut client, &explicit(&filter));
    client.until("caught-up");
    client.expect_silence();
    more(&server, 10..13);
    assert_eq!(client.records("a", 2), [10, 11]);
    client.expect_silence();
    assert_eq!(acked(&mut client, 11), ("committed".to_owned(), 12));
    assert_eq!(client.records("a", 1), [12]);
}

/// What one client of the storm below saw.
#[derive(Default)]
struct Tally {
    got: BTreeSet<(i64, i64)>,
    acknowledged: u64,
}

/// Reads as one member, acknowledges every message, and ends its subscription in turn by each of
/// the ways there are, until everything was seen by somebody.
fn storm(server: SocketAddr, name: &str, total: usize, seen: &Mutex<Tally>) {
    let is_over = || seen.lock().unwrap().got.len() >= total;
    let mut older = None;
    for round in 0.. {
        let mut client = Client::at(server);
        client.send(&explicit(&json!({
            "member": name, "id": "a", "max_unacked": 8, "credit": 12, "heartbeat": 1,
        })));
        let mut left = 3;
        while left > 0 && !is_over() {
            let message = client.next();
            match message["type"].as_str().unwrap() {
                "records" => {
                    let records = message["records"].as_array().unwrap();
                    let place = |record: &Value| {
                        let number = |field: &str| record[field].as_i64().unwrap();
                        (number("partition"), number("offset"))
                    };
                    seen.lock().unwrap().got.extend(records.iter().map(place));
                    client.send(&json!({
                        "type": "credit", "id": "a", "records": records.len(),
                    }));
                    client.send(&json!({"type": "ack", "id": "a", "cursor": message["cursor"]}));
                    left -= 1;
                }
                "acked" => seen.lock().unwrap().acknowledged += 1,
                // The group gave the partitions to others: they get the records again.
                "error" => assert_eq!(message["error_code"], 40903, "{message}"),
                "fault" => panic!("{message}"),
                _ => {}
            }
        }
        if is_over() {
            return;
        }
        match round % 4 {
            // A break, and another connection takes over while the one before is open.
            0 => drop(client),
            1 => older = Some(client),
            2 => client.send(&json!({"type": "unsubscribe", "id": "a"})),
            _ => client.send(&json!({"type": "unsubscribe", "id": "a", "leave": false})),
        }
        if round % 4 == 2 {
            drop(older.take());
        }
    }
}

#[test]
fn members_that_come_and_go_lose_nothing_and_nothing_goes_back() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::on(dir.path());
    server.create_topic("t", 6, &[]);
    let values: Vec<_> = (0..100).map(|n| n.to_string()).collect();
    let values: Vec<_> = values.iter().map(String::as_str).collect();
    let seen = Mutex::new(Tally::default());
    let total = 6 * 500;
    std::thread::scope(|scope| {
        for name in ["one", "two", "three"] {
            let (server, seen) = (server.http, &seen);
            scope.spawn(move || storm(server, name, total, seen));
        }
        let mut before = [-1; 6];
        let deadline = common::now() + 3 * common::PATIENCE;
        let mut look = || {
            for (at, before) in before.iter_mut().enumerate() {
                let now = committed(&server, at as i32);
                assert!(now >= *before, "partition {at} went back from {before} to {now}");
                *before = now;
            }
        };
        for _ in 0..5 {
            for partition in 0..6 {
                server.produce("t", partition, &values);
            }
            look();
        }
        while seen.lock().unwrap().got.len() < total {
            look();
            let count = seen.lock().unwrap().got.len();
            assert!(common::now() < deadline, "{count} of {total} in time");
        }
    });
    assert!(seen.lock().unwrap().acknowledged > 0);
}
