//! What a client asks of a stream: the query, `Last-Event-ID` and `Accept`.
//!
//! Every parameter is checked before the first byte is sent, because nothing can be refused after.
//! `subscription` has those that say which records, `shape` those that say how they look.

use http::HeaderMap;

use crate::http::error::{ApiError, ApiResult};
use crate::http::query;

mod accept;
mod json_body;
mod shape;
mod subscription;

pub(super) use self::accept::negotiate;
pub(super) use self::shape::{Batch, Data, EventName, Format, Framing, Ids, Shape, Transport};
pub(in crate::http) use self::subscription::{
    From, StartOffset, parse_from, parse_list, parse_offsets,
};
pub(super) use self::subscription::{
    Named, OnGap, Overflow, Refusals, Resume, Subscription, Until,
};

/// What became of a parameter.
pub(super) enum Setting {
    /// It was taken.
    Done,
    /// It is not one of these.
    Unknown,
    /// Its value is not what the text says.
    Refused(String),
}

impl Setting {
    /// Refuses a value that is not what `rule` says.
    pub(super) fn not(rule: impl Into<String>) -> Self {
        Self::Refused(rule.into())
    }
}

/// Reads the names and values of a query, and those of a JSON object.
///
/// # Errors
/// 400 for text that is not percent-encoded UTF-8, and for a body that is not an object of
/// parameters; 413 for one of more than 512 KiB.
pub(super) fn pairs(text: Option<&str>, body: Option<&[u8]>) -> ApiResult<Vec<(String, String)>> {
    let mut pairs: Vec<_> = query::pairs(text.unwrap_or_default()).collect::<ApiResult<_>>()?;
    if let Some(body) = body {
        pairs.extend(json_body::pairs(body)?);
    }
    Ok(pairs)
}

/// Everything that a client asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Params {
    pub(super) subscription: Subscription,
    pub(super) shape: Shape,
}

impl Params {
    /// Reads everything.
    ///
    /// # Errors
    /// 400 names the parameter and its value.
    pub(super) fn parse(
        text: Option<&str>,
        body: Option<&[u8]>,
        headers: &HeaderMap,
    ) -> ApiResult<Self> {
        Self::from_pairs(pairs(text, body)?, headers)
    }

    /// Reads names and values that may come from anywhere.
    ///
    /// # Errors
    /// 400 names the parameter and its value.
    pub(super) fn from_pairs(pairs: Vec<(String, String)>, headers: &HeaderMap) -> ApiResult<Self> {
        let mut params = Self::default();
        let mut seen: Vec<String> = Vec::new();
        let mut from_cursor = None;
        for (name, value) in pairs {
            if let "last_event_id" | "lastEventId" = name.as_str() {
                from_cursor.get_or_insert((name, value));
                continue;
            }
            if seen.contains(&name) && !Shape::is_repeatable(&name) {
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
            params.subscription.set_cursor(&name, value.trim())?;
        }
        Ok(params)
    }

    pub(super) fn set(&mut self, name: &str, value: &str) -> ApiResult<()> {
        let setting = match self.subscription.set(name, value) {
            Setting::Unknown => self.shape.set(name, value),
            known => known,
        };
        let rule = match setting {
            Setting::Done => return Ok(()),
            Setting::Unknown => "a parameter of streams".to_owned(),
            Setting::Refused(rule) => rule,
        };
        Err(ApiError::bad_request(format!("{name} '{value}' is not {rule}")))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::cursor;
    use super::*;
    use crate::http::record::Decode;
    use http::HeaderValue;
    use proptest::prelude::*;

    fn parse(query: &str) -> ApiResult<Params> {
        Params::parse(Some(query), None, &HeaderMap::new())
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
            ("1790000000123", From::Timestamp(1_790_000_000_123)),
            ("1970-01-01T00:00:01%2B00:00", From::Timestamp(1000)),
            ("1970-01-01T01:00:01.5+01:00", From::Timestamp(1500)),
        ] {
            assert_eq!(
                parse(&format!("from={text}")).unwrap().subscription.from,
                Some(from.clone()),
                "{text}"
            );
            assert_eq!(
                parse(&format!("since={text}")).unwrap().subscription.from,
                Some(from),
                "{text}"
            );
        }
        assert_eq!(parse("").unwrap(), Params::default());
    }

    #[test]
    fn offsets_may_name_topics() {
        let at = |topic: Option<&str>, partition, offset| StartOffset {
            topic: topic.map(str::to_owned),
            partition,
            offset,
        };
        for (text, offsets) in [
            ("0=5,2=7", vec![at(None, 0, 5), at(None, 2, 7)]),
            ("a.b:0=5, c:1=0", vec![at(Some("a.b"), 0, 5), at(Some("c"), 1, 0)]),
        ] {
            let params = parse(&format!("from=offset:{text}")).unwrap().subscription;
            assert_eq!((params.from, params.offsets), (Some(From::Latest), offsets), "{text}");
        }
    }

    #[test]
    fn all_others_are_read() {
        let text = "partitions=2,0,2&until=end&limit=7&data=value&decode=text&ids=flush\
                    &heartbeat=5&on_gap=fail";
        let params = parse(text).unwrap();
        assert_eq!(params.subscription.partitions, Some(vec![0, 2]));
        assert_eq!(
            (params.subscription.until, params.subscription.limit),
            (Some(Until::End), Some(7))
        );
        assert_eq!(
            params.shape.format,
            Format { data: Data::Value, decode: Decode::Text, ..Format::default() }
        );
        assert_eq!((params.shape.ids, params.subscription.on_gap), (Ids::Flush, OnGap::Fail));
        assert_eq!(params.subscription.heartbeat, Some(Duration::from_secs(5)));
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
            "event=header:",
            "select=id",
            "batch=0",
            "batch=1001",
            "batch=10001ms",
            "format=json",
            "numbers=x",
            "filter=value.",
            "header.=x",
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
        let next = |params: Params| match params.subscription.resume {
            Some(Resume::Cursor(cursor)) => cursor.positions[0].next,
            _ => -1,
        };
        let query = format!("last_event_id={}&from=earliest", cursor(1));
        assert_eq!(next(parse(&query).unwrap()), 1);
        assert_eq!(next(parse(&format!("lastEventId={}", cursor(1))).unwrap()), 1);
        let headers = with("last-event-id", &cursor(2));
        assert_eq!(next(Params::parse(Some(&query), None, &headers).unwrap()), 2);
        let headers = with("last-event-id", "1.AAAA");
        assert_eq!(Params::parse(Some(&query), None, &headers).unwrap_err().code, 400);
        assert_eq!(
            parse("last_event_id=earliest").unwrap().subscription.from,
            Some(From::Earliest)
        );
        assert_eq!(parse("last_event_id=").unwrap().subscription.resume, None);
    }

    #[test]
    fn positions_may_be_named() {
        let json = concat!(
            r#"[{"topic":"t","partition":1,"offset":5,"timestamp":9},"#,
            r#"{"topic":"u","partition":0,"timestamp":3}]"#,
        );
        let params = Params::parse(None, None, &with("last-event-id", json)).unwrap();
        let Some(Resume::Named(named)) = params.subscription.resume else { panic!("{params:?}") };
        assert_eq!((named[0].offset, named[1].timestamp), (Some(5), Some(3)));
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
