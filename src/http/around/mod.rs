//! What happens around every handler: an id for the request, the limits on its head and its rate,
//! where its page is from, packed bodies, panics, and refusals in the one shape of all errors.
//!
//! One middleware does all of it, because each layer costs an allocation and a wake-up path.

pub mod guard;
pub mod origin;
pub mod peer;
pub mod rate;
pub mod refusal;
pub mod request_id;

use std::panic::AssertUnwindSafe;

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use http::{HeaderValue, Method, StatusCode, header};

use super::encoding::{self, Encoding};
use super::error::ApiError;
use super::state::{AppState, Compression};
use rate::Allowed;

/// Runs the handler of a request between the checks before and the repairs after.
///
/// # Cancel safety
/// As safe as the handler.
pub(super) async fn run(state: &AppState, mut request: Request, next: Next) -> Response {
    let wanted = match state.options.compression {
        Compression::Accepted if request.method() != Method::HEAD => {
            Encoding::wanted(request.headers())
        }
        _ => None,
    };
    let (response, allowed) = match admit(state, &mut request) {
        Err(refused) => (*refused, None),
        Ok(allowed) => (handle(request, next).await, allowed),
    };
    let response = refusal::repair(response).await;
    let mut response = match state.options.compression {
        Compression::Accepted => encoding::encode::encode(wanted, response),
        Compression::Off => response,
    };
    if let Some(allowed) = allowed {
        allowed.show(response.headers_mut());
    }
    response
}

fn admit(state: &AppState, request: &mut Request) -> Result<Option<Allowed>, Box<Response>> {
    let refuse = |error: ApiError| Box::new(error.into_response());
    let allowed = match &state.rate {
        Some(limiter) => limiter.admit(request, state.options.forwarded).map_err(refuse)?,
        None => None,
    };
    guard::check(request).map_err(refuse)?;
    origin::check(request, &state.options).map_err(refuse)?;
    encoding::decode::decode(request).map_err(|error| {
        // On a 415 this header says that the encoding was the reason (RFC 9110, 12.5.3).
        let names = HeaderValue::from_static(encoding::NAMES);
        Box::new(([(header::ACCEPT_ENCODING, names)], error).into_response())
    })?;
    Ok(allowed)
}

/// A panic ends its request, not the connection and whatever else runs on it.
async fn handle(request: Request, next: Next) -> Response {
    match AssertUnwindSafe(next.run(request)).catch_unwind().await {
        Ok(response) => response,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            tracing::error!(panic = text.unwrap_or("without a text"), "http handler panicked");
            let message = "the server failed, its log says why under the request's id";
            ApiError::status(StatusCode::INTERNAL_SERVER_ERROR, message).into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::body::Body;
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    #[tokio::test]
    async fn a_panic_is_answered() {
        async fn broken() -> Response {
            panic!("told to")
        }
        let around = |request, next| async move { handle(request, next).await };
        let router = Router::new()
            .route("/", axum::routing::get(broken))
            .layer(axum::middleware::from_fn(around));
        let answer = router.oneshot(Request::new(Body::empty())).await.unwrap();
        assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        assert!(body.starts_with(b"{\"error_code\":500,"), "{body:?}");
    }
}
