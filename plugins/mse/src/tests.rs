#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use proptest::prelude::*;
use sluicegate_sdk::mock::{self, Connection, Muxer};
use sluicegate_sdk::{Audio, Kind};

#[path = "../../../tests/src/mp4.rs"]
mod mp4;

const AVCC: [u8; 16] = [
    1, 0x42, 0xc0, 0x1e, 0xff, 0xe1, 0, 3, 0x67, 0x42, 0xc0, 1, 0, 2, 0x68, 0xce,
];
const VIDEO: u32 = 1;
const AUDIO: u32 = 2;
/// Ticks of a video frame, and of an AAC frame at 48 kHz.
const VIDEO_FRAME: u64 = 3000;
const AUDIO_FRAME: u64 = 1024;

fn video() -> StreamInfo {
    mock::video("h264/avcc", "avc1.42c01e", &AVCC)
}

fn audio() -> Track {
    Track {
        id: AUDIO,
        format: "aac".into(),
        codec: "mp4a.40.2".into(),
        config: vec![0x11, 0x90],
        timescale: 48_000,
        kind: Kind::Audio(Audio {
            sample_rate: 48_000,
            channels: 2,
            language: "und".into(),
        }),
        more: vec![],
    }
}

fn both() -> StreamInfo {
    let mut info = video();
    info.tracks.push(audio());
    info
}

fn only_audio() -> StreamInfo {
    let mut info = video();
    info.tracks = vec![audio()];
    info
}

fn sample(track: u32, decode_time: u64, independent: bool) -> Sample {
    let data = Buffer::from(vec![decode_time as u8; 20 + decode_time as usize % 50]);
    Sample {
        track,
        group: 0,
        decode_time,
        composition_offset: 0,
        duration: if track == VIDEO {
            VIDEO_FRAME
        } else {
            AUDIO_FRAME
        } as u32,
        independent,
        leading: false,
        repeated: false,
        captured_at: 1_700_000_000_000_000 + decode_time,
        group_started_at: 0,
        size: data.size(),
        data,
    }
}

/// Numbers groups as the host does: a group starts at an independent video frame (any audio frame if there is no video)
/// at least `group_ms` after the last start.
fn grouped(group_ms: u64, mut samples: Vec<Sample>) -> Vec<Sample> {
    let has_video = samples.iter().any(|sample| sample.track == VIDEO);
    let (mut group, mut began) = (1_700_000_000, None);
    for sample in &mut samples {
        if sample.independent && (sample.track == VIDEO || !has_video) {
            let per_ms = if has_video { 90 } else { 48 };
            if began.is_none_or(|began| sample.decode_time >= began + group_ms * per_ms) {
                began = Some(sample.decode_time);
                group += 1;
            }
        }
        sample.group = group;
    }
    samples
}

/// Video frames from `start` on, of which `I` is an independent one, and audio beside those whose index is in
/// `audio_frames`.
fn show(start: u64, frames: &str, audio_frames: std::ops::Range<u64>) -> Vec<Sample> {
    let mut samples = Vec::new();
    let mut next = (start + audio_frames.start * VIDEO_FRAME) * 48 / 90;
    for (nth, kind) in (0..).zip(frames.chars()) {
        let at = start + nth * VIDEO_FRAME;
        samples.push(sample(VIDEO, at, kind == 'I'));
        while audio_frames.contains(&nth) && next * 90 < (at + VIDEO_FRAME) * 48 {
            samples.push(sample(AUDIO, next, true));
            next += AUDIO_FRAME;
        }
    }
    samples
}

fn run(options: &str, info: &StreamInfo, samples: &[Sample]) -> Vec<(mp4::Fragment, bool)> {
    let mut muxer = Muxer::<Mse>::open(options).unwrap();
    muxer.configure(info);
    let chunks = samples
        .iter()
        .flat_map(|sample| muxer.push(sample.clone()))
        .collect::<Vec<_>>();
    let chunks = chunks.into_iter().chain(muxer.stop("end", true));
    let read = |chunk: Chunk| (mp4::fragment(&chunk.payload.to_vec()), chunk.independent);
    chunks.map(read).collect()
}

/// Presentation times and data of one track.
fn shown(fragments: &[(mp4::Fragment, bool)], track: u32) -> Vec<(u64, Vec<u8>)> {
    let samples = fragments.iter().flat_map(|(fragment, _)| &fragment.samples);
    let of_track = samples.filter(|sample| sample.track == track);
    of_track
        .map(|sample| (sample.presentation_time(), sample.data.clone()))
        .collect()
}

fn sent(samples: &[Sample], track: u32) -> Vec<(u64, Vec<u8>)> {
    let of_track = samples.iter().filter(|sample| sample.track == track);
    let presentation_time = |sample: &Sample| {
        sample
            .decode_time
            .strict_add_signed(sample.composition_offset.into())
    };
    of_track
        .map(|sample| (presentation_time(sample), sample.data.to_vec()))
        .collect()
}

#[test]
fn header_is_the_mime_type_and_the_init_segment() {
    let mut muxer = Muxer::<Mse>::open("").unwrap();
    for (info, mime, tracks) in [
        (video(), "video/mp4; codecs=\"avc1.42c01e\"", &[VIDEO][..]),
        (
            both(),
            "video/mp4; codecs=\"avc1.42c01e,mp4a.40.2\"",
            &[VIDEO, AUDIO],
        ),
        (only_audio(), "audio/mp4; codecs=\"mp4a.40.2\"", &[AUDIO]),
    ] {
        let header = muxer.configure(&info);
        let [Payload::Text(text), Payload::Binary(init)] = &header[..] else {
            panic!("{header:?}")
        };
        assert_eq!(text, mime);
        let (_, moov) = mp4::init(&init.to_vec());
        assert!(moov.trak.iter().map(|trak| &trak.tkhd.track_id).eq(tracks));
    }
}

#[test]
fn each_sample_is_a_fragment_at_once() {
    let samples = grouped(0, show(0, "IppIpp", 0..6));
    let fragments = run("{}", &both(), &samples);
    assert_eq!(fragments.len(), samples.len());
    let mut last = 0;
    for (sample, (fragment, independent)) in samples.iter().zip(&fragments) {
        let expected = mp4::Sample {
            track: sample.track,
            decode_time: sample.decode_time,
            offset: 0,
            duration: sample.duration,
            independent: sample.independent,
            data: sample.data.to_vec(),
        };
        assert_eq!(fragment.samples, [expected]);
        let starts = sample.track == VIDEO && sample.independent;
        assert_eq!(
            (*independent, fragment.reference.is_some()),
            (starts, starts)
        );
        assert!(fragment.moof.mfhd.sequence_number > last || last == 0);
        last = fragment.moof.mfhd.sequence_number;
    }
}

#[test]
fn late_viewer_starts_at_the_newest_keyframe_with_all_audio_since() {
    let mut muxer = Muxer::<Mse>::open("").unwrap();
    let header = muxer.configure(&both());
    let samples = grouped(0, show(0, "IppIpp", 0..6));
    let second = samples
        .iter()
        .rposition(|sample| sample.independent && sample.track == VIDEO)
        .unwrap();
    let all: Vec<Vec<u8>> = samples
        .into_iter()
        .map(|sample| mock::chunk_bytes(&muxer.push(sample)))
        .collect();
    let got = muxer
        .watch(0, ("websocket", "", ""), |nth| nth >= 2)
        .unwrap();
    assert_eq!(
        mock::bytes(&got),
        [mock::bytes(&header), all[second..].concat()].concat()
    );
}

#[test]
fn without_video_a_viewer_starts_at_any_audio_sample() {
    let samples = grouped(
        0,
        (0..5)
            .map(|nth| sample(AUDIO, nth * AUDIO_FRAME, true))
            .collect(),
    );
    for (fragment, independent) in run("{}", &only_audio(), &samples) {
        assert!(independent && fragment.reference.is_none());
    }
}

#[test]
fn late_interrupted_or_absent_audio_leaves_the_video_alone() {
    let frames = "IppppIppppIpppp";
    for audio_frames in [0..15, 7..15, 0..4, 0..0, 14..15] {
        let samples = grouped(0, show(0, frames, audio_frames.clone()));
        for options in ["{}", r#"{"fragment": "100ms"}"#] {
            let fragments = run(options, &both(), &samples);
            for track in [VIDEO, AUDIO] {
                assert_eq!(
                    shown(&fragments, track),
                    sent(&samples, track),
                    "{audio_frames:?} {options}"
                );
            }
            let starts = fragments
                .iter()
                .filter(|(_, independent)| *independent)
                .count();
            assert_eq!(starts, 3, "{audio_frames:?} {options}");
        }
    }
}

#[test]
fn times_around_the_wraps_of_32_and_33_bits_go_on() {
    for wrap in [1u64 << 32, 1 << 33] {
        for options in ["{}", r#"{"fragment": "100ms"}"#] {
            let samples = grouped(0, show(wrap - 5 * VIDEO_FRAME, "IpppppppppppIppp", 0..16));
            let fragments = run(options, &both(), &samples);
            for track in [VIDEO, AUDIO] {
                assert_eq!(shown(&fragments, track), sent(&samples, track));
            }
        }
    }
}

#[test]
fn fragments_of_a_length_join_the_tracks_and_begin_with_the_group() {
    let options = r#"{"fragment": "100ms"}"#;
    let samples = grouped(100, show(0, "IpppppppIppp", 0..12));
    let fragments = run(options, &both(), &samples);
    let frames = |fragment: &mp4::Fragment| {
        fragment
            .samples
            .iter()
            .filter(|sample| sample.track == VIDEO)
            .count()
    };
    let found: Vec<_> = fragments
        .iter()
        .map(|(fragment, independent)| (frames(fragment), *independent))
        .collect();
    assert_eq!(
        found,
        [(3, true), (3, false), (2, false), (3, true), (1, false)]
    );
    for (fragment, _) in &fragments {
        assert_eq!(fragment.moof.traf.len(), 2);
    }
    assert_eq!(shown(&fragments, AUDIO), sent(&samples, AUDIO));
    // After a stop, nothing is held back.
    let mut muxer = Muxer::<Mse>::open(options).unwrap();
    muxer.configure(&video());
    assert!(muxer.push(samples[0].clone()).is_empty());
    assert_eq!(muxer.stop("lost", false).len(), 1);
    assert!(muxer.stop("lost", true).is_empty());
}

#[test]
fn fragment_of_samples_that_take_no_time_is_bounded() {
    let mut muxer = Muxer::<Mse>::open(r#"{"fragment": "10s"}"#).unwrap();
    muxer.configure(&video());
    let mut chunks = vec![];
    for nth in 0..3000 {
        let sample = Sample {
            duration: 1,
            ..sample(VIDEO, nth, nth == 0)
        };
        chunks.extend(muxer.push(Sample { group: 1, ..sample }));
    }
    let sizes: Vec<usize> = chunks
        .iter()
        .map(|chunk| mp4::fragment(&chunk.payload.to_vec()).samples.len())
        .collect();
    assert_eq!(sizes, [MAX_SAMPLES; 2]);
}

#[test]
fn a_late_frame_leaves_no_gap_for_the_player_and_is_shown_when_due() {
    let mut samples = show(0, "Ipppppppppppppp", 0..0);
    for late in &mut samples[5..] {
        late.decode_time += 45_000;
    }
    let samples = grouped(0, samples);
    let fragments = run("{}", &video(), &samples);
    assert_eq!(shown(&fragments, VIDEO), sent(&samples, VIDEO));
    let written: Vec<_> = fragments
        .iter()
        .map(|(fragment, _)| fragment.samples[0].clone())
        .collect();
    for two in written.windows(2) {
        assert!(
            two[1].decode_time - two[0].decode_time <= 2 * u64::from(two[0].duration),
            "{two:?}"
        );
    }
    assert!(written[5].offset > 40_000);
    assert_eq!(written[14].offset, 0, "it has caught up");
}

#[test]
fn leading_frames_have_their_own_fragments_and_leave_no_gap_when_skipped() {
    for options in ["{}", r#"{ "fragment": "200ms" }"#] {
        let mut samples = show(0, "IppppIppppp", 0..3);
        for (nth, sample) in samples
            .iter_mut()
            .filter(|sample| sample.track == VIDEO)
            .enumerate()
        {
            sample.composition_offset = 6000;
            if (6..8).contains(&nth) {
                sample.leading = true;
                sample.composition_offset = -2999;
            }
        }
        let samples = grouped(0, samples);
        let fragments = run(options, &both(), &samples);
        assert_eq!(shown(&fragments, VIDEO), sent(&samples, VIDEO));
        let leads = |fragment: &mp4::Fragment| {
            let (first, last) = (6 * VIDEO_FRAME - 2999, 7 * VIDEO_FRAME - 2999);
            let led = |sample: &mp4::Sample| {
                sample.track == VIDEO && [first, last].contains(&sample.presentation_time())
            };
            let count = fragment.samples.iter().filter(|sample| led(sample)).count();
            assert!(
                count == 0 || count == fragment.samples.len(),
                "{fragment:?}"
            );
            count > 0
        };
        for with in [true, false] {
            let all = fragments
                .iter()
                .filter(|(fragment, _)| !leads(fragment) || with);
            let frames = all.flat_map(|(fragment, _)| &fragment.samples);
            let frames: Vec<_> = frames.filter(|sample| sample.track == VIDEO).collect();
            assert_eq!(frames.len(), if with { 11 } else { 9 });
            for two in frames.windows(2) {
                let distance = two[1].decode_time - two[0].decode_time;
                let bearable = distance <= 2 * u64::from(two[0].duration);
                assert!(distance > 0 && (two[1].independent || bearable), "{two:?}");
            }
        }
    }
}

#[test]
fn duration_is_what_the_source_says_or_its_rate_or_the_distance_before() {
    let durations = |rate: f32, claimed: u32, times: &[u64]| -> Vec<u32> {
        let mut info = video();
        if let Kind::Video(video) = &mut info.tracks[0].kind {
            video.frame_rate = rate;
        }
        let samples = times.iter().map(|at| Sample {
            duration: claimed,
            ..sample(VIDEO, *at, *at == 0)
        });
        let fragments = run("{}", &info, &grouped(0, samples.collect()));
        fragments
            .iter()
            .map(|(fragment, _)| fragment.samples[0].duration)
            .collect()
    };
    assert_eq!(durations(30.0, 1500, &[0, 1500, 3000]), [1500; 3]);
    assert_eq!(durations(60.0, 0, &[0, 1500, 3000]), [1500; 3]);
    assert_eq!(durations(1.0, 0, &[0, 90_000]), [90_000; 2]);
    assert_eq!(
        durations(0.0, 0, &[0, 4500, 8000, 1_000_000]),
        [3600, 4500, 3500, 90_000]
    );
    // Slower than announced: the next frame may be as late, by a second at most.
    assert_eq!(
        durations(30.0, 0, &[0, 9000, 12_000, 500_000, 503_000]),
        [3000, 9000, 3000, 90_000, 3000]
    );
    for rate in [f32::NAN, f32::INFINITY, -1.0, 1e-30] {
        assert!(
            durations(rate, 0, &[0, 3000])
                .iter()
                .all(|duration| *duration > 0),
            "{rate}"
        );
    }
}

#[test]
fn other_tracks_in_the_middle_are_a_new_text_and_init_segment() {
    let mut muxer = Muxer::<Mse>::open("").unwrap();
    let first = muxer.configure(&video());
    let mut sent = mock::bytes(&first);
    for sample in grouped(0, show(0, "Ip", 0..0)) {
        sent.extend(mock::chunk_bytes(&muxer.push(sample)));
    }
    let mut info = both();
    info.epoch = 1;
    sent.extend(mock::bytes(&muxer.configure(&info)));
    for sample in grouped(0, show(9000, "Ip", 0..2)) {
        sent.extend(mock::chunk_bytes(&muxer.push(Sample {
            group: sample.group + 1,
            ..sample
        })));
    }
    assert_eq!(
        mock::bytes(&muxer.watch(0, ("websocket", "", ""), |_| true).unwrap()),
        sent
    );
}

#[test]
fn track_that_cannot_be_written_is_left_out_and_logged() {
    let mut info = both();
    info.tracks[1].config.clear();
    let mut muxer = Muxer::<Mse>::open("").unwrap();
    assert_eq!(
        mock::bytes(&muxer.configure(&info)[..1]),
        b"video/mp4; codecs=\"avc1.42c01e\""
    );
    assert!(mock::take_logs()[0].starts_with("warn: track 2 (aac) cannot be written as MP4"));
    let samples = grouped(0, show(0, "Ip", 0..2));
    let chunks: usize = samples
        .iter()
        .map(|sample| muxer.push(sample.clone()).len())
        .sum();
    assert_eq!(chunks, 2);

    info.tracks.remove(0);
    assert!(muxer.configure(&info).is_empty());
    assert!(mock::take_logs()[1].starts_with("error: nothing is sent"));
    assert!(
        samples
            .into_iter()
            .all(|sample| muxer.push(sample).is_empty())
    );
}

#[test]
fn plain_get_follows_the_file() {
    let mut muxer = Muxer::<Mse>::open("").unwrap();
    assert_eq!(muxer.request("", "x=1"), Reply::Follow("video/mp4".into()));
    assert_eq!(muxer.request("x", ""), Reply::not_found("x"));
    assert_eq!(muxer.join(Connection::new(1, "http", "", "")), Ok(vec![]));
    let below = Connection::new(2, "websocket", "x", "");
    assert!(muxer.join(below).is_err());
}

#[test]
fn options_are_judged() {
    let open = |options| {
        Muxer::<Mse>::open(options).map(|muxer| {
            let profile = muxer.profile();
            (
                profile.lanes[0].stale_ms,
                profile.group_ms,
                profile.history,
                profile.latency_ms,
            )
        })
    };
    assert_eq!(open(""), Ok((3000, 0, 1, 150)));
    assert_eq!(
        open(r#"{"stale": "1s", "fragment": "200ms"}"#),
        Ok((1000, 200, 2, 350))
    );
    let too_long = "option `fragment`: \"11s\" is too long, since viewers wait for a complete fragment; write at most \"10s\"";
    assert_eq!(open(r#"{"fragment": "11s"}"#), Err(too_long.into()));
    assert_eq!(
        open(r#"{"part": "1s"}"#),
        Err("unknown option `part`; known: `stale`, `fragment`".into())
    );
}

/// Anything that a source may deliver: video and audio at any distance, with any claimed duration, and some B-frames.
fn any_show() -> impl Strategy<Value = Vec<Sample>> {
    let one = (
        prop::bool::weighted(0.6),
        1u64..200_000,
        any::<bool>(),
        0u32..9000,
        -5000i32..9000,
    );
    prop::collection::vec(one, 1..60).prop_map(|all| {
        let mut times = [1 << 32, 1 << 32];
        let mut samples: Vec<Sample> = all
            .into_iter()
            .map(
                |(is_video, step, independent, duration, composition_offset)| {
                    let time = &mut times[usize::from(is_video)];
                    *time += step;
                    let track = if is_video { VIDEO } else { AUDIO };
                    let composition_offset = if is_video { composition_offset } else { 0 };
                    Sample {
                        duration,
                        composition_offset,
                        ..sample(track, *time, independent || !is_video)
                    }
                },
            )
            .collect();
        samples.insert(0, sample(VIDEO, 1 << 32, true));
        samples
    })
}

proptest! {
    #[test]
    fn restarts_from_any_group(samples in any_show()) {
        mock::assert_restartable::<Mse>("{}", &both(), &grouped(0, samples.clone()));
        let options = r#"{"fragment": "200ms"}"#;
        mock::assert_restartable::<Mse>(options, &both(), &grouped(200, samples));
    }

    #[test]
    fn restarts_without_video(steps in prop::collection::vec(1u64..5000, 1..40)) {
        let mut at = 0;
        let samples: Vec<Sample> = steps.into_iter().map(|step| { at += step; sample(AUDIO, at, true) }).collect();
        mock::assert_restartable::<Mse>("{}", &only_audio(), &grouped(0, samples.clone()));
        let options = r#"{"fragment": "200ms"}"#;
        mock::assert_restartable::<Mse>(options, &only_audio(), &grouped(200, samples));
    }

    /// Whatever the source delivers, everything is sent once, in order and with the right presentation time, and within
    /// a group nothing would be a discontinuity to Media Source Extensions.
    #[test]
    fn nothing_is_lost_moved_or_taken_for_a_break(samples in any_show(), fragment in prop::sample::select(vec![0, 200])) {
        let samples = grouped(fragment, samples);
        let fragments = run(&format!("{{\"fragment\": \"{fragment}ms\"}}"), &both(), &samples);
        for track in [VIDEO, AUDIO] {
            prop_assert_eq!(shown(&fragments, track), sent(&samples, track));
            let of_track = |fragment: &mp4::Fragment| -> Vec<mp4::Sample> {
                fragment.samples.iter().filter(|sample| sample.track == track).cloned().collect()
            };
            let written: Vec<mp4::Sample> = fragments.iter().flat_map(|(fragment, _)| of_track(fragment)).collect();
            let groups: Vec<u64> = samples.iter().filter(|sample| sample.track == track).map(|sample| sample.group).collect();
            for (two, groups) in written.windows(2).zip(groups.windows(2)) {
                prop_assert!(two[1].decode_time > two[0].decode_time);
                let may_break = groups[0] != groups[1] || track == VIDEO && two[1].independent;
                let distance = two[1].decode_time - two[0].decode_time;
                prop_assert!(may_break || distance <= 2 * u64::from(two[0].duration), "{:?}", two);
            }
        }
    }
}
