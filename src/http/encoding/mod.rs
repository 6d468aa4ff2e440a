//! Content encodings: gzip and zstd, in requests and in answers, a piece at a time.
//!
//! [`decode`] gives handlers the body as if it had come plain, [`encode`] packs answers whose size
//! is known. Live and other endless answers pass as they are, so nothing is ever held back.

pub mod decode;
pub mod encode;
mod zstd;

use http::{HeaderMap, header};

/// An encoding that both directions know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

/// What `Accept-Encoding` says of what may be sent.
pub const NAMES: &str = "gzip, zstd";

impl Encoding {
    fn parse(name: &str) -> Option<Self> {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        if is("gzip") || is("x-gzip") {
            Some(Self::Gzip)
        } else if is("zstd") {
            Some(Self::Zstd)
        } else {
            None
        }
    }

    /// The name in headers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    /// The encoding that a client wants most, if it wants any (RFC 9110, section 12.5.3).
    ///
    /// Among equals it is gzip, whose encoder here is the better one. A wildcard alone asks for
    /// nothing.
    #[must_use]
    pub fn wanted(headers: &HeaderMap) -> Option<Self> {
        let mut best: Option<(f32, Self)> = None;
        for value in headers.get_all(header::ACCEPT_ENCODING) {
            for item in value.to_str().unwrap_or_default().split(',') {
                let mut parts = item.split(';');
                let encoding = Self::parse(parts.next().unwrap_or_default().trim());
                let quality = parts.find_map(|p| p.trim().strip_prefix("q="));
                let quality = quality.map_or(1.0, |q| q.trim().parse().unwrap_or(0.0));
                let is_better = best.is_none_or(|(known, held)| {
                    quality > known || (quality >= known && held == Self::Zstd)
                });
                if let Some(encoding) = encoding
                    && quality > 0.0
                    && is_better
                {
                    best = Some((quality, encoding));
                }
            }
        }
        best.map(|(_, encoding)| encoding)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_wanted_encoding_is_found() {
        let wanted = |text: &str| {
            let value = text.parse().unwrap();
            Encoding::wanted(&HeaderMap::from_iter([(header::ACCEPT_ENCODING, value)]))
        };
        assert_eq!(Encoding::wanted(&HeaderMap::new()), None);
        for (text, encoding) in [
            ("gzip", Some(Encoding::Gzip)),
            ("gzip, deflate, br, zstd", Some(Encoding::Gzip)),
            ("zstd, gzip", Some(Encoding::Gzip)),
            ("gzip;q=0.5, ZSTD", Some(Encoding::Zstd)),
            ("gzip;q=0", None),
            ("br, identity, *", None),
        ] {
            assert_eq!(wanted(text), encoding, "{text}");
        }
    }
}
