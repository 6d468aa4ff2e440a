//! The partitions of a member, as they come and go.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::time::{Instant, Sleep, sleep_until};

use super::pace::{Due, Pace, Places};
use crate::base::ids::TopicPartition;
use crate::consumers::{self, Assignment, LiveMember, Seen};
use crate::engine::groups::GroupError;
use crate::engine::{BoxFuture, Topics};
use crate::http::stream::events::{Fault, Gap, GapReason};
use crate::http::stream::part::Part;
use crate::http::stream::source::{Change, Joining, Source};
use crate::http::stream::wanted::PartitionRef;

/// Lets partitions join and leave a stream as the group assigns them.
pub(super) struct MemberSource {
    member: Arc<LiveMember>,
    topics: Arc<dyn Topics>,
    seen: Seen,
    change: BoxFuture<(consumers::Change, Seen)>,
    assigned: Option<Vec<PartitionRef>>,
    pace: Pace,
    /// What was handed to the connection.
    written: Places,
    /// Only while there is something to wait for.
    timer: Option<Pin<Box<Sleep>>>,
}

impl MemberSource {
    pub(super) fn new(member: LiveMember, topics: Arc<dyn Topics>, pace: Pace) -> Self {
        let (member, seen) = (Arc::new(member), Seen::default());
        Self {
            change: member.change(seen),
            member,
            topics,
            seen,
            assigned: None,
            pace,
            written: Vec::new(),
            timer: None,
        }
    }

    /// Turns a change of the member into one of the stream; none if the stream need not know.
    fn take(&mut self, change: consumers::Change) -> Option<Change> {
        Some(match change {
            consumers::Change::Assigned(assignment) => self.join(&assignment),
            consumers::Change::Revoked => {
                self.pace.reset();
                self.written = Vec::new();
                let parts = self.assigned.take().unwrap_or_default();
                Change::Left { parts, generation: None }
            }
            consumers::Change::Acknowledged => {
                self.pace.paid(self.member.unacknowledged(), Instant::now());
                return None;
            }
            consumers::Change::Fenced => Change::Failed(Fault::fenced(self.member.name())),
            consumers::Change::Closed => Change::Failed(Fault::left(self.member.name())),
            consumers::Change::Failed(error) => {
                let is_retriable = matches!(error, GroupError::GroupMaxSizeReached);
                Change::Failed(Fault::group(error.to_string(), is_retriable))
            }
        })
    }

    fn join(&mut self, assignment: &Assignment) -> Change {
        let (mut parts, mut gaps) = (Vec::new(), Vec::new());
        for assigned in &assignment.partitions {
            let TopicPartition { topic, partition } = &assigned.partition;
            let Some(topic) = self.topics.find(topic.as_str()) else { continue };
            match assigned.position {
                Some(next) => parts.push(Joining { topic, partition: *partition, next }),
                // Any offset would be taken for a place that the client has reached.
                None => gaps.push(Gap {
                    topic: Some(topic.name.clone()),
                    partition: Some(*partition),
                    requested: None,
                    resumed: None,
                    reason: GapReason::Offline,
                }),
            }
        }
        self.pace.reset();
        // A reset forgets what is owed from before a rebalance.
        self.pace.owes(self.member.unacknowledged(), Instant::now());
        self.written = Vec::new();
        self.assigned = Some(parts.iter().map(|part| (part.topic.id, part.partition)).collect());
        Change::Joined { parts, gaps, generation: Some(assignment.generation_id) }
    }

    /// Does what the time has come for.
    fn poll_pace(&mut self, context: &mut Context<'_>) -> Option<Change> {
        loop {
            let deadline = self.pace.deadline(&self.written, Instant::now());
            let Some(deadline) = deadline else {
                self.timer = None;
                return None;
            };
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
            if timer.deadline() != deadline {
                timer.as_mut().reset(deadline);
            }
            if timer.as_mut().poll(context).is_pending() {
                return None;
            }
            match self.pace.due(Instant::now()) {
                Some(Due::Acknowledge(places)) => {
                    self.member.acknowledge(places.iter().map(|(name, next)| (name, *next)));
                }
                Some(Due::Rewind) => {
                    // While the group rebalances, an assignment follows anyhow.
                    let Some((assignment, seen)) = self.member.rewind() else { continue };
                    self.seen = seen;
                    self.change = self.member.change(seen);
                    return Some(self.join(&assignment));
                }
                None => {}
            }
        }
    }
}

impl Source for MemberSource {
    fn poll_change(&mut self, context: &mut Context<'_>) -> Poll<Change> {
        while let Poll::Ready((change, seen)) = self.change.as_mut().poll(context) {
            self.seen = seen;
            self.change = self.member.change(seen);
            if let Some(change) = self.take(change) {
                return Poll::Ready(change);
            }
        }
        self.poll_pace(context).map_or(Poll::Pending, Poll::Ready)
    }

    fn is_settled(&self) -> bool {
        self.assigned.is_some()
    }

    fn member(&self) -> Option<&str> {
        Some(self.member.name())
    }

    fn allowance(&self) -> Option<u64> {
        self.pace.allowance()
    }

    fn wrote(&mut self, parts: &[Part]) {
        if self.assigned.is_none() {
            return self.pace.wrote(false);
        }
        if self.written.len() != parts.len() {
            let name = |part: &Part| {
                TopicPartition::new(part.tail.topic().name.clone(), part.span.partition)
            };
            // Below every position, so that each is news.
            self.written = parts.iter().map(|part| (name(part), -1)).collect();
        }
        let mut is_news = false;
        for ((_, written), part) in self.written.iter_mut().zip(parts) {
            is_news |= *written != part.span.next;
            *written = part.span.next;
        }
        self.pace.wrote(is_news);
        if is_news {
            // The client can acknowledge records; what was left out is not owed.
            let names = self.written.iter().map(|(name, _)| name);
            let sent = names.zip(parts.iter().map(|part| part.sent));
            self.pace.owes(self.member.wrote(sent), Instant::now());
        }
    }
}
