//! Tests of the timeline: glitches of every kind in a simulated source with video and audio, and clocks that are
//! unusable.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use proptest::prelude::*;
use std::time::Duration;

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
fn a_loop_of_any_length_is_no_clock_that_stands_still() {
    for (frames, tells) in [
        (5, true),
        (12, true),
        (15, true),
        (40, true),
        (15, false),
        (40, false),
    ] {
        let mut timeline = Timeline::default();
        for nth in 0..15 * 60i64 {
            let turn = nth % frames;
            // A file that loops, or a source that loops without announcing it.
            if turn == 0 && nth > 0 && tells {
                timeline.loops();
            }
            timeline.place(Some(turn * 6000), 6000, at((nth * 6000 / 90) as u64));
            assert!(timeline.is_trusted(), "{frames}, {tells}: {nth}");
        }
    }
}

#[test]
fn a_lost_source_goes_on_at_the_present() {
    let mut timeline = Timeline::default();
    timeline.place(Some(0), 3000, at(0));
    timeline.resumes();
    assert_eq!(timeline.place(Some(500), 3000, at(4000)), 360_000);
}

#[test]
fn a_leap_in_the_sources_times_is_none_on_the_timeline() {
    let mut timeline = Timeline::default();
    timeline.place(Some(1_000_000), 3000, at(0));
    assert_eq!(timeline.place(Some(5), 3000, at(50)), 3000);
    assert_eq!(timeline.place(Some(3005), 3000, at(90)), 6000);
}

#[test]
fn audio_is_shifted_as_video_is_over_loops_jumps_and_losses() {
    let mut timeline = Timeline::default();
    let frame = |timeline: &mut Timeline, decode, ms| timeline.place(Some(decode), 3000, at(ms));
    let audio = |timeline: &mut Timeline, decode, ms| {
        timeline.place_audio(Some(decode), 3000, at(ms)).unwrap()
    };
    // Audio begins a little earlier and ends later.
    assert_eq!(frame(&mut timeline, 9000, 500), 45_000);
    assert_eq!(audio(&mut timeline, 7080, 500), 43_080);
    assert_eq!(audio(&mut timeline, 13_000, 550), 49_000);
    timeline.loops();
    assert_eq!(audio(&mut timeline, 7080, 600), 52_000);
    assert_eq!(frame(&mut timeline, 9000, 600), 53_920);
    // The time stamps leap, those of the audio one packet later.
    let far = 1 << 40;
    assert_eq!(frame(&mut timeline, far, 700), 56_920);
    assert_eq!(audio(&mut timeline, 13_000, 700), 57_920);
    assert_eq!(audio(&mut timeline, far + 900, 710), 57_921);
    timeline.resumes();
    assert_eq!(audio(&mut timeline, 100, 9000), 810_000);
    assert_eq!(frame(&mut timeline, 0, 9000), 809_900);
}

#[test]
fn audio_from_before_the_run_is_left_out_and_shifts_none_of_the_rest() {
    let mut timeline = Timeline::default();
    assert_eq!(timeline.place(Some(5000), 3000, at(10)), 900);
    let mut audio = |decode| timeline.place_audio(Some(decode), 1920, at(10));
    assert_eq!(
        [3080, 5000, 6920].map(&mut audio),
        [None, Some(900), Some(2820)]
    );
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
            let is_audio = event % 3 == 0;
            let time = match is_audio {
                true => timeline.place_audio(decode, duration, at(clock)),
                false => Some(timeline.place(decode, duration, at(clock))),
            };
            let Some(time) = time else { continue };
            let last = last[usize::from(is_audio)].replace(time);
            prop_assert!(last.is_none_or(|last| time > last));
        }
    }
}

/// A source of 25 frames per second and audio at 48 kHz in frames of 1024 samples, interleaved as they arrive: slightly
/// and irregularly late.
struct Source {
    timeline: Timeline,
    /// Time of each sample at the source, and the offset at which it was placed, both in ticks.
    video: Vec<(i64, i64)>,
    audio: Vec<(i64, i64)>,
    remarks: Vec<ClockEvent>,
}

const VIDEO_FRAME: i64 = 3600;
const AUDIO_FRAME: i64 = 1920;
/// The glitch is at four seconds, the end of the source at twelve.
const GLITCH: i64 = 4 * SECOND;
const END: i64 = 12 * SECOND;

impl Source {
    /// Runs a source whose time stamps are `stated(is_audio, time, nth)`, where `nth` counts the samples of a track
    /// from the glitch. The outer `None` drops the sample, the inner one its time stamp.
    fn run(stated: impl Fn(bool, i64, i64) -> Option<Option<i64>>) -> Source {
        let mut source = Source {
            timeline: Timeline::default(),
            video: Vec::new(),
            audio: Vec::new(),
            remarks: Vec::new(),
        };
        let mut order: Vec<(i64, bool)> = (0..END / VIDEO_FRAME)
            .map(|nth| (nth * VIDEO_FRAME, false))
            .chain((0..END / AUDIO_FRAME).map(|nth| (nth * AUDIO_FRAME, true)))
            .collect();
        order.sort_unstable();
        let mut clock = 0;
        for (time, is_audio) in order {
            let step = if is_audio { AUDIO_FRAME } else { VIDEO_FRAME };
            // Up to 30 ms late, in order.
            let late = (time / 7).rem_euclid(2700);
            clock = clock.max(1000 + time + late);
            let now = Moment {
                unix_us: 0,
                elapsed: Duration::from_nanos(clock as u64 * 100_000 / 9),
            };
            // The first sample at or after the glitch is number 0.
            let nth =
                (time - GLITCH).div_euclid(step) + i64::from((time - GLITCH).rem_euclid(step) > 0);
            let Some(stated) = stated(is_audio, time, nth) else {
                continue;
            };
            let stated = stated.map(|stated| stated + 1_000_000);
            let placed = match is_audio {
                false => Some(source.timeline.place(stated, step as u32, now)),
                true => source.timeline.place_audio(stated, step as u32, now),
            };
            let placed = placed.unwrap() as i64;
            let places = if is_audio {
                &mut source.audio
            } else {
                &mut source.video
            };
            places.push((time, placed - time));
            source.remarks.extend(source.timeline.take_clock_event());
        }
        source
    }

    /// Checks that video and audio are synchronous again at most a second after the glitch, and that times continue as
    /// before.
    fn check(&self, what: &str) {
        for (places, step) in [(&self.video, VIDEO_FRAME), (&self.audio, AUDIO_FRAME)] {
            let rises = places
                .windows(2)
                .all(|two| two[1].0 + two[1].1 > two[0].0 + two[0].1);
            assert!(rises, "{what}: times do not rise");
            let start = places[0].1;
            for (time, off) in places.iter().filter(|(time, _)| *time >= GLITCH + SECOND) {
                let off = off - start;
                assert!(
                    off.abs() <= 60 * MILLISECOND,
                    "{what}: at {} s off by {} ms (step {step})",
                    *time as f64 / SECOND as f64,
                    off / MILLISECOND
                );
            }
        }
        let skew = self.video.last().unwrap().1 - self.audio.last().unwrap().1;
        assert!(skew.abs() <= 60 * MILLISECOND, "{what}: {skew}");
    }
}

const SIZES: [f64; 10] = [
    0.5, 2.0, 8.0, 20.0, 3600.0, -0.5, -2.0, -8.0, -20.0, -3600.0,
];

#[test]
fn after_any_glitch_of_any_track_video_and_audio_are_in_sync() {
    for by in SIZES {
        for count in [1, 10, i64::MAX] {
            for (tracks, of_video, of_audio) in [
                ("video", true, false),
                ("audio", false, true),
                ("both", true, true),
            ] {
                let off = (by * SECOND as f64) as i64;
                let source = Source::run(|is_audio, time, nth| {
                    let hit = if is_audio { of_audio } else { of_video };
                    let wrong = hit && (0..count).contains(&nth);
                    Some(Some(time + if wrong { off } else { 0 }))
                });
                let what = format!("{by} s, {count} of {tracks}");
                source.check(&what);
                assert!(!source.remarks.is_empty(), "{what}: no remark");
            }
        }
    }
}

#[test]
fn video_and_audio_stay_in_sync_after_wraps_repeats_gaps_and_backward_jumps() {
    let wrap = |bits: u32, scale: i64| {
        move |_: bool, time: i64, _: i64| {
            let length = (1i64 << bits) * scale;
            Some(Some((time + length - GLITCH).rem_euclid(length)))
        }
    };
    Source::run(wrap(33, 1)).check("33 bits");
    Source::run(wrap(32, 1)).check("32 bits");
    Source::run(wrap(32, MILLISECOND)).check("32 bits of milliseconds");
    for count in [1, 10] {
        let hit = |nth: i64| (0..count).contains(&nth);
        let stated = |wrong: bool, time: i64, other: Option<i64>| match wrong {
            true => Some(other),
            false => Some(Some(time)),
        };
        let step = |is_audio: bool| if is_audio { AUDIO_FRAME } else { VIDEO_FRAME };
        for (tracks, of_video, of_audio) in [
            ("video", true, false),
            ("audio", false, true),
            ("both", true, true),
        ] {
            let hits = move |is_audio: bool, nth: i64| {
                hit(nth) && if is_audio { of_audio } else { of_video }
            };
            Source::run(|is_audio, time, nth| {
                stated(
                    hits(is_audio, nth),
                    time,
                    Some(time - (nth + 1) * step(is_audio)),
                )
            })
            .check(&format!("{count} equal {tracks}"));
            Source::run(|is_audio, time, nth| {
                stated(
                    hits(is_audio, nth),
                    time,
                    Some(time - 2 * (nth + 1) * step(is_audio)),
                )
            })
            .check(&format!("{count} backward {tracks}"));
            Source::run(|is_audio, time, nth| stated(hits(is_audio, nth), time, None))
                .check(&format!("{count} {tracks} without times"));
            Source::run(|is_audio, time, nth| (!hits(is_audio, nth)).then_some(Some(time)))
                .check(&format!("{count} {tracks} missing"));
        }
    }
}

#[test]
fn a_pause_is_a_pause_where_arrival_says_so_and_loses_no_time() {
    let mut timeline = Timeline::default();
    let mut places = Vec::new();
    // Two pauses of three seconds. Samples of the second pause's start arrive late, all at once after it.
    for nth in 0..300i64 {
        let pause = if nth < 100 { 0 } else { 3 * SECOND };
        let stated = nth * VIDEO_FRAME + pause;
        let arrives = match nth {
            200..275 => 275 * VIDEO_FRAME + pause,
            _ => stated,
        };
        let now = at(arrives as u64 / 90);
        places.push(timeline.place(Some(stated), 0, now) as i64 - stated);
    }
    assert_eq!(places, [0; 300]);
    assert_eq!(timeline.take_clock_event(), None);
}

#[test]
fn uneven_frames_keep_their_times() {
    let mut timeline = Timeline::default();
    let (mut stated, mut clock, mut first) = (0, 0, None);
    for nth in 0..500i64 {
        stated += [1500, 9000, 3000, 90_000, 1500, 45_000, 400_000][(nth * nth % 7) as usize];
        clock = clock.max(stated + nth * 7919 % 9000);
        let placed = timeline.place(Some(stated), 0, at(clock as u64 / 90)) as i64;
        assert_eq!(
            placed - stated,
            *first.get_or_insert(placed - stated),
            "{nth}"
        );
        assert_eq!(timeline.take_clock_event(), None, "{nth}");
    }
}

/// A camera of fifteen frames per second that arrive regularly, with time stamps `stated(nth, time)`.
fn camera(seconds: i64, stated: impl Fn(i64, i64) -> i64) -> (Vec<i64>, Vec<ClockEvent>) {
    let mut timeline = Timeline::default();
    let mut remarks = Vec::new();
    let places = (0..seconds * 15).map(|nth| {
        let time = nth * 6000;
        let now = at((time + nth * 7919 % 450) as u64 / 90);
        let placed = timeline.place(Some(stated(nth, time)), 0, now) as i64;
        remarks.extend(timeline.take_clock_event());
        placed - time
    });
    (places.collect(), remarks)
}

#[test]
fn a_clock_that_is_none_is_recognised_and_arrival_takes_its_place() {
    let dice = |nth: i64| {
        let mixed = nth.wrapping_mul(0x5851_f42d_4c95_7f2d);
        let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0x14c5_7f2d_5851_f42d);
        (mixed >> 33).rem_euclid(1 << 20)
    };
    type Case<'a> = (&'a str, Fault, &'a dyn Fn(i64, i64) -> i64);
    let cases: [Case; 6] = [
        ("constant", Fault::Stopped, &|_, _| 12_345_678),
        ("milliseconds", Fault::Slow, &|_, time| time / 90),
        ("fast", Fault::Fast, &|_, time| time * 4),
        ("pairs", Fault::Repeats, &|nth, _| (nth - nth % 2) * 6000),
        ("jitter", Fault::Unsteady, &|nth, time| {
            time + dice(nth) % 18_000 - 9000
        }),
        ("half a frame", Fault::Unsteady, &|nth, time| {
            time + dice(nth) % 6000 - 3000
        }),
    ];
    for (name, fault, stated) in cases {
        let (places, remarks) = camera(40, stated);
        assert!(
            remarks.contains(&ClockEvent::Unusable(fault)),
            "{name}: {remarks:?}"
        );
        assert!(!remarks.contains(&ClockEvent::Recovered), "{name}");
        // Within half a minute, the lead of a fast clock is made up for.
        for (nth, off) in places.iter().enumerate().skip(30 * 15) {
            assert!(
                off.abs() < SECOND / 10,
                "{name}: {nth} off by {} ms",
                off / 90
            );
        }
        for two in places[30 * 15..].windows(2) {
            let step = 6000 + two[1] - two[0];
            assert!((5000..7000).contains(&step), "{name}: a step of {step}");
        }
    }
}

#[test]
fn a_recovered_clock_is_used_again_and_glitches_raise_no_doubt_about_one() {
    let (_, remarks) = camera(30, |_, time| if time < 10 * SECOND { 7 } else { time });
    assert_eq!(remarks[0], ClockEvent::Unusable(Fault::Stopped));
    assert_eq!(remarks.last(), Some(&ClockEvent::Recovered));
    for off in [2, -2, 3600] {
        for seconds in [1, 3, 20] {
            let hit = 5 * SECOND..(5 + seconds) * SECOND;
            let (_, remarks) = camera(30, |_, time| match hit.contains(&time) {
                true => time + off * SECOND,
                false => time,
            });
            let doubts = |clock_event: &ClockEvent| !matches!(clock_event, ClockEvent::Jump { .. });
            assert!(
                !remarks.iter().any(doubts),
                "{off} for {seconds} s: {remarks:?}"
            );
        }
    }
}

#[test]
fn frames_that_refer_to_later_ones_are_no_reason_to_doubt_the_clock() {
    // Two of three frames are presented before the preceding one, and only presentation times are stated.
    let (places, remarks) = camera(30, |nth, time| {
        let shown = [0, 3, 1, 2][if nth == 0 {
            0
        } else {
            1 + (nth as usize - 1) % 3
        }];
        if nth == 0 {
            time
        } else {
            time - (nth - 1) % 3 * 6000 - 6000 + shown * 6000
        }
    });
    assert!(remarks.is_empty(), "{remarks:?}");
    assert!(places.iter().all(|off| off.abs() < SECOND / 2));
}

#[test]
fn a_source_faster_than_real_time_keeps_its_times_if_its_audio_is_as_fast() {
    let mut timeline = Timeline::default();
    for nth in 0..1000i64 {
        // Four times real time.
        let now = at((nth * 10) as u64);
        timeline.place(Some(nth * VIDEO_FRAME), 0, now);
        timeline.place_audio(Some(nth * VIDEO_FRAME + 100), 0, now);
    }
    assert!(timeline.is_trusted());
    assert_eq!(timeline.take_clock_event(), None);
}
