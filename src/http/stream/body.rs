//! The body of a stream: pulled, never pushed.
//!
//! Each poll reads what there is and answers one frame; nothing is read ahead. A client that does
//! not take its bytes is not polled for, so a slow reader is lag and not memory. There is no task,
//! no channel and no queue per stream.
//!
//! Partitions take turns, one chunk each. Order is kept within a partition only.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;

use super::chunk::{Chunk, Filtered};
use super::cursor::{self, Position};
use super::events::{self, Fault, Gap, GapReason, Place};
use super::filter::Filter;
use super::frame::{FRAME_BYTES_MAX, Frame, IdMode};
use super::life::{Closed, Life};
use super::muted::Muted;
use super::open_streams::Permit;
use super::pace::Pace;
use super::params::{Batch, Format, Framing, Ids, OnGap};
use super::source::Source;
use super::start::{Span, end_of, gap_between};
use super::stored::StoredIds;
use super::tail::{LoadError, Loaded, Lookup, SharedLoad, Tail};
use super::waits::{Receiver, Waits};
use super::wire::Wire;
use crate::base::ids::{Offset, PartitionId, TimestampMs, TopicId};
use crate::engine::log::Isolation;
use crate::http::record::cursor::Budget;

/// Partitions up to which every record has a cursor by default.
const IDS_EACH_PARTITIONS_MAX: usize = 8;

/// One partition of a stream.
pub(super) struct Part {
    pub(super) span: Span,
    /// What follows the last record that was sent. The position is further where a filter, or the
    /// end of a transaction, left nothing to send.
    pub(super) sent: Offset,
    pub(super) tail: Arc<Tail>,
    /// None while the partition is waited for.
    pub(super) receiver: Option<Receiver>,
    pub(super) is_open: bool,
    /// Set while the partition cannot be read, and while it is tried again.
    pub(super) muted: Option<Muted>,
}

impl Part {
    /// Where the stream is in this partition.
    pub(super) fn place(&self) -> Place<'_> {
        Place {
            topic: self.tail.topic().name.as_str(),
            partition: self.span.partition,
            next: self.span.next,
        }
    }

    /// Tells whether it is the partition of this number of a topic.
    pub(super) fn is_of(&self, topic: TopicId, partition: PartitionId) -> bool {
        self.tail.topic().id == topic && self.span.partition == partition
    }
}

/// Where a stream is, and how that changes.
pub(super) struct Course {
    pub(super) parts: Vec<Part>,
    /// Lets partitions join and leave, if they can.
    pub(super) source: Option<Box<dyn Source>>,
    /// Its ids, if its cursor is too long to send.
    pub(super) stored: Option<StoredIds>,
}

/// What a stream does, besides where it is.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) ids: Ids,
    pub(super) format: Format,
    pub(super) wire: Arc<Wire>,
    pub(super) filter: Option<Arc<Filter>>,
    pub(super) batch: Option<Batch>,
    pub(super) isolation: Isolation,
    pub(super) on_gap: OnGap,
    /// Lag after which a partition goes on at its end, if the client wants that.
    pub(super) lag_max: Option<Offset>,
    pub(super) until: Option<TimestampMs>,
    pub(super) budget: Budget,
    pub(super) ending: Ending,
}

/// When a stream has come to its end although nobody asked for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// With the first of its topics that is deleted.
    Topic,
    /// When no topic is left.
    AllTopics,
    /// Never: others may come.
    Never,
}

/// The body of one stream.
pub(super) struct StreamBody {
    pub(super) permit: Permit,
    pub(super) parts: Vec<Part>,
    /// Lets partitions join and leave, if they can.
    pub(super) source: Option<Box<dyn Source>>,
    /// Its ids, if its cursor is too long to send.
    pub(super) stored: Option<StoredIds>,
    pub(super) parts_open: usize,
    /// Partitions that may have something, in the order of their turns.
    pub(super) ready: VecDeque<usize>,
    waits: Waits,
    /// What the first of `ready` waits for, if reading takes time.
    load: Option<SharedLoad>,
    /// A chunk of which a frame took only a part, and its partition.
    pub(super) held: Option<(usize, Arc<Chunk>)>,
    /// The frame on its way, in two pieces.
    pub(super) outgoing: [Bytes; 2],
    pub(super) life: Life,
    pub(super) plan: Plan,
    id_mode: IdMode,
    /// Records that a filter took away so far.
    pub(super) filtered: Filtered,
    /// Records that may be sent now, if the client counts them.
    pub(super) credit: Option<u64>,
    pace: Option<Pace>,
    is_caught_up: bool,
    pub(super) closing: Option<Closed>,
}

/// What a turn of one partition came to.
pub(super) enum Turn {
    /// It added records; others are next.
    Taken,
    /// It has nothing now and is waited for.
    Waiting,
    /// It has come to its end.
    Finished,
    /// It cannot add to this frame.
    Full,
    /// Its chunk is being read.
    Loading,
    /// It caused an event of its own, which is on its way.
    Event,
}

/// Turns without a record after which a stream lets others run: whoever reads through markers and
/// records that it does not show must not hold a thread.
const EMPTY_TURNS_MAX: usize = 16;

/// Like [`EMPTY_TURNS_MAX`], for a stream whose filter looks at every record.
const FILTERED_TURNS_MAX: usize = 2;

/// What filling a frame came to.
enum Filled {
    /// Something is on its way.
    Something,
    /// Nothing, but partitions are newly waited for.
    Armed,
    /// Nothing yet, after a long stretch without a record.
    Paused,
    /// Nothing.
    Nothing,
}

impl StreamBody {
    /// Makes the body; `opening` is its first frame.
    pub(super) fn new(
        permit: Permit,
        course: Course,
        plan: Plan,
        life: Life,
        opening: Bytes,
    ) -> Self {
        let Course { parts, source, stored } = course;
        Self {
            permit,
            parts_open: parts.len(),
            ready: (0..parts.len()).collect(),
            waits: Waits::for_partitions(parts.len(), wake_distance(&plan)),
            id_mode: id_mode(&plan, parts.len()),
            filtered: Filtered::default(),
            credit: None,
            pace: Pace::of(plan.batch),
            parts,
            source,
            stored,
            load: None,
            held: None,
            outgoing: [opening, Bytes::new()],
            life,
            plan,
            is_caught_up: false,
            closing: None,
        }
    }

    /// Begins to wait anew, after parts have joined or left.
    pub(super) fn rewire(&mut self) {
        self.parts.sort_by_key(|part| (part.tail.topic().incarnation, part.span.partition));
        let log = &self.permit.engine().log;
        for part in self.parts.iter_mut().filter(|part| part.is_open && part.receiver.is_none()) {
            part.receiver = log.watch(&part.tail.topic().name, part.span.partition).ok();
        }
        self.waits = Waits::for_partitions(self.parts.len(), wake_distance(&self.plan));
        self.ready = (0..self.parts.len()).filter(|at| self.is_open(*at)).collect();
        self.parts_open = self.ready.len();
        self.id_mode = id_mode(&self.plan, self.parts.len());
        (self.load, self.held) = (None, None);
    }

    fn is_open(&self, at: usize) -> bool {
        self.parts.get(at).is_some_and(|part| part.is_open)
    }

    fn next_outgoing(&mut self) -> Option<Bytes> {
        let piece = self.outgoing.iter_mut().find(|piece| !piece.is_empty())?;
        let piece = piece.split_to(piece.len().min(FRAME_BYTES_MAX));
        if self.outgoing.iter().all(Bytes::is_empty) {
            // What is sent must not be kept alive by an empty rest of it.
            self.outgoing = [Bytes::new(), Bytes::new()];
        }
        Some(piece)
    }

    /// Puts something on its way, or ends the stream.
    fn step(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.life.is_due()
            && let Poll::Ready(tick) = self.life.poll(context)
        {
            self.tick(tick);
            return Poll::Ready(());
        }
        if self.permit.is_condemned(context) {
            self.fault(&Fault::closed_by_administrator());
            return Poll::Ready(());
        }
        if let Some(source) = &mut self.source
            && let Poll::Ready(change) = source.poll_change(context)
        {
            self.change(change);
            return Poll::Ready(());
        }
        loop {
            while let Poll::Ready((at, receiver)) = self.waits.poll(context) {
                if self.wake(at, receiver) {
                    return Poll::Ready(());
                }
            }
            match self.fill(context) {
                Filled::Something => return Poll::Ready(()),
                Filled::Armed => {}
                Filled::Nothing => break,
                Filled::Paused => {
                    let tick = self.life.poll(context);
                    context.waker().wake_by_ref();
                    self.tick(ready!(tick));
                    return Poll::Ready(());
                }
            }
        }
        let is_settled = self.source.as_ref().is_none_or(|source| source.is_settled());
        if !self.is_caught_up && self.ready.is_empty() && is_settled {
            self.is_caught_up = true;
            let data = events::caught_up(&places(&self.parts));
            self.send_event("caught-up", &data);
            return Poll::Ready(());
        }
        let tick = ready!(self.life.poll(context));
        self.tick(tick);
        Poll::Ready(())
    }

    /// Takes back a partition that was waited for; tells whether that caused an event.
    fn wake(&mut self, at: usize, receiver: Option<Receiver>) -> bool {
        let Some(part) = self.parts.get_mut(at).filter(|part| part.is_open) else { return false };
        if receiver.is_none() {
            self.gone(at);
            return true;
        }
        part.receiver = receiver;
        self.ready.push_back(at);
        false
    }

    fn fill(&mut self, context: &mut Context<'_>) -> Filled {
        if let Some(pace) = &mut self.pace
            && pace.poll(context).is_pending()
        {
            return Filled::Nothing;
        }
        let wire = Arc::clone(&self.plan.wire);
        let mut frame = Frame::new(self.id_mode, &wire, self.records_max());
        let turns_max =
            if self.plan.filter.is_some() { FILTERED_TURNS_MAX } else { EMPTY_TURNS_MAX };
        let (mut is_armed, mut turns) = (false, 0);
        while frame.has_room() && !self.plan.budget.is_spent() {
            turns += 1;
            if turns > turns_max && frame.is_empty() {
                return Filled::Paused;
            }
            let Some(&at) = self.ready.front() else { break };
            match self.turn(at, &mut frame, context) {
                Turn::Taken => self.ready.rotate_left(1),
                Turn::Waiting => {
                    self.ready.pop_front();
                    (is_armed, turns) = (true, 0);
                }
                Turn::Finished => {
                    self.ready.pop_front();
                    turns = 0;
                }
                Turn::Full | Turn::Loading => break,
                Turn::Event => return Filled::Something,
            }
        }
        if !frame.is_empty() {
            self.permit.count_records(frame.records());
            self.credit = self.credit.map(|credit| credit.saturating_sub(frame.records()));
            if let Some(pace) = &mut self.pace {
                pace.restart();
            }
            let head = self.head();
            // A client that must acknowledge before it gets more needs an id that says it all.
            let is_owed = self.source.as_ref().is_some_and(|source| source.allowance().is_some());
            if let Some(stored) = self.stored.as_mut().filter(|stored| is_owed || stored.is_due()) {
                stored.snapshot(head, &self.parts);
            }
            let (parts, stored) = (&self.parts, self.stored.as_ref());
            self.outgoing = frame.finish(|scratch, out| match stored {
                Some(stored) => out.extend_from_slice(stored.text()),
                None => cursor::write_into(head, positions(parts), scratch, out),
            });
            if let Some(stored) = &mut self.stored {
                stored.sent(self.outgoing.iter().map(Bytes::len).sum());
            }
            return Filled::Something;
        }
        if self.plan.budget.is_spent() {
            let is_records = self.plan.budget.records == Some(0);
            self.end(if is_records { "limit" } else { "max_bytes" }, Closed::End);
        } else if self.parts_open == 0 && self.source.is_none() {
            self.end("until", Closed::End);
        } else if is_armed {
            return Filled::Armed;
        } else {
            return Filled::Nothing;
        }
        Filled::Something
    }

    fn turn(&mut self, at: usize, frame: &mut Frame<'_>, context: &mut Context<'_>) -> Turn {
        let Some(part) = self.parts.get_mut(at) else { return Turn::Finished };
        if part.is_open && part.span.next >= part.span.bound {
            part.is_open = false;
            self.parts_open -= 1;
        }
        if !part.is_open {
            return Turn::Finished;
        }
        if let Some(turn) = self.overflow(at, frame) {
            return turn;
        }
        match self.chunk(at, frame.is_empty(), context) {
            Ok(chunk) => self.take(at, chunk, frame),
            Err(turn) => turn,
        }
    }

    /// Goes on at the end if the client wants that and the partition is too far behind.
    fn overflow(&mut self, at: usize, frame: &Frame<'_>) -> Option<Turn> {
        let lag_max = self.plan.lag_max?;
        let part = self.parts.get(at)?;
        let end = *part.receiver.as_ref()?.borrow();
        if end.saturating_sub(part.span.next) <= lag_max {
            return None;
        }
        // With open transactions the end to go on at may be nearer.
        let (topic, partition) = (part.tail.topic(), part.span.partition);
        let bounds = self.permit.engine().log.bounds(&topic.name, partition).ok()?;
        let end = end_of(bounds, self.plan.isolation).min(part.span.bound);
        if end.saturating_sub(part.span.next) <= lag_max {
            return None;
        }
        if !frame.is_empty() {
            return Some(Turn::Full);
        }
        let gap = Gap {
            topic: Some(topic.name.clone()),
            partition: Some(partition),
            requested: Some(part.span.next),
            resumed: Some(end),
            reason: GapReason::Overflow,
        };
        self.held = None;
        if let Some(part) = self.parts.get_mut(at) {
            part.span.next = end;
        }
        self.report(&gap);
        Some(Turn::Event)
    }

    /// Finds the chunk at a partition's position.
    fn chunk(
        &mut self,
        at: usize,
        is_frame_empty: bool,
        context: &mut Context<'_>,
    ) -> Result<Arc<Chunk>, Turn> {
        let Some(part) = self.parts.get_mut(at) else { return Err(Turn::Finished) };
        let next = part.span.next;
        if let Some((_, chunk)) = self.held.take_if(|(of, _)| *of == at)
            && (chunk.first..chunk.next).contains(&next)
        {
            return Ok(chunk);
        }
        if self.load.is_none() {
            let is_at_end = |receiver: &Receiver| next >= *receiver.borrow();
            if part.receiver.as_ref().is_none_or(is_at_end)
                && let Some(turn) = self.wait_for(at, next)
            {
                return Err(turn);
            }
            let Some(part) = self.parts.get(at) else { return Err(Turn::Finished) };
            match part.tail.get(next) {
                Lookup::Now(loaded) => return self.accept(at, loaded, is_frame_empty),
                Lookup::Later(load) => self.load = Some(load),
            }
        }
        if !is_frame_empty {
            return Err(Turn::Full);
        }
        let Some(load) = &mut self.load else { return Err(Turn::Full) };
        let Poll::Ready(loaded) = load.poll_unpin(context) else { return Err(Turn::Loading) };
        self.load = None;
        self.accept(at, loaded, is_frame_empty)
    }

    /// Waits for the partition unless it grew beyond `next` just now.
    fn wait_for(&mut self, at: usize, next: Offset) -> Option<Turn> {
        let part = self.parts.get_mut(at)?;
        let mut receiver = part.receiver.take()?;
        if next < *receiver.borrow_and_update() {
            part.receiver = Some(receiver);
            return None;
        }
        self.waits.arm(at, receiver);
        Some(Turn::Waiting)
    }

    fn accept(
        &mut self,
        at: usize,
        loaded: Loaded,
        is_frame_empty: bool,
    ) -> Result<Arc<Chunk>, Turn> {
        if let Some(part) = self.parts.get_mut(at)
            && !matches!(loaded, Err(LoadError::Storage(_) | LoadError::Damaged(_)))
        {
            part.muted = None;
        }
        match loaded {
            Ok(chunk) => Ok(self.view(at, chunk)),
            // An open transaction hides what there is: wait until the log has grown, which it may
            // have since it was read.
            Err(LoadError::Nothing { high_watermark }) => {
                Err(self.wait_for(at, high_watermark).unwrap_or(Turn::Taken))
            }
            // What the frame has goes first; the error will be met again.
            Err(_) if !is_frame_empty => Err(Turn::Full),
            Err(error) => Err(self.refuse(at, error)),
        }
    }

    fn refuse(&mut self, at: usize, error: LoadError) -> Turn {
        match error {
            LoadError::Gone => self.gone(at),
            LoadError::Storage(detail) => self.unreadable(at, &Fault::storage(detail)),
            LoadError::Damaged(detail) => self.unreadable(at, &Fault::damaged(detail)),
            LoadError::Stopping => self.rotate(Closed::Shutdown),
            LoadError::Nothing { .. } => return Turn::Taken,
            LoadError::OutOfRange(bounds) => {
                let Some(part) = self.parts.get_mut(at) else { return Turn::Finished };
                let topic = part.tail.topic();
                let gap = gap_between(topic, part.span.partition, part.span.next, bounds);
                // Between the read and its answer the offset may have come into range.
                let Some(gap) = gap else { return Turn::Taken };
                part.span.next = gap.resumed.unwrap_or(part.span.next);
                self.report(&gap);
            }
        }
        Turn::Event
    }
}

/// Where a stream is, as its cursor says it.
pub(super) fn positions(parts: &[Part]) -> impl Iterator<Item = Position> + Clone {
    parts.iter().map(|part| Position {
        incarnation: part.tail.topic().incarnation,
        partition: part.span.partition,
        next: part.span.next,
    })
}

/// Where a stream is, as its events say it.
pub(super) fn places(parts: &[Part]) -> Vec<Place<'_>> {
    parts.iter().map(Part::place).collect()
}

/// Least time between two looks at what is new: filters may find nothing in it, so theirs is
/// longer.
const fn wake_distance(plan: &Plan) -> Duration {
    match plan.filter {
        None => Duration::from_millis(1),
        Some(_) => Duration::from_millis(5),
    }
}

fn id_mode(plan: &Plan, partition_count: usize) -> IdMode {
    match (plan.wire.framing(), plan.ids) {
        (Framing::Events, _) => {}
        // Lines and lists have no cursor of their own, unless it is asked for.
        (_, Ids::Auto) => return IdMode::Shared,
        (Framing::Lines, Ids::Each) => return IdMode::Each,
        _ => return IdMode::Flush,
    }
    match plan.ids {
        Ids::Flush => IdMode::Flush,
        Ids::Auto if partition_count > IDS_EACH_PARTITIONS_MAX => IdMode::Flush,
        // The ids that chunks have say nothing of other partitions and of a budget.
        _ if partition_count == 1 && plan.budget.is_unlimited() => IdMode::Shared,
        Ids::Auto | Ids::Each => IdMode::Each,
    }
}

impl http_body::Body for StreamBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        loop {
            if let Some(piece) = this.next_outgoing() {
                this.permit.count_bytes(piece.len());
                this.permit.note(&this.parts);
                if let Some(source) = &mut this.source {
                    source.wrote(&this.parts);
                }
                this.life.wrote();
                return Poll::Ready(Some(Ok(http_body::Frame::data(piece))));
            }
            if let Some(reason) = this.closing {
                this.permit.close(reason);
                return Poll::Ready(None);
            }
            ready!(this.step(context));
        }
    }
}
