//! Groups and offsets as the records of `__consumer_offsets` give them at start.

use std::collections::{BTreeMap, HashMap};

use crate::base::ids::{GroupId, TopicPartition};
use crate::coordinator::group::{CommittedOffset, GroupSnapshot, records};

/// Groups and offsets as records gave them.
#[derive(Debug, Default)]
pub(in crate::engine::embedded) struct LoadedGroups {
    pub(super) groups: HashMap<GroupId, GroupSnapshot>,
    pub(super) offsets: HashMap<GroupId, Vec<(TopicPartition, CommittedOffset)>>,
}

impl LoadedGroups {
    /// Reads the view of `__consumer_offsets`.
    pub(in crate::engine::embedded) fn from_view(view: &BTreeMap<Vec<u8>, Vec<u8>>) -> Self {
        let mut loaded = Self::default();
        for (key, value) in view {
            if let Err(error) = loaded.take(key, value) {
                tracing::error!(%error, "record of a group cannot be read and is passed over");
            }
        }
        loaded
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), records::RecordError> {
        match records::decode_key(key)? {
            records::RecordKey::Group(group) => {
                self.groups.insert(group, records::decode_group_value(value)?);
            }
            records::RecordKey::Offset { group, partition } => {
                let committed = records::decode_offset_value(value)?;
                self.offsets.entry(group).or_default().push((partition, committed));
            }
        }
        Ok(())
    }
}
