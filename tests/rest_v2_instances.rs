//! Consumer instances under calls that overlap, and after a crash.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use common::{Http, Server, eventually};
use serde_json::{Value, json};

const INSTANCE: &str = "/consumers/g/instances/c1";
const RECORDS: i64 = 300;
const SEEKS: usize = 5;
const POLLERS: usize = 3;

/// Places of records, with how often each was delivered.
type Deliveries = BTreeMap<(i64, i64), usize>;

fn create(server: &Server) {
    let settings = json!({
        "name": "c1", "format": "json",
        "auto.offset.reset": "earliest", "auto.commit.enable": "false",
    });
    let created = server.http().post("/consumers/g", &settings);
    assert_eq!(created.status, 200, "{created}");
    let topics = json!({"topics": ["orders"]});
    let subscribed = server.http().post(&format!("{INSTANCE}/subscription"), &topics);
    assert_eq!(subscribed.status, 204, "{subscribed}");
}

/// Polls once.
fn poll(http: &mut Http, timeout_ms: u32, bytes_max: usize) -> Vec<(i64, i64)> {
    let path = format!("{INSTANCE}/records?timeout={timeout_ms}&max_bytes={bytes_max}");
    let answer = http.get(&path);
    assert_eq!(answer.status, 200, "{answer}");
    let place = |record: &Value| {
        let offset = record["offset"].as_i64().unwrap();
        assert_eq!(record["value"], json!(format!("record-{offset}")), "{record}");
        (record["partition"].as_i64().unwrap(), offset)
    };
    answer.json().as_array().unwrap().iter().map(place).collect()
}

fn count(deliveries: &mut Deliveries, places: Vec<(i64, i64)>) {
    for place in places {
        *deliveries.entry(place).or_default() += 1;
    }
}

/// Seeks partition 0 to its begin and polls, again and again.
fn seek_and_poll(address: SocketAddr, is_over: &AtomicBool) -> Deliveries {
    let mut http = Http::connect(address);
    let mut found = Deliveries::new();
    for _ in 0..SEEKS {
        let target = json!({"offsets": [{"topic": "orders", "partition": 0, "offset": 0}]});
        let sought = http.post(&format!("{INSTANCE}/positions"), &target);
        assert_eq!(sought.status, 204, "{sought}");
        count(&mut found, poll(&mut http, 200, 400));
    }
    is_over.store(true, Ordering::Release);
    found
}

/// Polls until there is nothing more and nobody seeks.
fn poll_all(address: SocketAddr, is_over: &AtomicBool) -> Deliveries {
    let mut http = Http::connect(address);
    let mut found = Deliveries::new();
    loop {
        let was_over = is_over.load(Ordering::Acquire);
        let places = poll(&mut http, 200, 400);
        if was_over && places.is_empty() {
            return found;
        }
        count(&mut found, places);
    }
}

/// Commits and looks at the instance while others read.
fn commit_and_look(address: SocketAddr, is_over: &AtomicBool) {
    let mut http = Http::connect(address);
    while !is_over.load(Ordering::Acquire) {
        let committed = http.send("POST", &format!("{INSTANCE}/offsets"), &[], b"").unwrap();
        assert_eq!(committed.status, 200, "{committed}");
        for what in ["offsets", "assignments", "subscription"] {
            let answer = http.get(&format!("{INSTANCE}/{what}"));
            assert_eq!(answer.status, 200, "{answer}");
        }
    }
}

/// Each record goes to one of those who poll; only a seek brings records again.
#[test]
fn calls_that_overlap_lose_no_record_and_fail_none() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::on(dir.path());
    server.create_topic("orders", 2, &[]);
    let values: Vec<String> = (0..RECORDS).map(|n| format!("record-{n}")).collect();
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    for partition in 0..2 {
        server.produce("orders", partition, &values);
    }
    create(&server);
    let address = server.http;
    // The first poll waits for the partitions.
    let mut total = Deliveries::new();
    count(&mut total, poll(&mut server.http(), 30_000, 400));
    let is_over = AtomicBool::new(false);
    let found: Vec<Deliveries> = thread::scope(|scope| {
        let pollers: Vec<_> =
            (0..POLLERS).map(|_| scope.spawn(|| poll_all(address, &is_over))).collect();
        let committer = scope.spawn(|| commit_and_look(address, &is_over));
        let seeker = scope.spawn(|| seek_and_poll(address, &is_over));
        let mut found = vec![seeker.join().unwrap()];
        committer.join().unwrap();
        found.extend(pollers.into_iter().map(|poller| poller.join().unwrap()));
        found
    });
    for (place, times) in found.into_iter().flatten() {
        *total.entry(place).or_default() += times;
    }
    for partition in 0..2 {
        let most = if partition == 0 { 1 + SEEKS } else { 1 };
        for offset in 0..RECORDS {
            let times = total.get(&(partition, offset)).copied().unwrap_or(0);
            assert!((1..=most).contains(&times), "{partition}/{offset} came {times} times");
        }
    }
    let mut http = server.http();
    http.send("POST", &format!("{INSTANCE}/offsets"), &[], b"").unwrap();
    let committed = http.get(&format!("{INSTANCE}/offsets")).json();
    for partition in 0..2 {
        assert_eq!(committed["offsets"][partition]["offset"], RECORDS, "{committed}");
    }
}

#[test]
fn what_was_delivered_and_not_committed_comes_again_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::on(dir.path());
    server.create_topic("orders", 1, &[]);
    let values = ["record-0", "record-1", "record-2", "record-3", "record-4"];
    server.produce("orders", 0, &values);
    create(&server);
    let all: Vec<_> = (0..5).map(|offset| (0, offset)).collect();
    assert_eq!(poll(&mut server.http(), 30_000, 10_000), all);
    let offsets = json!({"offsets": [{"topic": "orders", "partition": 0, "offset": 1}]});
    let committed = server.http().post(&format!("{INSTANCE}/offsets"), &offsets);
    assert_eq!(committed.status, 200, "{committed}");
    server.kill();
    let server = Server::on(dir.path());
    let mut http = server.http();
    let again = eventually("the rest comes again", || {
        let places = poll(&mut http, 1000, 10_000);
        (!places.is_empty()).then_some(places)
    });
    assert_eq!(again, all[2..]);
    assert_eq!(poll(&mut http, 200, 10_000), []);
}
