//! The `Producers` role: ids are taken from blocks that are on disk before the first is given.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::metadata;
use super::state_log::StateLog;
use crate::base::limits::PRODUCER_NAMES_MAX;
use crate::engine::BoxFuture;
use crate::engine::producers::{ProducerIdError, ProducerIdentity, Producers};

/// Ids per block, as in Kafka; a crash wastes at most one block.
const BLOCK_IDS: u64 = 1000;

#[derive(Debug)]
struct Block {
    next: u64,
    end: u64,
}

/// Gives out producer ids.
#[derive(Debug, Clone)]
pub(super) struct EmbeddedProducers {
    state: StateLog,
    block: Arc<tokio::sync::Mutex<Block>>,
    names: Arc<Mutex<HashMap<String, i64>>>,
}

impl EmbeddedProducers {
    /// Continues after `next`, below which every id may be in use.
    pub(super) fn new(state: StateLog, next: u64, names: HashMap<String, i64>) -> Self {
        let block = Arc::new(tokio::sync::Mutex::new(Block { next, end: next }));
        Self { state, block, names: Arc::new(Mutex::new(names)) }
    }

    fn known(&self, name: &str) -> Option<i64> {
        self.names.lock().get(name).copied()
    }

    /// Gives a name an id; callers of the same name at the same time get the same one.
    async fn name(&self, name: String) -> Result<i64, ProducerIdError> {
        let mut block = self.block.lock().await;
        if let Some(known) = self.known(&name) {
            return Ok(known);
        }
        let count = self.names.lock().len();
        if count >= PRODUCER_NAMES_MAX {
            return Err(ProducerIdError::TooManyNames(count));
        }
        let id = self.next_of(&mut block).await?;
        let committed = self.state.commit(&[metadata::set_producer_name(&name, id)]).await;
        committed.map_err(|error| ProducerIdError::Storage(error.to_string()))?;
        self.names.lock().insert(name, id);
        Ok(id)
    }

    async fn next_id(&self) -> Result<i64, ProducerIdError> {
        let mut block = self.block.lock().await;
        self.next_of(&mut block).await
    }

    async fn next_of(&self, block: &mut Block) -> Result<i64, ProducerIdError> {
        if block.next == block.end {
            let end = block.end + BLOCK_IDS;
            let change = [metadata::set_next_producer_id(end)];
            let committed = self.state.commit(&change).await;
            committed.map_err(|error| ProducerIdError::Storage(error.to_string()))?;
            block.end = end;
        }
        let id = block.next;
        block.next += 1;
        i64::try_from(id).map_err(|_| ProducerIdError::Storage("ids are used up".to_owned()))
    }
}

impl Producers for EmbeddedProducers {
    fn init_producer_id(
        &self,
        transactional_id: Option<String>,
    ) -> BoxFuture<Result<ProducerIdentity, ProducerIdError>> {
        if let Some(id) = transactional_id {
            let refused = Err(ProducerIdError::TransactionsUnsupported(id));
            return Box::pin(std::future::ready(refused));
        }
        let this = self.clone();
        Box::pin(async move { Ok(ProducerIdentity { id: this.next_id().await?, epoch: 0 }) })
    }

    fn named(&self, name: &str) -> BoxFuture<Result<i64, ProducerIdError>> {
        if let Some(known) = self.known(name) {
            return Box::pin(std::future::ready(Ok(known)));
        }
        let (this, name) = (self.clone(), name.to_owned());
        Box::pin(async move { this.name(name).await })
    }
}
