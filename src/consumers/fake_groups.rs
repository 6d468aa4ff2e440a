//! The groups of the fake engine: the real state machine, without time.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::fake_engine::{FakeEngine, now};
use crate::base::clock::Clock;
use crate::base::ids::{GroupId, MemberId, TopicPartition};
use crate::coordinator::group::{
    Event, Group, HeartbeatRequest, JoinRequest, LeaveRequest, Reply, SyncRequest,
};
use crate::engine::groups::*;
use crate::engine::{BoxFuture, GroupChanges};

/// Waits for the reply of one kind.
macro_rules! answer {
    ($reply:expr, $kind:ident) => {
        Box::pin(async move {
            match $reply.await {
                Ok(Reply::$kind(reply)) => reply,
                other => panic!("{other:?}"),
            }
        })
    };
}

impl Groups for FakeEngine {
    fn join(&self, join: Join) -> BoxFuture<Result<JoinReply, JoinRefusal>> {
        self.joins.fetch_add(1, Ordering::Relaxed);
        let group = join.group.clone();
        let reply = self.handle(&group, |reply_to| {
            Event::Join(JoinRequest {
                reply_to,
                member_id: join.member_id,
                group_instance_id: join.group_instance_id,
                client_id: join.client_id,
                client_host: join.client_host,
                session_timeout_ms: join.session_timeout_ms,
                rebalance_timeout_ms: join.rebalance_timeout_ms,
                protocol_type: join.protocol_type,
                protocols: join.protocols,
                new_member_id: MemberId::from(format!("member-{}", reply_to.0).as_str()),
                member_id_policy: join.member_id_policy,
                skip_assignment_support: join.skip_assignment_support,
            })
        });
        answer!(reply, Join)
    }

    fn sync(&self, sync: Sync) -> BoxFuture<Result<SyncReply, GroupError>> {
        let reply = self.handle(&sync.group, |reply_to| {
            Event::Sync(SyncRequest {
                reply_to,
                member_id: sync.member_id,
                generation_id: sync.generation_id,
                group_instance_id: sync.group_instance_id,
                protocol_type: sync.protocol_type,
                protocol_name: sync.protocol_name,
                assignments: sync.assignments,
            })
        });
        answer!(reply, Sync)
    }

    fn heartbeat(&self, member: Membership) -> BoxFuture<Result<(), GroupError>> {
        let reply = self.handle(&member.group, |reply_to| {
            Event::Heartbeat(HeartbeatRequest {
                reply_to,
                member_id: member.member_id,
                generation_id: member.generation_id,
                group_instance_id: member.group_instance_id,
            })
        });
        answer!(reply, Heartbeat)
    }

    fn leave(
        &self,
        group: GroupId,
        members: Vec<LeaveMember>,
    ) -> BoxFuture<Result<Vec<LeaveResult>, GroupError>> {
        let reply =
            self.handle(&group, |reply_to| Event::Leave(LeaveRequest { reply_to, members }));
        answer!(reply, Leave)
    }

    fn commit(
        &self,
        member: Membership,
        offsets: Vec<OffsetToCommit>,
    ) -> BoxFuture<Result<CommitResults, GroupError>> {
        let now_ms = self.clock.now_ms();
        let mut world = self.world.lock();
        let group = member.group.clone();
        let cell = world.groups.entry(group.clone()).or_insert_with(|| Group::new(group));
        let instance = member.group_instance_id.as_deref();
        if let Err(error) =
            cell.check_commit(&member.member_id, member.generation_id, instance, now_ms)
        {
            return now(Err(error));
        }
        let results = offsets.iter().map(|_| Ok(())).collect();
        cell.apply_commit(offsets.into_iter().map(|commit| {
            let committed = CommittedOffset {
                offset: commit.offset,
                leader_epoch: commit.leader_epoch,
                metadata: commit.metadata,
                commit_timestamp: now_ms,
            };
            (commit.partition, committed)
        }));
        now(Ok(results))
    }

    fn committed(
        &self,
        group: &GroupId,
        query: &OffsetQuery,
    ) -> Result<Vec<(TopicPartition, Option<CommittedOffset>)>, GroupError> {
        let OffsetQuery::Partitions(partitions) = query else { unreachable!("not used") };
        let world = self.world.lock();
        let find = |p: &TopicPartition| world.groups.get(group)?.committed(p).cloned();
        Ok(partitions.iter().map(|p| (p.clone(), find(p))).collect())
    }

    fn delete(&self, _group: &GroupId) -> BoxFuture<Result<(), GroupError>> {
        Box::pin(std::future::ready(Err(GroupError::GroupIdNotFound)))
    }

    fn delete_offsets(
        &self,
        _group: &GroupId,
        _partitions: &[TopicPartition],
    ) -> BoxFuture<Result<DeleteOffsetResults, GroupError>> {
        Box::pin(std::future::ready(Err(GroupError::GroupIdNotFound)))
    }

    fn describe(&self, group: &GroupId) -> Option<GroupDescription> {
        self.world.lock().groups.get(group).map(Group::describe)
    }

    fn list(&self) -> Vec<GroupDescription> {
        Vec::new()
    }

    fn changes(&self) -> Arc<GroupChanges> {
        Arc::clone(&self.group_changes)
    }
}
