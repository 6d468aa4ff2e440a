//! Hands the batches of a request to the log: each for itself, or all or none.

use std::sync::{Arc, OnceLock};

use axum::response::{IntoResponse, Response};
use http::HeaderValue;

use super::ledger::{Ledger, Outcome, append_each};
use super::numbered;
use super::once::{Answer, KEPT_MS, REPLAYED};
use super::options::{ProduceOptions, Together};
use crate::engine::log::{Append, Receipt};
use crate::engine::transactions::{AtomicAppendError, Claim, Keep};
use crate::http::error::{ApiError, ApiResult};
use crate::http::state::AppState;

/// Appends the batches and answers what `render` makes of the outcomes, once for a producer that
/// numbers its records. With a claim, or with `atomic=true`, all records count or
/// none: then the first error is the answer to the whole request.
///
/// # Errors
/// Then the error of the first record that is refused, otherwise those of `render`.
///
/// # Cancel safety
/// Dropping the future undoes nothing; what was handed over is appended.
pub async fn deliver(
    state: &AppState,
    options: &ProduceOptions,
    claim: Option<Claim>,
    (appends, ledger): (Vec<Append>, Ledger),
    render: impl FnOnce(&[Outcome]) -> ApiResult<Answer> + Send + 'static,
) -> ApiResult<Response> {
    if let Some(by) = &options.numbered {
        if let Some((at, error)) = ledger.first_refusal() {
            return Err(of_record(at, error.clone()));
        }
        let receipt = numbered::append(state, by, appends).await?;
        let mut response = render(&ledger.settled(&[receipt])).map(Answer::into_response)?;
        if receipt.is_duplicate {
            response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
        }
        return Ok(response);
    }
    if claim.is_none() && options.together == Together::Each {
        let answers = append_each(&*state.engine.log, appends);
        return render(&ledger.settle(answers).await).map(Answer::into_response);
    }
    if let Some((at, error)) = ledger.first_refusal() {
        return Err(of_record(at, error.clone()));
    }
    let firsts = ledger.first_records();
    let now = state.clock.now_ms();
    let transactions = &state.engine.transactions;
    let Some(claim) = claim else {
        let appended = transactions.append_all(appends, None).await;
        let receipts = appended.map_err(|error| refusal(error, &firsts))?;
        return render(&ledger.settled(&receipts)).map(Answer::into_response);
    };
    let made = Arc::new(OnceLock::new());
    let kept = Arc::clone(&made);
    let answer = Box::new(move |receipts: &[Receipt]| {
        let answer = render(&ledger.settled(receipts)).unwrap_or_else(Answer::from);
        kept.get_or_init(|| answer).encode()
    });
    let keep = Keep { claim, expires: now + KEPT_MS, answer };
    transactions.append_all(appends, Some(keep)).await.map_err(|error| refusal(error, &firsts))?;
    let missing = || ApiError::kafka_retriable("answer was not made");
    made.get().cloned().map(Answer::into_response).ok_or_else(missing)
}

/// Says which record refused the request.
fn of_record(at: usize, mut error: ApiError) -> ApiError {
    error.message = format!("records[{at}]: {}; no record of the request counts", error.message);
    error
}

/// `firsts` has the first record of every batch.
fn refusal(error: AtomicAppendError, firsts: &[usize]) -> ApiError {
    match error {
        AtomicAppendError::Refused { batch, error } => {
            of_record(firsts.get(batch).copied().unwrap_or(0), error.into())
        }
        AtomicAppendError::InDoubt(_) | AtomicAppendError::Storage(_) => {
            ApiError::kafka_retriable(error.to_string())
        }
    }
}
