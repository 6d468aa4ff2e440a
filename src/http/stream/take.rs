//! What a stream takes of a chunk: the records that its filter, its bounds and its client leave.

use std::ops::Range;
use std::sync::Arc;

use super::body::StreamBody;
use super::chunk::Chunk;
use super::cursor;
use super::fill::Turn;
use super::frame::Frame;
use super::params::Batch;
use super::part::positions;
use crate::http::record::cursor::Budget;

impl StreamBody {
    /// The chunk as the stream's filter leaves it.
    pub(super) fn view(&self, at: usize, chunk: Arc<Chunk>) -> Arc<Chunk> {
        match (&self.plan.filter, self.parts.get(at)) {
            (Some(filter), Some(part)) => {
                let topic = part.tail.topic().name.as_str();
                chunk.seen_by(filter, topic, part.span.partition)
            }
            _ => chunk,
        }
    }

    /// Adds what the partition may send of the chunk, and counts what its filter took away.
    pub(super) fn take(&mut self, at: usize, chunk: Arc<Chunk>, frame: &mut Frame) -> Turn {
        let next = |body: &Self| body.parts.get(at).map_or(0, |part| part.span.next);
        let before = next(self);
        let records = frame.records();
        let turn = self.take_records(at, &chunk, frame);
        if frame.records() > records {
            self.note_sent(at, &chunk);
        }
        self.filtered += chunk.filtered_between(before, next(self));
        if matches!(turn, Turn::Full) {
            self.held = Some((at, chunk));
        }
        turn
    }

    /// Notes the last record of the chunk before the partition's position as sent.
    fn note_sent(&mut self, at: usize, chunk: &Chunk) {
        let Some(part) = self.parts.get_mut(at) else { return };
        let taken = chunk.entries_between(0, part.span.next);
        if let Some(last) = taken.end.checked_sub(1).and_then(|last| chunk.entry(last)) {
            part.sent = part.sent.max(last.offset + 1);
        }
    }

    fn take_records(&mut self, at: usize, chunk: &Arc<Chunk>, frame: &mut Frame) -> Turn {
        let Some(part) = self.parts.get_mut(at) else { return Turn::Finished };
        let mut range = chunk.entries_between(part.span.next, part.span.bound);
        if let Some(until) = self.plan.until
            && let Some(early) =
                chunk.entries(range.clone()).iter().position(|entry| entry.timestamp >= until)
        {
            range.end = range.start + early;
            part.span.bound = chunk.entry(range.end).map_or(part.span.bound, |e| e.offset);
        }
        let records = self.plan.budget.records.unwrap_or(u64::MAX).min(frame.records_left());
        let records = usize::try_from(records).unwrap_or(usize::MAX);
        range.end = range.end.min(range.start.saturating_add(records));
        let mut taken = range.start;
        if frame.takes_ranges() {
            let budget = cover(self.plan.budget, chunk, &mut range);
            if !range.is_empty() && !frame.push_shared(chunk, range.clone()) {
                return Turn::Full;
            }
            self.plan.budget = budget;
            taken = range.end;
        }
        while taken < range.end {
            let Some(entry) = chunk.entry(taken) else { break };
            let before = self.plan.budget;
            if let Some(part) = self.parts.get_mut(at) {
                part.span.next = entry.offset + 1;
            }
            self.plan.budget = before.after(chunk.data_slice(taken).len());
            let (head, parts, stored) = (self.head(), &self.parts, self.stored.as_ref());
            let has_fitted = frame.push_record(chunk, taken, |scratch, out| match stored {
                Some(stored) => out.extend_from_slice(stored.text()),
                None => cursor::write_into(head, positions(parts), scratch, out),
            });
            if !has_fitted {
                self.plan.budget = before;
                if let Some(part) = self.parts.get_mut(at) {
                    part.span.next = entry.offset;
                }
                return Turn::Full;
            }
            taken += 1;
            if self.plan.budget.is_spent() {
                range.end = taken;
            }
        }
        if let Some(part) = self.parts.get_mut(at) {
            part.span.next = chunk.entry(range.end).map_or(chunk.next, |entry| entry.offset);
        }
        Turn::Taken
    }

    /// Records that the next frame may have.
    pub(super) fn records_max(&self) -> u64 {
        let of_batch = self.plan.batch.map_or(u64::MAX, Batch::records_max);
        let of_source = self.source.as_ref().and_then(|source| source.allowance());
        of_batch.min(self.credit.unwrap_or(u64::MAX)).min(of_source.unwrap_or(u64::MAX))
    }

    /// Lets the client count records: so many may be sent from now on, beside those it let before.
    pub(super) fn grant(&mut self, records: u64) {
        self.credit = Some(self.credit.unwrap_or(0).saturating_add(records));
    }
}

/// Cuts a range where the budget ends; what is left of it after the range.
fn cover(mut budget: Budget, chunk: &Chunk, range: &mut Range<usize>) -> Budget {
    if budget.is_unlimited() {
        return budget;
    }
    let mut end = range.start;
    while end < range.end && !budget.is_spent() {
        budget = budget.after(chunk.data_slice(end).len());
        end += 1;
    }
    range.end = end;
    budget
}
