//! Streamed produce while both directions are open: over HTTP/2, against clients that do not read,
//! vanish, stall or break off, and while the server stops.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;
#[path = "v3_streaming/duplex.rs"]
mod duplex;

use std::io::Write;
use std::time::Duration;

use bytes::Bytes;
use common::{Server, eventually};
use duplex::{Duplex, connect, soon};
use serde_json::{Value, json};

/// HTTP/2's own default.
const WINDOW: u32 = 65_535;

fn server() -> (tempfile::TempDir, Server, String) {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::on(dir.path());
    server.create_topic("t", 1, &[]);
    let clusters = server.http().get("/v3/clusters").json();
    let cluster = clusters["data"][0]["cluster_id"].as_str().unwrap();
    let path = format!("/v3/clusters/{cluster}/topics/t/records");
    (dir, server, path)
}

fn end_offset(server: &Server) -> i64 {
    let offsets = server.http().get("/topics/t/partitions/0/offsets").json();
    offsets["end_offset"].as_i64().unwrap()
}

fn record(value: &str) -> String {
    json!({"value": {"type": "STRING", "data": value}}).to_string()
}

#[tokio::test]
async fn each_result_comes_before_the_next_record_is_sent() {
    let (_dir, server, path) = server();
    let mut client = connect(server.http, WINDOW).await;
    let mut stream = Duplex::open(&mut client, server.http, &path, &[]);
    // Who waits for the head of the answer before the first record is not kept waiting.
    assert_eq!(stream.status().await, 200);
    for offset in 0..20 {
        let whole = record(&format!("v{offset}"));
        let (first, second) = whole.split_at(7);
        stream.send(first.to_owned());
        stream.send(second.to_owned());
        let answer = stream.answer().await.unwrap();
        assert_eq!(answer["offset"], offset, "{answer}");
        assert_eq!(end_offset(&server), offset + 1);
    }
    stream.end();
    assert_eq!(stream.answer().await, None);
}

#[tokio::test]
async fn an_upload_that_stays_empty_is_told_however_late_it_ends() {
    let (_dir, server, path) = server();
    let mut client = connect(server.http, WINDOW).await;
    let mut stream = Duplex::open(&mut client, server.http, &path, &[]);
    stream.end();
    assert_eq!(stream.status().await, 422);
    let mut stream = Duplex::open(&mut client, server.http, &path, &[]);
    assert_eq!(stream.status().await, 200);
    stream.send(" \r\n");
    stream.end();
    let answer = stream.answer().await.unwrap();
    assert_eq!(answer["error_code"], 422, "{answer}");
    assert!(answer["message"].as_str().unwrap().contains("42206"), "{answer}");
    assert_eq!(stream.answer().await, None);
}

#[tokio::test]
async fn a_packed_upload_is_answered_record_by_record() {
    let (_dir, server, path) = server();
    let mut client = connect(server.http, WINDOW).await;
    let headers = [("content-encoding", "gzip"), ("accept-encoding", "gzip")];
    let mut stream = Duplex::open(&mut client, server.http, &path, &headers);
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    for offset in 0..5 {
        packer.write_all(record(&format!("v{offset}")).as_bytes()).unwrap();
        packer.flush().unwrap();
        stream.send(std::mem::take(packer.get_mut()));
        let answer = stream.answer().await.unwrap();
        assert_eq!(answer["offset"], offset, "{answer}");
    }
    stream.send(packer.finish().unwrap());
    stream.end();
    assert_eq!(stream.answer().await, None);
}

#[tokio::test]
async fn errors_of_records_leave_the_stream_open() {
    let (_dir, server, path) = server();
    let mut client = connect(server.http, WINDOW).await;
    let mut stream = Duplex::open(&mut client, server.http, &path, &[]);
    let too_large = record(&"x".repeat(2_000_000));
    for (sent, code) in [
        (record("first").as_str(), 200),
        (r#"{"partition_id":7}"#, 40402),
        (r#"{"partition_id":"x"}"#, 400),
        (r#"{"value":{"type":"BINARY","data":"?"}}"#, 400),
        (r#"{"value":{"type":"AVRO","schema":"\"int\"","data":1}}"#, 422),
        (r#"{"valeu":{}}"#, 400),
        (r#"{"timestamp":"yesterday"}"#, 400),
        (&too_large, 413),
        (record("last").as_str(), 200),
    ] {
        stream.send(sent.to_owned());
        assert_eq!(stream.code().await, Some(code), "{}", &sent[..sent.len().min(60)]);
    }
    stream.end();
    assert_eq!(stream.answer().await, None);
    assert_eq!(end_offset(&server), 2);
}

#[tokio::test]
async fn half_a_record_at_the_end_is_the_last_error() {
    let (_dir, server, path) = server();
    let mut client = connect(server.http, WINDOW).await;
    let mut stream = Duplex::open(&mut client, server.http, &path, &[]);
    stream.send(record("whole") + r#"{"value":{"type":"STRING","da"#);
    assert_eq!(stream.code().await, Some(200));
    stream.end();
    let answer = stream.answer().await.unwrap();
    assert_eq!(answer["error_code"], 400, "{answer}");
    assert_eq!(stream.answer().await, None);
    assert_eq!(end_offset(&server), 1);
}

#[tokio::test]
async fn a_record_without_an_end_is_refused_while_it_is_sent() {
    let (_dir, server, path) = server();
    let mut client = connect(server.http, WINDOW).await;
    let mut stream = Duplex::open(&mut client, server.http, &path, &[]);
    stream.send(record("before") + r#"{"value":{"type":"STRING","data":""#);
    assert_eq!(stream.code().await, Some(200));
    let chunk = Bytes::from(vec![b'x'; 1 << 20]);
    // The server may stop to take it once it has answered, not before.
    let mut left = 65 * chunk.len();
    while left > 0 {
        let sent = soon("the upload", stream.send_within(&chunk)).await;
        if sent == 0 {
            break;
        }
        left = left.saturating_sub(sent);
    }
    assert_eq!(stream.code().await, Some(413));
    assert_eq!(stream.answer().await, None);
    assert_eq!(end_offset(&server), 1);
}

/// Sends until the server takes nothing more; returns the bytes taken.
async fn send_until_stalled(stream: &mut Duplex, chunk: &Bytes, most: usize) -> usize {
    let mut sent = 0;
    while sent < most {
        let rest = chunk.slice(sent % chunk.len()..);
        // The pause tells a stall; nothing is to happen in it.
        match tokio::time::timeout(Duration::from_secs(1), stream.send_within(&rest)).await {
            Ok(now) => sent += now,
            Err(_stalled) => return sent,
        }
    }
    panic!("the server took {most} bytes though nobody reads its results");
}

#[tokio::test]
async fn who_reads_no_results_is_not_read_from_and_holds_up_nobody() {
    let (_dir, server, path) = server();
    let path = format!("{path}?acks=1");
    let mut client = connect(server.http, WINDOW).await;
    let chunk = Bytes::from((record(&"x".repeat(60)) + "\n").repeat(100));
    let line = chunk.len() / 100;
    let before = server.peak_memory_bytes();
    let mut stalled = Vec::new();
    for _ in 0..3 {
        let mut stream = Duplex::open(&mut client, server.http, &path, &[]);
        let sent = send_until_stalled(&mut stream, &chunk, 64 << 20).await;
        assert!(sent > 0);
        stalled.push((stream, sent));
    }
    let grown = server.peak_memory_bytes() - before;
    assert!(grown < 64 << 20, "{grown} bytes for three stalled streams");
    // Another stream of the same connection goes on.
    let mut other = Duplex::open(&mut client, server.http, &path, &[]);
    for _ in 0..3 {
        other.send(record("other"));
        assert_eq!(other.code().await, Some(200));
    }
    other.end();
    assert_eq!(other.answer().await, None);
    // Once the results are read, none is missing and the rest goes through.
    for (mut stream, sent) in stalled {
        let rest = chunk.slice(sent % chunk.len()..);
        stream.send(rest);
        stream.end();
        let records = sent.div_ceil(chunk.len()).max(sent / chunk.len() + 1) * chunk.len() / line;
        let (mut answers, mut last) = (0, None::<Value>);
        while let Some(answer) = stream.answer().await {
            assert_eq!(answer["error_code"], 200, "{answer}");
            let earlier = last.replace(answer["offset"].clone());
            assert!(earlier.is_none_or(|offset| offset.as_i64() < answer["offset"].as_i64()));
            answers += 1;
        }
        assert_eq!(answers, records);
    }
}

/// Tells whether the connection that asks is the only one.
fn is_alone(server: &Server) -> bool {
    let metrics = server.http().get("/metrics").text();
    metrics.lines().any(|line| line == "hydrant_http_connections 1")
}

#[tokio::test]
async fn what_a_client_sent_whole_before_it_vanished_is_there_and_nothing_else_is() {
    let (_dir, server, path) = server();
    let mut client = connect(server.http, WINDOW).await;
    let mut stream = Duplex::open(&mut client, server.http, &path, &[]);
    stream.send(record("0") + &record("1") + r#"{"value":{"type":"STRI"#);
    assert_eq!(stream.code().await, Some(200));
    assert_eq!(stream.code().await, Some(200));
    // One stream is reset, the connection stays.
    stream.upload.send_reset(h2::Reason::CANCEL);
    drop(stream);
    let mut stream = Duplex::open(&mut client, server.http, &path, &[]);
    stream.send(record("2") + r#"{"value":"#);
    assert_eq!(stream.code().await, Some(200));
    // The whole connection breaks.
    assert!(!is_alone(&server));
    drop((stream, client));
    // Not on the thread that has the client's end to close.
    let looking = tokio::task::spawn_blocking(move || {
        eventually("the connection is gone", || is_alone(&server).then_some(()));
        server
    });
    let mut server = looking.await.unwrap();
    assert_eq!(end_offset(&server), 3);
    server.assert_alive();
    server.stop();
}

#[tokio::test]
async fn a_server_that_stops_says_so_in_every_open_stream() {
    let (dir, server, path) = server();
    let mut client = connect(server.http, WINDOW).await;
    let mut busy = Duplex::open(&mut client, server.http, &path, &[]);
    busy.send(record("v") + r#"{"value":"#);
    assert_eq!(busy.code().await, Some(200));
    let mut silent = Duplex::open(&mut client, server.http, &path, &[]);
    assert_eq!(silent.status().await, 200);
    let address = server.http;
    let stopping = std::thread::spawn(move || {
        let begun = common::now();
        server.stop();
        begun.elapsed()
    });
    for stream in [&mut busy, &mut silent] {
        let answer = stream.answer().await.unwrap();
        assert_eq!(answer["error_code"], 503, "{answer}");
        assert_eq!(stream.answer().await, None);
    }
    let lasted = stopping.join().unwrap();
    assert!(lasted < Duration::from_secs(9), "{lasted:?}");
    let server = common::Serve::on(dir.path()).start();
    assert_ne!(server.http, address);
    assert_eq!(end_offset(&server), 1);
}
