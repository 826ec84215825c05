//! How a muxer's guest is doing: back-off and breaker.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Failures within [`WINDOW`] after which no instance is made for [`REST`].
const MAX_FAILURES: usize = 10;
const WINDOW: Duration = Duration::from_secs(60);
const REST: Duration = Duration::from_secs(30);
/// The wait after the second failure in a row, and the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// What a muxer's guest is at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It works, or is about to.
    Running,
    /// It failed; a new instance follows.
    BackingOff(String),
    /// It failed too often; none is made for a while.
    Broken(String),
}

/// Failures of one muxer, and when the next instance may be made.
#[derive(Debug, Default)]
pub struct Health {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    failures: VecDeque<Instant>,
    total: u64,
    retry_at: Option<Instant>,
    broken: bool,
    reason: String,
}

impl Phase {
    /// Every phase by its name.
    pub const NAMES: [&str; 3] = ["running", "backing-off", "broken"];

    /// Its name, and the reason if it is not well.
    pub fn name_and_reason(&self) -> (&'static str, &str) {
        match self {
            Phase::Running => (Phase::NAMES[0], ""),
            Phase::BackingOff(reason) => (Phase::NAMES[1], reason),
            Phase::Broken(reason) => (Phase::NAMES[2], reason),
        }
    }
}

impl Health {
    /// What it is at.
    pub fn phase(&self) -> Phase {
        let inner = self.lock();
        match (inner.retry_at, inner.broken) {
            (None, _) => Phase::Running,
            (Some(_), false) => Phase::BackingOff(inner.reason.clone()),
            (Some(_), true) => Phase::Broken(inner.reason.clone()),
        }
    }

    /// Failures since the muxer began.
    pub fn failures(&self) -> u64 {
        self.lock().total
    }

    /// When the next instance may be made; `None`: at once.
    pub fn retry_at(&self) -> Option<Instant> {
        self.lock().retry_at
    }

    /// An instance works. Says whether the one before had failed.
    pub fn recovered(&self) -> bool {
        let mut inner = self.lock();
        inner.broken = false;
        inner.retry_at.take().is_some()
    }

    /// The guest failed. Says whether that was once too often.
    pub fn failed(&self, now: Instant, reason: String) -> bool {
        let mut inner = self.lock();
        inner
            .failures
            .retain(|failure| now.saturating_duration_since(*failure) < WINDOW);
        inner.failures.push_back(now);
        inner.total += 1;
        inner.reason = reason;
        inner.broken = inner.failures.len() >= MAX_FAILURES;
        let wait = if inner.broken {
            // One more failure right after the rest breaks it again.
            inner.failures.drain(..MAX_FAILURES / 2);
            REST
        } else {
            match u32::try_from(inner.failures.len()).unwrap_or(u32::MAX) {
                0 | 1 => Duration::ZERO,
                nth => (BACKOFF.0 * 2u32.saturating_pow((nth - 2).min(16))).min(BACKOFF.1),
            }
        };
        inner.retry_at = Some(now + wait);
        inner.broken
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_first_failure_is_mended_at_once_later_ones_wait_and_the_tenth_breaks() {
        let health = Health::default();
        let now = Instant::now();
        let mut last = Duration::ZERO;
        for nth in 1..MAX_FAILURES {
            assert!(!health.failed(now, "trap".into()));
            let wait = health.retry_at().unwrap() - now;
            assert!(if nth == 1 {
                wait.is_zero()
            } else {
                wait > last || wait == BACKOFF.1
            });
            last = wait;
            health.recovered();
            assert_eq!(health.phase(), Phase::Running);
        }
        assert!(health.failed(now, "trap".into()));
        assert_eq!(health.phase(), Phase::Broken("trap".into()));
        assert_eq!(health.retry_at().unwrap() - now, REST);
    }

    #[test]
    fn failures_long_past_do_not_count() {
        let health = Health::default();
        let now = Instant::now();
        for nth in 0..40 {
            assert!(!health.failed(now + WINDOW * nth, "trap".into()));
        }
        assert_eq!(health.failures(), 40);
    }
}
