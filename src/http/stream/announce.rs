//! What a stream says of itself, between and after its records.

use bytes::Bytes;

use super::body::{Part, StreamBody, positions};
use super::cursor::{self, Head};
use super::events::{self, Fault, Gap, GapReason};
use super::life::{self, Closed, Tick};
use super::params::OnGap;
use super::sse;

/// How long a client shall wait after a fault that will be there again, in ms.
const RETRY_AFTER_FAULT_MS: u64 = 30_000;

impl StreamBody {
    pub(super) fn head(&self) -> Head {
        let cluster = self.permit.cluster();
        Head { is_done: false, cluster, limit: self.plan.remaining }
    }

    pub(super) fn send_event(&mut self, name: &str, data: &[u8]) {
        let id = cursor::to_bytes(self.head(), positions(&self.parts));
        let mut out = Vec::with_capacity(data.len() + id.len() + 40);
        sse::event_into(name, Some(&id), data, &mut out);
        self.outgoing = [out.into(), Bytes::new()];
    }

    pub(super) fn tick(&mut self, tick: Tick) {
        match tick {
            Tick::Over(reason) => self.rotate(reason),
            Tick::Until => self.bound_all(),
            Tick::Ping => match self.parts.iter().position(|p| p.is_open && p.tail.is_gone()) {
                Some(at) => self.gone(at),
                None => self.ping(),
            },
        }
    }

    fn ping(&mut self) {
        let lag = |part: &Part| {
            let bounds = self.permit.engine().log.bounds(&self.topic.name, part.span.partition);
            bounds.map_or(0, |b| b.high_watermark.saturating_sub(part.span.next).max(0))
        };
        let lag = self.parts.iter().filter(|p| p.is_open).map(lag).fold(0, i64::saturating_add);
        let data = events::ping(self.permit.now_ms(), lag);
        self.send_event("ping", &data);
    }

    /// The moment of `until` has come: what there is now is the rest.
    fn bound_all(&mut self) {
        for (at, part) in self.parts.iter_mut().enumerate().filter(|(_, part)| part.is_open) {
            let bounds = self.permit.engine().log.bounds(&self.topic.name, part.span.partition);
            let Ok(bounds) = bounds else { continue };
            part.span.bound = part.span.bound.min(bounds.high_watermark);
            // One that is waited for may be at its end already.
            if part.receiver.is_none() && part.span.next >= part.span.bound {
                self.ready.push_back(at);
            }
        }
    }

    pub(super) fn report(&mut self, gap: Gap) {
        self.permit.count_gap(gap);
        let name = self.topic.name.as_str();
        if self.plan.on_gap == OnGap::Fail && gap.reason != GapReason::Deleted {
            return self.fault(&Fault::gap(gap.sentence(name)));
        }
        let data = gap.json(name);
        self.send_event("gap", &data);
    }

    /// The topic was deleted: there is nothing to come back for.
    pub(super) fn gone(&mut self, at: usize) {
        let Some(part) = self.parts.get(at) else { return };
        let (partition, requested) = (part.span.partition, Some(part.span.next));
        self.report(Gap { partition, requested, resumed: None, reason: GapReason::Deleted });
        let [gap, _] = std::mem::take(&mut self.outgoing);
        self.end("deleted", Closed::Deleted);
        let [end, _] = std::mem::take(&mut self.outgoing);
        self.outgoing = [gap, end];
    }

    pub(super) fn end(&mut self, reason: &str, closed: Closed) {
        let head = Head { is_done: true, ..self.head() };
        let id = cursor::to_bytes(head, positions(&self.parts));
        let mut out = Vec::new();
        sse::event_into("end", Some(&id), &events::end(reason), &mut out);
        self.close(out, closed);
    }

    pub(super) fn fault(&mut self, fault: &Fault) {
        let topic = &self.topic.name;
        tracing::warn!(%topic, title = fault.title, detail = fault.detail, "stream failed");
        let retry_ms =
            if fault.is_retriable { life::random_retry_ms() } else { RETRY_AFTER_FAULT_MS };
        let mut out = Vec::new();
        sse::event_into("fault", None, &fault.json(), &mut out);
        sse::retry_into(retry_ms, &mut out);
        self.close(out, Closed::Fault);
    }

    /// Ends the stream so that its client comes back.
    pub(super) fn rotate(&mut self, reason: Closed) {
        let mut out = Vec::new();
        sse::retry_into(life::random_retry_ms(), &mut out);
        self.close(out, reason);
    }

    fn close(&mut self, last: Vec<u8>, reason: Closed) {
        self.outgoing = [last.into(), Bytes::new()];
        self.closing = Some(reason);
    }
}
