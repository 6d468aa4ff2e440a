//! The `Instances` role: documents of consumer instances as records of `__consumer_instances`.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::state_log::StateLog;
use crate::base::ids::GroupId;
use crate::engine::BoxFuture;
use crate::engine::instances::{InstanceKey, InstanceStoreError, Instances};

/// Keeps documents of consumer instances.
#[derive(Debug, Clone)]
pub(super) struct EmbeddedInstances {
    state: StateLog,
    /// What was there at start, until somebody loads it.
    loaded: Arc<Mutex<Vec<(InstanceKey, Bytes)>>>,
}

impl EmbeddedInstances {
    pub(super) fn new(state: StateLog, view: BTreeMap<Vec<u8>, Vec<u8>>) -> Self {
        let decode = |(key, value): (Vec<u8>, Vec<u8>)| {
            let Some(key) = decode_key(&key) else {
                tracing::error!("consumer instance with an unreadable key is passed over");
                return None;
            };
            Some((key, Bytes::from(value)))
        };
        let loaded = view.into_iter().filter_map(decode).collect();
        Self { state, loaded: Arc::new(Mutex::new(loaded)) }
    }

    fn write(
        &self,
        key: &InstanceKey,
        document: Option<Bytes>,
    ) -> BoxFuture<Result<(), InstanceStoreError>> {
        let failed = |error: &dyn std::fmt::Display| InstanceStoreError(error.to_string());
        // Appending here and not in the future keeps documents in the order of the calls.
        let appended = self.state.append(&[(encode_key(key), document)]);
        let state = self.state.clone();
        Box::pin(async move {
            let promise = appended.map_err(|error| failed(&error))?;
            state.wait(promise).await.map_err(|error| failed(&error))
        })
    }
}

impl Instances for EmbeddedInstances {
    fn load(&self) -> Vec<(InstanceKey, Bytes)> {
        std::mem::take(&mut self.loaded.lock())
    }

    fn put(&self, key: &InstanceKey, document: Bytes) -> BoxFuture<Result<(), InstanceStoreError>> {
        self.write(key, Some(document))
    }

    fn remove(&self, key: &InstanceKey) -> BoxFuture<Result<(), InstanceStoreError>> {
        self.write(key, None)
    }
}

/// A JSON array of group and name, so that no character needs an escape of ours.
fn encode_key(key: &InstanceKey) -> Bytes {
    let pair = (key.group.as_str(), key.name.as_str());
    Bytes::from(serde_json::to_vec(&pair).unwrap_or_default())
}

fn decode_key(bytes: &[u8]) -> Option<InstanceKey> {
    let (group, name): (String, String) = serde_json::from_slice(bytes).ok()?;
    Some(InstanceKey { group: GroupId::from(group.as_str()), name })
}
