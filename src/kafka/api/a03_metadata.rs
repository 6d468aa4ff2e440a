//! 3 Metadata: versions 0 to 12.
//!
//! - v0: an empty list of topics means all of them
//! - v1: null means all and empty means none; rack, controller, internal flag
//! - v2: cluster id
//! - v3: throttle time
//! - v4: the client may forbid auto-creation; before it is always allowed
//! - v5: offline replicas
//! - v6: throttling after the answer (KIP-219)
//! - v7: leader epoch (KIP-320)
//! - v8: authorized operations (KIP-430)
//! - v9: flexible encoding
//! - v10: topic id in the answer (KIP-516)
//! - v11: no authorized operations of the cluster
//! - v12: topics may be asked for by id
//!
//! Deviations: a topic that is created by being asked for is answered at once, not by an error
//! first; clients ask again in that case and none minds.

use std::collections::HashSet;
use std::sync::Arc;

use crate::base::ids::{TopicId, TopicName};
use crate::engine::topics::Topic;
use crate::engine::{Engine, Later};
use crate::protocol::messages::{
    MetadataRequestData, MetadataRequestTopic, MetadataResponseBroker, MetadataResponseData,
    MetadataResponsePartition, MetadataResponseTopic,
};
use crate::protocol::{ErrorCode, KafkaString, KafkaUuid};

use super::{
    Broker, Call, LEADER_EPOCH, Reply, VersionRange, errors, first_error, later, operations, text,
    topic_id, uuid,
};
use crate::kafka::reader::DecodeError;

pub(super) const RANGE: VersionRange = VersionRange::new(0, 12);

/// First version in which the client may forbid auto-creation.
const AUTO_CREATION_FLAG_FROM: i16 = 4;

/// First version in which a topic may be asked for by id.
const BY_ID_FROM: i16 = 12;

pub(super) fn start(mut call: Call) -> Result<Later<Reply>, DecodeError> {
    let request = MetadataRequestData::read(&mut call.body, call.version)?;
    let (engine, broker) = (call.engine().clone(), call.broker());
    let version = call.version;
    Ok(later(async move {
        let cluster_operations = request.include_cluster_authorized_operations;
        let directory = Directory {
            node_id: broker.id,
            version,
            may_create: version < AUTO_CREATION_FLAG_FROM || request.allow_auto_topic_creation,
            with_operations: request.include_topic_authorized_operations,
            engine: &engine,
        };
        let topics = directory.look_up(request.topics).await;
        let error = first_error(topics.iter().map(|topic| topic.error_code));
        let message = MetadataResponseData {
            controller_id: broker.id,
            brokers: vec![broker_response(broker)],
            cluster_id: Some(text(&engine.node.cluster_id)),
            topics,
            cluster_authorized_operations: operations::cluster(cluster_operations),
            ..Default::default()
        };
        Reply::message(message, error)
    }))
}

fn broker_response(broker: Broker) -> MetadataResponseBroker {
    MetadataResponseBroker {
        node_id: broker.id,
        host: broker.host,
        port: broker.port,
        ..Default::default()
    }
}

/// Finds topics as one request wants them.
struct Directory<'a> {
    engine: &'a Engine,
    node_id: i32,
    version: i16,
    may_create: bool,
    with_operations: bool,
}

impl Directory<'_> {
    async fn look_up(
        &self,
        wanted: Option<Vec<MetadataRequestTopic>>,
    ) -> Vec<MetadataResponseTopic> {
        let is_all = |topics: &Vec<_>| self.version == 0 && topics.is_empty();
        let Some(wanted) = wanted.filter(|topics| !is_all(topics)) else {
            return self.engine.topics.list().iter().map(|topic| self.describe(topic)).collect();
        };
        let mut answers = Vec::with_capacity(wanted.len());
        let mut seen = HashSet::new();
        for topic in wanted {
            if seen.insert((topic.topic_id, topic.name.clone())) {
                answers.push(self.look_up_one(topic).await);
            }
        }
        answers
    }

    async fn look_up_one(&self, wanted: MetadataRequestTopic) -> MetadataResponseTopic {
        match (topic_id(wanted.topic_id), &wanted.name) {
            (None, Some(name)) => self.look_up_name(name).await,
            (Some(id), None) if self.version >= BY_ID_FROM => self.look_up_id(id),
            _ => failed(ErrorCode::InvalidRequest, wanted.name, wanted.topic_id),
        }
    }

    fn look_up_id(&self, id: TopicId) -> MetadataResponseTopic {
        match self.engine.topics.find_by_id(id) {
            Some(topic) => self.describe(&topic),
            None => failed(ErrorCode::UnknownTopicId, None, uuid(id)),
        }
    }

    async fn look_up_name(&self, name: &KafkaString) -> MetadataResponseTopic {
        match self.find_or_create(name.as_str()).await {
            Ok(topic) => self.describe(&topic),
            Err(error) => failed(error, Some(name.clone()), KafkaUuid::ZERO),
        }
    }

    async fn find_or_create(&self, name: &str) -> Result<Arc<Topic>, ErrorCode> {
        if let Some(topic) = self.engine.topics.find(name) {
            return Ok(topic);
        }
        TopicName::parse(name).map_err(|error| errors::topic_name(&error))?;
        if !self.may_create {
            return Err(ErrorCode::UnknownTopicOrPartition);
        }
        match self.engine.topics.auto_create(name).await {
            Some(Ok(topic)) => Ok(topic),
            Some(Err(error)) => match errors::create_topic(&error) {
                // Another request was faster.
                ErrorCode::TopicAlreadyExists => {
                    self.engine.topics.find(name).ok_or(ErrorCode::LeaderNotAvailable)
                }
                code => Err(code),
            },
            None => Err(ErrorCode::UnknownTopicOrPartition),
        }
    }

    fn describe(&self, topic: &Topic) -> MetadataResponseTopic {
        let partition = |index| MetadataResponsePartition {
            partition_index: index,
            leader_id: self.node_id,
            leader_epoch: LEADER_EPOCH,
            replica_nodes: vec![self.node_id],
            isr_nodes: vec![self.node_id],
            ..Default::default()
        };
        MetadataResponseTopic {
            name: Some(text(topic.name.as_str())),
            topic_id: uuid(topic.id),
            is_internal: topic.is_internal,
            partitions: (0..topic.partition_count).map(partition).collect(),
            topic_authorized_operations: operations::topic(self.with_operations),
            ..Default::default()
        }
    }
}

fn failed(
    error: ErrorCode,
    name: Option<KafkaString>,
    topic_id: KafkaUuid,
) -> MetadataResponseTopic {
    MetadataResponseTopic { error_code: error.code(), name, topic_id, ..Default::default() }
}
