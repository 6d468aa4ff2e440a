//! Finding records: by offset, by timestamp, and how many bytes of whole batches follow.
//!
//! A read yields a [`LogSlice`], a range of one segment file that holds whole batches only. Who
//! wants bytes reads them; the Kafka door can hand the range to the kernel instead.

use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;

use super::partition::Partition;
use super::segment::{Segment, invalid_data};
use crate::base::ids::{Offset, TimestampMs};
use crate::protocol::record_batch::{BatchHeader, BatchRecords};

/// Why a read cannot be answered.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The offset lies outside the log.
    #[error("offset {requested} is outside {start}..={end}")]
    OutOfRange {
        /// What was asked.
        requested: Offset,
        /// First readable offset.
        start: Offset,
        /// Offset after the last readable record.
        end: Offset,
    },
    /// The index of a sealed segment is not in memory: load it and ask again.
    #[error("index of segment {} is not loaded", .0.base_offset)]
    IndexNotLoaded(Arc<Segment>),
    /// The file system failed or a boundary holds no batch.
    #[error("read failed: {0}")]
    Io(#[from] io::Error),
}

/// A range of a segment file that holds whole batches.
#[derive(Debug, Clone)]
pub struct LogSlice {
    /// The file; it stays readable even when the segment is deleted meanwhile.
    pub file: Arc<File>,
    /// First byte of the range.
    pub position: u64,
    /// Bytes of the range; 0 when there is nothing to read.
    pub len: usize,
}

impl LogSlice {
    /// Reads the bytes.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn read(&self) -> io::Result<Bytes> {
        use std::os::unix::fs::FileExt;
        let mut buffer = bytes::BytesMut::zeroed(self.len);
        self.file.read_exact_at(&mut buffer, self.position)?;
        Ok(buffer.freeze())
    }
}

/// A record found by its timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimestampHit {
    /// Its offset.
    pub offset: Offset,
    /// Its own timestamp.
    pub timestamp: TimestampMs,
}

impl Partition {
    /// Finds whole batches from the one that holds `offset`, up to `bytes_max` bytes but at least
    /// one batch; none at the end of the log.
    ///
    /// # Errors
    /// [`ReadError`]; after `IndexNotLoaded` load the index and call again.
    pub fn read(&self, offset: Offset, bytes_max: usize) -> Result<Option<LogSlice>, ReadError> {
        self.read_before(Offset::MAX, offset, bytes_max)
    }

    /// As [`Partition::read`], without batches from `until` on, where a batch must begin.
    ///
    /// # Errors
    /// As [`Partition::read`].
    pub fn read_before(
        &self,
        until: Offset,
        offset: Offset,
        bytes_max: usize,
    ) -> Result<Option<LogSlice>, ReadError> {
        let (start, end) = (self.log_start_offset(), self.high_watermark());
        if offset < start || offset > end {
            return Err(ReadError::OutOfRange { requested: offset, start, end });
        }
        if offset == end || offset >= until {
            return Ok(None);
        }
        for segment in self.segments_from(offset) {
            if segment.base_offset >= until {
                break;
            }
            if let Some(slice) = slice_of(&segment, offset, bytes_max)? {
                return if until < end { cut(&segment, slice, until) } else { Ok(Some(slice)) };
            }
            // Compaction may have emptied the rest of a segment: the next one continues.
        }
        Ok(None)
    }

    /// Finds the first record with a timestamp of at least `timestamp`.
    ///
    /// # Errors
    /// [`ReadError`]; after `IndexNotLoaded` load the index and call again.
    pub fn find_timestamp(
        &self,
        timestamp: TimestampMs,
    ) -> Result<Option<TimestampHit>, ReadError> {
        let start = self.log_start_offset();
        for segment in self.segments_from(start) {
            if segment.max_timestamp() >= timestamp
                && let Some(hit) = timestamp_in(&segment, timestamp, start)?
            {
                return Ok(Some(hit));
            }
        }
        Ok(None)
    }

    /// Finds the record with the largest timestamp (ListOffsets -3, KIP-734).
    ///
    /// # Errors
    /// As [`Partition::find_timestamp`].
    pub fn find_max_timestamp(&self) -> Result<Option<TimestampHit>, ReadError> {
        let start = self.log_start_offset();
        let max = self.segments.read().iter().map(|s| s.max_timestamp()).max().unwrap_or(-1);
        if max < 0 {
            return Ok(None);
        }
        if let Some(hit) = self.find_timestamp(max)? {
            return Ok(Some(hit));
        }
        // The record with that timestamp is before the log start offset, in the first segment.
        let segments = self.segments_from(start);
        let Some((first, rest)) = segments.split_first() else { return Ok(None) };
        let newest = newest_in(first, start)?;
        let later = rest.iter().map(|s| s.max_timestamp()).max().unwrap_or(-1);
        match newest {
            Some(hit) if hit.timestamp >= later => Ok(Some(hit)),
            _ if later >= 0 => self.find_timestamp(later),
            _ => Ok(newest),
        }
    }

    fn segments_from(&self, offset: Offset) -> Vec<Arc<Segment>> {
        let segments = self.segments.read();
        let first = segments.partition_point(|s| s.base_offset <= offset).saturating_sub(1);
        segments.get(first..).unwrap_or_default().to_vec()
    }
}

fn slice_of(
    segment: &Arc<Segment>,
    offset: Offset,
    bytes_max: usize,
) -> Result<Option<LogSlice>, ReadError> {
    let end = segment.len();
    let delta = u32::try_from((offset - segment.base_offset).max(0)).unwrap_or(u32::MAX);
    let not_loaded = || ReadError::IndexNotLoaded(Arc::clone(segment));
    let from =
        segment.with_index(|index| index.position_for_offset(delta)).ok_or_else(not_loaded)?;
    let mut first = None;
    segment.scan_headers(u64::from(from), end, |position, header| {
        if header.last_offset() < offset {
            return ControlFlow::Continue(());
        }
        first = Some((position, header.total_bytes() as u64));
        ControlFlow::Break(())
    })?;
    let Some((position, first_bytes)) = first else { return Ok(None) };
    let limit = position.saturating_add(bytes_max as u64);
    let slice_end = if end <= limit {
        end
    } else {
        let near = u32::try_from(limit).unwrap_or(u32::MAX);
        let boundary =
            segment.with_index(|index| index.boundary_at_or_before(near)).ok_or_else(not_loaded)?;
        let mut slice_end = position + first_bytes;
        let scan_from = slice_end.max(u64::from(boundary));
        slice_end = scan_from;
        segment.scan_headers(scan_from, end, |at, header| {
            let batch_end = at + header.total_bytes() as u64;
            if batch_end > limit {
                return ControlFlow::Break(());
            }
            slice_end = batch_end;
            ControlFlow::Continue(())
        })?;
        slice_end
    };
    let len = usize::try_from(slice_end - position).unwrap_or(usize::MAX);
    Ok(Some(LogSlice { file: Arc::clone(segment.file()), position, len }))
}

/// The first record with the largest timestamp of those from `start` on, by reading them all.
fn newest_in(segment: &Arc<Segment>, start: Offset) -> io::Result<Option<TimestampHit>> {
    let mut batches: Vec<(u64, BatchHeader)> = Vec::new();
    segment.scan_headers(0, segment.len(), |position, header| {
        let is_readable = header.last_offset() >= start && !header.is_control();
        let newest = batches.last().map_or(-1, |(_, newest)| newest.max_timestamp);
        // A batch across the start may have lost its newest record, so it proves nothing.
        let is_whole = batches.last().is_some_and(|(_, newest)| newest.base_offset >= start);
        if is_readable && !(is_whole && header.max_timestamp <= newest) {
            batches.push((position, *header));
        }
        ControlFlow::Continue(())
    })?;
    let mut best: Option<TimestampHit> = None;
    for (position, header) in batches {
        let batch = segment.read_at(position, header.total_bytes())?;
        let records = BatchRecords::open(header, &batch).map_err(invalid_data)?;
        for record in &records {
            let record = record.map_err(invalid_data)?;
            let is_newer = best.is_none_or(|best| record.timestamp > best.timestamp);
            if record.offset >= start && is_newer {
                best = Some(TimestampHit { offset: record.offset, timestamp: record.timestamp });
            }
        }
    }
    Ok(best)
}

/// Cuts off batches from `until` on.
fn cut(
    segment: &Arc<Segment>,
    slice: LogSlice,
    until: Offset,
) -> Result<Option<LogSlice>, ReadError> {
    let delta = u32::try_from((until - segment.base_offset).max(0)).unwrap_or(u32::MAX);
    let near = segment.with_index(|index| index.position_for_offset(delta));
    let near = near.ok_or_else(|| ReadError::IndexNotLoaded(Arc::clone(segment)))?;
    let slice_end = slice.position + slice.len as u64;
    let mut end = slice_end;
    segment.scan_headers(u64::from(near).max(slice.position), slice_end, |at, header| {
        if header.base_offset < until {
            return ControlFlow::Continue(());
        }
        end = at;
        ControlFlow::Break(())
    })?;
    let len = usize::try_from(end - slice.position).unwrap_or(0);
    Ok((len > 0).then_some(LogSlice { len, ..slice }))
}

fn timestamp_in(
    segment: &Arc<Segment>,
    timestamp: TimestampMs,
    start: Offset,
) -> Result<Option<TimestampHit>, ReadError> {
    let from = segment
        .with_index(|index| index.position_for_timestamp(timestamp))
        .ok_or_else(|| ReadError::IndexNotLoaded(Arc::clone(segment)))?;
    let mut candidates: Vec<(u64, BatchHeader)> = Vec::new();
    segment.scan_headers(u64::from(from), segment.len(), |position, header| {
        let matches = header.max_timestamp >= timestamp
            && header.last_offset() >= start
            && !header.is_control();
        if !matches {
            return ControlFlow::Continue(());
        }
        candidates.push((position, *header));
        ControlFlow::Break(())
    })?;
    for (position, header) in candidates {
        let batch = segment.read_at(position, header.total_bytes())?;
        let records = BatchRecords::open(header, &batch).map_err(invalid_data)?;
        for record in &records {
            let record = record.map_err(invalid_data)?;
            if record.timestamp >= timestamp && record.offset >= start {
                let (offset, timestamp) = (record.offset, record.timestamp);
                return Ok(Some(TimestampHit { offset, timestamp }));
            }
        }
    }
    Ok(None)
}
