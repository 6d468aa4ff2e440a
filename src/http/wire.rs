//! The socket under hyper, which gives the answers that hyper makes itself a body.
//!
//! A request that is not HTTP, or whose head does not fit, never reaches a handler: hyper answers
//! with a bare status line and closes. Such an answer is known by its first bytes, because every
//! refusal of ours has a body.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::rt::{Read, ReadBufCursor, Write};

use super::around::refusal;

/// A socket whose bare refusals get a body.
pub(super) struct Wire<S> {
    socket: S,
    /// What is to be sent in the place of a bare refusal, and how much of it was sent.
    instead: Option<(Vec<u8>, usize)>,
}

impl<S: Write + Unpin> Wire<S> {
    pub(super) const fn new(socket: S) -> Self {
        Self { socket, instead: None }
    }

    /// Sends what stands for a bare refusal of `length` bytes; then these count as written.
    fn write_instead(
        &mut self,
        context: &mut Context<'_>,
        length: usize,
    ) -> Poll<io::Result<usize>> {
        while let Some((bytes, sent)) = &mut self.instead {
            let rest = bytes.get(*sent..).unwrap_or_default();
            if rest.is_empty() {
                break;
            }
            match ready!(Pin::new(&mut self.socket).poll_write(context, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => *sent += written,
            }
        }
        self.instead = None;
        Poll::Ready(Ok(length))
    }

    fn notice(&mut self, bytes: &[u8]) -> bool {
        if self.instead.is_none()
            && let Some(status) = bare_refusal(bytes)
        {
            self.instead = refusal::bare(status).map(|bytes| (bytes, 0));
        }
        self.instead.is_some()
    }
}

/// The status of an answer that is a refusal without a body, and nothing else.
fn bare_refusal(bytes: &[u8]) -> Option<u16> {
    let rest = bytes.strip_prefix(b"HTTP/1.1 4")?;
    let is_whole = bytes.ends_with(b"\r\n\r\n") && bytes.len() < 512;
    let head = std::str::from_utf8(bytes).ok()?;
    if !is_whole || !head.contains("\r\ncontent-length: 0\r\n") {
        return None;
    }
    let digits = rest.get(..2)?;
    std::str::from_utf8(digits).ok()?.parse::<u16>().ok().map(|last| 400 + last)
}

impl<S: Read + Unpin> Read for Wire<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(context, buffer)
    }
}

impl<S: Write + Unpin> Write for Wire<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.notice(bytes) {
            return self.write_instead(context, bytes.len());
        }
        Pin::new(&mut self.socket).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let [bytes] = slices
            && self.notice(bytes)
        {
            return self.write_instead(context, bytes.len());
        }
        Pin::new(&mut self.socket).poll_write_vectored(context, slices)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bare_refusals_are_noticed() {
        let bare = b"HTTP/1.1 431 X\r\nconnection: close\r\ncontent-length: 0\r\ndate: x\r\n\r\n";
        assert_eq!(bare_refusal(bare), Some(431));
        for other in [
            &b"HTTP/1.1 404 Not Found\r\ncontent-length: 10\r\n\r\n{\"code\":1}"[..],
            b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            b"HTTP/1.1 40",
            b"",
        ] {
            assert_eq!(bare_refusal(other), None);
        }
        let answer = String::from_utf8(refusal::bare(431).unwrap()).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}", body.len())), "{answer}");
        assert!(body.starts_with("{\"error_code\":431,"), "{answer}");
    }
}
