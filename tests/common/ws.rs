//! A client of `/ws` that is not ours.

use std::net::{SocketAddr, TcpStream};

use serde_json::{Value, json};
use tungstenite::client::IntoClientRequest;
use tungstenite::handshake::client::Response;
use tungstenite::{HandshakeError, Message, WebSocket};

use super::{PATIENCE, Server, now};

/// A connection.
pub(crate) struct Client(pub(crate) WebSocket<TcpStream>);

impl Client {
    pub(crate) fn connect(server: &Server) -> Self {
        Self::at(server.http)
    }

    pub(crate) fn at(address: SocketAddr) -> Self {
        let protocol = ("sec-websocket-protocol", "hydrant.v1+json");
        Self::open(address, &[protocol]).unwrap().0
    }

    pub(crate) fn with(
        server: &Server,
        headers: &[(&'static str, &str)],
    ) -> Result<(Self, Response), u16> {
        Self::open(server.http, headers)
    }

    fn open(
        address: SocketAddr,
        headers: &[(&'static str, &str)],
    ) -> Result<(Self, Response), u16> {
        let mut request = format!("ws://{address}/ws").into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        let socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        match tungstenite::client(request, socket) {
            Ok((socket, response)) => Ok((Self(socket), response)),
            Err(HandshakeError::Failure(tungstenite::Error::Http(response))) => {
                Err(response.status().as_u16())
            }
            Err(error) => panic!("{error}"),
        }
    }

    pub(crate) fn send(&mut self, message: &Value) {
        self.0.send(Message::text(message.to_string())).unwrap();
    }

    pub(crate) fn next(&mut self) -> Value {
        loop {
            match self.0.read().unwrap() {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// The next message of a type, past others.
    pub(crate) fn until(&mut self, kind: &str) -> Value {
        let deadline = now() + PATIENCE;
        loop {
            let message = self.next();
            if message["type"] == kind {
                return message;
            }
            // A live stream goes on for ever with its pings.
            assert!(now() < deadline, "no {kind} in time, but {message}");
        }
    }

    /// Reads so many records of a subscription, each message within the credit.
    pub(crate) fn records(&mut self, id: &str, count: usize) -> Vec<i64> {
        let mut found = Vec::new();
        while found.len() < count {
            let message = self.until("records");
            assert_eq!(message["id"], id);
            let records = message["records"].as_array().unwrap();
            found.extend(records.iter().map(|record| record["offset"].as_i64().unwrap()));
        }
        found
    }

    pub(crate) fn close_frame(&mut self) -> (u16, String) {
        loop {
            match self.0.read() {
                Ok(Message::Close(Some(frame))) => {
                    return (frame.code.into(), frame.reason.to_string());
                }
                Ok(_) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Asks and reads on until the answer to it comes, past messages of streams.
    pub(crate) fn ask(&mut self, message: &Value, answer: &str) -> Value {
        self.send(message);
        loop {
            let answered = self.next();
            match answered["type"].as_str().unwrap() {
                kind if kind == answer => return answered,
                "error" => panic!("{message}: {answered}"),
                _ => {}
            }
        }
    }

    /// Shows that nothing comes by itself.
    ///
    /// A message goes before records, but between two answers there is time for all that is ready.
    pub(crate) fn expect_silence(&mut self) {
        for _ in 0..2 {
            self.send(&json!({"type": "ping", "id": "silence"}));
            assert_eq!(self.next(), json!({"type": "pong", "id": "silence"}));
        }
    }
}
