//! Records as CloudEvents 1.0 in JSON: `data=cloudevent` of streams, batches of plain reads.
//!
//! A record that is a CloudEvent already, in either mode of the Kafka binding, is shown as that
//! one: `ce_` headers become attributes, a structured value is passed on. Any other record gets the
//! attributes that CloudEvents require, made of where it lies.

use std::borrow::Cow;

use super::Decode;
use super::envelope::{Envelope, Shown, base64_string_into, show};
use super::select::Selection;
use crate::base::json;
use crate::http::time::rfc3339_ms;
use crate::protocol::record_batch::Record;

/// The type of records that do not say what they are.
const TYPE: &str = "hydrant.record";

/// Media type of an event whose attributes lie in its value.
const STRUCTURED: &[u8] = b"application/cloudevents+json";

/// The last header of a name.
pub(in crate::http) fn header<'r>(record: &Record<'r>, name: &[u8]) -> Option<&'r [u8]> {
    record.headers().filter(|(key, _)| *key == name).last().and_then(|(_, value)| value)
}

fn is_structured(record: &Record<'_>) -> bool {
    header(record, b"content-type").is_some_and(|media| {
        let media = media.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
        media.eq_ignore_ascii_case(STRUCTURED)
    })
}

/// The type of a record that is a CloudEvent.
pub(in crate::http) fn type_of<'r>(record: &Record<'r>) -> Option<Cow<'r, [u8]>> {
    #[derive(serde::Deserialize)]
    struct Typed<'v> {
        #[serde(borrow, rename = "type")]
        name: Cow<'v, str>,
    }
    if !is_structured(record) {
        return header(record, b"ce_type").map(Cow::Borrowed);
    }
    let typed: Typed<'_> = serde_json::from_slice(record.value?).ok()?;
    Some(Cow::Owned(typed.name.as_bytes().to_vec()))
}

/// Appends a record as one CloudEvent.
pub(in crate::http) fn json_into(
    envelope: &Envelope<'_>,
    select: Option<&Selection>,
    record: &Record<'_>,
    out: &mut Vec<u8>,
) {
    if is_structured(record)
        && let Some(value) = record.value
        && let Shown::Json(event) = show(value, Decode::Json)
        && event.trim_ascii_start().starts_with(b"{")
    {
        return json::minify_into(event, out);
    }
    let (topic, partition, offset) = (envelope.topic, envelope.partition, record.offset);
    let attribute = |name: &str| {
        let value = header(record, format!("ce_{name}").as_bytes());
        // An attribute is never empty.
        value.and_then(|v| std::str::from_utf8(v).ok()).filter(|text| !text.is_empty())
    };
    let mut writer = Writer { out };
    writer.out.extend_from_slice(b"{\"specversion\":");
    json::string_into(attribute("specversion").unwrap_or("1.0"), writer.out);
    let own = |name: &str, other: String| attribute(name).map_or(other, str::to_owned);
    writer.text("id", &own("id", format!("{topic}/{partition}/{offset}")));
    writer.text("source", &own("source", format!("/topics/{topic}/partitions/{partition}")));
    writer.text("type", attribute("type").unwrap_or(TYPE));
    match attribute("time") {
        Some(time) => writer.text("time", time),
        None if record.timestamp >= 0 => writer.text("time", &rfc3339_ms(record.timestamp)),
        None => {}
    }
    if let Some(key) = record.key.and_then(|key| std::str::from_utf8(key).ok())
        && attribute("partitionkey").is_none()
    {
        writer.text("partitionkey", key);
    }
    let mut written: Vec<&str> = Vec::new();
    for (name, _) in record.headers() {
        let Some(name) = name.strip_prefix(b"ce_").and_then(extension) else { continue };
        if !written.contains(&name)
            && let Some(value) = attribute(name)
        {
            written.push(name);
            writer.text(name, value);
        }
    }
    if let Some(value) = record.value {
        data_into(value, envelope.decode, select, record, &mut writer);
    }
    writer.out.push(b'}');
}

/// The name of an attribute that is not written for every event.
fn extension(name: &[u8]) -> Option<&str> {
    let known = ["specversion", "id", "source", "type", "time", "datacontenttype", "data"];
    let is_plain = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let name = std::str::from_utf8(name).ok().filter(|name| name.bytes().all(|b| is_plain(&b)))?;
    (!name.is_empty() && !known.contains(&name)).then_some(name)
}

/// What a media type says of data in an event: JSON is JSON, and anything else is never taken for
/// it, because a reader would get a number where `1` was text.
fn decode_of(media: &str) -> Decode {
    let name = media.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_json = name.ends_with("/json") || name.ends_with("+json");
    if is_json { Decode::Json } else { Decode::Text }
}

fn data_into(
    value: &[u8],
    decode: Decode,
    select: Option<&Selection>,
    record: &Record<'_>,
    writer: &mut Writer<'_>,
) {
    let said = header(record, b"content-type").and_then(|v| std::str::from_utf8(v).ok());
    let said = said.filter(|media| !media.is_empty());
    let decode = match (decode, said) {
        (Decode::Auto, Some(media)) => decode_of(media),
        (decode, _) => decode,
    };
    let shown = show(value, decode);
    let media = said.or(match shown {
        Shown::Json(_) => Some("application/json"),
        Shown::Text(_) => Some("text/plain"),
        Shown::Base64(_) => None,
    });
    if let Some(media) = media {
        writer.text("datacontenttype", media);
    }
    match shown {
        Shown::Json(document) => {
            writer.out.extend_from_slice(b",\"data\":");
            match select {
                Some(select) => select.pick_into(document, writer.out),
                None => json::minify_into(document, writer.out),
            }
        }
        Shown::Text(text) => writer.text("data", text),
        Shown::Base64(bytes) => {
            writer.out.extend_from_slice(b",\"data_base64\":");
            base64_string_into(bytes, writer.out);
        }
    }
}

/// Writes attributes that follow another one.
struct Writer<'o> {
    out: &'o mut Vec<u8>,
}

impl Writer<'_> {
    fn text(&mut self, name: &str, value: &str) {
        self.out.push(b',');
        json::string_into(name, self.out);
        self.out.push(b':');
        json::string_into(value, self.out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::record_batch::{BatchBuilder, BatchHeader, BatchRecords};

    type Headers<'a> = &'a [(&'a [u8], Option<&'a [u8]>)];

    fn event(key: Option<&[u8]>, value: Option<&[u8]>, headers: Headers<'_>) -> serde_json::Value {
        let mut builder = BatchBuilder::new().at_offset(41);
        builder.push(1_790_000_000_123, key, value, headers.iter().copied());
        let batch = builder.finish();
        let records = BatchRecords::open(BatchHeader::parse(&batch).unwrap(), &batch).unwrap();
        let record = records.iter().next().unwrap().unwrap();
        let decode = Decode::Auto;
        let envelope = Envelope { topic: "orders", partition: 3, timestamp_type: "create", decode };
        let mut out = Vec::new();
        json_into(&envelope, None, &record, &mut out);
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn plain_records_become_events() {
        assert_eq!(
            event(Some(b"c-17"), Some(b"{\"id\": 1}"), &[(b"x", Some(b"y"))]),
            serde_json::json!({
                "specversion": "1.0", "id": "orders/3/41", "source": "/topics/orders/partitions/3",
                "type": "hydrant.record", "time": "2026-09-21T14:13:20.123Z",
                "partitionkey": "c-17", "datacontenttype": "application/json", "data": {"id": 1},
            })
        );
        let binary = event(Some(b"\xff"), Some(b"\xff\0"), &[]);
        assert_eq!(binary["data_base64"], "/wA=");
        assert!(binary.get("data").is_none() && binary.get("partitionkey").is_none());
        let tombstone = event(None, None, &[]);
        assert!(tombstone.get("data").is_none() && tombstone.get("datacontenttype").is_none());
        assert_eq!(event(None, Some(b"a\nb"), &[])["data"], "a\nb");
    }

    #[test]
    fn events_of_either_mode_stay_what_they_are() {
        let headers: Headers<'_> = &[
            (b"ce_id", Some(b"7")),
            (b"ce_source", Some(b"/shop")),
            (b"ce_type", Some(b"com.shop.order")),
            (b"ce_time", Some(b"2026-01-01T00:00:00Z")),
            (b"ce_traceparent", Some(b"00-\"x\"")),
            (b"ce_Bad", Some(b"no")),
            (b"ce_data", Some(b"no")),
            (b"content-type", Some(b"application/json")),
        ];
        assert_eq!(
            event(None, Some(b"1"), headers),
            serde_json::json!({
                "specversion": "1.0", "id": "7", "source": "/shop", "type": "com.shop.order",
                "time": "2026-01-01T00:00:00Z", "traceparent": "00-\"x\"",
                "datacontenttype": "application/json", "data": 1,
            })
        );
        let structured: Headers<'_> = &[(b"content-type", Some(b"application/cloudevents+json"))];
        let value = br#"{"specversion":"1.0","id":"7","source":"/x","type":"t","data":{"a":1}}"#;
        let parsed: serde_json::Value = serde_json::from_slice(value).unwrap();
        assert_eq!(event(None, Some(value), structured), parsed);
        assert_eq!(event(None, Some(b"broken {"), structured)["type"], "hydrant.record");
    }

    #[test]
    fn attributes_are_neither_lost_nor_empty_and_the_last_of_a_name_counts() {
        let headers: Headers<'_> = &[
            (b"ce_id", Some(b"")),
            (b"ce_subject", Some(b"a")),
            (b"ce_subject", Some(b"b")),
            (b"ce_dataschema", Some(b"/schemas/1")),
            (b"ce_none", None),
            (b"ce_empty", Some(b"")),
        ];
        let event = event(None, None, headers);
        assert_eq!((&event["id"], &event["subject"]), (&"orders/3/41".into(), &"b".into()));
        assert_eq!(event["dataschema"], "/schemas/1");
        assert!(event.get("none").is_none() && event.get("empty").is_none(), "{event}");
    }

    #[test]
    fn data_is_what_its_media_type_says() {
        let typed = |media: &'static [u8], value| {
            event(None, Some(value), &[(b"content-type", Some(media))])
        };
        assert_eq!(typed(b"text/plain", b"1")["data"], "1");
        assert_eq!(typed(b"Application/JSON; charset=utf-8", b"1")["data"], 1);
        assert_eq!(typed(b"application/vnd.order+json", b"{}")["data"], serde_json::json!({}));
        let broken = typed(b"application/json", b"broken {");
        assert_eq!(broken["data_base64"], "YnJva2VuIHs=");
        assert!(broken.get("data").is_none());
        assert_eq!(typed(b"", b"1")["datacontenttype"], "application/json");
    }
}
