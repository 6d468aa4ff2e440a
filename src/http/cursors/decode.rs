//! What a cursor says, and what would become of each of its positions now.

use std::collections::HashMap;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::HeaderMap;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::base::ids::{Offset, PartitionId};
use crate::engine::Engine;
use crate::engine::log::{Bounds, Isolation, ReadError};
use crate::engine::topics::Topic;
use crate::http::error::{ApiResult, ErrorBody};
use crate::http::members::place;
use crate::http::record::cursor::{Cursor, Position, cluster_tag};
use crate::http::record::last::end_of;
use crate::http::state::AppState;
use crate::http::{body, media};

/// A cursor to look into.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"cursor": "1.AQABAgMEBwIA_gEB2ATrXw"}))]
pub struct CursorToDecode {
    /// The id of an event, a `Stream-Cursor`, or the `cursor` of a read.
    pub cursor: String,
}

/// What a cursor says.
#[derive(Debug, Serialize, ToSchema)]
pub struct DecodedCursor {
    /// 1: the cursor says everything itself. 2: it names positions that the server keeps.
    #[schema(example = 1)]
    pub version: u8,
    /// Its stream came to its end: who continues it is answered with 204.
    pub done: bool,
    /// Which records its stream shows.
    #[schema(example = "read_committed")]
    pub isolation: &'static str,
    /// It was written by this cluster; the positions of another one mean nothing here.
    pub this_cluster: bool,
    /// Records that its stream may still deliver; null without a bound.
    pub limit: Option<u64>,
    /// Bytes that its stream may still deliver; null without a bound.
    pub max_bytes: Option<u64>,
    /// By the creation of topics, and by partition.
    pub positions: Vec<DecodedPosition>,
}

/// One position of a cursor.
#[derive(Debug, Serialize, ToSchema)]
pub struct DecodedPosition {
    /// The topic; null if none with this incarnation exists here any more.
    #[schema(example = "orders")]
    pub topic: Option<String>,
    /// The number of the topic's creation: a topic that is created again has another one.
    #[schema(example = 7)]
    pub incarnation: u64,
    /// The partition.
    #[schema(example = 0)]
    pub partition: PartitionId,
    /// The next offset to deliver.
    #[schema(example = 254)]
    pub offset: Offset,
    /// What who continues the cursor meets in this partition.
    pub state: PositionState,
    /// The first offset that can be read now; null if that is not known.
    #[schema(example = 0)]
    pub earliest: Option<Offset>,
    /// The offset behind the last record that the isolation shows now; null if it is not known.
    #[schema(example = 600)]
    pub latest: Option<Offset>,
}

/// What becomes of a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PositionState {
    /// It goes on with the very next record.
    Exact,
    /// A gap: records were deleted by age or size, it goes on at `earliest`.
    Retention,
    /// A gap: the log ends before it.
    Truncated,
    /// A gap: its topic is deleted, or another one of that name was created.
    Deleted,
    /// A gap: the cursor is of another cluster.
    Foreign,
    /// The topic has no such partition; it is ignored.
    UnknownPartition,
    /// The partition cannot be read at the moment.
    Offline,
}

/// Tells what a cursor says.
///
/// A debugging aid: the form of cursors may change, so clients should pass them on unread. Nothing
/// is changed by asking, and a cursor that is decoded stays as valid as it was.
#[utoipa::path(
    post, path = "/cursors:decode", tag = "streams", operation_id = "decodeCursor",
    request_body(content = CursorToDecode, content_type = "application/json"),
    responses(
        (status = 200, body = DecodedCursor, description = "What it says, and what would become of it"),
        (status = 400, body = ErrorBody, content_type = "application/vnd.kafka.v2+json",
            description = "cursor '1.AQAB' is not a cursor: it is damaged"),
        (status = 410, body = ErrorBody, content_type = "application/vnd.kafka.v2+json",
            description = "cursor '2.AAAAAAAAAAAAAAAAAAAAAA.0' is not kept any more"),
    )
)]
pub async fn decode_cursor(
    State(state): State<AppState>,
    headers: HeaderMap,
    request: Body,
) -> ApiResult<Response> {
    media::content(&headers)?;
    media::accepted(&headers)?;
    let bytes = body::read(&state.bodies, request).await?;
    let asked: CursorToDecode = body::parse(&bytes)?;
    let text = asked.cursor.trim();
    let cursor = place::parse(&state.engine, "cursor", text)?;
    let version = if text.starts_with("2.") { 2 } else { 1 };
    Ok(super::json(&describe(&state.engine, &cursor, version)))
}

fn describe(engine: &Engine, cursor: &Cursor, version: u8) -> DecodedCursor {
    let head = cursor.head;
    let this_cluster = head.cluster == cluster_tag(&engine.node.cluster_id);
    let topics = engine.topics.list();
    let topics: HashMap<u64, &Arc<Topic>> =
        topics.iter().map(|topic| (topic.incarnation, topic)).collect();
    let position = |position: &Position| {
        let topic = topics.get(&position.incarnation).filter(|_| this_cluster);
        let (state, bounds) = match topic {
            Some(topic) => state_of(engine, topic, position),
            None if this_cluster => (PositionState::Deleted, None),
            None => (PositionState::Foreign, None),
        };
        DecodedPosition {
            topic: topic.map(|topic| topic.name.to_string()),
            incarnation: position.incarnation,
            partition: position.partition,
            offset: position.next,
            state,
            earliest: bounds.map(|bounds| bounds.log_start_offset),
            latest: bounds.map(|bounds| end_of(bounds, head.isolation)),
        }
    };
    DecodedCursor {
        version,
        done: head.is_done,
        isolation: match head.isolation {
            Isolation::ReadCommitted => "read_committed",
            Isolation::ReadUncommitted => "read_uncommitted",
        },
        this_cluster,
        limit: head.budget.records,
        max_bytes: head.budget.bytes,
        positions: cursor.positions.iter().map(position).collect(),
    }
}

fn state_of(
    engine: &Engine,
    topic: &Topic,
    position: &Position,
) -> (PositionState, Option<Bounds>) {
    let bounds = match engine.log.bounds(&topic.name, position.partition) {
        Ok(bounds) => bounds,
        Err(ReadError::UnknownPartition { .. }) => return (PositionState::UnknownPartition, None),
        Err(_) => return (PositionState::Offline, None),
    };
    let state = if position.next < bounds.log_start_offset {
        PositionState::Retention
    } else if position.next > bounds.high_watermark {
        PositionState::Truncated
    } else {
        PositionState::Exact
    };
    (state, Some(bounds))
}
