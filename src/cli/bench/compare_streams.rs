//! Live streams beside the bare broadcast, in alternating rounds of the same client.
//!
//! Both sides have the same streams, rate, event size and reader. Hydrant also stores what it is
//! sent, and its CPU time has that in it. Both are sent their events, so that their latencies begin
//! alike: with a request. The bare broadcast can also make its events itself.

use std::str::FromStr;

use clap::Args;

use super::compare::{Load, Turns, delete_topic, topic_name};
use super::compare_report::{Comparison, Kind, print};
use super::kafka_produce::Acks;
use super::limit::{LimitPublish, LimitSseArgs};
use super::load::{ByteSize, positive};
use super::sse::SseArgs;
use super::sse_request::StreamRequest;
use super::{BenchError, BenchResult};

/// Bytes of an event.
const EVENT_BYTES: ByteSize = ByteSize(100);

/// How many streams, and how many events a second to each: `1000x100`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct StreamLoad {
    /// Streams.
    pub(super) streams: usize,
    /// Events a second to each.
    pub(super) rate: f64,
}

impl FromStr for StreamLoad {
    type Err = BenchError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rule = || format!("{text:?} must be STREAMSxRATE, such as 1000x100");
        let (streams, rate) = text.split_once('x').ok_or_else(rule)?;
        let streams = streams.parse().ok().filter(|n| *n > 0).ok_or_else(rule)?;
        Ok(Self { streams, rate: positive(rate).map_err(|_| rule())? })
    }
}

/// Arguments of `bench compare-streams`.
#[derive(Debug, Args)]
pub(super) struct CompareStreamsArgs {
    /// Hydrant's HTTP door.
    #[arg(long, value_name = "URL")]
    hydrant_http: String,
    /// Hydrant's Kafka door, to publish by and to delete the topic; otherwise events are published
    /// by REST, the server must create topics by itself and they stay.
    #[arg(long, value_name = "HOST:PORT")]
    hydrant_kafka: Option<String>,
    /// Hydrant's process.
    #[arg(long, value_delimiter = ',')]
    hydrant_pid: Vec<u32>,
    /// Streams and events a second to each, with commas between loads.
    #[arg(long, value_delimiter = ',', default_value = "1000x100,3000x100")]
    load: Vec<StreamLoad>,
    /// Rounds of each side.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds of a round.
    #[arg(long, default_value = "10.0", value_parser = positive)]
    seconds: f64,
    /// Where the events of the bare broadcast come from.
    #[arg(long, value_enum, default_value = "http")]
    limit_publish: LimitPublish,
    /// Threads that read streams.
    #[arg(long, default_value_t = 1)]
    client_threads: usize,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Compares every load and prints all of it.
pub(super) async fn run(args: &CompareStreamsArgs) -> BenchResult<()> {
    let mut comparisons = Vec::new();
    for load in &args.load {
        let side = StreamsSide {
            http: args.hydrant_http.clone(),
            kafka: args.hydrant_kafka.clone(),
            pid: args.hydrant_pid.clone(),
            topic: topic_name("streams"),
            seconds: args.seconds,
            publish: args.limit_publish,
            client_threads: args.client_threads,
        };
        let compared = compare(&side, *load, args.rounds).await;
        delete_topic(args.hydrant_kafka.iter(), &side.topic).await;
        comparisons.push(compared?);
    }
    print(&comparisons, args.json);
    Ok(())
}

/// Hydrant, and how rounds are run.
#[derive(Debug)]
pub(super) struct StreamsSide {
    /// Its HTTP door.
    pub(super) http: String,
    /// Its Kafka door.
    pub(super) kafka: Option<String>,
    /// Its processes.
    pub(super) pid: Vec<u32>,
    /// Topic that is published to.
    pub(super) topic: String,
    /// Seconds of a round.
    pub(super) seconds: f64,
    /// Where the events of the bare broadcast come from.
    pub(super) publish: LimitPublish,
    /// Threads that read streams.
    pub(super) client_threads: usize,
}

/// Compares one load. There is no round to warm up: memory per stream is that of the first one.
pub(super) async fn compare(
    side: &StreamsSide,
    load: StreamLoad,
    rounds: usize,
) -> BenchResult<Comparison> {
    let StreamLoad { streams, rate } = load;
    let (seconds, client_threads) = (side.seconds, side.client_threads);
    let hydrant = SseArgs {
        http: side.http.clone(),
        pid: side.pid.clone(),
        kafka: side.kafka.clone(),
        topic: side.topic.clone(),
        partitions: 1,
        request: StreamRequest::default().with_query("from=latest"),
        streams,
        rate,
        event_bytes: EVENT_BYTES,
        seconds,
        acks: Acks::Leader,
        idle: false,
        client_threads,
        json: false,
    };
    let bare = LimitSseArgs {
        streams,
        rate,
        event_bytes: EVENT_BYTES,
        seconds,
        publish: side.publish,
        idle: false,
        client_threads,
        json: false,
    };
    let loads = [("hydrant", Load::Sse(hydrant)), ("limit", Load::LimitSse(bare))];
    let title = format!("{streams} live streams, {rate} events/s of {} B to each", EVENT_BYTES.0);
    Turns { warmup: 0, measured: rounds }.take(title, Kind::Streams, &loads).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loads_are_streams_and_a_rate() {
        let load = |text: &str| text.parse::<StreamLoad>().ok();
        assert_eq!(load("1000x100"), Some(StreamLoad { streams: 1000, rate: 100.0 }));
        assert_eq!(load("3x0.5"), Some(StreamLoad { streams: 3, rate: 0.5 }));
        for text in ["1000", "0x5", "5x0", "x", "5x-1", "axb"] {
            assert_eq!(load(text), None, "{text}");
        }
    }
}
