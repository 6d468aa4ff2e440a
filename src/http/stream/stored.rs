//! The ids of a stream whose cursor is too long to send: a handle and the number of a snapshot.
//!
//! An id names a snapshot that was kept before the id is sent and that says what was sent up to
//! there, or less: whoever resumes gets every record, some perhaps twice. Events that are not
//! records have a snapshot of their own, so an idle stream resumes exactly.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use tokio::time::Instant;

use super::cursor::{self, Head};
use super::part::{Part, positions};
use crate::base::limits::CURSOR_BYTES_MAX;
use crate::engine::Cursors;
use crate::engine::cursors::{CursorStoreError, SnapshotKey};
use crate::http::record::stored;

/// Bytes of records after which the next id has a snapshot of its own.
const SNAPSHOT_BYTES: usize = 1024 * 1024;

/// Time after which the next id has a snapshot of its own.
const SNAPSHOT_INTERVAL: Duration = Duration::from_secs(10);

/// Time after which an idle stream has its snapshot kept anew, well before it expires.
const REFRESH_INTERVAL: Duration = Duration::from_secs(3600);

/// The ids of one stream.
pub(super) struct StoredIds {
    store: Arc<dyn Cursors>,
    key: SnapshotKey,
    /// The newest snapshot; the store has the same bytes.
    document: Bytes,
    text: Vec<u8>,
    taken: Instant,
    bytes_since: usize,
}

impl StoredIds {
    /// Tells whether a stream of these partitions needs stored ids.
    pub(super) fn are_needed(parts: &[Part]) -> bool {
        cursor::bytes_max(positions(parts)) > CURSOR_BYTES_MAX
    }

    /// Begins with a snapshot, which is on disk when the future is ready.
    ///
    /// # Errors
    /// [`CursorStoreError`] if it cannot be kept.
    pub(super) async fn open(
        store: Arc<dyn Cursors>,
        head: Head,
        parts: &[Part],
    ) -> Result<Self, CursorStoreError> {
        let ids = Self::new(store, head, parts);
        ids.store.put(ids.key, ids.document.clone()).await?;
        Ok(ids)
    }

    /// Begins with a snapshot, which survives a kill of the process.
    ///
    /// # Errors
    /// [`CursorStoreError`] if it cannot be kept.
    pub(super) fn begin(
        store: Arc<dyn Cursors>,
        head: Head,
        parts: &[Part],
    ) -> Result<Self, CursorStoreError> {
        let ids = Self::new(store, head, parts);
        let kept = ids.store.put(ids.key, ids.document.clone()).now_or_never();
        kept.unwrap_or(Ok(())).map(|()| ids)
    }

    fn new(store: Arc<dyn Cursors>, head: Head, parts: &[Part]) -> Self {
        let key = SnapshotKey { handle: uuid::Uuid::new_v4().as_u128(), seq: 0 };
        let document = Bytes::from(cursor::document(head, positions(parts)));
        let (text, taken) = (stored::text(key), Instant::now());
        Self { store, key, document, text, taken, bytes_since: 0 }
    }

    /// The id of this moment: that of the newest snapshot.
    pub(super) fn text(&self) -> &[u8] {
        &self.text
    }

    /// Tells whether enough was sent, or time enough has gone.
    pub(super) fn is_due(&self) -> bool {
        self.bytes_since >= SNAPSHOT_BYTES || self.taken.elapsed() >= SNAPSHOT_INTERVAL
    }

    /// Notes what was sent.
    pub(super) const fn sent(&mut self, bytes: usize) {
        self.bytes_since = self.bytes_since.saturating_add(bytes);
    }

    /// Takes a snapshot if there is anything new. One that cannot be kept leaves that before it,
    /// which costs repeated records after a break and no missing ones.
    pub(super) fn snapshot(&mut self, head: Head, parts: &[Part]) {
        let document = cursor::document(head, positions(parts));
        if self.document == document && self.taken.elapsed() < REFRESH_INTERVAL {
            return;
        }
        let document = Bytes::from(document);
        let key = SnapshotKey { seq: self.key.seq + 1, ..self.key };
        (self.taken, self.bytes_since) = (Instant::now(), 0);
        // What the disk says later is not waited for: nothing that was sent depends on it.
        if let Some(Err(error)) = self.store.put(key, document.clone()).now_or_never() {
            tracing::warn!(%error, "positions of a stream cannot be stored");
            return;
        }
        (self.key, self.document, self.text) = (key, document, stored::text(key));
    }
}
