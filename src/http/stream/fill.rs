//! Filling a frame: partitions take turns, one chunk each.

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::FutureExt;

use super::body::StreamBody;
use super::chunk::Chunk;
use super::cursor;
use super::events::{Fault, Gap, GapReason};
use super::frame::Frame;
use super::life::Closed;
use super::part::positions;
use super::start::{end_of, gap_between};
use super::tail::{LoadError, Loaded, Lookup};
use crate::base::ids::Offset;

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
pub(super) enum Filled {
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
    /// Puts what there is on its way, as much as fits.
    pub(super) fn fill(&mut self, context: &mut Context<'_>) -> Filled {
        if let Some(pace) = &mut self.pace
            && pace.poll(context).is_pending()
        {
            return Filled::Nothing;
        }
        if self.turns.is_empty() && self.parts_open > 0 && !self.plan.budget.is_spent() {
            return Filled::Nothing;
        }
        let mut frame = Frame::new(self.id_mode, self.plan.wire.clone(), self.records_max());
        let turns_max =
            if self.plan.filter.is_some() { FILTERED_TURNS_MAX } else { EMPTY_TURNS_MAX };
        let (mut is_armed, mut turns) = (false, 0);
        while frame.has_room() && !self.plan.budget.is_spent() {
            turns += 1;
            if turns > turns_max && frame.is_empty() {
                return Filled::Paused;
            }
            let Some(at) = self.turns.first() else { break };
            match self.turn(at, &mut frame, context) {
                Turn::Taken => self.turns.rotate(),
                Turn::Waiting => {
                    self.turns.remove_first();
                    (is_armed, turns) = (true, 0);
                }
                Turn::Finished => {
                    self.turns.remove_first();
                    turns = 0;
                }
                Turn::Full | Turn::Loading => break,
                Turn::Event => return Filled::Something,
            }
        }
        if !frame.is_empty() {
            self.hand_over(frame);
        } else if self.plan.budget.is_spent() {
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

    /// Puts a frame on its way.
    fn hand_over(&mut self, frame: Frame) {
        self.records_outgoing = frame.records();
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
        if let Some(turn) = self.overflow(at, frame) {
            return turn;
        }
        match self.chunk(at, frame.is_empty(), context) {
            Ok(chunk) => self.take(at, chunk, frame),
            Err(turn) => turn,
        }
    }

    /// Goes on at the end if the client wants that and the partition is too far behind.
    fn overflow(&mut self, at: usize, frame: &Frame) -> Option<Turn> {
        let lag_max = self.plan.lag_max?;
        let part = self.parts.get_mut(at)?;
        let end = part.watch.as_mut()?.end();
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
            if part.watch.as_mut().is_none_or(|watch| next >= watch.end())
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
        let watch = part.watch.take_if(|watch| next >= watch.end())?;
        self.waits.arm(at, watch);
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
