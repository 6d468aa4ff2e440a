//! 19 CreateTopics: versions 2 to 7.
//!
//! - v2: throttle time
//! - v3: throttling after the answer (KIP-219)
//! - v4: partition count and replication factor may be left to the broker (KIP-464)
//! - v5: flexible encoding, configuration in the answer (KIP-525)
//! - v6: quotas may refuse (KIP-599); there are none
//! - v7: topic id in the answer (KIP-516)
//!
//! Deviations: -1 for count and factor is accepted before v4 too. The timeout has nothing to
//! bound: the answer comes when the topic can be used.

use std::collections::HashMap;
use std::sync::Arc;

use crate::engine::topics::{CreateTopic, CreateTopicError, Topic};
use crate::engine::{Engine, Later};
use crate::protocol::messages::{
    CreatableTopic, CreatableTopicConfigs, CreatableTopicResult, CreateTopicsRequestData,
    CreateTopicsResponseData,
};
use crate::protocol::{ErrorCode, KafkaString};

use super::{Call, Reply, VersionRange, configs, errors, first_error, later, owned, text, uuid};
use crate::kafka::reader::DecodeError;

pub(super) const RANGE: VersionRange = VersionRange::new(2, 7);

/// Replicas of every partition: there is one node.
const REPLICATION_FACTOR: i16 = 1;

/// Leaves a number to the broker.
const BY_DEFAULT: i32 = -1;

pub(super) fn start(mut call: Call) -> Result<Later<Reply>, DecodeError> {
    let request = CreateTopicsRequestData::read(&mut call.body, call.version)?;
    let engine = call.engine().clone();
    Ok(later(async move {
        let message = create_all(&engine, request).await;
        let error = first_error(message.topics.iter().map(|topic| topic.error_code));
        Reply::message(message, error)
    }))
}

/// A refusal with the text for the client.
type Refusal = (ErrorCode, String);

async fn create_all(engine: &Engine, request: CreateTopicsRequestData) -> CreateTopicsResponseData {
    let mut counts: HashMap<KafkaString, usize> = HashMap::new();
    for topic in &request.topics {
        *counts.entry(topic.name.clone()).or_default() += 1;
    }
    let mut message = CreateTopicsResponseData::default();
    for topic in request.topics {
        let result = match counts.get_mut(&topic.name) {
            Some(count) if *count > 1 => {
                // One answer for the name, however often it came.
                *count = 0;
                let text = format!("topic '{}' is named more than once", topic.name);
                Err((ErrorCode::InvalidRequest, text))
            }
            Some(0) => continue,
            _ => create(engine, &topic, request.validate_only).await,
        };
        message.topics.push(match result {
            Ok(created) => described(engine, &created, request.validate_only),
            Err((code, text)) => refused(topic.name, code, text),
        });
    }
    message
}

async fn create(
    engine: &Engine,
    topic: &CreatableTopic,
    is_dry_run: bool,
) -> Result<Arc<Topic>, Refusal> {
    let (partition_count, replication_factor) = shape(topic, engine.node.id)?;
    let entry = |config: &crate::protocol::messages::CreatableTopicConfig| {
        (config.name.as_str().to_owned(), owned(config.value.as_ref()))
    };
    let request = CreateTopic {
        name: topic.name.as_str().to_owned(),
        partition_count,
        replication_factor,
        configs: topic.configs.iter().map(entry).collect(),
        dry_run: is_dry_run,
    };
    let refusal = |error: CreateTopicError| (errors::create_topic(&error), error.to_string());
    engine.topics.create(request).await.map_err(refusal)
}

/// The partition count and replication factor asked for, by number or by assignment.
fn shape(topic: &CreatableTopic, node_id: i32) -> Result<(Option<i32>, Option<i32>), Refusal> {
    let factor = i32::from(topic.replication_factor);
    let given = |number: i32| (number != BY_DEFAULT).then_some(number);
    if topic.assignments.is_empty() {
        return Ok((given(topic.num_partitions), given(factor)));
    }
    if given(topic.num_partitions).is_some() || given(factor).is_some() {
        let text = "partition count and replication factor must be -1 beside an assignment";
        return Err((ErrorCode::InvalidRequest, text.to_owned()));
    }
    let mut indexes: Vec<i32> = topic.assignments.iter().map(|a| a.partition_index).collect();
    indexes.sort_unstable();
    let is_gapless = indexes.iter().zip(0..).all(|(index, expected)| *index == expected);
    if !is_gapless || topic.assignments.iter().any(|a| a.broker_ids != [node_id]) {
        let text = format!("partitions must be numbered from 0, each on broker {node_id} alone");
        return Err((ErrorCode::InvalidReplicaAssignment, text));
    }
    Ok((i32::try_from(indexes.len()).ok(), Some(i32::from(REPLICATION_FACTOR))))
}

fn described(engine: &Engine, topic: &Topic, is_dry_run: bool) -> CreatableTopicResult {
    let entries = engine.configs.describe_topic(topic).into_iter();
    let entries = entries.map(|entry| CreatableTopicConfigs {
        name: text(entry.name),
        config_source: configs::source(entry.source),
        value: Some(KafkaString::from(entry.value)),
        ..Default::default()
    });
    CreatableTopicResult {
        name: text(topic.name.as_str()),
        // A topic that was not created has no identity.
        topic_id: if is_dry_run { Default::default() } else { uuid(topic.id) },
        num_partitions: topic.partition_count,
        replication_factor: REPLICATION_FACTOR,
        configs: Some(entries.collect()),
        ..Default::default()
    }
}

fn refused(name: KafkaString, code: ErrorCode, message: String) -> CreatableTopicResult {
    CreatableTopicResult {
        name,
        error_code: code.code(),
        error_message: Some(KafkaString::from(message)),
        configs: Some(Vec::new()),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::messages::CreatableReplicaAssignment;

    fn assigned(assignments: &[(i32, &[i32])]) -> CreatableTopic {
        let assignments = assignments.iter().map(|(index, brokers)| CreatableReplicaAssignment {
            partition_index: *index,
            broker_ids: brokers.to_vec(),
            ..Default::default()
        });
        CreatableTopic {
            num_partitions: -1,
            replication_factor: -1,
            assignments: assignments.collect(),
            ..Default::default()
        }
    }

    #[test]
    fn assignments_must_name_this_node_alone() {
        assert_eq!(shape(&assigned(&[(1, &[7]), (0, &[7])]), 7), Ok((Some(2), Some(1))));
        let code = |topic: &CreatableTopic| shape(topic, 7).unwrap_err().0;
        assert_eq!(code(&assigned(&[(0, &[8])])), ErrorCode::InvalidReplicaAssignment);
        assert_eq!(code(&assigned(&[(0, &[7, 8])])), ErrorCode::InvalidReplicaAssignment);
        assert_eq!(code(&assigned(&[(1, &[7])])), ErrorCode::InvalidReplicaAssignment);
        let both = CreatableTopic { num_partitions: 1, ..assigned(&[(0, &[7])]) };
        assert_eq!(code(&both), ErrorCode::InvalidRequest);
    }

    #[test]
    fn minus_one_leaves_the_numbers_to_the_broker() {
        let topic =
            CreatableTopic { num_partitions: -1, replication_factor: -1, ..Default::default() };
        assert_eq!(shape(&topic, 7), Ok((None, None)));
        let topic =
            CreatableTopic { num_partitions: 0, replication_factor: 3, ..Default::default() };
        assert_eq!(shape(&topic, 7), Ok((Some(0), Some(3))));
    }
}
