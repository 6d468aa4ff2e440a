//! 2 ListOffsets: versions 1 to 8.
//!
//! - v1: one offset per partition, by timestamp (KIP-79)
//! - v2: isolation level (KIP-98)
//! - v3: throttling after the answer (KIP-219)
//! - v4: leader epochs (KIP-320)
//! - v5: OFFSET_NOT_AVAILABLE may be answered
//! - v6: flexible encoding
//! - v7: -3, the largest timestamp (KIP-734)
//! - v8: -4, the earliest local offset (KIP-405), which is the earliest one here
//!
//! Deviations: none known. Other special values are UNSUPPORTED_VERSION, as in Kafka.

use std::collections::HashMap;

use crate::base::ids::{PartitionId, TopicName};
use crate::engine::log::{Isolation, ListedOffset, OffsetSpec};
use crate::engine::{Engine, Later};
use crate::protocol::ErrorCode;
use crate::protocol::messages::{
    ListOffsetsPartitionResponse, ListOffsetsRequestData, ListOffsetsResponseData,
    ListOffsetsTopicResponse, list_offsets_request,
};

use super::{Call, LEADER_EPOCH, NO_EPOCH, Reply, VersionRange, errors, first_error, later};
use crate::kafka::reader::DecodeError;

pub(super) const RANGE: VersionRange = VersionRange::new(1, 8);

/// First version with leader epochs.
const EPOCH_FROM: i16 = 4;

type Question = list_offsets_request::ListOffsetsPartition;

pub(super) fn start(mut call: Call) -> Result<Later<Reply>, DecodeError> {
    let request = ListOffsetsRequestData::read(&mut call.body, call.version)?;
    let (engine, version) = (call.engine().clone(), call.version);
    Ok(later(async move {
        let message = answer(&engine, request, version).await;
        let partitions = message.topics.iter().flat_map(|topic| &topic.partitions);
        let error = first_error(partitions.map(|partition| partition.error_code));
        Reply::message(message, error)
    }))
}

async fn answer(
    engine: &Engine,
    request: ListOffsetsRequestData,
    version: i16,
) -> ListOffsetsResponseData {
    let isolation = match request.isolation_level {
        1 => Isolation::ReadCommitted,
        _ => Isolation::ReadUncommitted,
    };
    let repeated = repeated(&request);
    let mut message = ListOffsetsResponseData::default();
    for (index, topic) in request.topics.into_iter().enumerate() {
        let found = engine.topics.find(topic.name.as_str()).map(|found| found.name.clone());
        let mut answered = ListOffsetsTopicResponse { name: topic.name, ..Default::default() };
        for question in &topic.partitions {
            let asker = Asker { engine, isolation, version };
            let result = if repeated.contains(&(index, question.partition_index)) {
                Err(ErrorCode::InvalidRequest)
            } else {
                asker.ask(found.as_ref(), question).await
            };
            answered.partitions.push(partition_response(question, result, version));
        }
        message.topics.push(answered);
    }
    message
}

/// Finds the partitions that a request names more than once, by index of their topic.
fn repeated(request: &ListOffsetsRequestData) -> Vec<(usize, PartitionId)> {
    let mut first_index: HashMap<(&str, PartitionId), usize> = HashMap::new();
    let mut repeated = Vec::new();
    for (index, topic) in request.topics.iter().enumerate() {
        for question in &topic.partitions {
            let partition = question.partition_index;
            let first = first_index.insert((topic.name.as_str(), partition), index);
            if let Some(first) = first {
                repeated.extend([(first, partition), (index, partition)]);
            }
        }
    }
    repeated
}

struct Asker<'a> {
    engine: &'a Engine,
    isolation: Isolation,
    version: i16,
}

impl Asker<'_> {
    async fn ask(
        &self,
        topic: Option<&TopicName>,
        question: &Question,
    ) -> Result<Option<ListedOffset>, ErrorCode> {
        let spec = offset_spec(question.timestamp, self.version)?;
        let topic = topic.ok_or(ErrorCode::UnknownTopicOrPartition)?;
        match question.current_leader_epoch {
            NO_EPOCH | LEADER_EPOCH => {}
            later if later > LEADER_EPOCH => return Err(ErrorCode::UnknownLeaderEpoch),
            _ => return Err(ErrorCode::FencedLeaderEpoch),
        }
        let partition = question.partition_index;
        let listed = self.engine.log.list_offset(topic, partition, spec, self.isolation).await;
        listed.map_err(|error| errors::read(&error))
    }
}

/// Reads the special values of the timestamp, each from the version that brought it.
const fn offset_spec(timestamp: i64, version: i16) -> Result<OffsetSpec, ErrorCode> {
    match timestamp {
        -1 => Ok(OffsetSpec::Latest),
        -2 => Ok(OffsetSpec::Earliest),
        -3 if version >= 7 => Ok(OffsetSpec::MaxTimestamp),
        -4 if version >= 8 => Ok(OffsetSpec::Earliest),
        timestamp if timestamp >= 0 => Ok(OffsetSpec::AtOrAfter(timestamp)),
        _ => Err(ErrorCode::UnsupportedVersion),
    }
}

fn partition_response(
    question: &Question,
    result: Result<Option<ListedOffset>, ErrorCode>,
    version: i16,
) -> ListOffsetsPartitionResponse {
    let mut response = ListOffsetsPartitionResponse {
        partition_index: question.partition_index,
        ..Default::default()
    };
    match result {
        Ok(Some(listed)) => {
            response.offset = listed.offset;
            response.timestamp = listed.timestamp;
            if version >= EPOCH_FROM {
                response.leader_epoch = LEADER_EPOCH;
            }
        }
        // No record fits: the defaults say so, and it is not an error.
        Ok(None) => {}
        Err(error) => response.error_code = error.code(),
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_timestamps_exist_from_their_version_on() {
        assert_eq!(offset_spec(-1, 1), Ok(OffsetSpec::Latest));
        assert_eq!(offset_spec(-2, 1), Ok(OffsetSpec::Earliest));
        assert_eq!(offset_spec(-3, 6), Err(ErrorCode::UnsupportedVersion));
        assert_eq!(offset_spec(-3, 7), Ok(OffsetSpec::MaxTimestamp));
        assert_eq!(offset_spec(-4, 7), Err(ErrorCode::UnsupportedVersion));
        assert_eq!(offset_spec(-4, 8), Ok(OffsetSpec::Earliest));
        assert_eq!(offset_spec(-5, 8), Err(ErrorCode::UnsupportedVersion));
        assert_eq!(offset_spec(0, 1), Ok(OffsetSpec::AtOrAfter(0)));
    }
}
