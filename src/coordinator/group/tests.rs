use super::harness::{Harness, REBALANCE_MS, SESSION_MS};
use super::*;
use crate::base::ids::{GroupId, TopicName};

fn partition(number: i32) -> TopicPartition {
    TopicPartition::new(TopicName::parse("t").unwrap(), number)
}

fn commit(offset: i64, commit_timestamp: i64) -> CommittedOffset {
    CommittedOffset { offset, leader_epoch: 3, metadata: "note".into(), commit_timestamp }
}

#[test]
fn empty_group_id_is_refused_to_members() {
    let mut h = Harness::new();
    h.group = Group::new(GroupId::from(""));
    let token = h.join("");
    assert_eq!(h.refused(token), GroupError::InvalidGroupId);
}

#[test]
fn newer_client_must_join_again_with_the_id_it_was_given() {
    let mut h = Harness::new();
    let mut request = h.request("", &[("range", "r")]);
    request.member_id_policy = MemberIdPolicy::RequireKnown;
    let id = request.new_member_id.clone();
    let token = h.send(request);
    assert_eq!(h.refused(token), GroupError::MemberIdRequired(id.clone()));
    assert!(!h.group.is_disposable());
    let token = h.join(id.as_str());
    let reply = h.joined(token);
    assert_eq!((reply.generation_id, reply.member_id), (1, id));
}

#[test]
fn pending_id_is_forgotten_after_the_session_timeout() {
    let mut h = Harness::new();
    let mut request = h.request("", &[("range", "r")]);
    request.member_id_policy = MemberIdPolicy::RequireKnown;
    let id = request.new_member_id.clone();
    h.send(request);
    h.pass(i64::from(SESSION_MS));
    assert!(h.group.is_disposable());
    let token = h.join(id.as_str());
    assert_eq!(h.refused(token), GroupError::UnknownMemberId);
}

#[test]
fn pending_ids_are_bounded() {
    let mut h = Harness::new();
    h.config.members_pending_max = 1;
    for expected in [true, false] {
        let mut request = h.request("", &[("range", "r")]);
        request.member_id_policy = MemberIdPolicy::RequireKnown;
        let token = h.send(request);
        let error = h.refused(token);
        assert_eq!(matches!(error, GroupError::MemberIdRequired(_)), expected, "{error:?}");
    }
}

#[test]
fn unknown_member_id_is_refused_by_a_new_group_too() {
    let mut h = Harness::new();
    let token = h.join("stranger");
    assert_eq!(h.refused(token), GroupError::UnknownMemberId);
    assert!(h.group.is_disposable());
}

#[test]
fn session_timeout_out_of_range_is_refused() {
    let mut h = Harness::new();
    for timeout in [5_999, 1_800_001, -1] {
        let mut request = h.request("", &[("range", "r")]);
        request.session_timeout_ms = timeout;
        let token = h.send(request);
        assert_eq!(h.refused(token), GroupError::InvalidSessionTimeout);
    }
}

#[test]
fn full_group_refuses_new_members_but_not_its_own() {
    let mut h = Harness::new();
    h.config.size_max = 1;
    let leader = h.stable_one();
    let token = h.join("");
    assert_eq!(h.refused(token), GroupError::GroupMaxSizeReached);
    let token = h.join(&leader);
    assert_eq!(h.joined(token).generation_id, 2);
}

#[test]
fn incompatible_protocols_are_refused() {
    let mut h = Harness::new();
    let request = h.request("", &[]);
    let token = h.send(request);
    assert_eq!(h.refused(token), GroupError::InconsistentGroupProtocol);
    h.stable_one();
    let request = h.request("", &[("sticky", "")]);
    let token = h.send(request);
    assert_eq!(h.refused(token), GroupError::InconsistentGroupProtocol);
    let mut request = h.request("", &[("range", "")]);
    request.protocol_type = "connect".into();
    let token = h.send(request);
    assert_eq!(h.refused(token), GroupError::InconsistentGroupProtocol);
}

#[test]
fn protocol_is_elected_by_votes_among_common_ones() {
    let mut h = Harness::new();
    h.config.initial_rebalance_delay_ms = 100;
    let lists: [&[(&str, &str)]; 3] = [
        &[("only-mine", ""), ("range", ""), ("sticky", "")],
        &[("sticky", ""), ("range", "")],
        &[("sticky", ""), ("range", "")],
    ];
    let tokens = lists.map(|list| {
        let request = h.request("", list);
        h.send(request)
    });
    h.pass(200);
    assert_eq!(h.joined(tokens[0]).protocol_name.as_deref(), Some("sticky"));
}

#[test]
fn first_join_waits_and_every_join_extends_up_to_the_rebalance_timeout() {
    let mut h = Harness::new();
    h.config.initial_rebalance_delay_ms = 20_000;
    let first = h.join("");
    h.pass(19_000);
    let second = h.join("");
    h.pass(2_000);
    assert!(h.is_parked(first) && h.is_parked(second));
    h.pass(8_000);
    assert!(h.is_parked(first));
    h.pass(1_000);
    assert_eq!(h.joined(first).members.len(), 2);
    assert!(h.joined(second).members.is_empty());
}

#[test]
fn heartbeats_answer_by_state() {
    let mut h = Harness::new();
    assert_eq!(h.heartbeat("x", 0), Err(GroupError::UnknownMemberId));
    let token = h.join("");
    let id = h.joined(token).member_id.to_string();
    assert_eq!(h.heartbeat(&id, 1), Ok(()));
    h.sync(&id, 1, &[(&id, "all")]);
    assert_eq!(h.heartbeat(&id, 1), Ok(()));
    assert_eq!(h.heartbeat(&id, 2), Err(GroupError::IllegalGeneration));
    h.join("");
    h.pass(i64::from(SESSION_MS) - 1);
    assert_eq!(h.heartbeat(&id, 1), Err(GroupError::RebalanceInProgress));
    h.pass(i64::from(SESSION_MS) - 1);
    assert_eq!(h.heartbeat(&id, 1), Err(GroupError::RebalanceInProgress));
}

#[test]
fn rebalance_timeout_drops_absent_dynamic_members() {
    let mut h = Harness::new();
    let (leader, follower) = h.stable_two();
    let token = h.join(&follower);
    assert_eq!(h.joined(token).generation_id, 2, "a follower without change stays");
    let token = h.join("");
    for _ in 0..5 {
        h.pass(6_000);
        let _ = h.heartbeat(&leader, 2);
        let _ = h.heartbeat(&follower, 2);
    }
    let reply = h.joined(token);
    assert_eq!((reply.generation_id, reply.members.len()), (3, 1));
    assert_eq!(h.heartbeat(&leader, 3), Err(GroupError::UnknownMemberId));
}

#[test]
fn absent_static_member_stays_until_its_session_ends() {
    let mut h = Harness::new();
    let token = h.join_static("", "i1", "r");
    let first = h.joined(token).member_id.to_string();
    h.sync(&first, 1, &[]);
    let mut request = h.request("", &[("range", "r")]);
    request.rebalance_timeout_ms = 1_000;
    request.session_timeout_ms = 6_000;
    let second = h.send(request);
    assert!(h.is_parked(second));
    h.pass(8_000);
    let _ = h.heartbeat_as(&first, 1, Some("i1"));
    h.pass(9_000);
    let _ = h.heartbeat_as(&first, 1, Some("i1"));
    h.pass(9_000);
    let _ = h.heartbeat_as(&first, 1, Some("i1"));
    h.pass(5_000);
    let reply = h.joined(second);
    assert_eq!(reply.leader, reply.member_id, "an absent leader is succeeded");
    assert_eq!(reply.members.len(), 2);
    assert_eq!(h.heartbeat_as(&first, 2, Some("i1")), Ok(()));
}

#[test]
fn rejoin_while_completing_repeats_the_answer_unless_metadata_changed() {
    let mut h = Harness::new();
    let token = h.join("");
    let id = h.joined(token).member_id.to_string();
    let token = h.join(&id);
    let reply = h.joined(token);
    assert_eq!((reply.generation_id, reply.members.len()), (1, 1));
    let request = h.request(&id, &[("range", "changed")]);
    let token = h.send(request);
    assert_eq!(h.joined(token).generation_id, 2);
}

#[test]
fn leader_rejoin_rebalances_a_stable_group() {
    let mut h = Harness::new();
    let (leader, follower) = h.stable_two();
    let token = h.join(&leader);
    assert!(h.is_parked(token));
    assert_eq!(h.group.state(), GroupState::PreparingRebalance);
    h.join(&follower);
    assert_eq!(h.joined(token).leader.as_str(), leader);
}

#[test]
fn follower_with_changed_metadata_rebalances_a_stable_group() {
    let mut h = Harness::new();
    let (_, follower) = h.stable_two();
    let request = h.request(&follower, &[("range", "changed")]);
    let token = h.send(request);
    assert!(h.is_parked(token));
}

#[test]
fn followers_wait_for_the_leader_and_all_get_their_own_assignment() {
    let mut h = Harness::new();
    let (leader, follower) = h.stable_two();
    let first = h.join(&leader);
    h.join(&follower);
    assert_eq!(h.joined(first).generation_id, 3);
    let waiting = h.sync(&follower, 3, &[(&follower, "not the leader")]);
    assert!(h.is_parked(waiting));
    let own = h.sync(&leader, 3, &[(&leader, "1"), ("stranger", "2")]);
    assert_eq!(&h.assigned(own)[..], b"1");
    assert!(h.assigned(waiting).is_empty());
    let again = h.sync(&leader, 3, &[(&leader, "late")]);
    assert_eq!(&h.assigned(again)[..], b"1");
    let (_, level) = h.persisted.last().unwrap();
    assert_eq!(*level, PersistLevel::Durable);
}

#[test]
fn wrong_syncs_are_refused() {
    let mut h = Harness::new();
    let token = h.sync("x", 0, &[]);
    assert_eq!(h.refused(token), GroupError::UnknownMemberId);
    let (leader, _) = h.stable_two();
    let token = h.sync(&leader, 1, &[]);
    assert_eq!(h.refused(token), GroupError::IllegalGeneration);
    let reply_to = h.token();
    h.event(Event::Sync(SyncRequest {
        reply_to,
        member_id: leader.clone(),
        generation_id: 2,
        group_instance_id: None,
        protocol_type: Some("consumer".into()),
        protocol_name: Some("other".into()),
        assignments: Vec::new(),
    }));
    assert_eq!(h.refused(reply_to.0), GroupError::InconsistentGroupProtocol);
    h.join("");
    let token = h.sync(&leader, 2, &[]);
    assert_eq!(h.refused(token), GroupError::RebalanceInProgress);
}

#[test]
fn member_that_never_syncs_is_removed_after_the_rebalance_timeout() {
    let mut h = Harness::new();
    let (leader, follower) = h.stable_two();
    h.join(&leader);
    h.join(&follower);
    h.sync(&leader, 3, &[]);
    for _ in 0..4 {
        h.pass(7_000);
        assert_eq!(h.heartbeat(&leader, 3), Ok(()));
        assert_eq!(h.heartbeat(&follower, 3), Ok(()));
    }
    h.pass(i64::from(REBALANCE_MS) - 28_000);
    assert_eq!(h.heartbeat(&follower, 3), Err(GroupError::UnknownMemberId));
    assert_eq!(h.heartbeat(&leader, 3), Err(GroupError::RebalanceInProgress));
}

#[test]
fn session_does_not_run_while_a_request_is_parked() {
    let mut h = Harness::new();
    let (leader, follower) = h.stable_two();
    let token = h.join(&leader);
    for _ in 0..2 {
        h.pass(i64::from(SESSION_MS) - 1);
        let _ = h.heartbeat(&follower, 2);
    }
    assert!(h.is_parked(token));
    assert_eq!(h.group.describe().members.len(), 2);
}

#[test]
fn cancelled_join_keeps_the_member_until_its_session_ends() {
    let mut h = Harness::new();
    let (leader, follower) = h.stable_two();
    let token = h.join(&leader);
    h.event(Event::Cancel { reply_to: ReplyTo(token) });
    h.pass(i64::from(SESSION_MS) - 1);
    let _ = h.heartbeat(&follower, 2);
    assert_eq!(h.group.describe().members.len(), 2);
    h.pass(1);
    assert_eq!(h.group.describe().members.len(), 1);
    assert!(!h.replies.contains_key(&token));
}

#[test]
fn superseded_join_is_answered() {
    let mut h = Harness::new();
    let (leader, follower) = h.stable_two();
    let old = h.join(&leader);
    let new = h.join(&leader);
    assert_eq!(h.refused(old), GroupError::RebalanceInProgress);
    h.join(&follower);
    assert_eq!(h.joined(new).generation_id, 3);
}

#[test]
fn missed_heartbeats_remove_the_member_and_rebalance() {
    let mut h = Harness::new();
    let (leader, follower) = h.stable_two();
    h.pass(i64::from(SESSION_MS) - 1);
    assert_eq!(h.heartbeat(&follower, 2), Ok(()));
    h.pass(1);
    assert_eq!(h.heartbeat(&leader, 2), Err(GroupError::UnknownMemberId));
    assert_eq!(h.heartbeat(&follower, 2), Err(GroupError::RebalanceInProgress));
    assert_eq!(h.group.describe().leader.unwrap().as_str(), follower);
}

#[test]
fn last_leave_empties_the_group_and_keeps_offsets() {
    let mut h = Harness::new();
    assert_eq!(h.leave("x", None), Err(GroupError::UnknownMemberId));
    let id = h.stable_one();
    h.group.apply_commit([(partition(0), commit(5, h.now))]);
    assert_eq!(h.leave(&id, None), Ok(()));
    assert_eq!(h.group.state(), GroupState::Empty);
    assert_eq!(h.group.generation_id(), 2);
    assert_eq!(h.group.committed(&partition(0)), Some(&commit(5, h.now)));
    assert!(!h.group.is_disposable());
    assert_eq!(h.persisted.last().unwrap().1, PersistLevel::Durable);
    h.group.remove_offsets(&[partition(0)]);
    assert!(h.group.is_disposable());
}

#[test]
fn static_member_leaves_by_instance_id() {
    let mut h = Harness::new();
    let token = h.join_static("", "i1", "r");
    let id = h.joined(token).member_id.to_string();
    assert_eq!(h.leave("", Some("nobody")), Err(GroupError::UnknownMemberId));
    assert_eq!(h.leave("other", Some("i1")), Err(GroupError::FencedInstanceId));
    assert_eq!(h.leave("", Some("i1")), Ok(()));
    assert_eq!(h.leave(&id, None), Err(GroupError::UnknownMemberId));
}

#[test]
fn returning_static_member_takes_its_place_without_a_rebalance() {
    let mut h = Harness::new();
    let token = h.join_static("", "i1", "r");
    let old = h.joined(token).member_id;
    h.sync(old.as_str(), 1, &[(old.as_str(), "all")]);
    let token = h.join_static("", "i1", "r");
    let reply = h.joined(token);
    assert_eq!((reply.generation_id, h.group.state()), (1, GroupState::Stable));
    assert_eq!(reply.leader, old, "before v9 it must not know that it leads");
    assert!(reply.members.is_empty());
    let new = reply.member_id.to_string();
    assert_eq!(h.persisted.last().unwrap().0.members[0].member_id.as_str(), new);
    let fenced = h.heartbeat_as(old.as_str(), 1, Some("i1"));
    assert_eq!(fenced, Err(GroupError::FencedInstanceId));
    let committed = h.group.check_commit(old.as_str(), 1, Some("i1"), h.now);
    assert_eq!(committed, Err(GroupError::FencedInstanceId));
    let token = h.sync(&new, 1, &[]);
    assert_eq!(&h.assigned(token)[..], b"all");
}

#[test]
fn returning_static_leader_skips_the_assignment_from_v9() {
    let mut h = Harness::new();
    let token = h.join_static("", "i1", "r");
    let old = h.joined(token).member_id;
    h.sync(old.as_str(), 1, &[]);
    let mut request = h.request("", &[("range", "r")]);
    request.group_instance_id = Some("i1".into());
    request.skip_assignment_support = SkipAssignmentSupport::Supported;
    let token = h.send(request);
    let reply = h.joined(token);
    assert!(reply.skip_assignment && reply.leader == reply.member_id);
    assert_eq!(reply.members.len(), 1);
}

#[test]
fn parked_request_of_a_replaced_static_member_is_fenced() {
    let mut h = Harness::new();
    let token = h.join_static("", "i1", "r");
    let leader = h.joined(token).member_id.to_string();
    h.sync(&leader, 1, &[]);
    h.join("");
    let follower = h.join_static("", "i2", "r");
    let again = h.join_static("", "i2", "r");
    assert_eq!(h.refused(follower), GroupError::FencedInstanceId);
    assert!(h.is_parked(again));
    let token = h.join_static("stale", "i2", "r");
    assert_eq!(h.refused(token), GroupError::FencedInstanceId);
}

#[test]
fn static_replacement_while_completing_rebalances() {
    let mut h = Harness::new();
    let (leader, follower) = h.stable_two();
    let token = h.join_static("", "i1", "r");
    h.join(&leader);
    h.join(&follower);
    let waiting = h.sync(&follower, 3, &[]);
    assert_eq!(h.joined(token).generation_id, 3);
    let token = h.join_static("", "i1", "r");
    assert!(h.is_parked(token));
    assert_eq!(h.refused(waiting), GroupError::RebalanceInProgress);
}

#[test]
fn commits_are_checked_by_member_and_state() {
    let mut h = Harness::new();
    let now = h.now;
    assert_eq!(h.group.check_commit("", -1, None, now), Ok(()));
    assert_eq!(h.group.check_commit("x", 4, None, now), Err(GroupError::UnknownMemberId));
    let token = h.join("");
    let id = h.joined(token).member_id.to_string();
    let early = h.group.check_commit(&id, 1, None, now);
    assert_eq!(early, Err(GroupError::RebalanceInProgress));
    h.sync(&id, 1, &[]);
    assert_eq!(h.group.check_commit(&id, 1, None, now), Ok(()));
    assert_eq!(h.group.check_commit(&id, 2, None, now), Err(GroupError::IllegalGeneration));
    assert_eq!(h.group.check_commit("", -1, None, now), Err(GroupError::UnknownMemberId));
    h.join("");
    h.pass(9_000);
    assert_eq!(h.group.check_commit(&id, 1, None, h.now), Ok(()));
    h.pass(9_000);
    assert_eq!(h.heartbeat(&id, 1), Err(GroupError::RebalanceInProgress));
}

#[test]
fn offset_metadata_is_bounded() {
    let config = GroupConfig::default();
    assert_eq!(config.check_offset_metadata(&"x".repeat(4_096)), Ok(()));
    let too_large = config.check_offset_metadata(&"x".repeat(4_097));
    assert_eq!(too_large, Err(GroupError::OffsetMetadataTooLarge));
}

#[test]
fn offsets_expire_only_without_members() {
    let mut h = Harness::new();
    let week = h.config.offsets_retention_ms;
    h.group.apply_commit([(partition(0), commit(1, h.now))]);
    assert_eq!(h.group.expired_offsets(h.now + week, &h.config), [partition(0)]);
    let id = h.stable_one();
    assert!(h.group.expired_offsets(h.now + 2 * week, &h.config).is_empty());
    h.now += 5;
    h.leave(&id, None).unwrap();
    assert!(h.group.expired_offsets(h.now + week - 1, &h.config).is_empty());
    assert_eq!(h.group.expired_offsets(h.now + week, &h.config), [partition(0)]);
}

#[test]
fn description_shows_assignments_only_while_stable() {
    let mut h = Harness::new();
    let id = h.stable_one();
    let description = h.group.describe();
    assert_eq!((description.state.as_str(), &description.protocol_name[..]), ("Stable", "range"));
    assert_eq!(&description.members[0].assignment[..], b"all");
    assert_eq!(&description.members[0].metadata[..], b"r");
    h.join(&id);
    let description = h.group.describe();
    assert_eq!(description.state.to_string(), "CompletingRebalance");
    assert!(description.protocol_name.is_empty());
    assert!(description.members[0].metadata.is_empty());
}

#[test]
fn restored_group_continues_and_never_reuses_a_generation() {
    let mut h = Harness::new();
    let (leader, follower) = h.stable_two();
    h.now += 60_000;
    let snapshot = h.persisted.last().unwrap().0.clone();
    h.group = Group::restore(GroupId::from("g"), snapshot, h.now);
    assert_eq!(h.heartbeat(&leader, 2), Ok(()));
    assert_eq!(h.heartbeat(&follower, 2), Ok(()));
    let token = h.sync(&follower, 2, &[]);
    assert_eq!(&h.assigned(token)[..], b"y");
    h.join(&leader);
    let token = h.join(&follower);
    assert_eq!(h.joined(token).generation_id, 3);
    let (snapshot, level) = h.persisted.last().unwrap().clone();
    assert_eq!(level, PersistLevel::Written);
    h.group = Group::restore(GroupId::from("g"), snapshot, h.now);
    assert_eq!(h.group.state(), GroupState::Empty);
    assert_eq!(h.heartbeat(&leader, 3), Err(GroupError::UnknownMemberId));
    let token = h.join("");
    assert_eq!(h.joined(token).generation_id, 4);
}

#[test]
fn shutdown_leaves_nobody_waiting() {
    let mut h = Harness::new();
    let (leader, follower) = h.stable_two();
    let join = h.join(&leader);
    h.event(Event::Shutdown);
    assert_eq!(h.refused(join), GroupError::NotCoordinator);
    h.join(&leader);
    h.join(&follower);
    let sync = h.sync(&follower, 3, &[]);
    h.event(Event::Shutdown);
    assert_eq!(h.refused(sync), GroupError::NotCoordinator);
    assert!(h.waiting.is_empty());
}

#[test]
fn text_that_no_record_can_hold_is_refused() {
    let mut h = Harness::new();
    let mut request = h.request("", &[("range", "r")]);
    request.client_id = "x".repeat(TEXT_BYTES_MAX + 1);
    let token = h.send(request);
    assert_eq!(h.refused(token), GroupError::InvalidRequest);
}
