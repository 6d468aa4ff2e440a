//! Where the partitions of a running stream come from.
//!
//! A stream has partitions when it opens; a [`Source`] lets others join and leave later. Topics
//! that come to match a subscription join from their first record ([`TopicsSource`]); deleted ones
//! need no word of a source, because the watch of their partitions closes.

use std::collections::HashMap;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::watch;
use tokio_util::sync::ReusableBoxFuture;

use super::events::{Fault, Gap};
use super::part::Part;
use super::wanted::{PartitionRef, Wanted};
use crate::base::ids::{Offset, PartitionId, TopicId};
use crate::base::registered::Registered;
use crate::engine::Topics;
use crate::engine::topics::Topic;

/// A partition that joins a stream.
#[derive(Debug, Clone)]
pub(super) struct Joining {
    pub(super) topic: Arc<Topic>,
    pub(super) partition: PartitionId,
    /// The next offset to deliver.
    pub(super) next: Offset,
}

/// What changes while a stream runs.
#[derive(Debug)]
pub(super) enum Change {
    /// Partitions join; `assigned` tells the client. Known ones move to their new position. What
    /// cannot join, because it cannot be read, is told as `gaps`, and is in no cursor.
    Joined { parts: Vec<Joining>, gaps: Vec<Gap>, generation: Option<i32> },
    /// Partitions leave; `revoked` tells the client.
    Left { parts: Vec<PartitionRef>, generation: Option<i32> },
    /// The stream cannot go on.
    Failed(Fault),
}

/// Says how the partitions of one stream change.
pub(super) trait Source: Send {
    /// Waits for the next change.
    ///
    /// It is polled whenever the stream's task runs, so a poll without news must cost little.
    fn poll_change(&mut self, context: &mut Context<'_>) -> Poll<Change>;

    /// Tells whether it is known which partitions the stream has.
    fn is_settled(&self) -> bool {
        true
    }

    /// Records that the stream may send now; none is no bound. What raises it wakes the task that
    /// polled for changes.
    fn allowance(&self) -> Option<u64> {
        None
    }

    /// The name of the member that the stream is in its group, if it is in one.
    fn member(&self) -> Option<&str> {
        None
    }

    /// Notes that the connection was handed a frame, after which the stream is where `parts` say.
    fn wrote(&mut self, _parts: &[Part]) {}
}

/// What a wait for new topics comes to: the receiver, for the next wait.
type Waited = Option<watch::Receiver<u64>>;

/// Lets topics join that begin to match, and partitions that topics gain.
pub(super) struct TopicsSource {
    wanted: Wanted,
    topics: Arc<dyn Topics>,
    /// The topics of the stream, with the number of their partitions.
    known: HashMap<TopicId, PartitionId>,
    /// Only to look; the future has its own.
    changes: watch::Receiver<u64>,
    changed: ReusableBoxFuture<'static, Waited>,
    /// Whom the future wakes.
    registered: Registered,
}

impl TopicsSource {
    /// Begins with the topics that the stream has. `changes` has seen what led to them.
    pub(super) fn new(
        wanted: Wanted,
        topics: Arc<dyn Topics>,
        known: HashMap<TopicId, PartitionId>,
        changes: watch::Receiver<u64>,
    ) -> Self {
        let changed = ReusableBoxFuture::new(next(changes.clone()));
        Self { wanted, topics, known, changes, changed, registered: Registered::default() }
    }

    /// Finds what is new.
    fn look(&mut self) -> Vec<Joining> {
        let (found, _) = self.wanted.find(&*self.topics);
        let mut joining = Vec::new();
        let mut known = HashMap::with_capacity(found.len());
        for topic in found {
            let before = match self.known.get(&topic.id) {
                Some(count) => *count,
                // A topic of the path ends its stream; the next one of the name is another one.
                None if !self.wanted.is_growing() => continue,
                None => 0,
            };
            known.insert(topic.id, topic.partition_count);
            joining.extend((before..topic.partition_count).map(|partition| Joining {
                topic: Arc::clone(&topic),
                partition,
                next: 0,
            }));
        }
        self.known = known;
        joining
    }
}

impl Source for TopicsSource {
    fn poll_change(&mut self, context: &mut Context<'_>) -> Poll<Change> {
        let is_news = self.changes.has_changed().unwrap_or(false);
        if self.registered.is_by(context) && !is_news {
            return Poll::Pending;
        }
        while let Poll::Ready(receiver) = self.changed.poll(context) {
            self.registered.clear();
            let Some(mut receiver) = receiver else {
                // The engine is gone, and so is every partition.
                self.changed.set(std::future::pending());
                continue;
            };
            receiver.borrow_and_update();
            self.changes = receiver.clone();
            self.changed.set(next(receiver));
            let parts = self.look();
            if !parts.is_empty() {
                return Poll::Ready(Change::Joined { parts, gaps: Vec::new(), generation: None });
            }
        }
        self.registered.clear_without_budget();
        Poll::Pending
    }
}

async fn next(mut receiver: watch::Receiver<u64>) -> Waited {
    receiver.changed().await.is_ok().then_some(receiver)
}
