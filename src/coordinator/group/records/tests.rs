use proptest::prelude::*;

use super::*;

fn snapshot(members: Vec<MemberSnapshot>) -> GroupSnapshot {
    GroupSnapshot {
        protocol_type: "consumer".into(),
        generation_id: 7,
        protocol_name: Some("range".into()),
        leader: Some("a".into()),
        state_timestamp: 99,
        members,
    }
}

fn arb_member() -> impl Strategy<Value = MemberSnapshot> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..20).prop_map(Bytes::from);
    let texts = (".{0,9}", prop::option::of(".{0,9}"), ".{0,9}", ".{0,9}");
    (texts, any::<i32>(), any::<i32>(), bytes(), bytes()).prop_map(
        |((id, instance, client, host), rebalance, session, subscription, assignment)| {
            MemberSnapshot {
                member_id: MemberId::from(id.as_str()),
                group_instance_id: instance,
                client_id: client,
                client_host: host,
                rebalance_timeout_ms: rebalance,
                session_timeout_ms: session,
                subscription,
                assignment,
            }
        },
    )
}

#[test]
fn keys_have_kafkas_layout() {
    let group = GroupId::from("g");
    let partition = TopicPartition::new(TopicName::parse("t").unwrap(), 3);
    let key = encode_offset_key(&group, &partition).unwrap();
    assert_eq!(&key[..], b"\0\x01\0\x01g\0\x01t\0\0\0\x03");
    let expected = RecordKey::Offset { group: group.clone(), partition };
    assert_eq!(decode_key(&key), Ok(expected.clone()));
    assert_eq!(decode_key(b"\0\0\0\x01g\0\x01t\0\0\0\x03"), Ok(expected));
    let key = encode_group_key(&group).unwrap();
    assert_eq!(&key[..], b"\0\x02\0\x01g");
    assert_eq!(decode_key(&key), Ok(RecordKey::Group(group)));
    assert_eq!(decode_key(b"\0\x03\0\x01g"), Err(RecordError::UnknownKeyVersion(3)));
}

#[test]
fn offset_value_versions_differ_by_fields_present() {
    let expected =
        CommittedOffset { offset: 5, leader_epoch: -1, metadata: "m".into(), commit_timestamp: 9 };
    let v0 = b"\0\0\0\0\0\0\0\0\0\x05\0\x01m\0\0\0\0\0\0\0\x09";
    let v1 = b"\0\x01\0\0\0\0\0\0\0\x05\0\x01m\0\0\0\0\0\0\0\x09\0\0\0\0\0\0\0\x0a";
    assert_eq!(decode_offset_value(v0), Ok(expected.clone()));
    assert_eq!(decode_offset_value(v1), Ok(expected.clone()));
    let v3 = encode_offset_value(&expected).unwrap();
    assert_eq!(&v3[..], b"\0\x03\0\0\0\0\0\0\0\x05\xff\xff\xff\xff\0\x01m\0\0\0\0\0\0\0\x09");
    assert_eq!(decode_offset_value(&v3), Ok(expected));
    assert_eq!(decode_offset_value(b"\0\x04"), Err(RecordError::UnknownValueVersion(4)));
}

#[test]
fn oldest_group_value_takes_the_session_timeout_for_rebalances() {
    let v0 = b"\0\0\0\x01p\0\0\0\x02\xff\xff\xff\xff\0\0\0\x01\
        \0\x01m\0\x01c\0\x01h\0\0\0\x06\0\0\0\x01s\0\0\0\0";
    let decoded = decode_group_value(v0).unwrap();
    assert_eq!((decoded.generation_id, decoded.state_timestamp), (2, -1));
    let member = &decoded.members[0];
    assert_eq!((member.session_timeout_ms, member.rebalance_timeout_ms), (6, 6));
    assert_eq!((member.subscription.len(), member.assignment.len()), (1, 0));
}

#[test]
fn texts_that_do_not_fit_are_refused() {
    let group = GroupId::from("x".repeat(40_000).as_str());
    assert_eq!(encode_group_key(&group), Err(RecordError::TooLong(40_000)));
}

proptest! {
    #[test]
    fn group_values_round_trip(members in prop::collection::vec(arb_member(), 0..5)) {
        let value = encode_group_value(&snapshot(members.clone())).unwrap();
        prop_assert_eq!(decode_group_value(&value), Ok(snapshot(members)));
    }

    #[test]
    fn truncated_group_values_are_refused(member in arb_member(), cut in any::<usize>()) {
        let value = encode_group_value(&snapshot(vec![member])).unwrap();
        prop_assert!(decode_group_value(&value[..cut % value.len()]).is_err());
    }

    #[test]
    fn offset_values_round_trip(
        offset: i64, leader_epoch: i32, metadata in ".{0,20}", commit_timestamp: i64,
    ) {
        let committed = CommittedOffset { offset, leader_epoch, metadata, commit_timestamp };
        let value = encode_offset_value(&committed).unwrap();
        prop_assert_eq!(decode_offset_value(&value), Ok(committed));
    }

    #[test]
    fn any_bytes_are_decoded_or_refused(
        version in 0_i16..5, tail in prop::collection::vec(any::<u8>(), 0..80),
    ) {
        let mut bytes = version.to_be_bytes().to_vec();
        bytes.extend(tail);
        let _ = decode_key(&bytes);
        let _ = decode_offset_value(&bytes);
        let _ = decode_group_value(&bytes);
    }
}
