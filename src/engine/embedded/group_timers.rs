//! When each group wants to be woken: one task for all groups.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::base::clock::SharedClock;
use crate::base::ids::{GroupId, TimestampMs};

/// Longest sleep, so that a jump of the wall clock is noticed.
const SLEEP_MAX: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
struct Deadlines {
    by_time: BTreeSet<(TimestampMs, GroupId)>,
    by_group: HashMap<GroupId, TimestampMs>,
}

/// The deadlines of all groups.
#[derive(Debug, Default)]
pub(super) struct GroupTimers {
    deadlines: Mutex<Deadlines>,
    earlier: Notify,
}

impl GroupTimers {
    /// Sets or clears the deadline of one group.
    pub(super) fn schedule(&self, group: &GroupId, deadline: Option<TimestampMs>) {
        let mut deadlines = self.deadlines.lock();
        let first_before = deadlines.by_time.first().map(|(time, _)| *time);
        let previous = match deadline {
            Some(deadline) => deadlines.by_group.insert(group.clone(), deadline),
            None => deadlines.by_group.remove(group),
        };
        if previous == deadline {
            return;
        }
        if let Some(previous) = previous {
            deadlines.by_time.remove(&(previous, group.clone()));
        }
        if let Some(deadline) = deadline {
            deadlines.by_time.insert((deadline, group.clone()));
            if first_before.is_none_or(|first| deadline < first) {
                self.earlier.notify_one();
            }
        }
    }

    /// Takes the groups whose time has come.
    fn take_due(&self, now: TimestampMs) -> Vec<GroupId> {
        let mut deadlines = self.deadlines.lock();
        let mut due = Vec::new();
        while deadlines.by_time.first().is_some_and(|(time, _)| *time <= now) {
            if let Some((_, group)) = deadlines.by_time.pop_first() {
                deadlines.by_group.remove(&group);
                due.push(group);
            }
        }
        due
    }

    fn sleep_until_next(&self, now: TimestampMs) -> Duration {
        let next = self.deadlines.lock().by_time.first().map(|(time, _)| *time);
        let wait = next.map_or(SLEEP_MAX, |next| {
            Duration::from_millis(u64::try_from(next.saturating_sub(now)).unwrap_or(0))
        });
        wait.min(SLEEP_MAX)
    }

    /// Calls `tick` for each group when its time has come, for ever.
    ///
    /// # Cancel safety
    /// Safe between ticks; a tick itself does not await.
    pub(super) async fn run(&self, clock: &SharedClock, tick: impl Fn(&GroupId)) {
        loop {
            let now = clock.now_ms();
            for group in self.take_due(now) {
                tick(&group);
            }
            let sleep = tokio::time::sleep(self.sleep_until_next(clock.now_ms()));
            tokio::select! {
                () = sleep => {}
                () = self.earlier.notified() => {}
            }
        }
    }
}
