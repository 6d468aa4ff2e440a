//! `batch=MSms`: at most one batch in a time.
//!
//! What comes after a silence is sent at once; what follows is gathered until the time is over.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

use super::params::Batch;

/// The pace of one stream.
pub(super) struct Pace {
    window: Duration,
    timer: Pin<Box<Sleep>>,
    is_running: bool,
}

impl Pace {
    /// Finds the pace of a stream, if it has one.
    pub(super) fn of(batch: Option<Batch>) -> Option<Self> {
        let Some(Batch::Window(window)) = batch else { return None };
        Some(Self { window, timer: Box::pin(sleep(window)), is_running: false })
    }

    /// Waits until the next batch may be sent.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.is_running {
            std::task::ready!(self.timer.as_mut().poll(context));
            self.is_running = false;
        }
        Poll::Ready(())
    }

    /// Notes that a batch was sent.
    pub(super) fn restart(&mut self) {
        self.timer.as_mut().reset(Instant::now() + self.window);
        self.is_running = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    #[tokio::test]
    async fn batches_keep_their_distance() {
        let window = Duration::from_millis(5);
        let mut pace = Pace::of(Some(Batch::Window(window))).unwrap();
        let begun = Instant::now();
        poll_fn(|context| pace.poll(context)).await;
        for batches in 1..4 {
            pace.restart();
            poll_fn(|context| pace.poll(context)).await;
            assert!(begun.elapsed() >= window * batches);
        }
        assert!(Pace::of(Some(Batch::Records(5))).is_none());
    }
}
