//! Role: what the HTTP door keeps of its consumer instances, so that they survive a restart.
//!
//! The engine keeps opaque documents by key; what is in them is the business of `consumers/`.

use bytes::Bytes;

use super::BoxFuture;
use crate::base::ids::GroupId;

/// The name of a consumer instance.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InstanceKey {
    /// Its group.
    pub group: GroupId,
    /// Its name within the group.
    pub name: String,
}

/// Why an instance could not be kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("storage failed: {0}")]
pub struct InstanceStoreError(pub String);

/// Keeps documents of consumer instances.
pub trait Instances: Send + Sync + 'static {
    /// Reads all documents, once, at start.
    fn load(&self) -> Vec<(InstanceKey, Bytes)>;

    /// Keeps a document; when the answer comes it survives loss of power.
    ///
    /// # Ordering
    /// Documents of one key are kept in the order of the calls.
    ///
    /// # Cancel safety
    /// The document is kept whether or not the answer is awaited.
    fn put(&self, key: &InstanceKey, document: Bytes) -> BoxFuture<Result<(), InstanceStoreError>>;

    /// Forgets a document.
    ///
    /// # Cancel safety
    /// As [`Instances::put`].
    fn remove(&self, key: &InstanceKey) -> BoxFuture<Result<(), InstanceStoreError>>;
}
