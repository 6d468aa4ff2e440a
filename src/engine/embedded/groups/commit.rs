//! Committed offsets: checked one by one, appended together, applied when the log has them.

use std::sync::Arc;

use bytes::Bytes;

use super::{GroupCell, Inner, Shared};
use crate::base::ids::{GroupId, TopicPartition};
use crate::coordinator::group::records;
use crate::engine::groups::{
    CommitRefusal, CommitResults, CommittedOffset, GroupError, Membership, OffsetToCommit,
};
use crate::log::Promise;

impl Shared {
    /// Tells whether there is such a partition.
    pub(super) fn exists(&self, partition: &TopicPartition) -> bool {
        let entry = self.registry.find(partition.topic.as_str());
        entry.is_some_and(|entry| (0..entry.topic.partition_count).contains(&partition.partition))
    }

    /// Checks each offset of a commit by itself. Called under the group's lock, so that the end
    /// of a topic comes either before the check or after the commit.
    fn check_offsets(&self, offsets: &[OffsetToCommit]) -> CommitResults {
        let check = |offset: &OffsetToCommit| {
            if !self.exists(&offset.partition) {
                return Err(CommitRefusal::UnknownPartition);
            }
            let checked = self.config.check_offset_metadata(&offset.metadata);
            checked.map_err(|_| CommitRefusal::MetadataTooLarge)
        };
        offsets.iter().map(check).collect()
    }

    /// Appends and applies the accepted offsets; returns the results and what to wait for.
    pub(super) fn commit(
        &self,
        member: &Membership,
        offsets: Vec<OffsetToCommit>,
    ) -> Result<(CommitResults, Option<Promise>), GroupError> {
        loop {
            let cell = self.cell_for_commit(member)?;
            let mut inner = cell.inner.lock();
            if !inner.retired {
                return self.commit_to(&cell, &mut inner, member, offsets);
            }
        }
    }

    fn commit_to(
        &self,
        cell: &GroupCell,
        inner: &mut Inner,
        member: &Membership,
        offsets: Vec<OffsetToCommit>,
    ) -> Result<(CommitResults, Option<Promise>), GroupError> {
        let now = self.clock.now_ms();
        let instance = member.group_instance_id.as_deref();
        inner.group.check_commit(&member.member_id, member.generation_id, instance, now)?;
        let results = self.check_offsets(&offsets);
        let mut changes = Vec::with_capacity(offsets.len());
        let mut accepted = Vec::with_capacity(offsets.len());
        for (offset, _) in offsets.into_iter().zip(&results).filter(|(_, result)| result.is_ok()) {
            let committed = CommittedOffset {
                offset: offset.offset,
                leader_epoch: offset.leader_epoch,
                metadata: offset.metadata,
                commit_timestamp: now,
            };
            changes.push(offset_change(&cell.id, &offset.partition, &committed)?);
            accepted.push((offset.partition, committed));
        }
        if accepted.is_empty() {
            return Ok((results, None));
        }
        let appended = self.state.append(&changes);
        let promise = appended.map_err(|_| GroupError::CoordinatorNotAvailable)?;
        inner.group.apply_commit(accepted);
        self.timers.schedule(&cell.id, inner.group.next_deadline());
        Ok((results, Some(promise)))
    }

    fn cell_for_commit(&self, member: &Membership) -> Result<Arc<GroupCell>, GroupError> {
        match self.find(&member.group) {
            Some(cell) => Ok(cell),
            None if member.generation_id < 0 => self.find_or_create(&member.group),
            None => Err(GroupError::GroupIdNotFound),
        }
    }
}

fn offset_change(
    group: &GroupId,
    partition: &TopicPartition,
    committed: &CommittedOffset,
) -> Result<(Bytes, Option<Bytes>), GroupError> {
    let too_long = |_| GroupError::InvalidRequest;
    let key = records::encode_offset_key(group, partition).map_err(too_long)?;
    let value = records::encode_offset_value(committed).map_err(too_long)?;
    Ok((key, Some(value)))
}
