//! One token that says "stop" and one tracker that knows when everything has.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tokio_util::task::TaskTracker;

use super::registered::Registered;

/// Spawns tasks and ends them together.
///
/// A clone is the same shutdown: every long-lived part holds one, spawns through it and listens to
/// [`Shutdown::stopping`]. The part that decides to stop calls [`Shutdown::stop`] and waits for
/// [`Shutdown::drained`].
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    token: CancellationToken,
    /// Set before the token is cancelled: to look at it takes no lock.
    is_stopping: Arc<AtomicBool>,
    tracker: TaskTracker,
}

impl Shutdown {
    /// Makes a shutdown that nobody has asked for yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Spawns `task`; [`Shutdown::drained`] waits for it.
    #[allow(clippy::disallowed_methods, reason = "the one place that spawns")]
    pub fn spawn<F>(&self, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let _detached = self.tracker.spawn(task);
    }

    /// Runs blocking work off the reactor; [`Shutdown::drained`] waits for it.
    ///
    /// # Cancel safety
    /// Dropping the future does not stop the work, it only loses its result.
    pub async fn run_blocking<F, T>(&self, work: F) -> Option<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        self.tracker.spawn_blocking(work).await.ok()
    }

    /// Asks every part to stop.
    pub fn stop(&self) {
        self.is_stopping.store(true, Ordering::Release);
        self.token.cancel();
    }

    /// Tells whether somebody asked to stop.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Acquire)
    }

    /// Waits until somebody asks to stop.
    ///
    /// # Cancel safety
    /// Safe: waiting changes nothing.
    #[must_use]
    pub fn stopping(&self) -> Stopping {
        Stopping {
            is_stopping: Arc::clone(&self.is_stopping),
            token: self.token.clone(),
            cancelled: None,
            registered: Registered::default(),
        }
    }

    /// Waits until every spawned task has ended.
    ///
    /// # Cancel safety
    /// Safe: waiting changes nothing.
    pub async fn drained(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}

/// Waits until somebody asks to stop.
///
/// Made to be polled whenever its task wakes, as one of many: all but the first poll of a task only
/// look at a flag. The token's own future takes locks that all tasks share.
#[derive(Debug)]
pub struct Stopping {
    is_stopping: Arc<AtomicBool>,
    token: CancellationToken,
    /// Made when there is something to wait for.
    cancelled: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    registered: Registered,
}

impl Future for Stopping {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.is_stopping.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        if self.registered.is_by(context) {
            return Poll::Pending;
        }
        let this = &mut *self;
        let wait = || Box::pin(this.token.clone().cancelled_owned());
        ready!(this.cancelled.get_or_insert_with(wait).as_mut().poll(context));
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::{FutureExt, poll};

    #[tokio::test]
    async fn who_waits_is_woken_by_the_task_that_polled_last() {
        let shutdown = Shutdown::new();
        let mut stopping = shutdown.stopping();
        for _ in 0..3 {
            assert!(poll!(&mut stopping).is_pending());
        }
        // Another task takes it over.
        let (polled, was_polled) = tokio::sync::oneshot::channel();
        shutdown.spawn(async move {
            assert!(poll!(&mut stopping).is_pending());
            polled.send(()).unwrap();
            stopping.await;
        });
        was_polled.await.unwrap();
        assert!(!shutdown.is_stopping());
        shutdown.stop();
        shutdown.drained().await;
        assert!(shutdown.is_stopping() && shutdown.stopping().now_or_never().is_some());
    }
}
