//! Produces by REST, one request at a time on each of many keep-alive connections: by
//! `POST /topics/{topic}` of the v2 contract, or by `POST /topics/{topic}/records` whose body is
//! one record.

use std::rc::Rc;
use std::time::{Duration, Instant};

use clap::Args;
use memchr::memmem;

use super::BenchResult;
use super::http_client::{Answer, HttpConnection, Target};
use super::kafka_produce::Acks;
use super::load::{Budget, deal, not_negative, positive, run_on_threads};
use super::payload::{self, Format, XorShift};
use super::proc_stat::Meter;
use super::report::{Measurement, Tally, Unit};
use super::wire_client::{WireClient, connect};

/// Failures in a row after which a connection gives up.
const FAILURES_MAX: u32 = 10;

/// Pause before a connection that failed is opened again.
const RECONNECT_PAUSE: Duration = Duration::from_millis(100);

/// Which contract a request follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Contract {
    /// v2: records in an envelope.
    V2,
    /// Plain: the body is the record.
    Plain,
}

/// Arguments of `bench http-produce` and `bench plain-produce`.
#[derive(Debug, Clone, Args)]
pub(super) struct HttpProduceArgs {
    /// A server of the v2 contract.
    #[arg(long, value_name = "URL")]
    pub(super) http: String,
    /// Processes of the server, to measure their CPU time and memory.
    #[arg(long, value_delimiter = ',')]
    pub(super) pid: Vec<u32>,
    /// A broker by which the topic is made; without it the server must make topics by itself.
    #[arg(long, value_name = "HOST:PORT")]
    pub(super) kafka: Option<String>,
    /// Topic.
    #[arg(long, default_value = "bench-http")]
    pub(super) topic: String,
    /// Partitions of a topic that is made.
    #[arg(long, default_value_t = 4)]
    pub(super) partitions: i32,
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
    /// Sent as the query parameter `acks`, which peers ignore; not sent if not given.
    #[arg(long, value_enum)]
    pub(super) acks: Option<Acks>,
    /// Embedded format.
    #[arg(long, value_enum, default_value = "json")]
    pub(super) format: Format,
    /// Threads of the client.
    #[arg(long, default_value_t = 1)]
    pub(super) client_threads: usize,
    /// Print one JSON object.
    #[arg(long)]
    pub(super) json: bool,
}

/// Runs the load and measures it.
pub(super) async fn measure(
    args: &HttpProduceArgs,
    contract: Contract,
) -> BenchResult<Measurement> {
    if contract == Contract::Plain && args.records_per_request != 1 {
        return Err("a plain request has one record: leave --records-per-request at 1".into());
    }
    if let Some(kafka) = &args.kafka {
        let mut client = WireClient::connect(kafka).await?;
        client.ensure_topic(&args.topic, args.partitions).await?;
    }
    let target = Target::parse(&args.http)?;
    let mut random = XorShift::new(payload::SEED);
    let body = match contract {
        Contract::V2 => payload::produce_body(&mut random, args.format, args.records_per_request),
        Contract::Plain => payload::json_value(&mut random).into_bytes(),
    };
    let request = post_request(&target, args, contract, &body);
    let post = Post { request, body_bytes: body.len() as u64 };
    if args.warmup_seconds > 0.0 {
        produce(args, &target, &post, Budget::start(None, args.warmup_seconds)).await?;
    }
    let meter = Meter::start(&args.pid)?;
    let start = Instant::now();
    let tally = produce(args, &target, &post, Budget::start(None, args.seconds)).await?;
    let seconds = start.elapsed().as_secs_f64();
    let cost = meter.finish()?;
    let name = match contract {
        Contract::V2 => "http",
        Contract::Plain => "plain",
    };
    let work = format!(
        "{name} produce, {} {} records a request ({} B), acks={}, {} connections",
        args.records_per_request,
        args.format.name(),
        body.len(),
        args.acks.map_or("(server's default)", Acks::word),
        args.connections,
    );
    Ok(Measurement { work, unit: Unit::Record, seconds, tally, cost, extras: Vec::new() })
}

fn post_request(
    target: &Target,
    args: &HttpProduceArgs,
    contract: Contract,
    body: &[u8],
) -> Vec<u8> {
    let acks = args.acks.map(|acks| format!("?acks={}", acks.word())).unwrap_or_default();
    let topic = &args.topic;
    let (path, content_type, accept) = match contract {
        Contract::V2 => {
            let path = format!("/topics/{topic}{acks}");
            (path, args.format.media_type(), "application/vnd.kafka.v2+json")
        }
        Contract::Plain => {
            (format!("/topics/{topic}/records{acks}"), "application/json", "application/json")
        }
    };
    target.request("POST", &path, &[("content-type", content_type), ("accept", accept)], body)
}

/// A request that is sent over and over.
#[derive(Debug, Clone)]
struct Post {
    request: Vec<u8>,
    body_bytes: u64,
}

async fn produce(
    args: &HttpProduceArgs,
    target: &Target,
    post: &Post,
    budget: Budget,
) -> BenchResult<Tally> {
    let mut streams = Vec::new();
    for _ in 0..args.connections {
        streams.push(connect(&target.authority).await?.into_std()?);
    }
    let (target, post) = (target.clone(), post.clone());
    let records = args.records_per_request as u64;
    let tallies = run_on_threads(deal(streams, args.client_threads), move |streams| {
        let (target, budget) = (target.clone(), budget.clone());
        let post = Rc::new(post.clone());
        async move {
            let spawn = |stream| {
                let lane = Lane { target: target.clone(), post: Rc::clone(&post), records };
                tokio::task::spawn_local(lane.run(stream, budget.clone()))
            };
            let tasks: Vec<_> = streams.into_iter().map(spawn).collect();
            let mut sum = Tally::new()?;
            for task in tasks {
                sum.merge(&task.await??)?;
            }
            Ok(sum)
        }
    });
    Tally::sum(tallies.await?)
}

/// One connection.
#[derive(Debug)]
struct Lane {
    target: Target,
    post: Rc<Post>,
    records: u64,
}

impl Lane {
    async fn run(self, stream: std::net::TcpStream, budget: Budget) -> BenchResult<Tally> {
        let mut connection = HttpConnection::adopt(stream)?;
        let mut tally = Tally::new()?;
        let mut failures = 0;
        while budget.take(self.post.body_bytes) {
            if !connection.is_usable() {
                connection = HttpConnection::connect(&self.target).await?;
            }
            let start = Instant::now();
            match connection.exchange(&self.post.request).await {
                Ok(answer) => {
                    failures = 0;
                    tally.record_latency(start.elapsed());
                    self.count(&answer, &mut tally);
                }
                Err(error) => {
                    failures += 1;
                    tally.record_error(|| error.to_string());
                    if failures > FAILURES_MAX {
                        return Err(error);
                    }
                    tokio::time::sleep(RECONNECT_PAUSE).await;
                }
            }
        }
        Ok(tally)
    }

    fn count(&self, answer: &Answer, tally: &mut Tally) {
        tally.requests += 1;
        if !answer.is_success() || has_record_error(&answer.body) {
            tally.record_error(|| answer.describe());
            return;
        }
        tally.records += self.records;
        tally.bytes += self.post.body_bytes;
    }
}

/// Tells whether any record of a 200 was refused: the v2 contract says so within the body.
fn has_record_error(body: &[u8]) -> bool {
    const FIELD: &[u8] = b"\"error_code\":";
    let is_set = |at: usize| {
        let value = body.get(at + FIELD.len()..).unwrap_or_default().trim_ascii_start();
        !value.starts_with(b"null")
    };
    memmem::find_iter(body, FIELD).any(is_set)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_records_are_seen_within_a_200() {
        assert!(!has_record_error(br#"{"offsets":[{"offset":1,"error_code":null}]}"#));
        assert!(!has_record_error(br#"{"offsets":[{"offset":1}]}"#));
        assert!(has_record_error(br#"{"offsets":[{"error_code": null},{"error_code": 50003}]}"#));
    }
}
