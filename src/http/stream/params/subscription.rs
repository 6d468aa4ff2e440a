//! Which records: topics, where to begin, continue and end.

use std::time::Duration;

use serde::Deserialize;

use super::super::cursor::{self, Cursor};
use super::Setting;
use crate::base::ids::{Offset, PartitionId, TimestampMs};
use crate::http::error::{ApiError, ApiResult};
use crate::http::time::parse_rfc3339_ms;

/// Range of `heartbeat`, in seconds.
const HEARTBEAT_SECONDS: std::ops::RangeInclusive<u64> = 1..=60;

/// Where a stream without a cursor begins.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in super::super) enum From {
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
pub(in super::super) struct Named {
    pub(in super::super) topic: String,
    pub(in super::super) partition: PartitionId,
    /// The next offset to deliver.
    pub(in super::super) offset: Option<Offset>,
    /// Used when there is no offset.
    pub(in super::super) timestamp: Option<TimestampMs>,
}

/// Where a stream continues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) enum Resume {
    /// By a cursor that a stream sent.
    Cursor(Cursor),
    /// By positions that the client wrote.
    Named(Vec<Named>),
}

/// Where a stream ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Until {
    /// At what was the end when the stream opened.
    End,
    /// At the first record of each partition that is not older.
    Timestamp(TimestampMs),
}

/// What happens when records are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in super::super) enum OnGap {
    /// A `gap` event, and on with the next record there is.
    #[default]
    Event,
    /// The request fails, or the stream ends.
    Fail,
}

/// The parameters of this file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in super::super) struct Subscription {
    /// `from`, if it was given.
    pub(in super::super) from: Option<From>,
    /// The cursor, if there is one.
    pub(in super::super) resume: Option<Resume>,
    pub(in super::super) partitions: Option<Vec<PartitionId>>,
    pub(in super::super) until: Option<Until>,
    pub(in super::super) limit: Option<u64>,
    pub(in super::super) heartbeat: Option<Duration>,
    pub(in super::super) on_gap: OnGap,
}

impl Subscription {
    /// Takes one parameter.
    pub(super) fn set(&mut self, name: &str, value: &str) -> Setting {
        match name {
            "from" | "since" => match parse_from(value) {
                Some(_) if self.from.is_some() => {
                    return Setting::not("possible: from is given twice");
                }
                Some(from) => self.from = Some(from),
                None => {
                    return Setting::not(
                        "latest, earliest, -N, offset:P=O,P=O, an RFC 3339 timestamp or epoch ms",
                    );
                }
            },
            "partitions" => match parse_list(value) {
                Some(list) => self.partitions = Some(list),
                None => return Setting::not("a list of partitions like 0,2"),
            },
            "until" => match (value, parse_moment(value)) {
                ("end", _) => self.until = Some(Until::End),
                (_, Some(at)) => self.until = Some(Until::Timestamp(at)),
                _ => return Setting::not("end, an RFC 3339 timestamp or epoch ms"),
            },
            "limit" => match value.parse() {
                Ok(limit) if limit > 0 => self.limit = Some(limit),
                _ => return Setting::not("a number of records from 1"),
            },
            "heartbeat" => match value.parse() {
                Ok(seconds) if HEARTBEAT_SECONDS.contains(&seconds) => {
                    self.heartbeat = Some(Duration::from_secs(seconds));
                }
                _ => return Setting::not("a number of seconds from 1 to 60"),
            },
            "on_gap" => match value {
                "event" => self.on_gap = OnGap::Event,
                "fail" => self.on_gap = OnGap::Fail,
                _ => return Setting::not("event or fail"),
            },
            _ => return Setting::Unknown,
        }
        Setting::Done
    }

    pub(super) fn set_cursor(&mut self, name: &str, value: &str) -> ApiResult<()> {
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
    pub(in super::super) fn is_done(&self) -> bool {
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
