//! Live streams over sockets: several topics, resumption at every byte, administration, clients
//! that do not read, and the end of the server.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use common::sse::until;
use common::{Http, Serve, Server, Sse, eventually};
use serde_json::{Value, json};

/// Partition and offset of every record among complete events, and the id of the last event.
fn dispatched(body: &[u8]) -> (Vec<(i64, i64)>, String) {
    let text = String::from_utf8_lossy(body);
    let whole = text.rfind("\n\n").map_or("", |end| &text[..end]);
    let (mut places, mut id) = (Vec::new(), String::new());
    for event in whole.split("\n\n") {
        let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name));
        if let Some(new) = field("id: ") {
            new.clone_into(&mut id);
        }
        if field("event: ").is_none()
            && let Some(data) = field("data: ")
        {
            let record: Value = serde_json::from_str(data).unwrap();
            places
                .push((record["partition"].as_i64().unwrap(), record["offset"].as_i64().unwrap()));
        }
    }
    (places, id)
}

#[test]
fn reconnect_at_every_byte_loses_and_repeats_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::on(dir.path());
    server.create_topic("t", 2, &[]);
    for partition in [0, 1] {
        server.produce("t", partition, &["a", "b", "c"]);
    }
    let mut http = server.http();
    let path = "/topics/t/stream?from=earliest&until=end&ids=each";
    let body = http.get(path).body;
    let every: BTreeSet<_> = dispatched(&body).0.into_iter().collect();
    assert_eq!(every.len(), 6);
    for cut in 0..=body.len() {
        let (mut seen, id) = dispatched(&body[..cut]);
        let header = [("last-event-id", id.as_str())];
        let headers = if id.is_empty() { &[][..] } else { &header[..] };
        let again = http.send("GET", path, headers, b"").unwrap();
        match again.status {
            200 => seen.extend(dispatched(&again.body).0),
            204 => {}
            _ => panic!("cut at {cut}: {again}"),
        }
        assert_eq!(seen.len(), every.len(), "cut at {cut}: {seen:?}");
        assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), every, "cut at {cut}");
    }
}

#[test]
fn a_pattern_survives_new_topics_deletion_and_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::on(dir.path());
    server.create_topic("orders.eu", 1, &[]);
    let path = "/stream?pattern=orders%5C..*&from=earliest&ids=each";
    let mut stream = Sse::open(server.http, path, &[]);
    server.produce("orders.eu", 0, &["1"]);
    assert!(stream.record().data.contains("orders.eu"));
    server.create_topic("orders.us", 1, &[]);
    server.produce("orders.us", 0, &["2"]);
    let second = stream.record();
    assert!(second.data.contains("orders.us"));
    server.kill();

    let server = Server::on(dir.path());
    server.produce("orders.eu", 0, &["3"]);
    let resumed = [("last-event-id", second.id.as_str())];
    let mut stream = Sse::open(server.http, path, &resumed);
    assert_eq!(stream.head.header("stream-resume"), Some("exact"));
    let third: Value = serde_json::from_str(&stream.record().data).unwrap();
    assert_eq!((third["topic"].as_str(), third["offset"].as_i64()), (Some("orders.eu"), Some(1)));
    assert_eq!(server.wire().delete_topic("orders.us").unwrap(), 0);
    let gap = loop {
        let event = stream.try_next().unwrap().expect("the stream goes on");
        if event.name == "gap" {
            break event;
        }
    };
    assert!(gap.data.contains("orders.us") && gap.data.contains("deleted"), "{gap:?}");
    server.produce("orders.eu", 0, &["4"]);
    assert!(stream.record().data.contains("\"offset\":2"));
}

fn place(event: &common::sse::Event) -> (i64, i64) {
    let record: Value = serde_json::from_str(&event.data).unwrap();
    (record["partition"].as_i64().unwrap(), record["offset"].as_i64().unwrap())
}

#[test]
fn a_stream_of_many_partitions_resumes_after_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::on(dir.path());
    server.create_topic("wide", 600, &[]);
    for partition in [0, 7, 599] {
        server.produce("wide", partition, &["1", "2"]);
    }
    let path = "/topics/wide/stream?from=earliest&heartbeat=1";
    let mut stream = Sse::open(server.http, path, &[]);
    let first = until(&mut stream, "ready").id;
    assert!(first.starts_with("2.") && first.len() < 80, "{first}");
    let mut every: BTreeSet<_> = (0..6).map(|_| place(&stream.record())).collect();
    assert_eq!(every.len(), 6);
    let idle = until(&mut stream, "caught-up").id;
    server.produce("wide", 300, &["3"]);
    let last = stream.record();
    every.insert(place(&last));
    server.kill();

    let server = Server::on(dir.path());
    server.produce("wide", 301, &["4"]);
    every.insert((301, 0));
    let resume = |id: &str| Sse::open(server.http, path, &[("last-event-id", id)]);
    // From the beginning all comes; from a moment of silence nothing twice.
    let mut stream = resume(&first);
    assert_eq!(stream.head.header("stream-resume"), Some("exact"));
    let again: BTreeSet<_> = (0..8).map(|_| place(&stream.record())).collect();
    assert_eq!(again, every);
    let mut stream = resume(&idle);
    let again: BTreeSet<_> = (0..2).map(|_| place(&stream.record())).collect();
    assert_eq!(again, BTreeSet::from([(300, 0), (301, 0)]));
    // A record's id may be older than the record, never newer.
    let mut stream = resume(&last.id);
    let mut again = place(&stream.record());
    if again == (300, 0) {
        again = place(&stream.record());
    }
    assert_eq!(again, (301, 0));
    // A planned end gives an id that says it all, and a bound that is reached is remembered.
    let bounded = "/topics/wide/stream?from=earliest&limit=3";
    let mut stream = Sse::open(server.http, bounded, &[]);
    let end = until(&mut stream, "end").id;
    let headers = [("last-event-id", end.as_str())];
    assert_eq!(server.http().send("GET", bounded, &headers, b"").unwrap().status, 204);
}

#[test]
fn a_stored_cursor_that_nobody_knows_is_a_gap() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::on(dir.path());
    server.create_topic("wide", 2, &[]);
    server.produce("wide", 1, &["1"]);
    let unknown = [("last-event-id", "2.AAAAAAAAAAAAAAAAAAAAAQ.3")];
    let mut stream = Sse::open(server.http, "/topics/wide/stream", &unknown);
    let gap: Value = serde_json::from_str(&until(&mut stream, "gap").data).unwrap();
    assert_eq!(gap["reason"], "expired", "{gap}");
    // Nothing is skipped.
    assert_eq!(place(&stream.record()), (1, 0));
    let path = "/topics/wide/stream?on_gap=fail";
    assert_eq!(server.http().send("GET", path, &unknown, b"").unwrap().status, 410);
    let damaged = [("last-event-id", "2.AAAA.3")];
    assert_eq!(server.http().send("GET", path, &damaged, b"").unwrap().status, 400);
}

#[test]
fn a_subscription_may_be_a_body() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::on(dir.path());
    for topic in ["a", "b"] {
        server.create_topic(topic, 1, &[]);
        server.produce(topic, 0, &["1", "2"]);
    }
    let mut http = server.http();
    let body = json!({
        "topics": ["a", "b"],
        "from": "latest",
        "offsets": [{"topic": "b", "partition": 0, "offset": 1}],
        "until": "end",
    });
    let text = body.to_string();
    for method in ["POST", "QUERY"] {
        let headers = [("content-type", "application/json")];
        let answer = http.send(method, "/stream", &headers, text.as_bytes()).unwrap();
        assert_eq!(answer.status, 200, "{answer}");
        assert_eq!(dispatched(&answer.body).0, [(0, 1)], "{method}");
    }
    for (body, part) in [
        (json!({"topics": ["a"], "colour": "x"}), "colour 'x'"),
        (json!({"pattern": "a("}), "pattern 'a('"),
        (json!([]), "invalid JSON"),
    ] {
        let answer = http.post("/stream", &body);
        assert_eq!(answer.status, 400, "{answer}");
        assert!(answer.text().contains(part), "{answer}");
    }
}

#[test]
fn streams_are_listed_and_ended() {
    let dir = tempfile::tempdir().unwrap();
    let server = Serve::on(dir.path()).arg("--stream-max-per-ip", "1").start();
    server.create_topic("t", 1, &[]);
    server.produce("t", 0, &["1"]);
    let mut stream = Sse::open(server.http, "/topics/t/stream?from=earliest", &[]);
    stream.record();
    let id = stream.head.header("stream-id").unwrap().to_owned();
    let mut http = server.http();
    let listed = http.get("/streams").json();
    assert_eq!(listed["total"], 1);
    let entry = &listed["streams"][0];
    assert_eq!((&entry["id"], &entry["records"]), (&json!(id), &json!(1)), "{listed}");
    assert!(entry["client"].as_str().unwrap().starts_with("127.0.0.1:"), "{listed}");
    let one = http.get(&format!("/streams/{id}")).json();
    assert_eq!(one["positions"][0], json!({"topic": "t", "partition": 0, "offset": 1, "lag": 0}));
    let refused = http.get("/topics/t/stream");
    assert_eq!(refused.status, 429, "{refused}");
    assert!(refused.text().contains("127.0.0.1"), "{refused}");

    assert_eq!(http.delete(&format!("/streams/{id}")).status, 204);
    let mut last = String::new();
    while let Some(event) = stream.try_next().unwrap() {
        last = event.id;
    }
    let headers = [("last-event-id", last.as_str())];
    let again = http.send("GET", "/topics/t/stream", &headers, b"").unwrap();
    assert_eq!(again.status, 204);
    drop(stream);
    eventually("the stream is off the list", || {
        (http.get("/streams").json()["total"] == 0).then_some(())
    });
    assert_eq!(http.delete(&format!("/streams/{id}")).status, 404);
    assert_eq!(http.get(&format!("/streams/{id}")).status, 404);
    assert_eq!(http.get("/streams?limit=0").status, 400);
}

#[test]
fn clients_that_do_not_read_cost_little_and_are_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let server = Serve::on(dir.path()).arg("--http-write-timeout-s", "1").start();
    server.create_topic("t", 1, &[]);
    let value = "x".repeat(500_000);
    for _ in 0..100 {
        server.produce("t", 0, &[&value]);
    }
    let before = server.peak_memory_bytes();
    let stalled: Vec<_> = (0..20)
        .map(|_| {
            let mut stream = std::net::TcpStream::connect(server.http).unwrap();
            let head = "GET /topics/t/stream?from=earliest HTTP/1.1\r\nhost: t\r\n\r\n";
            stream.write_all(head.as_bytes()).unwrap();
            stream
        })
        .collect();
    let mut http = server.http();
    eventually("all are open", || (http.get("/streams").json()["total"] == 20).then_some(()));
    // Nobody takes a byte: the server ends them by itself.
    eventually("all are given up", || (http.get("/streams").json()["total"] == 0).then_some(()));
    let grown = server.peak_memory_bytes().saturating_sub(before);
    assert!(grown < 20 * 3 * 1024 * 1024, "{grown} bytes for 20 streams");
    for mut stream in stalled {
        stream.set_read_timeout(Some(common::PATIENCE)).unwrap();
        let mut taken = Vec::new();
        // It breaks off, by an end or by a reset, before all of it was sent.
        let _reset = stream.read_to_end(&mut taken);
        assert!(taken.len() < 100 * value.len());
    }
}

#[test]
fn a_stop_ends_streams_one_after_the_other() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::on(dir.path());
    server.create_topic("t", 1, &[]);
    let address = server.http;
    let mut streams: Vec<_> = (0..20)
        .map(|_| {
            let (head, mut body) = Http::connect(address).open("/topics/t/stream", &[]).unwrap();
            assert_eq!(head.status, 200);
            let mut first = [0; 10];
            body.read_exact(&mut first).unwrap();
            body
        })
        .collect();
    let started = common::now();
    let ends: Vec<_> = std::thread::scope(|scope| {
        let readers: Vec<_> = streams
            .iter_mut()
            .map(|body| {
                scope.spawn(move || {
                    let mut rest = String::new();
                    body.read_to_string(&mut rest).unwrap();
                    (rest, started.elapsed())
                })
            })
            .collect();
        server.stop();
        readers.into_iter().map(|reader| reader.join().unwrap()).collect()
    });
    let mut pauses = BTreeSet::new();
    for (rest, _) in &ends {
        let pause = rest.trim_end().rsplit("retry: ").next().unwrap();
        pauses.insert(pause.parse::<u64>().unwrap());
    }
    assert!(pauses.len() > 10 && pauses.iter().all(|ms| (250..=3000).contains(ms)), "{pauses:?}");
    let times: Vec<_> = ends.iter().map(|(_, at)| *at).collect();
    let spread = *times.iter().max().unwrap() - *times.iter().min().unwrap();
    assert!(spread.as_millis() > 200, "20 streams ended within {spread:?}");
}

/// Produces one record after the other until the server takes no more; how many it acknowledged.
fn produce_until_refused(http: &mut Http) -> i64 {
    for acknowledged in 0.. {
        let body = json!({"records": [{"value": acknowledged}]});
        match http.try_post("/topics/t", &body) {
            Ok(answer) if answer.status == 200 => {
                assert_eq!(answer.json()["offsets"][0]["offset"], acknowledged, "{answer}");
            }
            // It may have been written all the same.
            Ok(_) | Err(_) => return acknowledged,
        }
    }
    unreachable!("there are not so many records")
}

/// The most of these moments, in ms, that lie within a stretch of so many ms.
fn most_within(moments: &[u64], stretch: u64) -> usize {
    let within =
        |from: u64| moments.iter().filter(|at| (from..from + stretch).contains(at)).count();
    moments.iter().map(|from| within(*from)).max().unwrap()
}

#[test]
fn a_stop_under_load_makes_no_spike_and_loses_nothing() {
    const STREAMS: usize = 200;
    let dir = tempfile::tempdir().unwrap();
    let server = Server::on(dir.path());
    server.create_topic("t", 1, &[]);
    let (address, begun) = (server.http, AtomicUsize::new(0));
    let read = |begun: &AtomicUsize, started: Instant| {
        let path = "/topics/t/stream?from=earliest";
        let (head, mut body) = Http::connect(address).open(path, &[]).unwrap();
        assert_eq!(head.status, 200);
        let (mut bytes, mut part) = (Vec::new(), [0; 16 * 1024]);
        let mut is_reading = false;
        loop {
            // An end that is not clean is an error.
            let count = body.read(&mut part).unwrap();
            if count == 0 {
                return (bytes, u64::try_from(started.elapsed().as_millis()).unwrap());
            }
            bytes.extend_from_slice(&part[..count]);
            if !is_reading && String::from_utf8_lossy(&bytes).contains("\"offset\":30") {
                is_reading = true;
                begun.fetch_add(1, Ordering::Relaxed);
            }
        }
    };
    let started = common::now();
    let (acknowledged, ends) = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..STREAMS).map(|_| scope.spawn(|| read(&begun, started))).collect();
        let mut http = server.http();
        let producer = scope.spawn(move || produce_until_refused(&mut http));
        eventually("records flow on all streams", || {
            (begun.load(Ordering::Relaxed) == STREAMS).then_some(())
        });
        server.stop();
        let ends: Vec<_> = readers.into_iter().map(|reader| reader.join().unwrap()).collect();
        (producer.join().unwrap(), ends)
    });

    let (mut stops, mut returns) = (Vec::new(), Vec::new());
    for (bytes, at) in &ends {
        let text = String::from_utf8_lossy(bytes);
        let (_, pause) = text.trim_end().rsplit_once("\nretry: ").expect("a pause comes last");
        let pause: u64 = pause.parse().unwrap();
        assert!((250..=3000).contains(&pause), "{pause}");
        stops.push(*at);
        returns.push(at + pause);
    }
    // Ends are spread over one second, and the pauses spread the returns over almost four.
    let (ended, returned) = (most_within(&stops, 250), most_within(&returns, 1000));
    common::note(&format!(
        "{acknowledged} records; of {STREAMS} streams {ended} end in 250 ms, {returned} return in 1 s"
    ));
    assert!(ended <= STREAMS * 4 / 5, "{ended} of {STREAMS} streams ended within 250 ms");
    assert!(returned <= STREAMS * 3 / 4, "{returned} of {STREAMS} come back within a second");

    let server = Server::on(dir.path());
    let mut http = server.http();
    for (bytes, _) in &ends {
        let (mut seen, id) = dispatched(bytes);
        let headers = [("last-event-id", id.as_str())];
        let rest = http.send("GET", "/topics/t/stream?until=end", &headers, b"").unwrap();
        assert_eq!(rest.status, 200, "{rest}");
        seen.extend(dispatched(&rest.body).0);
        let every = (0..seen.len() as i64).map(|offset| (0, offset));
        assert!(seen.iter().copied().eq(every), "{seen:?}");
        assert!(seen.len() as i64 >= acknowledged, "{} of {acknowledged} records", seen.len());
    }
}
