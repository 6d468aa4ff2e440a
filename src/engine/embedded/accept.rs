//! Whether a client's batch may be appended: what its topic allows, and where it goes.

use std::sync::Arc;

use super::registry::{Missing, Registry, TopicEntry};
use crate::base::ids::{PartitionId, TimestampMs};
use crate::engine::log::{AckLevel, Append, AppendError};
use crate::log::producer_state::SequenceError;
use crate::log::{self, Partition};
use crate::protocol::record_batch::validate::validate_client_batch;
use crate::protocol::record_batch::{BatchError, BatchHeader};

/// A batch that may be appended.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) entry: Arc<TopicEntry>,
    pub(super) number: PartitionId,
    pub(super) partition: Arc<Partition>,
    pub(super) header: BatchHeader,
}

/// Finds the partition of a batch and checks the batch against the rules of its topic.
pub(super) fn accept(
    registry: &Registry,
    append: &Append,
    now: TimestampMs,
) -> Result<Accepted, AppendError> {
    let number = append.partition;
    let unknown = |missing| match missing {
        Missing::Unknown => {
            AppendError::UnknownPartition { topic: append.topic.to_string(), partition: number }
        }
        Missing::Unserved(reason) => AppendError::Storage(reason.to_string()),
    };
    let (entry, partition) = registry.partition(&append.topic, number).map_err(unknown)?;
    let header = check(&entry, append, now)?;
    Ok(Accepted { entry, number, partition, header })
}

/// Checks a client's batch against the rules of its topic.
fn check(
    entry: &TopicEntry,
    append: &Append,
    now: TimestampMs,
) -> Result<BatchHeader, AppendError> {
    if entry.topic.is_internal {
        return Err(AppendError::InternalTopic(append.topic.to_string()));
    }
    let settings = &entry.settings;
    let (bytes, bytes_max) = (append.batch.len(), settings.message_bytes_max);
    if bytes > bytes_max {
        return Err(AppendError::TooLarge { bytes, bytes_max });
    }
    let wanted = settings.min_insync_replicas;
    if append.level == AckLevel::Durable && wanted > 1 {
        return Err(AppendError::NotEnoughReplicas { wanted });
    }
    let header = validate_client_batch(&append.batch, settings.keys)?;
    if header.is_transactional() {
        return Err(BatchError::BadHeader("the batch belongs to no open transaction").into());
    }
    if !settings.log.log_append_time && header.max_timestamp >= 0 {
        let too_late = header.max_timestamp.saturating_sub(now) > settings.timestamp_after_max_ms;
        let too_early =
            now.saturating_sub(header.base_timestamp) > settings.timestamp_before_max_ms;
        if too_late || too_early {
            let timestamp = if too_late { header.max_timestamp } else { header.base_timestamp };
            return Err(AppendError::InvalidTimestamp { timestamp });
        }
    }
    Ok(header)
}

#[allow(clippy::needless_pass_by_value, reason = "used as a function in map_err")]
pub(super) fn append_error(error: log::AppendError) -> AppendError {
    match error {
        log::AppendError::Sequence(SequenceError::OutOfOrder { sequence, expected, .. }) => {
            AppendError::OutOfOrderSequence { sequence, expected }
        }
        log::AppendError::Sequence(SequenceError::StaleEpoch { epoch, current, .. }) => {
            AppendError::InvalidProducerEpoch { epoch, current }
        }
        log::AppendError::Io(_) | log::AppendError::Offline => {
            AppendError::Storage(error.to_string())
        }
    }
}
