//! One stream that catches up: a topic is filled by the Kafka protocol and read from its first
//! record to its last, in batches.
//!
//! The reader is one thread on a blocking socket that only counts, so what is measured is the
//! server. `bytes` are those of the body as it was sent, `payload_bytes` those of the values.

use std::io::Read;
use std::iter;
use std::time::{Duration, Instant};

use clap::Args;
use memchr::memmem;
use serde_json::json;

use super::compare::{delete_topic, topic_name};
use super::fill::{FillArgs, fill};
use super::http_client::{ChunkDecoder, Framing, Target};
use super::payload::SENT_FIELD;
use super::proc_stat::Meter;
use super::report::{Measurement, Tally, Unit, rounded};
use super::sse_client::{self, OpenStream, Sources};
use super::sse_request::{StreamRequest, StreamTransport};
use super::{BenchError, BenchResult};

/// Bytes that one read takes at most.
const READ_BYTES: usize = 256 * 1024;

/// How long a stream may be silent before it is given up.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// Arguments of `bench ndjson`.
#[derive(Debug, Clone, Args)]
pub(super) struct NdjsonArgs {
    /// A server of live streams.
    #[arg(long, value_name = "URL")]
    http: String,
    /// Its Kafka door, to fill the topic by.
    #[arg(long, value_name = "HOST:PORT")]
    kafka: String,
    /// Processes of the server, to measure their CPU time and memory.
    #[arg(long, value_delimiter = ',')]
    pid: Vec<u32>,
    /// What the topic is filled with.
    #[command(flatten)]
    fill: FillArgs,
    /// Records of one batch of the stream, at most 1000; 1 for a line each.
    #[arg(long, default_value_t = 1000)]
    batch: u32,
    /// What the stream speaks.
    #[arg(long, value_enum, default_value = "ndjson")]
    transport: StreamTransport,
    /// More of the query, such as `data=value`.
    #[arg(long)]
    query: Option<String>,
    /// How often to read the topic.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    passes: u32,
    /// Keep the topic.
    #[arg(long)]
    keep_topic: bool,
    /// Print one JSON object.
    #[arg(long)]
    pub(super) json: bool,
}

/// Fills a topic of this run and reads it.
pub(super) async fn measure(args: &NdjsonArgs) -> BenchResult<Measurement> {
    let topic = topic_name("ndjson");
    let measured = fill_and_read(args, &topic).await;
    if !args.keep_topic {
        delete_topic(iter::once(&args.kafka), &topic).await;
    }
    measured
}

async fn fill_and_read(args: &NdjsonArgs, topic: &str) -> BenchResult<Measurement> {
    let begun = Instant::now();
    let filled = fill(&args.kafka, topic, &args.fill).await?;
    let fill_seconds = begun.elapsed().as_secs_f64();
    let target = Target::parse(&args.http)?;
    let request = StreamRequest::catch_up(args.transport, args.batch, args.query.clone());
    let meter = Meter::start(&args.pid)?;
    let start = Instant::now();
    let (mut tally, mut slowest) = (Tally::new()?, f64::INFINITY);
    for _ in 0..args.passes {
        let pass = Instant::now();
        let encode = |nth| request.encode(&target, topic, nth);
        let opened = sse_client::open(&target, 1, Sources::ANY, encode).await?;
        let stream = opened.into_iter().next().ok_or("no stream was opened")?;
        let counted = tokio::task::spawn_blocking(move || count(stream)).await??;
        slowest = slowest.min(counted.bytes as f64 / 1e6 / pass.elapsed().as_secs_f64());
        tally.bytes += counted.bytes;
        tally.records += counted.records;
        tally.requests += 1;
    }
    let (seconds, cost) = (start.elapsed().as_secs_f64(), meter.finish()?);
    tally.payload_bytes = tally.records * filled.payload_bytes / filled.records.max(1);
    let lost = (filled.records * u64::from(args.passes)).saturating_sub(tally.records);
    let work = format!(
        "catch-up, one stream, {} partitions, {} B records{}",
        args.fill.partitions,
        args.fill.record_bytes.0,
        request.describe(),
    );
    let extras = vec![
        ("passes", json!(args.passes)),
        ("mb_per_second_slowest_pass", json!(rounded(slowest))),
        ("lost", json!(lost)),
        ("fill_seconds", json!(rounded(fill_seconds))),
    ];
    Ok(Measurement { work, unit: Unit::Record, seconds, tally, cost, extras })
}

/// What one pass received.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counted {
    bytes: u64,
    records: u64,
}

/// Reads the stream until it ends.
fn count(stream: OpenStream) -> BenchResult<Counted> {
    let (mut socket, leftover, framing) = stream.into_parts();
    if framing != Framing::Chunked {
        return Err("the stream is not chunked: its end could not be told from a break".into());
    }
    socket.set_nonblocking(false)?;
    socket.set_read_timeout(Some(SILENCE_MAX))?;
    let (mut chunks, mut counter) = (ChunkDecoder::default(), Counter::default());
    chunks.feed(&leftover, |data| counter.feed(data))?;
    let mut buffer = vec![0; READ_BYTES];
    while !chunks.is_finished() {
        let taken = socket.read(&mut buffer)?;
        if taken == 0 {
            return Err(BenchError::from("the stream broke off"));
        }
        chunks.feed(buffer.get(..taken).unwrap_or_default(), |data| counter.feed(data))?;
    }
    Ok(counter.counted)
}

/// Counts records by a field that each has once, also where a read cuts it in two.
#[derive(Debug, Default)]
struct Counter {
    counted: Counted,
    /// The end of what came before, shorter than the field's name.
    tail: Vec<u8>,
}

impl Counter {
    fn feed(&mut self, data: &[u8]) {
        let field = SENT_FIELD.as_bytes();
        let overlap = field.len() - 1;
        self.counted.bytes += data.len() as u64;
        // First what begins in the tail, then what lies within the data.
        self.tail.extend_from_slice(data.get(..overlap.min(data.len())).unwrap_or_default());
        self.counted.records += memmem::find_iter(&self.tail, field).count() as u64;
        self.counted.records += memmem::find_iter(data, field).count() as u64;
        if data.len() >= overlap {
            self.tail.clear();
            self.tail.extend_from_slice(data.get(data.len() - overlap..).unwrap_or_default());
        } else {
            self.tail.drain(..self.tail.len().saturating_sub(overlap));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::payload::event_value;
    use super::*;

    #[test]
    fn records_are_counted_in_any_pieces() {
        let text: String = (0..5).map(|n| format!("[{}]\n", event_value(n, 100))).collect();
        for piece in 1..text.len() {
            let mut counter = Counter::default();
            for part in text.as_bytes().chunks(piece) {
                counter.feed(part);
            }
            let expected = Counted { bytes: text.len() as u64, records: 5 };
            assert_eq!(counter.counted, expected, "in pieces of {piece}");
        }
    }
}
