//! The `data` lines of a record: its envelope, or its bare value.

use super::params::Data;
use super::sse;
use crate::base::json;
use crate::http::record::envelope::{Envelope, Shown, base64_into, show};
use crate::protocol::record_batch::Record;

/// Appends the `data` lines of a record and the blank line that ends its event.
pub(super) fn record_into(
    data: Data,
    envelope: &Envelope<'_>,
    record: &Record<'_>,
    out: &mut Vec<u8>,
) {
    match data {
        Data::Envelope => {
            out.extend_from_slice(b"data: ");
            envelope.json_into(record, out);
            out.extend_from_slice(b"\n\n");
        }
        Data::Value => value_into(envelope, record, out),
    }
}

fn value_into(envelope: &Envelope<'_>, record: &Record<'_>, out: &mut Vec<u8>) {
    let value = record.value.map(|value| show(value, envelope.decode));
    if let Some(Shown::Text(text)) = value {
        return sse::data_into(text.as_bytes(), out);
    }
    out.extend_from_slice(b"data: ");
    match value {
        None => out.extend_from_slice(b"null"),
        Some(Shown::Json(json)) => json::minify_into(json, out),
        Some(Shown::Base64(bytes)) => base64_into(bytes, out),
        Some(Shown::Text(_)) => {}
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
        record_into(data, &envelope, &record, &mut out);
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
