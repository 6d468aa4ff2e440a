//! Producers and transactions of a partition as bytes, for its checkpoint.

use super::producer_state::ProducerTable;
use super::transactions::TransactionTable;

/// Version of the snapshot.
const VERSION: u8 = 2;

/// The version that had no transactions.
const WITHOUT_TRANSACTIONS: u8 = 1;

/// Encodes both tables for the store.
pub(super) fn encode(producers: &ProducerTable, transactions: &TransactionTable) -> Vec<u8> {
    let mut out = vec![VERSION];
    transactions.encode_into(&mut out);
    producers.encode_into(&mut out);
    out
}

/// Decodes what [`encode`] wrote; none for a damaged or unknown snapshot, which makes the caller
/// replay the log.
pub(super) fn decode(bytes: &[u8]) -> Option<(ProducerTable, TransactionTable)> {
    let (version, mut rest) = bytes.split_first()?;
    let transactions = match *version {
        VERSION => TransactionTable::decode_from(&mut rest)?,
        WITHOUT_TRANSACTIONS => TransactionTable::default(),
        _ => return None,
    };
    Some((ProducerTable::decode(rest)?, transactions))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_older_version_has_no_transactions_and_newer_ones_are_refused() {
        let empty = (ProducerTable::default(), TransactionTable::default());
        assert_eq!(decode(&encode(&empty.0, &empty.1)), Some(empty));
        assert!(decode(&[WITHOUT_TRANSACTIONS]).is_some());
        assert_eq!(decode(&[VERSION]), None);
        assert_eq!(decode(&[3]), None);
        assert_eq!(decode(&[]), None);
    }
}
