//! Accepts connections and gives each a task.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::{debug, info, warn};

use super::connection::{Closed, Connection};
use super::frame::FrameError;
use super::{KafkaMetrics, KafkaOptions, Session, Shared};
use crate::base::limits::INFLIGHT_REQUEST_BYTES_MAX;
use crate::base::shutdown::Shutdown;
use crate::engine::Engine;

/// Pause after a failed accept; the usual cause is a lack of file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Accepts Kafka connections until `shutdown` is asked for; connections end by themselves then,
/// and `shutdown` waits for them.
///
/// # Cancel safety
/// Safe: connections that were accepted run on.
pub async fn serve(
    listener: TcpListener,
    engine: Engine,
    options: KafkaOptions,
    metrics: Arc<KafkaMetrics>,
    shutdown: Shutdown,
) {
    let slots = Arc::new(Semaphore::new(options.connections_max));
    let frame_budget = Arc::new(Semaphore::new(INFLIGHT_REQUEST_BYTES_MAX));
    let shared = Arc::new(Shared { engine, options, metrics, shutdown, frame_budget });
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shared.shutdown.stopping() => return,
        };
        match accepted {
            Ok((stream, peer)) => match Arc::clone(&slots).try_acquire_owned() {
                Ok(slot) => spawn_connection(&shared, stream, peer, slot),
                // Dropping the stream closes it.
                Err(_full) => debug!(%peer, "kafka connection refused: too many are open"),
            },
            Err(error) => {
                warn!(%error, "kafka connection could not be accepted");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

fn spawn_connection(
    shared: &Arc<Shared>,
    stream: TcpStream,
    peer: SocketAddr,
    slot: OwnedSemaphorePermit,
) {
    let client_host = format!("/{}", peer.ip());
    let session = Arc::new(Session { shared: Arc::clone(shared), client_host });
    let open = OpenConnection::count(&shared.metrics);
    shared.shutdown.spawn(async move {
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%peer, %error, "kafka connection without TCP_NODELAY");
        }
        let ended = Connection::new(stream, session).run().await;
        log_end(peer, ended);
        drop(open);
        drop(slot);
    });
}

fn log_end(peer: SocketAddr, ended: Result<(), Closed>) {
    match ended {
        Ok(()) => debug!(%peer, "kafka connection ended"),
        Err(Closed::Frame(FrameError::Http)) => info!(%peer, "http request on the kafka port"),
        Err(error) => debug!(%peer, %error, "kafka connection closed"),
    }
}

/// Counts a connection as open for as long as it lives, however its task ends.
struct OpenConnection(Arc<KafkaMetrics>);

impl OpenConnection {
    fn count(metrics: &Arc<KafkaMetrics>) -> Self {
        metrics.connection_opened();
        Self(Arc::clone(metrics))
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.connection_closed();
    }
}
