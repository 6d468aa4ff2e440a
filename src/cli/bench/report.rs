//! What a run measured, and how it is printed: a table, or one JSON object.

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};
use std::time::Duration;

use super::BenchResult;
use super::proc_stat::Cost;

/// Significant digits of latencies.
const LATENCY_DIGITS: u8 = 3;

/// Longest latency that can be told apart, in nanoseconds: ten minutes.
const LATENCY_NS_MAX: u64 = 600_000_000_000;

/// Counts of one connection or one stream of work, and later their sum.
#[derive(Debug, Clone)]
pub(super) struct Tally {
    /// Requests answered.
    pub(super) requests: u64,
    /// Records (or events) carried by them.
    pub(super) records: u64,
    /// Bytes of batches, or of bodies on the HTTP door.
    pub(super) bytes: u64,
    /// Bytes of the records' values alone; 0 if nobody counted them.
    pub(super) payload_bytes: u64,
    /// Record batches, if they were counted.
    pub(super) batches: u64,
    /// Requests that failed.
    pub(super) errors: u64,
    /// What the first failure said.
    pub(super) first_error: Option<String>,
    /// Nanoseconds per request (or per event).
    latency: Histogram<u64>,
}

impl Tally {
    /// Starts at zero.
    pub(super) fn new() -> BenchResult<Self> {
        Ok(Self {
            requests: 0,
            records: 0,
            bytes: 0,
            payload_bytes: 0,
            batches: 0,
            errors: 0,
            first_error: None,
            latency: Histogram::new_with_bounds(1, LATENCY_NS_MAX, LATENCY_DIGITS)?,
        })
    }

    /// Records one latency.
    pub(super) fn record_latency(&mut self, latency: Duration) {
        self.record_latency_ns(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Records one latency in nanoseconds.
    pub(super) fn record_latency_ns(&mut self, nanoseconds: u64) {
        self.latency.saturating_record(nanoseconds);
    }

    /// Records one failure.
    pub(super) fn record_error(&mut self, what: impl FnOnce() -> String) {
        self.errors += 1;
        self.first_error.get_or_insert_with(what);
    }

    /// Adds `other` to this.
    pub(super) fn merge(&mut self, other: &Self) -> BenchResult<()> {
        self.requests += other.requests;
        self.records += other.records;
        self.bytes += other.bytes;
        self.payload_bytes += other.payload_bytes;
        self.batches += other.batches;
        self.errors += other.errors;
        if self.first_error.is_none() {
            self.first_error.clone_from(&other.first_error);
        }
        self.latency.add(&other.latency)?;
        Ok(())
    }

    /// Sums tallies.
    pub(super) fn sum(tallies: impl IntoIterator<Item = Self>) -> BenchResult<Self> {
        let mut sum = Self::new()?;
        for tally in tallies {
            sum.merge(&tally)?;
        }
        Ok(sum)
    }
}

/// What a run moved: records or events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// Records produced or fetched.
    Record,
    /// Events delivered to streams.
    Event,
}

impl Unit {
    const fn names(self) -> [&'static str; 3] {
        match self {
            Self::Record => ["records", "records_per_second", "server_cpu_us_per_record"],
            Self::Event => ["events", "events_per_second", "server_cpu_us_per_event"],
        }
    }
}

/// A finished run.
#[derive(Debug, Clone)]
pub(super) struct Measurement {
    /// What was done, in words.
    pub(super) work: String,
    /// What was counted.
    pub(super) unit: Unit,
    /// Wall time.
    pub(super) seconds: f64,
    /// Everything counted.
    pub(super) tally: Tally,
    /// CPU and memory.
    pub(super) cost: Cost,
    /// Figures of this kind of run alone, in the order they are printed.
    pub(super) extras: Vec<(&'static str, Value)>,
}

impl Measurement {
    /// Megabytes (10^6) per second.
    pub(super) fn mb_per_second(&self) -> f64 {
        self.tally.bytes as f64 / 1e6 / self.seconds
    }

    /// Requests per second.
    pub(super) fn requests_per_second(&self) -> f64 {
        self.tally.requests as f64 / self.seconds
    }

    /// Records or events per second.
    pub(super) fn records_per_second(&self) -> f64 {
        self.tally.records as f64 / self.seconds
    }

    /// Server CPU seconds per gigabyte (10^9).
    pub(super) fn cpu_seconds_per_gb(&self) -> Option<f64> {
        self.server_cpu_seconds_per(self.tally.bytes).map(|s| s * 1e9)
    }

    /// Server CPU microseconds per request.
    pub(super) fn cpu_us_per_request(&self) -> Option<f64> {
        self.server_cpu_seconds_per(self.tally.requests).map(|s| s * 1e6)
    }

    /// Server CPU microseconds per record or event.
    pub(super) fn cpu_us_per_record(&self) -> Option<f64> {
        self.server_cpu_seconds_per(self.tally.records).map(|s| s * 1e6)
    }

    fn server_cpu_seconds_per(&self, count: u64) -> Option<f64> {
        let server = self.cost.server?;
        (count > 0).then(|| server.cpu_seconds / count as f64)
    }

    /// A latency in microseconds at a quantile from 0 to 1, if any was recorded.
    pub(super) fn latency_us(&self, quantile: f64) -> Option<f64> {
        let latency = &self.tally.latency;
        (!latency.is_empty()).then(|| latency.value_at_quantile(quantile) as f64 / 1e3)
    }

    /// A figure of [`Measurement::extras`].
    pub(super) fn extra(&self, name: &str) -> Option<f64> {
        self.extras.iter().find(|(n, _)| *n == name).and_then(|(_, value)| value.as_f64())
    }

    /// Adds a later round of the same work; the extras become those of that round.
    pub(super) fn merge(&mut self, later: &Self) -> BenchResult<()> {
        self.seconds += later.seconds;
        self.tally.merge(&later.tally)?;
        self.cost.merge(&later.cost);
        self.extras.clone_from(&later.extras);
        Ok(())
    }

    /// Every figure under its name, in the order of the table.
    pub(super) fn figures(&self) -> Vec<(&'static str, Value)> {
        let tally = &self.tally;
        let mut out = Figures(vec![("work", json!(self.work))]);
        out.push("seconds", self.seconds);
        out.count("requests", tally.requests);
        out.push_if(tally.requests > 0, "requests_per_second", self.requests_per_second());
        let [records, per_second, cpu_per_record] = self.unit.names();
        out.count(records, tally.records);
        out.push_if(tally.records > 0, per_second, self.records_per_second());
        out.count("batches", tally.batches);
        out.count("bytes", tally.bytes);
        out.push_if(tally.bytes > 0, "mb_per_second", self.mb_per_second());
        out.count("payload_bytes", tally.payload_bytes);
        let payload = tally.payload_bytes as f64 / 1e6 / self.seconds;
        out.push_if(tally.payload_bytes > 0, "payload_mb_per_second", payload);
        out.0.push(("errors", json!(tally.errors)));
        if let Some(first) = &tally.first_error {
            out.0.push(("first_error", json!(first)));
        }
        for (name, quantile) in
            [("p50_us", 0.5), ("p99_us", 0.99), ("p999_us", 0.999), ("max_us", 1.0)]
        {
            out.option(name, self.latency_us(quantile));
        }
        if let Some(server) = self.cost.server {
            out.push("server_cpu_seconds", server.cpu_seconds);
            out.push("server_cpu_cores", server.cpu_seconds / self.seconds);
            out.option("cpu_seconds_per_gb", self.cpu_seconds_per_gb());
            out.option("server_cpu_us_per_request", self.cpu_us_per_request());
            out.option(cpu_per_record, self.cpu_us_per_record());
            out.0.push(("server_rss_bytes", json!(server.memory.rss_bytes)));
            out.0.push(("server_rss_bytes_peak", json!(server.memory.rss_bytes_peak)));
        }
        out.push("client_cpu_seconds", self.cost.client_cpu_seconds);
        out.0.extend(self.extras.iter().cloned());
        out.0
    }

    /// Every figure as one JSON object.
    pub(super) fn to_json(&self) -> Value {
        let figures = self.figures().into_iter();
        Value::Object(figures.map(|(name, value)| (name.to_owned(), value)).collect::<Map<_, _>>())
    }

    /// Prints the figures, as one line of JSON or as a table.
    pub(super) fn print(&self, json: bool) {
        if json {
            println!("{}", self.to_json());
            return;
        }
        for (name, value) in self.figures() {
            println!("{name:<28} {}", display(&value));
        }
    }
}

/// Figures under collection: what was not counted is left out.
struct Figures(Vec<(&'static str, Value)>);

impl Figures {
    fn push(&mut self, name: &'static str, value: f64) {
        self.0.push((name, json!(rounded(value))));
    }

    fn push_if(&mut self, counted: bool, name: &'static str, value: f64) {
        self.option(name, counted.then_some(value));
    }

    fn option(&mut self, name: &'static str, value: Option<f64>) {
        if let Some(value) = value {
            self.push(name, value);
        }
    }

    fn count(&mut self, name: &'static str, value: u64) {
        if value > 0 {
            self.0.push((name, json!(value)));
        }
    }
}

/// Keeps a thousandth: nothing here is measured better.
pub(super) fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

/// Writes a figure for people: thousands are grouped, small numbers keep three digits.
pub(super) fn display(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => match number.as_u64() {
            Some(whole) => grouped(&whole.to_string()),
            None => display_number(number.as_f64().unwrap_or(f64::NAN)),
        },
        other => other.to_string(),
    }
}

/// Writes a number with as many decimals as its size deserves.
pub(super) fn display_number(number: f64) -> String {
    let decimals = match number.abs() {
        0.0 => 0,
        n if n >= 100.0 => 0,
        n if n >= 10.0 => 1,
        n if n >= 1.0 => 2,
        _ => 3,
    };
    let text = format!("{number:.decimals$}");
    match text.split_once('.') {
        Some(_) => text,
        None => grouped(&text),
    }
}

fn grouped(digits: &str) -> String {
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) && !out.ends_with('-') {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!(grouped("1234567"), "1,234,567");
        assert_eq!(grouped("123"), "123");
        assert_eq!(display_number(1234.56), "1,235");
        assert_eq!(display_number(12.345), "12.3");
        assert_eq!(display_number(0.1234), "0.123");
        assert_eq!(display_number(-123.0), "-123");
    }

    #[test]
    fn rounds_merge_into_one_measurement() {
        let mut tally = Tally::new().unwrap();
        tally.bytes = 2_000_000;
        tally.requests = 2;
        tally.record_latency_ns(5_000);
        let (unit, cost) = (Unit::Record, Cost::default());
        let round =
            Measurement { work: "w".into(), unit, seconds: 1.0, tally, cost, extras: vec![] };
        let mut sum = round.clone();
        sum.merge(&round).unwrap();
        assert!((sum.mb_per_second() - 2.0).abs() < 1e-9);
        assert_eq!(sum.tally.requests, 4);
        assert!(sum.latency_us(0.5).is_some_and(|p50| (p50 - 5.0).abs() < 0.01));
        assert_eq!(sum.to_json()["mb_per_second"], json!(2.0));
        assert!(sum.to_json().get("server_cpu_seconds").is_none());
    }
}
