//! The socket under hyper, which gives the answers that hyper makes itself a body, and sends small
//! ones in one piece.
//!
//! A request that is not HTTP, or whose head does not fit, never reaches a handler: hyper answers
//! with a bare status line and closes. Such an answer is known by its first bytes, because every
//! refusal of ours has a body.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::rt::{Read, ReadBufCursor, Write};

use super::around::refusal;
use super::gathered::gather;

/// A socket whose bare refusals get a body, and which is handed small pieces as one.
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
        match gather(slices) {
            Some(bytes) => Pin::new(&mut self.socket).poll_write(context, &bytes),
            None => Pin::new(&mut self.socket).poll_write_vectored(context, slices),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::gathered::GATHERED_BYTES_MAX;
    use hyper_util::rt::TokioIo;
    use tokio::io::AsyncWrite;

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

    /// Notes what it is handed, and takes `room` bytes of it.
    struct Handed {
        writes: Vec<Vec<usize>>,
        bytes: Vec<u8>,
        room: usize,
    }

    impl AsyncWrite for Handed {
        fn poll_write(
            self: Pin<&mut Self>,
            context: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.poll_write_vectored(context, &[IoSlice::new(bytes)])
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            slices: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            self.writes.push(slices.iter().map(|slice| slice.len()).collect());
            let mut whole: Vec<_> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
            whole.truncate(self.room);
            self.bytes.extend_from_slice(&whole);
            Poll::Ready(Ok(whole.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    async fn written(pieces: &[&[u8]], room: usize) -> (usize, Handed) {
        let handed = Handed { writes: Vec::new(), bytes: Vec::new(), room };
        let mut wire = Wire::new(TokioIo::new(handed));
        let slices: Vec<_> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
        let write =
            |context: &mut Context<'_>| Pin::new(&mut wire).poll_write_vectored(context, &slices);
        (std::future::poll_fn(write).await.unwrap(), wire.socket.into_inner())
    }

    #[tokio::test]
    async fn small_pieces_are_one_and_large_ones_are_not_copied() {
        let (taken, handed) = written(&[b"5\r\n", b"hello", b"\r\n"], usize::MAX).await;
        assert_eq!(
            (taken, handed.writes, handed.bytes),
            (10, vec![vec![10]], b"5\r\nhello\r\n".into())
        );
        let fits = [b'x'; GATHERED_BYTES_MAX - 1];
        assert_eq!(written(&[&fits, b"y"], usize::MAX).await.1.writes, [[GATHERED_BYTES_MAX]]);
        let (taken, handed) = written(&[&fits, b"yz"], usize::MAX).await;
        assert_eq!((taken, handed.writes), (GATHERED_BYTES_MAX + 1, vec![vec![fits.len(), 2]]));
        // A socket with little room takes the beginning, whatever piece that is of.
        let (taken, handed) = written(&[b"5\r\n", b"hello", b"\r\n"], 5).await;
        assert_eq!((taken, handed.bytes), (5, b"5\r\nhe".into()));
    }
}
