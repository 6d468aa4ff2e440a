//! The streams that are open: how many, whose, and where they are.
//!
//! A [`Permit`] is the right to have one stream open; dropping it takes the stream off the list.
//! What the list shows is written by the streams themselves when they send something, so looking
//! at it wakes nobody.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Context;
use std::time::Duration;

use futures_util::task::AtomicWaker;
use http::StatusCode;
use parking_lot::Mutex;
use smallvec::SmallVec;

use super::chunk::Keep;
use super::events::Gap;
use super::life::{self, Closed};
use super::part::Part;
use super::plan::Plan;
use super::tail::Tail;
use super::{ClusterTag, Hub};
use crate::base::ids::{Offset, PartitionId, TimestampMs};
use crate::base::registered::Registered;
use crate::engine::Engine;
use crate::engine::topics::Topic;
use crate::http::error::{ApiError, ApiResult};
use crate::http::metrics::ReasonLabels;

/// Where one partition of an open stream is.
#[derive(Debug, Clone)]
pub(super) struct Spot {
    pub(super) topic: Arc<Topic>,
    pub(super) partition: PartitionId,
    /// The offset that the stream sends next.
    pub(super) next: Offset,
}

/// Where a stream is, and what it was sent.
#[derive(Debug, Clone, Default)]
pub(super) struct Progress {
    pub(super) records: u64,
    pub(super) bytes: u64,
    pub(super) spots: SmallVec<[Spot; 1]>,
}

/// What is known of one open stream.
pub(super) struct OpenStream {
    pub(super) id: String,
    /// Who reads it.
    pub(super) client: Option<SocketAddr>,
    pub(super) opened: TimestampMs,
    hot: Hot,
    waker: AtomicWaker,
}

/// What the stream touches for every frame. A line of the cache is enough for it: with thousands
/// of streams each further one has to come from memory.
#[derive(Default)]
#[repr(align(64))]
struct Hot {
    /// Written for every frame, so nobody keeps the lock.
    progress: Mutex<Progress>,
    /// An administrator wants it to end.
    is_condemned: AtomicBool,
}

const _: () = assert!(size_of::<Hot>() == 64);

impl OpenStream {
    /// How far it is.
    pub(super) fn progress(&self) -> Progress {
        self.hot.progress.lock().clone()
    }
}

/// All streams of a server, by identity.
#[derive(Default)]
pub(super) struct OpenStreams {
    by_id: Mutex<BTreeMap<String, Arc<OpenStream>>>,
    by_ip: Mutex<HashMap<IpAddr, usize>>,
}

impl OpenStreams {
    /// Finds a stream.
    pub(super) fn find(&self, id: &str) -> Option<Arc<OpenStream>> {
        self.by_id.lock().get(id).cloned()
    }

    /// Lists streams by identity, those behind `after` only.
    pub(super) fn list(&self, after: &str, count: usize) -> Vec<Arc<OpenStream>> {
        let streams = self.by_id.lock();
        let behind = (std::ops::Bound::Excluded(after), std::ops::Bound::Unbounded);
        streams.range::<str, _>(behind).take(count).map(|(_, stream)| Arc::clone(stream)).collect()
    }

    /// Number of streams.
    pub(super) fn len(&self) -> usize {
        self.by_id.lock().len()
    }

    /// Ends a stream; tells whether there was one.
    pub(super) fn condemn(&self, id: &str) -> bool {
        let Some(stream) = self.find(id) else { return false };
        stream.hot.is_condemned.store(true, Ordering::Release);
        stream.waker.wake();
        true
    }

    fn take_place(&self, ip: IpAddr, most: usize) -> ApiResult<()> {
        let mut by_ip = self.by_ip.lock();
        let count = by_ip.entry(ip).or_insert(0);
        if *count >= most {
            let message = format!("client {ip} has {count} live streams open, as many as it may");
            return Err(ApiError::status(StatusCode::TOO_MANY_REQUESTS, message));
        }
        *count += 1;
        Ok(())
    }

    fn give_place_back(&self, ip: IpAddr) {
        let mut by_ip = self.by_ip.lock();
        if let Some(count) = by_ip.get_mut(&ip) {
            *count -= 1;
            if *count == 0 {
                by_ip.remove(&ip);
            }
        }
    }
}

/// The right to have one stream open, until it is dropped.
pub(super) struct Permit {
    hub: Arc<Hub>,
    stream: Arc<OpenStream>,
    /// The address that has taken a place.
    placed: Option<IpAddr>,
    phase: Phase,
    /// Who is woken when the stream shall end.
    registered: Registered,
}

/// How far a stream came, so that its end is counted once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// It may still be refused.
    Opening,
    /// It was answered.
    Open,
    /// Its end was counted.
    Closed,
}

impl Permit {
    /// Asks for the right.
    ///
    /// # Errors
    /// 429 says which limit is reached.
    pub(super) fn acquire(hub: &Arc<Hub>, client: Option<SocketAddr>) -> ApiResult<Self> {
        let ip = client.map(|client| client.ip().to_canonical());
        let most = ip.and_then(|ip| hub.options.streams_per_ip.most(ip));
        if let (Some(ip), Some(most)) = (ip, most) {
            hub.open.take_place(ip, most)?;
        }
        let stream = Arc::new(OpenStream {
            id: life::random_stream_id(),
            client,
            opened: hub.clock.now_ms(),
            hot: Hot::default(),
            waker: AtomicWaker::new(),
        });
        let placed = most.and(ip);
        let mut by_id = hub.open.by_id.lock();
        let before = by_id.len();
        if before >= hub.options.streams_max {
            drop(by_id);
            if let Some(ip) = placed {
                hub.open.give_place_back(ip);
            }
            let message = format!("server has {before} live streams open, as many as it may");
            return Err(ApiError::status(StatusCode::TOO_MANY_REQUESTS, message));
        }
        by_id.insert(stream.id.clone(), Arc::clone(&stream));
        drop(by_id);
        hub.metrics.streams_active.inc();
        Ok(Self {
            hub: Arc::clone(hub),
            stream,
            placed,
            phase: Phase::Opening,
            registered: Registered::default(),
        })
    }

    pub(super) fn id(&self) -> &str {
        &self.stream.id
    }

    pub(super) fn engine(&self) -> &Engine {
        &self.hub.engine
    }

    pub(super) fn cluster(&self) -> ClusterTag {
        self.hub.cluster
    }

    pub(super) fn now_ms(&self) -> TimestampMs {
        self.hub.clock.now_ms()
    }

    /// Time over which streams end now that the server stops.
    pub(super) fn drain_spread(&self) -> Duration {
        self.hub.drain_spread()
    }

    /// The shared tail of a partition as the stream wants to see it.
    pub(super) fn tail(
        &self,
        topic: &Arc<Topic>,
        partition: PartitionId,
        plan: &Plan,
    ) -> Arc<Tail> {
        let keep = if plan.filter.is_some() { Keep::Records } else { Keep::Text };
        self.hub.tails.tail(topic, partition, &plan.format, plan.isolation, keep)
    }

    /// Tells whether the stream shall end, and lets its task be woken when it shall.
    pub(super) fn is_condemned(&mut self, context: &Context<'_>) -> bool {
        if !self.registered.is_by(context) {
            self.stream.waker.register(context.waker());
        }
        self.stream.hot.is_condemned.load(Ordering::Acquire)
    }

    /// Notes which partitions the stream has now, and where it is in them.
    pub(super) fn place(&self, parts: &[Part]) {
        let spot = |part: &Part| Spot {
            topic: Arc::clone(part.tail.topic()),
            partition: part.span.partition,
            next: part.span.next,
        };
        self.stream.hot.progress.lock().spots = parts.iter().map(spot).collect();
    }

    /// Counts what was handed to the connection, after which the stream is where `parts` say.
    pub(super) fn sent(&self, records: u64, bytes: usize, parts: &[Part]) {
        self.hub.metrics.stream_records.inc_by(records);
        self.hub.metrics.stream_bytes.inc_by(bytes as u64);
        let mut progress = self.stream.hot.progress.lock();
        progress.records += records;
        progress.bytes += bytes as u64;
        for (spot, part) in progress.spots.iter_mut().zip(parts) {
            spot.next = part.span.next;
        }
    }

    pub(super) fn count_gap(&self, gap: &Gap) {
        self.hub.metrics.stream_gaps.get_or_create(&gap.reason.labels()).inc();
    }

    pub(super) fn opened(mut self) -> Self {
        self.phase = Phase::Open;
        self
    }

    pub(super) fn close(&mut self, reason: Closed) {
        if self.phase == Phase::Open {
            self.phase = Phase::Closed;
            let labels = ReasonLabels { reason: reason.as_str() };
            self.hub.metrics.streams_closed.get_or_create(&labels).inc();
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        // Who drops the body before its end is the client.
        self.close(Closed::Client);
        self.hub.open.by_id.lock().remove(&self.stream.id);
        if let Some(ip) = self.placed {
            self.hub.open.give_place_back(ip);
        }
        self.hub.metrics.streams_active.dec();
    }
}
