//! What is known of the way to a viewer, from its reports.

use crate::Options;
use sluicegate_sdk::policy::Report;

/// With fewer pictures than this part of what the source gives, the link or the device is at its limit.
const TOO_FEW: f32 = 0.75;
/// Behind by half of what is too much, it is at its limit, too.
const QUEUED: u32 = 2;
/// How fast the most that was needed is forgotten, by second.
const FORGOTTEN: f64 = 0.02;
/// Stalls are added up over so long (ms).
const STALLS_OVER: u64 = 5000;
/// What was seen is believed for so long (ms).
const BELIEVED: u64 = 30_000;
/// And stands for no longer than this (ms) before.
const MAX_INTERVAL: u64 = 5000;
/// What is less (bits a second) is nothing.
const MIN_GOODPUT: f64 = 1000.0;
/// Measured above so many times what any candidate needs, it is only known to be more than enough.
const ENOUGH: f64 = 4.0;
/// Pictures dropped by the device, of all that it got, that are too many.
const DROPPED: f32 = 0.3;

/// Bits a second, for people.
pub fn rate(bits: f64) -> String {
    match bits / 1e6 {
        mega if mega >= 10.0 => format!("{mega:.0} Mbit/s"),
        mega if mega >= 0.095 => format!("{mega:.1} Mbit/s"),
        _ => format!("{:.0} kbit/s", bits / 1e3),
    }
}

/// Two means of what it carries, and what there was of trouble.
#[derive(Clone, Debug, Default)]
pub struct Link {
    fast: Option<f64>,
    slow: Option<f64>,
    /// What the newest report said.
    latest: Option<f64>,
    /// What the newest report said that said anything.
    newest: Option<f64>,
    /// When it was last measured, or seen at its limit.
    seen_at: Option<u64>,
    /// Stalls of the last seconds: when they were reported, and how long they were.
    stalls: Vec<(u64, u32)>,
    queued_since: Option<u64>,
    dropping_since: Option<u64>,
}

impl Link {
    /// What it carries, the lower of both means; `None` where that cannot be told.
    pub fn carries(&self, at: u64) -> Option<f64> {
        match (self.seen_at, self.fast, self.slow) {
            (Some(seen), Some(fast), Some(slow)) if seen + BELIEVED > at => Some(fast.min(slow)),
            _ => None,
        }
    }

    /// What it carries just now: a drop is believed at once, a rise is not.
    pub fn carries_now(&self, at: u64) -> Option<f64> {
        let carries = self.carries(at)?;
        Some(self.latest.map_or(carries, |latest| latest.min(carries)))
    }

    /// What it carried when that was last measured, if that is not long ago.
    pub fn newest(&self, at: u64) -> Option<f64> {
        self.carries(at).and(self.newest)
    }

    /// A report of `passed` ms on something that gives `nominal` pictures a second (0: unknown). Says whether the link was seen
    /// at its limit. `most`: what any candidate needs, bits a second.
    pub fn note(
        &mut self,
        at: u64,
        passed: u64,
        report: &Report,
        (nominal, most): (f32, f64),
        options: &Options,
    ) -> bool {
        self.stalls.push((at, report.stalled_ms));
        self.stalls.retain(|(when, _)| when + STALLS_OVER > at);
        let lies = report.queued_ms > options.queue_limit.0;
        self.queued_since = lies.then(|| self.queued_since.unwrap_or(at));
        let shown = report.frame_rate * passed as f32 / 1000.0;
        let dropped = report.frames_dropped as f32;
        let drops = dropped > 1.0 && dropped > DROPPED * (dropped + shown);
        self.dropping_since = drops.then(|| self.dropping_since.unwrap_or(at));
        let limited = report.stalled_ms > 0
            || report.queued_ms > options.queue_limit.0 / QUEUED
            || (nominal > 0.0 && report.frame_rate < TOO_FEW * nominal && !drops);
        let received = f64::from(report.received);
        let seen = match report.goodput {
            Some(goodput) => Some(f64::from(goodput).min(ENOUGH * most).max(received)),
            None if limited => Some(received),
            None => None,
        };
        self.latest = seen;
        self.newest = seen.or(self.newest);
        if let Some(seen) = seen {
            if self.carries(at).is_none() {
                (self.fast, self.slow) = (None, None);
            }
            // It stands for the time since the one before.
            let since = self.seen_at.map_or(passed, |seen| at.saturating_sub(seen));
            let weight = since.clamp(passed, MAX_INTERVAL.max(passed));
            self.seen_at = Some(at);
            self.fast = Some(mean(self.fast, seen, weight, options.fast.0));
            self.slow = Some(mean(self.slow, seen, weight, options.slow.0));
        } else if self.carries(at).is_some_and(|carries| received > carries) {
            // At least that much.
            (self.fast, self.slow) = (Some(received), Some(received));
        }
        limited
    }

    /// For how long pictures stood still in the last seconds (ms).
    pub fn stalled(&self) -> u64 {
        self.stalls.iter().map(|(_, ms)| u64::from(*ms)).sum()
    }

    /// For how long too much has been lying in queues (ms).
    pub fn queued(&self, at: u64) -> Option<u64> {
        self.queued_since.map(|since| at.saturating_sub(since))
    }

    /// For how long the device has been dropping pictures (ms).
    pub fn dropping(&self, at: u64) -> u64 {
        self.dropping_since
            .map_or(0, |since| at.saturating_sub(since))
    }

    /// Trouble of the past is past: something else plays, or nobody looked.
    pub fn calm(&mut self) {
        self.stalls.clear();
        (self.queued_since, self.dropping_since) = (None, None);
    }
}

/// A mean that forgets, with a time constant, after `passed` (both ms). The geometric one: links change by factors, and what was
/// measured on a wide one is off by factors, too.
fn mean(old: Option<f64>, new: f64, passed: u64, constant: u32) -> f64 {
    let passed = passed as f64;
    let weight = passed / (passed + f64::from(constant));
    let new = new.max(MIN_GOODPUT);
    old.map_or(new, |old| {
        old.max(MIN_GOODPUT) * (new / old.max(MIN_GOODPUT)).powf(weight)
    })
}

/// The most that something needed lately, in bits a second; `passed` ms since the last look.
pub fn most(old: Option<f64>, received: f64, passed: u64) -> f64 {
    let kept = 1.0 - FORGOTTEN * passed as f64 / 1000.0;
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
        }
    }

    #[test]
    fn what_has_little_to_do_is_not_taken_for_narrow() {
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
        assert_eq!(link.carries(59_000), None);
        // At its limit it is known.
        for at in 60..90 {
            assert!(link.note(
                at * 1000,
                1000,
                &report(800_000, 3.0),
                (10.0, 4e6),
                &options
            ));
        }
        assert!((link.carries(89_000).unwrap() - 800_000.0).abs() < 1.0);
        // And at least what comes later without trouble.
        assert!(!link.note(
            90_000,
            1000,
            &report(2_000_000, 10.0),
            (10.0, 4e6),
            &options
        ));
        assert_eq!(link.carries(90_000), Some(2_000_000.0));
        assert_eq!(link.carries(120_000), None);
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
            link.carries(at * 1000).unwrap()
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
