//! One segment file: batches back to back, named by the offset of the first.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use parking_lot::RwLock;

use super::index::{IndexBuilder, IndexEntry, SparseIndex};
use crate::base::ids::{Offset, TimestampMs};
use crate::protocol::record_batch::header::verify_crc;
use crate::protocol::record_batch::{BatchError, BatchHeader, HEADER_BYTES};

/// Ending of a segment file.
pub const SEGMENT_SUFFIX: &str = ".log";

/// Bytes read at once when headers are scanned.
const SCAN_WINDOW_BYTES: usize = 16 * 1024;

/// Bytes read at once when whole batches are verified.
const VERIFY_WINDOW_BYTES: usize = 1024 * 1024;

/// One segment, shared by the writer and any number of readers.
#[derive(Debug)]
pub struct Segment {
    /// Offset of the first record slot.
    pub base_offset: Offset,
    path: PathBuf,
    /// Kept by every reader of a slice, so an unlinked segment lives until its last reader ends.
    file: Arc<File>,
    /// Bytes that readers may see. Stored with `Release` after the write, loaded with `Acquire`.
    len: AtomicU64,
    max_timestamp: AtomicI64,
    /// None when the segment is sealed and nobody has needed its index yet.
    index: RwLock<Option<SparseIndex>>,
    /// Set by readers, cleared by the sweep that unloads the indexes of idle segments.
    index_used: AtomicBool,
}

/// Returns the file name of the segment that begins at `base_offset`.
#[must_use]
pub fn file_name(base_offset: Offset) -> String {
    format!("{base_offset:020}{SEGMENT_SUFFIX}")
}

/// Reads the base offset out of a segment's file name.
#[must_use]
pub fn parse_file_name(name: &str) -> Option<Offset> {
    let digits = name.strip_suffix(SEGMENT_SUFFIX)?;
    (digits.len() == 20).then(|| digits.parse().ok()).flatten().filter(|base| *base >= 0)
}

impl Segment {
    /// Creates an empty segment in `dir`; its index is empty and loaded.
    ///
    /// # Errors
    /// What the file system reports; an existing file is an error.
    pub fn create(dir: &Path, base_offset: Offset) -> io::Result<Self> {
        let path = dir.join(file_name(base_offset));
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
        Ok(Self::from_parts(base_offset, path, file, 0, -1, Some(SparseIndex::default())))
    }

    /// Opens an existing segment of `dir`; what readers may see is set by the caller.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn open(dir: &Path, base_offset: Offset) -> io::Result<Self> {
        let path = dir.join(file_name(base_offset));
        let file = OpenOptions::new().read(true).write(true).open(&path)?;
        Ok(Self::from_parts(base_offset, path, file, 0, -1, None))
    }

    fn from_parts(
        base_offset: Offset,
        path: PathBuf,
        file: File,
        len: u64,
        max_timestamp: TimestampMs,
        index: Option<SparseIndex>,
    ) -> Self {
        Self {
            base_offset,
            path,
            file: Arc::new(file),
            len: AtomicU64::new(len),
            max_timestamp: AtomicI64::new(max_timestamp),
            index: RwLock::new(index),
            index_used: AtomicBool::new(true),
        }
    }

    /// Where the file lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The open file.
    #[must_use]
    pub const fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// Bytes that readers may see.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len.load(Ordering::Acquire)
    }

    /// Tells whether readers see no byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Largest timestamp in the segment, -1 for none.
    #[must_use]
    pub fn max_timestamp(&self) -> TimestampMs {
        // Only a hint for retention and time search; the bytes are published by `len`.
        self.max_timestamp.load(Ordering::Relaxed)
    }

    /// Publishes bytes up to `len`.
    pub(super) fn publish(&self, len: u64, max_timestamp: TimestampMs) {
        self.max_timestamp.store(max_timestamp, Ordering::Relaxed);
        self.len.store(len, Ordering::Release);
    }

    /// Adds an entry to the loaded index.
    pub(super) fn push_index(&self, entry: IndexEntry) {
        if let Some(index) = self.index.write().as_mut() {
            index.push(entry);
        }
    }

    /// Replaces the index.
    pub fn load_index(&self, index: SparseIndex) {
        *self.index.write() = Some(index);
        self.index_used.store(true, Ordering::Relaxed);
    }

    /// Runs `f` on the index, if it is loaded.
    pub fn with_index<T>(&self, f: impl FnOnce(&SparseIndex) -> T) -> Option<T> {
        let guard = self.index.read();
        self.index_used.store(true, Ordering::Relaxed);
        guard.as_ref().map(f)
    }

    /// Unloads the index when nobody used it since the last call.
    pub(super) fn unload_idle_index(&self) {
        if !self.index_used.swap(false, Ordering::Relaxed) {
            *self.index.write() = None;
        }
    }

    /// Bytes the loaded index takes.
    #[must_use]
    pub fn index_entries(&self) -> usize {
        self.index.read().as_ref().map_or(0, SparseIndex::len)
    }

    /// Reads `len` bytes at `position`.
    ///
    /// # Errors
    /// What the file system reports; fewer bytes than asked is an error.
    pub fn read_at(&self, position: u64, len: usize) -> io::Result<Bytes> {
        let mut buffer = BytesMut::zeroed(len);
        self.file.read_exact_at(&mut buffer, position)?;
        Ok(buffer.freeze())
    }

    /// Calls `visit` with position and header of each batch from `from` to `end` until it breaks.
    ///
    /// # Errors
    /// An I/O error, or `InvalidData` when bytes at a boundary are no header.
    pub fn scan_headers(
        &self,
        from: u64,
        end: u64,
        mut visit: impl FnMut(u64, &BatchHeader) -> std::ops::ControlFlow<()>,
    ) -> io::Result<()> {
        let mut window = vec![0_u8; SCAN_WINDOW_BYTES];
        let mut position = from;
        while position + HEADER_BYTES as u64 <= end {
            let want = usize::try_from(end - position).unwrap_or(usize::MAX).min(SCAN_WINDOW_BYTES);
            let chunk = window.get_mut(..want).unwrap_or_default();
            self.file.read_exact_at(chunk, position)?;
            let mut at = 0;
            while let Some(bytes) = chunk.get(at..).filter(|b| b.len() >= HEADER_BYTES) {
                let header = BatchHeader::parse(bytes).map_err(invalid_data)?;
                if visit(position + at as u64, &header).is_break() {
                    return Ok(());
                }
                at += header.total_bytes();
            }
            position += at as u64;
        }
        Ok(())
    }

    /// Verifies every batch from `from` to `end`, CRC and order of offsets included, and calls
    /// `visit` for each; returns where the first bad batch begins, which is `end` when all is well.
    ///
    /// # Errors
    /// Only what the file system reports; damaged bytes end the scan without an error.
    pub fn verify(
        &self,
        from: u64,
        end: u64,
        mut next_offset: Offset,
        mut visit: impl FnMut(u64, &BatchHeader, &[u8]),
    ) -> io::Result<u64> {
        let mut position = from;
        let mut window = Vec::new();
        let mut want = VERIFY_WINDOW_BYTES;
        loop {
            let len = usize::try_from(end - position).unwrap_or(usize::MAX).min(want);
            window.resize(len, 0);
            self.file.read_exact_at(&mut window, position)?;
            let mut at = 0;
            let needed = loop {
                let rest = window.get(at..).unwrap_or_default();
                let Ok(header) = BatchHeader::parse(rest) else { break HEADER_BYTES };
                let total = header.total_bytes();
                if total > rest.len() {
                    break total;
                }
                if header.base_offset < next_offset || verify_crc(&header, rest).is_err() {
                    return Ok(position + at as u64);
                }
                visit(position + at as u64, &header, rest.get(..total).unwrap_or_default());
                next_offset = header.next_offset();
                at += total;
            };
            position += at as u64;
            let is_cut_short = position + needed as u64 > end;
            let is_no_header = at == 0 && len >= HEADER_BYTES && needed <= len;
            if is_cut_short || is_no_header {
                return Ok(position);
            }
            want = needed.max(VERIFY_WINDOW_BYTES);
        }
    }

    /// Scans the whole segment by headers and loads the index it finds.
    ///
    /// # Errors
    /// As [`Segment::scan_headers`].
    pub fn rebuild_index(&self) -> io::Result<()> {
        let mut builder = IndexBuilder::new(self.base_offset);
        let mut index = SparseIndex::default();
        self.scan_headers(0, self.len(), |position, header| {
            let position = u32::try_from(position).unwrap_or(u32::MAX);
            if let Some(entry) = builder.observe(position, header.base_offset, header.max_timestamp)
            {
                index.push(entry);
            }
            std::ops::ControlFlow::Continue(())
        })?;
        self.load_index(index);
        Ok(())
    }
}

#[allow(clippy::needless_pass_by_value, reason = "used as a function in map_err")]
pub(super) fn invalid_data(error: BatchError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_round_trip_and_others_are_ignored() {
        assert_eq!(parse_file_name(&file_name(1234)), Some(1234));
        for name in ["1234.log", "0000000000000000001x.log", "00000000000000000001.tmp", ".log"] {
            assert_eq!(parse_file_name(name), None, "{name}");
        }
    }
}
