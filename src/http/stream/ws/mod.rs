//! `/ws`: several subscriptions, acknowledgements and produce requests on one WebSocket.
//!
//! A subscription is the same [`super::body::StreamBody`] that a stream over HTTP is, pulled for as
//! long as its client grants credit. There is no queue: what the client does not take is lag.
//!
//! `session` is the loop of a connection, `subscriptions` are its streams, `work` does what takes
//! time. `request` and `wish` read what its client sends, `message` writes what answers it.

mod message;
mod request;
mod session;
mod subscriptions;
mod wish;
mod work;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{WebSocket, WebSocketUpgrade};
use axum::extract::{Extension, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode, Uri};

use self::session::Session;
use super::Hub;
use crate::base::limits::WEBSOCKETS_MAX;
use crate::http::around::origin;
use crate::http::error::{ApiError, ApiResult, ErrorBody};
use crate::http::linger::Unread;
use crate::http::server::Peer;
use crate::http::state::AppState;

/// The protocol of the messages.
const SUBPROTOCOL: &str = "hydrant.v1+json";

/// Largest message of a client, in bytes.
const MESSAGE_BYTES_MAX: usize = 1024 * 1024;

/// Bytes that a connection reads at once, which it keeps for its life.
const READ_BUFFER_BYTES: usize = 4 * 1024;

/// The right to have one WebSocket open, until it is dropped.
struct Seat(Arc<Hub>);

impl Seat {
    fn take(hub: &Arc<Hub>) -> ApiResult<Self> {
        // A plain counter: nothing else is published through it.
        let before = hub.websockets.fetch_add(1, Ordering::Relaxed);
        let seat = Self(Arc::clone(hub));
        if before < WEBSOCKETS_MAX {
            return Ok(seat);
        }
        let message = format!("server has {before} WebSockets open, as many as it may");
        Err(ApiError::status(StatusCode::TOO_MANY_REQUESTS, message))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.websockets.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How many WebSockets are open.
pub(super) type Count = AtomicUsize;

/// Opens a WebSocket.
///
/// Messages are JSON objects with a `type`: `subscribe`, `unsubscribe`, `credit`, `ack`, `produce`
/// and `ping` from the client; `ready`, `records`, the events of streams, `acked`, `produced`,
/// `pong` and `error` from the server. A subscription with a `group` is a member of it, as
/// `GET /consumers/{group}/stream` is, and `ack` does what `POST /consumers/{group}/acks` does.
#[utoipa::path(
    get, path = "/ws", tag = "streams", operation_id = "webSocket",
    params(
        ("Sec-WebSocket-Protocol" = Option<String>, Header, example = "hydrant.v1+json",
            description = "Protocols that the client speaks; without any it is hydrant.v1+json"),
        ("Origin" = Option<String>, Header,
            description = "Sent by browsers; must be allowed, or that of the server itself"),
    ),
    responses(
        (status = 101, description = "The connection is a WebSocket now"),
        (status = 400, body = ErrorBody, content_type = "application/vnd.kafka.v2+json",
            description = "Not an upgrade, or of another protocol"),
        (status = 403, body = ErrorBody, content_type = "application/vnd.kafka.v2+json",
            description = "The origin is not allowed"),
        (status = 426, body = ErrorBody, content_type = "application/vnd.kafka.v2+json",
            description = "The connection cannot be upgraded"),
        (status = 429, body = ErrorBody, content_type = "application/vnd.kafka.v2+json",
            description = "Too many WebSockets are open"),
    )
)]
pub(in crate::http) async fn websocket(
    State(state): State<AppState>,
    client: Option<Extension<Peer>>,
    unread: Option<Extension<Unread>>,
    uri: Uri,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> ApiResult<Response> {
    origin::check_origin(&uri, &headers, &state.options)?;
    let upgrade = upgrade.map_err(|rejection| {
        ApiError::status(rejection.status(), format!("no WebSocket: {}", rejection.body_text()))
    })?;
    let upgrade = upgrade.protocols([SUBPROTOCOL]);
    if upgrade.selected_protocol().is_none() && headers.contains_key("sec-websocket-protocol") {
        let wanted = headers.get("sec-websocket-protocol").and_then(|v| v.to_str().ok());
        let wanted = wanted.unwrap_or_default();
        let message = format!("sec-websocket-protocol '{wanted}' has no {SUBPROTOCOL}");
        return Err(ApiError::bad_request(message));
    }
    let seat = Seat::take(&state.streams.0)?;
    let peer = client.map(|Extension(Peer(address))| address);
    let upgrade = upgrade
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(0)
        .max_message_size(MESSAGE_BYTES_MAX)
        .max_frame_size(MESSAGE_BYTES_MAX);
    Ok(upgrade.on_upgrade(move |socket| {
        serve(state, seat, (peer, unread), socket);
        std::future::ready(())
    }))
}

/// Runs the session as a task that the end of the server waits for.
fn serve(
    state: AppState,
    seat: Seat,
    (peer, unread): (Option<SocketAddr>, Option<Extension<Unread>>),
    socket: WebSocket,
) {
    let shutdown = state.shutdown.clone();
    shutdown.spawn(async move {
        // The client may be sending while the session ends.
        if let Some(Extension(unread)) = unread {
            unread.tell();
        }
        Session::new(state, peer, socket).run().await;
        drop(seat);
    });
}
