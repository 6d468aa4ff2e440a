//! What an instance wants to read: topics by name or by pattern.
//!
//! A compiled pattern is larger than the rest of an idle instance, so only its text is kept; it
//! is compiled when topics change, once for all instances that share it.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use regex::bytes::{Regex, RegexBuilder};

use super::error::ConsumerError;
use super::settings::SUBSCRIPTION_TOPICS_MAX;
use crate::base::ids::TopicName;
use crate::base::limits::TOPIC_PATTERN_BYTES_MAX;
use crate::engine::Topics;

/// Most bytes that a compiled pattern may take; bounded repetitions can blow a short text up.
const PATTERN_COMPILED_BYTES_MAX: usize = 1024 * 1024;

/// A subscription as the client gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Subscription {
    /// These topics, sorted, whether they exist or not.
    Topics(Arc<[TopicName]>),
    /// All topics of users whose whole name matches.
    Pattern(Arc<str>),
}

impl Subscription {
    /// Checks a list of topics.
    pub(super) fn topics(names: &[String]) -> Result<Self, ConsumerError> {
        let names: Result<Vec<TopicName>, _> =
            names.iter().map(|name| TopicName::parse(name)).collect();
        let mut names = names?;
        names.sort_unstable();
        names.dedup();
        if names.len() > SUBSCRIPTION_TOPICS_MAX {
            let count = names.len();
            return Err(ConsumerError::TooManyTopics { count, max: SUBSCRIPTION_TOPICS_MAX });
        }
        Ok(Self::Topics(names.into()))
    }

    /// Checks a pattern.
    pub(super) fn pattern(text: &str) -> Result<Self, ConsumerError> {
        compile(text)?;
        Ok(Self::Pattern(text.into()))
    }
}

/// Compiles a pattern that must match a whole name, as Java's `Matcher.matches` does.
fn compile(text: &str) -> Result<Regex, ConsumerError> {
    let invalid = |e: regex::Error| ConsumerError::InvalidPattern(e.to_string());
    if text.len() > TOPIC_PATTERN_BYTES_MAX {
        let reason = format!("{} bytes are more than {TOPIC_PATTERN_BYTES_MAX}", text.len());
        return Err(ConsumerError::InvalidPattern(reason));
    }
    if text.is_empty() {
        return Err(ConsumerError::InvalidPattern("it is empty".to_owned()));
    }
    // By itself first: `a)|(b` would become valid between the anchors' parentheses.
    builder(text).build().map_err(invalid)?;
    builder(&format!(r"\A(?:{text})\z")).build().map_err(invalid)
}

/// Topic names are ASCII, so classes and case folding are too, as they are in Java by default.
fn builder(text: &str) -> RegexBuilder {
    let mut builder = RegexBuilder::new(text);
    builder
        .unicode(false)
        .size_limit(PATTERN_COMPILED_BYTES_MAX)
        .dfa_size_limit(PATTERN_COMPILED_BYTES_MAX);
    builder
}

/// Finds the topics of subscriptions at one moment, each pattern once.
pub(super) struct Matcher<'a> {
    topics: &'a dyn Topics,
    listed: Option<Vec<TopicName>>,
    by_pattern: HashMap<Arc<str>, Arc<[TopicName]>>,
}

impl<'a> Matcher<'a> {
    pub(super) fn new(topics: &'a dyn Topics) -> Self {
        Self { topics, listed: None, by_pattern: HashMap::new() }
    }

    /// Returns the topics of `subscription`, sorted; named ones also when they do not exist yet.
    pub(super) fn topics_of(&mut self, subscription: &Subscription) -> Arc<[TopicName]> {
        let pattern = match subscription {
            Subscription::Topics(names) => return names.clone(),
            Subscription::Pattern(pattern) => pattern,
        };
        if let Some(known) = self.by_pattern.get(pattern) {
            return known.clone();
        }
        let matched = self.matching(pattern);
        self.by_pattern.insert(pattern.clone(), matched.clone());
        matched
    }

    fn matching(&mut self, pattern: &str) -> Arc<[TopicName]> {
        let Ok(regex) = compile(pattern) else {
            // It was compiled when it was subscribed; only another version's rules get here.
            tracing::warn!(pattern, "a kept topic pattern cannot be compiled");
            return Arc::default();
        };
        let topics = self.topics;
        let listed = self.listed.get_or_insert_with(|| {
            let users = topics.list().into_iter().filter(|topic| !topic.is_internal);
            let mut names: Vec<TopicName> = users.map(|topic| topic.name.clone()).collect();
            names.sort_unstable();
            names
        });
        let matches = |name: &&TopicName| regex.is_match(name.as_str().as_bytes());
        let matched: Vec<TopicName> =
            listed.iter().filter(matches).take(SUBSCRIPTION_TOPICS_MAX).cloned().collect();
        if matched.len() == SUBSCRIPTION_TOPICS_MAX {
            tracing::warn!(pattern, "topic pattern matches as many topics as it may, or more");
        }
        matched.into()
    }
}

/// Returns a number that changes when one of `names` is created, deleted or given partitions.
pub(super) fn fingerprint(topics: &dyn Topics, names: &[TopicName]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for name in names {
        let topic = topics.find(name.as_str());
        topic.map(|topic| (topic.id, topic.partition_count)).hash(&mut hasher);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matches(pattern: &str, name: &str) -> bool {
        compile(pattern).unwrap().is_match(name.as_bytes())
    }

    #[test]
    fn patterns_match_whole_names() {
        assert!(matches("^ord.*", "orders"));
        assert!(matches("orders|pay", "pay"));
        assert!(matches("(?i)ORD.*", "orders"));
        assert!(!matches("ord", "orders"));
        assert!(!matches("a|b", "ab"));
        assert!(!matches("(?m)a$", "a\nb"));
    }

    #[test]
    fn what_cannot_be_used_is_refused_with_a_text() {
        for pattern in ["", "(?=look)ahead", "[", "a)|(b", "(a{1000}){1000}", &"x".repeat(1025)] {
            let refused = Subscription::pattern(pattern);
            assert!(
                matches!(refused, Err(ConsumerError::InvalidPattern(text)) if !text.is_empty())
            );
        }
        assert!(matches!(
            Subscription::topics(&["bad name".to_owned()]),
            Err(ConsumerError::InvalidTopic(_))
        ));
    }

    proptest! {
        #[test]
        fn arbitrary_patterns_never_panic(pattern in "\\PC{0,30}") {
            let _ = Subscription::pattern(&pattern);
        }
    }
}
