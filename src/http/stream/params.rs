//! What a client asks of a stream: the query, `Last-Event-ID` and `Accept`.
//!
//! Every parameter is checked before the first byte is sent, because nothing can be refused after.

use std::time::Duration;

use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;

use super::cursor::{self, Cursor};
use crate::base::ids::{Offset, PartitionId, TimestampMs};
use crate::http::error::{ApiError, ApiResult};
use crate::http::query;
use crate::http::time::parse_rfc3339_ms;

/// The media type of a stream.
pub(super) const EVENT_STREAM: &str = "text/event-stream; charset=utf-8";

/// Range of `heartbeat`, in seconds.
const HEARTBEAT_SECONDS: std::ops::RangeInclusive<u64> = 1..=60;

/// Where a stream without a cursor begins.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum From {
    /// At the end: only records still to come.
    #[default]
    Latest,
    /// At the first record there is.
    Earliest,
    /// So many offsets before the end of each partition.
    Last(i64),
    /// At an offset for each of these partitions, at the end of all others.
    Offsets(Vec<(PartitionId, Offset)>),
    /// At the first record that is not older.
    Timestamp(TimestampMs),
}

/// A position that a client names itself.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Named {
    pub(super) topic: String,
    pub(super) partition: PartitionId,
    /// The next offset to deliver.
    pub(super) offset: Option<Offset>,
    /// Used when there is no offset.
    pub(super) timestamp: Option<TimestampMs>,
}

/// Where a stream continues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Resume {
    /// By a cursor that a stream sent.
    Cursor(Cursor),
    /// By positions that the client wrote.
    Named(Vec<Named>),
}

/// Where a stream ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    /// At what was the end when the stream opened.
    End,
    /// At the first record of each partition that is not older.
    Timestamp(TimestampMs),
}

/// What an event carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) enum Data {
    /// The record with everything about it.
    #[default]
    Envelope,
    /// Only its value.
    Value,
}

/// How values are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) enum Decode {
    /// JSON if it is, else text if it is, else base64.
    #[default]
    Auto,
    /// JSON if it is, else base64.
    Json,
    /// Text if it is, else base64.
    Text,
    /// Base64.
    Base64,
}

/// What encoded records depend on, besides the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Format {
    pub(super) data: Data,
    pub(super) decode: Decode,
}

/// Which events carry a cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Ids {
    /// Every record while the cursor is short, else the last one of a flush.
    #[default]
    Auto,
    /// Every record.
    Each,
    /// The last record of a flush.
    Flush,
}

/// What happens when records are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum OnGap {
    /// A `gap` event, and on with the next record there is.
    #[default]
    Event,
    /// The request fails, or the stream ends.
    Fail,
}

/// Everything that a client asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Params {
    /// `from`, if it was given.
    pub(super) from: Option<From>,
    /// The cursor, if there is one.
    pub(super) resume: Option<Resume>,
    pub(super) partitions: Option<Vec<PartitionId>>,
    pub(super) until: Option<Until>,
    pub(super) limit: Option<u64>,
    pub(super) format: Format,
    pub(super) ids: Ids,
    pub(super) heartbeat: Option<Duration>,
    pub(super) on_gap: OnGap,
}

impl Params {
    /// Reads everything.
    ///
    /// # Errors
    /// 400 names the parameter and its value.
    pub(super) fn parse(text: Option<&str>, headers: &HeaderMap) -> ApiResult<Self> {
        let mut params = Self::default();
        let mut seen: Vec<String> = Vec::new();
        let mut from_cursor = None;
        for pair in query::pairs(text.unwrap_or_default()) {
            let (name, value) = pair?;
            if let "last_event_id" | "lastEventId" = name.as_str() {
                from_cursor.get_or_insert((name, value));
                continue;
            }
            if seen.contains(&name) {
                return Err(ApiError::bad_request(format!("{name} '{value}' is given twice")));
            }
            params.set(&name, &value)?;
            seen.push(name);
        }
        if let Some(value) = headers.get("last-event-id") {
            let text = value.to_str().map_err(|_| {
                ApiError::bad_request(format!("Last-Event-ID {value:?} is not a cursor"))
            })?;
            from_cursor = Some(("Last-Event-ID".to_owned(), text.to_owned()));
        }
        if let Some((name, value)) = from_cursor {
            params.set_cursor(&name, value.trim())?;
        }
        Ok(params)
    }

    fn set(&mut self, name: &str, value: &str) -> ApiResult<()> {
        let refuse =
            |rule: &str| Err(ApiError::bad_request(format!("{name} '{value}' is not {rule}")));
        match name {
            "from" | "since" => match parse_from(value) {
                Some(_) if self.from.is_some() => return refuse("possible: from is given twice"),
                Some(from) => self.from = Some(from),
                None => {
                    return refuse(
                        "latest, earliest, -N, offset:P=O,P=O, an RFC 3339 timestamp or epoch ms",
                    );
                }
            },
            "partitions" => match parse_list(value) {
                Some(list) => self.partitions = Some(list),
                None => return refuse("a list of partitions like 0,2"),
            },
            "until" => match (value, parse_moment(value)) {
                ("end", _) => self.until = Some(Until::End),
                (_, Some(at)) => self.until = Some(Until::Timestamp(at)),
                _ => return refuse("end, an RFC 3339 timestamp or epoch ms"),
            },
            "limit" => match value.parse() {
                Ok(limit) if limit > 0 => self.limit = Some(limit),
                _ => return refuse("a number of records from 1"),
            },
            "data" => match value {
                "envelope" => self.format.data = Data::Envelope,
                "value" => self.format.data = Data::Value,
                _ => return refuse("envelope or value"),
            },
            "decode" => match value {
                "auto" => self.format.decode = Decode::Auto,
                "json" => self.format.decode = Decode::Json,
                "text" => self.format.decode = Decode::Text,
                "base64" => self.format.decode = Decode::Base64,
                _ => return refuse("auto, json, text or base64"),
            },
            "ids" => match value {
                "auto" => self.ids = Ids::Auto,
                "each" => self.ids = Ids::Each,
                "flush" => self.ids = Ids::Flush,
                _ => return refuse("auto, each or flush"),
            },
            "heartbeat" => match value.parse() {
                Ok(seconds) if HEARTBEAT_SECONDS.contains(&seconds) => {
                    self.heartbeat = Some(Duration::from_secs(seconds));
                }
                _ => return refuse("a number of seconds from 1 to 60"),
            },
            "on_gap" => match value {
                "event" => self.on_gap = OnGap::Event,
                "fail" => self.on_gap = OnGap::Fail,
                _ => return refuse("event or fail"),
            },
            _ => return refuse("a parameter of streams"),
        }
        Ok(())
    }

    fn set_cursor(&mut self, name: &str, value: &str) -> ApiResult<()> {
        match value {
            // A client that was never sent an id sends none, or an empty one.
            "" => {}
            "earliest" => self.from = Some(From::Earliest),
            "latest" => self.from = Some(From::Latest),
            _ if value.starts_with('[') => {
                let named: Vec<Named> = serde_json::from_str(value).map_err(|error| {
                    let message = format!("{name} '{value}' is not a list of positions: {error}");
                    ApiError::bad_request(message)
                })?;
                if let Some(bad) = named.iter().find(|n| n.offset.is_some_and(|o| o < 0)) {
                    let (partition, offset) = (bad.partition, bad.offset.unwrap_or_default());
                    let message =
                        format!("{name}: offset '{offset}' of partition {partition} is negative");
                    return Err(ApiError::bad_request(message));
                }
                self.resume = Some(Resume::Named(named));
            }
            _ => {
                let cursor = cursor::read(value).map_err(|error| {
                    ApiError::bad_request(format!("{name} '{value}' is not a cursor: {error}"))
                })?;
                self.resume = Some(Resume::Cursor(cursor));
            }
        }
        Ok(())
    }

    /// Tells whether the client asks to continue a stream that came to its end.
    pub(super) fn is_done(&self) -> bool {
        matches!(&self.resume, Some(Resume::Cursor(cursor)) if cursor.head.is_done)
    }
}

fn parse_from(value: &str) -> Option<From> {
    match value {
        "latest" => return Some(From::Latest),
        "earliest" => return Some(From::Earliest),
        _ => {}
    }
    if let Some(count) = value.strip_prefix('-') {
        let is_number = !count.is_empty() && count.bytes().all(|b| b.is_ascii_digit());
        return is_number.then(|| count.parse().ok()).flatten().map(From::Last);
    }
    let Some(list) = value.strip_prefix("offset:") else {
        return parse_moment(value).map(From::Timestamp);
    };
    let mut offsets = Vec::new();
    for pair in list.split(',') {
        let (partition, offset) = pair.split_once('=')?;
        let partition: PartitionId = partition.trim().parse().ok().filter(|p| *p >= 0)?;
        let offset: Offset = offset.trim().parse().ok().filter(|o| *o >= 0)?;
        offsets.push((partition, offset));
    }
    Some(From::Offsets(offsets))
}

/// Reads milliseconds since the epoch or RFC 3339.
fn parse_moment(text: &str) -> Option<TimestampMs> {
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return text.parse().ok();
    }
    // The `+` of a zone that was not escaped in the query has become a blank.
    let (date, rest) = text.split_at_checked("2026-01-31T".len())?;
    parse_rfc3339_ms(&format!("{date}{}", rest.replace(' ', "+")))
}

/// Reads partitions in any order; answers them in order and once each.
fn parse_list(value: &str) -> Option<Vec<PartitionId>> {
    let parse = |text: &str| text.trim().parse::<PartitionId>().ok().filter(|p| *p >= 0);
    let mut list = value.split(',').map(parse).collect::<Option<Vec<_>>>()?;
    list.sort_unstable();
    list.dedup();
    Some(list)
}

/// Checks that the client can take a stream.
///
/// # Errors
/// 406 names the header.
pub(super) fn check_accept(headers: &HeaderMap) -> ApiResult<()> {
    let values = headers.get_all(header::ACCEPT).iter();
    let text = values.filter_map(|v| v.to_str().ok()).collect::<Vec<_>>().join(", ");
    if text.trim().is_empty() {
        return Ok(());
    }
    // What is said of the type itself counts more than what is said of a wildcard.
    let mut best: Option<(u8, bool)> = None;
    for item in text.split(',') {
        let mut parts = item.split(';').map(str::trim);
        let rank = match parts.next().unwrap_or_default().to_ascii_lowercase().as_str() {
            "text/event-stream" => 3,
            "text/*" => 2,
            "*/*" => 1,
            _ => continue,
        };
        let quality = parts.find_map(|p| p.strip_prefix("q=")).map_or(Ok(1.0), str::parse::<f32>);
        let is_wanted = quality.is_ok_and(|q| q > 0.0);
        if best.is_none_or(|(known, _)| rank > known) {
            best = Some((rank, is_wanted));
        }
    }
    if best.is_some_and(|(_, is_wanted)| is_wanted) {
        return Ok(());
    }
    let message = format!("accept '{text}' does not take text/event-stream");
    Err(ApiError::status(StatusCode::NOT_ACCEPTABLE, message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    fn parse(query: &str) -> ApiResult<Params> {
        Params::parse(Some(query), &HeaderMap::new())
    }

    fn with(name: &'static str, value: &str) -> HeaderMap {
        let name = http::HeaderName::from_static(name);
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn every_start_is_understood() {
        for (text, from) in [
            ("latest", From::Latest),
            ("earliest", From::Earliest),
            ("-10", From::Last(10)),
            ("offset:0=5,2=7", From::Offsets(vec![(0, 5), (2, 7)])),
            ("1790000000123", From::Timestamp(1_790_000_000_123)),
            ("1970-01-01T00:00:01%2B00:00", From::Timestamp(1000)),
            ("1970-01-01T01:00:01.5+01:00", From::Timestamp(1500)),
        ] {
            assert_eq!(parse(&format!("from={text}")).unwrap().from, Some(from.clone()), "{text}");
            assert_eq!(parse(&format!("since={text}")).unwrap().from, Some(from), "{text}");
        }
        assert_eq!(parse("").unwrap(), Params::default());
    }

    #[test]
    fn all_others_are_read() {
        let text = "partitions=2,0,2&until=end&limit=7&data=value&decode=text&ids=flush\
                    &heartbeat=5&on_gap=fail";
        let params = parse(text).unwrap();
        assert_eq!(params.partitions, Some(vec![0, 2]));
        assert_eq!((params.until, params.limit), (Some(Until::End), Some(7)));
        assert_eq!(params.format, Format { data: Data::Value, decode: Decode::Text });
        assert_eq!((params.ids, params.on_gap), (Ids::Flush, OnGap::Fail));
        assert_eq!(params.heartbeat, Some(Duration::from_secs(5)));
    }

    #[test]
    fn refusals_name_parameter_and_value() {
        for query in [
            "from=x",
            "from=-",
            "from=offset:1",
            "from=offset:a=1",
            "partitions=a",
            "partitions=-1",
            "until=x",
            "limit=0",
            "limit=x",
            "data=x",
            "decode=avro",
            "ids=x",
            "heartbeat=0",
            "heartbeat=61",
            "on_gap=x",
            "colour=x",
            "limit=1&limit=2",
            "last_event_id=x",
            "lastEventId=1.x",
            "from=1&since=2",
            "last_event_id=%5B%7B%22topic%22:%22t%22,%22partition%22:0,%22offset%22:-1%7D%5D",
        ] {
            let refused = parse(query).unwrap_err();
            assert_eq!(refused.code, 400, "{query}");
            let last = query.rsplit('&').next().unwrap();
            let (name, value) = last.split_once('=').unwrap();
            assert!(refused.message.contains(name), "{}", refused.message);
            let value = if value.starts_with("%5B") { "-1" } else { value };
            assert!(refused.message.contains(&format!("'{value}'")), "{}", refused.message);
        }
    }

    #[test]
    fn the_header_goes_before_the_query() {
        let cursor = |next| {
            let position = cursor::Position { incarnation: 1, partition: 0, next };
            String::from_utf8(cursor::to_bytes(cursor::Head::default(), [position].into_iter()))
                .unwrap()
        };
        let next = |params: Params| match params.resume {
            Some(Resume::Cursor(cursor)) => cursor.positions[0].next,
            _ => -1,
        };
        let query = format!("last_event_id={}&from=earliest", cursor(1));
        assert_eq!(next(parse(&query).unwrap()), 1);
        assert_eq!(next(parse(&format!("lastEventId={}", cursor(1))).unwrap()), 1);
        let headers = with("last-event-id", &cursor(2));
        assert_eq!(next(Params::parse(Some(&query), &headers).unwrap()), 2);
        let headers = with("last-event-id", "1.AAAA");
        assert_eq!(Params::parse(Some(&query), &headers).unwrap_err().code, 400);
        assert_eq!(parse("last_event_id=earliest").unwrap().from, Some(From::Earliest));
        assert_eq!(parse("last_event_id=").unwrap().resume, None);
    }

    #[test]
    fn positions_may_be_named() {
        let json = concat!(
            r#"[{"topic":"t","partition":1,"offset":5,"timestamp":9},"#,
            r#"{"topic":"u","partition":0,"timestamp":3}]"#,
        );
        let params = Params::parse(None, &with("last-event-id", json)).unwrap();
        let Some(Resume::Named(named)) = params.resume else { panic!("{params:?}") };
        assert_eq!((named[0].offset, named[1].timestamp), (Some(5), Some(3)));
    }

    #[test]
    fn accept_must_allow_events() {
        let accept = |text| check_accept(&with("accept", text)).map_err(|e| e.code);
        assert_eq!(check_accept(&HeaderMap::new()), Ok(()));
        for text in ["text/event-stream", "*/*", "text/*;q=0.2", "text/html, */*;q=0.1", ""] {
            assert_eq!(accept(text), Ok(()), "{text}");
        }
        for text in ["application/json", "text/html", "text/event-stream;q=0, */*", "*/*;q=0"] {
            assert_eq!(accept(text), Err(406), "{text}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_queries_never_panic(query in ".{0,60}", value in ".{0,30}") {
            let _ = parse(&query);
            for name in ["from", "until", "partitions", "last_event_id"] {
                let _ = parse(&format!("{name}={value}"));
            }
        }
    }
}
