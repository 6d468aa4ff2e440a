//! A small HTTP/1.1 client: keep-alive, prebuilt requests, bodies of known length or chunked.
//!
//! Only what a load generator needs: `http://` only, no redirects, no compression.

use std::net::{Ipv4Addr, SocketAddr};

use bytes::{Bytes, BytesMut};
use http::Uri;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::wire_client::connect;
use super::{BenchError, BenchResult};

/// Headers an answer may have.
const HEADERS_MAX: usize = 64;

/// Room that a read asks for at least.
const READ_BYTES: usize = 16 * 1024;

/// Longest head of an answer, in bytes.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Digits of a chunk's length; more would not fit `u64`.
const CHUNK_DIGITS_MAX: u32 = 16;

/// Where a server is: the base of every request's URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// `host:port`, for the socket and the Host header.
    pub(super) authority: String,
    /// Path that goes before every path, without a slash at its end.
    prefix: String,
}

impl Target {
    /// Reads `http://host[:port][/prefix]`.
    pub(super) fn parse(url: &str) -> BenchResult<Self> {
        let uri: Uri = url.parse().map_err(|e| format!("{url:?} is not a URL: {e}"))?;
        if uri.scheme_str() != Some("http") {
            return Err(format!("{url:?} must begin with http://").into());
        }
        let host = uri.host().ok_or_else(|| format!("{url:?} has no host"))?;
        let authority = format!("{host}:{}", uri.port_u16().unwrap_or(80));
        Ok(Self { authority, prefix: uri.path().trim_end_matches('/').to_owned() })
    }

    /// Builds the head of a request without the blank line at its end.
    pub(super) fn head(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> String {
        let Self { authority, prefix } = self;
        let mut head = format!("{method} {prefix}{path} HTTP/1.1\r\nhost: {authority}\r\n");
        for (name, value) in headers {
            head.extend([name, ": ", value, "\r\n"]);
        }
        head
    }

    /// Builds a request; `path` begins with a slash and may have a query.
    pub(super) fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Vec<u8> {
        let mut head = self.head(method, path, headers);
        if method != "GET" || !body.is_empty() {
            head.extend(["content-length: ", &body.len().to_string(), "\r\n"]);
        }
        head.push_str("\r\n");
        let mut request = head.into_bytes();
        request.extend_from_slice(body);
        request
    }
}

/// How the body of an answer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// After this many bytes.
    Length(usize),
    /// After an empty chunk.
    Chunked,
    /// When the server closes.
    Close,
}

/// The head of an answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    /// Status code.
    pub(super) status: u16,
    /// How the body ends.
    pub(super) framing: Framing,
    will_close: bool,
}

/// A whole answer.
#[derive(Debug)]
pub(super) struct Answer {
    /// Status code.
    pub(super) status: u16,
    /// Body, decoded from its chunks.
    pub(super) body: Bytes,
}

impl Answer {
    /// Tells whether the status is 2xx.
    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Status and the beginning of the body, for a message.
    pub(super) fn describe(&self) -> String {
        let shown = self.body.get(..self.body.len().min(300)).unwrap_or_default();
        format!("HTTP {}: {}", self.status, String::from_utf8_lossy(shown))
    }

    /// Turns any status but 2xx into an error.
    pub(super) fn expect_success(self, doing: &str) -> BenchResult<Bytes> {
        if self.is_success() {
            return Ok(self.body);
        }
        Err(format!("{doing}: {}", self.describe()).into())
    }
}

/// A connection that is kept open between requests.
#[derive(Debug)]
pub(super) struct HttpConnection {
    stream: TcpStream,
    buffer: BytesMut,
    is_usable: bool,
}

impl HttpConnection {
    /// Connects.
    pub(super) async fn connect(target: &Target) -> BenchResult<Self> {
        Ok(Self::from_stream(connect(&target.authority).await?))
    }

    /// Connects from an address of this machine: each has ports of its own.
    pub(super) async fn connect_from(target: &Target, source: Ipv4Addr) -> BenchResult<Self> {
        let authority = &target.authority;
        let mut found = tokio::net::lookup_host(authority).await?;
        let address = found.find(SocketAddr::is_ipv4);
        let address = address.ok_or_else(|| format!("{authority} has no IPv4 address"))?;
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from((source, 0)))?;
        let stream = socket.connect(address).await;
        let stream = stream.map_err(|e| format!("cannot connect {source} to {authority}: {e}"))?;
        stream.set_nodelay(true)?;
        Ok(Self::from_stream(stream))
    }

    /// Goes on with a connected socket on this runtime.
    pub(super) fn adopt(stream: std::net::TcpStream) -> BenchResult<Self> {
        Ok(Self::from_stream(TcpStream::from_std(stream)?))
    }

    fn from_stream(stream: TcpStream) -> Self {
        Self { stream, buffer: BytesMut::with_capacity(READ_BYTES), is_usable: true }
    }

    /// Tells whether another request may be sent: not after an error or a `connection: close`.
    pub(super) const fn is_usable(&self) -> bool {
        self.is_usable
    }

    /// Sends a request and reads the whole answer.
    pub(super) async fn exchange(&mut self, request: &[u8]) -> BenchResult<Answer> {
        self.is_usable = false;
        let head = self.begin(request).await?;
        let body = match head.framing {
            Framing::Length(length) => self.read_exactly(length).await?,
            Framing::Chunked => self.read_chunks().await?,
            Framing::Close => self.read_to_close().await?,
        };
        self.is_usable = !head.will_close;
        Ok(Answer { status: head.status, body })
    }

    /// Sends a request and reads the head of the answer, for an answer that does not end.
    pub(super) async fn begin(&mut self, request: &[u8]) -> BenchResult<Head> {
        self.stream.write_all(request).await?;
        loop {
            if let Some((head, length)) = parse_head(&self.buffer)? {
                drop(self.buffer.split_to(length));
                return Ok(head);
            }
            if self.buffer.len() > HEAD_BYTES_MAX {
                return Err("the head of the answer is too long".into());
            }
            self.read_some(READ_BYTES).await?;
        }
    }

    /// Gives up the connection: its socket and what was read beyond the head.
    pub(super) fn into_parts(self) -> BenchResult<(std::net::TcpStream, BytesMut)> {
        Ok((self.stream.into_std()?, self.buffer))
    }

    async fn read_some(&mut self, room: usize) -> BenchResult<()> {
        self.buffer.reserve(room.max(READ_BYTES));
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err("the server closed the connection".into()),
            _ => Ok(()),
        }
    }

    async fn read_exactly(&mut self, length: usize) -> BenchResult<Bytes> {
        while self.buffer.len() < length {
            self.read_some(length - self.buffer.len()).await?;
        }
        Ok(self.buffer.split_to(length).freeze())
    }

    async fn read_chunks(&mut self) -> BenchResult<Bytes> {
        let mut decoder = ChunkDecoder::default();
        let mut body = BytesMut::new();
        loop {
            let used = decoder.feed(&self.buffer, |data| body.extend_from_slice(data))?;
            drop(self.buffer.split_to(used));
            if decoder.is_finished() {
                return Ok(body.freeze());
            }
            self.read_some(READ_BYTES).await?;
        }
    }

    async fn read_to_close(&mut self) -> BenchResult<Bytes> {
        loop {
            self.buffer.reserve(READ_BYTES);
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Ok(self.buffer.split().freeze());
            }
        }
    }
}

fn parse_head(bytes: &[u8]) -> BenchResult<Option<(Head, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(length) = response.parse(bytes)? else { return Ok(None) };
    let status = response.code.unwrap_or(0);
    let mut will_close = response.version == Some(0);
    let has_no_body = status == 204 || status == 304;
    let mut framing = if has_no_body { Framing::Length(0) } else { Framing::Close };
    for header in response.headers.iter() {
        if header.name.eq_ignore_ascii_case("content-length") {
            let text = std::str::from_utf8(header.value)?;
            framing = Framing::Length(text.trim().parse()?);
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            framing = Framing::Chunked;
        } else if header.name.eq_ignore_ascii_case("connection") {
            will_close = header.value.eq_ignore_ascii_case(b"close");
        }
    }
    will_close |= framing == Framing::Close;
    Ok(Some((Head { status, framing, will_close }, length)))
}

/// Takes the chunked coding off a body, whatever pieces it comes in.
#[derive(Debug, Default)]
pub(super) struct ChunkDecoder {
    state: ChunkState,
    length: u64,
    digits: u32,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum ChunkState {
    /// In the hexadecimal length.
    #[default]
    Length,
    /// In an extension of the length's line.
    Extension,
    /// In the data.
    Data,
    /// In the line end behind the data.
    DataEnd,
    /// In the trailer; true while its line is empty so far.
    Trailer(bool),
    /// Behind everything.
    Finished,
}

impl ChunkDecoder {
    /// Tells whether the last chunk and the trailer were read.
    pub(super) fn is_finished(&self) -> bool {
        self.state == ChunkState::Finished
    }

    /// Decodes `input`, hands its data to `sink` and returns how many bytes were used: all of
    /// them, unless the body ends before.
    pub(super) fn feed(&mut self, input: &[u8], mut sink: impl FnMut(&[u8])) -> BenchResult<usize> {
        let mut rest = input;
        while self.state != ChunkState::Finished {
            if self.state == ChunkState::Data {
                let taken = usize::try_from(self.length).unwrap_or(usize::MAX).min(rest.len());
                let (data, after) = rest.split_at(taken);
                sink(data);
                rest = after;
                self.length -= taken as u64;
                if self.length > 0 {
                    break;
                }
                self.state = ChunkState::DataEnd;
            }
            let Some((byte, after)) = rest.split_first() else { break };
            rest = after;
            self.step(*byte)?;
        }
        Ok(input.len() - rest.len())
    }

    /// Moves on by one byte outside of data.
    fn step(&mut self, byte: u8) -> BenchResult<()> {
        self.state = match (self.state, byte) {
            (ChunkState::Length | ChunkState::Extension, b'\n') => {
                self.digits = 0;
                if self.length == 0 { ChunkState::Trailer(true) } else { ChunkState::Data }
            }
            (ChunkState::Length, b'\r' | b';' | b' ') => ChunkState::Extension,
            (ChunkState::Length, byte) => {
                let digit =
                    char::from(byte).to_digit(16).filter(|_| self.digits < CHUNK_DIGITS_MAX);
                let digit = digit.ok_or_else(|| BenchError::from("bad chunk length"))?;
                self.digits += 1;
                self.length = (self.length << 4) | u64::from(digit);
                ChunkState::Length
            }
            (ChunkState::DataEnd, b'\n') => ChunkState::Length,
            (ChunkState::Trailer(true), b'\n') => ChunkState::Finished,
            (ChunkState::Trailer(_), b'\n') => ChunkState::Trailer(true),
            (ChunkState::Trailer(is_empty), b'\r') => ChunkState::Trailer(is_empty),
            (ChunkState::Trailer(_), _) => ChunkState::Trailer(false),
            (state, _) => state,
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_become_targets() {
        let target = Target::parse("http://localhost:8082/rest/").unwrap();
        assert_eq!(target.authority, "localhost:8082");
        let request = target.request("GET", "/topics?a=b", &[("accept", "x")], b"");
        let text = String::from_utf8(request).unwrap();
        assert!(text.starts_with("GET /rest/topics?a=b HTTP/1.1\r\nhost: localhost:8082\r\n"));
        assert!(text.ends_with("accept: x\r\n\r\n"));
        assert!(Target::parse("https://localhost").is_err());
        assert!(Target::parse("localhost:80").is_err());
    }

    #[test]
    fn chunks_are_decoded_in_any_pieces() {
        let coded = b"5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nk: v\r\n\r\nnext";
        for piece in 1..coded.len() {
            let (mut decoder, mut out, mut used) = (ChunkDecoder::default(), Vec::new(), 0);
            for part in coded.chunks(piece) {
                used += decoder.feed(part, |data| out.extend_from_slice(data)).unwrap();
            }
            assert_eq!(out, b"hello world");
            assert!(decoder.is_finished());
            assert_eq!(used, coded.len() - 4);
        }
        assert!(ChunkDecoder::default().feed(b"zz\r\n", |_| ()).is_err());
    }

    #[test]
    fn heads_say_how_the_body_ends() {
        let framing = |text: &str| parse_head(text.as_bytes()).unwrap().unwrap().0.framing;
        assert_eq!(framing("HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n"), Framing::Length(12));
        assert_eq!(
            framing("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"),
            Framing::Chunked
        );
        assert_eq!(framing("HTTP/1.1 204 No Content\r\n\r\n"), Framing::Length(0));
        assert_eq!(framing("HTTP/1.1 200 OK\r\n\r\n"), Framing::Close);
        assert!(parse_head(b"HTTP/1.1 200 OK\r\ncontent-le").unwrap().is_none());
    }
}
