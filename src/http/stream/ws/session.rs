//! One WebSocket: reads its client's messages, and pulls its subscriptions in turn.
//!
//! One task does both. While it writes it does not read, and while a client is slow it pulls
//! nothing, so neither side can make it gather anything.

use std::net::SocketAddr;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, close_code};
use bytes::Bytes;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, SinkExt, StreamExt};
use http::StatusCode;
use tokio::time::{Instant, Interval, MissedTickBehavior, timeout};

use super::request::{Action, Goodbye, Refusal, Request};
use super::subscriptions::{Pulled, Removed, Subscriptions};
use super::wish::Wish;
use super::{message, work};
use crate::base::shutdown::Stopping;
use crate::engine::BoxFuture;
use crate::http::error::{ApiError, ApiResult};
use crate::http::state::AppState;

/// Requests of one connection that wait for their answers; while there are so many, nothing is
/// read.
const REQUESTS_MAX: usize = 8;

/// A client that does not take a message in this time is gone.
const WRITE_STALL_MAX: Duration = Duration::from_secs(30);

/// Time between pings of the protocol, whose answers show that the client is there.
const PING_INTERVAL: Duration = Duration::from_secs(20);

/// Silence after which a client is gone.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// One connection.
pub(super) struct Session {
    state: AppState,
    peer: Option<SocketAddr>,
    socket: WebSocket,
    subscriptions: Subscriptions,
    /// Answers to requests that take time, as they come.
    answers: FuturesUnordered<BoxFuture<Vec<u8>>>,
    stopping: Option<Stopping>,
    pings: Interval,
    heard: Instant,
}

/// What a session goes on with.
enum Next {
    /// The client sent something, or is gone.
    Received(Option<Result<Message, axum::Error>>),
    /// An answer is ready.
    Answer(Vec<u8>),
    /// A subscription has messages, or is over.
    Pulled(Pulled),
    /// It is time to ping.
    Ping,
    /// The server stops.
    Stopping,
}

/// Why a session is over.
enum Over {
    /// The client is gone: there is nobody to tell.
    Gone,
    /// The client closed the connection; its code is still to be sent back.
    Closed,
    /// The connection is closed with a code and a reason.
    Close(u16, String),
}

type Step = Result<(), Over>;

impl Session {
    pub(super) fn new(state: AppState, peer: Option<SocketAddr>, socket: WebSocket) -> Self {
        let mut pings = tokio::time::interval_at(Instant::now() + PING_INTERVAL, PING_INTERVAL);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            stopping: Some(state.shutdown.stopping()),
            state,
            peer,
            socket,
            subscriptions: Subscriptions::default(),
            answers: FuturesUnordered::new(),
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
                Next::Pulled(pulled) => self.pulled(pulled).await,
                Next::Ping => self.ping().await,
                Next::Stopping => Ok(()),
            };
            if let Err(over) = stepped {
                break over;
            }
            // Subscriptions end by themselves when the server stops, spread over a moment.
            let is_idle = self.subscriptions.is_empty() && self.answers.is_empty();
            if self.stopping.is_none() && is_idle {
                break Over::Close(close_code::AWAY, "server is stopping".to_owned());
            }
        };
        self.close(over).await;
    }

    async fn close(mut self, over: Over) {
        // Whoever does not take the last frame has to do without it.
        let _told = match over {
            Over::Gone => return,
            // The answer was queued when the client's frame was read.
            Over::Closed => timeout(WRITE_STALL_MAX, self.socket.flush()).await,
            Over::Close(code, reason) => {
                tracing::debug!(code, reason, "websocket closed");
                let frame = CloseFrame { code, reason: Utf8Bytes::from(reason) };
                let closing = self.socket.send(Message::Close(Some(frame)));
                timeout(WRITE_STALL_MAX, closing).await
            }
        };
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Next> {
        if let Some(stopping) = &mut self.stopping
            && stopping.poll_unpin(context).is_ready()
        {
            self.stopping = None;
            return Poll::Ready(Next::Stopping);
        }
        if let Poll::Ready(Some(answer)) = self.answers.poll_next_unpin(context) {
            return Poll::Ready(Next::Answer(answer));
        }
        if self.answers.len() < REQUESTS_MAX
            && let Poll::Ready(message) = self.socket.poll_next_unpin(context)
        {
            return Poll::Ready(Next::Received(message));
        }
        if let Poll::Ready(pulled) = self.subscriptions.poll(context) {
            return Poll::Ready(Next::Pulled(pulled));
        }
        self.pings.poll_tick(context).map(|_| Next::Ping)
    }

    async fn ping(&mut self) -> Step {
        if self.heard.elapsed() > SILENCE_MAX {
            return Err(Over::Gone);
        }
        self.write(Message::Ping(Bytes::new())).await
    }

    async fn pulled(&mut self, pulled: Pulled) -> Step {
        match pulled {
            Pulled::Over(id) => self.send(message::control("unsubscribed", Some(&id))).await,
            Pulled::Messages(messages) => {
                for message in messages {
                    self.send(message).await?;
                }
                Ok(())
            }
        }
    }

    async fn received(&mut self, message: Option<Result<Message, axum::Error>>) -> Step {
        self.heard = Instant::now();
        match message {
            None => Err(Over::Gone),
            Some(Ok(Message::Close(_))) => Err(Over::Closed),
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
            Action::Ping => self.send(message::control("pong", id.as_deref())).await,
            Action::Subscribe { id, wish } => match self.subscribe(&id, &wish).await {
                Ok(true) => Ok(()),
                // The cursor is of a stream that came to its end.
                Ok(false) => self.send(message::control("unsubscribed", Some(&id))).await,
                Err(error) => self.refuse(Some(&id), &error).await,
            },
            Action::Unsubscribe { id, goodbye } => self.unsubscribe(&id, goodbye).await,
            Action::Credit { id, records } => match self.subscriptions.grant(&id, records) {
                Ok(()) => Ok(()),
                Err(error) => self.refuse(Some(&id), &error).await,
            },
            Action::Ack { id, acks } => match self.subscriptions.connection(&id) {
                Ok(connection) => {
                    let (engine, connection) = (self.state.engine.clone(), connection.clone());
                    self.answers.push(work::acknowledge(engine, connection, id, acks));
                    Ok(())
                }
                Err(error) => self.refuse(Some(&id), &error).await,
            },
            Action::Produce(records) => {
                self.answers.push(work::produce(self.state.clone(), id, records));
                Ok(())
            }
        }
    }

    /// Opens a subscription; tells whether it did not come to its end before.
    async fn subscribe(&mut self, id: &str, wish: &Wish) -> ApiResult<bool> {
        if self.stopping.is_none() {
            let message = "server is stopping";
            return Err(ApiError::status(StatusCode::SERVICE_UNAVAILABLE, message));
        }
        self.subscriptions.open(&self.state, self.peer, id, wish).await
    }

    async fn unsubscribe(&mut self, id: &str, goodbye: Goodbye) -> Step {
        if self.subscriptions.connection(id).is_ok() {
            // What was acknowledged before is done by the member that is about to leave.
            while let Some(answer) = self.answers.next().await {
                self.send(answer).await?;
            }
        }
        let left = match (self.subscriptions.remove(id), goodbye) {
            (Ok(Removed::Member(connection)), Goodbye::Leave) => {
                connection.leave().await.map(|_| ()).map_err(ApiError::from)
            }
            (removed, _) => removed.map(|_| ()),
        };
        match left {
            Ok(()) => self.send(message::control("unsubscribed", Some(id))).await,
            Err(error) => self.refuse(Some(id), &error).await,
        }
    }

    async fn refuse(&mut self, id: Option<&str>, error: &ApiError) -> Step {
        self.send(message::refusal(id, error)).await
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
