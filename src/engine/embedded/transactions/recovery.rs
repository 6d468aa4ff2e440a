//! Ends what was open when the process stopped: by the decision if there is one, else by abort.

use std::collections::HashMap;

use super::records::{self, StateRecord};
use super::{EmbeddedTransactions, attempt};
use crate::engine::embedded::open::View;
use crate::log::{AppendError, Partition};
use crate::protocol::record_batch::control::Marker;

impl EmbeddedTransactions {
    /// Writes the missing markers and forgets decisions that nobody needs any more. Call it before
    /// the doors open; blocks on the disk.
    ///
    /// # Errors
    /// What the disk reports: an open transaction hides what follows it, so better not start.
    pub(in crate::engine::embedded) fn recover(&self, view: &View) -> Result<(), AppendError> {
        let decided: HashMap<i64, i16> = view
            .iter()
            .filter_map(|(key, value)| match records::decode(key, value)? {
                StateRecord::Decision { producer_id, epoch } => Some((producer_id, epoch)),
                StateRecord::Key { .. } => None,
            })
            .collect();
        let parts = &self.0.parts;
        let mut is_everything_served = true;
        for entry in parts.registry.snapshot() {
            is_everything_served &= entry.partitions.iter().all(Result::is_ok);
            for (_, partition) in entry.served() {
                self.end_open(partition, &decided)?;
            }
        }
        // A partition that is not served now may need its decision when it is.
        if is_everything_served && !decided.is_empty() {
            let gone = |id: &i64| (records::decision_key(*id), None);
            let _on_disk_later =
                parts.state.append(&decided.keys().map(gone).collect::<Vec<_>>())?;
        }
        Ok(())
    }

    fn end_open(
        &self,
        partition: &std::sync::Arc<Partition>,
        decided: &HashMap<i64, i16>,
    ) -> Result<(), AppendError> {
        let open = partition.open_transactions();
        if open.is_empty() {
            return Ok(());
        }
        for transaction in open {
            let (producer_id, epoch) = (transaction.producer_id, transaction.epoch);
            let marker = match decided.get(&producer_id) {
                Some(of) if *of == epoch => Marker::Commit,
                _ => Marker::Abort,
            };
            tracing::warn!(partition = %partition.name(), producer_id, ?marker,
                "a transaction that was open at the last stop is ended");
            let ended = attempt::end(&self.0.parts, partition, producer_id, epoch, marker);
            let _synced_below = ended.map_err(std::io::Error::other)?;
        }
        partition.sync_now()?;
        Ok(())
    }
}
