//! 47 OffsetDelete: version 0 (KIP-496).
//!
//! Deviations: none known.

use crate::base::ids::{GroupId, TopicName, TopicPartition};
use crate::engine::Later;
use crate::engine::groups::DeleteOffsetResults;
use crate::protocol::ErrorCode;
use crate::protocol::messages::offset_delete_request::OffsetDeleteRequestTopic;
use crate::protocol::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use crate::protocol::messages::{OffsetDeleteRequestData, OffsetDeleteResponseData};

use super::{Call, Reply, VersionRange, errors, first_error, later};
use crate::kafka::reader::DecodeError;

pub(super) const RANGE: VersionRange = VersionRange::new(0, 0);

pub(super) fn start(mut call: Call) -> Result<Later<Reply>, DecodeError> {
    let request = OffsetDeleteRequestData::read(&mut call.body, call.version)?;
    let group = GroupId::from(request.group_id.as_str());
    let asked = partitions(&request.topics);
    let deletion = call.engine().groups.delete_offsets(&group, &asked);
    Ok(later(async move {
        let message = match deletion.await {
            Ok(results) => OffsetDeleteResponseData {
                topics: answer(request.topics, results),
                ..Default::default()
            },
            Err(error) => OffsetDeleteResponseData {
                error_code: errors::group(&error).code(),
                ..Default::default()
            },
        };
        let partitions = message.topics.iter().flat_map(|topic| &topic.partitions);
        let codes = partitions.map(|partition| partition.error_code);
        let error = first_error(std::iter::once(message.error_code).chain(codes));
        Reply::message(message, error)
    }))
}

/// The partitions of topics whose names are legal, in the order of the request.
fn partitions(topics: &[OffsetDeleteRequestTopic]) -> Vec<TopicPartition> {
    let mut partitions = Vec::new();
    for topic in topics {
        if let Ok(name) = TopicName::parse(topic.name.as_str()) {
            let numbers = topic.partitions.iter().map(|partition| partition.partition_index);
            partitions.extend(numbers.map(|number| TopicPartition::new(name.clone(), number)));
        }
    }
    partitions
}

fn answer(
    topics: Vec<OffsetDeleteRequestTopic>,
    results: DeleteOffsetResults,
) -> Vec<OffsetDeleteResponseTopic> {
    let mut results = results.into_iter();
    let answered = topics.into_iter().map(|topic| {
        let is_legal = TopicName::parse(topic.name.as_str()).is_ok();
        let partitions = topic.partitions.into_iter().map(|partition| {
            let code = match if is_legal { results.next() } else { None } {
                Some(Ok(())) => ErrorCode::None,
                Some(Err(refusal)) => errors::delete_offset(refusal),
                // A name that no topic can have is the name of a topic that is not there.
                None => ErrorCode::UnknownTopicOrPartition,
            };
            OffsetDeleteResponsePartition {
                partition_index: partition.partition_index,
                error_code: code.code(),
                ..Default::default()
            }
        });
        let partitions = partitions.collect();
        OffsetDeleteResponseTopic { name: topic.name, partitions, ..Default::default() }
    });
    answered.collect()
}
