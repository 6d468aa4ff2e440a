//! Which records a stream wants, beyond its topics and partitions.
//!
//! Simple conditions look at raw bytes and come first; the expression sees what they left. Streams
//! that ask for the same share one [`Filter`], and with it what it made of each chunk.

mod cel;

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

pub(super) use self::cel::Document;
use self::cel::{Input, Program};
use super::params::Setting;
use crate::base::ids::PartitionId;
use crate::protocol::record_batch::Record;

/// Conditions on keys and headers that one stream may have.
const CONDITIONS_MAX: usize = 64;

/// Bytes of all conditions of a stream together.
const CONDITION_BYTES_MAX: usize = 4096;

/// What a client asks for: values of one name are alternatives, names are all required.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct Conditions {
    keys: Vec<String>,
    key_prefixes: Vec<String>,
    headers: Vec<Header>,
    expression: Option<String>,
}

/// What is asked of one header.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Header {
    name: String,
    rule: Rule,
    values: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Rule {
    /// One of the headers of this name has one of the values.
    Is,
    /// None of the headers of this name has any of the values.
    IsNot,
}

impl Conditions {
    /// Tells whether a parameter may be given more than once.
    pub(super) fn is_repeatable(name: &str) -> bool {
        matches!(name, "key" | "key_prefix") || name.starts_with("header.")
    }

    /// Tells whether every record is wanted.
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Takes one parameter.
    pub(super) fn set(&mut self, name: &str, value: &str) -> Setting {
        match name {
            "key" => self.keys.push(value.to_owned()),
            "key_prefix" => self.key_prefixes.push(value.to_owned()),
            "filter" => {
                // What is wrong with it is found before anything is opened.
                if let Err(error) = cel::compile(value) {
                    return Setting::not(format!("a CEL expression: {error}"));
                }
                self.expression = Some(value.to_owned());
            }
            _ => {
                let Some(header) = name.strip_prefix("header.") else { return Setting::Unknown };
                let (header, rule) = match header.strip_suffix('!') {
                    Some(header) => (header, Rule::IsNot),
                    None => (header, Rule::Is),
                };
                if header.is_empty() {
                    return Setting::not("a condition on a header: its name is missing");
                }
                let known = self.headers.iter_mut().find(|h| h.name == header && h.rule == rule);
                match known {
                    Some(known) => known.values.push(value.to_owned()),
                    None => self.headers.push(Header {
                        name: header.to_owned(),
                        rule,
                        values: vec![value.to_owned()],
                    }),
                }
            }
        }
        let texts = || {
            let of_headers = self.headers.iter().flat_map(|h| &h.values);
            self.keys.iter().chain(&self.key_prefixes).chain(of_headers)
        };
        let names: usize = self.headers.iter().map(|header| header.name.len()).sum();
        let bytes: usize = texts().map(String::len).sum();
        if texts().count() > CONDITIONS_MAX || bytes + names > CONDITION_BYTES_MAX {
            return Setting::not(format!(
                "possible: a stream has at most {CONDITIONS_MAX} conditions of \
                 {CONDITION_BYTES_MAX} bytes together"
            ));
        }
        Setting::Done
    }

    /// Conditions that need no decoding.
    fn accept(&self, record: &Record<'_>) -> bool {
        let is_key = |key: &String| record.key == Some(key.as_bytes());
        if !self.keys.is_empty() && !self.keys.iter().any(is_key) {
            return false;
        }
        let begins =
            |prefix: &String| record.key.is_some_and(|key| key.starts_with(prefix.as_bytes()));
        if !self.key_prefixes.is_empty() && !self.key_prefixes.iter().any(begins) {
            return false;
        }
        self.headers.iter().all(|wanted| {
            let has = record.headers().any(|(name, value)| {
                let is = |text: &String| value == Some(text.as_bytes());
                name == wanted.name.as_bytes() && wanted.values.iter().any(is)
            });
            has == (wanted.rule == Rule::Is)
        })
    }
}

/// What a filter says of one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Wanted,
    Unwanted,
    /// The expression has no answer for it.
    Failed,
}

/// Conditions that are ready to be applied.
#[derive(Debug)]
pub(super) struct Filter {
    conditions: Conditions,
    program: Option<Program>,
}

impl Filter {
    /// Judges a record; `document` is its value, read when it is needed.
    pub(super) fn judge<'a>(
        &self,
        topic: &'a str,
        partition: PartitionId,
        record: &Record<'a>,
        document: impl FnOnce() -> &'a Document,
    ) -> Verdict {
        if !self.conditions.accept(record) {
            return Verdict::Unwanted;
        }
        let Some(program) = &self.program else { return Verdict::Wanted };
        let document = if program.reads_value { document() } else { &Document::Plain };
        match program.accepts(Input { topic, partition, record: *record, document }) {
            Ok(true) => Verdict::Wanted,
            Ok(false) => Verdict::Unwanted,
            Err(_reason) => Verdict::Failed,
        }
    }
}

/// All filters in use.
#[derive(Debug, Default)]
pub(super) struct Filters(Mutex<HashMap<Conditions, Weak<Filter>>>);

impl Filters {
    /// Finds or makes a filter; none if everything is wanted.
    pub(super) fn filter(&self, conditions: &Conditions) -> Option<Arc<Filter>> {
        if conditions.is_empty() {
            return None;
        }
        let mut filters = self.0.lock();
        if let Some(filter) = filters.get(conditions).and_then(Weak::upgrade) {
            return Some(filter);
        }
        // Those that no stream has any more go when the room they take has doubled.
        if filters.len() == filters.capacity() {
            filters.retain(|_, filter| filter.strong_count() > 0);
        }
        let compiled = conditions.expression.as_deref().map(cel::compile);
        let program = compiled.and_then(Result::ok);
        let filter = Arc::new(Filter { conditions: conditions.clone(), program });
        filters.insert(conditions.clone(), Arc::downgrade(&filter));
        Some(filter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::record_batch::{BatchBuilder, BatchHeader, BatchRecords};

    fn conditions(pairs: &[(&str, &str)]) -> Conditions {
        let mut conditions = Conditions::default();
        for (name, value) in pairs {
            let setting = conditions.set(name, value);
            assert!(matches!(setting, Setting::Done), "{name}={value}");
        }
        conditions
    }

    fn verdict(pairs: &[(&str, &str)]) -> Verdict {
        let mut builder = BatchBuilder::new().at_offset(7);
        let headers: [(&[u8], Option<&[u8]>); 3] =
            [(b"type", Some(b"a")), (b"type", Some(b"b")), (b"none", None)];
        builder.push(5, Some(b"user-7"), Some(b"{\"id\":1}"), headers.into_iter());
        let batch = builder.finish();
        let header = BatchHeader::parse(&batch).unwrap();
        let records = BatchRecords::open(header, &batch).unwrap();
        let record = records.iter().next().unwrap().unwrap();
        let filter = Filters::default().filter(&conditions(pairs)).unwrap();
        let document = Document::read(record.value);
        filter.judge("t", 0, &record, || &document)
    }

    #[test]
    fn values_are_alternatives_and_names_are_all_required() {
        for (pairs, wanted) in [
            (&[("key", "x"), ("key", "user-7")][..], Verdict::Wanted),
            (&[("key", "user-")], Verdict::Unwanted),
            (&[("key_prefix", "x"), ("key_prefix", "user-")], Verdict::Wanted),
            (&[("key_prefix", "user-"), ("key", "x")], Verdict::Unwanted),
            (&[("header.type", "b")], Verdict::Wanted),
            (&[("header.type", "c")], Verdict::Unwanted),
            (&[("header.type!", "b"), ("header.type!", "c")], Verdict::Unwanted),
            (&[("header.type!", "c"), ("header.other!", "b")], Verdict::Wanted),
            (&[("header.none", "")], Verdict::Unwanted),
            (&[("filter", "value.id == 1"), ("key", "user-7")], Verdict::Wanted),
            (&[("filter", "value.id == 2")], Verdict::Unwanted),
            (&[("filter", "value.nope == 2")], Verdict::Failed),
            (&[("filter", "value.nope == 2"), ("key", "x")], Verdict::Unwanted),
        ] {
            assert_eq!(verdict(pairs), wanted, "{pairs:?}");
        }
    }

    #[test]
    fn the_same_conditions_are_one_filter() {
        let filters = Filters::default();
        let first = filters.filter(&conditions(&[("key", "a")])).unwrap();
        assert!(Arc::ptr_eq(&first, &filters.filter(&conditions(&[("key", "a")])).unwrap()));
        assert!(!Arc::ptr_eq(&first, &filters.filter(&conditions(&[("key", "b")])).unwrap()));
        assert!(filters.filter(&Conditions::default()).is_none());
        for n in 0..1000 {
            filters.filter(&conditions(&[("key", &n.to_string())])).unwrap();
        }
        assert!(filters.0.lock().len() < 100, "filters without streams are forgotten");
    }

    #[test]
    fn conditions_are_bounded() {
        let mut many = Conditions::default();
        for n in 0..CONDITIONS_MAX {
            assert!(matches!(many.set("key", &n.to_string()), Setting::Done));
        }
        assert!(matches!(many.set("header.x", "y"), Setting::Refused(_)));
        let long = "x".repeat(CONDITION_BYTES_MAX + 1);
        assert!(matches!(Conditions::default().set("key", &long), Setting::Refused(_)));
        assert!(matches!(Conditions::default().set("header.!", "x"), Setting::Refused(_)));
    }
}
