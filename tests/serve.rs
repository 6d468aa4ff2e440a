//! The command line as people and scripts use it: start, addresses, signals, doctor, documents.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use bytes::BytesMut;
use common::{Serve, Server, Sse, Wire, eventually, note, now};
use hydrant::protocol::messages as kafka;
use rustix::process::Signal;
use serde_json::{Value, json};

/// A drain with nothing to wait for takes no longer than this.
const DRAIN_MAX: Duration = Duration::from_secs(5);

fn hydrant(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hydrant")).args(args).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// An answer with text for a person, not with a panic.
fn expect_refusal(output: &Output, words: &[&str]) {
    assert!(!output.status.success(), "{}", stdout(output));
    let text = stderr(output);
    assert!(!text.contains("panicked"), "{text}");
    for word in words {
        assert!(text.contains(word), "'{word}' is not in: {text}");
    }
}

#[test]
fn no_flag_is_needed() {
    let dir = tempfile::tempdir().unwrap();
    let ports = [8082, 9092].map(|port| TcpListener::bind(("127.0.0.1", port)));
    if ports.iter().any(Result::is_err) {
        note("a default port is in use: not tested here");
        return;
    }
    drop(ports);
    let server = Serve::program(env!("CARGO_BIN_EXE_hydrant")).current_dir(dir.path()).start();
    assert_eq!(server.http.to_string(), "127.0.0.1:8082");
    assert_eq!(server.kafka.to_string(), "127.0.0.1:9092");
    assert_eq!(server.http().get("/readyz").status, 200);
    server.stop();
    assert!(dir.path().join("data/log").is_dir());
}

#[test]
fn a_cold_start_is_measured() {
    let dir = tempfile::tempdir().unwrap();
    let started = now();
    let server = Server::on(dir.path());
    let listening = started.elapsed();
    assert_eq!(server.http().get("/readyz").status, 200);
    note(&format!("listening after {listening:?}, ready after {:?}", started.elapsed()));
}

#[test]
fn standard_output_has_two_lines_and_standard_error_is_json() {
    let dir = tempfile::tempdir().unwrap();
    let mut process = Serve::on(dir.path()).spawn();
    let lines: Vec<String> =
        (0..2).map(|_| process.stdout.recv_timeout(common::PATIENCE).unwrap()).collect();
    for (line, door) in lines.iter().zip(["http", "kafka"]) {
        let address = line.strip_prefix(&format!("listening {door}://127.0.0.1:"));
        let port: u16 = address.unwrap_or_else(|| panic!("{lines:?}")).parse().unwrap();
        assert_ne!(port, 0);
    }
    process.signal(Signal::TERM);
    assert!(process.wait().success());
    let rest: Vec<String> = process.stdout.iter().collect();
    assert!(rest.is_empty(), "{rest:?}");
    let logs = process.stderr();
    assert!(logs.lines().count() > 0);
    for line in logs.lines() {
        let log: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        assert!(log["level"].is_string() && log["timestamp"].is_string(), "{line}");
    }
}

/// Joins a group for good and returns the member's id and generation.
fn join(wire: &mut Wire, group: &str) -> (String, i32) {
    wire.send_join(group, "", 10_000).unwrap();
    let asked = wire.joined().unwrap();
    assert_eq!(asked.error_code, 79, "a member id is given first");
    let member = asked.member_id.as_str().to_owned();
    wire.send_join(group, &member, 10_000).unwrap();
    let joined = wire.joined().unwrap();
    assert_eq!(joined.error_code, 0);
    (member, joined.generation_id)
}

/// Parks a second member's join behind the first one's heartbeat, and returns its connection.
fn park_join(server: &Server) -> Wire {
    let mut first = server.wire();
    let (member, generation) = join(&mut first, "parked");
    let mut second = server.wire();
    second.send_join("parked", "", 10_000).unwrap();
    let asked = second.joined().unwrap();
    second.send_join("parked", asked.member_id.as_str(), 10_000).unwrap();
    eventually("the second join is parked", || {
        let request = kafka::HeartbeatRequestData::default()
            .with_group_id(common::wire::text("parked"))
            .with_generation_id(generation)
            .with_member_id(common::wire::text(&member));
        let mut body = BytesMut::new();
        request.write(&mut body, 3).unwrap();
        let mut answer = first.call(12, 3, &body).unwrap();
        let answer = kafka::HeartbeatResponseData::read(&mut answer, 3).unwrap();
        (answer.error_code == 27).then_some(())
    });
    second
}

fn ends_in_time_with_everything_open(signal: Signal) {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::on(dir.path());
    server.create_topic("t", 1, &[]);
    server.produce("t", 0, &["a"]);
    let mut idle: Vec<_> = (0..3).map(|_| server.http()).collect();
    for http in &mut idle {
        assert_eq!(http.get("/livez").status, 200);
    }
    let mut idle_wire = server.wire();
    idle_wire.api_versions().unwrap();
    let mut stream = Sse::open(server.http, "/topics/t/stream?from=earliest", &[]);
    stream.record();
    let mut parked = park_join(&server);

    let started = now();
    server.process.signal(signal);
    // The stream is ended, not cut.
    while let Some(event) = stream.try_next().unwrap() {
        assert!(!event.name.is_empty(), "{event:?}");
    }
    let status = server.process.wait();
    let took = started.elapsed();
    assert!(status.success(), "{status}: {}", server.process.stderr());
    assert!(took < DRAIN_MAX, "took {took:?}: {}", server.process.stderr());
    // The parked join got an answer or a closed connection, not silence.
    let _answered_or_closed = parked.joined();
    for http in &mut idle {
        assert!(http.is_closed());
    }
    let logs = server.process.stderr();
    assert!(!logs.contains("panicked") && !logs.contains("\"ERROR\""), "{logs}");
    // The same folder opens again and has everything.
    let server = Server::on(dir.path());
    assert_eq!(server.wire().read_partition("t", 0).len(), 1);
}

#[test]
fn a_terminated_server_ends_in_time_with_everything_open() {
    ends_in_time_with_everything_open(Signal::TERM);
}

#[test]
fn an_interrupted_server_ends_in_time_with_everything_open() {
    ends_in_time_with_everything_open(Signal::INT);
}

#[test]
fn half_a_request_holds_the_end_no_longer_than_the_drain_timeout() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Serve::on(dir.path()).arg("--drain-timeout-s", "1").start();
    let mut half = server.http();
    half.write(b"GET /livez HTTP/1.1\r\nho").unwrap();
    assert_eq!(server.http().get("/livez").status, 200);
    let started = now();
    server.process.signal(Signal::TERM);
    assert!(server.process.wait().success());
    assert!(started.elapsed() < DRAIN_MAX, "took {:?}", started.elapsed());
}

#[test]
fn a_request_under_way_is_answered_before_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::on(dir.path());
    server.create_topic("t", 1, &[]);
    let mut http = server.http();
    let body = json!({ "records": [{ "value": "late" }] }).to_string();
    let length = body.len().to_string();
    let headers = [("content-type", "application/json"), ("content-length", length.as_str())];
    let head = http.head("POST", "/topics/t", &headers) + "\r\n";
    http.write(head.as_bytes()).unwrap();
    // The request has begun when the metrics or a second request show it; what is certain is that
    // the server has read its head once it continues the body.
    http.write(&body.as_bytes()[..5]).unwrap();
    assert_eq!(server.http().get("/livez").status, 200);
    server.process.signal(Signal::TERM);
    eventually("the drain begins", || {
        server.process.stderr().contains("\"draining\"").then_some(())
    });
    http.write(&body.as_bytes()[5..]).unwrap();
    let answer = http.answer().unwrap();
    assert_eq!(answer.status, 200, "{answer}");
    assert!(server.process.wait().success());
    let server = Server::on(dir.path());
    assert_eq!(server.wire().read_partition("t", 0).len(), 1);
}

#[test]
fn a_second_signal_ends_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::on(dir.path());
    server.create_topic("t", 1, &[]);
    let mut http = server.http();
    // A body that never comes keeps the drain waiting.
    let headers = [("content-type", "application/json"), ("content-length", "100")];
    let head = http.head("POST", "/topics/t", &headers) + "\r\n{";
    http.write(head.as_bytes()).unwrap();
    assert_eq!(server.http().get("/livez").status, 200);
    server.process.signal(Signal::TERM);
    eventually("the drain begins", || {
        server.process.stderr().contains("\"draining\"").then_some(())
    });
    let started = now();
    server.process.signal(Signal::INT);
    let status = server.process.wait();
    let took = started.elapsed();
    assert!(!status.success(), "an end before the drain is no success");
    assert!(took < Duration::from_secs(2), "took {took:?}");
    assert!(server.process.stderr().contains("second signal"), "{}", server.process.stderr());
}

#[test]
fn new_connections_are_refused_while_draining() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::on(dir.path());
    let mut http = server.http();
    let headers = [("content-type", "application/json"), ("content-length", "100")];
    let head = http.head("POST", "/topics/t", &headers) + "\r\n{";
    http.write(head.as_bytes()).unwrap();
    assert_eq!(server.http().get("/livez").status, 200);
    server.process.signal(Signal::TERM);
    for address in [server.http, server.kafka] {
        eventually("the door is closed", || TcpStream::connect(address).err());
    }
}

#[test]
fn a_file_with_an_unknown_key_is_refused_by_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("hydrant.toml");
    std::fs::write(&file, "num_partitons = 8\n").unwrap();
    let file = file.to_str().unwrap();
    let data = dir.path().join("data");
    let data_dir = data.to_str().unwrap();
    let refused = hydrant(&["serve", "--config", file, "--data-dir", data_dir]);
    expect_refusal(&refused, &["num_partitons"]);
    assert!(!data.exists(), "nothing was touched");
    let missing = hydrant(&["serve", "--config", "nowhere.toml", "--data-dir", data_dir]);
    expect_refusal(&missing, &["nowhere.toml"]);
    std::fs::write(file, "num_partitions = \"many\"\n").unwrap();
    let wrong = hydrant(&["serve", "--config", file, "--data-dir", data_dir]);
    expect_refusal(&wrong, &["num_partitions"]);
    expect_refusal(&hydrant(&["serve", "--no-such-flag"]), &["--no-such-flag"]);
}

#[test]
fn file_environment_and_flags_are_heard_in_this_order() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("hydrant.toml");
    std::fs::write(&file, "num_partitions = 2\nauto_create_topics = true\n").unwrap();
    let partitions = |server: &Server| {
        server.wire().metadata(&["x"]).unwrap();
        let body = json!({ "records": [{ "value": 1 }] });
        assert_eq!(server.http().post("/topics/made", &body).status, 200);
        server.http().get("/topics/made/partitions").json().as_array().unwrap().len()
    };
    let on = |name: &str| Serve::on(&dir.path().join(name)).arg("--config", &file);
    assert_eq!(partitions(&on("a").start()), 2);
    assert_eq!(partitions(&on("b").env("HYDRANT_NUM_PARTITIONS", "3").start()), 3);
    let all = on("c").env("HYDRANT_NUM_PARTITIONS", "3").arg("--num-partitions", "5");
    assert_eq!(partitions(&all.start()), 5);
}

fn filled(dir: &Path) {
    let server = Server::on(dir);
    server.create_topic("t", 2, &[]);
    server.produce("t", 0, &["a", "b"]);
    assert_eq!(server.wire().commit("g", "t", 0, 1).unwrap(), 0);
    server.stop();
}

#[test]
fn doctor_checks_and_rebuilds() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let data_dir = dir.path().to_str().unwrap();
    for args in
        [&["doctor", "--data-dir", data_dir][..], &["doctor", "--rebuild", "--data-dir", data_dir]]
    {
        let output = hydrant(args);
        assert!(output.status.success(), "{}{}", stdout(&output), stderr(&output));
        let text = stdout(&output);
        assert!(text.trim_end().ends_with("ok"), "{text}");
        assert!(text.contains("(0 offline)"), "{text}");
    }
    let server = Server::on(dir.path());
    assert_eq!(server.wire().read_partition("t", 0).len(), 2);
    assert_eq!(server.wire().committed("g", "t", 0).unwrap(), 1);
    // A folder in use is left alone.
    expect_refusal(&hydrant(&["doctor", "--data-dir", data_dir]), &[data_dir, "in use"]);
    let rebuild = hydrant(&["doctor", "--rebuild", "--data-dir", data_dir]);
    expect_refusal(&rebuild, &[data_dir, "in use"]);
    assert_eq!(server.http().get("/readyz").status, 200);
}

#[test]
fn doctor_does_not_make_a_folder() {
    let dir = tempfile::tempdir().unwrap();
    let nowhere = dir.path().join("nowhere");
    let output = hydrant(&["doctor", "--data-dir", nowhere.to_str().unwrap()]);
    expect_refusal(&output, &[nowhere.to_str().unwrap()]);
    assert!(!nowhere.exists());
}

#[test]
fn the_specification_is_the_same_printed_served_and_committed() {
    let output = hydrant(&["openapi"]);
    assert!(output.status.success());
    let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi/hydrant.json");
    let committed: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert!(printed == committed, "run `just openapi`");
    let dir = tempfile::tempdir().unwrap();
    let served = Server::on(dir.path()).http().get("/openapi.json");
    assert_eq!(served.status, 200);
    assert!(served.json() == committed);
}

#[test]
fn the_pages_of_operations_answer() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::on(dir.path());
    let mut http = server.http();
    for path in ["/livez", "/healthz", "/readyz"] {
        let answer = http.get(path);
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(answer.json(), json!({ "status": "ok", "reasons": [] }), "{path}");
    }
    let metrics = http.get("/metrics");
    assert_eq!(metrics.status, 200);
    assert!(metrics.header("content-type").unwrap().starts_with("application/openmetrics-text"));
    let text = metrics.text();
    assert!(text.ends_with("# EOF\n"), "{text}");
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        assert!(line.starts_with("hydrant_"), "{line}");
    }
    for name in ["hydrant_partitions_offline 0", "hydrant_build_info{", "hydrant_topics "] {
        assert!(text.contains(name), "{name} is not in:\n{text}");
    }
    let mut docs = http.get("/docs");
    if let Some(location) = docs.header("location").map(str::to_owned) {
        docs = http.get(location.trim_start_matches(|c| c != '/'));
    }
    assert_eq!(docs.status, 200);
    let html = docs.text();
    assert!(html.contains("<html"), "{html}");
    let mut linked = 0;
    for attribute in ["src=", "href="] {
        for value in html.split(attribute).skip(1) {
            let value = value.trim_start_matches(['"', '\'']);
            assert!(!value.starts_with("http") && !value.starts_with("//"), "{value}");
            let end = value.find(['"', '\'', ' ', '>']).unwrap();
            let path = value[..end].trim_start_matches("./");
            let answer = http.get(&format!("/docs/{path}"));
            assert_eq!(answer.status, 200, "/docs/{path}");
            linked += 1;
        }
    }
    assert!(linked >= 3, "scripts and styles come from the binary: {html}");
}

#[test]
fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    for (one, other) in [("--http-addr", "--kafka-addr"), ("--kafka-addr", "--http-addr")] {
        let serve = Serve::program(env!("CARGO_BIN_EXE_hydrant")).arg("--data-dir", &data);
        let (status, text) = serve.arg(one, &address).arg(other, "127.0.0.1:0").refused();
        assert!(!status.success());
        assert!(text.contains(&address) && text.contains("in use"), "{text}");
        assert!(!text.contains("panicked"), "{text}");
    }
    assert!(!data.exists(), "the data directory was not touched");
}
