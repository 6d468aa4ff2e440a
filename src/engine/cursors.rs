//! Role: what the HTTP door keeps of streams whose cursor is too long to send.
//!
//! A stream has a handle, and under it snapshots of where it was, numbered as they were taken. The
//! engine keeps them as opaque documents for a day; what is in them is the business of `http/`.

use bytes::Bytes;

use super::BoxFuture;

/// The name of one snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SnapshotKey {
    /// The stream, by a number that nobody guesses.
    pub handle: u128,
    /// The number of the snapshot, from 0.
    pub seq: u64,
}

impl SnapshotKey {
    /// The number of a snapshot that no stream took: a client had it made, and it stays alone.
    const MADE: u64 = u64::MAX;

    /// The name of a snapshot that a client had made.
    #[must_use]
    pub const fn made(handle: u128) -> Self {
        Self { handle, seq: Self::MADE }
    }

    /// Tells whether a client had the snapshot made.
    #[must_use]
    pub const fn is_made(self) -> bool {
        self.seq == Self::MADE
    }
}

/// Why a snapshot could not be kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CursorStoreError {
    /// It could not be written.
    #[error("storage failed: {0}")]
    Storage(String),
    /// As many as may be were made within the time for which they are kept.
    #[error("{count} made cursors of {bytes} bytes are kept, and no more may be for now")]
    Full {
        /// Those that are kept.
        count: usize,
        /// Bytes of their positions.
        bytes: usize,
    },
}

/// Keeps snapshots of streams.
///
/// Of one handle the first, the newest, and the fewer the older are kept; when there is no room,
/// the handle goes that was written longest ago. What clients had made has a bound of its own, so
/// that it leaves most of the room to streams; it is refused beyond.
pub trait Cursors: Send + Sync + 'static {
    /// Keeps a snapshot. It survives a kill of the process when the call returns, and loss of
    /// power when the answer comes.
    ///
    /// # Ordering
    /// The numbers of a handle must grow.
    ///
    /// # Cancel safety
    /// The snapshot is kept whether or not the answer is awaited.
    fn put(&self, key: SnapshotKey, document: Bytes) -> BoxFuture<Result<(), CursorStoreError>>;

    /// Finds a snapshot, or the nearest before it that is kept; none if the handle is unknown, or
    /// its time is over.
    fn find(&self, key: SnapshotKey) -> Option<Bytes>;
}
