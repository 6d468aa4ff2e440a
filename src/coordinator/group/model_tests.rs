//! Random lives of a group, judged by a reference that knows the rules but not the mechanism.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use proptest::prelude::*;

use super::harness::{Harness, REBALANCE_MS, SESSION_MS};
use super::*;
use crate::base::ids::{GroupId, TopicName};

const CLIENTS: usize = 7;
/// The clients from this one on are static.
const STATIC_FROM: usize = 4;

#[derive(Debug, Clone)]
enum Op {
    Join {
        client: usize,
        metadata: u8,
        policy: MemberIdPolicy,
        skip: SkipAssignmentSupport,
    },
    Sync {
        client: usize,
    },
    Heartbeat {
        client: usize,
    },
    StaleHeartbeat {
        client: usize,
        behind: i32,
    },
    Commit {
        client: usize,
    },
    Leave {
        client: usize,
    },
    Cancel {
        client: usize,
    },
    /// The process dies without a word and another one starts.
    Crash {
        client: usize,
    },
    Pass {
        ms: i64,
    },
    /// An administrator deletes the group, if that is allowed.
    Delete,
    /// The coordinator restarts from what it persisted.
    Restart,
}

#[derive(Debug, Clone, Default)]
struct Client {
    id: String,
    instance: Option<String>,
    generation: i32,
    /// The members to assign to, if it leads.
    led: Vec<MemberId>,
}

struct Sent {
    client: usize,
    member_id: String,
    generation: i32,
}

struct World {
    h: Harness,
    rebalance_ms: i32,
    clients: Vec<Client>,
    sent: BTreeMap<u64, Sent>,
    /// Requests in flight by the member that waits.
    parked: BTreeMap<u64, String>,
    /// What the leader gave to each member of each generation.
    given: BTreeMap<(i32, String), Bytes>,
    last_contact: BTreeMap<String, i64>,
    left: BTreeSet<String>,
    preparing_since: i64,
    completed_at: i64,
    synced: BTreeSet<(i32, String)>,
    persisted_seen: usize,
    generation_written: i32,
}

fn arb_op() -> impl Strategy<Value = Op> {
    let client = 0..CLIENTS;
    let policy =
        prop::sample::select(vec![MemberIdPolicy::AdmitUnknown, MemberIdPolicy::RequireKnown]);
    let skip = prop_oneof![
        Just(SkipAssignmentSupport::Supported),
        Just(SkipAssignmentSupport::Unsupported)
    ];
    let metadata = prop_oneof![9 => Just(0_u8), 1 => Just(1_u8)];
    prop_oneof![
        8 => (client.clone(), metadata, policy, skip)
            .prop_map(|(client, metadata, policy, skip)| {
                Op::Join { client, metadata, policy, skip }
            }),
        8 => client.clone().prop_map(|client| Op::Sync { client }),
        4 => client.clone().prop_map(|client| Op::Heartbeat { client }),
        1 => (client.clone(), 1..3)
            .prop_map(|(client, behind)| Op::StaleHeartbeat { client, behind }),
        1 => client.clone().prop_map(|client| Op::Commit { client }),
        1 => client.clone().prop_map(|client| Op::Leave { client }),
        1 => client.clone().prop_map(|client| Op::Cancel { client }),
        1 => client.prop_map(|client| Op::Crash { client }),
        3 => (0..4_000_i64).prop_map(|ms| Op::Pass { ms }),
        1 => (0..40_000_i64).prop_map(|ms| Op::Pass { ms }),
        1 => Just(Op::Delete),
        1 => Just(Op::Restart),
    ]
}

impl World {
    fn new(initial_rebalance_delay_ms: i32, rebalance_ms: i32) -> Self {
        let mut h = Harness::new();
        h.config.initial_rebalance_delay_ms = initial_rebalance_delay_ms;
        let instance = |n: usize| (n >= STATIC_FROM).then(|| format!("i{n}"));
        let client = |n| Client { instance: instance(n), ..Client::default() };
        Self {
            h,
            rebalance_ms,
            clients: (0..CLIENTS).map(client).collect(),
            sent: BTreeMap::new(),
            parked: BTreeMap::new(),
            given: BTreeMap::new(),
            last_contact: BTreeMap::new(),
            left: BTreeSet::new(),
            preparing_since: 0,
            completed_at: 0,
            synced: BTreeSet::new(),
            persisted_seen: 0,
            generation_written: 0,
        }
    }

    fn apply(&mut self, op: &Op) {
        match *op {
            Op::Join { client, metadata, policy, skip } => {
                self.join(client, metadata, policy, skip);
            }
            Op::Sync { client } => self.sync(client),
            Op::Heartbeat { client } => self.heartbeat(client, 0),
            Op::StaleHeartbeat { client, behind } => self.heartbeat(client, behind),
            Op::Commit { client } => self.commit(client),
            Op::Leave { client } => self.leave(client),
            Op::Cancel { client } => self.cancel(client),
            Op::Crash { client } => {
                self.cancel(client);
                let instance = self.clients[client].instance.take();
                self.clients[client] = Client { instance, ..Client::default() };
            }
            Op::Pass { ms } => self.pass(ms),
            Op::Delete => self.delete(),
            Op::Restart => self.restart(),
        }
    }

    fn note(&mut self, to: ReplyTo, client: usize) {
        let Client { id, generation, .. } = self.clients[client].clone();
        self.sent.insert(to.0, Sent { client, member_id: id.clone(), generation });
    }

    fn join(
        &mut self,
        client: usize,
        metadata: u8,
        policy: MemberIdPolicy,
        skip: SkipAssignmentSupport,
    ) {
        let id = self.clients[client].id.clone();
        let text = format!("{client}-{metadata}");
        let mut request = self.h.request(&id, &[("range", &text), ("sticky", "s")]);
        request.group_instance_id = self.clients[client].instance.clone();
        request.rebalance_timeout_ms = self.rebalance_ms;
        request.member_id_policy = policy;
        request.skip_assignment_support = skip;
        self.note(request.reply_to, client);
        let to = request.reply_to.0;
        let waiting_as = if id.is_empty() { request.new_member_id.to_string() } else { id };
        self.parked.insert(to, waiting_as);
        self.step(Event::Join(request), None);
    }

    fn sync(&mut self, client: usize) {
        let Client { id, instance, generation, led } = self.clients[client].clone();
        let reply_to = self.h.token();
        self.note(reply_to, client);
        self.parked.insert(reply_to.0, id.clone());
        let assignment = |m: &MemberId| (m.clone(), Bytes::from(format!("{m}@{}", reply_to.0)));
        let assignments: Vec<_> = led.iter().map(assignment).collect();
        let request = SyncRequest {
            reply_to,
            member_id: id,
            generation_id: generation,
            group_instance_id: instance,
            protocol_type: Some("consumer".into()),
            protocol_name: None,
            assignments: assignments.clone(),
        };
        self.step(Event::Sync(request), Some(assignments));
    }

    fn heartbeat(&mut self, client: usize, behind: i32) {
        let Client { id, instance, generation, .. } = self.clients[client].clone();
        let reply_to = self.h.token();
        self.note(reply_to, client);
        let before = self.h.group.describe();
        let known = before.members.iter().find(|m| m.member_id.as_str() == id);
        let generation_id = generation - behind;
        let is_current = generation_id == before.generation_id;
        let expected = match (known, before.state) {
            (None, _) => None,
            (Some(_), _) if !is_current => Some(Err(GroupError::IllegalGeneration)),
            (Some(_), GroupState::PreparingRebalance) => Some(Err(GroupError::RebalanceInProgress)),
            (Some(_), _) => Some(Ok(())),
        };
        let is_static = instance.is_some();
        let request = HeartbeatRequest {
            reply_to,
            member_id: id,
            generation_id,
            group_instance_id: instance,
        };
        self.step(Event::Heartbeat(request), None);
        let Some(Reply::Heartbeat(result)) = self.h.replies.get(&reply_to.0) else {
            panic!("heartbeat is not answered");
        };
        match expected {
            Some(expected) => assert_eq!(*result, expected),
            None => assert!(
                *result == Err(GroupError::UnknownMemberId)
                    || is_static && *result == Err(GroupError::FencedInstanceId)
            ),
        }
    }

    fn commit(&mut self, client: usize) {
        let Client { id, instance, generation, .. } = self.clients[client].clone();
        let before = self.h.group.describe();
        let is_member = before.members.iter().any(|m| m.member_id.as_str() == id);
        let now = self.h.now;
        let result = self.h.group.check_commit(&id, generation, instance.as_deref(), now);
        let is_current = is_member && before.generation_id == generation;
        let is_welcome = is_current && before.state != GroupState::CompletingRebalance;
        assert_eq!(result.is_ok(), is_welcome);
        if is_current {
            self.last_contact.insert(id, now);
        }
    }

    fn leave(&mut self, client: usize) {
        let Client { id, instance, .. } = self.clients[client].clone();
        let reply_to = self.h.token();
        self.note(reply_to, client);
        let members = self.h.group.describe().members;
        // Without an id, whoever holds the instance leaves.
        let holder = members.iter().find(|m| instance.is_some() && m.group_instance_id == instance);
        self.left.insert(holder.map_or_else(|| id.clone(), |m| m.member_id.to_string()));
        let members = vec![LeaveMember { member_id: id, group_instance_id: instance }];
        self.step(Event::Leave(LeaveRequest { reply_to, members }), None);
        let instance = self.clients[client].instance.take();
        self.clients[client] = Client { instance, ..Client::default() };
    }

    /// A group without members goes with everything it knew; one with members keeps its offsets,
    /// because the metadata of these members says nothing about topics.
    fn delete(&mut self) {
        let is_empty = self.h.group.describe().members.is_empty();
        assert_eq!(self.h.group.check_deletion().is_ok(), is_empty);
        let partition = TopicPartition::new(TopicName::parse("t").unwrap(), 0);
        let checked = self.h.group.check_offset_deletion([&partition]).unwrap();
        assert_eq!(checked.iter().all(Result::is_ok), is_empty);
        if !is_empty {
            return;
        }
        assert!(self.h.waiting.is_empty(), "nobody waits for an empty group");
        self.h.group = Group::new(GroupId::from("g"));
        self.h.persisted.clear();
        self.persisted_seen = 0;
        self.generation_written = 0;
        self.given.clear();
        self.synced.clear();
        self.clients.iter_mut().for_each(|client| client.generation = 0);
    }

    fn cancel(&mut self, client: usize) {
        let waiting = self.h.waiting.iter().find(|t| self.sent[*t].client == client).copied();
        let Some(token) = waiting else { return };
        self.h.waiting.remove(&token);
        let member = self.parked.remove(&token).unwrap();
        self.last_contact.insert(member, self.h.now);
        self.step(Event::Cancel { reply_to: ReplyTo(token) }, None);
    }

    fn pass(&mut self, ms: i64) {
        let end = self.h.now + ms;
        let mut ticks = 0;
        while let Some(deadline) = self.h.group.next_deadline().filter(|d| *d <= end) {
            self.h.now = self.h.now.max(deadline);
            self.step(Event::Tick, None);
            ticks += 1;
            assert!(ticks < 1_000, "the clock does not advance");
        }
        self.h.now = end;
    }

    fn restart(&mut self) {
        self.step(Event::Shutdown, None);
        assert!(self.h.waiting.is_empty(), "shutdown answers everybody");
        let was_stable = self.h.group.state() == GroupState::Stable;
        let generation = self.h.group.generation_id();
        let last = self.h.persisted.last().map(|(snapshot, _)| snapshot.clone());
        if was_stable {
            assert_eq!(last.as_ref(), Some(&self.h.group.snapshot()));
        }
        let snapshot = last.unwrap_or_default();
        self.h.group = Group::restore(GroupId::from("g"), snapshot, self.h.now);
        assert_eq!(self.h.group.generation_id(), generation);
        let members: Vec<_> = self.h.group.describe().members;
        for member in members {
            let (id, instance) = (member.member_id.as_str(), member.group_instance_id.as_deref());
            assert_eq!(self.h.heartbeat_as(id, generation, instance), Ok(()));
            self.last_contact.insert(id.to_owned(), self.h.now);
            let given = self.given.get(&(generation, id.to_owned()));
            assert_eq!(given, Some(&member.assignment));
            self.synced.insert((generation, id.to_owned()));
        }
    }

    fn step(&mut self, event: Event, assignments: Option<Vec<(MemberId, Bytes)>>) {
        let before = self.h.group.describe();
        let parked: BTreeSet<String> = self.parked.values().cloned().collect();
        let waiting = self.h.waiting.clone();
        self.h.event(event);
        let after = self.h.group.describe();
        self.check_removed(&before, &after, &parked);
        self.take_given(&before, &after, assignments);
        self.check_persisted();
        for token in waiting.difference(&self.h.waiting.clone()) {
            self.take_reply(*token);
        }
        if before.state != after.state && after.state == GroupState::PreparingRebalance {
            self.preparing_since = self.h.now;
        }
        if after.generation_id != before.generation_id {
            self.completed_at = self.h.now;
        }
        assert_eq!(after.members.is_empty(), after.leader.is_none());
        assert_eq!(after.members.is_empty(), after.state == GroupState::Empty);
        if let Some(leader) = &after.leader {
            assert!(after.members.iter().any(|m| m.member_id == *leader));
        }
        if matches!(after.state, GroupState::Stable | GroupState::Empty) {
            assert!(self.h.waiting.is_empty(), "nobody waits in {}", after.state);
        }
    }

    fn check_removed(
        &mut self,
        before: &GroupDescription,
        after: &GroupDescription,
        parked: &BTreeSet<String>,
    ) {
        let now = self.h.now;
        for member in &before.members {
            let id = member.member_id.to_string();
            if after.members.iter().any(|m| m.member_id == member.member_id) {
                continue;
            }
            let instance = member.group_instance_id.as_ref();
            let is_replaced = instance.is_some_and(|i| {
                after.members.iter().any(|m| m.group_instance_id.as_ref() == Some(i))
            });
            let silent_ms = now - self.last_contact.get(&id).copied().unwrap_or(i64::MIN / 2);
            let is_silent = silent_ms >= i64::from(SESSION_MS);
            let missed_join = before.state == GroupState::PreparingRebalance
                && instance.is_none()
                && now - self.preparing_since >= i64::from(self.rebalance_ms);
            let missed_sync = before.state != GroupState::PreparingRebalance
                && !self.synced.contains(&(before.generation_id, id.clone()))
                && now - self.completed_at >= i64::from(self.rebalance_ms);
            let is_unheard = !parked.contains(&id) && (is_silent || missed_join || missed_sync);
            assert!(
                is_unheard || is_replaced || self.left.contains(&id),
                "{id} was removed from {} without a reason",
                before.state
            );
        }
    }

    fn take_given(
        &mut self,
        before: &GroupDescription,
        after: &GroupDescription,
        assignments: Option<Vec<(MemberId, Bytes)>>,
    ) {
        let became_stable = before.state != GroupState::Stable && after.state == GroupState::Stable;
        if became_stable {
            let assignments: BTreeMap<_, _> = assignments.unwrap().into_iter().collect();
            for member in &after.members {
                let bytes = assignments.get(&member.member_id).cloned().unwrap_or_default();
                let key = (after.generation_id, member.member_id.to_string());
                assert!(self.given.insert(key, bytes).is_none(), "a generation is assigned once");
            }
        }
        // A replaced static member inherits what its predecessor was given.
        for old in &before.members {
            let Some(instance) = &old.group_instance_id else { continue };
            let new = after.members.iter().find(|m| m.group_instance_id.as_ref() == Some(instance));
            let Some(new) = new.filter(|new| new.member_id != old.member_id) else { continue };
            let generation = before.generation_id;
            if let Some(bytes) = self.given.get(&(generation, old.member_id.to_string())) {
                self.given.insert((generation, new.member_id.to_string()), bytes.clone());
                self.synced.insert((generation, new.member_id.to_string()));
            }
        }
    }

    fn check_persisted(&mut self) {
        for (snapshot, level) in &self.h.persisted[self.persisted_seen..] {
            if *level == PersistLevel::Written {
                assert!(snapshot.generation_id > self.generation_written);
            }
            assert!(snapshot.generation_id >= self.generation_written);
            self.generation_written = snapshot.generation_id;
        }
        self.persisted_seen = self.h.persisted.len();
    }

    fn take_reply(&mut self, token: u64) {
        let Sent { client, member_id, generation } = self.sent.remove(&token).unwrap();
        self.parked.remove(&token);
        let now = self.h.now;
        let is_current = self.clients[client].id == member_id;
        match self.h.replies.get(&token).unwrap() {
            Reply::Join(Ok(reply)) => {
                assert_eq!(reply.generation_id, self.h.group.generation_id());
                assert!(reply.generation_id >= generation, "generations only grow");
                let leads = reply.leader == reply.member_id;
                assert_eq!(leads, !reply.members.is_empty(), "the leader alone gets the list");
                assert!(member_id.is_empty() || reply.member_id.as_str() == member_id);
                self.last_contact.insert(reply.member_id.to_string(), now);
                let led = reply.members.iter().map(|m| m.member_id.clone()).collect();
                let instance = self.clients[client].instance.clone();
                let (id, generation) = (reply.member_id.to_string(), reply.generation_id);
                self.clients[client] = Client { id, instance, generation, led };
            }
            Reply::Join(Err(refusal)) => match &refusal.error {
                GroupError::MemberIdRequired(id) => self.clients[client].id = id.to_string(),
                GroupError::UnknownMemberId | GroupError::FencedInstanceId if is_current => {
                    self.clients[client].id = String::new();
                }
                GroupError::RebalanceInProgress => {
                    self.last_contact.insert(member_id, now);
                }
                _ => {}
            },
            Reply::Sync(Ok(reply)) => {
                assert_eq!(generation, self.h.group.generation_id());
                let given = self.given.get(&(generation, member_id.clone()));
                assert_eq!(given, Some(&reply.assignment), "exactly what the leader gave");
                self.last_contact.insert(member_id.clone(), now);
                self.synced.insert((generation, member_id));
            }
            Reply::Heartbeat(Ok(()) | Err(GroupError::RebalanceInProgress))
            | Reply::Sync(Err(GroupError::RebalanceInProgress)) => {
                self.last_contact.insert(member_id, now);
            }
            Reply::Sync(Err(error)) | Reply::Heartbeat(Err(error)) => {
                if *error == GroupError::UnknownMemberId && is_current {
                    self.clients[client].id = String::new();
                }
            }
            Reply::Leave(_) => {}
        }
    }

    /// Without traffic, everybody is answered and the group becomes empty.
    fn drain(&mut self) {
        // A join phase, a wait for syncs, a session; each may follow the other for each member.
        self.pass(
            i64::try_from(CLIENTS + 2).unwrap()
                * (i64::from(self.rebalance_ms) * 2 + i64::from(SESSION_MS)),
        );
        assert!(self.h.waiting.is_empty(), "everybody is answered");
        assert_eq!(self.h.group.state(), GroupState::Empty);
        assert_eq!(self.h.group.next_deadline(), None);
        assert!(self.h.group.is_disposable());
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 300, failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn random_lives_keep_the_rules(
        delay in prop_oneof![Just(0), Just(3_000)],
        // Shorter than a session, static members are often absent when a join phase ends.
        rebalance in prop_oneof![Just(5_000), Just(REBALANCE_MS)],
        ops in prop::collection::vec(arb_op(), 1..150),
    ) {
        let mut world = World::new(delay, rebalance);
        for op in &ops {
            world.apply(op);
        }
        world.drain();
    }
}

#[test]
fn well_behaved_clients_reach_a_stable_group() {
    let mut world = World::new(3_000, REBALANCE_MS);
    let (policy, skip) = (MemberIdPolicy::RequireKnown, SkipAssignmentSupport::Supported);
    for _ in 0..3 {
        (0..CLIENTS).for_each(|client| world.join(client, 0, policy, skip));
        world.pass(4_000);
    }
    (0..CLIENTS).for_each(|client| world.sync(client));
    assert_eq!(world.h.group.state(), GroupState::Stable);
    assert_eq!(world.h.group.describe().members.len(), CLIENTS);
}
