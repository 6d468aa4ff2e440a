//! What a partition saves outside its segments so that opening it is fast.
//!
//! A checkpoint covers only what is on disk: it is taken, the log is synced, then it is stored.
//! After loss of power the saved state is therefore never ahead of the segments.

use std::io;
use std::sync::Arc;

use super::partition::Partition;
use super::producer_snapshot;
use super::segment::Segment;
use crate::base::ids::{Offset, TimestampMs};

/// The catalogue row of one segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentRow {
    /// First offset slot.
    pub base_offset: Offset,
    /// Bytes that are verified and on disk.
    pub position: u32,
    /// Offset after the last batch before `position`.
    pub next_offset: Offset,
    /// Largest timestamp before `position`.
    pub max_timestamp: TimestampMs,
    /// No more bytes follow in this segment.
    pub sealed: bool,
}

/// Index entries of one segment, to be added to what is saved already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexChunk {
    /// Segment they belong to.
    pub base_offset: Offset,
    /// Number of the first entry.
    pub first_entry: u32,
    /// Entries as `SparseIndex::encode_from` writes them.
    pub encoded: Vec<u8>,
}

/// Everything that changed since the last checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// First readable offset.
    pub log_start_offset: Offset,
    /// End of the log that this checkpoint describes.
    pub end_offset: Offset,
    /// Rows to put.
    pub segments: Vec<SegmentRow>,
    /// Index entries to put.
    pub index: Vec<IndexChunk>,
    /// Base offsets of segments whose row and index must go.
    pub removed: Vec<Offset>,
    /// Producers and transactions, when they changed.
    pub producers: Option<Vec<u8>>,
}

impl Partition {
    /// Takes a checkpoint and syncs what it describes; none when nothing changed.
    ///
    /// Blocks on the disk: call it from the store's thread. When storing the result fails, call
    /// [`Partition::forget_checkpoint`].
    ///
    /// # Errors
    /// What the sync reports.
    pub fn checkpoint(&self) -> io::Result<Option<Checkpoint>> {
        let Some(checkpoint) = self.describe_changes() else { return Ok(None) };
        self.sync_now()?;
        Ok(Some(checkpoint))
    }

    fn describe_changes(&self) -> Option<Checkpoint> {
        let mut writer = self.writer.lock();
        let unchanged = writer.checkpointed == Some(writer.next_offset)
            && writer.removed.is_empty()
            && writer.newly_sealed.is_empty()
            && !writer.producers_changed;
        if unchanged {
            return None;
        }
        let mut index = Vec::new();
        let mut segments = std::mem::take(&mut writer.newly_sealed);
        // The index of a closed segment is saved whole: this replaces what an earlier checkpoint
        // saved of it while it was active.
        index.extend(segments.iter().filter_map(|sealed| index_chunk(sealed, 0)));
        let active = Arc::clone(&writer.active);
        index.extend(index_chunk(&active, writer.saved_index_entries));
        writer.saved_index_entries = active.index_entries();
        writer.checkpointed = Some(writer.next_offset);
        segments.push(active);
        let ends = segments.iter().skip(1).map(|segment| segment.base_offset);
        let ends: Vec<Offset> = ends.chain([writer.next_offset]).collect();
        let sealed = segments.len() - 1;
        let rows =
            segments.iter().zip(ends).enumerate().map(|(at, (segment, next_offset))| SegmentRow {
                base_offset: segment.base_offset,
                position: u32::try_from(segment.len()).unwrap_or(u32::MAX),
                next_offset,
                max_timestamp: segment.max_timestamp(),
                sealed: at < sealed,
            });
        let changed = std::mem::take(&mut writer.producers_changed);
        Some(Checkpoint {
            log_start_offset: self.log_start_offset(),
            end_offset: writer.next_offset,
            segments: rows.collect(),
            index,
            removed: std::mem::take(&mut writer.removed),
            producers: changed
                .then(|| producer_snapshot::encode(&writer.producers, &self.transactions.read())),
        })
    }

    /// Makes the next checkpoint save the active segment's whole index again.
    pub fn forget_checkpoint(&self) {
        let mut writer = self.writer.lock();
        writer.saved_index_entries = 0;
        writer.checkpointed = None;
        writer.producers_changed = true;
    }
}

/// The entries of a segment's index from number `from` on; none when there are none, or when the
/// index is not in memory, which makes a later reader scan the segment.
fn index_chunk(segment: &Segment, from: usize) -> Option<IndexChunk> {
    let encoded = segment.with_index(|index| index.encode_from(from))?;
    let first_entry = u32::try_from(from).unwrap_or(u32::MAX);
    let base_offset = segment.base_offset;
    (!encoded.is_empty()).then_some(IndexChunk { base_offset, first_entry, encoded })
}
