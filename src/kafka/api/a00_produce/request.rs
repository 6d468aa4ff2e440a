//! Decodes the request by hand: records stay slices of the frame, and the number of partitions is
//! bounded, because a frame of Produce may be larger than decoded arrays of empty topics may be.

use bytes::Bytes;

use crate::base::ids::PartitionId;
use crate::base::limits::PARTITIONS_MAX;
use crate::kafka::reader::{DecodeError, Encoding, Reader};
use crate::protocol::KafkaString;

/// First version with flexible encoding.
const FLEXIBLE_FROM: i16 = 9;

/// A request to append.
#[derive(Debug)]
pub(super) struct ProduceRequest {
    pub(super) transactional_id: Option<KafkaString>,
    pub(super) acks: i16,
    pub(super) topics: Vec<KafkaString>,
    /// In order of the request.
    pub(super) partitions: Vec<PartitionRecords>,
}

/// The records for one partition.
#[derive(Debug)]
pub(super) struct PartitionRecords {
    /// Index of the topic in the request.
    pub(super) topic: usize,
    pub(super) partition: PartitionId,
    pub(super) records: Option<Bytes>,
}

impl ProduceRequest {
    pub(super) fn read(body: &mut Bytes, version: i16) -> Result<Self, DecodeError> {
        let is_flexible = version >= FLEXIBLE_FROM;
        let encoding = if is_flexible { Encoding::Flexible } else { Encoding::Classic };
        let mut reader = Reader::new(body, encoding);
        let transactional_id = reader.nullable_string()?;
        let acks = reader.i16()?;
        let _timeout_ms = reader.i32()?;
        let topic_count = within_limit(reader.array_length()?)?;
        let mut request =
            Self { transactional_id, acks, topics: Vec::new(), partitions: Vec::new() };
        for topic in 0..topic_count {
            request.topics.push(reader.string()?);
            request.read_partitions(&mut reader, topic)?;
            reader.skip_tags()?;
        }
        reader.skip_tags()?;
        Ok(request)
    }

    fn read_partitions(
        &mut self,
        reader: &mut Reader<'_>,
        topic: usize,
    ) -> Result<(), DecodeError> {
        let count = reader.array_length()?;
        within_limit(self.partitions.len().saturating_add(count))?;
        for _ in 0..count {
            let partition = reader.i32()?;
            let records = reader.nullable_bytes()?;
            reader.skip_tags()?;
            self.partitions.push(PartitionRecords { topic, partition, records });
        }
        Ok(())
    }
}

const fn within_limit(count: usize) -> Result<usize, DecodeError> {
    if count > PARTITIONS_MAX {
        Err(DecodeError::TooManyElements(PARTITIONS_MAX))
    } else {
        Ok(count)
    }
}
