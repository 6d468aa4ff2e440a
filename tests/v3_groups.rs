//! Consumer groups as resources of v3: members, assignments and lag, of HTTP instances and of
//! clients that only commit.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use common::{Http, Server, eventually};
use serde_json::{Value, json};

fn get(http: &mut Http, path: &str) -> Value {
    let answer = http.get(path);
    assert_eq!(answer.status, 200, "{path}: {answer}");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    answer.json()
}

/// The path part of a link.
fn path_of(link: &Value) -> String {
    let url = link["related"].as_str().unwrap_or_else(|| panic!("{link}"));
    let rest = url.strip_prefix("http://").unwrap();
    rest[rest.find('/').unwrap()..].to_owned()
}

/// A server with a topic of two partitions and an instance `i` of group `g` that reads both.
fn served() -> (tempfile::TempDir, Server, String) {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::on(dir.path());
    server.create_topic("t", 2, &[]);
    server.produce("t", 0, &["a", "b", "c"]);
    server.produce("t", 1, &["a", "b", "c", "d", "e"]);
    let mut http = server.http();
    let new = json!({"name": "i", "format": "json", "auto.offset.reset": "earliest"});
    assert_eq!(http.post("/consumers/g", &new).status, 200);
    let topics = json!({"topics": ["t"]});
    assert_eq!(http.post("/consumers/g/instances/i/subscription", &topics).status, 204);
    let clusters = get(&mut http, "/v3/clusters");
    let cluster = clusters["data"][0]["cluster_id"].as_str().unwrap();
    let base = format!("/v3/clusters/{cluster}/consumer-groups");
    eventually("the group is stable", || {
        let answer = http.get(&format!("{base}/g"));
        (answer.status == 200 && answer.json()["state"] == "STABLE").then_some(())
    });
    (dir, server, base)
}

#[test]
fn an_http_instance_is_a_member_with_its_name_and_partitions() {
    let (_dir, server, base) = served();
    let mut http = server.http();
    let group = get(&mut http, &format!("{base}/g"));
    assert_eq!(group["kind"], "KafkaConsumerGroup");
    assert_eq!(group["partition_assignor"], "range");
    assert_eq!((&group["is_simple"], &group["type"]), (&json!(false), &json!("CLASSIC")));
    assert_eq!(group["is_mixed_consumer_group"], false);
    let name = group["metadata"]["resource_name"].as_str().unwrap();
    assert!(name.ends_with("/consumer-group=g"), "{name}");
    let broker = get(&mut http, &path_of(&group["coordinator"]));
    assert_eq!(broker["kind"], "KafkaBroker");

    let consumers = get(&mut http, &path_of(&group["consumers"]));
    assert_eq!(consumers["kind"], "KafkaConsumerList");
    let consumer = &consumers["data"][0];
    assert_eq!(consumers["data"].as_array().unwrap().len(), 1);
    assert_eq!(consumer["client_id"], "i");
    assert_eq!(consumer.get("instance_id"), None);
    let id = consumer["consumer_id"].as_str().unwrap();
    assert_eq!(get(&mut http, &format!("{base}/g/consumers/{id}")), *consumer);

    let assignments = get(&mut http, &path_of(&consumer["assignments"]));
    assert_eq!(assignments["kind"], "KafkaConsumerAssignmentList");
    let data = assignments["data"].as_array().unwrap();
    let partitions: Vec<_> = data.iter().map(|a| (&a["topic_name"], &a["partition_id"])).collect();
    assert_eq!(partitions, [(&json!("t"), &json!(0)), (&json!("t"), &json!(1))]);
    let one = format!("{base}/g/consumers/{id}/assignments/t/partitions/1");
    assert_eq!(get(&mut http, &one), data[1]);
    let name = data[1]["metadata"]["resource_name"].as_str().unwrap();
    let wanted = format!("/consumer-group=g/consumer={id}/assignment=t/partition=1");
    assert!(name.ends_with(&wanted), "{name}");
}

#[test]
fn lag_is_told_by_partition_largest_first_and_in_sum() {
    let (_dir, server, base) = served();
    let mut http = server.http();
    let none = http.get(&format!("{base}/g/lag-summary"));
    assert_eq!((none.status, &none.json()["error_code"]), (404, &json!(404)));
    let offsets = json!({"offsets": [
        {"topic": "t", "partition": 0, "offset": 1}, {"topic": "t", "partition": 1, "offset": 0},
    ]});
    let committed = http.post("/consumers/g/instances/i/offsets", &offsets);
    assert_eq!(committed.status, 200, "{committed}");
    let lags = get(&mut http, &format!("{base}/g/lags"));
    assert_eq!(lags["kind"], "KafkaConsumerLagList");
    let rows: Vec<_> = lags["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|lag| {
            let of = |name: &str| lag[name].as_i64().unwrap();
            (of("partition_id"), of("current_offset"), of("log_end_offset"), of("lag"))
        })
        .collect();
    // A commit names the offset of the record that was read.
    assert_eq!(rows, [(1, 1, 5, 4), (0, 2, 3, 1)]);
    assert_eq!(lags["data"][0]["client_id"], "i");
    let single = get(&mut http, &format!("{base}/g/lags/t/partitions/1"));
    assert_eq!(single, lags["data"][0]);

    let summary = get(&mut http, &format!("{base}/g/lag-summary"));
    assert_eq!(summary["kind"], "KafkaConsumerGroupLagSummary");
    assert_eq!((&summary["max_lag"], &summary["total_lag"]), (&json!(4), &json!(5)));
    assert_eq!(summary["max_lag_partition_id"], 1);
    assert_eq!(summary["max_lag_client_id"], "i");
    let consumer = get(&mut http, &path_of(&summary["max_lag_consumer"]));
    assert_eq!(consumer["consumer_id"], summary["max_lag_consumer_id"]);
    let name = summary["metadata"]["resource_name"].as_str().unwrap();
    assert!(name.ends_with("/consumer-groups=g/lag-summary"), "{name}");
}

#[test]
fn a_group_of_commits_alone_is_simple_and_nobody_reads_its_partitions() {
    let (_dir, server, base) = served();
    let mut wire = server.wire();
    assert_eq!(wire.commit("simple", "t", 0, 3).unwrap(), 0);
    let mut http = server.http();
    let group = get(&mut http, &format!("{base}/simple"));
    assert_eq!((&group["is_simple"], &group["state"]), (&json!(true), &json!("EMPTY")));
    assert_eq!(group["partition_assignor"], "");
    let lag = get(&mut http, &format!("{base}/simple/lags/t/partitions/0"));
    assert_eq!((&lag["consumer_id"], &lag["client_id"]), (&json!(""), &json!("")));
    assert_eq!(lag["lag"], 0);
    let list = get(&mut http, &base);
    let ids: Vec<_> =
        list["data"].as_array().unwrap().iter().map(|g| &g["consumer_group_id"]).collect();
    assert_eq!(ids, [&json!("g"), &json!("simple")]);
}

#[test]
fn what_is_not_there_is_404() {
    let (_dir, server, base) = served();
    let mut http = server.http();
    let id = get(&mut http, &format!("{base}/g/consumers"))["data"][0]["consumer_id"].clone();
    let id = id.as_str().unwrap();
    let paths = [
        format!("{base}/nope"),
        format!("{base}/nope/consumers"),
        format!("{base}/nope/lags"),
        format!("{base}/nope/lag-summary"),
        format!("{base}/g/consumers/nope"),
        format!("{base}/g/consumers/nope/assignments"),
        format!("{base}/g/consumers/{id}/assignments/t/partitions/2"),
        format!("{base}/g/consumers/{id}/assignments/t/partitions/x"),
        format!("{base}/g/lags/t/partitions/0"),
        base.replace("/v3/clusters/", "/v3/clusters/other-"),
    ];
    for path in paths {
        let answer = http.get(&path);
        assert_eq!((answer.status, &answer.json()["error_code"]), (404, &json!(404)), "{path}");
    }
}
