//! `hydrant bench`: load generators for both doors and for live streams, and their limits.
//!
//! Every generator speaks only the public protocols, so the same program measures Hydrant, an
//! Apache Kafka broker, a REST proxy, or the built-in bare servers ([`limit`]) that say what the
//! HTTP stack itself can do. The clients are hand-written and cheap: what they send is built once,
//! what they receive is counted and not decoded. They run on threads of their own ([`load`]), and
//! the server's CPU time and memory are read from `/proc` when `--pid` names it.
//!
//! Units: MB is 10^6 and GB 10^9 bytes; `bytes` of a produce or a fetch are bytes of record
//! batches, `payload_bytes` those of the records' values.
#![allow(clippy::disallowed_methods, reason = "a benchmark measures wall time")]
#![allow(clippy::print_stdout, reason = "the report of a command goes to standard output")]
#![allow(clippy::print_stderr, reason = "progress goes to standard error")]

mod compare;
mod compare_report;
mod compare_streams;
mod fill;
mod http_client;
mod http_instances;
mod http_poll;
mod http_produce;
mod idle_streams;
mod kafka_fetch;
mod kafka_produce;
mod limit;
mod limit_server;
mod load;
mod ndjson;
mod payload;
mod proc_stat;
mod report;
mod sse;
mod sse_client;
mod sse_publish;
mod sse_request;
mod stalled_streams;
mod v3_produce;
mod wire_client;
mod wire_frame;

use clap::{Args, Subcommand};

use self::http_produce::Contract;

/// What any part of the benchmark fails with.
pub type BenchError = Box<dyn std::error::Error + Send + Sync>;

type BenchResult<T> = Result<T, BenchError>;

/// Measures Hydrant, a peer or a bare server.
#[derive(Debug, Args)]
pub struct BenchArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Produces by the Kafka protocol.
    KafkaProduce(kafka_produce::KafkaProduceArgs),
    /// Fetches a topic from its start to its end by the Kafka protocol.
    KafkaFetch(kafka_fetch::KafkaFetchArgs),
    /// Produces by REST (v2).
    HttpProduce(http_produce::HttpProduceArgs),
    /// Produces by plain requests, one record each.
    PlainProduce(http_produce::HttpProduceArgs),
    /// Produces by streams of v3.
    V3Produce(v3_produce::V3ProduceArgs),
    /// Polls a consumer instance by REST (v2).
    HttpPoll(http_poll::HttpPollArgs),
    /// Opens many consumer instances by REST (v2) and leaves them idle.
    HttpInstances(http_instances::HttpInstancesArgs),
    /// Opens many live streams and publishes to them.
    Sse(sse::SseArgs),
    /// Fills a topic and reads it by one stream, in batches.
    Ndjson(ndjson::NdjsonArgs),
    /// Holds many live streams that only get heartbeats.
    ///
    /// Every stream takes a descriptor here and one at the server (`ulimit -n`). From one address
    /// to one port there are as many as `net.ipv4.ip_local_port_range` has ports, usually 28,000;
    /// `--source-addresses` gives more. The server must not be limited by `--stream-max-per-ip`
    /// or `--http-connections-per-client`.
    IdleStreams(idle_streams::IdleStreamsArgs),
    /// Holds live streams that nobody reads, over a topic that it fills.
    StalledStreams(stalled_streams::StalledStreamsArgs),
    /// Measures a bare axum server, the limit of the HTTP stack.
    Limit(limit::LimitArgs),
    /// Measures Hydrant beside a Kafka peer and beside the limits, in alternating rounds.
    Compare(compare::CompareArgs),
    /// Measures live streams beside the bare broadcast, in alternating rounds.
    CompareStreams(compare_streams::CompareStreamsArgs),
    /// Serves as the bare server of `limit`.
    #[command(hide = true)]
    LimitServer(limit_server::LimitServerArgs),
}

/// Runs one benchmark and prints its report.
///
/// # Errors
/// When a server cannot be reached or answers with something that cannot be measured.
pub async fn run(args: BenchArgs) -> Result<(), BenchError> {
    load::raise_open_file_limit();
    match args.command {
        Command::KafkaProduce(args) => {
            let json = args.json;
            kafka_produce::measure(&args).await?.print(json);
        }
        Command::KafkaFetch(args) => {
            let json = args.json;
            kafka_fetch::measure(&args).await?.print(json);
        }
        Command::HttpProduce(args) => {
            let json = args.json;
            http_produce::measure(&args, Contract::V2).await?.print(json);
        }
        Command::PlainProduce(args) => {
            let json = args.json;
            http_produce::measure(&args, Contract::Plain).await?.print(json);
        }
        Command::V3Produce(args) => {
            let json = args.json;
            v3_produce::measure(&args).await?.print(json);
        }
        Command::HttpPoll(args) => {
            let json = args.json;
            http_poll::measure(&args).await?.print(json);
        }
        Command::HttpInstances(args) => {
            let json = args.json;
            http_instances::measure(&args).await?.print(json);
        }
        Command::Sse(args) => {
            let json = args.json;
            sse::measure(&args).await?.print(json);
        }
        Command::Ndjson(args) => {
            let json = args.json;
            ndjson::measure(&args).await?.print(json);
        }
        Command::IdleStreams(args) => {
            let json = args.json;
            idle_streams::measure(&args).await?.print(json);
        }
        Command::StalledStreams(args) => {
            let json = args.json;
            stalled_streams::measure(&args).await?.print(json);
        }
        Command::Limit(args) => limit::run(&args).await?,
        Command::Compare(args) => compare::run(&args).await?,
        Command::CompareStreams(args) => compare_streams::run(&args).await?,
        Command::LimitServer(args) => limit_server::run(&args).await?,
    }
    Ok(())
}
