//! Appending one validated batch: the critical section of a partition.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};

use super::index::IndexBuilder;
use super::partition::{Partition, Writer};
use super::producer_state::{SequenceCheck, SequenceError};
use super::segment::Segment;
use crate::base::ids::{Offset, TimestampMs};
use crate::protocol::record_batch::BatchHeader;
use crate::protocol::record_batch::control::Marker;
use crate::protocol::record_batch::header::{stamp_append_time, stored_prefix, verify_crc};

/// Leader epoch of every batch: leadership never moves on one node (KIP-101).
pub const LEADER_EPOCH: i32 = 0;

/// Where a batch went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Offset of its first record.
    pub base_offset: Offset,
    /// Offset after its last record: what to wait for.
    pub end_offset: Offset,
    /// The broker's timestamp, -1 when producers' timestamps are kept.
    pub log_append_time: TimestampMs,
    /// First readable offset of the partition.
    pub log_start_offset: Offset,
    /// The batch was appended by an earlier call.
    pub is_duplicate: bool,
}

/// Why a batch was not appended; the log is as it was before.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The producer's epoch or sequence does not fit.
    #[error(transparent)]
    Sequence(#[from] SequenceError),
    /// The file system refused the bytes.
    #[error("append failed: {0}")]
    Io(#[from] io::Error),
    /// A sync failed earlier, so the state on disk is unknown until a restart checks it.
    #[error("partition is offline after a failed sync")]
    Offline,
}

impl Partition {
    /// Appends `batch`, which must be one validated batch with header `header`.
    ///
    /// On return the bytes are in the operating system and readers see them (`acks=1`); for more,
    /// wait for the end offset with [`Partition::wait_durable`].
    ///
    /// # Errors
    /// [`AppendError`]; nothing was appended then.
    pub fn append(
        &self,
        header: &BatchHeader,
        batch: &Bytes,
        now: TimestampMs,
    ) -> Result<Appended, AppendError> {
        let config = self.config();
        let mut guard = self.writer.lock();
        let writer = &mut *guard;
        if self.is_offline() {
            return Err(AppendError::Offline);
        }
        if header.has_producer_id()
            && !header.is_control()
            && let SequenceCheck::Duplicate { base_offset, timestamp } =
                writer.producers.check(header)?
        {
            let log_append_time = if config.log_append_time { timestamp } else { -1 };
            let end_offset = base_offset + i64::from(header.last_offset_delta) + 1;
            let known = self.appended(base_offset, end_offset, log_append_time);
            return Ok(Appended { is_duplicate: true, ..known });
        }
        if needs_roll(writer, &config, header, now) {
            self.roll(writer)?;
        }
        let base_offset = writer.next_offset;
        let stamped;
        let (batch, max_timestamp, log_append_time) = if config.log_append_time {
            let mut copy = BytesMut::from(batch.as_ref());
            stamp_append_time(&mut copy, now);
            stamped = copy.freeze();
            (&stamped, now, now)
        } else {
            (batch, header.max_timestamp, -1)
        };
        let end_offset = self.write(writer, header, batch, base_offset, max_timestamp)?;
        writer.segment_started.get_or_insert(now);
        if header.has_producer_id() {
            writer.producers.record(header, base_offset, now);
            writer.producers_changed = true;
        }
        self.high_watermark.send_replace(end_offset);
        Ok(self.appended(base_offset, end_offset, log_append_time))
    }

    /// Puts back batches from the journal that the segments lost with the power; returns how many.
    /// Offsets between them may be missing: their batches were not promised to be on disk.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn restore(&self, batches: &[(Offset, Bytes)], now: TimestampMs) -> io::Result<usize> {
        let mut guard = self.writer.lock();
        let writer = &mut *guard;
        let mut restored = 0;
        for (base_offset, batch) in batches {
            let Ok(header) = BatchHeader::parse(batch) else { continue };
            if *base_offset < writer.next_offset || verify_crc(&header, batch).is_err() {
                continue;
            }
            if needs_roll(writer, &self.config(), &header, now) {
                self.roll(writer)?;
            }
            let max_timestamp = header.max_timestamp;
            let end = self.write(writer, &header, batch, *base_offset, max_timestamp)?;
            writer.producers.record(&header, *base_offset, now);
            writer.producers_changed = true;
            self.high_watermark.send_replace(end);
            restored += 1;
        }
        Ok(restored)
    }

    /// Writes one batch at its offset and publishes it; returns the offset after it.
    fn write(
        &self,
        writer: &mut Writer,
        header: &BatchHeader,
        batch: &Bytes,
        base_offset: Offset,
        max_timestamp: TimestampMs,
    ) -> io::Result<Offset> {
        write_batch(writer, header, batch, base_offset)?;
        if header.is_transactional() {
            self.note_transaction(header, batch, base_offset);
        }
        let position = u32::try_from(writer.position).unwrap_or(u32::MAX);
        if let Some(entry) = writer.index_builder.observe(position, base_offset, max_timestamp) {
            writer.active.push_index(entry);
        }
        writer.position += batch.len() as u64;
        let end_offset = base_offset + i64::from(header.last_offset_delta) + 1;
        writer.next_offset = end_offset;
        self.log_end.store(end_offset, Ordering::Release);
        let segment_max = writer.active.max_timestamp().max(max_timestamp);
        writer.active.publish(writer.position, segment_max);
        Ok(end_offset)
    }

    /// Takes in a batch of a transaction, or the marker that ends one, once it is written and
    /// before it is published: readers must never see its end without what it changes here.
    fn note_transaction(&self, header: &BatchHeader, batch: &Bytes, base_offset: Offset) {
        let marker = header.is_control().then(|| Marker::parse(header, batch).ok()).flatten();
        let mut transactions = self.transactions.write();
        transactions.observe(header, base_offset, marker);
        self.first_unstable.store(transactions.first_unstable(), Ordering::Release);
    }

    fn appended(&self, base: Offset, end: Offset, log_append_time: TimestampMs) -> Appended {
        Appended {
            base_offset: base,
            end_offset: end,
            log_append_time,
            log_start_offset: self.log_start.load(Ordering::Acquire),
            is_duplicate: false,
        }
    }

    /// Closes the active segment and starts a new one at the next offset.
    pub(super) fn roll(&self, writer: &mut Writer) -> io::Result<()> {
        let next = Arc::new(Segment::create(&self.dir, writer.next_offset)?);
        let sealed = std::mem::replace(&mut writer.active, Arc::clone(&next));
        self.segments.write().push(Arc::clone(&next));
        self.sync.lock().note_roll(&sealed);
        writer.newly_sealed.push(sealed);
        writer.position = 0;
        writer.index_builder = IndexBuilder::new(writer.next_offset);
        writer.saved_index_entries = 0;
        writer.segment_started = None;
        Ok(())
    }

    /// Closes the active segment if it holds anything, so that it can be compacted or deleted.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn roll_active(&self) -> io::Result<()> {
        let mut writer = self.writer.lock();
        if writer.position == 0 { Ok(()) } else { self.roll(&mut writer) }
    }
}

fn needs_roll(
    writer: &Writer,
    config: &super::LogConfig,
    header: &BatchHeader,
    now: TimestampMs,
) -> bool {
    if writer.position == 0 {
        return false;
    }
    let too_old = writer.segment_started.is_some_and(|start| now - start > config.segment_ms);
    let end = writer.position + header.total_bytes() as u64;
    let last_delta =
        writer.next_offset + i64::from(header.last_offset_delta) - writer.active.base_offset;
    let limit = config.segment_bytes.min(u64::from(u32::MAX));
    too_old || end > limit || u32::try_from(last_delta).is_err()
}

/// Writes the batch behind the last one; on error the file is cut back to where it was.
fn write_batch(
    writer: &Writer,
    header: &BatchHeader,
    batch: &Bytes,
    base_offset: Offset,
) -> io::Result<()> {
    let prefix = stored_prefix(header, base_offset, LEADER_EPOCH);
    let rest = batch.get(prefix.len()..).unwrap_or_default();
    let file = writer.active.file();
    let written = write_all_at(file, [&prefix, rest], writer.position);
    if written.is_err() {
        // A torn batch behind the end is never published and the next append overwrites it;
        // cutting it off keeps recovery after a crash from seeing it.
        let _best_effort = file.set_len(writer.position);
    }
    written
}

fn write_all_at(file: &std::fs::File, parts: [&[u8]; 2], position: u64) -> io::Result<()> {
    let total = parts.iter().map(|part| part.len()).sum::<usize>();
    let mut done = 0;
    while done < total {
        let [first, second] = parts;
        let first_rest = first.get(done..).unwrap_or_default();
        let second_rest = second.get(done.saturating_sub(first.len())..).unwrap_or_default();
        let slices = [IoSlice::new(first_rest), IoSlice::new(second_rest)];
        match rustix::io::pwritev(file, &slices, position + done as u64) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => done += written,
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}
