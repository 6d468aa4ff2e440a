//! The body of a stream: pulled, never pushed.
//!
//! Each poll reads what there is and answers one frame; nothing is read ahead. A client that does
//! not take its bytes is not polled for, so a slow reader is lag and not memory. There is no task,
//! no channel and no queue per stream.
//!
//! Partitions take turns, one chunk each. Order is kept within a partition only.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::time::Instant;

use super::chunk::{Chunk, Filtered};
use super::events::{self, Fault};
use super::fill::Filled;
use super::frame::{FRAME_BYTES_MAX, IdMode};
use super::life::{Closed, Life};
use super::open_streams::Permit;
use super::pace::Pace;
use super::part::{Parts, places};
use super::plan::Plan;
use super::source::Source;
use super::stored::StoredIds;
use super::tail::SharedLoad;
use super::turns::Turns;
use super::waits::{Waits, Watch};

/// Where a stream is, and how that changes.
pub(super) struct Course {
    pub(super) parts: Parts,
    /// Lets partitions join and leave, if they can.
    pub(super) source: Option<Box<dyn Source>>,
    /// Its ids, if its cursor is too long to send, which is rare.
    pub(super) stored: Option<Box<StoredIds>>,
}

/// The body of one stream.
pub(super) struct StreamBody {
    pub(super) permit: Permit,
    pub(super) parts: Parts,
    /// Lets partitions join and leave, if they can.
    pub(super) source: Option<Box<dyn Source>>,
    /// Its ids, if its cursor is too long to send, which is rare.
    pub(super) stored: Option<Box<StoredIds>>,
    pub(super) parts_open: usize,
    /// Partitions that may have something, in the order of their turns.
    pub(super) turns: Turns,
    pub(super) waits: Waits,
    /// What the first of `turns` waits for, if reading takes time.
    pub(super) load: Option<SharedLoad>,
    /// A chunk of which a frame took only a part, and its partition.
    pub(super) held: Option<(usize, Arc<Chunk>)>,
    /// The frame on its way, in two pieces.
    pub(super) outgoing: [Bytes; 2],
    /// Records in it that are not counted yet.
    pub(super) records_outgoing: u64,
    pub(super) life: Life,
    pub(super) plan: Plan,
    pub(super) id_mode: IdMode,
    /// Records that a filter took away so far.
    pub(super) filtered: Filtered,
    /// Records that may be sent now, if the client counts them.
    pub(super) credit: Option<u64>,
    pub(super) pace: Option<Pace>,
    is_caught_up: bool,
    pub(super) closing: Option<Closed>,
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
        permit.place(&parts);
        Self {
            permit,
            parts_open: parts.len(),
            turns: Turns::of(parts.len(), |_| true),
            waits: Waits::for_partitions(parts.len(), plan.rhythm()),
            id_mode: plan.id_mode(parts.len()),
            filtered: Filtered::default(),
            credit: None,
            pace: Pace::of(plan.batch),
            parts,
            source,
            stored,
            load: None,
            held: None,
            outgoing: [opening, Bytes::new()],
            records_outgoing: 0,
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
        for part in self.parts.iter_mut().filter(|part| part.is_open) {
            part.watch_again(log);
        }
        self.permit.place(&self.parts);
        self.waits = Waits::for_partitions(self.parts.len(), self.plan.rhythm());
        self.turns = Turns::of(self.parts.len(), |at| self.is_open(at));
        self.parts_open = self.turns.len();
        self.id_mode = self.plan.id_mode(self.parts.len());
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
    fn step(&mut self, context: &mut Context<'_>, now: Instant) -> Poll<()> {
        if self.life.is_due()
            && let Poll::Ready(tick) = self.life.poll(context, now)
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
            while let Poll::Ready((at, watch)) = self.waits.poll(context, now) {
                if self.wake(at, watch) {
                    return Poll::Ready(());
                }
            }
            match self.fill(context) {
                Filled::Something => return Poll::Ready(()),
                Filled::Armed => {}
                Filled::Nothing => break,
                Filled::Paused => {
                    let tick = self.life.poll(context, now);
                    context.waker().wake_by_ref();
                    self.tick(ready!(tick));
                    return Poll::Ready(());
                }
            }
        }
        let is_settled = self.source.as_ref().is_none_or(|source| source.is_settled());
        if !self.is_caught_up && self.turns.is_empty() && is_settled {
            self.is_caught_up = true;
            let data = events::caught_up(&places(&self.parts));
            self.send_event("caught-up", &data);
            return Poll::Ready(());
        }
        let tick = ready!(self.life.poll(context, now));
        self.tick(tick);
        Poll::Ready(())
    }

    /// Takes back a partition that was waited for; tells whether that caused an event.
    fn wake(&mut self, at: usize, watch: Option<Watch>) -> bool {
        let Some(part) = self.parts.get_mut(at).filter(|part| part.is_open) else { return false };
        if watch.is_none() {
            self.gone(at);
            return true;
        }
        part.watch = watch;
        self.turns.push(at);
        false
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
        // Once for all of the poll, which waits for nothing.
        let now = Instant::now();
        loop {
            if let Some(piece) = this.next_outgoing() {
                let records = std::mem::take(&mut this.records_outgoing);
                this.permit.sent(records, piece.len(), &this.parts);
                if let Some(source) = &mut this.source {
                    source.wrote(&this.parts);
                }
                this.life.wrote(now);
                return Poll::Ready(Some(Ok(http_body::Frame::data(piece))));
            }
            if let Some(reason) = this.closing {
                this.permit.close(reason);
                return Poll::Ready(None);
            }
            ready!(this.step(context, now));
        }
    }
}
