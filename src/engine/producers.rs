//! Role: producer ids (KIP-98).

use super::BoxFuture;

/// An idempotent producer's identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerIdentity {
    /// The id, never given twice.
    pub id: i64,
    /// The epoch.
    pub epoch: i16,
}

/// Why no producer id was given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProducerIdError {
    /// Transactions are not offered.
    #[error("transactional id '{0}': transactions are not supported")]
    TransactionsUnsupported(String),
    /// Too many producers have names.
    #[error("{0} producers have names, as many as may")]
    TooManyNames(usize),
    /// The disk refused.
    #[error("storage failed: {0}")]
    Storage(String),
}

/// Gives out producer ids.
pub trait Producers: Send + Sync + 'static {
    /// Gives a fresh producer id; ids are never reused, not even after a crash.
    ///
    /// # Cancel safety
    /// Dropping the future may waste an id.
    fn init_producer_id(
        &self,
        transactional_id: Option<String>,
    ) -> BoxFuture<Result<ProducerIdentity, ProducerIdError>>;

    /// Finds the producer id of a name, or gives it one for good.
    ///
    /// # Cancel safety
    /// Dropping the future may or may not leave the name with an id.
    fn named(&self, name: &str) -> BoxFuture<Result<i64, ProducerIdError>>;
}
