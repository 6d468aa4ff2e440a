//! Reading request bodies within their limit, and JSON out of them.

use std::sync::Arc;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http_body_util::BodyExt;
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::error::{ApiError, ApiResult, Limit};
use crate::base::limits::{
    HTTP_BODY_BYTES_MAX, HTTP_BODY_IDLE_MAX, HTTP_BODY_WAIT_MAX, HTTP_INFLIGHT_BODY_BYTES_MAX,
};

/// Bytes that a request may hold without asking for room.
const FREE_BYTES: usize = 64 * 1024;

/// The room that all request bodies share.
#[derive(Debug, Clone)]
pub struct BodyBudget(Arc<Semaphore>);

impl Default for BodyBudget {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(HTTP_INFLIGHT_BODY_BYTES_MAX / FREE_BYTES)))
    }
}

impl BodyBudget {
    /// Begins to hold room, none at first.
    #[must_use]
    pub fn room(&self) -> BodyRoom {
        BodyRoom { budget: self.clone(), held: None }
    }
}

/// Room that one request holds; dropping it gives it back.
#[derive(Debug)]
pub struct BodyRoom {
    budget: BodyBudget,
    held: Option<OwnedSemaphorePermit>,
}

impl BodyRoom {
    /// Makes the room as large as `bytes` need; it may shrink or grow.
    ///
    /// # Errors
    /// 503 when all requests together hold what they may.
    pub fn resize(&mut self, bytes: usize) -> ApiResult<()> {
        let wanted = bytes / FREE_BYTES;
        let held = self.held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        if wanted < held {
            drop(self.held.as_mut().and_then(|permit| permit.split(held - wanted)));
        } else if wanted > held {
            let more = u32::try_from(wanted - held).unwrap_or(u32::MAX);
            let more = Arc::clone(&self.budget.0).try_acquire_many_owned(more);
            let more = more.map_err(|_| no_room())?;
            match &mut self.held {
                Some(held) => held.merge(more),
                None => self.held = Some(more),
            }
        }
        Ok(())
    }
}

/// A whole body; dropping it gives its room back.
#[derive(Debug)]
pub struct BodyBytes {
    bytes: Bytes,
    _room: BodyRoom,
}

impl std::ops::Deref for BodyBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Reads the whole body. Room is taken as bytes arrive, so a client that only announces a large
/// body, or sends it slowly, keeps nobody else from sending.
///
/// # Errors
/// 413 over [`HTTP_BODY_BYTES_MAX`] (of the plain body when it comes packed), 400 when the client
/// breaks off or the packing is damaged, 408 when the body stops arriving or takes too long, 503
/// when there is no room.
///
/// # Cancel safety
/// What was read is lost; the request is over then anyway.
pub async fn read(budget: &BodyBudget, mut body: Body) -> ApiResult<BodyBytes> {
    use http_body::Body as _;
    if body.size_hint().lower() > HTTP_BODY_BYTES_MAX as u64 {
        return Err(too_large());
    }
    let mut frames = Vec::new();
    let mut total = 0;
    let mut room = budget.room();
    let last = Instant::now() + HTTP_BODY_WAIT_MAX;
    loop {
        let deadline = last.min(Instant::now() + HTTP_BODY_IDLE_MAX);
        let frame = tokio::time::timeout_at(deadline, body.frame()).await;
        let Some(frame) = frame.map_err(|_| too_slow())? else { break };
        let broken = |error| ApiError::bad_request(format!("body cannot be read: {error}"));
        let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
        total += data.len();
        if total > HTTP_BODY_BYTES_MAX {
            return Err(too_large());
        }
        room.resize(total)?;
        frames.push(data);
    }
    Ok(BodyBytes { bytes: joined(frames, total), _room: room })
}

/// One frame is passed on as it is; several are copied together.
fn joined(mut frames: Vec<Bytes>, total: usize) -> Bytes {
    if frames.len() <= 1 {
        return frames.pop().unwrap_or_default();
    }
    let mut whole = BytesMut::with_capacity(total);
    for frame in frames {
        whole.extend_from_slice(&frame);
    }
    whole.freeze()
}

fn no_room() -> ApiError {
    let message = "request bodies take all the memory they may, try again";
    ApiError::status(StatusCode::SERVICE_UNAVAILABLE, message)
}

fn too_large() -> ApiError {
    let message = format!("body is larger than {HTTP_BODY_BYTES_MAX} bytes");
    let max = HTTP_BODY_BYTES_MAX as u64;
    let limit = Limit { name: "body", max, unit: "content-bytes" };
    ApiError::status(StatusCode::PAYLOAD_TOO_LARGE, message).with_limit(limit)
}

fn too_slow() -> ApiError {
    let message = format!(
        "body did not arrive: a pause may last {} s and the whole {} s",
        HTTP_BODY_IDLE_MAX.as_secs(),
        HTTP_BODY_WAIT_MAX.as_secs()
    );
    ApiError::status(StatusCode::REQUEST_TIMEOUT, message)
}

/// Parses a JSON body.
///
/// # Errors
/// 400 with line and column for text that is not JSON or has the wrong type, 422 for fields that
/// are not known.
pub fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> ApiResult<T> {
    if is_nothing(bytes) {
        return Err(ApiError::unprocessable("body is empty, a JSON object is needed"));
    }
    check_object(bytes).map_err(ApiError::bad_request)?;
    serde_json::from_slice(bytes).map_err(|error| explain(&error))
}

/// Tells whether a body says nothing: there is none, or it is `null`.
fn is_nothing(bytes: &[u8]) -> bool {
    matches!(bytes.trim_ascii(), b"" | b"null")
}

/// Refuses JSON that is no object: a list of a structure's fields would be read as the structure.
///
/// # Errors
/// The text for the client.
pub fn check_object(bytes: &[u8]) -> Result<(), &'static str> {
    match bytes.trim_ascii_start().first() {
        Some(b'[' | b'"' | b'0'..=b'9' | b'-' | b't' | b'f' | b'n') => {
            Err("invalid JSON: body is not an object")
        }
        // What is no JSON at all is named by the parser.
        _ => Ok(()),
    }
}

/// Parses a JSON body, or takes the default when there is none.
///
/// # Errors
/// As [`parse`].
pub fn parse_optional<'a, T: Deserialize<'a> + Default>(bytes: &'a [u8]) -> ApiResult<T> {
    if is_nothing(bytes) { Ok(T::default()) } else { parse(bytes) }
}

fn explain(error: &serde_json::Error) -> ApiError {
    let message = error.to_string();
    // serde names unknown and missing fields only in its text.
    let is_shape = message.starts_with("unknown field") || message.starts_with("missing field");
    if error.is_data() && is_shape {
        ApiError::unprocessable(message)
    } else {
        ApiError::bad_request(format!("invalid JSON: {message}"))
    }
}
