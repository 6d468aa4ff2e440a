//! Producers that write transactions of this process.
//!
//! A partition has one open transaction per producer, so every transaction at work needs one of
//! its own. A producer is used again with its next epoch, whose sequences begin at 0, once the
//! markers of its last transaction are on disk: until then a restart may need its decision.

use std::collections::HashMap;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::super::producer_ids::EmbeddedProducers;
use crate::base::ids::{PartitionId, TopicId};
use crate::engine::Producers as _;
use crate::engine::producers::ProducerIdError;
use crate::log::Promise;
use crate::protocol::record_batch::ProducerStamp;
use crate::protocol::record_batch::header::add_sequence;

/// Transactions of this process that may be at work at once; more wait.
const TRANSACTIONS_MAX: usize = 64;

/// A producer between transactions.
#[derive(Debug)]
struct Idle {
    id: i64,
    epoch: i16,
    markers: Vec<Promise>,
}

/// The producers that are not at work.
#[derive(Debug)]
pub(super) struct Pool {
    producers: EmbeddedProducers,
    permits: Semaphore,
    idle: Mutex<Vec<Idle>>,
}

/// A producer at work on one transaction.
#[derive(Debug)]
pub(super) struct Producer<'a> {
    pub(super) id: i64,
    pub(super) epoch: i16,
    /// What must be on disk before the decision about the last transaction may be replaced.
    pub(super) markers: Vec<Promise>,
    next_sequence: HashMap<(TopicId, PartitionId), i32>,
    _permit: SemaphorePermit<'a>,
}

impl Producer<'_> {
    /// The stamp of the next batch of `records` records for a partition.
    pub(super) fn stamp(
        &mut self,
        partition: (TopicId, PartitionId),
        records: i32,
    ) -> ProducerStamp {
        let next = self.next_sequence.entry(partition).or_insert(0);
        let base_sequence = *next;
        *next = add_sequence(base_sequence, records);
        ProducerStamp { id: self.id, epoch: self.epoch, base_sequence }
    }
}

impl Pool {
    pub(super) fn new(producers: EmbeddedProducers) -> Self {
        let permits = Semaphore::new(TRANSACTIONS_MAX);
        Self { producers, permits, idle: Mutex::default() }
    }

    /// Takes a producer, or makes one.
    pub(super) async fn take(&self) -> Result<Producer<'_>, ProducerIdError> {
        let closed = |_| ProducerIdError::Storage("server is stopping".to_owned());
        let permit = self.permits.acquire().await.map_err(closed)?;
        let idle = self.idle.lock().pop();
        let (id, epoch, markers) = match idle {
            Some(idle) if idle.epoch < i16::MAX => (idle.id, idle.epoch + 1, idle.markers),
            // Epochs are used up after 32,767 transactions.
            _ => (self.producers.init_producer_id(None).await?.id, 0, Vec::new()),
        };
        let next_sequence = HashMap::new();
        Ok(Producer { id, epoch, markers, next_sequence, _permit: permit })
    }

    /// Takes a producer back whose transaction ended with these markers.
    pub(super) fn give_back(&self, producer: &Producer<'_>, markers: Vec<Promise>) {
        self.idle.lock().push(Idle { id: producer.id, epoch: producer.epoch, markers });
    }
}
