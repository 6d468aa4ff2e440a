//! Produces by a v3 stream: one upload a connection that does not end until the time is over,
//! its answers read while it goes on.

use std::net::TcpStream as StdTcpStream;
use std::time::Instant;

use bytes::BytesMut;
use clap::Args;
use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;

use super::http_client::{ChunkDecoder, HttpConnection, Target};
use super::kafka_produce::Acks;
use super::load::{Budget, deal, positive, run_on_threads};
use super::payload::{self, XorShift};
use super::proc_stat::Meter;
use super::report::{Measurement, Tally, Unit};
use super::wire_client::{WireClient, connect};
use super::{BenchError, BenchResult};

/// How the answer to a record that was produced begins.
const PRODUCED: &[u8] = b"{\"error_code\":200,";

/// Room that a read asks for at least.
const READ_BYTES: usize = 64 * 1024;

/// Arguments of `bench v3-produce`.
#[derive(Debug, Clone, Args)]
pub(super) struct V3ProduceArgs {
    /// A server of the v3 contract.
    #[arg(long, value_name = "URL")]
    http: String,
    /// Processes of the server, to measure their CPU time and memory.
    #[arg(long, value_delimiter = ',')]
    pid: Vec<u32>,
    /// A broker by which the topic is made; without it the server must make topics by itself.
    #[arg(long, value_name = "HOST:PORT")]
    kafka: Option<String>,
    /// Topic.
    #[arg(long, default_value = "bench-v3")]
    topic: String,
    /// Partitions of a topic that is made.
    #[arg(long, default_value_t = 4)]
    partitions: i32,
    /// Records of one chunk of an upload.
    #[arg(long, default_value_t = 100)]
    records_per_chunk: usize,
    /// Connections, with one stream each.
    #[arg(long, default_value_t = 2)]
    connections: usize,
    /// How long to send.
    #[arg(long, default_value = "10.0", value_parser = positive)]
    seconds: f64,
    /// Sent as the query parameter `acks`; not sent if not given.
    #[arg(long, value_enum)]
    acks: Option<Acks>,
    /// Threads of the client.
    #[arg(long, default_value_t = 1)]
    client_threads: usize,
    /// Print one JSON object.
    #[arg(long)]
    pub(super) json: bool,
}

/// Runs the load and measures it.
pub(super) async fn measure(args: &V3ProduceArgs) -> BenchResult<Measurement> {
    if let Some(kafka) = &args.kafka {
        let mut client = WireClient::connect(kafka).await?;
        client.ensure_topic(&args.topic, args.partitions).await?;
    }
    let target = Target::parse(&args.http)?;
    let path = records_path(&target, args).await?;
    let upload = Upload::new(&target, &path, args.records_per_chunk);
    let mut streams = Vec::new();
    for _ in 0..args.connections {
        streams.push(connect(&target.authority).await?.into_std()?);
    }
    let meter = Meter::start(&args.pid)?;
    let start = Instant::now();
    let budget = Budget::start(None, args.seconds);
    let tallies = run_on_threads(deal(streams, args.client_threads), move |streams| {
        let (upload, budget) = (upload.clone(), budget.clone());
        async move {
            let spawn =
                |stream| tokio::task::spawn_local(upload.clone().run(stream, budget.clone()));
            let tasks: Vec<_> = streams.into_iter().map(spawn).collect();
            let mut sum = Tally::new()?;
            for task in tasks {
                sum.merge(&task.await??)?;
            }
            Ok(sum)
        }
    });
    let tally = Tally::sum(tallies.await?)?;
    let seconds = start.elapsed().as_secs_f64();
    let cost = meter.finish()?;
    let work = format!(
        "v3 streamed produce, {} records a chunk, acks={}, {} streams",
        args.records_per_chunk,
        args.acks.map_or("(server's default)", Acks::word),
        args.connections,
    );
    Ok(Measurement { work, unit: Unit::Record, seconds, tally, cost, extras: Vec::new() })
}

async fn records_path(target: &Target, args: &V3ProduceArgs) -> BenchResult<String> {
    let request = target.request("GET", "/v3/clusters", &[("accept", "application/json")], b"");
    let answer = HttpConnection::connect(target).await?.exchange(&request).await?;
    let clusters: serde_json::Value =
        serde_json::from_slice(&answer.expect_success("listing clusters")?)?;
    let cluster = clusters.pointer("/data/0/cluster_id").and_then(|id| id.as_str());
    let cluster = cluster.ok_or("the server names no cluster")?;
    let acks = args.acks.map(|acks| format!("?acks={}", acks.word())).unwrap_or_default();
    Ok(format!("/v3/clusters/{cluster}/topics/{}/records{acks}", args.topic))
}

/// What is sent on every connection.
#[derive(Debug, Clone)]
struct Upload {
    /// The head of the request and the first chunk: the answer does not begin without a record.
    opening: Vec<u8>,
    /// One chunk of the upload with its length.
    chunk: Vec<u8>,
    chunk_records: u64,
}

impl Upload {
    fn new(target: &Target, path: &str, records: usize) -> Self {
        let headers = [("content-type", "application/json"), ("transfer-encoding", "chunked")];
        let head = target.head("POST", path, &headers);
        let mut random = XorShift::new(payload::SEED);
        let mut text = String::new();
        for _ in 0..records {
            let value = payload::json_value(&mut random);
            text.extend(["{\"value\":{\"type\":\"JSON\",\"data\":", &value, "}}\n"]);
        }
        let chunk = format!("{:x}\r\n{text}\r\n", text.len()).into_bytes();
        let opening = [head.as_bytes(), b"\r\n", &chunk].concat();
        Self { opening, chunk, chunk_records: records as u64 }
    }

    async fn run(self, stream: StdTcpStream, budget: Budget) -> BenchResult<Tally> {
        let mut connection = HttpConnection::adopt(stream)?;
        let head = connection.begin(&self.opening).await?;
        if head.status != 200 {
            return Err(format!("the stream was refused with HTTP {}", head.status).into());
        }
        let (stream, rest) = connection.into_parts()?;
        let (reader, mut writer) = TcpStream::from_std(stream)?.into_split();
        let writing = async {
            let mut chunks = 1_u64;
            while budget.take(self.chunk.len() as u64) {
                writer.write_all(&self.chunk).await?;
                chunks += 1;
            }
            writer.write_all(b"0\r\n\r\n").await?;
            Ok::<_, BenchError>(chunks)
        };
        let (chunks, produced) = tokio::try_join!(writing, count_produced(reader, rest))?;
        let mut tally = Tally::new()?;
        tally.requests = 1;
        tally.records = produced;
        tally.bytes = chunks * self.chunk.len() as u64;
        let sent = chunks * self.chunk_records;
        if produced != sent {
            tally.record_error(|| format!("{produced} of {sent} records were produced"));
        }
        Ok(tally)
    }
}

/// Counts the answers that say that a record was produced.
async fn count_produced(mut reader: OwnedReadHalf, mut coded: BytesMut) -> BenchResult<u64> {
    let finder = memmem::Finder::new(PRODUCED);
    let mut decoder = ChunkDecoder::default();
    let mut text = Vec::new();
    let mut produced = 0;
    loop {
        let used = decoder.feed(&coded, |data| text.extend_from_slice(data))?;
        drop(coded.split_to(used));
        let mut counted_to = 0;
        for at in finder.find_iter(&text) {
            produced += 1;
            counted_to = at + PRODUCED.len();
        }
        // The end may hold the beginning of what is looked for.
        text.drain(..counted_to.max(text.len().saturating_sub(PRODUCED.len() - 1)));
        if decoder.is_finished() {
            return Ok(produced);
        }
        coded.reserve(READ_BYTES);
        if reader.read_buf(&mut coded).await? == 0 {
            return Err("the server closed the connection".into());
        }
    }
}
