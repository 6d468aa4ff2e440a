//! Deleting whole segments: by age and size, and by command (KIP-107).
//!
//! A command moves the log start offset, which may then lie within a segment: what is before it
//! cannot be read any more, and the segment goes when all of it is before. The move itself is
//! not kept here; the caller has made it durable before.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::partition::{LogConfig, Partition};
use super::segment::Segment;
use crate::base::ids::{Offset, TimestampMs};

impl Partition {
    /// Deletes segments that retention no longer keeps; returns how many.
    ///
    /// The active segment is closed first when all it holds is too old, so that a partition that
    /// nobody writes to empties in the end. Blocks on the disk.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn apply_retention(&self, now: TimestampMs) -> io::Result<usize> {
        let _cleaning = self.cleaning.lock();
        let removed = self.remove_below_log_start()?;
        let config = self.config();
        if !config.deletes {
            return Ok(removed);
        }
        let active_expired = {
            let segments = self.segments.read();
            segments.last().is_some_and(|s| !s.is_empty() && is_too_old(s, &config, now))
        };
        if active_expired {
            self.roll_active()?;
        }
        let doomed = self.doomed_segments(&config, now);
        self.remove_segments(&doomed)?;
        Ok(removed + doomed.len())
    }

    /// Makes everything before `offset` unreadable and deletes the segments that hold nothing
    /// else; returns the log start offset, which never moves back and never beyond the high
    /// watermark. Blocks on the disk.
    ///
    /// # Errors
    /// What the file system reports; the log start offset has moved all the same, and the next
    /// [`Partition::apply_retention`] tries again to delete.
    pub fn delete_before(&self, offset: Offset) -> io::Result<Offset> {
        self.log_start.fetch_max(offset.min(self.high_watermark()), Ordering::AcqRel);
        // Compaction may hold the lock for long; the next round of retention comes after it.
        if let Some(_cleaning) = self.cleaning.try_lock() {
            self.remove_below_log_start()?;
        }
        Ok(self.log_start_offset())
    }

    /// Deletes segments all of which is before the log start offset; returns how many. The active
    /// segment is closed first when that is true of it.
    fn remove_below_log_start(&self) -> io::Result<usize> {
        let log_start = self.log_start_offset();
        {
            let mut writer = self.writer.lock();
            if writer.position > 0 && writer.next_offset <= log_start {
                self.roll(&mut writer)?;
            }
        }
        let doomed: Vec<Arc<Segment>> = {
            let segments = self.segments.read();
            let next_bases = segments.iter().skip(1).map(|next| next.base_offset);
            let below = segments.iter().zip(next_bases).take_while(|(_, next)| *next <= log_start);
            below.map(|(segment, _)| Arc::clone(segment)).collect()
        };
        self.remove_segments(&doomed)?;
        Ok(doomed.len())
    }

    fn doomed_segments(&self, config: &LogConfig, now: TimestampMs) -> Vec<Arc<Segment>> {
        let segments = self.segments.read();
        let mut excess = match config.retention_bytes {
            Some(limit) => segments.iter().map(|s| s.len()).sum::<u64>().saturating_sub(limit),
            None => 0,
        };
        let sealed = segments.len().saturating_sub(1);
        let mut doomed = Vec::new();
        for segment in segments.iter().take(sealed) {
            let too_big = excess > 0 && excess >= segment.len();
            if !too_big && !is_too_old(segment, config, now) {
                break;
            }
            excess = excess.saturating_sub(segment.len());
            doomed.push(Arc::clone(segment));
        }
        doomed
    }

    /// Takes segments off the front; the log start offset moves before the files go.
    fn remove_segments(&self, doomed: &[Arc<Segment>]) -> io::Result<()> {
        if doomed.is_empty() {
            return Ok(());
        }
        {
            let mut writer = self.writer.lock();
            let mut segments = self.segments.write();
            segments.retain(|kept| !doomed.iter().any(|gone| Arc::ptr_eq(gone, kept)));
            if let Some(first) = segments.first() {
                self.log_start.fetch_max(first.base_offset, Ordering::AcqRel);
            }
            writer.newly_sealed.retain(|s| !doomed.iter().any(|gone| Arc::ptr_eq(gone, s)));
            writer.removed.extend(doomed.iter().map(|s| s.base_offset));
            self.transactions.write().forget_before(self.log_start_offset());
            writer.producers_changed = true;
        }
        self.sync.lock().note_dir_change();
        for segment in doomed {
            std::fs::remove_file(segment.path())?;
        }
        Ok(())
    }
}

fn is_too_old(segment: &Segment, config: &LogConfig, now: TimestampMs) -> bool {
    let newest = segment.max_timestamp();
    config.retention_ms.is_some_and(|keep| newest >= 0 && now.saturating_sub(newest) > keep)
}
