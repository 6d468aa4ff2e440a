//! The one error body of the HTTP door: `{"error_code": int, "message": text}`.
//!
//! Codes are those of Confluent REST Proxy v2: three digits are the HTTP status, five digits name
//! the cause. Every engine error becomes HTTP here and nowhere else; the matches are exhaustive.

use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::media;
use crate::consumers::ConsumerError;
use crate::engine::configs::AlterConfigsError;
use crate::engine::groups::{CommitRefusal, DeleteOffsetRefusal, GroupError};
use crate::engine::log::{AppendError, DeleteRecordsError, ReadError};
use crate::engine::producers::ProducerIdError;
use crate::engine::topics::{CreatePartitionsError, CreateTopicError, DeleteTopicError};

/// Body of every error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// HTTP status, or five digits that name the cause more exactly.
    #[schema(example = 40401)]
    pub error_code: u32,
    /// What is wrong, with the field and the value.
    #[schema(example = "topic 'orders' does not exist")]
    pub message: String,
}

/// The header of limits.
pub const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// An error on its way to the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    /// HTTP status.
    pub status: StatusCode,
    /// Code in the body.
    pub code: u32,
    /// Text in the body.
    pub message: String,
    /// Media type of the body.
    pub content_type: &'static str,
    /// The limit that was met, for the headers.
    pub limit: Option<Limit>,
}

/// A limit as machines read it: `RateLimit-Policy` of the draft of that name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Its name.
    pub name: &'static str,
    /// The most that is accepted.
    pub max: u64,
    /// What is counted: `requests`, `content-bytes` or `concurrent-requests`.
    pub unit: &'static str,
}

impl Limit {
    fn header(self) -> Option<HeaderValue> {
        let text = format!("\"{}\";q={};qu=\"{}\"", self.name, self.max, self.unit);
        HeaderValue::try_from(text).ok()
    }
}

/// What handlers return.
pub type ApiResult<T> = Result<T, ApiError>;

impl ApiError {
    /// An error whose code says more than its status.
    #[must_use]
    pub fn new(status: StatusCode, code: u32, message: impl Into<String>) -> Self {
        let content_type = media::KAFKA_V2_JSON;
        Self { status, code, message: message.into(), content_type, limit: None }
    }

    /// An error whose code is its status.
    #[must_use]
    pub fn status(status: StatusCode, message: impl Into<String>) -> Self {
        Self::new(status, u32::from(status.as_u16()), message)
    }

    /// 400: the request cannot be read.
    #[must_use]
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::status(StatusCode::BAD_REQUEST, message)
    }

    /// 422: the request can be read but not accepted.
    #[must_use]
    pub fn unprocessable(message: impl Into<String>) -> Self {
        Self::status(StatusCode::UNPROCESSABLE_ENTITY, message)
    }

    /// 404/40401.
    #[must_use]
    pub fn topic_not_found(topic: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, 40401, format!("topic '{topic}' does not exist"))
    }

    /// 404/40402.
    #[must_use]
    pub fn partition_not_found(topic: &str, partition: i32) -> Self {
        let message = format!("partition {partition} of topic '{topic}' does not exist");
        Self::new(StatusCode::NOT_FOUND, 40402, message)
    }

    /// 500/50003: it may be gone when the client asks again.
    #[must_use]
    pub fn kafka_retriable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, KAFKA_RETRIABLE_ERROR, message)
    }

    /// Answers in another media type.
    #[must_use]
    pub const fn with_content_type(mut self, content_type: &'static str) -> Self {
        self.content_type = content_type;
        self
    }

    /// Names the limit that was met.
    #[must_use]
    pub const fn with_limit(mut self, limit: Limit) -> Self {
        self.limit = Some(limit);
        self
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> ErrorBody {
        ErrorBody { error_code: self.code, message: self.message.clone() }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = serde_json::to_vec(&self.body()).unwrap_or_default();
        let content_type = HeaderValue::from_static(self.content_type);
        let mut response =
            (self.status, [(header::CONTENT_TYPE, content_type)], body).into_response();
        let headers = response.headers_mut();
        if matches!(self.status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if let Some(policy) = self.limit.and_then(Limit::header) {
            headers.insert(RATELIMIT_POLICY, policy);
        }
        response
    }
}

/// Kafka's own errors that the client cannot mend by asking again.
pub const KAFKA_ERROR: u32 = 50002;
/// Kafka's own errors that may be gone when the client asks again.
const KAFKA_RETRIABLE_ERROR: u32 = 50003;
/// The request asks for something that Kafka refuses.
const KAFKA_BAD_REQUEST: u32 = 40002;

fn internal(code: u32, message: String) -> ApiError {
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, code, message)
}

impl From<AppendError> for ApiError {
    fn from(error: AppendError) -> Self {
        let message = error.to_string();
        match error {
            AppendError::UnknownPartition { topic, partition } => {
                Self::partition_not_found(&topic, partition)
            }
            AppendError::InternalTopic(_) => Self::new(StatusCode::FORBIDDEN, 40301, message),
            AppendError::TooLarge { .. } => Self::status(StatusCode::PAYLOAD_TOO_LARGE, message),
            AppendError::Batch(_) | AppendError::InvalidTimestamp { .. } => {
                Self::unprocessable(message)
            }
            AppendError::NotEnoughReplicas { .. } | AppendError::Storage(_) => {
                internal(KAFKA_RETRIABLE_ERROR, message)
            }
            AppendError::OutOfOrderSequence { .. } | AppendError::InvalidProducerEpoch { .. } => {
                internal(KAFKA_ERROR, message)
            }
        }
    }
}

impl From<ReadError> for ApiError {
    fn from(error: ReadError) -> Self {
        let message = error.to_string();
        match error {
            ReadError::UnknownPartition { topic, partition } => {
                Self::partition_not_found(&topic, partition)
            }
            ReadError::OffsetOutOfRange { .. } => internal(KAFKA_ERROR, message),
            ReadError::Storage(_) => internal(KAFKA_RETRIABLE_ERROR, message),
        }
    }
}

impl From<DeleteRecordsError> for ApiError {
    fn from(error: DeleteRecordsError) -> Self {
        let message = error.to_string();
        match error {
            DeleteRecordsError::UnknownPartition { topic, partition } => {
                Self::partition_not_found(&topic, partition)
            }
            DeleteRecordsError::InternalTopic(_) => {
                Self::new(StatusCode::FORBIDDEN, 40301, message)
            }
            DeleteRecordsError::NotDeletable(_) | DeleteRecordsError::OffsetOutOfRange { .. } => {
                Self::new(StatusCode::BAD_REQUEST, KAFKA_BAD_REQUEST, message)
            }
            DeleteRecordsError::Storage(_) => internal(KAFKA_RETRIABLE_ERROR, message),
        }
    }
}

impl From<ProducerIdError> for ApiError {
    fn from(error: ProducerIdError) -> Self {
        let message = error.to_string();
        match error {
            ProducerIdError::TransactionsUnsupported(_) => Self::unprocessable(message),
            ProducerIdError::TooManyNames(_) => {
                Self::status(StatusCode::TOO_MANY_REQUESTS, message)
            }
            ProducerIdError::Storage(_) => internal(KAFKA_RETRIABLE_ERROR, message),
        }
    }
}

impl From<CreateTopicError> for ApiError {
    fn from(error: CreateTopicError) -> Self {
        let message = error.to_string();
        match error {
            CreateTopicError::Exists(_) => {
                Self::new(StatusCode::CONFLICT, KAFKA_BAD_REQUEST, message)
            }
            CreateTopicError::InvalidName(_)
            | CreateTopicError::CollidingName { .. }
            | CreateTopicError::InvalidPartitions { .. }
            | CreateTopicError::InvalidReplicationFactor(_)
            | CreateTopicError::InvalidConfig { .. }
            | CreateTopicError::TooManyPartitions(_) => {
                Self::new(StatusCode::BAD_REQUEST, KAFKA_BAD_REQUEST, message)
            }
            CreateTopicError::Storage(_) => internal(KAFKA_RETRIABLE_ERROR, message),
        }
    }
}

impl From<CreatePartitionsError> for ApiError {
    fn from(error: CreatePartitionsError) -> Self {
        let message = error.to_string();
        match error {
            CreatePartitionsError::Unknown(topic) => {
                Self { code: 40403, ..Self::topic_not_found(&topic) }
            }
            CreatePartitionsError::Internal(_)
            | CreatePartitionsError::NotMore { .. }
            | CreatePartitionsError::TooMany { .. }
            | CreatePartitionsError::TooManyInAll(_) => {
                Self::new(StatusCode::BAD_REQUEST, KAFKA_BAD_REQUEST, message)
            }
            CreatePartitionsError::Storage(_) => internal(KAFKA_RETRIABLE_ERROR, message),
        }
    }
}

impl From<AlterConfigsError> for ApiError {
    fn from(error: AlterConfigsError) -> Self {
        let message = error.to_string();
        match error {
            AlterConfigsError::UnknownTopic(topic) => {
                Self { code: 40403, ..Self::topic_not_found(&topic) }
            }
            AlterConfigsError::UnknownConfig(_) => Self::status(StatusCode::NOT_FOUND, message),
            AlterConfigsError::InternalTopic(_)
            | AlterConfigsError::InvalidValue { .. }
            | AlterConfigsError::ReadOnly(_)
            | AlterConfigsError::Repeated(_)
            | AlterConfigsError::NotAList(_) => {
                Self::new(StatusCode::BAD_REQUEST, KAFKA_BAD_REQUEST, message)
            }
            AlterConfigsError::Storage(_) => internal(KAFKA_RETRIABLE_ERROR, message),
        }
    }
}

impl From<DeleteTopicError> for ApiError {
    fn from(error: DeleteTopicError) -> Self {
        let message = error.to_string();
        match error {
            DeleteTopicError::Unknown(topic) => Self::topic_not_found(&topic),
            DeleteTopicError::Internal(_) => Self::new(StatusCode::FORBIDDEN, 40301, message),
            DeleteTopicError::Storage(_) => internal(KAFKA_RETRIABLE_ERROR, message),
        }
    }
}

impl From<GroupError> for ApiError {
    fn from(error: GroupError) -> Self {
        let message = error.to_string();
        match error {
            GroupError::CoordinatorNotAvailable
            | GroupError::CoordinatorLoadInProgress
            | GroupError::NotCoordinator => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, KAFKA_RETRIABLE_ERROR, message)
            }
            GroupError::RebalanceInProgress
            | GroupError::IllegalGeneration
            | GroupError::UnknownMemberId
            | GroupError::MemberIdRequired(_)
            | GroupError::FencedInstanceId => Self::new(StatusCode::CONFLICT, 40903, message),
            GroupError::InconsistentGroupProtocol
            | GroupError::NonEmptyGroup
            | GroupError::GroupSubscribedToTopic => {
                Self::new(StatusCode::CONFLICT, KAFKA_BAD_REQUEST, message)
            }
            GroupError::InvalidSessionTimeout
            | GroupError::InvalidGroupId
            | GroupError::InvalidRequest
            | GroupError::OffsetMetadataTooLarge => {
                Self::new(StatusCode::BAD_REQUEST, KAFKA_BAD_REQUEST, message)
            }
            GroupError::GroupMaxSizeReached => Self::status(StatusCode::TOO_MANY_REQUESTS, message),
            GroupError::GroupIdNotFound => Self::new(StatusCode::NOT_FOUND, 40405, message),
        }
    }
}

impl From<CommitRefusal> for ApiError {
    fn from(error: CommitRefusal) -> Self {
        let message = error.to_string();
        match error {
            CommitRefusal::UnknownPartition => Self::new(StatusCode::NOT_FOUND, 40402, message),
            CommitRefusal::MetadataTooLarge => Self::unprocessable(message),
        }
    }
}

impl From<DeleteOffsetRefusal> for ApiError {
    fn from(error: DeleteOffsetRefusal) -> Self {
        let message = error.to_string();
        match error {
            DeleteOffsetRefusal::UnknownPartition => {
                Self::new(StatusCode::NOT_FOUND, 40402, message)
            }
            DeleteOffsetRefusal::Subscribed => {
                Self::new(StatusCode::CONFLICT, KAFKA_BAD_REQUEST, message)
            }
        }
    }
}

impl From<ConsumerError> for ApiError {
    fn from(error: ConsumerError) -> Self {
        let message = error.to_string();
        match error {
            ConsumerError::NotFound { .. } | ConsumerError::UnknownMember { .. } => {
                Self::new(StatusCode::NOT_FOUND, 40403, message)
            }
            ConsumerError::NameTaken { .. } | ConsumerError::MemberStreams { .. } => {
                Self::new(StatusCode::CONFLICT, 40902, message)
            }
            ConsumerError::InvalidSetting { setting: "fetch.min.bytes", .. } => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, 40001, message)
            }
            ConsumerError::InvalidSetting { .. } => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, 42204, message)
            }
            ConsumerError::TooManyInstances(_) => {
                Self::status(StatusCode::TOO_MANY_REQUESTS, message)
            }
            ConsumerError::TooManyTopics { .. }
            | ConsumerError::TooManyPartitions { .. }
            | ConsumerError::InvalidTopic(_)
            | ConsumerError::InvalidPattern(_)
            | ConsumerError::InvalidOffset { .. }
            | ConsumerError::AckOutOfRange { .. }
            | ConsumerError::MetadataTooLarge(_) => Self::unprocessable(message),
            ConsumerError::NotSubscribed
            | ConsumerError::SubscriptionConflict
            | ConsumerError::NotAssigned(_)
            | ConsumerError::ObservesOnly { .. }
            | ConsumerError::Superseded { .. }
            | ConsumerError::NoOffset(_)
            | ConsumerError::OffsetOutOfRange { .. }
            | ConsumerError::Fenced => Self::new(StatusCode::CONFLICT, 40903, message),
            ConsumerError::UnknownPartition(_) => Self::new(StatusCode::NOT_FOUND, 40402, message),
            ConsumerError::Group(error) => error.into(),
            ConsumerError::Read(error) => error.into(),
            ConsumerError::Damaged { .. } => internal(KAFKA_ERROR, message),
            ConsumerError::Storage(_) => internal(KAFKA_RETRIABLE_ERROR, message),
            ConsumerError::ShuttingDown => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, KAFKA_RETRIABLE_ERROR, message)
            }
        }
    }
}
