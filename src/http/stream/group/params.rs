//! What a client asks of a stream inside of a group, beside what it asks of every stream.

use std::time::Duration;

use http::HeaderMap;

use super::pace::Pace;
use crate::http::error::{ApiError, ApiResult};
use crate::http::members::params::{MemberParams, Taken};
use crate::http::query;
use crate::http::stream::params::{Overflow, Params, Subscription};

/// Offsets that may be written and not acknowledged, by default.
const UNACKED_DEFAULT: u64 = 1_000;

/// Most offsets that a client may ask to have unacknowledged.
const UNACKED_MAX: u64 = 1_000_000;

/// Range of `ack_timeout`, in seconds.
const ACK_TIMEOUT_SECONDS: std::ops::RangeInclusive<u64> = 1..=3_600;

/// Everything that a client asked for.
#[derive(Debug)]
pub(super) struct GroupParams {
    pub(super) member: MemberParams,
    pub(super) stream: Params,
    pub(super) pace: Pace,
}

impl GroupParams {
    /// Reads everything.
    ///
    /// # Errors
    /// 400 names the parameter and its value.
    pub(super) fn parse(text: Option<&str>, headers: &HeaderMap) -> ApiResult<Self> {
        let mut member = MemberParams::default();
        let (mut unacked_max, mut timeout) = (None, None);
        let mut rest = Vec::new();
        let mut seen: Vec<String> = Vec::new();
        for raw in text.unwrap_or_default().split('&').filter(|raw| !raw.is_empty()) {
            let Some(pair) = query::pairs(raw).next() else { continue };
            let (name, value) = pair?;
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
                rest.push(raw);
            } else if seen.contains(&name) {
                return Err(ApiError::bad_request(format!("{name} '{value}' is given twice")));
            } else {
                seen.push(name);
            }
        }
        let stream = Params::parse(Some(&rest.join("&")), None, headers)?;
        check(&stream.subscription)?;
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
        return Ok(());
    };
    Err(ApiError::bad_request(format!("{name} is not possible in a group")))
}
