//! `POST /consumers/{group}/acks`: a member says what it is done with.

use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::place;
use crate::base::ids::{GroupId, Offset, PartitionId, TopicName, TopicPartition};
use crate::base::limits::STREAM_PARTITIONS_MAX;
use crate::consumers::{Ack, AckOutcome};
use crate::engine::Engine;
use crate::http::error::{ApiError, ApiResult, ErrorBody};
use crate::http::state::AppState;
use crate::http::{body, media, query};

/// What a member is done with: a cursor or offsets.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"offsets": [{"topic": "orders", "partition": 0, "offset": 41}]}))]
pub struct Acks {
    /// The id of an event, or the cursor of a read: everything before it is done.
    pub cursor: Option<String>,
    /// The last records processed, by partition; everything up to them is done.
    pub offsets: Option<Vec<AckOffset>>,
    /// The member, if the query does not name it.
    pub member: Option<String>,
}

/// The last record of a partition that was processed.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AckOffset {
    /// The topic.
    #[schema(example = "orders")]
    pub topic: String,
    /// The partition.
    #[schema(example = 0)]
    pub partition: PartitionId,
    /// The offset of the record, so one more is committed.
    #[schema(example = 41)]
    pub offset: Offset,
}

/// What became of an acknowledgement.
#[derive(Debug, Serialize, ToSchema)]
pub struct AcksAnswer {
    /// By partition, in the order of the request.
    pub acks: Vec<AckAnswer>,
}

/// What became of the acknowledgement of one partition.
#[derive(Debug, Serialize, ToSchema)]
pub struct AckAnswer {
    /// The topic.
    #[schema(example = "orders")]
    pub topic: String,
    /// The partition.
    #[schema(example = 0)]
    pub partition: PartitionId,
    /// `committed`; `unchanged`, because as much was committed before; or `not_assigned`, because
    /// the partition is not the member's: nothing was committed and others may read it.
    #[schema(example = "committed")]
    pub status: &'static str,
    /// The committed offset of an assigned partition, as Kafka shows it: the next to read.
    #[schema(example = 42)]
    pub committed: Option<Offset>,
}

/// Acknowledges records that a member of streams or reads is done with.
///
/// The commit is durable when the answer comes. Nothing ever goes back: what is behind the
/// committed offset changes nothing. Works while the member's stream is open, in the moments after
/// `revoked`, and for the session timeout after its connection broke.
#[utoipa::path(
    post, path = "/consumers/{group}/acks", tag = "consumers", operation_id = "acknowledge",
    params(
        ("group" = String, Path, description = "Name of the group", example = "billing"),
        ("member" = Option<String>, Query, example = "tab-1",
            description = "Name of the member; may be in the body instead"),
    ),
    request_body(content = Acks, content_type = "application/json",
        description = "Either a cursor or offsets"),
    responses(
        (status = 200, body = AcksAnswer, description = "What is committed, by partition"),
        (status = 400, body = ErrorBody, description = "The cursor is not one, or something is missing",
            content_type = "application/vnd.kafka.v2+json"),
        (status = 404, body = ErrorBody, content_type = "application/vnd.kafka.v2+json",
            description = "40402: no such partition, 40403: no such member here, or no longer"),
        (status = 409, body = ErrorBody, content_type = "application/vnd.kafka.v2+json",
            description = "40903: the partitions were given to others, or the member reads with ack=none"),
        (status = 410, body = ErrorBody, content_type = "application/vnd.kafka.v2+json",
            description = "The server does not keep the cursor any more"),
        (status = 422, body = ErrorBody, content_type = "application/vnd.kafka.v2+json",
            description = "An offset is negative or behind the end of the log"),
    )
)]
pub async fn acknowledge(
    State(state): State<AppState>,
    Path(group): Path<String>,
    RawQuery(query): RawQuery,
    request: Body,
) -> ApiResult<Response> {
    let bytes = body::read(&state.bodies, request).await?;
    let asked: Acks = body::parse(&bytes)?;
    let named = query::find(query.as_deref(), "member")?;
    let member = named.or_else(|| asked.member.clone());
    let member = member.ok_or_else(|| ApiError::bad_request("member is missing"))?;
    let acks = asked.resolve(&state.engine)?;
    let group = GroupId::from(group.as_str());
    let outcomes = state.consumers.acknowledge(&group, &member, &acks).await?;
    let body = serde_json::to_vec(&AcksAnswer::of(&outcomes)).unwrap_or_default();
    Ok((StatusCode::OK, [(header::CONTENT_TYPE, media::JSON)], body).into_response())
}

impl Acks {
    /// Says which records are done, by partition.
    ///
    /// # Errors
    /// 400 for what is not a cursor, and for neither or both of cursor and offsets; 410 for a
    /// cursor that the server does not keep any more; 422 for a partition that cannot be, and for
    /// more than a stream may have.
    pub(in crate::http) fn resolve(self, engine: &Engine) -> ApiResult<Vec<Ack>> {
        let offsets = match (self.cursor, self.offsets) {
            (Some(cursor), None) => {
                let cursor = place::parse(engine, "cursor", &cursor)?;
                let places = place::of_cursor(engine, &cursor);
                return Ok(places
                    .into_iter()
                    .map(|(partition, next)| Ack { partition, next })
                    .collect());
            }
            (None, Some(offsets)) => offsets,
            (Some(_), Some(_)) => {
                return Err(ApiError::bad_request("cursor and offsets exclude each other"));
            }
            (None, None) => return Err(ApiError::bad_request("cursor or offsets is missing")),
        };
        if offsets.len() > STREAM_PARTITIONS_MAX {
            let count = offsets.len();
            let message =
                format!("offsets of {count} partitions are more than {STREAM_PARTITIONS_MAX}");
            return Err(ApiError::unprocessable(message));
        }
        offsets.into_iter().map(AckOffset::resolve).collect()
    }
}

impl AckOffset {
    fn resolve(self) -> ApiResult<Ack> {
        let name = TopicName::parse(&self.topic)
            .map_err(|error| ApiError::unprocessable(error.to_string()))?;
        let partition = TopicPartition::new(name, self.partition);
        if self.offset < 0 || self.offset == Offset::MAX {
            let message = format!("offset {} of {partition} is out of range", self.offset);
            return Err(ApiError::unprocessable(message));
        }
        // As in v2, clients name the last record processed; the log keeps the next one to read.
        Ok(Ack { partition, next: self.offset + 1 })
    }
}

impl AcksAnswer {
    /// Shows what became of an acknowledgement.
    pub(in crate::http) fn of(outcomes: &[AckOutcome]) -> Self {
        let answer = |outcome: &AckOutcome| AckAnswer {
            topic: outcome.partition.topic.to_string(),
            partition: outcome.partition.partition,
            status: outcome.status.as_str(),
            committed: outcome.committed,
        };
        Self { acks: outcomes.iter().map(answer).collect() }
    }
}
