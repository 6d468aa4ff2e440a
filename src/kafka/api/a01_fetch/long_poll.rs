//! Waits until a fetch is worth answering, without a thread and without polling.
//!
//! The fetch watches the high watermark of each of its partitions; any that moves, or whose
//! partition is deleted, makes it look again. What is there when the time is over, or when the
//! server stops, is the answer.

use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::collect::{Collected, collect};
use super::{PartitionAnswer, Plan};
use crate::base::ids::Offset;
use crate::base::shutdown::Shutdown;
use crate::engine::Log;
use crate::kafka::dispatch::now;

/// Longest wait for new records; clients ask for half a second, Kafka's own limit is theirs.
const WAIT_MAX: Duration = Duration::from_hours(24);

/// Answers `plan` with what is there as soon as that is enough.
///
/// # Cancel safety
/// Safe: a fetch changes nothing.
pub(super) async fn run(plan: &Plan, log: &dyn Log, shutdown: &Shutdown) -> Vec<PartitionAnswer> {
    let collected = collect(plan, log).await;
    if plan.is_enough(&collected) {
        return collected.answers;
    }
    let deadline = now() + plan.wait_max.min(WAIT_MAX);
    let mut latest = collected;
    // A wait that is dropped half-way leaves in `latest` what it saw last.
    tokio::select! {
        () = wait_for_enough(plan, log, &mut latest, deadline) => {}
        () = shutdown.stopping() => {}
    }
    latest.answers
}

async fn wait_for_enough(plan: &Plan, log: &dyn Log, latest: &mut Collected, deadline: Instant) {
    let mut changes = FuturesUnordered::new();
    let mut is_behind = false;
    for (wanted, answer) in plan.partitions.iter().zip(&latest.answers) {
        let Ok(topic) = &wanted.source else { continue };
        match log.watch(topic, wanted.partition) {
            Ok(mut receiver) => {
                // An append between the read and this call would otherwise go unnoticed.
                is_behind |= *receiver.borrow_and_update() != answer.bounds.high_watermark;
                changes.push(changed(receiver));
            }
            Err(_deleted) => is_behind = true,
        }
    }
    loop {
        if !is_behind {
            match timeout_at(deadline, changes.next()).await {
                Ok(Some(Some(receiver))) => changes.push(changed(receiver)),
                // The partition is gone, which the next look turns into an error.
                Ok(Some(None)) => {}
                Ok(None) | Err(_) => return,
            }
            // One look serves all partitions that moved meanwhile.
            while let Some(Some(Some(receiver))) = changes.next().now_or_never() {
                changes.push(changed(receiver));
            }
        }
        is_behind = false;
        *latest = collect(plan, log).await;
        if plan.is_enough(latest) || now() >= deadline {
            return;
        }
    }
}

/// Waits for the next change; none when there will be no more.
async fn changed(mut receiver: watch::Receiver<Offset>) -> Option<watch::Receiver<Offset>> {
    receiver.changed().await.ok().map(|()| receiver)
}

impl Plan {
    /// Tells whether `collected` is to be answered without waiting for more.
    fn is_enough(&self, collected: &Collected) -> bool {
        self.wait_max.is_zero()
            || self.partitions.is_empty()
            || collected.bytes >= self.bytes_min
            || collected.has_error
    }
}
