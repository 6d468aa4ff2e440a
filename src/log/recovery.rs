//! Opening a partition: trust what a checkpoint covers, verify the rest, cut off a torn tail.
//!
//! Only the last segment can end in a torn batch: earlier ones were closed whole. A bad batch in
//! an earlier segment is damage, not a crash; the partition is refused rather than cut, because
//! cutting would drop acknowledged records behind the damage.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64};

use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use super::checkpoint::SegmentRow;
use super::durability::SyncState;
use super::index::{IndexBuilder, SparseIndex};
use super::layout::sync_dir;
use super::partition::{LogConfig, Partition, Writer};
use super::producer_state::ProducerTable;
use super::segment::{self, Segment};
use crate::base::ids::{Offset, TimestampMs, TopicPartition};
use crate::protocol::record_batch::BatchHeader;

/// What an earlier checkpoint saved of a partition. The default is nothing: everything is scanned.
#[derive(Debug, Default)]
pub struct SavedPartition {
    /// First readable offset.
    pub log_start_offset: Offset,
    /// Catalogue rows by base offset.
    pub segments: BTreeMap<Offset, SegmentRow>,
    /// Index of the active segment up to its row's position.
    pub active_index: SparseIndex,
    /// Encoded producer table at the end of the last row.
    pub producers: Option<Vec<u8>>,
}

/// Why a partition cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// A batch before the tail is damaged.
    #[error("segment {} is damaged at byte {position} of {len}", path.display())]
    Damaged {
        /// The segment file.
        path: PathBuf,
        /// Where the first bad batch begins.
        position: u64,
        /// Bytes of the file.
        len: u64,
    },
    /// The file system failed.
    #[error("{} cannot be opened: {source}", path.display())]
    Io {
        /// The partition's folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// State that grows while segments are scanned in order.
struct Scan {
    producers: ProducerTable,
    now: TimestampMs,
}

/// The last segment once its tail is verified.
struct Tail {
    position: u64,
    next_offset: Offset,
    builder: IndexBuilder,
}

impl Partition {
    /// Opens the partition in `dir`, creating it if there is none.
    ///
    /// Blocks on the disk.
    ///
    /// # Errors
    /// [`RecoveryError`]; nothing was changed then except that a torn tail may be cut off.
    pub fn open(
        name: TopicPartition,
        dir: &Path,
        config: LogConfig,
        saved: SavedPartition,
        now: TimestampMs,
    ) -> Result<Self, RecoveryError> {
        let failed = |source| RecoveryError::Io { path: dir.to_path_buf(), source };
        std::fs::create_dir_all(dir).map_err(failed)?;
        let bases = list_segments(dir).map_err(failed)?;
        let is_new = bases.is_empty();
        let mut segments = Vec::with_capacity(bases.len().max(1));
        for base_offset in bases {
            segments.push(Arc::new(Segment::open(dir, base_offset).map_err(failed)?));
        }
        if is_new {
            let first = Segment::create(dir, saved.log_start_offset).map_err(failed)?;
            segments.push(Arc::new(first));
            sync_dir(dir).map_err(failed)?;
        }
        let trusts_rows = segments.iter().all(|s| saved.segments.contains_key(&s.base_offset));
        let table = saved.producers.as_deref().and_then(ProducerTable::decode);
        let producers =
            if trusts_rows { table.unwrap_or_default() } else { ProducerTable::default() };
        let mut scan = Scan { producers, now };
        let mut newly_sealed = Vec::new();
        let Some((last, earlier)) = segments.split_last() else {
            return Err(failed(io::Error::other("a partition has at least one segment")));
        };
        for (segment, next) in earlier.iter().zip(segments.iter().skip(1)) {
            let row = saved.segments.get(&segment.base_offset).filter(|_| trusts_rows);
            if scan.sealed(segment, row, next.base_offset).map_err(|e| e.at(dir))? {
                newly_sealed.push(Arc::clone(segment));
            }
        }
        let row = saved.segments.get(&last.base_offset).filter(|_| trusts_rows);
        let tail = scan.active(last, row, saved.active_index).map_err(failed)?;
        let first_base = segments.first().map_or(0, |s| s.base_offset);
        let log_start = saved.log_start_offset.max(first_base).min(tail.next_offset);
        let writer = Writer {
            active: Arc::clone(last),
            position: tail.position,
            next_offset: tail.next_offset,
            index_builder: tail.builder,
            producers: scan.producers,
            segment_started: (tail.position > 0).then_some(now),
            saved_index_entries: 0,
            newly_sealed,
            removed: Vec::new(),
            producers_changed: true,
            checkpointed: None,
        };
        Ok(Self {
            name,
            dir: dir.to_path_buf(),
            config: RwLock::new(Arc::new(config)),
            writer: Mutex::new(writer),
            segments: RwLock::new(segments),
            log_start: AtomicI64::new(log_start),
            high_watermark: watch::Sender::new(tail.next_offset),
            // What was read back may still be only in the page cache: the first sync says more.
            durable_end: watch::Sender::new(0),
            sync: Mutex::new(SyncState::default()),
            offline: AtomicBool::new(false),
        })
    }
}

/// A failure inside a scan, before the folder is known.
enum ScanError {
    Io(io::Error),
    Damaged { path: PathBuf, position: u64, len: u64 },
}

impl ScanError {
    fn at(self, dir: &Path) -> RecoveryError {
        match self {
            Self::Io(source) => RecoveryError::Io { path: dir.to_path_buf(), source },
            Self::Damaged { path, position, len } => RecoveryError::Damaged { path, position, len },
        }
    }
}

impl Scan {
    /// Opens a closed segment; tells whether it had to be scanned.
    fn sealed(
        &mut self,
        segment: &Segment,
        row: Option<&SegmentRow>,
        next_base: Offset,
    ) -> Result<bool, ScanError> {
        let len = segment.file().metadata().map_err(ScanError::Io)?.len();
        if let Some(row) = row.filter(|row| row.sealed && u64::from(row.position) == len) {
            segment.publish(len, row.max_timestamp);
            return Ok(false);
        }
        let mut index = SparseIndex::default();
        let mut builder = IndexBuilder::new(segment.base_offset);
        let mut last_end = segment.base_offset;
        let good = segment
            .verify(0, len, segment.base_offset, |position, header| {
                self.observe(header, position, &mut builder, &mut index);
                last_end = header.next_offset();
            })
            .map_err(ScanError::Io)?;
        if good < len || last_end > next_base {
            let path = segment.path().to_path_buf();
            return Err(ScanError::Damaged { path, position: good, len });
        }
        segment.publish(len, builder.max_timestamp());
        segment.load_index(index);
        Ok(true)
    }

    /// Opens the last segment: verifies what no checkpoint covers and cuts off what is torn.
    fn active(
        &mut self,
        segment: &Segment,
        row: Option<&SegmentRow>,
        saved_index: SparseIndex,
    ) -> io::Result<Tail> {
        let len = segment.file().metadata()?.len();
        let row = row.filter(|row| u64::from(row.position) <= len);
        let from = row.map_or(0, |row| u64::from(row.position));
        let mut next_offset = row.map_or(segment.base_offset, |row| row.next_offset);
        let (mut index, mut builder) = match row {
            Some(row) => {
                let mut index = saved_index;
                index.truncate(row.position.saturating_add(1));
                let base = segment.base_offset;
                let builder = IndexBuilder::resume(base, row.position, row.max_timestamp);
                (index, builder)
            }
            None => (SparseIndex::default(), IndexBuilder::new(segment.base_offset)),
        };
        let start = next_offset;
        let position = segment.verify(from, len, start, |position, header| {
            self.observe(header, position, &mut builder, &mut index);
            next_offset = header.next_offset();
        })?;
        if position < len {
            let bytes = len - position;
            tracing::warn!(
                segment = %segment.path().display(), position, bytes, next_offset,
                "cut off a tail that holds no whole batch"
            );
            segment.file().set_len(position)?;
        }
        segment.publish(position, builder.max_timestamp());
        segment.load_index(index);
        Ok(Tail { position, next_offset, builder })
    }

    fn observe(
        &mut self,
        header: &BatchHeader,
        position: u64,
        builder: &mut IndexBuilder,
        index: &mut SparseIndex,
    ) {
        let at = u32::try_from(position).unwrap_or(u32::MAX);
        if let Some(entry) = builder.observe(at, header.base_offset, header.max_timestamp) {
            index.push(entry);
        }
        self.producers.record(header, header.base_offset, self.now);
    }
}

fn list_segments(dir: &Path) -> io::Result<Vec<Offset>> {
    let mut bases = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        if let Some(base) = segment::parse_file_name(&entry?.file_name().to_string_lossy()) {
            bases.push(base);
        }
    }
    bases.sort_unstable();
    Ok(bases)
}
