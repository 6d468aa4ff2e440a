//! Cuts the byte stream of a connection into request frames.
//!
//! A frame is an int32 size and that many bytes. The size is a claim: memory is reserved for what
//! has arrived and at most as much again, and a frame larger than [`BUDGET_FREE_BYTES`] must first
//! get its size from the budget that all connections share.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;

use crate::base::limits::{CONTROL_FRAME_BYTES_MAX, FRAME_BYTES_MAX};

/// Bytes of the size field.
const SIZE_BYTES: usize = 4;

/// Bytes of the smallest request header: key, version and correlation id.
const FRAME_BYTES_MIN: usize = 8;

/// Frames up to this size are read without asking the shared budget.
pub(super) const BUDGET_FREE_BYTES: usize = 64 * 1024;

/// Bytes that are read ahead while a request is parked, so that the end of the stream is noticed.
pub(super) const READ_AHEAD_BYTES: usize = 64 * 1024;

/// Room for the first read of a connection; most requests fit, and idle connections are many.
const FIRST_READ_BYTES: usize = 16 * 1024;

/// Room added at least when a frame is larger than what there is.
const READ_STEP_BYTES: usize = 64 * 1024;

/// Less room than this is not worth a system call when more is missing.
const SPARE_BYTES_MIN: usize = 4096;

/// The first four bytes of HTTP requests, which would otherwise read as a size of 1.2 GB.
const HTTP_STARTS: [&[u8; 4]; 6] = [b"GET ", b"POST", b"PUT ", b"HEAD", b"DELE", b"OPTI"];

/// Key of Produce, the one request that carries records.
const PRODUCE_KEY: i16 = 0;

/// One request as it came, without its size field.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) bytes: Bytes,
    /// This frame's share of the budget, for frames that need one.
    pub(super) permit: Option<OwnedSemaphorePermit>,
}

/// What the buffered bytes amount to.
#[derive(Debug)]
pub(super) enum Next {
    /// A whole frame.
    Frame(Frame),
    /// More bytes must arrive first.
    Incomplete,
    /// So many bytes must be granted by the shared budget first.
    NeedsBudget(u32),
}

/// What one read brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Filled {
    /// So many bytes.
    Bytes(usize),
    /// The peer will send nothing more.
    EndOfStream,
}

/// Why the stream is not one of Kafka frames that we take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum FrameError {
    /// Text of HTTP.
    #[error("http request on the kafka port")]
    Http,
    /// A size that is negative or above the limit.
    #[error("frame size {0} is not between 0 and {FRAME_BYTES_MAX}")]
    SizeOutOfRange(i32),
    /// Less than a request header.
    #[error("frame of {0} bytes is shorter than a request header")]
    TooShort(usize),
    /// A request without records that is too large.
    #[error(
        "request of {bytes} bytes with api key {api_key} is larger than {CONTROL_FRAME_BYTES_MAX}"
    )]
    ControlTooLarge {
        /// The API asked for.
        api_key: i16,
        /// The size of the frame.
        bytes: usize,
    },
}

/// Reads frames from a connection.
#[derive(Debug, Default)]
pub(super) struct FrameReader {
    buffer: BytesMut,
    /// Bytes that the frame under way still lacks; 0 when its size is not known.
    missing: usize,
    /// The share of the budget for the frame under way.
    permit: Option<OwnedSemaphorePermit>,
}

impl FrameReader {
    /// Takes the next frame out of the buffer.
    pub(super) fn next(&mut self) -> Result<Next, FrameError> {
        self.missing = 0;
        let Some((size, rest)) = self.buffer.split_first_chunk::<SIZE_BYTES>() else {
            return Ok(Next::Incomplete);
        };
        if HTTP_STARTS.contains(&size) {
            return Err(FrameError::Http);
        }
        let claimed = i32::from_be_bytes(*size);
        let bytes = usize::try_from(claimed).unwrap_or(usize::MAX);
        if bytes > FRAME_BYTES_MAX {
            return Err(FrameError::SizeOutOfRange(claimed));
        }
        if bytes < FRAME_BYTES_MIN {
            return Err(FrameError::TooShort(bytes));
        }
        if bytes > CONTROL_FRAME_BYTES_MAX {
            let Some(key) = rest.first_chunk::<2>() else {
                return Ok(Next::Incomplete);
            };
            let api_key = i16::from_be_bytes(*key);
            if api_key != PRODUCE_KEY {
                return Err(FrameError::ControlTooLarge { api_key, bytes });
            }
        }
        if bytes > BUDGET_FREE_BYTES && self.permit.is_none() {
            return Ok(Next::NeedsBudget(u32::try_from(bytes).unwrap_or(u32::MAX)));
        }
        self.missing = bytes.saturating_sub(rest.len());
        if self.missing > 0 {
            return Ok(Next::Incomplete);
        }
        self.buffer.advance(SIZE_BYTES);
        let bytes = self.buffer.split_to(bytes).freeze();
        Ok(Next::Frame(Frame { bytes, permit: self.permit.take() }))
    }

    /// Keeps the share of the budget that [`Next::NeedsBudget`] asked for.
    pub(super) fn grant(&mut self, permit: OwnedSemaphorePermit) {
        self.permit = Some(permit);
    }

    /// Tells whether a large frame under way holds a share of the budget.
    pub(super) const fn holds_budget(&self) -> bool {
        self.permit.is_some()
    }

    /// Number of bytes that have arrived and belong to no frame taken.
    pub(super) fn buffered_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Gives the buffer's memory back if it holds nothing.
    pub(super) fn release_if_empty(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
    }

    /// Reads what the peer has sent, once.
    ///
    /// # Cancel safety
    /// Safe: bytes are in the buffer or still in the socket.
    pub(super) async fn fill(&mut self, stream: &TcpStream) -> io::Result<Filled> {
        loop {
            self.reserve();
            match stream.try_read_buf(&mut self.buffer) {
                Ok(0) => return Ok(Filled::EndOfStream),
                Ok(bytes) => return Ok(Filled::Bytes(bytes)),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Err(e),
            }
            if self.buffer.capacity() > READ_STEP_BYTES {
                self.release_if_empty();
            }
            stream.readable().await?;
        }
    }

    /// Makes room in steps that never exceed what has already arrived, or one step.
    fn reserve(&mut self) {
        let spare = self.buffer.capacity() - self.buffer.len();
        let wanted = if self.missing > 0 { self.missing } else { FIRST_READ_BYTES };
        if spare < wanted.min(SPARE_BYTES_MIN) {
            let step_max = READ_STEP_BYTES.max(self.buffer.len());
            self.buffer.reserve(wanted.clamp(FIRST_READ_BYTES, step_max));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use tokio::sync::Semaphore;

    fn reader(bytes: &[u8]) -> FrameReader {
        FrameReader { buffer: BytesMut::from(bytes), ..FrameReader::default() }
    }

    fn sized(size: i32, rest: &[u8]) -> FrameReader {
        reader(&[&size.to_be_bytes(), rest].concat())
    }

    #[test]
    fn frames_are_cut_at_their_size() {
        let mut frames = sized(8, b"12345678\0\0\0\x09abc");
        let Ok(Next::Frame(frame)) = frames.next() else { panic!("no frame") };
        assert_eq!(frame.bytes, b"12345678".as_slice());
        assert!(matches!(frames.next(), Ok(Next::Incomplete)));
        assert_eq!(frames.missing, 6);
    }

    #[test]
    fn sizes_out_of_range_are_refused() {
        assert_eq!(sized(-1, b"").next().unwrap_err(), FrameError::SizeOutOfRange(-1));
        let too_large = i32::try_from(FRAME_BYTES_MAX + 1).unwrap();
        assert_eq!(
            sized(too_large, b"").next().unwrap_err(),
            FrameError::SizeOutOfRange(too_large)
        );
        assert_eq!(sized(7, b"1234567").next().unwrap_err(), FrameError::TooShort(7));
        assert_eq!(sized(0, b"").next().unwrap_err(), FrameError::TooShort(0));
    }

    #[test]
    fn http_is_recognised() {
        let requests = ["GET / HTTP/1.1", "POST /x", "PUT /x", "HEAD /", "DELETE /", "OPTIONS *"];
        for text in requests {
            assert_eq!(reader(text.as_bytes()).next().unwrap_err(), FrameError::Http);
        }
    }

    #[test]
    fn only_produce_may_exceed_the_control_limit() {
        let size = i32::try_from(CONTROL_FRAME_BYTES_MAX + 1).unwrap();
        assert!(matches!(sized(size, b"").next(), Ok(Next::Incomplete)));
        assert!(matches!(sized(size, b"\0\0").next(), Ok(Next::NeedsBudget(_))));
        let refused = sized(size, b"\0\x01").next();
        assert!(matches!(refused, Err(FrameError::ControlTooLarge { api_key: 1, .. })));
    }

    #[test]
    fn a_large_frame_waits_for_its_budget_and_reserves_only_what_arrived() {
        let size = i32::try_from(FRAME_BYTES_MAX).unwrap();
        let mut frames = sized(size, b"\0\0\0\x0b");
        assert!(matches!(frames.next(), Ok(Next::NeedsBudget(_))));
        let budget = Arc::new(Semaphore::new(FRAME_BYTES_MAX));
        frames.grant(budget.try_acquire_many_owned(size.unsigned_abs()).unwrap());
        assert!(matches!(frames.next(), Ok(Next::Incomplete)));
        frames.reserve();
        assert!(frames.buffer.capacity() <= 2 * READ_STEP_BYTES);
    }
}
