//! Whether a source's work keeps up with its pictures.

use sluicegate_media::time::TIMESCALE;
use std::time::Duration;

/// A jump in the times beyond which they are taken for new ones.
pub const LEAP: i64 = 10 * TIMESCALE as i64;

/// How far the work is behind the source: what it took, less the time the source's pictures are apart.
#[derive(Debug, Default)]
pub struct Backlog {
    debt: Duration,
    last: Option<i64>,
}

impl Backlog {
    /// More than a viewer would notice.
    const LATE: Duration = Duration::from_millis(250);
    /// Leaving out pictures after decoding does not help.
    const HOPELESS: Duration = Duration::from_secs(3);

    /// The next piece of work is for this time of the source, in ticks.
    pub fn advance(&mut self, at: i64) {
        let step = at.saturating_sub(self.last.replace(at).unwrap_or(at));
        if (0..LEAP).contains(&step) {
            let step = Duration::from_micros(step.unsigned_abs() * 100 / 9);
            self.debt = self.debt.saturating_sub(step);
        } else {
            self.debt = Duration::ZERO;
        }
    }

    /// That piece took so much work.
    pub fn spent(&mut self, time: Duration) {
        self.debt += time;
    }

    /// By more than viewers may notice.
    pub fn is_late(&self) -> bool {
        self.debt > Self::LATE
    }

    /// By so much that leaving out some of the work does not help.
    pub fn is_hopeless(&self) -> bool {
        self.debt > Self::HOPELESS
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
        // 20 ms of work for pictures 33 ms apart, for a minute; a pause of the source changes nothing.
        for _ in 0..1_800 {
            backlog.advance(at);
            backlog.spent(Duration::from_millis(20));
            assert!(!backlog.is_late());
            at += 3_000;
        }
        // 50 ms of work: 17 ms more debt each time.
        let late = (0..).position(|_| {
            at += 3_000;
            backlog.advance(at);
            backlog.spent(Duration::from_millis(50));
            backlog.is_late()
        });
        assert!((12..=16).contains(&late.unwrap()), "{late:?}");
        assert!(!backlog.is_hopeless());
        backlog.advance(at + 100 * LEAP);
        assert!(!backlog.is_late());
    }

    #[test]
    fn times_from_end_to_end_of_what_can_be_written_are_a_leap() {
        let mut backlog = Backlog::default();
        for at in [i64::MIN, i64::MAX, i64::MIN, 0] {
            backlog.advance(at);
            assert!(!backlog.is_late());
            backlog.spent(Duration::from_secs(1));
        }
    }
}
