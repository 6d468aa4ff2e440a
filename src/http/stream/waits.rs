//! Waiting for many partitions at once, without a task for any of them, and not for each record.
//!
//! What comes now and then wakes at once. Where much comes it is gathered: a stream of a busy topic
//! wakes once for many records, and a filter that wants none of them costs little.

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

/// The high watermark of one partition.
///
/// Looking at it takes a lock that all streams of the partition share, so it is done once for each
/// change.
pub(super) struct Watch {
    receiver: watch::Receiver<Offset>,
    /// As it was seen last.
    end: Offset,
}

impl Watch {
    /// Begins with the high watermark as it is.
    pub(super) fn new(mut receiver: watch::Receiver<Offset>) -> Self {
        let end = *receiver.borrow_and_update();
        Self { receiver, end }
    }

    /// The high watermark.
    pub(super) fn end(&mut self) -> Offset {
        // A partition that is gone does not grow.
        if self.receiver.has_changed().unwrap_or(false) {
            self.look();
        }
        self.end
    }

    /// Waits until it is another one than [`Watch::end`] said last; tells whether the partition is
    /// still there.
    async fn changed(&mut self) -> bool {
        let is_there = self.receiver.changed().await.is_ok();
        self.look();
        is_there
    }

    fn look(&mut self) {
        self.end = *self.receiver.borrow_and_update();
    }
}

/// A partition that grew, with its watch; without one when the partition is gone.
pub(super) type Woken = (usize, Option<Watch>);

/// How often a stream looks at what is new.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rhythm {
    /// Time between two rounds on average, at least.
    pub(super) distance: Duration,
    /// Rounds that may be ahead of their distance, after as many that were not needed: two records
    /// that happen to come one after the other do not make a busy topic, and a stream that was
    /// late with the first is not to be late with the second too.
    pub(super) ahead: u32,
}

/// The partitions that a stream waits for, woken in rounds that keep a distance on average.
pub(super) struct Waits {
    partitions: Partitions,
    rhythm: Rhythm,
    /// When the next round is due if all keep their distance; those of a silence are not made up
    /// for. This is the theoretical arrival time of the generic cell rate algorithm (ITU-T I.371).
    next: Option<Instant>,
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
    /// Makes room for so many partitions.
    pub(super) fn for_partitions(count: usize, rhythm: Rhythm) -> Self {
        let partitions = if count <= 1 {
            Partitions::One { future: None, is_armed: false }
        } else {
            Partitions::Many(FuturesUnordered::new())
        };
        Self { partitions, rhythm, next: None, round: Round::Over, timer: None }
    }

    /// Waits for a change that `watch` has not seen.
    pub(super) fn arm(&mut self, at: usize, watch: Watch) {
        self.partitions.arm(at, watch);
    }

    /// Returns the next partition that changed; `now` is the time, as far as the caller knows it.
    pub(super) fn poll(&mut self, context: &mut Context<'_>, now: Instant) -> Poll<Woken> {
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
                    let next = self.next.map_or(now, |next| next.max(now));
                    let ahead = self.rhythm.distance * self.rhythm.ahead;
                    if next > now + ahead && self.poll_timer(next - ahead, context).is_pending() {
                        self.round = Round::Early(woken);
                        return Poll::Pending;
                    }
                    self.next = Some(next + self.rhythm.distance);
                    return Poll::Ready(woken);
                }
            }
        }
    }

    fn poll_timer(&mut self, due: Instant, context: &mut Context<'_>) -> Poll<()> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
        if timer.deadline() != due {
            timer.as_mut().reset(due);
        }
        timer.as_mut().poll(context)
    }
}

impl Partitions {
    fn arm(&mut self, at: usize, watch: Watch) {
        match self {
            Self::One { future, is_armed } => {
                *is_armed = true;
                match future {
                    Some(future) => future.set(changed(at, watch)),
                    None => *future = Some(ReusableBoxFuture::new(changed(at, watch))),
                }
            }
            Self::Many(futures) => futures.push(Box::pin(changed(at, watch))),
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

async fn changed(at: usize, mut watch: Watch) -> Woken {
    let is_there = watch.changed().await;
    (at, is_there.then_some(watch))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    async fn is_idle(waits: &mut Waits) -> bool {
        poll_fn(|context| Poll::Ready(waits.poll(context, Instant::now()).is_pending())).await
    }

    #[tokio::test]
    async fn only_what_changed_wakes() {
        for count in [1, 2, 4096] {
            let senders: Vec<_> = (0..count).map(|_| watch::Sender::new(0_i64)).collect();
            let mut waits =
                Waits::for_partitions(count, Rhythm { distance: Duration::ZERO, ahead: 0 });
            for (at, sender) in senders.iter().enumerate() {
                waits.arm(at, Watch::new(sender.subscribe()));
            }
            // A poll looks at a few dozen of many at a time and asks to be polled again.
            for _ in 0..200 {
                assert!(is_idle(&mut waits).await);
            }
            senders[count - 1].send_replace(5);
            let (at, watch) = poll_fn(|context| waits.poll(context, Instant::now())).await;
            let mut watch = watch.unwrap();
            assert_eq!((at, watch.end()), (count - 1, 5));
            waits.arm(at, watch);
            assert!(is_idle(&mut waits).await);
            drop(senders);
            assert!(poll_fn(|context| waits.poll(context, Instant::now())).await.1.is_none());
        }
    }

    #[tokio::test]
    async fn what_follows_soon_is_gathered() {
        let distance = Duration::from_millis(30);
        for (count, ahead) in [(1, 4), (3, 4), (1, 0)] {
            let senders: Vec<_> = (0..count).map(|_| watch::Sender::new(0_i64)).collect();
            let mut waits = Waits::for_partitions(count, Rhythm { distance, ahead });
            for (at, sender) in senders.iter().enumerate() {
                waits.arm(at, Watch::new(sender.subscribe()));
            }
            let begun = Instant::now();
            for round in 0..=ahead {
                senders[0].send_replace(i64::from(round) + 1);
                let (at, watch) = poll_fn(|context| waits.poll(context, Instant::now())).await;
                assert!(at == 0 && begun.elapsed() < distance, "the first come at once");
                assert!(is_idle(&mut waits).await);
                waits.arm(0, watch.unwrap());
            }
            for sender in &senders {
                sender.send_replace(100);
            }
            assert!(is_idle(&mut waits).await, "the next ones are early");
            let mut woken = vec![poll_fn(|context| waits.poll(context, Instant::now())).await.0];
            assert!(begun.elapsed() >= distance);
            // All of them belong to one round.
            for _ in 1..count {
                let next =
                    poll_fn(|context| Poll::Ready(waits.poll(context, Instant::now()))).await;
                let Poll::Ready((at, _)) = next else { panic!("{woken:?} only") };
                woken.push(at);
            }
            woken.sort_unstable();
            assert_eq!(woken, (0..count).collect::<Vec<_>>());
        }
    }
}
