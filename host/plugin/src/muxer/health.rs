//! Failures of a muxer's guest: exponential backoff between attempts, and a circuit breaker.
//!
//! The first failure is retried at once, later ones after 50 ms to 5 s; ten within a minute open the breaker for 30 s.
//! Pure: the caller passes `now`. Written by the muxer's thread, read by the API.

use parking_lot::{Mutex, MutexGuard};
use sluicegate_telemetry::Backoff;
use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// [`MAX_FAILURES`] failures within [`WINDOW`] open the circuit breaker for [`OPEN_FOR`]. The log line in `actor.rs`
/// names that time.
const MAX_FAILURES: usize = 10;
const WINDOW: Duration = Duration::from_secs(60);
const OPEN_FOR: Duration = Duration::from_secs(30);
/// Delays from the second failure within [`WINDOW`] on.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));

/// State of a muxer's guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// An instance works, or the first one is being opened.
    Running,
    /// The guest failed, for this reason; a new instance follows after the backoff.
    BackingOff(String),
    /// The circuit breaker is open, for this reason: no instance is opened until [`Health::retry_at`].
    Broken(String),
}

/// Failures of one muxer, and the time of the next attempt.
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
    /// Names of all phases, in the order of the enum.
    pub const NAMES: [&str; 3] = ["running", "backing-off", "broken"];

    /// Name of the phase, and the reason of the failure; empty if running.
    pub fn name_and_reason(&self) -> (&'static str, &str) {
        match self {
            Phase::Running => (Phase::NAMES[0], ""),
            Phase::BackingOff(reason) => (Phase::NAMES[1], reason),
            Phase::Broken(reason) => (Phase::NAMES[2], reason),
        }
    }
}

impl Health {
    /// The current phase.
    pub fn phase(&self) -> Phase {
        let inner = self.lock();
        match (inner.retry_at, inner.broken) {
            (None, _) => Phase::Running,
            (Some(_), false) => Phase::BackingOff(inner.reason.clone()),
            (Some(_), true) => Phase::Broken(inner.reason.clone()),
        }
    }

    /// Number of failures since the muxer started.
    pub fn failures(&self) -> u64 {
        self.lock().total
    }

    /// Earliest time of the next attempt; `None` if none is scheduled: the guest works, or the first instance may be
    /// opened at once.
    pub fn retry_at(&self) -> Option<Instant> {
        self.lock().retry_at
    }

    /// Records that an instance works; returns whether the previous one had failed. Earlier failures still count within
    /// `WINDOW`.
    pub fn recovered(&self) -> bool {
        let mut inner = self.lock();
        inner.broken = false;
        inner.retry_at.take().is_some()
    }

    /// Records a failure and schedules the next attempt; returns whether the circuit breaker is open.
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
            // Half of the failures are kept, so that five more open the breaker again.
            inner.failures.drain(..MAX_FAILURES / 2);
            OPEN_FOR
        } else {
            match u32::try_from(inner.failures.len()).unwrap_or(u32::MAX) {
                0 | 1 => Duration::ZERO,
                nth => BACKOFF.nth(nth - 2),
            }
        };
        inner.retry_at = Some(now + wait);
        inner.broken
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
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
                wait > last || wait == BACKOFF.longest()
            });
            last = wait;
            health.recovered();
            assert_eq!(health.phase(), Phase::Running);
        }
        assert!(health.failed(now, "trap".into()));
        assert_eq!(health.phase(), Phase::Broken("trap".into()));
        assert_eq!(health.retry_at().unwrap() - now, OPEN_FOR);
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
