//! What is done from time to time: retention, compaction, expiry, unloading of indexes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::cursors::EmbeddedCursors;
use super::groups::EmbeddedGroups;
use super::registry::Registry;
use super::transactions::EmbeddedTransactions;
use crate::base::clock::SharedClock;
use crate::base::ids::Offset;
use crate::base::shutdown::Shutdown;
use crate::log::compaction::Trigger;
use crate::store::keys::PartitionKey;

/// Producers that have not written for a day are forgotten (`producer.id.expiration.ms`).
pub(super) const PRODUCER_EXPIRY_MS: i64 = 86_400_000;

/// The work of one round, on everything there is.
#[derive(Clone)]
pub(super) struct Janitor {
    pub(super) registry: Arc<Registry>,
    pub(super) groups: EmbeddedGroups,
    pub(super) transactions: EmbeddedTransactions,
    pub(super) cursors: EmbeddedCursors,
    pub(super) clock: SharedClock,
    /// Where the last compaction of each partition ended; forgotten on restart, which costs one
    /// compaction more.
    pub(super) clean_until: Arc<Mutex<HashMap<PartitionKey, Offset>>>,
}

impl Janitor {
    /// Runs a round every `interval` until shutdown.
    pub(super) fn start(self, interval: Duration, shutdown: &Shutdown) {
        let spawner = shutdown.clone();
        let shutdown = shutdown.clone();
        spawner.spawn(async move {
            loop {
                tokio::select! {
                    () = shutdown.stopping() => return,
                    () = tokio::time::sleep(interval) => {}
                }
                let round = self.clone();
                shutdown.run_blocking(move || round.round()).await;
            }
        });
    }

    /// One round; blocks on the disk.
    fn round(&self) {
        let now = self.clock.now_ms();
        self.groups.expire();
        self.transactions.expire();
        self.cursors.expire();
        for entry in self.registry.snapshot() {
            for (key, partition) in entry.served() {
                let name = partition.name();
                match partition.apply_retention(now) {
                    Ok(0) => {}
                    Ok(segments) => {
                        let start = partition.log_start_offset();
                        tracing::info!(partition = %name, segments, start, "retention deleted");
                    }
                    Err(error) => {
                        tracing::error!(partition = %name, %error, "retention failed");
                    }
                }
                if partition.config().compacts {
                    self.compact(key, partition, now);
                }
                partition.expire_producers(now - PRODUCER_EXPIRY_MS);
                partition.unload_idle_indexes();
            }
        }
    }

    fn compact(&self, key: PartitionKey, partition: &crate::log::Partition, now: i64) {
        let clean_until = self.clean_until.lock().get(&key).copied().unwrap_or(0);
        match partition.compact(clean_until, Trigger::WhenDirty, now) {
            Ok(Some((end, done))) => {
                self.clean_until.lock().insert(key, end);
                let (before, after) = (done.bytes_before, done.bytes_after);
                tracing::info!(partition = %partition.name(), before, after, "compacted");
            }
            Ok(None) => {}
            Err(error) => {
                tracing::error!(partition = %partition.name(), %error, "compaction failed");
            }
        }
    }
}
