//! One WebSocket: reads its client's messages, and pulls its subscriptions in turn.
//!
//! One task does both. While it writes it does not read, and while a client is slow it pulls
//! nothing, so neither side can make it gather anything.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, close_code};
use axum::extract::{Path, RawQuery, State};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body::Body as _;
use http_body_util::BodyExt;
use tokio::time::{Instant, Interval, MissedTickBehavior, timeout};

use super::super::body::StreamBody;
use super::super::params::Params;
use super::super::wire::Wire;
use super::super::{Ask, Hub};
use super::request::{Action, Refusal, Request};
use crate::base::json;
use crate::engine::BoxFuture;
use crate::http::error::{ApiError, ApiResult};
use crate::http::state::AppState;
use crate::http::v2::produce;

/// Subscriptions of one connection.
const SUBSCRIPTIONS_MAX: usize = 64;

/// Produce requests of one connection that wait for their answers; while there are so many, nothing
/// is read.
const PRODUCES_MAX: usize = 8;

/// A client that does not take a message in this time is gone.
const WRITE_STALL_MAX: Duration = Duration::from_secs(30);

/// Time between pings of the protocol, whose answers show that the client is there.
const PING_INTERVAL: Duration = Duration::from_secs(20);

/// Silence after which a client is gone.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// One stream of a connection.
struct Subscription {
    id: String,
    body: StreamBody,
    /// The beginning of a message whose end was not pulled yet.
    rest: Vec<u8>,
}

/// One connection.
pub(super) struct Session {
    state: AppState,
    peer: Option<SocketAddr>,
    socket: WebSocket,
    /// In the order of their turns.
    subscriptions: VecDeque<Subscription>,
    /// Answers to produce requests, as they come.
    produces: FuturesUnordered<BoxFuture<Vec<u8>>>,
    stopping: Option<BoxFuture<()>>,
    pings: Interval,
    heard: Instant,
}

/// What a session goes on with.
enum Next {
    /// The client sent something, or is gone.
    Received(Option<Result<Message, axum::Error>>),
    /// An answer is ready.
    Answer(Vec<u8>),
    /// A subscription has bytes, or is over.
    Pulled(usize, Option<Bytes>),
    /// It is time to ping.
    Ping,
    /// The server stops.
    Stopping,
}

/// Why a session is over.
enum Over {
    /// The client is gone: there is nobody to tell.
    Gone,
    /// The connection is closed with a code and a reason.
    Close(u16, String),
}

type Step = Result<(), Over>;

impl Session {
    pub(super) fn new(state: AppState, peer: Option<SocketAddr>, socket: WebSocket) -> Self {
        let shutdown = state.shutdown.clone();
        let mut pings = tokio::time::interval_at(Instant::now() + PING_INTERVAL, PING_INTERVAL);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            state,
            peer,
            socket,
            subscriptions: VecDeque::new(),
            produces: FuturesUnordered::new(),
            stopping: Some(Box::pin(async move { shutdown.stopping().await })),
            pings,
            heard: Instant::now(),
        }
    }

    /// Serves the client until one of both ends it.
    pub(super) async fn run(mut self) {
        let over = loop {
            let next = std::future::poll_fn(|context| self.poll_next(context)).await;
            let stepped = match next {
                Next::Received(message) => self.received(message).await,
                Next::Answer(answer) => self.send(answer).await,
                Next::Pulled(at, piece) => self.pulled(at, piece).await,
                Next::Ping => self.ping().await,
                Next::Stopping => Ok(()),
            };
            if let Err(over) = stepped {
                break over;
            }
            // Subscriptions end by themselves when the server stops, spread over a moment.
            let is_idle = self.subscriptions.is_empty() && self.produces.is_empty();
            if self.stopping.is_none() && is_idle {
                break Over::Close(close_code::AWAY, "server is stopping".to_owned());
            }
        };
        if let Over::Close(code, reason) = over {
            tracing::debug!(code, reason, "websocket closed");
            let frame = CloseFrame { code, reason: Utf8Bytes::from(reason) };
            let closing = self.socket.send(Message::Close(Some(frame)));
            // Whoever does not take the reason has to do without it.
            let _told = timeout(WRITE_STALL_MAX, closing).await;
        }
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Next> {
        if let Some(stopping) = &mut self.stopping
            && stopping.as_mut().poll(context).is_ready()
        {
            self.stopping = None;
            return Poll::Ready(Next::Stopping);
        }
        if let Poll::Ready(Some(answer)) = self.produces.poll_next_unpin(context) {
            return Poll::Ready(Next::Answer(answer));
        }
        if self.produces.len() < PRODUCES_MAX
            && let Poll::Ready(message) = self.socket.poll_next_unpin(context)
        {
            return Poll::Ready(Next::Received(message));
        }
        for (at, subscription) in self.subscriptions.iter_mut().enumerate() {
            if let Poll::Ready(frame) = Pin::new(&mut subscription.body).poll_frame(context) {
                let piece = frame.map(|Ok(frame)| frame.into_data().unwrap_or_default());
                return Poll::Ready(Next::Pulled(at, piece));
            }
        }
        self.pings.poll_tick(context).map(|_| Next::Ping)
    }

    async fn ping(&mut self) -> Step {
        if self.heard.elapsed() > SILENCE_MAX {
            return Err(Over::Gone);
        }
        self.write(Message::Ping(Bytes::new())).await
    }

    /// Sends the messages that are whole; puts the subscription behind all others.
    async fn pulled(&mut self, at: usize, piece: Option<Bytes>) -> Step {
        let Some(mut subscription) = self.subscriptions.remove(at) else { return Ok(()) };
        let Some(piece) = piece else {
            return self.send(control("unsubscribed", Some(&subscription.id))).await;
        };
        let mut piece: &[u8] = &piece;
        while let Some(end) = memchr::memchr(b'\n', piece) {
            let (line, after) = piece.split_at(end);
            let mut message = std::mem::take(&mut subscription.rest);
            message.extend_from_slice(line);
            self.send(message).await?;
            piece = after.get(1..).unwrap_or_default();
        }
        subscription.rest.extend_from_slice(piece);
        self.subscriptions.push_back(subscription);
        Ok(())
    }

    async fn received(&mut self, message: Option<Result<Message, axum::Error>>) -> Step {
        self.heard = Instant::now();
        match message {
            None | Some(Ok(Message::Close(_))) => Err(Over::Gone),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => Ok(()),
            Some(Ok(Message::Binary(_))) => {
                let reason = "binary messages are not understood".to_owned();
                Err(Over::Close(close_code::UNSUPPORTED, reason))
            }
            Some(Ok(Message::Text(text))) => self.handle(&text).await,
            Some(Err(error)) => Err(failed(&error)),
        }
    }

    async fn handle(&mut self, text: &str) -> Step {
        let request = match Request::parse(text) {
            Ok(request) => request,
            Err(Refusal::Error(id, error)) => return self.refuse(id.as_deref(), &error).await,
            Err(Refusal::NotJson(detail)) => {
                let reason = format!("not a JSON object: {detail}");
                return Err(Over::Close(close_code::INVALID, reason.chars().take(100).collect()));
            }
        };
        let id = request.id;
        match request.action {
            Action::Ping => self.send(control("pong", id.as_deref())).await,
            Action::Subscribe { id, parameters, credit } => {
                match self.subscribe(&id, &parameters, credit).await {
                    Ok(Some(subscription)) => {
                        self.subscriptions.push_back(subscription);
                        Ok(())
                    }
                    // The cursor is of a stream that came to its end.
                    Ok(None) => self.send(control("unsubscribed", Some(&id))).await,
                    Err(error) => self.refuse(Some(&id), &error).await,
                }
            }
            Action::Unsubscribe { id } => match self.find(&id) {
                Ok(at) => {
                    self.subscriptions.remove(at);
                    self.send(control("unsubscribed", Some(&id))).await
                }
                Err(error) => self.refuse(Some(&id), &error).await,
            },
            Action::Credit { id, records } => match self.find(&id) {
                Ok(at) => {
                    if let Some(subscription) = self.subscriptions.get_mut(at) {
                        subscription.body.grant(records);
                    }
                    Ok(())
                }
                Err(error) => self.refuse(Some(&id), &error).await,
            },
            Action::Ack { id } => {
                let refusal = self.find(&id).err().unwrap_or_else(|| {
                    let message = format!("subscription '{id}' is not of a group: nothing to ack");
                    ApiError::status(StatusCode::CONFLICT, message)
                });
                self.refuse(Some(&id), &refusal).await
            }
            Action::Produce { topic, acks, format, body } => {
                let state = self.state.clone();
                self.produces.push(Box::pin(async move {
                    let produced = produced(state, topic, acks, format, body).await;
                    produced.map_or_else(
                        |error| refusal(id.as_deref(), &error),
                        |answer| with_data("produced", id.as_deref(), &answer),
                    )
                }));
                Ok(())
            }
        }
    }

    fn find(&self, id: &str) -> ApiResult<usize> {
        self.subscriptions.iter().position(|subscription| subscription.id == id).ok_or_else(|| {
            ApiError::status(StatusCode::NOT_FOUND, format!("there is no subscription '{id}'"))
        })
    }

    /// Opens a stream; none if it came to its end before.
    async fn subscribe(
        &mut self,
        id: &str,
        parameters: &[u8],
        credit: u64,
    ) -> ApiResult<Option<Subscription>> {
        if self.find(id).is_ok() {
            let message = format!("there is a subscription '{id}' already");
            return Err(ApiError::status(StatusCode::CONFLICT, message));
        }
        if self.subscriptions.len() >= SUBSCRIPTIONS_MAX {
            let message = format!("a connection has at most {SUBSCRIPTIONS_MAX} subscriptions");
            return Err(ApiError::status(StatusCode::TOO_MANY_REQUESTS, message));
        }
        if self.stopping.is_none() {
            let message = "server is stopping";
            return Err(ApiError::status(StatusCode::SERVICE_UNAVAILABLE, message));
        }
        let headers = HeaderMap::new();
        let params = Params::parse(None, Some(parameters), &headers)?;
        let body = Some(parameters);
        let ask = Ask { topic: None, query: None, body, headers: &headers, client: self.peer };
        let hub: &std::sync::Arc<Hub> = &self.state.streams.0;
        let opened = hub.open(&ask, params, Wire::messages(id)).await?;
        Ok(opened.map(|opened| {
            let mut body = opened.body;
            body.grant(credit);
            Subscription { id: id.to_owned(), body, rest: Vec::new() }
        }))
    }

    async fn refuse(&mut self, id: Option<&str>, error: &ApiError) -> Step {
        self.send(refusal(id, error)).await
    }

    async fn send(&mut self, text: Vec<u8>) -> Step {
        // Everything that is written here is JSON.
        let text = Utf8Bytes::try_from(Bytes::from(text)).map_err(|_| Over::Gone)?;
        self.write(Message::Text(text)).await
    }

    async fn write(&mut self, message: Message) -> Step {
        match timeout(WRITE_STALL_MAX, self.socket.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Over::Gone),
        }
    }
}

/// Produces as `POST /topics/{topic}` does, and returns its answer.
async fn produced(
    state: AppState,
    topic: String,
    acks: Option<String>,
    format: &'static str,
    body: Vec<u8>,
) -> ApiResult<Bytes> {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(format));
    let acks = acks.filter(|acks| acks.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'));
    let query = acks.map(|acks| format!("acks={acks}"));
    let (state, topic, query) = (State(state), Path(topic), RawQuery(query));
    let answer = produce::to_topic(state, topic, query, headers, Body::from(body)).await?;
    let collected = answer.into_body().collect().await;
    Ok(collected.map(http_body_util::Collected::to_bytes).unwrap_or_default())
}

fn failed(error: &axum::Error) -> Over {
    let text = error.to_string();
    // The library's errors have no public kinds; what is too long says so.
    if text.contains("too long") || text.contains("too large") || text.contains("too big") {
        let reason = format!("a message has at most {} bytes", super::MESSAGE_BYTES_MAX);
        return Over::Close(close_code::SIZE, reason);
    }
    if text.contains("UTF-8") {
        return Over::Close(close_code::INVALID, "text is not UTF-8".to_owned());
    }
    tracing::debug!(error = text, "websocket ended early");
    Over::Gone
}

fn begin(kind: &str, id: Option<&str>) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(kind.as_bytes());
    out.push(b'"');
    if let Some(id) = id {
        out.extend_from_slice(b",\"id\":");
        json::string_into(id, &mut out);
    }
    out
}

fn control(kind: &str, id: Option<&str>) -> Vec<u8> {
    let mut out = begin(kind, id);
    out.push(b'}');
    out
}

fn with_data(kind: &str, id: Option<&str>, data: &[u8]) -> Vec<u8> {
    let mut out = begin(kind, id);
    out.extend_from_slice(b",\"data\":");
    out.extend_from_slice(data);
    out.push(b'}');
    out
}

fn refusal(id: Option<&str>, error: &ApiError) -> Vec<u8> {
    let mut out = begin("error", id);
    out.extend_from_slice(b",\"error_code\":");
    json::integer_into(error.code, &mut out);
    out.extend_from_slice(b",\"message\":");
    json::string_into(&error.message, &mut out);
    out.push(b'}');
    out
}
