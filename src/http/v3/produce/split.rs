//! Cuts concatenated JSON objects out of an upload, wherever its frames end.
//!
//! Only brackets, strings and escapes are looked at; what lies between the brackets of an object
//! is judged by whoever parses it. An object that lies in one frame is passed on without a copy.

use bytes::{Buf, Bytes, BytesMut};

/// Why the rest of an upload cannot be cut.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum SplitError {
    /// Something other than an object begins.
    #[error("expected a JSON object that begins with '{{', found '{}'", .0.escape_ascii())]
    NotAnObject(u8),
    /// The object does not end within the limit.
    #[error("record is larger than {0} bytes")]
    TooLarge(usize),
    /// The upload ended within an object.
    #[error("invalid JSON: the body ends within a record")]
    Unfinished,
}

/// Where the scan of an upload is.
#[derive(Debug)]
pub(super) struct Splitter {
    /// The beginning of an object, from frames before this one.
    carry: BytesMut,
    depth: usize,
    is_in_string: bool,
    is_escaped: bool,
    object_bytes_max: usize,
}

impl Splitter {
    /// Begins before the first object; none may be larger than `object_bytes_max`.
    pub(super) fn new(object_bytes_max: usize) -> Self {
        Self {
            carry: BytesMut::new(),
            depth: 0,
            is_in_string: false,
            is_escaped: false,
            object_bytes_max,
        }
    }

    /// Bytes kept of an object that has not ended yet.
    pub(super) fn carried_bytes(&self) -> usize {
        self.carry.len()
    }

    /// Takes the next object out of `input`; none when all of `input` was taken before it ended.
    ///
    /// # Errors
    /// [`SplitError`]; the rest of the upload has no meaning then.
    pub(super) fn next(&mut self, input: &mut Bytes) -> Result<Option<Bytes>, SplitError> {
        if self.depth == 0 {
            let blanks = input.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            input.advance(blanks);
            match input.first() {
                None => return Ok(None),
                Some(b'{') => {}
                Some(other) => return Err(SplitError::NotAnObject(*other)),
            }
        }
        let end = self.scan(input);
        let taken = end.unwrap_or(input.len());
        if self.carry.len() + taken > self.object_bytes_max {
            return Err(SplitError::TooLarge(self.object_bytes_max));
        }
        let part = input.split_to(taken);
        if end.is_some() && self.carry.is_empty() {
            return Ok(Some(part));
        }
        self.carry.extend_from_slice(&part);
        Ok(end.is_some().then(|| std::mem::take(&mut self.carry).freeze()))
    }

    /// Says whether the upload may end here.
    ///
    /// # Errors
    /// [`SplitError::Unfinished`] within an object.
    pub(super) const fn finish(&self) -> Result<(), SplitError> {
        if self.depth == 0 { Ok(()) } else { Err(SplitError::Unfinished) }
    }

    /// Goes on over `text`; the index just past the object's end, if it is in there.
    fn scan(&mut self, text: &[u8]) -> Option<usize> {
        let mut at = 0;
        if self.is_escaped && !text.is_empty() {
            self.is_escaped = false;
            at = 1;
        }
        while at < text.len() {
            if self.is_in_string {
                let tail = text.get(at..).unwrap_or_default();
                let found = memchr::memchr2(b'"', b'\\', tail)?;
                at += found + 1;
                if tail.get(found) == Some(&b'"') {
                    self.is_in_string = false;
                } else if at < text.len() {
                    at += 1;
                } else {
                    self.is_escaped = true;
                }
                continue;
            }
            let byte = text.get(at).copied().unwrap_or_default();
            at += 1;
            match byte {
                b'"' => self.is_in_string = true,
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        return Some(at);
                    }
                }
                _ => {}
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMIT: usize = 1 << 20;

    fn split(frames: &[&[u8]]) -> (Vec<String>, Result<(), SplitError>) {
        let mut splitter = Splitter::new(LIMIT);
        let mut objects = Vec::new();
        for frame in frames {
            let mut input = Bytes::copy_from_slice(frame);
            loop {
                match splitter.next(&mut input) {
                    Ok(Some(object)) => objects.push(String::from_utf8(object.to_vec()).unwrap()),
                    Ok(None) => break,
                    Err(error) => return (objects, Err(error)),
                }
            }
            assert!(input.is_empty());
        }
        (objects, splitter.finish())
    }

    const OBJECTS: [&str; 5] = [
        r#"{}"#,
        r#"{"value":{"type":"JSON","data":{"a":[1,{"b":"}]{["}]}}}"#,
        r#"{"k":"quote \" and \\","é€😀":"\\\\"}"#,
        r#"{ "x" : [ ] , "y" : "\u007d" }"#,
        r#"{"n":12345678901234567890.10}"#,
    ];

    #[test]
    fn objects_are_found_whatever_the_frames_are() {
        let whole = format!(
            " \r\n{}\n{}{}\t{} {}\n ",
            OBJECTS[0], OBJECTS[1], OBJECTS[2], OBJECTS[3], OBJECTS[4]
        );
        for at in 0..=whole.len() {
            let (before, after) = whole.as_bytes().split_at(at);
            assert_eq!(
                split(&[before, after]),
                (OBJECTS.map(str::to_owned).to_vec(), Ok(())),
                "{at}"
            );
        }
        let single: Vec<&[u8]> = whole.as_bytes().chunks(1).collect();
        assert_eq!(split(&single).0, OBJECTS);
    }

    #[test]
    fn what_is_no_object_ends_the_cutting() {
        assert_eq!(
            split(&[b"{} [1]"]),
            (vec!["{}".to_owned()], Err(SplitError::NotAnObject(b'[')))
        );
        assert_eq!(split(&[b"{},{}"]).1, Err(SplitError::NotAnObject(b',')));
        assert_eq!(split(&[b"{} {\"a\":"]).1, Err(SplitError::Unfinished));
        assert_eq!(split(&[b"  \n"]), (vec![], Ok(())));
    }

    #[test]
    fn an_object_over_the_limit_is_refused_as_soon_as_it_is_seen() {
        let mut splitter = Splitter::new(8);
        let mut fits = Bytes::from_static(b"{\"a\":12}");
        assert_eq!(splitter.next(&mut fits).unwrap().unwrap().len(), 8);
        let mut part = Bytes::from_static(b"{\"a\":1");
        assert_eq!(splitter.next(&mut part), Ok(None));
        assert_eq!(splitter.carried_bytes(), 6);
        let mut rest = Bytes::from_static(b"234");
        assert_eq!(splitter.next(&mut rest), Err(SplitError::TooLarge(8)));
    }

    fn json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<i64>().prop_map(Into::into),
            "[ -~é\\\\\"{}\\[\\]\n]{0,12}".prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
                prop::collection::btree_map("[a-z\"{}]{0,4}", inner, 0..4)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_objects_in_any_frames_come_out_as_they_went_in(
            values in prop::collection::vec(prop::collection::btree_map("[a-z]{1,3}", json(), 0..4), 1..6),
            frame_bytes in 1..40_usize,
        ) {
            let texts: Vec<String> =
                values.iter().map(|value| serde_json::to_string_pretty(value).unwrap()).collect();
            let whole = texts.join(" \n");
            let frames: Vec<&[u8]> = whole.as_bytes().chunks(frame_bytes).collect();
            prop_assert_eq!(split(&frames), (texts, Ok(())));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), frame_bytes in 1..40_usize) {
            let mut splitter = Splitter::new(64);
            for frame in bytes.chunks(frame_bytes) {
                let mut input = Bytes::copy_from_slice(frame);
                while let Ok(Some(object)) = splitter.next(&mut input) {
                    prop_assert_eq!(object.first().copied(), Some(123));
                }
            }
        }
    }
}
