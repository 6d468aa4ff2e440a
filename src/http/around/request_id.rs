//! `x-request-id`: the client's own if it is sane, else one of ours; on the answer and in the logs.

use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use http::{HeaderMap, HeaderName, HeaderValue};

/// The header.
pub const HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// Longest id taken from a client, in bytes.
const BYTES_MAX: usize = 128;

/// Longest id of our own, in bytes.
const ID_BYTES_MAX: usize = 32;

/// Makes ids: a part that is random for each process and a number that counts.
#[derive(Debug)]
pub struct RequestIds {
    process: String,
    next: AtomicU64,
}

impl Default for RequestIds {
    fn default() -> Self {
        let random = uuid::Uuid::new_v4().simple().to_string();
        Self { process: random.chars().take(12).collect(), next: AtomicU64::new(1) }
    }
}

impl RequestIds {
    /// The id of a request.
    #[must_use]
    pub fn take(&self, headers: &HeaderMap) -> HeaderValue {
        let own = headers.get(&HEADER).filter(|value| is_sane(value.as_bytes()));
        own.cloned().unwrap_or_else(|| {
            // Only has to differ from the others.
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let mut id = [0; ID_BYTES_MAX];
            let mut rest = &mut id[..];
            // What does not fit is cut, which cannot happen: the parts have 12, 1 and 16 bytes.
            let _cut = write!(rest, "{}-{number:x}", self.process);
            let length = ID_BYTES_MAX - rest.len();
            let id = id.get(..length).unwrap_or_default();
            HeaderValue::from_bytes(id).unwrap_or(HeaderValue::from_static("none"))
        })
    }
}

/// Letters, digits and the signs of common ids: nothing that could break a log line.
fn is_sane(id: &[u8]) -> bool {
    let is_plain = |b: &u8| b.is_ascii_alphanumeric() || b"-_.:=+/@".contains(b);
    !id.is_empty() && id.len() <= BYTES_MAX && id.iter().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sane_ids_are_kept_and_others_replaced() {
        let ids = RequestIds::default();
        let take = |text: &str| {
            let headers = HeaderMap::from_iter([(HEADER, HeaderValue::from_str(text).unwrap())]);
            ids.take(&headers).to_str().unwrap().to_owned()
        };
        assert_eq!(take("Root=1-67891233-abcdef"), "Root=1-67891233-abcdef");
        let replaced = ["a b", "", "x\"y", &"x".repeat(129)].map(take);
        assert!(replaced.iter().all(|id| id.starts_with(&ids.process)), "{replaced:?}");
        assert_ne!(replaced[0], replaced[1]);
    }
}
