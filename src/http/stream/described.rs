//! The parameters of streams as the specification describes them; `params` reads them.
//!
//! Three groups that every route combines as it needs: where a stream begins and ends, what it
//! shows and how, and how it lives.

use serde::Deserialize;
use utoipa::IntoParams;

/// Where a stream begins and ends.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::http::stream) struct RangeQuery {
    /// Where to begin: latest (default), earliest, -N (last N of each partition), offset:P=O,P=O
    /// (offset:TOPIC:P=O with several topics), an RFC 3339 timestamp or epoch ms.
    #[param(required = false, example = "latest")]
    pub(super) from: String,
    /// Another name of from.
    #[param(required = false)]
    pub(super) since: String,
    /// Where to end: end (what is the end now), an RFC 3339 timestamp or epoch ms.
    #[param(required = false)]
    pub(super) until: String,
    /// A stream that falls behind lags (default), or goes on at the end with a gap: latest.
    #[param(required = false, example = "lag")]
    pub(super) overflow: String,
    /// Records by which a partition may be behind with overflow=latest; 10000 by default.
    #[param(required = false, minimum = 1)]
    pub(super) max_lag: u64,
    /// Partitions to stream; all by default, and only with one topic.
    #[param(required = false, example = "0,2")]
    pub(super) partitions: String,
}

/// What a stream shows, and how.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::http::stream) struct ShapeQuery {
    /// Keys of wanted records; repeatable.
    #[param(required = false)]
    pub(super) key: Vec<String>,
    /// How keys of wanted records begin; repeatable. header.NAME=V and header.NAME!=V are
    /// conditions on headers.
    #[param(required = false)]
    pub(super) key_prefix: Vec<String>,
    /// A CEL expression over key, value, headers, topic, partition, offset and timestamp.
    #[param(required = false, example = "value.amount > 100")]
    pub(super) filter: String,
    /// What an event carries: envelope (default), value or cloudevent.
    #[param(required = false, example = "envelope")]
    pub(super) data: String,
    /// JSON Pointers of the parts of values that are shown.
    #[param(required = false, example = "/id,/user/name")]
    pub(super) select: String,
    /// Where names of events come from: message, topic, header:NAME or type.
    #[param(required = false, example = "message")]
    pub(super) event: String,
    /// Records sent together: N, or what came in a window, MSms.
    #[param(required = false, example = "100")]
    pub(super) batch: String,
    /// How offsets and timestamps are written: number or string.
    #[param(required = false, example = "number")]
    pub(super) numbers: String,
    /// sse or ndjson; goes before Accept.
    #[param(required = false, example = "ndjson")]
    pub(super) format: String,
    /// How values are shown: auto (default), json, text or base64.
    #[param(required = false, example = "auto")]
    pub(super) decode: String,
    /// read_committed (default) or read_uncommitted.
    #[param(required = false, example = "read_committed")]
    pub(super) isolation: String,
}

/// How a stream lives.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::http::stream) struct LifeQuery {
    /// Records after which to end.
    #[param(required = false, minimum = 1)]
    pub(super) limit: u64,
    /// Bytes of events after which to end; the record that reaches it is sent.
    #[param(required = false, minimum = 1)]
    pub(super) max_bytes: u64,
    /// Which events carry a cursor: each, flush (the last one written at once), or auto (default):
    /// each for up to 8 partitions.
    #[param(required = false, example = "auto")]
    pub(super) ids: String,
    /// Seconds between pings on an idle stream.
    #[param(required = false, minimum = 1, maximum = 60)]
    pub(super) heartbeat: u64,
    /// When records are missing: event (default) tells and goes on, fail ends.
    #[param(required = false, example = "event")]
    pub(super) on_gap: String,
    /// 1: refusals that may pass are a stream with fault and retry, because an EventSource gives
    /// up at a status.
    #[param(required = false, maximum = 1)]
    pub(super) soft_errors: u8,
    /// A cursor, or a JSON list of {topic, partition, offset or timestamp}. lastEventId is
    /// another name.
    #[param(required = false)]
    pub(super) last_event_id: String,
}

/// What an EventSource sends when it connects again.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Header)]
pub(in crate::http::stream) struct ResumeHeader {
    /// A cursor; goes before last_event_id, which goes before from.
    #[serde(rename = "Last-Event-ID")]
    #[param(required = false)]
    pub(super) last_event_id: String,
}
