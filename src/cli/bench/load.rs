//! Where load runs and when it ends: client threads, budgets, sizes on the command line.
//!
//! Each client thread is a current-thread runtime with local tasks: no locks, no stealing, and a
//! client that never takes more cores than it was given.

use std::future::Future;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::LocalSet;

use super::{BenchError, BenchResult};

/// Runs `work` once per item of `shares`, each on its own thread, and collects what they return.
///
/// # Cancel safety
/// Dropping the future leaves the threads running until their work ends.
pub(super) async fn run_on_threads<S, T, F, W>(shares: Vec<S>, work: F) -> BenchResult<Vec<T>>
where
    S: Send + 'static,
    T: Send + 'static,
    F: Fn(S) -> W + Clone + Send + 'static,
    W: Future<Output = BenchResult<T>> + 'static,
{
    let mut threads = Vec::new();
    for share in shares {
        let work = work.clone();
        threads.push(tokio::task::spawn_blocking(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            LocalSet::new().block_on(&runtime, work(share))
        }));
    }
    let mut results = Vec::new();
    for thread in threads {
        results.push(thread.await??);
    }
    Ok(results)
}

/// Deals `items` to `hands` hands in turn; there are never more hands than items.
pub(super) fn deal<T>(items: Vec<T>, hands: usize) -> Vec<Vec<T>> {
    let hands = hands.clamp(1, items.len().max(1));
    let mut dealt: Vec<Vec<T>> = (0..hands).map(|_| Vec::new()).collect();
    for (item, hand) in items.into_iter().zip((0..hands).cycle()) {
        if let Some(hand) = dealt.get_mut(hand) {
            hand.push(item);
        }
    }
    dealt
}

/// How much work a run may do: until a moment, or an amount shared by every connection.
#[derive(Debug, Clone)]
pub(super) enum Budget {
    /// Until this moment.
    Until(Instant),
    /// This many bytes in all.
    Bytes(Arc<AtomicU64>),
}

impl Budget {
    /// Makes the budget of a run: `bytes` if given, else `seconds` from now.
    pub(super) fn start(bytes: Option<u64>, seconds: f64) -> Self {
        match bytes {
            Some(bytes) => Self::Bytes(Arc::new(AtomicU64::new(bytes))),
            None => Self::Until(Instant::now() + Duration::from_secs_f64(seconds)),
        }
    }

    /// Takes `bytes` out of the budget; false when it was already used up.
    pub(super) fn take(&self, bytes: u64) -> bool {
        match self {
            Self::Until(deadline) => Instant::now() < *deadline,
            // Relaxed: a count, nothing else is published through it.
            Self::Bytes(left) => left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                    (left > 0).then(|| left.saturating_sub(bytes))
                })
                .is_ok(),
        }
    }
}

/// Reads a number above 0, such as a rate or a duration in seconds.
pub(super) fn positive(text: &str) -> BenchResult<f64> {
    let number = not_negative(text)?;
    if number > 0.0 { Ok(number) } else { Err("must be above 0".into()) }
}

/// Reads a number from 0 on that is small enough to be a duration in seconds.
pub(super) fn not_negative(text: &str) -> BenchResult<f64> {
    const NUMBER_MAX: f64 = 1e9;
    let number: f64 = text.parse()?;
    if (0.0..=NUMBER_MAX).contains(&number) { Ok(number) } else { Err("is out of range".into()) }
}

/// Rounds a count down; what is below 0 or above the type becomes its nearest end.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "casts of floats saturate"
)]
pub(super) const fn whole(count: f64) -> u64 {
    count as u64
}

/// A number of bytes on the command line: `65536`, `64KiB`, `1GB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ByteSize(pub(super) u64);

impl FromStr for ByteSize {
    type Err = BenchError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (digits, unit) = text.split_at(split);
        let factor: u64 = match unit.trim().to_ascii_lowercase().trim_end_matches('b') {
            "" => 1,
            "k" => 1_000,
            "m" => 1_000_000,
            "g" => 1_000_000_000,
            "ki" => 1 << 10,
            "mi" => 1 << 20,
            "gi" => 1 << 30,
            _ => {
                return Err(format!("{text:?} has a unit other than KB MB GB KiB MiB GiB").into());
            }
        };
        let count: u64 = digits.parse().map_err(|e| format!("{text:?} is not a size: {e}"))?;
        Ok(Self(count.checked_mul(factor).ok_or("size is too large")?))
    }
}

/// Raises this process's open file limit to what it may have: thousands of streams need it.
pub(super) fn raise_open_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // A refusal only means fewer streams, and opening those says so itself.
    let _refused = setrlimit(Resource::Nofile, limit);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_their_units() {
        let size = |text: &str| text.parse::<ByteSize>().map(|s| s.0).ok();
        assert_eq!(size("65536"), Some(65_536));
        assert_eq!(size("64KiB"), Some(65_536));
        assert_eq!(size("1GB"), Some(1_000_000_000));
        assert_eq!(size("2m"), Some(2_000_000));
        assert_eq!(size("x"), None);
        assert_eq!(size("1TB"), None);
    }

    #[test]
    fn a_byte_budget_ends_after_its_last_byte() {
        let budget = Budget::start(Some(10), 0.0);
        assert!(budget.take(6));
        assert!(budget.take(6));
        assert!(!budget.take(6));
    }

    #[test]
    fn items_are_dealt_in_turn() {
        assert_eq!(deal(vec![1, 2, 3], 2), vec![vec![1, 3], vec![2]]);
        assert_eq!(deal(vec![1], 4), vec![vec![1]]);
    }
}
