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
