//! What takes groups and committed offsets away: commands, the end of a topic, and age.
//!
//! Tombstones are appended under the group's lock, in one batch, so that a restart finds all of
//! it gone or none.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{GroupCell, Inner, Shared};
use crate::base::ids::{GroupId, TopicName, TopicPartition};
use crate::coordinator::group::records;
use crate::engine::embedded::state_log::Change;
use crate::engine::groups::{DeleteOffsetRefusal, DeleteOffsetResults, GroupError};
use crate::log::Promise;

impl Shared {
    /// Deletes a group; returns what to wait for.
    pub(super) fn delete(&self, id: &GroupId) -> Result<Promise, GroupError> {
        let cell = self.find(id).ok_or(GroupError::GroupIdNotFound)?;
        let mut inner = cell.inner.lock();
        if inner.retired {
            return Err(GroupError::GroupIdNotFound);
        }
        inner.group.check_deletion()?;
        let promise = self.bury(&cell, &mut inner)?;
        drop(inner);
        self.forget(&cell);
        tracing::info!(group = %id, "group deleted");
        Ok(promise)
    }

    /// Appends the tombstones of a whole group and retires its cell, which the caller then takes
    /// out of the map with [`Shared::forget`].
    fn bury(&self, cell: &GroupCell, inner: &mut Inner) -> Result<Promise, GroupError> {
        let too_long = |_| GroupError::InvalidRequest;
        let group = records::encode_group_key(&cell.id).map_err(too_long)?;
        let partitions = inner.group.committed_offsets().map(|(partition, _)| partition);
        let mut changes = offset_tombstones(&cell.id, partitions);
        changes.push((group, None));
        let appended = self.state.append(&changes);
        let promise = appended.map_err(|_| GroupError::CoordinatorNotAvailable)?;
        inner.retired = true;
        self.timers.schedule(&cell.id, None);
        Ok(promise)
    }

    /// Takes a retired cell out of the map.
    fn forget(&self, cell: &GroupCell) {
        self.cells.write().remove(&cell.id);
    }

    /// Deletes committed offsets; returns the result of each and what to wait for.
    pub(super) fn delete_offsets(
        &self,
        id: &GroupId,
        partitions: &[TopicPartition],
    ) -> Result<(DeleteOffsetResults, Option<Promise>), GroupError> {
        if id.as_str().is_empty() {
            return Err(GroupError::InvalidGroupId);
        }
        let cell = self.find(id).ok_or(GroupError::GroupIdNotFound)?;
        let mut inner = cell.inner.lock();
        if inner.retired {
            return Err(GroupError::GroupIdNotFound);
        }
        let checked = inner.group.check_offset_deletion(partitions)?;
        let judge = |(partition, allowed): (&TopicPartition, Result<(), GroupError>)| {
            if !self.exists(partition) {
                return Err(DeleteOffsetRefusal::UnknownPartition);
            }
            allowed.map_err(|_| DeleteOffsetRefusal::Subscribed)
        };
        let results: DeleteOffsetResults = partitions.iter().zip(checked).map(judge).collect();
        let allowed = partitions.iter().zip(&results).filter(|(_, result)| result.is_ok());
        let there = allowed.map(|(partition, _)| partition);
        let there: BTreeSet<TopicPartition> =
            there.filter(|p| inner.group.committed(p).is_some()).cloned().collect();
        let promise = self.remove_offsets(&cell, &mut inner, &there)?;
        Ok((results, promise))
    }

    /// Appends the tombstones of offsets that are there and forgets them.
    fn remove_offsets(
        &self,
        cell: &GroupCell,
        inner: &mut Inner,
        partitions: &BTreeSet<TopicPartition>,
    ) -> Result<Option<Promise>, GroupError> {
        if partitions.is_empty() {
            return Ok(None);
        }
        let appended = self.state.append(&offset_tombstones(&cell.id, partitions));
        let promise = appended.map_err(|_| GroupError::CoordinatorNotAvailable)?;
        inner.group.remove_offsets(partitions);
        Ok(Some(promise))
    }

    /// Removes the offsets that any group committed for `topic`. Call it when the topic is out of
    /// the registry: a commit that still found it there comes before its group is looked at.
    pub(super) fn remove_offsets_of(&self, topic: &TopicName) {
        for cell in self.snapshot() {
            let mut inner = cell.inner.lock();
            let all = inner.group.committed_offsets().map(|(partition, _)| partition);
            let gone = all.filter(|p| p.topic == *topic).cloned().collect();
            if let Err(error) = self.remove_offsets(&cell, &mut inner, &gone) {
                let group = &cell.id;
                tracing::error!(%group, %topic, %error, "offsets of a deleted topic stay");
            }
        }
    }

    /// Removes offsets of topics that are not there: the process ended between the deletion of a
    /// topic and that of its offsets.
    pub(super) fn remove_orphaned_offsets(&self) {
        let mut topics = BTreeSet::new();
        for cell in self.snapshot() {
            let inner = cell.inner.lock();
            let all = inner.group.committed_offsets().map(|(partition, _)| &partition.topic);
            topics.extend(all.filter(|t| self.registry.find(t.as_str()).is_none()).cloned());
        }
        for topic in topics {
            tracing::info!(%topic, "removing committed offsets of a topic that is gone");
            self.remove_offsets_of(&topic);
        }
    }

    /// Drops offsets that nobody has needed for long, and groups that hold nothing any more.
    pub(super) fn expire(&self) {
        let now = self.clock.now_ms();
        for cell in self.snapshot() {
            let mut inner = cell.inner.lock();
            if inner.retired {
                continue;
            }
            let expired = inner.group.expired_offsets(now, &self.config).into_iter().collect();
            if self.remove_offsets(&cell, &mut inner, &expired).is_err() {
                continue;
            }
            if inner.group.is_disposable() && self.bury(&cell, &mut inner).is_ok() {
                drop(inner);
                self.forget(&cell);
            }
        }
    }

    fn snapshot(&self) -> Vec<Arc<GroupCell>> {
        self.cells.read().values().cloned().collect()
    }
}

/// A key that cannot be encoded was never written either.
fn offset_tombstones<'a>(
    group: &GroupId,
    partitions: impl IntoIterator<Item = &'a TopicPartition>,
) -> Vec<Change> {
    let keys = partitions.into_iter().map(|p| records::encode_offset_key(group, p));
    keys.flatten().map(|key| (key, None)).collect()
}
