//! 8 OffsetCommit: versions 2 to 8.
//!
//! - v2: retention time in the request
//! - v3: throttle time
//! - v4: throttling after the answer (KIP-219)
//! - v5: no retention time any more (KIP-211)
//! - v6: leader epoch of the committed offset (KIP-320)
//! - v7: group instance id (KIP-345)
//! - v8: flexible encoding
//!
//! Deviations: the retention time of v2 to v4 is ignored, as in Kafka since KIP-211.

use crate::base::ids::{GroupId, TopicName, TopicPartition};
use crate::engine::Later;
use crate::engine::groups::{CommitResults, GroupError, Membership, OffsetToCommit};
use crate::protocol::ErrorCode;
use crate::protocol::messages::{
    OffsetCommitRequestData, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
    OffsetCommitResponseData, OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};

use super::{Call, Reply, VersionRange, errors, first_error, later, owned};
use crate::kafka::reader::DecodeError;

pub(super) const RANGE: VersionRange = VersionRange::new(2, 8);

pub(super) fn start(mut call: Call) -> Result<Later<Reply>, DecodeError> {
    let request = OffsetCommitRequestData::read(&mut call.body, call.version)?;
    let membership = Membership {
        group: GroupId::from(request.group_id.as_str()),
        member_id: request.member_id.as_str().to_owned(),
        generation_id: request.generation_id_or_member_epoch,
        group_instance_id: owned(request.group_instance_id.as_ref()),
    };
    let offsets = request.topics.iter().flat_map(offsets_of).collect();
    let results = call.engine().groups.commit(membership, offsets);
    Ok(later(async move {
        let message = answer(request.topics, results.await);
        let partitions = message.topics.iter().flat_map(|topic| &topic.partitions);
        let error = first_error(partitions.map(|partition| partition.error_code));
        Reply::message(message, error)
    }))
}

/// The offsets of one topic; a name that breaks the rules has none to commit.
fn offsets_of(topic: &OffsetCommitRequestTopic) -> impl Iterator<Item = OffsetToCommit> {
    let name = TopicName::parse(topic.name.as_str()).ok();
    topic.partitions.iter().filter_map(move |partition| {
        Some(OffsetToCommit {
            partition: TopicPartition::new(name.clone()?, partition.partition_index),
            offset: partition.committed_offset,
            leader_epoch: partition.committed_leader_epoch,
            metadata: owned(partition.committed_metadata.as_ref()).unwrap_or_default(),
        })
    })
}

/// Brings the results, which are in the order of the offsets, under their topics.
fn answer(
    topics: Vec<OffsetCommitRequestTopic>,
    results: Result<CommitResults, GroupError>,
) -> OffsetCommitResponseData {
    let results = results.map_err(|error| group_code(&error));
    let mut results = results.map(Vec::into_iter);
    let topics = topics.into_iter().map(|topic| {
        let is_legal = TopicName::parse(topic.name.as_str()).is_ok();
        let partitions = topic.partitions.iter().map(|partition| {
            let code = match &mut results {
                Err(code) => *code,
                Ok(_) if !is_legal => ErrorCode::UnknownTopicOrPartition,
                Ok(results) => match results.next() {
                    Some(Ok(())) => ErrorCode::None,
                    Some(Err(refusal)) => errors::commit(&refusal),
                    None => ErrorCode::UnknownServerError,
                },
            };
            partition_response(partition, code)
        });
        let partitions = partitions.collect();
        OffsetCommitResponseTopic { name: topic.name, partitions, ..Default::default() }
    });
    OffsetCommitResponseData { topics: topics.collect(), ..Default::default() }
}

fn partition_response(
    partition: &OffsetCommitRequestPartition,
    code: ErrorCode,
) -> OffsetCommitResponsePartition {
    OffsetCommitResponsePartition {
        partition_index: partition.partition_index,
        error_code: code.code(),
        ..Default::default()
    }
}

/// Below v9 clients do not know GROUP_ID_NOT_FOUND as an answer to a commit.
const fn group_code(error: &GroupError) -> ErrorCode {
    match errors::group(error) {
        ErrorCode::GroupIdNotFound => ErrorCode::IllegalGeneration,
        code => code,
    }
}
