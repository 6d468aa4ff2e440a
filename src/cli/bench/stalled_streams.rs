//! Live streams whose clients read nothing: what a slow client costs.
//!
//! A topic is filled, streams are opened at its beginning, and nobody reads them. Once the server
//! has nothing left to do for them, its resident growth is what it holds of what they did not
//! take; the sockets' own buffers are the kernel's.

use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;

use super::BenchResult;
use super::compare::{delete_topic, topic_name};
use super::fill::{FillArgs, fill};
use super::http_client::Target;
use super::proc_stat::{self, Meter};
use super::report::{Measurement, Tally, Unit};
use super::sse_client::{self, Sources, StreamEnd};
use super::sse_request::{StreamRequest, StreamTransport};

/// How long the server is watched at a time.
const WATCH: Duration = Duration::from_millis(500);

/// CPU seconds in that time below which it does nothing for the streams.
const QUIET_CPU_SECONDS: f64 = 0.015;

/// Watches after which the server counts as busy for good.
const WATCHES_MAX: usize = 120;

/// Arguments of `bench stalled-streams`.
#[derive(Debug, Clone, Args)]
pub(super) struct StalledStreamsArgs {
    /// A server of live streams.
    #[arg(long, value_name = "URL")]
    http: String,
    /// Its Kafka door, to fill the topic by.
    #[arg(long, value_name = "HOST:PORT")]
    kafka: String,
    /// Processes of the server, to measure their CPU time and memory.
    #[arg(long, value_delimiter = ',', required = true)]
    pid: Vec<u32>,
    /// Streams to open.
    #[arg(long, default_value_t = 500)]
    streams: usize,
    /// What the topic is filled with.
    #[command(flatten)]
    fill: FillArgs,
    /// What the streams speak.
    #[arg(long, value_enum, default_value = "sse")]
    transport: StreamTransport,
    /// More of the query, such as `data=value`.
    #[arg(long)]
    query: Option<String>,
    /// Print one JSON object.
    #[arg(long)]
    pub(super) json: bool,
}

/// Fills a topic of this run, opens the streams and measures the server.
pub(super) async fn measure(args: &StalledStreamsArgs) -> BenchResult<Measurement> {
    let topic = topic_name("stalled");
    let measured = stall(args, &topic).await;
    delete_topic(std::iter::once(&args.kafka), &topic).await;
    measured
}

async fn stall(args: &StalledStreamsArgs, topic: &str) -> BenchResult<Measurement> {
    let filled = fill(&args.kafka, topic, &args.fill).await?;
    let target = Target::parse(&args.http)?;
    let request = StreamRequest::catch_up(args.transport, 1, args.query.clone());
    let before = proc_stat::memory(&args.pid)?.rss_bytes;
    let (meter, start) = (Meter::start(&args.pid)?, Instant::now());
    let encode = |nth| request.encode(&target, topic, nth);
    let opened = sse_client::open(&target, args.streams, Sources::ANY, encode).await?;
    quiet(&args.pid).await?;
    let after = proc_stat::memory(&args.pid)?.rss_bytes;
    let (seconds, cost) = (start.elapsed().as_secs_f64(), meter.finish()?);
    let closed = opened.iter().filter(|stream| stream.end() == StreamEnd::Closed).count();
    let streams = args.streams.max(1) as f64;
    let per_stream = after.saturating_sub(before) as f64 / streams;
    let extras = vec![
        ("streams", json!(args.streams)),
        ("payload_bytes_of_topic", json!(filled.payload_bytes)),
        ("rss_bytes_before_streams", json!(before)),
        ("rss_bytes_stalled_streams", json!(after)),
        ("rss_bytes_per_stream", json!(per_stream.round())),
        ("closed_streams", json!(closed)),
    ];
    let work = format!("{} stalled streams{}", args.streams, request.describe());
    Ok(Measurement { work, unit: Unit::Event, seconds, tally: Tally::new()?, cost, extras })
}

/// Waits until the server does next to nothing.
async fn quiet(pids: &[u32]) -> BenchResult<()> {
    for _ in 0..WATCHES_MAX {
        let meter = Meter::start(pids)?;
        tokio::time::sleep(WATCH).await;
        let cost = meter.finish()?;
        if cost.server.is_none_or(|server| server.cpu_seconds < QUIET_CPU_SECONDS) {
            return Ok(());
        }
    }
    let seconds = (WATCH * u32::try_from(WATCHES_MAX)?).as_secs();
    Err(format!("the server is busy after {seconds} s without a reader").into())
}
