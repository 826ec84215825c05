//! Tests of the transcoder: times, frame rates, overload and geometry.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
use crate::testing::Recorder;
use ffmpeg_next::{self as ffmpeg, codec::Parameters, packet};
use sluicegate_config::EncoderName;
use sluicegate_media::{
    blocks::{self, Row},
    geometry::{Orientation, PixelAspect},
    h264::parameter_sets::ParameterSets,
    pattern::Painter,
};
use std::time::Duration;

const SOURCE: Settings = Settings {
    width: 320,
    height: 192,
    frame_rate: 30,
    bitrate: 500_000,
    keyframe_interval_ms: 1_000,
    encoder: EncoderName::Libx264,
    fallback: false,
};

impl Recorder {
    /// Number, time and keyframe flag of each frame.
    fn frames(&self) -> Vec<(u32, i64, bool)> {
        let mut decoder = Decoder::h264().unwrap();
        let mut frames = Vec::new();
        for (nals, times) in &self.units {
            let key = nals.iter().any(|unit| unit[0] & 31 == 5);
            let at = times.presentation.unwrap();
            decoder
                .decode_each(&annexb::join(nals), at, |frame| {
                    let view = frame.view().unwrap();
                    let (width, height) = (view.width() as usize, view.height() as usize);
                    let number =
                        blocks::read(view.plane(0), view.stride(0), width, height, Row::Number);
                    frames.push((number.unwrap(), at, key));
                })
                .unwrap();
        }
        frames
    }
}

/// Packets of a source with a keyframe each second.
fn packets(count: u64) -> Vec<Packet> {
    let mut encoder = Encoder::new(SOURCE).unwrap();
    let mut painter = Painter::new(SOURCE.width, SOURCE.height).unwrap();
    (0..count)
        .flat_map(|number| {
            let at = number as i64 * 3_000;
            encoder.encode(painter.paint(number, 0), at, false).unwrap()
        })
        .map(|coded| {
            let mut packet = packet::Packet::copy(&coded.data);
            packet.set_pts(Some(coded.pts));
            packet.set_dts(Some(coded.dts));
            if coded.key {
                packet.set_flags(packet::Flags::KEY);
            }
            Packet {
                is_audio: false,
                packet,
                times: SourceTimes {
                    decode: Some(coded.dts),
                    presentation: Some(coded.pts),
                    duration: 3_000,
                },
                new_extradata: None,
            }
        })
        .collect()
}

fn transcoder(frame_rate: u32, kept: &Recorder) -> Transcoder {
    presented(frame_rate, Presentation::default(), kept)
}

fn presented(frame_rate: u32, presentation: Presentation, kept: &Recorder) -> Transcoder {
    let mut parameters = Parameters::new();
    parameters.set_medium(ffmpeg::media::Type::Video);
    parameters.set_id(ffmpeg::codec::Id::H264);
    let media = Media {
        parameters,
        rate: 30.0,
        timed: true,
        presentation,
    };
    let settings = Settings {
        frame_rate,
        ..SOURCE
    };
    Transcoder::with_settings("a test", &media, settings, &kept.counts).unwrap()
}

#[test]
fn frames_keep_their_times_and_no_more_come_than_configured() {
    for (rate, step) in [(30, 1), (15, 2), (60, 1)] {
        let mut kept = Recorder::default();
        let mut transcoder = transcoder(rate, &kept);
        for packet in packets(60) {
            transcoder
                .packet(&packet, &mut kept, &Keyframes::default())
                .unwrap();
        }
        transcoder.finish(&mut kept, &Keyframes::default()).unwrap();
        let numbers: Vec<u32> = kept.frames().iter().map(|frame| frame.0).collect();
        assert_eq!(
            numbers,
            (0..60).step_by(step).collect::<Vec<u32>>(),
            "at {rate}/s"
        );
        for (number, at, key) in kept.frames() {
            assert_eq!((at, key), (i64::from(number) * 3_000, number % 30 == 0));
        }
        assert!(kept.notes.is_empty());
    }
}

#[test]
fn a_requested_keyframe_is_the_next_frame() {
    let mut kept = Recorder::default();
    let mut transcoder = transcoder(30, &kept);
    let keyframes = Keyframes::default();
    for (number, packet) in packets(20).iter().enumerate() {
        if number == 11 {
            keyframes.request();
        }
        transcoder.packet(packet, &mut kept, &keyframes).unwrap();
    }
    let keys = kept.frames().into_iter().filter(|frame| frame.2);
    assert_eq!(keys.map(|frame| frame.0).collect::<Vec<_>>(), [0, 11]);
}

#[test]
fn frames_are_dropped_while_the_work_is_behind_and_that_is_reported() {
    let mut kept = Recorder::default();
    let mut transcoder = transcoder(30, &kept);
    for (number, packet) in packets(90).iter().enumerate() {
        match number {
            // Half a second, which dropping decoded frames makes up for.
            5 => transcoder.backlog.add_work(Duration::from_millis(500)),
            // More than dropping decoded frames makes up for.
            40 => transcoder.backlog.add_work(Duration::from_secs(10)),
            _ => {}
        }
        transcoder
            .packet(packet, &mut kept, &Keyframes::default())
            .unwrap();
        if number == 41 {
            transcoder.backlog = Backlog::default();
        }
    }
    let numbers: Vec<u32> = kept.frames().iter().map(|frame| frame.0).collect();
    let gap = numbers
        .windows(2)
        .find(|pair| pair[1] > pair[0] + 1)
        .unwrap();
    assert_eq!(gap[0], 4, "{numbers:?}");
    assert!((9..38).contains(&gap[1]), "{numbers:?}");
    // After the packet that exceeded the limit, decoding restarts at a keyframe.
    let next = numbers.iter().position(|number| *number == 39).unwrap() + 1;
    assert_eq!(numbers[next..], (60..90).collect::<Vec<u32>>());
    let told = |act: &str| {
        kept.notes
            .iter()
            .filter(|note| note.1.starts_with(act))
            .count()
    };
    assert!(told("encoding is slower") >= 4, "{:?}", kept.notes);
    assert_eq!(told("decoding is slower"), 20);
    let dropped = kept.counts.dropped.load(Ordering::Relaxed);
    assert_eq!(dropped, kept.notes.len() as u64);
}

#[test]
fn a_machine_too_slow_for_the_source_delivers_fewer_frames_not_none() {
    let mut kept = Recorder::default();
    let mut transcoder = transcoder(30, &kept);
    let film = packets(300);
    for packet in &film {
        // Takes twice the distance of frames, whatever is done with them.
        if !transcoder.skipping {
            transcoder.backlog.add_work(Duration::from_millis(66));
        }
        transcoder
            .packet(packet, &mut kept, &Keyframes::default())
            .unwrap();
    }
    let times: Vec<i64> = kept.frames().iter().map(|frame| frame.1).collect();
    let last = film.last().unwrap().times.presentation.unwrap();
    let gaps = times.windows(2).map(|pair| pair[1] - pair[0]);
    let longest = gaps.max().unwrap().max(last - times[times.len() - 1]);
    // Half a second, plus up to a second until the next keyframe if packets were dropped.
    assert!(longest <= 3 * i64::from(TIMESCALE) / 2, "{times:?}");
    assert!(kept.notes.iter().any(|note| note.0 == "behind"));
}

#[test]
fn a_source_that_begins_its_times_again_goes_on_with_a_keyframe() {
    let mut kept = Recorder::default();
    let mut transcoder = transcoder(30, &kept);
    let film = packets(10);
    let later = 1_000_000;
    for round in [later, 0] {
        for packet in &film {
            let mut packet = Packet {
                is_audio: false,
                packet: packet.packet.clone(),
                times: packet.times,
                new_extradata: None,
            };
            packet
                .packet
                .set_pts(packet.packet.pts().map(|at| at + round));
            packet
                .packet
                .set_dts(packet.packet.dts().map(|at| at + round));
            transcoder
                .packet(&packet, &mut kept, &Keyframes::default())
                .unwrap();
        }
    }
    let keys = kept.frames().into_iter().filter(|frame| frame.2);
    let times: Vec<i64> = keys.map(|frame| frame.1).collect();
    assert_eq!((kept.units.len(), times), (20, vec![later, 0]));
}

#[test]
fn times_that_do_not_rise_are_left_out_and_a_leap_is_a_new_start() {
    let mut rate = FrameSelector::new(30);
    let wanted = [
        0, 3_000, 3_000, 1_500, 6_000, 5_000_000, 5_003_000, -90_000, -87_000,
    ]
    .map(|at| rate.select(at));
    use FrameDecision::{Discontinuity, No, Yes};
    assert_eq!(
        wanted,
        [
            Discontinuity,
            Yes,
            No,
            No,
            Yes,
            Discontinuity,
            Yes,
            Discontinuity,
            Yes
        ]
    );
}

#[test]
fn transcoded_video_is_upright_and_has_square_pixels() {
    let mut kept = Recorder::default();
    let told = Presentation {
        pixel_aspect: PixelAspect::new(2, 3),
        orientation: Orientation::new(90, false),
    };
    let mut transcoder = presented(30, told, &kept);
    for packet in packets(3) {
        transcoder
            .packet(&packet, &mut kept, &Keyframes::default())
            .unwrap();
    }
    let sps = kept.units[0].0.iter().find(|unit| unit[0] & 31 == 7);
    let pps = kept.units[0].0.iter().find(|unit| unit[0] & 31 == 8);
    let sets = [sps, pps].map(|unit| [unit.unwrap().clone()]);
    let picture = ParameterSets::new(&sets[0], &sets[1]).unwrap().picture;
    // 320×192 displayed as 320×288, rotated, within 320×192.
    assert_eq!((picture.width, picture.height), (172, 192));
    assert!(matches!(
        picture.pixel_aspect,
        None | Some(PixelAspect::SQUARE)
    ));
}
