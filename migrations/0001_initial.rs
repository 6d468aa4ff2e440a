//! Format 1: the keys and values that `store/keys.rs` describes. An empty store needs no change.

use super::{Migration, StoreError};

/// The migration.
pub(super) const MIGRATION: Migration =
    Migration { id: 1, description: "initial format", min_reader: 1, up };

#[allow(clippy::unnecessary_wraps, reason = "the signature of every migration")]
fn up(_db: &sled::Db, _batch: &mut sled::Batch) -> Result<(), StoreError> {
    Ok(())
}
