//! A record as streams write it: `data` lines of an event, a line, or an element of a list.

use std::borrow::Cow;

use super::params::{Data, EventName, Format, Framing};
use super::sse;
use crate::http::record::Numbers;
use crate::http::record::cloudevent;
use crate::http::record::envelope::{Envelope, Shown, Variant, base64_into, show, shown_into};
use crate::protocol::record_batch::Record;

/// The name of a record's event, if it has one of its own.
pub(super) fn event_name<'r>(
    format: &Format,
    topic: &'r str,
    record: &Record<'r>,
) -> Option<Cow<'r, [u8]>> {
    let name = match &format.event {
        EventName::Message => return None,
        EventName::Topic => Cow::Borrowed(topic.as_bytes()),
        EventName::Header(header) => cloudevent::header(record, header.as_bytes())?.into(),
        EventName::CloudEventType => cloudevent::type_of(record)?,
    };
    sse::is_name(&name).then_some(name)
}

/// Appends a record with what ends it: the blank line of an event, a line break, or a comma.
pub(super) fn record_into(
    format: &Format,
    envelope: &Envelope<'_>,
    record: &Record<'_>,
    out: &mut Vec<u8>,
) {
    if format.framing == Framing::Events {
        if format.data == Data::Value {
            return value_lines_into(format, record, out);
        }
        out.extend_from_slice(b"data: ");
    }
    let select = format.select.as_deref();
    match format.data {
        Data::Envelope => match (format.numbers, select) {
            (Numbers::Number, None) => envelope.json_into(record, out),
            (numbers, select) => envelope.variant_into(record, Variant { numbers, select }, out),
        },
        Data::CloudEvent => cloudevent::json_into(envelope, select, record, out),
        Data::Value => value_into(format, record, out),
    }
    out.extend_from_slice(match format.framing {
        Framing::Events => b"\n\n",
        Framing::Lines => b"\n",
        Framing::List => b",",
    });
}

/// Appends a bare value as JSON.
fn value_into(format: &Format, record: &Record<'_>, out: &mut Vec<u8>) {
    match record.value.map(|value| show(value, format.decode)) {
        None => out.extend_from_slice(b"null"),
        Some(shown) => {
            shown_into(shown, format.select.as_deref(), out);
        }
    }
}

/// Appends a bare value as `data` lines: text keeps its lines.
fn value_lines_into(format: &Format, record: &Record<'_>, out: &mut Vec<u8>) {
    match record.value.map(|value| show(value, format.decode)) {
        Some(Shown::Text(text)) => return sse::data_into(text.as_bytes(), out),
        Some(Shown::Base64(bytes)) => {
            out.extend_from_slice(b"data: ");
            base64_into(bytes, out);
        }
        _ => {
            out.extend_from_slice(b"data: ");
            value_into(format, record, out);
        }
    }
    out.extend_from_slice(b"\n\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::record::Decode;
    use crate::protocol::record_batch::{BatchBuilder, BatchHeader, BatchRecords};

    fn shown(data: Data, decode: Decode, value: Option<&[u8]>) -> String {
        let mut builder = BatchBuilder::new().at_offset(41);
        builder.push(1_790_000_000_123, None, value, std::iter::empty());
        let batch = builder.finish();
        let header = BatchHeader::parse(&batch).unwrap();
        let records = BatchRecords::open(header, &batch).unwrap();
        let record = records.iter().next().unwrap().unwrap();
        let envelope = Envelope { topic: "orders", partition: 3, timestamp_type: "create", decode };
        let mut out = Vec::new();
        let format = Format { data, decode, ..Format::default() };
        record_into(&format, &envelope, &record, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn value(decode: Decode, value: &[u8]) -> String {
        shown(Data::Value, decode, Some(value))
    }

    #[test]
    fn envelopes_are_one_line() {
        let text = shown(Data::Envelope, Decode::Auto, Some(b"{ \"a\":\n1 }"));
        assert!(text.starts_with("data: {\"topic\":\"orders\""), "{text}");
        assert!(text.ends_with("\"value\":{\"a\":1}}\n\n"), "{text}");
    }

    #[test]
    fn bare_values_keep_their_lines() {
        assert_eq!(value(Decode::Auto, b"{ \"a\":\n1 }"), "data: {\"a\":1}\n\n");
        assert_eq!(value(Decode::Auto, b"a\r\nid: 1\rb"), "data: a\ndata: id: 1\ndata: b\n\n");
        assert_eq!(value(Decode::Auto, b""), "data: \n\n");
        assert_eq!(value(Decode::Auto, b"\xff"), "data: /w==\n\n");
        assert_eq!(value(Decode::Base64, b"a"), "data: YQ==\n\n");
        assert_eq!(shown(Data::Value, Decode::Auto, None), "data: null\n\n");
    }
}
