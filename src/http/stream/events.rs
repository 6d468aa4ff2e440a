//! The data of the events that are not records, as JSON.

use super::chunk::Filtered;
use crate::base::ids::{Offset, PartitionId, TimestampMs, TopicName};
use crate::base::json;
use crate::http::metrics::ReasonLabels;

/// What tells the software that sent a stream.
const SERVER: &str = concat!("hydrant/", env!("CARGO_PKG_VERSION"));

/// Why records are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GapReason {
    /// They were deleted by age or size.
    Retention,
    /// The topic is a new one of the same name.
    Recreated,
    /// The topic was deleted.
    Deleted,
    /// The log ends before the position.
    Truncated,
    /// The stream was too far behind and went on at the end, as its client wanted.
    Overflow,
    /// The server does not keep the cursor any more.
    Expired,
    /// The partition cannot be read; others go on.
    Offline,
}

impl GapReason {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Retention => "retention",
            Self::Recreated => "recreated",
            Self::Deleted => "deleted",
            Self::Truncated => "truncated",
            Self::Overflow => "overflow",
            Self::Expired => "expired",
            Self::Offline => "offline",
        }
    }

    pub(super) const fn labels(self) -> ReasonLabels {
        ReasonLabels { reason: self.as_str() }
    }
}

/// Records that are missing from a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Gap {
    /// None when nothing is left that tells its name.
    pub(super) topic: Option<TopicName>,
    /// None for the whole topic.
    pub(super) partition: Option<PartitionId>,
    /// Where the stream would have gone on.
    pub(super) requested: Option<Offset>,
    /// Where it goes on.
    pub(super) resumed: Option<Offset>,
    pub(super) reason: GapReason,
}

impl Gap {
    /// The data of a `gap` event.
    pub(super) fn json(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(128);
        out.extend_from_slice(b"{\"topic\":");
        match &self.topic {
            Some(topic) => json::string_into(topic.as_str(), &mut out),
            None => out.extend_from_slice(b"null"),
        }
        out.extend_from_slice(b",\"partition\":");
        optional_into(self.partition, &mut out);
        out.extend_from_slice(b",\"requested\":");
        optional_into(self.requested, &mut out);
        out.extend_from_slice(b",\"resumed\":");
        optional_into(self.resumed, &mut out);
        out.extend_from_slice(b",\"reason\":\"");
        out.extend_from_slice(self.reason.as_str().as_bytes());
        out.extend_from_slice(b"\"}");
        out
    }

    /// The gap as a sentence.
    pub(super) fn sentence(&self) -> String {
        if self.reason == GapReason::Expired {
            return "the server does not keep the positions of the cursor any more".to_owned();
        }
        let reason = self.reason.as_str();
        let topic = self.topic.as_ref().map_or("of the cursor", TopicName::as_str);
        let Some(partition) = self.partition else {
            return format!("topic '{topic}' has no records any more ({reason})");
        };
        let show = |offset: Option<Offset>| offset.map_or("none".to_owned(), |o| o.to_string());
        let (requested, resumed) = (show(self.requested), show(self.resumed));
        format!(
            "partition {partition} of topic '{topic}' has no offset {requested} ({reason}), \
             next is {resumed}"
        )
    }
}

/// Where one partition of a stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place<'a> {
    pub(super) topic: &'a str,
    pub(super) partition: PartitionId,
    pub(super) next: Offset,
}

/// The data of the `ready` event; `member` is the name in its group, for a stream of one.
pub(super) fn ready(
    stream: &str,
    resume: &str,
    places: &[Place<'_>],
    member: Option<&str>,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    out.extend_from_slice(b"{\"stream\":");
    json::string_into(stream, &mut out);
    out.extend_from_slice(b",\"resume\":");
    json::string_into(resume, &mut out);
    positions_into(places, &mut out);
    if let Some(member) = member {
        out.extend_from_slice(b",\"member\":");
        json::string_into(member, &mut out);
    }
    out.extend_from_slice(b",\"server\":");
    json::string_into(SERVER, &mut out);
    out.push(b'}');
    out
}

/// The data of the `caught-up` event.
pub(super) fn caught_up(places: &[Place<'_>]) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    positions_into(places, &mut out);
    // The list is written as a field that follows another one.
    if let Some(first) = out.first_mut() {
        *first = b'{';
    }
    out.push(b'}');
    out
}

fn positions_into(places: &[Place<'_>], out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"positions\":");
    list_into(places, out);
}

fn list_into(places: &[Place<'_>], out: &mut Vec<u8>) {
    out.push(b'[');
    for (at, place) in places.iter().enumerate() {
        out.extend_from_slice(if at == 0 { b"{\"topic\":" } else { b",{\"topic\":" });
        json::string_into(place.topic, out);
        out.extend_from_slice(b",\"partition\":");
        json::integer_into(place.partition, out);
        out.extend_from_slice(b",\"offset\":");
        json::integer_into(place.next, out);
        out.push(b'}');
    }
    out.push(b']');
}

/// The data of `assigned` and `revoked` events.
pub(super) fn membership(places: &[Place<'_>], generation: Option<i32>) -> Vec<u8> {
    let mut out = b"{\"partitions\":".to_vec();
    list_into(places, &mut out);
    if let Some(generation) = generation {
        out.extend_from_slice(b",\"generation\":");
        json::integer_into(generation, &mut out);
    }
    out.push(b'}');
    out
}

/// The data of a `ping` event.
pub(super) fn ping(now: TimestampMs, lag: i64, filtered: Filtered) -> Vec<u8> {
    let mut out = b"{\"ts\":".to_vec();
    json::integer_into(now, &mut out);
    out.extend_from_slice(b",\"lag\":");
    json::integer_into(lag, &mut out);
    out.extend_from_slice(b",\"filtered\":");
    json::integer_into(filtered.records, &mut out);
    out.extend_from_slice(b",\"filter_errors\":");
    json::integer_into(filtered.errors, &mut out);
    out.push(b'}');
    out
}

/// The data of an `end` event.
pub(super) fn end(reason: &str) -> Vec<u8> {
    let mut out = b"{\"reason\":".to_vec();
    json::string_into(reason, &mut out);
    out.push(b'}');
    out
}

/// What went wrong after the answer had begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) status: u16,
    pub(super) title: &'static str,
    pub(super) detail: String,
    /// The same stream may work if it is opened again.
    pub(super) is_retriable: bool,
}

impl Fault {
    /// The log could not be read.
    pub(super) const fn storage(detail: String) -> Self {
        Self { status: 503, title: "storage failed", detail, is_retriable: true }
    }

    /// A batch is damaged.
    pub(super) const fn damaged(detail: String) -> Self {
        Self { status: 500, title: "record batch is damaged", detail, is_retriable: false }
    }

    /// Records are missing and the client asked not to go on then.
    pub(super) const fn gap(detail: String) -> Self {
        Self { status: 410, title: "records are missing", detail, is_retriable: false }
    }

    /// An administrator ended the stream.
    pub(super) fn closed_by_administrator() -> Self {
        let detail = "closed by administrator".to_owned();
        Self { status: 410, title: "stream closed", detail, is_retriable: false }
    }

    /// The stream would become larger than it may.
    pub(super) const fn too_large(detail: String) -> Self {
        Self { status: 400, title: "stream too large", detail, is_retriable: false }
    }

    /// Another connection has the member of a group.
    pub(super) fn fenced(member: &str) -> Self {
        let detail = format!("member '{member}' connected again elsewhere");
        Self { status: 409, title: "fenced", detail, is_retriable: false }
    }

    /// The member was asked to leave its group.
    pub(super) fn left(member: &str) -> Self {
        let detail = format!("member '{member}' left its group");
        Self { status: 410, title: "left", detail, is_retriable: false }
    }

    /// The group refuses the member.
    pub(super) const fn group(detail: String, is_retriable: bool) -> Self {
        Self { status: 409, title: "group refused", detail, is_retriable }
    }

    /// A stream that would be refused but for `soft_errors`.
    pub(super) const fn refused(status: u16, detail: String) -> Self {
        Self { status, title: "stream refused", detail, is_retriable: true }
    }

    /// The data of a `fault` event: a problem object (RFC 9457).
    pub(super) fn json(&self) -> Vec<u8> {
        let mut out = b"{\"type\":\"about:blank\",\"title\":".to_vec();
        json::string_into(self.title, &mut out);
        out.extend_from_slice(b",\"status\":");
        json::integer_into(self.status, &mut out);
        out.extend_from_slice(b",\"detail\":");
        json::string_into(&self.detail, &mut out);
        out.extend_from_slice(b",\"retriable\":");
        out.extend_from_slice(if self.is_retriable { b"true" } else { b"false" });
        out.push(b'}');
        out
    }
}

fn optional_into(value: Option<impl itoa::Integer>, out: &mut Vec<u8>) {
    match value {
        Some(value) => json::integer_into(value, out),
        None => out.extend_from_slice(b"null"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: Vec<u8>) -> String {
        let text = String::from_utf8(bytes).unwrap();
        assert!(serde_json::from_str::<serde_json::Value>(&text).unwrap().is_object());
        text
    }

    #[test]
    fn every_event_has_its_data() {
        let at = |partition, next| Place { topic: "t", partition, next };
        let positions = [at(0, 254), at(1, 600)];
        let list = "\"positions\":[{\"topic\":\"t\",\"partition\":0,\"offset\":254},\
                    {\"topic\":\"t\",\"partition\":1,\"offset\":600}]";
        let member = text(ready("s-1", "fresh", &[], Some("tab \"1\"")));
        assert!(member.contains(r#","positions":[],"member":"tab \"1\"","server":"#), "{member}");
        let ready = text(ready("s-1", "exact", &positions, None));
        let expected =
            format!("{{\"stream\":\"s-1\",\"resume\":\"exact\",{list},\"server\":\"{SERVER}\"}}");
        assert_eq!(ready, expected);
        assert_eq!(text(caught_up(&positions)), format!("{{{list}}}"));
        let expected = "{\"ts\":5,\"lag\":7,\"filtered\":3,\"filter_errors\":1}";
        assert_eq!(text(ping(5, 7, Filtered { records: 3, errors: 1 })), expected);
        assert_eq!(text(end("limit")), "{\"reason\":\"limit\"}");
        assert_eq!(
            text(membership(&[at(0, 3)], Some(7))),
            r#"{"partitions":[{"topic":"t","partition":0,"offset":3}],"generation":7}"#
        );
        assert_eq!(text(membership(&[], None)), r#"{"partitions":[]}"#);
        let gap = Gap {
            topic: TopicName::parse("t").ok(),
            partition: Some(1),
            requested: Some(5),
            resumed: None,
            reason: GapReason::Deleted,
        };
        let expected = "{\"topic\":\"t\",\"partition\":1,\"requested\":5,\"resumed\":null,\
                        \"reason\":\"deleted\"}";
        assert_eq!(text(gap.json()), expected);
        let expected = "{\"type\":\"about:blank\",\"title\":\"storage failed\",\"status\":503,\
                        \"detail\":\"a \\\"b\\\"\\n\",\"retriable\":true}";
        assert_eq!(text(Fault::storage("a \"b\"\n".to_owned()).json()), expected);
    }
}
