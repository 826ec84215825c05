//! Maps stream time to wall-clock time: when was a frame captured?
//!
//! Arrival times jitter, and a source's clock drifts by seconds a day; neither gives a capture time on its own.
//! [`WallClock`] keeps an estimate of the date of decode time 0 and lets it follow arrival slowly, or immediately when
//! the wall clock is set. Segment dates (`EXT-X-PROGRAM-DATE-TIME`) and `captured_at` of every sample come from it, so
//! all renditions of a stream have the same dates. Called by `stream::Ingest` once per sample.

use super::time::{Moment, TIMESCALE};
use std::time::Duration;

/// Arrival is evaluated in windows of this length. The earliest arrival in a window is taken as undelayed.
const WINDOW: Duration = Duration::from_secs(10);
/// A difference is corrected within about this time, but at no less than [`MIN_RATE`].
const CONSTANT_S: f64 = 600.0;
/// Lowest correction rate: five times the deviation of a bad crystal.
const MIN_RATE: f64 = 0.0005;
/// If the wall clock moves against the monotonic clock by this many microseconds at once, it was set rather than
/// drifting.
const CLOCK_STEP_US: i64 = 1_000_000;

/// Estimate of the wall-clock time of a run's decode time 0.
#[derive(Debug, Default)]
pub struct WallClock {
    estimate: Option<Estimate>,
}

#[derive(Debug)]
struct Estimate {
    /// Unix microseconds at decode time 0.
    zero: f64,
    /// Unix microseconds at the start of the run, computed from the wall clock at the newest sample.
    started: i64,
    /// Elapsed time of the run at the newest sample.
    updated: Duration,
    began: Duration,
    /// Earliest possible dates of decode time 0, from the samples of the current window and of the previous one.
    newest: f64,
    before: Option<f64>,
    since: Duration,
}

impl WallClock {
    /// Returns when a sample at `decode_time` (ticks) that arrived at `now` was captured, in Unix microseconds. Never
    /// later than `now`.
    pub fn date(&mut self, decode_time: u64, now: Moment) -> u64 {
        let time = decode_time as f64 * 1e6 / f64::from(TIMESCALE);
        let zero = now.unix_us as f64 - time;
        let elapsed = i64::try_from(now.elapsed.as_micros()).unwrap_or(i64::MAX);
        let unix = i64::try_from(now.unix_us).unwrap_or(i64::MAX);
        let started = unix.saturating_sub(elapsed);
        let estimate = self.estimate.get_or_insert(Estimate {
            zero,
            started,
            updated: now.elapsed,
            began: now.elapsed,
            newest: zero,
            before: None,
            since: now.elapsed,
        });
        estimate.follow(zero, started, now.elapsed);
        let date = (estimate.zero + time).max(0.0) as u64;
        date.min(now.unix_us)
    }
}

impl Estimate {
    fn follow(&mut self, zero: f64, started: i64, now: Duration) {
        let set = started.saturating_sub(self.started);
        if set.saturating_abs() >= CLOCK_STEP_US {
            let set = set as f64;
            self.zero += set;
            self.newest += set;
            self.before = self.before.map(|before| before + set);
        }
        self.started = started;
        if now.saturating_sub(self.since) >= WINDOW {
            self.before = Some(self.newest);
            self.newest = zero;
            self.since = now;
        }
        self.newest = self.newest.min(zero);
        let earliest = self
            .before
            .map_or(self.newest, |before| before.min(self.newest));
        let passed = now.saturating_sub(self.updated).as_secs_f64();
        self.updated = now;
        let off = earliest - self.zero;
        // In the first window, corrections are immediate: a server may send stored frames first, which arrive late.
        let most = match now.saturating_sub(self.began) < WINDOW {
            true => f64::MAX,
            false => (off.abs() / CONSTANT_S).max(MIN_RATE * 1e6) * passed,
        };
        self.zero += off.clamp(-most, most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 1_700_000_000_000_000;

    fn moment(seconds: f64, set: f64) -> Moment {
        Moment {
            unix_us: (START as f64 + (seconds + set) * 1e6) as u64,
            elapsed: Duration::from_secs_f64(seconds),
        }
    }

    /// Jitter of arrival in seconds: up to 80 ms, occasionally 2 s.
    fn late(nth: u64) -> f64 {
        let dice = nth.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        match dice % 500 {
            1 => 2.0,
            dice => (dice % 80) as f64 / 1000.0,
        }
    }

    #[test]
    fn over_days_of_drift_dates_stay_within_a_tenth_of_a_second_and_never_jump() {
        for drift in [1.0, 1.0001, 0.9999] {
            let mut wall = WallClock::default();
            let mut last: Option<(f64, f64)> = None;
            // Three days, five samples per second.
            for nth in 0..3 * 86_400 * 5u64 {
                let captured = nth as f64 / 5.0;
                let arrived = captured + late(nth);
                let decode = (captured * drift * 90_000.0) as u64;
                let date =
                    wall.date(decode, moment(arrived, 0.0)) as f64 / 1e6 - START as f64 / 1e6;
                assert!(
                    (date - captured).abs() < 0.1,
                    "{drift}: {date} is not {captured}"
                );
                if let Some((time, before)) = last.replace((decode as f64 / 90_000.0, date)) {
                    let jump = (date - before) - (decode as f64 / 90_000.0 - time);
                    // The estimate settles during the first window.
                    assert!(
                        captured < 10.0 || jump.abs() < 0.004,
                        "{drift}: {jump} at {captured}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_clock_that_is_set_is_followed_at_once_and_no_date_is_in_the_future() {
        let mut wall = WallClock::default();
        for nth in 0..1000u64 {
            let set = if nth < 500 { 0.0 } else { 1e7 };
            let seconds = nth as f64 / 10.0;
            let now = moment(seconds, set);
            let date = wall.date(nth * 9000, now);
            assert!(date <= now.unix_us && now.unix_us - date < 100, "{nth}");
        }
    }

    #[test]
    fn a_timeline_that_fell_behind_is_caught_up_with_in_minutes() {
        let mut wall = WallClock::default();
        let off = |wall: &mut WallClock, seconds: u64| {
            let behind = if seconds < 60 { 0 } else { 2 };
            let now = moment(seconds as f64, 0.0);
            let date = wall.date((seconds - behind) * 90_000, now);
            (now.unix_us - date) as f64 / 1e6
        };
        let off: Vec<f64> = (0..3600).map(|second| off(&mut wall, second)).collect();
        assert!(off[59] < 0.001 && off[61] > 1.9 && off[1300] < 0.4 && off[3599] < 0.001);
        assert!(off[61..].windows(2).all(|two| two[0] - two[1] < 0.01));
    }
}
