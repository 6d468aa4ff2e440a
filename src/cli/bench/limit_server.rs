//! The bare servers of `bench limit`: what axum costs when nothing is behind it.
//!
//! `echo` answers the body it is sent. `http` parses the body of a produce into [`serde_json::Value`] and answers a constant. `sse`
//! hands one encoded frame to every stream through a broadcast channel; it publishes by itself, or
//! what it is sent by `POST /topics/{topic}`.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Instant;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::ListenerExt;
use clap::{Args, ValueEnum};
use futures_util::stream;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::net::TcpListener;
use tokio::sync::broadcast::{self, error::RecvError};

use super::BenchResult;
use super::payload::event_value;
use super::sse_publish::Schedule;

/// Frames that a stream may lag behind before it loses some.
const BROADCAST_FRAMES: usize = 1024;

/// Text before the address on standard output, for the parent.
pub(super) const LISTENING: &str = "listening ";

/// A v2 produce answer.
const ANSWER: &str = concat!(
    r#"{"offsets":[{"partition":0,"offset":1,"error_code":null,"error":null}],"#,
    r#""key_schema_id":null,"value_schema_id":null}"#,
);

/// Which bare server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Bare {
    /// `POST /topics/{topic}`.
    Http,
    /// `POST /topics/{topic}/records`.
    Echo,
    /// `GET /topics/{topic}/stream`.
    Sse,
}

/// Arguments of `bench limit-server`.
#[derive(Debug, Args)]
pub(super) struct LimitServerArgs {
    /// Which bare server.
    #[arg(value_enum)]
    kind: Bare,
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
}

/// Serves until the process is ended.
pub(super) async fn run(args: &LimitServerArgs) -> BenchResult<()> {
    let router = match args.kind {
        Bare::Http => Router::new().route("/topics/{topic}", post(produce)),
        Bare::Echo => Router::new().route("/topics/{topic}/records", post(echo)),
        Bare::Sse => {
            let (frames, _) = broadcast::channel(BROADCAST_FRAMES);
            Router::new()
                .route("/topics/{topic}/stream", get(subscribe))
                .route("/bench/publish", post(publish))
                .route("/topics/{topic}", post(forward))
                .with_state(frames)
        }
    };
    let listener = TcpListener::bind(args.listen).await?;
    println!("{LISTENING}http://{}", listener.local_addr()?);
    let listener = listener.tap_io(|socket| {
        // A refusal only makes this server slower than it could be.
        let _refused = socket.set_nodelay(true);
    });
    axum::serve(listener, router).await?;
    Ok(())
}

async fn produce(body: Bytes) -> Response {
    match serde_json::from_slice::<serde_json::Value>(&body) {
        Ok(parsed) if parsed.get("records").is_some() => {
            ([(header::CONTENT_TYPE, "application/vnd.kafka.v2+json")], ANSWER).into_response()
        }
        _ => StatusCode::BAD_REQUEST.into_response(),
    }
}

async fn echo(body: Bytes) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

type Frames = broadcast::Sender<Bytes>;

async fn subscribe(State(frames): State<Frames>) -> Response {
    let body = stream::unfold(frames.subscribe(), |mut frames| async {
        loop {
            match frames.recv().await {
                Ok(frame) => return Some((Ok::<_, Infallible>(frame), frames)),
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        }
    });
    ([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(body)).into_response()
}

#[derive(Debug, Deserialize)]
struct PublishQuery {
    rate: f64,
    events: u64,
    bytes: usize,
}

async fn publish(State(frames): State<Frames>, Query(query): Query<PublishQuery>) -> StatusCode {
    let PublishQuery { rate, events, bytes: event_bytes } = query;
    let schedule = Schedule { rate, events, event_bytes, keys: 0 };
    if !(rate.is_finite() && rate > 0.0) {
        return StatusCode::BAD_REQUEST;
    }
    tokio::spawn(async move {
        let start = Instant::now();
        for sequence in 0..schedule.events {
            tokio::time::sleep_until((start + schedule.moment(sequence)).into()).await;
            send_frame(&frames, &event_value(sequence, schedule.event_bytes));
        }
    });
    StatusCode::ACCEPTED
}

#[derive(Debug, Deserialize)]
struct Posted<'a> {
    #[serde(borrow)]
    records: Vec<PostedRecord<'a>>,
}

#[derive(Debug, Deserialize)]
struct PostedRecord<'a> {
    #[serde(borrow)]
    value: &'a RawValue,
}

async fn forward(State(frames): State<Frames>, body: Bytes) -> Response {
    let Ok(posted) = serde_json::from_slice::<Posted<'_>>(&body) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    for record in posted.records {
        send_frame(&frames, record.value.get());
    }
    ANSWER.into_response()
}

fn send_frame(frames: &Frames, event: &str) {
    // Nobody listening is no failure.
    let _receivers = frames.send(Bytes::from(format!("data: {event}\n\n")));
}
