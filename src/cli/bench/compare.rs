//! Hydrant beside a Kafka peer and beside the bare servers, in alternating rounds.
//!
//! Machines drift (clock rates, page cache, neighbours), so contenders take turns in short rounds,
//! in reversed order every other round, and figures are sums over a contender's rounds. The bare
//! servers run only while their turn lasts.

use clap::{Args, ValueEnum};

use super::BenchResult;
use super::compare_report::{Comparison, Contender, Kind, print};
use super::compare_streams::{self, StreamLoad, StreamsSide};
use super::http_produce::{self, Contract, HttpProduceArgs};
use super::kafka_fetch::{self, KafkaFetchArgs};
use super::kafka_produce::{self, Acks, KafkaProduceArgs};
use super::limit::{self, BareServer, LimitHttpArgs, LimitPublish, LimitSseArgs};
use super::limit_server::Bare;
use super::load::{ByteSize, positive};
use super::payload::{Format, now_ms};
use super::report::Measurement;
use super::sse::{self, SseArgs};
use super::wire_client::WireClient;

/// Bytes of records in the two sizes that are compared.
const RECORD_BYTES: [u64; 2] = [100, 1024];

/// Records of a request in the two sizes that are compared.
const HTTP_RECORDS: [usize; 2] = [1, 100];

/// Bytes of a batch, as producers with a little linger make them.
const BATCH_BYTES: ByteSize = ByteSize(64 * 1024);

/// Partitions of every topic, and connections of produce and fetch.
const PARTITIONS: i32 = 4;

/// Connections where every request has one record.
const SINGLE_CONNECTIONS: usize = 16;

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Work {
    /// Wire produce in batches.
    Produce,
    /// Wire fetch.
    Fetch,
    /// Wire produce, one record a request.
    Single,
    /// HTTP produce, beside the bare handler.
    Http,
    /// Live streams, beside the bare broadcast.
    Sse,
}

/// Arguments of `bench compare`.
#[derive(Debug, Args)]
pub(super) struct CompareArgs {
    /// Hydrant's Kafka door.
    #[arg(long, value_name = "HOST:PORT")]
    hydrant_kafka: Option<String>,
    /// Hydrant's HTTP door.
    #[arg(long, value_name = "URL")]
    hydrant_http: Option<String>,
    /// Hydrant's process.
    #[arg(long, value_delimiter = ',')]
    hydrant_pid: Vec<u32>,
    /// A broker of the peer.
    #[arg(long, value_name = "HOST:PORT")]
    peer_kafka: Option<String>,
    /// The peer's processes.
    #[arg(long, value_delimiter = ',')]
    peer_pid: Vec<u32>,
    /// A REST proxy to set beside Hydrant's HTTP produce, over the peer.
    #[arg(long, value_name = "URL")]
    peer_http: Option<String>,
    /// The proxy's processes.
    #[arg(long, value_delimiter = ',')]
    peer_http_pid: Vec<u32>,
    /// Compare only these.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Work>,
    /// Measured rounds of each contender.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Rounds before them that are not measured; live streams have none.
    #[arg(long, default_value_t = 1)]
    warmup_rounds: usize,
    /// Bytes of batches that a produce round sends, and that a fetch topic holds.
    #[arg(long, default_value = "512MB")]
    bytes: ByteSize,
    /// How often a fetch round reads its topic.
    #[arg(long, default_value_t = 4)]
    passes: u32,
    /// Seconds of a round of single records, HTTP or live streams.
    #[arg(long, default_value = "5.0", value_parser = positive)]
    seconds: f64,
    /// Live streams.
    #[arg(long, default_value_t = 1000)]
    streams: usize,
    /// Events a second on each live stream.
    #[arg(long, default_value = "100.0", value_parser = positive)]
    rate: f64,
    /// Keep the topics that were made.
    #[arg(long)]
    keep_topics: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Compares what was asked for and prints all of it.
pub(super) async fn run(args: &CompareArgs) -> BenchResult<()> {
    let all = Work::value_variants();
    let chosen = if args.only.is_empty() { all } else { args.only.as_slice() };
    let mut comparisons = Vec::new();
    for work in all.iter().filter(|work| chosen.contains(work)) {
        match work {
            Work::Produce => comparisons.extend(compare_produce(args).await?),
            Work::Fetch => comparisons.extend(compare_fetch(args).await?),
            Work::Single => comparisons.push(compare_single(args).await?),
            Work::Http => comparisons.extend(compare_http(args).await?),
            Work::Sse => comparisons.push(compare_sse(args).await?),
        }
    }
    print(&comparisons, args.json);
    Ok(())
}

/// One thing that can be measured again and again.
#[derive(Debug)]
pub(super) enum Load {
    KafkaProduce(KafkaProduceArgs),
    KafkaFetch(KafkaFetchArgs),
    HttpProduce(HttpProduceArgs),
    LimitHttp(LimitHttpArgs),
    Sse(SseArgs),
    LimitSse(LimitSseArgs),
}

impl Load {
    async fn measure(&self) -> BenchResult<Measurement> {
        match self {
            Self::KafkaProduce(args) => kafka_produce::measure(args).await,
            Self::KafkaFetch(args) => kafka_fetch::measure(args).await,
            Self::HttpProduce(args) => http_produce::measure(args, Contract::V2).await,
            Self::LimitHttp(args) => {
                let server = BareServer::start(Bare::Http).await?;
                limit::measure_http(args, &server).await
            }
            Self::Sse(args) => sse::measure(args).await,
            Self::LimitSse(args) => limit::measure_sse(args).await,
        }
    }
}

/// Measures every load `rounds` times, in turns. The last one is what the others are set beside.
async fn take_turns(
    args: &CompareArgs,
    title: String,
    kind: Kind,
    loads: &[(&'static str, Load)],
) -> BenchResult<Comparison> {
    let turns = Turns { warmup: args.warmup_rounds, measured: args.rounds };
    turns.take(title, kind, loads).await
}

/// How many rounds every contender has.
pub(super) struct Turns {
    /// Rounds that are not counted.
    pub(super) warmup: usize,
    /// Rounds that are; at least one.
    pub(super) measured: usize,
}

impl Turns {
    /// Measures every load in turns. The last one is what the others are set beside.
    pub(super) async fn take(
        &self,
        title: String,
        kind: Kind,
        loads: &[(&'static str, Load)],
    ) -> BenchResult<Comparison> {
        let rounds = self.warmup + self.measured.max(1);
        let mut contenders: Vec<Contender> =
            loads.iter().map(|(name, _)| Contender { name, rounds: Vec::new() }).collect();
        for round in 0..rounds {
            let mut turns: Vec<_> = loads.iter().zip(&mut contenders).collect();
            if round % 2 == 1 {
                turns.reverse();
            }
            for ((name, load), contender) in turns {
                eprintln!("{title}: {name}, round {} of {}", round + 1, rounds);
                let measured = load.measure().await?;
                if round >= self.warmup {
                    contender.rounds.push(measured);
                }
            }
        }
        Ok(Comparison { title, kind, contenders })
    }
}

async fn compare_produce(args: &CompareArgs) -> BenchResult<Vec<Comparison>> {
    let [hydrant, peer] = doors(args)?;
    let mut comparisons = Vec::new();
    for record_bytes in RECORD_BYTES {
        let topic = topic_name("produce");
        let load = |door: &Door<'_>| Load::KafkaProduce(batches(args, door, &topic, record_bytes));
        let loads = [("hydrant", load(&hydrant)), ("peer", load(&peer))];
        let title = format!("wire produce, {record_bytes} B records, 64 KiB batches, acks=1");
        comparisons.push(take_turns(args, title, Kind::Bytes, &loads).await?);
        drop_topic(args, &topic).await;
    }
    Ok(comparisons)
}

async fn compare_fetch(args: &CompareArgs) -> BenchResult<Vec<Comparison>> {
    let [hydrant, peer] = doors(args)?;
    let mut comparisons = Vec::new();
    for record_bytes in RECORD_BYTES {
        let topic = topic_name("fetch");
        for door in [&hydrant, &peer] {
            kafka_produce::measure(&batches(args, door, &topic, record_bytes)).await?;
        }
        let load = |door: &Door<'_>| {
            Load::KafkaFetch(KafkaFetchArgs {
                kafka: door.kafka.to_owned(),
                pid: door.pid.to_vec(),
                topic: topic.clone(),
                max_bytes: ByteSize(50 << 20),
                partition_max_bytes: ByteSize(1 << 20),
                connections: PARTITIONS as usize,
                bytes: None,
                passes: args.passes,
                client_threads: 1,
                json: false,
            })
        };
        let loads = [("hydrant", load(&hydrant)), ("peer", load(&peer))];
        let title = format!("wire fetch, {record_bytes} B records");
        comparisons.push(take_turns(args, title, Kind::Bytes, &loads).await?);
        drop_topic(args, &topic).await;
    }
    Ok(comparisons)
}

async fn compare_single(args: &CompareArgs) -> BenchResult<Comparison> {
    let [hydrant, peer] = doors(args)?;
    let topic = topic_name("single");
    let load = |door: &Door<'_>| {
        Load::KafkaProduce(KafkaProduceArgs {
            records_per_request: Some(1),
            acks: Acks::All,
            connections: SINGLE_CONNECTIONS,
            in_flight: 1,
            bytes: None,
            ..batches(args, door, &topic, 100)
        })
    };
    let loads = [("hydrant", load(&hydrant)), ("peer", load(&peer))];
    let title = "wire produce, one 100 B record a request, acks=all, 16 connections".to_owned();
    let comparison = take_turns(args, title, Kind::Requests, &loads).await?;
    drop_topic(args, &topic).await;
    Ok(comparison)
}

async fn compare_http(args: &CompareArgs) -> BenchResult<Vec<Comparison>> {
    let http = args.hydrant_http.as_deref().ok_or("HTTP needs --hydrant-http")?;
    let mut comparisons = Vec::new();
    for records in HTTP_RECORDS {
        let topic = topic_name("http");
        let post = |http: &str, pid: &[u32], kafka: Option<&String>, acks| {
            Load::HttpProduce(HttpProduceArgs {
                http: http.to_owned(),
                pid: pid.to_vec(),
                kafka: kafka.cloned(),
                topic: topic.clone(),
                partitions: PARTITIONS,
                records_per_request: records,
                connections: SINGLE_CONNECTIONS,
                seconds: args.seconds,
                warmup_seconds: 0.0,
                acks: Some(acks),
                format: Format::Json,
                client_threads: 1,
                json: false,
            })
        };
        let own = args.hydrant_kafka.as_ref();
        let mut loads = vec![
            ("hydrant acks=1", post(http, &args.hydrant_pid, own, Acks::Leader)),
            ("hydrant acks=all", post(http, &args.hydrant_pid, own, Acks::All)),
        ];
        if let Some(proxy) = &args.peer_http {
            let kafka = args.peer_kafka.as_ref();
            loads.push(("peer", post(proxy, &args.peer_http_pid, kafka, Acks::All)));
        }
        let bare = LimitHttpArgs {
            records_per_request: records,
            connections: SINGLE_CONNECTIONS,
            seconds: args.seconds,
            warmup_seconds: 0.0,
            client_threads: 1,
            json: false,
        };
        loads.push(("limit", Load::LimitHttp(bare)));
        let title = format!("HTTP produce, {records} JSON records a request, 16 connections");
        comparisons.push(take_turns(args, title, Kind::Requests, &loads).await?);
        drop_topic(args, &topic).await;
    }
    Ok(comparisons)
}

async fn compare_sse(args: &CompareArgs) -> BenchResult<Comparison> {
    let http = args.hydrant_http.clone().ok_or("live streams need --hydrant-http")?;
    let side = StreamsSide {
        http,
        kafka: args.hydrant_kafka.clone(),
        pid: args.hydrant_pid.clone(),
        topic: topic_name("sse"),
        seconds: args.seconds,
        publish: LimitPublish::Inside,
        client_threads: 1,
    };
    let load = StreamLoad { streams: args.streams, rate: args.rate };
    let comparison = compare_streams::compare(&side, load, args.rounds).await?;
    drop_topic(args, &side.topic).await;
    Ok(comparison)
}

/// A Kafka door and its processes.
struct Door<'a> {
    kafka: &'a str,
    pid: &'a [u32],
}

fn doors(args: &CompareArgs) -> BenchResult<[Door<'_>; 2]> {
    let hydrant = args.hydrant_kafka.as_deref().ok_or("this needs --hydrant-kafka")?;
    let peer = args.peer_kafka.as_deref().ok_or("this needs --peer-kafka")?;
    Ok([Door { kafka: hydrant, pid: &args.hydrant_pid }, Door { kafka: peer, pid: &args.peer_pid }])
}

fn batches(
    args: &CompareArgs,
    door: &Door<'_>,
    topic: &str,
    record_bytes: u64,
) -> KafkaProduceArgs {
    KafkaProduceArgs {
        kafka: door.kafka.to_owned(),
        pid: door.pid.to_vec(),
        topic: topic.to_owned(),
        partitions: PARTITIONS,
        record_bytes: ByteSize(record_bytes),
        batch_bytes: BATCH_BYTES,
        records_per_request: None,
        acks: Acks::Leader,
        connections: PARTITIONS as usize,
        in_flight: 5,
        bytes: Some(args.bytes),
        seconds: args.seconds,
        warmup_seconds: 0.0,
        client_threads: 1,
        json: false,
    }
}

/// A topic of this run alone: leftovers of an earlier one would be fetched with it.
pub(super) fn topic_name(work: &str) -> String {
    format!("bench-{work}-{}", now_ms())
}

/// Deletes `topic` wherever it may be, unless topics are to be kept.
async fn drop_topic(args: &CompareArgs, topic: &str) {
    if args.keep_topics {
        return;
    }
    delete_topic([&args.hydrant_kafka, &args.peer_kafka].into_iter().flatten(), topic).await;
}

/// Deletes `topic` at every broker. A failure only leaves a topic, so it is told and no more.
pub(super) async fn delete_topic(brokers: impl Iterator<Item = &String>, topic: &str) {
    for kafka in brokers {
        let deleted = async { WireClient::connect(kafka).await?.delete_topic(topic).await };
        if let Err(error) = deleted.await {
            eprintln!("topic {topic} stays at {kafka}: {error}");
        }
    }
}
