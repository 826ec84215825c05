//! Time units, and two small state machines that work on times: [`AudioGrid`] places audio frames without jitter, and
//! [`FrameRateLimiter`] reduces a frame rate.
//!
//! Video is timed in ticks of 90 kHz. Audio is timed in samples of its own rate, because 90 kHz ticks cannot represent
//! 1024 samples at 44.1 kHz. The time stamps of a source are mapped to the stream's timeline before this, by
//! [`super::timeline`].

use super::sample::{SampleRange, Times};
use std::time::Duration;

/// Ticks per second of every video track.
pub const TIMESCALE: u32 = 90_000;

/// A point in time. The caller reads the clocks; the pure code in this crate never does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// Microseconds since the Unix epoch. May jump when the wall clock is set.
    pub unix_us: u64,
    /// Time since the run began. Never goes back.
    pub elapsed: Duration,
}

impl Moment {
    /// Ticks of [`TIMESCALE`] since the run began.
    pub fn ticks(&self) -> u64 {
        ticks(self.elapsed)
    }
}

/// A duration in ticks of [`TIMESCALE`].
pub fn ticks(duration: Duration) -> u64 {
    let ticks = duration.as_micros() * u128::from(TIMESCALE) / 1_000_000;
    u64::try_from(ticks).unwrap_or(u64::MAX)
}

/// Converts `value` units of `numerator / denominator` seconds to ticks of [`TIMESCALE`]. Saturates; 0 if `denominator`
/// is 0.
pub fn rescale(value: i64, numerator: i32, denominator: i32) -> i64 {
    if denominator == 0 {
        return 0;
    }
    let scaled =
        i128::from(value) * i128::from(numerator) * i128::from(TIMESCALE) / i128::from(denominator);
    scaled.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
}

/// Places audio frames on the grid of their samples: each frame starts where the previous one ended, as long as the
/// source's time stamps agree within 40 ms. This removes rounding and jitter, which would otherwise be audible as gaps
/// and overlaps. Times always rise, also across a change of the sample rate.
#[derive(Debug)]
pub struct AudioGrid {
    rate: u32,
    next: Option<u64>,
}

impl Default for AudioGrid {
    fn default() -> AudioGrid {
        AudioGrid {
            rate: TIMESCALE,
            next: None,
        }
    }
}

impl AudioGrid {
    /// Largest difference between a source's time stamp and the end of the previous frame, in milliseconds, that counts
    /// as jitter.
    const TOLERANCE_MS: u64 = 40;

    /// Sets the sample rate, in samples per second, of the frames that follow.
    pub fn set_rate(&mut self, rate: u32) {
        if rate == self.rate {
            return;
        }
        let next = self.next.map(|next| self.ticks(next));
        self.next = next.map(|next| {
            let scaled = u128::from(next) * u128::from(rate);
            u64::try_from(scaled.div_ceil(TIMESCALE.into())).unwrap_or(u64::MAX)
        });
        self.rate = rate;
    }

    /// Places a frame of `length` samples whose source time stamps are `times`. A frame that is later than the end of
    /// the previous one by more than the tolerance leaves a gap. Returns `None` for a frame that is earlier than that
    /// by more than the tolerance: its time is already taken.
    pub fn place(&mut self, times: Times, length: u32) -> Option<(Times, SampleRange)> {
        let told = self.samples(times.decode_time);
        let tolerance = u64::from(self.rate) * Self::TOLERANCE_MS / 1000;
        let at = match self.next {
            Some(next) if told.abs_diff(next) <= tolerance => next,
            Some(next) if told < next => return None,
            _ => told,
        };
        let sample_range = SampleRange { at, length };
        self.passed(sample_range);
        let start = self.ticks(at);
        let end = self.ticks(at.saturating_add(length.into()));
        let times = Times {
            decode_time: start,
            duration: u32::try_from(end - start).unwrap_or(0),
            ..times
        };
        Some((times, sample_range))
    }

    /// Places a packet of unknown length: at its own time stamp, but always after the previous packet.
    pub fn place_packet(&mut self, times: Times) -> Times {
        let at = self.samples(times.decode_time).max(self.next.unwrap_or(0));
        self.passed(SampleRange { at, length: 1 });
        Times {
            decode_time: self.ticks(at),
            ..times
        }
    }

    /// Records a frame that was placed by someone else; the next one follows it.
    pub fn passed(&mut self, sample_range: SampleRange) {
        self.next = Some(sample_range.at.saturating_add(sample_range.length.into()));
    }

    fn samples(&self, time: u64) -> u64 {
        let scaled = u128::from(time) * u128::from(self.rate) + u128::from(TIMESCALE / 2);
        u64::try_from(scaled / u128::from(TIMESCALE)).unwrap_or(u64::MAX)
    }

    fn ticks(&self, sample: u64) -> u64 {
        let scaled = u128::from(sample) * u128::from(TIMESCALE) / u128::from(self.rate.max(1));
        u64::try_from(scaled).unwrap_or(u64::MAX)
    }
}

/// Limits a frame rate by dropping frames. A frame is due one step after the previous *due time* rather than after the
/// previous frame, so that of 30 frames per second a limit of 10 passes 10 and not 7.5, and of 25 a limit of 15 passes
/// all 15. A frame up to a third of a step early counts as due, so that jitter drops nothing.
#[derive(Debug)]
pub struct FrameRateLimiter {
    step: u64,
    due: Option<u64>,
}

impl FrameRateLimiter {
    /// Lets at most `most` (at least 1) frames per second pass, the first one immediately.
    pub fn new(most: u32) -> FrameRateLimiter {
        FrameRateLimiter {
            step: u64::from(TIMESCALE / most.max(1)).max(1),
            due: None,
        }
    }

    /// Ticks from one frame to the next at the highest allowed rate.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// Returns whether a frame with this time, in ticks, may pass.
    pub fn is_due(&self, time: u64) -> bool {
        self.due.is_none_or(|due| time + self.step / 3 >= due)
    }

    /// Records that a frame with this time, in ticks, has passed.
    pub fn passed(&mut self, time: u64) {
        let due = match self.due {
            Some(due) if self.is_due(time) && time <= due + self.step => due,
            _ => time,
        };
        self.due = Some(due + self.step);
    }

    /// Forgets the due time: the next frame may pass whatever its time is.
    pub fn reset(&mut self) {
        self.due = None;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn told(decode_time: u64) -> Times {
        Times {
            decode_time,
            ..Times::default()
        }
    }

    #[test]
    fn an_audio_grid_takes_jitter_out_and_keeps_gaps() {
        let mut grid = AudioGrid::default();
        grid.set_rate(44_100);
        let mut place = |ms: u64| {
            let placed = grid.place(told(ms * 90), 1024);
            placed.map(|(times, sample_range)| {
                assert_eq!(times.decode_time, sample_range.at * 90_000 / 44_100);
                assert!((2089..=2090).contains(&times.duration));
                sample_range.at
            })
        };
        // Frames last 23.2 ms; the time stamps are in whole milliseconds.
        assert_eq!(
            [0, 23, 46, 70, 93].map(&mut place),
            [Some(0), Some(1024), Some(2048), Some(3072), Some(4096)]
        );
        // Two frames are lost; then two come whose times are already taken.
        assert_eq!(place(163), Some(7188));
        assert_eq!(place(140), None);
        assert_eq!(place(187), Some(8212));
    }

    #[test]
    fn audio_of_another_codec_continues_behind_the_audio_before() {
        for rate in [44_100, 48_000, 192_000, 1] {
            for early in [4000, 3000, 1, 0] {
                let mut grid = AudioGrid::default();
                grid.set_rate(44_100);
                let (times, _) = grid.place(told(90_001), 1024).unwrap();
                let end = times.decode_time + u64::from(times.duration);
                grid.set_rate(rate);
                match grid.place(told(end - early), 1024) {
                    Some((times, _)) => assert!(times.decode_time >= end, "{rate} {early}"),
                    // At a rate of 1, one sample lasts a second, so no time stamp is within the tolerance.
                    None => assert!(early == 4000 || rate == 1, "{rate} {early}"),
                }
            }
        }
        let mut grid = AudioGrid::default();
        let times = [5000, 4000, 4000, 6000].map(|time| grid.place_packet(told(time)));
        assert_eq!(
            times.map(|times| times.decode_time),
            [5000, 5001, 5002, 6000]
        );
        grid.set_rate(48_000);
        let (times, sample_range) = grid.place(told(3000), 1024).unwrap();
        assert!(times.decode_time > 6000 && sample_range.at == 3201);
    }

    #[test]
    fn of_thirty_frames_ten_pass_wherever_they_fall() {
        for offset in [0, 1, 999, 2999, 8999, 123_456_789] {
            let mut frame_rate_limiter = FrameRateLimiter::new(10);
            let mut passed = 0;
            for frame in 0..300u64 {
                // A millisecond early or late.
                let time = offset + frame * 3000 + (frame % 3) * 90;
                if frame_rate_limiter.is_due(time) {
                    frame_rate_limiter.passed(time);
                    passed += 1;
                }
            }
            assert!((99..=101).contains(&passed), "{passed} at {offset}");
        }
    }

    #[test]
    fn jitter_costs_no_frame_and_a_faster_source_is_thinned_evenly() {
        let taken = |per_second, times: Vec<u64>| {
            let mut frame_rate_limiter = FrameRateLimiter::new(per_second);
            let mut taken = times;
            taken.retain(|time| {
                let due = frame_rate_limiter.is_due(*time);
                if due {
                    frame_rate_limiter.passed(*time);
                }
                due
            });
            taken
        };
        for offset in [0, 1, 5_250, 123_456_789] {
            let jittered: Vec<u64> = (0..100)
                .map(|n| offset + n * 6_000 + (n * 7919) % 2_000)
                .collect();
            assert_eq!(taken(15, jittered.clone()), jittered);
        }
        // 25 frames per second are reduced to 15; 29.97 pass a limit of 30 completely.
        let thinned = taken(15, (0..250).map(|n| n * 3_600).collect());
        assert_eq!(thinned.len(), 150);
        assert!(thinned.windows(2).all(|pair| pair[1] - pair[0] <= 7_200));
        assert_eq!(taken(30, (0..300).map(|n| n * 3_003).collect()).len(), 300);
        // After a pause, frames are due relative to the first one after it.
        assert_eq!(
            taken(10, vec![0, 9_000, 90_000, 93_000, 99_000]),
            [0, 9_000, 90_000, 99_000]
        );
    }
}
