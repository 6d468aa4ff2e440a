//! A client of produce streams that sends and reads at the same time, over HTTP/2.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::Request;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::common::PATIENCE;

/// One connection; its driver is a task of the test's runtime.
#[allow(clippy::disallowed_methods, reason = "the connection lives as long as the test")]
pub(crate) async fn connect(address: SocketAddr, window: u32) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(window).initial_connection_window_size(1 << 30);
    let (client, connection) = builder.handshake(stream).await.unwrap();
    tokio::spawn(async move {
        // How the connection ends is what the streams tell.
        let _ended = connection.await;
    });
    client.ready().await.unwrap()
}

/// What ends within the patience of a test.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let ended = tokio::time::timeout(PATIENCE, future).await;
    ended.unwrap_or_else(|_| panic!("not in time: {what}"))
}

/// A produce stream.
pub(crate) struct Duplex {
    pub(crate) upload: SendStream<Bytes>,
    head: Option<ResponseFuture>,
    answers: Option<RecvStream>,
    rest: Vec<u8>,
}

impl Duplex {
    pub(crate) fn open(
        client: &mut SendRequest<Bytes>,
        address: SocketAddr,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Self {
        let mut request = Request::post(format!("http://{address}{path}"))
            .header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (head, upload) = client.send_request(request.body(()).unwrap(), false).unwrap();
        Self { upload, head: Some(head), answers: None, rest: Vec::new() }
    }

    /// Sends without regard for the window; what does not fit is kept.
    pub(crate) fn send(&mut self, data: impl Into<Bytes>) {
        self.upload.send_data(data.into(), false).unwrap();
    }

    pub(crate) fn end(&mut self) {
        self.upload.send_data(Bytes::new(), true).unwrap();
    }

    /// Sends as much of `data` as the server takes now, waiting for it once.
    pub(crate) async fn send_within(&mut self, data: &Bytes) -> usize {
        self.upload.reserve_capacity(data.len());
        let granted = std::future::poll_fn(|context| self.upload.poll_capacity(context)).await;
        let granted = granted.map_or(0, |granted| granted.unwrap_or(0)).min(data.len());
        if granted > 0 {
            self.upload.send_data(data.slice(..granted), false).unwrap();
        }
        granted
    }

    /// Waits for the status of the answer.
    pub(crate) async fn status(&mut self) -> u16 {
        let head = self.head.take().expect("asked once");
        let response = soon("the head of the answer", head).await.unwrap();
        let status = response.status().as_u16();
        self.answers = Some(response.into_body());
        status
    }

    /// The next result; none at the end of all results.
    pub(crate) async fn answer(&mut self) -> Option<Value> {
        if self.answers.is_none() {
            assert_eq!(self.status().await, 200);
        }
        loop {
            if let Some(at) = self.rest.windows(2).position(|two| two == b"\r\n") {
                let line: Vec<u8> = self.rest.drain(..at + 2).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let answers = self.answers.as_mut().unwrap();
            match soon("a result", answers.data()).await {
                Some(data) => {
                    let data = data.unwrap();
                    answers.flow_control().release_capacity(data.len()).unwrap();
                    self.rest.extend_from_slice(&data);
                }
                None => {
                    assert!(self.rest.is_empty(), "half a result");
                    return None;
                }
            }
        }
    }

    /// The code of the next result.
    pub(crate) async fn code(&mut self) -> Option<u64> {
        self.answer().await.map(|answer| answer["error_code"].as_u64().unwrap())
    }
}
