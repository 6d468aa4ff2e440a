//! What the configuration of a topic means: the value in force of each entry, and the settings
//! that the broker and the log take from them.

use super::config_edit::{Entries, Place};
use super::config_table::{self, Definition};
use super::server_config::{Layers, from_synonyms, topic_synonyms};
use crate::engine::configs::{
    AlterConfigsError, ConfigEntry, ConfigSource, ConfigSynonym, Mutability,
};
use crate::engine::topics::CreateTopicError;
use crate::log::LogConfig;
use crate::protocol::record_batch::validate::KeyRule;

/// What the broker itself needs of a topic's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TopicSettings {
    pub(super) message_bytes_max: usize,
    pub(super) min_insync_replicas: i32,
    pub(super) timestamp_before_max_ms: i64,
    pub(super) timestamp_after_max_ms: i64,
    pub(super) keys: KeyRule,
    pub(super) log: LogConfig,
}

/// Checks the entries of a topic that is to be created.
pub(super) fn check(configs: &[(String, Option<String>)]) -> Result<Entries, CreateTopicError> {
    let mut overrides = Entries::new();
    for (name, value) in configs {
        let text = value.as_deref().unwrap_or("null");
        let invalid = |reason: String| CreateTopicError::InvalidConfig {
            name: name.clone(),
            value: text.to_owned(),
            reason,
        };
        let Some(definition) = config_table::find_topic(name) else {
            return Err(invalid("no such topic configuration".to_owned()));
        };
        if value.is_none() {
            return Err(invalid("a value is needed".to_owned()));
        }
        definition.rule.check(text).map_err(invalid)?;
        overrides.insert(name.clone(), text.to_owned());
    }
    Ok(overrides)
}

/// A topic as the place of an edit: what it inherits comes from the server.
pub(super) struct TopicPlace<'a>(pub(super) &'a Layers);

impl Place for TopicPlace<'_> {
    fn find(&self, name: &str) -> Result<&'static Definition, AlterConfigsError> {
        let unknown = || AlterConfigsError::UnknownConfig(name.to_owned());
        config_table::find_topic(name).ok_or_else(unknown)
    }

    fn inherited(&self, definition: &'static Definition) -> String {
        self.0.get(definition.server_name).unwrap_or(definition.default).to_owned()
    }
}

/// Lists every entry with the value in force.
pub(super) fn describe(overrides: &Entries, layers: &Layers) -> Vec<ConfigEntry> {
    let entry = |definition: &'static Definition| {
        let name = definition.name;
        let own = overrides.get(name).map(|value| ConfigSynonym {
            name,
            value: value.clone(),
            source: ConfigSource::Topic,
        });
        let synonyms = own.into_iter().chain(topic_synonyms(definition, layers)).collect();
        from_synonyms(name, definition.rule.kind(), Mutability::Dynamic, synonyms)
    };
    config_table::TOPIC.iter().map(entry).collect()
}

impl TopicSettings {
    /// Takes the settings from checked entries of the topic and of the server.
    pub(super) fn resolve(overrides: &Entries, layers: &Layers) -> Self {
        let text = |name: &str| {
            let definition = config_table::find_topic(name);
            let inherited = definition.map(|d| layers.get(d.server_name).unwrap_or(d.default));
            let own = overrides.get(name).map(String::as_str);
            own.or(inherited).unwrap_or_default().to_owned()
        };
        // Entries were checked and defaults are covered by a test, so parsing succeeds.
        let number = |name: &str| text(name).parse::<i64>().unwrap_or(0);
        let size = |name: &str| u64::try_from(number(name)).unwrap_or(0);
        let unlimited = |number: i64| (number >= 0).then_some(number);
        let policy = text("cleanup.policy");
        let has = |word: &str| policy.split(',').any(|listed| listed.trim() == word);
        let compacts = has("compact");
        Self {
            message_bytes_max: usize::try_from(number("max.message.bytes")).unwrap_or(0),
            min_insync_replicas: i32::try_from(number("min.insync.replicas")).unwrap_or(i32::MAX),
            timestamp_before_max_ms: number("message.timestamp.before.max.ms"),
            timestamp_after_max_ms: number("message.timestamp.after.max.ms"),
            keys: if compacts { KeyRule::Required } else { KeyRule::Optional },
            log: LogConfig {
                segment_bytes: size("segment.bytes"),
                segment_ms: number("segment.ms"),
                retention_ms: unlimited(number("retention.ms")),
                retention_bytes: unlimited(number("retention.bytes"))
                    .and_then(|bytes| u64::try_from(bytes).ok()),
                deletes: has("delete"),
                compacts,
                delete_retention_ms: number("delete.retention.ms"),
                log_append_time: text("message.timestamp.type") == "LogAppendTime",
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(name: &str, value: &str) -> Vec<(String, Option<String>)> {
        vec![(name.to_owned(), Some(value.to_owned()))]
    }

    #[test]
    fn defaults_give_kafkas_behaviour() {
        let settings = TopicSettings::resolve(&Entries::new(), &Layers::default());
        assert_eq!(settings.message_bytes_max, 1_048_588);
        assert_eq!(settings.log, LogConfig::default());
        assert_eq!(settings.keys, KeyRule::Optional);
    }

    #[test]
    fn bad_entries_are_named_with_their_value() {
        let refused = check(&set("retention.ms", "soon")).unwrap_err().to_string();
        assert!(refused.contains("retention.ms") && refused.contains("soon"), "{refused}");
        assert!(check(&set("no.such.thing", "1")).is_err());
        assert!(check(&[("retention.ms".to_owned(), None)]).is_err());
    }

    #[test]
    fn compact_and_delete_may_both_apply() {
        let overrides = check(&set("cleanup.policy", "compact,delete")).unwrap();
        let settings = TopicSettings::resolve(&overrides, &Layers::default());
        assert!(settings.log.compacts && settings.log.deletes);
        assert_eq!(settings.keys, KeyRule::Required);
    }

    #[test]
    fn a_topic_inherits_from_the_server_what_it_does_not_set() {
        let cluster = Entries::from([
            ("log.retention.ms".to_owned(), "1000".to_owned()),
            ("message.max.bytes".to_owned(), "2000".to_owned()),
        ]);
        let layers = Layers { cluster, ..Layers::default() };
        let overrides = check(&set("retention.ms", "7")).unwrap();
        let settings = TopicSettings::resolve(&overrides, &layers);
        assert_eq!((settings.log.retention_ms, settings.message_bytes_max), (Some(7), 2000));
        let entries = describe(&overrides, &layers);
        let entry = entries.iter().find(|entry| entry.name == "retention.ms").unwrap();
        let places: Vec<_> = entry.synonyms.iter().map(|s| (s.name, s.source)).collect();
        let expected = [
            ("retention.ms", ConfigSource::Topic),
            ("log.retention.ms", ConfigSource::Cluster),
            ("log.retention.ms", ConfigSource::Default),
        ];
        assert_eq!(places, expected);
    }
}
