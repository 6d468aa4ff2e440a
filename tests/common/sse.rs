//! A small blocking client of server-sent events.

use std::io::{self, BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};

use super::http::{Answer, Chunked, Http};

/// One event as a browser would dispatch it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Event {
    /// Empty for the default, `message`.
    pub(crate) name: String,
    /// The id of this event, or the last one before it.
    pub(crate) id: String,
    pub(crate) data: String,
}

/// An open stream.
#[derive(Debug)]
pub(crate) struct Sse {
    pub(crate) head: Answer,
    lines: BufReader<Chunked<BufReader<TcpStream>>>,
    id: String,
}

impl Sse {
    pub(crate) fn open(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Self {
        let mut all = vec![("accept", "text/event-stream")];
        all.extend_from_slice(headers);
        let (head, body) = Http::connect(address).open(path, &all).unwrap();
        assert_eq!(head.status, 200, "{path}");
        assert!(head.header("content-type").unwrap().starts_with("text/event-stream"));
        Self { head, lines: BufReader::new(body), id: String::new() }
    }

    /// The next event; none when the stream ends.
    pub(crate) fn try_next(&mut self) -> io::Result<Option<Event>> {
        let (mut name, mut data) = (String::new(), None::<String>);
        loop {
            let mut line = String::new();
            if self.lines.read_line(&mut line)? == 0 {
                return Ok(None);
            }
            let line = line.trim_end_matches('\n');
            if line.is_empty() {
                if let Some(data) = data.take() {
                    return Ok(Some(Event { name, id: self.id.clone(), data }));
                }
                name.clear();
                continue;
            }
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "event" => value.clone_into(&mut name),
                "id" => value.clone_into(&mut self.id),
                "data" => match &mut data {
                    None => data = Some(value.to_owned()),
                    Some(lines) => {
                        lines.push('\n');
                        lines.push_str(value);
                    }
                },
                _ => {}
            }
        }
    }

    /// The next record, past events with a name.
    pub(crate) fn record(&mut self) -> Event {
        loop {
            let event = self.try_next().unwrap().expect("the stream ended");
            if event.name.is_empty() || event.name == "message" {
                return event;
            }
        }
    }

    /// The id that a reconnect would send.
    pub(crate) fn record_id(&self) -> String {
        self.id.clone()
    }
}

/// The data of an event, as JSON.
pub(crate) fn data(event: &Event) -> serde_json::Value {
    serde_json::from_str(&event.data).unwrap()
}

/// The next event of a name; others are passed over.
pub(crate) fn until(stream: &mut Sse, name: &str) -> Event {
    loop {
        let event = stream.try_next().unwrap().expect("the stream goes on");
        if event.name == name {
            return event;
        }
    }
}
