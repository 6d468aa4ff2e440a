//! The protocols that a stream speaks: how records and what the stream says of itself are put into
//! bytes.
//!
//! Server-sent events have a cursor in their `id` line. Lines have their cursor in control lines,
//! `{"@":NAME,"cursor":…}`, which a stream of bare values does not have. Messages are those of a
//! WebSocket: each has its type, and the subscription that it is of, and is one line.

use std::sync::Arc;
use std::time::Duration;

use super::params::{Data, Framing, Shape, Transport};
use super::sse;
use crate::base::json;

/// A protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    /// `text/event-stream`.
    Sse,
    /// `application/x-ndjson`.
    Lines,
    /// Lines of bare values: nothing else may be between them.
    BareLines,
    /// Messages of a WebSocket.
    Messages,
}

/// What one stream writes.
#[derive(Debug, Clone)]
pub(super) struct Wire {
    protocol: Protocol,
    framing: Framing,
    /// The subscription as a JSON string, for messages.
    subscription: Option<Arc<[u8]>>,
}

impl Wire {
    /// The wire of a stream over HTTP.
    pub(super) fn http(shape: &Shape, transport: Transport) -> Self {
        let framing = match (transport, shape.batch) {
            (_, Some(_)) => Framing::List,
            (Transport::Sse, None) => Framing::Events,
            (Transport::Lines, None) => Framing::Lines,
        };
        let protocol = match transport {
            Transport::Sse => Protocol::Sse,
            Transport::Lines if shape.format.data == Data::Value => Protocol::BareLines,
            Transport::Lines => Protocol::Lines,
        };
        Self { protocol, framing, subscription: None }
    }

    /// The wire of a subscription of a WebSocket.
    pub(super) fn messages(subscription: &str) -> Self {
        let mut text = Vec::new();
        json::string_into(subscription, &mut text);
        let (protocol, framing) = (Protocol::Messages, Framing::List);
        Self { protocol, framing, subscription: Some(text.into()) }
    }

    /// How records follow each other in what it sends.
    pub(super) const fn framing(&self) -> Framing {
        self.framing
    }

    /// The media type of the whole.
    pub(super) const fn media_type(&self) -> &'static str {
        match self.protocol {
            Protocol::Sse => "text/event-stream; charset=utf-8",
            _ => "application/x-ndjson",
        }
    }

    /// How long a stream may live. A subscription of a WebSocket lives as long as its connection.
    pub(super) fn age_max(&self, over_http: Duration) -> Duration {
        if self.protocol == Protocol::Messages { Duration::MAX } else { over_http }
    }

    /// What comes before the first event: how long a client shall wait before it connects again
    /// when the connection breaks.
    pub(super) const fn opening(&self) -> &'static [u8] {
        match self.protocol {
            Protocol::Sse => b"retry: 2000\n",
            _ => b"",
        }
    }

    /// Writes one of our own events; `data` is a JSON object.
    pub(super) fn event_into(&self, name: &str, id: Option<&[u8]>, data: &[u8], out: &mut Vec<u8>) {
        match self.protocol {
            Protocol::Sse => sse::event_into(name, id, data, out),
            Protocol::BareLines => {}
            Protocol::Lines => {
                self.control_into(name, id, out);
                let members = data.strip_prefix(b"{").unwrap_or_default();
                if !members.starts_with(b"}") {
                    out.push(b',');
                }
                out.extend_from_slice(members);
                out.push(b'\n');
            }
            Protocol::Messages => {
                self.message_into(name, id, out);
                out.extend_from_slice(b",\"data\":");
                out.extend_from_slice(data);
                out.extend_from_slice(b"}\n");
            }
        }
    }

    /// Writes how long the client shall wait before it connects again.
    pub(super) fn retry_into(&self, milliseconds: u64, out: &mut Vec<u8>) {
        match self.protocol {
            Protocol::Sse => sse::retry_into(milliseconds, out),
            Protocol::BareLines => {}
            Protocol::Lines | Protocol::Messages => {
                let mut data = b"{\"ms\":".to_vec();
                json::integer_into(milliseconds, &mut data);
                data.push(b'}');
                self.event_into("retry", None, &data, out);
            }
        }
    }

    /// Writes a cursor of its own, where records have none.
    pub(super) fn cursor_into(&self, id: &[u8], out: &mut Vec<u8>) {
        if self.protocol == Protocol::Lines {
            self.control_into("cursor", Some(id), out);
            out.extend_from_slice(b"}\n");
        }
    }

    /// Writes a batch; `elements` have a comma after each.
    pub(super) fn batch_into(&self, elements: &[u8], id: &[u8], out: &mut Vec<u8>) {
        let elements = elements.strip_suffix(b",").unwrap_or(elements);
        out.reserve_exact(elements.len() + id.len() + 96);
        let end: &[u8] = match self.protocol {
            Protocol::Sse => {
                sse::head_into("batch", Some(id), out);
                out.extend_from_slice(b"data: [");
                b"]\n\n"
            }
            Protocol::Lines | Protocol::BareLines => {
                out.push(b'[');
                b"]\n"
            }
            Protocol::Messages => {
                self.message_into("records", Some(id), out);
                out.extend_from_slice(b",\"records\":[");
                b"]}\n"
            }
        };
        out.extend_from_slice(elements);
        out.extend_from_slice(end);
    }

    fn control_into(&self, name: &str, id: Option<&[u8]>, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"@\":\"");
        out.extend_from_slice(name.as_bytes());
        out.push(b'"');
        cursor_member_into(id, out);
    }

    fn message_into(&self, name: &str, id: Option<&[u8]>, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"type\":\"");
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\",\"id\":");
        out.extend_from_slice(self.subscription.as_deref().unwrap_or(b"null"));
        cursor_member_into(id, out);
    }
}

fn cursor_member_into(id: Option<&[u8]>, out: &mut Vec<u8>) {
    // A cursor has no character that JSON would have to escape.
    if let Some(id) = id {
        out.extend_from_slice(b",\"cursor\":\"");
        out.extend_from_slice(id);
        out.push(b'"');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    fn wire(query: &[(&str, &str)], transport: Transport) -> Wire {
        let mut params = super::super::params::Params::default();
        for (name, value) in query {
            params.set(name, value).unwrap();
        }
        Wire::http(&params.shape, transport)
    }

    #[test]
    fn every_protocol_has_its_events() {
        let data = b"{\"reason\":\"limit\"}";
        let end = |wire: &Wire| written(|out| wire.event_into("end", Some(b"1.a"), data, out));
        let retry = |wire: &Wire| written(|out| wire.retry_into(7, out));
        let sse = wire(&[], Transport::Sse);
        assert_eq!(end(&sse), "event: end\nid: 1.a\ndata: {\"reason\":\"limit\"}\n\n");
        assert_eq!(retry(&sse), "retry: 7\n\n");
        let lines = wire(&[], Transport::Lines);
        assert_eq!(end(&lines), "{\"@\":\"end\",\"cursor\":\"1.a\",\"reason\":\"limit\"}\n");
        assert_eq!(retry(&lines), "{\"@\":\"retry\",\"ms\":7}\n");
        assert_eq!(written(|out| lines.event_into("x", None, b"{}", out)), "{\"@\":\"x\"}\n");
        let bare = wire(&[("data", "value")], Transport::Lines);
        assert_eq!((end(&bare), retry(&bare)), (String::new(), String::new()));
        let message = Wire::messages("a\"b");
        let expected = "{\"type\":\"end\",\"id\":\"a\\\"b\",\"cursor\":\"1.a\",\"data\":{\"reason\":\"limit\"}}\n";
        assert_eq!(end(&message), expected);
    }

    #[test]
    fn every_protocol_has_its_batches() {
        let batch = |wire: &Wire| written(|out| wire.batch_into(b"1,2,", b"1.a", out));
        let query = [("batch", "2")];
        assert_eq!(batch(&wire(&query, Transport::Sse)), "event: batch\nid: 1.a\ndata: [1,2]\n\n");
        assert_eq!(batch(&wire(&query, Transport::Lines)), "[1,2]\n");
        let expected = "{\"type\":\"records\",\"id\":\"s\",\"cursor\":\"1.a\",\"records\":[1,2]}\n";
        assert_eq!(batch(&Wire::messages("s")), expected);
        let lines = wire(&[], Transport::Lines);
        let cursor = written(|out| lines.cursor_into(b"1.a", out));
        assert_eq!(cursor, "{\"@\":\"cursor\",\"cursor\":\"1.a\"}\n");
    }
}
