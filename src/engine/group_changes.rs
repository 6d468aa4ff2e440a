//! Which groups have news for their members: state, generation or the members themselves changed.
//!
//! Members that live in this process hear of a rebalance by it at once, where a native client has
//! to wait for its next heartbeat. Groups are collected and not queued, so it holds each group
//! once at most, however many events there are and however slow the listener is.

use std::collections::HashSet;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::base::ids::GroupId;

/// The groups that changed since the listener looked last.
#[derive(Debug, Default)]
pub struct GroupChanges {
    changed: Mutex<HashSet<GroupId>>,
    wake: Notify,
}

impl GroupChanges {
    /// Adds a group and wakes the listener. Called after the change can be seen.
    pub fn add(&self, group: &GroupId) {
        if self.changed.lock().insert(group.clone()) {
            self.wake.notify_one();
        }
    }

    /// Waits for changes and takes the groups they are of; one listener at a time.
    ///
    /// # Cancel safety
    /// Safe: no group is lost.
    pub async fn taken(&self) -> HashSet<GroupId> {
        loop {
            {
                let mut changed = self.changed.lock();
                if !changed.is_empty() {
                    return std::mem::take(&mut *changed);
                }
            }
            self.wake.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_group_that_changes_twice_is_taken_once() {
        let changes = GroupChanges::default();
        let (a, b) = (GroupId::from("a"), GroupId::from("b"));
        changes.add(&a);
        changes.add(&b);
        changes.add(&a);
        assert_eq!(changes.taken().await, HashSet::from([a.clone(), b]));
        changes.add(&a);
        assert_eq!(changes.taken().await, HashSet::from([a]));
    }

    #[tokio::test]
    async fn a_listener_that_waits_is_woken() {
        let changes = GroupChanges::default();
        let group = GroupId::from("g");
        let mut taken = std::pin::pin!(changes.taken());
        assert!(futures_util::poll!(taken.as_mut()).is_pending());
        changes.add(&group);
        assert_eq!(taken.await, HashSet::from([group]));
    }
}
