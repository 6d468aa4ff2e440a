//! What a client asks of a plain read: its query and `Accept`.

use std::time::Duration;

use http::{HeaderMap, StatusCode, header};

use crate::base::ids::{Offset, PartitionId};
use crate::base::limits::{HTTP_POLL_BYTES_MAX, HTTP_WAIT_MAX};
use crate::consumers::Format;
use crate::engine::log::Isolation;
use crate::http::error::{ApiError, ApiResult};
use crate::http::query;
use crate::http::record::Decode;
use crate::http::record::cursor::{self, Cursor};
use crate::http::stream::params::{From, parse_from, parse_list, parse_offsets};

/// Records of one answer, unless `limit` says otherwise.
const LIMIT_DEFAULT: usize = 1000;

/// Records that `limit` may ask for.
const LIMIT_MAX: usize = 100_000;

/// Bytes of keys, values and headers in one answer, unless `max_bytes` says otherwise.
const BYTES_DEFAULT: usize = 4 * 1024 * 1024;

/// Where a read begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Start {
    /// Where an earlier answer ended.
    After(Cursor),
    /// By the words that streams have too.
    From(From),
    /// At an offset for each of these partitions, at the end of all others.
    Offsets(Vec<(PartitionId, Offset)>),
}

/// What the answer looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Shape {
    /// One object with the records, the cursor and the ends.
    #[default]
    Json,
    /// One record a line.
    Lines,
    /// A batch of CloudEvents.
    Events,
    /// The array of a v2 poll.
    V2(Format),
}

/// Everything that a client asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Params {
    pub(super) start: Start,
    pub(super) partitions: Option<Vec<PartitionId>>,
    pub(super) limit: usize,
    pub(super) bytes_max: usize,
    /// How long to wait for a first record.
    pub(super) wait: Duration,
    pub(super) isolation: Isolation,
    pub(super) decode: Decode,
    pub(super) shape: Shape,
}

impl Params {
    /// Reads query and `Accept`. `partition` is the one in the path, if the path has one.
    ///
    /// # Errors
    /// 400 names the parameter and its value, 406 names the header.
    pub(super) fn parse(
        text: Option<&str>,
        headers: &HeaderMap,
        partition: Option<PartitionId>,
    ) -> ApiResult<Self> {
        let mut params = Self {
            start: Start::From(From::Earliest),
            partitions: partition.map(|partition| vec![partition]),
            limit: LIMIT_DEFAULT,
            bytes_max: BYTES_DEFAULT,
            wait: Duration::ZERO,
            isolation: Isolation::ReadCommitted,
            decode: Decode::Auto,
            shape: Shape::Json,
        };
        let mut seen: Vec<String> = Vec::new();
        let mut format = None;
        for pair in query::pairs(text.unwrap_or_default()) {
            let (name, value) = pair?;
            let kind = kind_of(&name);
            if seen.iter().any(|known| known == kind) {
                let message = format!("{name} '{value}': {kind} is given twice");
                return Err(ApiError::bad_request(message));
            }
            seen.push(kind.to_owned());
            let set = match (name.as_str(), partition) {
                ("format", _) => Shape::parse(&value).map(|shape| format = Some(shape)),
                ("partitions", Some(_)) => Err("possible: the path names the partition"),
                ("offset", None) => Err("possible without a partition in the path, use from="),
                _ => params.set(&name, &value),
            };
            set.map_err(|rule| ApiError::bad_request(format!("{name} '{value}' is not {rule}")))?;
        }
        params.shape = match format {
            Some(shape) => shape,
            None => Shape::accepted(headers)?,
        };
        Ok(params)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), &'static str> {
        match name {
            "after" => {
                let cursor = cursor::read(value).map_err(|_| "a cursor of this server")?;
                self.start = Start::After(cursor);
            }
            "from" | "since" => {
                self.start = parse_start(value).ok_or(
                    "latest, earliest, -N, offset:P=O,P=O, an RFC 3339 timestamp or epoch ms",
                )?;
            }
            "offset" => {
                let offset = value.parse().ok().filter(|offset| *offset >= 0);
                let offset = offset.ok_or("an offset from 0")?;
                let partition = self.partitions.iter().flatten().next().copied().unwrap_or(0);
                self.start = Start::Offsets(vec![(partition, offset)]);
            }
            "partitions" => {
                self.partitions = Some(parse_list(value).ok_or("a list of partitions like 0,2")?);
            }
            "limit" => self.limit = number(value, LIMIT_MAX).ok_or("a number from 1 to 100000")?,
            "max_bytes" => {
                let bytes_max = number(value, usize::MAX).ok_or("a number of bytes from 1")?;
                self.bytes_max = bytes_max.min(HTTP_POLL_BYTES_MAX);
            }
            "wait" | "timeout" => {
                let wait = parse_wait(value).ok_or("a time like 25s or 500 (ms)")?;
                self.wait = wait.min(HTTP_WAIT_MAX);
            }
            "isolation" => {
                self.isolation = match value {
                    "read_committed" => Isolation::ReadCommitted,
                    "read_uncommitted" => Isolation::ReadUncommitted,
                    _ => return Err("read_committed or read_uncommitted"),
                };
            }
            "decode" => self.decode = Decode::parse(value).ok_or(Decode::NAMES)?,
            _ => return Err("a parameter of reads"),
        }
        Ok(())
    }
}

fn parse_start(value: &str) -> Option<Start> {
    let Some(list) = value.strip_prefix("offset:") else {
        return parse_from(value).map(Start::From);
    };
    // The topic is that of the path.
    let own = parse_offsets(list)?.into_iter();
    let own = own.map(|at| at.topic.is_none().then_some((at.partition, at.offset)));
    own.collect::<Option<Vec<_>>>().map(Start::Offsets)
}

/// Parameters of one kind exclude each other.
fn kind_of(name: &str) -> &str {
    match name {
        "after" | "from" | "since" | "offset" => "the start",
        "wait" | "timeout" => "the wait",
        other => other,
    }
}

fn number(value: &str, max: usize) -> Option<usize> {
    value.parse().ok().filter(|number| (1..=max).contains(number))
}

/// Reads `25s`, `500ms` or a bare number of milliseconds.
pub(super) fn parse_wait(value: &str) -> Option<Duration> {
    let unsigned = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok());
    if let Some(ms) = value.strip_suffix("ms") {
        return unsigned(ms).flatten().map(Duration::from_millis);
    }
    match value.strip_suffix('s') {
        Some(seconds) => unsigned(seconds).flatten().map(Duration::from_secs),
        None => unsigned(value).flatten().map(Duration::from_millis),
    }
}

// === impl Shape ===

impl Shape {
    fn parse(name: &str) -> Result<Self, &'static str> {
        match name {
            "json" => Ok(Self::Json),
            "ndjson" => Ok(Self::Lines),
            "cloudevents" => Ok(Self::Events),
            _ => Err("json, ndjson or cloudevents"),
        }
    }

    /// The media type of the answer.
    pub(super) const fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Lines => "application/x-ndjson",
            Self::Events => "application/cloudevents-batch+json",
            Self::V2(Format::Binary) => "application/vnd.kafka.binary.v2+json",
            Self::V2(Format::Json) => "application/vnd.kafka.json.v2+json",
            Self::V2(Format::Text) => "application/vnd.kafka.text.v2+json",
        }
    }

    /// A letter that tells representations apart in an ETag.
    pub(super) const fn letter(self) -> char {
        match self {
            Self::Json => 'j',
            Self::Lines => 'l',
            Self::Events => 'e',
            Self::V2(Format::Binary) => 'b',
            Self::V2(Format::Json) => 'v',
            Self::V2(Format::Text) => 't',
        }
    }

    fn by_media_type(name: &str) -> Option<Self> {
        match name {
            "*/*" | "application/*" | "application/json" => Some(Self::Json),
            "application/x-ndjson" | "application/jsonl" | "application/ndjson" => {
                Some(Self::Lines)
            }
            "application/cloudevents-batch+json" => Some(Self::Events),
            "application/vnd.kafka.json.v2+json" => Some(Self::V2(Format::Json)),
            "application/vnd.kafka.text.v2+json" => Some(Self::V2(Format::Text)),
            "application/vnd.kafka.binary.v2+json" | "application/vnd.kafka.v2+json" => {
                Some(Self::V2(Format::Binary))
            }
            _ => None,
        }
    }

    /// The most wanted shape that there is.
    fn accepted(headers: &HeaderMap) -> ApiResult<Self> {
        let values = headers.get_all(header::ACCEPT).iter();
        let text = values.filter_map(|v| v.to_str().ok()).collect::<Vec<_>>().join(", ");
        if text.trim().is_empty() {
            return Ok(Self::Json);
        }
        let mut best: Option<(f32, Self)> = None;
        for item in text.split(',') {
            let mut parts = item.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default().to_ascii_lowercase();
            let quality = parts.find_map(|part| part.strip_prefix("q="));
            let quality = quality.map_or(1.0, |q| q.trim().parse().unwrap_or(0.0));
            if let Some(shape) = Self::by_media_type(&name)
                && quality > 0.0
                && best.is_none_or(|(known, _)| quality > known)
            {
                best = Some((quality, shape));
            }
        }
        best.map(|(_, shape)| shape).ok_or_else(|| {
            let message = format!(
                "accept '{text}' takes none of application/json, application/x-ndjson and \
                 application/cloudevents-batch+json; text/event-stream is at …/stream"
            );
            ApiError::status(StatusCode::NOT_ACCEPTABLE, message)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn parse(query: &str) -> ApiResult<Params> {
        Params::parse(Some(query), &HeaderMap::new(), None)
    }

    fn accept(text: &str) -> Result<Shape, u32> {
        let headers =
            HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_str(text).unwrap())]);
        Params::parse(None, &headers, None).map(|params| params.shape).map_err(|e| e.code)
    }

    #[test]
    fn everything_is_read() {
        let params = parse(
            "from=-5&limit=7&max_bytes=9&wait=2s&partitions=2,0&isolation=read_uncommitted\
             &decode=text&format=ndjson",
        )
        .unwrap();
        assert_eq!(params.start, Start::From(From::Last(5)));
        assert_eq!((params.limit, params.bytes_max), (7, 9));
        assert_eq!(params.wait, Duration::from_secs(2));
        assert_eq!(params.partitions, Some(vec![0, 2]));
        assert_eq!(params.isolation, Isolation::ReadUncommitted);
        assert_eq!((params.decode, params.shape), (Decode::Text, Shape::Lines));
    }

    #[test]
    fn waits_have_units_and_a_bound() {
        for (text, ms) in [("25s", 25_000), ("500ms", 500), ("40", 40), ("0", 0)] {
            assert_eq!(parse_wait(text), Some(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "s", "-1", "1m", "1.5s", "+1"] {
            let wait = parse_wait(text);
            assert!(wait.is_none(), "{text} is {wait:?}");
        }
        assert_eq!(parse("wait=9999s").unwrap().wait, HTTP_WAIT_MAX);
    }

    #[test]
    fn refusals_name_parameter_and_value() {
        for query in [
            "from=x",
            "from=offset:u:0=1",
            "after=x",
            "limit=0",
            "limit=100001",
            "max_bytes=0",
            "wait=x",
            "partitions=a",
            "isolation=x",
            "decode=x",
            "format=x",
            "offset=1",
            "colour=x",
            "from=earliest&since=5",
        ] {
            let refused = parse(query).unwrap_err();
            assert_eq!(refused.code, 400, "{query}");
            let (name, value) = query.rsplit('&').next().unwrap().split_once('=').unwrap();
            let names = format!("{name} '{value}'");
            assert!(refused.message.starts_with(&names), "{}", refused.message);
        }
    }

    #[test]
    fn a_path_with_a_partition_takes_an_offset() {
        let headers = HeaderMap::new();
        let params = Params::parse(Some("offset=5"), &headers, Some(3)).unwrap();
        assert_eq!(params.start, Start::Offsets(vec![(3, 5)]));
        assert_eq!(params.partitions, Some(vec![3]));
        assert_eq!(Params::parse(Some("offset=-5"), &headers, Some(3)).unwrap_err().code, 400);
        assert_eq!(Params::parse(Some("partitions=1"), &headers, Some(3)).unwrap_err().code, 400);
    }

    #[test]
    fn accept_chooses_the_shape() {
        assert_eq!(accept("text/html, */*;q=0.8"), Ok(Shape::Json));
        assert_eq!(accept("application/x-ndjson"), Ok(Shape::Lines));
        assert_eq!(accept("application/cloudevents-batch+json"), Ok(Shape::Events));
        assert_eq!(parse("format=cloudevents").unwrap().shape, Shape::Events);
        let list = "application/json;q=0.5, application/vnd.kafka.json.v2+json";
        assert_eq!(accept(list), Ok(Shape::V2(Format::Json)));
        assert_eq!(accept("application/vnd.kafka.v2+json"), Ok(Shape::V2(Format::Binary)));
        assert_eq!(accept("text/event-stream"), Err(406));
        assert_eq!(accept("application/json;q=0"), Err(406));
    }
}
