//! 21 DeleteRecords: versions 0 to 2.
//!
//! - v1: throttling after the answer (KIP-219)
//! - v2: flexible encoding
//!
//! Deviations: the timeout has nothing to bound, as there are no replicas to wait for; the answer
//! comes when the deletion is on disk.

use crate::base::ids::TopicName;
use crate::engine::log::DeleteUpTo;
use crate::engine::{Engine, Later};
use crate::protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use crate::protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use crate::protocol::messages::{DeleteRecordsRequestData, DeleteRecordsResponseData};
use crate::protocol::{ErrorCode, KafkaString};

use super::{Call, Reply, VersionRange, errors, first_error, later};
use crate::kafka::reader::DecodeError;

pub(super) const RANGE: VersionRange = VersionRange::new(0, 2);

/// The offset that means the high watermark.
const HIGH_WATERMARK: i64 = -1;

pub(super) fn start(mut call: Call) -> Result<Later<Reply>, DecodeError> {
    let request = DeleteRecordsRequestData::read(&mut call.body, call.version)?;
    let engine = call.engine().clone();
    Ok(later(async move {
        let mut topics = Vec::with_capacity(request.topics.len());
        for topic in request.topics {
            topics.push(delete_in_topic(&engine, topic).await);
        }
        let partitions = topics.iter().flat_map(|topic| &topic.partitions);
        let error = first_error(partitions.map(|partition| partition.error_code));
        Reply::message(DeleteRecordsResponseData { topics, ..Default::default() }, error)
    }))
}

async fn delete_in_topic(engine: &Engine, topic: DeleteRecordsTopic) -> DeleteRecordsTopicResult {
    let mut partitions = Vec::with_capacity(topic.partitions.len());
    for partition in &topic.partitions {
        let deleted = delete(engine, &topic.name, partition).await;
        partitions.push(DeleteRecordsPartitionResult {
            partition_index: partition.partition_index,
            low_watermark: deleted.unwrap_or(-1),
            error_code: deleted.err().unwrap_or(ErrorCode::None).code(),
            ..Default::default()
        });
    }
    DeleteRecordsTopicResult { name: topic.name, partitions, ..Default::default() }
}

async fn delete(
    engine: &Engine,
    topic: &KafkaString,
    partition: &DeleteRecordsPartition,
) -> Result<i64, ErrorCode> {
    // A name that no topic can have is the name of a topic that is not there.
    let name = TopicName::parse(topic.as_str()).map_err(|_| ErrorCode::UnknownTopicOrPartition)?;
    let up_to = match partition.offset {
        HIGH_WATERMARK => DeleteUpTo::HighWatermark,
        offset => DeleteUpTo::Offset(offset),
    };
    let deleted = engine.log.delete_records(&name, partition.partition_index, up_to).await;
    deleted.map_err(|error| errors::delete_records(&error))
}
