//! The `Transactions` role: batches in one transaction of the log, decided by one record.
//!
//! All batches are written and synced, then the decision is a record of `__transaction_state`,
//! then every partition gets its marker. What stops before the decision is aborted, what stops
//! after it is committed, at the next start ([`recovery`]) if not at once.

mod attempt;
mod keys;
mod pool;
pub(super) mod records;
pub(super) mod recovery;

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use self::attempt::Attempt;
use self::keys::{KeyTable, Known};
use self::pool::Pool;
use self::records::StateRecord;
use super::open::View;
use super::producer_ids::EmbeddedProducers;
use super::registry::Registry;
use super::state_log::StateLog;
use crate::base::clock::SharedClock;
use crate::base::shutdown::Shutdown;
use crate::engine::BoxFuture;
use crate::engine::log::{Append, Receipt};
use crate::engine::transactions::{
    AtomicAppendError, Claim, Claimed, Fingerprint, Keep, TooManyKeys, Transactions,
};
use crate::log::{Durability, Partition};
use crate::protocol::record_batch::control::Marker;

/// Keys that one round of expiry removes at most, so that it never writes a batch without bound.
const EXPIRED_KEYS_PER_BATCH: usize = 1000;

/// What the role is made of.
pub(super) struct TransactionParts {
    pub(super) state: StateLog,
    pub(super) registry: Arc<Registry>,
    pub(super) durability: Arc<Durability>,
    pub(super) producers: EmbeddedProducers,
    pub(super) clock: SharedClock,
    pub(super) shutdown: Shutdown,
}

/// Appends to several partitions together.
#[derive(Clone)]
pub(super) struct EmbeddedTransactions(Arc<Inner>);

struct Inner {
    parts: TransactionParts,
    pool: Pool,
    keys: Arc<Mutex<KeyTable>>,
    /// Markers that could not be written yet.
    unfinished: Mutex<Vec<Unfinished>>,
}

/// A transaction that is decided and whose marker a partition lacks.
struct Unfinished {
    partition: Arc<Partition>,
    producer_id: i64,
    epoch: i16,
    marker: Marker,
}

impl EmbeddedTransactions {
    /// Starts with the keys that were kept.
    pub(super) fn start(parts: TransactionParts, view: &View) -> Self {
        let mut keys = KeyTable::default();
        for (key, value) in view {
            match records::decode(key, value) {
                Some(StateRecord::Key { key, kept }) => keys.keep(key, kept),
                Some(StateRecord::Decision { .. }) => {}
                None => tracing::error!("record of a transaction is unreadable and passed over"),
            }
        }
        let pool = Pool::new(parts.producers.clone());
        let keys = Arc::new(Mutex::new(keys));
        Self(Arc::new(Inner { parts, pool, keys, unfinished: Mutex::default() }))
    }

    /// Forgets keys whose time is over, and writes markers that could not be written before.
    /// Blocks on the disk.
    pub(super) fn expire(&self) {
        self.0.finish_unfinished();
        let now = self.0.parts.clock.now_ms();
        loop {
            let expired = self.0.keys.lock().take_expired(now, EXPIRED_KEYS_PER_BATCH);
            if expired.is_empty() {
                return;
            }
            let gone = |key: &Bytes| (records::idempotency_key(key), None);
            let changes: Vec<_> = expired.iter().map(gone).collect();
            if let Err(error) = self.0.parts.state.append(&changes) {
                // They are expired when they are read back, too.
                tracing::warn!(%error, "expired idempotency keys stay on disk");
                return;
            }
        }
    }
}

impl Transactions for EmbeddedTransactions {
    fn claim(&self, key: Bytes, fingerprint: Fingerprint) -> Result<Claimed, TooManyKeys> {
        let now = self.0.parts.clock.now_ms();
        let known = self.0.keys.lock().claim(&key, fingerprint, now)?;
        Ok(match known {
            Known::Nothing => {
                let keys = Arc::clone(&self.0.keys);
                let release = move |key: &Bytes| keys.lock().release(key);
                Claimed::New(Claim::new(key, fingerprint, release))
            }
            Known::InProgress => Claimed::InProgress,
            Known::Mismatch => Claimed::Mismatch,
            Known::Done(answer) => Claimed::Done(answer),
        })
    }

    fn append_all(
        &self,
        appends: Vec<Append>,
        keep: Option<Keep>,
    ) -> BoxFuture<Result<Vec<Receipt>, AtomicAppendError>> {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let inner = Arc::clone(&self.0);
        // A task of its own: a transaction that is begun must end, whoever waits for it.
        self.0.parts.shutdown.spawn(async move {
            let _nobody_waits = sender.send(inner.append_all(appends, keep).await);
        });
        Box::pin(async move {
            let stopped = |_| Err(AtomicAppendError::Storage("server is stopping".to_owned()));
            receiver.await.unwrap_or_else(stopped)
        })
    }
}

impl Inner {
    async fn append_all(
        &self,
        appends: Vec<Append>,
        keep: Option<Keep>,
    ) -> Result<Vec<Receipt>, AtomicAppendError> {
        let attempt = Attempt::check(&self.parts, &appends)?;
        let producer = self.pool.take().await;
        let mut producer =
            producer.map_err(|error| AtomicAppendError::Storage(error.to_string()))?;
        let ended = attempt.run(self, &mut producer, keep).await;
        if let Some(markers) = ended.markers {
            self.pool.give_back(&producer, markers);
        }
        ended.result
    }

    /// Tries again to write markers that could not be written.
    fn finish_unfinished(&self) {
        let unfinished = std::mem::take(&mut *self.unfinished.lock());
        for open in unfinished {
            if attempt::end(&self.parts, &open.partition, open.producer_id, open.epoch, open.marker)
                .is_err()
            {
                self.unfinished.lock().push(open);
            }
        }
    }
}
