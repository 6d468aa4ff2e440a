//! An instance as it is kept over a restart: one JSON document by instance.
//!
//! Written when something in it changes, never on a poll. Positions that follow from commits or
//! from the settings are not in it.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::positions::Hold;
use super::settings::{Assignor, Format, OffsetReset, OnDecodeError, Settings};
use super::subscription::Subscription;
use crate::base::ids::{Offset, PartitionId, TimestampMs, TopicName, TopicPartition};
use crate::engine::log::Isolation;

/// The version of documents that is written and the newest that is read.
const VERSION: u32 = 1;

/// What an instance reads, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum KeptSource {
    #[default]
    None,
    Subscribed(Subscription),
    Assigned(Vec<TopicPartition>),
}

/// The part of an instance that survives a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) created_ms: TimestampMs,
    pub(super) settings: Settings,
    pub(super) source: KeptSource,
    pub(super) member_id: String,
    pub(super) generation_id: i32,
    /// Sorted.
    pub(super) holds: Vec<(TopicPartition, Hold)>,
}

/// Why a document cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum DocumentError {
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    #[error("version {0} is newer than this server")]
    Newer(u32),
}

#[derive(Serialize, Deserialize)]
struct Document {
    version: u32,
    created_ms: TimestampMs,
    settings: SettingsDoc,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    topics: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pattern: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    partitions: Option<Vec<(String, PartitionId)>>,
    #[serde(default)]
    member_id: String,
    #[serde(default = "no_generation")]
    generation_id: i32,
    #[serde(default)]
    positions: Vec<PositionDoc>,
}

#[derive(Serialize, Deserialize)]
struct SettingsDoc {
    format: Format,
    auto_offset_reset: OffsetReset,
    auto_commit: bool,
    auto_commit_interval_ms: i64,
    fetch_min_bytes: usize,
    request_timeout_ms: Option<u64>,
    is_read_committed: bool,
    #[serde(default)]
    on_decode_error: OnDecodeError,
    assignors: Vec<Assignor>,
}

#[derive(Serialize, Deserialize)]
struct PositionDoc {
    topic: String,
    partition: PartitionId,
    offset: Offset,
    committed: Option<Offset>,
}

const fn no_generation() -> i32 {
    -1
}

impl Kept {
    /// Writes the document.
    pub(super) fn encode(&self) -> Bytes {
        let strings = |names: &[TopicName]| names.iter().map(ToString::to_string).collect();
        let (mut topics, mut pattern, mut partitions) = (None, None, None);
        match &self.source {
            KeptSource::None => {}
            KeptSource::Subscribed(Subscription::Topics(names)) => topics = Some(strings(names)),
            KeptSource::Subscribed(Subscription::Pattern(text)) => {
                pattern = Some(text.as_ref().to_owned());
            }
            KeptSource::Assigned(assigned) => {
                partitions =
                    Some(assigned.iter().map(|p| (p.topic.to_string(), p.partition)).collect());
            }
        }
        let positions = self.holds.iter().map(|(held, hold)| PositionDoc {
            topic: held.topic.to_string(),
            partition: held.partition,
            offset: hold.offset,
            committed: hold.committed,
        });
        let document = Document {
            version: VERSION,
            created_ms: self.created_ms,
            settings: SettingsDoc::from(&self.settings),
            topics,
            pattern,
            partitions,
            member_id: self.member_id.clone(),
            generation_id: self.generation_id,
            positions: positions.collect(),
        };
        // Plain structs of texts and numbers can always be written.
        serde_json::to_vec(&document).map(Bytes::from).unwrap_or_default()
    }

    /// Reads a document; names that no topic can have are left out.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, DocumentError> {
        let document: Document = serde_json::from_slice(bytes)?;
        if document.version > VERSION {
            return Err(DocumentError::Newer(document.version));
        }
        let parse = |name: &String| TopicName::parse(name).ok();
        let source = if let Some(names) = &document.topics {
            let mut names: Vec<TopicName> = names.iter().filter_map(parse).collect();
            names.sort_unstable();
            names.dedup();
            KeptSource::Subscribed(Subscription::Topics(names.into()))
        } else if let Some(pattern) = document.pattern {
            KeptSource::Subscribed(Subscription::Pattern(pattern.into()))
        } else if let Some(partitions) = &document.partitions {
            let partitions = partitions.iter().filter_map(|(topic, partition)| {
                Some(TopicPartition::new(parse(topic)?, *partition))
            });
            KeptSource::Assigned(partitions.collect())
        } else {
            KeptSource::None
        };
        let positions = document.positions.iter().filter_map(|position| {
            let partition = TopicPartition::new(parse(&position.topic)?, position.partition);
            Some((partition, Hold { offset: position.offset, committed: position.committed }))
        });
        let mut holds: Vec<(TopicPartition, Hold)> = positions.collect();
        holds.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        Ok(Self {
            created_ms: document.created_ms,
            settings: document.settings.into(),
            source,
            member_id: document.member_id,
            generation_id: document.generation_id,
            holds,
        })
    }
}

impl From<&Settings> for SettingsDoc {
    fn from(settings: &Settings) -> Self {
        let timeout_ms = |timeout: std::time::Duration| timeout.as_millis().try_into().ok();
        Self {
            format: settings.format,
            auto_offset_reset: settings.auto_offset_reset,
            auto_commit: settings.auto_commit,
            auto_commit_interval_ms: settings.auto_commit_interval_ms,
            fetch_min_bytes: settings.fetch_min_bytes,
            request_timeout_ms: settings.request_timeout.and_then(timeout_ms),
            is_read_committed: settings.isolation == Isolation::ReadCommitted,
            on_decode_error: settings.on_decode_error,
            assignors: settings.assignors.clone(),
        }
    }
}

impl From<SettingsDoc> for Settings {
    fn from(document: SettingsDoc) -> Self {
        let isolation = if document.is_read_committed {
            Isolation::ReadCommitted
        } else {
            Isolation::ReadUncommitted
        };
        Self {
            format: document.format,
            auto_offset_reset: document.auto_offset_reset,
            auto_commit: document.auto_commit,
            auto_commit_interval_ms: document.auto_commit_interval_ms,
            fetch_min_bytes: document.fetch_min_bytes,
            request_timeout: document.request_timeout_ms.map(std::time::Duration::from_millis),
            isolation,
            on_decode_error: document.on_decode_error,
            assignors: document.assignors,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consumers::NewInstance;
    use proptest::prelude::*;

    fn partitions() -> impl Strategy<Value = Vec<TopicPartition>> {
        let one = ("[a-z]{1,3}", 0..9).prop_map(|(topic, partition)| {
            TopicPartition::new(TopicName::parse(&topic).unwrap(), partition)
        });
        prop::collection::btree_set(one, 0..5).prop_map(|set| set.into_iter().collect())
    }

    fn sources() -> impl Strategy<Value = KeptSource> {
        prop_oneof![
            Just(KeptSource::None),
            "[a-z]{1,3}"
                .prop_map(|t| { KeptSource::Subscribed(Subscription::topics(&[t]).unwrap()) }),
            "\\PC{0,9}".prop_map(|text| {
                KeptSource::Subscribed(Subscription::Pattern(text.as_str().into()))
            }),
            partitions().prop_map(KeptSource::Assigned),
        ]
    }

    proptest! {
        #[test]
        fn documents_round_trip(
            source in sources(), held in partitions(), member_id in "\\PC{0,9}",
            numbers in (any::<i64>(), any::<i32>(), any::<i64>(), any::<Option<i64>>()),
            new in (any::<bool>(), -1_i32..1000, prop::option::of(0_i64..300_000)),
        ) {
            let (auto_commit, min_bytes, request_timeout_ms) = new;
            let new = NewInstance {
                auto_commit, fetch_min_bytes: Some(min_bytes), request_timeout_ms,
                isolation: if auto_commit { Isolation::ReadCommitted } else { Isolation::ReadUncommitted },
                ..NewInstance::default()
            };
            let (created_ms, generation_id, offset, committed) = numbers;
            let hold = Hold { offset, committed };
            let kept = Kept {
                created_ms, source, member_id, generation_id,
                settings: Settings::check(&new).unwrap(),
                holds: held.into_iter().map(|partition| (partition, hold)).collect(),
            };
            prop_assert_eq!(Kept::decode(&kept.encode()).unwrap(), kept);
        }

        #[test]
        fn arbitrary_documents_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Kept::decode(&bytes);
        }
    }

    #[test]
    fn newer_documents_are_refused() {
        let text = r#"{"version":2,"created_ms":0,"settings":{"format":"json","auto_offset_reset":"none",
            "auto_commit":true,"auto_commit_interval_ms":1,"fetch_min_bytes":0,"request_timeout_ms":null,
            "is_read_committed":false,"assignors":["range"]}}"#;
        assert!(matches!(Kept::decode(text.as_bytes()), Err(DocumentError::Newer(2))));
        let first = text.replace("\"version\":2", "\"version\":1");
        assert_eq!(Kept::decode(first.as_bytes()).unwrap().generation_id, -1);
    }
}
