//! Small answers leave the process in one piece.
//!
//! hyper hands over the size of a chunk, its bytes and the line after it in pieces of their own. For
//! a few hundred bytes the copy is cheaper than what the kernel does to take several: with 1,000
//! streams of 100 events a second a server that broadcasts them spends 0.3 to 0.4 µs less of 7 µs
//! an event with `send` than with `writev` (`hydrant bench compare-streams`).

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use smallvec::SmallVec;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Most bytes that are gathered.
const GATHERED_BYTES_MAX: usize = 1024;

/// A socket that is handed small pieces as one.
#[derive(Debug)]
pub(super) struct Gathered<T>(T);

impl<T> Gathered<T> {
    /// Gathers what is written to `socket`.
    pub(super) const fn new(socket: T) -> Self {
        Self(socket)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Gathered<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Gathered<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match gather(slices) {
            Some(bytes) => Pin::new(&mut self.0).poll_write(context, &bytes),
            None => Pin::new(&mut self.0).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

/// Copies all of `slices` one after the other, if they fit.
fn gather(slices: &[IoSlice<'_>]) -> Option<SmallVec<[u8; GATHERED_BYTES_MAX]>> {
    let mut gathered = SmallVec::new();
    for slice in slices {
        if slice.len() > GATHERED_BYTES_MAX - gathered.len() {
            return None;
        }
        gathered.extend_from_slice(slice);
    }
    Some(gathered)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

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
        let mut socket = Gathered::new(Handed { writes: Vec::new(), bytes: Vec::new(), room });
        let slices: Vec<_> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
        (socket.write_vectored(&slices).await.unwrap(), socket.0)
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
