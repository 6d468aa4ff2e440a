//! Many live streams on which nothing but heartbeats is sent: what having them costs.
//!
//! Memory is the server's resident growth from before the streams were opened to after they had
//! settled, and again at the end of the window; CPU time is that of the window alone.

use std::time::{Duration, Instant};

use clap::Args;
use memchr::memmem;
use serde_json::json;

use super::BenchResult;
use super::compare::{delete_topic, topic_name};
use super::http_client::Target;
use super::load::positive;
use super::proc_stat::{self, Meter};
use super::report::{Measurement, Tally, Unit, rounded};
use super::sse_client::{self, OpenStream, Sources, StreamEnd};
use super::sse_request::{StreamRequest, StreamTransport};
use super::wire_client::WireClient;

/// Pause before memory is read: connections and allocators settle.
const SETTLE: Duration = Duration::from_secs(2);

/// Arguments of `bench idle-streams`.
#[derive(Debug, Clone, Args)]
pub(super) struct IdleStreamsArgs {
    /// A server of live streams.
    #[arg(long, value_name = "URL")]
    http: String,
    /// Processes of the server, to measure their CPU time and memory.
    #[arg(long, value_delimiter = ',', required = true)]
    pid: Vec<u32>,
    /// A broker to make the topic by; otherwise the topic must exist.
    #[arg(long, value_name = "HOST:PORT")]
    kafka: Option<String>,
    /// Topic; one that is made for the run is deleted after it [default: one for this run].
    #[arg(long, required_unless_present = "kafka")]
    topic: Option<String>,
    /// Streams to open.
    #[arg(long, default_value_t = 15_000)]
    streams: usize,
    /// How long to hold them, in seconds.
    #[arg(long, default_value = "60.0", value_parser = positive)]
    seconds: f64,
    /// Seconds between heartbeats of a stream, as the server reads `heartbeat` [default: as the
    /// server has it].
    #[arg(long)]
    heartbeat: Option<u32>,
    /// Addresses from 127.0.0.1 on that streams are opened from in turn.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=254))]
    source_addresses: u8,
    /// What streams ask for.
    #[command(flatten)]
    request: StreamRequest,
    /// Print one JSON object.
    #[arg(long)]
    pub(super) json: bool,
}

/// Holds the streams and measures the server.
pub(super) async fn measure(args: &IdleStreamsArgs) -> BenchResult<Measurement> {
    let topic = args.topic.clone().unwrap_or_else(|| topic_name("idle"));
    if let Some(kafka) = &args.kafka {
        WireClient::connect(kafka).await?.ensure_topic(&topic, 1).await?;
    }
    let measured = hold(args, &topic).await;
    if args.topic.is_none() {
        delete_topic(args.kafka.iter(), &topic).await;
    }
    measured
}

async fn hold(args: &IdleStreamsArgs, topic: &str) -> BenchResult<Measurement> {
    let target = Target::parse(&args.http)?;
    let mut request = args.request.clone();
    if let Some(seconds) = args.heartbeat {
        request = request.with_query(&format!("heartbeat={seconds}"));
    }
    let before = proc_stat::memory(&args.pid)?.rss_bytes;
    let begun = Instant::now();
    let sources = Sources { addresses: args.source_addresses };
    let encode = |nth| request.encode(&target, topic, nth);
    let opened = sse_client::open(&target, args.streams, sources, encode).await?;
    let open_seconds = begun.elapsed().as_secs_f64();
    tokio::time::sleep(SETTLE).await;
    let settled = proc_stat::memory(&args.pid)?.rss_bytes;
    let meter = Meter::start(&args.pid)?;
    let start = Instant::now();
    tokio::time::sleep(Duration::from_secs_f64(args.seconds)).await;
    let (seconds, cost) = (start.elapsed().as_secs_f64(), meter.finish()?);
    let transport = request.transport();
    let came = tokio::task::spawn_blocking(move || take_in(opened, transport)).await?;
    let after = cost.server.map_or(0, |server| server.memory.rss_bytes);
    let streams = args.streams.max(1) as f64;
    let per_stream = |rss: u64| json!((rss.saturating_sub(before) as f64 / streams).round());
    let cpu_seconds = cost.server.map_or(0.0, |server| server.cpu_seconds);
    let per_second = cpu_seconds * 1e6 / seconds / streams;
    let extras = vec![
        ("streams", json!(args.streams)),
        ("open_seconds", json!(rounded(open_seconds))),
        ("rss_bytes_before_streams", json!(before)),
        ("rss_bytes_idle_streams", json!(settled)),
        ("rss_bytes_per_stream", per_stream(settled)),
        ("rss_bytes_per_stream_at_end", per_stream(after)),
        ("cpu_us_per_stream_second", json!(rounded(per_second))),
        ("heartbeats", json!(came.heartbeats)),
        ("closed_streams", json!(came.closed)),
    ];
    let work = format!("{} idle streams{}", args.streams, request.describe());
    Ok(Measurement { work, unit: Unit::Event, seconds, tally: Tally::new()?, cost, extras })
}

/// What came to all streams while they were held.
#[derive(Debug, Default, PartialEq, Eq)]
struct Came {
    heartbeats: u64,
    closed: u64,
}

/// Reads what the sockets hold; that is little enough for their buffers.
fn take_in(opened: Vec<OpenStream>, transport: StreamTransport) -> Came {
    let mut came = Came::default();
    for stream in opened {
        let (bytes, end) = stream.read_what_came();
        came.heartbeats += heartbeats(&bytes, transport);
        came.closed += u64::from(end == StreamEnd::Closed);
    }
    came
}

fn heartbeats(bytes: &[u8], transport: StreamTransport) -> u64 {
    let mark: &[u8] = match transport {
        StreamTransport::Sse => b"event: ping\n",
        StreamTransport::Ndjson => b"{\"@\":\"ping\"",
    };
    memmem::find_iter(bytes, mark).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heartbeats_are_told_from_other_events() {
        let sse = b"event: ready\ndata: {}\n\nevent: ping\ndata: {}\n\nevent: ping\ndata: {}\n\n";
        assert_eq!(heartbeats(sse, StreamTransport::Sse), 2);
        let lines = b"{\"@\":\"ready\"}\n{\"@\":\"ping\",\"lag\":0}\n{\"value\":\"ping\"}\n";
        assert_eq!(heartbeats(lines, StreamTransport::Ndjson), 1);
    }
}
