//! Framing, the order of answers, and how connections end.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::{Client, PATIENCE, batch, connected, frame, produce};
use crate::base::limits::{CONTROL_FRAME_BYTES_MAX, FRAME_BYTES_MAX};
use crate::kafka::KafkaOptions;
use crate::kafka::fake_engine::{Fake, TOPIC, eventually};
use crate::protocol::messages::JoinGroupRequestData;

/// ApiVersions v0 has no body.
fn api_versions(correlation_id: i32) -> Bytes {
    frame(18, 0, correlation_id, b"")
}

fn join() -> Bytes {
    let request = JoinGroupRequestData {
        group_id: "group".to_owned().into(),
        protocol_type: "consumer".to_owned().into(),
        ..Default::default()
    };
    let mut body = BytesMut::new();
    request.write(&mut body, 5).unwrap();
    frame(11, 5, 1, &body)
}

#[tokio::test]
async fn what_is_no_request_closes_the_connection() {
    let (fake, _, _shutdown) = connected().await;
    let (address, _shutdown) = fake.serve(KafkaOptions::default()).await;
    let size = |bytes: usize| u32::try_from(bytes).unwrap().to_be_bytes();
    let bad: [(&str, &[u8]); 8] = [
        ("http", b"GET / HTTP/1.1\r\n\r\n"),
        ("negative size", &[0xff; 4]),
        ("too large", &size(FRAME_BYTES_MAX + 1)),
        ("too short", &[0, 0, 0, 3, 0, 18, 0]),
        ("control too large", &[&size(CONTROL_FRAME_BYTES_MAX + 1)[..], &[0, 3]].concat()),
        ("unknown key", &frame(77, 0, 1, b"")),
        ("unsupported version", &frame(3, 13, 1, &[0; 20])),
        ("unserved produce", &frame(0, 2, 1, &[0; 20])),
    ];
    for (name, bytes) in bad {
        let mut client = Client::connect(address).await;
        client.send(bytes).await;
        assert_eq!(client.receive().await, None, "{name}");
    }
    let mut client = Client::connect(address).await;
    client.send(&frame(3, 9, 1, b"\xff\xff\xff\xff\xff garbage")).await;
    client.expect_close().await;
}

#[tokio::test]
async fn pipelined_produces_append_at_once_and_are_answered_in_order() {
    let (fake, mut client, _shutdown) = connected().await;
    fake.holds_durability.store(true, Ordering::Relaxed);
    let mut requests = BytesMut::new();
    for id in 1..=3 {
        requests.extend_from_slice(&produce(id, -1, TOPIC, batch(10)));
    }
    requests.extend_from_slice(&api_versions(4));
    requests.extend_from_slice(&produce(5, 1, TOPIC, batch(10)));
    client.send(&requests).await;
    eventually(|| fake.held_count() == 3).await;
    // The fourth request waits for the answers before it, and so does the produce behind it.
    assert_eq!(fake.batch_count(0), 3);
    for index in [2, 1, 0] {
        fake.release(index);
    }
    for id in 1..=3 {
        assert_eq!(client.produced(id).await, (0, i64::from(id) - 1));
    }
    client.answer(18, 0, 4).await;
    assert_eq!(client.produced(5).await, (0, 3));
}

#[tokio::test]
async fn acks_zero_has_no_answer_and_closes_on_error() {
    let (fake, mut client, _shutdown) = connected().await;
    client.send(&produce(1, 0, TOPIC, batch(10))).await;
    client.send(&api_versions(2)).await;
    client.answer(18, 0, 2).await;
    assert_eq!(fake.batch_count(0), 1);
    client.send(&produce(3, 0, "missing", batch(10))).await;
    client.expect_close().await;
}

#[tokio::test]
async fn refused_partitions_say_why() {
    let (_fake, mut client, _shutdown) = connected().await;
    let cases = [
        (2, TOPIC, batch(1), 21),
        (1, "missing", batch(1), 3),
        (1, "not/legal", batch(1), 17),
        (1, TOPIC, Bytes::new(), 87),
    ];
    for (id, (acks, topic, records, code)) in (1..).zip(cases) {
        client.send(&produce(id, acks, topic, records)).await;
        assert_eq!(client.produced(id).await, (code, -1), "{topic} {acks}");
    }
}

#[tokio::test]
async fn a_large_frame_arrives_whole() {
    let (fake, mut client, _shutdown) = connected().await;
    let request = produce(1, 1, TOPIC, batch(3_000_000));
    let sending = client.send(&request);
    tokio::time::timeout(PATIENCE, sending).await.unwrap();
    assert_eq!(client.produced(1).await, (0, 0));
    client.send(&produce(2, 1, TOPIC, batch(100_000))).await;
    assert_eq!(client.produced(2).await, (0, 1));
    assert_eq!(fake.batch_count(0), 2);
}

#[tokio::test]
async fn a_parked_join_is_withdrawn_when_the_client_goes() {
    let (fake, mut client, _shutdown) = connected().await;
    client.send(&join()).await;
    // A request behind the parked one is read ahead and does not hide the end of the stream.
    client.send(&api_versions(2)).await;
    eventually(|| fake.joins_parked.load(Ordering::Relaxed) == 1).await;
    assert_eq!(fake.joins_withdrawn.load(Ordering::Relaxed), 0);
    drop(client);
    eventually(|| fake.joins_withdrawn.load(Ordering::Relaxed) == 1).await;
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_at_once() {
    let fake = Fake::new();
    let options = KafkaOptions { connections_max: 1, ..KafkaOptions::default() };
    let (address, _shutdown) = fake.serve(options).await;
    let mut first = Client::connect(address).await;
    first.send(&api_versions(1)).await;
    first.answer(18, 0, 1).await;
    Client::connect(address).await.expect_close().await;
    first.send(&api_versions(2)).await;
    first.answer(18, 0, 2).await;
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let fake = Fake::new();
    let idle_timeout = Duration::from_millis(30);
    let options = KafkaOptions { idle_timeout, ..KafkaOptions::default() };
    let (address, _shutdown) = fake.serve(options).await;
    Client::connect(address).await.expect_close().await;
}

#[tokio::test]
async fn stopping_drains_what_is_under_way() {
    let (fake, mut client, shutdown) = connected().await;
    let mut idle = {
        let (address, _other) = fake.serve(KafkaOptions::default()).await;
        Client::connect(address).await
    };
    fake.holds_durability.store(true, Ordering::Relaxed);
    client.send(&produce(1, -1, TOPIC, batch(10))).await;
    eventually(|| fake.held_count() == 1).await;
    shutdown.stop();
    // A request that comes after the stop is not started.
    client.send(&produce(2, -1, TOPIC, batch(10))).await;
    fake.release(0);
    assert_eq!(client.produced(1).await, (0, 0));
    client.expect_close().await;
    tokio::time::timeout(PATIENCE, shutdown.drained()).await.unwrap();
    assert_eq!(fake.batch_count(0), 1);
    // Another server's connection goes on.
    idle.send(&api_versions(1)).await;
    idle.answer(18, 0, 1).await;
}
