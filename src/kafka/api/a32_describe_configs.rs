//! 32 DescribeConfigs: versions 1 to 4.
//!
//! - v1: synonyms and sources (KIP-226)
//! - v2: throttling after the answer (KIP-219)
//! - v3: type and documentation of entries (KIP-569)
//! - v4: flexible encoding
//!
//! Deviations: entries have no documentation, and the synonyms of an entry are the value itself.
//! The broker resource lists what this door knows of itself.

use crate::base::limits::{FETCH_BYTES_MAX, FRAME_BYTES_MAX};
use crate::engine::Later;
use crate::engine::topics::ConfigEntry;
use crate::protocol::messages::{
    DescribeConfigsRequestData, DescribeConfigsResource, DescribeConfigsResourceResult,
    DescribeConfigsResponseData, DescribeConfigsResult, DescribeConfigsSynonym,
};
use crate::protocol::{ErrorCode, KafkaString};

use super::{Call, Reply, VersionRange, configs, errors, first_error, ready, text};
use crate::base::ids::TopicName;
use crate::kafka::reader::DecodeError;

pub(super) const RANGE: VersionRange = VersionRange::new(1, 4);

/// Kinds of resource, by Kafka's numbers.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;

/// A refusal with the text for the client.
type Refusal = (ErrorCode, String);

/// One entry before it is brought into the shape of the wire.
#[derive(Debug)]
struct Entry {
    name: &'static str,
    value: String,
    source: i8,
    is_read_only: bool,
}

pub(super) fn start(mut call: Call) -> Result<Later<Reply>, DecodeError> {
    let request = DescribeConfigsRequestData::read(&mut call.body, call.version)?;
    let with_synonyms = request.include_synonyms;
    let results = request.resources.into_iter().map(|resource| {
        let entries = match resource.resource_type {
            TOPIC => topic_entries(&call, resource.resource_name.as_str()),
            BROKER => broker_entries(&call, resource.resource_name.as_str()),
            other => {
                let text = format!("resource type {other} has no configuration here");
                Err((ErrorCode::InvalidRequest, text))
            }
        };
        describe(resource, entries, with_synonyms)
    });
    let results: Vec<DescribeConfigsResult> = results.collect();
    let error = first_error(results.iter().map(|result| result.error_code));
    Ok(ready(DescribeConfigsResponseData { results, ..Default::default() }, error))
}

fn topic_entries(call: &Call, name: &str) -> Result<Vec<Entry>, Refusal> {
    let topics = &call.engine().topics;
    let Some(topic) = topics.find(name) else {
        return Err(match TopicName::parse(name) {
            Ok(_) => (ErrorCode::UnknownTopicOrPartition, format!("topic '{name}' does not exist")),
            Err(error) => (errors::topic_name(&error), error.to_string()),
        });
    };
    let entries = topics.describe_configs(&topic).into_iter().map(|entry: ConfigEntry| Entry {
        name: entry.name,
        value: entry.value,
        source: configs::source(entry.source),
        is_read_only: false,
    });
    Ok(entries.collect())
}

fn broker_entries(call: &Call, name: &str) -> Result<Vec<Entry>, Refusal> {
    let node_id = call.engine().node.id;
    // The empty name is the default for all brokers, for which nothing is ever set.
    if name.is_empty() {
        return Ok(Vec::new());
    }
    if name.parse() != Ok(node_id) {
        let text = format!("broker '{name}' is not broker {node_id}, the only one");
        return Err((ErrorCode::InvalidRequest, text));
    }
    let options = &call.session.shared.options;
    let listeners = format!("PLAINTEXT://{}:{}", options.advertised_host, options.advertised_port);
    let entry = |name, value, source| Entry { name, value, source, is_read_only: true };
    let number = |name, value: usize| entry(name, value.to_string(), configs::SOURCE_DEFAULT);
    let set = configs::SOURCE_STATIC_BROKER;
    Ok(vec![
        entry("advertised.listeners", listeners, set),
        entry("broker.id", node_id.to_string(), set),
        entry("connections.max.idle.ms", options.idle_timeout.as_millis().to_string(), set),
        number("default.replication.factor", 1),
        entry("delete.topic.enable", "true".to_owned(), configs::SOURCE_DEFAULT),
        number("fetch.max.bytes", FETCH_BYTES_MAX),
        entry("max.connections", options.connections_max.to_string(), set),
        entry("node.id", node_id.to_string(), set),
        number("socket.request.max.bytes", FRAME_BYTES_MAX),
    ])
}

fn describe(
    resource: DescribeConfigsResource,
    entries: Result<Vec<Entry>, Refusal>,
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
            let is_wanted = |entry: &Entry| {
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

fn describe_entry(entry: Entry, with_synonyms: bool) -> DescribeConfigsResourceResult {
    let value = KafkaString::from(entry.value);
    let synonym = with_synonyms.then(|| DescribeConfigsSynonym {
        name: text(entry.name),
        value: Some(value.clone()),
        source: entry.source,
        ..Default::default()
    });
    DescribeConfigsResourceResult {
        name: text(entry.name),
        config_type: configs::kind(entry.name),
        config_source: entry.source,
        read_only: entry.is_read_only,
        synonyms: synonym.into_iter().collect(),
        value: Some(value),
        ..Default::default()
    }
}
