//! Fetches a topic from its earliest offset to its end by the Kafka protocol.
//!
//! Records are not decoded: batches are walked by their headers, which give bytes, records and the
//! next offset. Each connection fetches its own partitions, one request at a time, as a consumer
//! of that many threads would.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use clap::Args;

use super::BenchResult;
use super::load::{Budget, ByteSize, deal, run_on_threads};
use super::proc_stat::Meter;
use super::report::{Measurement, Tally, Unit};
use super::wire_client::{EARLIEST, LATEST, Topic, WireClient, check, connect, spread};
use super::wire_frame::{Versions, encode_request};
use crate::protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use crate::protocol::messages::{FetchRequestData, FetchResponseData};
use crate::protocol::record_batch::{BatchHeader, HEADER_BYTES};
use crate::protocol::{ApiKey, KafkaString, KafkaUuid};

/// First Fetch version that names topics by id.
const FETCH_WITH_TOPIC_IDS: i16 = 13;

/// How long a broker may hold a fetch that finds nothing.
const FETCH_WAIT_MS: i32 = 500;

/// Fetches without a byte after which a partition that should have more is given up.
const EMPTY_FETCHES_MAX: u32 = 20;

/// Arguments of `bench kafka-fetch`.
#[derive(Debug, Clone, Args)]
pub(super) struct KafkaFetchArgs {
    /// A broker.
    #[arg(long, value_name = "HOST:PORT")]
    pub(super) kafka: String,
    /// Processes of the server, to measure their CPU time and memory.
    #[arg(long, value_delimiter = ',')]
    pub(super) pid: Vec<u32>,
    /// Topic, which must have records.
    #[arg(long, default_value = "bench")]
    pub(super) topic: String,
    /// Most bytes of one answer.
    #[arg(long, default_value = "50MiB")]
    pub(super) max_bytes: ByteSize,
    /// Most bytes of one partition in an answer.
    #[arg(long, default_value = "1MiB")]
    pub(super) partition_max_bytes: ByteSize,
    /// Connections; each has its own partitions.
    #[arg(long, default_value_t = 4)]
    pub(super) connections: usize,
    /// Stop after this many bytes.
    #[arg(long)]
    pub(super) bytes: Option<ByteSize>,
    /// How often to read the topic.
    #[arg(long, default_value_t = 1)]
    pub(super) passes: u32,
    /// Threads of the client.
    #[arg(long, default_value_t = 1)]
    pub(super) client_threads: usize,
    /// Print one JSON object.
    #[arg(long)]
    pub(super) json: bool,
}

/// What every connection of a run shares.
#[derive(Debug)]
struct Plan {
    topic: Topic,
    versions: Arc<Versions>,
    version: i16,
    max_bytes: i32,
    partition_max_bytes: i32,
    passes: u32,
    budget: Budget,
}

/// One connection and the ranges it reads.
#[derive(Debug)]
struct Lane {
    stream: std::net::TcpStream,
    ranges: Vec<Range>,
}

#[derive(Debug, Clone, Copy)]
struct Range {
    partition: i32,
    next: i64,
    end: i64,
}

/// Runs the load and measures it.
pub(super) async fn measure(args: &KafkaFetchArgs) -> BenchResult<Measurement> {
    let mut client = WireClient::connect(&args.kafka).await?;
    let topic = client.describe_topic(&args.topic).await?;
    let versions = client.versions();
    let lanes = open_lanes(args, &topic).await?;
    let version = versions.pick(ApiKey::Fetch, topic.version_cap(FETCH_WITH_TOPIC_IDS))?;
    let plan = Arc::new(Plan {
        version,
        versions,
        max_bytes: i32::try_from(args.max_bytes.0)?,
        partition_max_bytes: i32::try_from(args.partition_max_bytes.0)?,
        passes: args.passes,
        budget: Budget::start(Some(args.bytes.map_or(u64::MAX, |b| b.0)), 0.0),
        topic,
    });
    let connections = lanes.len();
    let shares = deal(lanes, args.client_threads);
    let meter = Meter::start(&args.pid)?;
    let start = Instant::now();
    let tallies = run_on_threads(shares, move |lanes| {
        let plan = Arc::clone(&plan);
        async move {
            let spawn = |lane: Lane| tokio::task::spawn_local(lane.run(Arc::clone(&plan)));
            let tasks: Vec<_> = lanes.into_iter().map(spawn).collect();
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
    let work = format!("kafka fetch of {}, {connections} connections", args.topic);
    let extras = vec![("fetch_version", version.into())];
    Ok(Measurement { work, unit: Unit::Record, seconds, tally, cost, extras })
}

async fn open_lanes(args: &KafkaFetchArgs, topic: &Topic) -> BenchResult<Vec<Lane>> {
    let connections = args.connections.min(topic.partitions.len());
    let mut lanes = Vec::new();
    for group in spread(&topic.partitions, connections) {
        let mut client = WireClient::connect(&group.address).await?;
        let starts = client.list_offsets(topic, &group.partitions, EARLIEST).await?;
        let ends = client.list_offsets(topic, &group.partitions, LATEST).await?;
        let ranges = group.partitions.iter().map(|partition| Range {
            partition: *partition,
            next: starts.get(partition).copied().unwrap_or(0),
            end: ends.get(partition).copied().unwrap_or(0),
        });
        let ranges = ranges.collect();
        lanes.push(Lane { stream: connect(&group.address).await?.into_std()?, ranges });
    }
    Ok(lanes)
}

impl Lane {
    async fn run(self, plan: Arc<Plan>) -> BenchResult<Tally> {
        let mut client = WireClient::adopt(self.stream, Arc::clone(&plan.versions))?;
        let mut tally = Tally::new()?;
        for _ in 0..plan.passes {
            let mut ranges = self.ranges.clone();
            let mut empty = 0;
            ranges.retain(|r| r.next < r.end);
            while !ranges.is_empty() {
                let got = fetch_once(&mut client, &plan, &mut ranges, &mut tally).await?;
                let Some(got) = got else { return Ok(tally) };
                empty = if got == 0 { empty + 1 } else { 0 };
                if empty > EMPTY_FETCHES_MAX {
                    return Err(format!("nothing more to fetch, yet {ranges:?} are open").into());
                }
                ranges.retain(|r| r.next < r.end);
            }
        }
        Ok(tally)
    }
}

/// Sends one Fetch for all `ranges` and moves them on; returns its bytes, none when the budget of
/// bytes is used up.
async fn fetch_once(
    client: &mut WireClient,
    plan: &Plan,
    ranges: &mut [Range],
    tally: &mut Tally,
) -> BenchResult<Option<u64>> {
    let request = fetch_request(plan, ranges);
    let mut frame = encode_request(ApiKey::Fetch, plan.version, |b, v| request.write(b, v))?;
    let start = Instant::now();
    let mut body = client.call(ApiKey::Fetch, plan.version, &mut frame).await?;
    tally.record_latency(start.elapsed());
    tally.requests += 1;
    let answer = FetchResponseData::read(&mut body, plan.version)?;
    check(answer.error_code, "Fetch")?;
    let before = tally.bytes;
    for partition in answer.responses.into_iter().flat_map(|t| t.partitions) {
        check(partition.error_code, "Fetch of a partition")?;
        let range = ranges.iter_mut().find(|r| r.partition == partition.partition_index);
        let range = range.ok_or("Fetch answered a partition that was not asked for")?;
        count_batches(&partition.records.unwrap_or_default(), range, tally);
    }
    let bytes = tally.bytes - before;
    Ok((bytes == 0 || plan.budget.take(bytes)).then_some(bytes))
}

fn fetch_request(plan: &Plan, ranges: &[Range]) -> FetchRequestData {
    let partitions = ranges.iter().map(|range| FetchPartition {
        partition: range.partition,
        current_leader_epoch: -1,
        fetch_offset: range.next,
        partition_max_bytes: plan.partition_max_bytes,
        ..Default::default()
    });
    let by_id = plan.version >= FETCH_WITH_TOPIC_IDS;
    let topic = FetchTopic {
        topic: if by_id { KafkaString::default() } else { plan.topic.name.clone() },
        topic_id: if by_id { plan.topic.id } else { KafkaUuid::ZERO },
        partitions: partitions.collect(),
        ..Default::default()
    };
    FetchRequestData {
        max_wait_ms: FETCH_WAIT_MS,
        min_bytes: 1,
        max_bytes: plan.max_bytes,
        topics: vec![topic],
        ..Default::default()
    }
}

/// Walks the whole batches of `records`; a cut one at the end is left for the next fetch.
fn count_batches(records: &Bytes, range: &mut Range, tally: &mut Tally) {
    let mut rest: &[u8] = records;
    while rest.len() >= HEADER_BYTES {
        let Ok(header) = BatchHeader::parse(rest) else { break };
        let Some(after) = rest.get(header.total_bytes()..) else { break };
        tally.bytes += header.total_bytes() as u64;
        tally.batches += 1;
        tally.records += u64::try_from(header.record_count).unwrap_or(0);
        range.next = header.next_offset();
        rest = after;
    }
}
