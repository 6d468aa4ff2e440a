//! Instances hear of rebalances at once: here no heartbeat comes by time while a test runs.

use std::time::Duration;

use super::fake_engine::FakeEngine;
use super::tests::{PATIENCE, Server};
use super::*;
use crate::base::ids::{GroupId, TopicName, TopicPartition};
use crate::engine::Groups;
use crate::engine::groups::{
    Join, JoinReply, LeaveMember, MemberIdPolicy, Membership, SkipAssignmentSupport, Sync,
};
use crate::protocol::consumer_protocol as protocol;

/// Starts a server whose sessions and heartbeats are far longer than any test.
fn server() -> Server {
    let options = ConsumersOptions {
        heartbeat_interval: Duration::from_secs(3_600),
        session_timeout_ms: 1_800_000,
        ..ConsumersOptions::default()
    };
    assert!(options.heartbeat_period() > PATIENCE * 20);
    Server::with(&FakeEngine::new(), options)
}

fn native_join() -> Join {
    let topics = [TopicName::parse("t").unwrap()];
    Join {
        group: GroupId::from("g"),
        member_id: String::new(),
        group_instance_id: None,
        client_id: "native".to_owned(),
        client_host: "/127.0.0.1".to_owned(),
        session_timeout_ms: 1_800_000,
        rebalance_timeout_ms: 1_800_000,
        protocol_type: "consumer".to_owned(),
        protocols: vec![("range".to_owned(), protocol::encode_subscription(&topics))],
        member_id_policy: MemberIdPolicy::AdmitUnknown,
        skip_assignment_support: SkipAssignmentSupport::Unsupported,
    }
}

/// Joins as a native member that does not lead, and returns its share.
async fn join_natively(server: &Server) -> (JoinReply, Vec<TopicPartition>) {
    let joining = server.fake.join(native_join());
    let joined = tokio::time::timeout(PATIENCE, joining).await.unwrap().unwrap();
    let sync = Sync {
        group: GroupId::from("g"),
        member_id: joined.member_id.as_str().to_owned(),
        generation_id: joined.generation_id,
        group_instance_id: None,
        protocol_type: None,
        protocol_name: None,
        assignments: Vec::new(),
    };
    let synced = tokio::time::timeout(PATIENCE, server.fake.sync(sync)).await.unwrap().unwrap();
    (joined, protocol::decode_assignment(&synced.assignment).unwrap())
}

#[tokio::test]
async fn a_native_member_shares_the_group() {
    let server = server();
    server.fake.topic("t", 4);
    let key = server.subscribed("i", "t").await;
    server.shares(&[&key], 4).await;
    let (joined, native) = join_natively(&server).await;
    let ours = server.shares(&[&key], 2).await.concat();
    assert_eq!(native.len(), 2);
    assert!(native.iter().all(|partition| !ours.contains(partition)));
    let (group, member_id) = (GroupId::from("g"), joined.member_id.as_str().to_owned());
    let generation_id = joined.generation_id;
    let speaker = Membership { group, member_id, generation_id, group_instance_id: None };
    assert_eq!(server.fake.heartbeat(speaker).await, Ok(()));
}

#[tokio::test]
async fn what_a_native_member_leaves_goes_to_the_others() {
    let server = server();
    server.fake.topic("t", 4);
    let key = server.subscribed("i", "t").await;
    server.shares(&[&key], 4).await;
    let (joined, _) = join_natively(&server).await;
    server.shares(&[&key], 2).await;
    let member_id = joined.member_id.as_str().to_owned();
    let member = LeaveMember { member_id, group_instance_id: None };
    server.fake.leave(GroupId::from("g"), vec![member]).await.unwrap();
    server.shares(&[&key], 4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn instances_that_come_together_miss_nothing() {
    let server = server();
    server.fake.topic("t", 8);
    for round in 0..20 {
        let names: Vec<String> = (0..8).map(|n| format!("i{round}-{n}")).collect();
        let subscribing = names.iter().map(|name| server.subscribed(name, "t"));
        let keys = futures_util::future::join_all(subscribing).await;
        let keys: Vec<&InstanceKey> = keys.iter().collect();
        let shares = server.shares(&keys, 8).await;
        assert!(shares.iter().all(|share| share.len() == 1), "{shares:?}");
        for key in keys {
            server.consumers.delete(key).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_member_whose_session_ended_elsewhere_joins_again() {
    let server = server();
    server.fake.topic("t", 2);
    let key = server.subscribed("i", "t").await;
    server.shares(&[&key], 2).await;
    let before = server.consumers.describe(&key).unwrap().member_id;
    server.fake.forget_members("g");
    let joined_again = async {
        while server.consumers.describe(&key).unwrap().member_id == before {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, joined_again).await.unwrap();
    server.shares(&[&key], 2).await;
}
