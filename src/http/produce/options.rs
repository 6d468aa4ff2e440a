//! What the head of every produce request may say: the level of acknowledgement, a trace context.

use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use utoipa::IntoParams;

use super::numbered::Numbered;
use super::once::IDEMPOTENCY_KEY;
use crate::engine::log::AckLevel;
use crate::http::error::{ApiError, ApiResult};
use crate::http::query;

/// W3C trace context: a record gets the request's when it has none of its own.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The query parameters that every way to produce has.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct DeliveryQuery {
    /// `0`, `1` or `all`: answered at once, when in the operating system, when on disk.
    #[param(required = false, example = "all")]
    pub acks: String,
    /// `true`: all records of the request count, or none; the first error is the answer then.
    #[param(required = false, example = "true")]
    pub atomic: String,
}

/// The request headers that every way to produce has.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Header)]
pub struct DeliveryHeaders {
    /// A name for this request: who sends it again within 24 hours gets the first answer, and the
    /// records count once. All of them or none, as with `atomic=true`.
    #[serde(rename = "Idempotency-Key")]
    #[param(required = false, example = "8e03978e-40d5-43dd-bc93-6894a57f9324")]
    pub idempotency_key: String,
    /// The name of a producer that numbers its records, so that each counts once.
    #[serde(rename = "Producer-Id")]
    #[param(required = false, example = "till-7")]
    pub producer_id: String,
    /// Grows when another instance of the producer takes over; older ones are fenced then.
    #[serde(rename = "Producer-Epoch")]
    #[param(required = false, example = 0)]
    pub producer_epoch: i16,
    /// The number of the first record; the next request to the partition continues after the last.
    #[serde(rename = "Producer-Seq")]
    #[param(required = false, example = 0)]
    pub producer_seq: i32,
}

/// Whether the records of a request count each for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Together {
    /// Each for itself.
    Each,
    /// All of them or none (`atomic=true`).
    AllOrNone,
}

/// What the head of a produce request says beside the format of its records.
#[derive(Debug)]
pub struct ProduceOptions {
    /// What must hold before a record is answered.
    pub level: AckLevel,
    /// Whether records of the request count without the others.
    pub together: Together,
    /// The producer that numbers its records, if it does.
    pub numbered: Option<Numbered>,
    /// Headers that every record without a `traceparent` of its own gets.
    pub trace: Vec<(&'static str, HeaderValue)>,
}

impl ProduceOptions {
    /// Reads `?acks=`, `?atomic=` and the trace context.
    ///
    /// # Errors
    /// 400 names an `acks` that is not 0, 1, -1 or all, or an `atomic` that is not true or false.
    /// What counts as a whole is on disk, so `atomic=true` needs `acks=all`.
    pub fn read(headers: &HeaderMap, query: Option<&str>) -> ApiResult<Self> {
        let level = match query::find(query, "acks")?.as_deref() {
            None | Some("all" | "-1") => AckLevel::Durable,
            Some("1") => AckLevel::Written,
            Some("0") => AckLevel::None,
            Some(other) => {
                let message = format!("acks '{other}' is not 0, 1 or all");
                return Err(ApiError::bad_request(message));
            }
        };
        let together = match query::find(query, "atomic")?.as_deref() {
            None | Some("false") => Together::Each,
            Some("true") if level == AckLevel::Durable => Together::AllOrNone,
            Some("true") => return Err(ApiError::bad_request("atomic=true needs acks=all")),
            Some(other) => {
                let message = format!("atomic '{other}' is not true or false");
                return Err(ApiError::bad_request(message));
            }
        };
        let numbered = Numbered::read(headers)?;
        let is_whole = together == Together::AllOrNone || headers.contains_key(IDEMPOTENCY_KEY);
        if numbered.is_some() && is_whole {
            let message = "Producer-Seq goes with neither atomic=true nor Idempotency-Key";
            return Err(ApiError::bad_request(message));
        }
        Ok(Self { level, together, numbered, trace: trace_context(headers) })
    }
}

/// Takes the trace context of a request, if it is one (W3C Trace Context, section 3.2).
fn trace_context(headers: &HeaderMap) -> Vec<(&'static str, HeaderValue)> {
    let is_valid = |value: &&HeaderValue| {
        let value = value.as_bytes();
        value.len() >= 55
            && value.get(2) == Some(&b'-')
            && value.get(35) == Some(&b'-')
            && value.get(52) == Some(&b'-')
            && value.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f' | b'-'))
    };
    let Some(parent) = headers.get(&TRACEPARENT).filter(is_valid) else { return Vec::new() };
    let mut context = vec![("traceparent", parent.clone())];
    if let Some(tracestate) = headers.get(&TRACESTATE) {
        context.push(("tracestate", tracestate.clone()));
    }
    context
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acks_are_kafkas() {
        let level = |query| ProduceOptions::read(&HeaderMap::new(), query).map(|o| o.level);
        assert_eq!(level(None).unwrap(), AckLevel::Durable);
        assert_eq!(level(Some("acks=all")).unwrap(), AckLevel::Durable);
        assert_eq!(level(Some("acks=-1")).unwrap(), AckLevel::Durable);
        assert_eq!(level(Some("x=y&acks=1")).unwrap(), AckLevel::Written);
        assert_eq!(level(Some("acks=0")).unwrap(), AckLevel::None);
        assert_eq!(level(Some("acks=2")).unwrap_err().message, "acks '2' is not 0, 1 or all");
    }

    #[test]
    fn what_counts_together_is_on_disk() {
        let together =
            |query| ProduceOptions::read(&HeaderMap::new(), Some(query)).map(|o| o.together);
        assert_eq!(together("atomic=false&acks=1").unwrap(), Together::Each);
        assert_eq!(together("atomic=true").unwrap(), Together::AllOrNone);
        assert_eq!(together("atomic=true&acks=1").unwrap_err().code, 400);
        assert_eq!(together("atomic=1").unwrap_err().message, "atomic '1' is not true or false");
    }

    #[test]
    fn only_a_whole_trace_context_is_taken() {
        let with = |parent: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(TRACEPARENT, HeaderValue::from_static(parent));
            headers.insert(TRACESTATE, HeaderValue::from_static("a=b"));
            trace_context(&headers).len()
        };
        assert_eq!(with("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"), 2);
        assert_eq!(with("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7"), 0);
        assert_eq!(with("nonsense"), 0);
    }
}
