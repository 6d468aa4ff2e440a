//! The members of a group, with the indexes that have to agree with them.
//!
//! Invariants: every static member is found by its instance id, and `support` counts for each
//! protocol the members that know it.

use std::collections::btree_map::ValuesMut;
use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::Bytes;

use crate::base::ids::MemberId;

use super::member::Member;

/// All members of one group, in the order of their ids so that every run is the same.
#[derive(Debug, Default)]
pub(super) struct Members {
    by_id: BTreeMap<MemberId, Member>,
    by_instance: HashMap<String, MemberId>,
    support: HashMap<String, usize>,
    arrivals: u64,
}

impl Members {
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    pub(super) fn get(&self, id: &str) -> Option<&Member> {
        self.by_id.get(id)
    }

    pub(super) fn get_mut(&mut self, id: &str) -> Option<&mut Member> {
        self.by_id.get_mut(id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Member> {
        self.by_id.values()
    }

    pub(super) fn iter_mut(&mut self) -> ValuesMut<'_, MemberId, Member> {
        self.by_id.values_mut()
    }

    /// Returns the member that holds `instance_id` now.
    pub(super) fn find_static(&self, instance_id: &str) -> Option<&MemberId> {
        self.by_instance.get(instance_id)
    }

    /// Adds a member whose id is not in use.
    pub(super) fn insert(&mut self, mut member: Member) {
        member.arrival = self.arrivals;
        self.arrivals = self.arrivals.saturating_add(1);
        self.restore(member);
    }

    pub(super) fn remove(&mut self, id: &str) -> Option<Member> {
        let member = self.by_id.remove(id)?;
        count_out(&mut self.support, &member.protocols);
        if let Some(instance) = &member.group_instance_id {
            self.by_instance.remove(instance);
        }
        Some(member)
    }

    /// Gives the member `old` the id `new`; it keeps its place in the order of arrival.
    pub(super) fn rename(&mut self, old: &str, new: &MemberId) {
        if let Some(mut member) = self.remove(old) {
            member.id = new.clone();
            self.restore(member);
        }
    }

    pub(super) fn set_protocols(&mut self, id: &str, protocols: Vec<(String, Bytes)>) {
        if let Some(member) = self.by_id.get_mut(id) {
            count_out(&mut self.support, &member.protocols);
            count_in(&mut self.support, &protocols);
            member.protocols = protocols;
        }
    }

    /// Says whether one of `protocols` is known to every member.
    pub(super) fn have_common(&self, protocols: &[(String, Bytes)]) -> bool {
        protocols.iter().any(|(name, _)| self.all_support(name))
    }

    /// Returns the member that arrived first among those that `accept` takes.
    pub(super) fn find_oldest(&self, accept: impl Fn(&Member) -> bool) -> Option<&MemberId> {
        let accepted = self.by_id.values().filter(|member| accept(member));
        accepted.min_by_key(|member| member.arrival).map(|member| &member.id)
    }

    /// Returns the longest rebalance timeout of any member: all of them must have time to join.
    pub(super) fn rebalance_timeout_max_ms(&self) -> i64 {
        let timeouts = self.by_id.values().map(|member| i64::from(member.rebalance_timeout_ms));
        timeouts.max().unwrap_or(0)
    }

    /// Elects the protocol that most members want most, among those that all of them know;
    /// a tie goes to the preference of the member that arrived first.
    pub(super) fn elect_protocol(&self) -> Option<String> {
        let mut votes: HashMap<&str, usize> = HashMap::new();
        for member in self.by_id.values() {
            if let Some(name) = self.common_of(member).next() {
                *votes.entry(name).or_insert(0) += 1;
            }
        }
        let first = self.get(self.find_oldest(|_| true)?.as_str())?;
        let mut elected: Option<(&str, usize)> = None;
        for name in self.common_of(first) {
            let count = votes.get(name).copied().unwrap_or(0);
            if elected.is_none_or(|(_, most)| count > most) {
                elected = Some((name, count));
            }
        }
        elected.map(|(name, _)| name.to_owned())
    }

    fn common_of<'a>(&'a self, member: &'a Member) -> impl Iterator<Item = &'a str> {
        let names = member.protocols.iter().map(|(name, _)| name.as_str());
        names.filter(|name| self.all_support(name))
    }

    fn all_support(&self, protocol: &str) -> bool {
        self.support.get(protocol).copied().unwrap_or(0) == self.by_id.len()
    }

    fn restore(&mut self, member: Member) {
        count_in(&mut self.support, &member.protocols);
        if let Some(instance) = &member.group_instance_id {
            self.by_instance.insert(instance.clone(), member.id.clone());
        }
        self.by_id.insert(member.id.clone(), member);
    }
}

/// Returns each name once: a client that lists a protocol twice is still one supporter.
fn distinct(protocols: &[(String, Bytes)]) -> HashSet<&str> {
    protocols.iter().map(|(name, _)| name.as_str()).collect()
}

fn count_in(support: &mut HashMap<String, usize>, protocols: &[(String, Bytes)]) {
    for name in distinct(protocols) {
        *support.entry(name.to_owned()).or_insert(0) += 1;
    }
}

fn count_out(support: &mut HashMap<String, usize>, protocols: &[(String, Bytes)]) {
    for name in distinct(protocols) {
        if let Some(count) = support.get_mut(name) {
            *count -= 1;
            if *count == 0 {
                support.remove(name);
            }
        }
    }
}
