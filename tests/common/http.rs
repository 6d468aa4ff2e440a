//! A small blocking HTTP/1.1 client that keeps its connection.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

use super::PATIENCE;

/// One connection to the HTTP door.
#[derive(Debug)]
pub(crate) struct Http {
    address: SocketAddr,
    stream: BufReader<TcpStream>,
    /// The answer to come tells of a body that does not come.
    is_head: bool,
}

/// A whole answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self}"))
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.status, self.text())
    }
}

fn find<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

impl Http {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).unwrap()
    }

    pub(crate) fn try_connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { address, stream: BufReader::new(stream), is_head: false })
    }

    /// Takes over a connection.
    pub(crate) fn adopt(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self {
            address: stream.peer_addr().unwrap(),
            stream: BufReader::new(stream),
            is_head: false,
        }
    }

    /// Another connection to the same server.
    pub(crate) fn again(&self) -> Self {
        Self::connect(self.address)
    }

    pub(crate) fn get(&mut self, path: &str) -> Answer {
        self.send("GET", path, &[], b"").unwrap()
    }

    pub(crate) fn delete(&mut self, path: &str) -> Answer {
        self.send("DELETE", path, &[], b"").unwrap()
    }

    /// Posts JSON as plain JSON.
    pub(crate) fn post(&mut self, path: &str, body: &Value) -> Answer {
        self.try_post(path, body).unwrap()
    }

    pub(crate) fn try_post(&mut self, path: &str, body: &Value) -> io::Result<Answer> {
        let headers = [("content-type", "application/json")];
        self.send("POST", path, &headers, body.to_string().as_bytes())
    }

    /// Sends a request and reads its answer.
    pub(crate) fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Answer> {
        self.ask(method, path, headers, body)?;
        self.answer()
    }

    /// Sends a request without waiting for its answer.
    pub(crate) fn ask(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<()> {
        let mut head = self.head(method, path, headers);
        if !body.is_empty() {
            head.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(body);
        self.is_head = method == "HEAD";
        self.write(&bytes)
    }

    /// The head of a request without its last line break.
    pub(crate) fn head(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> String {
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\n", self.address);
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head
    }

    /// Sends bytes as they are.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Reads one answer with its body.
    pub(crate) fn answer(&mut self) -> io::Result<Answer> {
        let (status, headers) = self.read_head()?;
        let mut body = Vec::new();
        if std::mem::take(&mut self.is_head) {
            return Ok(Answer { status, headers, body });
        }
        if find(&headers, "transfer-encoding") == Some("chunked") {
            Chunked::new(&mut self.stream).read_to_end(&mut body)?;
        } else if let Some(length) = find(&headers, "content-length") {
            body.resize(length.parse().map_err(io::Error::other)?, 0);
            self.stream.read_exact(&mut body)?;
        }
        Ok(Answer { status, headers, body })
    }

    fn read_head(&mut self) -> io::Result<(u16, Vec<(String, String)>)> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if self.stream.read_until(b'\n', &mut head)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut parsed = httparse::Response::new(&mut headers);
        parsed.parse(&head).map_err(io::Error::other)?;
        let owned = parsed.headers.iter().map(|header| {
            let value = String::from_utf8_lossy(header.value).into_owned();
            (header.name.to_ascii_lowercase(), value)
        });
        Ok((parsed.code.unwrap_or(0), owned.collect()))
    }

    /// Sends a request whose answer has no end, and gives its head and its body.
    pub(crate) fn open(
        mut self,
        path: &str,
        headers: &[(&str, &str)],
    ) -> io::Result<(Answer, Chunked<BufReader<TcpStream>>)> {
        let head = self.head("GET", path, headers) + "\r\n";
        self.write(head.as_bytes())?;
        let (status, headers) = self.read_head()?;
        let answer = Answer { status, headers, body: Vec::new() };
        Ok((answer, Chunked::new(self.stream)))
    }

    /// Tells whether the server has closed the connection (waits for it).
    pub(crate) fn is_closed(&mut self) -> bool {
        let mut byte = [0];
        !matches!(self.stream.read(&mut byte), Ok(1))
    }
}

/// The data of a chunked body.
#[derive(Debug)]
pub(crate) struct Chunked<R> {
    inner: R,
    left: usize,
    is_ended: bool,
}

impl<R: BufRead> Chunked<R> {
    pub(crate) const fn new(inner: R) -> Self {
        Self { inner, left: 0, is_ended: false }
    }

    fn next_chunk(&mut self) -> io::Result<()> {
        let mut line = String::new();
        if self.inner.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left = usize::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
        if self.left == 0 {
            self.is_ended = true;
            self.inner.read_line(&mut line)?;
        }
        Ok(())
    }
}

impl<R: BufRead> Read for Chunked<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 && !self.is_ended {
            self.next_chunk()?;
        }
        if self.is_ended {
            return Ok(0);
        }
        let wanted = self.left.min(out.len());
        let read = self.inner.read(&mut out[..wanted])?;
        self.left -= read;
        if self.left == 0 {
            let mut line_break = [0; 2];
            self.inner.read_exact(&mut line_break)?;
        }
        Ok(read)
    }
}
