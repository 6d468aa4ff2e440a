//! Which task was told to be woken.

use std::task::{Context, Waker};

/// Remembers the task that something wakes already, so that a future which is polled again and
/// again for other reasons need not register it anew.
#[derive(Debug, Default)]
pub struct Registered(Option<Waker>);

impl Registered {
    /// Tells whether the task was registered last, and takes note of it.
    ///
    /// After `false` the caller has to register it, as by polling what it waits for.
    pub fn is_by(&mut self, context: &Context<'_>) -> bool {
        let waker = context.waker();
        if self.0.as_ref().is_some_and(|known| known.will_wake(waker)) {
            return true;
        }
        self.0 = Some(waker.clone());
        false
    }

    /// Forgets the task: what it waits for is another thing now.
    pub fn clear(&mut self) {
        self.0 = None;
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
}
