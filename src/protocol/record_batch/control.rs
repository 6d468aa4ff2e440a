//! Transaction markers: control batches of one record that end a transaction (KIP-98).
//!
//! The record's key is `version: i16, type: i16`, its value `version: i16, coordinator_epoch: i32`.
//! Consumers use the type alone and never see the record.

use bytes::Bytes;

use super::{BatchBuilder, BatchError, BatchHeader, BatchRecords, ProducerStamp};
use crate::base::ids::TimestampMs;

/// Version of key and value.
const MARKER_VERSION: i16 = 0;

/// Epoch of the coordinator: it never moves on one node.
const COORDINATOR_EPOCH: i32 = 0;

/// How a transaction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marker {
    /// Its records do not count.
    Abort,
    /// Its records count.
    Commit,
}

impl Marker {
    /// The marker's batch for the transaction of a producer.
    #[must_use]
    pub fn batch(self, producer_id: i64, epoch: i16, now: TimestampMs) -> Bytes {
        let kind: i16 = match self {
            Self::Abort => 0,
            Self::Commit => 1,
        };
        let mut key = [0; 4];
        let (version, number) = key.split_at_mut(2);
        version.copy_from_slice(&MARKER_VERSION.to_be_bytes());
        number.copy_from_slice(&kind.to_be_bytes());
        let mut value = [0; 6];
        let (version, coordinator) = value.split_at_mut(2);
        version.copy_from_slice(&MARKER_VERSION.to_be_bytes());
        coordinator.copy_from_slice(&COORDINATOR_EPOCH.to_be_bytes());
        let stamp = ProducerStamp { id: producer_id, epoch, base_sequence: -1 };
        let mut builder = BatchBuilder::with_capacity(32).for_producer(stamp).as_control();
        builder.push(now, Some(&key), Some(&value), std::iter::empty());
        builder.finish()
    }

    /// Reads the marker of a control batch.
    ///
    /// # Errors
    /// [`BatchError`] when the batch holds no marker that this version knows.
    pub fn parse(header: &BatchHeader, batch: &Bytes) -> Result<Self, BatchError> {
        let records = BatchRecords::open(*header, batch)?;
        let Some(record) = records.iter().next() else { return Err(BatchError::Empty) };
        match record?.key.unwrap_or_default() {
            [_, _, 0, 0, ..] => Ok(Self::Abort),
            [_, _, 0, 1, ..] => Ok(Self::Commit),
            _ => Err(BatchError::BadRecord { index: 0, reason: "no transaction marker" }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_round_trip_as_transactional_control_batches() {
        for marker in [Marker::Abort, Marker::Commit] {
            let batch = marker.batch(7, 3, 1_000);
            let header = BatchHeader::parse(&batch).unwrap();
            assert!(header.is_control() && header.is_transactional());
            assert_eq!((header.producer_id, header.producer_epoch), (7, 3));
            assert_eq!((header.base_sequence, header.record_count), (-1, 1));
            assert_eq!(Marker::parse(&header, &batch), Ok(marker));
        }
    }

    #[test]
    fn other_control_records_are_refused() {
        let mut builder = BatchBuilder::new().as_control();
        builder.push(1, Some(&[0, 0, 0, 9]), None, std::iter::empty());
        let batch = builder.finish();
        let header = BatchHeader::parse(&batch).unwrap();
        assert!(Marker::parse(&header, &batch).is_err());
    }
}
