//! Layer 3: the materialised view of the log, kept in sled 0.34.7. Only this module names sled.
//!
//! Nothing is ever acknowledged by the store and nothing in it is the only copy: a missing or
//! damaged store is rebuilt from the segments (ADR 0002). One thread owns a [`Store`]; it is not
//! `Sync` on purpose, because concurrent use of sled 0.34.7 can hang (its issues 1308 and 1412).
//!
//! All keys live in one tree, so that what belongs together is applied in one atomic batch.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::Path;

pub mod keys;
pub mod migrate;

use keys::PartitionKey;

use crate::base::ids::Offset;
use crate::log::SavedPartition;
use crate::log::checkpoint::{Checkpoint, SegmentRow};
use crate::log::index::SparseIndex;

/// Memory that sled may use for pages, in bytes. Its default is 1 GiB.
const CACHE_BYTES: u64 = 8 * 1024 * 1024;

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// sled refused; the log has everything, so the store can be moved away.
    #[error("store failed: {0}")]
    Sled(#[from] sled::Error),
    /// A newer binary wrote the store.
    #[error(
        "store has format {found} and needs a reader of at least format {min_reader}, \
         this binary reads up to {known}: run a newer hydrant"
    )]
    TooNew {
        /// Format found.
        found: u32,
        /// Oldest reader that the writer allowed.
        min_reader: u32,
        /// Newest format this binary knows.
        known: u32,
    },
    /// The store was opened but its contents make no sense.
    #[error("store is damaged: {0}")]
    Damaged(&'static str),
}

/// One change of a state topic's view: a key with its newest value, or none for a tombstone.
pub type StateChange = (Vec<u8>, Option<Vec<u8>>);

/// The open store. It can be moved to a thread but not shared.
#[derive(Debug)]
pub struct Store {
    db: sled::Db,
    not_sync: std::marker::PhantomData<Cell<()>>,
}

impl Store {
    /// Opens the store in `dir`, creating and migrating it as needed.
    ///
    /// # Errors
    /// [`StoreError::TooNew`] must stop the program; after any other error the folder can be
    /// moved away and the store rebuilt.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let config = sled::Config::new().path(dir).cache_capacity(CACHE_BYTES);
        // Flushing is ours to time: sled's own flusher would be a second thread in the store.
        let db = config.flush_every_ms(None).open()?;
        migrate::run(&db)?;
        Ok(Self { db, not_sync: std::marker::PhantomData })
    }

    /// Reads everything saved of one partition.
    ///
    /// # Errors
    /// What sled reports.
    pub fn load_partition(&self, partition: PartitionKey) -> Result<SavedPartition, StoreError> {
        let mut saved = SavedPartition::default();
        for row in self.db.scan_prefix(keys::segment_prefix(partition)) {
            let (key, value) = row?;
            let base_offset = keys::segment_base(&key).ok_or(StoreError::Damaged("segment key"))?;
            if let Some(row) = keys::decode_segment(base_offset, &value) {
                saved.segments.insert(base_offset, row);
            }
        }
        if let Some((active, _)) = saved.segments.last_key_value() {
            saved.active_index = self.load_index(partition, *active)?;
        }
        if let Some(value) = self.db.get(keys::log_start(partition))? {
            saved.log_start_offset = keys::decode_offset(&value).unwrap_or(0);
        }
        saved.producers = self.db.get(keys::producers(partition))?.map(|value| value.to_vec());
        Ok(saved)
    }

    /// Reads the saved index of one segment; empty when there is none.
    ///
    /// # Errors
    /// What sled reports.
    pub fn load_index(
        &self,
        partition: PartitionKey,
        base_offset: Offset,
    ) -> Result<SparseIndex, StoreError> {
        let mut index = SparseIndex::default();
        for row in self.db.scan_prefix(keys::index_prefix(partition, base_offset)) {
            index.extend_encoded(&row?.1);
        }
        Ok(index)
    }

    /// Applies a checkpoint of one partition, all of it or nothing.
    ///
    /// # Errors
    /// What sled reports; nothing of the checkpoint is in the store then.
    pub fn apply_checkpoint(
        &self,
        partition: PartitionKey,
        checkpoint: &Checkpoint,
    ) -> Result<(), StoreError> {
        let mut batch = sled::Batch::default();
        for base_offset in &checkpoint.removed {
            batch.remove(keys::segment(partition, *base_offset));
            self.remove_index(partition, *base_offset, &mut batch)?;
        }
        for chunk in &checkpoint.index {
            if chunk.first_entry == 0 {
                self.remove_index(partition, chunk.base_offset, &mut batch)?;
            }
            let key = keys::index_chunk(partition, chunk.base_offset, chunk.first_entry);
            batch.insert(key, chunk.encoded.as_slice());
        }
        for row in &checkpoint.segments {
            let key = keys::segment(partition, row.base_offset);
            batch.insert(key, keys::encode_segment(row));
        }
        if let Some(producers) = &checkpoint.producers {
            batch.insert(keys::producers(partition), producers.as_slice());
        }
        let start = keys::encode_offset(checkpoint.log_start_offset);
        batch.insert(keys::log_start(partition), &start);
        self.db.apply_batch(batch)?;
        Ok(())
    }

    fn remove_index(
        &self,
        partition: PartitionKey,
        base_offset: Offset,
        batch: &mut sled::Batch,
    ) -> Result<(), StoreError> {
        for row in self.db.scan_prefix(keys::index_prefix(partition, base_offset)) {
            batch.remove(row?.0);
        }
        Ok(())
    }

    /// Forgets everything saved of one partition.
    ///
    /// # Errors
    /// What sled reports.
    pub fn forget_partition(&self, partition: PartitionKey) -> Result<(), StoreError> {
        let mut batch = sled::Batch::default();
        for prefix in keys::partition_prefixes(partition) {
            for row in self.db.scan_prefix(prefix) {
                batch.remove(row?.0);
            }
        }
        self.db.apply_batch(batch)?;
        Ok(())
    }

    /// Reads the view of one state topic: each key with its newest value.
    ///
    /// # Errors
    /// What sled reports.
    pub fn load_state(&self, topic: u8) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, StoreError> {
        let prefix = keys::state_prefix(topic);
        let mut view = BTreeMap::new();
        for row in self.db.scan_prefix(prefix) {
            let (key, value) = row?;
            let record_key = key.get(prefix.len()..).unwrap_or_default().to_vec();
            view.insert(record_key, value.to_vec());
        }
        Ok(view)
    }

    /// Offset up to which the log of one state topic is applied.
    ///
    /// # Errors
    /// What sled reports.
    pub fn applied(&self, topic: u8) -> Result<Offset, StoreError> {
        let value = self.db.get(keys::applied(topic))?;
        Ok(value.and_then(|bytes| keys::decode_offset(&bytes)).unwrap_or(0))
    }

    /// Applies changes of one state topic together with the offset they reach to.
    ///
    /// # Errors
    /// What sled reports; nothing is applied then.
    pub fn apply_state(
        &self,
        topic: u8,
        changes: &[StateChange],
        applied: Offset,
    ) -> Result<(), StoreError> {
        let mut batch = sled::Batch::default();
        for (key, value) in changes {
            let key = keys::state(topic, key);
            match value {
                Some(value) => batch.insert(key, value.as_slice()),
                None => batch.remove(key),
            }
        }
        batch.insert(&keys::applied(topic), &keys::encode_offset(applied));
        self.db.apply_batch(batch)?;
        Ok(())
    }

    /// Catalogue rows of every partition, for tools.
    ///
    /// # Errors
    /// What sled reports.
    pub fn segment_rows(&self) -> Result<Vec<SegmentRow>, StoreError> {
        let mut rows = Vec::new();
        for row in self.db.scan_prefix([keys::SEGMENT]) {
            let (key, value) = row?;
            let base = keys::segment_base(&key).ok_or(StoreError::Damaged("segment key"))?;
            rows.extend(keys::decode_segment(base, &value));
        }
        Ok(rows)
    }

    /// Hands everything applied so far to the operating system: it survives a kill then.
    ///
    /// # Errors
    /// What sled reports.
    pub fn flush(&self) -> Result<(), StoreError> {
        self.db.flush()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::checkpoint::IndexChunk;

    const PARTITION: PartitionKey = PartitionKey { topic: 7, partition: 3 };

    fn checkpoint() -> Checkpoint {
        let row = |base_offset, sealed| SegmentRow {
            base_offset,
            position: 4096,
            next_offset: base_offset + 10,
            max_timestamp: 99,
            sealed,
        };
        Checkpoint {
            log_start_offset: 5,
            end_offset: 20,
            segments: vec![row(5, true), row(15, false)],
            index: vec![IndexChunk { base_offset: 5, first_entry: 0, encoded: vec![1; 16] }],
            removed: vec![],
            producers: Some(vec![1]),
        }
    }

    #[test]
    fn checkpoints_come_back_after_reopening_and_can_be_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        store.apply_checkpoint(PARTITION, &checkpoint()).unwrap();
        store.flush().unwrap();
        drop(store);
        let store = Store::open(dir.path()).unwrap();
        let saved = store.load_partition(PARTITION).unwrap();
        assert_eq!(saved.segments.len(), 2);
        assert_eq!(saved.log_start_offset, 5);
        assert_eq!(saved.producers, Some(vec![1]));
        assert_eq!(store.load_index(PARTITION, 5).unwrap().len(), 1);
        let mut later = checkpoint();
        later.removed = vec![5];
        later.segments.remove(0);
        later.index.clear();
        store.apply_checkpoint(PARTITION, &later).unwrap();
        assert_eq!(store.load_partition(PARTITION).unwrap().segments.len(), 1);
        assert!(store.load_index(PARTITION, 5).unwrap().is_empty());
        store.forget_partition(PARTITION).unwrap();
        assert!(store.load_partition(PARTITION).unwrap().segments.is_empty());
    }

    #[test]
    fn state_is_applied_with_its_offset() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let put = |key: &[u8], value: Option<&[u8]>| (key.to_vec(), value.map(<[u8]>::to_vec));
        store.apply_state(1, &[put(b"a", Some(b"1")), put(b"b", Some(b"2"))], 2).unwrap();
        store.apply_state(1, &[put(b"a", None)], 3).unwrap();
        store.apply_state(2, &[put(b"c", Some(b"3"))], 1).unwrap();
        let view = store.load_state(1).unwrap();
        assert_eq!(view.into_iter().collect::<Vec<_>>(), [(b"b".to_vec(), b"2".to_vec())]);
        assert_eq!(store.applied(1).unwrap(), 3);
        assert_eq!(store.applied(9).unwrap(), 0);
    }

    #[test]
    fn a_store_of_the_future_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        migrate::pretend_format(&store.db, 99, 98).unwrap();
        drop(store);
        let refused = Store::open(dir.path());
        assert!(matches!(refused, Err(StoreError::TooNew { found: 99, min_reader: 98, .. })));
    }
}
