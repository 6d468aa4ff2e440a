//! Live streams: opens many, publishes at a rate, and counts what each stream received.
//!
//! Memory per stream is the server's resident growth from before the streams were opened to when
//! all of them idle. Latency runs from just before an event was sent to when its bytes were read.

use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;

use super::BenchResult;
use super::http_client::{HttpConnection, Target};
use super::kafka_produce::Acks;
use super::load::{ByteSize, positive, whole};
use super::proc_stat::{self, Meter};
use super::report::{Measurement, Tally, Unit, rounded};
use super::sse_client::{self, OpenStream, Progress, Sources};
use super::sse_publish::{Published, Publisher, Schedule};
use super::sse_request::{Delivery, StreamRequest};
use super::wire_client::WireClient;

/// Pause before memory is read: connections and allocators settle.
const SETTLE: Duration = Duration::from_secs(1);

/// How long events may still come after the last was published.
const DRAIN_WAIT_MAX: Duration = Duration::from_secs(10);

/// How long nothing comes before a run whose events cannot be counted beforehand is over.
const SILENCE: Duration = Duration::from_secs(1);

/// Pause between two looks at what was delivered.
const DRAIN_POLL: Duration = Duration::from_millis(20);

/// Arguments of `bench sse`.
#[derive(Debug, Clone, Args)]
pub(super) struct SseArgs {
    /// A server of live streams.
    #[arg(long, value_name = "URL")]
    pub(super) http: String,
    /// Processes of the server, to measure their CPU time and memory.
    #[arg(long, value_delimiter = ',')]
    pub(super) pid: Vec<u32>,
    /// A broker to publish by, which also makes the topic; otherwise events are published by REST.
    #[arg(long, value_name = "HOST:PORT")]
    pub(super) kafka: Option<String>,
    /// Topic.
    #[arg(long, default_value = "bench-sse")]
    pub(super) topic: String,
    /// Partitions of a topic that is made.
    #[arg(long, default_value_t = 1)]
    pub(super) partitions: i32,
    /// What streams ask for.
    #[command(flatten)]
    pub(super) request: StreamRequest,
    /// Streams to open.
    #[arg(long, default_value_t = 1000)]
    pub(super) streams: usize,
    /// Events published a second.
    #[arg(long, default_value = "100.0", value_parser = positive)]
    pub(super) rate: f64,
    /// Bytes of an event.
    #[arg(long, default_value = "100")]
    pub(super) event_bytes: ByteSize,
    /// How long to publish.
    #[arg(long, default_value = "15.0", value_parser = positive)]
    pub(super) seconds: f64,
    /// Acknowledgements to publish with.
    #[arg(long, value_enum, default_value = "1")]
    pub(super) acks: Acks,
    /// Only open the streams and report memory.
    #[arg(long)]
    pub(super) idle: bool,
    /// Threads that read streams.
    #[arg(long, default_value_t = 1)]
    pub(super) client_threads: usize,
    /// Print one JSON object.
    #[arg(long)]
    pub(super) json: bool,
}

/// Runs the load against any server and measures it.
pub(super) async fn measure(args: &SseArgs) -> BenchResult<Measurement> {
    args.request.check(args.kafka.as_ref())?;
    let target = Target::parse(&args.http)?;
    let publisher = match &args.kafka {
        Some(kafka) => {
            let mut client = Box::new(WireClient::connect(kafka).await?);
            let topic = client.ensure_topic(&args.topic, args.partitions).await?;
            // A publisher needs answers to know that it is not ahead.
            let acks = if args.acks == Acks::None { Acks::Leader } else { args.acks };
            Publisher::Wire { client, topic, acks }
        }
        None => Publisher::Http {
            connection: HttpConnection::connect(&target).await?,
            path: format!("/topics/{}?acks={}", args.topic, args.acks.word()),
            target,
        },
    };
    measure_with(args, publisher).await
}

/// Runs the load with a publisher that is ready.
pub(super) async fn measure_with(
    args: &SseArgs,
    mut publisher: Publisher,
) -> BenchResult<Measurement> {
    let target = Target::parse(&args.http)?;
    publisher.touch().await?;
    let before = proc_stat::memory(&args.pid)?.rss_bytes;
    let begun = Instant::now();
    let request = |nth| args.request.encode(&target, &args.topic, nth);
    let opened = sse_client::open(&target, args.streams, Sources::ANY, request).await?;
    let open_seconds = begun.elapsed().as_secs_f64();
    tokio::time::sleep(SETTLE).await;
    let memory = proc_stat::memory(&args.pid)?;
    let mut extras =
        vec![("streams", json!(args.streams)), ("open_seconds", json!(rounded(open_seconds)))];
    if !args.pid.is_empty() {
        let growth = memory.rss_bytes.saturating_sub(before);
        let per_stream = growth as f64 / args.streams as f64;
        extras.push(("rss_bytes_before_streams", json!(before)));
        extras.push(("rss_bytes_idle_streams", json!(memory.rss_bytes)));
        extras.push(("rss_bytes_per_stream", json!(per_stream.round())));
    }
    let mut measurement = if args.idle {
        idle(args, &opened).await?
    } else {
        fan_out(args, opened, publisher).await?
    };
    measurement.extras.splice(0..0, extras);
    Ok(measurement)
}

/// Holds the streams for the time of the run, to see what only having them costs.
async fn idle(args: &SseArgs, opened: &[OpenStream]) -> BenchResult<Measurement> {
    let meter = Meter::start(&args.pid)?;
    let start = Instant::now();
    tokio::time::sleep(Duration::from_secs_f64(args.seconds)).await;
    let (seconds, cost) = (start.elapsed().as_secs_f64(), meter.finish()?);
    let work = format!("sse, {} idle streams", opened.len());
    let (unit, tally) = (Unit::Event, Tally::new()?);
    Ok(Measurement { work, unit, seconds, tally, cost, extras: Vec::new() })
}

async fn fan_out(
    args: &SseArgs,
    opened: Vec<OpenStream>,
    mut publisher: Publisher,
) -> BenchResult<Measurement> {
    let streams = opened.len() as u64;
    let events = whole((args.rate * args.seconds).ceil().max(1.0));
    let event_bytes = usize::try_from(args.event_bytes.0)?;
    let keys = if args.request.is_keyed() { streams } else { 0 };
    let schedule = Schedule { rate: args.rate, events, event_bytes, keys };
    let delivery = args.request.delivery();
    let progress = Arc::new(Progress::default());
    let readers =
        tokio::spawn(sse_client::read(opened, events, args.client_threads, Arc::clone(&progress)));
    let meter = Meter::start(&args.pid)?;
    let start = (Instant::now(), super::payload::now_ns());
    let published = publisher.run(schedule).await;
    if let Ok(published) = &published {
        drain(&progress, expected(delivery, published.events, streams)).await;
    }
    let cost = meter.finish()?;
    let last_event = progress.last_ns().saturating_sub(start.1);
    progress.stop.cancel();
    let received = readers.await??;
    let published = published?;
    let seconds = Duration::from_nanos(last_event).as_secs_f64().max(args.seconds);
    let expected = expected(delivery, published.events, streams);
    let lost = expected.map(|expected| expected.saturating_sub(received.tally.records));
    let to = if delivery == Delivery::Every { "to each" } else { "in all, each stream filters" };
    let (rate, bytes, asked) = (args.rate, args.event_bytes.0, args.request.describe());
    let work = format!("sse, {streams} streams, {rate} events/s of {bytes} B {to}{asked}");
    let extras = fan_out_extras(&published, lost, &received);
    let tally = received.tally;
    Ok(Measurement { work, unit: Unit::Event, seconds, tally, cost, extras })
}

fn fan_out_extras(
    published: &Published,
    lost: Option<u64>,
    received: &sse_client::Received,
) -> Vec<(&'static str, serde_json::Value)> {
    let late_ms = published.late_max.as_secs_f64() * 1e3;
    let mut extras = vec![("published", json!(published.events))];
    extras.extend(lost.map(|lost| ("lost", json!(lost))));
    extras.extend([
        ("duplicates", json!(received.duplicates)),
        ("closed_streams", json!(received.closed_streams)),
        ("publisher_late_ms_max", json!(rounded(late_ms))),
    ]);
    extras
}

/// Events that all streams together must receive, if that is known.
const fn expected(delivery: Delivery, events: u64, streams: u64) -> Option<u64> {
    match delivery {
        Delivery::Every => Some(events * streams),
        Delivery::One => Some(events),
        Delivery::Unknown => None,
    }
}

/// Waits until everything was delivered, or nothing more may come.
async fn drain(progress: &Progress, expected: Option<u64>) {
    let deadline = Instant::now() + DRAIN_WAIT_MAX;
    let (mut delivered, mut silent_since) = (progress.delivered(), Instant::now());
    while Instant::now() < deadline {
        match expected {
            Some(expected) if delivered >= expected => return,
            None if silent_since.elapsed() >= SILENCE => return,
            _ => tokio::time::sleep(DRAIN_POLL).await,
        }
        if progress.delivered() != delivered {
            (delivered, silent_since) = (progress.delivered(), Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_must_arrive_follows_from_the_delivery() {
        assert_eq!(expected(Delivery::Every, 10, 3), Some(30));
        assert_eq!(expected(Delivery::One, 10, 3), Some(10));
        assert_eq!(expected(Delivery::Unknown, 10, 3), None);
    }

    #[tokio::test]
    async fn a_run_that_has_all_it_expects_does_not_wait() {
        let begun = Instant::now();
        drain(&Progress::default(), Some(0)).await;
        assert!(begun.elapsed() < DRAIN_WAIT_MAX);
    }
}
