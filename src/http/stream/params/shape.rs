//! What records look like and which are wanted: the parameters that they are encoded and filtered
//! by.

use std::sync::Arc;
use std::time::Duration;

use super::super::filter::Conditions;
use super::Setting;
use crate::http::record::select::Selection;
use crate::http::record::{Decode, Numbers};

/// Records of one batch at most.
pub(in super::super) const BATCH_RECORDS_MAX: u64 = 1000;

/// Range of the window of `batch`, in ms.
const BATCH_WINDOW_MS: std::ops::RangeInclusive<u64> = 1..=10_000;

/// What an event carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(in super::super) enum Data {
    /// The record with everything about it.
    #[default]
    Envelope,
    /// Only its value.
    Value,
    /// A CloudEvent in JSON.
    CloudEvent,
}

/// Where the name of an event comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(in super::super) enum EventName {
    /// All are `message`.
    #[default]
    Message,
    /// The topic.
    Topic,
    /// A header of the record.
    Header(Arc<str>),
    /// The type of a CloudEvent.
    CloudEventType,
}

/// How records follow each other in encoded text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(in super::super) enum Framing {
    /// Server-sent events.
    #[default]
    Events,
    /// Lines.
    Lines,
    /// Elements of a list, each with a comma after it.
    List,
}

/// What encoded records depend on, besides the record. A clone is cheap.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(in super::super) struct Format {
    pub(in super::super) data: Data,
    pub(in super::super) decode: Decode,
    pub(in super::super) numbers: Numbers,
    pub(in super::super) event: EventName,
    pub(in super::super) select: Option<Arc<Selection>>,
    pub(in super::super) framing: Framing,
}

/// Which events carry a cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in super::super) enum Ids {
    /// Every record while the cursor is short, else the last one of a flush.
    #[default]
    Auto,
    /// Every record.
    Each,
    /// The last record of a flush.
    Flush,
}

/// How records are gathered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Batch {
    /// What there is, up to so many records.
    Records(u64),
    /// What came in this time.
    Window(Duration),
}

impl Batch {
    /// Records of one batch at most.
    pub(in super::super) const fn records_max(self) -> u64 {
        match self {
            Self::Records(records) => records,
            Self::Window(_) => BATCH_RECORDS_MAX,
        }
    }
}

/// The protocol that `format` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Transport {
    /// Server-sent events.
    Sse,
    /// Lines of JSON.
    Lines,
}

/// The parameters of this file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in super::super) struct Shape {
    pub(in super::super) format: Format,
    pub(in super::super) ids: Ids,
    pub(in super::super) batch: Option<Batch>,
    pub(in super::super) transport: Option<Transport>,
    pub(in super::super) conditions: Conditions,
    /// Pointers of `select`, as they came.
    pointers: Vec<String>,
}

impl Shape {
    /// Parameters that may be given more than once.
    pub(super) fn is_repeatable(name: &str) -> bool {
        name == "select" || Conditions::is_repeatable(name)
    }

    /// Takes one parameter.
    pub(super) fn set(&mut self, name: &str, value: &str) -> Setting {
        let format = &mut self.format;
        match name {
            "data" => match value {
                "envelope" => format.data = Data::Envelope,
                "value" => format.data = Data::Value,
                "cloudevent" => format.data = Data::CloudEvent,
                _ => return Setting::not("envelope, value or cloudevent"),
            },
            "decode" => match (value, Decode::parse(value)) {
                (_, Some(decode)) => format.decode = decode,
                ("avro" | "protobuf" | "jsonschema", None) => {
                    return Setting::not(format!(
                        "possible: it needs a schema registry, which this server does not offer; \
                         use {}",
                        Decode::NAMES
                    ));
                }
                _ => return Setting::not(Decode::NAMES),
            },
            "numbers" => match value {
                "number" => format.numbers = Numbers::Number,
                "string" => format.numbers = Numbers::Text,
                _ => return Setting::not("number or string"),
            },
            "event" => match value.strip_prefix("header:") {
                Some(header) if !header.is_empty() => {
                    format.event = EventName::Header(header.into());
                }
                _ => match value {
                    "message" => format.event = EventName::Message,
                    "topic" => format.event = EventName::Topic,
                    "type" => format.event = EventName::CloudEventType,
                    _ => return Setting::not("message, topic, header:NAME or type"),
                },
            },
            "select" => return self.select(value),
            "batch" => match parse_batch(value) {
                Some(batch) => self.batch = batch,
                None => {
                    return Setting::not(
                        "a number of records from 1 to 1000 or a window like 200ms",
                    );
                }
            },
            "format" => match value {
                "sse" => self.transport = Some(Transport::Sse),
                "ndjson" => self.transport = Some(Transport::Lines),
                _ => return Setting::not("sse or ndjson"),
            },
            "ids" => match value {
                "auto" => self.ids = Ids::Auto,
                "each" => self.ids = Ids::Each,
                "flush" => self.ids = Ids::Flush,
                _ => return Setting::not("auto, each or flush"),
            },
            _ => return self.conditions.set(name, value),
        }
        Setting::Done
    }

    fn select(&mut self, value: &str) -> Setting {
        let rule = "a list of JSON Pointers like /id,/user/name";
        if value.starts_with('[') {
            let Ok(list) = serde_json::from_str::<Vec<String>>(value) else {
                return Setting::not(rule);
            };
            self.pointers.extend(list);
        } else {
            self.pointers.extend(value.split(',').map(str::to_owned));
        }
        match Selection::parse(&self.pointers) {
            Ok(selection) => self.format.select = Some(Arc::new(selection)),
            Err(reason) => return Setting::not(format!("{rule}: {reason}")),
        }
        Setting::Done
    }
}

/// Reads `batch`; one record is no batch.
fn parse_batch(value: &str) -> Option<Option<Batch>> {
    if let Some(window) = value.strip_suffix("ms") {
        let ms = window.parse().ok().filter(|ms| BATCH_WINDOW_MS.contains(ms))?;
        return Some(Some(Batch::Window(Duration::from_millis(ms))));
    }
    let records = value.parse().ok().filter(|n| (1..=BATCH_RECORDS_MAX).contains(n))?;
    Some((records > 1).then_some(Batch::Records(records)))
}
