//! `GET /topics/{topic}/partitions/{partition}/records/{offset}`: one record as it was produced.
//!
//! The body is the value, byte for byte; key and headers are HTTP headers. A record may hold
//! anything, HTML too, so browsers are told to run nothing and to guess no type.

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use super::gather::{Piece, gather, open};
use super::params::Params;
use super::start::{Begin, end_of};
use crate::base::ids::{Offset, PartitionId};
use crate::base::json;
use crate::engine::topics::Topic;
use crate::http::error::{ApiError, ApiResult, ErrorBody};
use crate::http::state::AppState;
use crate::http::v2::partitions;
use crate::protocol::record_batch::Record;

const KEY: HeaderName = HeaderName::from_static("hydrant-key");
const HEADER: HeaderName = HeaderName::from_static("hydrant-header");
const TIMESTAMP: HeaderName = HeaderName::from_static("hydrant-timestamp");
const TOMBSTONE: HeaderName = HeaderName::from_static("hydrant-tombstone");
const OMITTED: HeaderName = HeaderName::from_static("hydrant-headers-omitted");

/// Bytes of record headers and key that an answer carries; common clients take 16 KiB of headers
/// in all.
const HEADER_BYTES_MAX: usize = 12 * 1024;

/// Reads one record: its value is the body.
///
/// The content type is that of the record's `content-type` header, else JSON, text or octets.
#[utoipa::path(
    get, path = "/topics/{topic}/partitions/{partition}/records/{offset}", tag = "records",
    operation_id = "readRecord",
    params(
        ("topic" = String, Path, description = "Name of the topic", example = "orders"),
        ("partition" = i32, Path, description = "Number of the partition", example = 0),
        ("offset" = i64, Path, description = "Offset of the record", example = 0),
        ("If-None-Match" = Option<String>, Header, description = "The ETag of an earlier answer"),
    ),
    responses(
        (status = 200, description = "The value, byte for byte", content(
            (String = "application/json"), (String = "text/plain"),
            (String = "application/octet-stream"),
        ), headers(
            ("Hydrant-Key" = String, description = "The key; base64 between colons if HTTP cannot carry it"),
            ("Hydrant-Timestamp" = i64, description = "Milliseconds since the epoch"),
            ("ETag" = String, description = "Stands for this record"),
        )),
        (status = 204, description = "The record is a tombstone: it has no value"),
        (status = 304, description = "The record is that of If-None-Match"),
        (status = 404, body = ErrorBody, description = "404: no record has this offset, 40401: no such topic, 40402: no such partition",
            content_type = "application/vnd.kafka.v2+json"),
        (status = 410, body = ErrorBody, description = "The offset is gone; the message names the first there is",
            content_type = "application/vnd.kafka.v2+json"),
    )
)]
pub(super) async fn read_record(
    State(state): State<AppState>,
    Path((topic, partition, offset)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let (topic, partition) = partitions::find(&state, &topic, &partition)?;
    let number: Option<Offset> = offset.parse().ok().filter(|offset| *offset >= 0);
    let not_there = || {
        let message = format!(
            "partition {partition} of topic '{}' has no record at offset '{offset}'",
            topic.name
        );
        ApiError::status(StatusCode::NOT_FOUND, message)
    };
    let number = number.ok_or_else(not_there)?;
    let piece = find(&state, &topic, partition, number).await?.ok_or_else(not_there)?;
    let record = piece.records().next().filter(|record| record.offset == number);
    let record = record.ok_or_else(not_there)?;
    let etag = format!("\"{}:{partition}:{number}\"", topic.incarnation);
    let values = headers.get_all(header::IF_NONE_MATCH).iter();
    let is_known = values.filter_map(|v| v.to_str().ok()).any(|list| {
        list.split(',').map(str::trim).any(|tag| tag == "*" || tag.trim_start_matches("W/") == etag)
    });
    Ok(answer(&record, &etag, is_known))
}

/// Reads the batch that holds the offset, if there is a record at or behind it.
async fn find(
    state: &AppState,
    topic: &Topic,
    partition: PartitionId,
    offset: Offset,
) -> ApiResult<Option<Piece>> {
    let params = Params { limit: 1, bytes_max: 1, ..Params::parse(None, &HeaderMap::new(), None)? };
    let bounds = state.engine.log.bounds(&topic.name, partition)?;
    if offset < bounds.log_start_offset {
        let message = format!(
            "offset {offset} of partition {partition} of topic '{}' is gone, first is {}",
            topic.name, bounds.log_start_offset
        );
        return Err(ApiError::status(StatusCode::GONE, message));
    }
    if offset >= end_of(bounds, params.isolation) {
        return Ok(None);
    }
    let lanes = open(state, topic, params.isolation, &[Begin { partition, offset }])?;
    Ok(gather(state, topic, &params, lanes).await?.pieces.pop())
}

/// Whether the client has the record already.
fn answer(record: &Record<'_>, etag: &str, is_known: bool) -> Response {
    let mut response = match record.value {
        _ if is_known => StatusCode::NOT_MODIFIED.into_response(),
        None => StatusCode::NO_CONTENT.into_response(),
        Some(value) => value.to_vec().into_response(),
    };
    let headers = response.headers_mut();
    headers.remove(header::CONTENT_TYPE);
    if let (Some(value), false) = (record.value, is_known) {
        headers.insert(header::CONTENT_TYPE, content_type(record, value));
    }
    if record.value.is_none() {
        headers.insert(TOMBSTONE, HeaderValue::from_static("true"));
    }
    headers.insert(TIMESTAMP, HeaderValue::from(record.timestamp));
    let fixed = [
        (header::CACHE_CONTROL, "private, max-age=3600"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; sandbox"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if let Ok(etag) = HeaderValue::from_str(etag) {
        headers.insert(header::ETAG, etag);
    }
    describe(record, headers);
    response
}

fn content_type(record: &Record<'_>, value: &[u8]) -> HeaderValue {
    let is_it = |name: &[u8]| name.eq_ignore_ascii_case(b"content-type");
    let own = record.headers().find(|(name, _)| is_it(name)).and_then(|(_, value)| value);
    if let Some(Ok(own)) = own.filter(|own| !own.is_empty()).map(HeaderValue::from_bytes) {
        return own;
    }
    HeaderValue::from_static(match std::str::from_utf8(value) {
        Ok(_) if json::is_valid(value) => "application/json",
        Ok(_) => "text/plain; charset=utf-8",
        Err(_) => "application/octet-stream",
    })
}

/// Puts key and headers of a record into the head of an answer, in the form that produce takes.
fn describe(record: &Record<'_>, headers: &mut HeaderMap) {
    let (mut room, mut omitted) = (HEADER_BYTES_MAX, 0_u32);
    let key = record.key.map(|key| (KEY, HeaderValue::try_from(shown(key)).ok()));
    let own = record.headers().filter(|(name, _)| !name.eq_ignore_ascii_case(b"content-type"));
    let own = own.map(|(name, value)| header_of(name, value));
    for (name, value) in key.into_iter().chain(own) {
        let value = value.map(|value| (room.checked_sub(name.as_str().len() + value.len()), value));
        let Some((Some(left), value)) = value else {
            omitted += 1;
            continue;
        };
        room = left;
        headers.append(name, value);
    }
    if omitted > 0 {
        headers.insert(OMITTED, HeaderValue::from(omitted));
    }
}

/// One header of a record: `hydrant-header-name: value` where HTTP keeps the name as it is, else
/// `hydrant-header: Name=value`, without `=value` if there is none. A name that HTTP cannot carry
/// has no value here.
fn header_of(name: &[u8], value: Option<&[u8]>) -> (HeaderName, Option<HeaderValue>) {
    let is_kept = |byte: &u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_' | b'.')
    };
    if let Some(value) = value.filter(|_| !name.is_empty() && name.iter().all(is_kept)) {
        let full = format!("{HEADER}-{}", String::from_utf8_lossy(name));
        if let Ok(full) = HeaderName::try_from(full) {
            return (full, HeaderValue::try_from(shown(value)).ok());
        }
    }
    let is_text = name.iter().all(|byte| matches!(byte, b'!'..=b'~') && *byte != b'=');
    let text = std::str::from_utf8(name).ok().filter(|_| is_text && !name.is_empty());
    let pair = text.map(|name| match value {
        Some(value) => format!("{name}={}", shown(value)),
        None => name.to_owned(),
    });
    (HEADER, pair.and_then(|pair| HeaderValue::try_from(pair).ok()))
}

/// Text that HTTP carries as it is, else base64 between colons (RFC 9651).
fn shown(bytes: &[u8]) -> String {
    let is_plain = bytes.iter().all(|byte| matches!(byte, b' '..=b'~'));
    let is_trimmed = bytes.trim_ascii().len() == bytes.len();
    let is_quoted = bytes.len() > 1 && bytes.starts_with(b":") && bytes.ends_with(b":");
    match std::str::from_utf8(bytes) {
        Ok(text) if is_plain && is_trimmed && !is_quoted => text.to_owned(),
        _ => format!(":{}:", STANDARD.encode(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::record_batch::{BatchBuilder, BatchHeader, BatchRecords};

    type Headers<'a> = &'a [(&'a [u8], Option<&'a [u8]>)];

    fn answered(key: Option<&[u8]>, value: Option<&[u8]>, headers: Headers<'_>) -> Response {
        let mut builder = BatchBuilder::new();
        builder.push(5, key, value, headers.iter().copied());
        let batch = builder.finish();
        let header = BatchHeader::parse(&batch).unwrap();
        let records = BatchRecords::open(header, &batch).unwrap();
        answer(&records.iter().next().unwrap().unwrap(), "\"1:0:0\"", false)
    }

    fn text<'r>(response: &'r Response, name: &str) -> Option<&'r str> {
        response.headers().get(name).map(|value| value.to_str().unwrap())
    }

    #[test]
    fn the_type_is_the_records_own_or_guessed() {
        let typed = |value: &[u8]| {
            text(&answered(None, Some(value), &[]), "content-type").unwrap().to_owned()
        };
        assert_eq!(typed(b"{\"a\":1}"), "application/json");
        assert_eq!(typed(b"hello"), "text/plain; charset=utf-8");
        assert_eq!(typed(b"\xff"), "application/octet-stream");
        let own: Headers<'_> = &[(b"Content-Type", Some(b"image/png"))];
        let response = answered(None, Some(b"x"), own);
        assert_eq!(text(&response, "content-type"), Some("image/png"));
        assert_eq!(text(&response, "x-content-type-options"), Some("nosniff"));
    }

    #[test]
    fn key_and_headers_arrive_whole() {
        let headers: Headers<'_> = &[
            (b"a", Some(b"1")),
            (b"a", Some(b"2")),
            (b"b", Some(b"\xff")),
            (b"d", Some(b":x:")),
            (b"Taken-By", Some(b"Ann")),
            (b"none", None),
            (b"\xff", Some(b"x")),
        ];
        let response = answered(Some(b"\0"), None, headers);
        assert_eq!(response.status(), 204);
        assert_eq!(text(&response, "hydrant-tombstone"), Some("true"));
        assert_eq!(text(&response, "hydrant-key"), Some(":AA==:"));
        let all = response.headers().get_all("hydrant-header-a").iter().collect::<Vec<_>>();
        assert_eq!(all, ["1", "2"]);
        assert_eq!(text(&response, "hydrant-header-b"), Some(":/w==:"));
        assert_eq!(text(&response, "hydrant-header-d"), Some(":Ong6:"));
        let others = response.headers().get_all("hydrant-header").iter().collect::<Vec<_>>();
        assert_eq!(others, ["Taken-By=Ann", "none"]);
        assert_eq!(text(&response, "hydrant-headers-omitted"), Some("1"));
    }

    #[test]
    fn a_large_head_is_cut_and_says_so() {
        let large = vec![b'x'; HEADER_BYTES_MAX];
        let response = answered(Some(b"k"), Some(b""), &[(b"a", Some(&large)), (b"b", Some(b"1"))]);
        assert_eq!(text(&response, "hydrant-headers-omitted"), Some("1"));
        assert_eq!(text(&response, "hydrant-header-b"), Some("1"));
    }
}
