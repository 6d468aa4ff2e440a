//! Behaviour of instances on a fake engine with the real group coordinator.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;

use super::fake_engine::FakeEngine;
use super::*;
use crate::base::ids::{GroupId, Offset, TopicName, TopicPartition};
use crate::base::shutdown::Shutdown;
use crate::protocol::record_batch::BatchBuilder;

/// Longer than anything here takes; reaching it is a failure.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

pub(super) struct Server {
    pub(super) fake: Arc<FakeEngine>,
    pub(super) consumers: Consumers,
    shutdown: Shutdown,
}

impl Server {
    fn start(fake: &Arc<FakeEngine>) -> Self {
        let heartbeat_interval = Duration::from_millis(20);
        Self::with(fake, ConsumersOptions { heartbeat_interval, ..ConsumersOptions::default() })
    }

    pub(super) fn with(fake: &Arc<FakeEngine>, mut options: ConsumersOptions) -> Self {
        let shutdown = Shutdown::new();
        options.instances_max = 10;
        let consumers =
            Consumers::start(fake.engine(), fake.clock.clone(), shutdown.clone(), options);
        Self { fake: fake.clone(), consumers, shutdown }
    }

    pub(super) fn new() -> Self {
        Self::start(&FakeEngine::new())
    }

    /// Stops and starts again on the same engine.
    pub(super) async fn restart(self) -> Self {
        self.shutdown.stop();
        self.shutdown.drained().await;
        Self::start(&self.fake)
    }

    async fn create(&self, name: &str, change: impl FnOnce(&mut NewInstance)) -> InstanceKey {
        let mut new = NewInstance {
            name: Some(name.to_owned()),
            auto_offset_reset: OffsetReset::Earliest,
            auto_commit: false,
            ..NewInstance::default()
        };
        change(&mut new);
        self.consumers.create(GroupId::from("g"), new).await.unwrap()
    }

    pub(super) async fn subscribed(&self, name: &str, topic: &str) -> InstanceKey {
        let key = self.create(name, |_| {}).await;
        self.subscribe(&key, topic).await;
        key
    }

    async fn subscribe(&self, key: &InstanceKey, topic: &str) {
        let topics = Subscribe::Topics(vec![topic.to_owned()]);
        self.consumers.subscribe(key, topics).await.unwrap();
    }

    async fn poll(&self, key: &InstanceKey) -> Delivery {
        self.poll_up_to(key, 1 << 20).await
    }

    async fn poll_up_to(&self, key: &InstanceKey, bytes_max: usize) -> Delivery {
        let request = PollRequest { timeout: Some(PATIENCE), bytes_max: Some(bytes_max) };
        let polled = tokio::time::timeout(PATIENCE, self.consumers.poll(key, request));
        polled.await.unwrap().unwrap()
    }

    /// Polls what is there already and confirms it.
    async fn take(&self, key: &InstanceKey, bytes_max: usize) -> Vec<String> {
        let delivery = self.poll_up_to(key, bytes_max).await;
        let values = values(&delivery);
        delivery.confirm();
        values
    }

    async fn is_empty(&self, key: &InstanceKey) -> bool {
        let request = PollRequest { timeout: Some(Duration::ZERO), bytes_max: None };
        self.consumers.poll(key, request).await.unwrap().is_empty()
    }

    pub(super) fn committed(&self, topic: &TopicName, partition: i32) -> Option<Offset> {
        self.fake.committed_offset("g", &TopicPartition::new(topic.clone(), partition))
    }

    /// Waits until the assignments are disjoint, whole and settled.
    pub(super) async fn shares(
        &self,
        keys: &[&InstanceKey],
        count: usize,
    ) -> Vec<Vec<TopicPartition>> {
        let shared = async {
            loop {
                let mut shares = Vec::new();
                for key in keys {
                    shares.push(self.consumers.assignment(key).await.unwrap());
                }
                let all: Vec<_> = shares.iter().flatten().cloned().collect();
                let distinct: BTreeSet<_> = all.iter().cloned().collect();
                if all.len() == count && distinct.len() == count {
                    return shares;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, shared).await.unwrap()
    }
}

pub(super) async fn eventually(mut condition: impl FnMut() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap();
}

fn values(delivery: &Delivery) -> Vec<String> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    delivery.records().map(|(_, _, record)| text(record.value.unwrap())).collect()
}

#[tokio::test]
async fn first_poll_after_subscribe_returns_records() {
    let server = Server::new();
    let topic = server.fake.topic("t", 2);
    server.fake.append_values(&topic, 1, &["a", "b"]);
    let key = server.subscribed("i", "t").await;
    let delivery = server.poll(&key).await;
    assert_eq!(values(&delivery), ["a", "b"]);
    assert_eq!((delivery.record_count(), delivery.bytes()), (2, 2));
}

#[tokio::test]
async fn a_waiting_poll_returns_what_arrives_and_does_not_read_meanwhile() {
    let server = Server::new();
    let topic = server.fake.topic("t", 1);
    let key = server.subscribed("i", "t").await;
    server.shares(&[&key], 1).await;
    let poll = server.poll(&key);
    let produce = async {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(server.fake.reads.load(Ordering::Relaxed), 0);
        server.fake.append_values(&topic, 0, &["late"]);
    };
    let (delivery, ()) = tokio::join!(poll, produce);
    assert_eq!(values(&delivery), ["late"]);
    assert_eq!(server.fake.reads.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn two_instances_share_a_topic_and_the_rest_takes_over_on_leave() {
    let server = Server::new();
    server.fake.topic("t", 5);
    let a = server.subscribed("a", "t").await;
    server.shares(&[&a], 5).await;
    let b = server.subscribed("b", "t").await;
    let shares = server.shares(&[&a, &b], 5).await;
    let sizes: BTreeSet<usize> = shares.iter().map(Vec::len).collect();
    assert_eq!(sizes, BTreeSet::from([2, 3]));
    server.consumers.delete(&a).await.unwrap();
    server.shares(&[&b], 5).await;
    assert!(matches!(server.consumers.describe(&a), Err(ConsumerError::NotFound { .. })));
}

#[tokio::test]
async fn an_oversized_record_comes_alone() {
    let server = Server::new();
    let topic = server.fake.topic("t", 1);
    server.fake.append_values(&topic, 0, &["much too large", "b", "c", "d"]);
    let key = server.subscribed("i", "t").await;
    assert_eq!(server.take(&key, 2).await, ["much too large"]);
    assert_eq!(server.take(&key, 2).await, ["b", "c"]);
    assert_eq!(server.take(&key, 2).await, ["d"]);
    // The batch was read once and kept open between the polls.
    assert_eq!(server.fake.reads.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_delivery_that_is_not_confirmed_comes_again() {
    let server = Server::new();
    let topic = server.fake.topic("t", 1);
    server.fake.append_values(&topic, 0, &["poison", "b"]);
    let key = server.subscribed("i", "t").await;
    assert_eq!(values(&server.poll_up_to(&key, 1).await), ["poison"]);
    assert_eq!(server.take(&key, 1).await, ["poison"]);
    assert_eq!(server.take(&key, 1).await, ["b"]);
}

#[tokio::test]
async fn an_empty_commit_commits_exactly_what_was_delivered() {
    let server = Server::new();
    let topic = server.fake.topic("t", 2);
    server.fake.append_values(&topic, 0, &["a", "b", "c"]);
    let key = server.subscribed("i", "t").await;
    server.consumers.commit(&key, None).await.unwrap();
    assert_eq!(server.committed(&topic, 0), None);
    assert_eq!(server.take(&key, 2).await, ["a", "b"]);
    let unconfirmed = server.poll_up_to(&key, 2).await;
    assert_eq!(values(&unconfirmed), ["c"]);
    drop(unconfirmed);
    server.consumers.commit(&key, None).await.unwrap();
    assert_eq!((server.committed(&topic, 0), server.committed(&topic, 1)), (Some(2), None));
    let committed = server.consumers.committed(&key, None).await.unwrap();
    assert_eq!(committed.len(), 1);
    assert_eq!(committed[0].1.offset, 2);
}

#[tokio::test]
async fn a_commit_of_given_offsets_is_taken_as_it_is() {
    let server = Server::new();
    let topic = server.fake.topic("t", 1);
    let key = server.subscribed("i", "t").await;
    server.shares(&[&key], 1).await;
    let partition = TopicPartition::new(topic.clone(), 0);
    let commit = |offset| {
        vec![OffsetCommit { partition: partition.clone(), offset, metadata: "note".to_owned() }]
    };
    server.consumers.commit(&key, Some(commit(7))).await.unwrap();
    assert_eq!(server.committed(&topic, 0), Some(7));
    let refused = server.consumers.commit(&key, Some(commit(-1))).await;
    assert!(matches!(refused, Err(ConsumerError::InvalidOffset { offset: -1, .. })));
}

#[tokio::test]
async fn auto_commit_follows_the_client_and_never_goes_ahead() {
    let server = Server::new();
    let topic = server.fake.topic("t", 1);
    server.fake.append_values(&topic, 0, &["a", "b", "c", "d"]);
    let key = server.create("i", |new| new.auto_commit = true).await;
    server.subscribe(&key, "t").await;
    server.take(&key, 2).await;
    server.fake.clock.advance(4_999);
    server.take(&key, 1).await;
    assert_eq!(server.committed(&topic, 0), None);
    server.fake.clock.advance(1);
    server.take(&key, 1).await;
    // The third poll showed that the records of the first two arrived.
    assert_eq!(server.committed(&topic, 0), Some(3));
    let partition = TopicPartition::new(topic.clone(), 0);
    server.consumers.seek(&key, vec![(partition, 1)]).await.unwrap();
    server.take(&key, 1).await;
    server.consumers.delete(&key).await.unwrap();
    assert_eq!(server.committed(&topic, 0), Some(2));
}

#[tokio::test]
async fn a_restart_continues_behind_what_was_committed() {
    let server = Server::new();
    let topic = server.fake.topic("t", 1);
    server.fake.append_values(&topic, 0, &["a", "b", "c"]);
    let key = server.subscribed("i", "t").await;
    server.take(&key, 1).await;
    server.consumers.commit(&key, None).await.unwrap();
    server.take(&key, 1).await;
    let before = server.consumers.describe(&key).unwrap();
    let joins = server.fake.joins.load(Ordering::Relaxed);
    let server = server.restart().await;
    assert_eq!(server.take(&key, 9).await, ["b", "c"]);
    // The coordinator still had the member: it goes on without a rebalance.
    assert_eq!(server.consumers.describe(&key).unwrap(), before);
    assert_eq!(server.fake.joins.load(Ordering::Relaxed), joins);
    assert_eq!(server.fake.members("g"), 1);
}

#[tokio::test]
async fn a_restart_that_lost_the_member_joins_afresh() {
    let server = Server::new();
    let topic = server.fake.topic("t", 1);
    let key = server.create("i", |new| new.auto_offset_reset = OffsetReset::Latest).await;
    server.fake.append_values(&topic, 0, &["before"]);
    server.subscribe(&key, "t").await;
    server.shares(&[&key], 1).await;
    server.shutdown.stop();
    server.shutdown.drained().await;
    server.fake.append_values(&topic, 0, &["meanwhile"]);
    server.fake.forget_members("g");
    let server = Server::start(&server.fake);
    // "latest" means when the instance began, not when it was restarted.
    assert_eq!(server.take(&key, 99).await, ["meanwhile"]);
    assert_eq!(server.fake.members("g"), 1);
}

#[tokio::test]
async fn a_topic_that_grew_while_the_server_was_down_is_assigned_anew() {
    let server = Server::new();
    server.fake.topic("t", 1);
    let key = server.subscribed("i", "t").await;
    server.shares(&[&key], 1).await;
    server.shutdown.stop();
    server.shutdown.drained().await;
    server.fake.topic("t", 2);
    let server = Server::start(&server.fake);
    server.shares(&[&key], 2).await;
    assert_eq!(server.fake.members("g"), 1);
}

#[tokio::test]
async fn seeks_and_assignments_survive_a_restart() {
    let server = Server::new();
    let topic = server.fake.topic("t", 1);
    server.fake.append_values(&topic, 0, &["a", "b", "c"]);
    let partition = TopicPartition::new(topic, 0);
    let key = server.create("i", |_| {}).await;
    server.consumers.assign(&key, vec![partition.clone()]).await.unwrap();
    server.consumers.seek(&key, vec![(partition.clone(), 2)]).await.unwrap();
    let server = server.restart().await;
    assert_eq!(server.take(&key, 9).await, ["c"]);
    server.consumers.commit(&key, None).await.unwrap();
    let server = server.restart().await;
    assert_eq!(server.consumers.assignment(&key).await.unwrap(), [partition]);
    assert!(server.is_empty(&key).await);
    let topics = Subscribe::Topics(vec!["t".to_owned()]);
    let refused = server.consumers.subscribe(&key, topics).await;
    assert_eq!(refused, Err(ConsumerError::SubscriptionConflict));
}

#[tokio::test]
async fn a_pattern_picks_up_new_topics_and_no_internal_ones() {
    let server = Server::new();
    server.fake.topic("__orders", 1);
    let first = server.fake.topic("orders-1", 1);
    let key = server.create("i", |_| {}).await;
    let pattern = Subscribe::Pattern(".*orders.*".to_owned());
    server.consumers.subscribe(&key, pattern).await.unwrap();
    server.shares(&[&key], 1).await;
    let second = server.fake.topic("orders-2", 2);
    server.shares(&[&key], 3).await;
    assert_eq!(server.consumers.subscription(&key).unwrap(), [first, second.clone()]);
    server.fake.append_values(&second, 1, &["new"]);
    assert_eq!(server.take(&key, 9).await, ["new"]);
    server.fake.drop_topic("orders-1");
    server.shares(&[&key], 2).await;
}

#[tokio::test]
async fn a_topic_that_comes_or_grows_later_is_read() {
    let server = Server::new();
    let key = server.subscribed("i", "later").await;
    assert_eq!(server.consumers.assignment(&key).await.unwrap(), []);
    server.fake.topic("later", 1);
    server.shares(&[&key], 1).await;
    let topic = server.fake.topic("later", 3);
    server.shares(&[&key], 3).await;
    server.fake.append_values(&topic, 2, &["x"]);
    assert_eq!(server.take(&key, 9).await, ["x"]);
}

#[tokio::test]
async fn an_idle_instance_expires_and_leaves() {
    let server = Server::new();
    let topic = server.fake.topic("t", 1);
    server.fake.append_values(&topic, 0, &["a", "b"]);
    let key = server.create("i", |new| new.auto_commit = true).await;
    server.subscribe(&key, "t").await;
    server.take(&key, 1).await;
    server.take(&key, 1).await;
    assert!(server.fake.document(&key).is_some());
    server.fake.clock.advance(299_999);
    assert!(server.consumers.describe(&key).is_ok());
    server.fake.clock.advance(300_000);
    eventually(|| server.fake.document(&key).is_none()).await;
    eventually(|| server.consumers.count() == 0).await;
    assert_eq!(server.fake.members("g"), 0);
    // The client never came back for more, so its last record may not have arrived.
    assert_eq!(server.committed(&topic, 0), Some(1));
}

#[tokio::test]
async fn concurrent_polls_follow_each_other() {
    let server = Server::new();
    let topic = server.fake.topic("t", 1);
    server.fake.append_values(&topic, 0, &["a", "b", "c", "d"]);
    let key = server.subscribed("i", "t").await;
    let take = || server.take(&key, 1);
    let (a, b, c, d) = tokio::join!(take(), take(), take(), take());
    let seen: BTreeSet<String> = [a, b, c, d].concat().into_iter().collect();
    assert_eq!(seen.len(), 4);
}

#[tokio::test]
async fn a_seek_beats_a_delivery_and_a_position_out_of_range_is_reset() {
    let server = Server::new();
    let topic = server.fake.topic("t", 1);
    for value in ["a", "b", "c"] {
        server.fake.append_values(&topic, 0, &[value]);
    }
    let partition = TopicPartition::new(topic.clone(), 0);
    let key = server.subscribed("i", "t").await;
    let delivery = server.poll(&key).await;
    server.consumers.seek(&key, vec![(partition.clone(), 0)]).await.unwrap();
    delivery.confirm();
    assert_eq!(server.take(&key, 99).await, ["a", "b", "c"]);
    server.consumers.seek_to_beginning(&key, Vec::new()).await.unwrap();
    server.fake.retain(&topic, 0, 2);
    assert_eq!(server.take(&key, 99).await, ["c"]);
    server.consumers.seek(&key, vec![(partition.clone(), 99)]).await.unwrap();
    assert_eq!(server.take(&key, 99).await, ["c"]);
    server.consumers.seek_to_timestamp(&key, vec![(partition.clone(), 7)]).await.unwrap();
    assert_eq!(server.take(&key, 99).await, ["c"]);
    server.consumers.seek_to_end(&key, vec![partition]).await.unwrap();
    assert!(server.is_empty(&key).await);
    let elsewhere = TopicPartition::new(topic, 1);
    let refused = server.consumers.seek(&key, vec![(elsewhere.clone(), 0)]).await;
    assert_eq!(refused, Err(ConsumerError::NotAssigned(elsewhere)));
}

#[tokio::test]
async fn a_damaged_batch_is_an_error_and_the_good_part_is_served() {
    let server = Server::new();
    let topic = server.fake.topic("t", 1);
    server.fake.append_values(&topic, 0, &["good"]);
    let mut builder = BatchBuilder::new();
    builder.push(1, None, Some(b"bad"), std::iter::empty());
    let mut bad = builder.finish().to_vec();
    *bad.last_mut().unwrap() ^= 1;
    server.fake.append_batch(&topic, 0, &Bytes::from(bad));
    let key = server.subscribed("i", "t").await;
    assert_eq!(server.take(&key, 99).await, ["good"]);
    let refused = server.consumers.poll(&key, PollRequest::default()).await.map(|_| ());
    assert!(matches!(refused, Err(ConsumerError::Damaged { offset: 1, .. })));
}

#[tokio::test]
async fn names_limits_and_missing_subscriptions_are_refused() {
    let server = Server::new();
    let key = server.create("i", |_| {}).await;
    let new = NewInstance { name: Some("i".to_owned()), ..NewInstance::default() };
    let taken = server.consumers.create(GroupId::from("g"), new).await;
    assert!(matches!(taken, Err(ConsumerError::NameTaken { .. })));
    let refused = server.consumers.poll(&key, PollRequest::default()).await.map(|_| ());
    assert_eq!(refused, Err(ConsumerError::NotSubscribed));
    for _ in 1..10 {
        let key = server.consumers.create(GroupId::from("g"), NewInstance::default()).await;
        assert!(key.unwrap().name.starts_with("rest-consumer-"));
    }
    let refused = server.consumers.create(GroupId::from("g"), NewInstance::default()).await;
    assert_eq!(refused, Err(ConsumerError::TooManyInstances(10)));
    server.consumers.delete(&key).await.unwrap();
    assert_eq!(server.consumers.count(), 9);
}

#[tokio::test]
async fn no_reset_and_no_commit_is_an_error() {
    let server = Server::new();
    let topic = server.fake.topic("t", 1);
    let key = server.create("i", |new| new.auto_offset_reset = OffsetReset::None).await;
    server.subscribe(&key, "t").await;
    let refused = server.consumers.poll(&key, PollRequest::default()).await.map(|_| ());
    assert_eq!(refused, Err(ConsumerError::NoOffset(TopicPartition::new(topic, 0))));
}

#[tokio::test]
async fn a_removed_member_joins_again_and_continues() {
    let server = Server::new();
    let topic = server.fake.topic("t", 1);
    server.fake.append_values(&topic, 0, &["a", "b"]);
    let key = server.subscribed("i", "t").await;
    server.take(&key, 1).await;
    server.consumers.commit(&key, None).await.unwrap();
    server.fake.forget_members("g");
    let before = server.consumers.describe(&key).unwrap().member_id;
    eventually(|| {
        let now = server.consumers.describe(&key).unwrap();
        now.member_id != before && now.generation_id > 0
    })
    .await;
    assert_eq!(server.take(&key, 9).await, ["b"]);
}

#[tokio::test]
async fn polls_end_when_the_server_stops() {
    let server = Server::new();
    server.fake.topic("t", 1);
    let key = server.subscribed("i", "t").await;
    server.shares(&[&key], 1).await;
    let request = PollRequest { timeout: Some(PATIENCE), bytes_max: None };
    let stop = async { server.shutdown.stop() };
    let (polled, ()) = tokio::join!(server.consumers.poll(&key, request), stop);
    assert_eq!(polled.map(|_| ()), Err(ConsumerError::ShuttingDown));
    server.shutdown.drained().await;
    assert_eq!(server.fake.members("g"), 1);
}

#[tokio::test]
async fn an_instance_that_unsubscribes_while_it_joins_stalls_nobody() {
    let server = Server::new();
    server.fake.topic("t", 2);
    let a = server.subscribed("a", "t").await;
    server.consumers.unsubscribe(&a).await.unwrap();
    let b = server.subscribed("b", "t").await;
    server.shares(&[&b], 2).await;
    server.subscribe(&a, "t").await;
    server.shares(&[&a, &b], 2).await;
    server.consumers.unsubscribe(&a).await.unwrap();
    assert_eq!(server.consumers.assignment(&a).await.unwrap(), []);
    server.shares(&[&b], 2).await;
    assert_eq!(server.fake.members("g"), 1);
}

#[tokio::test]
async fn calls_can_be_made_from_any_thread() {
    fn must_be_send<T: Send>(value: T) -> T {
        value
    }
    let server = Server::new();
    let topic = server.fake.topic("t", 1);
    server.fake.append_values(&topic, 0, &["a"]);
    let key = must_be_send(server.subscribed("i", "t")).await;
    let delivery = must_be_send(must_be_send(server.poll(&key)).await);
    must_be_send(server.consumers.commit(&key, None)).await.unwrap();
    delivery.confirm();
    must_be_send(server.consumers.delete(&key)).await.unwrap();
}
