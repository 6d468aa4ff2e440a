//! Request bodies that come packed.

use std::io::{self, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use axum::extract::Request;
use bytes::{Buf, Bytes};
use flate2::write::MultiGzDecoder;
use http::{StatusCode, header};
use http_body::Frame;

use super::zstd::ZstdDecoder;
use super::{Encoding, NAMES};
use crate::http::error::{ApiError, ApiResult};

/// Packed bytes unpacked at once: gzip makes at most some thousand times as many of them, 1 MiB.
const STEP_BYTES: usize = 1024;

/// Puts the plain body in the place of a packed one.
///
/// It is unpacked as it is read: a limit on what is read holds for the plain bytes, and what
/// nobody reads is not unpacked.
///
/// # Errors
/// 415 names an encoding that is not known.
pub fn decode(request: &mut Request) -> ApiResult<()> {
    let mut found = None;
    for value in request.headers().get_all(header::CONTENT_ENCODING) {
        let text = value.to_str().unwrap_or("?");
        for name in text.split(',').map(str::trim) {
            if name.is_empty() || name.eq_ignore_ascii_case("identity") {
                continue;
            }
            let encoding = Encoding::parse(name);
            if encoding.is_none() || found.is_some() {
                return Err(unsupported(text));
            }
            found = encoding;
        }
    }
    let Some(encoding) = found else { return Ok(()) };
    let headers = request.headers_mut();
    headers.remove(header::CONTENT_ENCODING);
    headers.remove(header::CONTENT_LENGTH);
    let packed = std::mem::take(request.body_mut());
    *request.body_mut() = Body::new(PlainBody { packed, decoder: Some(Decoder::new(encoding)) });
    Ok(())
}

fn unsupported(text: &str) -> ApiError {
    let message = format!("content encoding '{text}' is not supported, use one of {NAMES}");
    ApiError::status(StatusCode::UNSUPPORTED_MEDIA_TYPE, message)
}

/// The decoder of one body, with input that it has not seen yet.
enum Decoder {
    Gzip { decoder: Box<MultiGzDecoder<Vec<u8>>>, input: Bytes, has_begun: bool },
    Zstd(Box<ZstdDecoder>),
}

impl Decoder {
    fn new(encoding: Encoding) -> Self {
        match encoding {
            Encoding::Gzip => Self::Gzip {
                decoder: Box::new(MultiGzDecoder::new(Vec::new())),
                input: Bytes::new(),
                has_begun: false,
            },
            Encoding::Zstd => Self::Zstd(Box::new(ZstdDecoder::new())),
        }
    }

    fn push(&mut self, more: Bytes) {
        match self {
            // Asked for only when there is none left.
            Self::Gzip { input, .. } => *input = more,
            Self::Zstd(decoder) => decoder.push(&more),
        }
    }

    fn step(&mut self) -> io::Result<Option<Bytes>> {
        match self {
            Self::Zstd(decoder) => decoder.step(),
            Self::Gzip { input, .. } if input.is_empty() => Ok(None),
            Self::Gzip { decoder, input, has_begun } => {
                let now = input.len().min(STEP_BYTES);
                decoder.write_all(input.get(..now).unwrap_or_default()).map_err(not_gzip)?;
                input.advance(now);
                if input.is_empty() {
                    // What is there now must not wait for what the client sends next.
                    decoder.flush().map_err(not_gzip)?;
                }
                *has_begun = true;
                Ok(Some(std::mem::take(decoder.get_mut()).into()))
            }
        }
    }

    /// The last plain bytes, when the input is at its end.
    fn finish(&mut self) -> io::Result<Bytes> {
        match self {
            Self::Zstd(decoder) => decoder.finish().map(|()| Bytes::new()),
            Self::Gzip { has_begun: false, .. } => {
                Err(not_gzip(io::ErrorKind::UnexpectedEof.into()))
            }
            Self::Gzip { decoder, .. } => {
                decoder.try_finish().map_err(not_gzip)?;
                Ok(std::mem::take(decoder.get_mut()).into())
            }
        }
    }
}

#[allow(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
fn not_gzip(error: io::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("body is not valid gzip: {error}"))
}

struct PlainBody {
    packed: Body,
    /// None after the end.
    decoder: Option<Decoder>,
}

impl http_body::Body for PlainBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        loop {
            let Some(decoder) = &mut self.decoder else { return Poll::Ready(None) };
            match decoder.step() {
                Ok(Some(plain)) if plain.is_empty() => continue,
                Ok(Some(plain)) => return Poll::Ready(Some(Ok(Frame::data(plain)))),
                Ok(None) => {}
                Err(error) => return Poll::Ready(Some(Err(axum::Error::new(error)))),
            }
            match ready!(Pin::new(&mut self.packed).poll_frame(context)) {
                Some(Ok(frame)) => {
                    if let (Ok(data), Some(decoder)) = (frame.into_data(), &mut self.decoder) {
                        decoder.push(data);
                    }
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => {
                    let rest = self.decoder.take().map_or(Ok(Bytes::new()), |mut d| d.finish());
                    return Poll::Ready(match rest {
                        Ok(rest) if rest.is_empty() => None,
                        Ok(rest) => Some(Ok(Frame::data(rest))),
                        Err(error) => Some(Err(axum::Error::new(error))),
                    });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(data: &[u8]) -> Vec<u8> {
        compress_to_vec(data, CompressionLevel::Fastest)
    }

    fn request(encoding: &str, chunks: &[&[u8]]) -> Request {
        let chunks: Vec<_> =
            chunks.iter().map(|chunk| Ok::<_, io::Error>(Bytes::copy_from_slice(chunk))).collect();
        let body = Body::from_stream(futures_util::stream::iter(chunks));
        Request::builder().header("content-encoding", encoding).body(body).unwrap()
    }

    async fn plain(encoding: &str, chunks: &[&[u8]]) -> Result<Vec<u8>, String> {
        let mut request = request(encoding, chunks);
        decode(&mut request).map_err(|error| error.message)?;
        let collected = request.into_body().collect().await;
        Ok(collected.map_err(|error| error.to_string())?.to_bytes().to_vec())
    }

    #[tokio::test]
    async fn bodies_are_unpacked_however_they_are_cut() {
        let data: Vec<u8> = (0..300_000_u32).flat_map(|n| (n / 7).to_le_bytes()).collect();
        for (name, packed) in [("gzip", gzip(&data)), ("zstd", zstd(&data))] {
            assert!(packed.len() < data.len());
            let whole = plain(name, &[&packed]).await.unwrap();
            assert!(whole == data, "{name}");
            let bytes: Vec<_> = packed.chunks(977).collect();
            assert!(plain(name, &bytes).await.unwrap() == data, "{name} in pieces");
            // Members and frames may follow each other.
            let twice = plain(name, &[&packed, &packed]).await.unwrap();
            assert_eq!(twice.len(), data.len() * 2, "{name} twice");
        }
        let skippable = [b"\x50\x2a\x4d\x18\x03\0\0\0abc".as_slice(), &zstd(b"x")].concat();
        assert_eq!(plain("zstd", &[&skippable]).await.unwrap(), b"x");
        assert_eq!(plain("identity", &[b"abc"]).await.unwrap(), b"abc");
    }

    #[tokio::test]
    async fn damage_is_told() {
        let (gzip, zstd) = (gzip(&[b'a'; 5000]), zstd(&[b'a'; 5000]));
        for (name, packed) in [("gzip", gzip), ("zstd", zstd)] {
            for damaged in [&b"rubbish"[..], b"", &packed[..packed.len() - 3]] {
                let error = plain(name, &[damaged]).await.unwrap_err();
                assert!(error.contains(&format!("not valid {name}")), "{name}: {error}");
            }
        }
    }

    #[tokio::test]
    async fn a_bomb_is_unpacked_in_small_pieces() {
        let bomb = vec![0; 64 * 1024 * 1024];
        for (name, packed) in [("gzip", gzip(&bomb)), ("zstd", zstd(&bomb))] {
            assert!(packed.len() < 400_000, "{name}: {}", packed.len());
            let mut request = request(name, &[&packed]);
            decode(&mut request).unwrap();
            let mut body = std::mem::take(request.body_mut());
            let mut total = 0;
            while let Some(frame) = body.frame().await {
                let data = frame.unwrap().into_data().unwrap();
                assert!(data.len() <= 2 * 1024 * 1024 + 128 * 1024, "{name}: {}", data.len());
                total += data.len();
            }
            assert_eq!(total, bomb.len(), "{name}");
        }
    }

    #[tokio::test]
    async fn unknown_encodings_are_refused() {
        for text in ["br", "gzip, zstd", "deflate"] {
            let refused = decode(&mut request(text, &[])).unwrap_err();
            assert_eq!(refused.code, 415);
            assert!(refused.message.contains(text), "{}", refused.message);
        }
    }
}
