//! The configuration of topics: Kafka's names, defaults, checks, and what they mean to the log.

use std::collections::BTreeMap;

use crate::engine::topics::{ConfigEntry, ConfigSource, CreateTopicError};
use crate::log::LogConfig;
use crate::protocol::record_batch::validate::KeyRule;

/// How the text of an entry is checked.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// A whole number in a range, both ends included.
    Integer(i64, i64),
    /// `true` or `false`.
    Boolean,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// Any of these words, separated by commas.
    ListOf(&'static [&'static str]),
}

struct Definition {
    name: &'static str,
    default: &'static str,
    kind: Kind,
}

const fn integer(name: &'static str, default: &'static str, min: i64) -> Definition {
    Definition { name, default, kind: Kind::Integer(min, i64::MAX) }
}

/// Every entry that a topic can have, by name. Entries without an effect on one node are kept
/// because clients set and read them.
const DEFINITIONS: &[Definition] = &[
    Definition {
        name: "cleanup.policy",
        default: "delete",
        kind: Kind::ListOf(&["delete", "compact"]),
    },
    Definition { name: "compression.type", default: "producer", kind: Kind::OneOf(&["producer"]) },
    integer("delete.retention.ms", "86400000", 0),
    integer("file.delete.delay.ms", "60000", 0),
    integer("flush.messages", "9223372036854775807", 1),
    integer("flush.ms", "9223372036854775807", 0),
    integer("index.interval.bytes", "8192", 0),
    integer("max.compaction.lag.ms", "9223372036854775807", 1),
    Definition {
        name: "max.message.bytes",
        default: "1048588",
        kind: Kind::Integer(0, i32::MAX as i64),
    },
    integer("message.timestamp.after.max.ms", "9223372036854775807", 0),
    integer("message.timestamp.before.max.ms", "9223372036854775807", 0),
    Definition {
        name: "message.timestamp.type",
        default: "CreateTime",
        kind: Kind::OneOf(&["CreateTime", "LogAppendTime"]),
    },
    integer("min.compaction.lag.ms", "0", 0),
    Definition {
        name: "min.insync.replicas",
        default: "1",
        kind: Kind::Integer(1, i32::MAX as i64),
    },
    Definition { name: "preallocate", default: "false", kind: Kind::Boolean },
    integer("retention.bytes", "-1", -1),
    integer("retention.ms", "604800000", -1),
    integer("segment.bytes", "268435456", 14),
    integer("segment.index.bytes", "10485760", 4),
    integer("segment.jitter.ms", "0", 0),
    integer("segment.ms", "604800000", 1),
    Definition { name: "unclean.leader.election.enable", default: "false", kind: Kind::Boolean },
];

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

/// Checks entries that a client wants to set.
pub(super) fn check(
    configs: &[(String, Option<String>)],
) -> Result<BTreeMap<String, String>, CreateTopicError> {
    let mut overrides = BTreeMap::new();
    for (name, value) in configs {
        let text = value.as_deref().unwrap_or("null");
        let invalid = |reason: String| CreateTopicError::InvalidConfig {
            name: name.clone(),
            value: text.to_owned(),
            reason,
        };
        let Some(definition) = DEFINITIONS.iter().find(|d| d.name == name) else {
            return Err(invalid("no such topic configuration".to_owned()));
        };
        if value.is_none() {
            return Err(invalid("a value is needed".to_owned()));
        }
        definition.kind.check(text).map_err(invalid)?;
        overrides.insert(name.clone(), text.to_owned());
    }
    Ok(overrides)
}

impl Kind {
    fn check(self, text: &str) -> Result<(), String> {
        match self {
            Self::Integer(min, max) => match text.parse::<i64>() {
                Ok(number) if (min..=max).contains(&number) => Ok(()),
                _ => Err(format!("must be a whole number from {min} to {max}")),
            },
            Self::Boolean if matches!(text, "true" | "false") => Ok(()),
            Self::Boolean => Err("must be true or false".to_owned()),
            Self::OneOf(words) if words.contains(&text) => Ok(()),
            Self::OneOf(words) => Err(format!("must be one of {}", words.join(", "))),
            Self::ListOf(words) => {
                let listed = text.split(',').map(str::trim);
                if listed.clone().all(|word| words.contains(&word)) {
                    Ok(())
                } else {
                    Err(format!("must be a list of {}", words.join(", ")))
                }
            }
        }
    }
}

/// Lists every entry with the value in force.
pub(super) fn describe(overrides: &BTreeMap<String, String>) -> Vec<ConfigEntry> {
    let entry = |definition: &Definition| match overrides.get(definition.name) {
        Some(value) => {
            ConfigEntry { name: definition.name, value: value.clone(), source: ConfigSource::Topic }
        }
        None => ConfigEntry {
            name: definition.name,
            value: definition.default.to_owned(),
            source: ConfigSource::Default,
        },
    };
    DEFINITIONS.iter().map(entry).collect()
}

impl TopicSettings {
    /// Takes the settings from checked overrides.
    pub(super) fn from_overrides(overrides: &BTreeMap<String, String>) -> Self {
        let text = |name: &str| {
            let default = DEFINITIONS.iter().find(|d| d.name == name).map_or("", |d| d.default);
            overrides.get(name).map_or(default, String::as_str).to_owned()
        };
        // Overrides were checked and defaults are covered by a test, so parsing succeeds.
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
    fn every_default_passes_its_own_check_and_gives_kafkas_behaviour() {
        for definition in DEFINITIONS {
            definition.kind.check(definition.default).unwrap();
        }
        let settings = TopicSettings::from_overrides(&BTreeMap::new());
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
        let settings = TopicSettings::from_overrides(&overrides);
        assert!(settings.log.compacts && settings.log.deletes);
        assert_eq!(settings.keys, KeyRule::Required);
    }
}
