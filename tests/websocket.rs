//! WebSockets from outside, by a client that is not ours.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use common::ws::Client;
use common::{Http, Serve, Server, eventually};
use serde_json::json;
use tungstenite::Message;
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;

fn fill(server: &Server, topic: &str, count: usize) {
    server.create_topic(topic, 1, &[]);
    let values: Vec<_> = (0..count).map(|n| n.to_string()).collect();
    let values: Vec<_> = values.iter().map(String::as_str).collect();
    server.produce(topic, 0, &values);
}

#[test]
fn records_flow_as_far_as_credit_goes() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::on(dir.path());
    fill(&server, "t", 25);
    let mut client = Client::connect(&server);
    client.send(&json!({
        "type": "subscribe", "id": "a", "topic": "t", "from": "earliest", "credit": 10,
    }));
    assert_eq!(client.next()["type"], "ready");
    assert_eq!(client.records("a", 10), (0..10).collect::<Vec<_>>());
    // Nothing more comes until it is granted: the pong is next.
    client.send(&json!({"type": "ping", "id": "p"}));
    assert_eq!(client.next(), json!({"type": "pong", "id": "p"}));
    client.send(&json!({"type": "credit", "id": "a", "records": 3}));
    assert_eq!(client.records("a", 3), [10, 11, 12]);
    client.send(&json!({"type": "credit", "id": "a", "records": 100}));
    let message = client.until("records");
    let cursor = message["cursor"].as_str().unwrap().to_owned();
    assert_eq!(message["records"].as_array().unwrap().len(), 12);
    server.produce("t", 0, &["25"]);
    assert_eq!(client.records("a", 1), [25]);
    client.send(&json!({"type": "unsubscribe", "id": "a"}));
    assert_eq!(client.until("unsubscribed")["id"], "a");
    // The cursor of a message continues behind it, on any connection.
    let mut other = Client::connect(&server);
    other.send(&json!({"type": "subscribe", "id": "b", "topics": ["t"], "cursor": cursor}));
    assert_eq!(other.next()["data"]["resume"], "exact");
    assert_eq!(other.records("b", 1), [25]);
}

#[test]
fn several_subscriptions_share_a_connection() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::on(dir.path());
    fill(&server, "t", 4);
    fill(&server, "u", 4);
    let mut client = Client::connect(&server);
    for (id, topic, filter) in [("a", "t", "int(value) > 1"), ("b", "u", "int(value) < 2")] {
        client.send(&json!({
            "type": "subscribe", "id": id, "topic": topic, "from": "earliest", "until": "end",
            "filter": filter,
        }));
    }
    let (mut seen, mut over) = (Vec::new(), 0);
    while over < 2 {
        let message = client.next();
        let id = message["id"].as_str().unwrap().to_owned();
        match message["type"].as_str().unwrap() {
            "records" => {
                for record in message["records"].as_array().unwrap() {
                    seen.push((id.clone(), record["offset"].as_i64().unwrap()));
                }
            }
            "unsubscribed" => over += 1,
            "ready" | "end" | "caught-up" => {}
            other => panic!("{other}"),
        }
    }
    seen.sort();
    let expected = [("a", 2), ("a", 3), ("b", 0), ("b", 1)];
    assert_eq!(seen, expected.map(|(id, value)| (id.to_owned(), value)));
}

#[test]
fn producing_is_answered() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::on(dir.path());
    server.create_topic("t", 1, &[]);
    let mut client = Client::connect(&server);
    client.send(&json!({"type": "subscribe", "id": "a", "topic": "t"}));
    client.until("ready");
    client.send(&json!({
        "type": "produce", "id": "p", "topic": "t",
        "records": [{"key": "k", "value": {"n": 1}}, {"value": null}],
    }));
    let (mut produced, mut records) = (None, Vec::new());
    while produced.is_none() || records.len() < 2 {
        let message = client.next();
        match message["type"].as_str().unwrap() {
            "produced" => produced = Some(message),
            "records" => records.extend(message["records"].as_array().unwrap().clone()),
            _ => {}
        }
    }
    let produced = produced.unwrap();
    assert_eq!(
        (&produced["id"], &produced["data"]["offsets"][1]["offset"]),
        (&json!("p"), &json!(1))
    );
    assert_eq!((&records[0]["value"], &records[1]["tombstone"]), (&json!({"n": 1}), &json!(true)));
    client.send(&json!({"type": "produce", "id": "q", "topic": "nope", "records": [{"value": 1}]}));
    let refused = client.until("error");
    assert_eq!((&refused["id"], &refused["error_code"]), (&json!("q"), &json!(40401)));
}

#[test]
fn refusals_keep_the_connection() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::on(dir.path());
    server.create_topic("t", 1, &[]);
    let mut client = Client::connect(&server);
    for (message, code) in [
        (json!({"type": "subscribe", "id": "a", "topic": "nope"}), 40401),
        (json!({"type": "subscribe", "id": "a", "topic": "t", "filter": "value."}), 400),
        (json!({"type": "subscribe", "id": "a"}), 400),
        (json!({"type": "subscribe", "topic": "t"}), 400),
        (json!({"type": "credit", "id": "a", "records": 1}), 404),
        (json!({"type": "unsubscribe", "id": "a"}), 404),
        (json!({"type": "sing"}), 400),
    ] {
        client.send(&message);
        let refused = client.next();
        assert_eq!((&refused["type"], &refused["error_code"]), (&json!("error"), &json!(code)));
    }
    client.send(&json!({"type": "subscribe", "id": "a", "topic": "t"}));
    client.until("ready");
    client.send(&json!({"type": "subscribe", "id": "a", "topic": "t"}));
    assert_eq!(client.until("error")["error_code"], 409);
    client.send(&json!({"type": "ack", "id": "a", "cursor": "x"}));
    assert!(client.until("error")["message"].as_str().unwrap().contains("nothing to ack"));
    for n in 1..=64 {
        client.send(&json!({"type": "subscribe", "id": n.to_string(), "topic": "t"}));
    }
    // Streams of one address are bounded as well; either bound is a refusal and nothing more.
    assert_eq!(client.until("error")["error_code"], 429);
    client.send(&json!({"type": "ping"}));
    client.until("pong");
}

#[test]
fn what_is_not_the_protocol_is_closed_with_a_reason() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::on(dir.path());
    let closed = |message: Message| {
        let mut client = Client::connect(&server);
        client.0.send(message).unwrap();
        client.close_frame()
    };
    let (code, reason) = closed(Message::text("hello"));
    assert_eq!(code, u16::from(CloseCode::Invalid));
    assert!(reason.contains("not a JSON object"), "{reason}");
    assert_eq!(closed(Message::binary(vec![1])).0, u16::from(CloseCode::Unsupported));
    let (code, reason) = closed(Message::text("x".repeat(1024 * 1024 + 1)));
    assert_eq!(code, u16::from(CloseCode::Size), "{reason}");
}

#[test]
fn a_client_that_closes_is_answered() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::on(dir.path());
    server.create_topic("t", 1, &[]);
    for code in [CloseCode::Normal, CloseCode::Library(4321)] {
        let mut client = Client::connect(&server);
        client.send(&json!({"type": "subscribe", "id": "a", "topic": "t"}));
        client.until("caught-up");
        client.0.close(Some(CloseFrame { code, reason: "done".into() })).unwrap();
        assert_eq!(client.close_frame(), (code.into(), "done".to_owned()));
        let ended = client.0.read();
        assert!(matches!(ended, Err(tungstenite::Error::ConnectionClosed)), "{ended:?}");
    }
}

#[test]
fn the_handshake_checks_protocol_and_origin() {
    let dir = tempfile::tempdir().unwrap();
    let server = Serve::on(dir.path()).arg("--cors-origins", "https://shop.example").start();
    let with = |headers: &[(&'static str, &str)]| {
        Client::with(&server, headers).map(|(_, response)| {
            let protocol = response.headers().get("sec-websocket-protocol");
            protocol.map(|p| p.to_str().unwrap().to_owned())
        })
    };
    assert_eq!(with(&[]), Ok(None));
    let protocol = ("sec-websocket-protocol", "other, hydrant.v1+json");
    assert_eq!(with(&[protocol]), Ok(Some("hydrant.v1+json".to_owned())));
    assert_eq!(with(&[("sec-websocket-protocol", "other")]), Err(400));
    assert_eq!(with(&[("origin", "https://evil.example")]), Err(403));
    assert_eq!(with(&[("origin", "https://shop.example")]), Ok(None));
    assert_eq!(with(&[("origin", &format!("http://{}", server.http))]), Ok(None));
    assert_eq!(server.http().get("/ws").status, 400);
}

#[test]
fn websockets_are_connections() {
    let dir = tempfile::tempdir().unwrap();
    let server = Serve::on(dir.path()).arg("--http-connections-per-client", "3").start();
    let mut client = Client::connect(&server);
    let _other = Client::connect(&server);
    let mut http = server.http();
    let open = |http: &mut Http| {
        let metrics = http.get("/metrics").text();
        let line = metrics.lines().find_map(|line| line.strip_prefix("hydrant_http_connections "));
        line.map(str::to_owned)
    };
    assert_eq!(open(&mut http).as_deref(), Some("3"));
    let refused = Http::connect(server.http).answer().unwrap();
    assert_eq!(refused.status, 429, "{refused}");
    // Its place comes back with its end.
    client.0.close(None).unwrap();
    while client.0.read().is_ok() {}
    drop(client);
    eventually("a place", || (open(&mut http)? == "2").then_some(()));
    let mut next = Client::connect(&server);
    next.send(&json!({"type": "ping"}));
    next.until("pong");
}

#[test]
fn a_stopping_server_says_goodbye() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::on(dir.path());
    server.create_topic("t", 1, &[]);
    let mut client = Client::connect(&server);
    client.send(&json!({"type": "subscribe", "id": "a", "topic": "t"}));
    client.until("caught-up");
    server.process.signal(rustix::process::Signal::TERM);
    client.until("unsubscribed");
    let (code, reason) = client.close_frame();
    assert_eq!((code, reason.as_str()), (u16::from(CloseCode::Away), "server is stopping"));
}
