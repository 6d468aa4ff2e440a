//! Requests of a connection that take time, done as over HTTP and answered when they are done.

use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use http_body_util::BodyExt;

use super::message;
use super::request::Records;
use crate::consumers::Connection;
use crate::engine::{BoxFuture, Engine};
use crate::http::body;
use crate::http::error::ApiResult;
use crate::http::members::acks::{Acks, AcksAnswer};
use crate::http::state::AppState;
use crate::http::v2::produce;

/// Produces as `POST /topics/{topic}` does; the message that answers it.
pub(super) fn produce(state: AppState, id: Option<String>, records: Records) -> BoxFuture<Vec<u8>> {
    Box::pin(async move {
        produced(state, records).await.map_or_else(
            |error| message::refusal(id.as_deref(), &error),
            |answer| message::with_data("produced", id.as_deref(), &answer),
        )
    })
}

/// Acknowledges as `POST /consumers/{group}/acks` does, but only for the connection that the
/// subscription is; the message that answers it.
pub(super) fn acknowledge(
    engine: Engine,
    connection: Connection,
    id: String,
    acks: Vec<u8>,
) -> BoxFuture<Vec<u8>> {
    Box::pin(async move {
        acknowledged(&engine, &connection, &acks).await.map_or_else(
            |error| message::refusal(Some(&id), &error),
            |answer| message::with_data("acked", Some(&id), &answer),
        )
    })
}

async fn produced(state: AppState, records: Records) -> ApiResult<Bytes> {
    let Records { topic, acks, format, body } = records;
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(format));
    let acks = acks.filter(|acks| acks.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'));
    let query = acks.map(|acks| format!("acks={acks}"));
    let (state, topic, query) = (State(state), Path(topic), RawQuery(query));
    let answer = produce::to_topic(state, topic, query, headers, Body::from(body)).await?;
    let collected = answer.into_body().collect().await;
    Ok(collected.map(http_body_util::Collected::to_bytes).unwrap_or_default())
}

async fn acknowledged(engine: &Engine, connection: &Connection, acks: &[u8]) -> ApiResult<Vec<u8>> {
    let acks = body::parse::<Acks>(acks)?.resolve(engine)?;
    let outcomes = connection.acknowledge(&acks).await?;
    Ok(serde_json::to_vec(&AcksAnswer::of(&outcomes)).unwrap_or_default())
}
