//! Behaviour of live members on a fake engine with the real group coordinator.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::base::ids::{GroupId, Offset, TopicName, TopicPartition};
use crate::consumers::tests::{PATIENCE, Server, eventually};
use crate::consumers::{ConsumerError, OffsetReset, Subscribe};
use crate::engine::log::Isolation;

pub(super) fn new(member: &str, ack: AckMode) -> NewLiveMember {
    NewLiveMember {
        group: GroupId::from("g"),
        member: member.to_owned(),
        subscribe: Subscribe::Topics(vec!["t".to_owned()]),
        auto_offset_reset: OffsetReset::Earliest,
        isolation: Isolation::ReadUncommitted,
        ack,
        resume: Vec::new(),
    }
}

/// A member with what it has seen.
pub(super) struct Stream {
    pub(super) member: Arc<LiveMember>,
    seen: Seen,
}

impl Stream {
    pub(super) async fn open(server: &Server, new: NewLiveMember) -> Self {
        Self::of(server.consumers.open_stream(new).await.unwrap())
    }

    pub(super) fn of(member: LiveMember) -> Self {
        Self { member: Arc::new(member), seen: Seen::default() }
    }

    pub(super) async fn change(&mut self) -> Change {
        let change = tokio::time::timeout(PATIENCE, self.member.change(self.seen));
        let (change, seen) = change.await.unwrap();
        self.seen = seen;
        change
    }

    /// The next assignment; acknowledgements and revocations before it are passed over.
    pub(super) async fn assigned(&mut self) -> Assignment {
        loop {
            match self.change().await {
                Change::Assigned(assignment) => return assignment,
                Change::Revoked | Change::Acknowledged => {}
                other => panic!("{other:?}"),
            }
        }
    }

    pub(super) fn wrote(&self, topic: &TopicName, partition: i32, next: Offset) -> u64 {
        self.member.wrote([(&at(topic, partition), next)].into_iter())
    }
}

pub(super) fn at(topic: &TopicName, partition: i32) -> TopicPartition {
    TopicPartition::new(topic.clone(), partition)
}

fn positions(assignment: &Assignment) -> Vec<(i32, Option<Offset>)> {
    assignment.partitions.iter().map(|p| (p.partition.partition, p.position)).collect()
}

pub(super) fn ack(topic: &TopicName, partition: i32, next: Offset) -> Ack {
    Ack { partition: at(topic, partition), next }
}

async fn acknowledge(server: &Server, member: &str, acks: &[Ack]) -> Vec<AckOutcome> {
    server.consumers.acknowledge(&GroupId::from("g"), member, acks).await.unwrap()
}

#[tokio::test]
async fn acknowledgements_commit_and_never_go_back() {
    let server = Server::new();
    let topic = server.fake.topic("t", 1);
    server.fake.append_values(&topic, 0, &["a", "b", "c"]);
    let mut stream = Stream::open(&server, new("m", AckMode::Explicit)).await;
    assert_eq!(positions(&stream.assigned().await), [(0, Some(0))]);
    let done = acknowledge(&server, "m", &[ack(&topic, 0, 0)]).await;
    assert_eq!((done[0].status, done[0].committed), (AckStatus::Committed, Some(0)));
    assert_eq!(stream.change().await, Change::Acknowledged);
    assert_eq!(stream.wrote(&topic, 0, 3), 3);
    let done = acknowledge(&server, "m", &[ack(&topic, 0, 2)]).await;
    assert_eq!((done[0].status, done[0].committed), (AckStatus::Committed, Some(2)));
    assert_eq!(stream.change().await, Change::Acknowledged);
    assert_eq!(stream.member.unacknowledged(), 1);
    let done = acknowledge(&server, "m", &[ack(&topic, 0, 1)]).await;
    assert_eq!((done[0].status, done[0].committed), (AckStatus::Unchanged, Some(2)));
    assert_eq!(server.committed(&topic, 0), Some(2));
    let far = server.consumers.acknowledge(&GroupId::from("g"), "m", &[ack(&topic, 0, 4)]).await;
    assert!(matches!(far, Err(ConsumerError::AckOutOfRange { next: 4, end: 3, .. })), "{far:?}");
    let other = server.fake.topic("u", 1);
    let done = acknowledge(&server, "m", &[ack(&other, 0, 0)]).await;
    assert_eq!((done[0].status, done[0].committed), (AckStatus::NotAssigned, None));
}

#[tokio::test]
async fn a_connection_that_comes_back_keeps_the_assignment() {
    let server = Server::new();
    let topic = server.fake.topic("t", 2);
    server.fake.append_values(&topic, 0, &["a", "b", "c"]);
    let mut first = Stream::open(&server, new("m", AckMode::Explicit)).await;
    let before = first.assigned().await;
    first.wrote(&topic, 0, 3);
    acknowledge(&server, "m", &[ack(&topic, 0, 1)]).await;
    drop(first);
    let mut second = Stream::open(&server, new("m", AckMode::Explicit)).await;
    let after = second.assigned().await;
    assert_eq!(after.generation_id, before.generation_id);
    // What was written and not acknowledged comes again.
    assert_eq!(positions(&after), [(0, Some(1)), (1, Some(0))]);
    drop(second);
    let resume = vec![(at(&topic, 0), 3)];
    let mut third =
        Stream::open(&server, NewLiveMember { resume, ..new("m", AckMode::Auto) }).await;
    assert_eq!(positions(&third.assigned().await), [(0, Some(3)), (1, Some(0))]);
    eventually(|| server.committed(&topic, 0) == Some(3)).await;
}

#[tokio::test]
async fn a_restart_of_the_server_needs_no_rebalance() {
    let server = Server::new();
    let topic = server.fake.topic("t", 2);
    server.fake.append_values(&topic, 1, &["a", "b", "c"]);
    let mut one = Stream::open(&server, new("one", AckMode::Explicit)).await;
    let mut two = Stream::open(&server, new("two", AckMode::Explicit)).await;
    let share = loop {
        let assignment = two.assigned().await;
        if assignment.partitions.len() == 1 {
            break assignment;
        }
    };
    let mine = loop {
        let assignment = one.assigned().await;
        if assignment.partitions.len() == 1 && assignment.generation_id == share.generation_id {
            break assignment;
        }
    };
    drop((one, two));
    let server = server.restart().await;
    let mut one = Stream::open(&server, new("one", AckMode::Explicit)).await;
    let mut two = Stream::open(&server, new("two", AckMode::Explicit)).await;
    assert_eq!(one.assigned().await, mine);
    assert_eq!(two.assigned().await, share);
}

#[tokio::test]
async fn other_topics_after_a_restart_are_assigned_anew() {
    let server = Server::new();
    server.fake.topic("t", 1);
    let other = server.fake.topic("u", 1);
    let mut stream = Stream::open(&server, new("m", AckMode::Explicit)).await;
    stream.assigned().await;
    drop(stream);
    let server = server.restart().await;
    let subscribe = Subscribe::Topics(vec!["u".to_owned()]);
    let again = NewLiveMember { subscribe, ..new("m", AckMode::Explicit) };
    let mut stream = Stream::open(&server, again).await;
    let assignment = stream.assigned().await;
    let topics: Vec<_> = assignment.partitions.iter().map(|p| &p.partition.topic).collect();
    assert_eq!(topics, [&other]);
}

#[tokio::test]
async fn the_newer_of_two_connections_has_the_member() {
    let server = Server::new();
    let topic = server.fake.topic("t", 1);
    server.fake.append_values(&topic, 0, &["a"]);
    let mut older = Stream::open(&server, new("m", AckMode::Explicit)).await;
    older.assigned().await;
    let mut newer = Stream::open(&server, new("m", AckMode::Explicit)).await;
    assert_eq!(older.change().await, Change::Fenced);
    newer.assigned().await;
    // What the older one writes from here on counts for nothing.
    assert_eq!(older.wrote(&topic, 0, 1), 0);
    drop(older);
    assert_eq!(newer.member.unacknowledged(), 0);
    assert!(newer.member.call.instance.state().session.is_streaming);
}

#[tokio::test]
async fn a_rebalance_waits_for_the_last_acknowledgements() {
    let server = Server::new();
    let topic = server.fake.topic("t", 2);
    server.fake.append_values(&topic, 0, &["a", "b"]);
    let mut one = Stream::open(&server, new("one", AckMode::Explicit)).await;
    one.assigned().await;
    one.wrote(&topic, 0, 2);
    let mut two = Stream::open(&server, new("two", AckMode::Explicit)).await;
    assert_eq!(one.change().await, Change::Revoked);
    // The group waits, and the acknowledgement still counts.
    let done = acknowledge(&server, "one", &[ack(&topic, 0, 2)]).await;
    assert_eq!(done[0].status, AckStatus::Committed);
    let (one, two) = (one.assigned().await, two.assigned().await);
    let mut all: Vec<_> = positions(&one).into_iter().chain(positions(&two)).collect();
    all.sort_unstable();
    assert_eq!(all, [(0, Some(2)), (1, Some(0))]);
}

#[tokio::test]
async fn a_member_that_stays_away_is_let_go() {
    let server = Server::new();
    server.fake.topic("t", 1);
    let mut stream = Stream::open(&server, new("m", AckMode::Explicit)).await;
    stream.assigned().await;
    drop(stream);
    server.fake.clock.advance(44_000);
    let is_member = || server.consumers.static_call(&GroupId::from("g"), "m").is_ok();
    assert!(is_member());
    // Asking was a call; the session counts from there.
    server.fake.clock.advance(45_000);
    eventually(|| server.consumers.count() == 0).await;
    assert!(!is_member());
}

#[tokio::test]
async fn closing_ends_the_stream_and_frees_the_name() {
    let server = Server::new();
    let topic = server.fake.topic("t", 1);
    server.fake.append_values(&topic, 0, &["a"]);
    let mut stream = Stream::open(&server, new("m", AckMode::Auto)).await;
    stream.assigned().await;
    stream.wrote(&topic, 0, 1);
    stream.member.acknowledge([(&at(&topic, 0), 1)].into_iter());
    server.consumers.close_member(&GroupId::from("g"), "m").await.unwrap();
    assert_eq!(stream.change().await, Change::Closed);
    assert_eq!(server.committed(&topic, 0), Some(1));
    let gone = server.consumers.close_member(&GroupId::from("g"), "m").await;
    assert!(matches!(gone, Err(ConsumerError::UnknownMember { .. })), "{gone:?}");
}

#[tokio::test]
async fn instances_and_members_do_not_share_names() {
    let server = Server::new();
    server.fake.topic("t", 1);
    server.subscribed("i", "t").await;
    let taken = server.consumers.open_stream(new("i", AckMode::Auto)).await;
    assert!(matches!(taken, Err(ConsumerError::NameTaken { .. })), "{taken:?}");
    let _stream = Stream::open(&server, new("m", AckMode::Auto)).await;
    let (group, name) = (GroupId::from("g"), "m".to_owned());
    let key = crate::consumers::InstanceKey { group, name };
    let hidden = server.consumers.describe(&key);
    assert!(matches!(hidden, Err(ConsumerError::NotFound { .. })), "{hidden:?}");
}

#[tokio::test]
async fn observers_commit_nothing() {
    let server = Server::new();
    let topic = server.fake.topic("t", 1);
    server.fake.append_values(&topic, 0, &["a"]);
    let resume = vec![(at(&topic, 0), 1)];
    let observer = NewLiveMember { resume, ..new("m", AckMode::None) };
    let mut stream = Stream::open(&server, observer).await;
    assert_eq!(positions(&stream.assigned().await), [(0, Some(1))]);
    let acks = [ack(&topic, 0, 1)];
    let refused = server.consumers.acknowledge(&GroupId::from("g"), "m", &acks).await;
    assert!(matches!(refused, Err(ConsumerError::ObservesOnly { .. })), "{refused:?}");
    server.consumers.close_member(&GroupId::from("g"), "m").await.unwrap();
    assert_eq!(server.committed(&topic, 0), None);
}

#[tokio::test]
async fn a_start_at_the_end_is_committed_at_once() {
    let server = Server::new();
    let topic = server.fake.topic("t", 1);
    server.fake.append_values(&topic, 0, &["a"]);
    let latest =
        NewLiveMember { auto_offset_reset: OffsetReset::Latest, ..new("m", AckMode::Explicit) };
    let mut stream = Stream::open(&server, latest).await;
    assert_eq!(positions(&stream.assigned().await), [(0, Some(1))]);
    // Whoever has the partition next goes on here, not at the end of that time.
    eventually(|| server.committed(&topic, 0) == Some(1)).await;
}

#[tokio::test]
async fn a_start_may_be_a_count_or_a_time() {
    for (reset, offset) in [
        (OffsetReset::Last(2), 3),
        (OffsetReset::Last(9), 0),
        (OffsetReset::Last(i64::MAX), 0),
        (OffsetReset::AtOrAfter(0), 0),
        (OffsetReset::AtOrAfter(i64::MAX), 5),
    ] {
        let server = Server::new();
        let topic = server.fake.topic("t", 1);
        server.fake.append_values(&topic, 0, &["a", "b", "c", "d", "e"]);
        let member = || NewLiveMember { auto_offset_reset: reset, ..new("m", AckMode::Explicit) };
        let mut stream = Stream::open(&server, member()).await;
        assert_eq!(positions(&stream.assigned().await), [(0, Some(offset))], "{reset:?}");
        // It is another offset later, so it is kept, and a commit goes before it.
        eventually(|| server.committed(&topic, 0) == Some(offset)).await;
        server.fake.append_values(&topic, 0, &["f", "g"]);
        acknowledge(&server, "m", &[ack(&topic, 0, 6)]).await;
        server.consumers.close_member(&GroupId::from("g"), "m").await.unwrap();
        let mut stream = Stream::open(&server, member()).await;
        assert_eq!(positions(&stream.assigned().await), [(0, Some(6))], "{reset:?}");
    }
}

#[tokio::test]
async fn a_cursor_goes_before_the_start_until_something_is_committed() {
    for ack in [AckMode::Auto, AckMode::Explicit] {
        let server = Server::new();
        let topic = server.fake.topic("t", 1);
        server.fake.append_values(&topic, 0, &["a", "b", "c", "d", "e"]);
        let member = |name, next| NewLiveMember {
            auto_offset_reset: OffsetReset::Latest,
            resume: vec![(at(&topic, 0), next)],
            ..new(name, ack)
        };
        let mut stream = Stream::open(&server, member("m", 2)).await;
        assert_eq!(positions(&stream.assigned().await), [(0, Some(2))]);
        eventually(|| server.committed(&topic, 0) == Some(2)).await;
        drop(stream);
        server.consumers.close_member(&GroupId::from("g"), "m").await.unwrap();
        let mut stream = Stream::open(&server, member("n", 1)).await;
        assert_eq!(positions(&stream.assigned().await), [(0, Some(2))]);
    }
}

#[tokio::test]
async fn a_read_begins_at_its_cursor_and_acknowledges_as_it_says() {
    let server = Server::new();
    let topic = server.fake.topic("t", 1);
    server.fake.append_values(&topic, 0, &["a", "b", "c", "d", "e"]);
    let member = |reset, next| NewLiveMember {
        auto_offset_reset: reset,
        resume: vec![(at(&topic, 0), next)],
        ..new("m", AckMode::Explicit)
    };
    assert_eq!(records(&server, member(OffsetReset::Latest, 1)).await, (vec![1, 2], vec![3]));
    assert_eq!(server.committed(&topic, 0), None);
    // What lies before a cursor is not acknowledged by it: without one it comes again.
    let server = Server::new();
    let topic = server.fake.topic("t", 1);
    server.fake.append_values(&topic, 0, &["a", "b", "c", "d", "e"]);
    let cursor = NewLiveMember { resume: vec![(at(&topic, 0), 3)], ..new("m", AckMode::Explicit) };
    assert_eq!(records(&server, cursor).await, (vec![3, 4], vec![5]));
    assert_eq!(records(&server, new("m", AckMode::Explicit)).await, (vec![0, 1], vec![2]));
}

fn read(records_max: usize) -> MemberRead {
    MemberRead { records_max, bytes_max: 1 << 20, wait: PATIENCE }
}

async fn records(server: &Server, member: NewLiveMember) -> (Vec<Offset>, Vec<Offset>) {
    let found = server.consumers.read_as_member(member, read(2)).await.unwrap();
    let offsets = found.delivery.records().map(|(_, _, record)| record.offset).collect();
    (offsets, found.next.iter().map(|(_, next)| *next).collect())
}

#[tokio::test]
async fn the_same_read_answers_the_same_records() {
    let server = Server::new();
    let topic = server.fake.topic("t", 1);
    server.fake.append_values(&topic, 0, &["a", "b", "c", "d", "e"]);
    let after =
        |next| NewLiveMember { resume: vec![(at(&topic, 0), next)], ..new("m", AckMode::Auto) };
    for _ in 0..2 {
        assert_eq!(records(&server, new("m", AckMode::Auto)).await, (vec![0, 1], vec![2]));
    }
    assert_eq!(server.committed(&topic, 0), None);
    for _ in 0..2 {
        assert_eq!(records(&server, after(2)).await, (vec![2, 3], vec![4]));
        assert_eq!(server.committed(&topic, 0), Some(2));
    }
    let server = server.restart().await;
    let after = |next, ack| NewLiveMember { resume: vec![(at(&topic, 0), next)], ..new("m", ack) };
    assert_eq!(records(&server, after(2, AckMode::Auto)).await, (vec![2, 3], vec![4]));
    // Who acknowledges itself reads ahead of what is committed.
    assert_eq!(records(&server, after(4, AckMode::Explicit)).await, (vec![4], vec![5]));
    assert_eq!(server.committed(&topic, 0), Some(2));
    acknowledge(&server, "m", &[ack(&topic, 0, 4)]).await;
    assert_eq!(server.committed(&topic, 0), Some(4));
}

#[tokio::test]
async fn a_stream_is_not_read_beside() {
    let server = Server::new();
    let topic = server.fake.topic("t", 1);
    server.fake.topic("u", 1);
    let mut stream = Stream::open(&server, new("m", AckMode::Auto)).await;
    let before = stream.assigned().await;
    // Of whatever it would read: what is refused changes nothing of the stream.
    let subscribe = Subscribe::Topics(vec!["u".to_owned()]);
    let resume = vec![(at(&topic, 0), 0)];
    let other = NewLiveMember { subscribe, resume, ..new("m", AckMode::Auto) };
    let source = || stream.member.call.instance.state().source.clone();
    let subscribed = source();
    for read_beside in [new("m", AckMode::Auto), other] {
        let refused = server.consumers.read_as_member(read_beside, read(1)).await;
        assert!(matches!(refused, Err(ConsumerError::MemberStreams { .. })), "{refused:?}");
    }
    assert_eq!(source(), subscribed);
    assert!(stream.member.call.instance.state().session.start.is_empty());
    assert_eq!(stream.member.rewind().map(|(assignment, _)| assignment), Some(before));
    drop(stream);
    let wait = Duration::from_millis(1);
    let found =
        server.consumers.read_as_member(new("m", AckMode::Auto), MemberRead { wait, ..read(1) });
    assert!(found.await.unwrap().delivery.is_empty());
}
