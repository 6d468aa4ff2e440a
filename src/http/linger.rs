//! A connection that ends before everything was read ends without losing its last answer.
//!
//! A socket that is closed while bytes wait in it resets the connection, and the reset throws away
//! what the client did not read yet: a 413 becomes "connection reset", a proxy makes a 502 of it,
//! and a WebSocket has no code of its close. So the end is told first, and what the client still
//! sends is thrown away for a while.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Sleep, sleep};

use crate::base::shutdown::Shutdown;

/// How long a connection may go on to be read after its last answer.
const LINGER_MAX: Duration = Duration::from_secs(5);

/// Bytes that are thrown away at once.
const DISCARD_BYTES: usize = 8 * 1024;

/// Whether a connection may end with unread bytes; shared with whoever reads them.
#[derive(Debug, Clone, Default)]
pub(in crate::http) struct Unread(Arc<AtomicBool>);

impl Unread {
    /// Says that the client may still send something that nobody reads.
    pub(in crate::http) fn tell(&self) {
        // Each is a flag by itself: nothing else is published through it.
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_told(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Watches the body of the next request.
    pub(super) fn watch(&self, body: Incoming) -> Watched {
        self.0.store(false, Ordering::Relaxed);
        Watched { is_unread: !body.is_end_stream(), body, told: self.clone() }
    }
}

/// A body that tells when it is dropped before its end.
#[derive(Debug)]
pub(super) struct Watched {
    body: Incoming,
    is_unread: bool,
    told: Unread,
}

impl Body for Watched {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        self.is_unread = frame.is_some() && !self.body.is_end_stream();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if self.is_unread {
            self.told.tell();
        }
    }
}

/// A socket that is read until its end, or for a while, before it is closed over unread bytes.
///
/// It has its `place` for as long as it is open, whoever has it: a WebSocket outlives the task that
/// served its connection.
#[derive(Debug)]
pub(super) struct Linger<T: Socket, P: Place> {
    /// Only taken when it is dropped, like its place.
    inner: Option<T>,
    place: Option<P>,
    unread: Unread,
    max: Duration,
    /// Runs from the moment at which our side was closed.
    timer: Option<Pin<Box<Sleep>>>,
    shutdown: Shutdown,
}

/// What can be read and written, by a task of its own too.
pub(super) trait Socket: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Socket for T {}

/// What an open socket takes from others; dropping it gives it back.
pub(super) trait Place: Unpin + Send + 'static {}

impl<T: Unpin + Send + 'static> Place for T {}

impl<T: Socket, P: Place> Linger<T, P> {
    /// Lingers if `unread` says so at the end; a socket that is dropped before it was shut down
    /// does so in a task of `shutdown`.
    pub(super) const fn new(inner: T, place: P, unread: Unread, shutdown: Shutdown) -> Self {
        Self {
            inner: Some(inner),
            place: Some(place),
            unread,
            max: LINGER_MAX,
            timer: None,
            shutdown,
        }
    }

    /// Lingers for so long at most.
    pub(super) const fn for_at_most(mut self, max: Duration) -> Self {
        self.max = max;
        self
    }

    fn inner(&mut self) -> io::Result<Pin<&mut T>> {
        self.inner.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl<T: Socket, P: Place> Drop for Linger<T, P> {
    fn drop(&mut self) {
        // A WebSocket's end is only a message, after which its socket is dropped.
        if self.timer.is_some() || !self.unread.is_told() {
            return;
        }
        let (inner, unread, max) = (self.inner.take(), self.unread.clone(), self.max);
        if inner.is_none() {
            return;
        }
        let (place, shutdown) = (self.place.take(), self.shutdown.clone());
        self.shutdown.spawn(async move {
            let mut rest = Self { inner, place, unread, max, timer: None, shutdown };
            // However it ends, there is nobody left to tell.
            let _ended = rest.shutdown().await;
            rest.unread = Unread::default();
        });
    }
}

impl<T: Socket, P: Place> AsyncRead for Linger<T, P> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.inner()?.poll_read(context, buffer)
    }
}

impl<T: Socket, P: Place> AsyncWrite for Linger<T, P> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.inner()?.poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.inner()?.poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.as_ref().is_some_and(T::is_write_vectored)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner()?.poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { inner, unread, max, timer, .. } = &mut *self;
        let Some(inner) = inner else { return Poll::Ready(Ok(())) };
        let timer = match timer {
            Some(timer) => timer,
            None => {
                ready!(Pin::new(&mut *inner).poll_shutdown(context))?;
                if !unread.is_told() {
                    return Poll::Ready(Ok(()));
                }
                timer.insert(Box::pin(sleep(*max)))
            }
        };
        let mut discarded = [0; DISCARD_BYTES];
        while timer.as_mut().poll(context).is_pending() {
            let mut buffer = ReadBuf::new(&mut discarded);
            // However the client's side ends, there is nobody left to tell.
            let read = ready!(Pin::new(&mut *inner).poll_read(context, &mut buffer));
            if read.is_err() || buffer.filled().is_empty() {
                break;
            }
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    type Near = Linger<tokio::io::DuplexStream, Arc<()>>;

    fn pair(is_unread: bool) -> (Near, tokio::io::DuplexStream) {
        let (near, far) = tokio::io::duplex(16);
        let unread = Unread::default();
        unread.0.store(is_unread, Ordering::Relaxed);
        (Linger::new(near, Arc::default(), unread, Shutdown::new()), far)
    }

    #[tokio::test]
    async fn what_comes_after_the_answer_is_thrown_away() {
        let (mut near, mut far) = pair(true);
        near.write_all(b"413").await.unwrap();
        let client = async {
            // More than fits: somebody has to read it.
            far.write_all(&[b'x'; 64 * 1024]).await.unwrap();
            let mut answer = Vec::new();
            far.read_to_end(&mut answer).await.unwrap();
            drop(far);
            answer
        };
        let (closed, answer) = tokio::join!(near.shutdown(), client);
        closed.unwrap();
        assert_eq!(answer, b"413");
    }

    #[tokio::test]
    async fn a_socket_that_is_dropped_lingers_as_well() {
        let (near, mut far) = pair(true);
        let shutdown = near.shutdown.clone();
        let place = Arc::downgrade(near.place.as_ref().unwrap());
        drop(near);
        far.write_all(&[b'x'; 64 * 1024]).await.unwrap();
        assert_eq!(far.read(&mut [0; 1]).await.unwrap(), 0);
        assert_eq!(place.strong_count(), 1, "it is open, so it has its place");
        drop(far);
        shutdown.drained().await;
        assert_eq!(place.strong_count(), 0);
        let (near, mut far) = pair(false);
        let place = Arc::downgrade(near.place.as_ref().unwrap());
        drop(near);
        assert_eq!(place.strong_count(), 0);
        far.write_all(b"x").await.unwrap_err();
    }

    #[tokio::test]
    async fn a_client_that_does_not_end_is_left() {
        let (mut near, _far) = pair(true);
        near.max = Duration::from_millis(20);
        let begun = tokio::time::Instant::now();
        near.shutdown().await.unwrap();
        assert!(begun.elapsed() >= near.max);
    }

    #[tokio::test]
    async fn a_body_that_was_read_needs_no_waiting() {
        let (mut near, _far) = pair(false);
        near.shutdown().await.unwrap();
    }
}
