//! The errors of this API: the body of all errors, as plain JSON, with v3's codes where they
//! differ from v2's.

use axum::response::{IntoResponse, Response};
use http::StatusCode;

use crate::engine::topics::{CreateTopicError, DeleteTopicError};
use crate::http::error::ApiError;
use crate::http::media;

/// An error on its way to a client of v3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct V3Error(ApiError);

/// What handlers return.
pub type V3Result<T> = Result<T, V3Error>;

/// Kafka refuses what the request asks for.
const KAFKA_BAD_REQUEST: u32 = 40002;
/// The body can be read but not accepted.
pub(super) const INVALID_PAYLOAD: u32 = 42206;

impl V3Error {
    /// 404/404: a resource that is not there and has no code of its own.
    #[must_use]
    pub fn not_found(message: impl Into<String>) -> Self {
        Self(ApiError::status(StatusCode::NOT_FOUND, message))
    }

    /// 400/400: the request cannot be read.
    #[must_use]
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self(ApiError::bad_request(message))
    }

    /// 400/40002: Kafka refuses what the request asks for.
    #[must_use]
    pub fn refused(message: impl Into<String>) -> Self {
        Self(ApiError::new(StatusCode::BAD_REQUEST, KAFKA_BAD_REQUEST, message))
    }

    /// 422/42206: the body can be read but not accepted.
    #[must_use]
    pub fn invalid_payload(message: impl Into<String>) -> Self {
        Self(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, INVALID_PAYLOAD, message))
    }

    /// 404/40403: there is no such topic.
    #[must_use]
    pub fn topic_not_found(topic: &str) -> Self {
        Self(ApiError { code: 40403, ..ApiError::topic_not_found(topic) })
    }

    /// 404/40402: there is no such partition.
    #[must_use]
    pub fn partition_not_found(topic: &str, partition: i32) -> Self {
        Self(ApiError::partition_not_found(topic, partition))
    }

    /// The code and text of the body.
    #[must_use]
    pub const fn api(&self) -> &ApiError {
        &self.0
    }
}

/// Errors of the engine keep the codes that v2 gives them; those that v3 tells otherwise have a
/// constructor here.
impl<E: Into<ApiError>> From<E> for V3Error {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for V3Error {
    fn into_response(self) -> Response {
        self.0.with_content_type(media::JSON).into_response()
    }
}

/// Why a topic was not created, in v3's codes.
#[must_use]
pub fn create_topic(error: CreateTopicError) -> V3Error {
    match error {
        CreateTopicError::InvalidName(reason) => V3Error::invalid_payload(reason.to_string()),
        CreateTopicError::Exists(_) => V3Error::refused(error.to_string()),
        CreateTopicError::CollidingName { .. }
        | CreateTopicError::InvalidPartitions { .. }
        | CreateTopicError::InvalidReplicationFactor(_)
        | CreateTopicError::InvalidConfig { .. }
        | CreateTopicError::TooManyPartitions(_)
        | CreateTopicError::Storage(_) => error.into(),
    }
}

/// Why a topic was not deleted, in v3's codes.
#[must_use]
pub fn delete_topic(error: DeleteTopicError) -> V3Error {
    match error {
        DeleteTopicError::Unknown(topic) => V3Error::topic_not_found(&topic),
        DeleteTopicError::Internal(_) | DeleteTopicError::Storage(_) => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v3_tells_some_errors_otherwise_than_v2() {
        let exists = create_topic(CreateTopicError::Exists("orders".to_owned()));
        assert_eq!((exists.api().status.as_u16(), exists.api().code), (400, 40002));
        let gone = delete_topic(DeleteTopicError::Unknown("orders".to_owned()));
        assert_eq!((gone.api().status.as_u16(), gone.api().code), (404, 40403));
        let internal = delete_topic(DeleteTopicError::Internal("__x".to_owned()));
        assert_eq!((internal.api().status.as_u16(), internal.api().code), (403, 40301));
    }
}
