//! One rising timeline out of whatever times a source gives.

use super::sample::{Beat, Times};
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

/// Maps a source's decode times onto a timeline that only rises, over loops, losses and jumps; pictures and sound by
/// the same amount.
#[derive(Debug, Default)]
pub struct Timeline {
    places: [Place; 2],
    /// The source begins again with no gap: a file that loops. Else it goes on at the present time.
    seamless: bool,
}

/// The tracks in a [`Timeline`].
const PICTURES: usize = 0;
const SOUND: usize = 1;

/// Where one track is.
#[derive(Debug)]
struct Place {
    /// From the source's times to ours, while those go on.
    offset: Option<i64>,
    last: Option<u64>,
    step: u64,
}

impl Default for Place {
    fn default() -> Self {
        Place {
            offset: None,
            last: None,
            step: u64::from(TIMESCALE) / 25,
        }
    }
}

impl Place {
    /// The time of a sample by that offset, if it is one that may follow the last one. Equal or slightly earlier times come from
    /// rounding and from two pictures in one packet: they are nudged. Farther back the source has begun again.
    fn follow(&self, decode: i64, offset: i64, newest: Option<u64>) -> Option<i64> {
        let placed = decode.saturating_add(offset);
        let last = self
            .last
            .map(|last| i64::try_from(last).unwrap_or(i64::MAX));
        let newest = newest.map_or(0, |newest| i64::try_from(newest).unwrap_or(i64::MAX));
        let before = last.unwrap_or(newest).saturating_sub(placed);
        let leap = LEAP as i64;
        let most = if last.is_some() { leap / 10 } else { leap };
        (before > -leap && before < most).then(|| last.map_or(placed, |last| placed.max(last + 1)))
    }
}

impl Place {
    fn reach(&mut self, at: u64, duration: u32) {
        if duration > 0 {
            self.step = u64::from(duration);
        } else if let Some(last) = self.last
            && at - last < LEAP
        {
            self.step = at - last;
        }
        self.last = Some(at);
    }
}

impl Timeline {
    /// The source begins again where it ended.
    pub fn loops(&mut self) {
        self.begin(true);
    }

    /// The source was lost and comes back.
    pub fn resumes(&mut self) {
        self.begin(false);
    }

    fn begin(&mut self, seamless: bool) {
        self.seamless = seamless;
        self.places.iter_mut().for_each(|place| place.offset = None);
    }

    /// The decode time of the next picture.
    ///
    /// `decode` is the source's own time in ticks, `duration` what it claims for this sample (0: unknown).
    /// Without `decode` the present stands in.
    pub fn place(&mut self, decode: Option<i64>, duration: u32, now: Moment) -> u64 {
        let at = self.find(PICTURES, decode, now);
        let at = u64::try_from(at).unwrap_or(0);
        self.places[PICTURES].reach(at, duration);
        at
    }

    /// The same of the next sound; `None` if it is from before the run began.
    pub fn place_sound(&mut self, decode: Option<i64>, duration: u32, now: Moment) -> Option<u64> {
        let at = self.find(SOUND, decode, now);
        let at = u64::try_from(at).ok()?;
        self.places[SOUND].reach(at, duration);
        Some(at)
    }

    fn find(&mut self, track: usize, decode: Option<i64>, now: Moment) -> i64 {
        let newest = self.places.iter().filter_map(|place| place.last).max();
        let ends = self.places.iter();
        let end = ends
            .filter_map(|place| Some(place.last? + place.step))
            .max();
        let offsets = [track, 1 - track].map(|track| self.places[track].offset);
        let own = &mut self.places[track];
        let Some(decode) = decode else {
            own.offset = None;
            self.seamless = false;
            let next = own.last.map_or(0, |last| last + 1);
            return i64::try_from(now.ticks().max(next)).unwrap_or(i64::MAX);
        };
        for offset in offsets.into_iter().flatten() {
            if let Some(at) = own.follow(decode, offset, newest) {
                own.offset = Some(offset);
                return at;
            }
        }
        let at = match (newest, end) {
            (Some(_), Some(end)) if self.seamless => end,
            (Some(newest), _) => now.ticks().max(newest + 1),
            _ if self.seamless => 0,
            _ => now.ticks(),
        };
        let at = i64::try_from(at).unwrap_or(i64::MAX);
        own.offset = Some(at.saturating_sub(decode));
        self.seamless = false;
        at
    }
}

/// Times frames of sound in samples: each where the one before ended, while the source's times say nearly so. So what
/// rounding and jitter there is in those is heard nowhere. Times rise, also where other sound follows.
#[derive(Debug)]
pub struct Metronome {
    rate: u32,
    next: Option<u64>,
}

impl Default for Metronome {
    fn default() -> Metronome {
        Metronome {
            rate: TIMESCALE,
            next: None,
        }
    }
}

impl Metronome {
    /// The source's times may be off by this many milliseconds.
    const TOLERANCE_MS: u64 = 40;

    /// What follows has so many samples a second.
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

    /// Where a frame of `length` samples is whose times are said to be `times`. A frame that is later than where the one before
    /// ended leaves a gap; `None` for one that is so early that others are there already.
    pub fn place(&mut self, times: Times, length: u32) -> Option<(Times, Beat)> {
        let told = self.samples(times.decode_time);
        let tolerance = u64::from(self.rate) * Self::TOLERANCE_MS / 1000;
        let at = match self.next {
            Some(next) if told.abs_diff(next) <= tolerance => next,
            Some(next) if told < next => return None,
            _ => told,
        };
        let beat = Beat { at, length };
        self.passed(beat);
        let start = self.ticks(at);
        let end = self.ticks(at.saturating_add(length.into()));
        let times = Times {
            decode_time: start,
            duration: u32::try_from(end - start).unwrap_or(0),
            ..times
        };
        Some((times, beat))
    }

    /// The same of a packet of unknown length, which is where its time says, or behind the one before.
    pub fn place_packet(&mut self, times: Times) -> Times {
        let at = self.samples(times.decode_time).max(self.next.unwrap_or(0));
        self.passed(Beat { at, length: 1 });
        Times {
            decode_time: self.ticks(at),
            ..times
        }
    }

    /// A frame that is placed already.
    pub fn passed(&mut self, beat: Beat) {
        self.next = Some(beat.at.saturating_add(beat.length.into()));
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

    #[test]
    fn sound_is_moved_as_pictures_are_over_loops_leaps_and_losses() {
        let mut timeline = Timeline::default();
        let picture =
            |timeline: &mut Timeline, decode, ms| timeline.place(Some(decode), 3000, at(ms));
        let sound = |timeline: &mut Timeline, decode, ms| {
            timeline.place_sound(Some(decode), 3000, at(ms)).unwrap()
        };
        // Sound begins a little earlier and ends later.
        assert_eq!(picture(&mut timeline, 9000, 500), 45_000);
        assert_eq!(sound(&mut timeline, 7080, 500), 43_080);
        assert_eq!(sound(&mut timeline, 13_000, 550), 49_000);
        timeline.loops();
        assert_eq!(sound(&mut timeline, 7080, 600), 52_000);
        assert_eq!(picture(&mut timeline, 9000, 600), 53_920);
        // The times leap, those of sound a packet later.
        let far = 1 << 40;
        assert_eq!(picture(&mut timeline, far, 700), 63_000);
        assert_eq!(sound(&mut timeline, 13_000, 700), 57_920);
        assert_eq!(sound(&mut timeline, far + 900, 710), 63_900);
        timeline.resumes();
        assert_eq!(sound(&mut timeline, 100, 9000), 810_000);
        assert_eq!(picture(&mut timeline, 0, 9000), 809_900);
    }

    #[test]
    fn sound_from_before_the_run_is_left_out_and_moves_none_of_the_rest() {
        let mut timeline = Timeline::default();
        assert_eq!(timeline.place(Some(5000), 3000, at(10)), 900);
        let mut sound = |decode| timeline.place_sound(Some(decode), 1920, at(10));
        assert_eq!(
            [3080, 5000, 6920].map(&mut sound),
            [None, Some(900), Some(2820)]
        );
    }

    fn told(decode_time: u64) -> Times {
        Times {
            decode_time,
            ..Times::default()
        }
    }

    #[test]
    fn a_metronome_takes_jitter_out_and_keeps_gaps() {
        let mut metronome = Metronome::default();
        metronome.set_rate(44_100);
        let mut place = |ms: u64| {
            let placed = metronome.place(told(ms * 90), 1024);
            placed.map(|(times, beat)| {
                assert_eq!(times.decode_time, beat.at * 90_000 / 44_100);
                assert!((2089..=2090).contains(&times.duration));
                beat.at
            })
        };
        // 23.2 ms each, told in whole milliseconds.
        assert_eq!(
            [0, 23, 46, 70, 93].map(&mut place),
            [Some(0), Some(1024), Some(2048), Some(3072), Some(4096)]
        );
        // Two are lost; then two come that are there already.
        assert_eq!(place(163), Some(7188));
        assert_eq!(place(140), None);
        assert_eq!(place(187), Some(8212));
    }

    #[test]
    fn other_sound_goes_on_behind_the_sound_before() {
        for rate in [44_100, 48_000, 192_000, 1] {
            for early in [4000, 3000, 1, 0] {
                let mut metronome = Metronome::default();
                metronome.set_rate(44_100);
                let (times, _) = metronome.place(told(90_001), 1024).unwrap();
                let end = times.decode_time + u64::from(times.duration);
                metronome.set_rate(rate);
                match metronome.place(told(end - early), 1024) {
                    Some((times, _)) => assert!(times.decode_time >= end, "{rate} {early}"),
                    // A sample of a second is never nearly right.
                    None => assert!(early == 4000 || rate == 1, "{rate} {early}"),
                }
            }
        }
        let mut metronome = Metronome::default();
        let times = [5000, 4000, 4000, 6000].map(|time| metronome.place_packet(told(time)));
        assert_eq!(
            times.map(|times| times.decode_time),
            [5000, 5001, 5002, 6000]
        );
        metronome.set_rate(48_000);
        let (times, beat) = metronome.place(told(3000), 1024).unwrap();
        assert!(times.decode_time > 6000 && beat.at == 3201);
    }

    proptest! {
        #[test]
        fn decode_times_always_rise(steps in prop::collection::vec(
            (prop::option::of(any::<i64>()), 0u32..10_000, 0u64..100, 0u8..20), 1..200)) {
            let mut timeline = Timeline::default();
            let (mut last, mut clock) = ([None; 2], 0);
            for (decode, duration, passed, event) in steps {
                clock += passed;
                match event { 0 => timeline.loops(), 1 => timeline.resumes(), _ => {} }
                let is_sound = event % 3 == 0;
                let time = match is_sound {
                    true => timeline.place_sound(decode, duration, at(clock)),
                    false => Some(timeline.place(decode, duration, at(clock))),
                };
                let Some(time) = time else { continue };
                let last = last[usize::from(is_sound)].replace(time);
                prop_assert!(last.is_none_or(|last| time > last));
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
