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

/// Posts with headers that may repeat.
fn plain(http: &mut Http, path: &str, headers: &[(&str, &str)], body: &[u8]) -> common::Answer {
    http.send("POST", path, headers, body).unwrap()
}

fn base64(text: &str) -> Value {
    use base64::Engine as _;
    json!(base64::engine::general_purpose::STANDARD.encode(text))
}

fn header(name: &str, value: &str) -> Value {
    json!({"key": name, "value": base64(value)})
}

#[test]
fn a_plain_body_is_the_record() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(dir.path());
    let mut http = Http::connect(server.http);
    let at = "/topics/plain/partitions/0/records";
    let first = plain(&mut http, at, &[], b"\x00\xff raw");
    assert_eq!(first.status, 201, "{first}");
    assert_eq!(first.header("location"), Some("/topics/plain/partitions/0/records/0"));
    assert_eq!(first.header("content-type"), Some("application/json"));
    let place = first.json();
    assert_eq!((&place["topic"], &place["offset"]), (&json!("plain"), &json!(0)));
    let headers = [
        ("content-type", "text/plain; charset=utf-8"),
        ("hydrant-key", ":AP8=:"),
        ("hydrant-header-B", "2"),
        ("hydrant-header", "Case=x=y"),
        ("hydrant-header-A", ":AAE=:"),
        ("hydrant-header", "null"),
    ];
    let second =
        plain(&mut http, &format!("{at}?timestamp=2021-02-05T19:14:42Z&acks=1"), &headers, b"hi");
    assert_eq!(second.json()["timestamp"], 1_612_552_482_000_u64, "{second}");
    let form = [("content-type", "application/x-www-form-urlencoded")];
    assert_eq!(plain(&mut http, at, &form, b"a=b").status, 201);
    assert_eq!(plain(&mut http, at, &[], b"").status, 201);
    assert_eq!(plain(&mut http, &format!("{at}?tombstone=true&key=k"), &[], b"").status, 201);
    let records = read(&mut http, "plain", 0);
    let values: Vec<_> = records.iter().map(|record| record["value"].clone()).collect();
    assert_eq!(values, [json!("AP8gcmF3"), base64("hi"), base64("a=b"), json!(""), Value::Null]);
    assert_eq!((&records[1]["key"], &records[4]["key"]), (&json!("AP8="), &base64("k")));
    let expected = json!([
        header("content-type", "text/plain; charset=utf-8"),
        header("b", "2"),
        header("Case", "x=y"),
        {"key": "null", "value": null},
        {"key": "a", "value": "AAE="},
    ]);
    assert_eq!(records[1]["headers"], expected);
    assert_eq!((records[0].get("headers"), records[2].get("headers")), (None, None));
}

#[test]
fn a_key_has_its_partition_in_every_way_to_produce() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(dir.path());
    let mut http = Http::connect(server.http);
    for key in ["a", "b", "c", "d"] {
        let posted =
            plain(&mut http, &format!("/topics/keyed/records?key={key}"), &[], b"1").json();
        let deleted = http.delete(&format!("/topics/keyed/records?key={key}"));
        assert_eq!(deleted.status, 200, "{deleted}");
        assert_eq!(deleted.json()["partition"], posted["partition"]);
        let record = json!({"records": [{"key": key, "value": null}]});
        let v2 = http.send(
            "POST",
            "/topics/keyed",
            &[("content-type", "application/vnd.kafka.text.v2+json")],
            record.to_string().as_bytes(),
        );
        assert_eq!(v2.unwrap().json()["offsets"][0]["partition"], posted["partition"]);
    }
    assert_eq!(http.delete("/topics/keyed/records").status, 400);
}

#[test]
fn lines_are_records_and_their_keys_lie_within() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(dir.path());
    let mut http = Http::connect(server.http);
    let lines = [("content-type", "application/x-ndjson")];
    let body = b"{\"id\": 1.50, \"v\":0}\r\n\n {\"id\":\"x\"}\nfalse\n";
    let answer =
        plain(&mut http, "/topics/lines/records?partition=1&key_pointer=/id", &lines, body);
    assert_eq!(answer.status, 200, "{answer}");
    assert_eq!(answer.json()["records"].as_array().unwrap().len(), 3);
    let records = read(&mut http, "lines", 1);
    let pairs: Vec<_> = records.iter().map(|r| (r["key"].clone(), r["value"].clone())).collect();
    let expected = [
        (base64("1.50"), base64("{\"id\": 1.50, \"v\":0}")),
        (base64("x"), base64("{\"id\":\"x\"}")),
        (Value::Null, base64("false")),
    ];
    assert_eq!(pairs, expected);
    // One bad line, and nothing is produced.
    let refused = plain(&mut http, "/topics/lines/records?partition=1", &lines, b"1\n\n{x}\n");
    assert_eq!((refused.status, refused.json()["error_code"].clone()), (400, json!(400)));
    assert!(refused.text().contains("line 3"), "{refused}");
    assert_eq!(read(&mut http, "lines", 1).len(), 3);
    assert_eq!(plain(&mut http, "/topics/lines/records", &lines, b"\n \n").status, 422);
    let nowhere = plain(&mut http, "/topics/lines/records?partition=9", &lines, b"1\n2\n");
    assert_eq!((nowhere.status, nowhere.json()["error_code"].clone()), (404, json!(40402)));
}

#[test]
fn cloud_events_are_stored_by_their_kafka_binding() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(dir.path());
    let mut http = Http::connect(server.http);
    let at = "/topics/events/records?partition=0";
    let binary = [
        ("content-type", "text/xml"),
        ("ce-specversion", "1.0"),
        ("ce-id", "1"),
        ("ce-source", "/shop%20a"),
        ("ce-type", "order"),
        ("ce-partitionkey", "k1"),
    ];
    let answer = plain(&mut http, at, &binary, b"<x/>");
    assert_eq!(answer.status, 201, "{answer}");
    for skipped in 1..5 {
        let mut headers = binary.to_vec();
        let (name, _) = headers.remove(skipped);
        let refused = plain(&mut http, at, &headers, b"<x/>");
        assert_eq!(refused.status, 400, "{refused}");
        assert!(refused.text().contains(name), "{refused}");
    }
    let event = |id: &str| json!({"specversion": "1.0", "id": id, "source": "s", "type": "t", "partitionkey": id, "data": {"a": 1}});
    let structured = [("content-type", "application/cloudevents+json; charset=UTF-8")];
    let text = event("2").to_string();
    assert_eq!(plain(&mut http, at, &structured, text.as_bytes()).status, 201);
    let batch = [("content-type", "application/cloudevents-batch+json")];
    let answer =
        plain(&mut http, at, &batch, json!([event("3"), event("4")]).to_string().as_bytes());
    assert_eq!(answer.json()["records"].as_array().unwrap().len(), 2, "{answer}");
    let broken = json!([event("5"), {"id": "6"}]).to_string();
    let refused = plain(&mut http, at, &batch, broken.as_bytes());
    assert!(
        refused.status == 400 && refused.text().contains("events[1]: specversion"),
        "{refused}"
    );
    let empty = plain(&mut http, at, &batch, b"[]");
    assert_eq!((empty.status, empty.json()), (200, json!({"records": []})));
    let records = read(&mut http, "events", 0);
    let keys: Vec<_> = records.iter().map(|record| record["key"].clone()).collect();
    assert_eq!(keys, [base64("k1"), base64("2"), base64("3"), base64("4")]);
    assert_eq!(records[0]["value"], base64("<x/>"));
    let first = records[0]["headers"].as_array().unwrap();
    for expected in [header("content-type", "text/xml"), header("ce_source", "/shop a")] {
        assert!(first.contains(&expected), "{first:?}");
    }
    assert_eq!(records[1]["value"], base64(&text));
    let json_event = json!([header("content-type", "application/cloudevents+json; charset=UTF-8")]);
    assert_eq!(records[1]["headers"], json_event);
    assert_eq!(
        records[3]["headers"],
        json!([header("content-type", "application/cloudevents+json")])
    );
}

#[test]
fn plain_errors_are_those_of_the_request() {
    let dir = tempfile::tempdir().unwrap();
    let server = Serve::on(dir.path()).start();
    let mut http = Http::connect(server.http);
    let mut code = |path: &str, headers: &[(&str, &str)], body: &[u8]| {
        let answer = plain(&mut http, path, headers, body);
        assert_eq!(answer.header("content-type"), Some("application/json"), "{answer}");
        (answer.status, answer.json()["error_code"].as_u64().unwrap())
    };
    assert_eq!(code("/topics/none/records", &[], b"x"), (404, 40401));
    assert_eq!(code("/topics/none/partitions/x/records", &[], b"x"), (404, 404));
    let created = Http::connect(server.http).post("/admin/topics", &json!({"topic_name": "t"}));
    assert_eq!(created.status, 201, "{created}");
    assert_eq!(code("/topics/t/partitions/99/records", &[], b"x"), (404, 40402));
    assert_eq!(code("/topics/t/records?keyy=a", &[], b"x"), (400, 400));
    assert_eq!(code("/topics/t/records?acks=9", &[], b"x"), (400, 400));
    assert_eq!(code("/topics/t/records?tombstone=true", &[], b"x"), (400, 400));
    assert_eq!(code("/topics/t/records", &[("hydrant-key", ":?:")], b"x"), (400, 400));
    assert_eq!(code("/topics/t/records", &[], &vec![b'x'; 2 << 20]), (413, 413));
}
