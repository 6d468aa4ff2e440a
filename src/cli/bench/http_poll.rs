//! Polls consumer instances by REST: create, subscribe, `GET …/records`, delete (v2 contract).
//!
//! Bodies are counted and not parsed: a record is one `"offset":` in the answer, which the
//! generated records themselves do not contain.

use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use memchr::memmem;
use serde_json::{Value, json};

use super::BenchResult;
use super::http_client::{Answer, HttpConnection, Target};
use super::load::{Budget, ByteSize, deal, run_on_threads};
use super::payload::{self, Format, XorShift};
use super::proc_stat::Meter;
use super::report::{Measurement, Tally, Unit};
use super::wire_client::WireClient;

/// Media type of everything but records.
const CONTROL_TYPE: &str = "application/vnd.kafka.v2+json";

/// Records of one request while the topic is filled.
const FILL_RECORDS_PER_REQUEST: usize = 500;

/// Empty polls in a row that count as the end of the topic.
const EMPTY_POLLS_AT_END: u32 = 3;

/// How long the first record may take: joining the group comes before it.
const FIRST_RECORD_WAIT_MAX: Duration = Duration::from_secs(30);

/// Arguments of `bench http-poll`.
#[derive(Debug, Clone, Args)]
pub(super) struct HttpPollArgs {
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
    /// Small records to produce first.
    #[arg(long, default_value_t = 0)]
    pub(super) fill_records: usize,
    /// Embedded format.
    #[arg(long, value_enum, default_value = "json")]
    pub(super) format: Format,
    /// Consumer instances of one group, with a connection each.
    #[arg(long, default_value_t = 1)]
    pub(super) connections: usize,
    /// `max_bytes` of a poll.
    #[arg(long, default_value = "1MiB")]
    pub(super) max_bytes: ByteSize,
    /// `timeout` of a poll, in milliseconds.
    #[arg(long, default_value_t = 1000)]
    pub(super) timeout_ms: u64,
    /// Stop after this many bytes of answers instead of at the end of the topic.
    #[arg(long)]
    pub(super) bytes: Option<ByteSize>,
    /// Threads of the client.
    #[arg(long, default_value_t = 1)]
    pub(super) client_threads: usize,
    /// Print one JSON object.
    #[arg(long)]
    pub(super) json: bool,
}

/// One consumer instance.
#[derive(Debug)]
struct Instance {
    target: Target,
    stream: std::net::TcpStream,
    poll: Vec<u8>,
    delete: Vec<u8>,
}

/// What an instance counted, and when it got its first and its last record.
#[derive(Debug)]
struct Polled {
    tally: Tally,
    span: Option<(Instant, Instant)>,
}

/// Runs the load and measures it.
///
/// The clock runs from the first poll to the last that brought records, so the empty polls that
/// tell the end do not count; the CPU time of those does.
pub(super) async fn measure(args: &HttpPollArgs) -> BenchResult<Measurement> {
    let target = Target::parse(&args.http)?;
    if let Some(kafka) = &args.kafka {
        let mut client = WireClient::connect(kafka).await?;
        client.ensure_topic(&args.topic, args.partitions).await?;
    }
    fill(args, &target).await?;
    let group = format!("bench-{}", payload::now_ns());
    let mut instances = Vec::new();
    for nth in 0..args.connections.max(1) {
        instances.push(create(args, &target, &group, nth).await?);
    }
    let budget = Budget::start(Some(args.bytes.map_or(u64::MAX, |b| b.0)), 0.0);
    let meter = Meter::start(&args.pid)?;
    let polled = poll_all(instances, args.client_threads, budget).await?;
    let cost = meter.finish()?;
    let mut tally = Tally::new()?;
    let mut whole: Option<(Instant, Instant)> = None;
    for one in polled {
        tally.merge(&one.tally)?;
        if let Some((first, last)) = one.span {
            whole = Some(whole.map_or((first, last), |(f, l)| (f.min(first), l.max(last))));
        }
    }
    let (first, last) = whole.ok_or("no record came")?;
    let seconds = last.duration_since(first).as_secs_f64();
    let work = format!(
        "http poll of {}, {}, max_bytes={}, {} connections",
        args.topic,
        args.format.name(),
        args.max_bytes.0,
        args.connections,
    );
    let extras = vec![("bytes_of", json!("answers"))];
    Ok(Measurement { work, unit: Unit::Record, seconds, tally, cost, extras })
}

async fn fill(args: &HttpPollArgs, target: &Target) -> BenchResult<()> {
    let mut random = XorShift::new(payload::SEED);
    let mut connection = HttpConnection::connect(target).await?;
    let headers = [("content-type", args.format.media_type()), ("accept", CONTROL_TYPE)];
    let path = format!("/topics/{}?acks=1", args.topic);
    let mut left = args.fill_records;
    while left > 0 {
        let count = left.min(FILL_RECORDS_PER_REQUEST);
        let body = payload::produce_body(&mut random, args.format, count);
        if !connection.is_usable() {
            connection = HttpConnection::connect(target).await?;
        }
        let answer = connection.exchange(&target.request("POST", &path, &headers, &body)).await?;
        answer.expect_success("filling the topic")?;
        left -= count;
    }
    Ok(())
}

async fn create(
    args: &HttpPollArgs,
    target: &Target,
    group: &str,
    nth: usize,
) -> BenchResult<Instance> {
    let headers = [("content-type", CONTROL_TYPE), ("accept", CONTROL_TYPE)];
    let mut body = json!({
        "name": format!("instance-{nth}"),
        "format": args.format.name(),
        "auto.offset.reset": "earliest",
        "auto.commit.enable": "false",
    });
    let mut answer = ask_for_instance(target, group, &body).await?;
    if !answer.is_success() {
        // Strimzi's bridge refuses fields that it does not know, and this is how it spells one.
        if let Some(fields) = body.as_object_mut() {
            fields.remove("auto.commit.enable");
            fields.insert("enable.auto.commit".to_owned(), json!(false));
        }
        answer = ask_for_instance(target, group, &body).await?;
    }
    let answer = answer.expect_success("creating a consumer")?;
    let created: Value = serde_json::from_slice(&answer)?;
    let base = created.get("base_uri").and_then(Value::as_str);
    let (target, path) = instance_address(target, base.ok_or("the consumer has no base_uri")?)?;
    let mut connection = HttpConnection::connect(&target).await?;
    let body = json!({ "topics": [args.topic] }).to_string();
    let request =
        target.request("POST", &format!("{path}/subscription"), &headers, body.as_bytes());
    connection.exchange(&request).await?.expect_success("subscribing")?;
    let query = format!("timeout={}&max_bytes={}", args.timeout_ms, args.max_bytes.0);
    let accept = [("accept", args.format.media_type())];
    Ok(Instance {
        poll: target.request("GET", &format!("{path}/records?{query}"), &accept, b""),
        delete: target.request("DELETE", &path, &headers, b""),
        stream: HttpConnection::connect(&target).await?.into_parts()?.0,
        target,
    })
}

async fn ask_for_instance(target: &Target, group: &str, body: &Value) -> BenchResult<Answer> {
    let headers = [("content-type", CONTROL_TYPE), ("accept", CONTROL_TYPE)];
    let path = format!("/consumers/{group}");
    let request = target.request("POST", &path, &headers, body.to_string().as_bytes());
    HttpConnection::connect(target).await?.exchange(&request).await
}

/// Takes the instance's path from its `base_uri`, but stays with the server that was named: a
/// proxy may announce a host name that is not ours to resolve.
fn instance_address(target: &Target, base_uri: &str) -> BenchResult<(Target, String)> {
    let uri: http::Uri = base_uri.parse()?;
    let root = Target::parse(&format!("http://{}", target.authority))?;
    Ok((root, uri.path().to_owned()))
}

async fn poll_all(
    instances: Vec<Instance>,
    threads: usize,
    budget: Budget,
) -> BenchResult<Vec<Polled>> {
    let budget = Arc::new(budget);
    let polled = run_on_threads(deal(instances, threads), move |instances| {
        let budget = Arc::clone(&budget);
        async move {
            let spawn = |one: Instance| tokio::task::spawn_local(one.run(Arc::clone(&budget)));
            let tasks: Vec<_> = instances.into_iter().map(spawn).collect();
            let mut polled = Vec::new();
            for task in tasks {
                polled.push(task.await??);
            }
            Ok(polled)
        }
    });
    Ok(polled.await?.into_iter().flatten().collect())
}

impl Instance {
    async fn run(self, budget: Arc<Budget>) -> BenchResult<Polled> {
        let mut connection = HttpConnection::adopt(self.stream)?;
        let mut polled = Polled { tally: Tally::new()?, span: None };
        let begun = Instant::now();
        let mut empty = 0;
        loop {
            if !connection.is_usable() {
                connection = HttpConnection::connect(&self.target).await?;
            }
            let start = Instant::now();
            let answer = connection.exchange(&self.poll).await?;
            let now = Instant::now();
            let body = answer.expect_success("polling")?;
            let records = memmem::find_iter(&body, b"\"offset\":").count() as u64;
            if records == 0 {
                empty += 1;
                let is_waiting = polled.span.is_none() && begun.elapsed() < FIRST_RECORD_WAIT_MAX;
                if empty >= EMPTY_POLLS_AT_END && !is_waiting {
                    break;
                }
                continue;
            }
            empty = 0;
            polled.tally.record_latency(now.duration_since(start));
            polled.tally.requests += 1;
            polled.tally.records += records;
            polled.tally.bytes += body.len() as u64;
            polled.span = Some((polled.span.map_or(start, |(first, _)| first), now));
            if !budget.take(body.len() as u64) {
                break;
            }
        }
        // Failing to delete leaves an instance that expires by itself.
        let _answer = connection.exchange(&self.delete).await;
        Ok(polled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_polled_where_the_server_was_reached() {
        let target = Target::parse("http://127.0.0.1:8082").unwrap();
        let (target, path) =
            instance_address(&target, "http://proxy.internal/consumers/g/instances/i").unwrap();
        assert_eq!(target.authority, "127.0.0.1:8082");
        assert_eq!(path, "/consumers/g/instances/i");
    }
}
