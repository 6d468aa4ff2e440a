//! Which task was told to be woken.

use std::task::{Context, Waker};

use tokio::task::coop;

/// Remembers the task that something wakes already, so that a future which is polled again and
/// again for other reasons need not register it anew.
#[derive(Debug, Default)]
pub struct Registered(Option<Waker>);

impl Registered {
    /// Tells whether the task was registered last, and takes note of it.
    ///
    /// After `false` the caller has to register it, as by polling what it waits for. If that is one
    /// of tokio's futures and it is pending, [`Registered::clear_without_budget`] has to be called.
    pub fn is_by(&mut self, context: &Context<'_>) -> bool {
        let waker = context.waker();
        if self.0.as_ref().is_some_and(|known| known.will_wake(waker)) {
            return true;
        }
        self.0 = Some(waker.clone());
        false
    }

    /// Forgets the task if the future of tokio's that it has just polled did not register it.
    ///
    /// A task that has done much since it was woken has used up its budget: such futures, even if
    /// they are done, only have it polled again soon then.
    pub fn clear_without_budget(&mut self) {
        if !coop::has_budget_remaining() {
            self.clear();
        }
    }

    /// Forgets the task: what it waits for is another thing now.
    pub fn clear(&mut self) {
        self.0 = None;
    }
}

/// Uses up what a task may do before tokio's futures have it yield.
#[cfg(test)]
pub fn use_up_budget(context: &mut Context<'_>) {
    while coop::has_budget_remaining() {
        let _used = std::pin::pin!(coop::consume_budget()).poll(context);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::task::{ArcWake, waker};
    use std::sync::Arc;

    struct Nothing;

    impl ArcWake for Nothing {
        fn wake_by_ref(_: &Arc<Self>) {}
    }

    #[test]
    fn only_the_last_task_is_known() {
        let [one, other] = [waker(Arc::new(Nothing)), waker(Arc::new(Nothing))];
        let mut registered = Registered::default();
        let mut is_by = |waker: &Waker| registered.is_by(&Context::from_waker(waker));
        assert_eq!(
            [&one, &one, &other, &other, &one].map(&mut is_by),
            [false, true, false, true, false]
        );
        registered.clear();
        assert!(!registered.is_by(&Context::from_waker(&one)));
    }

    #[tokio::test]
    async fn a_task_without_budget_is_not_registered() {
        std::future::poll_fn(|context| {
            let mut registered = Registered::default();
            assert!(!registered.is_by(context));
            registered.clear_without_budget();
            assert!(registered.is_by(context));
            use_up_budget(context);
            registered.clear_without_budget();
            assert!(!registered.is_by(context));
            std::task::Poll::Ready(())
        })
        .await;
    }
}
