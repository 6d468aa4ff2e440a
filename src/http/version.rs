//! Which version of HTTP a client speaks, seen before a byte is taken from its socket.
//!
//! What is peeked at is read by the right protocol from its first byte on: a detour that takes some
//! bytes first and puts them back makes the reader's buffer of every connection twice as large.

use std::io;

use rustix::net::{RecvFlags, recv};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Versions of HTTP that clients speak without being asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    Http1,
    Http2,
}

/// How HTTP/2 with prior knowledge begins (RFC 9113, 3.4); no method of HTTP/1 begins so.
const PREFACE_START: &[u8; 3] = b"PRI";

impl Version {
    /// Waits for what the client says first.
    ///
    /// # Errors
    /// The client closed the connection or it failed.
    ///
    /// # Cancel safety
    /// Safe: nothing is taken from the socket.
    pub(super) async fn of(stream: &TcpStream) -> io::Result<Self> {
        loop {
            let ready = stream.ready(Interest::READABLE).await?;
            match stream.try_io(Interest::READABLE, || peek(stream)) {
                Ok(version) => return Ok(version),
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                // A start without a rest stays one.
                Err(_) if ready.is_read_closed() => return Err(io::ErrorKind::UnexpectedEof.into()),
                Err(_) => {}
            }
        }
    }
}

fn peek(stream: &TcpStream) -> io::Result<Version> {
    let mut first = [0; PREFACE_START.len()];
    let (_, length) = recv(stream, &mut first, RecvFlags::PEEK)?;
    match first.get(..length) {
        None | Some([]) => Err(io::ErrorKind::UnexpectedEof.into()),
        Some(start) if start == PREFACE_START => Ok(Version::Http2),
        Some(start) if PREFACE_START.starts_with(start) => Err(io::ErrorKind::WouldBlock.into()),
        Some(_) => Ok(Version::Http1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (near, listener.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn the_first_bytes_tell() {
        for (first, expected) in [
            ("GET / HTTP/1.1\r\n", Version::Http1),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Version::Http2),
            ("PROPFIND", Version::Http1),
            ("PUT", Version::Http1),
            ("x", Version::Http1),
        ] {
            let (mut near, mut far) = pair().await;
            near.write_all(first.as_bytes()).await.unwrap();
            assert_eq!(Version::of(&far).await.unwrap(), expected, "{first}");
            // All of it is still there.
            let mut read = vec![0; first.len()];
            far.read_exact(&mut read).await.unwrap();
            assert_eq!(read, first.as_bytes());
        }
    }

    #[tokio::test]
    async fn bytes_that_come_one_by_one_tell_as_well() {
        let (mut near, far) = pair().await;
        let mut version = std::pin::pin!(Version::of(&far));
        for byte in [b"P", b"R"] {
            near.write_all(byte).await.unwrap();
            for _ in 0..20 {
                tokio::task::yield_now().await;
                assert!(futures_util::poll!(version.as_mut()).is_pending());
            }
        }
        near.write_all(b"I").await.unwrap();
        assert_eq!(version.await.unwrap(), Version::Http2);
    }

    #[tokio::test]
    async fn a_client_that_leaves_is_noticed() {
        for first in ["", "PR"] {
            let (mut near, far) = pair().await;
            near.write_all(first.as_bytes()).await.unwrap();
            drop(near);
            let error = Version::of(&far).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{first}");
        }
    }
}
