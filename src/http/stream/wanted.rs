//! Which topics a stream is of: one, some by name, or all whose name matches a pattern.

use std::sync::Arc;

use regex::bytes::{Regex, RegexBuilder};

use super::params::Subscription;
use crate::base::ids::{PartitionId, TopicId, TopicName};
use crate::base::limits::{STREAM_PARTITIONS_MAX, STREAM_PATTERN_BYTES_MAX, STREAM_TOPICS_MAX};
use crate::engine::Topics;
use crate::engine::topics::Topic;
use crate::http::error::{ApiError, ApiResult};

/// Most bytes that a compiled pattern may take; bounded repetitions can blow a short text up.
const PATTERN_COMPILED_BYTES_MAX: usize = 256 * 1024;

/// The topics of a stream.
#[derive(Debug, Clone)]
pub(super) enum Wanted {
    /// One topic of the path: the stream ends with it.
    Only(TopicName),
    /// These, as far as they exist.
    Names(Arc<[TopicName]>),
    /// All topics of users whose whole name matches.
    Pattern(Regex),
}

impl Wanted {
    /// The topic of a path.
    pub(super) fn only(topic: &str, subscription: &Subscription) -> ApiResult<Self> {
        if let Some(list) = &subscription.topics {
            let list = list.join(",");
            let message = format!("topics '{list}' is not possible: the path names the topic");
            return Err(ApiError::bad_request(message));
        }
        if let Some(pattern) = &subscription.pattern {
            let message = format!("pattern '{pattern}' is not possible: the path names the topic");
            return Err(ApiError::bad_request(message));
        }
        TopicName::parse(topic).map(Self::Only).map_err(|_| ApiError::topic_not_found(topic))
    }

    /// What `topics` or `pattern` says.
    pub(super) fn several(subscription: &Subscription) -> ApiResult<Self> {
        match (&subscription.topics, &subscription.pattern) {
            (Some(names), None) => Self::names(names),
            (None, Some(pattern)) => compile(pattern).map(Self::Pattern).map_err(|reason| {
                ApiError::bad_request(format!("pattern '{pattern}' is not possible: {reason}"))
            }),
            (Some(_), Some(pattern)) => Err(ApiError::bad_request(format!(
                "pattern '{pattern}' is not possible: topics is given too"
            ))),
            (None, None) => Err(ApiError::bad_request("topics or pattern is missing")),
        }
    }

    fn names(names: &[String]) -> ApiResult<Self> {
        let parse = |name: &String| {
            TopicName::parse(name)
                .map_err(|error| ApiError::bad_request(format!("topics: {error}")))
        };
        let mut names = names.iter().map(parse).collect::<ApiResult<Vec<_>>>()?;
        names.sort_unstable();
        names.dedup();
        Ok(Self::Names(names.into()))
    }

    /// The topics that there are now, and those of the names that do not exist.
    pub(super) fn find(&self, topics: &dyn Topics) -> (Vec<Arc<Topic>>, Vec<TopicName>) {
        let names = match self {
            Self::Only(name) => std::slice::from_ref(name),
            Self::Names(names) => names,
            Self::Pattern(pattern) => {
                let is_match = |topic: &Arc<Topic>| {
                    !topic.is_internal && pattern.is_match(topic.name.as_str().as_bytes())
                };
                return (topics.list().into_iter().filter(is_match).collect(), Vec::new());
            }
        };
        let (mut found, mut missing) = (Vec::new(), Vec::new());
        for name in names {
            match topics.find(name.as_str()) {
                Some(topic) => found.push(topic),
                None => missing.push(name.clone()),
            }
        }
        (found, missing)
    }

    /// Tells whether topics may join while the stream runs.
    pub(super) const fn is_growing(&self) -> bool {
        !matches!(self, Self::Only(_))
    }
}

/// Compiles a pattern that must match a whole name. The time of a match is linear in the name.
fn compile(text: &str) -> Result<Regex, String> {
    if text.len() > STREAM_PATTERN_BYTES_MAX {
        return Err(format!("{} bytes are more than {STREAM_PATTERN_BYTES_MAX}", text.len()));
    }
    let build = |text: &str| {
        RegexBuilder::new(text)
            .unicode(false)
            .size_limit(PATTERN_COMPILED_BYTES_MAX)
            .dfa_size_limit(PATTERN_COMPILED_BYTES_MAX)
            .build()
            .map_err(|error| error.to_string())
    };
    // By itself first: `a)|(b` would become valid between the anchors' parentheses.
    build(text)?;
    build(&format!(r"\A(?:{text})\z"))
}

/// Checks how many topics and partitions a stream would have.
///
/// # Errors
/// The sentence that says what is too much.
pub(super) fn check_size(topics: usize, partitions: usize) -> Result<(), String> {
    if topics > STREAM_TOPICS_MAX {
        return Err(format!(
            "the stream would be of {topics} topics, {STREAM_TOPICS_MAX} are possible"
        ));
    }
    if partitions > STREAM_PARTITIONS_MAX {
        return Err(format!(
            "the stream would be of {partitions} partitions, {STREAM_PARTITIONS_MAX} are \
             possible: select some with partitions="
        ));
    }
    Ok(())
}

/// A partition by the identity of its topic.
pub(super) type PartitionRef = (TopicId, PartitionId);

#[cfg(test)]
mod tests {
    use super::*;

    fn several(topics: Option<&str>, pattern: Option<&str>) -> ApiResult<Wanted> {
        let topics = topics.map(|t| t.split(',').map(str::to_owned).collect());
        let pattern = pattern.map(str::to_owned);
        Wanted::several(&Subscription { topics, pattern, ..Subscription::default() })
    }

    #[test]
    fn patterns_match_whole_names() {
        let Wanted::Pattern(regex) = several(None, Some("orders\\..*|b")).unwrap() else {
            panic!("not a pattern")
        };
        for (name, matches) in
            [("orders.eu", true), ("b", true), ("xorders.eu", false), ("bb", false)]
        {
            assert_eq!(regex.is_match(name.as_bytes()), matches, "{name}");
        }
    }

    #[test]
    fn refusals_name_what_is_wrong() {
        let long = "a".repeat(STREAM_PATTERN_BYTES_MAX + 1);
        for (topics, pattern, part) in [
            (None, None, "missing"),
            (Some("a"), Some("b"), "pattern 'b'"),
            (None, Some("a("), "a("),
            (None, Some("a)|(b"), "a)|(b"),
            (None, Some("(a{1000}){1000}"), "pattern"),
            (None, Some(long.as_str()), "257 bytes"),
            (Some("a b"), None, "topic name 'a b'"),
        ] {
            let refused = several(topics, pattern).unwrap_err();
            assert_eq!(refused.code, 400);
            assert!(refused.message.contains(part), "{}", refused.message);
        }
        assert!(check_size(STREAM_TOPICS_MAX, STREAM_PARTITIONS_MAX).is_ok());
        assert!(check_size(STREAM_TOPICS_MAX + 1, 1).unwrap_err().contains("257 topics"));
        assert!(check_size(1, STREAM_PARTITIONS_MAX + 1).unwrap_err().contains("4097"));
    }
}
