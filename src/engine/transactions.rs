//! Role: several batches that become visible together, and requests that count once.
//!
//! The log keeps transactions as Kafka's does (KIP-98): data batches, then a durable decision,
//! then a marker in every partition. A request may bring a key; its answer is part of the
//! decision, so that the request and the memory of it survive or vanish together.

use bytes::Bytes;

use super::BoxFuture;
use super::log::{Append, AppendError, Receipt};
use crate::base::ids::TimestampMs;

/// Identity of a request with an idempotency key: whoever sends the key again must send the same.
pub type Fingerprint = [u8; 16];

/// What is known of an idempotency key.
#[derive(Debug)]
pub enum Claimed {
    /// Nothing: the key is the caller's until it drops the claim.
    New(Claim),
    /// A request with the key is being worked on.
    InProgress,
    /// The key was used for another request.
    Mismatch,
    /// The request was done before; this is its answer.
    Done(Bytes),
}

/// Gives a key back.
type Release = Box<dyn FnOnce(&Bytes) + Send + Sync>;

/// Makes the answer to a request of where its batches went.
pub type MakeAnswer = Box<dyn FnOnce(&[Receipt]) -> Bytes + Send>;

/// The right to do the request of a key; dropping it gives the key back unless it was done.
pub struct Claim {
    key: Bytes,
    fingerprint: Fingerprint,
    release: Option<Release>,
}

impl std::fmt::Debug for Claim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Claim").field("key", &self.key).finish_non_exhaustive()
    }
}

impl Claim {
    /// Makes a claim; `release` gives the key back.
    #[must_use]
    pub fn new(
        key: Bytes,
        fingerprint: Fingerprint,
        release: impl FnOnce(&Bytes) + Send + Sync + 'static,
    ) -> Self {
        Self { key, fingerprint, release: Some(Box::new(release)) }
    }

    /// The key.
    #[must_use]
    pub const fn key(&self) -> &Bytes {
        &self.key
    }

    /// What the request is known by.
    #[must_use]
    pub const fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(release) = self.release.take() {
            release(&self.key);
        }
    }
}

/// What is kept of a request with an idempotency key.
pub struct Keep {
    /// The claim on the key.
    pub claim: Claim,
    /// Until when the answer is kept, in milliseconds since the epoch.
    pub expires: TimestampMs,
    /// Makes the answer once it is known where the batches went.
    pub answer: MakeAnswer,
}

impl std::fmt::Debug for Keep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (claim, expires) = (&self.claim, self.expires);
        f.debug_struct("Keep")
            .field("claim", claim)
            .field("expires", &expires)
            .finish_non_exhaustive()
    }
}

/// Why batches were not appended together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AtomicAppendError {
    /// One batch was refused, so none counts.
    #[error("{error}")]
    Refused {
        /// Which one, in the order of the request.
        batch: usize,
        /// Why.
        error: AppendError,
    },
    /// Whether the batches count is not known until the server was restarted.
    #[error("outcome is unknown until a restart: {0}")]
    InDoubt(String),
    /// No producer could be had for the transaction.
    #[error("storage failed: {0}")]
    Storage(String),
}

/// Why a key could not be claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{keys} idempotency keys of {bytes} bytes are kept, as many as may be")]
pub struct TooManyKeys {
    /// Keys that are kept.
    pub keys: usize,
    /// Bytes of keys and answers.
    pub bytes: usize,
}

/// Appends that count together, and requests that count once.
pub trait Transactions: Send + Sync + 'static {
    /// Asks for the right to do the request of an idempotency key.
    ///
    /// # Errors
    /// [`TooManyKeys`] until some of them expire.
    fn claim(&self, key: Bytes, fingerprint: Fingerprint) -> Result<Claimed, TooManyKeys>;

    /// Appends batches to any partitions so that readers of committed records see all of them or
    /// none, whatever happens; they survive loss of power when the answer comes. The levels of
    /// the appends are not looked at. With `keep`, the answer to the request is kept by the same
    /// decision.
    ///
    /// # Cancel safety
    /// The batches are appended whether or not the answer is awaited.
    fn append_all(
        &self,
        appends: Vec<Append>,
        keep: Option<Keep>,
    ) -> BoxFuture<Result<Vec<Receipt>, AtomicAppendError>>;
}
