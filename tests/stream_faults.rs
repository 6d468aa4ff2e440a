//! What live streams meet in a bad hour: records deleted under a slow reader, topics made anew,
//! stalled readers by the hundred, and neighbours on one HTTP/2 connection.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::io::Write;
use std::net::{SocketAddr, TcpStream};

use bytes::Bytes;
use common::sse::{data, until};
use common::{PATIENCE, Serve, Server, Sse, eventually, note};
use h2::RecvStream;
use h2::client::SendRequest;
use serde_json::json;

#[test]
fn retention_under_a_slow_reader_is_a_gap_and_nothing_else_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let server = Serve::on(dir.path())
        .arg("--retention-check-interval-ms", "50")
        .arg("--http-write-timeout-s", "300")
        .start();
    server.create_topic("t", 1, &[("segment.bytes", "1000000"), ("retention.bytes", "3000000")]);
    server.produce("t", 0, &["first"]);
    let mut slow = Sse::open(server.http, "/topics/t/stream?from=earliest", &[]);
    assert_eq!(data(&slow.record())["offset"], 0);
    // More than sockets hold: the reader falls behind what retention keeps.
    let value = "x".repeat(400_000);
    let count = 75;
    for _ in 0..count {
        server.produce("t", 0, &[&value]);
    }
    let mut http = server.http();
    eventually("retention has passed the reader", || {
        let offsets = http.get("/topics/t/partitions/0/offsets").json();
        (offsets["beginning_offset"].as_i64().unwrap() > count - 15).then_some(())
    });
    let (mut next, mut gaps) = (1, 0);
    while next <= count {
        let event = slow.try_next().unwrap().expect("the stream goes on");
        match event.name.as_str() {
            "" => {
                assert_eq!(data(&event)["offset"], next, "after {gaps} gaps");
                next += 1;
            }
            "gap" => {
                let gap = data(&event);
                assert_eq!(
                    (&gap["requested"], &gap["reason"]),
                    (&json!(next), &json!("retention"))
                );
                next = gap["resumed"].as_i64().unwrap();
                gaps += 1;
            }
            _ => {}
        }
    }
    assert_eq!(gaps, 1, "retention had ended before it read on");
    // It is a live one again.
    server.produce("t", 0, &["last"]);
    assert_eq!(data(&slow.record())["value"], "last");
}

#[test]
fn a_topic_that_is_made_anew_is_another_one() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::on(dir.path());
    server.create_topic("t", 1, &[]);
    server.create_topic("u", 1, &[]);
    server.produce("t", 0, &["old 0", "old 1"]);
    let mut only = Sse::open(server.http, "/topics/t/stream?from=earliest", &[]);
    let mut both = Sse::open(server.http, "/stream?topics=t,u&from=earliest", &[]);
    only.record();
    let old = only.record();
    both.record();
    both.record();
    assert_eq!(server.http().delete("/admin/topics/t").status, 204);
    for stream in [&mut only, &mut both] {
        let gap = data(&until(stream, "gap"));
        assert_eq!((&gap["reason"], &gap["requested"]), (&json!("deleted"), &json!(2)));
    }
    assert_eq!(data(&until(&mut only, "end"))["reason"], "deleted");
    server.create_topic("t", 1, &[]);
    server.produce("t", 0, &["new 0", "new 1"]);
    server.produce("u", 0, &["other"]);
    assert_eq!(data(&until(&mut both, "assigned"))["partitions"][0]["topic"], "t");
    let mut values: Vec<_> =
        (0..3).map(|_| data(&both.record())["value"].as_str().unwrap().to_owned()).collect();
    values.sort();
    assert_eq!(values, ["new 0", "new 1", "other"]);
    // A cursor of the old one says nothing of the new one, of which nothing is skipped.
    let resumed = [("last-event-id", old.id.as_str())];
    let mut again = Sse::open(server.http, "/topics/t/stream", &resumed);
    let gap = data(&until(&mut again, "gap"));
    assert_eq!((&gap["reason"], &gap["resumed"]), (&json!("recreated"), &json!(0)));
    assert_eq!(data(&again.record())["value"], "new 0");
    let refused = server.http().send("GET", "/topics/t/stream?on_gap=fail", &resumed, b"");
    assert_eq!(refused.unwrap().status, 410);
}

/// Bytes that the server has handed to streams.
fn stream_bytes(server: &Server) -> u64 {
    let metrics = server.http().get("/metrics").text();
    let line = metrics.lines().find(|line| line.starts_with("hydrant_stream_bytes_total"));
    line.unwrap().rsplit(' ').next().unwrap().parse().unwrap()
}

#[test]
fn two_hundred_stalled_readers_cost_less_than_a_mebibyte_each() {
    const READERS: usize = 200;
    const RECORDS: i64 = 100;
    let dir = tempfile::tempdir().unwrap();
    let server = Serve::on(dir.path())
        .arg("--http-write-timeout-s", "600")
        .arg("--stream-max-per-ip", "0")
        .start();
    server.create_topic("t", 1, &[]);
    let value = "x".repeat(300_000);
    for _ in 0..RECORDS {
        server.produce("t", 0, &[&value]);
    }
    // What one reader brings into memory is shared, and is no cost of the others.
    let read_all = || {
        let path = format!("/topics/t/stream?from=earliest&limit={RECORDS}");
        let mut stream = Sse::open(server.http, &path, &[]);
        for offset in 0..RECORDS {
            assert_eq!(data(&stream.record())["offset"], offset);
        }
    };
    read_all();
    let before = server.peak_memory_bytes();
    let stalled: Vec<_> = (0..READERS)
        .map(|_| {
            let mut stream = TcpStream::connect(server.http).unwrap();
            let head = "GET /topics/t/stream?from=earliest HTTP/1.1\r\nhost: t\r\n\r\n";
            stream.write_all(head.as_bytes()).unwrap();
            stream
        })
        .collect();
    let mut http = server.http();
    eventually("all are open", || (http.get("/streams").json()["total"] == READERS).then_some(()));
    let (mut last, mut same) = (0, 0);
    eventually("all are stalled", || {
        let bytes = stream_bytes(&server);
        same = if bytes == last { same + 1 } else { 0 };
        last = bytes;
        (same == 20).then_some(())
    });
    // Nobody else is held up.
    read_all();
    let grown = server.peak_memory_bytes().saturating_sub(before);
    note(&format!("{grown} bytes for {READERS} readers, {last} bytes sent"));
    let total = READERS as u64 * RECORDS as u64 * value.len() as u64;
    // With a queue each, all that was not sent would be in memory.
    assert!(total - last > (20 * READERS as u64) << 20, "sockets took {last} of {total} bytes");
    // A frame of 300 kB that waits to be written, and what the connection itself takes.
    assert!(grown < (READERS as u64) << 20, "{grown} bytes for {READERS} readers");
    drop(stalled);
    eventually("all are gone", || (http.get("/streams").json()["total"] == 0).then_some(()));
}

/// One HTTP/2 connection without TLS; its driver is a task of the test's runtime.
#[allow(clippy::disallowed_methods, reason = "the connection lives as long as the test")]
async fn h2_connect(address: SocketAddr) -> (SendRequest<Bytes>, tokio::task::JoinHandle<()>) {
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let mut builder = h2::client::Builder::new();
    // A stream may stall on its own window, never on that of the connection.
    builder.initial_window_size(65_535).initial_connection_window_size(1 << 30);
    let (client, connection) = builder.handshake(stream).await.unwrap();
    let driver = tokio::spawn(async move {
        // How it ends is what the streams tell.
        let _ended = connection.await;
    });
    (client.ready().await.unwrap(), driver)
}

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("not in time: {what}"))
}

/// A live stream on an HTTP/2 connection, with the name of it.
async fn h2_stream(client: &mut SendRequest<Bytes>, path: &str) -> (RecvStream, String) {
    let request = http::Request::get(format!("http://t{path}")).body(()).unwrap();
    let (head, _) = client.send_request(request, true).unwrap();
    let response = soon("the head", head).await.unwrap();
    assert_eq!(response.status(), 200, "{path}");
    let id = response.headers()["stream-id"].to_str().unwrap().to_owned();
    (response.into_body(), id)
}

/// Reads on until the text has something.
async fn h2_until(stream: &mut RecvStream, part: &str) -> String {
    let (mut text, mut looked) = (String::new(), 0);
    while !text[looked..].contains(part) {
        // All of it is ASCII here.
        looked = text.len().saturating_sub(part.len());
        let piece = soon(part, stream.data()).await.expect("the stream goes on").unwrap();
        stream.flow_control().release_capacity(piece.len()).unwrap();
        text.push_str(&String::from_utf8_lossy(&piece));
    }
    text
}

fn open_ids(server: &Server) -> Vec<String> {
    let listed = server.http().get("/streams").json();
    let streams = listed["streams"].as_array().unwrap().iter();
    streams.map(|entry| entry["id"].as_str().unwrap().to_owned()).collect()
}

// The connection is driven while the test asks the server by other connections.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_of_one_http2_connection_do_not_hold_each_other_up() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::on(dir.path());
    server.create_topic("big", 1, &[]);
    server.create_topic("live", 1, &[]);
    let value = "x".repeat(300_000);
    for _ in 0..20 {
        server.produce("big", 0, &[&value]);
    }
    let (mut client, driver) = h2_connect(server.http).await;
    // It takes what fits into its window, and no more.
    let (stalled, stalled_id) = h2_stream(&mut client, "/topics/big/stream?from=earliest").await;
    let mut live = Vec::new();
    for _ in 0..3 {
        let (mut stream, id) = h2_stream(&mut client, "/topics/live/stream?from=earliest").await;
        h2_until(&mut stream, "event: caught-up").await;
        live.push((stream, id));
    }
    let (mut reader, _) = h2_stream(&mut client, "/topics/big/stream?from=earliest&limit=20").await;
    for n in 0..50 {
        server.produce("live", 0, &[&format!("live-{n}-")]);
        for (stream, _) in &mut live {
            h2_until(stream, &format!("live-{n}-")).await;
        }
    }
    let all = h2_until(&mut reader, "event: end").await;
    assert_eq!(all.matches(&value).count(), 20);
    let position = server.http().get(&format!("/streams/{stalled_id}")).json();
    assert!(position["positions"][0]["offset"].as_i64().unwrap() < 20, "{position}");

    // A reset of one ends this one, on the server as well.
    let (gone, gone_id) = live.remove(0);
    drop((gone, stalled));
    eventually("two are off the list", || {
        let open = open_ids(&server);
        (!open.contains(&gone_id) && !open.contains(&stalled_id)).then_some(())
    });
    server.produce("live", 0, &["after-the-reset"]);
    for (stream, id) in &mut live {
        assert!(open_ids(&server).contains(id));
        h2_until(stream, "after-the-reset").await;
    }
    // The end of the connection is that of all.
    driver.abort();
    drop(live);
    eventually("the list is empty", || open_ids(&server).is_empty().then_some(()));
}
