//! `POST /admin/topics/{topic}/records:delete`: delete the oldest records of partitions.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response;
use http::HeaderMap;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::base::ids::{Offset, PartitionId, TimestampMs};
use crate::engine::log::{DeleteRecordsError, DeleteUpTo, Isolation, OffsetSpec};
use crate::engine::topics::Topic;
use crate::http::error::{ApiError, ApiResult, ErrorBody};
use crate::http::state::{AppState, Inner};
use crate::http::{body, media};

/// Which records to delete.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RecordsToDelete {
    /// The partitions, each once.
    #[schema(example = json!([{"partition": 0, "before_offset": 42}]))]
    pub partitions: Vec<PartitionToTrim>,
}

/// Which records of a partition to delete: exactly one of the two members.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PartitionToTrim {
    /// The partition.
    #[schema(example = 0)]
    pub partition: PartitionId,
    /// Delete the records before this offset; -1 deletes all that there are.
    #[schema(example = 42, minimum = -1)]
    pub before_offset: Option<Offset>,
    /// Delete the records before the first one with at least this timestamp, in ms since 1970;
    /// all that there are if every record is older.
    pub before_timestamp: Option<TimestampMs>,
}

/// What is left.
#[derive(Debug, Serialize, ToSchema)]
pub struct TrimmedTopic {
    /// The partitions, in the order of the request.
    pub partitions: Vec<TrimmedPartition>,
}

/// What is left of a partition.
#[derive(Debug, Serialize, ToSchema)]
pub struct TrimmedPartition {
    /// The partition.
    #[schema(example = 0)]
    pub partition: PartitionId,
    /// First offset that can be read.
    #[schema(example = 42)]
    pub log_start_offset: Offset,
}

/// Deletes the oldest records of partitions.
#[utoipa::path(
    post, path = "/admin/topics/{topic}/records:delete", tag = "admin",
    operation_id = "deleteRecords",
    params(("topic" = String, Path, description = "Name of the topic", example = "orders")),
    request_body(content = RecordsToDelete, content_type = "application/json",
        example = json!({"partitions": [{"partition": 0, "before_offset": 42}]})),
    responses(
        (status = 200, body = TrimmedTopic,
            description = "The records cannot be read any more, also after a crash"),
        (status = 400, body = ErrorBody, content_type = "application/vnd.kafka.v2+json",
            description = "40002: the offset is beyond the end, or the topic is only compacted"),
        (status = 403, body = ErrorBody, description = "40301: the topic is internal",
            content_type = "application/vnd.kafka.v2+json"),
        (status = 404, body = ErrorBody, description = "40401: no such topic, 40402: no such partition",
            content_type = "application/vnd.kafka.v2+json"),
        (status = 422, body = ErrorBody, content_type = "application/vnd.kafka.v2+json",
            description = "A partition is named twice, or not exactly one of before_offset and before_timestamp"),
    )
)]
pub async fn delete_records(
    State(state): State<AppState>,
    Path(topic): Path<String>,
    headers: HeaderMap,
    request: Body,
) -> ApiResult<Response> {
    media::content(&headers)?;
    let bytes = body::read(&state.bodies, request).await?;
    let wanted: RecordsToDelete = body::parse(&bytes)?;
    let found = state.engine.topics.find(&topic);
    let found = found.ok_or_else(|| ApiError::topic_not_found(&topic))?;
    // Everything is checked before anything is deleted.
    let mut plan = Vec::with_capacity(wanted.partitions.len());
    for entry in &wanted.partitions {
        if plan.iter().any(|(partition, _)| *partition == entry.partition) {
            let message = format!("partition {} is named twice", entry.partition);
            return Err(ApiError::unprocessable(message));
        }
        plan.push((entry.partition, find_end(&state, &found, entry).await?));
    }
    let mut partitions = Vec::with_capacity(plan.len());
    for (partition, up_to) in plan {
        let deleted = state.engine.log.delete_records(&found.name, partition, up_to).await;
        partitions.push(TrimmedPartition { partition, log_start_offset: deleted? });
    }
    super::json(&headers, &TrimmedTopic { partitions })
}

/// Up to where the records of a partition go.
async fn find_end(state: &Inner, topic: &Topic, entry: &PartitionToTrim) -> ApiResult<DeleteUpTo> {
    let (log, partition) = (&state.engine.log, entry.partition);
    let bounds = log.bounds(&topic.name, partition)?;
    match (entry.before_offset, entry.before_timestamp) {
        (Some(-1), None) => Ok(DeleteUpTo::HighWatermark),
        (Some(requested), None) => {
            if !(0..=bounds.high_watermark).contains(&requested) {
                return Err(DeleteRecordsError::OffsetOutOfRange { requested, bounds }.into());
            }
            Ok(DeleteUpTo::Offset(requested))
        }
        (None, Some(timestamp)) => {
            let spec = OffsetSpec::AtOrAfter(timestamp);
            let isolation = Isolation::ReadUncommitted;
            let found = log.list_offset(&topic.name, partition, spec, isolation).await?;
            // Without such a record, all that was there when it was looked for.
            Ok(DeleteUpTo::Offset(found.map_or(bounds.high_watermark, |found| found.offset)))
        }
        (None, None) | (Some(_), Some(_)) => {
            let message = format!(
                "partition {partition} needs exactly one of before_offset and before_timestamp"
            );
            Err(ApiError::unprocessable(message))
        }
    }
}
