//! One rising timeline out of whatever times a source gives.

use std::time::Duration;

/// Ticks a second of every video track.
pub const TIMESCALE: u32 = 90_000;

/// A gap in a source's own times beyond which they are taken for new ones.
const LEAP: u64 = 10 * TIMESCALE as u64;

/// A point in time, read by the caller: pure code never asks a clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// Microseconds since the Unix epoch; may jump.
    pub unix_us: u64,
    /// Since the run began; never goes back.
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

/// `value` units of `numerator / denominator` seconds, in ticks of [`TIMESCALE`].
pub fn rescale(value: i64, numerator: i32, denominator: i32) -> i64 {
    if denominator == 0 {
        return 0;
    }
    let scaled =
        i128::from(value) * i128::from(numerator) * i128::from(TIMESCALE) / i128::from(denominator);
    scaled.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
}

/// How the next sample is joined to the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Join {
    /// The source's times go on.
    Continue,
    /// The source begins again with no gap: a file that loops.
    Seamless,
    /// The source was away: go on at the present time.
    Gap,
}

/// Maps a source's decode times onto a timeline that only rises, over loops, losses and jumps.
#[derive(Debug)]
pub struct Timeline {
    offset: i64,
    last: Option<u64>,
    step: u64,
    join: Join,
}

impl Default for Timeline {
    fn default() -> Self {
        Timeline {
            offset: 0,
            last: None,
            step: u64::from(TIMESCALE) / 25,
            join: Join::Gap,
        }
    }
}

impl Timeline {
    /// The source begins again where it ended.
    pub fn loops(&mut self) {
        self.join = Join::Seamless;
    }

    /// The source was lost and comes back.
    pub fn resumes(&mut self) {
        self.join = Join::Gap;
    }

    /// The decode time of the next sample.
    ///
    /// `decode` is the source's own time in ticks, `duration` what it claims for this sample (0: unknown).
    /// Without `decode` the present stands in.
    pub fn place(&mut self, decode: Option<i64>, duration: u32, now: Moment) -> u64 {
        let next = self.last.map_or(0, |last| last + self.step);
        let present = self
            .last
            .map_or(now.ticks(), |last| now.ticks().max(last + 1));
        let at = match decode {
            None => {
                self.join = Join::Gap;
                present
            }
            Some(decode) => {
                let placed = u64::try_from(decode.saturating_add(self.offset)).ok();
                match (self.join, placed) {
                    (Join::Continue, Some(placed))
                        if self
                            .last
                            .is_none_or(|last| placed > last && placed - last < LEAP) =>
                    {
                        placed
                    }
                    // Equal or slightly earlier times come from rounding and from two pictures in
                    // one packet: nudge. Farther back the source has begun again.
                    (Join::Continue, Some(placed))
                        if self
                            .last
                            .is_some_and(|last| placed <= last && last - placed < LEAP / 10) =>
                    {
                        self.last.map_or(placed, |last| last + 1)
                    }
                    (Join::Seamless, _) => self.rebase(decode, next),
                    _ => self.rebase(decode, present),
                }
            }
        };
        if duration > 0 {
            self.step = u64::from(duration);
        } else if let Some(last) = self.last
            && at - last < LEAP
        {
            self.step = at - last;
        }
        self.last = Some(at);
        at
    }

    fn rebase(&mut self, decode: i64, at: u64) -> u64 {
        self.offset = i64::try_from(at).unwrap_or(i64::MAX).saturating_sub(decode);
        self.join = Join::Continue;
        at
    }
}

/// Lets at most so many pictures a second pass. Each is due a step after the one before was, so that of 30 a second 10 pass and
/// not 7.5, and of 25 a second 15; one that is a little early is on time, so that jitter costs none.
#[derive(Debug)]
pub struct Cadence {
    step: u64,
    due: Option<u64>,
}

impl Cadence {
    /// Lets `most` (at least 1) pictures a second pass, the first at once.
    pub fn new(most: u32) -> Cadence {
        Cadence {
            step: u64::from(TIMESCALE / most.max(1)).max(1),
            due: None,
        }
    }

    /// Ticks from one picture to the next.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// Whether a picture of this time may pass.
    pub fn is_due(&self, time: u64) -> bool {
        self.due.is_none_or(|due| time + self.step / 3 >= due)
    }

    /// A picture of this time has passed.
    pub fn passed(&mut self, time: u64) {
        let due = match self.due {
            Some(due) if self.is_due(time) && time <= due + self.step => due,
            _ => time,
        };
        self.due = Some(due + self.step);
    }

    /// The next may pass whatever its time.
    pub fn reset(&mut self) {
        self.due = None;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;

    fn at(ms: u64) -> Moment {
        Moment {
            unix_us: ms * 1000,
            elapsed: Duration::from_millis(ms),
        }
    }

    #[test]
    fn a_loop_goes_on_one_duration_after_its_end() {
        let mut timeline = Timeline::default();
        let first: Vec<_> = (0..3)
            .map(|n| timeline.place(Some(9000 + n * 3000), 3000, at(n as u64 * 33)))
            .collect();
        assert_eq!(first, [0, 3000, 6000]);
        timeline.loops();
        assert_eq!(timeline.place(Some(9000), 3000, at(99)), 9000);
        assert_eq!(timeline.place(Some(12000), 3000, at(133)), 12000);
    }

    #[test]
    fn a_lost_source_goes_on_at_the_present() {
        let mut timeline = Timeline::default();
        timeline.place(Some(0), 3000, at(0));
        timeline.resumes();
        assert_eq!(timeline.place(Some(500), 3000, at(4000)), 360_000);
    }

    #[test]
    fn a_leap_in_the_sources_times_is_taken_for_a_new_start() {
        let mut timeline = Timeline::default();
        timeline.place(Some(1_000_000), 3000, at(0));
        assert_eq!(timeline.place(Some(5), 3000, at(50)), 4500);
        assert_eq!(timeline.place(Some(3005), 3000, at(90)), 7500);
    }

    proptest! {
        #[test]
        fn decode_times_always_rise(steps in prop::collection::vec(
            (prop::option::of(any::<i64>()), 0u32..10_000, 0u64..100, 0u8..20), 1..200)) {
            let mut timeline = Timeline::default();
            let (mut last, mut clock) = (None, 0);
            for (decode, duration, passed, event) in steps {
                clock += passed;
                match event { 0 => timeline.loops(), 1 => timeline.resumes(), _ => {} }
                let time = timeline.place(decode, duration, at(clock));
                prop_assert!(last.is_none_or(|last| time > last));
                last = Some(time);
            }
        }
    }

    #[test]
    fn of_thirty_pictures_ten_pass_wherever_they_fall() {
        for offset in [0, 1, 999, 2999, 8999, 123_456_789] {
            let mut cadence = Cadence::new(10);
            let mut passed = 0;
            for picture in 0..300u64 {
                // A millisecond early or late.
                let time = offset + picture * 3000 + (picture % 3) * 90;
                if cadence.is_due(time) {
                    cadence.passed(time);
                    passed += 1;
                }
            }
            assert!((99..=101).contains(&passed), "{passed} at {offset}");
        }
    }

    #[test]
    fn jitter_costs_no_picture_and_a_faster_source_is_thinned_evenly() {
        let taken = |per_second, times: Vec<u64>| {
            let mut cadence = Cadence::new(per_second);
            let mut taken = times;
            taken.retain(|time| {
                let due = cadence.is_due(*time);
                if due {
                    cadence.passed(*time);
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
        // 25 a second to 15, 29.97 to 30.
        let thinned = taken(15, (0..250).map(|n| n * 3_600).collect());
        assert_eq!(thinned.len(), 150);
        assert!(thinned.windows(2).all(|pair| pair[1] - pair[0] <= 7_200));
        assert_eq!(taken(30, (0..300).map(|n| n * 3_003).collect()).len(), 300);
        // A source that pauses goes on at its own pace.
        assert_eq!(
            taken(10, vec![0, 9_000, 90_000, 93_000, 99_000]),
            [0, 9_000, 90_000, 99_000]
        );
    }
}
