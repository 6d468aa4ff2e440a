//! Compaction: of every key only the last record stays; offsets never change.
//!
//! Closed segments are rewritten one by one into `<base>.cleaned`, synced and renamed over the
//! original, so a crash leaves either the old or the new file. A batch keeps its base and last
//! offset and its producer fields even when records leave it; it is written uncompressed then.
//! Tombstones stay until they are older than `delete.retention.ms`. Nothing from the last stable
//! offset on is touched; records of aborted transactions go, markers stay.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::index::{IndexBuilder, SparseIndex};
use super::layout::sync_dir;
use super::partition::Partition;
use super::segment::{Segment, invalid_data};
use super::transactions::AbortedTransaction;
use crate::base::ids::{Offset, TimestampMs};
use crate::protocol::record_batch::{
    BatchBuilder, BatchError, BatchHeader, BatchRecords, ProducerStamp,
};

/// Ending of a rewritten segment that has not replaced the original yet.
const CLEANED_SUFFIX: &str = "cleaned";

/// Share of closed bytes that must be new since the last compaction (`min.cleanable.dirty.ratio`).
const DIRTY_RATIO_MIN: f64 = 0.5;

/// What a compaction did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Compacted {
    /// Bytes of the rewritten segments before.
    pub bytes_before: u64,
    /// And after.
    pub bytes_after: u64,
}

/// Whether a compaction waits until enough is dirty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// Only when the dirty ratio is reached.
    WhenDirty,
    /// Whatever there is to gain.
    Always,
}

type LastOffsets = HashMap<Bytes, Offset>;

impl Partition {
    /// Rewrites the closed segments so that of each key only the last record stays.
    ///
    /// `clean_until` is where the last compaction ended; the new end is returned with the result.
    /// Blocks on the disk.
    ///
    /// # Errors
    /// What the file system reports; the segments rewritten so far stay rewritten.
    pub fn compact(
        &self,
        clean_until: Offset,
        trigger: Trigger,
        now: TimestampMs,
    ) -> io::Result<Option<(Offset, Compacted)>> {
        let _cleaning = self.cleaning.lock();
        let (sealed, end) = {
            let segments = self.segments.read();
            let Some((active, sealed)) = segments.split_last() else { return Ok(None) };
            let stable = self.last_stable_offset();
            let next_bases = segments.iter().skip(1).map(|next| next.base_offset);
            let count = next_bases.take_while(|next| *next <= stable).count().min(sealed.len());
            let end = segments.get(count).map_or(active.base_offset, |next| next.base_offset);
            (sealed.get(..count).unwrap_or_default().to_vec(), end)
        };
        let aborted = self.aborted_between(0, Offset::MAX);
        let total = sealed.iter().map(|s| s.len()).sum::<u64>();
        let is_dirty = |s: &&Arc<Segment>| s.base_offset >= clean_until;
        let dirty = sealed.iter().filter(is_dirty).map(|s| s.len()).sum::<u64>();
        let enough = match trigger {
            Trigger::WhenDirty => dirty as f64 >= total as f64 * DIRTY_RATIO_MIN,
            Trigger::Always => true,
        };
        if total == 0 || dirty == 0 || !enough {
            return Ok(None);
        }
        let mut last = LastOffsets::new();
        for segment in self.segments.read().clone() {
            collect_last_offsets(&segment, &aborted, &mut last)?;
        }
        let tombstones_before = now - self.config().delete_retention_ms;
        let mut done = Compacted::default();
        for segment in sealed {
            let keeps = Keeps { last: &last, aborted: &aborted, tombstones_before };
            done.bytes_before += segment.len();
            let cleaned = self.rewrite(&segment, &keeps)?;
            done.bytes_after += cleaned;
        }
        self.sync.lock().note_dir_change();
        Ok(Some((end, done)))
    }

    fn rewrite(&self, segment: &Arc<Segment>, keeps: &Keeps<'_>) -> io::Result<u64> {
        let path = segment.path().with_extension(CLEANED_SUFFIX);
        let mut output = Output::create(&path, segment.base_offset)?;
        for_each_batch(segment, |header, bytes| output.take(header, bytes, keeps))?;
        if output.position == segment.len() {
            std::fs::remove_file(&path)?;
            return Ok(segment.len());
        }
        let replacement = output.finish(segment, &self.dir, &path)?;
        let bytes = replacement.len();
        let mut writer = self.writer.lock();
        let mut segments = self.segments.write();
        if let Some(slot) = segments.iter_mut().find(|s| Arc::ptr_eq(s, segment)) {
            *slot = Arc::clone(&replacement);
        }
        writer.newly_sealed.retain(|s| !Arc::ptr_eq(s, segment));
        writer.removed.push(segment.base_offset);
        writer.newly_sealed.insert(0, replacement);
        // The next checkpoint writes this segment's index from its first entry.
        writer.saved_index_entries = 0;
        Ok(bytes)
    }
}

struct Keeps<'a> {
    last: &'a LastOffsets,
    aborted: &'a [AbortedTransaction],
    tombstones_before: TimestampMs,
}

impl Keeps<'_> {
    fn record(&self, record: &crate::protocol::record_batch::Record<'_>) -> bool {
        let Some(key) = record.key else { return false };
        let is_last = self.last.get(key).is_none_or(|last| *last <= record.offset);
        let is_expired = record.value.is_none() && record.timestamp < self.tombstones_before;
        is_last && !is_expired
    }
}

/// A segment being written anew.
struct Output {
    file: io::BufWriter<std::fs::File>,
    position: u64,
    index: SparseIndex,
    builder: IndexBuilder,
}

impl Output {
    fn create(path: &Path, base_offset: Offset) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
        Ok(Self {
            file: io::BufWriter::new(file),
            position: 0,
            index: SparseIndex::default(),
            builder: IndexBuilder::new(base_offset),
        })
    }

    fn take(&mut self, header: &BatchHeader, bytes: &Bytes, keeps: &Keeps<'_>) -> io::Result<()> {
        if header.is_control() {
            return self.write(header, bytes);
        }
        if keeps.aborted.iter().any(|aborted| aborted.covers(header)) {
            return Ok(());
        }
        let records = BatchRecords::open(*header, bytes).map_err(invalid_data)?;
        let all = records.iter().collect::<Result<Vec<_>, BatchError>>().map_err(invalid_data)?;
        let kept: Vec<_> = all.iter().filter(|record| keeps.record(record)).collect();
        if kept.len() == all.len() {
            return self.write(header, bytes);
        }
        if kept.is_empty() {
            return Ok(());
        }
        let mut builder =
            BatchBuilder::with_capacity(bytes.len()).like(header).at_offset(header.base_offset);
        if header.has_producer_id() {
            builder = builder.for_producer(ProducerStamp {
                id: header.producer_id,
                epoch: header.producer_epoch,
                base_sequence: header.base_sequence,
            });
        }
        for record in kept {
            let delta = i32::try_from(record.offset - header.base_offset).unwrap_or(i32::MAX);
            let headers = record.headers().collect::<Vec<_>>();
            let (key, value) = (record.key, record.value);
            builder.push_at(delta, record.timestamp, key, value, headers.iter().copied());
        }
        let rewritten = builder.ending_at(header.last_offset_delta).finish();
        let header = BatchHeader::parse(&rewritten).map_err(invalid_data)?;
        self.write(&header, &rewritten)
    }

    fn write(&mut self, header: &BatchHeader, bytes: &Bytes) -> io::Result<()> {
        let position = u32::try_from(self.position).unwrap_or(u32::MAX);
        let observed = self.builder.observe(position, header.base_offset, header.max_timestamp);
        if let Some(entry) = observed {
            self.index.push(entry);
        }
        self.file.write_all(bytes)?;
        self.position += bytes.len() as u64;
        Ok(())
    }

    /// Makes the new file durable and puts it in the place of the old one.
    fn finish(self, old: &Segment, dir: &Path, path: &PathBuf) -> io::Result<Arc<Segment>> {
        let file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_data()?;
        std::fs::rename(path, old.path())?;
        sync_dir(dir)?;
        let segment = Segment::open(dir, old.base_offset)?;
        segment.publish(self.position, self.builder.max_timestamp());
        segment.load_index(self.index);
        Ok(Arc::new(segment))
    }
}

fn for_each_batch(
    segment: &Segment,
    mut visit: impl FnMut(&BatchHeader, &Bytes) -> io::Result<()>,
) -> io::Result<()> {
    let mut places = Vec::new();
    segment.scan_headers(0, segment.len(), |position, header| {
        places.push((position, *header));
        std::ops::ControlFlow::Continue(())
    })?;
    for (position, header) in places {
        visit(&header, &segment.read_at(position, header.total_bytes())?)?;
    }
    Ok(())
}

fn collect_last_offsets(
    segment: &Segment,
    aborted: &[AbortedTransaction],
    last: &mut LastOffsets,
) -> io::Result<()> {
    for_each_batch(segment, |header, bytes| {
        if header.is_control() || aborted.iter().any(|aborted| aborted.covers(header)) {
            return Ok(());
        }
        let records = BatchRecords::open(*header, bytes).map_err(invalid_data)?;
        for record in &records {
            let record = record.map_err(invalid_data)?;
            if let Some(key) = record.key {
                last.insert(Bytes::copy_from_slice(key), record.offset);
            }
        }
        Ok(())
    })
}
