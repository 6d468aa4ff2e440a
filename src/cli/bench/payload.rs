//! What is sent: record batches, JSON records and events, from a generator with a fixed seed.

use std::iter;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use clap::ValueEnum;

use crate::protocol::record_batch::BatchBuilder;

/// Seed of every run, so that two servers get the same bytes.
pub(super) const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

/// Bytes of a value in the binary format.
const BINARY_VALUE_BYTES: usize = 60;

/// Name of the event field that holds its sequence number.
pub(super) const SEQUENCE_FIELD: &str = "bench_seq";

/// Name of the event field that holds when it was sent, in nanoseconds since the Unix epoch.
pub(super) const SENT_FIELD: &str = "bench_ns";

/// Marsaglia's xorshift64: cheap and incompressible enough.
#[derive(Debug, Clone)]
pub(super) struct XorShift(u64);

impl XorShift {
    /// Starts from `seed`; zero, which would stay zero, is replaced.
    pub(super) const fn new(seed: u64) -> Self {
        Self(if seed == 0 { SEED } else { seed })
    }

    /// Returns the next number.
    pub(super) const fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Fills `bytes`.
    pub(super) fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let number = self.next().to_le_bytes();
            chunk.copy_from_slice(number.get(..chunk.len()).unwrap_or_default());
        }
    }
}

/// How a batch is filled.
#[derive(Debug, Clone, Copy)]
pub(super) enum BatchFill {
    /// With this many records.
    Records(usize),
    /// With as many records as stay within this many bytes, but at least one.
    Bytes(usize),
}

/// A record batch ready to be sent any number of times.
#[derive(Debug, Clone)]
pub(super) struct BuiltBatch {
    /// The batch.
    pub(super) bytes: Bytes,
    /// Records in it.
    pub(super) records: u64,
    /// Bytes of their values.
    pub(super) payload_bytes: u64,
}

/// Builds one batch of random records of `record_bytes` bytes each.
pub(super) fn batch(random: &mut XorShift, record_bytes: usize, fill: BatchFill) -> BuiltBatch {
    // Length, attributes, deltas, key, value length and header count of a record at most.
    const RECORD_OVERHEAD_BYTES_MAX: usize = 20;
    let mut builder = BatchBuilder::new();
    let mut value = vec![0; record_bytes];
    let mut records = 0;
    loop {
        let is_full = match fill {
            BatchFill::Records(count) => records >= count,
            BatchFill::Bytes(limit) => {
                builder.bytes() + record_bytes + RECORD_OVERHEAD_BYTES_MAX > limit
            }
        };
        if is_full && records > 0 {
            break;
        }
        random.fill(&mut value);
        builder.push(now_ms(), None, Some(&value), iter::empty());
        records += 1;
    }
    let payload_bytes = (records * record_bytes) as u64;
    BuiltBatch { bytes: builder.finish(), records: records as u64, payload_bytes }
}

/// Embedded format of records on the HTTP door.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// JSON values.
    Json,
    /// Base64 strings.
    Binary,
}

impl Format {
    /// Name in the body that creates a consumer instance.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Binary => "binary",
        }
    }

    /// Media type of records in this format.
    pub(super) const fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/vnd.kafka.json.v2+json",
            Self::Binary => "application/vnd.kafka.binary.v2+json",
        }
    }
}

/// Builds the body of a v2 produce request with `records` small records.
pub(super) fn produce_body(random: &mut XorShift, format: Format, records: usize) -> Vec<u8> {
    let values = (0..records).map(|_| match format {
        Format::Json => json_value(random),
        Format::Binary => {
            let mut value = [0; BINARY_VALUE_BYTES];
            random.fill(&mut value);
            format!("\"{}\"", STANDARD.encode(value))
        }
    });
    produce_body_of(values)
}

/// Builds the body of a v2 produce request from JSON texts.
pub(super) fn produce_body_of(values: impl Iterator<Item = String>) -> Vec<u8> {
    let mut body = b"{\"records\":[".to_vec();
    for (at, value) in values.enumerate() {
        if at > 0 {
            body.push(b',');
        }
        body.extend_from_slice(b"{\"value\":");
        body.extend_from_slice(value.as_bytes());
        body.push(b'}');
    }
    body.extend_from_slice(b"]}");
    body
}

/// A reading of a sensor, some sixty bytes.
pub(super) fn json_value(random: &mut XorShift) -> String {
    let (id, place) = (random.next() % 1_000_000, random.next() % 1_000);
    let reading = random.next() % 10_000;
    let (whole, rest) = (reading / 100, reading % 100);
    format!(r#"{{"id":{id},"sensor":"room-{place}","reading":{whole}.{rest:02},"ok":true}}"#)
}

/// An event of about `bytes` bytes that says which one it is and when it was sent.
pub(super) fn event_value(sequence: u64, bytes: usize) -> String {
    let sent = now_ns();
    let head = format!(r#"{{"{SEQUENCE_FIELD}":{sequence},"{SENT_FIELD}":{sent},"pad":""#);
    let pad = bytes.saturating_sub(head.len() + 2);
    format!("{head}{}\"}}", "x".repeat(pad))
}

/// Nanoseconds since the Unix epoch: a clock that two processes of one machine share.
pub(super) fn now_ns() -> u64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX)
}

/// Milliseconds since the Unix epoch.
pub(super) fn now_ms() -> i64 {
    i64::try_from(now_ns() / 1_000_000).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::record_batch::BatchHeader;

    #[test]
    fn a_batch_fills_its_bytes_or_its_records() {
        let mut random = XorShift::new(SEED);
        let built = batch(&mut random, 100, BatchFill::Bytes(65_536));
        assert!((65_000..=65_536).contains(&built.bytes.len()));
        let header = BatchHeader::parse(&built.bytes).unwrap();
        assert_eq!(u64::try_from(header.record_count).unwrap(), built.records);
        assert_eq!(batch(&mut random, 100, BatchFill::Records(1)).records, 1);
        assert_eq!(batch(&mut random, 1000, BatchFill::Bytes(10)).records, 1);
    }

    #[test]
    fn produce_bodies_are_json() {
        for format in [Format::Json, Format::Binary] {
            let body = produce_body(&mut XorShift::new(1), format, 3);
            let parsed: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(parsed["records"].as_array().unwrap().len(), 3);
        }
    }

    #[test]
    fn events_have_the_size_that_was_asked_for() {
        let event = event_value(7, 100);
        assert_eq!(event.len(), 100);
        let parsed: serde_json::Value = serde_json::from_str(&event).unwrap();
        assert_eq!(parsed[SEQUENCE_FIELD], 7);
    }
}
