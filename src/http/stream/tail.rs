//! The shared cache of encoded records: read, check, decode and encode once, send N times.
//!
//! A [`Tail`] keeps the newest chunks of one partition in one format, for as long as a stream of
//! it is open. Streams that keep up find everything there. A stream that is further behind reads
//! for itself and leaves nothing behind, so that it cannot push out what the others need.
//!
//! Lock order: a window, then the locks of the engine. Neither is held across an await.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{Shared, WeakShared};
use parking_lot::{Mutex, MutexGuard};

use super::chunk::{CHUNK_BYTES, Chunk, Keep};
use super::cursor::ClusterTag;
use super::encode::{Batches, Target};
use super::params::Format;
use crate::base::ids::{Offset, PartitionId, TopicId};
use crate::base::shutdown::Shutdown;
use crate::engine::log::{Bounds, Fetched, Isolation, Read, ReadError};
use crate::engine::topics::Topic;
use crate::engine::{BoxFuture, Engine, Later};

/// Bytes that one tail keeps.
const WINDOW_BYTES_MAX: usize = 1024 * 1024;

/// Bytes that one tail keeps for filters: with its records a chunk costs several times its text,
/// and a thousand filters take longer to look at it than a thousand sockets to send it.
const FILTERED_WINDOW_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Bytes of all tails above which each keeps only its newest chunk.
const CACHE_BYTES_SOFT: usize = 64 * 1024 * 1024;

/// Bytes of all tails above which nothing is kept.
const CACHE_BYTES_HARD: usize = 128 * 1024 * 1024;

/// Decoded batches that may wait for their next chunk. One may be 64 MiB when it is decompressed;
/// without room it is decompressed once more for every chunk.
const OPEN_BATCHES_MAX: usize = 4;

/// Why there is no chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LoadError {
    /// The topic was deleted.
    Gone,
    /// The offset lies outside of the log.
    OutOfRange(Bounds),
    /// The log could not be read.
    Storage(String),
    /// A batch is damaged.
    Damaged(String),
    /// There is nothing at the offset yet.
    Nothing {
        /// The high watermark when it was read: there may be more once that has moved.
        high_watermark: Offset,
    },
    /// The server is stopping.
    Stopping,
}

/// A chunk, or why there is none.
pub(super) type Loaded = Result<Arc<Chunk>, LoadError>;

/// A load that several streams may wait for; it goes on while one of them does.
pub(super) type SharedLoad = Shared<BoxFuture<Loaded>>;

/// What a tail says when it is asked for an offset.
#[derive(Debug)]
pub(super) enum Lookup {
    /// The answer.
    Now(Loaded),
    /// The answer takes time.
    Later(SharedLoad),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    topic: TopicId,
    partition: PartitionId,
    format: Format,
    isolation: Isolation,
    keep: Keep,
}

/// All tails of a server.
pub(super) struct Tails {
    engine: Engine,
    shutdown: Shutdown,
    cluster: ClusterTag,
    tails: Mutex<HashMap<Key, Weak<Tail>>>,
    /// Bytes of all windows. A plain counter: windows publish their chunks by their own locks.
    bytes: AtomicUsize,
    /// Batches kept open. A plain counter as well.
    open_batches: AtomicUsize,
}

/// The newest records of one partition in one format.
pub(super) struct Tail {
    tails: Arc<Tails>,
    topic: Arc<Topic>,
    key: Key,
    window: Mutex<Window>,
}

/// Chunks without a gap between them, oldest first.
#[derive(Default)]
struct Window {
    chunks: VecDeque<Arc<Chunk>>,
    bytes: usize,
    /// The load that streams wait for, by its offset. Weak, because the load itself holds the tail.
    loading: Option<(Offset, WeakShared<BoxFuture<Loaded>>)>,
    /// A batch that was decoded and has more records than the last chunk took.
    open: Option<Box<OpenBatch>>,
}

/// A decoded batch and where to go on in it.
struct OpenBatch {
    next: Offset,
    batches: Batches,
    tails: Arc<Tails>,
}

// === impl Tails ===

impl Tails {
    /// Makes an empty cache.
    pub(super) fn new(engine: Engine, shutdown: Shutdown, cluster: ClusterTag) -> Arc<Self> {
        Arc::new(Self {
            engine,
            shutdown,
            cluster,
            tails: Mutex::default(),
            bytes: AtomicUsize::new(0),
            open_batches: AtomicUsize::new(0),
        })
    }

    /// Finds or makes the tail of a partition, in a format and as far as an isolation lets see.
    pub(super) fn tail(
        self: &Arc<Self>,
        topic: &Arc<Topic>,
        partition: PartitionId,
        format: &Format,
        isolation: Isolation,
        keep: Keep,
    ) -> Arc<Tail> {
        let key = Key { topic: topic.id, partition, format: format.clone(), isolation, keep };
        let mut tails = self.tails.lock();
        if let Some(known) = tails.get(&key).and_then(Weak::upgrade) {
            return known;
        }
        let tail = Arc::new(Tail {
            tails: Arc::clone(self),
            topic: Arc::clone(topic),
            key: key.clone(),
            window: Mutex::default(),
        });
        tails.insert(key, Arc::downgrade(&tail));
        tail
    }

    /// Bytes of all windows.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    fn keep_open(self: &Arc<Self>, next: Offset, batches: Batches) -> Option<Box<OpenBatch>> {
        let before = self.open_batches.fetch_add(1, Ordering::Relaxed);
        let open = OpenBatch { next, batches, tails: Arc::clone(self) };
        // Dropping it gives the place back.
        (before < OPEN_BATCHES_MAX).then(|| Box::new(open))
    }
}

impl Drop for OpenBatch {
    fn drop(&mut self) {
        self.tails.open_batches.fetch_sub(1, Ordering::Relaxed);
    }
}

// === impl Tail ===

impl Drop for Tail {
    fn drop(&mut self) {
        self.tails.bytes.fetch_sub(self.window.get_mut().bytes, Ordering::Relaxed);
        let mut tails = self.tails.tails.lock();
        // Another stream may have made a new tail for the key meanwhile.
        if tails.get(&self.key).is_some_and(|known| known.strong_count() == 0) {
            tails.remove(&self.key);
        }
    }
}

impl Tail {
    /// Finds the chunk that holds `offset`, or reads it.
    ///
    /// What is quick to read is read at once under the lock: of a thousand streams that wake
    /// together, one reads and the others find it.
    pub(super) fn get(self: &Arc<Self>, offset: Offset) -> Lookup {
        let mut window = self.window.lock();
        if let Some(chunk) = window.find(offset) {
            return Lookup::Now(Ok(chunk));
        }
        if let Some(load) = window.loading(offset) {
            return Lookup::Later(load);
        }
        let open = window.open.take_if(|open| open.next == offset);
        if window.is_history(offset) {
            drop(window);
            return match self.read(offset, open) {
                Reading::Done(loaded, _) => Lookup::Now(loaded),
                Reading::Slow(load) => Lookup::Later(load.shared()),
            };
        }
        match self.read(offset, open) {
            Reading::Done(loaded, open) => {
                if let Ok(chunk) = &loaded {
                    self.keep(&mut window, Arc::clone(chunk), open);
                }
                Lookup::Now(loaded)
            }
            Reading::Slow(load) => {
                let load = load.shared();
                window.loading = load.downgrade().map(|weak| (offset, weak));
                Lookup::Later(load)
            }
        }
    }

    fn keep(
        &self,
        window: &mut MutexGuard<'_, Window>,
        chunk: Arc<Chunk>,
        open: Option<Box<OpenBatch>>,
    ) {
        let before = window.bytes;
        let others = self.tails.bytes.load(Ordering::Relaxed).saturating_sub(before);
        let most = match self.key.keep {
            Keep::Text => WINDOW_BYTES_MAX,
            Keep::Records => FILTERED_WINDOW_BYTES_MAX,
        };
        window.push(chunk, others, most);
        if open.is_some() {
            window.open = open;
        }
        let after = window.bytes;
        self.tails.bytes.fetch_add(after, Ordering::Relaxed);
        self.tails.bytes.fetch_sub(before, Ordering::Relaxed);
    }

    fn read(self: &Arc<Self>, offset: Offset, open: Option<Box<OpenBatch>>) -> Reading {
        if let Some(mut open) = open {
            let batches = std::mem::replace(&mut open.batches, Batches::new(Bytes::new()));
            return Reading::Slow(self.decode_later(offset, batches));
        }
        let read = Read {
            topic: self.topic.name.clone(),
            partition: self.key.partition,
            offset,
            bytes_max: CHUNK_BYTES,
            isolation: self.key.isolation,
        };
        let fetched = match self.tails.engine.log.read(read) {
            Later::Now(Ok(fetched)) => fetched,
            Later::Now(Err(error)) => return Reading::Done(Err(self.explain(error)), None),
            later => {
                let this = Arc::clone(self);
                return Reading::Slow(Box::pin(async move {
                    match later.await {
                        Ok(fetched) => this.load_later(offset, fetched).await,
                        Err(error) => Err(this.explain(error)),
                    }
                }));
            }
        };
        // A read that was cut by its bound is history, maybe not in memory; one that was not has
        // the end of the log, which was written just now.
        if fetched.records.len() >= CHUNK_BYTES {
            return Reading::Slow(Arc::clone(self).load_later(offset, fetched));
        }
        let high_watermark = fetched.bounds.high_watermark;
        let batches = match fetched.records.into_bytes() {
            Ok(bytes) => Batches::new(bytes).read_at(high_watermark).without(fetched.aborted),
            Err(error) => return Reading::Done(Err(LoadError::Storage(error.to_string())), None),
        };
        if batches.is_compressed() {
            return Reading::Slow(self.decode_later(offset, batches));
        }
        match self.decode(offset, batches) {
            Ok((chunk, open)) => Reading::Done(Ok(chunk), open),
            Err(error) => Reading::Done(Err(error), None),
        }
    }

    fn load_later(self: Arc<Self>, offset: Offset, fetched: Fetched) -> BoxFuture<Loaded> {
        Box::pin(async move {
            let Fetched { records, aborted, bounds } = fetched;
            let reading = self.tails.shutdown.run_blocking(move || records.into_bytes()).await;
            match reading {
                Some(Ok(bytes)) => {
                    let batches = Batches::new(bytes).read_at(bounds.high_watermark);
                    let batches = batches.without(aborted);
                    self.decode_later(offset, batches).await
                }
                Some(Err(error)) => Err(LoadError::Storage(error.to_string())),
                None => Err(LoadError::Stopping),
            }
        })
    }

    fn decode_later(self: &Arc<Self>, offset: Offset, batches: Batches) -> BoxFuture<Loaded> {
        let this = Arc::clone(self);
        Box::pin(async move {
            let worker = Arc::clone(&this);
            let decoding = this.tails.shutdown.run_blocking(move || worker.decode(offset, batches));
            let (chunk, open) = decoding.await.unwrap_or(Err(LoadError::Stopping))?;
            let mut window = this.window.lock();
            this.keep(&mut window, Arc::clone(&chunk), open);
            if window.loading.as_ref().is_some_and(|(of, _)| *of == offset) {
                window.loading = None;
            }
            Ok(chunk)
        })
    }

    /// Makes the chunk at `offset`, and keeps what is left of a batch that is longer.
    fn decode(
        &self,
        offset: Offset,
        mut batches: Batches,
    ) -> Result<(Arc<Chunk>, Option<Box<OpenBatch>>), LoadError> {
        let target = Target {
            topic: &self.topic,
            partition: self.key.partition,
            format: &self.key.format,
            keep: self.key.keep,
            cluster: self.tails.cluster,
            isolation: self.key.isolation,
        };
        let chunk = batches.encode(offset, target);
        if self.is_gone() {
            return Err(LoadError::Gone);
        }
        let chunk = chunk.map_err(|error| LoadError::Damaged(error.to_string()))?;
        if chunk.next <= offset {
            return Err(LoadError::Nothing { high_watermark: batches.high_watermark() });
        }
        let left = batches.is_open().then(|| self.tails.keep_open(chunk.next, batches));
        Ok((Arc::new(chunk), left.flatten()))
    }

    /// Tells whether the topic was deleted. Reads go by name, and a topic that was made anew under
    /// the same name is another one: what was read before this says no is of the right one.
    pub(super) fn is_gone(&self) -> bool {
        let topic = self.tails.engine.topics.find(self.topic.name.as_str());
        topic.is_none_or(|topic| topic.id != self.topic.id)
    }

    /// The topic.
    pub(super) const fn topic(&self) -> &Arc<Topic> {
        &self.topic
    }

    fn explain(&self, error: ReadError) -> LoadError {
        match error {
            ReadError::UnknownPartition { .. } => LoadError::Gone,
            _ if self.is_gone() => LoadError::Gone,
            ReadError::OffsetOutOfRange { bounds, .. } => LoadError::OutOfRange(bounds),
            ReadError::Storage(reason) => LoadError::Storage(reason),
        }
    }
}

/// The answer to a read, or what will bring it.
enum Reading {
    Done(Loaded, Option<Box<OpenBatch>>),
    Slow(BoxFuture<Loaded>),
}

// === impl Window ===

impl Window {
    fn find(&self, offset: Offset) -> Option<Arc<Chunk>> {
        let newest = self.chunks.back()?;
        if offset >= newest.next {
            return None;
        }
        if offset >= newest.first {
            return Some(Arc::clone(newest));
        }
        let at = self.chunks.partition_point(|chunk| chunk.first <= offset);
        self.chunks.get(at.checked_sub(1)?).map(Arc::clone)
    }

    /// Tells whether the offset lies before everything that is kept.
    fn is_history(&self, offset: Offset) -> bool {
        self.chunks.front().is_some_and(|oldest| offset < oldest.first)
    }

    fn loading(&self, offset: Offset) -> Option<SharedLoad> {
        let (of, weak) = self.loading.as_ref()?;
        if *of == offset { weak.upgrade() } else { None }
    }

    /// Adds a chunk at the end, as far as the bounds allow: `most` bytes here, and `others` of other
    /// windows.
    fn push(&mut self, chunk: Arc<Chunk>, others: usize, most: usize) {
        match self.chunks.back() {
            Some(newest) if chunk.first < newest.next => return,
            Some(newest) if chunk.first > newest.next => self.clear(),
            _ => {}
        }
        self.bytes += chunk.cost();
        self.chunks.push_back(chunk);
        let bytes_max = if others >= CACHE_BYTES_SOFT { 0 } else { most };
        while self.bytes > bytes_max && self.chunks.len() > 1 {
            if let Some(oldest) = self.chunks.pop_front() {
                self.bytes -= oldest.cost();
            }
        }
        if others >= CACHE_BYTES_HARD {
            self.clear();
        }
    }

    fn clear(&mut self) {
        self.chunks.clear();
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::TopicName;
    use crate::protocol::record_batch::BatchBuilder;

    fn chunk(first: Offset, records: i64) -> Arc<Chunk> {
        let mut builder = BatchBuilder::new().at_offset(first);
        for _ in 0..records {
            builder.push(5, None, Some(b"1"), std::iter::empty());
        }
        let topic = Topic {
            name: TopicName::parse("t").unwrap(),
            id: TopicId::from_u128(1),
            partition_count: 1,
            is_internal: false,
            incarnation: 1,
            overrides: Default::default(),
        };
        let format = Format::default();
        let (format, keep, cluster) = (&format, Keep::Text, [0; 4]);
        let isolation = Isolation::default();
        let target = Target { topic: &topic, partition: 0, format, keep, cluster, isolation };
        Arc::new(Batches::new(builder.finish()).encode(first, target).unwrap())
    }

    #[test]
    fn a_window_is_one_run_of_offsets() {
        let mut window = Window::default();
        window.push(chunk(10, 5), 0, WINDOW_BYTES_MAX);
        window.push(chunk(15, 5), 0, WINDOW_BYTES_MAX);
        assert_eq!(window.find(12).unwrap().first, 10);
        assert_eq!(window.find(15).unwrap().first, 15);
        assert!(window.find(9).is_none() && window.is_history(9));
        assert!(window.find(20).is_none() && !window.is_history(20));
        // What is older is not kept; what does not follow begins anew.
        window.push(chunk(3, 5), 0, WINDOW_BYTES_MAX);
        assert_eq!(window.chunks.len(), 2);
        window.push(chunk(30, 1), 0, WINDOW_BYTES_MAX);
        assert_eq!((window.chunks.len(), window.bytes), (1, chunk(30, 1).cost()));
    }

    #[test]
    fn a_window_stays_within_its_bounds() {
        let mut window = Window::default();
        for at in 0..200 {
            window.push(chunk(at * 100, 100), 0, WINDOW_BYTES_MAX);
        }
        assert!(window.bytes <= WINDOW_BYTES_MAX && window.chunks.len() > 10);
        assert_eq!(window.bytes, window.chunks.iter().map(|c| c.cost()).sum::<usize>());
        window.push(chunk(20_000, 100), CACHE_BYTES_SOFT, WINDOW_BYTES_MAX);
        assert_eq!(window.chunks.len(), 1);
        window.push(chunk(20_100, 100), CACHE_BYTES_HARD, WINDOW_BYTES_MAX);
        assert_eq!((window.chunks.len(), window.bytes), (0, 0));
    }
}
