//! The headers of one record, in one buffer that is used again from record to record.

use std::ops::Range;

/// Room for the two lengths of a header in a batch, in bytes.
const HEADER_OVERHEAD_BYTES: usize = 20;

/// Headers in their order, duplicates included.
#[derive(Debug, Default)]
pub struct RecordHeaders {
    bytes: Vec<u8>,
    parts: Vec<(Range<usize>, Option<Range<usize>>)>,
}

impl RecordHeaders {
    /// Forgets all headers and keeps the room.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.parts.clear();
    }

    /// Appends a header.
    pub fn push(&mut self, name: &[u8], value: Option<&[u8]>) {
        let name = self.keep(name);
        let value = value.map(|value| self.keep(value));
        self.parts.push((name, value));
    }

    /// Appends a header whose value `write` appends to the buffer it is given.
    ///
    /// # Errors
    /// Those of `write`; then there is no new header.
    pub fn push_with<E>(
        &mut self,
        name: &[u8],
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let name = self.keep(name);
        let start = self.bytes.len();
        write(&mut self.bytes)?;
        self.parts.push((name, Some(start..self.bytes.len())));
        Ok(())
    }

    fn keep(&mut self, bytes: &[u8]) -> Range<usize> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        start..self.bytes.len()
    }

    /// Walks the headers in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> + Clone {
        let at = |range: &Range<usize>| self.bytes.get(range.clone()).unwrap_or_default();
        self.parts.iter().map(move |(name, value)| (at(name), value.as_ref().map(at)))
    }

    /// Number of headers.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.parts.len()
    }

    /// Tells whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Bytes of room, used or not.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Upper bound of what the headers take in a batch, in bytes.
    #[must_use]
    pub const fn batch_bytes(&self) -> usize {
        self.bytes.len() + self.parts.len() * HEADER_OVERHEAD_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_keep_order_and_duplicates() {
        let mut headers = RecordHeaders::default();
        headers.push(b"old", Some(b"gone"));
        headers.clear();
        assert!(headers.is_empty());
        headers.push(b"a", Some(b"1"));
        headers.push(b"b", None);
        let refused = headers.push_with(b"c", |out| {
            out.push(b'x');
            Err("no")
        });
        assert_eq!(refused, Err("no"));
        let written = headers.push_with(b"a", |out| {
            out.extend_from_slice(b"22");
            Ok::<_, ()>(())
        });
        written.unwrap();
        headers.push(b"", Some(b""));
        let all: Vec<_> = headers.iter().collect();
        let expected: [(&[u8], Option<&[u8]>); 4] =
            [(b"a", Some(b"1")), (b"b", None), (b"a", Some(b"22")), (b"", Some(b""))];
        assert_eq!(all, expected);
    }
}
