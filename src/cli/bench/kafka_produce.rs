//! Produces by the Kafka protocol: prebuilt requests, pipelined, each connection bound to
//! partitions of one leader.
//!
//! A request's bytes are built once per connection and partition; sending it again changes only
//! its correlation id. So the client costs a copy into the socket, and what is measured is the
//! server. Producers are not idempotent.

use std::time::Instant;

use bytes::BytesMut;
use clap::{Args, ValueEnum};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Semaphore, mpsc};

use super::load::{Budget, ByteSize, deal, not_negative, positive, run_on_threads};
use super::payload::{self, BatchFill, BuiltBatch, XorShift};
use super::proc_stat::Meter;
use super::report::{Measurement, Tally, Unit};
use super::wire_client::{Topic, WireClient, check, connect, spread};
use super::wire_frame::{FrameReader, Versions, encode_request, set_correlation};
use super::{BenchError, BenchResult};
use crate::protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use crate::protocol::messages::{ProduceRequestData, ProduceResponseData};
use crate::protocol::{ApiKey, KafkaString, KafkaUuid};

/// First Produce version that names topics by id.
const PRODUCE_WITH_TOPIC_IDS: i16 = 13;

/// How long a broker may wait for its replicas.
const PRODUCE_TIMEOUT_MS: i32 = 30_000;

/// How many acknowledgements a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Acks {
    /// None: there is no answer.
    #[value(name = "0")]
    None,
    /// The leader's.
    #[value(name = "1")]
    Leader,
    /// Every replica's that is in sync.
    #[value(name = "all")]
    All,
}

impl Acks {
    /// Number on the wire.
    pub(super) const fn wire(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Leader => 1,
            Self::All => -1,
        }
    }

    /// Word on the command line and in a query.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::None => "0",
            Self::Leader => "1",
            Self::All => "all",
        }
    }
}

/// Arguments of `bench kafka-produce`.
#[derive(Debug, Clone, Args)]
pub(super) struct KafkaProduceArgs {
    /// A broker.
    #[arg(long, value_name = "HOST:PORT")]
    pub(super) kafka: String,
    /// Processes of the server, to measure their CPU time and memory.
    #[arg(long, value_delimiter = ',')]
    pub(super) pid: Vec<u32>,
    /// Topic; made if there is none.
    #[arg(long, default_value = "bench")]
    pub(super) topic: String,
    /// Partitions of a topic that is made.
    #[arg(long, default_value_t = 4)]
    pub(super) partitions: i32,
    /// Bytes of a record's value.
    #[arg(long, default_value = "100")]
    pub(super) record_bytes: ByteSize,
    /// Most bytes of a batch; a request holds one batch.
    #[arg(long, default_value = "65536")]
    pub(super) batch_bytes: ByteSize,
    /// Records of a batch, instead of its bytes.
    #[arg(long)]
    pub(super) records_per_request: Option<usize>,
    /// Acknowledgements to ask for.
    #[arg(long, value_enum, default_value = "1")]
    pub(super) acks: Acks,
    /// Connections.
    #[arg(long, default_value_t = 4)]
    pub(super) connections: usize,
    /// Requests in flight on each connection.
    #[arg(long, default_value_t = 5)]
    pub(super) in_flight: usize,
    /// Bytes of batches to send, instead of a duration.
    #[arg(long, conflicts_with = "seconds")]
    pub(super) bytes: Option<ByteSize>,
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

/// Runs the load and measures it.
pub(super) async fn measure(args: &KafkaProduceArgs) -> BenchResult<Measurement> {
    let mut client = WireClient::connect(&args.kafka).await?;
    let topic = client.ensure_topic(&args.topic, args.partitions).await?;
    let versions = client.versions();
    if args.warmup_seconds > 0.0 {
        let lanes = open_lanes(args, &topic, &versions).await?;
        produce(args, lanes, Budget::start(None, args.warmup_seconds)).await?;
    }
    let lanes = open_lanes(args, &topic, &versions).await?;
    let version = lanes.first().map_or(0, |lane| lane.version);
    let meter = Meter::start(&args.pid)?;
    let start = Instant::now();
    let budget = Budget::start(args.bytes.map(|b| b.0), args.seconds);
    let tally = produce(args, lanes, budget).await?;
    let seconds = start.elapsed().as_secs_f64();
    let cost = meter.finish()?;
    let per_request = tally.records.checked_div(tally.requests).unwrap_or(0);
    let work = format!(
        "kafka produce, {} B records, {per_request} a request, acks={}, {} connections",
        args.record_bytes.0,
        args.acks.word(),
        args.connections,
    );
    let extras = vec![
        ("produce_version", version.into()),
        ("partitions", topic.partitions.len().into()),
        ("in_flight", args.in_flight.into()),
    ];
    Ok(Measurement { work, unit: Unit::Record, seconds, tally, cost, extras })
}

async fn produce(args: &KafkaProduceArgs, lanes: Vec<Lane>, budget: Budget) -> BenchResult<Tally> {
    let in_flight = args.in_flight.max(1);
    let shares = deal(lanes, args.client_threads);
    let tallies = run_on_threads(shares, move |lanes| {
        let budget = budget.clone();
        async move {
            let mut tasks = Vec::new();
            for lane in lanes {
                tasks.push(tokio::task::spawn_local(lane.run(in_flight, budget.clone())));
            }
            let mut sum = Tally::new()?;
            for task in tasks {
                sum.merge(&task.await??)?;
            }
            Ok(sum)
        }
    });
    Tally::sum(tallies.await?)
}

/// One connection and the requests it sends in turn.
#[derive(Debug)]
struct Lane {
    stream: std::net::TcpStream,
    version: i16,
    acks: Acks,
    requests: Vec<Request>,
}

#[derive(Debug)]
struct Request {
    frame: BytesMut,
    batch: BuiltBatch,
}

async fn open_lanes(
    args: &KafkaProduceArgs,
    topic: &Topic,
    versions: &Versions,
) -> BenchResult<Vec<Lane>> {
    let version = produce_version(topic, versions)?;
    let record_bytes = usize::try_from(args.record_bytes.0)?;
    let fill = match args.records_per_request {
        Some(records) => BatchFill::Records(records),
        None => BatchFill::Bytes(usize::try_from(args.batch_bytes.0)?),
    };
    let mut lanes = Vec::new();
    for (nth, group) in (1..).zip(spread(&topic.partitions, args.connections)) {
        let mut random = XorShift::new(payload::SEED.wrapping_mul(nth));
        let batch = payload::batch(&mut random, record_bytes, fill);
        let mut requests = Vec::new();
        for partition in group.partitions {
            let frame = encode_produce(topic, partition, &batch, args.acks, version)?;
            requests.push(Request { frame, batch: batch.clone() });
        }
        let stream = connect(&group.address).await?.into_std()?;
        lanes.push(Lane { stream, version, acks: args.acks, requests });
    }
    Ok(lanes)
}

/// Encodes a Produce of one batch to one partition.
pub(super) fn encode_produce(
    topic: &Topic,
    partition: i32,
    batch: &BuiltBatch,
    acks: Acks,
    version: i16,
) -> BenchResult<BytesMut> {
    let by_id = version >= PRODUCE_WITH_TOPIC_IDS;
    let data = PartitionProduceData {
        index: partition,
        records: Some(batch.bytes.clone()),
        ..Default::default()
    };
    let topic = TopicProduceData {
        name: if by_id { KafkaString::default() } else { topic.name.clone() },
        topic_id: if by_id { topic.id } else { KafkaUuid::ZERO },
        partition_data: vec![data],
        ..Default::default()
    };
    let request = ProduceRequestData {
        acks: acks.wire(),
        timeout_ms: PRODUCE_TIMEOUT_MS,
        topic_data: vec![topic],
        ..Default::default()
    };
    encode_request(ApiKey::Produce, version, |buffer, v| request.write(buffer, v))
}

/// Picks the Produce version for a topic.
pub(super) fn produce_version(topic: &Topic, versions: &Versions) -> BenchResult<i16> {
    versions.pick(ApiKey::Produce, topic.version_cap(PRODUCE_WITH_TOPIC_IDS))
}

/// Reads the error codes of a Produce answer.
pub(super) fn check_produced(mut body: bytes::Bytes, version: i16) -> BenchResult<()> {
    let answer = ProduceResponseData::read(&mut body, version)?;
    for partition in answer.responses.iter().flat_map(|t| &t.partition_responses) {
        check(partition.error_code, "Produce")?;
    }
    Ok(())
}

/// A request that was sent and has no answer yet.
#[derive(Debug)]
struct Sent {
    at: Instant,
    bytes: u64,
    records: u64,
    payload_bytes: u64,
}

impl Lane {
    /// Sends until the budget is used up, and reads every answer.
    async fn run(self, in_flight: usize, budget: Budget) -> BenchResult<Tally> {
        let Self { stream, version, acks, requests } = self;
        let (read, write) = TcpStream::from_std(stream)?.into_split();
        let permits = Semaphore::new(in_flight);
        let (sent, waiting) = mpsc::channel(in_flight);
        if acks == Acks::None {
            return send_unanswered(read, write, requests, &budget).await;
        }
        let sending = send(write, requests, &budget, &permits, sent);
        let receiving = receive(read, version, &permits, waiting);
        let ((), tally) = tokio::try_join!(sending, receiving)?;
        Ok(tally)
    }
}

async fn send(
    mut write: OwnedWriteHalf,
    mut requests: Vec<Request>,
    budget: &Budget,
    permits: &Semaphore,
    sent: mpsc::Sender<Sent>,
) -> BenchResult<()> {
    let mut correlation = 0_i32;
    loop {
        for request in &mut requests {
            permits.acquire().await?.forget();
            let batch = &request.batch;
            let bytes = batch.bytes.len() as u64;
            if !budget.take(bytes) {
                return Ok(());
            }
            set_correlation(&mut request.frame, correlation);
            correlation = correlation.wrapping_add(1);
            let at = Instant::now();
            let (records, payload_bytes) = (batch.records, batch.payload_bytes);
            sent.send(Sent { at, bytes, records, payload_bytes }).await?;
            write.write_all(&request.frame).await?;
        }
    }
}

async fn receive(
    read: OwnedReadHalf,
    version: i16,
    permits: &Semaphore,
    mut waiting: mpsc::Receiver<Sent>,
) -> BenchResult<Tally> {
    let mut reader = FrameReader::new(read);
    let mut tally = Tally::new()?;
    let mut expected = 0_i32;
    while let Some(sent) = waiting.recv().await {
        let (correlation, body) = reader.next(ApiKey::Produce, version).await?;
        permits.add_permits(1);
        if correlation != expected {
            return Err(BenchError::from("Produce was answered out of order"));
        }
        expected = expected.wrapping_add(1);
        tally.record_latency(sent.at.elapsed());
        tally.requests += 1;
        match check_produced(body, version) {
            Ok(()) => {
                tally.bytes += sent.bytes;
                tally.records += sent.records;
                tally.payload_bytes += sent.payload_bytes;
            }
            Err(error) => tally.record_error(|| error.to_string()),
        }
    }
    Ok(tally)
}

/// Sends with `acks=0` as fast as the socket takes it, then asks for the versions once more: the
/// broker answers that when it has read all that came before. There are no latencies.
async fn send_unanswered(
    read: OwnedReadHalf,
    mut write: OwnedWriteHalf,
    requests: Vec<Request>,
    budget: &Budget,
) -> BenchResult<Tally> {
    let mut tally = Tally::new()?;
    for request in requests.iter().cycle() {
        let bytes = request.batch.bytes.len() as u64;
        if !budget.take(bytes) {
            break;
        }
        write.write_all(&request.frame).await?;
        tally.requests += 1;
        tally.bytes += bytes;
        tally.records += request.batch.records;
        tally.payload_bytes += request.batch.payload_bytes;
    }
    write.write_all(&encode_request(ApiKey::ApiVersions, 0, |_, _| Ok(()))?).await?;
    FrameReader::new(read).next(ApiKey::ApiVersions, 0).await?;
    Ok(tally)
}
