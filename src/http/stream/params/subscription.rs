//! Which records: topics, where to begin, continue and end.

use std::time::Duration;

use serde::Deserialize;

use super::super::cursor::Cursor;
use super::Setting;
use crate::base::ids::{Offset, PartitionId, TimestampMs};
use crate::engine::Cursors;
use crate::engine::cursors::SnapshotKey;
use crate::engine::log::Isolation;
use crate::http::error::{ApiError, ApiResult};
use crate::http::record::stored::{self, Written};
use crate::http::time::parse_rfc3339_ms;

/// What `from` may be.
const FROM_RULE: &str = "latest, earliest, -N, offset:P=O,P=O, an RFC 3339 timestamp or epoch ms";

/// What may follow `offset:`.
const OFFSETS_RULE: &str = "offset:P=O,P=O or offset:TOPIC:P=O,TOPIC:P=O";

/// Range of `heartbeat`, in seconds.
const HEARTBEAT_SECONDS: std::ops::RangeInclusive<u64> = 1..=60;

/// Where a stream without a cursor begins.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in crate::http) enum From {
    /// At the end: only records still to come.
    #[default]
    Latest,
    /// At the first record there is.
    Earliest,
    /// So many offsets before the end of each partition.
    Last(i64),
    /// At the first record that is not older.
    Timestamp(TimestampMs),
}

/// An offset at which one partition begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::http) struct StartOffset {
    /// None where the stream has one topic, which needs no name.
    pub(in crate::http) topic: Option<String>,
    pub(in crate::http) partition: PartitionId,
    pub(in crate::http) offset: Offset,
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
    /// By a cursor that the server keeps, and that was not looked up yet.
    Stored(SnapshotKey),
    /// By a cursor that the server does not keep any more.
    Lost,
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

/// What happens to a stream that falls behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in super::super) enum Overflow {
    /// It lags.
    #[default]
    Lag,
    /// Partitions that are further behind than `max_lag` go on at their end.
    Latest,
}

/// Whether refusals that may pass are told in a way that an EventSource survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in super::super) enum Refusals {
    /// By a status, at which an EventSource gives up.
    #[default]
    Status,
    /// By a stream that only says so and when to come back.
    Soft,
}

/// The parameters of this file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in super::super) struct Subscription {
    pub(in super::super) topics: Option<Vec<String>>,
    pub(in super::super) pattern: Option<String>,
    /// `from`, if it was given.
    pub(in super::super) from: Option<From>,
    /// Partitions that begin elsewhere than `from` says.
    pub(in super::super) offsets: Vec<StartOffset>,
    /// The cursor, if there is one.
    pub(in super::super) resume: Option<Resume>,
    pub(in super::super) partitions: Option<Vec<PartitionId>>,
    pub(in super::super) until: Option<Until>,
    pub(in super::super) limit: Option<u64>,
    pub(in super::super) max_bytes: Option<u64>,
    /// `isolation`, if it was given.
    pub(in super::super) isolation: Option<Isolation>,
    pub(in super::super) overflow: Overflow,
    pub(in super::super) max_lag: Option<i64>,
    pub(in super::super) refusals: Refusals,
    pub(in super::super) heartbeat: Option<Duration>,
    pub(in super::super) on_gap: OnGap,
}

impl Subscription {
    /// Takes one parameter.
    pub(super) fn set(&mut self, name: &str, value: &str) -> Setting {
        match name {
            "topics" | "pattern" | "partitions" => self.set_choice(name, value),
            "from" | "since" | "offsets" | "until" | "limit" | "max_bytes" => {
                self.set_bound(name, value)
            }
            _ => self.set_manner(name, value),
        }
    }

    fn set_choice(&mut self, name: &str, value: &str) -> Setting {
        match name {
            "topics" => {
                let list: Vec<_> = value.split(',').map(|t| t.trim().to_owned()).collect();
                if list.iter().any(String::is_empty) {
                    return Setting::not("a list of topics like orders,payments");
                }
                self.topics = Some(list);
            }
            "pattern" => self.pattern = Some(value.to_owned()),
            _ => match parse_list(value) {
                Some(list) => self.partitions = Some(list),
                None => return Setting::not("a list of partitions like 0,2"),
            },
        }
        Setting::Done
    }

    fn set_bound(&mut self, name: &str, value: &str) -> Setting {
        match name {
            "until" => match (value, parse_moment(value)) {
                ("end", _) => self.until = Some(Until::End),
                (_, Some(at)) => self.until = Some(Until::Timestamp(at)),
                _ => return Setting::not("end, an RFC 3339 timestamp or epoch ms"),
            },
            "limit" => match positive(value) {
                Some(limit) => self.limit = Some(limit),
                None => return Setting::not("a number of records from 1"),
            },
            "max_bytes" => match positive(value) {
                Some(bytes) => self.max_bytes = Some(bytes),
                None => return Setting::not("a number of bytes from 1"),
            },
            "offsets" if !self.offsets.is_empty() => {
                return Setting::not("possible: from names offsets too");
            }
            "offsets" => match parse_offsets(value) {
                Some(offsets) => self.offsets = offsets,
                None => return Setting::not("a list like orders:0=41,orders:1=7"),
            },
            _ if self.from.is_some() => return Setting::not("possible: from is given twice"),
            _ => match (value.strip_prefix("offset:"), parse_from(value)) {
                (Some(list), _) => match parse_offsets(list) {
                    Some(_) if !self.offsets.is_empty() => {
                        return Setting::not("possible: offsets is given too");
                    }
                    Some(offsets) => (self.from, self.offsets) = (Some(From::Latest), offsets),
                    None => return Setting::not(OFFSETS_RULE),
                },
                (None, Some(from)) => self.from = Some(from),
                (None, None) => return Setting::not(FROM_RULE),
            },
        }
        Setting::Done
    }

    fn set_manner(&mut self, name: &str, value: &str) -> Setting {
        match (name, value) {
            ("isolation", "read_committed") => self.isolation = Some(Isolation::ReadCommitted),
            ("isolation", "read_uncommitted") => self.isolation = Some(Isolation::ReadUncommitted),
            ("isolation", _) => return Setting::not("read_committed or read_uncommitted"),
            ("overflow", "lag") => self.overflow = Overflow::Lag,
            ("overflow", "latest") => self.overflow = Overflow::Latest,
            ("overflow", _) => return Setting::not("lag or latest"),
            ("soft_errors", "0") => self.refusals = Refusals::Status,
            ("soft_errors", "1") => self.refusals = Refusals::Soft,
            ("soft_errors", _) => return Setting::not("0 or 1"),
            ("on_gap", "event") => self.on_gap = OnGap::Event,
            ("on_gap", "fail") => self.on_gap = OnGap::Fail,
            ("on_gap", _) => return Setting::not("event or fail"),
            ("max_lag", _) => match positive(value).and_then(|lag| i64::try_from(lag).ok()) {
                Some(lag) => self.max_lag = Some(lag),
                None => return Setting::not("a number of records from 1"),
            },
            ("heartbeat", _) => match value.parse() {
                Ok(seconds) if HEARTBEAT_SECONDS.contains(&seconds) => {
                    self.heartbeat = Some(Duration::from_secs(seconds));
                }
                _ => return Setting::not("a number of seconds from 1 to 60"),
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
                let written = stored::read(value).map_err(|error| {
                    ApiError::bad_request(format!("{name} '{value}' is not a cursor: {error}"))
                })?;
                self.resume = Some(match written {
                    Written::Whole(cursor) => Resume::Cursor(cursor),
                    Written::Stored(key) => Resume::Stored(key),
                });
            }
        }
        Ok(())
    }

    /// Finds the cursor that the server keeps, if the client sent the name of one.
    pub(in super::super) fn find_stored(&mut self, store: &dyn Cursors) {
        if let Some(Resume::Stored(key)) = self.resume {
            self.resume = Some(stored::find(store, key).map_or(Resume::Lost, Resume::Cursor));
        }
    }

    /// Tells whether the client asks to continue a stream that came to its end.
    pub(in super::super) fn is_done(&self) -> bool {
        matches!(&self.resume, Some(Resume::Cursor(cursor)) if cursor.head.is_done)
    }
}

pub(in crate::http) fn parse_from(value: &str) -> Option<From> {
    match value {
        "latest" => return Some(From::Latest),
        "earliest" => return Some(From::Earliest),
        _ => {}
    }
    if let Some(count) = value.strip_prefix('-') {
        let is_number = !count.is_empty() && count.bytes().all(|b| b.is_ascii_digit());
        return is_number.then(|| count.parse().ok()).flatten().map(From::Last);
    }
    parse_moment(value).map(From::Timestamp)
}

/// Reads `P=O` or `TOPIC:P=O`, with commas between them; no topic has a colon in its name.
pub(in crate::http) fn parse_offsets(list: &str) -> Option<Vec<StartOffset>> {
    let parse = |item: &str| {
        let (place, offset) = item.trim().split_once('=')?;
        let (topic, partition) = match place.rsplit_once(':') {
            Some((topic, partition)) => (Some(topic.to_owned()), partition),
            None => (None, place),
        };
        let partition = partition.trim().parse().ok().filter(|p: &PartitionId| *p >= 0)?;
        let offset = offset.trim().parse().ok().filter(|o: &Offset| *o >= 0)?;
        Some(StartOffset { topic, partition, offset })
    };
    list.split(',').map(parse).collect()
}

fn positive(value: &str) -> Option<u64> {
    value.parse().ok().filter(|number| *number > 0)
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
pub(in crate::http) fn parse_list(value: &str) -> Option<Vec<PartitionId>> {
    let parse = |text: &str| text.trim().parse::<PartitionId>().ok().filter(|p| *p >= 0);
    let mut list = value.split(',').map(parse).collect::<Option<Vec<_>>>()?;
    list.sort_unstable();
    list.dedup();
    Some(list)
}
