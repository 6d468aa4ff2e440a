//! Fetch: long polls, limits, and records that come from files.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::{Client, batch, connected, frame, produce};
use crate::kafka::KafkaOptions;
use crate::kafka::dispatch::now;
use crate::kafka::fake_engine::{Fake, TOPIC};
use crate::protocol::messages::fetch_request::{FetchPartition, FetchRequestData, FetchTopic};
use crate::protocol::messages::fetch_response::{FetchResponseData, PartitionData};

const VERSION: i16 = 12;

fn request(partitions: &[(i32, i64)]) -> FetchRequestData {
    let partitions = partitions.iter().map(|&(partition, fetch_offset)| FetchPartition {
        partition,
        fetch_offset,
        current_leader_epoch: -1,
        partition_max_bytes: 1 << 20,
        ..Default::default()
    });
    let topic = FetchTopic {
        topic: TOPIC.to_owned().into(),
        partitions: partitions.collect(),
        ..Default::default()
    };
    FetchRequestData {
        max_wait_ms: 0,
        min_bytes: 1,
        max_bytes: 1 << 24,
        session_epoch: -1,
        topics: vec![topic],
        ..Default::default()
    }
}

fn encoded(id: i32, request: &FetchRequestData) -> Bytes {
    let mut body = BytesMut::new();
    request.write(&mut body, VERSION).unwrap();
    frame(1, VERSION, id, &body)
}

async fn fetched(client: &mut Client, id: i32) -> FetchResponseData {
    let mut body = client.answer(1, VERSION, id).await;
    let response = FetchResponseData::read(&mut body, VERSION).unwrap();
    assert!(body.is_empty());
    response
}

async fn fetch(client: &mut Client, id: i32, request: &FetchRequestData) -> Vec<PartitionData> {
    client.send(&encoded(id, request)).await;
    let mut response = fetched(client, id).await;
    assert_eq!((response.error_code, response.session_id), (0, 0));
    response.responses.remove(0).partitions
}

fn records(partition: &PartitionData) -> &Bytes {
    partition.records.as_ref().expect("records are never null")
}

#[tokio::test]
async fn a_waiting_fetch_is_woken_by_an_append() {
    let fake = Fake::new();
    let (address, _shutdown) = fake.serve(KafkaOptions::default()).await;
    let mut consumer = Client::connect(address).await;
    let mut producer = Client::connect(address).await;
    let long = FetchRequestData { max_wait_ms: 60_000, ..request(&[(0, 0), (1, 0)]) };
    consumer.send(&encoded(1, &long)).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    let appended = batch(10);
    producer.send(&produce(1, 1, TOPIC, appended.clone())).await;
    producer.produced(1).await;
    let response = fetched(&mut consumer, 1).await;
    let partitions = &response.responses[0].partitions;
    assert_eq!(records(&partitions[0]), &appended);
    assert_eq!(partitions[0].high_watermark, 1);
    assert!(records(&partitions[1]).is_empty());
}

#[tokio::test]
async fn a_fetch_answers_empty_when_its_time_is_over() {
    let (_fake, mut client, _shutdown) = connected().await;
    let started = now();
    let waiting = FetchRequestData { max_wait_ms: 50, ..request(&[(0, 0)]) };
    let partitions = fetch(&mut client, 1, &waiting).await;
    assert!(started.elapsed() >= Duration::from_millis(50));
    assert!(records(&partitions[0]).is_empty());
    assert_eq!((partitions[0].error_code, partitions[0].high_watermark), (0, 0));
}

#[tokio::test]
async fn a_fetch_waits_for_its_minimum_and_then_gives_what_there_is() {
    let (_fake, mut client, _shutdown) = connected().await;
    client.send(&produce(1, 1, TOPIC, batch(10))).await;
    client.produced(1).await;
    let waiting = FetchRequestData { max_wait_ms: 30, min_bytes: 10_000, ..request(&[(0, 0)]) };
    let started = now();
    let partitions = fetch(&mut client, 2, &waiting).await;
    assert!(started.elapsed() >= Duration::from_millis(30));
    assert_eq!(records(&partitions[0]), &batch(10));
}

#[tokio::test]
async fn errors_are_answered_at_once() {
    let (_fake, mut client, _shutdown) = connected().await;
    let mut long = FetchRequestData { max_wait_ms: 60_000, ..request(&[(0, 5), (9, 0), (1, 0)]) };
    long.topics[0].partitions[2].current_leader_epoch = 3;
    let partitions = fetch(&mut client, 1, &long).await;
    let codes: Vec<i16> = partitions.iter().map(|partition| partition.error_code).collect();
    assert_eq!(codes, [1, 3, 75]);
    // The bounds to reset to.
    assert_eq!((partitions[0].log_start_offset, partitions[0].high_watermark), (0, 0));
    assert!(partitions.iter().all(|partition| records(partition).is_empty()));
}

#[tokio::test]
async fn the_first_batch_comes_whole_and_then_limits_are_hard() {
    let (_fake, mut client, _shutdown) = connected().await;
    for id in 0..2 {
        client.send(&produce(id, 1, TOPIC, batch(1000))).await;
        client.produced(id).await;
    }
    let mut small = request(&[(1, 0), (0, 0), (0, 1)]);
    small.max_bytes = 10;
    let partitions = fetch(&mut client, 2, &small).await;
    let sizes: Vec<usize> = partitions.iter().map(|partition| records(partition).len()).collect();
    assert_eq!(sizes, [0, batch(1000).len(), 0]);
    assert_eq!(partitions[2].high_watermark, 2);
}

#[tokio::test]
async fn records_come_out_of_files_unchanged() {
    let (fake, mut client, _shutdown) = connected().await;
    fake.reads_files.store(true, Ordering::Relaxed);
    // One is copied, the other handed to the kernel; the second needs more than a socket buffer.
    for (id, bytes) in [(0, 100), (1, 8_000_000)] {
        client.send(&produce(id, 1, TOPIC, batch(bytes))).await;
        client.produced(id).await;
    }
    let mut large = request(&[(0, 1), (0, 0), (1, 0)]);
    large.topics[0].partitions[1].partition_max_bytes = 300;
    let pipelined = [encoded(2, &large), encoded(3, &request(&[(0, 0)]))].concat();
    client.send(&pipelined).await;
    let response = fetched(&mut client, 2).await;
    let partitions = &response.responses[0].partitions;
    assert_eq!(records(&partitions[0]), &batch(8_000_000));
    assert_eq!(records(&partitions[1]), &batch(100));
    assert!(records(&partitions[2]).is_empty());
    let response = fetched(&mut client, 3).await;
    assert_eq!(records(&response.responses[0].partitions[0]), &batch(100));
}

#[tokio::test]
async fn a_session_we_never_made_is_refused() {
    let (_fake, mut client, _shutdown) = connected().await;
    let continued = FetchRequestData { session_id: 5, session_epoch: 1, ..request(&[(0, 0)]) };
    client.send(&encoded(1, &continued)).await;
    let response = fetched(&mut client, 1).await;
    assert_eq!((response.error_code, response.session_id), (70, 0));
    assert!(response.responses.is_empty());
}

#[tokio::test]
async fn stopping_answers_a_waiting_fetch_with_what_there_is() {
    let (_fake, mut client, shutdown) = connected().await;
    let long = FetchRequestData { max_wait_ms: 60_000, ..request(&[(0, 0)]) };
    client.send(&encoded(1, &long)).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    shutdown.stop();
    let response = fetched(&mut client, 1).await;
    assert!(records(&response.responses[0].partitions[0]).is_empty());
    client.expect_close().await;
}
