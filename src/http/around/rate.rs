//! Requests a second by client: a token bucket each, in a table of bounded size.
//!
//! A bucket is one number, the time at which it will be full again, so a full bucket needs no
//! place in the table. When the table is full of busy clients, those without a place share one.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;

use axum::extract::Request;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::peer;
use crate::base::limits::HTTP_RATE_CLIENTS_MAX;
use crate::http::error::{ApiError, ApiResult, Limit, RATELIMIT_POLICY};
use crate::http::link::Forwarded;

const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// A bucket holds what is granted in this time, in ns.
const WINDOW_NS: u64 = 1_000_000_000;

/// Paths that are not counted: probes must not make a server look ill because it is busy.
const UNCOUNTED: &[&str] = &[
    "/livez",
    "/readyz",
    "/healthz",
    "/metrics",
    "/healthy",
    "/ready",
    "/_health",
    "/status/ready",
];

/// The buckets of all clients.
#[derive(Debug)]
pub struct RateLimiter {
    per_second: NonZeroU32,
    started: Instant,
    /// When each client's bucket will be full, in ns since the start.
    full_at: Mutex<HashMap<IpAddr, u64>>,
}

/// What a client may still send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowed {
    per_second: u32,
    remaining: u64,
}

impl Allowed {
    /// Tells it in the headers of the answer.
    pub fn show(self, headers: &mut HeaderMap) {
        let left = format!("\"requests\";r={};t=1", self.remaining);
        let policy = format!("\"requests\";q={};w=1", self.per_second);
        for (name, text) in [(RATELIMIT, left), (RATELIMIT_POLICY, policy)] {
            if let Ok(value) = HeaderValue::try_from(text) {
                headers.entry(name).or_insert(value);
            }
        }
    }
}

impl RateLimiter {
    /// A limiter of `per_second` requests, as many of them at once.
    #[must_use]
    pub fn new(per_second: NonZeroU32) -> Self {
        Self { per_second, started: Instant::now(), full_at: Mutex::default() }
    }

    /// Counts a request.
    ///
    /// # Errors
    /// 429 names the client and the limit.
    pub fn admit(&self, request: &Request, forwarded: Forwarded) -> ApiResult<Option<Allowed>> {
        if UNCOUNTED.contains(&request.uri().path()) {
            return Ok(None);
        }
        let client = peer::client(request, forwarded);
        let now = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let max = self.per_second.get();
        self.take(client, now).map(Some).ok_or_else(|| {
            let message = format!("{client} may send {max} requests a second");
            let limit = Limit { name: "requests", max: max.into(), unit: "requests" };
            ApiError::status(StatusCode::TOO_MANY_REQUESTS, message).with_limit(limit)
        })
    }

    fn take(&self, client: IpAddr, now: u64) -> Option<Allowed> {
        let cost = WINDOW_NS / u64::from(self.per_second.get());
        let mut table = self.full_at.lock();
        let mut key = client;
        if table.len() >= HTTP_RATE_CLIENTS_MAX && !table.contains_key(&key) {
            table.retain(|_, full_at| *full_at > now);
            if table.len() >= HTTP_RATE_CLIENTS_MAX {
                key = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
            }
        }
        let full_at = table.entry(key).or_insert(now);
        let after = (*full_at).max(now) + cost;
        if after - now > WINDOW_NS {
            return None;
        }
        *full_at = after;
        let remaining = (WINDOW_NS - (after - now)) / cost.max(1);
        Some(Allowed { per_second: self.per_second.get(), remaining })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: u32) -> IpAddr {
        IpAddr::V4(number.into())
    }

    #[test]
    fn a_bucket_empties_and_fills() {
        let limiter = RateLimiter::new(NonZeroU32::new(4).unwrap());
        let left = |now| limiter.take(address(1), now).map(|allowed| allowed.remaining);
        assert_eq!(
            [left(0), left(0), left(0), left(0), left(0)],
            [Some(3), Some(2), Some(1), Some(0), None]
        );
        assert_eq!(left(WINDOW_NS / 4), Some(0), "a quarter of a second is one of four");
        assert_eq!(left(WINDOW_NS / 4), None);
        assert_eq!(left(10 * WINDOW_NS), Some(3), "no more than a bucket is saved");
        assert!(limiter.take(address(2), 0).is_some(), "another client has its own");
    }

    #[test]
    fn the_table_is_bounded() {
        let limiter = RateLimiter::new(NonZeroU32::new(2).unwrap());
        for client in 0..u32::try_from(HTTP_RATE_CLIENTS_MAX).unwrap() {
            assert!(limiter.take(address(client), 0).is_some());
        }
        let strangers = [address(u32::MAX), address(u32::MAX - 1), address(u32::MAX - 2)];
        let answers = strangers.map(|client| limiter.take(client, 0).is_some());
        assert_eq!(answers, [true, true, false], "strangers share a bucket");
        assert!(limiter.take(strangers[2], 2 * WINDOW_NS).is_some());
        assert_eq!(limiter.full_at.lock().len(), 1, "full buckets need no place");
    }
}
