//! What a client chooses for its instance and what the server chooses for all of them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::ConsumerError;
use crate::base::ids::TimestampMs;
use crate::base::limits;
use crate::engine::log::Isolation;

/// Most topics that one subscription may name or match; an encoded subscription stays below half
/// a mebibyte then.
pub const SUBSCRIPTION_TOPICS_MAX: usize = 2_000;

/// Most partitions that one manual assignment may name.
pub const ASSIGNED_PARTITIONS_MAX: usize = 10_000;

/// Longest name of an instance, in bytes; it is a part of URLs, keys and group records.
pub const INSTANCE_NAME_BYTES_MAX: usize = 1_024;

/// Largest `fetch.min.bytes` (kafka-rest's bound).
const FETCH_MIN_BYTES_MAX: i32 = 10_000_000;

/// The embedded format of records; the HTTP door encodes by it, nothing here depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Base64.
    #[default]
    Binary,
    /// JSON.
    Json,
    /// UTF-8 text.
    Text,
}

impl Format {
    /// Returns the name that clients use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Binary => "binary",
            Self::Json => "json",
            Self::Text => "text",
        }
    }
}

/// Where to begin without a usable position (`auto.offset.reset`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OffsetReset {
    /// At the first record there is.
    Earliest,
    /// After the last record there is.
    #[default]
    Latest,
    /// Nowhere: the poll fails.
    None,
    /// So many offsets before the end.
    Last(i64),
    /// At the first record that is not older; after the last one if all are.
    AtOrAfter(TimestampMs),
}

impl OffsetReset {
    /// Tells whether it means another offset later.
    pub(super) const fn passes(self) -> bool {
        match self {
            Self::Latest | Self::Last(_) | Self::AtOrAfter(_) => true,
            Self::Earliest | Self::None => false,
        }
    }
}

/// What becomes of a record that is not in the instance's format (`on.decode.error`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnDecodeError {
    /// The poll fails, after what lies before the record was delivered; the record stays.
    #[default]
    Fail,
    /// The record is delivered with the error and its raw bytes.
    Data,
}

/// A rule by which a group's leader shares partitions out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Assignor {
    /// Ranges of each topic's partitions.
    Range,
    /// All partitions of all topics in turn.
    RoundRobin,
}

impl Assignor {
    /// Returns the names that groups elect the rule by; the first is Kafka's own. kafkajs calls
    /// its round robin by another name, with the same metadata and the same outcome.
    #[must_use]
    pub const fn names(self) -> &'static [&'static str] {
        match self {
            Self::Range => &["range"],
            Self::RoundRobin => &["roundrobin", "RoundRobinAssigner"],
        }
    }

    /// Finds the assignor of a protocol name.
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        [Self::Range, Self::RoundRobin].into_iter().find(|rule| rule.names().contains(&name))
    }
}

/// What a client asks for when it creates an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewInstance {
    /// The name within the group; none makes `rest-consumer-<uuid>`.
    pub name: Option<String>,
    /// The embedded format.
    pub format: Format,
    /// Where to begin without a usable position.
    pub auto_offset_reset: OffsetReset,
    /// Whether delivered positions are committed without being asked.
    pub auto_commit: bool,
    /// How often, at most.
    pub auto_commit_interval: Duration,
    /// How many bytes a poll gathers before it answers early; none and -1 are off.
    pub fetch_min_bytes: Option<i32>,
    /// How long a poll waits for a first record; none takes the server's default.
    pub request_timeout_ms: Option<i64>,
    /// What the instance may see of open transactions.
    pub isolation: Isolation,
    /// What becomes of records that are not in the format.
    pub on_decode_error: OnDecodeError,
    /// The assignors it can follow, most wanted first; none takes range, then round robin.
    pub assignors: Vec<Assignor>,
}

impl Default for NewInstance {
    fn default() -> Self {
        Self {
            name: None,
            format: Format::default(),
            auto_offset_reset: OffsetReset::default(),
            auto_commit: true,
            auto_commit_interval: Duration::from_secs(5),
            fetch_min_bytes: None,
            request_timeout_ms: None,
            isolation: Isolation::ReadCommitted,
            on_decode_error: OnDecodeError::default(),
            assignors: Vec::new(),
        }
    }
}

/// The settings of an instance, checked, for its whole life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The embedded format.
    pub format: Format,
    /// Where to begin without a usable position.
    pub auto_offset_reset: OffsetReset,
    /// Whether delivered positions are committed without being asked.
    pub auto_commit: bool,
    /// How often, at most, in milliseconds.
    pub auto_commit_interval_ms: i64,
    /// Bytes that end a poll's gathering; 0 ends it with the first record.
    pub fetch_min_bytes: usize,
    /// How long a poll of this instance may wait; none takes the server's default.
    pub request_timeout: Option<Duration>,
    /// What the instance may see of open transactions.
    pub isolation: Isolation,
    /// What becomes of records that are not in the format.
    pub on_decode_error: OnDecodeError,
    /// The assignors it can follow, most wanted first; at least one.
    pub assignors: Vec<Assignor>,
}

impl Settings {
    /// Checks what a client asks for.
    ///
    /// # Errors
    /// [`ConsumerError::InvalidSetting`].
    pub fn check(new: &NewInstance) -> Result<Self, ConsumerError> {
        let min_bytes = new.fetch_min_bytes.unwrap_or(-1);
        if !(-1..=FETCH_MIN_BYTES_MAX).contains(&min_bytes) {
            return Err(refused("fetch.min.bytes", &min_bytes, "is not between -1 and 10000000"));
        }
        let timeout_ms = new.request_timeout_ms;
        if let Some(ms) = timeout_ms.filter(|ms| *ms < 0) {
            return Err(refused("consumer.request.timeout.ms", &ms, "is negative"));
        }
        let timeout = timeout_ms.and_then(|ms| u64::try_from(ms).ok()).map(Duration::from_millis);
        let mut assignors = Vec::new();
        for assignor in &new.assignors {
            if !assignors.contains(assignor) {
                assignors.push(*assignor);
            }
        }
        if assignors.is_empty() {
            assignors = vec![Assignor::Range, Assignor::RoundRobin];
        }
        let interval_ms = new.auto_commit_interval.as_millis();
        Ok(Self {
            format: new.format,
            auto_offset_reset: new.auto_offset_reset,
            auto_commit: new.auto_commit,
            auto_commit_interval_ms: i64::try_from(interval_ms).unwrap_or(i64::MAX),
            fetch_min_bytes: usize::try_from(min_bytes).unwrap_or(0),
            request_timeout: timeout.map(|timeout| timeout.min(limits::HTTP_WAIT_MAX)),
            isolation: new.isolation,
            on_decode_error: new.on_decode_error,
            assignors,
        })
    }
}

/// Checks the name a client gives to its instance.
pub(super) fn check_name(name: &str) -> Result<(), ConsumerError> {
    if name.is_empty() {
        return Err(refused("name", &name, "is empty"));
    }
    if matches!(name, "." | "..") {
        // Clients take such a segment out of a URL before they send it.
        return Err(refused("name", &name, "cannot be part of a URL"));
    }
    if name.len() > INSTANCE_NAME_BYTES_MAX {
        return Err(refused("name", &format!("{} bytes", name.len()), "is too long"));
    }
    Ok(())
}

fn refused(
    setting: &'static str,
    value: &dyn std::fmt::Display,
    reason: &'static str,
) -> ConsumerError {
    ConsumerError::InvalidSetting { setting, value: value.to_string(), reason }
}

/// What the server chooses for all instances.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumersOptions {
    /// After how long without a call an instance is closed
    /// (kafka-rest's `consumer.instance.timeout.ms`).
    pub instance_timeout_ms: i64,
    /// How long a poll waits by default (kafka-rest's `consumer.request.timeout.ms`).
    pub request_timeout_ms: u64,
    /// After how long without a heartbeat the coordinator removes a member. The keeper beats for
    /// everybody, so only a stalled server comes near it.
    pub session_timeout_ms: i32,
    /// How often every member is given a heartbeat and looked at for its end, at least three times
    /// per session. Members hear of rebalances without it.
    pub heartbeat_interval: Duration,
    /// How long a stream whose client acknowledges has for its last acknowledgements when its
    /// partitions are revoked.
    pub final_ack_wait: Duration,
    /// Instances that may exist at once.
    pub instances_max: usize,
}

impl Default for ConsumersOptions {
    fn default() -> Self {
        Self {
            instance_timeout_ms: 300_000,
            request_timeout_ms: 1_000,
            session_timeout_ms: 45_000,
            heartbeat_interval: Duration::from_secs(3),
            final_ack_wait: Duration::from_secs(3),
            instances_max: limits::CONSUMER_INSTANCES_MAX,
        }
    }
}

impl ConsumersOptions {
    /// The heartbeat interval, or a third of the session if that is shorter.
    pub(super) fn heartbeat_period(&self) -> Duration {
        let session_ms = u64::try_from(self.session_timeout_ms).unwrap_or(0);
        self.heartbeat_interval.min(Duration::from_millis(session_ms) / 3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_out_of_range_are_refused() {
        let new = |fetch_min_bytes, request_timeout_ms| NewInstance {
            fetch_min_bytes,
            request_timeout_ms,
            ..NewInstance::default()
        };
        assert!(Settings::check(&new(Some(-2), None)).is_err());
        assert!(Settings::check(&new(Some(10_000_001), None)).is_err());
        assert!(Settings::check(&new(None, Some(-1))).is_err());
        assert_eq!(Settings::check(&new(Some(-1), None)).unwrap().fetch_min_bytes, 0);
        let settings = Settings::check(&new(Some(512), Some(i64::MAX))).unwrap();
        assert_eq!(settings.fetch_min_bytes, 512);
        assert_eq!(settings.request_timeout, Some(limits::HTTP_WAIT_MAX));
        assert_eq!(settings.assignors, [Assignor::Range, Assignor::RoundRobin]);
    }
}
