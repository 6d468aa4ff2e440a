//! One token that says "stop" and one tracker that knows when everything has.

use std::future::Future;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Spawns tasks and ends them together.
///
/// A clone is the same shutdown: every long-lived part holds one, spawns through it and listens to
/// [`Shutdown::stopping`]. The part that decides to stop calls [`Shutdown::stop`] and waits for
/// [`Shutdown::drained`].
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    token: CancellationToken,
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
        self.token.cancel();
    }

    /// Tells whether somebody asked to stop.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Waits until somebody asks to stop.
    ///
    /// # Cancel safety
    /// Safe: waiting changes nothing.
    pub async fn stopping(&self) {
        self.token.cancelled().await;
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
