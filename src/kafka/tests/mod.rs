//! Tests of the door as a client sees it, over real sockets and a fake engine.

mod connection;
mod fetch;
mod versions;

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::KafkaOptions;
use super::fake_engine::Fake;
use crate::protocol::messages::{ProduceRequestData, ProduceResponseData, produce_request};
use crate::protocol::record_batch::BatchBuilder;
use crate::protocol::{KafkaString, request_header_version, response_header_version};

/// No test waits longer for anything.
const PATIENCE: Duration = Duration::from_secs(5);

/// A client that speaks frames.
struct Client {
    stream: TcpStream,
}

impl Client {
    async fn connect(address: SocketAddr) -> Self {
        Self { stream: TcpStream::connect(address).await.unwrap() }
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// Receives one frame without its size; none when the server closes.
    async fn receive(&mut self) -> Option<Bytes> {
        let receiving = async {
            let size = self.stream.read_u32().await.ok()?;
            let mut frame = vec![0; usize::try_from(size).unwrap()];
            self.stream.read_exact(&mut frame).await.ok()?;
            Some(Bytes::from(frame))
        };
        tokio::time::timeout(PATIENCE, receiving).await.expect("no answer and no close in time")
    }

    /// Receives the answer to a request and gives its body.
    async fn answer(&mut self, key: i16, version: i16, correlation_id: i32) -> Bytes {
        let mut frame = self.receive().await.expect("connection was closed");
        let header = frame.split_to(4);
        assert_eq!(header, correlation_id.to_be_bytes().as_slice());
        if response_header_version(key, version) >= 1 {
            assert_eq!(frame.split_to(1), [0].as_slice());
        }
        frame
    }

    /// Receives the answer to a [`produce`]: error code and base offset.
    async fn produced(&mut self, correlation_id: i32) -> (i16, i64) {
        let mut body = self.answer(0, 9, correlation_id).await;
        let response = ProduceResponseData::read(&mut body, 9).unwrap();
        let partition = &response.responses[0].partition_responses[0];
        (partition.error_code, partition.base_offset)
    }

    async fn expect_close(&mut self) {
        assert_eq!(self.receive().await, None);
    }
}

/// A whole request with its size.
fn frame(key: i16, version: i16, correlation_id: i32, body: &[u8]) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_i32(0);
    frame.put_i16(key);
    frame.put_i16(version);
    frame.put_i32(correlation_id);
    frame.put_i16(4);
    frame.put_slice(b"test");
    if request_header_version(key, version) >= 2 {
        frame.put_u8(0);
    }
    frame.put_slice(body);
    let size = i32::try_from(frame.len() - 4).unwrap();
    frame[..4].copy_from_slice(&size.to_be_bytes());
    frame.freeze()
}

/// One batch with a record of `bytes` bytes.
fn batch(bytes: usize) -> Bytes {
    let mut builder = BatchBuilder::new();
    builder.push(0, None, Some(&vec![b'x'; bytes]), std::iter::empty());
    builder.finish()
}

/// A Produce request of version 9 for one partition.
fn produce(correlation_id: i32, acks: i16, topic: &str, records: Bytes) -> Bytes {
    let partition = produce_request::PartitionProduceData {
        index: 0,
        records: Some(records),
        ..Default::default()
    };
    let topic = produce_request::TopicProduceData {
        name: KafkaString::from(topic.to_owned()),
        partition_data: vec![partition],
        ..Default::default()
    };
    let request = ProduceRequestData { acks, topic_data: vec![topic], ..Default::default() };
    let mut body = BytesMut::new();
    request.write(&mut body, 9).unwrap();
    frame(0, 9, correlation_id, &body)
}

/// A served fake engine and a client of it.
async fn connected() -> (std::sync::Arc<Fake>, Client, crate::base::shutdown::Shutdown) {
    let fake = Fake::new();
    let (address, shutdown) = fake.serve(KafkaOptions::default()).await;
    (fake, Client::connect(address).await, shutdown)
}
