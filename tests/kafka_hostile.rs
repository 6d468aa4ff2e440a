//! What a hostile or confused peer sends to the Kafka door: it is refused, and nobody else notices.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use bytes::{Bytes, BytesMut};
use common::wire::{self, Wire, frame};
use common::{PATIENCE, Random, Server, now};
use hydrant::protocol::messages as kafka;
use hydrant::protocol::{ApiKey, request_header_version};

/// Most memory that a server under attack may ever have had.
const MEMORY_BYTES_MAX: u64 = 300 * 1024 * 1024;

/// Bytes in front of a hostile count: as many fixed fields as any request begins with.
const PREFIX_BYTES_MAX: usize = 28;

fn server() -> (tempfile::TempDir, Server) {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::on(dir.path());
    server.create_topic("t", 1, &[]);
    (dir, server)
}

/// Sends bytes, ends its side, and reads until the server ends its own: an answer or none.
fn provoke(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // The server may close before it has read everything.
    let _may_be_closed = stream.write_all(bytes).and_then(|()| stream.shutdown(Shutdown::Write));
    read_to_end(&mut stream)
}

fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            panic!("neither an answer nor a close in time")
        }
        _ => answer,
    }
}

/// As [`provoke`] with one request: what comes back is one whole answer to it, or nothing.
fn provoke_with(address: SocketAddr, key: i16, version: i16, body: &[u8]) {
    let answer = provoke(address, &frame(key, version, 0x0102_0304, body));
    if let Some((size, rest)) = answer.split_first_chunk::<4>() {
        let what = format!("key {key} version {version} body {body:02x?}");
        assert_eq!(usize::try_from(i32::from_be_bytes(*size)), Ok(rest.len()), "{what}");
        assert!(rest.starts_with(&[1, 2, 3, 4]), "{what}");
    }
}

/// The server closes the connection without a word, though the client leaves it open.
fn expect_close(server: &mut Server, what: &str, bytes: &[u8]) {
    let mut stream = TcpStream::connect(server.kafka).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(bytes).unwrap();
    assert_eq!(read_to_end(&mut stream), b"", "{what}");
    expect_well(server);
}

/// The server lives, answers, and has not grown.
fn expect_well(server: &mut Server) {
    server.assert_alive();
    assert_eq!(server.wire().api_versions().unwrap().error_code, 0);
    let peak = server.peak_memory_bytes();
    assert!(peak < MEMORY_BYTES_MAX, "the server once had {} MiB", peak >> 20);
}

/// Every key and version that the server advertises.
fn advertised(server: &Server) -> Vec<(i16, i16)> {
    let keys = server.wire().api_versions().unwrap().api_keys;
    assert!(keys.len() >= 19, "{} keys", keys.len());
    let versions =
        |api: kafka::ApiVersion| (api.min_version..=api.max_version).map(move |v| (api.api_key, v));
    keys.into_iter().flat_map(versions).collect()
}

fn is_flexible(key: i16, version: i16) -> bool {
    request_header_version(key, version) >= 2
}

#[test]
fn frames_that_are_none_are_closed() {
    let (_dir, mut server) = server();
    for size in 0..8_i32 {
        let bytes = [size.to_be_bytes().as_slice(), &[0; 8]].concat();
        expect_close(&mut server, "a frame below its header", &bytes);
    }
    for size in [i32::MAX, 100 * 1024 * 1024 + 1, -1, i32::MIN] {
        let bytes = [size.to_be_bytes().as_slice(), &[0, 3, 0, 1, 0, 0, 0, 1]].concat();
        expect_close(&mut server, &format!("a frame of {size} bytes"), &bytes);
    }
    let large_metadata = [5_000_000_i32.to_be_bytes().as_slice(), &[0, 3, 0, 1]].concat();
    expect_close(&mut server, "a control request of 5 MB", &large_metadata);
    // A client id longer than the frame.
    let long_id = [0, 0, 0, 10, 0, 3, 0, 1, 0, 0, 0, 1, 0x7f, 0xff];
    expect_close(&mut server, "a client id beyond the frame", &long_id);
}

#[test]
fn http_on_the_kafka_port_is_closed() {
    let (_dir, mut server) = server();
    for text in ["GET / HTTP/1.1\r\nhost: x\r\n\r\n", "POST /topics/t HTTP/1.1\r\n\r\n{}"] {
        expect_close(&mut server, text, text.as_bytes());
    }
    expect_close(&mut server, "TLS", &[0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 3]);
}

#[test]
fn unknown_keys_and_versions_are_closed_and_api_versions_is_answered() {
    let (_dir, mut server) = server();
    for key in [-1, 4, 21, 99, i16::MAX] {
        expect_close(&mut server, &format!("key {key}"), &frame(key, 0, 1, b""));
    }
    for (key, version) in advertised(&server) {
        let highest = advertised(&server).iter().filter(|(k, _)| *k == key).map(|(_, v)| *v).max();
        if key != ApiKey::ApiVersions as i16 && highest == Some(version) {
            for beyond in [version + 1, i16::MAX, -1] {
                let what = format!("key {key} version {beyond}");
                expect_close(&mut server, &what, &frame(key, beyond, 1, &[0; 16]));
            }
        }
    }
    for version in [5, 99, i16::MAX, -1] {
        let mut client = server.wire();
        client.stream.write_all(&frame(18, version, 7, b"\x7f\xff\xff\xff")).unwrap();
        let mut answer = client.receive().unwrap();
        assert_eq!(answer.split_to(4), 7_i32.to_be_bytes().as_slice());
        let answer = kafka::ApiVersionsResponseData::read(&mut answer, 0).unwrap();
        assert_eq!((answer.error_code, answer.api_keys.len() >= 19), (35, true), "v{version}");
        // The connection is as good as before.
        assert_eq!(client.api_versions().unwrap().error_code, 0);
    }
}

#[test]
fn hostile_counts_are_refused_in_every_key_and_version() {
    let (_dir, mut server) = server();
    let started = now();
    let mut requests = 0;
    for (key, version) in advertised(&server) {
        // As an int32 and as a varint, behind 0 to 28 bytes that are empty or zero.
        let (count, empty): (&[u8], u8) = match is_flexible(key, version) {
            true => (b"\xff\xff\xff\xff\x07", 1),
            false => (b"\x7f\xff\xff\xff", 0),
        };
        for at in 0..=PREFIX_BYTES_MAX {
            for fill in if empty == 0 { vec![0] } else { vec![0, 1] } {
                let body = [&vec![fill; at], count, &[0; 12]].concat();
                provoke_with(server.kafka, key, version, &body);
                requests += 1;
            }
        }
    }
    common::note(&format!("{requests} hostile counts in {:?}", started.elapsed()));
    expect_well(&mut server);
}

/// Requests that are right up to a count.
#[test]
fn a_hostile_count_behind_a_proper_beginning_is_refused() {
    let (_dir, mut server) = server();
    let huge = i32::MAX.to_be_bytes();
    let bodies: Vec<(&str, i16, i16, Vec<u8>)> = vec![
        ("topics of Metadata", 3, 1, huge.to_vec()),
        ("topics of Produce", 0, 3, [b"\xff\xff\xff\xff\0\0\0\0".as_slice(), &huge].concat()),
        (
            "partitions of Produce",
            0,
            3,
            [b"\xff\xff\xff\xff\0\0\0\0\0\0\0\x01\0\x01t".as_slice(), &huge].concat(),
        ),
        (
            "records of Produce",
            0,
            3,
            [b"\xff\xff\xff\xff\0\0\0\0\0\0\0\x01\0\x01t\0\0\0\x01\0\0\0\0".as_slice(), &huge]
                .concat(),
        ),
        ("topics of Fetch", 1, 4, [[0xff; 4].as_slice(), &[0; 13], &huge].concat()),
        (
            "partitions of Fetch",
            1,
            4,
            [[0xff; 4].as_slice(), &[0; 13], b"\0\0\0\x01\0\x01t", &huge].concat(),
        ),
        (
            "protocols of JoinGroup",
            11,
            0,
            [b"\0\x01g\0\0\x17\x70\0\0\0\x08consumer".as_slice(), &huge].concat(),
        ),
        ("assignments of SyncGroup", 14, 0, [b"\0\x01g\0\0\0\x01\0\0".as_slice(), &huge].concat()),
        ("groups of DescribeGroups", 15, 0, huge.to_vec()),
        ("topics of CreateTopics", 19, 2, huge.to_vec()),
    ];
    for (what, key, version, body) in bodies {
        expect_close(&mut server, what, &frame(key, version, 1, &body));
    }
}

#[test]
fn random_bytes_are_refused_in_every_key_and_version() {
    let (_dir, mut server) = server();
    let mut random = Random::seeded("random_bytes");
    for (key, version) in advertised(&server) {
        for _ in 0..8 {
            let length = random.below(160) as usize;
            let body = random.bytes(length);
            provoke_with(server.kafka, key, version, &body);
        }
        // Bytes that are small are lengths more often.
        for _ in 0..8 {
            let length = random.below(80) as usize;
            let body: Vec<u8> = (0..length).map(|_| random.below(4) as u8).collect();
            provoke_with(server.kafka, key, version, &body);
        }
    }
    for _ in 0..300 {
        let length = random.below(200) as usize;
        let bytes = random.bytes(length);
        provoke(server.kafka, &bytes);
    }
    expect_well(&mut server);
}

#[test]
fn a_batch_with_a_hostile_count_or_length_is_refused() {
    let (_dir, mut server) = server();
    let good = wire::batch(&[b"value"]);
    let seal = |mut bytes: Vec<u8>| {
        let crc = crc32c::crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        Bytes::from(bytes)
    };
    let with = |at: usize, new: &[u8]| {
        let mut bytes = good.to_vec();
        bytes[at..at + new.len()].copy_from_slice(new);
        seal(bytes)
    };
    let huge = i32::MAX.to_be_bytes();
    let rows = [
        ("length", with(8, &huge)),
        ("length below the header", with(8, &1_i32.to_be_bytes())),
        ("magic", with(16, &[1])),
        ("codec", with(21, &[0, 7])),
        ("last offset delta", with(23, &huge)),
        ("record count", with(57, &huge)),
        ("negative record count", with(57, &(-1_i32).to_be_bytes())),
        ("record length", with(61, &[0xfe, 0xff, 0xff, 0xff])),
        ("no bytes", Bytes::new()),
        ("a cut batch", good.slice(..good.len() - 1)),
        ("two batches", [good.as_ref(), &good].concat().into()),
    ];
    let mut client = server.wire();
    for (what, batch) in rows {
        let (code, offset) = client.produce("t", 0, -1, batch).unwrap();
        assert!(code != 0 && offset == -1, "{what}: {code}");
    }
    assert_eq!(client.produce("t", 0, -1, good).unwrap(), (0, 0), "nothing was appended");
    expect_well(&mut server);
}

/// A few KB that become hundreds of MiB.
#[test]
fn a_decompression_bomb_is_refused() {
    let (_dir, mut server) = server();
    let mut member = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    member.write_all(&vec![0; 1 << 20]).unwrap();
    let bomb = member.finish().unwrap().repeat(200);
    let mut batch = wire::batch(&[b"value"])[..61].to_vec();
    batch.extend_from_slice(&bomb);
    let length = i32::try_from(batch.len() - 12).unwrap();
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    batch[21..23].copy_from_slice(&[0, 1]);
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    let (code, _) = server.wire().produce("t", 0, 1, batch.into()).unwrap();
    assert_ne!(code, 0);
    expect_well(&mut server);
}

#[test]
fn half_a_frame_blocks_nobody() {
    let (_dir, mut server) = server();
    let whole = frame(ApiKey::Metadata as i16, 1, 1, &[0, 0, 0, 0]);
    let mut halves = Vec::new();
    for cut in [1, 3, 4, 6, whole.len() - 1] {
        let mut stream = TcpStream::connect(server.kafka).unwrap();
        stream.write_all(&whole[..cut]).unwrap();
        halves.push((cut, stream));
    }
    // Large frames that never come, from more peers than the shared budget has room for.
    let mut produce = i32::to_be_bytes(90 * 1024 * 1024).to_vec();
    produce.extend_from_slice(&frame(0, 9, 1, &[0; 64])[4..]);
    let large = (0..6).map(|_| {
        let mut stream = TcpStream::connect(server.kafka).unwrap();
        stream.write_all(&produce).unwrap();
        stream
    });
    let large: Vec<_> = large.collect();
    expect_well(&mut server);
    assert_eq!(server.wire().produce("t", 0, -1, wire::batch(&[b"v"])).unwrap(), (0, 0));
    // The rest of a frame may come late.
    for (cut, mut stream) in halves {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(&whole[cut..]).unwrap();
        let mut size = [0; 4];
        stream.read_exact(&mut size).unwrap();
    }
    drop(large);
    expect_well(&mut server);
}

#[test]
fn five_hundred_idle_connections_are_fine() {
    let (_dir, mut server) = server();
    let mut idle: Vec<Wire> = (0..500).map(|_| server.wire()).collect();
    expect_well(&mut server);
    for client in &mut idle {
        assert_eq!(client.api_versions().unwrap().error_code, 0);
    }
    expect_well(&mut server);
}

/// Answers in the order of requests, however many are under way.
#[test]
fn a_thousand_requests_in_one_write_are_answered_in_order() {
    let (_dir, mut server) = server();
    let mut client = server.wire();
    let mut bytes = BytesMut::new();
    for correlation in 0..1000 {
        bytes.extend_from_slice(&frame(18, 0, correlation, b""));
    }
    client.stream.write_all(&bytes).unwrap();
    for correlation in 0..1000_i32 {
        let answer = client.receive().unwrap();
        assert_eq!(answer[..4], correlation.to_be_bytes());
    }
    expect_well(&mut server);
}
