//! `GET /consumers/{group}/records`: bounded reads of a group, by cursor and idempotent.

use std::time::Duration;

use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderName, header};
use serde::Serialize;
use utoipa::ToSchema;

use super::params::{MemberParams, Taken};
use super::place;
use crate::base::json;
use crate::base::limits::{HTTP_POLL_BYTES_MAX, HTTP_WAIT_MAX};
use crate::consumers::{Delivery, MemberRead};
use crate::http::error::{ApiError, ApiResult, ErrorBody};
use crate::http::get_only::GetOnly;
use crate::http::record::Decode;
use crate::http::record::envelope::Envelope;
use crate::http::state::AppState;
use crate::http::{media, query};

/// The member of requests that name none.
const MEMBER_DEFAULT: &str = "records";

/// Records that one answer may have.
const RECORDS_MAX: usize = 10_000;

/// Records that an answer has at most by default.
const RECORDS_DEFAULT: usize = 500;

/// Bytes of keys, values and headers that an answer has at most by default.
const BYTES_DEFAULT: usize = 4 * 1024 * 1024;

/// JSON around one record, for the first guess of the answer's size.
const RECORD_OVERHEAD_BYTES: usize = 160;

/// Records of a group, and where to go on.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({"records": [], "cursor": "1.AQAAzC0_AQMCAP4BAdgE"}))]
pub struct GroupRecords {
    /// The records, as streams show them.
    #[schema(value_type = Vec<Object>)]
    pub records: Vec<serde_json::Value>,
    /// The `after` of the next request.
    pub cursor: String,
}

/// Everything that a request asks for.
struct Params {
    member: MemberParams,
    after: Option<String>,
    read: MemberRead,
    decode: Decode,
}

/// Reads records of a group, without anything to create before.
///
/// The request makes its `member` a member of the group. It moves nothing by itself: the same
/// request answers the same records, also after a lost answer. The next request says
/// `after=<cursor>`, which acknowledges everything before the cursor (`ack=auto`), or leaves that
/// to `POST /consumers/{group}/acks` (`ack=explicit`).
#[utoipa::path(
    get, path = "/consumers/{group}/records", tag = "consumers", operation_id = "readGroupRecords",
    params(
        ("group" = String, Path, description = "Name of the group", example = "billing"),
        ("topics" = Option<String>, Query, example = "orders", description = "Topics, with commas"),
        ("pattern" = Option<String>, Query,
            description = "Regular expression of whole names of topics, instead of topics"),
        ("member" = Option<String>, Query, example = "job-1",
            description = "Name of the member; `records` by default. Readers at the same time need different ones"),
        ("after" = Option<String>, Query, description = "The cursor of the answer before"),
        ("ack" = Option<String>, Query, example = "auto",
            description = "auto (default): after acknowledges; explicit: POST acks does; none: nothing is committed"),
        ("from" = Option<String>, Query, example = "earliest",
            description = "Where to begin where nothing is committed: latest (default), earliest, -N (so \
                many offsets before the end), an RFC 3339 timestamp or epoch ms; also since"),
        ("max" = Option<u64>, Query, minimum = 1, maximum = 10000, example = 100,
            description = "Records at most; 500 by default"),
        ("max_bytes" = Option<u64>, Query, minimum = 1,
            description = "Bytes of keys, values and headers at most, 4 MiB by default; a larger record comes alone"),
        ("wait" = Option<String>, Query, example = "5s",
            description = "Longest wait for a first record, like 25s or 500 (ms); 1 s by default"),
        ("decode" = Option<String>, Query, example = "auto",
            description = "How values are shown: auto (default), json, text or base64"),
        ("isolation" = Option<String>, Query, example = "read_uncommitted",
            description = "read_uncommitted (default) or read_committed"),
    ),
    responses(
        (status = 200, body = GroupRecords, description = "Records, none only after the whole wait",
            headers(("Stream-Cursor" = String, description = "The cursor of the answer"))),
        (status = 400, body = ErrorBody, description = "A parameter or the cursor is not valid",
            content_type = "application/vnd.kafka.v2+json"),
        (status = 422, body = ErrorBody, content_type = "application/vnd.kafka.v2+json",
            description = "A name of a topic, a pattern or a name of a member that cannot be"),
        (status = 409, body = ErrorBody, content_type = "application/vnd.kafka.v2+json",
            description = "40902: the member has a live stream, or is a consumer instance"),
        (status = 429, body = ErrorBody, description = "Too many members",
            content_type = "application/vnd.kafka.v2+json"),
    )
)]
pub async fn read(
    _: GetOnly,
    State(state): State<AppState>,
    Path(group): Path<String>,
    RawQuery(query): RawQuery,
) -> ApiResult<Response> {
    let params = Params::parse(query.as_deref().unwrap_or_default())?;
    let mut member = params.member.member(&group, || MEMBER_DEFAULT.to_owned())?;
    if let Some(after) = &params.after {
        member.resume =
            place::of_cursor(&state.engine, &place::parse(&state.engine, "after", after)?);
    }
    let found = state.consumers.read_as_member(member, params.read).await?;
    let cursor = place::to_cursor(&state.engine, &found.next)?;
    let body = encode(&found.delivery, params.decode, &cursor);
    let headers = [
        (header::CONTENT_TYPE, media::JSON),
        (header::CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("stream-cursor"), cursor.as_str()),
    ];
    Ok((headers, body).into_response())
}

impl Params {
    fn parse(query: &str) -> ApiResult<Self> {
        let mut params = Self {
            member: MemberParams::default(),
            after: None,
            read: MemberRead {
                records_max: RECORDS_DEFAULT,
                bytes_max: BYTES_DEFAULT,
                wait: Duration::from_secs(1),
            },
            decode: Decode::default(),
        };
        let mut seen: Vec<String> = Vec::new();
        for pair in query::pairs(query) {
            let (name, value) = pair?;
            if seen.contains(&name) {
                return Err(ApiError::bad_request(format!("{name} '{value}' is given twice")));
            }
            if params.member.set(&name, &value)? == Taken::No {
                params.set(&name, &value)?;
            }
            seen.push(name);
        }
        Ok(params)
    }

    fn set(&mut self, name: &str, value: &str) -> ApiResult<()> {
        let number = |max: usize| value.parse().ok().filter(|n| (1..=max).contains(n));
        let refuse = |rule: &str| ApiError::bad_request(format!("{name} '{value}' is not {rule}"));
        match name {
            // A script that begins has no cursor yet.
            "after" if value.is_empty() => {}
            "after" => self.after = Some(value.to_owned()),
            "max" => {
                let max = number(RECORDS_MAX);
                self.read.records_max = max.ok_or_else(|| refuse("a number from 1 to 10000"))?;
            }
            "max_bytes" => {
                let max: Option<usize> = number(usize::MAX);
                let max = max.ok_or_else(|| refuse("a number of bytes from 1"))?;
                self.read.bytes_max = max.min(HTTP_POLL_BYTES_MAX);
            }
            "wait" => {
                let wait =
                    parse_wait(value).ok_or_else(|| refuse("a time like 25s or 500 (ms)"))?;
                self.read.wait = wait.min(HTTP_WAIT_MAX);
            }
            "decode" => {
                self.decode = Decode::parse(value).ok_or_else(|| refuse(Decode::NAMES))?;
            }
            _ => return Err(refuse("a parameter of group reads")),
        }
        Ok(())
    }
}

/// Reads `25s`, `500ms` or a bare number of milliseconds.
fn parse_wait(value: &str) -> Option<Duration> {
    let (digits, unit_ms) = match (value.strip_suffix("ms"), value.strip_suffix('s')) {
        (Some(digits), _) => (digits, 1),
        (None, Some(digits)) => (digits, 1000),
        (None, None) => (value, 1),
    };
    let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let number: u64 = is_number.then(|| digits.parse().ok()).flatten()?;
    Some(Duration::from_millis(number.saturating_mul(unit_ms)))
}

fn encode(delivery: &Delivery, decode: Decode, cursor: &str) -> Vec<u8> {
    let records = delivery.record_count() * RECORD_OVERHEAD_BYTES;
    let mut out = Vec::with_capacity(delivery.bytes() + records + cursor.len() + 64);
    out.extend_from_slice(b"{\"records\":[");
    let mut is_first = true;
    for batch in delivery.batches() {
        let partition = batch.partition();
        let is_append_time = batch.batch().header().is_log_append_time();
        let envelope = Envelope {
            topic: partition.topic.as_str(),
            partition: partition.partition,
            timestamp_type: if is_append_time { "append" } else { "create" },
            decode,
        };
        for record in batch.records() {
            if !std::mem::take(&mut is_first) {
                out.push(b',');
            }
            envelope.json_into(&record, &mut out);
        }
    }
    out.extend_from_slice(b"],\"cursor\":");
    json::string_into(cursor, &mut out);
    out.push(b'}');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_have_units() {
        for (text, ms) in [("25s", 25_000), ("500", 500), ("7ms", 7), ("0", 0)] {
            assert_eq!(parse_wait(text), Some(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "s", "ms", "-1", "+1", "1h", "1.5s"] {
            assert_eq!(parse_wait(text), None, "{text}");
        }
    }

    #[test]
    fn refusals_name_parameter_and_value() {
        for query in [
            "max=0",
            "max=10001",
            "max=x",
            "max_bytes=0",
            "wait=x",
            "decode=x",
            "ack=x",
            "from=x",
            "isolation=x",
            "topics=,",
            "member=",
            "colour=x",
            "max=1&max=2",
        ] {
            let refused = Params::parse(query).err().unwrap();
            let (name, value) = query.split('&').next_back().unwrap().split_once('=').unwrap();
            assert_eq!(refused.code, 400);
            assert!(refused.message.contains(&format!("{name} '{value}'")), "{}", refused.message);
        }
        for (query, part) in [("", "missing"), ("topics=a&pattern=b", "pattern 'b'")] {
            let params = Params::parse(query).unwrap();
            let refused = params.member.member("g", String::new).unwrap_err();
            assert!(refused.message.contains(part), "{}", refused.message);
        }
    }
}
