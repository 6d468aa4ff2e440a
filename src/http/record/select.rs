//! `select=`: the parts of a JSON document that JSON Pointers (RFC 6901) name, where they lie.
//!
//! What is kept keeps its shape and its digits: members stay in their objects, elements in their
//! lists, in the order of the document. What is not there is left out.

use std::fmt;

use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::base::json;

/// Pointers of one stream at most.
const POINTERS_MAX: usize = 64;

/// Bytes of all pointers of a stream.
const POINTER_BYTES_MAX: usize = 4096;

/// Names of one pointer at most.
const DEPTH_MAX: usize = 32;

/// Parts of documents.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(in crate::http) struct Selection(Vec<Branch>);

/// One name or index, and what is wanted below it; nothing below means all of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Branch {
    name: String,
    below: Vec<Branch>,
}

impl Selection {
    /// Reads pointers.
    ///
    /// # Errors
    /// Says which of them is none, or what there is too much of.
    pub(in crate::http) fn parse(pointers: &[String]) -> Result<Self, String> {
        let bytes: usize = pointers.iter().map(String::len).sum();
        if pointers.len() > POINTERS_MAX || bytes > POINTER_BYTES_MAX {
            return Err(format!(
                "at most {POINTERS_MAX} pointers of {POINTER_BYTES_MAX} bytes together"
            ));
        }
        let mut branches = Vec::new();
        for pointer in pointers {
            let Some(names) = pointer.strip_prefix('/') else {
                return Err(format!("'{pointer}' does not begin with '/'"));
            };
            let names: Vec<_> = names.split('/').collect();
            if names.len() > DEPTH_MAX {
                return Err(format!("'{pointer}' is more than {DEPTH_MAX} deep"));
            }
            add(&mut branches, &names);
        }
        Ok(Self(branches))
    }

    /// Appends what is selected of a valid document; all of one that has no parts.
    pub(in crate::http) fn pick_into(&self, document: &[u8], out: &mut Vec<u8>) {
        let from = out.len();
        let mut reader = serde_json::Deserializer::from_slice(document);
        let picked = Pick { branches: &self.0, out }.deserialize(&mut reader);
        if !matches!(picked, Ok(true)) {
            out.truncate(from);
            json::minify_into(document, out);
        }
    }
}

fn add(branches: &mut Vec<Branch>, names: &[&str]) {
    let Some((name, below)) = names.split_first() else { return };
    let name = name.replace("~1", "/").replace("~0", "~");
    match branches.iter_mut().find(|branch| branch.name == name) {
        // All of it is wanted already.
        Some(known) if known.below.is_empty() => {}
        Some(known) if below.is_empty() => known.below.clear(),
        Some(known) => add(&mut known.below, below),
        None => {
            let mut branch = Branch { name, below: Vec::new() };
            add(&mut branch.below, below);
            branches.push(branch);
        }
    }
}

/// Writes the selected parts of one value; tells whether it is one that has parts.
struct Pick<'a> {
    branches: &'a [Branch],
    out: &'a mut Vec<u8>,
}

impl Pick<'_> {
    /// Writes one part, and takes it away again if nothing below it is there.
    fn part<E>(
        &mut self,
        branch: &Branch,
        value: &RawValue,
        before: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), E> {
        let from = self.out.len();
        before(self.out);
        if branch.below.is_empty() {
            json::minify_into(value.get().as_bytes(), self.out);
            return Ok(());
        }
        let mut reader = serde_json::Deserializer::from_str(value.get());
        let below = Pick { branches: &branch.below, out: self.out };
        if !matches!(below.deserialize(&mut reader), Ok(true)) {
            self.out.truncate(from);
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Pick<'_> {
    type Value = bool;

    fn deserialize<D: serde::Deserializer<'de>>(self, reader: D) -> Result<bool, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Pick<'_> {
    type Value = bool;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a JSON document")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<bool, A::Error> {
        self.out.push(b'{');
        let begin = self.out.len();
        while let Some(name) = map.next_key::<std::borrow::Cow<'_, str>>()? {
            let Some(branch) = self.branches.iter().find(|branch| branch.name == name) else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let value: &RawValue = map.next_value()?;
            let is_first = self.out.len() == begin;
            self.part(branch, value, |out| {
                if !is_first {
                    out.push(b',');
                }
                json::string_into(&name, out);
                out.push(b':');
            })?;
        }
        self.out.push(b'}');
        Ok(true)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<bool, A::Error> {
        self.out.push(b'[');
        let begin = self.out.len();
        let mut at = 0_usize;
        while let Some(value) = list.next_element::<&RawValue>()? {
            let wanted = self.branches.iter().find(|branch| is_index(&branch.name, at));
            if let Some(branch) = wanted {
                let is_first = self.out.len() == begin;
                self.part(branch, value, |out| {
                    if !is_first {
                        out.push(b',');
                    }
                })?;
            }
            at += 1;
        }
        self.out.push(b']');
        Ok(true)
    }

    fn visit_bool<E>(self, _: bool) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_i64<E>(self, _: i64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_u64<E>(self, _: u64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_f64<E>(self, _: f64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_str<E>(self, _: &str) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_unit<E>(self) -> Result<bool, E> {
        Ok(false)
    }
}

fn is_index(name: &str, at: usize) -> bool {
    let is_plain = name == "0" || !name.starts_with('0');
    is_plain && name.bytes().all(|b| b.is_ascii_digit()) && name.parse() == Ok(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pick(pointers: &[&str], document: &str) -> String {
        let pointers: Vec<_> = pointers.iter().map(|p| (*p).to_owned()).collect();
        let selection = Selection::parse(&pointers).unwrap();
        let mut out = b"kept".to_vec();
        selection.pick_into(document.as_bytes(), &mut out);
        String::from_utf8(out).unwrap().strip_prefix("kept").unwrap().to_owned()
    }

    #[test]
    fn parts_keep_their_place_and_their_digits() {
        let document = r#"{ "id": 1.10, "user": {"name": "A \u00e9", "age": 36, "a/b": 1},
            "items": [{"sku": "x", "n": 1}, {"sku": "y"}], "~t": [1, 2], "id2": 7 }"#;
        for (pointers, expected) in [
            (&["/id"][..], r#"{"id":1.10}"#),
            (&["/user/name", "/id"], r#"{"id":1.10,"user":{"name":"A \u00e9"}}"#),
            (&["/user/age", "/user"], r#"{"user":{"name":"A \u00e9","age":36,"a/b":1}}"#),
            (&["/user", "/user/age"], r#"{"user":{"name":"A \u00e9","age":36,"a/b":1}}"#),
            (&["/user/a~1b", "/~0t/1"], r#"{"user":{"a/b":1},"~t":[2]}"#),
            (&["/items/1/sku", "/items/0/n"], r#"{"items":[{"n":1},{"sku":"y"}]}"#),
            (&["/items/7", "/nope"], r#"{"items":[]}"#),
            (&["/id/deeper", "/items/01"], r#"{"items":[]}"#),
        ] {
            assert_eq!(pick(pointers, document), expected, "{pointers:?}");
        }
        assert_eq!(pick(&["/0"], " [1, 2]"), "[1]");
        assert_eq!(pick(&["/0"], " \"text\" "), "\"text\"");
        assert_eq!(pick(&["/0"], "null"), "null");
    }

    #[test]
    fn what_is_no_pointer_is_refused() {
        let parse = |pointers: &[String]| Selection::parse(pointers);
        assert!(parse(&["id".to_owned()]).unwrap_err().contains("'id'"));
        assert!(parse(&["/a".repeat(DEPTH_MAX + 1)]).is_err());
        assert!(parse(&vec!["/a".to_owned(); POINTERS_MAX + 1]).is_err());
        assert!(parse(&["/".to_owned() + &"a".repeat(POINTER_BYTES_MAX)]).is_err());
    }

    fn document() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<i64>().prop_map(Into::into),
            "[a-c\"\\\\ ]{0,5}".prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
                prop::collection::hash_map("[a-c]{1,2}", inner, 0..4)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_pointer_finds_the_same_in_the_document_and_in_its_parts(
            document in document(), pointer in "(/[a-c]{1,2}){1,3}",
        ) {
            let picked: serde_json::Value =
                serde_json::from_str(&pick(&[&pointer], &document.to_string())).unwrap();
            prop_assert_eq!(picked.pointer(&pointer), document.pointer(&pointer));
        }
    }
}
