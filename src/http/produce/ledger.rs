//! The fate of every record: which batch it is in, and what the log said of that batch.

use crate::base::ids::{Offset, PartitionId, TimestampMs};
use crate::engine::Later;
use crate::engine::log::{Append, AppendError, Log, Receipt};
use crate::http::error::{ApiError, KAFKA_ERROR};
use http::StatusCode;

/// Where a record went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Produced {
    /// Its partition.
    pub partition: PartitionId,
    /// Its offset.
    pub offset: Offset,
    /// Its timestamp as stored, in milliseconds since the epoch.
    pub timestamp: TimestampMs,
}

/// The fate of one record.
pub type Outcome = Result<Produced, ApiError>;

/// A record in a batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Placed {
    /// Its position among all records of the request.
    pub(super) index: usize,
    /// Its timestamp as produced.
    pub(super) timestamp: TimestampMs,
}

/// Which records are in one batch.
#[derive(Debug)]
pub(super) struct BatchEntry {
    pub(super) partition: PartitionId,
    /// In the order of the batch.
    pub(super) records: Vec<Placed>,
}

/// Knows which record is in which batch, and collects outcomes.
#[derive(Debug)]
pub struct Ledger {
    batches: Vec<BatchEntry>,
    outcomes: Vec<Option<Outcome>>,
}

impl Ledger {
    pub(super) const fn new(batches: Vec<BatchEntry>, outcomes: Vec<Option<Outcome>>) -> Self {
        Self { batches, outcomes }
    }

    /// Number of records.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.outcomes.len()
    }

    /// Tells whether there is no record.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.outcomes.is_empty()
    }

    /// The first record that was refused before any batch was appended, if any, and why.
    #[must_use]
    pub fn first_refusal(&self) -> Option<(usize, &ApiError)> {
        let mut outcomes = self.outcomes.iter().enumerate();
        outcomes.find_map(|(at, outcome)| Some((at, outcome.as_ref()?.as_ref().err()?)))
    }

    /// The first record of every batch.
    #[must_use]
    pub fn first_records(&self) -> Vec<usize> {
        let first = |entry: &BatchEntry| entry.records.first().map_or(0, |placed| placed.index);
        self.batches.iter().map(first).collect()
    }

    /// Takes the receipts of all batches at once.
    #[must_use]
    pub fn settled(mut self, receipts: &[Receipt]) -> Vec<Outcome> {
        for (batch, receipt) in receipts.iter().enumerate() {
            self.note(batch, Ok(*receipt));
        }
        self.into_outcomes()
    }

    /// Notes what the log said of the batch at position `batch` of the appends.
    pub fn note(&mut self, batch: usize, answer: Result<Receipt, AppendError>) {
        let Some(entry) = self.batches.get(batch) else { return };
        let answer = answer.map_err(ApiError::from);
        for (placed, delta) in entry.records.iter().zip(0_i64..) {
            let Some(outcome) = self.outcomes.get_mut(placed.index) else { continue };
            *outcome = Some(match &answer {
                Ok(receipt) => Ok(Produced {
                    partition: entry.partition,
                    offset: receipt.base_offset + delta,
                    timestamp: match receipt.log_append_time {
                        -1 => placed.timestamp,
                        stamped => stamped,
                    },
                }),
                Err(error) => Err(error.clone()),
            });
        }
    }

    /// Notes the answers to all appends as they come, then yields the outcomes.
    ///
    /// # Cancel safety
    /// Dropping the future undoes no append; the outcomes are lost.
    pub async fn settle(mut self, answers: Vec<AppendAnswer>) -> Vec<Outcome> {
        for (batch, answer) in answers.into_iter().enumerate() {
            self.note(batch, answer.await);
        }
        self.into_outcomes()
    }

    /// The outcome of every record, in the order in which the records came.
    #[must_use]
    pub fn into_outcomes(self) -> Vec<Outcome> {
        let unanswered = || {
            let message = "batch of the record was not answered";
            Err(ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, KAFKA_ERROR, message))
        };
        self.outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(unanswered)).collect()
    }
}

/// The answer to one append, there or to come.
pub type AppendAnswer = Later<Result<Receipt, AppendError>>;

/// Appends batch by batch; every batch is written before the first wait, in order.
pub fn append_each(log: &dyn Log, appends: Vec<Append>) -> Vec<AppendAnswer> {
    appends.into_iter().map(|append| log.append(append)).collect()
}
