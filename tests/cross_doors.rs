//! What goes in by one door comes out by the other, to the byte and to the digit.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::io::Write;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use common::wire::{self, Row, idempotent_batch, rows};
use common::{Answer, Http, Server, Sse, Wire, steer};
use hydrant::protocol::murmur2::partition_for_key;
use hydrant::protocol::record_batch::{BatchBuilder, ProducerStamp};
use serde_json::{Value, json};

fn server() -> (tempfile::TempDir, Server) {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::on(dir.path());
    (dir, server)
}

fn media(format: &str) -> String {
    format!("application/vnd.kafka.{format}.v2+json")
}

/// Produces a body as it is written.
fn produce(http: &mut Http, path: &str, format: &str, body: &str) -> Value {
    let content_type = media(format);
    let headers = [("content-type", content_type.as_str())];
    let answer = http.send("POST", path, &headers, body.as_bytes()).unwrap();
    assert_eq!(answer.status, 200, "{answer}");
    let json = answer.json();
    for entry in json["offsets"].as_array().unwrap() {
        assert_eq!(entry["error_code"], Value::Null, "{answer}");
    }
    json
}

/// An instance that is assigned one partition and begins at its first record.
fn instance(http: &mut Http, name: &str, format: &str, topic: &str, partition: i32) -> String {
    let new = json!({
        "name": name, "format": format, "auto.offset.reset": "earliest",
        "auto.commit.enable": "false",
    });
    let created = http.post(&format!("/consumers/group-{name}"), &new);
    assert_eq!(created.status, 200, "{created}");
    let path = format!("/consumers/group-{name}/instances/{name}");
    let wanted = json!({ "partitions": [{ "topic": topic, "partition": partition }] });
    let assigned = http.post(&format!("{path}/assignments"), &wanted);
    assert_eq!(assigned.status, 204, "{assigned}");
    path
}

/// Polls until `count` records have come and returns the answers as they were.
fn poll(http: &mut Http, instance: &str, count: usize) -> (Vec<Value>, Vec<Answer>) {
    let (mut records, mut answers) = (Vec::new(), Vec::new());
    while records.len() < count {
        let answer = http.get(&format!("{instance}/records?timeout=5000"));
        assert_eq!(answer.status, 200, "{answer}");
        let json = answer.json();
        let new = json.as_array().unwrap();
        assert!(!new.is_empty(), "{} of {count} records, then none", records.len());
        records.extend(new.iter().cloned());
        answers.push(answer);
    }
    assert_eq!(records.len(), count);
    (records, answers)
}

#[test]
fn json_by_http_is_fetched_as_it_was_written() {
    let (_dir, server) = server();
    server.create_topic("t", 1, &[]);
    // Neither digits nor escapes nor the order of fields may change; only white space goes.
    let values = [
        r#"{"z":123456789012345678901234567890.10,"a":1E300,"m":-0.0}"#,
        r#"[9007199254740993,0.1,1e-7,[],{}]"#,
        r#""tab\tsnow\u2603man""#,
        "17",
        "1.10",
        "false",
        r#""""#,
    ];
    let records: Vec<_> = values.iter().map(|v| format!("{{ \"value\" : {v} }}")).collect();
    let body = format!("{{ \"records\" : [{}] }}", records.join(" , "));
    produce(&mut server.http(), "/topics/t", "json", &body);
    let stored = server.wire().read_partition("t", 0);
    let stored: Vec<_> = stored.iter().map(|row| row.value.clone().unwrap()).collect();
    let wanted: Vec<_> = values.iter().map(|value| value.as_bytes().to_vec()).collect();
    assert_eq!(stored, wanted);
    // And back by HTTP, digit for digit.
    let mut http = server.http();
    let path = instance(&mut http, "digits", "json", "t", 0);
    let (_, answers) = poll(&mut http, &path, values.len());
    let text: String = answers.iter().map(Answer::text).collect();
    let mut stream = Sse::open(server.http, "/topics/t/stream?from=earliest", &[]);
    for value in values {
        assert!(text.contains(&format!("\"value\":{value},")), "{value} in {text}");
        let event = stream.record();
        assert!(event.data.ends_with(&format!("\"value\":{value}}}")), "{value} in {}", event.data);
    }
}

#[test]
fn white_space_of_json_is_dropped_and_nothing_else() {
    let (_dir, server) = server();
    server.create_topic("t", 1, &[]);
    let body = "{\"records\":[{\"key\": { \"k\" : 1.0 } ,\"value\":\n [ 1 ,\t\"a b\" ] }]}";
    produce(&mut server.http(), "/topics/t", "json", body);
    let stored = server.wire().read_partition("t", 0);
    assert_eq!(stored[0].key.as_deref(), Some(b"{\"k\":1.0}".as_slice()));
    assert_eq!(stored[0].value.as_deref(), Some(b"[1,\"a b\"]".as_slice()));
}

#[test]
fn keys_headers_timestamps_and_tombstones_by_http_are_fetched_exactly() {
    let (_dir, server) = server();
    server.create_topic("t", 1, &[]);
    let mut http = server.http();
    let every_byte: Vec<u8> = (0..=255).collect();
    let body = json!({ "records": [
        { "key": STANDARD.encode([0xff, 0]), "value": STANDARD.encode(&every_byte),
          "timestamp": 1_700_000_000_123_i64,
          "headers": [
              { "key": "a", "value": STANDARD.encode("1") },
              { "key": "a", "value": Value::Null },
              { "key": "", "value": "" },
          ] },
        { "key": STANDARD.encode("gone"), "value": Value::Null, "timestamp": 0 },
        { "value": "" },
    ] });
    produce(&mut http, "/topics/t/partitions/0", "binary", &body.to_string());
    let text = r#"{"records":[{"key":"ключ","value":"line\n☃"},{"key":"","value":null}]}"#;
    produce(&mut http, "/topics/t/partitions/0", "text", text);
    let stored = server.wire().read_partition("t", 0);
    let headers =
        vec![("a".into(), Some(b"1".to_vec())), ("a".into(), None), (String::new(), Some(vec![]))];
    let first = Row {
        offset: 0,
        timestamp: 1_700_000_000_123,
        key: Some(vec![0xff, 0]),
        value: Some(every_byte),
        headers,
    };
    assert_eq!(stored[0], first);
    let second = Row {
        offset: 1,
        timestamp: 0,
        key: Some(b"gone".to_vec()),
        value: None,
        headers: Vec::new(),
    };
    assert_eq!(stored[1], second);
    let parts = |row: &Row| (row.key.clone(), row.value.clone());
    assert_eq!(parts(&stored[2]), (None, Some(Vec::new())));
    let wanted = (Some("ключ".as_bytes().to_vec()), Some("line\n☃".as_bytes().to_vec()));
    assert_eq!(parts(&stored[3]), wanted);
    assert_eq!(parts(&stored[4]), (Some(Vec::new()), None));
}

/// Writers append while readers follow at their heels: what a reader was given is below the end
/// of the log when it comes back. A race, so a broken server may pass; the slow profile looks
/// ten times as long.
#[test]
fn a_reader_at_the_tail_is_never_out_of_range() {
    let is_slow = steer("HYDRANT_SLOW_TESTS").as_deref() == Some("1");
    let batches = if is_slow { 80_000 } else { 8_000 };
    let (_dir, server) = server();
    server.create_topic("t", 1, &[]);
    let kafka = server.kafka;
    let write = || {
        let mut wire = Wire::connect(kafka).unwrap();
        let (id, epoch) = wire.init_producer().unwrap();
        for base_sequence in 0..batches {
            let stamp = ProducerStamp { id, epoch, base_sequence };
            let batch = idempotent_batch(stamp, &[b"1"]);
            assert_eq!(wire.produce("t", 0, 1, batch).unwrap().0, 0);
        }
    };
    let end = i64::from(batches) * 3;
    let follow = || {
        let mut wire = Wire::connect(kafka).unwrap();
        let (mut next, mut refused) = (0, Vec::new());
        while next < end {
            let fetched = wire.fetch("t", 0, next).unwrap();
            if fetched.code != 0 {
                refused.push((next, fetched.code, fetched.high_watermark));
            }
            if let Some((header, _)) = wire::batches(&fetched.records).last() {
                next = header.next_offset();
            }
        }
        assert!(refused.is_empty(), "(offset, code, high watermark): {refused:?}");
    };
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(write);
            scope.spawn(follow);
        }
    });
}

/// Hashes of Kafka's own tests (`UtilsTest.testMurmur2`).
const MURMUR2: &[(&str, i32)] = &[
    ("21", -973_932_308),
    ("foobar", -790_332_482),
    ("a-little-bit-long-string", -985_981_536),
    ("a-little-bit-longer-string", -1_486_304_829),
    ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
    ("abc", 479_470_107),
];

#[test]
fn keyed_records_lie_where_the_java_client_would_put_them() {
    let (_dir, server) = server();
    server.create_topic("t", 7, &[]);
    let mut http = server.http();
    for (key, hash) in MURMUR2 {
        let wanted = (hash & 0x7fff_ffff) % 7;
        assert_eq!(partition_for_key(key.as_bytes(), 7), wanted, "{key}");
        let body = json!({ "records": [{ "key": key, "value": "v" }] });
        let answer = produce(&mut http, "/topics/t", "text", &body.to_string());
        assert_eq!(answer["offsets"][0]["partition"], wanted, "{key}");
    }
    // A JSON key is hashed as the JSON it is stored as.
    let body = json!({ "records": [{ "key": { "id": 7 }, "value": 1 }] });
    let answer = produce(&mut http, "/topics/t", "json", &body.to_string());
    let partition = partition_for_key(b"{\"id\":7}", 7);
    assert_eq!(answer["offsets"][0]["partition"], partition);
    let stored = server.wire().read_partition("t", partition);
    assert_eq!(stored.last().unwrap().key.as_deref(), Some(b"{\"id\":7}".as_slice()));
}

/// How a producer compresses the records of a batch: the codec's number and its bytes.
type Compress = fn(&[u8]) -> Vec<u8>;

const CODECS: &[(&str, u8, Compress)] = &[
    ("none", 0, <[u8]>::to_vec),
    ("gzip", 1, |data| {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        out.write_all(data).unwrap();
        out.finish().unwrap()
    }),
    ("snappy", 2, |data| snap::raw::Encoder::new().compress_vec(data).unwrap()),
    ("xerial", 2, |data| {
        // As the Java client frames it: blocks of some KiB with their lengths.
        let mut out = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01".to_vec();
        for block in data.chunks(32 * 1024) {
            let block = snap::raw::Encoder::new().compress_vec(block).unwrap();
            out.extend_from_slice(&u32::try_from(block.len()).unwrap().to_be_bytes());
            out.extend_from_slice(&block);
        }
        out
    }),
    ("lz4", 3, |data| {
        let mut out = lz4_flex::frame::FrameEncoder::new(Vec::new());
        out.write_all(data).unwrap();
        out.finish().unwrap()
    }),
    ("zstd", 4, |data| {
        ruzstd::encoding::compress_to_vec(data, ruzstd::encoding::CompressionLevel::Fastest)
    }),
];

/// A key and a value.
type Pair = (Option<Vec<u8>>, Option<Vec<u8>>);

/// Records that a format can hold: JSON, text, bytes, empty, none; large ones too.
fn samples() -> Vec<Pair> {
    let large = format!("{{\"text\":\"{}\"}}", "lorem ipsum ".repeat(4000));
    vec![
        (Some(b"k1".to_vec()), Some(b"{\"n\":12345678901234567890.10}".to_vec())),
        (None, Some(vec![0, 0xff, 0x80, 10, 13])),
        (Some(vec![]), Some(vec![])),
        (Some(b"gone".to_vec()), None),
        (None, Some(large.into_bytes())),
        (Some(vec![0xfe]), Some("plain text ☃\nsecond line".as_bytes().to_vec())),
    ]
}

fn compressed_batch(number: u8, compress: Compress) -> Bytes {
    let mut builder = BatchBuilder::new();
    let headers: &[(&[u8], Option<&[u8]>)] = &[(b"h", Some(b"\xff"))];
    for (key, value) in samples() {
        let headers = headers.iter().copied();
        builder.push(1_700_000_000_000, key.as_deref(), value.as_deref(), headers);
    }
    let plain = builder.finish();
    let mut batch = plain[..61].to_vec();
    batch.extend_from_slice(&compress(&plain[61..]));
    let length = i32::try_from(batch.len() - 12).unwrap();
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    batch[22] = number;
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch.into()
}

#[test]
fn every_codec_of_the_wire_is_read_by_http_and_kept_as_it_came() {
    let (_dir, server) = server();
    let mut http = server.http();
    for (name, number, compress) in CODECS {
        let topic = format!("by-{name}");
        server.create_topic(&topic, 1, &[]);
        let batch = compressed_batch(*number, *compress);
        let mut wire = server.wire();
        assert_eq!(wire.produce(&topic, 0, -1, batch.clone()).unwrap(), (0, 0), "{name}");
        let fetched = wire.fetch(&topic, 0, 0).unwrap().records;
        // The broker writes offset and epoch in front of the CRC and nothing behind it.
        assert_eq!(fetched[16..], batch[16..], "{name}");
        assert_eq!(rows(&fetched).len(), samples().len(), "{name}");

        let path = instance(&mut http, name, "binary", &topic, 0);
        let (records, _) = poll(&mut http, &path, samples().len());
        let mut stream = Sse::open(
            server.http,
            &format!("/topics/{topic}/stream?from=earliest&decode=base64"),
            &[],
        );
        for (index, ((key, value), record)) in samples().into_iter().zip(records).enumerate() {
            let encoded = |bytes: &Option<Vec<u8>>| bytes.as_ref().map(|b| STANDARD.encode(b));
            assert_eq!(record["key"], json!(encoded(&key)), "{name} {index}");
            assert_eq!(record["value"], json!(encoded(&value)), "{name} {index}");
            assert_eq!(record["headers"], json!([{ "key": "h", "value": "/w==" }]), "{name}");
            assert_eq!(record["timestamp"], 1_700_000_000_000_i64, "{name} {index}");
            let event: Value = serde_json::from_str(&stream.record().data).unwrap();
            assert_eq!(event["value"], json!(encoded(&value)), "{name} {index}: {event}");
            assert_eq!(event["offset"], index, "{name}: {event}");
        }
    }
}

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[test]
fn the_trace_context_of_a_request_travels_with_its_records() {
    let (_dir, server) = server();
    server.create_topic("t", 1, &[]);
    let mut http = server.http();
    let headers =
        [("content-type", "application/json"), ("traceparent", TRACE), ("tracestate", "vendor=1")];
    let own = STANDARD.encode("00-11111111111111111111111111111111-2222222222222222-00");
    let body = json!({ "records": [
        { "value": 1, "headers": [{ "key": "a", "value": "YQ==" }] },
        { "value": 2, "headers": [{ "key": "traceparent", "value": own }] },
    ] });
    let body = body.to_string();
    let answer = http.send("POST", "/topics/t", &headers, body.as_bytes()).unwrap();
    assert_eq!(answer.status, 200, "{answer}");
    let broken = [("content-type", "application/json"), ("traceparent", "nonsense")];
    let answer = http.send("POST", "/topics/t", &broken, br#"{"records":[{"value":3}]}"#).unwrap();
    assert_eq!(answer.status, 200, "{answer}");
    let stored = server.wire().read_partition("t", 0);
    let header = |key: &str, value: &str| (key.to_owned(), Some(value.as_bytes().to_vec()));
    let wanted = [header("a", "a"), header("traceparent", TRACE), header("tracestate", "vendor=1")];
    assert_eq!(stored[0].headers, wanted);
    assert_eq!(stored[1].headers.len(), 1, "a record's own trace wins");
    assert_eq!(stored[2].headers, [], "what is no trace context is left out");
}

#[test]
fn a_stream_resumes_exactly_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::on(dir.path());
    server.create_topic("t", 3, &[]);
    for partition in 0..3 {
        let values: Vec<_> = (0..4).map(|n| format!("p{partition}-{n}")).collect();
        let values: Vec<_> = values.iter().map(String::as_str).collect();
        server.produce("t", partition, &values);
    }
    let seen_of = |event: &common::sse::Event| {
        let event: Value = serde_json::from_str(&event.data).unwrap();
        event["value"].as_str().unwrap().to_owned()
    };
    let mut stream = Sse::open(server.http, "/topics/t/stream?from=earliest", &[]);
    let mut seen = Vec::new();
    let mut last = String::new();
    for _ in 0..5 {
        let event = stream.record();
        seen.push(seen_of(&event));
        last = event.id;
    }
    assert!(!last.is_empty());
    server.kill();
    let server = Server::on(dir.path());
    server.produce("t", 1, &["p1-4"]);
    // `from` counts for nothing once there is a cursor.
    let headers = [("last-event-id", last.as_str())];
    let mut stream = Sse::open(server.http, "/topics/t/stream?from=latest", &headers);
    for _ in 0..8 {
        seen.push(seen_of(&stream.record()));
    }
    for partition in 0..3 {
        let prefix = format!("p{partition}-");
        let own: Vec<_> = seen.iter().filter(|value| value.starts_with(&prefix)).collect();
        let count = if partition == 1 { 5 } else { 4 };
        let wanted: Vec<_> = (0..count).map(|n| format!("{prefix}{n}")).collect();
        assert_eq!(own, wanted.iter().collect::<Vec<_>>(), "{seen:?}");
    }
    // What comes now comes through the same stream.
    server.produce("t", 2, &["live"]);
    assert_eq!(seen_of(&stream.record()), "live");
}

#[test]
fn offsets_by_timestamp_are_the_same_by_both_doors() {
    let (_dir, server) = server();
    server.create_topic("t", 1, &[]);
    let base = 1_700_000_000_000_i64;
    let mut http = server.http();
    for n in 0..10 {
        let body = json!({ "records": [{ "value": n, "timestamp": base + n * 1000 }] });
        produce(&mut http, "/topics/t", "json", &body.to_string());
    }
    let mut wire = server.wire();
    let mut at = |timestamp| wire.list_offset("t", 0, timestamp).unwrap();
    assert_eq!(at(-2), (0, 0));
    assert_eq!(at(-1), (0, 10));
    for (timestamp, offset) in
        [(0, 0), (base, 0), (base + 1, 1), (base + 3000, 3), (base + 8999, 9), (base + 9000, 9)]
    {
        assert_eq!(at(timestamp), (0, offset), "{timestamp}");
    }
    assert_eq!(at(base + 9001), (0, -1), "nothing is that new");

    let path = instance(&mut http, "seeker", "json", "t", 0);
    // 1700000003 is this second.
    let seek = json!({ "timestamps": [
        { "topic": "t", "partition": 0, "timestamp": "2023-11-14T22:13:23Z" },
    ] });
    let answer = http.post(&format!("{path}/positions"), &seek);
    assert_eq!(answer.status, 204, "{answer}");
    let (records, _) = poll(&mut http, &path, 7);
    assert_eq!(records[0]["offset"], 3);
    let stream = format!("/topics/t/stream?from={}", base + 7500);
    let event: Value =
        serde_json::from_str(&Sse::open(server.http, &stream, &[]).record().data).unwrap();
    assert_eq!(event["offset"], 8);
}

#[test]
fn both_doors_see_the_same_groups_commits() {
    let (_dir, server) = server();
    server.create_topic("t", 1, &[]);
    server.produce("t", 0, &["a", "b", "c", "d"]);
    let mut http = server.http();
    let path = instance(&mut http, "shared", "json", "t", 0);
    let (records, _) = poll(&mut http, &path, 4);
    assert_eq!(records[0]["value"], "a");
    let offsets = json!({ "offsets": [{ "topic": "t", "partition": 0, "offset": 1 }] });
    let answer = http.post(&format!("{path}/offsets"), &offsets);
    assert_eq!((answer.status, answer.text()), (200, "[]".to_owned()));
    let mut wire = server.wire();
    // v2 names the last record processed, Kafka the next one.
    assert_eq!(wire.committed("group-shared", "t", 0).unwrap(), 2);
    assert_eq!(wire.commit("group-shared", "t", 0, 4).unwrap(), 0);
    let answer = http.get(&format!("{path}/offsets?topic=t&partition=0"));
    assert_eq!(answer.json()["offsets"][0]["offset"], 4, "{answer}");
    // Without a body exactly what was delivered is committed.
    let answer = http.post(&format!("{path}/offsets"), &json!({}));
    assert_eq!(answer.status, 200, "{answer}");
    assert_eq!(wire.committed("group-shared", "t", 0).unwrap(), 4);
}
