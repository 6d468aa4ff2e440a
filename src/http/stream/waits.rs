//! Waiting for many partitions at once, without a task for any of them.

use std::task::{Context, Poll};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::watch;
use tokio_util::sync::ReusableBoxFuture;

use crate::base::ids::Offset;
use crate::engine::BoxFuture;

/// Watches the high watermark of one partition.
pub(super) type Receiver = watch::Receiver<Offset>;

/// A partition that grew, with its receiver; without one when the partition is gone.
pub(super) type Woken = (usize, Option<Receiver>);

/// The partitions that a stream waits for. Only those that changed cost anything when it wakes.
pub(super) enum Waits {
    /// One partition: its future's place is used again and again.
    One { future: Option<ReusableBoxFuture<'static, Woken>>, is_armed: bool },
    /// More than one.
    Many(FuturesUnordered<BoxFuture<Woken>>),
}

impl Waits {
    /// Makes room for so many partitions.
    pub(super) fn for_partitions(count: usize) -> Self {
        if count <= 1 {
            Self::One { future: None, is_armed: false }
        } else {
            Self::Many(FuturesUnordered::new())
        }
    }

    /// Waits for a change that `receiver` has not seen.
    pub(super) fn arm(&mut self, at: usize, receiver: Receiver) {
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

    /// Returns the next partition that changed.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Woken> {
        match self {
            Self::One { future: Some(future), is_armed } if *is_armed => {
                let woken = std::task::ready!(future.poll(context));
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
            let mut waits = Waits::for_partitions(count);
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
}
