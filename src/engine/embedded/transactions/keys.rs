//! Idempotency keys: which requests are being done and which were.

use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;

use super::records::Kept;
use crate::base::ids::TimestampMs;
use crate::base::limits::{IDEMPOTENCY_BYTES_MAX, IDEMPOTENCY_KEYS_MAX};
use crate::engine::transactions::{Fingerprint, TooManyKeys};

#[derive(Debug)]
enum KeyState {
    InProgress(Fingerprint),
    Done(Kept),
}

/// What is known of a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Known {
    Nothing,
    InProgress,
    Mismatch,
    Done(Bytes),
}

/// All keys, within bounds.
#[derive(Debug, Default)]
pub(super) struct KeyTable {
    keys: HashMap<Bytes, KeyState>,
    by_expiry: BTreeSet<(TimestampMs, Bytes)>,
    bytes: usize,
}

fn cost(key: &Bytes, kept: &Kept) -> usize {
    // The key is in two collections.
    2 * key.len() + kept.answer.len() + size_of::<(Bytes, KeyState)>()
}

impl KeyTable {
    /// Claims a key that nothing is known of.
    pub(super) fn claim(
        &mut self,
        key: &Bytes,
        fingerprint: Fingerprint,
        now: TimestampMs,
    ) -> Result<Known, TooManyKeys> {
        match self.keys.get(key) {
            Some(KeyState::InProgress(of) | KeyState::Done(Kept { fingerprint: of, .. }))
                if *of != fingerprint && !self.is_expired(key, now) =>
            {
                return Ok(Known::Mismatch);
            }
            Some(KeyState::InProgress(_)) => return Ok(Known::InProgress),
            Some(KeyState::Done(kept)) if kept.expires > now => {
                return Ok(Known::Done(kept.answer.clone()));
            }
            Some(KeyState::Done(_)) => self.remove(key),
            None => {}
        }
        if self.keys.len() >= IDEMPOTENCY_KEYS_MAX || self.bytes >= IDEMPOTENCY_BYTES_MAX {
            return Err(TooManyKeys { keys: self.keys.len(), bytes: self.bytes });
        }
        self.keys.insert(key.clone(), KeyState::InProgress(fingerprint));
        Ok(Known::Nothing)
    }

    fn is_expired(&self, key: &Bytes, now: TimestampMs) -> bool {
        matches!(self.keys.get(key), Some(KeyState::Done(kept)) if kept.expires <= now)
    }

    /// Gives a claimed key back; one that was done meanwhile stays.
    pub(super) fn release(&mut self, key: &Bytes) {
        if matches!(self.keys.get(key), Some(KeyState::InProgress(_))) {
            self.keys.remove(key);
        }
    }

    /// Keeps the answer to the request of a key.
    pub(super) fn keep(&mut self, key: Bytes, kept: Kept) {
        self.remove(&key);
        self.bytes += cost(&key, &kept);
        self.by_expiry.insert((kept.expires, key.clone()));
        self.keys.insert(key, KeyState::Done(kept));
    }

    fn remove(&mut self, key: &Bytes) {
        if let Some(KeyState::Done(kept)) = self.keys.remove(key) {
            self.bytes -= cost(key, &kept);
            self.by_expiry.remove(&(kept.expires, key.clone()));
        }
    }

    /// Takes out up to `count` keys that are not to be kept any longer.
    pub(super) fn take_expired(&mut self, now: TimestampMs, count: usize) -> Vec<Bytes> {
        let expired = self.by_expiry.iter().take_while(|(expires, _)| *expires <= now);
        let expired: Vec<Bytes> = expired.take(count).map(|(_, key)| key.clone()).collect();
        for key in &expired {
            self.remove(key);
        }
        expired
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Bytes = Bytes::from_static(b"key");

    fn done(expires: TimestampMs) -> Kept {
        Kept { expires, fingerprint: [1; 16], answer: Bytes::from_static(b"answer") }
    }

    #[test]
    fn a_key_is_claimed_once_and_answers_afterwards() {
        let mut table = KeyTable::default();
        assert_eq!(table.claim(&KEY, [1; 16], 0), Ok(Known::Nothing));
        assert_eq!(table.claim(&KEY, [1; 16], 0), Ok(Known::InProgress));
        assert_eq!(table.claim(&KEY, [2; 16], 0), Ok(Known::Mismatch));
        table.keep(KEY, done(10));
        table.release(&KEY);
        assert_eq!(table.claim(&KEY, [1; 16], 9), Ok(Known::Done(Bytes::from_static(b"answer"))));
        assert_eq!(table.claim(&KEY, [2; 16], 9), Ok(Known::Mismatch));
        // From its end on it is a new key, also for another request.
        assert_eq!(table.claim(&KEY, [2; 16], 10), Ok(Known::Nothing));
        assert_eq!((table.bytes, table.by_expiry.len()), (0, 0));
    }

    #[test]
    fn a_released_key_is_free_and_expired_ones_go() {
        let mut table = KeyTable::default();
        table.claim(&KEY, [1; 16], 0).unwrap();
        table.release(&KEY);
        assert_eq!(table.claim(&KEY, [2; 16], 0), Ok(Known::Nothing));
        table.keep(KEY, done(10));
        assert_eq!(table.take_expired(9, 100), Vec::<Bytes>::new());
        assert_eq!(table.take_expired(10, 100), [KEY]);
        assert_eq!((table.bytes, table.keys.len(), table.by_expiry.len()), (0, 0, 0));
    }
}
