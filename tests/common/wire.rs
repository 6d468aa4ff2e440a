//! A small blocking client of the Kafka protocol.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

use bytes::{BufMut, Bytes, BytesMut};
use hydrant::protocol::messages::{self as kafka, client_api_info};
use hydrant::protocol::record_batch::{BatchBuilder, BatchHeader, BatchRecords, ProducerStamp};
use hydrant::protocol::{
    ApiKey, KafkaString, ProtocolError, request_header_version, response_header_version,
};

use super::PATIENCE;

/// One connection to the Kafka door.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) stream: TcpStream,
    correlation: i32,
}

/// A record with everything it owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) offset: i64,
    pub(crate) timestamp: i64,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
}

/// What one partition answered to a Fetch.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) code: i16,
    pub(crate) high_watermark: i64,
    pub(crate) records: Bytes,
}

pub(crate) fn text(text: &str) -> KafkaString {
    KafkaString::from(text.to_owned())
}

fn broken(error: &ProtocolError) -> io::Error {
    io::Error::other(error.to_string())
}

/// A whole request with its size.
pub(crate) fn frame(key: i16, version: i16, correlation: i32, body: &[u8]) -> Vec<u8> {
    let mut frame = BytesMut::new();
    frame.put_i32(0);
    frame.put_i16(key);
    frame.put_i16(version);
    frame.put_i32(correlation);
    frame.put_i16(4);
    frame.put_slice(b"test");
    if request_header_version(key, version) >= 2 {
        frame.put_u8(0);
    }
    frame.put_slice(body);
    let size = i32::try_from(frame.len() - 4).unwrap();
    frame[..4].copy_from_slice(&size.to_be_bytes());
    frame.to_vec()
}

/// One batch of values.
pub(crate) fn batch(values: &[&[u8]]) -> Bytes {
    let mut builder = BatchBuilder::new();
    for value in values {
        builder.push(1_790_000_000_000, None, Some(value), std::iter::empty());
    }
    builder.finish()
}

/// One batch of an idempotent producer.
pub(crate) fn idempotent_batch(stamp: ProducerStamp, values: &[&[u8]]) -> Bytes {
    let mut builder = BatchBuilder::new().for_producer(stamp);
    for value in values {
        builder.push(1_790_000_000_000, None, Some(value), std::iter::empty());
    }
    builder.finish()
}

/// Every whole batch in `bytes` with its header.
pub(crate) fn batches(bytes: &Bytes) -> Vec<(BatchHeader, Bytes)> {
    let mut rest = bytes.clone();
    let mut found = Vec::new();
    while let Ok(header) = BatchHeader::parse(&rest) {
        if header.total_bytes() > rest.len() {
            break;
        }
        found.push((header, rest.split_to(header.total_bytes())));
    }
    found
}

/// Every record in `bytes`, decompressed.
pub(crate) fn rows(bytes: &Bytes) -> Vec<Row> {
    let mut rows = Vec::new();
    for (header, batch) in batches(bytes) {
        let records = BatchRecords::open(header, &batch).unwrap();
        rows.extend(records.iter().map(|record| {
            let record = record.unwrap();
            let headers = record.headers().map(|(key, value)| {
                (String::from_utf8_lossy(key).into_owned(), value.map(<[u8]>::to_vec))
            });
            Row {
                offset: record.offset,
                timestamp: record.timestamp,
                key: record.key.map(<[u8]>::to_vec),
                value: record.value.map(<[u8]>::to_vec),
                headers: headers.collect(),
            }
        }));
    }
    rows
}

macro_rules! exchange {
    ($client:expr, $key:ident, $version:expr, $request:expr => $response:ident) => {{
        let version: i16 = $version;
        let mut body = BytesMut::new();
        $request.write(&mut body, version).map_err(|error| broken(&error))?;
        let mut answer = $client.call(ApiKey::$key as i16, version, &body)?;
        kafka::$response::read(&mut answer, version).map_err(|error| broken(&error))
    }};
}

impl Wire {
    pub(crate) fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream, correlation: 0 })
    }

    /// Sends a request and returns its correlation id.
    pub(crate) fn send(&mut self, key: i16, version: i16, body: &[u8]) -> io::Result<i32> {
        self.correlation += 1;
        self.stream.write_all(&frame(key, version, self.correlation, body))?;
        Ok(self.correlation)
    }

    /// Receives one frame.
    pub(crate) fn receive(&mut self) -> io::Result<Bytes> {
        let mut size = [0; 4];
        self.stream.read_exact(&mut size)?;
        let size = usize::try_from(i32::from_be_bytes(size)).map_err(io::Error::other)?;
        let mut frame = vec![0; size];
        self.stream.read_exact(&mut frame)?;
        Ok(frame.into())
    }

    /// Sends a request and returns the body of its answer.
    pub(crate) fn call(&mut self, key: i16, version: i16, body: &[u8]) -> io::Result<Bytes> {
        let correlation = self.send(key, version, body)?;
        let mut frame = self.receive()?;
        assert_eq!(frame.split_to(4), correlation.to_be_bytes().as_slice());
        if response_header_version(key, version) >= 1 {
            assert_eq!(frame.split_to(1), [0].as_slice(), "no tagged field in the header");
        }
        Ok(frame)
    }

    pub(crate) fn api_versions(&mut self) -> io::Result<kafka::ApiVersionsResponseData> {
        exchange!(self, ApiVersions, 0, kafka::ApiVersionsRequestData::default()
            => ApiVersionsResponseData)
    }

    pub(crate) fn metadata(&mut self, topics: &[&str]) -> io::Result<kafka::MetadataResponseData> {
        let topics = topics.iter().map(|name| kafka::metadata_request::MetadataRequestTopic {
            name: Some(text(name)),
            ..Default::default()
        });
        let request =
            kafka::MetadataRequestData { topics: Some(topics.collect()), ..Default::default() };
        exchange!(self, Metadata, 12, request => MetadataResponseData)
    }

    /// The id of a topic, as Metadata v12 has it.
    pub(crate) fn topic_id(&mut self, topic: &str) -> String {
        let answer = self.metadata(&[topic]).unwrap();
        assert_eq!(answer.topics[0].error_code, 0, "{topic}");
        uuid::Uuid::from(answer.topics[0].topic_id).to_string()
    }

    /// Produces one batch and returns the error code and the base offset.
    pub(crate) fn produce(
        &mut self,
        topic: &str,
        partition: i32,
        acks: i16,
        batch: Bytes,
    ) -> io::Result<(i16, i64)> {
        let data = kafka::produce_request::PartitionProduceData {
            index: partition,
            records: Some(batch),
            ..Default::default()
        };
        let topic = kafka::produce_request::TopicProduceData {
            name: text(topic),
            partition_data: vec![data],
            ..Default::default()
        };
        let request = kafka::ProduceRequestData {
            acks,
            timeout_ms: 30_000,
            topic_data: vec![topic],
            ..Default::default()
        };
        let answer = exchange!(self, Produce, 9, request => ProduceResponseData)?;
        let partition = &answer.responses[0].partition_responses[0];
        Ok((partition.error_code, partition.base_offset))
    }

    /// Reads what there is from an offset on, up to a few MiB.
    pub(crate) fn fetch(&mut self, topic: &str, partition: i32, at: i64) -> io::Result<Fetched> {
        let partition = kafka::fetch_request::FetchPartition {
            partition,
            current_leader_epoch: -1,
            fetch_offset: at,
            last_fetched_epoch: -1,
            partition_max_bytes: 8 << 20,
            ..Default::default()
        };
        let topic = kafka::fetch_request::FetchTopic {
            topic: text(topic),
            partitions: vec![partition],
            ..Default::default()
        };
        let request = kafka::FetchRequestData {
            replica_id: -1,
            max_wait_ms: 0,
            min_bytes: 0,
            max_bytes: 8 << 20,
            session_epoch: -1,
            topics: vec![topic],
            ..Default::default()
        };
        let answer = exchange!(self, Fetch, 12, request => FetchResponseData)?;
        assert_eq!(answer.error_code, 0);
        let partition = &answer.responses[0].partitions[0];
        Ok(Fetched {
            code: partition.error_code,
            high_watermark: partition.high_watermark,
            records: partition.records.clone().unwrap_or_default(),
        })
    }

    /// Reads all records of a partition from the first on.
    pub(crate) fn read_partition(&mut self, topic: &str, partition: i32) -> Vec<Row> {
        let mut found: Vec<Row> = Vec::new();
        let mut at = 0;
        loop {
            let fetched = self.fetch(topic, partition, at).unwrap();
            assert_eq!(fetched.code, 0, "{topic}-{partition} at {at}");
            let new = rows(&fetched.records);
            let Some(last) = new.last() else {
                assert_eq!(at, fetched.high_watermark, "{topic}-{partition} ends too early");
                return found;
            };
            let next = last.offset + 1;
            found.extend(new.into_iter().filter(|row| row.offset >= at));
            at = next;
        }
    }

    /// The error code and the offset for a timestamp, or for -2 (first) or -1 (end).
    pub(crate) fn list_offset(
        &mut self,
        topic: &str,
        partition: i32,
        timestamp: i64,
    ) -> io::Result<(i16, i64)> {
        let partition = kafka::list_offsets_request::ListOffsetsPartition {
            partition_index: partition,
            current_leader_epoch: -1,
            timestamp,
            ..Default::default()
        };
        let topic = kafka::list_offsets_request::ListOffsetsTopic {
            name: text(topic),
            partitions: vec![partition],
            ..Default::default()
        };
        let request = kafka::ListOffsetsRequestData {
            replica_id: -1,
            topics: vec![topic],
            ..Default::default()
        };
        let answer = exchange!(self, ListOffsets, 7, request => ListOffsetsResponseData)?;
        let partition = &answer.topics[0].partitions[0];
        Ok((partition.error_code, partition.offset))
    }

    /// Deletes a topic and returns the error code.
    pub(crate) fn delete_topic(&mut self, topic: &str) -> io::Result<i16> {
        let request =
            kafka::DeleteTopicsRequestData { topic_names: vec![text(topic)], ..Default::default() };
        let answer = exchange!(self, DeleteTopics, 5, request => DeleteTopicsResponseData)?;
        Ok(answer.responses[0].error_code)
    }

    /// Commits one offset as a client without a membership and returns the error code.
    pub(crate) fn commit(
        &mut self,
        group: &str,
        topic: &str,
        partition: i32,
        offset: i64,
    ) -> io::Result<i16> {
        let partition = kafka::offset_commit_request::OffsetCommitRequestPartition {
            partition_index: partition,
            committed_offset: offset,
            committed_leader_epoch: -1,
            ..Default::default()
        };
        let topic = kafka::offset_commit_request::OffsetCommitRequestTopic {
            name: text(topic),
            partitions: vec![partition],
            ..Default::default()
        };
        let request = kafka::OffsetCommitRequestData {
            group_id: text(group),
            generation_id_or_member_epoch: -1,
            topics: vec![topic],
            ..Default::default()
        };
        let answer = exchange!(self, OffsetCommit, 8, request => OffsetCommitResponseData)?;
        Ok(answer.topics[0].partitions[0].error_code)
    }

    /// The committed offset of a partition, -1 for none.
    pub(crate) fn committed(
        &mut self,
        group: &str,
        topic: &str,
        partition: i32,
    ) -> io::Result<i64> {
        let topic = kafka::offset_fetch_request::OffsetFetchRequestTopic {
            name: text(topic),
            partition_indexes: vec![partition],
            ..Default::default()
        };
        let request = kafka::OffsetFetchRequestData {
            group_id: text(group),
            topics: Some(vec![topic]),
            ..Default::default()
        };
        let answer = exchange!(self, OffsetFetch, 7, request => OffsetFetchResponseData)?;
        assert_eq!(answer.error_code, 0, "{group}");
        let partition = &answer.topics[0].partitions[0];
        assert_eq!(partition.error_code, 0, "{group}");
        Ok(partition.committed_offset)
    }

    /// Asks for the identity of an idempotent producer.
    pub(crate) fn init_producer(&mut self) -> io::Result<(i64, i16)> {
        let request = kafka::InitProducerIdRequestData {
            transaction_timeout_ms: 60_000,
            producer_id: -1,
            producer_epoch: -1,
            ..Default::default()
        };
        let answer = exchange!(self, InitProducerId, 4, request => InitProducerIdResponseData)?;
        assert_eq!(answer.error_code, 0);
        Ok((answer.producer_id, answer.producer_epoch))
    }

    /// Sends a JoinGroup of version 5 and waits for nothing.
    pub(crate) fn send_join(
        &mut self,
        group: &str,
        member: &str,
        timeout_ms: i32,
    ) -> io::Result<i32> {
        let protocol = kafka::join_group_request::JoinGroupRequestProtocol {
            name: text("range"),
            metadata: Bytes::from_static(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            ..Default::default()
        };
        let request = kafka::JoinGroupRequestData {
            group_id: text(group),
            session_timeout_ms: timeout_ms,
            rebalance_timeout_ms: timeout_ms,
            member_id: text(member),
            protocol_type: text("consumer"),
            protocols: vec![protocol],
            ..Default::default()
        };
        let mut body = BytesMut::new();
        request.write(&mut body, 5).map_err(|error| broken(&error))?;
        self.send(ApiKey::JoinGroup as i16, 5, &body)
    }

    /// Receives the answer to [`Wire::send_join`].
    pub(crate) fn joined(&mut self) -> io::Result<kafka::JoinGroupResponseData> {
        let mut frame = self.receive()?;
        let _correlation = frame.split_to(4);
        kafka::JoinGroupResponseData::read(&mut frame, 5).map_err(|error| broken(&error))
    }
}

/// The versions of an API that the codec crate can write.
pub(crate) fn known_versions(key: ApiKey) -> std::ops::RangeInclusive<i16> {
    let info = client_api_info(key);
    info.min_version..=info.max_version
}
