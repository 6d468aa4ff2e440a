//! Administration of groups and records, on both doors, and what a `kill -9` leaves of it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use bytes::BytesMut;
use common::wire::text;
use common::{Server, Wire, eventually, partition_dir, segments};
use hydrant::protocol::ErrorCode;
use hydrant::protocol::messages as kafka;

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
