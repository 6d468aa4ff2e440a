//! Collects encoded answers and writes them with few system calls.
//!
//! Answers are bytes with records between them. Records in memory go out by vectored writes;
//! records that are still a range of a segment file are handed to the kernel with `sendfile(2)`
//! and never enter this process, except small ones, for which a copy is cheaper than a packet of
//! their own.

use std::fs::File;
use std::io::{self, IoSlice};
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::engine::log::Records;

/// File ranges up to this size are copied between the other bytes of the answer.
const COPY_BYTES_MAX: usize = 16 * 1024;

/// Most bytes that one `sendfile` call is asked for, so that other connections get their turn.
const SENDFILE_BYTES_MAX: usize = 1024 * 1024;

/// Most slices that one system call takes (`IOV_MAX` of Linux).
const SLICES_MAX: usize = 1024;

/// Memory that a connection keeps for its next answers.
const KEPT_BYTES_MAX: usize = 8 * 1024;

/// Answers that wait to be written.
#[derive(Debug, Default)]
pub(super) struct Output {
    /// Everything but the records.
    bytes: BytesMut,
    /// Records, each with the position in `bytes` before which they belong; ascending.
    records: Vec<(usize, Records)>,
    /// Bytes of all `records`.
    records_bytes: usize,
}

/// Where a frame begins, to undo it or to write its size.
#[derive(Debug, Clone, Copy)]
pub(super) struct FrameStart {
    bytes: usize,
    records: usize,
    records_bytes: usize,
}

impl Output {
    /// Number of bytes that wait to be written.
    pub(super) fn len(&self) -> usize {
        self.bytes.len() + self.records_bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Begins a frame with a size that [`Output::end_frame`] fills in.
    pub(super) fn begin_frame(&mut self) -> FrameStart {
        let start = FrameStart {
            bytes: self.bytes.len(),
            records: self.records.len(),
            records_bytes: self.records_bytes,
        };
        self.bytes.put_i32(0);
        start
    }

    /// Writes the size of the frame that began at `start`.
    pub(super) fn end_frame(&mut self, start: FrameStart) {
        let plain = self.bytes.len().saturating_sub(start.bytes + 4);
        let size = plain + self.records_bytes.saturating_sub(start.records_bytes);
        let size = i32::try_from(size).unwrap_or(i32::MAX);
        if let Some(slot) = self.bytes.get_mut(start.bytes..start.bytes + 4) {
            slot.copy_from_slice(&size.to_be_bytes());
        }
    }

    /// Takes back everything since `start`.
    pub(super) fn undo_frame(&mut self, start: FrameStart) {
        self.bytes.truncate(start.bytes);
        self.records.truncate(start.records);
        self.records_bytes = start.records_bytes;
    }

    /// The buffer to encode into.
    pub(super) const fn buffer(&mut self) -> &mut BytesMut {
        &mut self.bytes
    }

    /// Appends records.
    pub(super) fn push_records(&mut self, records: Records) -> io::Result<()> {
        match records {
            records if records.is_empty() => {}
            Records::File(slice) if slice.len <= COPY_BYTES_MAX => {
                self.bytes.extend_from_slice(&slice.read()?);
            }
            records => {
                self.records_bytes += records.len();
                self.records.push((self.bytes.len(), records));
            }
        }
        Ok(())
    }

    /// Writes everything; `stall` bounds each wait for the peer to take more.
    ///
    /// # Cancel safety
    /// Not safe: the connection cannot be used after a write was dropped half-way.
    pub(super) async fn flush(&mut self, stream: &TcpStream, stall: Duration) -> io::Result<usize> {
        let writer = Writer { stream, stall };
        let mut slices = Vec::with_capacity(2 * self.records.len() + 1);
        let mut written_to = 0;
        for (position, records) in &self.records {
            slices.push(IoSlice::new(self.bytes.get(written_to..*position).unwrap_or_default()));
            written_to = *position;
            match records {
                Records::Memory(bytes) => slices.push(IoSlice::new(bytes)),
                Records::File(slice) => {
                    writer.write_slices(&mut slices, SendFlags::MORE).await?;
                    slices.clear();
                    writer.send_file(&slice.file, slice.position, slice.len).await?;
                }
            }
        }
        slices.push(IoSlice::new(self.bytes.get(written_to..).unwrap_or_default()));
        writer.write_slices(&mut slices, SendFlags::empty()).await?;
        drop(slices);
        let bytes = self.len();
        self.clear();
        Ok(bytes)
    }

    fn clear(&mut self) {
        self.records.clear();
        self.records_bytes = 0;
        if self.bytes.capacity() > KEPT_BYTES_MAX {
            self.bytes = BytesMut::new();
        } else {
            self.bytes.clear();
        }
    }

    /// All bytes in order, as the peer would see them.
    #[cfg(test)]
    pub(super) fn into_bytes(self) -> bytes::Bytes {
        let mut all = BytesMut::new();
        let mut copied_to = 0;
        for (position, records) in self.records {
            all.extend_from_slice(&self.bytes[copied_to..position]);
            copied_to = position;
            all.extend_from_slice(&records.into_bytes().unwrap());
        }
        all.extend_from_slice(&self.bytes[copied_to..]);
        all.freeze()
    }
}

/// Writes to a socket that may not take everything at once.
struct Writer<'a> {
    stream: &'a TcpStream,
    stall: Duration,
}

impl Writer<'_> {
    /// Writes all of `slices`; [`SendFlags::MORE`] keeps their end back, so that what comes before
    /// a file range travels in one packet with it.
    async fn write_slices(&self, slices: &mut [IoSlice<'_>], flags: SendFlags) -> io::Result<()> {
        let mut rest = slices;
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            let batch = rest.get(..SLICES_MAX).unwrap_or(rest);
            let sent = self.stream.async_io(Interest::WRITABLE, || {
                let mut control = SendAncillaryBuffer::default();
                Ok(sendmsg(self.stream, batch, &mut control, flags | SendFlags::NOSIGNAL)?)
            });
            match within(self.stall, sent).await {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(bytes) => IoSlice::advance_slices(&mut rest, bytes),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    async fn send_file(&self, file: &File, position: u64, len: usize) -> io::Result<()> {
        let mut position = position;
        let mut left = len;
        while left > 0 {
            let sent = self.stream.async_io(Interest::WRITABLE, || {
                let count = left.min(SENDFILE_BYTES_MAX);
                let sent = rustix::fs::sendfile(self.stream, file, Some(&mut position), count);
                sent.map_err(io::Error::from)
            });
            match within(self.stall, sent).await {
                // The frame's size has been announced, so the rest cannot be left out.
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(bytes) => left = left.saturating_sub(bytes),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

async fn within<T>(stall: Duration, step: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match tokio::time::timeout(stall, step).await {
        Ok(result) => result,
        Err(_elapsed) => Err(io::ErrorKind::TimedOut.into()),
    }
}
