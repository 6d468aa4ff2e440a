//! 37 CreatePartitions: versions 0 to 3 (KIP-195).
//!
//! - v1: throttling after the answer (KIP-219)
//! - v2: flexible encoding
//! - v3: quotas may refuse (KIP-599); there are none
//!
//! Deviations: the timeout has nothing to bound: the answer comes when the partitions can be used.

use std::collections::HashMap;

use crate::engine::topics::{CreatePartitions, CreatePartitionsError};
use crate::engine::{Engine, Later};
use crate::protocol::messages::create_partitions_request::CreatePartitionsTopic;
use crate::protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use crate::protocol::messages::{CreatePartitionsRequestData, CreatePartitionsResponseData};
use crate::protocol::{ErrorCode, KafkaString};

use super::configs::{self, Refusal};
use super::{Call, Reply, VersionRange, errors, first_error, later};
use crate::engine::configs::Execution;
use crate::kafka::reader::DecodeError;

pub(super) const RANGE: VersionRange = VersionRange::new(0, 3);

pub(super) fn start(mut call: Call) -> Result<Later<Reply>, DecodeError> {
    let request = CreatePartitionsRequestData::read(&mut call.body, call.version)?;
    let engine = call.engine().clone();
    Ok(later(async move {
        let message = create_all(&engine, request).await;
        let error = first_error(message.results.iter().map(|result| result.error_code));
        Reply::message(message, error)
    }))
}

async fn create_all(
    engine: &Engine,
    request: CreatePartitionsRequestData,
) -> CreatePartitionsResponseData {
    let execution = configs::execution(request.validate_only);
    let mut counts: HashMap<KafkaString, usize> = HashMap::new();
    for topic in &request.topics {
        *counts.entry(topic.name.clone()).or_default() += 1;
    }
    let mut message = CreatePartitionsResponseData::default();
    for topic in request.topics {
        let created = match counts.get_mut(&topic.name) {
            Some(count) if *count > 1 => {
                // One answer for the name, however often it came.
                *count = 0;
                let text = format!("topic '{}' is named more than once", topic.name);
                Err((ErrorCode::InvalidRequest, text))
            }
            Some(0) => continue,
            _ => create(engine, &topic, execution).await,
        };
        let (code, text) = configs::outcome(created);
        message.results.push(CreatePartitionsTopicResult {
            name: topic.name,
            error_code: code.code(),
            error_message: text.map(KafkaString::from),
            ..Default::default()
        });
    }
    message
}

async fn create(
    engine: &Engine,
    topic: &CreatePartitionsTopic,
    execution: Execution,
) -> Result<(), Refusal> {
    let request = |execution| CreatePartitions {
        topic: topic.name.as_str().to_owned(),
        partition_count: topic.count,
        execution,
    };
    let refusal =
        |error: CreatePartitionsError| (errors::create_partitions(&error), error.to_string());
    if let Some(assignments) = &topic.assignments {
        // What is wrong with the count is said before what is wrong with the assignment.
        let checked = engine.topics.create_partitions(request(Execution::Check)).await;
        checked.map_err(refusal)?;
        let current = engine.topics.find(topic.name.as_str()).map_or(0, |t| t.partition_count);
        let new = usize::try_from(topic.count - current).unwrap_or(0);
        let node_id = engine.node.id;
        if assignments.len() != new || assignments.iter().any(|a| a.broker_ids != [node_id]) {
            let text = format!("{new} partitions must be assigned, each to broker {node_id} alone");
            return Err((ErrorCode::InvalidReplicaAssignment, text));
        }
    }
    engine.topics.create_partitions(request(execution)).await.map_err(refusal)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::fake_engine::{Fake, TOPIC};
    use crate::protocol::messages::create_partitions_request::CreatePartitionsAssignment;

    fn topic(name: &str, count: i32, brokers: Option<&[i32]>) -> CreatePartitionsTopic {
        let assign =
            |id: &i32| CreatePartitionsAssignment { broker_ids: vec![*id], ..Default::default() };
        CreatePartitionsTopic {
            name: super::super::text(name),
            count,
            assignments: brokers.map(|brokers| brokers.iter().map(assign).collect()),
            ..Default::default()
        }
    }

    async fn codes(topics: Vec<CreatePartitionsTopic>) -> Vec<ErrorCode> {
        let engine = Fake::new().engine();
        let request = CreatePartitionsRequestData { topics, ..Default::default() };
        let message = create_all(&engine, request).await;
        message.results.iter().map(|result| ErrorCode::from(result.error_code)).collect()
    }

    #[tokio::test]
    async fn topics_only_grow_on_this_broker() {
        // The fake is broker 7 and its topic has two partitions.
        for (asked, expected) in [
            (topic(TOPIC, 3, None), ErrorCode::None),
            (topic(TOPIC, 4, Some(&[7, 7])), ErrorCode::None),
            (topic(TOPIC, 2, None), ErrorCode::InvalidPartitions),
            (topic(TOPIC, 2, Some(&[7])), ErrorCode::InvalidPartitions),
            (topic(TOPIC, 4, Some(&[7])), ErrorCode::InvalidReplicaAssignment),
            (topic(TOPIC, 3, Some(&[8])), ErrorCode::InvalidReplicaAssignment),
            (topic("nope", 3, None), ErrorCode::UnknownTopicOrPartition),
        ] {
            assert_eq!(codes(vec![asked.clone()]).await, [expected], "{asked:?}");
        }
    }

    #[tokio::test]
    async fn a_name_that_comes_twice_is_answered_once() {
        let twice = vec![topic(TOPIC, 3, None), topic("nope", 1, None), topic(TOPIC, 4, None)];
        let expected = [ErrorCode::InvalidRequest, ErrorCode::UnknownTopicOrPartition];
        assert_eq!(codes(twice).await, expected);
    }
}
