//! The one place where the engine's errors become Kafka's error codes.
//!
//! Every match names every variant, so a new error cannot pass without a decision. Clients act on
//! codes: a retriable one makes them ask again, others are fatal to a producer; -1 is never used
//! for a state that is expected.

use crate::base::ids::InvalidTopicName;
use crate::engine::configs::AlterConfigsError;
use crate::engine::groups::{CommitRefusal, DeleteOffsetRefusal, GroupError};
use crate::engine::log::{AppendError, DeleteRecordsError, ReadError};
use crate::engine::producers::ProducerIdError;
use crate::engine::topics::{CreatePartitionsError, CreateTopicError, DeleteTopicError};
use crate::protocol::ErrorCode;
use crate::protocol::record_batch::BatchError;

pub(super) const fn append(error: &AppendError) -> ErrorCode {
    match error {
        AppendError::UnknownPartition { .. } => ErrorCode::UnknownTopicOrPartition,
        AppendError::InternalTopic(_) => ErrorCode::InvalidTopicException,
        AppendError::TooLarge { .. } => ErrorCode::MessageTooLarge,
        AppendError::Batch(error) => batch(error),
        AppendError::InvalidTimestamp { .. } => ErrorCode::InvalidTimestamp,
        AppendError::NotEnoughReplicas { .. } => ErrorCode::NotEnoughReplicas,
        AppendError::OutOfOrderSequence { .. } => ErrorCode::OutOfOrderSequenceNumber,
        AppendError::InvalidProducerEpoch { .. } => ErrorCode::InvalidProducerEpoch,
        AppendError::Storage(_) => ErrorCode::KafkaStorageError,
    }
}

pub(super) const fn batch(error: &BatchError) -> ErrorCode {
    match error {
        // Bytes that differ from what the producer made: sending them again may help.
        BatchError::Truncated { .. }
        | BatchError::BadLength(_)
        | BatchError::CrcMismatch { .. } => ErrorCode::CorruptMessage,
        BatchError::TrailingBytes(_)
        | BatchError::UnsupportedMagic(_)
        | BatchError::Decompression { .. }
        | BatchError::Empty
        | BatchError::BadRecord { .. }
        | BatchError::BadHeader(_) => ErrorCode::InvalidRecord,
        BatchError::UnknownCodec(_) => ErrorCode::UnsupportedCompressionType,
        // Producers answer this code by splitting the batch, which is the cure.
        BatchError::DecompressedTooLarge(_) => ErrorCode::MessageTooLarge,
    }
}

pub(super) const fn read(error: &ReadError) -> ErrorCode {
    match error {
        ReadError::UnknownPartition { .. } => ErrorCode::UnknownTopicOrPartition,
        ReadError::OffsetOutOfRange { .. } => ErrorCode::OffsetOutOfRange,
        ReadError::Storage(_) => ErrorCode::KafkaStorageError,
    }
}

pub(super) const fn delete_records(error: &DeleteRecordsError) -> ErrorCode {
    match error {
        DeleteRecordsError::UnknownPartition { .. } => ErrorCode::UnknownTopicOrPartition,
        DeleteRecordsError::InternalTopic(_) => ErrorCode::InvalidTopicException,
        DeleteRecordsError::NotDeletable(_) => ErrorCode::PolicyViolation,
        DeleteRecordsError::OffsetOutOfRange { .. } => ErrorCode::OffsetOutOfRange,
        DeleteRecordsError::Storage(_) => ErrorCode::KafkaStorageError,
    }
}

pub(super) const fn create_topic(error: &CreateTopicError) -> ErrorCode {
    match error {
        CreateTopicError::InvalidName(error) => topic_name(error),
        CreateTopicError::CollidingName { .. } => ErrorCode::InvalidTopicException,
        CreateTopicError::Exists(_) => ErrorCode::TopicAlreadyExists,
        CreateTopicError::InvalidPartitions { .. } => ErrorCode::InvalidPartitions,
        CreateTopicError::InvalidReplicationFactor(_) => ErrorCode::InvalidReplicationFactor,
        CreateTopicError::InvalidConfig { .. } => ErrorCode::InvalidConfig,
        CreateTopicError::TooManyPartitions(_) => ErrorCode::PolicyViolation,
        CreateTopicError::Storage(_) => ErrorCode::KafkaStorageError,
    }
}

pub(super) const fn topic_name(error: &InvalidTopicName) -> ErrorCode {
    match error {
        InvalidTopicName::Empty
        | InvalidTopicName::Reserved(_)
        | InvalidTopicName::TooLong(_)
        | InvalidTopicName::IllegalCharacter(_) => ErrorCode::InvalidTopicException,
    }
}

pub(super) const fn delete_topic(error: &DeleteTopicError) -> ErrorCode {
    match error {
        DeleteTopicError::Unknown(_) => ErrorCode::UnknownTopicOrPartition,
        DeleteTopicError::Internal(_) => ErrorCode::InvalidTopicException,
        DeleteTopicError::Storage(_) => ErrorCode::KafkaStorageError,
    }
}

pub(super) const fn create_partitions(error: &CreatePartitionsError) -> ErrorCode {
    match error {
        CreatePartitionsError::Unknown(_) => ErrorCode::UnknownTopicOrPartition,
        CreatePartitionsError::Internal(_) => ErrorCode::InvalidTopicException,
        CreatePartitionsError::NotMore { .. } | CreatePartitionsError::TooMany { .. } => {
            ErrorCode::InvalidPartitions
        }
        CreatePartitionsError::TooManyInAll(_) => ErrorCode::PolicyViolation,
        CreatePartitionsError::Storage(_) => ErrorCode::KafkaStorageError,
    }
}

pub(super) const fn alter_configs(error: &AlterConfigsError) -> ErrorCode {
    match error {
        AlterConfigsError::UnknownTopic(_) => ErrorCode::UnknownTopicOrPartition,
        AlterConfigsError::InternalTopic(_) => ErrorCode::InvalidTopicException,
        AlterConfigsError::UnknownConfig(_)
        | AlterConfigsError::InvalidValue { .. }
        | AlterConfigsError::NotAList(_) => ErrorCode::InvalidConfig,
        AlterConfigsError::ReadOnly(_) | AlterConfigsError::Repeated(_) => {
            ErrorCode::InvalidRequest
        }
        AlterConfigsError::Storage(_) => ErrorCode::KafkaStorageError,
    }
}

pub(super) const fn group(error: &GroupError) -> ErrorCode {
    match error {
        GroupError::CoordinatorNotAvailable => ErrorCode::CoordinatorNotAvailable,
        GroupError::CoordinatorLoadInProgress => ErrorCode::CoordinatorLoadInProgress,
        GroupError::NotCoordinator => ErrorCode::NotCoordinator,
        GroupError::IllegalGeneration => ErrorCode::IllegalGeneration,
        GroupError::InconsistentGroupProtocol => ErrorCode::InconsistentGroupProtocol,
        GroupError::UnknownMemberId => ErrorCode::UnknownMemberId,
        GroupError::InvalidSessionTimeout => ErrorCode::InvalidSessionTimeout,
        GroupError::RebalanceInProgress => ErrorCode::RebalanceInProgress,
        GroupError::GroupMaxSizeReached => ErrorCode::GroupMaxSizeReached,
        GroupError::MemberIdRequired(_) => ErrorCode::MemberIdRequired,
        GroupError::FencedInstanceId => ErrorCode::FencedInstanceId,
        GroupError::InvalidGroupId => ErrorCode::InvalidGroupId,
        GroupError::InvalidRequest => ErrorCode::InvalidRequest,
        GroupError::NonEmptyGroup => ErrorCode::NonEmptyGroup,
        GroupError::GroupIdNotFound => ErrorCode::GroupIdNotFound,
        GroupError::GroupSubscribedToTopic => ErrorCode::GroupSubscribedToTopic,
        GroupError::OffsetMetadataTooLarge => ErrorCode::OffsetMetadataTooLarge,
    }
}

pub(super) const fn commit(refusal: &CommitRefusal) -> ErrorCode {
    match refusal {
        CommitRefusal::UnknownPartition => ErrorCode::UnknownTopicOrPartition,
        CommitRefusal::MetadataTooLarge => ErrorCode::OffsetMetadataTooLarge,
    }
}

pub(super) const fn delete_offset(refusal: DeleteOffsetRefusal) -> ErrorCode {
    match refusal {
        DeleteOffsetRefusal::UnknownPartition => ErrorCode::UnknownTopicOrPartition,
        DeleteOffsetRefusal::Subscribed => ErrorCode::GroupSubscribedToTopic,
    }
}

pub(super) const fn producer_id(error: &ProducerIdError) -> ErrorCode {
    match error {
        // Every client gives up at once on this one; librdkafka retries an unsupported version.
        ProducerIdError::TransactionsUnsupported(_) => {
            ErrorCode::TransactionalIdAuthorizationFailed
        }
        // Clients ask again for this one, unlike for the storage error.
        ProducerIdError::Storage(_) | ProducerIdError::TooManyNames(_) => {
            ErrorCode::CoordinatorNotAvailable
        }
    }
}
