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

use bytes::Bytes;
use futures_util::FutureExt;

use super::Permit;
use super::chunk::Chunk;
use super::cursor::{self, Position};
use super::events::{self, Fault};
use super::frame::{FRAME_BYTES_MAX, Frame, IdMode};
use super::life::{Closed, Life};
use super::params::OnGap;
use super::start::{Span, gap_between};
use super::tail::{LoadError, Loaded, Lookup, SharedLoad, Tail};
use super::waits::{Receiver, Waits};
use crate::base::ids::{Offset, TimestampMs};
use crate::engine::topics::Topic;

/// One partition of a stream.
pub(super) struct Part {
    pub(super) span: Span,
    pub(super) tail: Arc<Tail>,
    /// None while the partition is waited for.
    pub(super) receiver: Option<Receiver>,
    pub(super) is_open: bool,
}

/// What a stream does, besides where it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) ids: IdMode,
    pub(super) on_gap: OnGap,
    pub(super) until: Option<TimestampMs>,
    pub(super) remaining: Option<u64>,
}

/// The body of one stream.
pub(super) struct StreamBody {
    pub(super) permit: Permit,
    pub(super) topic: Arc<Topic>,
    pub(super) parts: Vec<Part>,
    parts_open: usize,
    /// Partitions that may have something, in the order of their turns.
    pub(super) ready: VecDeque<usize>,
    waits: Waits,
    /// What the first of `ready` waits for, if reading takes time.
    load: Option<SharedLoad>,
    /// A chunk of which a frame took only a part, and its partition.
    held: Option<(usize, Arc<Chunk>)>,
    /// The frame on its way, in two pieces.
    pub(super) outgoing: [Bytes; 2],
    life: Life,
    pub(super) plan: Plan,
    is_caught_up: bool,
    pub(super) closing: Option<Closed>,
}

/// What a turn of one partition came to.
enum Turn {
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

/// What filling a frame came to.
enum Filled {
    /// Something is on its way.
    Something,
    /// Nothing, but partitions are newly waited for.
    Armed,
    /// Nothing.
    Nothing,
}

impl StreamBody {
    /// Makes the body; `opening` is its first frame.
    pub(super) fn new(
        permit: Permit,
        topic: Arc<Topic>,
        parts: Vec<Part>,
        plan: Plan,
        life: Life,
        opening: Bytes,
    ) -> Self {
        Self {
            permit,
            topic,
            parts_open: parts.len(),
            ready: (0..parts.len()).collect(),
            waits: Waits::for_partitions(parts.len()),
            parts,
            load: None,
            held: None,
            outgoing: [opening, Bytes::new()],
            life,
            plan,
            is_caught_up: false,
            closing: None,
        }
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
            }
        }
        if !self.is_caught_up && self.ready.is_empty() {
            self.is_caught_up = true;
            let data = events::caught_up(self.topic.name.as_str(), positions(&self.parts));
            self.send_event("caught-up", &data);
            return Poll::Ready(());
        }
        let tick = ready!(self.life.poll(context));
        self.tick(tick);
        Poll::Ready(())
    }

    /// Takes back a partition that was waited for; tells whether that ended the stream.
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
        let mut frame = Frame::new(self.plan.ids);
        let mut is_armed = false;
        while frame.has_room() && self.plan.remaining != Some(0) {
            let Some(&at) = self.ready.front() else { break };
            match self.turn(at, &mut frame, context) {
                Turn::Taken => self.ready.rotate_left(1),
                Turn::Waiting => {
                    self.ready.pop_front();
                    is_armed = true;
                }
                Turn::Finished => {
                    self.ready.pop_front();
                }
                Turn::Full | Turn::Loading => break,
                Turn::Event => return Filled::Something,
            }
        }
        if !frame.is_empty() {
            self.permit.count_records(frame.records());
            let (head, parts) = (self.head(), &self.parts);
            self.outgoing = frame.finish(|scratch, out| {
                cursor::write_into(head, positions(parts), scratch, out);
            });
            return Filled::Something;
        }
        if self.plan.remaining == Some(0) {
            self.end("limit", Closed::End);
        } else if self.parts_open == 0 {
            self.end("until", Closed::End);
        } else if is_armed {
            return Filled::Armed;
        } else {
            return Filled::Nothing;
        }
        Filled::Something
    }

    fn turn(&mut self, at: usize, frame: &mut Frame, context: &mut Context<'_>) -> Turn {
        let Some(part) = self.parts.get_mut(at) else { return Turn::Finished };
        if part.is_open && part.span.next >= part.span.bound {
            part.is_open = false;
            self.parts_open -= 1;
        }
        if !part.is_open {
            return Turn::Finished;
        }
        match self.chunk(at, frame.is_empty(), context) {
            Ok(chunk) => self.take(at, chunk, frame),
            Err(turn) => turn,
        }
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
        match loaded {
            Ok(chunk) => Ok(chunk),
            // The log was shortened below what it announced: wait for what comes.
            Err(LoadError::Nothing) => {
                Err(self.wait_for(at, Offset::MAX).unwrap_or(Turn::Finished))
            }
            // What the frame has goes first; the error will be met again.
            Err(_) if !is_frame_empty => Err(Turn::Full),
            Err(error) => Err(self.refuse(at, error)),
        }
    }

    fn refuse(&mut self, at: usize, error: LoadError) -> Turn {
        match error {
            LoadError::Gone => self.gone(at),
            LoadError::Storage(detail) => self.fault(&Fault::storage(detail)),
            LoadError::Damaged(detail) => self.fault(&Fault::damaged(detail)),
            LoadError::Stopping => self.rotate(Closed::Shutdown),
            LoadError::Nothing => return Turn::Finished,
            LoadError::OutOfRange(bounds) => {
                let Some(part) = self.parts.get_mut(at) else { return Turn::Finished };
                let gap = gap_between(part.span.partition, part.span.next, bounds);
                // Between the read and its answer the offset may have come into range.
                let Some(gap) = gap else { return Turn::Taken };
                part.span.next = gap.resumed.unwrap_or(part.span.next);
                self.report(gap);
            }
        }
        Turn::Event
    }

    /// Adds what the partition may send of the chunk.
    fn take(&mut self, at: usize, chunk: Arc<Chunk>, frame: &mut Frame) -> Turn {
        let Some(part) = self.parts.get_mut(at) else { return Turn::Finished };
        let mut range = chunk.entries_between(part.span.next, part.span.bound);
        if let Some(until) = self.plan.until
            && let Some(early) =
                chunk.entries(range.clone()).iter().position(|entry| entry.timestamp >= until)
        {
            range.end = range.start + early;
            part.span.bound = chunk.entry(range.end).map_or(part.span.bound, |e| e.offset);
        }
        if let Some(remaining) = self.plan.remaining {
            let remaining = usize::try_from(remaining).unwrap_or(usize::MAX);
            range.end = range.end.min(range.start.saturating_add(remaining));
        }
        let mut taken = range.start;
        if self.plan.ids == IdMode::Shared {
            if !range.is_empty() && !frame.push_shared(&chunk, range.clone()) {
                return self.hold(at, chunk);
            }
            taken = range.end;
        }
        while taken < range.end {
            let Some(entry) = chunk.entry(taken) else { break };
            let before = self.plan.remaining;
            if let Some(part) = self.parts.get_mut(at) {
                part.span.next = entry.offset + 1;
            }
            self.plan.remaining = before.map(|left| left.saturating_sub(1));
            let (head, parts) = (self.head(), &self.parts);
            let has_fitted = frame.push_record(&chunk, taken, |scratch, out| {
                cursor::write_into(head, positions(parts), scratch, out);
            });
            if !has_fitted {
                self.plan.remaining = before;
                if let Some(part) = self.parts.get_mut(at) {
                    part.span.next = entry.offset;
                }
                return self.hold(at, chunk);
            }
            taken += 1;
        }
        if let Some(part) = self.parts.get_mut(at) {
            part.span.next = chunk.entry(range.end).map_or(chunk.next, |entry| entry.offset);
        }
        Turn::Taken
    }

    /// Keeps a chunk for the next frame.
    fn hold(&mut self, at: usize, chunk: Arc<Chunk>) -> Turn {
        self.held = Some((at, chunk));
        Turn::Full
    }
}

/// Where a stream is, as its cursor says it.
pub(super) fn positions(parts: &[Part]) -> impl Iterator<Item = Position> + Clone {
    parts.iter().map(|part| Position {
        incarnation: part.tail.incarnation(),
        partition: part.span.partition,
        next: part.span.next,
    })
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
