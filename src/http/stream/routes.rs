//! The routes of live streams.

use std::net::SocketAddr;

use axum::body::Body;
use axum::extract::{Extension, Path, RawQuery, State};
use axum::response::Response;
use http::HeaderMap;
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::described::{LifeQuery, RangeQuery, ResumeHeader, ShapeQuery};
use super::{Ask, admin, group, ws};
use crate::http::body;
use crate::http::error::{ApiResult, ErrorBody};
use crate::http::server::Peer;
use crate::http::state::AppState;

/// All of them.
pub(in crate::http) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(topic_stream))
        .routes(routes!(stream, post_stream))
        .routes(routes!(group::route::group_stream))
        .routes(routes!(ws::websocket))
        .routes(routes!(admin::list))
        .routes(routes!(admin::get, admin::close))
}

/// Streams the records of a topic as server-sent events.
///
/// The first event is `ready`; records are events without a name (`message`) whose id is a cursor.
/// An EventSource that connects again sends the cursor itself and continues with the next record.
#[utoipa::path(
    get, path = "/topics/{topic}/stream", tag = "streams", operation_id = "streamTopic",
    params(
        ("topic" = String, Path, description = "Name of the topic", example = "orders"),
        RangeQuery,
        ShapeQuery,
        LifeQuery,
        ResumeHeader,
    ),
    responses(
        (status = 200, body = String, content_type = "text/event-stream",
            description = "Events without an end: ready, records, ping, caught-up, gap, fault, end",
            headers(
                ("Stream-Id" = String, description = "Identity of this stream"),
                ("Stream-Resume" = String, description = "fresh, exact or gap"),
                ("Stream-Cursor" = String, description = "The cursor that the stream begins at"),
            )),
        (status = 204, description = "The cursor is of a stream that came to its end"),
        (status = 400, body = ErrorBody, description = "A parameter or the cursor is not valid",
            content_type = "application/vnd.kafka.v2+json"),
        (status = 404, body = ErrorBody, content_type = "application/vnd.kafka.v2+json",
            description = "40401: no such topic, 40402: no such partition"),
        (status = 406, body = ErrorBody, content_type = "application/vnd.kafka.v2+json",
            description = "The client does not accept text/event-stream"),
        (status = 410, body = ErrorBody, description = "Records are missing and on_gap is fail",
            content_type = "application/vnd.kafka.v2+json"),
        (status = 429, body = ErrorBody, description = "Too many streams are open",
            content_type = "application/vnd.kafka.v2+json"),
    )
)]
pub(super) async fn topic_stream(
    State(state): State<AppState>,
    Path(topic): Path<String>,
    RawQuery(query): RawQuery,
    client: Option<Extension<Peer>>,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let ask = Ask {
        topic: Some(&topic),
        query: query.as_deref(),
        body: None,
        headers: &headers,
        client: address(client),
    };
    state.streams.open(ask).await
}

/// Streams the records of several topics as server-sent events.
///
/// Topics that are created later and match join from their first record, which `assigned` tells;
/// topics that are deleted leave with a `gap`.
#[utoipa::path(
    get, path = "/stream", tag = "streams", operation_id = "streamTopics",
    params(
        ("topics" = Option<String>, Query, example = "orders,payments",
            description = "Topics, which must exist"),
        ("pattern" = Option<String>, Query, example = "orders\\..*",
            description = "A regular expression that must match whole names, instead of topics"),
        RangeQuery,
        ShapeQuery,
        LifeQuery,
        ResumeHeader,
    ),
    responses(
        (status = 200, body = String, content_type = "text/event-stream",
            description = "Events without an end: ready, records, ping, caught-up, gap, fault, end",
            headers(
                ("Stream-Id" = String, description = "Identity of this stream"),
                ("Stream-Resume" = String, description = "fresh, exact or gap"),
                ("Stream-Cursor" = String, description = "The cursor that the stream begins at"),
            )),
        (status = 204, description = "The cursor is of a stream that came to its end"),
        (status = 400, body = ErrorBody, description = "A parameter or the cursor is not valid",
            content_type = "application/vnd.kafka.v2+json"),
        (status = 404, body = ErrorBody, content_type = "application/vnd.kafka.v2+json",
            description = "40401: no such topic, 40402: no such partition"),
        (status = 406, body = ErrorBody, content_type = "application/vnd.kafka.v2+json",
            description = "The client does not accept text/event-stream"),
        (status = 410, body = ErrorBody, description = "Records are missing and on_gap is fail",
            content_type = "application/vnd.kafka.v2+json"),
        (status = 429, body = ErrorBody, description = "Too many streams are open",
            content_type = "application/vnd.kafka.v2+json"),
    )
)]
pub(super) async fn stream(
    State(state): State<AppState>,
    RawQuery(query): RawQuery,
    client: Option<Extension<Peer>>,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let ask = Ask {
        topic: None,
        query: query.as_deref(),
        body: None,
        headers: &headers,
        client: address(client),
    };
    state.streams.open(ask).await
}

/// Parameters of a stream as JSON. All others of the query are possible too, by their names.
#[derive(Debug, Deserialize, ToSchema)]
#[allow(dead_code, reason = "describes the body; it is read parameter by parameter")]
pub(super) struct StreamRequest {
    /// Topics, which must exist.
    #[schema(example = json!(["orders", "payments"]))]
    topics: Option<Vec<String>>,
    /// A regular expression that must match whole names, instead of topics.
    pattern: Option<String>,
    /// Where to begin.
    #[schema(example = "earliest")]
    from: Option<String>,
    /// Where some partitions begin.
    offsets: Option<Vec<StreamOffset>>,
    /// Partitions, only with one topic.
    partitions: Option<Vec<i32>>,
    /// Where to end.
    until: Option<String>,
    /// Records after which to end.
    limit: Option<u64>,
    /// A cursor, or a list of positions.
    last_event_id: Option<String>,
}

/// Where one partition begins.
#[derive(Debug, Deserialize, ToSchema)]
#[allow(dead_code, reason = "describes the body")]
pub(super) struct StreamOffset {
    /// Its topic.
    #[schema(example = "orders")]
    topic: String,
    /// Its number.
    #[schema(example = 0)]
    partition: i32,
    /// The first offset to deliver.
    #[schema(example = 41)]
    offset: i64,
}

/// Streams the records of several topics; the subscription is a JSON object.
///
/// For long patterns, filters and lists of positions. `QUERY /stream` is the same.
#[utoipa::path(
    post, path = "/stream", tag = "streams", operation_id = "streamQuery",
    request_body(content = StreamRequest, content_type = "application/json",
        example = json!({"topics": ["orders"], "from": "earliest", "limit": 10})),
    responses(
        (status = 200, body = String, content_type = "text/event-stream",
            description = "Events without an end: ready, records, ping, caught-up, gap, fault, end",
            headers(
                ("Stream-Id" = String, description = "Identity of this stream"),
                ("Stream-Resume" = String, description = "fresh, exact or gap"),
                ("Stream-Cursor" = String, description = "The cursor that the stream begins at"),
            )),
        (status = 204, description = "The cursor is of a stream that came to its end"),
        (status = 400, body = ErrorBody, description = "A parameter or the cursor is not valid",
            content_type = "application/vnd.kafka.v2+json"),
        (status = 404, body = ErrorBody, content_type = "application/vnd.kafka.v2+json",
            description = "40401: no such topic, 40402: no such partition"),
        (status = 406, body = ErrorBody, content_type = "application/vnd.kafka.v2+json",
            description = "The client does not accept text/event-stream"),
        (status = 410, body = ErrorBody, description = "Records are missing and on_gap is fail",
            content_type = "application/vnd.kafka.v2+json"),
        (status = 429, body = ErrorBody, description = "Too many streams are open",
            content_type = "application/vnd.kafka.v2+json"),
    )
)]
pub(super) async fn post_stream(
    State(state): State<AppState>,
    RawQuery(query): RawQuery,
    client: Option<Extension<Peer>>,
    headers: HeaderMap,
    request: Body,
) -> ApiResult<Response> {
    let bytes = body::read(&state.bodies, request).await?;
    let ask = Ask {
        topic: None,
        query: query.as_deref(),
        body: Some(&bytes),
        headers: &headers,
        client: address(client),
    };
    state.streams.open(ask).await
}

pub(super) fn address(client: Option<Extension<Peer>>) -> Option<SocketAddr> {
    client.map(|Extension(Peer(address))| address)
}
