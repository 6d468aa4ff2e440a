//! Cursors that the server keeps: `2.HANDLE.SEQ` stands for one that is too long to send.
//!
//! The engine keeps a document for a while, which is what a cursor of its own would have said.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::cursor::{self, Cursor, CursorError};
use crate::base::json;
use crate::engine::Cursors;
use crate::engine::cursors::SnapshotKey;

const PREFIX: &str = "2.";

/// What a client sent as a cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::http) enum Written {
    /// It says everything itself.
    Whole(Cursor),
    /// The server knows what it says.
    Stored(SnapshotKey),
}

/// Reads a cursor of either form.
///
/// # Errors
/// [`CursorError`] for every text that this server did not write.
pub(in crate::http) fn read(text: &str) -> Result<Written, CursorError> {
    let Some(rest) = text.strip_prefix(PREFIX) else {
        return cursor::read(text).map(Written::Whole);
    };
    let (handle, seq) = rest.split_once('.').ok_or(CursorError::Damaged)?;
    let handle = URL_SAFE_NO_PAD.decode(handle).map_err(|_| CursorError::NotBase64)?;
    let handle = u128::from_be_bytes(handle.try_into().map_err(|_| CursorError::Damaged)?);
    let is_number = seq.bytes().all(|byte| byte.is_ascii_digit());
    let seq = seq.parse().ok().filter(|_| is_number).ok_or(CursorError::Damaged)?;
    Ok(Written::Stored(SnapshotKey { handle, seq }))
}

/// Finds what a stored cursor stands for; none if it is not kept any more.
pub(in crate::http) fn find(store: &dyn Cursors, key: SnapshotKey) -> Option<Cursor> {
    let document = store.find(key)?;
    let read = cursor::read_document(&document);
    read.inspect_err(|error| tracing::error!(%error, "stored cursor cannot be read")).ok()
}

/// Writes the text of a stored cursor.
pub(in crate::http) fn text(key: SnapshotKey) -> Vec<u8> {
    let mut out = PREFIX.as_bytes().to_vec();
    out.extend_from_slice(URL_SAFE_NO_PAD.encode(key.handle.to_be_bytes()).as_bytes());
    out.push(b'.');
    json::integer_into(key.seq, &mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn texts_round_trip(handle in any::<u128>(), seq in any::<u64>()) {
            let key = SnapshotKey { handle, seq };
            let text = String::from_utf8(text(key)).unwrap();
            prop_assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)));
            prop_assert_eq!(read(&text), Ok(Written::Stored(key)));
        }

        #[test]
        fn arbitrary_text_never_panics(text in ".{0,60}") {
            let _ = read(&text);
            let _ = read(&format!("2.{text}"));
        }
    }

    #[test]
    fn what_is_not_a_cursor_is_named() {
        let text = String::from_utf8(text(SnapshotKey { handle: 5, seq: 7 })).unwrap();
        for (text, error) in [
            ("3.x".to_owned(), CursorError::UnknownForm),
            ("2.".to_owned(), CursorError::Damaged),
            ("2.+.1".to_owned(), CursorError::NotBase64),
            ("2.AAAA.1".to_owned(), CursorError::Damaged),
            (text.replace(".7", ".+7"), CursorError::Damaged),
            (text.replace(".7", "."), CursorError::Damaged),
            (text.replace(".7", ".99999999999999999999"), CursorError::Damaged),
        ] {
            assert_eq!(read(&text), Err(error), "{text}");
        }
    }
}
