//! Streams against the real embedded engine, their bodies polled directly.

mod admin;
mod flow;
mod life;
mod many;
mod muted;
mod resume;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use http_body_util::BodyExt;
use parking_lot::Mutex;

use super::sse::parser::{Event, parse};
use super::{Ask, HttpMetrics, StreamHub, StreamOptions};
use crate::base::clock::ManualClock;
use crate::base::ids::{Offset, PartitionId, TopicName};
use crate::base::shutdown::Shutdown;
use crate::engine::embedded::{Embedded, EmbeddedOptions};
use crate::engine::log::{
    AckLevel, Append, Bounds, Fetched, Isolation, ListedOffset, Log, OffsetSpec, Read, ReadError,
    Receipt, Records,
};
use crate::engine::topics::CreateTopic;
use crate::engine::{Engine, Later};
use crate::http::error::{ApiError, ApiResult};
use crate::protocol::record_batch::BatchBuilder;

/// The moment at which tests begin.
const NOW: i64 = 1_790_000_000_000;

/// A broker with a hub, gone when the test is over.
struct World {
    embedded: Embedded,
    engine: Engine,
    clock: Arc<ManualClock>,
    shutdown: Shutdown,
    metrics: Arc<HttpMetrics>,
    spy: Arc<Spy>,
    _dir: tempfile::TempDir,
}

impl Drop for World {
    fn drop(&mut self) {
        self.shutdown.stop();
        self.embedded.close();
    }
}

/// Stands between the hub and the log: counts reads, damages what they answer or lets them fail.
struct Spy {
    log: Arc<dyn Log>,
    reads: AtomicUsize,
    damage: Mutex<Option<Offset>>,
    failing: Mutex<Option<PartitionId>>,
}

impl Log for Spy {
    fn append(&self, append: Append) -> Later<Result<Receipt, crate::engine::log::AppendError>> {
        self.log.append(append)
    }

    fn read(&self, read: Read) -> Later<Result<Fetched, ReadError>> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        if *self.failing.lock() == Some(read.partition) {
            return Later::Now(Err(ReadError::Storage("too many open files".to_owned())));
        }
        let is_damaged = self.damage.lock().is_some_and(|offset| read.offset >= offset);
        let answer = self.log.read(read);
        let Later::Now(Ok(fetched)) = answer else { return answer };
        if !is_damaged || fetched.records.is_empty() {
            return Later::Now(Ok(fetched));
        }
        let mut bytes = fetched.records.into_bytes().unwrap().to_vec();
        *bytes.last_mut().unwrap() ^= 1;
        let records = Records::Memory(bytes.into());
        Later::Now(Ok(Fetched { records, ..fetched }))
    }

    fn list_offset(
        &self,
        topic: &TopicName,
        partition: PartitionId,
        spec: OffsetSpec,
        isolation: Isolation,
    ) -> Later<Result<Option<ListedOffset>, ReadError>> {
        self.log.list_offset(topic, partition, spec, isolation)
    }

    fn delete_records(
        &self,
        topic: &TopicName,
        partition: PartitionId,
        up_to: crate::engine::log::DeleteUpTo,
    ) -> crate::engine::BoxFuture<Result<Offset, crate::engine::log::DeleteRecordsError>> {
        self.log.delete_records(topic, partition, up_to)
    }

    fn bounds(&self, topic: &TopicName, partition: PartitionId) -> Result<Bounds, ReadError> {
        self.log.bounds(topic, partition)
    }

    fn watch(
        &self,
        topic: &TopicName,
        partition: PartitionId,
    ) -> Result<tokio::sync::watch::Receiver<Offset>, ReadError> {
        self.log.watch(topic, partition)
    }
}

impl World {
    async fn open() -> Self {
        Self::with_janitor(Duration::from_secs(3600)).await
    }

    async fn with_janitor(janitor_interval: Duration) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at(NOW));
        let shutdown = Shutdown::new();
        let options = EmbeddedOptions {
            data_dir: dir.path().to_owned(),
            settings: Vec::new(),
            groups: Default::default(),
            janitor_interval,
            clock: clock.clone(),
        };
        let embedded = Embedded::open(options, shutdown.clone()).await.unwrap();
        let mut engine = embedded.engine();
        let log = Arc::clone(&engine.log);
        let (reads, damage, failing) = Default::default();
        let spy = Arc::new(Spy { log, reads, damage, failing });
        engine.log = spy.clone();
        let metrics = Arc::new(HttpMetrics::default());
        Self { embedded, engine, clock, shutdown, metrics, spy, _dir: dir }
    }

    fn hub(&self) -> StreamHub {
        self.hub_with(StreamOptions::default())
    }

    fn hub_with(&self, options: StreamOptions) -> StreamHub {
        let (clock, shutdown) = (self.clock.clone(), self.shutdown.clone());
        StreamHub::new(self.engine.clone(), clock, options, self.metrics.clone(), shutdown)
    }

    async fn create(&self, name: &str, partitions: i32) {
        self.create_with(name, partitions, &[]).await;
    }

    async fn create_with(&self, name: &str, partitions: i32, configs: &[(&str, &str)]) {
        let configs = configs.iter().map(|(k, v)| ((*k).to_owned(), Some((*v).to_owned())));
        let request = CreateTopic {
            name: name.to_owned(),
            partition_count: Some(partitions),
            configs: configs.collect(),
            ..CreateTopic::default()
        };
        self.engine.topics.create(request).await.unwrap();
    }

    /// Appends one batch of values.
    fn produce(&self, topic: &str, partition: PartitionId, values: &[&str]) {
        let mut builder = BatchBuilder::new();
        for value in values {
            builder.push(NOW, None, Some(value.as_bytes()), std::iter::empty());
        }
        self.append(topic, partition, builder.finish());
    }

    fn append(&self, topic: &str, partition: PartitionId, batch: Bytes) {
        let topic = TopicName::parse(topic).unwrap();
        let level = AckLevel::Written;
        let append = Append { topic, partition, batch, level };
        let Later::Now(receipt) = self.engine.log.append(append) else { panic!("not at once") };
        receipt.unwrap();
    }

    fn closed(&self, reason: &'static str) -> u64 {
        let labels = super::ReasonLabels { reason };
        self.metrics.streams_closed.get_or_create(&labels).get()
    }

    fn gaps(&self, reason: &'static str) -> u64 {
        self.metrics.stream_gaps.get_or_create(&super::ReasonLabels { reason }).get()
    }

    fn reads(&self) -> usize {
        self.spy.reads.load(Ordering::Relaxed)
    }
}

/// In place of a topic: the query names the topics.
const SEVERAL: &str = "";

/// A client of one stream.
struct Client {
    response: Response,
    bytes: Vec<u8>,
}

impl Client {
    async fn open(hub: &StreamHub, topic: &str, query: &str) -> Self {
        Self::try_open(hub, topic, query, None).await.unwrap()
    }

    async fn resume(hub: &StreamHub, topic: &str, query: &str, id: &str) -> Self {
        Self::try_open(hub, topic, query, Some(id)).await.unwrap()
    }

    async fn try_open(
        hub: &StreamHub,
        topic: &str,
        query: &str,
        id: Option<&str>,
    ) -> Result<Self, ApiError> {
        let mut headers = HeaderMap::new();
        if let Some(id) = id.filter(|id| !id.is_empty()) {
            headers.insert("last-event-id", HeaderValue::from_str(id).unwrap());
        }
        let query = Some(query);
        let topic = (topic != SEVERAL).then_some(topic);
        let ask = Ask { topic, query, body: None, headers: &headers, client: None };
        let opened: ApiResult<Response> = hub.open(ask).await;
        Ok(Self { response: opened?, bytes: Vec::new() })
    }

    fn header(&self, name: &str) -> &str {
        self.response.headers()[name].to_str().unwrap()
    }

    /// Reads one frame; none at the end.
    async fn frame(&mut self) -> Option<Bytes> {
        let waiting = self.response.body_mut().frame();
        let frame = tokio::time::timeout(Duration::from_secs(20), waiting).await;
        let data = frame.expect("a frame within 20 s")?.unwrap().into_data().unwrap();
        self.bytes.extend_from_slice(&data);
        Some(data)
    }

    /// Tells whether there is nothing to read now.
    async fn is_idle(&mut self) -> bool {
        use http_body::Body;
        std::future::poll_fn(|context| {
            let body = std::pin::Pin::new(self.response.body_mut());
            std::task::Poll::Ready(body.poll_frame(context).is_pending())
        })
        .await
    }

    fn events(&self) -> Vec<Event> {
        parse(&self.bytes).0
    }

    /// The events of a name.
    fn named(&self, name: &str) -> Vec<Event> {
        self.events().into_iter().filter(|event| event.name == name).collect()
    }

    /// Reads until there are so many records.
    async fn records(&mut self, count: usize) -> Vec<Event> {
        while self.named("message").len() < count {
            self.frame().await.expect("more frames");
        }
        self.named("message")
    }

    /// Reads until there is an event of a name.
    async fn until(&mut self, name: &str) -> Event {
        loop {
            if let Some(event) = self.named(name).into_iter().next() {
                return event;
            }
            self.frame().await.expect("more frames");
        }
    }

    /// Reads to the end.
    async fn rest(&mut self) -> Vec<Event> {
        while self.frame().await.is_some() {}
        self.events()
    }
}

/// Partition and offset of a record.
fn place(event: &Event) -> (i64, i64) {
    let json: serde_json::Value = serde_json::from_str(&event.data).unwrap();
    (json["partition"].as_i64().unwrap(), json["offset"].as_i64().unwrap())
}

fn places(events: &[Event]) -> Vec<(i64, i64)> {
    events.iter().filter(|event| event.name == "message").map(place).collect()
}

fn values(events: &[Event]) -> Vec<String> {
    let value = |event: &Event| {
        let json: serde_json::Value = serde_json::from_str(&event.data).unwrap();
        json["value"].to_string()
    };
    events.iter().filter(|event| event.name == "message").map(value).collect()
}
