//! Requests of a producer that numbers its records: `Producer-Id`, `Producer-Epoch`,
//! `Producer-Seq`.
//!
//! The three are those of Durable Streams' protocol, kept by the log's own memory of idempotent
//! producers (KIP-98): per partition, the last five batches of every producer. `Producer-Seq` is
//! the number of the first record of a request; the next request to the partition continues after
//! its last one.

use bytes::BytesMut;
use http::{HeaderMap, HeaderName};

use crate::engine::log::{Append, AppendError, Receipt};
use crate::http::error::{ApiError, ApiResult};
use crate::http::state::AppState;
use crate::protocol::record_batch::ProducerStamp;
use crate::protocol::record_batch::header::stamp_producer;

const ID: HeaderName = HeaderName::from_static("producer-id");
const EPOCH: HeaderName = HeaderName::from_static("producer-epoch");
const SEQ: HeaderName = HeaderName::from_static("producer-seq");

/// Longest name of a producer, in bytes.
const ID_BYTES_MAX: usize = 128;

/// Who sends a request, and the number of its first record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Numbered {
    /// The name the client gave itself.
    pub id: String,
    /// Grows when another instance takes over; older ones are fenced then.
    pub epoch: i16,
    /// Number of the first record of the request.
    pub sequence: i32,
}

impl Numbered {
    /// Reads the three headers; none without any of them.
    ///
    /// # Errors
    /// 400 names the one that is missing or out of range.
    pub(super) fn read(headers: &HeaderMap) -> ApiResult<Option<Self>> {
        if ![ID, EPOCH, SEQ].iter().any(|name| headers.contains_key(name)) {
            return Ok(None);
        }
        let id = text(headers, &ID)?;
        if id.is_empty() || id.len() > ID_BYTES_MAX {
            let message = format!("Producer-Id '{id}' has not 1 to {ID_BYTES_MAX} characters");
            return Err(ApiError::bad_request(message));
        }
        let epoch = number(headers, &EPOCH, i16::MAX.into())?;
        let sequence = number(headers, &SEQ, i32::MAX)?;
        Ok(Some(Self { id, epoch: i16::try_from(epoch).unwrap_or(i16::MAX), sequence }))
    }
}

fn text(headers: &HeaderMap, name: &HeaderName) -> ApiResult<String> {
    let value = headers.get(name).map(|value| value.to_str());
    let problem = match value {
        Some(Ok(text)) => return Ok(text.trim().to_owned()),
        Some(Err(_)) => "is not printable ASCII",
        None => "is missing: Producer-Id, Producer-Epoch and Producer-Seq come together",
    };
    Err(ApiError::bad_request(format!("{name} {problem}")))
}

fn number(headers: &HeaderMap, name: &HeaderName, max: i32) -> ApiResult<i32> {
    let text = text(headers, name)?;
    let parsed = text.parse().ok().filter(|number| (0..=max).contains(number));
    parsed.ok_or_else(|| {
        ApiError::bad_request(format!("{name} '{text}' is not a number from 0 to {max}"))
    })
}

/// Appends the one batch of a numbered request, unless it was appended before.
///
/// # Errors
/// 400 when there is more than one batch, 403 for an old epoch, 409 for a number that does not
/// follow, and what any append may refuse.
///
/// # Cancel safety
/// Dropping the future undoes nothing; the request may be sent again.
pub(super) async fn append(
    state: &AppState,
    by: &Numbered,
    appends: Vec<Append>,
) -> ApiResult<Receipt> {
    let count = appends.len();
    let mut appends = appends.into_iter();
    let (Some(append), None) = (appends.next(), appends.next()) else {
        let message = format!(
            "records of a numbered request must be one batch of one partition, not {count}: give \
             them one partition or one key, and less than 512 KiB"
        );
        return Err(ApiError::bad_request(message));
    };
    let id = state.engine.producers.named(&by.id).await?;
    let mut batch = BytesMut::from(append.batch.as_ref());
    let stamp = ProducerStamp { id, epoch: by.epoch, base_sequence: by.sequence };
    stamp_producer(&mut batch, stamp);
    let numbered = Append { batch: batch.freeze(), ..append };
    state.engine.log.append(numbered).await.map_err(|error| match error {
        AppendError::OutOfOrderSequence { sequence, expected } => {
            let message = format!(
                "Producer-Seq {sequence} of producer '{}' does not follow: {expected} is expected",
                by.id
            );
            ApiError::status(http::StatusCode::CONFLICT, message)
        }
        AppendError::InvalidProducerEpoch { epoch, current } => {
            let message = format!(
                "Producer-Epoch {epoch} of producer '{}' is fenced: {current} has written",
                by.id
            );
            ApiError::status(http::StatusCode::FORBIDDEN, message)
        }
        error => error.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn read(
        id: &'static str,
        epoch: &'static str,
        seq: &'static str,
    ) -> ApiResult<Option<Numbered>> {
        let mut headers = HeaderMap::new();
        for (name, value) in [(ID, id), (EPOCH, epoch), (SEQ, seq)] {
            if value != "-" {
                headers.insert(name, HeaderValue::from_static(value));
            }
        }
        Numbered::read(&headers)
    }

    #[test]
    fn the_three_come_together_and_within_their_ranges() {
        assert_eq!(read("-", "-", "-").unwrap(), None);
        let expected = Numbered { id: "till 7".to_owned(), epoch: 2, sequence: 2_147_483_647 };
        assert_eq!(read("till 7", "2", "2147483647").unwrap(), Some(expected));
        for (id, epoch, seq, wanted) in [
            ("-", "0", "0", "producer-id is missing"),
            ("a", "-", "0", "producer-epoch is missing"),
            ("a", "0", "-", "producer-seq is missing"),
            ("", "0", "0", "Producer-Id ''"),
            ("a", "32768", "0", "producer-epoch '32768' is not a number from 0 to 32767"),
            ("a", "0", "-1", "producer-seq '-1'"),
            ("a", "0", "x", "producer-seq 'x'"),
        ] {
            let error = read(id, epoch, seq).unwrap_err();
            assert!(error.status == 400 && error.message.contains(wanted), "{}", error.message);
        }
    }
}
