//! Reads records of several partitions within a budget, and waits for the first one.
//!
//! Whole batches come from the log; what is delivered is a range of each. A read that no single
//! partition bounds gives every partition a share first and what is left over after that, so one
//! that is full of records does not hide the others.

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::watch;

use super::params::Params;
use super::start::{Begin, end_of};
use crate::base::ids::{Offset, PartitionId};
use crate::engine::log::{AbortedTransaction, Bounds, Fetched, Isolation, Read};
use crate::engine::topics::Topic;
use crate::http::error::{ApiError, ApiResult, KAFKA_ERROR};
use crate::http::state::Inner;
use crate::protocol::record_batch::header::verify_crc;
use crate::protocol::record_batch::{BatchError, BatchHeader, BatchRecords, Record};

/// Bytes of batches read at a time.
const READ_BYTES_MAX: usize = 1024 * 1024;

/// Bytes of batches that are checked and opened on the spot; more is done off the reactor.
const INLINE_BYTES_MAX: usize = 64 * 1024;

/// One partition of a read.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) partition: PartitionId,
    pub(super) start: Offset,
    /// Behind what was gathered.
    pub(super) next: Offset,
    /// The bounds when it was last looked at.
    pub(super) bounds: Bounds,
    /// What the reader may see ended here then.
    end: Offset,
    watch: watch::Receiver<Offset>,
}

/// A range of records of one batch.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) partition: PartitionId,
    records: BatchRecords,
    first: Offset,
    end: Offset,
}

/// What may still be gathered.
#[derive(Debug, Clone, Copy)]
struct Budget {
    records: usize,
    bytes: usize,
    /// The very first record is taken whatever its size.
    is_untouched: bool,
    is_spent: bool,
    /// A damaged batch ended it.
    is_damaged: bool,
}

/// What a read found.
#[derive(Debug)]
pub(super) struct Gathered {
    pub(super) lanes: Vec<Lane>,
    pub(super) pieces: Vec<Piece>,
    /// Bytes of keys, values and headers.
    pub(super) bytes: usize,
    pub(super) records: usize,
    /// The budget ended the read, not the log: more can never change it.
    pub(super) is_full: bool,
}

impl Piece {
    /// `create` or `append`.
    pub(super) fn timestamp_type(&self) -> &'static str {
        if self.records.header().is_log_append_time() { "append" } else { "create" }
    }

    /// The records of the range, in order.
    pub(super) fn records(&self) -> impl Iterator<Item = Record<'_>> {
        // They were all read once when the range was cut, so none is damaged.
        let records = self.records.iter().map_while(Result::ok);
        records.skip_while(|r| r.offset < self.first).take_while(|r| r.offset < self.end)
    }
}

impl Budget {
    const fn new(records: usize, bytes: usize) -> Self {
        Self { records, bytes, is_untouched: true, is_spent: false, is_damaged: false }
    }

    /// At most one `count`th, at least one record.
    fn share(self, count: usize) -> Self {
        let (records, bytes) = (self.records.div_ceil(count.max(1)), self.bytes / count.max(1));
        Self { records, bytes, ..self }
    }

    fn admit(&mut self, record: &Record<'_>) -> bool {
        let length = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len);
        let headers = record.headers().map(|(key, value)| key.len() + length(value));
        let bytes = length(record.key) + length(record.value) + headers.sum::<usize>();
        if self.records == 0 || (bytes > self.bytes && !self.is_untouched) {
            self.is_spent = true;
            return false;
        }
        self.records -= 1;
        self.bytes = self.bytes.saturating_sub(bytes);
        self.is_untouched = false;
        true
    }
}

/// Opens the partitions of a read.
///
/// # Errors
/// 404 when one was deleted.
pub(super) fn open(
    state: &Inner,
    topic: &Topic,
    isolation: Isolation,
    begins: &[Begin],
) -> ApiResult<Vec<Lane>> {
    let lane = |begin: &Begin| {
        let (name, partition) = (&topic.name, begin.partition);
        let mut watch = state.engine.log.watch(name, partition)?;
        // What is there now is read now; only what comes later wakes.
        watch.borrow_and_update();
        let bounds = state.engine.log.bounds(name, partition)?;
        let (start, next, end) = (begin.offset, begin.offset, end_of(bounds, isolation));
        Ok(Lane { partition, start, next, bounds, end, watch })
    };
    begins.iter().map(lane).collect()
}

/// Reads what is there.
///
/// # Errors
/// What the log answers, and 500 for a damaged batch that nothing can be read before.
///
/// # Cancel safety
/// Safe: nothing changes.
pub(super) async fn gather(
    state: &Inner,
    topic: &Topic,
    params: &Params,
    mut lanes: Vec<Lane>,
) -> ApiResult<Gathered> {
    let mut budget = Budget::new(params.limit, params.bytes_max);
    let mut pieces = Vec::new();
    let count = lanes.len();
    // Stateless turns: the start moves with every record that was read before.
    let turn = lanes.iter().fold(0_i64, |sum, lane| sum.wrapping_add(lane.next));
    let first = usize::try_from(turn.unsigned_abs()).unwrap_or(0).checked_rem(count).unwrap_or(0);
    let shares = [count, 1];
    let shares = if count > 1 { shares.as_slice() } else { &[1] };
    for share in shares {
        for at in (first..count).chain(0..first) {
            let Some(lane) = lanes.get_mut(at) else { continue };
            if budget.records == 0 {
                break;
            }
            let given = budget.share(*share);
            let left = take(state, topic, params, lane, given, &mut pieces).await?;
            budget.records -= given.records - left.records;
            budget.bytes = budget.bytes.saturating_sub(given.bytes.saturating_sub(left.bytes));
            budget.is_untouched = left.is_untouched;
            budget.is_spent |= left.is_spent && *share == 1;
            budget.is_damaged |= left.is_damaged;
        }
    }
    let records = params.limit - budget.records;
    let has_more = lanes.iter().any(|lane| lane.next < lane.end);
    let is_full = budget.records == 0 || (budget.is_spent && has_more && !budget.is_damaged);
    let bytes = params.bytes_max.saturating_sub(budget.bytes);
    Ok(Gathered { lanes, pieces, bytes, records, is_full })
}

/// Takes from one partition until its share or the log ends; returns what is left of the share.
async fn take(
    state: &Inner,
    topic: &Topic,
    params: &Params,
    lane: &mut Lane,
    mut budget: Budget,
    pieces: &mut Vec<Piece>,
) -> ApiResult<Budget> {
    while budget.records > 0 && !budget.is_spent && lane.next < lane.end {
        let read = Read {
            topic: topic.name.clone(),
            partition: lane.partition,
            offset: lane.next,
            bytes_max: budget.bytes.clamp(1, READ_BYTES_MAX),
            isolation: params.isolation,
        };
        let fetched = state.engine.log.read(read).await?;
        lane.bounds = fetched.bounds;
        lane.end = end_of(fetched.bounds, params.isolation);
        if fetched.records.is_empty() {
            break;
        }
        let cut = cut(state, fetched, lane, budget).await?;
        let is_stuck = cut.next == lane.next;
        (lane.next, budget) = (cut.next, cut.budget);
        let is_bare = pieces.is_empty() && cut.pieces.is_empty();
        pieces.extend(cut.pieces);
        if let Some(damage) = cut.damage {
            if is_bare {
                let (partition, offset) = (lane.partition, cut.next);
                let message = format!(
                    "offset {offset} of partition {partition} of topic '{}' cannot be read: \
                     {damage}",
                    topic.name
                );
                let status = http::StatusCode::INTERNAL_SERVER_ERROR;
                return Err(ApiError::new(status, KAFKA_ERROR, message));
            }
            // What lies before the damage is answered; the next read begins at it.
            (budget.is_spent, budget.is_damaged) = (true, true);
        }
        if is_stuck {
            break;
        }
    }
    Ok(budget)
}

/// What was cut out of the batches of one read.
struct Cut {
    pieces: Vec<Piece>,
    next: Offset,
    budget: Budget,
    damage: Option<BatchError>,
}

/// Cuts small batches on the spot, large ones where they hold nobody up.
async fn cut(state: &Inner, fetched: Fetched, lane: &Lane, budget: Budget) -> ApiResult<Cut> {
    let (partition, next) = (lane.partition, lane.next);
    let is_small = fetched.records.len() <= INLINE_BYTES_MAX;
    let work = move || {
        let storage = |error: std::io::Error| {
            ApiError::from(crate::engine::log::ReadError::Storage(error.to_string()))
        };
        let Fetched { records, aborted, .. } = fetched;
        let bytes = records.into_bytes().map_err(storage)?;
        let mut cut = Cut { pieces: Vec::new(), next, budget, damage: None };
        cut.take_batches(partition, bytes, &aborted);
        Ok(cut)
    };
    if is_small {
        return work();
    }
    match state.shutdown.run_blocking(work).await {
        Some(cut) => cut,
        None => Err(ApiError::status(http::StatusCode::SERVICE_UNAVAILABLE, "server is stopping")),
    }
}

impl Cut {
    fn take_batches(
        &mut self,
        partition: PartitionId,
        mut rest: Bytes,
        aborted: &[AbortedTransaction],
    ) {
        while !rest.is_empty() && !self.budget.is_spent && self.damage.is_none() {
            match self.take_batch(partition, &rest, aborted) {
                Ok(length) => rest = rest.slice(length.min(rest.len())..),
                Err(damage) => self.damage = Some(damage),
            }
        }
    }

    /// Takes from the first batch and returns its length.
    fn take_batch(
        &mut self,
        partition: PartitionId,
        bytes: &Bytes,
        aborted: &[AbortedTransaction],
    ) -> Result<usize, BatchError> {
        let header = BatchHeader::parse(bytes)?;
        let length = header.total_bytes();
        if header.last_offset() < self.next {
            return Ok(length);
        }
        verify_crc(&header, bytes)?;
        if header.is_control() || aborted.iter().any(|aborted| aborted.covers(&header)) {
            self.next = header.next_offset();
            return Ok(length);
        }
        let records = BatchRecords::open(header, bytes)?;
        let (mut first, mut next) = (None, self.next);
        let mut is_whole = true;
        for record in &records {
            match record {
                Ok(record) if record.offset < self.next => {}
                Ok(record) if self.budget.admit(&record) => {
                    first.get_or_insert(record.offset);
                    next = record.offset.saturating_add(1);
                }
                other => {
                    is_whole = false;
                    self.damage = other.err();
                    break;
                }
            }
        }
        // Compaction may have taken the last records of the batch.
        self.next = if is_whole { records.header().next_offset() } else { next };
        if let Some(first) = first {
            self.pieces.push(Piece { partition, records, first, end: next });
        }
        Ok(length)
    }
}

/// Waits until one of the partitions grows, or one is deleted.
///
/// # Cancel safety
/// Safe: nothing changes.
pub(super) async fn grown(lanes: &mut [Lane]) {
    let mut waits: FuturesUnordered<_> =
        lanes.iter_mut().map(|lane| lane.watch.changed()).collect();
    if waits.next().await.is_none() {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::record_batch::BatchBuilder;

    fn batch(base: Offset, values: &[&[u8]]) -> Vec<u8> {
        let mut builder = BatchBuilder::new().at_offset(base);
        for value in values {
            builder.push(1, None, Some(value), std::iter::empty());
        }
        builder.finish().to_vec()
    }

    fn cut(bytes: Vec<u8>, next: Offset, records: usize, bytes_max: usize) -> Cut {
        let budget = Budget::new(records, bytes_max);
        let mut cut = Cut { pieces: Vec::new(), next, budget, damage: None };
        cut.take_batches(0, Bytes::from(bytes), &[]);
        cut
    }

    fn offsets(cut: &Cut) -> Vec<Offset> {
        cut.pieces.iter().flat_map(|p| p.records().map(|r| r.offset).collect::<Vec<_>>()).collect()
    }

    #[test]
    fn a_range_begins_and_ends_inside_of_batches() {
        let bytes = [batch(0, &[b"a", b"b"]), batch(2, &[b"c", b"d", b"e"])].concat();
        let cut = cut(bytes, 1, 3, 100);
        assert_eq!((offsets(&cut), cut.next), (vec![1, 2, 3], 4));
        assert!(cut.budget.is_spent);
    }

    #[test]
    fn the_first_record_comes_whatever_its_size() {
        let bytes = batch(0, &[b"too long", b"b"]);
        let first = cut(bytes.clone(), 0, 9, 3);
        assert_eq!((offsets(&first), first.next), (vec![0], 1));
        assert_eq!(offsets(&cut(bytes, 1, 9, 3)), [1]);
    }

    #[test]
    fn damage_ends_a_range() {
        let mut bytes = [batch(0, &[b"good"]), batch(1, &[b"bad"])].concat();
        let last = bytes.len() - 2;
        bytes[last] ^= 1;
        let cut = cut(bytes, 0, 9, 100);
        assert_eq!((offsets(&cut), cut.next), (vec![0], 1));
        assert!(matches!(cut.damage, Some(BatchError::CrcMismatch { .. })));
    }

    #[test]
    fn a_share_is_at_least_one_record() {
        assert_eq!(Budget::new(1, 10).share(4).records, 1);
        assert_eq!(Budget::new(10, 8).share(4).bytes, 2);
    }
}
