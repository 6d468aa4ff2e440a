//! Waiting for many partitions at once, without a task for any of them, and not for each record.
//!
//! What comes after a silence wakes at once. What follows soon is gathered: a stream of a busy
//! topic wakes once for many records, and a filter that wants none of them costs little.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::ReusableBoxFuture;

use crate::base::ids::Offset;
use crate::engine::BoxFuture;

/// Watches the high watermark of one partition.
pub(super) type Receiver = watch::Receiver<Offset>;

/// A partition that grew, with its receiver; without one when the partition is gone.
pub(super) type Woken = (usize, Option<Receiver>);

/// The partitions that a stream waits for, woken in rounds that keep a distance.
pub(super) struct Waits {
    partitions: Partitions,
    /// Least time between two rounds.
    distance: Duration,
    /// When the last round began.
    last: Option<Instant>,
    round: Round,
    /// Made for a stream that wakes too often.
    timer: Option<Pin<Box<Sleep>>>,
}

/// How far a round is.
enum Round {
    /// Nothing has changed since the last one.
    Over,
    /// Something changed too early: it waits for the timer.
    Early(Woken),
    /// Whatever has changed is told.
    Running,
}

/// Waits for partitions. Only those that changed cost anything when a stream wakes.
enum Partitions {
    /// One partition: its future's place is used again and again.
    One { future: Option<ReusableBoxFuture<'static, Woken>>, is_armed: bool },
    /// More than one.
    Many(FuturesUnordered<BoxFuture<Woken>>),
}

impl Waits {
    /// Makes room for so many partitions; rounds begin `distance` after one another at least.
    pub(super) fn for_partitions(count: usize, distance: Duration) -> Self {
        let partitions = if count <= 1 {
            Partitions::One { future: None, is_armed: false }
        } else {
            Partitions::Many(FuturesUnordered::new())
        };
        Self { partitions, distance, last: None, round: Round::Over, timer: None }
    }

    /// Waits for a change that `receiver` has not seen.
    pub(super) fn arm(&mut self, at: usize, receiver: Receiver) {
        self.partitions.arm(at, receiver);
    }

    /// Returns the next partition that changed.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Woken> {
        loop {
            match std::mem::replace(&mut self.round, Round::Running) {
                Round::Running => {
                    let woken = self.partitions.poll(context);
                    if woken.is_pending() {
                        self.round = Round::Over;
                    }
                    return woken;
                }
                Round::Over => {
                    self.round = Round::Over;
                    let woken = ready!(self.partitions.poll(context));
                    self.round = Round::Early(woken);
                }
                Round::Early(woken) => {
                    if self.last.is_none_or(|last| last.elapsed() >= self.distance) {
                        self.last = Some(Instant::now());
                        return Poll::Ready(woken);
                    }
                    self.round = Round::Early(woken);
                    let due = self.last.map_or_else(Instant::now, |last| last + self.distance);
                    let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
                    if timer.deadline() != due {
                        timer.as_mut().reset(due);
                    }
                    ready!(timer.as_mut().poll(context));
                }
            }
        }
    }
}

impl Partitions {
    fn arm(&mut self, at: usize, receiver: Receiver) {
        match self {
            Self::One { future, is_armed } => {
                *is_armed = true;
                match future {
                    Some(future) => future.set(changed(at, receiver)),
                    None => *future = Some(ReusableBoxFuture::new(changed(at, receiver))),
                }
            }
            Self::Many(futures) => futures.push(Box::pin(changed(at, receiver))),
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Woken> {
        match self {
            Self::One { future: Some(future), is_armed } if *is_armed => {
                let woken = ready!(future.poll(context));
                *is_armed = false;
                Poll::Ready(woken)
            }
            Self::One { .. } => Poll::Pending,
            Self::Many(futures) => match futures.poll_next_unpin(context) {
                Poll::Ready(Some(woken)) => Poll::Ready(woken),
                // Nothing to wait for is no news.
                Poll::Ready(None) | Poll::Pending => Poll::Pending,
            },
        }
    }
}

async fn changed(at: usize, mut receiver: Receiver) -> Woken {
    let changed = receiver.changed().await;
    (at, changed.is_ok().then_some(receiver))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    async fn is_idle(waits: &mut Waits) -> bool {
        poll_fn(|context| Poll::Ready(waits.poll(context).is_pending())).await
    }

    #[tokio::test]
    async fn only_what_changed_wakes() {
        for count in [1, 2, 4096] {
            let senders: Vec<_> = (0..count).map(|_| watch::Sender::new(0_i64)).collect();
            let mut waits = Waits::for_partitions(count, Duration::ZERO);
            for (at, sender) in senders.iter().enumerate() {
                waits.arm(at, sender.subscribe());
            }
            // A poll looks at a few dozen of many at a time and asks to be polled again.
            for _ in 0..200 {
                assert!(is_idle(&mut waits).await);
            }
            senders[count - 1].send_replace(5);
            let (at, receiver) = poll_fn(|context| waits.poll(context)).await;
            let mut receiver = receiver.unwrap();
            assert_eq!((at, *receiver.borrow_and_update()), (count - 1, 5));
            waits.arm(at, receiver);
            assert!(is_idle(&mut waits).await);
            drop(senders);
            assert!(poll_fn(|context| waits.poll(context)).await.1.is_none());
        }
    }

    #[tokio::test]
    async fn what_follows_soon_is_gathered() {
        let distance = Duration::from_millis(30);
        for count in [1, 3] {
            let senders: Vec<_> = (0..count).map(|_| watch::Sender::new(0_i64)).collect();
            let mut waits = Waits::for_partitions(count, distance);
            for (at, sender) in senders.iter().enumerate() {
                waits.arm(at, sender.subscribe());
            }
            senders[0].send_replace(1);
            let begun = Instant::now();
            let (at, receiver) = poll_fn(|context| waits.poll(context)).await;
            assert!(at == 0 && begun.elapsed() < distance, "the first comes at once");
            assert!(is_idle(&mut waits).await);
            let mut receiver = receiver.unwrap();
            receiver.borrow_and_update();
            waits.arm(0, receiver);
            for sender in &senders {
                sender.send_replace(2);
            }
            assert!(is_idle(&mut waits).await, "the next ones are early");
            let mut woken = vec![poll_fn(|context| waits.poll(context)).await.0];
            assert!(begun.elapsed() >= distance);
            // All of them belong to one round.
            for _ in 1..count {
                let next = poll_fn(|context| Poll::Ready(waits.poll(context))).await;
                let Poll::Ready((at, _)) = next else { panic!("{woken:?} only") };
                woken.push(at);
            }
            woken.sort_unstable();
            assert_eq!(woken, (0..count).collect::<Vec<_>>());
        }
    }
}
