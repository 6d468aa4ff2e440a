//! `GET /consumers/{group}/stream`.

use axum::extract::{Extension, Path, RawQuery, State};
use axum::response::Response;
use http::HeaderMap;

use crate::http::error::{ApiResult, ErrorBody};
use crate::http::get_only::GetOnly;
use crate::http::server::Peer;
use crate::http::state::AppState;
use crate::http::stream::Ask;
use crate::http::stream::described::{LifeQuery, ResumeHeader, ShapeQuery};
use crate::http::stream::routes::address;

/// Streams the partitions of a member of a consumer group as server-sent events.
///
/// The connection is a static member: connecting again with the same `member` within 45 s causes
/// no rebalance, and a second connection fences the first. `assigned` and `revoked` tell what the
/// group decides. A `Last-Event-ID` acknowledges everything before it.
#[utoipa::path(
    get, path = "/consumers/{group}/stream", tag = "streams", operation_id = "streamGroup",
    params(
        ("group" = String, Path, description = "Name of the group", example = "billing"),
        ("topics" = Option<String>, Query, example = "orders", description = "Topics, with commas"),
        ("pattern" = Option<String>, Query,
            description = "Regular expression of whole names of topics, instead of topics"),
        ("member" = Option<String>, Query, example = "tab-1",
            description = "Name of the member; made up by default, told in Stream-Member and in ready"),
        ("ack" = Option<String>, Query, example = "auto",
            description = "auto (default): what was written 5 s ago counts once later bytes were \
                taken; explicit: POST acks counts; none: nothing is committed"),
        ("max_unacked" = Option<u64>, Query, minimum = 1, maximum = 1000000,
            description = "With ack=explicit, records sent and not acknowledged at which the \
                stream pauses; 1000 by default"),
        ("ack_timeout" = Option<u64>, Query, minimum = 1, maximum = 3600,
            description = "With ack=explicit, seconds without an acknowledgement after which \
                what is owed is sent again; never by default"),
        ("from" = Option<String>, Query, example = "earliest",
            description = "Where to begin where nothing is committed: latest (default), earliest, -N (so \
                many offsets before the end), an RFC 3339 timestamp or epoch ms; also since"),
        ShapeQuery,
        LifeQuery,
        ResumeHeader,
    ),
    responses(
        (status = 200, body = String, content_type = "text/event-stream",
            description = "Events without an end: ready, assigned, revoked, records, ping, caught-up, gap, fault, end",
            headers(
                ("Stream-Id" = String, description = "Identity of this stream"),
                ("Stream-Member" = String, description = "Name of the member"),
                ("Stream-Resume" = String, description = "fresh or exact"),
            )),
        (status = 204, description = "The cursor is of a stream that came to its end"),
        (status = 400, body = ErrorBody, description = "A parameter or the cursor is not valid",
            content_type = "application/vnd.kafka.v2+json"),
        (status = 406, body = ErrorBody, content_type = "application/vnd.kafka.v2+json",
            description = "The client does not accept text/event-stream"),
        (status = 409, body = ErrorBody, content_type = "application/vnd.kafka.v2+json",
            description = "40902: a consumer instance of the group has the name"),
        (status = 422, body = ErrorBody, content_type = "application/vnd.kafka.v2+json",
            description = "A name of a topic, a pattern or a name of a member that cannot be"),
        (status = 429, body = ErrorBody, description = "Too many streams or members",
            content_type = "application/vnd.kafka.v2+json"),
    )
)]
pub(in crate::http::stream) async fn group_stream(
    _: GetOnly,
    State(state): State<AppState>,
    Path(group): Path<String>,
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
    state.streams.open_in_group(&state.consumers, &group, &ask).await
}
