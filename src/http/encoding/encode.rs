//! Answers packed on their way out.

use std::io::Write;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{HeaderValue, StatusCode, header};
use http_body::{Body as _, Frame};
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

use super::Encoding;

/// Answers below this size are not worth it: they fit into a packet or two.
const BYTES_MIN: u64 = 1024;

/// Plain bytes packed at once, so that a large answer starts early and shares its thread.
const STEP_BYTES: usize = 128 * 1024;

/// Packs an answer of known size and suitable type.
///
/// An answer whose size is not known is live, or made while it is sent; it passes as it is.
#[must_use]
pub fn encode(wanted: Option<Encoding>, mut response: Response) -> Response {
    let Some(size) = response.body().size_hint().exact() else { return response };
    let has_no_content = matches!(
        response.status(),
        StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED | StatusCode::PARTIAL_CONTENT
    );
    let headers = response.headers_mut();
    let is_packed = headers.contains_key(header::CONTENT_ENCODING);
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
    if size < BYTES_MIN || has_no_content || is_packed || !content_type.is_some_and(is_suitable) {
        return response;
    }
    headers.append(header::VARY, HeaderValue::from_static("accept-encoding"));
    let Some(encoding) = wanted else { return response };
    headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding.as_str()));
    headers.remove(header::CONTENT_LENGTH);
    weaken_etag(headers);
    response.map(|plain| {
        let encoder = Encoder::new(encoding);
        Body::new(PackedBody { plain, rest: Bytes::new(), encoder: Some(encoder) })
    })
}

/// Text of our own; never streams of events or lines, nor bytes that clients stored.
fn is_suitable(content_type: &str) -> bool {
    let name = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_live = matches!(name.as_str(), "text/event-stream" | "application/x-ndjson");
    let is_text = name.starts_with("text/")
        || name.ends_with("json")
        || name.ends_with("javascript")
        || name.ends_with("+xml")
        || name == "application/openmetrics-text";
    is_text && !is_live
}

/// The packed bytes are another representation: the tag holds for the content only.
fn weaken_etag(headers: &mut http::HeaderMap) {
    let Some(tag) = headers.get(header::ETAG) else { return };
    if !tag.as_bytes().starts_with(b"W/") {
        let weak = [b"W/", tag.as_bytes()].concat();
        if let Ok(weak) = HeaderValue::from_bytes(&weak) {
            headers.insert(header::ETAG, weak);
        }
    }
}

enum Encoder {
    Gzip(GzEncoder<Vec<u8>>),
    /// Each piece is a frame of its own, which a decoder reads as one stream.
    Zstd,
}

impl Encoder {
    fn new(encoding: Encoding) -> Self {
        match encoding {
            Encoding::Gzip => Self::Gzip(GzEncoder::new(Vec::new(), Compression::fast())),
            Encoding::Zstd => Self::Zstd,
        }
    }

    fn pack(&mut self, plain: &[u8]) -> std::io::Result<Bytes> {
        match self {
            Self::Gzip(encoder) => {
                encoder.write_all(plain)?;
                Ok(std::mem::take(encoder.get_mut()).into())
            }
            Self::Zstd => Ok(compress_to_vec(plain, CompressionLevel::Fastest).into()),
        }
    }

    fn finish(self) -> std::io::Result<Bytes> {
        match self {
            Self::Gzip(encoder) => encoder.finish().map(Bytes::from),
            Self::Zstd => Ok(Bytes::new()),
        }
    }
}

struct PackedBody {
    plain: Body,
    /// Of the last frame, what is not packed yet.
    rest: Bytes,
    /// None after its end.
    encoder: Option<Encoder>,
}

impl http_body::Body for PackedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        loop {
            if self.encoder.is_none() {
                return Poll::Ready(None);
            }
            let packed = if self.rest.is_empty() {
                match ready!(Pin::new(&mut self.plain).poll_frame(context)) {
                    Some(Ok(frame)) => {
                        self.rest = frame.into_data().unwrap_or_default();
                        continue;
                    }
                    Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                    None => self.encoder.take().map_or(Ok(Bytes::new()), Encoder::finish),
                }
            } else {
                let now = self.rest.len().min(STEP_BYTES);
                let piece = self.rest.split_to(now);
                match &mut self.encoder {
                    Some(encoder) => encoder.pack(&piece),
                    None => Ok(Bytes::new()),
                }
            };
            match packed {
                Ok(packed) if packed.is_empty() => {}
                Ok(packed) => return Poll::Ready(Some(Ok(Frame::data(packed)))),
                Err(error) => return Poll::Ready(Some(Err(axum::Error::new(error)))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    fn answer(content_type: &'static str, body: Body) -> Response {
        let mut response = Response::new(body);
        let content_type = HeaderValue::from_static(content_type);
        response.headers_mut().insert(header::CONTENT_TYPE, content_type);
        response.headers_mut().insert(header::ETAG, HeaderValue::from_static("\"a\""));
        response
    }

    fn text() -> Vec<u8> {
        (0..50_000).flat_map(|n: u32| format!("{{\"n\":{n}}},").into_bytes()).collect()
    }

    #[tokio::test]
    async fn what_is_packed_can_be_unpacked() {
        for encoding in [Encoding::Gzip, Encoding::Zstd] {
            let response = encode(Some(encoding), answer("application/json", text().into()));
            assert_eq!(response.headers()[header::CONTENT_ENCODING], encoding.as_str());
            assert_eq!(response.headers()[header::VARY], "accept-encoding");
            assert_eq!(response.headers()[header::ETAG], "W/\"a\"");
            let packed = response.into_body().collect().await.unwrap().to_bytes();
            assert!(packed.len() < text().len() / 2, "{encoding:?}: {}", packed.len());
            let mut request = axum::extract::Request::new(Body::from(packed));
            let name = HeaderValue::from_static(encoding.as_str());
            request.headers_mut().insert(header::CONTENT_ENCODING, name);
            super::super::decode::decode(&mut request).unwrap();
            let plain = request.into_body().collect().await.unwrap().to_bytes();
            assert!(plain == text(), "{encoding:?}");
        }
    }

    #[tokio::test]
    async fn live_small_and_foreign_answers_pass_as_they_are() {
        let endless = || {
            let piece = Ok::<_, std::io::Error>(Bytes::from(text()));
            Body::from_stream(futures_util::stream::iter([piece]))
        };
        for (content_type, body) in [
            ("application/json", Body::from("[]")),
            ("text/event-stream; charset=utf-8", text().into()),
            ("application/x-ndjson", text().into()),
            ("application/octet-stream", text().into()),
            ("application/json", endless()),
        ] {
            let response = encode(Some(Encoding::Gzip), answer(content_type, body));
            assert!(!response.headers().contains_key(header::CONTENT_ENCODING), "{content_type}");
            assert_eq!(response.headers()[header::ETAG], "\"a\"");
        }
        let plain = encode(None, answer("application/json", text().into()));
        assert!(!plain.headers().contains_key(header::CONTENT_ENCODING));
        assert_eq!(plain.headers()[header::VARY], "accept-encoding");
    }
}
