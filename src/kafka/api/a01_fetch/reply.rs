//! Encodes the answer around its records, which stay where they are.
//!
//! The codec crate would copy them into the message; the layout of versions 4 to 12 is small
//! enough to be written here, and tests compare every version with what the crate writes.

use bytes::{BufMut, BytesMut};

use super::{PartitionAnswer, Plan};
use crate::base::ids::PartitionId;
use crate::engine::log::{AbortedTransaction, Isolation};
use crate::kafka::dispatch::ReplyError;
use crate::kafka::output::Output;
use crate::protocol::primitives::write_unsigned_varint;
use crate::protocol::{ErrorCode, KafkaString};

/// First version with flexible encoding.
const FLEXIBLE_FROM: i16 = 12;

/// The answer to a fetch.
#[derive(Debug)]
pub(in crate::kafka) struct FetchReply {
    error: ErrorCode,
    isolation: Isolation,
    topics: Vec<Topic>,
}

#[derive(Debug)]
struct Topic {
    name: KafkaString,
    partitions: Vec<(PartitionId, PartitionAnswer)>,
}

impl FetchReply {
    /// An answer without partitions.
    pub(super) const fn refused(error: ErrorCode) -> Self {
        Self { error, isolation: Isolation::ReadUncommitted, topics: Vec::new() }
    }

    /// Brings the answers, which are in the order of the plan, under their topics.
    pub(super) fn new(plan: Plan, answers: Vec<PartitionAnswer>) -> Self {
        let topics = plan.topics.into_iter().map(|name| Topic { name, partitions: Vec::new() });
        let mut topics: Vec<Topic> = topics.collect();
        for (wanted, answer) in plan.partitions.iter().zip(answers) {
            if let Some(topic) = topics.get_mut(wanted.topic) {
                topic.partitions.push((wanted.partition, answer));
            }
        }
        Self { error: ErrorCode::None, isolation: plan.isolation, topics }
    }

    /// The first error of the answer, for metrics.
    pub(super) fn first_error(&self) -> ErrorCode {
        let partitions = self.topics.iter().flat_map(|topic| &topic.partitions);
        let codes = partitions.map(|(_, answer)| answer.error);
        let mut all = std::iter::once(self.error).chain(codes);
        all.find(|error| *error != ErrorCode::None).unwrap_or(ErrorCode::None)
    }

    /// Appends the body of the answer.
    pub(in crate::kafka) fn encode(
        self,
        output: &mut Output,
        version: i16,
    ) -> Result<(), ReplyError> {
        let out = output.buffer();
        // No throttling.
        out.put_i32(0);
        if version >= 7 {
            out.put_i16(self.error.code());
            // No session.
            out.put_i32(0);
        }
        put_length(out, self.topics.len(), version);
        for topic in self.topics {
            let out = output.buffer();
            put_name(out, &topic.name, version);
            put_length(out, topic.partitions.len(), version);
            for (partition, answer) in topic.partitions {
                put_partition(output.buffer(), partition, &answer, (self.isolation, version));
                output.push_records(answer.records)?;
                put_tags(output.buffer(), version);
            }
            put_tags(output.buffer(), version);
        }
        put_tags(output.buffer(), version);
        Ok(())
    }
}

/// Writes everything of a partition that comes before its records, their length included.
fn put_partition(
    out: &mut BytesMut,
    partition: PartitionId,
    answer: &PartitionAnswer,
    (isolation, version): (Isolation, i16),
) {
    out.put_i32(partition);
    out.put_i16(answer.error.code());
    out.put_i64(answer.bounds.high_watermark);
    out.put_i64(answer.bounds.last_stable_offset);
    if version >= 5 {
        out.put_i64(answer.bounds.log_start_offset);
    }
    match isolation {
        Isolation::ReadUncommitted => put_null(out, version),
        Isolation::ReadCommitted => put_aborted(out, &answer.aborted, version),
    }
    if version >= 11 {
        // No preferred read replica.
        out.put_i32(-1);
    }
    // Never null: librdkafka expects bytes, be they none.
    put_length(out, answer.records.len(), version);
}

/// Writes the transactions whose records the client is to pass over.
fn put_aborted(out: &mut BytesMut, aborted: &[AbortedTransaction], version: i16) {
    put_length(out, aborted.len(), version);
    for transaction in aborted {
        out.put_i64(transaction.producer_id);
        out.put_i64(transaction.first_offset);
        put_tags(out, version);
    }
}

fn put_name(out: &mut BytesMut, name: &KafkaString, version: i16) {
    if version >= FLEXIBLE_FROM {
        put_length(out, name.len(), version);
    } else {
        // The name was read from an int16 length or found among topics, so it fits one.
        out.put_i16(i16::try_from(name.len()).unwrap_or(i16::MAX));
    }
    out.put_slice(name.as_bytes());
}

fn put_length(out: &mut BytesMut, length: usize, version: i16) {
    if version >= FLEXIBLE_FROM {
        let encoded = u32::try_from(length).unwrap_or(u32::MAX).saturating_add(1);
        write_unsigned_varint(out, encoded);
    } else {
        out.put_i32(i32::try_from(length).unwrap_or(i32::MAX));
    }
}

fn put_null(out: &mut BytesMut, version: i16) {
    if version >= FLEXIBLE_FROM {
        write_unsigned_varint(out, 0);
    } else {
        out.put_i32(-1);
    }
}

/// Ends a structure of a flexible version: no tagged field.
fn put_tags(out: &mut BytesMut, version: i16) {
    if version >= FLEXIBLE_FROM {
        out.put_u8(0);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::RANGE;
    use super::*;
    use crate::engine::log::{Bounds, Records};
    use crate::protocol::messages::fetch_response as wire;

    const ABORTED: [AbortedTransaction; 2] = [
        AbortedTransaction { producer_id: 4, first_offset: 3, last_offset: 5 },
        AbortedTransaction { producer_id: i64::MAX, first_offset: 6, last_offset: 7 },
    ];

    fn answer(error: ErrorCode, records: &'static [u8]) -> PartitionAnswer {
        PartitionAnswer {
            error,
            bounds: Bounds { log_start_offset: 3, high_watermark: 9, last_stable_offset: 8 },
            records: Records::Memory(Bytes::from_static(records)),
            aborted: ABORTED.to_vec(),
        }
    }

    fn reply(isolation: Isolation) -> FetchReply {
        let partitions = vec![
            (0, answer(ErrorCode::None, b"first records")),
            (7, answer(ErrorCode::OffsetOutOfRange, b"")),
            (2, answer(ErrorCode::None, &[7; 300])),
        ];
        let empty = Topic { name: KafkaString::from_static("empty"), partitions: Vec::new() };
        let full = Topic { name: KafkaString::from_static("orders"), partitions };
        FetchReply { error: ErrorCode::None, isolation, topics: vec![full, empty] }
    }

    fn as_message(reply: FetchReply) -> wire::FetchResponseData {
        let aborted = match reply.isolation {
            Isolation::ReadUncommitted => None,
            Isolation::ReadCommitted => {
                let transaction = |aborted: &AbortedTransaction| wire::AbortedTransaction {
                    producer_id: aborted.producer_id,
                    first_offset: aborted.first_offset,
                    ..Default::default()
                };
                Some(ABORTED.iter().map(transaction).collect())
            }
        };
        let responses = reply.topics.into_iter().map(|topic| wire::FetchableTopicResponse {
            topic: topic.name,
            partitions: topic
                .partitions
                .into_iter()
                .map(|(partition_index, answer)| wire::PartitionData {
                    partition_index,
                    error_code: answer.error.code(),
                    high_watermark: answer.bounds.high_watermark,
                    last_stable_offset: answer.bounds.last_stable_offset,
                    log_start_offset: answer.bounds.log_start_offset,
                    aborted_transactions: aborted.clone(),
                    records: Some(answer.records.into_bytes().unwrap()),
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        });
        wire::FetchResponseData {
            error_code: reply.error.code(),
            responses: responses.collect(),
            ..Default::default()
        }
    }

    #[test]
    fn every_version_is_written_as_the_codec_crate_writes_it() {
        for version in (0..=RANGE.max).filter(|v| RANGE.serves(*v)) {
            for isolation in [Isolation::ReadUncommitted, Isolation::ReadCommitted] {
                let mut expected = BytesMut::new();
                as_message(reply(isolation)).write(&mut expected, version).unwrap();
                let mut output = Output::default();
                reply(isolation).encode(&mut output, version).unwrap();
                assert_eq!(output.into_bytes(), expected, "version {version} {isolation:?}");
            }
        }
    }

    #[test]
    fn a_refused_fetch_is_readable() {
        let mut output = Output::default();
        let refused = FetchReply::refused(ErrorCode::FetchSessionIdNotFound);
        refused.encode(&mut output, 12).unwrap();
        let read = wire::FetchResponseData::read(&mut output.into_bytes(), 12).unwrap();
        assert_eq!(read.error_code, 70);
    }
}
