//! Query strings: percent-decoding, one parameter at a time.

use std::borrow::Cow;

use super::error::{ApiError, ApiResult};

/// A decoded name and its value; borrowed where nothing had to be decoded, which is nearly always.
pub type Pair<'a> = (Cow<'a, str>, Cow<'a, str>);

/// Iterates over the decoded parameters in order.
pub fn pairs(query: &str) -> impl Iterator<Item = ApiResult<(String, String)>> + '_ {
    borrowed(query).map(|pair| pair.map(|(name, value)| (name.into_owned(), value.into_owned())))
}

/// Iterates over the decoded parameters in order, for who does not keep them.
pub fn borrowed(query: &str) -> impl Iterator<Item = ApiResult<Pair<'_>>> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        Ok((decode(name)?, decode(value)?))
    })
}

/// Finds the first parameter of a name.
///
/// # Errors
/// 400 for text that is not percent-encoded UTF-8.
pub fn find(query: Option<&str>, name: &str) -> ApiResult<Option<String>> {
    for pair in borrowed(query.unwrap_or_default()) {
        let (key, value) = pair?;
        if key == name {
            return Ok(Some(value.into_owned()));
        }
    }
    Ok(None)
}

/// Parses the number of a parameter.
///
/// # Errors
/// 400 names parameter and value.
pub fn number<T: std::str::FromStr>(query: Option<&str>, name: &str) -> ApiResult<Option<T>> {
    let Some(text) = find(query, name)? else { return Ok(None) };
    let parsed = text.parse();
    parsed.map(Some).map_err(|_| ApiError::bad_request(format!("{name} '{text}' is not a number")))
}

fn decode(text: &str) -> ApiResult<Cow<'_, str>> {
    if memchr::memchr2(b'%', b'+', text.as_bytes()).is_none() {
        return Ok(Cow::Borrowed(text));
    }
    let bad = || ApiError::bad_request(format!("'{text}' is not percent-encoded UTF-8"));
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'+' => out.push(b' '),
            b'%' => {
                let digit = |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16));
                let (high, low) = (digit(bytes.next()), digit(bytes.next()));
                let (Some(high), Some(low)) = (high, low) else { return Err(bad()) };
                out.push(u8::try_from(high * 16 + low).unwrap_or(0));
            }
            other => out.push(other),
        }
    }
    String::from_utf8(out).map(Cow::Owned).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_in_order() {
        let all: ApiResult<Vec<_>> = pairs("a=1&b=x%20y+z&&c&a=%C3%A9").collect();
        assert_eq!(
            all.unwrap(),
            [("a", "1"), ("b", "x y z"), ("c", ""), ("a", "é")]
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
        );
        assert_eq!(find(Some("a=%zz"), "a").unwrap_err().code, 400);
        assert_eq!(number::<u64>(Some("n=12"), "n").unwrap(), Some(12));
        assert_eq!(number::<u64>(Some("n=-1"), "n").unwrap_err().code, 400);
        assert_eq!(number::<u64>(None, "n").unwrap(), None);
    }
}
