//! The entries of configurations: Kafka's names, types, defaults and checks.

use crate::base::limits::PARTITIONS_PER_TOPIC_MAX;
use crate::engine::configs::ConfigKind;

/// How the text of an entry is checked.
#[derive(Debug, Clone, Copy)]
pub(super) enum Rule {
    /// A whole number in a range, both ends included.
    Integer(i64, i64),
    /// `true` or `false`.
    Boolean,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// Any of these words, separated by commas.
    ListOf(&'static [&'static str]),
}

/// One entry that can be set at runtime.
#[derive(Debug)]
pub(super) struct Definition {
    /// Its name in the configuration of a topic; of the server when it has no meaning for one
    /// topic.
    pub(super) name: &'static str,
    /// The server's setting of the same meaning.
    pub(super) server_name: &'static str,
    /// The value when nobody sets one.
    pub(super) default: &'static str,
    pub(super) rule: Rule,
}

const I32_MAX: i64 = i32::MAX as i64;

const fn entry(
    name: &'static str,
    server_name: &'static str,
    default: &'static str,
    rule: Rule,
) -> Definition {
    Definition { name, server_name, default, rule }
}

const fn at_least(min: i64) -> Rule {
    Rule::Integer(min, i64::MAX)
}

/// What is meant by "never".
const FOREVER: &str = "9223372036854775807";

/// Every entry that a topic can have, by name. Entries without an effect on one node are kept
/// because clients set and read them.
#[rustfmt::skip]
pub(super) const TOPIC: &[Definition] = &[
    entry("cleanup.policy", "log.cleanup.policy", "delete", Rule::ListOf(&["delete", "compact"])),
    entry("compression.type", "compression.type", "producer", Rule::OneOf(&["producer"])),
    entry("delete.retention.ms", "log.cleaner.delete.retention.ms", "86400000", at_least(0)),
    entry("file.delete.delay.ms", "log.segment.delete.delay.ms", "60000", at_least(0)),
    entry("flush.messages", "log.flush.interval.messages", FOREVER, at_least(1)),
    entry("flush.ms", "log.flush.interval.ms", FOREVER, at_least(0)),
    entry("index.interval.bytes", "log.index.interval.bytes", "8192", Rule::Integer(0, I32_MAX)),
    entry("max.compaction.lag.ms", "log.cleaner.max.compaction.lag.ms", FOREVER, at_least(1)),
    entry("max.message.bytes", "message.max.bytes", "1048588", Rule::Integer(0, I32_MAX)),
    entry("message.timestamp.after.max.ms", "log.message.timestamp.after.max.ms", FOREVER,
        at_least(0)),
    entry("message.timestamp.before.max.ms", "log.message.timestamp.before.max.ms", FOREVER,
        at_least(0)),
    entry("message.timestamp.type", "log.message.timestamp.type", "CreateTime",
        Rule::OneOf(&["CreateTime", "LogAppendTime"])),
    entry("min.compaction.lag.ms", "log.cleaner.min.compaction.lag.ms", "0", at_least(0)),
    entry("min.insync.replicas", "min.insync.replicas", "1", Rule::Integer(1, I32_MAX)),
    entry("preallocate", "log.preallocate", "false", Rule::Boolean),
    entry("retention.bytes", "log.retention.bytes", "-1", at_least(-1)),
    entry("retention.ms", "log.retention.ms", "604800000", at_least(-1)),
    entry("segment.bytes", "log.segment.bytes", "268435456", Rule::Integer(14, I32_MAX)),
    entry("segment.index.bytes", "log.index.size.max.bytes", "10485760", Rule::Integer(4, I32_MAX)),
    entry("segment.jitter.ms", "log.roll.jitter.ms", "0", at_least(0)),
    entry("segment.ms", "log.roll.ms", "604800000", at_least(1)),
    entry("unclean.leader.election.enable", "unclean.leader.election.enable", "false",
        Rule::Boolean),
];

/// Whether topics are created when metadata of an unknown one is asked for.
pub(super) const AUTO_CREATE: &str = "auto.create.topics.enable";
/// Partitions of a topic whose creator named no number.
pub(super) const NUM_PARTITIONS: &str = "num.partitions";

/// Settings of the server that can change at runtime and are no topic's. The default counts when
/// the server was started without naming one.
pub(super) const SERVER: &[Definition] = &[
    entry(AUTO_CREATE, AUTO_CREATE, "false", Rule::Boolean),
    entry(NUM_PARTITIONS, NUM_PARTITIONS, "1", Rule::Integer(1, PARTITIONS_PER_TOPIC_MAX as i64)),
];

/// Finds an entry of topics.
pub(super) fn find_topic(name: &str) -> Option<&'static Definition> {
    TOPIC.iter().find(|definition| definition.name == name)
}

/// Finds a setting of the server that can change at runtime.
pub(super) fn find_server(name: &str) -> Option<&'static Definition> {
    TOPIC.iter().chain(SERVER).find(|definition| definition.server_name == name)
}

impl Rule {
    /// Checks a value; the error says what it must be.
    pub(super) fn check(self, text: &str) -> Result<(), String> {
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
                let mut listed = text.split(',').map(str::trim);
                if listed.all(|word| words.contains(&word)) {
                    Ok(())
                } else {
                    Err(format!("must be a list of {}", words.join(", ")))
                }
            }
        }
    }

    /// What the text means, for clients.
    pub(super) const fn kind(self) -> ConfigKind {
        match self {
            Self::Integer(_, max) if max <= I32_MAX => ConfigKind::Int,
            Self::Integer(..) => ConfigKind::Long,
            Self::Boolean => ConfigKind::Boolean,
            Self::OneOf(_) => ConfigKind::Text,
            Self::ListOf(_) => ConfigKind::List,
        }
    }

    /// Whether the text is a list.
    pub(super) const fn is_list(self) -> bool {
        matches!(self, Self::ListOf(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_passes_its_own_check() {
        for definition in TOPIC.iter().chain(SERVER) {
            definition.rule.check(definition.default).unwrap();
        }
    }

    #[test]
    fn entries_are_sorted_and_no_name_is_there_twice() {
        assert!(TOPIC.is_sorted_by(|a, b| a.name < b.name));
        let mut names: Vec<_> = TOPIC.iter().chain(SERVER).map(|d| d.server_name).collect();
        names.sort_unstable();
        assert!(names.is_sorted_by(|a, b| a < b), "{names:?}");
    }

    #[test]
    fn lists_are_lists_of_known_words() {
        let rule = find_topic("cleanup.policy").unwrap().rule;
        assert!(rule.check("compact, delete").is_ok());
        assert!(rule.check("").is_err() && rule.check("compact,keep").is_err());
    }
}
