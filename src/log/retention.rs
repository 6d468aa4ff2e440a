//! Deleting whole segments by age and size (KIP-107 semantics for the log start offset).

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::partition::{LogConfig, Partition};
use super::segment::Segment;
use crate::base::ids::TimestampMs;

impl Partition {
    /// Deletes segments that retention no longer keeps; returns how many.
    ///
    /// The active segment is closed first when all it holds is too old, so that a partition that
    /// nobody writes to empties in the end. Blocks on the disk.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn apply_retention(&self, now: TimestampMs) -> io::Result<usize> {
        let config = self.config();
        if !config.deletes {
            return Ok(0);
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
