//! 32 DescribeConfigs: versions 1 to 4.
//!
//! - v1: synonyms and sources (KIP-226)
//! - v2: throttling after the answer (KIP-219)
//! - v3: type and documentation of entries (KIP-569)
//! - v4: flexible encoding
//!
//! Deviations: entries have no documentation.

use crate::base::ids::TopicName;
use crate::engine::configs::{ConfigEntry, Mutability, ServerScope};
use crate::engine::{Engine, Later};
use crate::protocol::ErrorCode;
use crate::protocol::KafkaString;
use crate::protocol::messages::{
    DescribeConfigsRequestData, DescribeConfigsResource, DescribeConfigsResourceResult,
    DescribeConfigsResponseData, DescribeConfigsResult, DescribeConfigsSynonym,
};

use super::configs::{self, Refusal, Resource};
use super::{Call, Reply, VersionRange, errors, first_error, ready, text};
use crate::kafka::reader::DecodeError;

pub(super) const RANGE: VersionRange = VersionRange::new(1, 4);

pub(super) fn start(mut call: Call) -> Result<Later<Reply>, DecodeError> {
    let request = DescribeConfigsRequestData::read(&mut call.body, call.version)?;
    let with_synonyms = request.include_synonyms;
    let results = request.resources.into_iter().map(|resource| {
        let found = entries(call.engine(), &resource);
        describe(resource, found, with_synonyms)
    });
    let results: Vec<DescribeConfigsResult> = results.collect();
    let error = first_error(results.iter().map(|result| result.error_code));
    Ok(ready(DescribeConfigsResponseData { results, ..Default::default() }, error))
}

fn entries(engine: &Engine, asked: &DescribeConfigsResource) -> Result<Vec<ConfigEntry>, Refusal> {
    let name = asked.resource_name.as_str();
    match configs::resource(engine, asked.resource_type, name)? {
        Resource::Server(ServerScope::Cluster) => Ok(engine.configs.describe_cluster()),
        Resource::Server(ServerScope::Broker) => Ok(engine.configs.describe_broker()),
        Resource::Topic(name) => match (engine.topics.find(&name), TopicName::parse(&name)) {
            (Some(topic), _) => Ok(engine.configs.describe_topic(&topic)),
            (None, Ok(_)) => {
                let text = format!("topic '{name}' does not exist");
                Err((ErrorCode::UnknownTopicOrPartition, text))
            }
            (None, Err(error)) => Err((errors::topic_name(&error), error.to_string())),
        },
    }
}

fn describe(
    resource: DescribeConfigsResource,
    entries: Result<Vec<ConfigEntry>, Refusal>,
    with_synonyms: bool,
) -> DescribeConfigsResult {
    let keys = resource.configuration_keys.unwrap_or_default();
    let mut result = DescribeConfigsResult {
        resource_type: resource.resource_type,
        resource_name: resource.resource_name,
        ..Default::default()
    };
    match entries {
        Ok(entries) => {
            let is_wanted = |entry: &ConfigEntry| {
                keys.is_empty() || keys.iter().any(|key| key.as_str() == entry.name)
            };
            let wanted = entries.into_iter().filter(is_wanted);
            result.configs = wanted.map(|entry| describe_entry(entry, with_synonyms)).collect();
        }
        Err((code, message)) => {
            result.error_code = code.code();
            result.error_message = Some(KafkaString::from(message));
        }
    }
    result
}

fn describe_entry(entry: ConfigEntry, with_synonyms: bool) -> DescribeConfigsResourceResult {
    let synonyms = if with_synonyms { entry.synonyms } else { Vec::new() };
    let synonyms = synonyms.into_iter().map(|synonym| DescribeConfigsSynonym {
        name: text(synonym.name),
        value: Some(KafkaString::from(synonym.value)),
        source: configs::source(synonym.source),
        ..Default::default()
    });
    DescribeConfigsResourceResult {
        name: text(entry.name),
        config_type: configs::kind(entry.kind),
        config_source: configs::source(entry.source),
        read_only: entry.mutability == Mutability::ReadOnly,
        synonyms: synonyms.collect(),
        value: Some(KafkaString::from(entry.value)),
        ..Default::default()
    }
}
