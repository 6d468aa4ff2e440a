//! What a stream says of itself, between and after its records.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;

use super::body::StreamBody;
use super::cursor::{self, Head};
use super::events::{self, Fault, Gap, GapReason};
use super::life::{self, Closed, Tick};
use super::params::OnGap;
use super::part::{Part, positions};
use super::plan::{Ending, Plan};
use super::source::{Change, Joining};
use super::start::{Span, end_of};
use super::stored::StoredIds;
use super::wanted::{PartitionRef, check_size};
use crate::base::ids::Offset;

impl StreamBody {
    pub(super) fn head(&self) -> Head {
        let Plan { budget, isolation, .. } = self.plan;
        Head { is_done: false, cluster: self.permit.cluster(), budget, isolation }
    }

    /// The id that says exactly where the stream is.
    fn id(&mut self, head: Head) -> Vec<u8> {
        match &mut self.stored {
            Some(stored) => {
                stored.snapshot(head, &self.parts);
                stored.text().to_vec()
            }
            None => cursor::to_bytes(head, positions(&self.parts)),
        }
    }

    pub(super) fn send_event(&mut self, name: &str, data: &[u8]) {
        let id = self.id(self.head());
        self.send(name, &id, data);
    }

    fn send(&mut self, name: &str, id: &[u8], data: &[u8]) {
        let mut out = Vec::with_capacity(data.len() + id.len() + 40);
        self.plan.wire.event_into(name, Some(id), data, &mut out);
        self.outgoing = [out.into(), Bytes::new()];
    }

    pub(super) fn tick(&mut self, tick: Tick) {
        match tick {
            Tick::Over(reason) => self.rotate(reason),
            Tick::Stopping => self.life.drain(self.permit.drain_spread()),
            Tick::Until => self.bound_all(),
            Tick::Look => self.look_again(),
            Tick::Ping => match self.parts.iter().position(|p| p.is_open && p.tail.is_gone()) {
                Some(at) => self.gone(at),
                None => self.ping(),
            },
        }
    }

    fn ping(&mut self) {
        let data = self.ping_data();
        self.send_event("ping", &data);
    }

    fn ping_data(&self) -> Vec<u8> {
        let lag = |part: &Part| {
            let name = &part.tail.topic().name;
            let bounds = self.permit.engine().log.bounds(name, part.span.partition);
            let end = bounds.map_or(0, |bounds| end_of(bounds, self.plan.isolation));
            end.saturating_sub(part.span.next).max(0)
        };
        // What cannot be read at the moment is still to come.
        let is_it = |part: &&Part| part.is_open || part.muted.is_some();
        let lag = self.parts.iter().filter(is_it).map(lag).fold(0, i64::saturating_add);
        events::ping(self.permit.now_ms(), lag, self.filtered)
    }

    /// The moment of `until` has come: what there is now is the rest.
    fn bound_all(&mut self) {
        // What comes to match from now on is later than the moment.
        self.source = None;
        for (at, part) in self.parts.iter_mut().enumerate() {
            let name = &part.tail.topic().name;
            let bounds = self.permit.engine().log.bounds(name, part.span.partition);
            let end = bounds.map(|bounds| end_of(bounds, self.plan.isolation));
            if let Some(muted) = &mut part.muted {
                // With its end unknown it has none that could be waited for.
                muted.bound = muted.bound.min(end.as_ref().map_or(part.span.next, |end| *end));
            }
            let Ok(end) = end else { continue };
            if !part.is_open {
                continue;
            }
            part.span.bound = part.span.bound.min(end);
            // One that is waited for may be at its end already.
            if part.watch.is_none() && part.span.next >= part.span.bound {
                self.turns.push(at);
            }
        }
    }

    pub(super) fn report(&mut self, gap: &Gap) {
        self.permit.count_gap(gap);
        if self.plan.on_gap == OnGap::Fail && gap.reason != GapReason::Deleted {
            return self.fault(&Fault::gap(gap.sentence()));
        }
        let data = gap.json();
        self.send_event("gap", &data);
    }

    /// The topic of a partition was deleted: the others go on, if there are any.
    pub(super) fn gone(&mut self, at: usize) {
        let Some(part) = self.parts.get(at) else { return };
        let deleted = part.tail.topic().id;
        let mut gaps = Vec::new();
        self.parts.retain(|part| {
            let topic = part.tail.topic();
            if topic.id == deleted {
                gaps.push(Gap {
                    topic: Some(topic.name.clone()),
                    partition: Some(part.span.partition),
                    requested: Some(part.span.next),
                    resumed: None,
                    reason: GapReason::Deleted,
                });
            }
            topic.id != deleted
        });
        self.rewire();
        let id = self.id(self.head());
        let mut out = Vec::new();
        for gap in &gaps {
            self.permit.count_gap(gap);
            self.plan.wire.event_into("gap", Some(&id), &gap.json(), &mut out);
        }
        let is_over = match self.plan.ending {
            Ending::Topic => true,
            Ending::AllTopics => self.parts.is_empty(),
            Ending::Never => false,
        };
        if is_over {
            self.end("deleted", Closed::Deleted);
            out.extend_from_slice(&self.outgoing[0]);
        }
        self.outgoing = [out.into(), Bytes::new()];
    }

    /// Lets partitions join or leave.
    pub(super) fn change(&mut self, change: Change) {
        match change {
            Change::Joined { parts, gaps, generation } => match self.join(parts) {
                Ok(joined) => self.assigned(&joined, &gaps, generation),
                Err(fault) => self.fault(&fault),
            },
            Change::Left { parts, generation } => {
                let is_it =
                    |part: &Part| parts.iter().any(|(topic, number)| part.is_of(*topic, *number));
                let left = self.parts.iter().filter(|p| is_it(p)).map(Part::place);
                let data = events::membership(&left.collect::<Vec<_>>(), generation);
                // With them in it: the cursor still says what was delivered of them.
                let id = self.id(self.head());
                self.parts.retain(|part| !is_it(part));
                self.rewire();
                self.send("revoked", &id, &data);
            }
            Change::Failed(fault) => self.fault(&fault),
        }
    }

    /// Tells what joined, and what could not.
    fn assigned(&mut self, joined: &[PartitionRef], gaps: &[Gap], generation: Option<i32>) {
        if let Some(gap) = gaps.first().filter(|_| self.plan.on_gap == OnGap::Fail) {
            self.permit.count_gap(gap);
            return self.fault(&Fault::storage(gap.sentence()));
        }
        let id = self.id(self.head());
        let is_it = |part: &&Part| joined.iter().any(|(topic, n)| part.is_of(*topic, *n));
        let joined = self.parts.iter().filter(is_it).map(Part::place).collect::<Vec<_>>();
        let data = events::membership(&joined, generation);
        let mut out = Vec::with_capacity(data.len() + id.len() + 40);
        self.plan.wire.event_into("assigned", Some(&id), &data, &mut out);
        for gap in gaps {
            self.permit.count_gap(gap);
            self.plan.wire.event_into("gap", Some(&id), &gap.json(), &mut out);
        }
        self.outgoing = [out.into(), Bytes::new()];
    }

    fn join(&mut self, parts: Vec<Joining>) -> Result<Vec<PartitionRef>, Fault> {
        let mut joined = Vec::with_capacity(parts.len());
        for Joining { topic, partition, next } in parts {
            self.parts.retain(|part| !part.is_of(topic.id, partition));
            let tail = self.permit.tail(&topic, partition, &self.plan);
            let span = Span { partition, next, bound: Offset::MAX };
            self.parts.push(Part {
                span,
                sent: next,
                tail,
                watch: None,
                is_open: true,
                muted: None,
            });
            joined.push((topic.id, partition));
        }
        let topics: HashSet<_> = self.parts.iter().map(|part| part.tail.topic().id).collect();
        check_size(topics.len(), self.parts.len()).map_err(Fault::too_large)?;
        self.rewire();
        if self.stored.is_none() && StoredIds::are_needed(&self.parts) {
            let store = Arc::clone(&self.permit.engine().cursors);
            let stored = StoredIds::begin(store, self.head(), &self.parts);
            let stored = stored.map_err(|error| Fault::storage(error.to_string()))?;
            self.stored = Some(Box::new(stored));
        }
        Ok(joined)
    }

    pub(super) fn end(&mut self, reason: &str, closed: Closed) {
        let id = self.id(Head { is_done: true, ..self.head() });
        let mut out = Vec::new();
        self.plan.wire.event_into("end", Some(&id), &events::end(reason), &mut out);
        self.close(out, closed);
    }

    pub(super) fn fault(&mut self, fault: &Fault) {
        tracing::warn!(title = fault.title, detail = fault.detail, "stream failed");
        let mut out = Vec::new();
        self.plan.wire.event_into("fault", None, &fault.json(), &mut out);
        if fault.is_retriable {
            self.plan.wire.retry_into(life::random_retry_ms(), &mut out);
        } else {
            // An EventSource would come back for ever and meet the same fault: with this cursor
            // it is told to stop.
            let id = self.id(Head { is_done: true, ..self.head() });
            self.plan.wire.event_into("end", Some(&id), &events::end("fault"), &mut out);
        }
        self.close(out, Closed::Fault);
    }

    /// Ends the stream so that its client comes back.
    pub(super) fn rotate(&mut self, reason: Closed) {
        let mut out = Vec::new();
        if self.stored.is_some() {
            // The id of the last record may say less than was sent, this one does not.
            let (id, data) = (self.id(self.head()), self.ping_data());
            self.plan.wire.event_into("ping", Some(&id), &data, &mut out);
        }
        self.plan.wire.retry_into(life::random_retry_ms(), &mut out);
        self.close(out, reason);
    }

    fn close(&mut self, last: Vec<u8>, reason: Closed) {
        self.outgoing = [last.into(), Bytes::new()];
        self.closing = Some(reason);
    }
}
