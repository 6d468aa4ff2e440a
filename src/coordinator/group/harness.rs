//! A group with a clock and a mailbox, for tests: no token may be answered twice.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::*;
use crate::base::ids::GroupId;

pub(super) struct Harness {
    pub(super) group: Group,
    pub(super) config: GroupConfig,
    pub(super) now: TimestampMs,
    pub(super) replies: BTreeMap<u64, Reply>,
    pub(super) waiting: BTreeSet<u64>,
    pub(super) persisted: Vec<(GroupSnapshot, PersistLevel)>,
    tokens: u64,
}

pub(super) const SESSION_MS: i32 = 10_000;
pub(super) const REBALANCE_MS: i32 = 30_000;

impl Harness {
    pub(super) fn new() -> Self {
        Self {
            group: Group::new(GroupId::from("g")),
            config: GroupConfig::default(),
            now: 1_000_000,
            replies: BTreeMap::new(),
            waiting: BTreeSet::new(),
            persisted: Vec::new(),
            tokens: 0,
        }
    }

    pub(super) fn token(&mut self) -> ReplyTo {
        self.tokens += 1;
        self.waiting.insert(self.tokens);
        ReplyTo(self.tokens)
    }

    pub(super) fn event(&mut self, event: Event) {
        let mut effects = Effects::new();
        self.group.handle(event, self.now, &self.config, &mut effects);
        for effect in effects.drain() {
            match effect {
                Effect::Reply { to, reply } => {
                    assert!(self.waiting.remove(&to.0), "token {to:?} answered twice or unknown");
                    self.replies.insert(to.0, reply);
                }
                Effect::Persist(Persist::Group { snapshot, level }) => {
                    let value = records::encode_group_value(&snapshot).unwrap();
                    assert_eq!(records::decode_group_value(&value).as_ref(), Ok(&snapshot));
                    self.persisted.push((snapshot, level));
                }
            }
        }
    }

    /// Lets time pass, with a tick at every deadline on the way.
    pub(super) fn pass(&mut self, ms: i64) {
        let end = self.now + ms;
        let mut ticks = 0;
        while let Some(deadline) = self.group.next_deadline().filter(|d| *d <= end) {
            self.now = self.now.max(deadline);
            self.event(Event::Tick);
            ticks += 1;
            assert!(ticks < 10_000, "the clock does not advance");
        }
        self.now = end;
    }

    pub(super) fn request(&mut self, id: &str, protocols: &[(&str, &str)]) -> JoinRequest {
        let reply_to = self.token();
        let owned = |(n, m): &(&str, &str)| ((*n).to_owned(), Bytes::from((*m).to_owned()));
        JoinRequest {
            reply_to,
            member_id: id.to_owned(),
            group_instance_id: None,
            client_id: "c".into(),
            client_host: "/127.0.0.1".into(),
            session_timeout_ms: SESSION_MS,
            rebalance_timeout_ms: REBALANCE_MS,
            protocol_type: "consumer".into(),
            protocols: protocols.iter().map(owned).collect(),
            new_member_id: MemberId::from(format!("m{}", reply_to.0).as_str()),
            member_id_policy: MemberIdPolicy::AdmitUnknown,
            skip_assignment_support: SkipAssignmentSupport::Unsupported,
        }
    }

    pub(super) fn send(&mut self, request: JoinRequest) -> u64 {
        let token = request.reply_to.0;
        self.event(Event::Join(request));
        token
    }

    pub(super) fn join(&mut self, id: &str) -> u64 {
        let request = self.request(id, &[("range", "r")]);
        self.send(request)
    }

    pub(super) fn join_static(&mut self, id: &str, instance: &str, metadata: &str) -> u64 {
        let mut request = self.request(id, &[("range", metadata)]);
        request.group_instance_id = Some(instance.to_owned());
        self.send(request)
    }

    pub(super) fn sync(&mut self, id: &str, generation_id: i32, all: &[(&str, &str)]) -> u64 {
        let reply_to = self.token();
        let owned = |(m, a): &(&str, &str)| (MemberId::from(*m), Bytes::from((*a).to_owned()));
        self.event(Event::Sync(SyncRequest {
            reply_to,
            member_id: id.to_owned(),
            generation_id,
            group_instance_id: None,
            protocol_type: None,
            protocol_name: None,
            assignments: all.iter().map(owned).collect(),
        }));
        reply_to.0
    }

    pub(super) fn heartbeat_as(
        &mut self,
        id: &str,
        generation_id: i32,
        instance: Option<&str>,
    ) -> Result<(), GroupError> {
        let reply_to = self.token();
        self.event(Event::Heartbeat(HeartbeatRequest {
            reply_to,
            member_id: id.to_owned(),
            generation_id,
            group_instance_id: instance.map(str::to_owned),
        }));
        match self.replies.get(&reply_to.0) {
            Some(Reply::Heartbeat(result)) => result.clone(),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn heartbeat(&mut self, id: &str, generation_id: i32) -> Result<(), GroupError> {
        self.heartbeat_as(id, generation_id, None)
    }

    pub(super) fn leave(&mut self, id: &str, instance: Option<&str>) -> Result<(), GroupError> {
        let reply_to = self.token();
        let group_instance_id = instance.map(str::to_owned);
        let members = vec![LeaveMember { member_id: id.to_owned(), group_instance_id }];
        self.event(Event::Leave(LeaveRequest { reply_to, members }));
        match self.replies.get(&reply_to.0) {
            Some(Reply::Leave(Ok(results))) => results[0].1.clone(),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn is_parked(&self, token: u64) -> bool {
        self.waiting.contains(&token)
    }

    pub(super) fn joined(&self, token: u64) -> JoinReply {
        match self.replies.get(&token) {
            Some(Reply::Join(Ok(reply))) => reply.clone(),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn refused(&self, token: u64) -> GroupError {
        match self.replies.get(&token) {
            Some(Reply::Join(Err(refusal))) => refusal.error.clone(),
            Some(Reply::Sync(Err(error))) => error.clone(),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn assigned(&self, token: u64) -> Bytes {
        match self.replies.get(&token) {
            Some(Reply::Sync(Ok(reply))) => reply.assignment.clone(),
            other => panic!("{other:?}"),
        }
    }

    /// Makes a stable group of one dynamic member and returns its id.
    pub(super) fn stable_one(&mut self) -> String {
        let token = self.join("");
        let reply = self.joined(token);
        let id = reply.member_id.as_str().to_owned();
        self.sync(&id, reply.generation_id, &[(&id, "all")]);
        id
    }

    /// Makes a stable group of a leader and a follower and returns their ids.
    pub(super) fn stable_two(&mut self) -> (String, String) {
        let leader = self.stable_one();
        let second = self.join("");
        self.join(&leader);
        let reply = self.joined(second);
        let follower = reply.member_id.as_str().to_owned();
        self.sync(&follower, reply.generation_id, &[]);
        self.sync(&leader, reply.generation_id, &[(&leader, "x"), (&follower, "y")]);
        assert_eq!(self.group.state(), GroupState::Stable);
        (leader, follower)
    }
}
