//! Administration of groups and records, on both doors, and what a `kill -9` leaves of it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use bytes::BytesMut;
use common::wire::text;
use common::{Server, Wire, eventually, partition_dir, segments};
use hydrant::protocol::ErrorCode;
use hydrant::protocol::messages as kafka;
use serde_json::json;

fn server() -> (tempfile::TempDir, Server) {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::on(dir.path());
    (dir, server)
}

/// Deletes records by Kafka's protocol; returns the error code and the low watermark.
fn delete_records(wire: &mut Wire, topic: &str, partition: i32, offset: i64) -> (i16, i64) {
    let partition = kafka::delete_records_request::DeleteRecordsPartition {
        partition_index: partition,
        offset,
        ..Default::default()
    };
    let topic = kafka::delete_records_request::DeleteRecordsTopic {
        name: text(topic),
        partitions: vec![partition],
        ..Default::default()
    };
    let request = kafka::DeleteRecordsRequestData {
        topics: vec![topic],
        timeout_ms: 1000,
        ..Default::default()
    };
    let mut body = BytesMut::new();
    request.write(&mut body, 2).unwrap();
    let mut answer = wire.call(21, 2, &body).unwrap();
    let answer = kafka::DeleteRecordsResponseData::read(&mut answer, 2).unwrap();
    let partition = &answer.topics[0].partitions[0];
    (partition.error_code, partition.low_watermark)
}

/// Deletes groups by Kafka's protocol; returns the error codes.
fn delete_groups(wire: &mut Wire, groups: &[&str]) -> Vec<i16> {
    let request = kafka::DeleteGroupsRequestData {
        groups_names: groups.iter().map(|name| text(name)).collect(),
        ..Default::default()
    };
    let mut body = BytesMut::new();
    request.write(&mut body, 2).unwrap();
    let mut answer = wire.call(42, 2, &body).unwrap();
    let answer = kafka::DeleteGroupsResponseData::read(&mut answer, 2).unwrap();
    answer.results.iter().map(|result| result.error_code).collect()
}

/// Deletes committed offsets by Kafka's protocol; returns the error of the group, and those of
/// the partitions.
fn delete_offsets(
    wire: &mut Wire,
    group: &str,
    topic: &str,
    partitions: &[i32],
) -> (i16, Vec<i16>) {
    use kafka::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
    let numbers = partitions.iter().map(|number| OffsetDeleteRequestPartition {
        partition_index: *number,
        ..Default::default()
    });
    let topic = OffsetDeleteRequestTopic {
        name: text(topic),
        partitions: numbers.collect(),
        ..Default::default()
    };
    let request = kafka::OffsetDeleteRequestData {
        group_id: text(group),
        topics: vec![topic],
        ..Default::default()
    };
    let mut body = BytesMut::new();
    request.write(&mut body, 0).unwrap();
    let mut answer = wire.call(47, 0, &body).unwrap();
    let answer = kafka::OffsetDeleteResponseData::read(&mut answer, 0).unwrap();
    let partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
    (answer.error_code, partitions.map(|partition| partition.error_code).collect())
}

fn values(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("v{n:0>60}")).collect()
}

fn produce(server: &Server, topic: &str, count: usize) {
    let values = values(count);
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    for chunk in values.chunks(10) {
        server.produce(topic, 0, chunk);
    }
}

#[test]
fn deleted_records_stay_deleted_after_a_kill_even_without_the_store() {
    let (dir, server) = server();
    server.create_topic("t", 2, &[("segment.bytes", "1048576")]);
    produce(&server, "t", 30);
    let mut wire = server.wire();
    assert_eq!(delete_records(&mut wire, "t", 0, 17), (0, 17));
    // Readers see it at once.
    assert_eq!(wire.fetch("t", 0, 16).unwrap().code, ErrorCode::OffsetOutOfRange.code());
    assert_eq!(wire.list_offset("t", 0, -2).unwrap(), (0, 17));
    let offsets = server.http().get("/topics/t/partitions/0/offsets").json();
    assert_eq!(offsets["beginning_offset"], 17);
    server.kill();
    // The store only repeats what the log says.
    std::fs::remove_dir_all(dir.path().join("store")).unwrap();

    let server = Server::on(dir.path());
    let mut wire = server.wire();
    assert_eq!(wire.list_offset("t", 0, -2).unwrap(), (0, 17));
    assert_eq!(wire.fetch("t", 0, 16).unwrap().code, ErrorCode::OffsetOutOfRange.code());
    let found: Vec<i64> = common::wire::rows(&wire.fetch("t", 0, 17).unwrap().records)
        .iter()
        .map(|r| r.offset)
        .collect();
    assert!(found.contains(&17) && found.contains(&19), "{found:?}");
    // All of it, which also frees the disk; new records go on behind.
    assert_eq!(delete_records(&mut wire, "t", 0, -1), (0, 30));
    let folder = partition_dir(dir.path(), &wire.topic_id("t"), 0);
    let bytes: u64 = segments(&folder).iter().map(|path| path.metadata().unwrap().len()).sum();
    assert_eq!(bytes, 0);
    server.kill();

    let server = Server::on(dir.path());
    let mut wire = server.wire();
    assert_eq!(wire.list_offset("t", 0, -2).unwrap(), (0, 30));
    assert_eq!(wire.list_offset("t", 0, -1).unwrap(), (0, 30));
    assert_eq!(server.produce("t", 0, &["next"]), [30]);
}

#[test]
fn records_are_deleted_only_where_that_makes_sense() {
    let (_dir, server) = server();
    server.create_topic("t", 1, &[]);
    server.create_topic("compacted", 1, &[("cleanup.policy", "compact")]);
    produce(&server, "t", 5);
    let mut wire = server.wire();
    let cases = [
        ("t", 0, 6, ErrorCode::OffsetOutOfRange),
        ("t", 0, -2, ErrorCode::OffsetOutOfRange),
        ("t", 1, 0, ErrorCode::UnknownTopicOrPartition),
        ("t", -1, 0, ErrorCode::UnknownTopicOrPartition),
        ("nope", 0, 0, ErrorCode::UnknownTopicOrPartition),
        ("no/topic", 0, 0, ErrorCode::UnknownTopicOrPartition),
        ("compacted", 0, -1, ErrorCode::PolicyViolation),
        ("__consumer_offsets", 0, -1, ErrorCode::InvalidTopicException),
    ];
    for (topic, partition, offset, code) in cases {
        let answer = delete_records(&mut wire, topic, partition, offset);
        assert_eq!(answer, (code.code(), -1), "{topic}-{partition} before {offset}");
    }
    assert_eq!(delete_records(&mut wire, "t", 0, 3), (0, 3));
    assert_eq!(delete_records(&mut wire, "t", 0, 1), (0, 3), "the start never moves back");
}

#[test]
fn a_topic_made_anew_begins_at_the_first_offset() {
    let (dir, server) = server();
    server.create_topic("t", 1, &[]);
    produce(&server, "t", 5);
    let mut wire = server.wire();
    assert_eq!(delete_records(&mut wire, "t", 0, -1), (0, 5));
    delete_topic(&mut wire, "t");
    server.create_topic("t", 1, &[]);
    assert_eq!(server.produce("t", 0, &["a"]), [0]);
    server.kill();
    let server = Server::on(dir.path());
    assert_eq!(server.wire().list_offset("t", 0, -2).unwrap(), (0, 0));
}

fn delete_topic(wire: &mut Wire, topic: &str) {
    let request =
        kafka::DeleteTopicsRequestData { topic_names: vec![text(topic)], ..Default::default() };
    let mut body = BytesMut::new();
    request.write(&mut body, 5).unwrap();
    let mut answer = wire.call(20, 5, &body).unwrap();
    let answer = kafka::DeleteTopicsResponseData::read(&mut answer, 5).unwrap();
    assert_eq!(answer.responses[0].error_code, 0);
}

#[test]
fn deleted_groups_and_offsets_stay_deleted_after_a_kill() {
    let (dir, server) = server();
    server.create_topic("t", 2, &[]);
    produce(&server, "t", 5);
    let mut wire = server.wire();
    for (group, partition) in [("gone", 0), ("gone", 1), ("kept", 0), ("kept", 1)] {
        assert_eq!(wire.commit(group, "t", partition, 4).unwrap(), 0);
    }
    let not_found = ErrorCode::GroupIdNotFound.code();
    assert_eq!(delete_groups(&mut wire, &["gone", "never", "gone"]), [0, not_found, not_found]);
    assert_eq!(wire.committed("gone", "t", 0).unwrap(), -1);
    let unknown = ErrorCode::UnknownTopicOrPartition.code();
    assert_eq!(delete_offsets(&mut wire, "kept", "t", &[1, 2]), (0, vec![0, unknown]));
    assert_eq!(delete_offsets(&mut wire, "kept", "no/topic", &[0]), (0, vec![unknown]));
    assert_eq!(delete_offsets(&mut wire, "never", "t", &[0]), (not_found, vec![]));
    server.kill();

    let server = Server::on(dir.path());
    let mut wire = server.wire();
    assert_eq!(delete_groups(&mut wire, &["gone"]), [not_found]);
    assert_eq!(wire.committed("gone", "t", 1).unwrap(), -1);
    assert_eq!(wire.committed("kept", "t", 0).unwrap(), 4);
    assert_eq!(wire.committed("kept", "t", 1).unwrap(), -1);
    // The name is free again.
    assert_eq!(wire.commit("gone", "t", 0, 2).unwrap(), 0);
    assert_eq!(wire.committed("gone", "t", 0).unwrap(), 2);
}

#[test]
fn committed_offsets_end_with_their_topic() {
    let (dir, server) = server();
    server.create_topic("t", 1, &[]);
    server.create_topic("other", 1, &[]);
    produce(&server, "t", 5);
    let mut wire = server.wire();
    assert_eq!(wire.commit("g", "t", 0, 4).unwrap(), 0);
    assert_eq!(wire.commit("g", "other", 0, 0).unwrap(), 0);
    delete_topic(&mut wire, "t");
    assert_eq!(wire.committed("g", "t", 0).unwrap(), -1);
    server.create_topic("t", 1, &[]);
    assert_eq!(wire.committed("g", "t", 0).unwrap(), -1, "a new topic begins anew");
    server.kill();
    let server = Server::on(dir.path());
    let mut wire = server.wire();
    assert_eq!(wire.committed("g", "t", 0).unwrap(), -1);
    assert_eq!(wire.committed("g", "other", 0).unwrap(), 0);
}

#[test]
fn a_group_with_members_keeps_itself_and_the_offsets_it_reads() {
    let (_dir, server) = server();
    server.create_topic("read", 1, &[]);
    server.create_topic("other", 1, &[]);
    let mut wire = server.wire();
    for topic in ["read", "other"] {
        assert_eq!(wire.commit("g", topic, 0, 0).unwrap(), 0);
    }
    let mut http = server.http();
    let created = http.post("/consumers/g", &serde_json::json!({"name": "i", "format": "json"}));
    assert_eq!(created.status, 200, "{created}");
    let topics = serde_json::json!({"topics": ["read"]});
    let path = "/consumers/g/instances/i";
    assert_eq!(http.post(&format!("{path}/subscription"), &topics).status, 204);
    eventually("the instance is a member", || {
        (delete_groups(&mut wire, &["g"]) == [ErrorCode::NonEmptyGroup.code()]).then_some(())
    });
    let subscribed = ErrorCode::GroupSubscribedToTopic.code();
    assert_eq!(delete_offsets(&mut wire, "g", "read", &[0]), (0, vec![subscribed]));
    assert_eq!(delete_offsets(&mut wire, "g", "other", &[0]), (0, vec![0]));
    assert_eq!(wire.committed("g", "other", 0).unwrap(), -1);
    assert_eq!(http.delete(path).status, 204);
    eventually("the group is empty", || (delete_groups(&mut wire, &["g"]) == [0]).then_some(()));
    assert_eq!(wire.committed("g", "read", 0).unwrap(), -1);
}

/// Status, code and message of a refusal.
fn refusal(answer: &common::Answer) -> (u16, i64, String) {
    let body = answer.json();
    let message = body["message"].as_str().unwrap().to_owned();
    (answer.status, body["error_code"].as_i64().unwrap(), message)
}

/// Offsets of a reset as (partition, before, after).
fn moved(answer: &common::Answer) -> Vec<(i64, Option<i64>, i64)> {
    assert_eq!(answer.status, 200, "{answer}");
    let body = answer.json();
    let rows = body["offsets"].as_array().unwrap().iter();
    rows.map(|row| {
        let of = |name: &str| row[name].as_i64();
        (of("partition").unwrap(), of("previous_offset"), of("offset").unwrap())
    })
    .collect()
}

#[test]
fn offsets_are_reset_by_every_rule_and_a_dry_run_changes_nothing() {
    let (dir, server) = server();
    server.create_topic("t", 2, &[]);
    produce(&server, "t", 10);
    let mut wire = server.wire();
    assert_eq!(wire.commit("g", "t", 0, 4).unwrap(), 0);
    let mut http = server.http();
    let mut reset = |body: serde_json::Value| http.post("/admin/groups/g/offsets:reset", &body);
    let dry = reset(json!({"to": "earliest", "dry_run": true}));
    assert_eq!(moved(&dry), [(0, Some(4), 0)]);
    assert_eq!(dry.json()["dry_run"], true);
    assert_eq!(wire.committed("g", "t", 0).unwrap(), 4);
    assert_eq!(moved(&reset(json!({"to": "latest"}))), [(0, Some(4), 10)]);
    assert_eq!(moved(&reset(json!({"shift_by": -3}))), [(0, Some(10), 7)]);
    assert_eq!(moved(&reset(json!({"shift_by": -30}))), [(0, Some(7), 0)]);
    assert_eq!(moved(&reset(json!({"to_offset": 6}))), [(0, Some(0), 6)]);
    assert_eq!(moved(&reset(json!({"to": "current"}))), [(0, Some(6), 6)]);
    assert_eq!(moved(&reset(json!({"to_timestamp": 0}))), [(0, Some(6), 0)]);
    let future = json!({"to_datetime": "2999-01-01T00:00:00Z"});
    assert_eq!(moved(&reset(future)), [(0, Some(0), 10)]);
    assert_eq!(moved(&reset(json!({"by_duration_ms": 3_600_000}))), [(0, Some(10), 0)]);
    let topic = reset(json!({"to": "latest", "topics": ["t"]}));
    assert_eq!(moved(&topic), [(0, Some(0), 10), (1, None, 0)]);
    let one = json!({"to_offset": 3, "partitions": [{"topic": "t", "partition": 0}]});
    assert_eq!(moved(&reset(one)), [(0, Some(10), 3)]);
    server.kill();
    let server = Server::on(dir.path());
    assert_eq!(server.wire().committed("g", "t", 0).unwrap(), 3);
}

#[test]
fn a_group_of_http_is_looked_at_reset_and_deleted() {
    let (_dir, server) = server();
    server.create_topic("t", 1, &[]);
    produce(&server, "t", 10);
    let mut http = server.http();
    let path = "/consumers/g/instances/i";
    // It commits nothing of its own when it goes.
    let new = json!({"name": "i", "format": "json", "auto.commit.enable": "false"});
    assert_eq!(http.post("/consumers/g", &new).status, 200);
    assert_eq!(http.post(&format!("{path}/subscription"), &json!({"topics": ["t"]})).status, 204);
    let group = eventually("the group is stable", || {
        let answer = http.get("/admin/groups/g");
        (answer.status == 200 && answer.json()["state"] == "Stable").then(|| answer.json())
    });
    assert_eq!(group["members"][0]["client_id"], "i");
    assert_eq!(group["members"][0]["assignment"], json!([{"topic": "t", "partition": 0}]));
    let list = http.get("/admin/groups").json();
    let row =
        json!({"group_id": "g", "state": "Stable", "protocol_type": "consumer", "members": 1});
    assert_eq!(list, json!([row]));
    // With a member nothing can be moved or deleted.
    let reset = "/admin/groups/g/offsets:reset";
    let body = json!({"to": "earliest", "topics": ["t"], "dry_run": true});
    assert_eq!(refusal(&http.post(reset, &body)).0, 409);
    let (status, code, message) = refusal(&http.delete("/admin/groups/g"));
    assert_eq!((status, code), (409, 40002));
    assert!(message.contains("'g'"), "{message}");
    let committed = json!({"offsets": [{"topic": "t", "partition": 0, "offset": 6}]});
    assert_eq!(http.post(&format!("{path}/offsets"), &committed).status, 200);
    let offsets = "/admin/groups/g/offsets?topic=t";
    assert_eq!(refusal(&http.delete(offsets)).1, 40002);
    assert_eq!(http.delete(path).status, 204);
    eventually("the group is empty", || {
        (http.get("/admin/groups/g").json()["state"] == "Empty").then_some(())
    });
    let group = http.get("/admin/groups/g").json();
    assert_eq!(group["offsets"][0]["committed_offset"], 7);
    assert_eq!(group["total_lag"], 3);
    assert_eq!(moved(&http.post(reset, &json!({"to": "earliest"}))), [(0, Some(7), 0)]);
    let deleted = http.delete(offsets);
    assert_eq!(deleted.json(), json!({"deleted": [{"topic": "t", "partition": 0}]}));
    assert_eq!(http.get("/admin/groups/g").json()["offsets"], json!([]));
    assert_eq!(http.delete("/admin/groups/g").status, 204);
    assert_eq!(refusal(&http.get("/admin/groups/g")).1, 40405);
    assert_eq!(refusal(&http.delete("/admin/groups/g")).1, 40405);
}

#[test]
fn records_and_topics_are_deleted_by_http() {
    let (dir, server) = server();
    server.create_topic("t", 2, &[]);
    produce(&server, "t", 10);
    server.produce("t", 1, &["a"]);
    let mut http = server.http();
    let path = "/admin/topics/t/records:delete";
    let body = json!({"partitions": [
        {"partition": 1, "before_offset": -1}, {"partition": 0, "before_offset": 4},
    ]});
    let answer = http.post(path, &body);
    let wanted = json!({"partitions": [
        {"partition": 1, "log_start_offset": 1}, {"partition": 0, "log_start_offset": 4},
    ]});
    assert_eq!(answer.json(), wanted);
    let past = json!({"partitions": [{"partition": 0, "before_timestamp": 1}]});
    assert_eq!(http.post(path, &past).json()["partitions"][0]["log_start_offset"], 4);
    // Nothing is deleted if anything of the request is wrong.
    let half = json!({"partitions": [
        {"partition": 0, "before_offset": 8}, {"partition": 1, "before_offset": 2},
    ]});
    assert_eq!(refusal(&http.post(path, &half)).1, 40002);
    let begin = |http: &mut common::Http| {
        http.get("/topics/t/partitions/0/offsets").json()["beginning_offset"].as_i64()
    };
    assert_eq!(begin(&mut http), Some(4));
    server.kill();
    let server = Server::on(dir.path());
    let mut http = server.http();
    assert_eq!(begin(&mut http), Some(4));
    let patch = |http: &mut common::Http, path: &str, body: serde_json::Value| {
        let headers = [("content-type", "application/json")];
        http.send("PATCH", path, &headers, body.to_string().as_bytes()).unwrap()
    };
    let bad = json!({"partitions_count": 3, "configs": {"retention.ms": "long"}});
    assert_eq!(refusal(&patch(&mut http, "/admin/topics/t", bad)).1, 40002);
    let good = json!({"partitions_count": 3, "configs": {"retention.ms": "1000000000"}});
    assert_eq!(patch(&mut http, "/admin/topics/t", good).status, 204);
    let topic = http.get("/topics/t").json();
    assert_eq!(topic["partitions"].as_array().unwrap().len(), 3);
    assert_eq!(topic["configs"]["retention.ms"], "1000000000");
    let fewer = json!({"partitions_count": 2});
    assert_eq!(refusal(&patch(&mut http, "/admin/topics/t", fewer)).1, 40002);
    assert_eq!(refusal(&patch(&mut http, "/admin/topics/t", json!({}))).0, 422);
    let unknown = json!({"configs": {}, "partitions_count": 9});
    assert_eq!(refusal(&patch(&mut http, "/admin/topics/nope", unknown)).1, 40401);
    assert_eq!(http.delete("/admin/topics/t").status, 204);
    assert_eq!(refusal(&http.delete("/admin/topics/t")).1, 40401);
    assert_eq!(refusal(&http.delete("/admin/topics/__consumer_offsets")).1, 40301);
}

#[test]
fn bad_requests_are_refused_with_what_is_wrong() {
    let (_dir, server) = server();
    server.create_topic("t", 1, &[]);
    server.create_topic("compacted", 1, &[("cleanup.policy", "compact")]);
    assert_eq!(server.wire().commit("g", "t", 0, 0).unwrap(), 0);
    let reset = "/admin/groups/g/offsets:reset";
    let delete = "/admin/topics/t/records:delete";
    let zero = json!({"partition": 0, "before_offset": 0});
    let cases = [
        (reset, json!({}), 422, 422, "exactly one"),
        (reset, json!({"to": "latest", "to_offset": 1}), 422, 422, "exactly one"),
        (reset, json!({"to": "middle"}), 400, 400, "middle"),
        (reset, json!({"to": "latest", "topic": "t"}), 422, 422, "topic"),
        (reset, json!({"to_datetime": "noon"}), 422, 422, "noon"),
        (reset, json!({"to": "latest", "topics": ["nope"]}), 404, 40401, "nope"),
        (
            reset,
            json!({"to": "latest", "partitions": [{"topic": "t", "partition": 1}]}),
            404,
            40402,
            "1",
        ),
        ("/admin/groups/nope/offsets:reset", json!({"to": "latest"}), 404, 40405, "nope"),
        (
            "/admin/groups/nope/offsets:reset",
            json!({"shift_by": 1, "topics": ["t"]}),
            422,
            422,
            "t-0",
        ),
        (delete, json!({"partitions": [{"partition": 0}]}), 422, 422, "exactly one"),
        (delete, json!({"partitions": [zero.clone(), zero]}), 422, 422, "twice"),
        (delete, json!({"partitions": [{"partition": 1, "before_offset": 0}]}), 404, 40402, "1"),
        (delete, json!({"partitions": [{"partition": 0, "before_offset": 9}]}), 400, 40002, "9"),
        (delete, json!({"partitions": [{"partition": 0, "before_offset": -2}]}), 400, 40002, "-2"),
        (delete, json!({}), 422, 422, "partitions"),
        ("/admin/topics/nope/records:delete", json!({"partitions": []}), 404, 40401, "nope"),
        (
            "/admin/topics/compacted/records:delete",
            json!({"partitions": [{"partition": 0, "before_offset": -1}]}),
            400,
            40002,
            "cleanup.policy",
        ),
    ];
    let mut http = server.http();
    for (path, body, status, code, text) in cases {
        let answer = http.post(path, &body);
        let (got_status, got_code, message) = refusal(&answer);
        assert_eq!((got_status, got_code), (status, code), "{path} {body}: {answer}");
        assert!(message.contains(text), "{path} {body}: {message}");
    }
    assert_eq!(refusal(&http.delete("/admin/groups/g/offsets")).0, 422);
    assert_eq!(refusal(&http.delete("/admin/groups/g/offsets?topic=t&partition=x")).0, 400);
    assert_eq!(refusal(&http.delete("/admin/groups/g/offsets?topic=t&partition=3")).1, 40402);
}
