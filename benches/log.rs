//! The log against its limits, in one run: append against a plain file append, sequential read
//! against `read(2)` from the page cache, recovery, and the durability of many small batches with
//! a sync per partition against one shared journal.
//!
//! `cargo bench --bench log` prints a table; ADR 0002 and 0003 keep one.
#![allow(missing_docs, clippy::expect_used, reason = "a benchmark fails by panicking")]
#![allow(clippy::disallowed_methods, clippy::print_stdout, reason = "it measures and prints")]

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use hydrant::base::ids::{TopicName, TopicPartition};
use hydrant::log::{Committer, LogConfig, Partition, ReadError, SYNC_THREADS, SavedPartition};
use hydrant::protocol::record_batch::{BatchBuilder, BatchHeader};

/// Bytes written per append measurement.
const APPEND_BYTES: usize = 512 * 1024 * 1024;

/// Rounds per measurement; the best of each side is compared, because neighbours only slow down.
const ROUNDS: usize = 3;

fn partition(dir: &Path, number: i32) -> Partition {
    let name = TopicPartition::new(TopicName::parse("bench").expect("a name"), number);
    let dir = dir.join(number.to_string());
    Partition::open(name, &dir, LogConfig::default(), SavedPartition::default(), 1).expect("opens")
}

/// A batch of about `bytes` bytes of incompressible records of 1 KiB.
fn batch(bytes: usize) -> Bytes {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut builder = BatchBuilder::with_capacity(bytes);
    let record = bytes.clamp(64, 1024) - 40;
    while builder.bytes() + record <= bytes.max(record + 100) {
        let value: Vec<u8> = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[0]
        })
        .take(record)
        .collect();
        builder.push(1, None, Some(&value), std::iter::empty());
    }
    builder.finish()
}

fn best(mut measure: impl FnMut() -> f64) -> f64 {
    (0..ROUNDS).map(|_| measure()).fold(0.0, f64::max)
}

fn mb_per_s(bytes: usize, started: Instant) -> f64 {
    bytes as f64 / 1e6 / started.elapsed().as_secs_f64()
}

fn append_round(bytes: usize) -> f64 {
    let dir = tempfile::tempdir().expect("a folder");
    let batch = batch(bytes);
    let header = BatchHeader::parse(&batch).expect("a batch");
    let partitions: Vec<_> = (0..4).map(|n| partition(dir.path(), n)).collect();
    let count = APPEND_BYTES / batch.len();
    let started = Instant::now();
    for n in 0..count {
        partitions[n % 4].append(&header, &batch, 1).expect("appends");
    }
    mb_per_s(count * batch.len(), started)
}

fn plain_append_round(bytes: usize) -> f64 {
    let dir = tempfile::tempdir().expect("a folder");
    let batch = batch(bytes);
    let open = |n: usize| {
        let path = dir.path().join(n.to_string());
        OpenOptions::new().create(true).append(true).open(path).expect("opens")
    };
    let mut files: Vec<File> = (0..4).map(open).collect();
    let count = APPEND_BYTES / batch.len();
    let started = Instant::now();
    for n in 0..count {
        files[n % 4].write_all(&batch).expect("writes");
    }
    mb_per_s(count * batch.len(), started)
}

fn append_table() {
    println!("append, 4 partitions, MB/s      log   plain file   ratio");
    for bytes in [1024, 16 * 1024, 128 * 1024, 1024 * 1024 - 4096] {
        let log = best(|| append_round(bytes));
        let plain = best(|| plain_append_round(bytes));
        println!("  {bytes:>7} B batches        {log:>9.0} {plain:>12.0} {:>7.2}", log / plain);
    }
}

fn filled(dir: &Path) -> Partition {
    let partition = partition(dir, 0);
    let batch = batch(64 * 1024);
    let header = BatchHeader::parse(&batch).expect("a batch");
    for _ in 0..(APPEND_BYTES / batch.len()) {
        partition.append(&header, &batch, 1).expect("appends");
    }
    partition
}

fn read_round(partition: &Partition, buffer: &mut [u8]) -> f64 {
    let started = Instant::now();
    let (mut offset, mut bytes) = (0, 0);
    loop {
        let slice = match partition.read(offset, buffer.len()) {
            Ok(Some(slice)) => slice,
            Ok(None) => break,
            Err(ReadError::IndexNotLoaded(segment)) => {
                segment.rebuild_index().expect("scans");
                continue;
            }
            Err(error) => panic!("{error}"),
        };
        let chunk = &mut buffer[..slice.len];
        slice.file.read_exact_at(chunk, slice.position).expect("reads");
        bytes += chunk.len();
        let mut at = 0;
        while at < chunk.len() {
            let header = BatchHeader::parse(&chunk[at..]).expect("a batch");
            at += header.total_bytes();
            offset = header.next_offset();
        }
    }
    mb_per_s(bytes, started)
}

fn plain_read_round(dir: &Path, buffer: &mut [u8]) -> f64 {
    let started = Instant::now();
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir.join("0")).expect("lists") {
        let mut file = File::open(entry.expect("lists").path()).expect("opens");
        loop {
            let read = file.read(buffer).expect("reads");
            if read == 0 {
                break;
            }
            bytes += read;
        }
    }
    mb_per_s(bytes, started)
}

fn read_table() {
    let dir = tempfile::tempdir().expect("a folder");
    let partition = filled(dir.path());
    let mut buffer = vec![0; 1024 * 1024];
    let log = best(|| read_round(&partition, &mut buffer));
    let plain = best(|| plain_read_round(dir.path(), &mut buffer));
    println!("sequential read, 1 MiB, MB/s    log      read(2)   ratio");
    println!("  64 KiB batches           {log:>9.0} {plain:>12.0} {:>7.2}", log / plain);
    drop(partition);
    let started = Instant::now();
    let reopened = self::partition(dir.path(), 0);
    let seconds = started.elapsed().as_secs_f64();
    let megabytes = reopened.size_bytes() as f64 / 1e6;
    println!("recovery without a checkpoint   {megabytes:.0} MB in {seconds:.2} s");
}

/// Small durable batches: every writer waits for its own before it sends the next.
async fn durable_round(threads: usize, partitions: i32, writers: usize, batches: usize) -> f64 {
    let dir = tempfile::tempdir().expect("a folder");
    let committer = Arc::new(Committer::start(threads).expect("starts"));
    let all: Vec<_> = (0..partitions).map(|n| Arc::new(partition(dir.path(), n))).collect();
    let small = batch(1024);
    let header = BatchHeader::parse(&small).expect("a batch");
    let started = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..writers {
        let partition = Arc::clone(&all[writer % all.len()]);
        let (committer, small) = (Arc::clone(&committer), small.clone());
        tasks.spawn(async move {
            for _ in 0..batches {
                let end = partition.append(&header, &small, 1).expect("appends").end_offset;
                partition.wait_durable(end, &committer).await.expect("syncs");
            }
        });
    }
    while tasks.join_next().await.is_some() {}
    let rate = (writers * batches) as f64 / started.elapsed().as_secs_f64();
    committer.stop();
    rate
}

/// The same work through one shared journal file behind one committer, then the segments without
/// a sync: what a journal in front of the segments would cost.
async fn journal_round(partitions: i32, writers: usize, batches: usize) -> f64 {
    let dir = tempfile::tempdir().expect("a folder");
    let journal = Arc::new(partition(dir.path(), partitions));
    let committer = Arc::new(Committer::start(SYNC_THREADS).expect("starts"));
    let all: Vec<_> = (0..partitions).map(|n| Arc::new(partition(dir.path(), n))).collect();
    let small = batch(1024);
    let header = BatchHeader::parse(&small).expect("a batch");
    let started = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..writers {
        let partition = Arc::clone(&all[writer % all.len()]);
        let (journal, committer, small) =
            (Arc::clone(&journal), Arc::clone(&committer), small.clone());
        tasks.spawn(async move {
            for _ in 0..batches {
                partition.append(&header, &small, 1).expect("appends");
                let end = journal.append(&header, &small, 1).expect("appends").end_offset;
                journal.wait_durable(end, &committer).await.expect("syncs");
            }
        });
    }
    while tasks.join_next().await.is_some() {}
    let rate = (writers * batches) as f64 / started.elapsed().as_secs_f64();
    committer.stop();
    rate
}

fn durability_table() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).build();
    let runtime = runtime.expect("a runtime");
    println!("durable 1 KiB batches/s    syncs per partition, by threads    shared journal");
    println!("                                  1       2       4       8");
    for (partitions, writers) in [(1, 1), (1, 16), (4, 16), (1, 64), (100, 64), (1000, 256)] {
        let batches = 20_000 / writers;
        print!("  {partitions:>4} partitions, {writers:>3} writers");
        for threads in [1, 2, 4, 8] {
            let rate = runtime.block_on(durable_round(threads, partitions, writers, batches));
            print!(" {rate:>7.0}");
        }
        let journal = runtime.block_on(journal_round(partitions, writers, batches));
        println!(" {journal:>17.0}");
    }
}

fn main() {
    append_table();
    read_table();
    durability_table();
}
