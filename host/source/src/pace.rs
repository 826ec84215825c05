//! Keeps what could come at any speed at the speed it was made for.
//!
//! The times of a file may jump: recordings that were joined begin again, and a file that is played again does. So each
//! time gets its place on one line that goes on over every joint, and a packet is due by its place.

use super::{SourceTimes, Stop};
use sluicegate_media::time::TIMESCALE;
use std::time::{Duration, Instant};

/// A track whose times go back by more has begun anew; less is how encoders reorder.
const BACK: i64 = TIMESCALE as i64;
/// A gap in the times that is not waited for.
const LEAP: i64 = 30 * TIMESCALE as i64;
/// Tracks that begin anew are as far apart as before, if that keeps both within this of where they were.
const APART: i64 = 5 * TIMESCALE as i64;
/// What is late by no more is sent at once, so that a machine that was busy or suspended for a moment leaves no gap. What is
/// later begins anew at its own speed: nobody wants an hour of packets at a time.
pub const MAX_CATCH_UP: Duration = Duration::from_secs(10);
/// Times beyond are none.
const LAST: u64 = 1 << 60;

/// When the next packet is due.
#[derive(Debug, Default)]
pub struct Pace {
    line: Line,
    /// When what is at that place is due.
    anchor: Option<(Instant, i64)>,
}

impl Pace {
    /// Waits until a packet of these times is due, or less if told to end. One that only says how long it lasts is given
    /// the time at which the one before ends.
    pub fn wait(&mut self, is_sound: bool, times: &mut SourceTimes, stop: &Stop) {
        let place = self.place(is_sound, times);
        self.wait_for(place, stop);
    }

    /// Where a packet of these times belongs, in ticks; `times` as in [`Pace::wait`]. In the order of each track.
    pub fn place(&mut self, is_sound: bool, times: &mut SourceTimes) -> i64 {
        self.line.place(is_sound, times)
    }

    /// Waits until what is at that place is due, or less if told to end.
    pub fn wait_for(&mut self, place: i64, stop: &Stop) {
        let now = Instant::now();
        let (start, zero) = *self.anchor.get_or_insert((now, place));
        let ticks = u64::try_from(place.saturating_sub(zero)).unwrap_or(0);
        let due = start + Duration::from_micros(ticks.saturating_mul(100) / 9);
        if now.saturating_duration_since(due) > MAX_CATCH_UP {
            self.anchor = Some((now, place));
        }
        stop.wait_until(due);
    }

    /// The file begins again: its first packet follows where the longest of its tracks ended.
    pub fn loops(&mut self) {
        self.line.loops();
    }
}

/// One rising line of ticks for the times of a video track and an audio track. Pure.
#[derive(Debug, Default)]
struct Line {
    /// Of pictures and of sound.
    tracks: [Track; 2],
    /// Counted with every new beginning of a track; `offset` is of the newest.
    beginnings: u32,
    offset: i64,
    /// A new beginning has to follow this place.
    follows: Option<i64>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Track {
    /// The newest time, and how long that lasts.
    newest: Option<i64>,
    step: i64,
    /// From a time to its place, since the beginning of that number.
    offset: i64,
    beginning: u32,
    /// The places where its newest packet ends, and the latest of them.
    next: i64,
    end: i64,
}

impl Line {
    fn place(&mut self, is_sound: bool, times: &mut SourceTimes) -> i64 {
        let track = &mut self.tracks[usize::from(is_sound)];
        let told = times.decode.or(times.presentation);
        let told = told.filter(|time| time.unsigned_abs() < LAST);
        let following = track.newest.unwrap_or(0).saturating_add(track.step);
        let time = told.unwrap_or(following);
        if told.is_none() && times.duration > 0 {
            times.decode = Some(time);
        }
        let follows = track.newest.is_some_and(|newest| {
            (newest.saturating_sub(BACK)..=newest.saturating_add(LEAP)).contains(&time)
        });
        if !follows {
            let is_first = track.newest.is_none();
            // Where it goes on by itself, and by what the other track did before.
            let own = match (self.follows, is_first) {
                (Some(end), true) => end.saturating_sub(time),
                (None, true) => 0,
                (_, false) => track.next.saturating_sub(time),
            };
            let apart = self.offset.abs_diff(own);
            let joins = track.beginning < self.beginnings && apart <= APART.unsigned_abs();
            track.offset = if joins { self.offset } else { own };
            if !joins {
                self.beginnings += 1;
                self.offset = own;
            }
            track.beginning = self.beginnings;
            track.step = 0;
        }
        if times.duration > 0 {
            track.step = i64::from(times.duration);
        } else if let Some(newest) = track.newest.filter(|newest| follows && time > *newest) {
            track.step = (time - newest).min(BACK);
        }
        track.newest = Some(time);
        let place = time.saturating_add(track.offset);
        track.next = place.saturating_add(track.step);
        track.end = track.end.max(track.next);
        place
    }

    fn loops(&mut self) {
        let ends = self.tracks.iter().filter(|track| track.newest.is_some());
        self.follows = ends.map(|track| track.end).max();
        for track in &mut self.tracks {
            track.newest = None;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;

    const SECOND: i64 = TIMESCALE as i64;

    fn at(time: i64, duration: u32) -> SourceTimes {
        SourceTimes {
            decode: Some(time),
            presentation: None,
            duration,
        }
    }

    /// Places in milliseconds of pictures, a tenth of a second each, and sound, a twentieth, from `from` to `to` (ms).
    fn run(line: &mut Line, from: i64, to: i64) -> (Vec<i64>, Vec<i64>) {
        let mut places = (Vec::new(), Vec::new());
        for ms in (from..to).step_by(50) {
            if (ms - from) % 100 == 0 {
                places
                    .0
                    .push(line.place(false, &mut at(ms * 90, 9000)) / 90);
            }
            places.1.push(line.place(true, &mut at(ms * 90, 4500)) / 90);
        }
        places
    }

    #[test]
    fn times_that_begin_anew_or_leap_go_on_where_they_were() {
        for (from, to) in [(0, 2000), (500_000, 502_000), (-40_000, -38_000)] {
            let mut line = Line::default();
            let (pictures, sound) = run(&mut line, 1000, 3000);
            assert_eq!((pictures[0], sound[0]), (1000, 1000));
            let (pictures, sound) = run(&mut line, from, to);
            assert_eq!((pictures[0], sound[0]), (3000, 3000), "{from}");
            assert_eq!(*sound.last().unwrap(), 4950);
        }
    }

    #[test]
    fn tracks_keep_their_distance_over_a_joint_whichever_comes_to_it_first() {
        for is_sound in [false, true] {
            let mut line = Line::default();
            run(&mut line, 0, 2000);
            // This one begins anew while the other still has to end.
            let first = line.place(is_sound, &mut at(100 * 90, 4500)) / 90;
            assert_eq!(first, 2000);
            let late = line.place(!is_sound, &mut at(2000 * 90, 4500)) / 90;
            assert_eq!(late, 2000);
            let other = line.place(!is_sound, &mut at(150 * 90, 4500)) / 90;
            assert_eq!(other, 2050);
        }
    }

    #[test]
    fn a_short_stall_is_caught_up_with_and_after_a_long_one_the_speed_is_as_before() {
        let stop = Stop::default();
        let after = |stall: u64| {
            let began = Instant::now()
                .checked_sub(Duration::from_secs(stall))
                .unwrap();
            let mut pace = Pace {
                anchor: Some((began, 0)),
                ..Pace::default()
            };
            let now = Instant::now();
            for tenths in 0..4 {
                pace.wait_for(tenths * SECOND / 10, &stop);
            }
            now.elapsed()
        };
        assert!(after(9) < Duration::from_millis(100));
        let slow = after(3600);
        assert!(slow >= Duration::from_millis(300) && slow < Duration::from_secs(1));
    }

    #[test]
    fn one_packet_with_a_time_far_away_stalls_nothing() {
        let mut line = Line::default();
        run(&mut line, 0, 1000);
        let far = line.place(false, &mut at(3600 * SECOND, 9000));
        assert_eq!(far, SECOND);
        let back = line.place(false, &mut at(SECOND + 9000, 9000));
        assert_eq!(back, SECOND + 9000);
    }

    #[test]
    fn a_pause_is_kept_and_what_encoders_reorder_too() {
        let mut line = Line::default();
        assert_eq!(line.place(false, &mut at(0, 0)), 0);
        assert_eq!(line.place(false, &mut at(20 * SECOND, 0)), 20 * SECOND);
        assert_eq!(
            line.place(false, &mut at(20 * SECOND - 6000, 0)),
            20 * SECOND - 6000
        );
    }

    #[test]
    fn a_repeated_file_follows_its_longer_track_and_untimed_packets_each_other() {
        let mut line = Line::default();
        run(&mut line, 0, 2000);
        line.place(true, &mut at(2000 * 90, 45_000));
        line.loops();
        let (pictures, sound) = run(&mut line, 0, 1000);
        assert_eq!((pictures[0], sound[0]), (2500, 2500));
        let mut line = Line::default();
        for turn in 0..2i64 {
            for number in 0..5 {
                let mut times = SourceTimes {
                    duration: 3600,
                    ..SourceTimes::default()
                };
                let place = line.place(false, &mut times);
                assert_eq!(place, 3600 * (number + 5 * turn));
                assert!(times.decode.is_some());
            }
            line.loops();
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn places_neither_leap_nor_fall_back_far_whatever_the_times(
            packets in prop::collection::vec((any::<bool>(), prop_oneof![-1_000_000i64..1_000_000, any::<i64>()], 0u32..9000), 1..60),
        ) {
            let mut line = Line::default();
            let mut last: [Option<i64>; 2] = [None; 2];
            for (is_sound, time, duration) in packets {
                let place = line.place(is_sound, &mut at(time, duration));
                let last = &mut last[usize::from(is_sound)];
                if let Some(last) = *last {
                    prop_assert!(place - last <= LEAP + APART && last - place <= BACK + APART, "{} to {}", last, place);
                }
                *last = Some(place);
            }
        }
    }
}
