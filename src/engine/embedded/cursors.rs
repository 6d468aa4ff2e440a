//! The `Cursors` role: snapshots of streams as records of `__stream_cursors`, and in memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::open::View;
use super::state_log::{Change, StateLog};
use crate::base::clock::SharedClock;
use crate::base::ids::TimestampMs;
use crate::base::limits::{
    MADE_CURSOR_BYTES_MAX, MADE_CURSORS_MAX, STORED_CURSOR_BYTES_MAX, STORED_CURSOR_TTL,
    STORED_CURSORS_MAX,
};
use crate::engine::BoxFuture;
use crate::engine::cursors::{CursorStoreError, Cursors, SnapshotKey};

/// Newest snapshots of a handle that are all kept.
const RECENT: u64 = 4;

/// Bytes before the document in a record: the moment at which its time is over.
const EXPIRY_BYTES: usize = 8;

/// Keeps snapshots of streams. A clone keeps the same.
#[derive(Clone)]
pub(super) struct EmbeddedCursors {
    state: StateLog,
    kept: Arc<Mutex<Kept>>,
    clock: SharedClock,
}

/// Everything that is kept.
#[derive(Debug, Default)]
struct Kept {
    handles: BTreeMap<u128, Handle>,
    /// Handles by the moment at which their time is over, so also by when they were written.
    by_expiry: BTreeMap<(TimestampMs, u128), ()>,
    bytes: usize,
    /// Handles of which a client had the snapshot made.
    made: usize,
    /// Bytes of them.
    made_bytes: usize,
}

#[derive(Debug, Default)]
struct Handle {
    expires: TimestampMs,
    snapshots: BTreeMap<u64, Bytes>,
}

impl EmbeddedCursors {
    pub(super) fn new(state: StateLog, view: &View, clock: SharedClock) -> Self {
        let mut kept = Kept::default();
        for (key, value) in view {
            match (decode_key(key), value.split_first_chunk::<EXPIRY_BYTES>()) {
                (Some(key), Some((expires, document))) => {
                    let expires = TimestampMs::from_be_bytes(*expires);
                    kept.insert(key, expires, Bytes::copy_from_slice(document));
                }
                _ => tracing::error!("stored cursor that cannot be read is passed over"),
            }
        }
        Self { state, kept: Arc::new(Mutex::new(kept)), clock }
    }

    /// Forgets what is too old.
    pub(super) fn expire(&self) {
        let now = self.clock.now_ms();
        let mut kept = self.kept.lock();
        let mut changes = Vec::new();
        while let Some(handle) = kept.oldest().filter(|(at, _)| *at <= now).map(|(_, h)| h) {
            kept.remove(handle, &mut changes);
        }
        if let Err(error) = self.append(&changes) {
            tracing::warn!(%error, "stored cursors that expired come back with a restart");
        }
    }

    fn append(
        &self,
        changes: &[Change],
    ) -> Result<Option<crate::log::Promise>, crate::log::AppendError> {
        if changes.is_empty() { Ok(None) } else { self.state.append(changes).map(Some) }
    }
}

impl Cursors for EmbeddedCursors {
    fn put(&self, key: SnapshotKey, document: Bytes) -> BoxFuture<Result<(), CursorStoreError>> {
        let ttl = TimestampMs::try_from(STORED_CURSOR_TTL.as_millis()).unwrap_or(TimestampMs::MAX);
        let expires = self.clock.now_ms().saturating_add(ttl);
        let mut value = expires.to_be_bytes().to_vec();
        value.extend_from_slice(&document);
        // Under the lock, so that records are in the order of what is in memory.
        let mut kept = self.kept.lock();
        if let Err(full) = kept.check_room(key, document.len()) {
            return Box::pin(std::future::ready(Err(full)));
        }
        let appended = self.append(&[(encode_key(key), Some(value.into()))]);
        if appended.is_ok() {
            kept.insert(key, expires, document);
            let mut gone = Vec::new();
            kept.thin(key, &mut gone);
            kept.make_room(key.handle, &mut gone);
            if let Err(error) = self.append(&gone) {
                tracing::warn!(%error, "old stored cursors come back with a restart");
            }
        }
        drop(kept);
        let state = self.state.clone();
        Box::pin(async move {
            let failed =
                |error: crate::log::AppendError| CursorStoreError::Storage(error.to_string());
            match appended.map_err(failed)? {
                Some(promise) => state.wait(promise).await.map_err(failed),
                None => Ok(()),
            }
        })
    }

    fn find(&self, key: SnapshotKey) -> Option<Bytes> {
        let kept = self.kept.lock();
        let handle = kept.handles.get(&key.handle)?;
        let is_over = handle.expires <= self.clock.now_ms();
        let (_, document) = handle.snapshots.range(..=key.seq).next_back()?;
        (!is_over).then(|| document.clone())
    }
}

impl Kept {
    fn oldest(&self) -> Option<(TimestampMs, u128)> {
        self.by_expiry.first_key_value().map(|(key, ())| *key)
    }

    fn insert(&mut self, key: SnapshotKey, expires: TimestampMs, document: Bytes) {
        let handle = self.handles.entry(key.handle).or_default();
        self.by_expiry.remove(&(handle.expires, key.handle));
        handle.expires = handle.expires.max(expires);
        self.by_expiry.insert((handle.expires, key.handle), ());
        self.bytes += document.len();
        if key.is_made() {
            self.made_bytes += document.len();
        }
        if let Some(before) = handle.snapshots.insert(key.seq, document) {
            self.bytes -= before.len();
            if key.is_made() {
                self.made_bytes -= before.len();
            }
        } else if key.is_made() {
            self.made += 1;
        }
    }

    /// Refuses one that a client had made if there are too many of them.
    fn check_room(&self, key: SnapshotKey, bytes: usize) -> Result<(), CursorStoreError> {
        let is_full =
            self.made >= MADE_CURSORS_MAX || self.made_bytes + bytes > MADE_CURSOR_BYTES_MAX;
        if key.is_made() && is_full {
            return Err(CursorStoreError::Full { count: self.made, bytes: self.made_bytes });
        }
        Ok(())
    }

    /// Forgets snapshots of a handle so that they are the fewer the older.
    fn thin(&mut self, newest: SnapshotKey, changes: &mut Vec<Change>) {
        let Some(handle) = self.handles.get_mut(&newest.handle) else { return };
        let bytes = &mut self.bytes;
        handle.snapshots.retain(|seq, document| {
            let stays = is_kept(*seq, newest.seq);
            if !stays {
                *bytes -= document.len();
                changes.push((encode_key(SnapshotKey { seq: *seq, ..newest }), None));
            }
            stays
        });
    }

    /// Forgets the handles that were written longest ago, but not `but`, until all fits.
    fn make_room(&mut self, but: u128, changes: &mut Vec<Change>) {
        while self.handles.len() > STORED_CURSORS_MAX || self.bytes > STORED_CURSOR_BYTES_MAX {
            match self.oldest() {
                Some((_, handle)) if handle != but => self.remove(handle, changes),
                _ => return,
            }
        }
    }

    fn remove(&mut self, name: u128, changes: &mut Vec<Change>) {
        let Some(handle) = self.handles.remove(&name) else { return };
        self.by_expiry.remove(&(handle.expires, name));
        for (seq, document) in handle.snapshots {
            let key = SnapshotKey { handle: name, seq };
            self.bytes -= document.len();
            if key.is_made() {
                self.made -= 1;
                self.made_bytes -= document.len();
            }
            changes.push((encode_key(key), None));
        }
    }
}

/// Tells whether a snapshot is kept when `newest` is there: all that are recent, and of those
/// before them two for every doubling of the distance. What went once does not come back.
const fn is_kept(seq: u64, newest: u64) -> bool {
    let distance = newest.saturating_sub(seq);
    if distance < RECENT {
        return true;
    }
    let step = 1_u64 << (distance / 2).ilog2();
    seq.is_multiple_of(step)
}

fn encode_key(key: SnapshotKey) -> Bytes {
    let mut bytes = key.handle.to_be_bytes().to_vec();
    bytes.extend_from_slice(&key.seq.to_be_bytes());
    bytes.into()
}

fn decode_key(bytes: &[u8]) -> Option<SnapshotKey> {
    let (handle, seq) = bytes.split_first_chunk::<16>()?;
    let seq = u64::from_be_bytes(seq.try_into().ok()?);
    Some(SnapshotKey { handle: u128::from_be_bytes(*handle), seq })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(kept: &mut Kept, handle: u128, seq: u64, expires: TimestampMs) -> usize {
        let (key, mut gone) = (SnapshotKey { handle, seq }, Vec::new());
        kept.insert(key, expires, Bytes::from(vec![0; 1000]));
        kept.thin(key, &mut gone);
        kept.make_room(handle, &mut gone);
        gone.len()
    }

    #[test]
    fn snapshots_are_the_fewer_the_older() {
        let mut kept = Kept::default();
        for seq in 0..10_000 {
            put(&mut kept, 1, seq, 5);
            let seqs: Vec<_> = kept.handles[&1].snapshots.keys().copied().collect();
            assert_eq!((seqs[0], *seqs.last().unwrap()), (0, seq));
            assert!(seqs.len() <= 40, "{seqs:?}");
            assert_eq!(kept.bytes, seqs.len() * 1000);
        }
        // Asking for any of them finds one that is at most twice as far from the end.
        for seq in 0..10_000 {
            let (found, _) = kept.handles[&1].snapshots.range(..=seq).next_back().unwrap();
            assert!(9_999 - found <= 2 * (9_999 - seq) + RECENT, "{seq} {found}");
        }
    }

    #[test]
    fn what_was_written_longest_ago_makes_room() {
        let mut kept = Kept::default();
        for handle in 0..=STORED_CURSORS_MAX {
            let expires = TimestampMs::try_from(handle).unwrap();
            let gone = put(&mut kept, handle as u128, 0, expires);
            assert_eq!(gone, usize::from(handle == STORED_CURSORS_MAX));
        }
        assert!(!kept.handles.contains_key(&0) && kept.handles.contains_key(&1));
        assert_eq!(kept.by_expiry.len(), kept.handles.len());
        // One that is written again is not the oldest any more.
        put(&mut kept, 1, 1, TimestampMs::MAX);
        put(&mut kept, u128::MAX, 0, TimestampMs::MAX);
        assert!(kept.handles.contains_key(&1) && !kept.handles.contains_key(&2));
    }

    #[test]
    fn what_clients_had_made_leaves_the_room_to_streams() {
        let mut kept = Kept::default();
        for handle in 0..MADE_CURSORS_MAX as u128 {
            let key = SnapshotKey::made(handle);
            assert_eq!(kept.check_room(key, 1000), Ok(()));
            put(&mut kept, handle, key.seq, 9);
        }
        let full = CursorStoreError::Full { count: MADE_CURSORS_MAX, bytes: 1_000_000 };
        assert_eq!(kept.check_room(SnapshotKey::made(u128::MAX), 1), Err(full));
        assert_eq!(kept.check_room(SnapshotKey { handle: u128::MAX, seq: 0 }, 1), Ok(()));
        let mut gone = Vec::new();
        kept.remove(7, &mut gone);
        assert_eq!((gone.len(), kept.made, kept.made_bytes), (1, MADE_CURSORS_MAX - 1, 999_000));
        assert_eq!(kept.check_room(SnapshotKey::made(7), 1000), Ok(()));
        // Few that are large are as bad as many.
        assert!(kept.check_room(SnapshotKey::made(7), MADE_CURSOR_BYTES_MAX).is_err());
        put(&mut kept, 8, u64::MAX, 9);
        assert_eq!((kept.made, kept.made_bytes), (MADE_CURSORS_MAX - 1, 999_000));
    }

    #[test]
    fn keys_round_trip() {
        let key = SnapshotKey { handle: u128::MAX - 7, seq: 9 };
        assert_eq!(decode_key(&encode_key(key)), Some(key));
        assert_eq!(decode_key(b"short"), None);
    }
}
