//! 20 DeleteTopics: versions 1 to 6.
//!
//! - v1: throttle time
//! - v2: throttling after the answer (KIP-219)
//! - v3: TOPIC_DELETION_DISABLED may be answered; deletion is always on here
//! - v4: flexible encoding
//! - v5: error message in the answer (KIP-599)
//! - v6: topics may be named by id (KIP-516)
//!
//! Deviations: the timeout has nothing to bound: the answer comes when the topic is gone.

use std::collections::HashSet;

use crate::base::ids::TopicId;
use crate::engine::{Engine, Later};
use crate::protocol::messages::{
    DeletableTopicResult, DeleteTopicState, DeleteTopicsRequestData, DeleteTopicsResponseData,
};
use crate::protocol::{ErrorCode, KafkaString, KafkaUuid};

use super::{Call, Reply, VersionRange, errors, first_error, later, topic_id, uuid};
use crate::kafka::reader::DecodeError;

pub(super) const RANGE: VersionRange = VersionRange::new(1, 6);

pub(super) fn start(mut call: Call) -> Result<Later<Reply>, DecodeError> {
    let request = DeleteTopicsRequestData::read(&mut call.body, call.version)?;
    let engine = call.engine().clone();
    // Only one of the two lists exists in any version.
    let by_name = request.topic_names.into_iter();
    let by_name = by_name.map(|name| DeleteTopicState { name: Some(name), ..Default::default() });
    let topics: Vec<DeleteTopicState> = request.topics.into_iter().chain(by_name).collect();
    Ok(later(async move {
        let mut responses = Vec::with_capacity(topics.len());
        let mut seen = HashSet::new();
        for topic in topics {
            if seen.insert((topic.name.clone(), topic.topic_id)) {
                responses.push(delete(&engine, topic).await);
            }
        }
        let error = first_error(responses.iter().map(|response| response.error_code));
        let message = DeleteTopicsResponseData { responses, ..Default::default() };
        Reply::message(message, error)
    }))
}

async fn delete(engine: &Engine, topic: DeleteTopicState) -> DeletableTopicResult {
    match (topic.name, topic_id(topic.topic_id)) {
        (Some(name), None) => delete_by_name(engine, name).await,
        (None, Some(id)) => delete_by_id(engine, id).await,
        (name, _) => {
            let text = "a topic is named either by its name or by its id";
            refused(name, topic.topic_id, ErrorCode::InvalidRequest, text.to_owned())
        }
    }
}

async fn delete_by_name(engine: &Engine, name: KafkaString) -> DeletableTopicResult {
    let id = engine.topics.find(name.as_str()).map(|topic| uuid(topic.id)).unwrap_or_default();
    match engine.topics.delete(name.as_str()).await {
        Ok(()) => DeletableTopicResult { name: Some(name), topic_id: id, ..Default::default() },
        Err(error) => refused(Some(name), id, errors::delete_topic(&error), error.to_string()),
    }
}

async fn delete_by_id(engine: &Engine, id: TopicId) -> DeletableTopicResult {
    match engine.topics.find_by_id(id) {
        Some(topic) => delete_by_name(engine, super::text(topic.name.as_str())).await,
        None => {
            let text = format!("no topic has id {id}");
            refused(None, uuid(id), ErrorCode::UnknownTopicId, text)
        }
    }
}

fn refused(
    name: Option<KafkaString>,
    topic_id: KafkaUuid,
    code: ErrorCode,
    message: String,
) -> DeletableTopicResult {
    DeletableTopicResult {
        name,
        topic_id,
        error_code: code.code(),
        error_message: Some(KafkaString::from(message)),
        ..Default::default()
    }
}
