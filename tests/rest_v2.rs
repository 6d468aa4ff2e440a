//! The v2 API, row by row: what is asked and what must be answered is in `tests/rest_v2/*.json`.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{Server, rows};
use serde_json::Value;

const METADATA: &str = include_str!("rest_v2/metadata.json");
const PRODUCE: &str = include_str!("rest_v2/produce.json");
const CONSUMERS: &str = include_str!("rest_v2/consumers.json");
const CODES: &str = include_str!("rest_v2/codes.json");

fn run(data: &str) {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::on(dir.path());
    let base = format!("http://{}", server.http);
    let usual = "application/vnd.kafka.v2+json";
    rows::run_as(usual, &mut server.http(), data, &[("base", &base)]);
}

#[test]
fn cluster_topics_and_partitions() {
    run(METADATA);
}

#[test]
fn produce() {
    run(PRODUCE);
}

#[test]
fn consumer_instances() {
    run(CONSUMERS);
}

/// What clients of the other proxies send, and what nobody should.
#[test]
fn odd_requests() {
    run(include_str!("rest_v2/odd.json"));
}

fn all_rows() -> Vec<Value> {
    let files = [METADATA, PRODUCE, CONSUMERS].map(serde_json::from_str::<Vec<Value>>);
    files.into_iter().flat_map(Result::unwrap).collect()
}

/// Every error code of the contract has a row, or a reason why it has none.
#[test]
fn every_error_code_is_reached_or_explained() {
    let mut found = BTreeSet::new();
    for row in all_rows() {
        found.extend(row["code"].as_u64());
        let entries = row["answer"]["offsets"].as_array().into_iter().flatten();
        found.extend(entries.filter_map(|entry| entry["error_code"].as_u64()));
    }
    let codes: Value = serde_json::from_str(CODES).unwrap();
    let reached: BTreeSet<u64> =
        codes["reached"].as_array().unwrap().iter().map(|code| code.as_u64().unwrap()).collect();
    assert_eq!(found, reached);
    let others: BTreeMap<u64, String> =
        serde_json::from_value(codes["not_reached"].clone()).unwrap();
    assert!(others.keys().all(|code| !reached.contains(code)), "{others:?}");
}

/// Every operation of v2 that the specification has is asked by a row.
#[test]
fn every_operation_has_a_row() {
    let document: Value = serde_json::from_str(include_str!("../openapi/hydrant.json")).unwrap();
    let asked: Vec<(String, Vec<String>)> = all_rows()
        .iter()
        .map(|row| {
            let (method, path) = row["request"].as_str().unwrap().split_once(' ').unwrap();
            let path = path.split('?').next().unwrap();
            (method.to_lowercase(), path.split('/').map(str::to_owned).collect())
        })
        .collect();
    let is_v2 = |path: &str| {
        path == "/brokers"
            || path.starts_with("/consumers/{group}/instances")
            || path == "/consumers/{group}"
            || path == "/topics"
            || path == "/topics/{topic}"
            || path == "/topics/{topic}/partitions"
            || path == "/topics/{topic}/partitions/{partition}"
            || path == "/topics/{topic}/partitions/{partition}/offsets"
    };
    let mut count = 0;
    for (path, operations) in document["paths"].as_object().unwrap() {
        let template: Vec<&str> = path.split('/').collect();
        let matches = |asked: &[String]| {
            asked.len() == template.len()
                && template.iter().zip(asked).all(|(t, a)| t.starts_with('{') || t == a)
        };
        for method in ["get", "post", "put", "patch", "delete"] {
            if !is_v2(path) || operations.get(method).is_none() {
                continue;
            }
            count += 1;
            let is_asked = asked.iter().any(|(by, asked)| by == method && matches(asked));
            assert!(is_asked, "{method} {path} has no row");
        }
    }
    assert!(count >= 21, "{count} operations");
}
