//! Publishes events at a steady rate: by REST, by the Kafka protocol, or by asking the bare
//! broadcast server to do it itself.

use std::iter;
use std::time::{Duration, Instant};

use super::http_client::{HttpConnection, Target};
use super::kafka_produce::{Acks, check_produced, encode_produce, produce_version};
use super::load::whole;
use super::payload::{self, BuiltBatch, event_value};
use super::sse_request::event_key;
use super::wire_client::{Topic, WireClient};
use super::{BenchError, BenchResult};
use crate::protocol::ApiKey;
use crate::protocol::record_batch::BatchBuilder;

/// Most events that are published at once when the publisher is late.
const EVENTS_AT_ONCE_MAX: u64 = 1000;

/// How events are spread over time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Schedule {
    /// Events a second.
    pub(super) rate: f64,
    /// Events in all, with sequence numbers from 0.
    pub(super) events: u64,
    /// Bytes of an event.
    pub(super) event_bytes: usize,
    /// Keys that events have in turn; 0 for events without a key.
    pub(super) keys: u64,
}

impl Schedule {
    /// Events that are due `elapsed` after the start.
    pub(super) fn due(&self, elapsed: Duration) -> u64 {
        whole(elapsed.as_secs_f64().mul_add(self.rate, 1.0)).min(self.events)
    }

    /// Makes the event `sequence`.
    fn event(&self, sequence: u64) -> Event {
        let key = sequence.checked_rem(self.keys).map(event_key);
        Event { key, value: event_value(sequence, self.event_bytes) }
    }

    /// When the event `sequence` is due.
    pub(super) fn moment(&self, sequence: u64) -> Duration {
        Duration::from_secs_f64(sequence as f64 / self.rate)
    }
}

/// A record to publish.
#[derive(Debug)]
struct Event {
    key: Option<String>,
    value: String,
}

/// What publishing came to.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Published {
    /// Events that were acknowledged.
    pub(super) events: u64,
    /// Most that an event was sent later than it was due.
    pub(super) late_max: Duration,
}

/// Where events are published.
#[derive(Debug)]
pub(super) enum Publisher {
    /// `POST /topics/{topic}`.
    Http {
        /// Keep-alive connection.
        connection: HttpConnection,
        /// The server.
        target: Target,
        /// Path and query.
        path: String,
    },
    /// Produce.
    Wire {
        /// Connection to the leader of the partition.
        client: Box<WireClient>,
        /// The topic; its partitions get events in turn.
        topic: Topic,
        /// Acknowledgements to ask for.
        acks: Acks,
    },
    /// The bare broadcast server, which publishes by itself.
    Inside {
        /// Connection for the one request.
        connection: HttpConnection,
        /// The server.
        target: Target,
    },
}

impl Publisher {
    /// Publishes one record that is not an event, so that the topic exists.
    pub(super) async fn touch(&mut self) -> BenchResult<()> {
        match self {
            Self::Http { .. } => {
                let value = "{\"touch\":true}".to_owned();
                self.send(&[Event { key: None, value }]).await
            }
            Self::Wire { .. } | Self::Inside { .. } => Ok(()),
        }
    }

    /// Publishes all events of `schedule`.
    pub(super) async fn run(&mut self, schedule: Schedule) -> BenchResult<Published> {
        if let Self::Inside { connection, target } = self {
            let Schedule { rate, events, event_bytes, keys: _ } = schedule;
            let path = format!("/bench/publish?rate={rate}&events={events}&bytes={event_bytes}");
            let answer = connection.exchange(&target.request("POST", &path, &[], b"")).await?;
            answer.expect_success("starting the publisher")?;
            tokio::time::sleep(schedule.moment(events)).await;
            return Ok(Published { events, late_max: Duration::ZERO });
        }
        let start = Instant::now();
        let mut published = Published::default();
        while published.events < schedule.events {
            let next = schedule.moment(published.events);
            tokio::time::sleep_until((start + next).into()).await;
            let elapsed = start.elapsed();
            published.late_max = published.late_max.max(elapsed.saturating_sub(next));
            let count = schedule.due(elapsed).saturating_sub(published.events);
            let sequences = (published.events..).take(count.clamp(1, EVENTS_AT_ONCE_MAX) as usize);
            let events: Vec<_> = sequences.map(|n| schedule.event(n)).collect();
            self.send(&events).await?;
            published.events += events.len() as u64;
        }
        Ok(published)
    }

    async fn send(&mut self, events: &[Event]) -> BenchResult<()> {
        match self {
            Self::Http { connection, target, path } => {
                if !connection.is_usable() {
                    *connection = HttpConnection::connect(target).await?;
                }
                let body = payload::produce_body_of(events.iter().map(|e| e.value.clone()));
                let headers = [("content-type", "application/vnd.kafka.json.v2+json")];
                let request = target.request("POST", path, &headers, &body);
                connection.exchange(&request).await?.expect_success("publishing").map(drop)
            }
            Self::Wire { client, topic, acks } => {
                let version = produce_version(topic, &client.versions())?;
                let partition = topic.partitions.first().map_or(0, |p| p.index);
                let batch = event_batch(events);
                let mut frame = encode_produce(topic, partition, &batch, *acks, version)?;
                topic.partitions.rotate_left(1);
                let body = client.call(ApiKey::Produce, version, &mut frame).await?;
                check_produced(body, version)
            }
            Self::Inside { .. } => Err(BenchError::from("the bare server publishes by itself")),
        }
    }
}

fn event_batch(events: &[Event]) -> BuiltBatch {
    let mut builder = BatchBuilder::new();
    let now = payload::now_ms();
    for event in events {
        let key = event.key.as_ref().map(String::as_bytes);
        builder.push(now, key, Some(event.value.as_bytes()), iter::empty());
    }
    let payload_bytes = events.iter().map(|e| e.value.len() as u64).sum();
    BuiltBatch { bytes: builder.finish(), records: events.len() as u64, payload_bytes }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_due_at_their_rate() {
        let schedule = Schedule { rate: 100.0, events: 150, event_bytes: 100, keys: 4 };
        assert_eq!(schedule.due(Duration::ZERO), 1);
        assert_eq!(schedule.due(Duration::from_millis(505)), 51);
        assert_eq!(schedule.due(Duration::from_secs(60)), 150);
        assert_eq!(schedule.moment(50), Duration::from_millis(500));
    }

    #[test]
    fn events_have_keys_in_turn_if_any() {
        let schedule = Schedule { rate: 1.0, events: 9, event_bytes: 100, keys: 4 };
        assert_eq!(schedule.event(6).key.as_deref(), Some("key-2"));
        assert_eq!(Schedule { keys: 0, ..schedule }.event(6).key, None);
    }
}
