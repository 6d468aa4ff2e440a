//! How many connections may be open, and what one too many is told.

use std::collections::HashMap;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::around::{peer, refusal};
use super::error::ApiError;
use super::linger::{Linger, Unread};
use super::metrics::HttpMetrics;
use crate::base::shutdown::Shutdown;

/// Refused connections that are read on for a while, so that their clients can read why. The
/// clients of more than these may find a reset instead.
const REFUSED_MAX: usize = 64;

/// How long a refused connection is read at most.
const REFUSED_LINGER_MAX: Duration = Duration::from_secs(1);

/// How many connections may be open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connections {
    /// All together.
    pub max: usize,
    /// From one address, or one /64 of IPv6; all if absent.
    pub max_per_client: Option<NonZeroUsize>,
}

/// Connections by client; as many entries as there are connections at most.
type Table = Arc<Mutex<HashMap<IpAddr, usize>>>;

/// The places that are left.
pub(super) struct Permits {
    limits: Connections,
    all: Arc<Semaphore>,
    by_client: Table,
    refused: Arc<Semaphore>,
}

/// The place of one connection, until it is dropped.
#[derive(Debug)]
pub(super) struct Permit {
    _of_all: OwnedSemaphorePermit,
    of_client: Option<(Table, IpAddr)>,
}

impl Permits {
    pub(super) fn new(limits: Connections) -> Self {
        Self {
            limits,
            all: Arc::new(Semaphore::new(limits.max)),
            by_client: Arc::default(),
            refused: Arc::new(Semaphore::new(REFUSED_MAX)),
        }
    }

    /// Takes a place.
    ///
    /// # Errors
    /// 503 when all are taken, 429 when the client has as many as it may.
    pub(super) fn take(&self, peer: IpAddr) -> Result<Permit, ApiError> {
        let max = self.limits.max;
        let of_all = Arc::clone(&self.all).try_acquire_owned();
        let of_all = of_all.map_err(|_| {
            let message = format!("{max} connections are open, as many as may be");
            ApiError::status(StatusCode::SERVICE_UNAVAILABLE, message)
        })?;
        let Some(max) = self.limits.max_per_client else {
            return Ok(Permit { _of_all: of_all, of_client: None });
        };
        let client = peer::network(peer);
        let mut table = self.by_client.lock();
        let open = table.entry(client).or_default();
        if *open >= max.get() {
            let message = format!("{client} has {max} connections open, as many as it may");
            return Err(ApiError::status(StatusCode::TOO_MANY_REQUESTS, message));
        }
        *open += 1;
        let of_client = Some((Arc::clone(&self.by_client), client));
        Ok(Permit { _of_all: of_all, of_client })
    }

    /// Tells a client why its connection is closed, if the socket takes the text at once.
    pub(super) fn refuse(&self, stream: TcpStream, error: &ApiError, shutdown: &Shutdown) {
        let Some(answer) = refusal::of_connection(error) else { return };
        let stream = match write_at_once(stream, &answer) {
            Ok(stream) => stream,
            Err(error) => {
                tracing::debug!(%error, "refused http connection could not be told why");
                return;
            }
        };
        let Ok(place) = Arc::clone(&self.refused).try_acquire_owned() else { return };
        let unread = Unread::default();
        unread.tell();
        let linger = Linger::new(stream, place, unread, shutdown.clone());
        // It lingers from here on, in a task of its own.
        drop(linger.for_at_most(REFUSED_LINGER_MAX));
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Some((table, client)) = &self.of_client else { return };
        let mut table = table.lock();
        if let Some(open) = table.get_mut(client) {
            *open -= 1;
            if *open == 0 {
                table.remove(client);
            }
        }
    }
}

/// An open connection, as limits and metrics count it until it is dropped.
#[derive(Debug)]
pub(super) struct Open {
    _permit: Permit,
    metrics: Arc<HttpMetrics>,
}

impl Open {
    pub(super) fn new(permit: Permit, metrics: Arc<HttpMetrics>) -> Self {
        metrics.connections.inc();
        Self { _permit: permit, metrics }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.metrics.connections.dec();
    }
}

fn write_at_once(stream: TcpStream, answer: &[u8]) -> io::Result<TcpStream> {
    // Tokio does not know yet that there is room.
    let mut stream = stream.into_std()?;
    stream.write_all(answer)?;
    TcpStream::from_std(stream)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    #[test]
    fn places_come_back() {
        let limits = Connections { max: 3, max_per_client: NonZeroUsize::new(2) };
        let permits = Permits::new(limits);
        let [a, b]: [IpAddr; 2] = ["192.0.2.1", "192.0.2.2"].map(|text| text.parse().unwrap());
        let held = [permits.take(a).unwrap(), permits.take(a).unwrap()];
        assert_eq!(permits.take(a).err().unwrap().code, 429);
        let other = permits.take(b).unwrap();
        assert_eq!(permits.take(b).err().unwrap().code, 503);
        drop((held, other));
        assert!(permits.by_client.lock().is_empty());
        assert!(permits.take(a).is_ok());
    }

    /// What a client reads whose connection is refused after its request has come.
    async fn refused(permits: &Permits, shutdown: &Shutdown) -> (io::Result<usize>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        client.write_all(b"GET /topics HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        stream.readable().await.unwrap();
        let error = ApiError::status(StatusCode::TOO_MANY_REQUESTS, "too many");
        permits.refuse(stream, &error, shutdown);
        let mut answer = Vec::new();
        let read = client.read_to_end(&mut answer).await;
        (read, String::from_utf8(answer).unwrap())
    }

    #[tokio::test]
    async fn who_is_refused_can_read_why() {
        let permits = Permits::new(Connections { max: 0, max_per_client: None });
        let shutdown = Shutdown::new();
        let (read, answer) = refused(&permits, &shutdown).await;
        assert!(answer.starts_with("HTTP/1.1 429 ") && answer.ends_with("}"), "{answer}");
        assert_eq!(read.unwrap(), answer.len());
        shutdown.drained().await;
        assert_eq!(permits.refused.available_permits(), REFUSED_MAX);
        // More than the bound are closed as they are, which the system tells by a reset.
        let all = Arc::clone(&permits.refused).try_acquire_many_owned(REFUSED_MAX as u32).unwrap();
        let (read, _) = refused(&permits, &shutdown).await;
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        drop(all);
    }
}
