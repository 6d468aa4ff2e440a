//! What every HTTP service owes its clients and the proxies between, on any route.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;

use common::sse::Sse;
use common::{Answer, Http, Serve, Server, read_all};
use serde_json::json;

const JSON: (&str, &str) = ("content-type", "application/json");

fn served(options: impl FnOnce(Serve) -> Serve) -> (tempfile::TempDir, Server) {
    let dir = tempfile::tempdir().unwrap();
    let server = options(Serve::on(dir.path())).start();
    (dir, server)
}

fn plain() -> (tempfile::TempDir, Server) {
    let (dir, server) = served(|options| options);
    server.create_topic("t", 1, &[]);
    (dir, server)
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn zstd(data: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(data, ruzstd::encoding::CompressionLevel::Fastest)
}

/// The body of an answer, unpacked.
fn unpacked(answer: &Answer) -> Vec<u8> {
    let mut plain = Vec::new();
    match answer.header("content-encoding") {
        Some("gzip") => {
            flate2::read::GzDecoder::new(&answer.body[..]).read_to_end(&mut plain).unwrap();
        }
        Some("zstd") => {
            let mut rest = &answer.body[..];
            while !rest.is_empty() {
                let mut decoder = ruzstd::decoding::StreamingDecoder::new(&mut rest).unwrap();
                decoder.read_to_end(&mut plain).unwrap();
            }
        }
        other => panic!("content-encoding {other:?}: {answer}"),
    }
    plain
}

#[track_caller]
fn assert_refused(answer: &Answer, status: u16, word: &str) {
    assert_eq!(answer.status, status, "{answer}");
    let body = answer.json();
    assert_eq!(body.as_object().unwrap().len(), 2, "{answer}");
    assert_eq!(body["error_code"], status, "{answer}");
    assert!(body["message"].as_str().unwrap().contains(word), "{answer} without '{word}'");
    let content_type = answer.header("content-type").unwrap();
    assert!(content_type.ends_with("json"), "{content_type}");
}

#[test]
fn packed_bodies_are_understood_and_bombs_are_not() {
    let (_dir, server) = plain();
    let mut http = server.http();
    let body = br#"{"records":[{"value":"packed"}]}"#;
    for (name, packed) in [("gzip", gzip(body)), ("x-gzip", gzip(body)), ("zstd", zstd(body))] {
        let headers = [JSON, ("content-encoding", name)];
        let answer = http.send("POST", "/topics/t", &headers, &packed).unwrap();
        assert_eq!(answer.status, 200, "{name}: {answer}");
    }
    let before = server.peak_memory_bytes();
    let spaces = vec![b' '; 256 * 1024 * 1024];
    for (name, bomb) in [("gzip", gzip(&spaces)), ("zstd", zstd(&spaces))] {
        assert!(bomb.len() < 2_000_000, "{name}: {}", bomb.len());
        let mut http = server.http();
        let headers = [JSON, ("content-encoding", name)];
        let answer = http.send("POST", "/topics/t", &headers, &bomb).unwrap();
        assert_refused(&answer, 413, "67108864");
        let policy = answer.header("ratelimit-policy").unwrap();
        assert_eq!(policy, "\"body\";q=67108864;qu=\"content-bytes\"");
    }
    let grown = server.peak_memory_bytes() - before;
    assert!(grown < 160 * 1024 * 1024, "bombs took {grown} bytes");
    let mut http = server.http();
    let brotli = http.send("POST", "/topics/t", &[JSON, ("content-encoding", "br")], body).unwrap();
    assert_refused(&brotli, 415, "br");
    assert_eq!(brotli.header("accept-encoding"), Some("gzip, zstd"));
    let text = [("content-type", "text/plain")];
    let foreign = server.http().send("POST", "/topics/t", &text, body).unwrap();
    assert_eq!((foreign.status, foreign.header("accept-encoding")), (415, None));
    let headers = [JSON, ("content-encoding", "gzip")];
    let damaged = server.http().send("POST", "/topics/t", &headers, b"rubbish").unwrap();
    assert_refused(&damaged, 400, "gzip");
}

#[test]
fn answers_are_packed_on_demand_but_never_live_ones() {
    let (_dir, server) = plain();
    let mut http = server.http();
    let whole = http.get("/openapi.json");
    assert_eq!(whole.header("content-encoding"), None);
    assert_eq!(whole.header("vary"), Some("accept-encoding"));
    for name in ["gzip", "zstd"] {
        let headers = [("accept-encoding", name)];
        let packed = http.send("GET", "/openapi.json", &headers, b"").unwrap();
        assert_eq!(packed.header("content-encoding"), Some(name));
        assert!(packed.body.len() < whole.body.len() / 3, "{name}: {}", packed.body.len());
        assert!(unpacked(&packed) == whole.body, "{name}");
        let small = http.send("GET", "/topics", &headers, b"").unwrap();
        assert_eq!(small.header("content-encoding"), None, "{small}");
    }
    let headers = [("accept-encoding", "gzip, zstd")];
    let mut stream = Sse::open(server.http, "/topics/t/stream", &headers);
    server.produce("t", 0, &["live"]);
    assert!(stream.record().data.contains("live"));
    let (_dir, off) = served(|options| options.arg("--http-compression", "false"));
    let answer = off.http().send("GET", "/openapi.json", &headers, b"").unwrap();
    assert_eq!((answer.header("content-encoding"), answer.header("vary")), (None, None));
}

#[test]
fn ids_of_requests_come_back() {
    let (_dir, server) = plain();
    let mut http = server.http();
    let id = |answer: &Answer| answer.header("x-request-id").unwrap().to_owned();
    let own = [("x-request-id", "Root=1-abc")];
    assert_eq!(id(&http.send("GET", "/nowhere", &own, b"").unwrap()), "Root=1-abc");
    let bad = [("x-request-id", "a b\"c")];
    let first = id(&http.send("GET", "/topics", &bad, b"").unwrap());
    let second = id(&http.get("/topics"));
    assert!(first != second && !first.contains(' '), "{first} {second}");
}

#[test]
fn whatever_is_refused_is_refused_in_json() {
    let (_dir, server) = plain();
    let mut http = server.http();
    // Extractors of the framework.
    assert_refused(&http.get("/topics/%FF"), 400, "UTF-8");
    let not_allowed = http.delete("/topics");
    assert_refused(&not_allowed, 405, "DELETE");
    assert_eq!(not_allowed.header("allow"), Some("GET,HEAD"));
    let long = format!("/topics?x={}", "y".repeat(20_000));
    assert_refused(&http.get(&long), 414, "16384");
    let large = "v".repeat(66_000);
    let answer = http.send("GET", "/topics", &[("x-large", &large)], b"").unwrap();
    assert_refused(&answer, 431, "65536");
    // What hyper answers by itself.
    for (request, status) in [
        ("rubbish\r\n\r\n".to_owned(), 400),
        (format!("GET /topics HTTP/1.1\r\nhost: x\r\n{}\r\n", "a: b\r\n".repeat(120)), 431),
        (format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "y".repeat(70_000)), 414),
    ] {
        let mut http = server.http();
        http.write(request.as_bytes()).unwrap();
        assert_refused(&http.answer().unwrap(), status, "request");
        assert!(http.is_closed());
    }
}

#[test]
fn every_route_answers_head_options_and_a_trailing_slash() {
    let (_dir, server) = plain();
    for path in ["/", "/topics", "/topics/t", "/topics/t/partitions", "/livez", "/v3/clusters"] {
        let get = server.http().get(path);
        assert_eq!(get.status, 200, "{path}: {get}");
        let mut stream = TcpStream::connect(server.http).unwrap();
        let host = server.http;
        write!(stream, "HEAD {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")
            .unwrap();
        let text = String::from_utf8(read_all(stream)).unwrap().to_ascii_lowercase();
        assert!(text.starts_with("http/1.1 200"), "{path}: {text}");
        let length = format!("content-length: {}\r\n", get.body.len());
        assert!(text.contains(&length) && text.ends_with("\r\n\r\n"), "{path}: {text}");
        let options = server.http().send("OPTIONS", path, &[], b"").unwrap();
        let allow = options.header("allow").unwrap_or_default();
        assert!(options.status == 204 && allow.contains("GET"), "{path}: {options} {allow}");
        let slash = format!("{}/", path.trim_end_matches('/'));
        assert_eq!(server.http().get(&slash).status, 200, "{slash}");
    }
}

#[test]
fn names_in_paths_are_decoded_once() {
    let (_dir, server) = plain();
    let mut http = server.http();
    let group = "a%2Fb%20%C3%A9%2541";
    let created = http.post(&format!("/consumers/{group}"), &json!({ "name": "x/y z" }));
    assert_eq!(created.status, 200, "{created}");
    let base = created.json()["base_uri"].as_str().unwrap().to_owned();
    let path = base.split_once("/consumers").unwrap().1;
    assert_eq!(path, "/a%2Fb%20%C3%A9%2541/instances/x%2Fy%20z");
    let subscribed =
        http.post(&format!("/consumers{path}/subscription?a=1&a=2&a"), &json!({ "topics": ["t"] }));
    assert_eq!(subscribed.status, 204, "{subscribed}");
}

#[test]
fn proxies_are_believed_as_far_as_they_were_told_to_be() {
    let base = |server: &Server, headers: &[(&str, &str)]| {
        let headers: Vec<_> = headers.iter().copied().chain([JSON]).collect();
        let answer = server.http().send("POST", "/consumers/g", &headers, b"{}").unwrap();
        let uri = answer.json()["base_uri"].as_str().unwrap().to_owned();
        uri.split_once("/consumers/g").unwrap().0.to_owned()
    };
    let headers = [("forwarded", "proto=https;host=a.example"), ("x-forwarded-prefix", "/k")];
    let (_dir, server) = plain();
    assert_eq!(base(&server, &headers), "https://a.example/k");
    assert_eq!(base(&server, &[]), format!("http://{}", server.http));
    let (_dir, server) = served(|options| options.arg("--http-forwarded", "ignore"));
    assert_eq!(base(&server, &headers), format!("http://{}", server.http));
    let advertised = "https://public.example/kafka";
    let (_dir, server) = served(|options| options.arg("--http-advertised", advertised));
    assert_eq!(base(&server, &headers), advertised);
}

#[test]
fn pages_of_listed_origins_may_call_any_route() {
    let (_dir, server) =
        served(|options| options.arg("--cors-origins", "https://a.example,https://b.example"));
    let ask = |origin: &str, path: &str| {
        let headers = [
            ("origin", origin),
            ("access-control-request-method", "PATCH"),
            ("access-control-request-headers", "content-type,hydrant-header-trace,x-evil"),
        ];
        server.http().send("OPTIONS", path, &headers, b"").unwrap()
    };
    for path in ["/topics/t", "/consumers/g/instances/i/records", "/v3/clusters", "/nowhere"] {
        let answer = ask("https://b.example", path);
        assert_eq!(answer.status, 200, "{path}: {answer}");
        let allow = answer.header("access-control-allow-origin");
        assert_eq!(allow, Some("https://b.example"), "{path}");
        assert!(answer.header("access-control-allow-methods").unwrap().contains("PATCH"));
        let lists = answer.headers.iter().filter(|(k, _)| k == "access-control-allow-headers");
        let list: Vec<_> = lists.map(|(_, value)| value.as_str()).collect();
        let list = list.join(",");
        assert!(list.contains("content-type") && list.contains("hydrant-header-trace"), "{list}");
        assert!(!list.contains("x-evil"), "{list}");
    }
    assert_eq!(ask("https://c.example", "/topics/t").header("access-control-allow-origin"), None);
    let origin = [("origin", "https://a.example")];
    let refused = server.http().send("GET", "/nowhere", &origin, b"").unwrap();
    assert_eq!(refused.status, 404);
    let exposed = refused.header("access-control-expose-headers").unwrap();
    for name in ["stream-id", "etag", "location", "retry-after", "ratelimit", "x-request-id"] {
        assert!(exposed.split(',').any(|exposed| exposed.trim() == name), "{exposed}");
    }
}

#[test]
fn pages_of_other_origins_change_nothing() {
    let (_dir, server) = served(|options| options.arg("--cors-origins", "https://a.example"));
    server.create_topic("t", 1, &[]);
    let own = format!("http://{}", server.http);
    // What a browser sends for a form of another page, which it does not ask about before.
    let form = ("content-type", "text/plain");
    let post = |headers: &[(&str, &str)]| {
        let headers = [headers, &[form]].concat();
        server.http().send("POST", "/topics/t/records", &headers, b"x").unwrap()
    };
    let site = ("sec-fetch-site", "cross-site");
    for origin in ["https://evil.example", "null", "http://127.0.0.1"] {
        assert_refused(&post(&[("origin", origin)]), 403, origin);
        assert_refused(&post(&[("origin", origin), site]), 403, origin);
    }
    let picture = server.http().send("GET", "/consumers/g/records?topics=t", &[site], b"");
    assert_refused(&picture.unwrap(), 403, "other origins");
    let groups = server.http().get("/admin/groups").json();
    assert!(!groups.to_string().contains("\"g\""), "{groups}");
    for (offset, origin) in ["https://a.example", &own].into_iter().enumerate() {
        let answer = post(&[("origin", origin)]);
        assert_eq!(answer.json()["offset"], offset, "{answer}");
    }
}

#[test]
fn a_client_may_be_limited() {
    let (_dir, server) = served(|options| {
        let options = options.arg("--http-rate-limit", "3").arg("--http-forwarded", "all");
        options.arg("--http-connections-per-client", "2")
    });
    let mut http = server.http();
    let mine = [("x-forwarded-for", "192.0.2.1")];
    let answers: Vec<_> =
        (0..30).map(|_| http.send("GET", "/topics", &mine, b"").unwrap()).collect();
    assert_eq!(answers[0].status, 200);
    assert_eq!(answers[0].header("ratelimit"), Some("\"requests\";r=2;t=1"));
    assert_eq!(answers[0].header("ratelimit-policy"), Some("\"requests\";q=3;w=1"));
    let refused = answers.iter().find(|answer| answer.status == 429).expect("no refusal");
    assert_refused(refused, 429, "3 requests a second");
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert!(refused.header("ratelimit-policy").unwrap().contains("q=3"));
    let other = [("x-forwarded-for", "192.0.2.2")];
    assert_eq!(http.send("GET", "/topics", &other, b"").unwrap().status, 200);
    assert!((0..9).all(|_| http.send("GET", "/livez", &mine, b"").unwrap().status == 200));
    let mut second = server.http();
    assert_eq!(second.send("GET", "/livez", &[], b"").unwrap().status, 200);
    let third = Http::connect(server.http).answer().unwrap();
    assert_refused(&third, 429, "2 connections");
}

#[test]
fn numbers_keep_every_digit_and_nothing_is_not_empty() {
    let (_dir, server) = plain();
    let mut http = server.http();
    let values = [
        "1.0",
        "-0",
        "1e400",
        "12345678901234567890.123",
        "0.10",
        "1E+2",
        "false",
        "0",
        "\"\"",
        "[]",
        "{}",
        "18446744073709551616",
        "{\"a\":1.10,\"a\":2}",
    ];
    let records: Vec<_> =
        values.iter().map(|value| format!("{{\"key\":{value},\"value\":{value}}}")).collect();
    let tombstones = r#"{"key":"k","value":null},{"key":"k"},{"value":"x"}"#;
    let body = format!("{{\"records\":[{},{tombstones}]}}", records.join(","));
    let answer = http.send("POST", "/topics/t", &[JSON], body.as_bytes()).unwrap();
    assert_eq!(answer.status, 200, "{answer}");
    let new = json!({ "name": "i", "format": "json", "auto.offset.reset": "earliest" });
    assert_eq!(http.post("/consumers/g", &new).status, 200);
    http.post("/consumers/g/instances/i/subscription", &json!({ "topics": ["t"] }));
    let accept = [("accept", "application/vnd.kafka.json.v2+json")];
    let polled = http
        .send("GET", "/consumers/g/instances/i/records?timeout=10000", &accept, b"")
        .unwrap()
        .text();
    for value in values {
        let field = format!("\"key\":{value},\"value\":{value},");
        assert!(polled.contains(&field), "{field} not in {polled}");
    }
    assert_eq!(polled.matches("\"key\":\"k\",\"value\":null").count(), 2, "{polled}");
    assert!(polled.contains("\"key\":null,\"value\":\"x\""), "{polled}");
    let mut stream = Sse::open(server.http, "/topics/t/stream?from=earliest", &[]);
    for value in values {
        let data = stream.record().data;
        assert!(data.contains(&format!("\"value\":{value}")), "{value} not in {data}");
    }
    assert!(stream.record().data.contains("\"value\":null"));
}
