//! Measures the bare servers, each started as a child process so that its CPU time is its own.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use clap::{Args, Subcommand, ValueEnum};

use super::BenchResult;
use super::http_client::{HttpConnection, Target};
use super::http_produce::{self, Contract, HttpProduceArgs};
use super::kafka_produce::Acks;
use super::limit_server::{Bare, LISTENING};
use super::load::{ByteSize, not_negative, positive};
use super::payload::Format;
use super::report::Measurement;
use super::sse::{self, SseArgs};
use super::sse_publish::Publisher;
use super::sse_request::StreamRequest;

/// Arguments of `bench limit`.
#[derive(Debug, Args)]
pub(super) struct LimitArgs {
    #[command(subcommand)]
    kind: LimitKind,
}

#[derive(Debug, Subcommand)]
enum LimitKind {
    /// A bare handler that parses a produce request.
    Http(LimitHttpArgs),
    /// A bare handler that answers the body it is sent.
    Echo(LimitHttpArgs),
    /// A bare broadcast of one encoded frame.
    Sse(LimitSseArgs),
}

/// Arguments of `bench limit http` and `bench limit echo`.
#[derive(Debug, Clone, Args)]
pub(super) struct LimitHttpArgs {
    /// Records of a request.
    #[arg(long, default_value_t = 1)]
    pub(super) records_per_request: usize,
    /// Connections, with one request in flight each.
    #[arg(long, default_value_t = 16)]
    pub(super) connections: usize,
    /// How long to send.
    #[arg(long, default_value = "10.0", value_parser = positive)]
    pub(super) seconds: f64,
    /// How long to send before the measured part.
    #[arg(long, default_value = "0.0", value_parser = not_negative)]
    pub(super) warmup_seconds: f64,
    /// Threads of the client.
    #[arg(long, default_value_t = 1)]
    pub(super) client_threads: usize,
    /// Print one JSON object.
    #[arg(long)]
    pub(super) json: bool,
}

/// Arguments of `bench limit sse`.
#[derive(Debug, Clone, Args)]
pub(super) struct LimitSseArgs {
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
    /// Where events come from.
    #[arg(long, value_enum, default_value = "inside")]
    pub(super) publish: LimitPublish,
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

/// Where the events of the bare broadcast come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum LimitPublish {
    /// The server makes them itself: nothing but the broadcast is measured.
    Inside,
    /// They are posted to it, as they are to a server that is measured by REST.
    Http,
}

/// Runs one limit and prints its report.
pub(super) async fn run(args: &LimitArgs) -> BenchResult<()> {
    match &args.kind {
        LimitKind::Http(args) => {
            let server = BareServer::start(Bare::Http).await?;
            measure_http(args, &server).await?.print(args.json);
        }
        LimitKind::Echo(args) => {
            let server = BareServer::start(Bare::Echo).await?;
            measure_bare(args, &server, Contract::Plain).await?.print(args.json);
        }
        LimitKind::Sse(args) => measure_sse(args).await?.print(args.json),
    }
    Ok(())
}

/// Measures the bare handler.
pub(super) async fn measure_http(
    args: &LimitHttpArgs,
    server: &BareServer,
) -> BenchResult<Measurement> {
    measure_bare(args, server, Contract::V2).await
}

async fn measure_bare(
    args: &LimitHttpArgs,
    server: &BareServer,
    contract: Contract,
) -> BenchResult<Measurement> {
    let args = HttpProduceArgs {
        http: server.url.clone(),
        pid: vec![server.pid()],
        kafka: None,
        topic: "limit".to_owned(),
        partitions: 1,
        records_per_request: args.records_per_request,
        connections: args.connections,
        seconds: args.seconds,
        warmup_seconds: args.warmup_seconds,
        acks: None,
        format: Format::Json,
        client_threads: args.client_threads,
        json: args.json,
    };
    let mut measurement = http_produce::measure(&args, contract).await?;
    measurement.work = format!("limit: {}", measurement.work);
    Ok(measurement)
}

/// Measures the bare broadcast, each time by a new process: memory per stream needs one that has
/// not served streams before.
pub(super) async fn measure_sse(args: &LimitSseArgs) -> BenchResult<Measurement> {
    let server = BareServer::start(Bare::Sse).await?;
    let target = Target::parse(&server.url)?;
    let connection = HttpConnection::connect(&target).await?;
    let publish = args.publish;
    let args = SseArgs {
        http: server.url.clone(),
        pid: vec![server.pid()],
        kafka: None,
        topic: "limit".to_owned(),
        partitions: 1,
        request: StreamRequest::default(),
        streams: args.streams,
        rate: args.rate,
        event_bytes: args.event_bytes,
        seconds: args.seconds,
        acks: Acks::Leader,
        idle: args.idle,
        client_threads: args.client_threads,
        json: args.json,
    };
    let publisher = match publish {
        LimitPublish::Inside => Publisher::Inside { connection, target },
        LimitPublish::Http => {
            let path = "/topics/limit".to_owned();
            Publisher::Http { connection, target, path }
        }
    };
    let mut measurement = sse::measure_with(&args, publisher).await?;
    measurement.work = format!("limit: {}", measurement.work);
    Ok(measurement)
}

/// A bare server in a child process, which ends with this value.
#[derive(Debug)]
pub(super) struct BareServer {
    child: Child,
    url: String,
}

impl BareServer {
    /// Starts this executable once more as a bare server.
    pub(super) async fn start(kind: Bare) -> BenchResult<Self> {
        let kind = kind.to_possible_value().map(|v| v.get_name().to_owned()).unwrap_or_default();
        tokio::task::spawn_blocking(move || Self::start_blocking(&kind)).await?
    }

    fn start_blocking(kind: &str) -> BenchResult<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["bench", "limit-server", kind, "--listen", "127.0.0.1:0"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = child.stdout.take();
        // From here on the child ends with this value, whatever fails.
        let mut server = Self { child, url: String::new() };
        let mut line = String::new();
        BufReader::new(output.ok_or("the bare server has no output")?).read_line(&mut line)?;
        let url = line.trim().strip_prefix(LISTENING);
        server.url = url.ok_or("the bare server did not start")?.to_owned();
        Ok(server)
    }

    /// Its process.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for BareServer {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to do.
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}
