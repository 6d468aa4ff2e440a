//! One transaction from its first batch to its last marker.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::pool::Producer;
use super::records::{self, Kept};
use super::{Inner, TransactionParts, Unfinished};
use crate::base::ids::{PartitionId, TopicId};
use crate::engine::embedded::accept::{Accepted, accept, append_error};
use crate::engine::embedded::state_log::Change;
use crate::engine::log::{AckLevel, Append, AppendError, Receipt};
use crate::engine::transactions::{AtomicAppendError, Keep};
use crate::log::journal::JournalKey;
use crate::log::{self, Partition, Promise};
use crate::protocol::record_batch::BatchHeader;
use crate::protocol::record_batch::control::Marker;
use crate::protocol::record_batch::header::stamp_transaction;

/// Batches that were found in order, with their partitions.
pub(super) struct Attempt {
    batches: Vec<(Accepted, Bytes)>,
}

/// How an attempt ended.
pub(super) struct Ended {
    pub(super) result: Result<Vec<Receipt>, AtomicAppendError>,
    /// Promises for the markers; none when the producer must not be used again before a restart.
    pub(super) markers: Option<Vec<Promise>>,
}

/// What was written so far.
#[derive(Default)]
struct Written {
    receipts: Vec<Receipt>,
    promises: Vec<Promise>,
    /// Each once.
    partitions: Vec<(TopicId, PartitionId, Arc<Partition>)>,
}

impl Attempt {
    /// Checks every batch before the first is written.
    pub(super) fn check(
        parts: &TransactionParts,
        appends: &[Append],
    ) -> Result<Self, AtomicAppendError> {
        let now = parts.clock.now_ms();
        let mut batches = Vec::with_capacity(appends.len());
        for (batch, append) in appends.iter().enumerate() {
            let durable = Append { level: AckLevel::Durable, ..append.clone() };
            let accepted = accept(&parts.registry, &durable, now)
                .map_err(|error| AtomicAppendError::Refused { batch, error })?;
            batches.push((accepted, durable.batch));
        }
        Ok(Self { batches })
    }

    /// Writes the batches, decides, and writes the markers.
    pub(super) async fn run(
        self,
        inner: &Inner,
        producer: &mut Producer<'_>,
        keep: Option<Keep>,
    ) -> Ended {
        let mut written = Written::default();
        if let Err(error) = self.write(inner, producer, &mut written).await {
            let markers = inner.end_all(producer, &written, Marker::Abort);
            return Ended { result: Err(error), markers };
        }
        let (changes, done) = decision(producer, keep, &written.receipts);
        match inner.parts.state.append(&changes) {
            Err(error) => {
                // Nothing of the decision is in the log, so it is one against.
                let markers = inner.end_all(producer, &written, Marker::Abort);
                let error = AtomicAppendError::Storage(error.to_string());
                return Ended { result: Err(error), markers };
            }
            Ok(promise) => {
                if let Err(error) = inner.parts.state.wait(promise).await {
                    // Maybe the decision is on disk: only the next start can tell.
                    tracing::error!(%error, producer_id = producer.id, "transaction is in doubt");
                    let error = AtomicAppendError::InDoubt(error.to_string());
                    return Ended { result: Err(error), markers: None };
                }
            }
        }
        let markers = inner.end_all(producer, &written, Marker::Commit);
        if let Some((keep, kept)) = done {
            inner.keys.lock().keep(keep.key().clone(), kept);
        }
        Ended { result: Ok(written.receipts), markers }
    }

    /// Writes all batches and waits until they, and the markers of the producer's last
    /// transaction, are on disk.
    async fn write(
        self,
        inner: &Inner,
        producer: &mut Producer<'_>,
        written: &mut Written,
    ) -> Result<(), AtomicAppendError> {
        let parts = &inner.parts;
        for (batch, (accepted, bytes)) in self.batches.into_iter().enumerate() {
            let refused = |error| AtomicAppendError::Refused { batch, error };
            let (topic, number) = (accepted.entry.topic.id, accepted.number);
            let stamp = producer.stamp((topic, number), accepted.header.record_count);
            let mut stamped = BytesMut::from(bytes.as_ref());
            stamp_transaction(&mut stamped, stamp);
            let (receipt, promise) = write(parts, &accepted, &stamped.freeze())
                .map_err(|error| refused(append_error(error)))?;
            written.receipts.push(receipt);
            written.promises.push(promise);
            let is_known = |(of, at, _): &(TopicId, PartitionId, _)| (*of, *at) == (topic, number);
            if !written.partitions.iter().any(is_known) {
                written.partitions.push((topic, number, accepted.partition));
            }
        }
        for promise in written.promises.drain(..).chain(std::mem::take(&mut producer.markers)) {
            let kept = parts.durability.wait(promise).await;
            kept.map_err(|error| AtomicAppendError::Storage(error.to_string()))?;
        }
        Ok(())
    }
}

/// The records that decide for a transaction, and what is to be known of its key afterwards.
fn decision(
    producer: &Producer<'_>,
    keep: Option<Keep>,
    receipts: &[Receipt],
) -> (Vec<Change>, Option<(crate::engine::transactions::Claim, Kept)>) {
    let key = records::decision_key(producer.id);
    let mut changes = vec![(key, Some(records::decision(producer.epoch)))];
    let done = keep.map(|keep| {
        let answer = (keep.answer)(receipts);
        let (expires, fingerprint) = (keep.expires, keep.claim.fingerprint());
        (keep.claim, Kept { expires, fingerprint, answer })
    });
    if let Some((claim, kept)) = &done {
        changes.push((records::idempotency_key(claim.key()), Some(records::kept(kept))));
    }
    (changes, done)
}

/// Writes one batch of a transaction.
fn write(
    parts: &TransactionParts,
    accepted: &Accepted,
    batch: &Bytes,
) -> Result<(Receipt, Promise), log::AppendError> {
    let header = BatchHeader::parse(batch).map_err(std::io::Error::other)?;
    let partition = &accepted.partition;
    let appended = partition.append(&header, batch, parts.clock.now_ms())?;
    let key = JournalKey { topic: accepted.entry.topic.id, partition: accepted.number };
    let promise = parts.durability.promise(key, partition, &appended, &header, batch);
    let receipt = Receipt {
        base_offset: appended.base_offset,
        log_append_time: appended.log_append_time,
        log_start_offset: appended.log_start_offset,
        is_duplicate: false,
    };
    Ok((receipt, promise))
}

/// Writes the marker of one partition; none to wait for when there is nothing to end.
pub(super) fn end(
    parts: &TransactionParts,
    partition: &Arc<Partition>,
    producer_id: i64,
    epoch: i16,
    marker: Marker,
) -> Result<Promise, AppendError> {
    if partition.is_abandoned() || !partition.is_in_transaction(producer_id) {
        return Ok(Promise::Kept);
    }
    let now = parts.clock.now_ms();
    let batch = marker.batch(producer_id, epoch, now);
    let header = BatchHeader::parse(&batch)?;
    let appended = partition.append(&header, &batch, now).map_err(append_error)?;
    Ok(Promise::Segment(Arc::clone(partition), appended.end_offset))
}

impl Inner {
    /// Writes the markers of a transaction; one that cannot be written is tried again later.
    fn end_all(
        &self,
        producer: &Producer<'_>,
        written: &Written,
        marker: Marker,
    ) -> Option<Vec<Promise>> {
        let (producer_id, epoch) = (producer.id, producer.epoch);
        let mut promises = Some(Vec::with_capacity(written.partitions.len()));
        for (_, _, partition) in &written.partitions {
            match end(&self.parts, partition, producer_id, epoch, marker) {
                Ok(promise) => {
                    if let Some(all) = &mut promises {
                        all.push(promise);
                    }
                }
                Err(error) => {
                    tracing::error!(partition = %partition.name(), %error, ?marker,
                        "marker of a transaction cannot be written yet");
                    let partition = Arc::clone(partition);
                    self.unfinished.lock().push(Unfinished {
                        partition,
                        producer_id,
                        epoch,
                        marker,
                    });
                    promises = None;
                }
            }
        }
        promises
    }
}
