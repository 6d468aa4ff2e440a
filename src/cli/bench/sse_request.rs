//! What each of many live streams asks for: its path, its filter and its transport.
//!
//! `{n}` in the path or the filter is the number of the stream, from 0, and `{key}` in the filter
//! is the key of the events that are meant for it, so that every stream can have a filter of its
//! own.

use std::sync::Arc;

use clap::{Args, ValueEnum};

use super::BenchResult;
use super::http_client::Target;

/// What each stream speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum StreamTransport {
    /// Server-sent events.
    #[default]
    Sse,
    /// Lines of JSON.
    Ndjson,
}

impl StreamTransport {
    /// Media type to accept.
    const fn media_type(self) -> &'static str {
        match self {
            Self::Sse => "text/event-stream",
            Self::Ndjson => "application/x-ndjson",
        }
    }

    /// Word on the command line and in reports.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Sse => "sse",
            Self::Ndjson => "ndjson",
        }
    }
}

/// How many streams an event is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Delivery {
    /// Every one.
    Every,
    /// One: the events have keys in turn and each stream wants its own.
    One,
    /// What the filter says: nothing is counted as lost, and a run ends in a silence.
    Unknown,
}

/// Options of what streams ask for.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct StreamRequest {
    /// Path of a stream, with a query if one is needed; `{n}` is its number
    /// [default: /topics/{topic}/stream].
    #[arg(long)]
    path: Option<String>,
    /// Where streams begin, as the server reads `from`.
    #[arg(long)]
    from: Option<String>,
    /// What streams speak.
    #[arg(long, value_enum, default_value = "sse")]
    transport: StreamTransport,
    /// Records of one batch, or a window such as 50ms.
    #[arg(long, value_name = "N|MSms")]
    batch: Option<String>,
    /// A filter for each stream: `{n}` is the number of the stream and `{key}` the key of the
    /// events meant for it, which then have keys in turn.
    #[arg(long, value_name = "EXPR", conflicts_with = "key_filter")]
    filter: Option<String>,
    /// Each stream wants one key; events have keys in turn.
    #[arg(long)]
    key_filter: bool,
    /// How many streams an event is for [default: every; one with a filter by key; unknown with
    /// another filter].
    #[arg(long, value_enum)]
    delivery: Option<Delivery>,
    /// More of the query, such as `data=value&ids=flush`.
    #[arg(long)]
    query: Option<String>,
}

impl StreamRequest {
    /// Lines of JSON in batches, from the first record to what is the last one now.
    pub(super) fn catch_up(transport: StreamTransport, batch: u32, query: Option<String>) -> Self {
        let to_end = "until=end";
        let query = query.map_or_else(|| to_end.to_owned(), |more| format!("{to_end}&{more}"));
        Self {
            from: Some("earliest".to_owned()),
            transport,
            batch: (batch > 1).then(|| batch.to_string()),
            query: Some(query),
            ..Self::default()
        }
    }

    /// The same with more of the query.
    pub(super) fn with_query(mut self, more: &str) -> Self {
        let query = self.query.take();
        self.query = Some(query.map_or_else(|| more.to_owned(), |q| format!("{q}&{more}")));
        self
    }

    /// What the streams speak.
    pub(super) const fn transport(&self) -> StreamTransport {
        self.transport
    }

    /// Tells whether events need keys.
    pub(super) fn is_keyed(&self) -> bool {
        self.key_filter || self.filter.as_ref().is_some_and(|filter| filter.contains("{key}"))
    }

    /// How many streams an event is for.
    pub(super) fn delivery(&self) -> Delivery {
        self.delivery.unwrap_or_else(|| match (self.is_keyed(), &self.filter) {
            (true, _) => Delivery::One,
            (false, Some(_)) => Delivery::Unknown,
            (false, None) => Delivery::Every,
        })
    }

    /// The options in a few words, for the report; empty if they are the usual ones.
    pub(super) fn describe(&self) -> String {
        let mut words = Vec::new();
        if self.transport != StreamTransport::Sse {
            words.push(self.transport.word().to_owned());
        }
        words.extend(self.batch.iter().map(|batch| format!("batch={batch}")));
        words.extend(self.filter.iter().map(|filter| format!("filter {filter}")));
        if self.key_filter {
            words.push("one key each".to_owned());
        }
        words.iter().map(|word| format!(", {word}")).collect()
    }

    /// Path and query of the stream number `nth`.
    pub(super) fn path(&self, topic: &str, nth: usize) -> String {
        let (number, key) = (nth.to_string(), event_key(nth as u64));
        let path = self.path.as_deref().unwrap_or("/topics/{topic}/stream");
        let mut path = path.replace("{topic}", topic).replace("{n}", &number);
        let mut add = |name: &str, value: &str| {
            path.push(if path.contains('?') { '&' } else { '?' });
            path.extend([name, "="]);
            escape_into(value, &mut path);
        };
        if let Some(from) = &self.from {
            add("from", from);
        }
        if let Some(batch) = &self.batch {
            add("batch", batch);
        }
        if let Some(filter) = &self.filter {
            add("filter", &filter.replace("{n}", &number).replace("{key}", &key));
        }
        if self.key_filter {
            add("key", &key);
        }
        if let Some(query) = &self.query {
            path.push(if path.contains('?') { '&' } else { '?' });
            path.push_str(query);
        }
        path
    }

    /// The whole request of the stream number `nth`.
    pub(super) fn encode(&self, target: &Target, topic: &str, nth: usize) -> Arc<[u8]> {
        let headers = [("accept", self.transport.media_type())];
        target.request("GET", &self.path(topic, nth), &headers, b"").into()
    }

    /// Refuses what cannot be measured.
    ///
    /// # Errors
    /// When events need keys and are not published by the Kafka protocol.
    pub(super) fn check(&self, kafka: Option<&String>) -> BenchResult<()> {
        if self.is_keyed() && kafka.is_none() {
            let why = "a filter by key needs --kafka: by REST, keys would be JSON texts";
            return Err(why.into());
        }
        Ok(())
    }
}

/// Writes `text` as it may stand in a query.
fn escape_into(text: &str, out: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
}

/// The key of events that are meant for the stream number `nth`.
pub(super) fn event_key(nth: u64) -> String {
    format!("key-{nth}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stream_can_have_its_own_filter() {
        let request = StreamRequest {
            filter: Some("key == \"{key}\" && {n} >= 0".to_owned()),
            ..Default::default()
        };
        assert_eq!(
            request.path("t", 7),
            "/topics/t/stream?filter=key%20%3D%3D%20%22key-7%22%20%26%26%207%20%3E%3D%200",
        );
        assert!(request.is_keyed());
        assert_eq!(request.delivery(), Delivery::One);
        assert!(request.check(None).is_err());
        let by_key = StreamRequest { key_filter: true, ..Default::default() };
        assert_eq!(by_key.path("t", 3), "/topics/t/stream?key=key-3");
        assert!(by_key.check(Some(&String::new())).is_ok());
    }

    #[test]
    fn queries_are_added_to_what_the_path_has() {
        let request = StreamRequest {
            path: Some("/hub?topic={topic}&n={n}".to_owned()),
            batch: Some("50ms".to_owned()),
            ..Default::default()
        };
        let request = request.with_query("a=b").with_query("c=d");
        assert_eq!(request.path("x", 2), "/hub?topic=x&n=2&batch=50ms&a=b&c=d");
        assert_eq!(request.delivery(), Delivery::Every);
    }

    #[test]
    fn a_filter_that_names_no_key_has_no_known_delivery() {
        let filter = Some("value.bench_seq % 2 == 0".to_owned());
        let request = StreamRequest { filter, ..Default::default() };
        assert_eq!(request.delivery(), Delivery::Unknown);
        assert_eq!(StreamRequest::default().delivery(), Delivery::Every);
        let known = StreamRequest { delivery: Some(Delivery::Every), ..request };
        assert_eq!(known.delivery(), Delivery::Every);
    }

    #[test]
    fn catching_up_reads_all_there_is_in_batches() {
        let request = StreamRequest::catch_up(StreamTransport::Ndjson, 1000, None);
        assert_eq!(request.path("t", 0), "/topics/t/stream?from=earliest&batch=1000&until=end");
        let encoded = request.encode(&Target::parse("http://h:1").unwrap(), "t", 0);
        assert!(String::from_utf8_lossy(&encoded).contains("accept: application/x-ndjson\r\n"));
    }
}
