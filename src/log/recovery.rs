//! Opening a partition: trust what a checkpoint covers, verify the rest, cut off a torn tail.
//!
//! What lies behind the last checkpoint may never have been synced, so loss of power can tear it
//! anywhere: it is cut at the first bad batch, and later segments are put aside. What a checkpoint
//! covers, or could cover if there was one, was on disk: a bad batch there is damage, not a
//! crash. The partition is refused then, because cutting would drop acknowledged records.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use super::checkpoint::SegmentRow;
use super::durability::SyncState;
use super::index::{IndexBuilder, SparseIndex};
use super::layout::sync_dir;
use super::partition::{LogConfig, Partition, Writer};
use super::producer_snapshot;
use super::producer_state::ProducerTable;
use super::segment::{self, Segment};
use super::transactions::TransactionTable;
use crate::base::ids::{Offset, TimestampMs, TopicPartition};
use crate::protocol::record_batch::control::Marker;

/// What an earlier checkpoint saved of a partition. The default is nothing: everything is scanned.
#[derive(Debug, Default)]
pub struct SavedPartition {
    /// First readable offset.
    pub log_start_offset: Offset,
    /// Catalogue rows by base offset.
    pub segments: BTreeMap<Offset, SegmentRow>,
    /// Index of the active segment up to its row's position.
    pub active_index: SparseIndex,
    /// Encoded producers and transactions at the end of the last row.
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

impl Partition {
    /// Reads every batch and checks its CRC, whatever a checkpoint says. Blocks on the disk.
    ///
    /// # Errors
    /// [`RecoveryError::Damaged`] names the first bad batch; nothing is changed.
    pub fn verify(&self) -> Result<(), RecoveryError> {
        for segment in self.segments.read().clone() {
            let len = segment.len();
            let verified = segment.verify(0, len, segment.base_offset, |_, _, _| {});
            let failed = |source| RecoveryError::Io { path: self.dir.clone(), source };
            let position = verified.map_err(failed)?;
            if position < len {
                let path = segment.path().to_path_buf();
                return Err(RecoveryError::Damaged { path, position, len });
            }
        }
        Ok(())
    }
}

/// State that grows while segments are scanned in order.
struct Scan {
    rows: BTreeMap<Offset, SegmentRow>,
    /// Index of the segment that was active at the checkpoint.
    saved_index: SparseIndex,
    producers: ProducerTable,
    transactions: TransactionTable,
    now: TimestampMs,
}

/// A segment once it is scanned.
struct Scanned {
    /// Bytes that are whole, good batches.
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
        let mut segments: Vec<Arc<Segment>> = Vec::with_capacity(bases.len().max(1));
        for base_offset in bases {
            segments.push(Arc::new(Segment::open(dir, base_offset).map_err(failed)?));
        }
        if is_new {
            let first = Segment::create(dir, saved.log_start_offset).map_err(failed)?;
            segments.push(Arc::new(first));
            sync_dir(dir).map_err(failed)?;
        }
        let mut scan = Scan::new(&segments, saved.producers.as_deref(), &saved.segments, now);
        scan.saved_index = saved.active_index;
        let (newly_sealed, tail) = scan.run(dir, &mut segments)?;
        let Some(last) = segments.last() else {
            return Err(failed(io::Error::other("a partition has at least one segment")));
        };
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
            log_end: AtomicI64::new(tail.next_offset),
            first_unstable: AtomicI64::new(scan.transactions.first_unstable()),
            transactions: RwLock::new(scan.transactions),
            high_watermark: watch::Sender::new(tail.next_offset),
            // What was read back may still be only in the page cache: the first sync says more.
            durable_end: watch::Sender::new(0),
            sync: Mutex::new(SyncState::default()),
            cleaning: Mutex::default(),
            abandoned: AtomicBool::new(false),
            offline: AtomicBool::new(false),
        })
    }
}

impl Scan {
    /// Takes what a checkpoint saved, if it covers every segment up to its last one.
    fn new(
        segments: &[Arc<Segment>],
        producers: Option<&[u8]>,
        rows: &BTreeMap<Offset, SegmentRow>,
        now: TimestampMs,
    ) -> Self {
        let end = rows.keys().next_back().copied();
        let mut covered = segments.iter().take_while(|s| end.is_some_and(|e| s.base_offset <= e));
        let is_whole = covered.all(|segment| rows.contains_key(&segment.base_offset));
        let (rows, producers) = if is_whole {
            (rows.clone(), producers.and_then(producer_snapshot::decode))
        } else {
            (BTreeMap::new(), None)
        };
        let (producers, transactions) = producers.unwrap_or_default();
        Self { rows, saved_index: SparseIndex::default(), producers, transactions, now }
    }

    /// Scans all segments in order; returns those that the store has no closed row of, and the
    /// state of the last one. Segments behind a torn one are put aside.
    fn run(
        &mut self,
        dir: &Path,
        segments: &mut Vec<Arc<Segment>>,
    ) -> Result<(Vec<Arc<Segment>>, Scanned), RecoveryError> {
        let failed = |source| RecoveryError::Io { path: dir.to_path_buf(), source };
        let mut newly_sealed = Vec::new();
        for (at, segment) in segments.clone().into_iter().enumerate() {
            let len = segment.file().metadata().map_err(failed)?.len();
            let next_base = segments.get(at + 1).map(|next| next.base_offset);
            let row = self.rows.get(&segment.base_offset).copied();
            if next_base.is_some()
                && let Some(row) = row.filter(|r| r.sealed && u64::from(r.position) == len)
            {
                segment.publish(len, row.max_timestamp);
                continue;
            }
            let scanned = self.scan(&segment, row, len).map_err(failed)?;
            let overlaps = next_base.is_some_and(|next| scanned.next_offset > next);
            let is_torn = scanned.position < len || overlaps;
            if !is_torn && next_base.is_some() {
                newly_sealed.push(segment);
                continue;
            }
            if is_torn && next_base.is_some() && !self.is_behind_checkpoint(segment.base_offset) {
                let path = segment.path().to_path_buf();
                return Err(RecoveryError::Damaged { path, position: scanned.position, len });
            }
            cut(&segment, scanned.position, len).map_err(failed)?;
            put_aside(segments.split_off(at + 1)).map_err(failed)?;
            return Ok((newly_sealed, scanned));
        }
        Err(failed(io::Error::other("a partition has at least one segment")))
    }

    /// Tells whether a segment was still open at the last checkpoint, or came later.
    fn is_behind_checkpoint(&self, base_offset: Offset) -> bool {
        self.rows.keys().next_back().is_some_and(|last| base_offset >= *last)
    }

    /// Verifies what no checkpoint covers of a segment and publishes what is good.
    fn scan(
        &mut self,
        segment: &Segment,
        row: Option<SegmentRow>,
        len: u64,
    ) -> io::Result<Scanned> {
        let base = segment.base_offset;
        let row = row.filter(|row| u64::from(row.position) <= len);
        let (from, mut next_offset, mut index, mut builder) = match row {
            Some(row) => {
                let mut index = std::mem::take(&mut self.saved_index);
                index.truncate(row.position.saturating_add(1));
                let builder = IndexBuilder::resume(base, row.position, row.max_timestamp);
                (u64::from(row.position), row.next_offset, index, builder)
            }
            None => (0, base, SparseIndex::default(), IndexBuilder::new(base)),
        };
        let start = next_offset;
        let position = segment.verify(from, len, start, |position, header, batch| {
            let at = u32::try_from(position).unwrap_or(u32::MAX);
            if let Some(entry) = builder.observe(at, header.base_offset, header.max_timestamp) {
                index.push(entry);
            }
            self.producers.record(header, header.base_offset, self.now);
            if header.is_transactional() {
                let batch = || Bytes::copy_from_slice(batch);
                let parsed = header.is_control().then(|| Marker::parse(header, &batch()).ok());
                self.transactions.observe(header, header.base_offset, parsed.flatten());
            }
            next_offset = header.next_offset();
        })?;
        segment.publish(position, builder.max_timestamp());
        segment.load_index(index);
        Ok(Scanned { position, next_offset, builder })
    }
}

/// Cuts off what is not whole batches.
fn cut(segment: &Segment, position: u64, len: u64) -> io::Result<()> {
    if position < len {
        let (path, bytes) = (segment.path().display(), len - position);
        tracing::warn!(segment = %path, position, bytes, "cut off a tail that is no whole batch");
        segment.file().set_len(position)?;
    }
    Ok(())
}

/// Takes segments out of the log without deleting them.
fn put_aside(segments: Vec<Arc<Segment>>) -> io::Result<()> {
    for segment in segments {
        let aside = segment.path().with_extension("orphan");
        tracing::warn!(segment = %segment.path().display(), moved_to = %aside.display(),
            "put aside a segment behind a torn one");
        std::fs::rename(segment.path(), aside)?;
    }
    Ok(())
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
