//! The accept loop of the HTTP door: HTTP/1.1 and h2c on one port, with a limit and a drain.

use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use http::{Method, Request};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tower::ServiceExt;

use super::connections::{Connections, Open, Permits};
use super::linger::{Linger, Unread};
use super::metrics::HttpMetrics;
use super::stall::StallGuard;
use super::version::Version;
use super::wire::Wire;
use crate::base::shutdown::Shutdown;

/// A client must send the head of a request within this time.
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(30);

/// Headers that a request over HTTP/2 may have, in bytes as that protocol counts them: with 32
/// more for each. The handlers' own limit is below it and answers better.
const HEAD_BYTES_MAX: u32 = 128 * 1024;

/// Bytes that one request over HTTP/2 may send before they are read. A request that nobody reads,
/// such as a produce stream whose results are not taken, keeps no more from the others.
const STREAM_WINDOW_BYTES: u32 = 128 * 1024;

/// Bytes that all requests of one HTTP/2 connection may send before they are read.
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;

/// Requests that one HTTP/2 connection may have open at once, live streams among them.
const STREAMS_PER_CONNECTION_MAX: u32 = 256;

/// What a connection has begun must be done this long after the server was told to stop and its
/// live streams have ended. Reads that wait for records end by themselves before.
const DRAIN_MAX: Duration = Duration::from_secs(10);

/// Bytes of an answer that hyper gathers before it waits for the socket: with frames of up to
/// 256 KiB, a client that does not read holds one of them.
const WRITE_BUFFER_BYTES: usize = 128 * 1024;

/// How connections are served.
#[derive(Clone)]
pub struct ServeOptions {
    /// Connections open at once.
    pub connections: Connections,
    /// A client that takes no byte for this long although there are some is given up.
    pub write_timeout: Duration,
    /// Asked once the server stops: how long live streams take to end.
    pub streams_end: Arc<dyn Fn() -> Duration + Send + Sync>,
}

impl std::fmt::Debug for ServeOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServeOptions")
            .field("connections", &self.connections)
            .field("write_timeout", &self.write_timeout)
            .finish_non_exhaustive()
    }
}

/// Pause after an accept error such as "too many open files", so that the loop does not spin.
const ACCEPT_ERROR_PAUSE: Duration = Duration::from_millis(50);

/// The address at the other end of a connection, as an extension of its requests.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

/// Accepts connections until shutdown; each is served by a task of its own.
///
/// # Cancel safety
/// Dropping the future stops accepting; open connections go on.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    options: ServeOptions,
    metrics: Arc<HttpMetrics>,
    shutdown: Shutdown,
) {
    let permits = Permits::new(options.connections);
    loop {
        let accepted = tokio::select! {
            () = shutdown.stopping() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok((stream, peer)) => (stream, peer),
            Err(error) => {
                tracing::warn!(%error, "http connection cannot be accepted");
                tokio::time::sleep(ACCEPT_ERROR_PAUSE).await;
                continue;
            }
        };
        let permit = match permits.take(peer.ip()) {
            Ok(permit) => permit,
            Err(refused) => {
                tracing::warn!(%peer, reason = refused.message, "http connection refused");
                permits.refuse(stream, &refused, &shutdown);
                continue;
            }
        };
        let open = Open::new(permit, Arc::clone(&metrics));
        let (router, options, stop) = (router.clone(), options.clone(), shutdown.clone());
        shutdown.spawn(async move {
            serve_connection((stream, peer), open, router, &options, &stop).await;
        });
    }
}

async fn serve_connection(
    (stream, peer): (TcpStream, SocketAddr),
    open: Open,
    router: Router,
    options: &ServeOptions,
    shutdown: &Shutdown,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "http connection without nodelay");
    }
    let version = tokio::select! {
        version = timeout(HEADER_READ_TIMEOUT, Version::of(&stream)) => version,
        () = shutdown.stopping() => return,
    };
    // Whoever says nothing or goes away before is not answered.
    let Ok(Ok(version)) = version else { return };
    let unread = Unread::default();
    let stream = Linger::new(stream, open, unread.clone(), shutdown.clone());
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(|body| unread.watch(body));
        request.extensions_mut().insert(Peer(peer));
        request.extensions_mut().insert(unread.clone());
        let router = router.clone();
        router.oneshot(with_known_method(with_plain_path(request)))
    });
    let io = Wire::new(TokioIo::new(StallGuard::new(stream, options.write_timeout)));
    let ended = match version {
        Version::Http1 => {
            let connection = pin!(http1_builder().serve_connection(io, service).with_upgrades());
            let stop = http1::UpgradeableConnection::graceful_shutdown;
            drained(connection, stop, options, shutdown).await
        }
        // The rarer one must not make the task of the other larger.
        Version::Http2 => {
            let mut connection = Box::pin(http2_builder().serve_connection(io, service));
            let stop = http2::Connection::graceful_shutdown;
            Box::pin(drained(connection.as_mut(), stop, options, shutdown)).await
        }
    };
    if let Err(error) = ended {
        // Mostly clients that went away; what matters is logged where it happens.
        tracing::debug!(%error, "http connection ended early");
    }
}

fn http1_builder() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_READ_TIMEOUT)
        .max_buf_size(WRITE_BUFFER_BYTES);
    builder
}

fn http2_builder() -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_header_list_size(HEAD_BYTES_MAX)
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(20));
    builder
}

/// Serves a connection; once the server stops, lets it `stop` for as long as it may take.
async fn drained<C: Future<Output = hyper::Result<()>>>(
    mut connection: Pin<&mut C>,
    stop: impl FnOnce(Pin<&mut C>),
    options: &ServeOptions,
    shutdown: &Shutdown,
) -> hyper::Result<()> {
    tokio::select! {
        // A connection that is done needs no drain, and the draw of who is first costs time.
        biased;
        ended = &mut connection => return ended,
        () = shutdown.stopping() => {}
    }
    stop(connection.as_mut());
    let drain_max = DRAIN_MAX.saturating_add((options.streams_end)());
    // A client that sends half a request must not hold up the end.
    timeout(drain_max, connection).await.unwrap_or(Ok(()))
}

/// `QUERY /stream` is `POST /stream` that says it changes nothing; the router has no such method.
fn with_known_method<B>(mut request: Request<B>) -> Request<B> {
    if request.method().as_str() == "QUERY" && request.uri().path() == "/stream" {
        *request.method_mut() = Method::POST;
    }
    request
}

/// Every route also answers with a slash at its end, as the REST proxies do, and with the colon of
/// `records:batch` and its like percent-encoded, as careful clients send it.
fn with_plain_path<B>(mut request: Request<B>) -> Request<B> {
    let path = request.uri().path();
    let has_slash = path.len() > 1 && path.ends_with('/') && !path.starts_with("/docs");
    let has_colon = path.contains("%3A") || path.contains("%3a");
    if has_slash || has_colon {
        let trimmed = if has_slash { path.trim_end_matches('/') } else { path };
        let trimmed = if trimmed.is_empty() { "/" } else { trimmed };
        let plain = trimmed.replace("%3A", ":").replace("%3a", ":");
        let target = match request.uri().query() {
            Some(query) => format!("{plain}?{query}"),
            None => plain,
        };
        if let Ok(uri) = target.parse() {
            *request.uri_mut() = uri;
        }
    }
    request
}
