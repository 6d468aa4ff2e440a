//! The life of a stream: its heartbeats, its age, its end.
//!
//! One timer per stream. Writing does not set it again: when it fires, it looks how long ago the
//! last write was and sleeps on for the rest.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use crate::base::registered::Registered;
use crate::base::shutdown::{Shutdown, Stopping};

/// Shortest time over which streams end after the server began to stop.
const DRAIN_SPREAD_MIN: Duration = Duration::from_millis(if cfg!(test) { 5 } else { 1000 });

/// Streams that end within a second then: what comes back elsewhere must be bearable there.
const DRAIN_STREAMS_PER_SECOND: u32 = 200;

/// Time after which a stream that never waits looks at its clock all the same.
const LOOK_INTERVAL: Duration = Duration::from_millis(if cfg!(test) { 1 } else { 50 });

/// Range of the pause that a client shall make before it connects again, in ms.
const RETRY_MS: std::ops::RangeInclusive<u64> = 250..=3000;

/// Why a stream ended, as the metric names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Closed {
    /// The client went away.
    Client,
    /// It was as old as it may get.
    Age,
    /// The server stops.
    Shutdown,
    /// It reached its bound.
    End,
    /// Its topics were deleted.
    Deleted,
    /// Something failed.
    Fault,
}

impl Closed {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Age => "age",
            Self::Shutdown => "shutdown",
            Self::End => "end",
            Self::Deleted => "deleted",
            Self::Fault => "fault",
        }
    }
}

/// What the time has come for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tick {
    /// Nothing was written for a heartbeat.
    Ping,
    /// The server stops.
    Stopping,
    /// The moment of `until` has come.
    Until,
    /// What could not be read shall be tried again.
    Look,
    /// The stream ends.
    Over(Closed),
}

/// The timer of one stream and what it waits for.
pub(super) struct Life {
    timer: Pin<Box<Sleep>>,
    /// When it fires.
    next: Instant,
    /// Whom the timer wakes.
    registered: Registered,
    /// None once the server is stopping.
    stopping: Option<Stopping>,
    heartbeat: Duration,
    written: Instant,
    /// The last write before the clock was looked at.
    looked: Instant,
    over: Instant,
    reason: Closed,
    until: Option<Instant>,
    look: Option<Instant>,
}

impl Life {
    /// Begins a life of 80 to 100 % of `age_max`.
    pub(super) fn new(
        heartbeat: Duration,
        age_max: Duration,
        until: Option<Duration>,
        shutdown: &Shutdown,
    ) -> Self {
        let now = Instant::now();
        let age_ms = u64::try_from(age_max.as_millis()).unwrap_or(u64::MAX).max(1);
        let age = Duration::from_millis(random_between(age_ms - age_ms / 5, age_ms));
        let mut life = Self {
            timer: Box::pin(sleep_until(now)),
            next: now,
            registered: Registered::default(),
            stopping: Some(shutdown.stopping()),
            heartbeat,
            written: now,
            looked: now,
            over: later(now, age),
            reason: Closed::Age,
            until: until.map(|wait| later(now, wait)),
            look: None,
        };
        life.set_timer();
        life
    }

    /// Notes that something was written.
    pub(super) const fn wrote(&mut self, now: Instant) {
        self.written = now;
    }

    /// Tells whether [`Life::poll`] has to be asked although there is something to write: a stream
    /// that always has something would never end otherwise.
    pub(super) fn is_due(&self) -> bool {
        self.written.saturating_duration_since(self.looked) >= LOOK_INTERVAL
    }

    /// Waits for the next thing to do; `now` is the time, as far as the caller knows it.
    pub(super) fn poll(&mut self, context: &mut Context<'_>, now: Instant) -> Poll<Tick> {
        self.looked = self.written;
        if let Some(stopping) = &mut self.stopping
            && Pin::new(stopping).poll(context).is_ready()
        {
            self.stopping = None;
            return Poll::Ready(Tick::Stopping);
        }
        // A stream that has much to do wakes often, and its timer is far away then.
        if self.registered.is_by(context) && now < self.next {
            return Poll::Pending;
        }
        while self.timer.as_mut().poll(context).is_ready() {
            let now = Instant::now();
            if now >= self.over {
                return Poll::Ready(Tick::Over(self.reason));
            }
            if self.until.take_if(|until| now >= *until).is_some() {
                self.set_timer();
                return Poll::Ready(Tick::Until);
            }
            if self.look.take_if(|look| now >= *look).is_some() {
                self.set_timer();
                return Poll::Ready(Tick::Look);
            }
            if now >= later(self.written, self.heartbeat) {
                self.written = now;
                self.set_timer();
                return Poll::Ready(Tick::Ping);
            }
            self.set_timer();
        }
        self.registered.clear_without_budget();
        Poll::Pending
    }

    /// Lets the stream end at a random moment within `spread`, if it does not end before.
    pub(super) fn drain(&mut self, spread: Duration) {
        let spread_ms = u64::try_from(spread.as_millis()).unwrap_or(u64::MAX);
        let wait = Duration::from_millis(random_between(0, spread_ms));
        let over = later(Instant::now(), wait);
        if over < self.over {
            (self.over, self.reason) = (over, Closed::Shutdown);
            self.set_timer();
        }
    }

    /// Asks for [`Tick::Look`] after a heartbeat, whether or not anything is written until then.
    pub(super) fn look_later(&mut self) {
        if self.look.is_none() {
            self.look = Some(later(Instant::now(), self.heartbeat));
            self.set_timer();
        }
    }

    fn set_timer(&mut self) {
        let next = later(self.written, self.heartbeat).min(self.over);
        let next = [self.until, self.look].into_iter().flatten().fold(next, Instant::min);
        self.next = next;
        self.timer.as_mut().reset(next);
        self.registered.clear();
    }
}

/// Time over which so many streams end when the server stops, so that their clients do not all
/// come back at once.
pub(super) fn drain_spread(streams: usize, most: Duration) -> Duration {
    let seconds = u32::try_from(streams).unwrap_or(u32::MAX) / DRAIN_STREAMS_PER_SECOND;
    Duration::from_secs(seconds.into()).max(DRAIN_SPREAD_MIN).min(most)
}

/// Adds without overflow: ages of centuries are as good as any.
fn later(from: Instant, by: Duration) -> Instant {
    from.checked_add(by.min(Duration::from_secs(10 * 365 * 86_400))).unwrap_or(from)
}

/// How long a client shall wait before it connects again, in ms.
pub(super) fn random_retry_ms() -> u64 {
    random_between(*RETRY_MS.start(), *RETRY_MS.end())
}

fn random_between(low: u64, high: u64) -> u64 {
    let [first, ..] = random_halves();
    // The modulo's bias is far below what timing can show.
    low + first % (high.saturating_sub(low) + 1)
}

fn random_halves() -> [u64; 2] {
    let (high, low) = uuid::Uuid::new_v4().as_u64_pair();
    // A version 4 UUID has fixed bits; mixing both halves hides them.
    [high.rotate_left(32) ^ low, low]
}

/// Makes an identity for a stream.
pub(super) fn random_stream_id() -> String {
    let [mixed, _] = random_halves();
    format!("s-{mixed:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::registered::use_up_budget;

    #[test]
    fn random_numbers_stay_in_their_range() {
        let numbers: Vec<_> = (0..200).map(|_| random_between(80, 100)).collect();
        assert!(numbers.iter().all(|n| (80..=100).contains(n)));
        assert!(numbers.iter().any(|n| *n != numbers[0]));
        assert_eq!(random_between(5, 5), 5);
        assert!((0..50).all(|_| RETRY_MS.contains(&random_retry_ms())));
        assert_ne!(random_stream_id(), random_stream_id());
    }

    #[tokio::test]
    async fn a_life_has_heartbeats_and_an_end() {
        let shutdown = Shutdown::new();
        let (beat, age) = (Duration::from_millis(2), Duration::from_millis(500));
        let mut life = Life::new(beat, age, Some(Duration::from_millis(1)), &shutdown);
        let mut ticks = Vec::new();
        loop {
            ticks.push(std::future::poll_fn(|context| life.poll(context, Instant::now())).await);
            if matches!(ticks.last(), Some(Tick::Over(_))) {
                break;
            }
        }
        assert!(ticks.contains(&Tick::Ping) && ticks.contains(&Tick::Until), "{ticks:?}");
        assert_eq!(ticks.last(), Some(&Tick::Over(Closed::Age)));
    }

    #[tokio::test]
    async fn a_timer_that_found_no_budget_is_set_by_the_next_poll() {
        let (beat, hour) = (Duration::from_millis(20), Duration::from_secs(3600));
        let mut life = Life::new(beat, hour, None, &Shutdown::new());
        let polled = std::future::poll_fn(|context| {
            use_up_budget(context);
            Poll::Ready(life.poll(context, Instant::now()))
        });
        assert!(polled.await.is_pending());
        // First in line, or its wake would poll the life as well.
        let patience = tokio::time::sleep(Duration::from_secs(20));
        tokio::select! {
            biased;
            () = patience => panic!("nobody woke the stream for its heartbeat"),
            tick = std::future::poll_fn(|context| life.poll(context, Instant::now())) => {
                assert_eq!(tick, Tick::Ping);
            }
        }
    }

    #[tokio::test]
    async fn stopping_ends_every_life() {
        let shutdown = Shutdown::new();
        let hour = Duration::from_secs(3600);
        let mut life = Life::new(hour, hour, None, &shutdown);
        assert!(
            std::future::poll_fn(|c| Poll::Ready(life.poll(c, Instant::now()))).await.is_pending()
        );
        assert!(!life.is_due());
        shutdown.stop();
        let tick = std::future::poll_fn(|context| life.poll(context, Instant::now())).await;
        assert_eq!(tick, Tick::Stopping);
        life.drain(Duration::from_millis(5));
        let tick = std::future::poll_fn(|context| life.poll(context, Instant::now())).await;
        assert_eq!(tick, Tick::Over(Closed::Shutdown));
    }

    #[test]
    fn many_streams_take_longer_to_end_than_few() {
        let most = Duration::from_secs(24);
        assert_eq!(drain_spread(1, most), DRAIN_SPREAD_MIN);
        assert_eq!(drain_spread(2000, most), Duration::from_secs(10));
        assert_eq!(drain_spread(20_000, most), most);
        assert_eq!(drain_spread(20_000, Duration::ZERO), Duration::ZERO);
    }
}
