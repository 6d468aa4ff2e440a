//! The time limits of one record of a stream: while it arrives it holds room that others need, so
//! it may neither pause nor take as long as it likes. Between records a stream may be silent.

use std::future::Future;
use std::pin::Pin;
use std::task::Context;
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use crate::base::limits::{HTTP_BODY_IDLE_MAX, HTTP_BODY_WAIT_MAX};

/// Runs while a record has begun and not ended; idle streams have no timer.
#[derive(Debug)]
pub(super) struct Arrival {
    idle_max: Duration,
    whole_max: Duration,
    running: Option<Running>,
}

impl Default for Arrival {
    fn default() -> Self {
        Self { idle_max: HTTP_BODY_IDLE_MAX, whole_max: HTTP_BODY_WAIT_MAX, running: None }
    }
}

#[derive(Debug)]
struct Running {
    number: u64,
    last: Instant,
    due: Pin<Box<Sleep>>,
}

impl Arrival {
    /// With another longest pause.
    #[cfg(test)]
    pub(super) fn pausing(idle_max: Duration) -> Self {
        Self { idle_max, ..Self::default() }
    }

    /// Notes that some of the record of this number came just now.
    pub(super) fn progress(&mut self, number: u64) {
        let now = Instant::now();
        let last = match &self.running {
            Some(running) if running.number == number => running.last,
            Some(_) | None => now + self.whole_max,
        };
        let next = last.min(now + self.idle_max);
        match &mut self.running {
            Some(running) => {
                (running.number, running.last) = (number, last);
                running.due.as_mut().reset(next);
            }
            None => {
                let due = Box::pin(tokio::time::sleep_until(next));
                self.running = Some(Running { number, last, due });
            }
        }
    }

    /// Notes that no record is on its way.
    pub(super) fn end(&mut self) {
        self.running = None;
    }

    /// Tells whether the record took too long, and wakes the task when it does.
    pub(super) fn is_over(&mut self, context: &mut Context<'_>) -> bool {
        self.running.as_mut().is_some_and(|running| running.due.as_mut().poll(context).is_ready())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Poll;

    const LONG: Duration = Duration::from_secs(3600);
    const SHORT: Duration = Duration::from_millis(1);

    fn arrival(idle_max: Duration, whole_max: Duration) -> Arrival {
        Arrival { idle_max, whole_max, running: None }
    }

    async fn over(arrival: &mut Arrival) {
        let poll = |context: &mut Context<'_>| match arrival.is_over(context) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        };
        std::future::poll_fn(poll).await;
    }

    #[tokio::test]
    async fn a_pause_within_a_record_ends_and_so_does_a_trickle() {
        let mut pausing = arrival(SHORT, LONG);
        pausing.progress(7);
        over(&mut pausing).await;
        let mut trickling = arrival(LONG, SHORT);
        trickling.progress(7);
        trickling.progress(7);
        over(&mut trickling).await;
    }

    #[tokio::test]
    async fn each_record_has_its_own_time() {
        let mut arrival = arrival(LONG, 2 * LONG);
        let times =
            |arrival: &Arrival| arrival.running.as_ref().map(|r| (r.last, r.due.deadline()));
        arrival.progress(0);
        let first = times(&arrival).unwrap();
        arrival.progress(0);
        let second = times(&arrival).unwrap();
        assert!(second.0 == first.0 && second.1 >= first.1, "{first:?} {second:?}");
        arrival.progress(1);
        assert!(times(&arrival).unwrap().0 > first.0);
        arrival.end();
        assert_eq!(times(&arrival), None);
    }
}
