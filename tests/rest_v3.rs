//! The v3 API, row by row: what is asked and what must be answered is in `tests/rest_v3/*.json`.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use common::{Server, rows};

fn run(server: &Server, data: &str) {
    let mut http = server.http();
    let clusters = http.get("/v3/clusters").json();
    let cluster = clusters["data"][0]["cluster_id"].as_str().unwrap().to_owned();
    let base = format!("http://{}", server.http);
    let kafka_port = server.kafka.port().to_string();
    rows::run(&mut http, data, &[("c", &cluster), ("base", &base), ("kafka_port", &kafka_port)]);
}

#[test]
fn clusters_and_brokers() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::on(dir.path());
    run(&server, include_str!("rest_v3/clusters.json"));
}

#[test]
fn topics_partitions_replicas_and_acls() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::on(dir.path());
    run(&server, include_str!("rest_v3/topics.json"));
}

#[test]
fn odd_requests() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::on(dir.path());
    run(&server, include_str!("rest_v3/odd.json"));
}

/// What is changed is in force at once, for topics that exist too, and after a `kill -9`.
#[test]
fn configurations_and_partitions_survive_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::on(dir.path());
    run(&server, include_str!("rest_v3/configs.json"));
    let cluster = server.http().get("/v3/clusters").json();
    let topic = cluster["data"][0]["topics"]["related"].as_str().unwrap().to_owned() + "/orders";
    let topic = topic.strip_prefix(&format!("http://{}", server.http)).unwrap();
    let headers = [("content-type", "application/json")];
    let body = br#"{"partitions_count":9}"#;
    let grown = server.http().send("PATCH", topic, &headers, body).unwrap();
    assert_eq!(grown.json()["partitions_count"], 9, "{grown}");
    // `orders` is compacted and takes 2,000 bytes now.
    let keyless = serde_json::json!({"records": [{"partition": 8, "value": 1}]});
    let refused = server.http().post("/topics/orders", &keyless);
    assert!(!refused.json()["offsets"][0]["error"].is_null(), "{refused}");
    let large = "x".repeat(2100);
    let large = serde_json::json!({"records": [{"partition": 8, "key": "k", "value": large}]});
    let refused = server.http().post("/topics/orders", &large);
    assert!(refused.text().contains("2000"), "{refused}");
    let keyed = serde_json::json!({"records": [{"partition": 8, "key": "k", "value": 1}]});
    let written = server.http().post("/topics/orders", &keyed).json();
    assert_eq!(written["offsets"][0]["offset"], 0, "{written}");
    server.kill();
    let server = Server::on(dir.path());
    run(&server, include_str!("rest_v3/restarted.json"));
}
