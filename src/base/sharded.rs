//! A counter that threads do not take from each other.
//!
//! With one place for all, every increment moves its cache line to another core. A counter of what
//! happens 100,000 times a second on each of them has a place for every thread instead, and who
//! reads it adds them up.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use prometheus_client::metrics::counter::Atomic;

/// Places of a counter. More threads than that share some.
const SHARDS: usize = 16;

/// One place, alone in its cache line and in the one that is fetched with it.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard(AtomicU64);

/// A counter with a place for every thread; it only grows.
#[derive(Debug, Default)]
pub struct Sharded([Shard; SHARDS]);

/// The next place that a thread is given.
static NEXT: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static MINE: Cell<usize> = Cell::new(NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS);
}

impl Sharded {
    /// Adds `by`; returns what this thread's place had before.
    pub fn add(&self, by: u64) -> u64 {
        let mine = MINE.with(Cell::get);
        // Relaxed: a count that publishes nothing else.
        self.0.get(mine).map_or(0, |shard| shard.0.fetch_add(by, Ordering::Relaxed))
    }

    /// The sum; what is added meanwhile may be in it or not.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.0.iter().map(|shard| shard.0.load(Ordering::Relaxed)).fold(0, u64::wrapping_add)
    }
}

/// As the counter of a metric.
impl Atomic<u64> for Sharded {
    fn inc(&self) -> u64 {
        self.add(1)
    }

    fn inc_by(&self, by: u64) -> u64 {
        self.add(by)
    }

    fn get(&self) -> u64 {
        self.sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_threads_add_is_in_the_sum() {
        let counter = Sharded::default();
        std::thread::scope(|scope| {
            for by in 1..=2 * SHARDS as u64 {
                let counter = &counter;
                scope.spawn(move || (0..100).for_each(|_| _ = counter.add(by)));
            }
        });
        let shards = 2 * SHARDS as u64;
        assert_eq!(counter.sum(), 100 * shards * (shards + 1) / 2);
        assert!(counter.0.iter().filter(|shard| shard.0.load(Ordering::Relaxed) > 0).count() > 1);
    }
}
