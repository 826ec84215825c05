//! Estimates what the link to a viewer carries, from the viewer's reports.
//!
//! Reports say little about the link while there is little to transfer, so a measurement is used only if the client
//! measured goodput, or if the link was visibly at its limit (stalls, queueing, too few frames); then what was received
//! is what it carries. Two geometric averages with different time constants are kept and the lower one counts: a drop
//! takes effect quickly, a rise slowly.

use crate::Options;
use sluicegate_sdk::policy::Report;

/// A frame rate below this fraction of the source's means that the link or the device is at its limit.
const MIN_FRAME_RATE_RATIO: f32 = 0.75;
/// A queueing delay above `queue-limit` divided by this means that the link is at its limit.
const QUEUE_LIMIT_DIVISOR: u32 = 2;
/// Fraction per second by which the remembered peak bit rate of a candidate decays.
const PEAK_DECAY_PER_SECOND: f64 = 0.02;
/// Stalls are summed over this time, in milliseconds.
const STALL_WINDOW_MS: u64 = 5000;
/// An estimate is valid for this long after the last measurement, in milliseconds.
const ESTIMATE_VALID_MS: u64 = 30_000;
/// A measurement stands for at most this much time before it, in milliseconds.
const MAX_MEASUREMENT_MS: u64 = 5000;
/// Lowest value of a measurement in bits per second; the geometric average needs one above zero.
const MIN_GOODPUT: f64 = 1000.0;
/// Measurements are capped at this multiple of what the most demanding candidate needs. Higher ones only say that it is
/// more than enough.
const GOODPUT_CAP_FACTOR: f64 = 4.0;
/// Fraction of the received frames that a device may drop before that counts as a problem.
const MAX_DROP_RATIO: f32 = 0.3;

/// Formats a bit rate in bits per second for people.
pub fn rate(bits: f64) -> String {
    match bits / 1e6 {
        mega if mega >= 10.0 => format!("{mega:.0} Mbit/s"),
        mega if mega >= 0.095 => format!("{mega:.1} Mbit/s"),
        _ => format!("{:.0} kbit/s", bits / 1e3),
    }
}

/// Averages of the link's capacity in bits per second, and recent problems.
#[derive(Clone, Debug, Default)]
pub struct Link {
    fast: Option<f64>,
    slow: Option<f64>,
    /// Measurement of the newest report, if it had one.
    latest: Option<f64>,
    /// Newest measurement.
    newest: Option<f64>,
    /// Time of the newest measurement.
    measured_at: Option<u64>,
    /// Recent stalls: time of the report, and length in milliseconds.
    stalls: Vec<(u64, u32)>,
    queued_since: Option<u64>,
    dropping_since: Option<u64>,
}

impl Link {
    /// Capacity in bits per second: the lower of the two averages. `None` if there was no measurement lately.
    pub fn capacity(&self, at: u64) -> Option<f64> {
        match (self.measured_at, self.fast, self.slow) {
            (Some(seen), Some(fast), Some(slow)) if seen + ESTIMATE_VALID_MS > at => {
                Some(fast.min(slow))
            }
            _ => None,
        }
    }

    /// Capacity at this moment, for moves down. The newest measurement counts too if it is lower, so a drop takes
    /// effect at once and a rise does not.
    pub fn capacity_now(&self, at: u64) -> Option<f64> {
        let capacity = self.capacity(at)?;
        Some(self.latest.map_or(capacity, |latest| latest.min(capacity)))
    }

    /// Newest measurement, if it is recent enough.
    pub fn newest(&self, at: u64) -> Option<f64> {
        self.capacity(at).and(self.newest)
    }

    /// Takes a report that covers `passed` milliseconds. `nominal` is the candidate's frame rate (0: unknown), `most`
    /// the highest bit rate that any candidate needs. Returns whether the link was at its limit.
    pub fn note(
        &mut self,
        at: u64,
        passed: u64,
        report: &Report,
        (nominal, most): (f32, f64),
        options: &Options,
    ) -> bool {
        self.stalls.push((at, report.stalled_ms));
        self.stalls.retain(|(when, _)| when + STALL_WINDOW_MS > at);
        let lies = report.queued_ms > options.queue_limit.0;
        self.queued_since = lies.then(|| self.queued_since.unwrap_or(at));
        let shown = report.frame_rate * passed as f32 / 1000.0;
        let dropped = report.frames_dropped as f32;
        let drops = dropped > 1.0 && dropped > MAX_DROP_RATIO * (dropped + shown);
        self.dropping_since = drops.then(|| self.dropping_since.unwrap_or(at));
        let limited = report.stalled_ms > 0
            || report.queued_ms > options.queue_limit.0 / QUEUE_LIMIT_DIVISOR
            || (nominal > 0.0 && report.frame_rate < MIN_FRAME_RATE_RATIO * nominal && !drops);
        let received = f64::from(report.received);
        let seen = match report.goodput {
            Some(goodput) => Some(
                f64::from(goodput)
                    .min(GOODPUT_CAP_FACTOR * most)
                    .max(received),
            ),
            None if limited => Some(received),
            None => None,
        };
        self.latest = seen;
        self.newest = seen.or(self.newest);
        if let Some(seen) = seen {
            if self.capacity(at).is_none() {
                (self.fast, self.slow) = (None, None);
            }
            // A measurement stands for the time since the previous one.
            let since = self
                .measured_at
                .map_or(passed, |seen| at.saturating_sub(seen));
            let weight = since.clamp(passed, MAX_MEASUREMENT_MS.max(passed));
            self.measured_at = Some(at);
            self.fast = Some(moving_average(self.fast, seen, weight, options.fast.0));
            self.slow = Some(moving_average(self.slow, seen, weight, options.slow.0));
        } else if self
            .capacity(at)
            .is_some_and(|capacity| received > capacity)
        {
            // Not a measurement, but the link carries at least this much.
            (self.fast, self.slow) = (Some(received), Some(received));
        }
        limited
    }

    /// Total length of recent stalls in milliseconds.
    pub fn stalled(&self) -> u64 {
        self.stalls.iter().map(|(_, ms)| u64::from(*ms)).sum()
    }

    /// For how long the queueing delay has been too high, in milliseconds.
    pub fn queued(&self, at: u64) -> Option<u64> {
        self.queued_since.map(|since| at.saturating_sub(since))
    }

    /// For how long the device has been dropping too many frames, in milliseconds.
    pub fn dropping(&self, at: u64) -> u64 {
        self.dropping_since
            .map_or(0, |since| at.saturating_sub(since))
    }

    /// Forgets past problems, because another candidate plays or the player was hidden.
    pub fn clear_problems(&mut self) {
        self.stalls.clear();
        (self.queued_since, self.dropping_since) = (None, None);
    }
}

/// Exponential moving average with a time constant, after `passed` (both in milliseconds). It is geometric because
/// links change by factors, and errors on a wide link are factors too.
fn moving_average(old: Option<f64>, new: f64, passed: u64, constant: u32) -> f64 {
    let passed = passed as f64;
    let weight = passed / (passed + f64::from(constant));
    let new = new.max(MIN_GOODPUT);
    old.map_or(new, |old| {
        old.max(MIN_GOODPUT) * (new / old.max(MIN_GOODPUT)).powf(weight)
    })
}

/// Peak bit rate that a candidate needed recently, in bits per second; it decays over `passed` milliseconds since the
/// last update.
pub fn most(old: Option<f64>, received: f64, passed: u64) -> f64 {
    let kept = 1.0 - PEAK_DECAY_PER_SECOND * passed as f64 / 1000.0;
    old.map_or(received, |old| received.max(old * kept.max(0.0)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn report(received: u32, frame_rate: f32) -> Report {
        Report {
            round_trip_ms: Some(20),
            goodput: None,
            received,
            queued_ms: 0,
            buffered_ms: None,
            stalled_ms: 0,
            frames_dropped: 0,
            frame_rate,
            network: None,
            visible: true,
            listening: false,
            loss: None,
            view_width: 0,
            view_height: 0,
            more: vec![],
        }
    }

    #[test]
    fn a_link_with_little_to_send_is_not_taken_for_a_narrow_one() {
        let (mut link, options) = (Link::default(), Options::default());
        for at in 1..60 {
            assert!(!link.note(
                at * 1000,
                1000,
                &report(400_000, 10.0),
                (10.0, 4e6),
                &options
            ));
        }
        assert_eq!(link.capacity(59_000), None);
        // At its limit, the link's capacity is what it carries.
        for at in 60..90 {
            assert!(link.note(
                at * 1000,
                1000,
                &report(800_000, 3.0),
                (10.0, 4e6),
                &options
            ));
        }
        assert!((link.capacity(89_000).unwrap() - 800_000.0).abs() < 1.0);
        // Later throughput without problems is a lower bound of the capacity.
        assert!(!link.note(
            90_000,
            1000,
            &report(2_000_000, 10.0),
            (10.0, 4e6),
            &options
        ));
        assert_eq!(link.capacity(90_000), Some(2_000_000.0));
        assert_eq!(link.capacity(120_000), None);
    }

    #[test]
    fn a_drop_is_believed_sooner_than_a_rise() {
        let (mut link, options) = (Link::default(), Options::default());
        let mut measured = |at: u64, goodput| {
            let report = Report {
                goodput: Some(goodput),
                ..report(100_000, 10.0)
            };
            link.note(at * 1000, 1000, &report, (10.0, 4e6), &options);
            link.capacity(at * 1000).unwrap()
        };
        for at in 1..30 {
            measured(at, 10_000_000);
        }
        let dropped = (30..33).map(|at| measured(at, 1_000_000)).last().unwrap();
        assert!(dropped < 5_000_000.0, "{dropped}");
        for at in 33..90 {
            measured(at, 1_000_000);
        }
        let risen = (90..93).map(|at| measured(at, 10_000_000)).last().unwrap();
        assert!(risen < 4_000_000.0, "{risen}");
    }

    #[test]
    fn rates_are_read_by_people() {
        for (bits, text) in [
            (0.0, "0 kbit/s"),
            (56_400.0, "56 kbit/s"),
            (800_000.0, "0.8 Mbit/s"),
            (3_240_000.0, "3.2 Mbit/s"),
            (54_000_000.0, "54 Mbit/s"),
        ] {
            assert_eq!(rate(bits), text);
        }
    }
}
