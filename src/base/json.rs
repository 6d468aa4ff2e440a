//! JSON text without a tree: minify a checked document, write a string.
//!
//! Values of records pass through as the text the producer wrote, so numbers keep every digit.

/// Appends `json`, which must already be valid, without the white space between its tokens.
pub fn minify_into(json: &[u8], out: &mut Vec<u8>) {
    let blank = |b: &u8| matches!(b, b' ' | b'\n' | b'\r' | b'\t');
    if !json.iter().any(blank) {
        out.extend_from_slice(json);
        return;
    }
    let mut rest = json;
    while let Some(quote) = memchr::memchr(b'"', rest) {
        let (before, string) = rest.split_at(quote);
        out.extend(before.iter().filter(|b| !blank(b)));
        let end = string_end(string);
        let (string, after) = string.split_at(end);
        out.extend_from_slice(string);
        rest = after;
    }
    out.extend(rest.iter().filter(|b| !blank(b)));
}

/// Returns the index just past the string literal that `text` begins with.
fn string_end(text: &[u8]) -> usize {
    let mut at = 1;
    while let Some(tail) = text.get(at..) {
        match memchr::memchr2(b'"', b'\\', tail) {
            Some(found) if tail.get(found) == Some(&b'"') => return at + found + 1,
            Some(found) => at += found + 2,
            None => break,
        }
    }
    text.len()
}

/// Appends `text` as a JSON string literal with its quotes.
pub fn string_into(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let mut clean_from = 0;
    let bytes = text.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        let short: &[u8] = match byte {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            b'\t' => b"\\t",
            0x00..=0x1f => b"",
            _ => continue,
        };
        out.extend_from_slice(bytes.get(clean_from..at).unwrap_or_default());
        if short.is_empty() {
            let hex = b"0123456789abcdef";
            let digit = |n: u8| hex.get(usize::from(n & 15)).copied().unwrap_or(b'0');
            out.extend_from_slice(b"\\u00");
            out.push(digit(byte >> 4));
            out.push(digit(*byte));
        } else {
            out.extend_from_slice(short);
        }
        clean_from = at + 1;
    }
    out.extend_from_slice(bytes.get(clean_from..).unwrap_or_default());
    out.push(b'"');
}

/// Appends an integer in decimal.
pub fn integer_into(value: impl itoa::Integer, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Tells whether `text` is one whole JSON document.
#[must_use]
pub fn is_valid(text: &[u8]) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minified(json: &str) -> String {
        let mut out = Vec::new();
        minify_into(json.as_bytes(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn minify_keeps_strings_and_digits() {
        assert_eq!(
            minified("{ \"a b\" : 1.00 ,\n\t\"c\\\" d\" : [ 1e5 ] }"),
            "{\"a b\":1.00,\"c\\\" d\":[1e5]}"
        );
        assert_eq!(minified("\"x\\\\\" "), "\"x\\\\\"");
        assert_eq!(minified("12345678901234567890.10"), "12345678901234567890.10");
    }

    #[test]
    fn strings_are_escaped_as_serde_json_does() {
        for text in ["", "plain", "q\"b\\n\nr\rt\t\u{1}\u{1f}é\u{2028}", "\u{0}"] {
            let mut out = Vec::new();
            string_into(text, &mut out);
            let back: String = serde_json::from_slice(&out).unwrap();
            assert_eq!(back, text);
        }
    }
}
