//! Layer 2: one partition's log on disk.
//!
//! A [`Partition`] is a row of segment files; a segment is record batches back to back, byte for
//! byte as the producer sent them. The segments are the truth; the sparse index and the producer
//! table are derived from them and saved elsewhere only to make opening fast (ADR 0002).
//!
//! Invariants:
//! - offsets are assigned, bytes written and producer state updated in one critical section;
//! - readers see a batch only when all of it is written (the high watermark moves after the write);
//! - nothing below the recovery point is ever rewritten except by compaction, by rename;
//! - a write error leaves the log as it was before; a sync error takes the partition offline.
//!
//! This module knows nothing of topics' metadata, of sled or of a socket.

pub mod append;
pub mod checkpoint;
pub mod compaction;
pub mod durability;
pub mod index;
pub mod journal;
pub mod layout;
pub mod partition;
mod producer_snapshot;
pub mod producer_state;
pub mod read;
pub mod recovery;
pub mod rescue;
pub mod retention;
pub mod segment;
pub mod transactions;

pub use append::{AppendError, Appended};
pub use durability::{AckLevel, Committer, Durability, Promise, SYNC_THREADS};
pub use partition::{LogConfig, Partition};
pub use read::{LogSlice, ReadError};
pub use recovery::{RecoveryError, SavedPartition};
pub use transactions::{AbortedTransaction, OpenTransaction};
