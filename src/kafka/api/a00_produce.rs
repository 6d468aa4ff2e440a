//! 0 Produce: advertised 0 to 11, served 3 to 11.
//!
//! - v3: record batch v2 and a transactional id (KIP-98)
//! - v4: KAFKA_STORAGE_ERROR may be answered
//! - v5: log start offset in the answer
//! - v6: throttling after the answer (KIP-219)
//! - v7: zstd allowed (KIP-110)
//! - v8: record errors and an error message in the answer (KIP-467)
//! - v9: flexible encoding
//! - v10: leader hints in the answer (KIP-951); a single node has none to give
//! - v11: transactional error codes for newer clients (KIP-890)
//!
//! Deviations: versions 0 to 2 are advertised and not served, as in Kafka 4 (KAFKA-18659);
//! librdkafka before 2.11.1 stops compressing otherwise. Transactions are not offered: a
//! transactional request or batch is INVALID_TXN_STATE. The timeout has nothing to bound.

mod request;

use crate::base::ids::{PartitionId, TopicName};
use crate::engine::log::{AckLevel, Append, AppendError, Receipt};
use crate::engine::{Engine, Later};
use crate::protocol::record_batch::{BatchError, BatchHeader, Codec};
use crate::protocol::{ErrorCode, KafkaString, messages as wire};

use super::{Call, Reply, VersionRange, errors, later, text};
use crate::kafka::reader::DecodeError;
use request::{PartitionRecords, ProduceRequest};

pub(super) const RANGE: VersionRange = VersionRange::advertised_from_zero(3, 11);

/// First version that may carry zstd.
const ZSTD_FROM: i16 = 7;

/// Why a partition's records were not appended.
#[derive(Debug, Clone)]
struct Fault {
    code: ErrorCode,
    message: String,
    /// Position of the record at fault in its batch.
    record: Option<i32>,
}

/// One partition of the answer.
#[derive(Debug)]
struct Slot {
    /// Index of the topic in the request.
    topic: usize,
    partition: PartitionId,
    outcome: Outcome,
}

#[derive(Debug)]
enum Outcome {
    Appended(Later<Result<Receipt, AppendError>>),
    Refused(Fault),
}

/// What the answer needs of the request.
#[derive(Debug)]
struct Shape {
    topics: Vec<KafkaString>,
    /// Whether the client waits for an answer (`acks` other than 0).
    is_answered: bool,
}

pub(super) fn start(mut call: Call) -> Result<Later<Reply>, DecodeError> {
    let request = ProduceRequest::read(&mut call.body, call.version)?;
    let level = match request.acks {
        0 => Ok(AckLevel::None),
        1 => Ok(AckLevel::Written),
        -1 => Ok(AckLevel::Durable),
        other => {
            Err(Fault::new(ErrorCode::InvalidRequiredAcks, format!("acks {other} is unknown")))
        }
    };
    let level = match &request.transactional_id {
        Some(_) => Err(Fault::new(ErrorCode::InvalidTxnState, "transactions are not supported")),
        None => level,
    };
    let mut appender =
        Appender { engine: call.engine(), version: call.version, level, topic: None };
    let topics = request.topics;
    // Appends happen here, in order of arrival; only durability is left to wait for.
    let slots = request.partitions.into_iter().map(|records| {
        let name = topics.get(records.topic).map_or("", KafkaString::as_str);
        appender.append(name, records)
    });
    let slots: Vec<Slot> = slots.collect();
    let shape = Shape { topics, is_answered: request.acks != 0 };
    if slots.iter().all(Slot::is_settled) {
        let results = slots.into_iter().map(Slot::settled);
        return Ok(Later::Now(shape.reply(results.collect())));
    }
    Ok(later(async move {
        let mut results = Vec::with_capacity(slots.len());
        for slot in slots {
            results.push(slot.settle().await);
        }
        shape.reply(results)
    }))
}

/// Appends the partitions of one request.
struct Appender<'a> {
    engine: &'a Engine,
    version: i16,
    /// What the acknowledgement promises, or why nothing of this request is taken.
    level: Result<AckLevel, Fault>,
    /// The topic found last: partitions of a topic come together.
    topic: Option<(usize, Result<TopicName, Fault>)>,
}

impl Appender<'_> {
    fn append(&mut self, name: &str, records: PartitionRecords) -> Slot {
        let (topic, partition) = (records.topic, records.partition);
        let outcome = match self.try_append(name, records) {
            Ok(receipt) => Outcome::Appended(receipt),
            Err(fault) => Outcome::Refused(fault),
        };
        Slot { topic, partition, outcome }
    }

    fn try_append(
        &mut self,
        name: &str,
        records: PartitionRecords,
    ) -> Result<Later<Result<Receipt, AppendError>>, Fault> {
        let level = *self.level.as_ref().map_err(Fault::clone)?;
        let topic = self.find(records.topic, name)?;
        let batch = records.records.unwrap_or_default();
        if batch.is_empty() {
            return Err(Fault::new(ErrorCode::InvalidRecord, "partition has no record batch"));
        }
        self.check_batch(&batch)?;
        let partition = records.partition;
        Ok(self.engine.log.append(Append { topic, partition, batch, level }))
    }

    /// Checks what depends on the request rather than on the log; the engine checks the rest.
    fn check_batch(&self, batch: &[u8]) -> Result<(), Fault> {
        // A header that cannot be read is the engine's to refuse.
        let Ok(header) = BatchHeader::parse(batch) else { return Ok(()) };
        if self.version < ZSTD_FROM && header.codec() == Ok(Codec::Zstd) {
            let message = "zstd needs Produce version 7";
            return Err(Fault::new(ErrorCode::UnsupportedCompressionType, message));
        }
        if header.is_transactional() {
            let message = "transactions are not supported";
            return Err(Fault::new(ErrorCode::InvalidTxnState, message));
        }
        Ok(())
    }

    fn find(&mut self, index: usize, name: &str) -> Result<TopicName, Fault> {
        match &self.topic {
            Some((known, found)) if *known == index => found.clone(),
            _ => {
                let found = find_topic(self.engine, name);
                self.topic = Some((index, found.clone()));
                found
            }
        }
    }
}

fn find_topic(engine: &Engine, name: &str) -> Result<TopicName, Fault> {
    match engine.topics.find(name) {
        Some(topic) => Ok(topic.name.clone()),
        None => Err(match TopicName::parse(name) {
            Ok(_) => {
                let message = format!("topic '{name}' does not exist");
                Fault::new(ErrorCode::UnknownTopicOrPartition, message)
            }
            Err(error) => Fault::new(errors::topic_name(&error), error.to_string()),
        }),
    }
}

// === impl Fault ===

impl Fault {
    fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), record: None }
    }
}

impl From<AppendError> for Fault {
    fn from(error: AppendError) -> Self {
        let record = match &error {
            AppendError::Batch(BatchError::BadRecord { index, .. }) => Some(*index),
            _ => None,
        };
        Self { code: errors::append(&error), message: error.to_string(), record }
    }
}

// === impl Slot ===

/// One partition's result with the index of its topic.
type Settled = (usize, PartitionId, Result<Receipt, Fault>);

impl Slot {
    const fn is_settled(&self) -> bool {
        !matches!(self.outcome, Outcome::Appended(Later::Then(_)))
    }

    /// Takes the result of a settled slot; one that is not counts as failed.
    fn settled(self) -> Settled {
        let result = match self.outcome {
            Outcome::Appended(Later::Now(result)) => result.map_err(Fault::from),
            Outcome::Appended(Later::Then(_)) => {
                Err(Fault::new(ErrorCode::RequestTimedOut, "append is not finished"))
            }
            Outcome::Refused(fault) => Err(fault),
        };
        (self.topic, self.partition, result)
    }

    async fn settle(self) -> Settled {
        let result = match self.outcome {
            Outcome::Appended(receipt) => receipt.await.map_err(Fault::from),
            Outcome::Refused(fault) => Err(fault),
        };
        (self.topic, self.partition, result)
    }
}

// === impl Shape ===

impl Shape {
    fn reply(self, results: Vec<Settled>) -> Reply {
        let failed = results.iter().find_map(|(_, _, result)| result.as_ref().err());
        let error = failed.map_or(ErrorCode::None, |fault| fault.code);
        if !self.is_answered {
            return Reply::nothing(error);
        }
        let topic = |name| wire::TopicProduceResponse { name, ..Default::default() };
        let mut topics: Vec<_> = self.topics.into_iter().map(topic).collect();
        for (index, partition, result) in results {
            if let Some(topic) = topics.get_mut(index) {
                topic.partition_responses.push(partition_response(partition, result));
            }
        }
        let message = wire::ProduceResponseData { responses: topics, ..Default::default() };
        Reply::message(message, error)
    }
}

fn partition_response(
    index: PartitionId,
    result: Result<Receipt, Fault>,
) -> wire::PartitionProduceResponse {
    match result {
        Ok(receipt) => wire::PartitionProduceResponse {
            index,
            base_offset: receipt.base_offset,
            log_append_time_ms: receipt.log_append_time,
            log_start_offset: receipt.log_start_offset,
            ..Default::default()
        },
        Err(fault) => wire::PartitionProduceResponse {
            index,
            error_code: fault.code.code(),
            base_offset: -1,
            log_append_time_ms: -1,
            log_start_offset: -1,
            record_errors: fault
                .record
                .map(|at| record_error(at, &fault.message))
                .into_iter()
                .collect(),
            error_message: Some(text(&fault.message)),
            ..Default::default()
        },
    }
}

fn record_error(
    batch_index: i32,
    message: &str,
) -> wire::produce_response::BatchIndexAndErrorMessage {
    wire::produce_response::BatchIndexAndErrorMessage {
        batch_index,
        batch_index_error_message: Some(text(message)),
        ..Default::default()
    }
}
