//! Opens many consumer instances by REST and leaves them idle: what only having them costs.
//!
//! Every instance is created, subscribed, given its assignment and polled once. Memory per instance
//! is the server's resident growth from before the first to when all of them idle; CPU time and
//! `seconds` are those of the idle window alone, while no client is connected; latencies are those
//! of the requests that opened the instances.

use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};

use super::BenchResult;
use super::http_client::{HttpConnection, Target};
use super::load::{deal, positive, run_on_threads};
use super::payload;
use super::proc_stat::{self, Meter};
use super::report::{Measurement, Tally, Unit, rounded};
use super::wire_client::WireClient;

/// Media type of everything but records.
const CONTROL_TYPE: &str = "application/vnd.kafka.v2+json";

/// Media type of records.
const RECORDS_TYPE: &str = "application/vnd.kafka.json.v2+json";

/// Pause before memory is read: rebalances end, and the buffers of idle instances are released
/// (5 s after their last call).
const SETTLE: Duration = Duration::from_secs(12);

/// Arguments of `bench http-instances`.
#[derive(Debug, Clone, Args)]
pub(super) struct HttpInstancesArgs {
    /// A server of the v2 contract.
    #[arg(long, value_name = "URL")]
    pub(super) http: String,
    /// Processes of the server, to measure their CPU time and memory.
    #[arg(long, value_delimiter = ',')]
    pub(super) pid: Vec<u32>,
    /// A broker by which the topic is made; without it the server must make topics by itself.
    #[arg(long, value_name = "HOST:PORT")]
    pub(super) kafka: Option<String>,
    /// Instances to open.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) count: u32,
    /// Groups that the instances are spread over; every newcomer rebalances its group.
    #[arg(long, default_value_t = 2_500, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) groups: u32,
    /// Topic that all of them subscribe to.
    #[arg(long, default_value = "bench-instances")]
    pub(super) topic: String,
    /// Partitions of a topic that is made.
    #[arg(long, default_value_t = 4)]
    pub(super) partitions: i32,
    /// Records to produce first, so that the polls have something to bring.
    #[arg(long, default_value_t = 100)]
    pub(super) fill_records: usize,
    /// `timeout` of the one poll, in milliseconds.
    #[arg(long, default_value_t = 200)]
    pub(super) timeout_ms: u64,
    /// How long the instances idle while CPU time is measured.
    #[arg(long, default_value = "10.0", value_parser = positive)]
    pub(super) seconds: f64,
    /// Connections that open the instances; all are closed before memory is read.
    #[arg(long, default_value_t = 32)]
    pub(super) connections: usize,
    /// Threads of the client.
    #[arg(long, default_value_t = 1)]
    pub(super) client_threads: usize,
    /// Print one JSON object.
    #[arg(long)]
    pub(super) json: bool,
}

/// Runs the load and measures it.
pub(super) async fn measure(args: &HttpInstancesArgs) -> BenchResult<Measurement> {
    let target = Target::parse(&args.http)?;
    if let Some(kafka) = &args.kafka {
        WireClient::connect(kafka).await?.ensure_topic(&args.topic, args.partitions).await?;
    }
    fill(args, &target).await?;
    let before = proc_stat::memory(&args.pid)?.rss_bytes;
    let begun = Instant::now();
    let mut tally = open_all(args, &target).await?;
    let open_seconds = begun.elapsed().as_secs_f64();
    tokio::time::sleep(SETTLE).await;
    let memory = proc_stat::memory(&args.pid)?;
    let meter = Meter::start(&args.pid)?;
    let idle = Instant::now();
    tokio::time::sleep(Duration::from_secs_f64(args.seconds)).await;
    let (seconds, cost) = (idle.elapsed().as_secs_f64(), meter.finish()?);
    let mut extras = vec![
        ("instances", json!(args.count)),
        ("groups", json!(args.groups)),
        ("open_seconds", json!(rounded(open_seconds))),
        ("open_requests", json!(tally.requests)),
        ("polled_records", json!(tally.records)),
    ];
    // The seconds of the report are those of the idle window, in which there is no request.
    (tally.requests, tally.records) = (0, 0);
    if !args.pid.is_empty() {
        let growth = memory.rss_bytes.saturating_sub(before);
        let per_instance = growth as f64 / f64::from(args.count);
        extras.push(("rss_bytes_before_instances", json!(before)));
        extras.push(("rss_bytes_idle_instances", json!(memory.rss_bytes)));
        extras.push(("rss_bytes_per_instance", json!(per_instance.round())));
    }
    let work = format!(
        "{} idle instances in {} groups, each created, subscribed and polled once",
        args.count, args.groups,
    );
    Ok(Measurement { work, unit: Unit::Record, seconds, tally, cost, extras })
}

/// Fills the topic; that also makes it, on a server that makes topics by itself.
async fn fill(args: &HttpInstancesArgs, target: &Target) -> BenchResult<()> {
    let records: Vec<Value> = (0..args.fill_records.max(1)).map(|n| json!({"value": n})).collect();
    let body = json!({ "records": records }).to_string();
    let headers = [("content-type", RECORDS_TYPE), ("accept", CONTROL_TYPE)];
    let request =
        target.request("POST", &format!("/topics/{}", args.topic), &headers, body.as_bytes());
    let mut connection = HttpConnection::connect(target).await?;
    connection.exchange(&request).await?.expect_success("filling the topic")?;
    Ok(())
}

/// Opens all instances; gives each the time to be assigned and then polls it.
async fn open_all(args: &HttpInstancesArgs, target: &Target) -> BenchResult<Tally> {
    let run = payload::now_ns();
    let shares = deal((0..args.count).collect(), args.connections);
    let mut workers = Vec::new();
    for numbers in shares {
        let stream = HttpConnection::connect(target).await?.into_parts()?.0;
        workers.push(Worker { args: args.clone(), target: target.clone(), run, numbers, stream });
    }
    let tallies = run_on_threads(deal(workers, args.client_threads), |workers| async move {
        let tasks: Vec<_> =
            workers.into_iter().map(|one| tokio::task::spawn_local(one.run())).collect();
        let mut tally = Tally::new()?;
        for task in tasks {
            tally.merge(&task.await??)?;
        }
        Ok(tally)
    });
    Tally::sum(tallies.await?)
}

/// One connection with the instances that it opens.
#[derive(Debug)]
struct Worker {
    args: HttpInstancesArgs,
    target: Target,
    /// Tells the groups of this run from those of others.
    run: u64,
    numbers: Vec<u32>,
    stream: std::net::TcpStream,
}

impl Worker {
    async fn run(self) -> BenchResult<Tally> {
        let mut connection = HttpConnection::adopt(self.stream.try_clone()?)?;
        let mut tally = Tally::new()?;
        for number in &self.numbers {
            let group = self.group(*number);
            let body = json!({
                "name": format!("i{number}"),
                "format": "json",
                "auto.offset.reset": "earliest",
            });
            let path = format!("/consumers/{group}");
            self.ask(&mut connection, ("POST", &path, &body.to_string()), &mut tally).await?;
            let path = self.instance(*number, "subscription");
            let body = json!({ "topics": [self.args.topic] }).to_string();
            self.ask(&mut connection, ("POST", &path, &body), &mut tally).await?;
        }
        for number in &self.numbers {
            // Answers when the rebalance is over.
            let path = self.instance(*number, "assignments");
            self.ask(&mut connection, ("GET", &path, ""), &mut tally).await?;
            let query = format!("records?timeout={}", self.args.timeout_ms);
            let path = self.instance(*number, &query);
            tally.records += self.ask(&mut connection, ("GET", &path, ""), &mut tally).await?;
        }
        Ok(tally)
    }

    fn group(&self, number: u32) -> String {
        format!("bench-{}-{}", self.run, number % self.args.groups)
    }

    fn instance(&self, number: u32, what: &str) -> String {
        format!("/consumers/{}/instances/i{number}/{what}", self.group(number))
    }

    /// Sends one request and returns how many records the answer has.
    async fn ask(
        &self,
        connection: &mut HttpConnection,
        (method, path, body): (&str, &str, &str),
        tally: &mut Tally,
    ) -> BenchResult<u64> {
        if !connection.is_usable() {
            *connection = HttpConnection::connect(&self.target).await?;
        }
        let is_poll = path.contains("/records?");
        let accept = if is_poll { RECORDS_TYPE } else { CONTROL_TYPE };
        let headers = [("content-type", CONTROL_TYPE), ("accept", accept)];
        let headers = if body.is_empty() { &headers[1..] } else { &headers[..] };
        let request = self.target.request(method, path, headers, body.as_bytes());
        let start = Instant::now();
        let answer = connection.exchange(&request).await?;
        tally.record_latency(start.elapsed());
        tally.requests += 1;
        let body = answer.expect_success(path)?;
        Ok(memchr::memmem::find_iter(&body, b"\"offset\":").count() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{BenchArgs, Command};
    use clap::{Args, FromArgMatches};

    #[test]
    fn no_instances_and_no_groups_are_refused() {
        let parse = |arguments: &[&str]| {
            let command = BenchArgs::augment_args(clap::Command::new("bench"));
            let all = ["bench", "http-instances", "--http", "http://h"].iter().chain(arguments);
            let matches = command.try_get_matches_from(all).ok()?;
            BenchArgs::from_arg_matches(&matches).ok()
        };
        let parsed = parse(&["--count", "7"]).unwrap();
        assert!(matches!(parsed.command, Command::HttpInstances(args) if args.count == 7));
        assert!(parse(&["--count", "0"]).is_none());
        assert!(parse(&["--groups", "0"]).is_none());
    }
}
