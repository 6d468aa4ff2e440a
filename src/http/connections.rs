//! How many connections may be open, and what one too many is told.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;

use http::StatusCode;
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::around::{peer, refusal};
use super::error::ApiError;
use super::metrics::HttpMetrics;

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
}

/// The place of one connection, until it is dropped.
#[derive(Debug)]
pub(super) struct Permit {
    _of_all: OwnedSemaphorePermit,
    of_client: Option<(Table, IpAddr)>,
}

impl Permits {
    pub(super) fn new(limits: Connections) -> Self {
        Self { limits, all: Arc::new(Semaphore::new(limits.max)), by_client: Arc::default() }
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

/// Tells a client why its connection is closed, if the socket takes the text at once.
pub(super) fn refuse(stream: TcpStream, error: &ApiError) {
    use std::io::Write as _;
    let Some(answer) = refusal::of_connection(error) else { return };
    let sent = stream.into_std().and_then(|mut stream| stream.write(&answer));
    if let Err(error) = sent {
        tracing::debug!(%error, "refused http connection could not be told why");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
