//! The record batch: building, checking, reading, and murmur2.
#![allow(missing_docs, clippy::expect_used, reason = "a benchmark fails by panicking")]
#![allow(clippy::disallowed_methods, clippy::print_stdout, reason = "it measures and prints")]

use bytes::Bytes;
use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use hydrant::protocol::murmur2::murmur2;
use hydrant::protocol::record_batch::validate::{KeyRule, validate_client_batch};
use hydrant::protocol::record_batch::{BatchBuilder, BatchHeader, BatchRecords};

fn main() {
    divan::main();
}

fn build(record_bytes: usize) -> Bytes {
    let value = vec![7; record_bytes];
    let mut builder = BatchBuilder::with_capacity(64 * 1024);
    while builder.bytes() < 64 * 1024 {
        builder.push(1, Some(b"key"), Some(&value), std::iter::empty());
    }
    builder.finish()
}

#[divan::bench(args = [100, 1024])]
fn build_64_kib(bencher: Bencher<'_, '_>, record_bytes: usize) {
    bencher.counter(BytesCount::new(64_u64 * 1024)).bench(|| build(black_box(record_bytes)));
}

#[divan::bench(args = [100, 1024])]
fn validate_64_kib(bencher: Bencher<'_, '_>, record_bytes: usize) {
    let batch = build(record_bytes);
    bencher
        .counter(BytesCount::new(batch.len()))
        .bench(|| validate_client_batch(black_box(&batch), KeyRule::Optional));
}

#[divan::bench(args = [100, 1024])]
fn read_64_kib(bencher: Bencher<'_, '_>, record_bytes: usize) {
    let batch = build(record_bytes);
    let header = BatchHeader::parse(&batch).expect("a batch");
    bencher.counter(BytesCount::new(batch.len())).bench(|| {
        let records = BatchRecords::open(header, black_box(&batch)).expect("records");
        records.iter().map(|record| record.map_or(0, |r| r.offset)).sum::<i64>()
    });
}

#[divan::bench(args = [16, 256])]
fn murmur2_of(bencher: Bencher<'_, '_>, bytes: usize) {
    let key = vec![9; bytes];
    bencher.counter(BytesCount::new(bytes)).bench(|| murmur2(black_box(&key)));
}
