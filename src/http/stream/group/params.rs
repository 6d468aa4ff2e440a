//! What a client asks of a stream inside of a group, beside what it asks of every stream.

use std::time::Duration;

use http::HeaderMap;

use super::pace::Pace;
use crate::http::error::{ApiError, ApiResult};
use crate::http::members::params::{MemberParams, Taken};
use crate::http::stream::params::{Named, Overflow, Params, Resume, Subscription, pairs};

/// Offsets that may be written and not acknowledged, by default.
const UNACKED_DEFAULT: u64 = 1_000;

/// Most offsets that a client may ask to have unacknowledged.
const UNACKED_MAX: u64 = 1_000_000;

/// Range of `ack_timeout`, in seconds.
const ACK_TIMEOUT_SECONDS: std::ops::RangeInclusive<u64> = 1..=3_600;

/// Everything that a client asked for.
#[derive(Debug)]
pub(in crate::http::stream) struct GroupParams {
    pub(super) member: MemberParams,
    pub(super) stream: Params,
    pub(super) pace: Pace,
}

impl GroupParams {
    /// Reads everything, of a query and of a JSON object.
    ///
    /// # Errors
    /// 400 names the parameter and its value.
    pub(in crate::http::stream) fn parse(
        text: Option<&str>,
        body: Option<&[u8]>,
        headers: &HeaderMap,
    ) -> ApiResult<Self> {
        let mut member = MemberParams::default();
        let (mut unacked_max, mut timeout) = (None, None);
        let mut rest = Vec::new();
        let mut seen: Vec<String> = Vec::new();
        for (name, value) in pairs(text, body)? {
            let refuse =
                |rule: &str| ApiError::bad_request(format!("{name} '{value}' is not {rule}"));
            let within = |range: std::ops::RangeInclusive<u64>| {
                value.parse().ok().filter(|number| range.contains(number))
            };
            let taken = match name.as_str() {
                "max_unacked" => {
                    let most: Option<u64> = within(1..=UNACKED_MAX);
                    unacked_max = Some(most.ok_or_else(|| refuse("a number from 1 to 1000000"))?);
                    Taken::Yes
                }
                "ack_timeout" => {
                    let seconds = within(ACK_TIMEOUT_SECONDS);
                    let seconds = seconds.ok_or_else(|| refuse("a number of seconds to 3600"))?;
                    timeout = Some(Duration::from_secs(seconds));
                    Taken::Yes
                }
                // Streams have a default of their own.
                "isolation" => Taken::No,
                _ => member.set(&name, &value)?,
            };
            if taken == Taken::No {
                rest.push((name, value));
            } else if seen.contains(&name) {
                return Err(ApiError::bad_request(format!("{name} '{value}' is given twice")));
            } else {
                seen.push(name);
            }
        }
        let stream = Params::from_pairs(rest, headers)?;
        check(&stream.subscription)?;
        // A cursor may be a word: `earliest` or `latest`.
        if let Some(from) = &stream.subscription.from {
            member.begin_at(from);
        }
        let mode = member.ack();
        let pace = Pace::new(mode, unacked_max.unwrap_or(UNACKED_DEFAULT), timeout);
        Ok(Self { member, stream, pace })
    }
}

/// Refuses what a group decides itself.
fn check(subscription: &Subscription) -> ApiResult<()> {
    let name = if subscription.partitions.is_some() {
        "partitions"
    } else if !subscription.offsets.is_empty() {
        "offsets"
    } else if subscription.until.is_some() {
        "until"
    } else if subscription.overflow == Overflow::Latest {
        "overflow"
    } else {
        return check_named(subscription.resume.as_ref());
    };
    Err(ApiError::bad_request(format!("{name} is not possible in a group")))
}

/// Refuses positions that say a time: what lies before a position is acknowledged, so it must be
/// one that the client has reached.
fn check_named(resume: Option<&Resume>) -> ApiResult<()> {
    let Some(Resume::Named(named)) = resume else { return Ok(()) };
    for Named { topic, partition, offset, timestamp } in named {
        if let (None, Some(timestamp)) = (offset, timestamp) {
            return Err(ApiError::bad_request(format!(
                "Last-Event-ID: timestamp '{timestamp}' of partition {partition} of '{topic}' is \
                 not possible in a group without an offset; from begins at a time"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consumers::AckMode;

    fn parse(text: Option<&str>, body: Option<&str>) -> ApiResult<GroupParams> {
        GroupParams::parse(text, body.map(str::as_bytes), &HeaderMap::new())
    }

    #[test]
    fn a_body_says_what_a_query_says() {
        let query = "topics=a,b&member=m&ack=explicit&max_unacked=7&ack_timeout=3&from=earliest\
                     &isolation=read_uncommitted&limit=5&key=x&key=y";
        let body = r#"{"topics":["a","b"],"member":"m","ack":"explicit","max_unacked":7,
            "ack_timeout":3,"from":"earliest","isolation":"read_uncommitted","limit":5,
            "key":["x","y"]}"#;
        let (query, body) = (parse(Some(query), None).unwrap(), parse(None, Some(body)).unwrap());
        assert_eq!(query.member.ack(), AckMode::Explicit);
        assert_eq!(query.pace.allowance(), Some(7));
        assert_eq!((&query.member, &query.stream), (&body.member, &body.stream));
        assert_eq!(format!("{:?}", query.pace), format!("{:?}", body.pace));
    }

    #[test]
    fn refusals_name_parameter_and_value() {
        for (body, part) in [
            (r#"{"topics":["t"],"ack":"later"}"#, "ack 'later'"),
            (r#"{"topics":["t"],"max_unacked":0}"#, "max_unacked '0'"),
            (r#"{"topics":["t"],"max_unacked":-1}"#, "max_unacked '-1'"),
            (r#"{"topics":["t"],"ack_timeout":3601}"#, "ack_timeout '3601'"),
            (r#"{"topics":["t"],"member":""}"#, "member ''"),
            (r#"{"topics":["t"],"member":{}}"#, "member '{}'"),
            (r#"{"topics":["t"],"from":"offset:0=5"}"#, "from 'offset:0=5'"),
            (r#"{"topics":["t"],"from":"soon"}"#, "from 'soon'"),
            (r#"{"topics":["t"],"partitions":[0]}"#, "partitions is not possible in a group"),
            (r#"{"topics":["t"],"until":"end"}"#, "until is not possible in a group"),
            (r#"{"topics":["t"],"ticket":"x"}"#, "ticket 'x'"),
            (
                r#"{"topics":["t"],"last_event_id":
                    "[{\"topic\":\"t\",\"partition\":1,\"timestamp\":3}]"}"#,
                "timestamp '3' of partition 1 of 't'",
            ),
        ] {
            let refused = parse(None, Some(body)).unwrap_err();
            assert_eq!(refused.code, 400, "{body}");
            assert!(refused.message.contains(part), "{body}: {}", refused.message);
        }
    }
}
