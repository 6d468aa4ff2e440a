//! Every way to produce over HTTP beside v2: streams of records, batches, plain bodies.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use common::http::Chunked;
use common::{Http, PATIENCE, Serve, Server};
use serde_json::{Value, json};

fn server(dir: &std::path::Path) -> Server {
    Serve::on(dir).arg("--num-partitions", "2").arg("--auto-create-topics", "true").start()
}

fn records_path(http: &mut Http, topic: &str) -> String {
    let clusters = http.get("/v3/clusters").json();
    let cluster = clusters["data"][0]["cluster_id"].as_str().unwrap().to_owned();
    format!("/v3/clusters/{cluster}/topics/{topic}/records")
}

/// All records of a partition, as the live stream shows them.
fn read(http: &mut Http, topic: &str, partition: i32) -> Vec<Value> {
    let group = format!("reader-{topic}-{partition}");
    let created = http.post(&format!("/consumers/{group}"), &json!({"format": "binary"}));
    assert_eq!(created.status, 200, "{created}");
    let instance = created.json()["instance_id"].as_str().unwrap().to_owned();
    let base = format!("/consumers/{group}/instances/{instance}");
    let parts = json!({"partitions": [{"topic": topic, "partition": partition}]});
    assert_eq!(http.post(&format!("{base}/assignments"), &parts).status, 204);
    assert_eq!(http.post(&format!("{base}/positions/beginning"), &parts).status, 204);
    let path = format!("/topics/{topic}/partitions/{partition}/offsets");
    let end = http.get(&path).json()["end_offset"].as_u64().unwrap() as usize;
    let mut records = Vec::new();
    while records.len() < end {
        let page = http.get(&format!("{base}/records?timeout=5000")).json();
        records.extend(page.as_array().unwrap().iter().cloned());
    }
    records
}

/// A produce stream whose upload is open.
struct Upload {
    stream: TcpStream,
    answers: Option<BufReader<Chunked<BufReader<TcpStream>>>>,
}

impl Upload {
    fn open(address: SocketAddr, path: &str) -> Self {
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: h\r\ncontent-type: application/json\r\n\
             transfer-encoding: chunked\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        Self { stream, answers: None }
    }

    fn send(&mut self, data: &[u8]) {
        write!(self.stream, "{:x}\r\n", data.len()).unwrap();
        self.stream.write_all(data).unwrap();
        self.stream.write_all(b"\r\n").unwrap();
    }

    fn end(&mut self) {
        self.stream.write_all(b"0\r\n\r\n").unwrap();
    }

    /// The next answer; none at the end of all answers.
    fn answer(&mut self) -> Option<Value> {
        let stream = &self.stream;
        let answers = self.answers.get_or_insert_with(|| {
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            assert!(line.starts_with("HTTP/1.1 200"), "{line}");
            while line != "\r\n" {
                line.clear();
                reader.read_line(&mut line).unwrap();
            }
            BufReader::new(Chunked::new(reader))
        });
        let mut line = String::new();
        answers.read_line(&mut line).unwrap();
        assert!(line.is_empty() || line.ends_with("}\r\n"), "{line:?}");
        serde_json::from_str(&line).ok()
    }
}

#[test]
fn records_are_answered_while_the_upload_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(dir.path());
    let mut http = Http::connect(server.http);
    let path = records_path(&mut http, "live");
    let mut upload = Upload::open(server.http, &path);
    for offset in 0..3 {
        upload.send(b"{\"partition_id\":1,\"value\":{\"type\":\"JSON\",\"da");
        upload.send("ta\":{\"é\": 1.00}}}".as_bytes());
        let answer = upload.answer().unwrap();
        assert_eq!((&answer["error_code"], &answer["offset"]), (&json!(200), &json!(offset)));
        assert_eq!(answer["value"], json!({"type": "JSON", "size": "{\"é\":1.00}".len()}));
        assert_eq!(answer.get("key"), None);
        // What is answered can be read, though the upload is open.
        let offsets = http.get("/topics/live/partitions/1/offsets").json();
        assert_eq!(offsets["end_offset"], offset + 1);
    }
    upload.end();
    assert_eq!(upload.answer(), None);
}

#[test]
fn every_record_has_its_answer_in_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(dir.path());
    let mut http = Http::connect(server.http);
    let path = records_path(&mut http, "mixed");
    let body = concat!(
        r#"{"partition_id":0,"timestamp":"2021-02-05T19:14:42Z","key":{"type":"BINARY","data":"Zm9v"},"#,
        r#""headers":[{"name":"h1","value":"aGVsbG8="},{"name":"h2","value":null}],"#,
        r#""value":{"type":"JSON","data":0}}"#,
        "{\"partition_id\":0}\r\n\t{\"partition_id\":-1} ",
        r#"{"value":{"type":"STRING","data":1}}{"value":{"schema_id":1,"data":1}}"#,
        r#"{"partition_id":0,"value":{"type":"STRING","data":""}} {"partition_id":0 "x"} {}"#,
    );
    let headers = [("content-type", "application/json; charset=utf-8")];
    let answer = http.send("POST", &path, &headers, body.as_bytes()).unwrap();
    assert_eq!(answer.status, 200, "{answer}");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let text = answer.text();
    let lines: Vec<Value> =
        text.split_terminator("\r\n").map(|line| serde_json::from_str(line).unwrap()).collect();
    let codes: Vec<_> = lines.iter().map(|line| line["error_code"].as_u64().unwrap()).collect();
    assert_eq!(codes, [200, 200, 40402, 400, 422, 200, 400], "{text}");
    assert_eq!(lines[0]["timestamp"], "2021-02-05T19:14:42Z");
    assert_eq!(lines[0]["key"], json!({"type": "BINARY", "size": 3}));
    assert!(lines[4]["message"].as_str().unwrap().contains("42207"), "{text}");
    assert!(lines[6]["message"].as_str().unwrap().starts_with("invalid JSON"), "{text}");
    let records = read(&mut Http::connect(server.http), "mixed", 0);
    assert_eq!(records.len(), 3);
    assert_eq!((&records[0]["key"], &records[0]["value"]), (&json!("Zm9v"), &json!("MA==")));
    let expected = json!([{"key": "h1", "value": "aGVsbG8="}, {"key": "h2", "value": null}]);
    assert_eq!(records[0]["headers"], expected);
    assert_eq!(records[0]["timestamp"], 1_612_552_482_000_u64);
    assert_eq!((&records[1]["value"], &records[2]["value"]), (&Value::Null, &json!("")));
}

#[test]
fn a_stream_that_cannot_begin_is_an_error_of_the_request() {
    let dir = tempfile::tempdir().unwrap();
    let server = Serve::on(dir.path()).start();
    let mut http = Http::connect(server.http);
    let path = records_path(&mut http, "orders");
    let json = [("content-type", "application/json")];
    let mut code = |path: &str, headers: &[(&str, &str)], body: &[u8]| {
        let answer = http.send("POST", path, headers, body).unwrap();
        (answer.status, answer.json()["error_code"].as_u64().unwrap())
    };
    assert_eq!(code(&path, &json, b"{}"), (404, 40401));
    let elsewhere = "/v3/clusters/elsewhere/topics/orders/records";
    assert_eq!(code(elsewhere, &json, b"{}"), (404, 404));
    assert_eq!(code(&path, &[("content-type", "text/plain")], b"{}"), (415, 415));
    assert_eq!(code(&format!("{path}?acks=2"), &json, b"{}"), (400, 400));
    let created = http.post("/admin/topics", &json!({"topic_name": "orders"}));
    assert_eq!(created.status, 201, "{created}");
    let code = |body: &[u8]| {
        let answer = Http::connect(server.http).send("POST", &path, &json, body).unwrap();
        (answer.status, answer.json()["error_code"].as_u64().unwrap())
    };
    assert_eq!(code(b" \r\n"), (422, 42206));
    assert_eq!(code(b""), (422, 42206));
    // From the first byte of a record on, errors are answers of the stream.
    assert_eq!(code(b"[{}]"), (200, 400));
    assert_eq!(code(b"{\"value\":"), (200, 400));
}

#[test]
fn a_client_that_reads_no_answers_is_not_read_from() {
    const RECORDS: usize = 500_000;
    let dir = tempfile::tempdir().unwrap();
    let server = server(dir.path());
    let path = records_path(&mut Http::connect(server.http), "slow") + "?acks=1";
    let mut upload = Upload::open(server.http, &path);
    let record = format!("{{\"value\":{{\"type\":\"STRING\",\"data\":\"{}\"}}}}\n", "x".repeat(80));
    let chunk = record.repeat(100);
    let chunk = format!("{:x}\r\n{chunk}\r\n", chunk.len()).into_bytes();
    let total = chunk.len() * (RECORDS / 100);
    let mut sent = 0;
    let rest_of_chunk = |sent: usize| &chunk[sent % chunk.len()..];
    upload.stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    let stalled = loop {
        match upload.stream.write(rest_of_chunk(sent)) {
            Ok(written) => sent += written,
            Err(error) => break error.kind(),
        }
        assert!(sent < total, "the server took everything though nobody reads its answers");
    };
    assert!(matches!(stalled, io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut), "{stalled}");
    // Once the client reads, the rest goes through and nothing is missing.
    upload.stream.set_write_timeout(Some(PATIENCE)).unwrap();
    let mut writer = upload.stream.try_clone().unwrap();
    let whole = chunk.clone();
    let writing = std::thread::spawn(move || {
        while sent < total {
            sent += writer.write(&whole[sent % whole.len()..]).unwrap();
        }
        writer.write_all(b"0\r\n\r\n").unwrap();
    });
    let mut next = [0, 0];
    let mut answers = 0;
    while let Some(answer) = upload.answer() {
        let partition = answer["partition_id"].as_u64().unwrap() as usize;
        assert_eq!(answer["offset"], next[partition], "{answer}");
        next[partition] += 1;
        answers += 1;
    }
    writing.join().unwrap();
    assert_eq!(answers, RECORDS);
}

#[test]
fn a_batch_answers_successes_and_failures() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(dir.path());
    let mut http = Http::connect(server.http);
    let path = records_path(&mut http, "batched") + ":batch";
    let body = json!({"entries": [
        {"id": "a", "partition_id": 0, "value": {"type": "STRING", "data": "x"}},
        {"id": "b", "partition_id": 7},
        {"id": "c", "value": {"type": "BINARY", "data": "?"}},
        {"id": "d", "partition_id": 0, "valeu": 1},
        {"id": "e", "partition_id": 0, "key": {"type": "STRING", "data": "k"}},
    ]});
    let answer = http.post(&path, &body);
    assert_eq!(answer.status, 207, "{answer}");
    let answer = answer.json();
    let ids = |list: &Value, field: &str| -> Vec<Value> {
        list.as_array().unwrap().iter().map(|entry| entry[field].clone()).collect()
    };
    assert_eq!(ids(&answer["successes"], "id"), ["a", "e"]);
    assert_eq!(ids(&answer["successes"], "offset"), [0, 1]);
    assert_eq!(ids(&answer["failures"], "id"), ["b", "c", "d"]);
    assert_eq!(ids(&answer["failures"], "error_code"), [40402, 400, 400]);
    assert_eq!(answer["successes"][0].get("error_code"), None);
    let many: Vec<Value> = (0..1001).map(|at| json!({"id": at.to_string()})).collect();
    let refused = http.post(&path, &json!({"entries": many}));
    assert_eq!((refused.status, &refused.json()["error_code"]), (422, &json!(42208)), "{refused}");
    let most = http.post(&path, &json!({"entries": many[..1000]}));
    assert_eq!(most.json()["successes"].as_array().unwrap().len(), 1000);
}
