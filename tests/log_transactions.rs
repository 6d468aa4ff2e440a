//! Transactions in the log of one partition: what readers of committed records see, and that it
//! holds after reopening, with and without a checkpoint.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use hydrant::base::ids::{Offset, TopicName, TopicPartition};
use hydrant::log::compaction::Trigger;
use hydrant::log::{AbortedTransaction, LogConfig, Partition, SavedPartition};
use hydrant::protocol::record_batch::control::Marker;
use hydrant::protocol::record_batch::{BatchBuilder, BatchHeader, BatchRecords, ProducerStamp};

fn open(dir: &Path, saved: SavedPartition) -> Partition {
    let name = TopicPartition::new(TopicName::parse("t").unwrap(), 0);
    let config = LogConfig { compacts: true, ..LogConfig::default() };
    Partition::open(name, dir, config, saved, 1).unwrap()
}

fn append(partition: &Partition, batch: &Bytes) -> Offset {
    let header = BatchHeader::parse(batch).unwrap();
    partition.append(&header, batch, 1).unwrap().base_offset
}

fn plain(partition: &Partition, key: &str) -> Offset {
    let mut builder = BatchBuilder::new();
    builder.push(1, Some(key.as_bytes()), Some(b"plain"), std::iter::empty());
    append(partition, &builder.finish())
}

fn write(partition: &Partition, producer_id: i64, sequence: i32, key: &str) -> Offset {
    let stamp = ProducerStamp { id: producer_id, epoch: 0, base_sequence: sequence };
    let mut builder = BatchBuilder::new().for_producer(stamp).as_transactional();
    builder.push(1, Some(key.as_bytes()), Some(b"in a transaction"), std::iter::empty());
    append(partition, &builder.finish())
}

fn end(partition: &Partition, producer_id: i64, marker: Marker) -> Offset {
    append(partition, &marker.batch(producer_id, 0, 1))
}

/// Keys that a reader of committed records sees, with their offsets.
fn committed(partition: &Partition) -> BTreeMap<Offset, String> {
    let (mut found, mut offset) = (BTreeMap::new(), partition.log_start_offset());
    let until = partition.last_stable_offset();
    while let Some(slice) = partition.read_before(until, offset, 200).unwrap() {
        let aborted = partition.aborted_between(offset, until);
        let mut rest = slice.read().unwrap();
        assert!(!rest.is_empty());
        while !rest.is_empty() {
            let header = BatchHeader::parse(&rest).unwrap();
            let one = rest.split_to(header.total_bytes());
            offset = header.next_offset();
            assert!(header.next_offset() <= until);
            if header.is_control() || aborted.iter().any(|aborted| aborted.covers(&header)) {
                continue;
            }
            for record in &BatchRecords::open(header, &one).unwrap() {
                let record = record.unwrap();
                let key = String::from_utf8(record.key.unwrap().to_vec()).unwrap();
                found.insert(record.offset, key);
            }
        }
    }
    found
}

fn keys(partition: &Partition) -> Vec<String> {
    committed(partition).into_values().collect()
}

#[test]
fn nothing_behind_an_open_transaction_is_stable() {
    let dir = tempfile::tempdir().unwrap();
    let partition = open(dir.path(), SavedPartition::default());
    plain(&partition, "a");
    assert_eq!(write(&partition, 1, 0, "b"), 1);
    plain(&partition, "c");
    assert_eq!((partition.last_stable_offset(), partition.high_watermark()), (1, 3));
    assert_eq!(keys(&partition), ["a"]);
    assert!(partition.is_in_transaction(1) && !partition.is_in_transaction(2));
    end(&partition, 1, Marker::Commit);
    assert_eq!(partition.last_stable_offset(), 4);
    assert_eq!(keys(&partition), ["a", "b", "c"]);
    assert_eq!(partition.open_transactions(), []);
}

#[test]
fn aborted_records_are_never_seen_and_interleaved_ones_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let partition = open(dir.path(), SavedPartition::default());
    write(&partition, 1, 0, "gone");
    write(&partition, 2, 0, "kept");
    write(&partition, 1, 1, "gone too");
    end(&partition, 2, Marker::Commit);
    assert_eq!(keys(&partition), [""; 0], "the older transaction is still open");
    end(&partition, 1, Marker::Abort);
    // The same producer goes on: this one counts.
    write(&partition, 1, 2, "again");
    end(&partition, 1, Marker::Commit);
    assert_eq!(keys(&partition), ["kept", "again"]);
    let aborted = AbortedTransaction { producer_id: 1, first_offset: 0, last_offset: 4 };
    assert_eq!(partition.aborted_between(0, 100), [aborted]);
}

#[test]
fn a_reopened_partition_knows_its_transactions() {
    let dir = tempfile::tempdir().unwrap();
    let before = open(dir.path(), SavedPartition::default());
    write(&before, 1, 0, "gone");
    end(&before, 1, Marker::Abort);
    write(&before, 2, 0, "open");
    let checkpoint = before.checkpoint().unwrap().unwrap();
    plain(&before, "behind");
    drop(before);
    let saved = SavedPartition {
        segments: checkpoint.segments.iter().map(|row| (row.base_offset, *row)).collect(),
        producers: checkpoint.producers,
        ..SavedPartition::default()
    };
    for saved in [SavedPartition::default(), saved] {
        let after = open(dir.path(), saved);
        assert_eq!((after.last_stable_offset(), after.high_watermark()), (2, 4));
        let open = after.open_transactions();
        assert_eq!(
            open.iter().map(|o| (o.producer_id, o.first_offset)).collect::<Vec<_>>(),
            [(2, 2)]
        );
        assert_eq!(after.aborted_between(0, 100).len(), 1);
        assert_eq!(keys(&after), [""; 0]);
    }
}

#[test]
fn compaction_stops_at_the_last_stable_offset_and_drops_what_was_aborted() {
    let dir = tempfile::tempdir().unwrap();
    let partition = open(dir.path(), SavedPartition::default());
    plain(&partition, "k");
    write(&partition, 1, 0, "k");
    end(&partition, 1, Marker::Abort);
    partition.roll_active().unwrap();
    plain(&partition, "other");
    plain(&partition, "other");
    write(&partition, 2, 0, "open");
    partition.roll_active().unwrap();
    let (end_offset, done) = partition.compact(0, Trigger::Always, 1).unwrap().unwrap();
    assert_eq!(end_offset, 3, "the second segment has an open transaction");
    assert!(done.bytes_after < done.bytes_before, "{done:?}");
    assert_eq!(
        committed(&partition),
        [(0, "k"), (3, "other"), (4, "other")].map(|(o, k)| (o, k.to_owned())).into()
    );
    end(&partition, 2, Marker::Commit);
    partition.roll_active().unwrap();
    partition.compact(3, Trigger::Always, 1).unwrap().unwrap();
    assert_eq!(keys(&partition), ["k", "other", "open"]);
}
