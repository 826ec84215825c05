//! Delivers media that could be read at any speed in real time.
//!
//! The timestamps of a file may jump: recordings that were concatenated start again, and so does a looped file. Each
//! timestamp is therefore mapped to a place on one continuous timeline, and a packet is due according to its place.
//! Used for files, playlists and seekable HTTP.

use super::{SourceTimes, Stop};
use sluicegate_media::time::TIMESCALE;
use std::time::{Duration, Instant};

/// A track whose timestamps go back by more than this has restarted; smaller steps back come from reordering.
const RESTART_THRESHOLD: i64 = TIMESCALE as i64;
/// Largest gap in the timestamps that is waited for, in ticks.
const MAX_GAP: i64 = 30 * TIMESCALE as i64;
/// Tracks that restart keep their distance, if that moves neither further than this from where it was, in ticks.
const MAX_TRACK_OFFSET: i64 = 5 * TIMESCALE as i64;
/// Packets that are late by up to this are sent immediately, so that a machine that was busy or suspended for a moment
/// leaves no gap. After a longer delay playback continues at its own speed from there: nobody wants an hour of packets
/// at once.
pub const MAX_CATCH_UP: Duration = Duration::from_secs(10);
/// Timestamps beyond this are not valid.
const MAX_TIMESTAMP: u64 = 1 << 60;

/// Schedules packets in real time.
#[derive(Debug, Default)]
pub struct Pace {
    line: LoopTimeline,
    /// Wall-clock time and place of the reference point.
    anchor: Option<(Instant, i64)>,
}

impl Pace {
    /// Waits until a packet with these times is due, or until the source is stopped. A packet with only a duration gets
    /// the end of the previous one as its time.
    pub fn wait(&mut self, is_audio: bool, times: &mut SourceTimes, stop: &Stop) {
        let place = self.place(is_audio, times);
        self.wait_for(place, stop);
    }

    /// Place of a packet on the timeline, in ticks; `times` as in [`Pace::wait`]. Call it in each track's order.
    pub fn place(&mut self, is_audio: bool, times: &mut SourceTimes) -> i64 {
        self.line.place(is_audio, times)
    }

    /// Waits until the place is due, or until the source is stopped.
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

    /// The file starts again: its first packet follows the end of its longest track.
    pub fn loops(&mut self) {
        self.line.loops();
    }
}

/// Maps the timestamps of a video and an audio track to one increasing timeline. Pure.
#[derive(Debug, Default)]
struct LoopTimeline {
    /// State of the video and of the audio track.
    tracks: [Track; 2],
    /// Number of restarts of any track so far; `offset` belongs to the newest.
    beginnings: u32,
    offset: i64,
    /// The next restart must follow this place.
    follows: Option<i64>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Track {
    /// Newest timestamp, and its duration.
    newest: Option<i64>,
    step: i64,
    /// From a timestamp to its place, and the number of the restart that it belongs to.
    offset: i64,
    beginning: u32,
    /// End of the newest packet, and the latest end, as places.
    next: i64,
    end: i64,
}

impl LoopTimeline {
    fn place(&mut self, is_audio: bool, times: &mut SourceTimes) -> i64 {
        let track = &mut self.tracks[usize::from(is_audio)];
        let stated = times.decode.or(times.presentation);
        let stated = stated.filter(|time| time.unsigned_abs() < MAX_TIMESTAMP);
        let following = track.newest.unwrap_or(0).saturating_add(track.step);
        let time = stated.unwrap_or(following);
        if stated.is_none() && times.duration > 0 {
            times.decode = Some(time);
        }
        let follows = track.newest.is_some_and(|newest| {
            (newest.saturating_sub(RESTART_THRESHOLD)..=newest.saturating_add(MAX_GAP))
                .contains(&time)
        });
        if !follows {
            let is_first = track.newest.is_none();
            // The offset if the track continues on its own; compared with the one that the other track restarted with.
            let own = match (self.follows, is_first) {
                (Some(end), true) => end.saturating_sub(time),
                (None, true) => 0,
                (_, false) => track.next.saturating_sub(time),
            };
            let apart = self.offset.abs_diff(own);
            let joins =
                track.beginning < self.beginnings && apart <= MAX_TRACK_OFFSET.unsigned_abs();
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
            track.step = (time - newest).min(RESTART_THRESHOLD);
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

    /// Places in milliseconds of video, a tenth of a second each, and audio, a twentieth, from `from` to `to` (ms).
    fn run(line: &mut LoopTimeline, from: i64, to: i64) -> (Vec<i64>, Vec<i64>) {
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
            let mut line = LoopTimeline::default();
            let (video, audio) = run(&mut line, 1000, 3000);
            assert_eq!((video[0], audio[0]), (1000, 1000));
            let (video, audio) = run(&mut line, from, to);
            assert_eq!((video[0], audio[0]), (3000, 3000), "{from}");
            assert_eq!(*audio.last().unwrap(), 4950);
        }
    }

    #[test]
    fn tracks_keep_their_distance_over_a_joint_whichever_comes_to_it_first() {
        for is_audio in [false, true] {
            let mut line = LoopTimeline::default();
            run(&mut line, 0, 2000);
            // This track restarts while the other has not reached its end.
            let first = line.place(is_audio, &mut at(100 * 90, 4500)) / 90;
            assert_eq!(first, 2000);
            let late = line.place(!is_audio, &mut at(2000 * 90, 4500)) / 90;
            assert_eq!(late, 2000);
            let other = line.place(!is_audio, &mut at(150 * 90, 4500)) / 90;
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
        let mut line = LoopTimeline::default();
        run(&mut line, 0, 1000);
        let far = line.place(false, &mut at(3600 * SECOND, 9000));
        assert_eq!(far, SECOND);
        let back = line.place(false, &mut at(SECOND + 9000, 9000));
        assert_eq!(back, SECOND + 9000);
    }

    #[test]
    fn a_pause_is_kept_and_what_encoders_reorder_too() {
        let mut line = LoopTimeline::default();
        assert_eq!(line.place(false, &mut at(0, 0)), 0);
        assert_eq!(line.place(false, &mut at(20 * SECOND, 0)), 20 * SECOND);
        assert_eq!(
            line.place(false, &mut at(20 * SECOND - 6000, 0)),
            20 * SECOND - 6000
        );
    }

    #[test]
    fn a_repeated_file_follows_its_longer_track_and_untimed_packets_each_other() {
        let mut line = LoopTimeline::default();
        run(&mut line, 0, 2000);
        line.place(true, &mut at(2000 * 90, 45_000));
        line.loops();
        let (video, audio) = run(&mut line, 0, 1000);
        assert_eq!((video[0], audio[0]), (2500, 2500));
        let mut line = LoopTimeline::default();
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
            let mut line = LoopTimeline::default();
            let mut last: [Option<i64>; 2] = [None; 2];
            for (is_audio, time, duration) in packets {
                let place = line.place(is_audio, &mut at(time, duration));
                let last = &mut last[usize::from(is_audio)];
                if let Some(last) = *last {
                    prop_assert!(place - last <= MAX_GAP + MAX_TRACK_OFFSET && last - place <= RESTART_THRESHOLD + MAX_TRACK_OFFSET, "{} to {}", last, place);
                }
                *last = Some(place);
            }
        }
    }
}
