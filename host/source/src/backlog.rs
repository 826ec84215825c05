//! Measures whether a source's processing keeps up with its frames.
//!
//! Work adds to a debt, and the source's own timestamps pay it off. The wall clock is not used, so a source that pauses
//! or a burst does not look like a slow machine. Used by the transcoder and the test pattern.

use sluicegate_media::time::TIMESCALE;
use std::time::Duration;

/// A jump in the timestamps, in ticks, beyond which they are treated as a new timeline.
pub const MAX_TIMESTAMP_STEP: i64 = 10 * TIMESCALE as i64;

/// How far processing is behind the source: processing time, minus the elapsed source time.
#[derive(Debug, Default)]
pub struct Backlog {
    debt: Duration,
    last: Option<i64>,
}

impl Backlog {
    /// Above this delay frames are dropped before encoding: it is more than a viewer would notice.
    const LATE_THRESHOLD: Duration = Duration::from_millis(250);
    /// Above this delay dropping decoded frames does not help, and packets are dropped.
    const OVERLOAD_THRESHOLD: Duration = Duration::from_secs(3);

    /// Announces work for the source time `at`, in ticks.
    pub fn advance(&mut self, at: i64) {
        let step = at.saturating_sub(self.last.replace(at).unwrap_or(at));
        if (0..MAX_TIMESTAMP_STEP).contains(&step) {
            let step = Duration::from_micros(step.unsigned_abs() * 100 / 9);
            self.debt = self.debt.saturating_sub(step);
        } else {
            self.debt = Duration::ZERO;
        }
    }

    /// Adds the time that the work took.
    pub fn add_work(&mut self, time: Duration) {
        self.debt += time;
    }

    /// Whether the delay is more than viewers may notice.
    pub fn is_late(&self) -> bool {
        self.debt > Self::LATE_THRESHOLD
    }

    /// Whether the delay is so large that dropping only a part of the work does not help.
    pub fn is_overloaded(&self) -> bool {
        self.debt > Self::OVERLOAD_THRESHOLD
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn debt_is_paid_by_the_sources_own_time_only() {
        let mut backlog = Backlog::default();
        let mut at = 0;
        // 20 ms of work for frames 33 ms apart, for a minute; a pause of the source changes nothing.
        for _ in 0..1_800 {
            backlog.advance(at);
            backlog.add_work(Duration::from_millis(20));
            assert!(!backlog.is_late());
            at += 3_000;
        }
        // 50 ms of work: the debt grows by 17 ms with each frame.
        let late = (0..).position(|_| {
            at += 3_000;
            backlog.advance(at);
            backlog.add_work(Duration::from_millis(50));
            backlog.is_late()
        });
        assert!((12..=16).contains(&late.unwrap()), "{late:?}");
        assert!(!backlog.is_overloaded());
        backlog.advance(at + 100 * MAX_TIMESTAMP_STEP);
        assert!(!backlog.is_late());
    }

    #[test]
    fn times_from_end_to_end_of_what_can_be_written_are_a_leap() {
        let mut backlog = Backlog::default();
        for at in [i64::MIN, i64::MAX, i64::MIN, 0] {
            backlog.advance(at);
            assert!(!backlog.is_late());
            backlog.add_work(Duration::from_secs(1));
        }
    }
}
