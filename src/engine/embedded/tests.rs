//! The broker against a real data folder, across restarts: transactions, keys, damage.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;

use super::state_log::StateTopic;
use super::transactions::records;
use super::{Embedded, EmbeddedOptions, ServerSetting, state_log};
use crate::base::clock::RealClock;
use crate::base::ids::{GroupId, Offset, TopicName};
use crate::base::shutdown::Shutdown;
use crate::coordinator::group::GroupConfig;
use crate::engine::configs::ConfigKind;
use crate::engine::groups::{
    Join, LeaveMember, MemberIdPolicy, Membership, SkipAssignmentSupport, Sync,
};
use crate::engine::log::{AckLevel, Append, AppendError, Fetched, Isolation, Read};
use crate::engine::topics::CreateTopic;
use crate::engine::transactions::{AtomicAppendError, Claimed, Keep};
use crate::protocol::record_batch::header::stamp_transaction;
use crate::protocol::record_batch::{BatchBuilder, BatchHeader, BatchRecords, ProducerStamp};

async fn open(dir: &Path) -> Embedded {
    open_with(dir, GroupConfig::default()).await
}

async fn open_with(dir: &Path, groups: GroupConfig) -> Embedded {
    let options = EmbeddedOptions {
        data_dir: dir.to_owned(),
        settings: vec![ServerSetting::own("num.partitions", ConfigKind::Int, &2)],
        groups,
        janitor_interval: Duration::from_secs(3600),
        clock: std::sync::Arc::new(RealClock),
    };
    Embedded::open(options, Shutdown::new()).await.unwrap()
}

async fn close(broker: Embedded) {
    tokio::task::spawn_blocking(move || broker.close()).await.unwrap();
}

async fn create(broker: &Embedded, name: &str) {
    let request = CreateTopic { name: name.to_owned(), ..CreateTopic::default() };
    broker.engine().topics.create(request).await.unwrap();
}

fn append(topic: &str, value: &str) -> Append {
    let mut builder = BatchBuilder::new();
    builder.push(1, None, Some(value.as_bytes()), std::iter::empty());
    let topic = TopicName::parse(topic).unwrap();
    Append { topic, partition: 0, batch: builder.finish(), level: AckLevel::Durable }
}

/// Values that readers of committed records see in partition 0, and its last stable offset.
async fn committed(broker: &Embedded, topic: &str) -> (Vec<String>, Offset) {
    let (mut values, mut offset) = (Vec::new(), 0);
    loop {
        let read = Read {
            topic: TopicName::parse(topic).unwrap(),
            partition: 0,
            offset,
            bytes_max: 1024,
            isolation: Isolation::ReadCommitted,
        };
        let Fetched { records, bounds, aborted } = broker.engine().log.read(read).await.unwrap();
        let mut rest = records.into_bytes().unwrap();
        if rest.is_empty() {
            return (values, bounds.last_stable_offset);
        }
        while !rest.is_empty() {
            let header = BatchHeader::parse(&rest).unwrap();
            let batch = rest.split_to(header.total_bytes());
            offset = header.next_offset();
            if header.is_control() || aborted.iter().any(|aborted| aborted.covers(&header)) {
                continue;
            }
            for record in &BatchRecords::open(header, &batch).unwrap() {
                let value = record.unwrap().value.unwrap().to_vec();
                values.push(String::from_utf8(value).unwrap());
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_of_several_topics_become_visible_together_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path()).await;
    create(&broker, "a").await;
    create(&broker, "b").await;
    let transactions = broker.engine().transactions;
    for n in ["1", "2", "3"] {
        let appends = vec![append("a", n), append("b", n), append("a", n)];
        let receipts = transactions.append_all(appends, None).await.unwrap();
        assert_eq!(receipts.len(), 3);
        assert!(receipts[2].base_offset > receipts[0].base_offset);
    }
    let refused = transactions.append_all(vec![append("a", "4"), append("nowhere", "4")], None);
    assert!(matches!(
        refused.await,
        Err(AtomicAppendError::Refused { batch: 1, error: AppendError::UnknownPartition { .. } })
    ));
    // Two records and a marker each time; nothing of the refused request.
    let expected = ["1", "1", "2", "2", "3", "3"].map(str::to_owned).to_vec();
    assert_eq!(committed(&broker, "a").await, (expected, 9));
    let expected = ["1", "2", "3"].map(str::to_owned).to_vec();
    assert_eq!(committed(&broker, "b").await, (expected, 6));
    close(broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_open_at_a_start_ends_as_it_was_decided() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path()).await;
    create(&broker, "a").await;
    let served = broker.registry.find("a").unwrap();
    let (_, partition) = served.served().next().unwrap();
    for (id, value) in [(7_000, "undecided"), (7_001, "decided"), (7_002, "of an older epoch")] {
        let mut batch = bytes::BytesMut::from(append("a", value).batch.as_ref());
        stamp_transaction(&mut batch, ProducerStamp { id, epoch: 1, base_sequence: 0 });
        let batch = batch.freeze();
        partition.append(&BatchHeader::parse(&batch).unwrap(), &batch, 1).unwrap();
    }
    let clock: crate::base::clock::SharedClock = std::sync::Arc::new(RealClock);
    let state =
        state_log(StateTopic::Transactions, &broker.registry, &broker.durability, &clock).unwrap();
    let decide = |id, epoch| (records::decision_key(id), Some(records::decision(epoch)));
    state.commit(&[decide(7_001, 1), decide(7_002, 0)]).await.unwrap();
    assert_eq!(committed(&broker, "a").await, (Vec::new(), 0));
    close(broker).await;
    // Twice: the first start ends them, the second finds nothing to do.
    for _ in 0..2 {
        let broker = open(dir.path()).await;
        assert_eq!(committed(&broker, "a").await, (vec!["decided".to_owned()], 6));
        close(broker).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_answers_the_same_after_a_restart_and_is_free_after_a_refusal() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path()).await;
    create(&broker, "a").await;
    let key = Bytes::from_static(b"key");
    let transactions = broker.engine().transactions;
    let claimed = |fingerprint| transactions.claim(key.clone(), [fingerprint; 16]).unwrap();
    let keep = |claim| Keep {
        claim,
        expires: i64::MAX,
        answer: Box::new(|receipts| Bytes::from(format!("at {}", receipts[0].base_offset))),
    };
    let Claimed::New(claim) = claimed(1) else { panic!("the key is new") };
    assert!(matches!(claimed(1), Claimed::InProgress));
    let refused = transactions.append_all(vec![append("nowhere", "1")], Some(keep(claim))).await;
    assert!(refused.is_err());
    let Claimed::New(claim) = claimed(1) else { panic!("the key was given back") };
    transactions.append_all(vec![append("a", "1")], Some(keep(claim))).await.unwrap();
    assert!(matches!(claimed(1), Claimed::Done(answer) if answer == "at 0"));
    close(broker).await;
    let broker = open(dir.path()).await;
    let transactions = broker.engine().transactions;
    let claimed = |fingerprint| transactions.claim(key.clone(), [fingerprint; 16]).unwrap();
    assert!(matches!(claimed(1), Claimed::Done(answer) if answer == "at 0"));
    assert!(matches!(claimed(2), Claimed::Mismatch));
    close(broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mended_partition_gets_back_what_the_journal_had() {
    let dir = tempfile::tempdir().unwrap();
    let broker = open(dir.path()).await;
    let small = [("segment.bytes".to_owned(), Some("1024".to_owned()))];
    let configs = small.to_vec();
    let request = CreateTopic { name: "a".to_owned(), configs, ..CreateTopic::default() };
    broker.engine().topics.create(request).await.unwrap();
    let values: Vec<String> = (0..8).map(|n| format!("{n}-{}", "x".repeat(300))).collect();
    for value in &values {
        broker.engine().log.append(append("a", value)).await.unwrap();
    }
    let served = broker.registry.find("a").unwrap();
    let folder = served.served().next().unwrap().1.dir().to_owned();
    drop(served);
    close(broker).await;
    let mut segments: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect();
    segments.sort();
    assert!(segments.len() > 2, "{segments:?}");
    // Power is lost: the end of the log is gone; and the first segment is damaged.
    std::fs::File::options()
        .write(true)
        .open(segments.last().unwrap())
        .unwrap()
        .set_len(0)
        .unwrap();
    std::fs::remove_dir_all(dir.path().join("store")).unwrap();
    let good = std::fs::read(&segments[0]).unwrap();
    let mut bad = good.clone();
    bad[100] ^= 1;
    std::fs::write(&segments[0], &bad).unwrap();
    for _ in 0..2 {
        let broker = open(dir.path()).await;
        assert_eq!(broker.status().partitions_offline, 1);
        close(broker).await;
    }
    std::fs::write(&segments[0], &good).unwrap();
    let broker = open(dir.path()).await;
    assert_eq!(committed(&broker, "a").await.0, values);
    close(broker).await;
}

#[tokio::test]
async fn news_of_a_group_are_told_and_signs_of_life_are_none() {
    let folder = tempfile::tempdir().unwrap();
    let config = GroupConfig { initial_rebalance_delay_ms: 0, ..GroupConfig::default() };
    let broker = open_with(folder.path(), config).await;
    let (groups, id) = (broker.engine().groups, GroupId::from("g"));
    let changes = groups.changes();
    let joined = groups.join(join_of(&id)).await.unwrap();
    assert!(changes.taken().await.contains(&id));
    let member_id = joined.member_id.as_str().to_owned();
    let sync = Sync {
        group: id.clone(),
        member_id: member_id.clone(),
        generation_id: joined.generation_id,
        group_instance_id: None,
        protocol_type: None,
        protocol_name: None,
        assignments: vec![(joined.member_id.clone(), Bytes::new())],
    };
    groups.sync(sync).await.unwrap();
    assert!(changes.taken().await.contains(&id));
    let (group, generation_id) = (id.clone(), joined.generation_id);
    let speaker =
        Membership { group, member_id: member_id.clone(), generation_id, group_instance_id: None };
    groups.heartbeat(speaker).await.unwrap();
    assert!(futures_util::poll!(std::pin::pin!(changes.taken())).is_pending());
    let member = LeaveMember { member_id, group_instance_id: None };
    groups.leave(id.clone(), vec![member]).await.unwrap();
    assert!(changes.taken().await.contains(&id));
    drop(groups);
    close(broker).await;
}

fn join_of(group: &GroupId) -> Join {
    Join {
        group: group.clone(),
        member_id: String::new(),
        group_instance_id: None,
        client_id: "c".to_owned(),
        client_host: "h".to_owned(),
        session_timeout_ms: 30_000,
        rebalance_timeout_ms: 30_000,
        protocol_type: "consumer".to_owned(),
        protocols: vec![("range".to_owned(), Bytes::new())],
        member_id_policy: MemberIdPolicy::AdmitUnknown,
        skip_assignment_support: SkipAssignmentSupport::Unsupported,
    }
}
