//! Takes records from the partitions in turn, as far as the budget goes.

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::watch;

use super::cut::{Budget, Cut};
use super::delivery::PollBatch;
use super::error::ConsumerError;
use super::instance::Kind;
use super::poll::Poll;
use super::positions::{nearest_position, reset_position};
use crate::base::ids::{Offset, TopicPartition};
use crate::engine::Log;
use crate::engine::log::{Fetched, Read, ReadError, Records};

/// Bytes of batches read from one partition at a time, so that others have their turn.
const READ_BYTES_MAX: usize = 1024 * 1024;

/// Bytes of batches that are checked and opened on the spot; more is done off the reactor.
const INLINE_BYTES_MAX: usize = 64 * 1024;

/// A poll's place in one partition.
#[derive(Debug)]
pub(super) struct Cursor {
    pub(super) partition: TopicPartition,
    /// The slot's token when the poll began.
    pub(super) token: u64,
    /// The slot's position when the poll began.
    pub(super) start: Offset,
    /// Behind what this poll has gathered.
    pub(super) next: Offset,
    /// There is nothing to read before the high watermark goes beyond this.
    seen: Offset,
    high_watermark: Option<watch::Receiver<Offset>>,
    was_reset: bool,
    /// False while nothing tells where to begin: the offsets say nothing then.
    pub(super) is_placed: bool,
    pub(super) error: Option<ConsumerError>,
}

impl Cursor {
    pub(super) fn open(
        log: &dyn Log,
        partition: TopicPartition,
        token: u64,
        position: Offset,
    ) -> Self {
        let watched = log.watch(&partition.topic, partition.partition);
        let error = watched.as_ref().err().map(|error| read_error(&partition, error.clone()));
        Self {
            partition,
            token,
            start: position,
            next: position,
            seen: position,
            high_watermark: watched.ok(),
            was_reset: false,
            is_placed: true,
            error,
        }
    }

    /// A partition that cannot say where it begins: it is not read, and says why in its turn, so
    /// that the others are served first.
    pub(super) fn unplaced(partition: TopicPartition, token: u64, error: ReadError) -> Self {
        let error = Some(read_error(&partition, error));
        let (start, next, seen) = (0, 0, 0);
        let (high_watermark, was_reset, is_placed) = (None, false, false);
        Self { partition, token, start, next, seen, high_watermark, was_reset, is_placed, error }
    }

    /// Says whether a read can find something: records, or that the position is out of range.
    fn is_ready(&self) -> bool {
        let end = self.high_watermark.as_ref().map(|receiver| *receiver.borrow());
        let is_behind = |end| end > self.seen || (end < self.next && !self.was_reset);
        self.error.is_none() && end.is_some_and(is_behind)
    }
}

fn read_error(partition: &TopicPartition, error: ReadError) -> ConsumerError {
    match error {
        ReadError::UnknownPartition { .. } => ConsumerError::UnknownPartition(partition.clone()),
        error => ConsumerError::Read(error),
    }
}

/// Waits until one of the partitions has something to read; while joining, for ever.
pub(super) async fn wait_for_records(cursors: &[Cursor], is_joining: bool) {
    let waiting = cursors.iter().filter(|cursor| cursor.error.is_none() && !is_joining);
    let waiting = waiting.filter_map(|cursor| {
        let (mut receiver, seen) = (cursor.high_watermark.clone()?, cursor.seen);
        Some(async move { receiver.wait_for(|end| *end > seen).await.is_ok() })
    });
    let mut waiting: FuturesUnordered<_> = waiting.collect();
    // A channel that closes belongs to a deleted partition: a change of topics follows.
    while let Some(has_grown) = waiting.next().await {
        if has_grown {
            return;
        }
    }
    std::future::pending::<()>().await;
}

/// Takes from all partitions in turn, until nothing is left or the budget is spent.
pub(super) async fn gather(poll: &mut Poll<'_>) {
    let count = poll.cursors.len();
    if count == 0 {
        return;
    }
    let first = poll.turn.rotation % count;
    loop {
        let mut has_progress = false;
        for index in (first..count).chain(0..first) {
            if poll.budget.is_spent() {
                // Whoever was not asked this time is first next time.
                poll.turn.rotation = index;
                return;
            }
            has_progress |= take_from(poll, index).await;
        }
        if !has_progress {
            return;
        }
    }
}

/// Takes from one partition what one read gives; says whether there may be more.
async fn take_from(poll: &mut Poll<'_>, index: usize) -> bool {
    let Some(cursor) = poll.cursors.get(index).filter(|cursor| cursor.is_ready()) else {
        return false;
    };
    let (next, budget) = (cursor.next, poll.budget);
    let opened = poll.turn.opened.remove(&cursor.partition);
    let is_usable = |token, base, last| token == cursor.token && base <= next && next <= last;
    if let Some((token, records)) = opened
        && is_usable(token, records.header().base_offset, records.header().last_offset())
    {
        let mut cut = Cut::new(next, budget);
        cut.take_records(records);
        return take_cut(poll, index, cut);
    }
    let room = budget.bytes_max.saturating_sub(budget.bytes);
    let read = Read {
        topic: cursor.partition.topic.clone(),
        partition: cursor.partition.partition,
        offset: next,
        bytes_max: room.clamp(1, READ_BYTES_MAX),
        isolation: poll.call.instance.settings.isolation,
    };
    match poll.shared.engine.log.read(read).await {
        Ok(fetched) => take_fetched(poll, index, fetched).await,
        Err(ReadError::OffsetOutOfRange { .. }) => reset(poll, index).await,
        Err(error) => {
            if let Some(cursor) = poll.cursors.get_mut(index) {
                cursor.error = Some(read_error(&cursor.partition, error));
            }
            false
        }
    }
}

async fn take_fetched(poll: &mut Poll<'_>, index: usize, fetched: Fetched) -> bool {
    let Some(cursor) = poll.cursors.get_mut(index) else {
        return false;
    };
    if fetched.records.is_empty() {
        // An open transaction may hide what is there: its end will move the watermark.
        cursor.seen = cursor.seen.max(fetched.bounds.high_watermark);
        return false;
    }
    let (next, budget) = (cursor.next, poll.budget);
    let high_watermark = fetched.bounds.high_watermark;
    match cut_off_reactor(poll, fetched, next, budget).await {
        Ok(cut) => {
            if cut.next == next && cut.damage.is_none() && !cut.budget.is_full {
                // Nothing at or behind the position: the same as an empty read.
                if let Some(cursor) = poll.cursors.get_mut(index) {
                    cursor.seen = cursor.seen.max(high_watermark);
                }
                return false;
            }
            take_cut(poll, index, cut)
        }
        Err(error) => {
            if let Some(cursor) = poll.cursors.get_mut(index) {
                cursor.error = Some(error);
            }
            false
        }
    }
}

/// Cuts small batches on the spot; files and large batches are read, checked and decompressed
/// where they hold nobody up.
async fn cut_off_reactor(
    poll: &Poll<'_>,
    fetched: Fetched,
    next: Offset,
    budget: Budget,
) -> Result<Cut, ConsumerError> {
    let storage = |e: std::io::Error| ConsumerError::Read(ReadError::Storage(e.to_string()));
    let Fetched { records, aborted, .. } = fetched;
    let is_small = matches!(&records, Records::Memory(bytes) if bytes.len() <= INLINE_BYTES_MAX);
    let cut = move || {
        let mut cut = Cut::new(next, budget);
        cut.take_batches(&records.into_bytes().map_err(storage)?, &aborted);
        Ok(cut)
    };
    if is_small {
        return cut();
    }
    let done = poll.shared.shutdown.run_blocking(cut).await;
    done.unwrap_or(Err(ConsumerError::ShuttingDown))
}

fn take_cut(poll: &mut Poll<'_>, index: usize, cut: Cut) -> bool {
    let Some(cursor) = poll.cursors.get_mut(index) else {
        return false;
    };
    cursor.next = cut.next;
    cursor.seen = cursor.seen.max(cut.next);
    poll.budget = cut.budget;
    for range in cut.ranges {
        poll.batches.push(PollBatch::new(cursor.partition.clone(), range));
    }
    if let Some(records) = cut.opened {
        poll.turn.opened.insert(cursor.partition.clone(), (cursor.token, records));
    }
    if let Some(reason) = cut.damage {
        let (partition, offset) = (cursor.partition.clone(), cut.next);
        tracing::warn!(%partition, offset, %reason, "a stored batch is damaged and not delivered");
        cursor.error = Some(ConsumerError::Damaged { partition, offset, reason });
        return false;
    }
    true
}

/// Puts a position that is out of range (retention) where the settings say.
async fn reset(poll: &mut Poll<'_>, index: usize) -> bool {
    let Some(cursor) = poll.cursors.get(index) else {
        return false;
    };
    let (partition, token, offset) = (cursor.partition.clone(), cursor.token, cursor.next);
    let instance = &poll.call.instance;
    let reset = match instance.kind {
        Kind::Kept => reset_position(&poll.shared.engine, &partition, &instance.settings).await,
        // Its client's cursor said more than the settings: on with the nearest record there is.
        Kind::Static => nearest_position(&poll.shared.engine, &partition, offset).map(Some),
    };
    let (found, error) = match reset {
        Ok(Some(position)) if !cursor.was_reset => {
            tracing::info!(%partition, offset, position, "a position out of range is reset");
            poll.move_slot(&partition, token, position);
            (Some(position), None)
        }
        Ok(_) => (None, Some(ConsumerError::OffsetOutOfRange { partition, offset })),
        Err(error) => (None, Some(read_error(&partition, error))),
    };
    let Some(cursor) = poll.cursors.get_mut(index) else {
        return false;
    };
    cursor.was_reset = true;
    cursor.error = error;
    if let Some(position) = found {
        // What this poll gathered before lies before the gap and is delivered all the same.
        (cursor.start, cursor.next, cursor.seen) = (position, position, position);
    }
    found.is_some()
}
