//! The log of one partition: what is appended comes back, whatever happens to the files between.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use hydrant::base::ids::{Offset, TopicId, TopicName, TopicPartition};
use hydrant::log::compaction::Trigger;
use hydrant::log::journal::{JournalContents, JournalKey};
use hydrant::log::{
    AppendError, Committer, Durability, LogConfig, Partition, Promise, ReadError, RecoveryError,
    SYNC_THREADS, SavedPartition,
};
use hydrant::protocol::record_batch::{BatchBuilder, BatchHeader, BatchRecords, ProducerStamp};

fn open(dir: &Path, config: LogConfig) -> Result<Partition, RecoveryError> {
    let name = TopicPartition::new(TopicName::parse("t").unwrap(), 0);
    Partition::open(name, dir, config, SavedPartition::default(), 1)
}

fn small_segments() -> LogConfig {
    LogConfig { segment_bytes: 2000, ..LogConfig::default() }
}

fn batch(values: &[&str], timestamp: i64) -> Bytes {
    let mut builder = BatchBuilder::new();
    for value in values {
        builder.push(timestamp, Some(value.as_bytes()), Some(value.as_bytes()), std::iter::empty());
    }
    builder.finish()
}

fn append(partition: &Partition, bytes: &Bytes) -> Result<Offset, AppendError> {
    let header = BatchHeader::parse(bytes).unwrap();
    partition.append(&header, bytes, 1).map(|appended| appended.base_offset)
}

/// Reads everything from `from` as (offset, value).
fn read_all(partition: &Partition, from: Offset) -> Vec<(Offset, String)> {
    let mut found = Vec::new();
    let mut offset = from;
    loop {
        let slice = match partition.read(offset, 300) {
            Ok(Some(slice)) => slice,
            Ok(None) => return found,
            Err(ReadError::IndexNotLoaded(segment)) => {
                segment.rebuild_index().unwrap();
                continue;
            }
            Err(error) => panic!("{error}"),
        };
        let mut rest = slice.read().unwrap();
        assert!(!rest.is_empty());
        while !rest.is_empty() {
            let header = BatchHeader::parse(&rest).unwrap();
            let one = rest.split_to(header.total_bytes());
            for record in &BatchRecords::open(header, &one).unwrap() {
                let record = record.unwrap();
                if record.offset >= offset {
                    let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
                    found.push((record.offset, value));
                }
            }
            offset = header.next_offset();
        }
    }
}

fn expected(count: i64) -> Vec<(Offset, String)> {
    (0..count).map(|n| (n, format!("v{n}"))).collect()
}

fn fill(partition: &Partition, count: i64) {
    for n in (0..count).step_by(2) {
        let (a, b) = (format!("v{n}"), format!("v{}", n + 1));
        assert_eq!(append(partition, &batch(&[&a, &b], n * 10)).unwrap(), n);
    }
}

fn last_segment(dir: &Path) -> std::path::PathBuf {
    let mut files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    files.pop().unwrap()
}

#[test]
fn records_come_back_across_segments_and_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let partition = open(dir.path(), small_segments()).unwrap();
    fill(&partition, 200);
    assert!(partition.segment_count() > 3);
    assert_eq!(read_all(&partition, 0), expected(200));
    assert_eq!(read_all(&partition, 101)[0], (101, "v101".to_owned()), "inside a batch");
    drop(partition);
    let partition = open(dir.path(), small_segments()).unwrap();
    assert_eq!(partition.high_watermark(), 200);
    assert_eq!(read_all(&partition, 0), expected(200));
    fill_one_more(&partition);
}

fn fill_one_more(partition: &Partition) {
    let end = partition.high_watermark();
    assert_eq!(append(partition, &batch(&["more"], 1)).unwrap(), end);
}

#[test]
fn offsets_outside_the_log_are_refused_and_its_end_is_empty() {
    let dir = tempfile::tempdir().unwrap();
    let partition = open(dir.path(), LogConfig::default()).unwrap();
    fill(&partition, 4);
    assert!(partition.read(4, 100).unwrap().is_none());
    for offset in [-1, 5] {
        let refused = partition.read(offset, 100);
        assert!(matches!(refused, Err(ReadError::OutOfRange { start: 0, end: 4, .. })));
    }
}

#[test]
fn a_tail_cut_at_any_byte_is_dropped_whole_and_the_rest_survives() {
    let whole = {
        let dir = tempfile::tempdir().unwrap();
        fill(&open(dir.path(), LogConfig::default()).unwrap(), 6);
        std::fs::read(last_segment(dir.path())).unwrap()
    };
    let third = whole.len() / 3;
    for cut in (third * 2)..whole.len() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("00000000000000000000.log"), &whole[..cut]).unwrap();
        let partition = open(dir.path(), LogConfig::default()).unwrap();
        assert_eq!(partition.high_watermark(), 4, "cut at {cut}");
        assert_eq!(read_all(&partition, 0), expected(4));
        fill_one_more(&partition);
    }
}

#[test]
fn a_flipped_bit_in_the_tail_is_never_served() {
    let dir = tempfile::tempdir().unwrap();
    fill(&open(dir.path(), LogConfig::default()).unwrap(), 6);
    let path = last_segment(dir.path());
    let whole = std::fs::read(&path).unwrap();
    for at in (whole.len() / 3 * 2 + 16)..whole.len() {
        let mut broken = whole.clone();
        broken[at] ^= 0x10;
        std::fs::write(&path, &broken).unwrap();
        let partition = open(dir.path(), LogConfig::default()).unwrap();
        assert_eq!(read_all(&partition, 0), expected(4), "flipped at {at}");
        drop(partition);
        std::fs::write(&path, &whole).unwrap();
    }
}

#[test]
fn damage_in_a_closed_segment_is_an_error_and_nothing_is_cut() {
    let dir = tempfile::tempdir().unwrap();
    fill(&open(dir.path(), small_segments()).unwrap(), 200);
    let first = dir.path().join("00000000000000000000.log");
    let len = std::fs::metadata(&first).unwrap().len();
    let file = OpenOptions::new().write(true).open(&first).unwrap();
    file.write_all_at(&[0xff], 70).unwrap();
    let refused = open(dir.path(), small_segments());
    assert!(matches!(refused, Err(RecoveryError::Damaged { position: 0, .. })));
    assert_eq!(std::fs::metadata(&first).unwrap().len(), len);
}

#[test]
fn garbage_behind_the_end_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    fill(&open(dir.path(), LogConfig::default()).unwrap(), 4);
    let path = last_segment(dir.path());
    let mut bytes = std::fs::read(&path).unwrap();
    let len = bytes.len();
    bytes.extend(std::iter::repeat_n(0, 5000));
    std::fs::write(&path, &bytes).unwrap();
    let partition = open(dir.path(), LogConfig::default()).unwrap();
    assert_eq!(read_all(&partition, 0), expected(4));
    assert_eq!(std::fs::metadata(&path).unwrap().len(), len as u64);
}

#[test]
fn a_checkpoint_makes_the_next_start_read_only_what_follows_it() {
    let dir = tempfile::tempdir().unwrap();
    let partition = open(dir.path(), small_segments()).unwrap();
    fill(&partition, 100);
    let checkpoint = partition.checkpoint().unwrap().unwrap();
    assert!(partition.checkpoint().unwrap().is_none(), "nothing changed since");
    let mut saved = SavedPartition::default();
    for row in &checkpoint.segments {
        saved.segments.insert(row.base_offset, *row);
    }
    append(&partition, &batch(&["v100"], 1)).unwrap();
    drop(partition);
    // Damage in a closed segment would be found by a scan: a trusted row does not scan.
    let first = dir.path().join("00000000000000000000.log");
    let file = OpenOptions::new().write(true).open(&first).unwrap();
    file.write_all_at(&[0xff], 70).unwrap();
    let name = TopicPartition::new(TopicName::parse("t").unwrap(), 0);
    let partition = Partition::open(name, dir.path(), small_segments(), saved, 1).unwrap();
    assert_eq!(partition.high_watermark(), 101);
}

#[test]
fn a_closed_segment_torn_behind_the_checkpoint_is_cut_and_later_ones_put_aside() {
    let dir = tempfile::tempdir().unwrap();
    let partition = open(dir.path(), small_segments()).unwrap();
    fill(&partition, 50);
    let checkpoint = partition.checkpoint().unwrap().unwrap();
    let mut saved = SavedPartition::default();
    for row in &checkpoint.segments {
        saved.segments.insert(row.base_offset, *row);
    }
    for n in (50..200).step_by(2) {
        let (a, b) = (format!("v{n}"), format!("v{}", n + 1));
        append(&partition, &batch(&[&a, &b], n * 10)).unwrap();
    }
    drop(partition);
    let torn = checkpoint.segments.last().unwrap();
    let path = dir.path().join(format!("{:020}.log", torn.base_offset));
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(u64::from(torn.position) + 100).unwrap();
    let name = TopicPartition::new(TopicName::parse("t").unwrap(), 0);
    let partition = Partition::open(name, dir.path(), small_segments(), saved, 1).unwrap();
    let end = partition.high_watermark();
    assert!((50..100).contains(&end), "cut behind the checkpoint, at {end}");
    assert_eq!(read_all(&partition, 0), expected(end));
    fill_one_more(&partition);
}

#[test]
fn batches_that_the_segments_lost_come_back_from_the_journal_once() {
    let dir = tempfile::tempdir().unwrap();
    let journal_dir = dir.path().join("journal");
    let log_dir = dir.path().join("log");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let key = JournalKey { topic: TopicId::from_u128(1), partition: 0 };
    {
        let partition = Arc::new(open(&log_dir, LogConfig::default()).unwrap());
        let contents = JournalContents::read(&journal_dir).unwrap();
        let durability = Durability::start(&journal_dir, &contents).unwrap();
        for n in 0..10 {
            let bytes = batch(&[&format!("v{n}")], 1);
            let header = BatchHeader::parse(&bytes).unwrap();
            let appended = partition.append(&header, &bytes, 1).unwrap();
            // Batch 5 was not asked to be durable.
            if n != 5 {
                let promise = durability.promise(key, &partition, &appended, &header, &bytes);
                assert!(matches!(promise, Promise::Journal(_)));
                runtime.block_on(durability.wait(promise)).unwrap();
            }
        }
        durability.stop();
    }
    // Loss of power: the segment has lost everything from batch 3 on.
    let path = last_segment(&log_dir);
    let len = std::fs::metadata(&path).unwrap().len();
    OpenOptions::new().write(true).open(&path).unwrap().set_len(len / 10 * 3).unwrap();
    for _ in 0..2 {
        let partition = open(&log_dir, LogConfig::default()).unwrap();
        let mut contents = JournalContents::read(&journal_dir).unwrap();
        partition.restore(&contents.take(key), 1).unwrap();
        let mut survivors = expected(10);
        survivors.remove(5);
        assert_eq!(read_all(&partition, 0), survivors);
        assert_eq!(partition.high_watermark(), 10);
    }
}

#[test]
fn producer_state_is_rebuilt_from_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let send = |partition: &Partition, base_sequence| {
        let stamp = ProducerStamp { id: 9, epoch: 0, base_sequence };
        let mut builder = BatchBuilder::new().for_producer(stamp);
        builder.push(1, None, Some(b"x"), std::iter::empty());
        append(partition, &builder.finish())
    };
    let partition = open(dir.path(), LogConfig::default()).unwrap();
    assert_eq!(send(&partition, 0).unwrap(), 0);
    assert_eq!(send(&partition, 1).unwrap(), 1);
    drop(partition);
    let partition = open(dir.path(), LogConfig::default()).unwrap();
    assert_eq!(send(&partition, 1).unwrap(), 1, "a repeat gets its old offset");
    assert_eq!(partition.high_watermark(), 2);
    assert!(matches!(send(&partition, 3), Err(AppendError::Sequence(_))));
    assert_eq!(send(&partition, 2).unwrap(), 2);
}

#[test]
fn timestamps_find_the_first_record_that_is_not_older() {
    let dir = tempfile::tempdir().unwrap();
    let partition = open(dir.path(), small_segments()).unwrap();
    fill(&partition, 200);
    for (at, offset) in [(0, 0), (1, 2), (10, 2), (500, 50), (1980, 198)] {
        assert_eq!(partition.find_timestamp(at).unwrap().unwrap().offset, offset, "at {at}");
    }
    assert!(partition.find_timestamp(1981).unwrap().is_none());
    assert_eq!(partition.find_max_timestamp().unwrap().unwrap().offset, 198);
}

#[test]
fn retention_deletes_whole_old_segments_and_moves_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let config = LogConfig { retention_ms: Some(1000), ..small_segments() };
    let partition = open(dir.path(), config.clone()).unwrap();
    fill(&partition, 200);
    let deleted = partition.apply_retention(2500).unwrap();
    let start = partition.log_start_offset();
    assert!(deleted > 0 && start > 0 && start <= 150, "{deleted} segments, start {start}");
    assert_eq!(read_all(&partition, start), expected(200)[usize::try_from(start).unwrap()..]);
    assert!(matches!(partition.read(0, 100), Err(ReadError::OutOfRange { .. })));
    partition.apply_retention(1_000_000).unwrap();
    assert_eq!((partition.log_start_offset(), partition.high_watermark()), (200, 200));
    drop(partition);
    let partition = open(dir.path(), config).unwrap();
    assert_eq!((partition.log_start_offset(), partition.high_watermark()), (200, 200));
    fill_one_more(&partition);
}

#[test]
fn deleted_records_cannot_be_read_and_whole_segments_before_the_start_go() {
    let dir = tempfile::tempdir().unwrap();
    let partition = open(dir.path(), small_segments()).unwrap();
    fill(&partition, 200);
    let segments = partition.segment_count();
    // Inside a batch: its other record stays in the file, and cannot be asked for.
    assert_eq!(partition.delete_before(101).unwrap(), 101);
    assert!(partition.segment_count() < segments);
    assert!(matches!(partition.read(100, 100), Err(ReadError::OutOfRange { start: 101, .. })));
    assert_eq!(read_all(&partition, 101), expected(200)[101..]);
    assert_eq!(partition.find_timestamp(0).unwrap().unwrap().offset, 101);
    assert_eq!(partition.delete_before(50).unwrap(), 101, "it never moves back");
    drop(partition);
    let saved = SavedPartition { log_start_offset: 101, ..SavedPartition::default() };
    let name = TopicPartition::new(TopicName::parse("t").unwrap(), 0);
    let partition = Partition::open(name, dir.path(), small_segments(), saved, 1).unwrap();
    assert_eq!(partition.log_start_offset(), 101);
    assert_eq!(partition.delete_before(1_000_000).unwrap(), 200, "up to the high watermark");
    assert_eq!((partition.segment_count(), partition.size_bytes()), (1, 0));
    fill_one_more(&partition);
    assert_eq!(read_all(&partition, 200), [(200, "more".to_owned())]);
}

#[test]
fn the_largest_timestamp_is_that_of_a_record_that_can_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let partition = open(dir.path(), LogConfig::default()).unwrap();
    for (value, timestamp) in [("a", 900), ("b", 20), ("c", 700), ("d", 30)] {
        append(&partition, &batch(&[value], timestamp)).unwrap();
    }
    let largest = |partition: &Partition| partition.find_max_timestamp().unwrap().unwrap().offset;
    assert_eq!(largest(&partition), 0);
    partition.delete_before(1).unwrap();
    assert_eq!(largest(&partition), 2);
    partition.delete_before(3).unwrap();
    assert_eq!(largest(&partition), 3);
    partition.roll_active().unwrap();
    append(&partition, &batch(&["e"], 500)).unwrap();
    assert_eq!(largest(&partition), 4);
}

#[test]
fn retention_by_size_keeps_the_newest_segments() {
    let dir = tempfile::tempdir().unwrap();
    let config = LogConfig { retention_ms: None, retention_bytes: Some(5000), ..small_segments() };
    let partition = open(dir.path(), config).unwrap();
    fill(&partition, 200);
    partition.apply_retention(1).unwrap();
    assert!(partition.size_bytes() >= 5000 && partition.size_bytes() < 7100);
    assert_eq!(partition.high_watermark(), 200);
}

#[test]
fn compaction_keeps_the_last_record_of_each_key_at_its_offset() {
    let dir = tempfile::tempdir().unwrap();
    let config = LogConfig { compacts: true, deletes: false, ..small_segments() };
    let partition = open(dir.path(), config.clone()).unwrap();
    for n in 0..300 {
        append(&partition, &batch(&[&format!("k{}", n % 7)], 1_000_000)).unwrap();
    }
    let before = partition.size_bytes();
    let (end, done) = partition.compact(0, Trigger::WhenDirty, 1_000_000).unwrap().unwrap();
    assert!(done.bytes_after < done.bytes_before / 10 && partition.size_bytes() < before);
    let view = |partition: &Partition| {
        let all = read_all(partition, 0).into_iter();
        all.map(|(offset, value)| (value, offset)).collect::<std::collections::BTreeMap<_, _>>()
    };
    let newest = view(&partition);
    assert_eq!(newest.len(), 7);
    assert_eq!(newest.values().max(), Some(&299));
    assert!(partition.compact(end, Trigger::WhenDirty, 1).unwrap().is_none(), "nothing is dirty");
    drop(partition);
    let partition = open(dir.path(), config).unwrap();
    assert_eq!(view(&partition), newest);
    assert_eq!(append(&partition, &batch(&["k0"], 1)).unwrap(), 300);
}

/// Reads to the end again and again until `done`; returns where it ended.
fn follow(partition: &Partition, done: impl Fn() -> bool) -> Offset {
    let mut next = 0;
    while !done() || next < partition.high_watermark() {
        match partition.read(next, 10_000) {
            Ok(Some(slice)) => {
                let mut rest = slice.read().unwrap();
                while !rest.is_empty() {
                    let header = BatchHeader::parse(&rest).unwrap();
                    next = header.next_offset();
                    let _one = rest.split_to(header.total_bytes());
                }
            }
            Ok(None) => {}
            Err(ReadError::IndexNotLoaded(segment)) => segment.rebuild_index().unwrap(),
            Err(error) => panic!("{error}"),
        }
    }
    next
}

#[test]
fn whoever_reads_a_batch_may_ask_for_the_offset_behind_it() {
    let dir = tempfile::tempdir().unwrap();
    let partition = open(dir.path(), LogConfig::default()).unwrap();
    let finished = std::sync::atomic::AtomicBool::new(false);
    let done = || finished.load(std::sync::atomic::Ordering::Acquire);
    std::thread::scope(|threads| {
        // More readers than cores: the writer is stopped between any two of its steps.
        let readers: Vec<_> = (0..4).map(|_| threads.spawn(|| follow(&partition, done))).collect();
        fill(&partition, 60_000);
        finished.store(true, std::sync::atomic::Ordering::Release);
        for reader in readers {
            assert_eq!(reader.join().unwrap(), 60_000);
        }
    });
}

#[tokio::test]
async fn many_waiters_share_syncs_and_all_are_answered() {
    let dir = tempfile::tempdir().unwrap();
    let partition = Arc::new(open(dir.path(), small_segments()).unwrap());
    let committer = Arc::new(Committer::start(SYNC_THREADS).unwrap());
    let mut waiters = tokio::task::JoinSet::new();
    for n in 0..200 {
        let end = append(&partition, &batch(&[&format!("v{n}")], 1)).unwrap() + 1;
        let (partition, committer) = (Arc::clone(&partition), Arc::clone(&committer));
        waiters.spawn(async move { partition.wait_durable(end, &committer).await });
    }
    while let Some(waited) = waiters.join_next().await {
        waited.unwrap().unwrap();
    }
    assert_eq!(partition.durable_end(), 200);
    committer.stop();
}
