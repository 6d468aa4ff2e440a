//! Configuration as the wire shows it: resources, sources, types, and how an edit is answered.

use crate::base::ids::TopicName;
use crate::engine::configs::{
    AlterConfigsError, ConfigEdit, ConfigKind, ConfigSource, Execution, ServerScope,
};
use crate::engine::{BoxFuture, Engine};
use crate::protocol::ErrorCode;

use super::errors;

/// Kinds of resource, by Kafka's numbers.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;

/// A refusal with the text for the client.
pub(super) type Refusal = (ErrorCode, String);

/// Whose configuration a request is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Resource {
    /// That of a topic, which may not exist.
    Topic(String),
    /// That of the server.
    Server(ServerScope),
}

/// Finds what a resource of a request means.
pub(super) fn resource(engine: &Engine, kind: i8, name: &str) -> Result<Resource, Refusal> {
    let node_id = engine.node.id;
    match kind {
        TOPIC => Ok(Resource::Topic(name.to_owned())),
        // The empty name is the default for all brokers.
        BROKER if name.is_empty() => Ok(Resource::Server(ServerScope::Cluster)),
        BROKER if name.parse() == Ok(node_id) => Ok(Resource::Server(ServerScope::Broker)),
        BROKER => {
            let text = format!("broker '{name}' is not broker {node_id}, the only one");
            Err((ErrorCode::InvalidRequest, text))
        }
        other => {
            let text = format!("resource type {other} has no configuration here");
            Err((ErrorCode::InvalidRequest, text))
        }
    }
}

/// Whether a request is to be carried out.
pub(super) const fn execution(is_validate_only: bool) -> Execution {
    if is_validate_only { Execution::Check } else { Execution::Perform }
}

/// Makes an edit.
pub(super) fn alter(
    engine: &Engine,
    resource: &Resource,
    edit: ConfigEdit,
    execution: Execution,
) -> BoxFuture<Result<(), AlterConfigsError>> {
    match resource {
        Resource::Topic(name) => engine.configs.alter_topic(name, edit, execution),
        Resource::Server(scope) => engine.configs.alter_server(*scope, edit, execution),
    }
}

/// The refusal that a client sees; a topic's name that breaks a rule is told from an unknown one.
pub(super) fn refusal(error: &AlterConfigsError) -> Refusal {
    if let AlterConfigsError::UnknownTopic(name) = error
        && let Err(invalid) = TopicName::parse(name)
    {
        return (errors::topic_name(&invalid), invalid.to_string());
    }
    (errors::alter_configs(error), error.to_string())
}

/// Kafka's number of a source (KIP-226).
pub(super) const fn source(source: ConfigSource) -> i8 {
    match source {
        ConfigSource::Topic => 1,
        ConfigSource::Broker => 2,
        ConfigSource::Cluster => 3,
        ConfigSource::Start => 4,
        ConfigSource::Default => 5,
    }
}

/// Kafka's number of an entry's type (KIP-569).
pub(super) const fn kind(kind: ConfigKind) -> i8 {
    match kind {
        ConfigKind::Boolean => 1,
        ConfigKind::Text => 2,
        ConfigKind::Int => 3,
        ConfigKind::Long => 5,
        ConfigKind::List => 7,
    }
}

/// The refusal of a change that needs a value and has none.
pub(super) fn no_value(name: &str) -> Refusal {
    (ErrorCode::InvalidRequest, format!("configuration '{name}' needs a value"))
}

/// For each resource of a request the refusal if it is named more than once: then nothing of it
/// is changed.
pub(super) fn repeated<'a>(keys: impl Iterator<Item = (i8, &'a str)>) -> Vec<Option<Refusal>> {
    let keys: Vec<_> = keys.collect();
    let mut counts = std::collections::HashMap::new();
    for key in &keys {
        *counts.entry(*key).or_insert(0_usize) += 1;
    }
    let refusal = |(kind, name): &(i8, &str)| {
        let text = format!("resource '{name}' of type {kind} is named more than once");
        (ErrorCode::InvalidRequest, text)
    };
    let is_repeated = |key: &&(i8, &str)| counts.get(*key).is_some_and(|count| *count > 1);
    keys.iter().map(|key| Some(key).filter(is_repeated).map(refusal)).collect()
}

/// What an answer says of one resource.
pub(super) fn outcome(altered: Result<(), Refusal>) -> (ErrorCode, Option<String>) {
    match altered {
        Ok(()) => (ErrorCode::None, None),
        Err((code, text)) => (code, Some(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_repeated_resources_are_refused() {
        let keys = [(2, "a"), (2, "b"), (4, "a"), (2, "a")];
        let refused: Vec<_> = repeated(keys.into_iter()).iter().map(Option::is_some).collect();
        assert_eq!(refused, [true, false, false, true]);
    }
}
