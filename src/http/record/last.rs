//! `from=-N`: where the last N records that a reader may see begin.
//!
//! Offsets are not records: the end of a transaction takes one, and what was aborted or compacted
//! away leaves holes. Batch headers are therefore counted backwards from the end, in steps that
//! double. One request looks through [`LOOK_BACK_BYTES_MAX`] of log at most; a partition that needs
//! more begins with the records that were counted, or at N offsets before the end. Files are read,
//! and records unpacked, where that holds nobody up.

use std::ops::Range;

use bytes::Bytes;

use crate::base::ids::{Offset, PartitionId, TopicName};
use crate::base::limits::LOOK_BACK_BYTES_MAX;
use crate::base::shutdown::Shutdown;
use crate::engine::Log;
use crate::engine::log::{AbortedTransaction, Bounds, Fetched, Isolation, Read, Records};
use crate::protocol::record_batch::{BatchError, BatchHeader, BatchRecords, Codec};

/// Bytes of log that are looked at between two turns of other tasks.
const STEP_BYTES: usize = 64 * 1024;

/// What a reader may see of a partition ends here.
pub(in crate::http) const fn end_of(bounds: Bounds, isolation: Isolation) -> Offset {
    match isolation {
        Isolation::ReadUncommitted => bounds.high_watermark,
        Isolation::ReadCommitted => bounds.last_stable_offset,
    }
}

/// One partition, as its reader may see it.
#[derive(Debug, Clone, Copy)]
pub(in crate::http) struct Seen<'a> {
    pub(in crate::http) topic: &'a TopicName,
    pub(in crate::http) partition: PartitionId,
    pub(in crate::http) bounds: Bounds,
    pub(in crate::http) isolation: Isolation,
}

/// What one request may still look through.
pub(in crate::http) struct LookBack {
    bytes: usize,
    partitions: usize,
    shutdown: Shutdown,
}

/// Nothing more can be said of a range.
struct Unknown;

impl LookBack {
    /// For a request of so many partitions; what one does not need is left to the others.
    pub(in crate::http) fn of(partitions: usize, shutdown: &Shutdown) -> Self {
        Self { bytes: LOOK_BACK_BYTES_MAX, partitions, shutdown: shutdown.clone() }
    }

    /// The offset of the `count`th last record of a partition, or where its log begins.
    ///
    /// # Cancel safety
    /// Safe: nothing changes.
    pub(in crate::http) async fn find(
        &mut self,
        log: &dyn Log,
        seen: Seen<'_>,
        count: i64,
    ) -> Offset {
        let (start, end) = (seen.bounds.log_start_offset, end_of(seen.bounds, seen.isolation));
        let bytes = self.bytes / self.partitions.max(1);
        let mut walk = Walk { log, seen, bytes, shutdown: &self.shutdown };
        self.bytes -= bytes;
        self.partitions = self.partitions.saturating_sub(1);
        let mut best = end.saturating_sub(count).max(start);
        let (mut upper, mut missing) = (end, count);
        // What has no more offsets than are wanted has no more records either.
        while upper - best >= missing && missing > 0 {
            let known = if upper < end { upper } else { best };
            let Ok(found) = walk.count(best..upper).await else {
                best = known;
                break;
            };
            if found >= missing {
                best = walk.skip(best..upper, found - missing).await.unwrap_or(known);
                break;
            }
            missing -= found;
            upper = best;
            best = best.saturating_sub(missing.max(end - best)).max(start);
        }
        let left = walk.bytes;
        self.bytes += left;
        best
    }
}

/// Goes over the batches of one partition.
struct Walk<'a> {
    log: &'a dyn Log,
    seen: Seen<'a>,
    /// What may still be read.
    bytes: usize,
    shutdown: &'a Shutdown,
}

/// What is looked for in a range of offsets.
#[derive(Debug, Clone, Copy)]
enum Goal {
    /// How many records it has; so many were found.
    Count(i64),
    /// The record after so many others.
    Skip(i64),
}

/// A look through a range of offsets.
struct Search {
    goal: Goal,
    range: Range<Offset>,
    next: Offset,
    found: Option<Offset>,
    is_over: bool,
}

/// One batch of a walk.
struct Batch<'b> {
    header: BatchHeader,
    bytes: &'b Bytes,
    is_hidden: bool,
}

impl Walk<'_> {
    /// Records of a range of offsets that the reader may see.
    async fn count(&mut self, range: Range<Offset>) -> Result<i64, Unknown> {
        match self.run(range, Goal::Count(0)).await?.goal {
            Goal::Count(found) => Ok(found),
            Goal::Skip(_) => Err(Unknown),
        }
    }

    /// The offset of the record after the first `skipped` of a range.
    async fn skip(&mut self, range: Range<Offset>, skipped: i64) -> Result<Offset, Unknown> {
        if skipped == 0 {
            return Ok(range.start);
        }
        self.run(range, Goal::Skip(skipped)).await?.found.ok_or(Unknown)
    }

    /// Looks at the batches of a range until the goal is reached.
    async fn run(&mut self, range: Range<Offset>, goal: Goal) -> Result<Search, Unknown> {
        let next = range.start;
        let mut search = Search { goal, range, next, found: None, is_over: false };
        while !search.is_over && search.next < search.range.end {
            let Fetched { records, aborted, .. } = self.read(search.next).await?;
            search = if let Records::Memory(bytes) = &records
                && is_light(bytes)
            {
                search.through(bytes.clone(), &aborted)?
            } else {
                let work = move || {
                    let bytes = records.into_bytes().map_err(|_| Unknown)?;
                    search.through(bytes, &aborted)
                };
                self.shutdown.run_blocking(work).await.ok_or(Unknown)??
            };
            tokio::task::yield_now().await;
        }
        Ok(search)
    }

    async fn read(&mut self, offset: Offset) -> Result<Fetched, Unknown> {
        if self.bytes == 0 {
            return Err(Unknown);
        }
        let Seen { topic, partition, isolation, .. } = self.seen;
        let bytes_max = self.bytes.min(STEP_BYTES);
        let read = Read { topic: topic.clone(), partition, offset, bytes_max, isolation };
        let fetched = self.log.read(read).await.map_err(|_| Unknown)?;
        self.bytes = self.bytes.saturating_sub(fetched.records.len());
        Ok(fetched)
    }
}

/// Tells whether looking through these batches unpacks nothing and is soon done.
fn is_light(bytes: &Bytes) -> bool {
    let mut rest = bytes.as_ref();
    while let Ok(header) = BatchHeader::parse(rest) {
        if !is_dense(&header) && header.codec() != Ok(Codec::None) {
            return false;
        }
        rest = rest.get(header.total_bytes()..).unwrap_or_default();
    }
    bytes.len() <= STEP_BYTES
}

impl Search {
    /// Looks at batches, from where the look is.
    fn through(mut self, mut rest: Bytes, aborted: &[AbortedTransaction]) -> Result<Self, Unknown> {
        let before = self.next;
        while !rest.is_empty() && self.next < self.range.end {
            let header = BatchHeader::parse(&rest).map_err(|_| Unknown)?;
            if header.base_offset >= self.range.end {
                self.is_over = true;
                return Ok(self);
            }
            let is_aborted = aborted.iter().any(|aborted| aborted.covers(&header));
            let is_hidden = header.is_control() || is_aborted;
            if header.last_offset() >= self.next {
                self.look(&Batch { header, bytes: &rest, is_hidden }).map_err(|_| Unknown)?;
                if self.is_over {
                    return Ok(self);
                }
                self.next = header.next_offset();
            }
            rest = rest.slice(header.total_bytes().min(rest.len())..);
        }
        self.is_over = self.next == before;
        Ok(self)
    }

    fn look(&mut self, batch: &Batch<'_>) -> Result<(), BatchError> {
        let count = batch.count(&self.range)?;
        match &mut self.goal {
            Goal::Count(found) => *found = found.saturating_add(count),
            Goal::Skip(left) if count > *left => {
                self.found = Some(batch.nth(&self.range, *left)?);
                self.is_over = true;
            }
            Goal::Skip(left) => *left -= count,
        }
        Ok(())
    }
}

impl Batch<'_> {
    /// Records of the batch within a range.
    fn count(&self, range: &Range<Offset>) -> Result<i64, BatchError> {
        let BatchHeader { base_offset, record_count, .. } = self.header;
        let end = self.header.next_offset();
        if self.is_hidden {
            Ok(0)
        } else if range.start <= base_offset && end <= range.end {
            Ok(record_count.into())
        } else if is_dense(&self.header) {
            Ok((end.min(range.end) - base_offset.max(range.start)).max(0))
        } else {
            Ok(self.offsets(range)?.len().try_into().unwrap_or(i64::MAX))
        }
    }

    /// The offset of the record after `skipped` others of the batch within a range.
    fn nth(&self, range: &Range<Offset>, skipped: i64) -> Result<Offset, BatchError> {
        let first = self.header.base_offset.max(range.start);
        if is_dense(&self.header) {
            return Ok(first.saturating_add(skipped));
        }
        let at = usize::try_from(skipped).unwrap_or(usize::MAX);
        Ok(self.offsets(range)?.get(at).copied().unwrap_or(first))
    }

    fn offsets(&self, range: &Range<Offset>) -> Result<Vec<Offset>, BatchError> {
        let records = BatchRecords::open(self.header, self.bytes)?;
        let offsets = records.iter().map(|record| record.map(|record| record.offset));
        offsets.filter(|offset| offset.as_ref().map_or(true, |o| range.contains(o))).collect()
    }
}

/// Every offset has its record.
fn is_dense(header: &BatchHeader) -> bool {
    i64::from(header.record_count) == header.next_offset() - header.base_offset
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::log::{
        Append, AppendError, DeleteRecordsError, DeleteUpTo, ListedOffset, OffsetSpec, ReadError,
        Receipt,
    };
    use crate::engine::{BoxFuture, Later};
    use crate::log::LogSlice;
    use crate::protocol::record_batch::BatchBuilder;
    use proptest::prelude::*;
    use std::io::Write;
    use std::sync::Arc;
    use tokio::sync::watch;

    /// Batches that are read as a log reads them.
    struct Batches {
        all: Vec<Bytes>,
        end: Offset,
        read: std::sync::atomic::AtomicUsize,
        is_on_disk: bool,
    }

    fn whole() -> LookBack {
        LookBack::of(1, &Shutdown::new())
    }

    /// A range of a file with these bytes.
    fn stored(bytes: &[u8]) -> Records {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        Records::File(LogSlice { file: Arc::new(file), position: 0, len: bytes.len() })
    }

    impl Log for Batches {
        fn append(&self, _append: Append) -> Later<Result<Receipt, AppendError>> {
            unreachable!("nothing is appended")
        }

        fn read(&self, read: Read) -> Later<Result<Fetched, ReadError>> {
            let mut bytes = Vec::new();
            for batch in &self.all {
                let is_after = BatchHeader::parse(batch).unwrap().last_offset() >= read.offset;
                let fits = bytes.is_empty() || bytes.len() + batch.len() <= read.bytes_max;
                if is_after && !fits {
                    break;
                }
                if is_after {
                    bytes.extend_from_slice(batch);
                }
            }
            self.read.fetch_add(bytes.len(), std::sync::atomic::Ordering::Relaxed);
            let bounds = self.bounds_now();
            let records = match self.is_on_disk {
                true => stored(&bytes),
                false => Records::Memory(bytes.into()),
            };
            Later::Now(Ok(Fetched { records, bounds, aborted: Vec::new() }))
        }

        fn list_offset(
            &self,
            _topic: &TopicName,
            _partition: PartitionId,
            _spec: OffsetSpec,
            _isolation: Isolation,
        ) -> Later<Result<Option<ListedOffset>, ReadError>> {
            unreachable!("nothing is listed")
        }

        fn delete_records(
            &self,
            _topic: &TopicName,
            _partition: PartitionId,
            _up_to: DeleteUpTo,
        ) -> BoxFuture<Result<Offset, DeleteRecordsError>> {
            unreachable!("nothing is deleted")
        }

        fn bounds(&self, _: &TopicName, _: PartitionId) -> Result<Bounds, ReadError> {
            Ok(self.bounds_now())
        }

        fn watch(
            &self,
            _topic: &TopicName,
            _partition: PartitionId,
        ) -> Result<watch::Receiver<Offset>, ReadError> {
            unreachable!("nothing is watched")
        }
    }

    /// One batch: which of its offsets have a record, or none if it is the end of a transaction.
    type Slots = Option<Vec<bool>>;

    impl Batches {
        /// Batches back to back; a batch of which all was compacted away is not there.
        fn of(slots: &[Slots], value: &[u8]) -> (Self, Vec<Offset>) {
            let (mut all, mut visible, mut next) = (Vec::new(), Vec::new(), 0);
            for slots in slots {
                let base = next;
                let mut batch = BatchBuilder::new().at_offset(base);
                let Some(slots) = slots else {
                    batch = batch.as_control();
                    batch.push(1, Some(&[0, 0, 0, 1]), Some(&[0; 6]), std::iter::empty());
                    all.push(batch.finish());
                    next += 1;
                    continue;
                };
                next += slots.len() as Offset;
                for (delta, _) in slots.iter().enumerate().filter(|(_, is_there)| **is_there) {
                    visible.push(base + delta as Offset);
                    let delta = i32::try_from(delta).unwrap();
                    batch.push_at(delta, 1, None, Some(value), std::iter::empty());
                }
                if slots.contains(&true) {
                    all.push(batch.ending_at(slots.len() as i32 - 1).finish());
                }
            }
            (Self { all, end: next, read: 0.into(), is_on_disk: false }, visible)
        }

        const fn bounds_now(&self) -> Bounds {
            Bounds { log_start_offset: 0, high_watermark: self.end, last_stable_offset: self.end }
        }

        fn last(&self, count: i64, look_back: &mut LookBack) -> Offset {
            let topic = TopicName::parse("t").unwrap();
            let isolation = Isolation::ReadCommitted;
            let (bounds, partition) = (self.bounds_now(), 0);
            let seen = Seen { topic: &topic, partition, bounds, isolation };
            let found = look_back.find(self, seen, count);
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(found)
        }

        fn bytes_read(&self) -> usize {
            self.read.load(std::sync::atomic::Ordering::Relaxed)
        }
    }

    fn slots() -> impl Strategy<Value = Slots> {
        prop_oneof![
            1 => Just(None),
            2 => (1..9_usize).prop_map(|n| Some(vec![true; n])),
            2 => prop::collection::vec(prop::bool::weighted(0.3), 1..9).prop_map(Some),
            1 => (1..200_usize).prop_map(|n| Some(vec![false; n])),
        ]
    }

    proptest! {
        #[test]
        fn exactly_the_last_records_come_after_it(
            slots in prop::collection::vec(slots(), 0..40),
            count in 0..50_i64,
        ) {
            let (log, visible) = Batches::of(&slots, b"v");
            let from = log.last(count, &mut whole());
            let after = visible.iter().filter(|offset| **offset >= from).count();
            prop_assert_eq!(after, visible.len().min(count as usize));
        }
    }

    #[test]
    fn only_what_is_needed_is_read() {
        let (log, _) = Batches::of(&vec![Some(vec![true]); 10_000], &[b'v'; 1000]);
        assert_eq!(log.last(10, &mut whole()), 9_990);
        assert!(log.bytes_read() < 2 * STEP_BYTES, "{}", log.bytes_read());
        assert_eq!(log.last(i64::MAX, &mut whole()), 0);
        assert!(log.bytes_read() < 2 * STEP_BYTES, "{}", log.bytes_read());
    }

    #[test]
    fn what_is_looked_through_is_bounded_and_shared() {
        // Every second offset is the end of a transaction.
        let slots: Vec<Slots> = (0..2_000).map(|n| (n % 2 == 0).then(|| vec![true])).collect();
        let (log, visible) = Batches::of(&slots, &[b'v'; 1000]);
        let mut look_back = LookBack { bytes: 600_000, ..LookBack::of(2, &Shutdown::new()) };
        // Two steps, of 50 records each, fit into the share.
        let from = log.last(100, &mut look_back);
        assert_eq!(visible.iter().filter(|offset| **offset >= from).count(), 100);
        let left = look_back.bytes;
        assert!((300_000..500_000).contains(&left), "{left}");
        // The first step of 1,000 offsets does not fit: they are taken for records.
        assert_eq!(log.last(1_000, &mut look_back), 1_000);
        assert_eq!(look_back.bytes, 0);
        assert!(log.bytes_read() < 600_000 + STEP_BYTES, "{}", log.bytes_read());
        assert_eq!(log.last(1, &mut look_back), 1_999);
    }

    /// Tells whether records are found while no thread is free for work that blocks.
    fn is_found_on_the_reactor(log: &Batches, count: i64) -> bool {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.max_blocking_threads(1).build().unwrap();
        let (release, released) = std::sync::mpsc::channel::<()>();
        runtime.block_on(async {
            let shutdown = Shutdown::new();
            let busy = shutdown.run_blocking(move || released.recv());
            let mut busy = std::pin::pin!(busy);
            assert!(futures_util::poll!(busy.as_mut()).is_pending());
            let topic = TopicName::parse("t").unwrap();
            let (bounds, isolation) = (log.bounds_now(), Isolation::ReadCommitted);
            let seen = Seen { topic: &topic, partition: 0, bounds, isolation };
            let mut look_back = LookBack::of(1, &shutdown);
            let mut finding = std::pin::pin!(look_back.find(log, seen, count));
            let mut is_found = false;
            for _ in 0..100 {
                is_found = is_found || futures_util::poll!(finding.as_mut()).is_ready();
                if is_found {
                    break;
                }
                tokio::task::yield_now().await;
            }
            release.send(()).unwrap();
            busy.await.unwrap().unwrap();
            if !is_found {
                assert_eq!(finding.await, log.end - count);
            }
            is_found
        })
    }

    #[test]
    fn what_takes_time_is_not_done_on_the_reactor() {
        let slots: Vec<Slots> = vec![Some(vec![true; 3]); 20];
        let (mut log, _) = Batches::of(&slots, b"v");
        assert!(is_found_on_the_reactor(&log, 5));
        log.is_on_disk = true;
        assert!(!is_found_on_the_reactor(&log, 5));
    }

    #[test]
    fn only_what_must_be_unpacked_is_heavy() {
        let batch = |deltas: &[i32], codec: u8| {
            let mut batch = BatchBuilder::new();
            for delta in deltas {
                batch.push_at(*delta, 1, None, Some(b"v"), std::iter::empty());
            }
            let mut bytes = batch.finish().to_vec();
            // The low byte of the attributes.
            bytes[22] |= codec;
            Bytes::from(bytes)
        };
        assert!(is_light(&batch(&[0, 1], 1)));
        assert!(is_light(&batch(&[0, 2], 0)));
        assert!(!is_light(&batch(&[0, 2], 1)));
        assert!(!is_light(&vec![0; STEP_BYTES + 1].into()));
    }
}
