//! Cursors as positions of named partitions, and back.

use std::collections::HashMap;

use http::StatusCode;

use crate::base::ids::{Offset, TopicName, TopicPartition};
use crate::base::limits::CURSOR_BYTES_MAX;
use crate::engine::Engine;
use crate::http::error::{ApiError, ApiResult};
use crate::http::record::cursor::{self, Cursor, Head, Position, cluster_tag};
use crate::http::record::stored::{self, Written};

/// The partitions of a cursor with their next offsets. What belongs to another cluster, to topics
/// that are gone, or lies behind the end of a log, says nothing any more and is left out.
pub(in crate::http) fn of_cursor(
    engine: &Engine,
    cursor: &Cursor,
) -> Vec<(TopicPartition, Offset)> {
    if cursor.head.cluster != cluster_tag(&engine.node.cluster_id) {
        return Vec::new();
    }
    let topics = engine.topics.list();
    let names: HashMap<u64, &TopicName> =
        topics.iter().map(|topic| (topic.incarnation, &topic.name)).collect();
    let place = |position: &Position| {
        let topic = (*names.get(&position.incarnation)?).clone();
        let bounds = engine.log.bounds(&topic, position.partition).ok()?;
        let is_there = (0..=bounds.high_watermark).contains(&position.next);
        is_there.then(|| (TopicPartition::new(topic, position.partition), position.next))
    };
    cursor.positions.iter().filter_map(place).collect()
}

/// Reads a cursor that a client sent in the parameter or field `name`.
///
/// # Errors
/// 400 names it and its value; 410 for one that the server does not keep any more.
pub(in crate::http) fn parse(engine: &Engine, name: &str, text: &str) -> ApiResult<Cursor> {
    let written = stored::read(text.trim()).map_err(|error| {
        ApiError::bad_request(format!("{name} '{text}' is not a cursor: {error}"))
    })?;
    match written {
        Written::Whole(cursor) => Ok(cursor),
        Written::Stored(key) => stored::find(&*engine.cursors, key).ok_or_else(|| {
            let message = format!("{name} '{text}' is not kept any more");
            ApiError::status(StatusCode::GONE, message)
        }),
    }
}

/// Writes the cursor of positions; topics that are gone are left out.
///
/// # Errors
/// 422 for more partitions than a cursor takes.
pub(in crate::http) fn to_cursor(
    engine: &Engine,
    places: &[(TopicPartition, Offset)],
) -> ApiResult<String> {
    let mut incarnations: HashMap<&TopicName, Option<u64>> = HashMap::new();
    let mut positions = Vec::with_capacity(places.len());
    for (partition, next) in places {
        let found = incarnations.entry(&partition.topic).or_insert_with(|| {
            engine.topics.find(partition.topic.as_str()).map(|topic| topic.incarnation)
        });
        let Some(incarnation) = *found else { continue };
        positions.push(Position { incarnation, partition: partition.partition, next: *next });
    }
    positions.sort_unstable_by_key(|p| (p.incarnation, p.partition));
    let bytes = cursor::bytes_max(positions.iter().copied());
    if bytes > CURSOR_BYTES_MAX {
        let count = positions.len();
        let message = format!(
            "the cursor of {count} partitions would take {bytes} bytes of {CURSOR_BYTES_MAX}: \
             let more members share them"
        );
        return Err(ApiError::unprocessable(message));
    }
    let head = Head { cluster: cluster_tag(&engine.node.cluster_id), ..Head::default() };
    let text = cursor::to_bytes(head, positions.iter().copied());
    Ok(String::from_utf8(text).unwrap_or_default())
}
