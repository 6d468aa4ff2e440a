//! Records of `__transaction_state`: decisions to commit, and what is kept of idempotency keys.
//!
//! | key | value |
//! |---|---|
//! | 1, producer id: i64 | version, epoch: i16 |
//! | 2, idempotency key | version, expires: i64, fingerprint: 16 bytes, answer |
//!
//! A transaction without a decision is aborted at the next start.

use bytes::Bytes;

use crate::base::ids::TimestampMs;
use crate::engine::transactions::Fingerprint;

const DECISION: u8 = 1;
const IDEMPOTENCY_KEY: u8 = 2;
const VERSION: u8 = 1;

/// A record of the topic, decoded.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum StateRecord {
    /// The producer's transaction of this epoch counts.
    Decision { producer_id: i64, epoch: i16 },
    /// The request of a key was done.
    Key { key: Bytes, kept: Kept },
}

/// What is kept of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) expires: TimestampMs,
    pub(super) fingerprint: Fingerprint,
    pub(super) answer: Bytes,
}

pub(in crate::engine::embedded) fn decision_key(producer_id: i64) -> Bytes {
    let mut key = vec![DECISION];
    key.extend_from_slice(&producer_id.to_be_bytes());
    Bytes::from(key)
}

pub(in crate::engine::embedded) fn decision(epoch: i16) -> Bytes {
    let mut value = vec![VERSION];
    value.extend_from_slice(&epoch.to_be_bytes());
    Bytes::from(value)
}

pub(super) fn idempotency_key(key: &[u8]) -> Bytes {
    let mut out = vec![IDEMPOTENCY_KEY];
    out.extend_from_slice(key);
    Bytes::from(out)
}

pub(super) fn kept(kept: &Kept) -> Bytes {
    let mut value = Vec::with_capacity(25 + kept.answer.len());
    value.push(VERSION);
    value.extend_from_slice(&kept.expires.to_be_bytes());
    value.extend_from_slice(&kept.fingerprint);
    value.extend_from_slice(&kept.answer);
    Bytes::from(value)
}

/// Decodes a record; none for one that this version does not know.
pub(super) fn decode(key: &[u8], value: &[u8]) -> Option<StateRecord> {
    let (kind, key) = key.split_first()?;
    let (version, value) = value.split_first()?;
    match (*kind, *version) {
        (DECISION, VERSION) => Some(StateRecord::Decision {
            producer_id: i64::from_be_bytes(key.try_into().ok()?),
            epoch: i16::from_be_bytes(value.try_into().ok()?),
        }),
        (IDEMPOTENCY_KEY, VERSION) => {
            let (expires, value) = value.split_first_chunk::<8>()?;
            let (fingerprint, answer) = value.split_first_chunk::<16>()?;
            let kept = Kept {
                expires: i64::from_be_bytes(*expires),
                fingerprint: *fingerprint,
                answer: Bytes::copy_from_slice(answer),
            };
            Some(StateRecord::Key { key: Bytes::copy_from_slice(key), kept })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_round_trip_and_damage_is_refused() {
        let found = decode(&decision_key(77), &decision(3));
        assert_eq!(found, Some(StateRecord::Decision { producer_id: 77, epoch: 3 }));
        let what = Kept { expires: 5, fingerprint: [9; 16], answer: Bytes::from_static(b"{}") };
        let found = decode(&idempotency_key(b"k"), &kept(&what));
        assert_eq!(found, Some(StateRecord::Key { key: Bytes::from_static(b"k"), kept: what }));
        for (key, value) in
            [(&b""[..], &b""[..]), (&[1, 2], &[1, 0, 0]), (&[2, 1], &[1, 0]), (&[9], &[1])]
        {
            assert_eq!(decode(key, value), None);
        }
    }
}
