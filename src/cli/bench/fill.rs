//! Fills a topic by the Kafka protocol, for streams that read it from its beginning.

use std::iter;

use clap::Args;

use super::BenchResult;
use super::kafka_produce::{Acks, check_produced, encode_produce, produce_version};
use super::load::ByteSize;
use super::payload::{BuiltBatch, event_value, now_ms};
use super::wire_client::WireClient;
use crate::protocol::ApiKey;
use crate::protocol::record_batch::BatchBuilder;

/// What a topic is filled with.
#[derive(Debug, Clone, Args)]
pub(super) struct FillArgs {
    /// Partitions of the topic.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..))]
    pub(super) partitions: i32,
    /// Bytes of values to fill the topic with.
    #[arg(long, default_value = "512MB")]
    pub(super) bytes: ByteSize,
    /// Bytes of a record's value, a JSON object.
    #[arg(long, default_value = "1KB")]
    pub(super) record_bytes: ByteSize,
    /// Bytes of values in one batch of the log.
    #[arg(long, default_value = "64KiB")]
    log_batch_bytes: ByteSize,
}

/// What the topic holds.
#[derive(Debug, Default)]
pub(super) struct Filled {
    pub(super) records: u64,
    pub(super) payload_bytes: u64,
}

/// Fills the partitions in turn with one batch, sent again and again.
pub(super) async fn fill(kafka: &str, topic: &str, args: &FillArgs) -> BenchResult<Filled> {
    let mut client = WireClient::connect(kafka).await?;
    let topic = client.ensure_topic(topic, args.partitions).await?;
    let version = produce_version(&topic, &client.versions())?;
    let batch = log_batch(args)?;
    let mut filled = Filled::default();
    let places = topic.partitions.iter().cycle();
    for place in places.take_while(|_| batch.payload_bytes > 0) {
        if filled.payload_bytes >= args.bytes.0.max(1) {
            break;
        }
        let mut frame = encode_produce(&topic, place.index, &batch, Acks::Leader, version)?;
        let body = client.call(ApiKey::Produce, version, &mut frame).await?;
        check_produced(body, version)?;
        filled.records += batch.records;
        filled.payload_bytes += batch.payload_bytes;
    }
    Ok(filled)
}

fn log_batch(args: &FillArgs) -> BenchResult<BuiltBatch> {
    let record_bytes = usize::try_from(args.record_bytes.0)?;
    let mut builder = BatchBuilder::new();
    let (mut records, mut payload_bytes) = (0, 0);
    while records == 0 || payload_bytes + args.record_bytes.0 <= args.log_batch_bytes.0 {
        let value = event_value(records, record_bytes);
        builder.push(now_ms(), None, Some(value.as_bytes()), iter::empty());
        records += 1;
        payload_bytes += value.len() as u64;
    }
    Ok(BuiltBatch { bytes: builder.finish(), records, payload_bytes })
}
