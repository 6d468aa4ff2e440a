//! 9 OffsetFetch: versions 1 to 8.
//!
//! - v1: offsets are the group coordinator's, not ZooKeeper's
//! - v2: null topics mean all; an error code of the whole answer
//! - v3: throttle time
//! - v4: throttling after the answer (KIP-219)
//! - v5: leader epoch of the committed offset (KIP-320)
//! - v6: flexible encoding
//! - v7: require stable (KIP-447); without transactions every offset is stable
//! - v8: several groups in one request (KIP-709)
//!
//! Deviations: none known. A group or a partition that has nothing committed, or does not exist,
//! is no error but offset -1.

use std::collections::HashMap;

use crate::base::ids::{GroupId, PartitionId, TopicName, TopicPartition};
use crate::engine::groups::{CommittedOffset, OffsetQuery};
use crate::engine::{Engine, Later};
use crate::protocol::messages::{
    OffsetFetchRequestData, OffsetFetchRequestGroup, OffsetFetchRequestTopics,
    OffsetFetchResponseData, OffsetFetchResponseGroup, OffsetFetchResponsePartition,
    OffsetFetchResponsePartitions, OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use crate::protocol::{ErrorCode, KafkaString};

use super::{Call, NO_EPOCH, Reply, VersionRange, errors, first_error, ready, text};
use crate::kafka::reader::DecodeError;

pub(super) const RANGE: VersionRange = VersionRange::new(1, 8);

/// First version with a list of groups.
const GROUPS_FROM: i16 = 8;

/// First version with an error code of the whole answer.
const ERROR_CODE_FROM: i16 = 2;

pub(super) fn start(mut call: Call) -> Result<Later<Reply>, DecodeError> {
    let request = OffsetFetchRequestData::read(&mut call.body, call.version)?;
    let engine = call.engine();
    if call.version >= GROUPS_FROM {
        let groups = request.groups.into_iter().map(|group| answer_group(engine, group));
        let groups: Vec<_> = groups.collect();
        let error = first_error(groups.iter().map(|group| group.error_code));
        return Ok(ready(OffsetFetchResponseData { groups, ..Default::default() }, error));
    }
    let topics = request.topics.map(|topics| topics.into_iter().map(with_id).collect());
    let group =
        OffsetFetchRequestGroup { group_id: request.group_id, topics, ..Default::default() };
    let answer = answer_group(engine, group);
    let error = first_error([answer.error_code]);
    Ok(ready(single(answer, call.version), error))
}

/// Brings a topic of a version below 8 into the shape of version 8.
fn with_id(topic: crate::protocol::messages::OffsetFetchRequestTopic) -> OffsetFetchRequestTopics {
    OffsetFetchRequestTopics {
        name: topic.name,
        partition_indexes: topic.partition_indexes,
        ..Default::default()
    }
}

fn answer_group(engine: &Engine, request: OffsetFetchRequestGroup) -> OffsetFetchResponseGroup {
    let group = GroupId::from(request.group_id.as_str());
    let query = match &request.topics {
        None => OffsetQuery::All,
        Some(topics) => OffsetQuery::Partitions(topics.iter().flat_map(partitions_of).collect()),
    };
    let mut response =
        OffsetFetchResponseGroup { group_id: request.group_id, ..Default::default() };
    match engine.groups.committed(&group, &query) {
        Ok(committed) => {
            response.topics = match request.topics {
                None => all_topics(committed),
                Some(topics) => wanted_topics(topics, committed),
            };
        }
        Err(error) => {
            let code = errors::group(&error);
            response.error_code = code.code();
            let failed = |topic| failed_topic(topic, code);
            response.topics = request.topics.unwrap_or_default().into_iter().map(failed).collect();
        }
    }
    response
}

/// The partitions of one topic; a name that breaks the rules has none.
fn partitions_of(topic: &OffsetFetchRequestTopics) -> impl Iterator<Item = TopicPartition> {
    let name = TopicName::parse(topic.name.as_str()).ok();
    let named = topic.partition_indexes.iter().map(move |&partition| (name.clone(), partition));
    named.filter_map(|(name, partition)| Some(TopicPartition::new(name?, partition)))
}

type Committed = Vec<(TopicPartition, Option<CommittedOffset>)>;

/// Brings what a group has, ordered by topic, under its topics.
fn all_topics(committed: Committed) -> Vec<OffsetFetchResponseTopics> {
    let mut topics: Vec<OffsetFetchResponseTopics> = Vec::new();
    for (place, offset) in committed {
        let partition = partition_response(place.partition, offset);
        match topics.last_mut().filter(|topic| topic.name.as_str() == place.topic.as_str()) {
            Some(topic) => topic.partitions.push(partition),
            None => topics.push(OffsetFetchResponseTopics {
                name: text(place.topic.as_str()),
                partitions: vec![partition],
                ..Default::default()
            }),
        }
    }
    topics
}

/// Answers what was asked for, in the order of the request.
fn wanted_topics(
    topics: Vec<OffsetFetchRequestTopics>,
    committed: Committed,
) -> Vec<OffsetFetchResponseTopics> {
    let mut found: HashMap<(String, PartitionId), CommittedOffset> = HashMap::new();
    for (place, offset) in committed {
        if let Some(offset) = offset {
            found.insert((place.topic.as_str().to_owned(), place.partition), offset);
        }
    }
    let answered = topics.into_iter().map(|topic| {
        let name = topic.name.as_str();
        let partitions = topic.partition_indexes.iter().map(|&partition| {
            let offset = found.get(&(name.to_owned(), partition)).cloned();
            partition_response(partition, offset)
        });
        let partitions = partitions.collect();
        OffsetFetchResponseTopics { name: topic.name, partitions, ..Default::default() }
    });
    answered.collect()
}

fn failed_topic(topic: OffsetFetchRequestTopics, code: ErrorCode) -> OffsetFetchResponseTopics {
    let partitions = topic.partition_indexes.iter().map(|&partition| {
        let error_code = code.code();
        OffsetFetchResponsePartitions { error_code, ..partition_response(partition, None) }
    });
    let partitions = partitions.collect();
    OffsetFetchResponseTopics { name: topic.name, partitions, ..Default::default() }
}

fn partition_response(
    partition_index: PartitionId,
    offset: Option<CommittedOffset>,
) -> OffsetFetchResponsePartitions {
    let none = OffsetFetchResponsePartitions {
        partition_index,
        committed_offset: -1,
        committed_leader_epoch: NO_EPOCH,
        metadata: Some(KafkaString::default()),
        ..Default::default()
    };
    match offset {
        None => none,
        Some(offset) => OffsetFetchResponsePartitions {
            committed_offset: offset.offset,
            committed_leader_epoch: offset.leader_epoch,
            metadata: Some(KafkaString::from(offset.metadata)),
            ..none
        },
    }
}

/// Brings an answer of version 8 into the shape below it, which has one group.
fn single(group: OffsetFetchResponseGroup, version: i16) -> OffsetFetchResponseData {
    let topics = group.topics.into_iter().map(|topic| {
        let partitions =
            topic.partitions.into_iter().map(|partition| OffsetFetchResponsePartition {
                partition_index: partition.partition_index,
                committed_offset: partition.committed_offset,
                committed_leader_epoch: partition.committed_leader_epoch,
                metadata: partition.metadata,
                error_code: partition.error_code,
                ..Default::default()
            });
        let partitions = partitions.collect();
        OffsetFetchResponseTopic { name: topic.name, partitions, ..Default::default() }
    });
    // Version 1 has errors in partitions only; they are there already.
    let error_code = if version >= ERROR_CODE_FROM { group.error_code } else { 0 };
    OffsetFetchResponseData { topics: topics.collect(), error_code, ..Default::default() }
}
