//! When what was written counts as acknowledged, and when it must be written again.
//!
//! Pure but for the clock of its arguments.

use std::time::Duration;

use tokio::time::Instant;

use crate::base::ids::{Offset, TopicPartition};
use crate::consumers::AckMode;

/// Time after which what was written counts, if later bytes were taken since.
const AUTO_INTERVAL: Duration = Duration::from_millis(if cfg!(test) { 20 } else { 5_000 });

/// Positions in named partitions.
pub(super) type Places = Vec<(TopicPartition, Offset)>;

/// What the time has come for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// These positions count as acknowledged.
    Acknowledge(Places),
    /// What is not acknowledged is written again.
    Rewind,
}

/// What was written at a moment.
#[derive(Debug)]
struct Checkpoint {
    places: Places,
    frames: u64,
    due: Instant,
}

/// The clockwork of one stream.
#[derive(Debug)]
pub(super) struct Pace {
    mode: AckMode,
    unacked_max: u64,
    ack_timeout: Option<Duration>,
    /// Frames written so far.
    frames: u64,
    has_news: bool,
    checkpoint: Option<Checkpoint>,
    unacked: u64,
    /// Since when the client owes an acknowledgement.
    owing_since: Option<Instant>,
}

impl Pace {
    pub(super) const fn new(
        mode: AckMode,
        unacked_max: u64,
        ack_timeout: Option<Duration>,
    ) -> Self {
        Self {
            mode,
            unacked_max,
            ack_timeout,
            frames: 0,
            has_news: false,
            checkpoint: None,
            unacked: 0,
            owing_since: None,
        }
    }

    /// Records that may be written now; none is no bound.
    pub(super) const fn allowance(&self) -> Option<u64> {
        match self.mode {
            AckMode::Explicit => Some(self.unacked_max.saturating_sub(self.unacked)),
            AckMode::Auto | AckMode::None => None,
        }
    }

    /// Notes a frame, and whether it moved positions.
    pub(super) const fn wrote(&mut self, is_news: bool) {
        self.frames += 1;
        self.has_news |= is_news;
    }

    /// Notes how much is not acknowledged, after records were written.
    pub(super) fn owes(&mut self, unacked: u64, now: Instant) {
        self.unacked = unacked;
        if unacked > 0 {
            self.owing_since.get_or_insert(now);
        }
    }

    /// Notes how much is not acknowledged, after an acknowledgement.
    pub(super) fn paid(&mut self, unacked: u64, now: Instant) {
        self.unacked = unacked;
        self.owing_since = (unacked > 0).then_some(now);
    }

    /// The assignment is another one.
    pub(super) fn reset(&mut self) {
        (self.checkpoint, self.has_news) = (None, false);
        (self.unacked, self.owing_since) = (0, None);
    }

    /// Says when to ask [`Pace::due`] next.
    pub(super) fn deadline(&mut self, places: &Places, now: Instant) -> Option<Instant> {
        match self.mode {
            AckMode::None => None,
            AckMode::Explicit => Some(self.owing_since? + self.ack_timeout?),
            AckMode::Auto => {
                if self.checkpoint.is_none() && std::mem::take(&mut self.has_news) {
                    let (places, frames) = (places.clone(), self.frames);
                    let due = now + AUTO_INTERVAL;
                    self.checkpoint = Some(Checkpoint { places, frames, due });
                }
                self.checkpoint.as_ref().map(|checkpoint| checkpoint.due)
            }
        }
    }

    /// Says what the time has come for.
    pub(super) fn due(&mut self, now: Instant) -> Option<Due> {
        match self.mode {
            AckMode::None => None,
            AckMode::Explicit => {
                let due = self.owing_since? + self.ack_timeout?;
                if now < due {
                    return None;
                }
                self.owing_since = None;
                Some(Due::Rewind)
            }
            AckMode::Auto => {
                let checkpoint = self.checkpoint.as_mut()?;
                if now < checkpoint.due {
                    return None;
                }
                if self.frames == checkpoint.frames {
                    // Nothing shows that the connection took it: the next ping will.
                    checkpoint.due = now + AUTO_INTERVAL;
                    return None;
                }
                self.checkpoint.take().map(|checkpoint| Due::Acknowledge(checkpoint.places))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::TopicName;

    fn places(next: Offset) -> Places {
        vec![(TopicPartition::new(TopicName::parse("t").unwrap(), 0), next)]
    }

    #[tokio::test]
    async fn what_was_written_counts_after_later_bytes() {
        let mut pace = Pace::new(AckMode::Auto, 10, None);
        let start = Instant::now();
        assert_eq!(pace.deadline(&places(0), start), None);
        pace.wrote(true);
        let due = pace.deadline(&places(5), start).unwrap();
        assert_eq!(due, start + AUTO_INTERVAL);
        assert_eq!(pace.due(start), None);
        // In time, but nothing came after it.
        assert_eq!(pace.due(due), None);
        let again = pace.deadline(&places(5), due).unwrap();
        pace.wrote(false);
        assert_eq!(pace.due(again), Some(Due::Acknowledge(places(5))));
        assert_eq!(pace.deadline(&places(5), again), None);
        assert_eq!(pace.allowance(), None);
    }

    #[tokio::test]
    async fn clients_that_acknowledge_have_a_window_and_a_deadline() {
        let timeout = Duration::from_secs(1);
        let mut pace = Pace::new(AckMode::Explicit, 10, Some(timeout));
        let start = Instant::now();
        assert_eq!((pace.allowance(), pace.deadline(&places(0), start)), (Some(10), None));
        pace.wrote(true);
        pace.owes(10, start);
        assert_eq!(pace.allowance(), Some(0));
        assert_eq!(pace.deadline(&places(10), start), Some(start + timeout));
        let later = start + timeout / 2;
        pace.paid(4, later);
        assert_eq!(pace.allowance(), Some(6));
        assert_eq!(pace.due(start + timeout), None);
        assert_eq!(pace.due(later + timeout), Some(Due::Rewind));
        pace.reset();
        assert_eq!((pace.allowance(), pace.deadline(&places(0), later)), (Some(10), None));
    }
}
