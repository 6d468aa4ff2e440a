//! What the configurations of topics, brokers and the cluster have in common: an entry in
//! answers, changes in requests.

use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::error::{V3Error, V3Result};
use crate::engine::configs::{
    ConfigChange, ConfigEdit, ConfigEntry, ConfigOperation, ConfigSource, Execution, Mutability,
};

/// What an entry says, whoever has it.
#[derive(Debug, Serialize, ToSchema)]
pub struct ConfigDetails {
    /// Kafka's name of the entry.
    #[schema(example = "retention.ms")]
    pub name: String,
    /// The value in force.
    #[schema(example = "604800000")]
    pub value: String,
    /// The value is the built-in one.
    pub is_default: bool,
    /// The value cannot be changed while the server runs.
    pub is_read_only: bool,
    /// The value is a secret and not shown; no entry is.
    pub is_sensitive: bool,
    /// Where the value comes from.
    #[schema(example = "DEFAULT_CONFIG")]
    pub source: &'static str,
    /// Every place where the entry has a value, the strongest first.
    pub synonyms: Vec<ConfigSynonymDetails>,
}

/// One place where an entry has a value.
#[derive(Debug, Serialize, ToSchema)]
pub struct ConfigSynonymDetails {
    /// Name of the entry at that place.
    #[schema(example = "log.retention.ms")]
    pub name: &'static str,
    /// Its value there.
    #[schema(example = "604800000")]
    pub value: String,
    /// The place.
    #[schema(example = "DEFAULT_CONFIG")]
    pub source: &'static str,
}

impl From<ConfigEntry> for ConfigDetails {
    fn from(entry: ConfigEntry) -> Self {
        let synonyms = entry.synonyms.into_iter().map(|synonym| ConfigSynonymDetails {
            name: synonym.name,
            value: synonym.value,
            source: source_name(synonym.source),
        });
        Self {
            name: entry.name.to_owned(),
            value: entry.value,
            is_default: entry.source == ConfigSource::Default,
            is_read_only: entry.mutability == Mutability::ReadOnly,
            // The engine has no entry whose value must not be shown.
            is_sensitive: false,
            source: source_name(entry.source),
            synonyms: synonyms.collect(),
        }
    }
}

const fn source_name(source: ConfigSource) -> &'static str {
    match source {
        ConfigSource::Topic => "DYNAMIC_TOPIC_CONFIG",
        ConfigSource::Broker => "DYNAMIC_BROKER_CONFIG",
        ConfigSource::Cluster => "DYNAMIC_DEFAULT_BROKER_CONFIG",
        ConfigSource::Start => "STATIC_BROKER_CONFIG",
        ConfigSource::Default => "DEFAULT_CONFIG",
    }
}

/// Finds an entry by its name.
///
/// # Errors
/// 404/404.
pub(super) fn find(entries: Vec<ConfigEntry>, name: &str) -> V3Result<ConfigEntry> {
    entries.into_iter().find(|entry| entry.name == name).ok_or_else(|| not_found(name))
}

/// 404/404: there is no such entry.
pub(super) fn not_found(name: &str) -> V3Error {
    V3Error::not_found(format!("configuration '{name}' does not exist"))
}

/// A new value of one entry.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateConfigRequest {
    /// The value.
    #[serde(default, deserialize_with = "scalar")]
    #[schema(example = "86400000")]
    pub value: Option<String>,
}

/// Changes of several entries, all or none.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AlterConfigBatchRequest {
    /// The changes; each entry once.
    pub data: Vec<AlterConfigEntry>,
    /// Check only.
    #[serde(default)]
    pub validate_only: Option<bool>,
}

/// What to do with one entry.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AlterConfigEntry {
    /// Kafka's name of the entry.
    #[schema(example = "retention.ms")]
    pub name: String,
    /// The value to set.
    #[serde(default, deserialize_with = "scalar")]
    #[schema(example = "86400000")]
    pub value: Option<String>,
    /// `SET` if absent.
    #[serde(default)]
    pub operation: Option<AlterOperation>,
}

/// What to do with an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum AlterOperation {
    /// Give it a value.
    Set,
    /// Take its value away.
    Delete,
}

/// The edit that sets one entry.
///
/// # Errors
/// 400/40002 without a value.
pub(super) fn set_one(name: &str, request: UpdateConfigRequest) -> V3Result<ConfigEdit> {
    edit(vec![AlterConfigEntry { name: name.to_owned(), value: request.value, operation: None }])
}

/// The edit that takes one entry away.
pub(super) fn reset_one(name: &str) -> ConfigEdit {
    let operation = ConfigOperation::Delete;
    ConfigEdit::Change(vec![ConfigChange { name: name.to_owned(), operation }])
}

/// The edit of a batch.
///
/// # Errors
/// 400/40002 for an entry that is to be set and has no value.
pub(super) fn edit(entries: Vec<AlterConfigEntry>) -> V3Result<ConfigEdit> {
    let change = |entry: AlterConfigEntry| {
        let operation = match (entry.operation.unwrap_or(AlterOperation::Set), entry.value) {
            (AlterOperation::Delete, _) => ConfigOperation::Delete,
            (AlterOperation::Set, Some(value)) => ConfigOperation::Set(value),
            (AlterOperation::Set, None) => {
                let message = format!("configuration '{}' needs a value", entry.name);
                return Err(V3Error::refused(message));
            }
        };
        Ok(ConfigChange { name: entry.name, operation })
    };
    let changes: V3Result<Vec<_>> = entries.into_iter().map(change).collect();
    Ok(ConfigEdit::Change(changes?))
}

/// Whether a request is to be carried out.
pub(super) fn execution(validate_only: Option<bool>) -> Execution {
    if validate_only == Some(true) { Execution::Check } else { Execution::Perform }
}

/// Reads text, or a number or truth value as the text that Kafka has for it.
pub(super) fn scalar<'de, D: Deserializer<'de>>(source: D) -> Result<Option<String>, D::Error> {
    match serde_json::Value::deserialize(source)? {
        serde_json::Value::Null => Ok(None),
        serde_json::Value::String(text) => Ok(Some(text)),
        serde_json::Value::Number(number) => Ok(Some(number.to_string())),
        serde_json::Value::Bool(truth) => Ok(Some(truth.to_string())),
        _ => Err(serde::de::Error::custom("value must be a string, a number, true or false")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_set_by_default_and_need_values() {
        let text = r#"{"data":[{"name":"a","value":1},{"name":"b","operation":"DELETE"}]}"#;
        let batch: AlterConfigBatchRequest = serde_json::from_str(text).unwrap();
        assert_eq!(execution(batch.validate_only), Execution::Perform);
        let change = |name: &str, operation| ConfigChange { name: name.to_owned(), operation };
        let set = change("a", ConfigOperation::Set("1".to_owned()));
        let expected = ConfigEdit::Change(vec![set, change("b", ConfigOperation::Delete)]);
        assert_eq!(edit(batch.data).unwrap(), expected);
        let nothing = set_one("a", UpdateConfigRequest { value: None }).unwrap_err();
        assert_eq!(nothing.api().code, 40002);
        let bad = r#"{"data":[{"name":"a","operation":"APPEND"}]}"#;
        assert!(serde_json::from_str::<AlterConfigBatchRequest>(bad).is_err());
    }
}
