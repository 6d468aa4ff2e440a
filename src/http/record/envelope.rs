//! One record as JSON: the envelope that streams and plain reads share.
//!
//! A value that is JSON is passed on as the producer wrote it, without white space: numbers keep
//! every digit. Text becomes a JSON string, anything else base64, with a field that says so.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::select::Selection;
use super::{Decode, Numbers};
use crate::base::ids::PartitionId;
use crate::base::json;
use crate::protocol::record_batch::Record;

/// What all records of a batch have in common.
#[derive(Debug, Clone, Copy)]
pub(in crate::http) struct Envelope<'a> {
    /// Name of the topic; its characters need no escape in JSON.
    pub(in crate::http) topic: &'a str,
    /// The partition.
    pub(in crate::http) partition: PartitionId,
    /// `create` or `append`.
    pub(in crate::http) timestamp_type: &'static str,
    /// How keys and values are shown.
    pub(in crate::http) decode: Decode,
}

/// How bytes can be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum Shown<'a> {
    Json(&'a [u8]),
    Text(&'a str),
    Base64(&'a [u8]),
}

/// Finds out how bytes can be shown.
pub(in crate::http) fn show(value: &[u8], decode: Decode) -> Shown<'_> {
    // The JSON check looks at structure only, not at the bytes inside of strings.
    let text = std::str::from_utf8(value).ok();
    match (decode, text) {
        (Decode::Base64, _) | (_, None) => Shown::Base64(value),
        (Decode::Text, Some(text)) => Shown::Text(text),
        (Decode::Auto | Decode::Json, Some(_)) if json::is_valid(value) => Shown::Json(value),
        (Decode::Auto, Some(text)) => Shown::Text(text),
        (Decode::Json, Some(_)) => Shown::Base64(value),
    }
}

/// What of an envelope may be otherwise than usual.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::http) struct Variant<'a> {
    /// How offset and timestamp are written.
    pub(in crate::http) numbers: Numbers,
    /// What is shown of values that have parts.
    pub(in crate::http) select: Option<&'a Selection>,
}

impl Variant<'_> {
    fn number_into(&self, number: i64, out: &mut Vec<u8>) {
        let quote: &[u8] = if self.numbers == Numbers::Text { b"\"" } else { b"" };
        out.extend_from_slice(quote);
        json::integer_into(number, out);
        out.extend_from_slice(quote);
    }
}

impl Envelope<'_> {
    /// Appends the record as one JSON object, without a line break.
    pub(in crate::http) fn json_into(&self, record: &Record<'_>, out: &mut Vec<u8>) {
        self.variant_into(record, Variant::default(), out);
    }

    /// Like [`Envelope::json_into`], in a variant.
    pub(in crate::http) fn variant_into(
        &self,
        record: &Record<'_>,
        variant: Variant<'_>,
        out: &mut Vec<u8>,
    ) {
        out.extend_from_slice(b"{\"topic\":\"");
        out.extend_from_slice(self.topic.as_bytes());
        out.extend_from_slice(b"\",\"partition\":");
        json::integer_into(self.partition, out);
        out.extend_from_slice(b",\"offset\":");
        variant.number_into(record.offset, out);
        out.extend_from_slice(b",\"timestamp\":");
        variant.number_into(record.timestamp, out);
        out.extend_from_slice(b",\"timestamp_type\":\"");
        out.extend_from_slice(self.timestamp_type.as_bytes());
        out.extend_from_slice(b"\",\"key\":");
        match record.key {
            None => out.extend_from_slice(b"null"),
            Some(key) => {
                if shown_into(show(key, self.decode), None, out) == Encoding::Base64 {
                    out.extend_from_slice(b",\"key_encoding\":\"base64\"");
                }
            }
        }
        headers_into(record, out);
        out.extend_from_slice(b",\"value\":");
        match record.value {
            None => out.extend_from_slice(b"null,\"tombstone\":true"),
            Some(value) => {
                let shown = show(value, self.decode);
                if shown_into(shown, variant.select, out) == Encoding::Base64 {
                    out.extend_from_slice(b",\"value_encoding\":\"base64\"");
                }
            }
        }
        out.push(b'}');
    }
}

/// Appends `,"headers":[["k","v"],…]`; a value that is no text is followed by its encoding.
fn headers_into(record: &Record<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"headers\":[");
    for (at, (key, value)) in record.headers().enumerate() {
        out.extend_from_slice(if at == 0 { b"[" } else { b",[" });
        // Kafka's header keys are UTF-8 by definition; another one is shown as well as it can be.
        json::string_into(&String::from_utf8_lossy(key), out);
        out.push(b',');
        if text_into(value, out) {
            out.extend_from_slice(b",\"base64\"");
        }
        out.push(b']');
    }
    out.push(b']');
}

/// How bytes ended up in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum Encoding {
    Plain,
    Base64,
}

/// Appends bytes as one JSON value.
pub(in crate::http) fn shown_into(
    shown: Shown<'_>,
    select: Option<&Selection>,
    out: &mut Vec<u8>,
) -> Encoding {
    match (shown, select) {
        (Shown::Json(json), Some(select)) => select.pick_into(json, out),
        (Shown::Json(json), None) => json::minify_into(json, out),
        (Shown::Text(text), _) => json::string_into(text, out),
        (Shown::Base64(bytes), _) => {
            base64_string_into(bytes, out);
            return Encoding::Base64;
        }
    }
    Encoding::Plain
}

/// Appends a string or null; tells whether it had to be base64.
fn text_into(bytes: Option<&[u8]>, out: &mut Vec<u8>) -> bool {
    match bytes.map(|bytes| (std::str::from_utf8(bytes), bytes)) {
        None => out.extend_from_slice(b"null"),
        Some((Ok(text), _)) => json::string_into(text, out),
        Some((Err(_), bytes)) => {
            base64_string_into(bytes, out);
            return true;
        }
    }
    false
}

pub(in crate::http) fn base64_string_into(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    base64_into(bytes, out);
    out.push(b'"');
}

/// Appends padded base64 without quotes.
pub(in crate::http) fn base64_into(bytes: &[u8], out: &mut Vec<u8>) {
    let from = out.len();
    out.resize(from + bytes.len().div_ceil(3) * 4, 0);
    let room = out.get_mut(from..).unwrap_or_default();
    let written = STANDARD.encode_slice(bytes, room).unwrap_or(0);
    out.truncate(from + written);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::record_batch::{BatchBuilder, BatchHeader, BatchRecords};
    use proptest::prelude::*;

    type Headers<'a> = &'a [(&'a [u8], Option<&'a [u8]>)];

    fn shown(
        decode: Decode,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: Headers<'_>,
    ) -> String {
        let mut builder = BatchBuilder::new().at_offset(41);
        builder.push(1_790_000_000_123, key, value, headers.iter().copied());
        let batch = builder.finish();
        let header = BatchHeader::parse(&batch).unwrap();
        let records = BatchRecords::open(header, &batch).unwrap();
        let record = records.iter().next().unwrap().unwrap();
        let envelope = Envelope { topic: "orders", partition: 3, timestamp_type: "create", decode };
        let mut out = Vec::new();
        envelope.json_into(&record, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn envelope(decode: Decode, value: &[u8]) -> String {
        let text = shown(decode, None, Some(value), &[]);
        let from = text.find("\"value\":").unwrap();
        text[from..].trim_end_matches('}').to_owned()
    }

    #[test]
    fn the_whole_envelope() {
        let headers: Headers<'_> =
            &[(b"a", Some(b"x\r\ny")), (b"a", None), (b"b", Some(b"\xff\0")), (b"", Some(b""))];
        let json = b" { \"id\" : 17, \"n\": 1.10 } ";
        let text = shown(Decode::Auto, Some(b"c\n\r\0-17"), Some(json), headers);
        let expected = concat!(
            "{\"topic\":\"orders\",\"partition\":3,\"offset\":41,",
            "\"timestamp\":1790000000123,",
            "\"timestamp_type\":\"create\",\"key\":\"c\\n\\r\\u0000-17\",",
            "\"headers\":[[\"a\",\"x\\r\\ny\"],[\"a\",null],",
            "[\"b\",\"/wA=\",\"base64\"],[\"\",\"\"]],",
            "\"value\":{\"id\":17,\"n\":1.10}}",
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn tombstones_and_binary_keys_are_marked() {
        let text = shown(Decode::Auto, Some(b"\xfe"), None, &[]);
        assert!(
            text.contains("\"key\":\"/g==\",\"key_encoding\":\"base64\",\"headers\":[]"),
            "{text}"
        );
        assert!(text.ends_with("\"value\":null,\"tombstone\":true}"), "{text}");
    }

    #[test]
    fn values_are_decoded_as_asked() {
        let big = b"123456789012345678901234567890.10";
        assert_eq!(envelope(Decode::Auto, big), "\"value\":123456789012345678901234567890.10");
        assert_eq!(envelope(Decode::Text, b"17"), "\"value\":\"17\"");
        assert_eq!(envelope(Decode::Auto, b"{oops"), "\"value\":\"{oops\"");
        let encoded = "\"value\":\"e29vcHM=\",\"value_encoding\":\"base64\"";
        assert_eq!(envelope(Decode::Json, b"{oops"), encoded);
        assert_eq!(envelope(Decode::Base64, b"{oops"), encoded);
        assert_eq!(
            envelope(Decode::Text, b"\xff"),
            "\"value\":\"/w==\",\"value_encoding\":\"base64\""
        );
        // JSON by structure, but not text: it must not reach the client as it is.
        assert!(envelope(Decode::Auto, b"\"\xff\"").ends_with("\"value_encoding\":\"base64\""));
    }

    proptest! {
        #[test]
        fn every_envelope_is_one_line_of_json(
            key in prop::option::of(prop::collection::vec(any::<u8>(), 0..20)),
            value in prop::option::of(prop::collection::vec(any::<u8>(), 0..40)),
            name in prop::collection::vec(any::<u8>(), 0..10),
        ) {
            let headers: Headers<'_> = &[(&name, value.as_deref())];
            let (key, value) = (key.as_deref(), value.as_deref());
            let text = shown(Decode::Auto, key, value, headers);
            prop_assert!(!text.contains(['\n', '\r', '\0']));
            let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(&parsed["offset"], 41);
        }
    }
}
