//! Repeated frames during a silence: decoders show the last frame again, and what follows decodes as if there had been
//! no repeat.

use bytes::Bytes;
use ffmpeg_next as ffmpeg;
use sluicegate_media::h264::{nal, repeat};
use sluicegate_tests::{
    damage::StrictDecoder,
    media::{encode_pattern, frames, nals_of, with_start_codes},
    rare,
};
use std::collections::BTreeMap;

const SIZE: (u32, u32) = (320, 192);
const COUNT: usize = 40;
/// Number of frames before each silence; two keyframes are among them.
const SILENCES: std::ops::Range<usize> = 7..25;

#[test]
fn a_repeat_shows_the_last_frame_again_and_changes_nothing_that_follows() {
    for (name, arguments) in [
        ("baseline", "-profile:v baseline -g 20"),
        ("one reference", "-bf 0 -refs 1 -g 20"),
        ("weighted", "-bf 0 -refs 3 -g 20 -x264-params weightp=2"),
        (
            "CAVLC",
            "-bf 0 -refs 3 -g 20 -x264-params cabac=0:weightp=2",
        ),
        ("slices", "-bf 0 -refs 2 -g 20 -slices 4"),
        (
            "B",
            "-bf 2 -refs 2 -g 20 -x264-params b-pyramid=none:b-adapt=0",
        ),
        (
            "pyramid",
            "-bf 3 -refs 4 -g 20 -x264-params b-pyramid=normal:b-adapt=0",
        ),
        (
            "strict pyramid",
            "-bf 3 -refs 4 -g 40 -x264-params b-pyramid=strict:b-adapt=0",
        ),
        (
            "open groups",
            "-bf 2 -refs 3 -g 10 -x264-params open-gop=1:b-adapt=0",
        ),
        (
            "intra refresh",
            "-bf 0 -refs 1 -g 12 -x264-params intra-refresh=1",
        ),
        ("10 bits", "-bf 2 -g 20 -pix_fmt yuv444p10"),
        ("grey", "-bf 0 -g 20 -pix_fmt gray"),
    ] {
        let common = "-c:v libx264 -preset medium -x264-params scenecut=0 ";
        let frames = encode(name, &format!("{common} {arguments}"));
        let skipped = check(name, &frames);
        // The last frame is not repeated while B-frames that are shown before it may still arrive.
        let most = if arguments.contains("-bf 0") || arguments.contains("baseline") {
            0
        } else {
            SILENCES.len() - 4
        };
        assert!(skipped <= most, "{name}: {skipped} cannot be repeated");
    }
}

#[test]
fn a_repeat_finds_its_place_by_every_type_of_picture_order_count() {
    let frames = encode("counts", "-c:v libx264 -profile:v baseline -g 20");
    // x264's picture order count type 2 rewritten as type 1: once expressed by frame_num alone, and once with a delta
    // in each slice.
    for (deltas, unused, most_skipped) in [
        (false, 1, 0),
        (false, -1, COUNT),
        (true, -1, 0),
        (true, 3, 0),
    ] {
        let name = format!("type 1, deltas: {deltas}, {unused}");
        let counted = |unit: &Bytes| match nal::unit_type(unit) {
            nal::SPS => sps_of_type_1(unit, deltas, unused),
            nal::SLICE | nal::IDR if deltas => slice_with_delta(unit),
            _ => unit.clone(),
        };
        let frames: Vec<Vec<Bytes>> = frames
            .iter()
            .map(|units| units.iter().map(counted).collect())
            .collect();
        let skipped = check(&name, &frames);
        assert!(skipped <= most_skipped, "{name}: {skipped}");
        assert!(most_skipped == 0 || skipped > 0, "{name}");
    }
}

#[test]
fn a_repeat_follows_pps_that_change_and_counting_that_begins_anew() {
    let plain = encode("plain", &rare::REWRITABLE.join(" ")).concat();
    for (name, nals) in [
        ("PPS", rare::with_changing_pps(&plain)),
        ("operation 5", rare::with_mmco5(&plain)),
    ] {
        let frames = frames(&nals);
        assert_eq!(frames.len(), COUNT, "{name}");
        assert_eq!(check(name, &frames), 0, "{name}");
    }
}

#[test]
fn what_cannot_be_repeated_is_not() {
    for (name, arguments) in [
        ("interlaced", "-bf 0 -flags +ildct+ilme -x264-params tff=1"),
        (
            "keyframes only",
            "-g 1 -profile:v high10 -pix_fmt yuv420p10",
        ),
    ] {
        let frames = encode(name, &format!("-c:v libx264 {arguments}"));
        for until in 1..frames.len() {
            assert_eq!(repeat_of(&frames[..until]), None, "{name}");
        }
    }
}

/// Decodes the frames with and without a repeat after every one of them; returns for how many no repeat is possible.
fn check(name: &str, frames: &[Vec<Bytes>]) -> usize {
    let mut skipped = 0;
    let places = (0..).step_by(100);
    let plain: Vec<(i64, Vec<Bytes>)> = places.zip(frames.iter().cloned()).collect();
    let plain = decode(name, &plain);
    // By index in decoding order, in display order.
    let order: Vec<i64> = plain.iter().map(|(place, _)| *place).collect();
    assert_eq!(order.len(), frames.len(), "{name}");
    let images: BTreeMap<i64, &Vec<u8>> =
        plain.iter().map(|(place, image)| (*place, image)).collect();
    for silence in SILENCES {
        let mut units: Vec<(i64, Vec<Bytes>)> = Vec::new();
        for (at, frame) in frames.iter().enumerate() {
            units.push((at as i64 * 100, frame.clone()));
            if at == silence {
                match repeat_of(&frames[..=at]) {
                    Some(again) => {
                        units.extend((1..4).map(|nth| (at as i64 * 100 + nth, again.clone())));
                    }
                    None => skipped += 1,
                }
            }
        }
        let shown = decode(name, &units);
        let real: Vec<&(i64, Vec<u8>)> =
            shown.iter().filter(|(place, _)| place % 100 == 0).collect();
        assert_eq!(real.len(), plain.len(), "{name}, {silence}");
        for (real, plain) in real.iter().zip(&plain) {
            assert!(
                real.0 == plain.0 && real.1 == plain.1,
                "{name}, {silence}: {}",
                plain.0
            );
        }
        if units.len() == frames.len() {
            continue;
        }
        // The frame shown last among those before.
        let last = order
            .iter()
            .rev()
            .find(|place| **place <= silence as i64 * 100)
            .unwrap();
        let repeats: Vec<usize> = (0..shown.len())
            .filter(|at| shown[*at].0 % 100 != 0)
            .collect();
        assert_eq!(repeats.len(), 3, "{name}, {silence}");
        for at in &repeats {
            assert!(
                &shown[*at].1 == images[last],
                "{name}, {silence}: not the last frame"
            );
        }
        let before = shown[repeats[0] - 1].0;
        assert_eq!(
            (before, repeats[2] - repeats[0]),
            (*last, 2),
            "{name}, {silence}"
        );
    }
    skipped
}

fn repeat_of(frames: &[Vec<Bytes>]) -> Option<Vec<Bytes>> {
    let newest = |kind| {
        let units = frames.iter().rev().flat_map(|units| units.iter().rev());
        units.filter(move |unit| nal::unit_type(unit) == kind)
    };
    let recent = frames.len().saturating_sub(repeat::MAX_LOOKBACK);
    let recent: Vec<&[Bytes]> = frames[recent..].iter().map(Vec::as_slice).collect();
    let pps: Vec<Bytes> = newest(nal::PPS).take(1).cloned().collect();
    repeat::repeat(newest(nal::SPS).next().unwrap(), &pps, &recent)
}

fn encode(name: &str, arguments: &str) -> Vec<Vec<Bytes>> {
    let arguments: Vec<&str> = arguments.split_whitespace().collect();
    let file = encode_pattern(
        &format!("{}.h264", name.replace(' ', "-")),
        SIZE,
        0,
        COUNT as u64,
        &arguments,
    );
    let frames = frames(&nals_of(&file));
    assert_eq!(frames.len(), COUNT, "{name}");
    frames
}

/// Decodes the frames with libavcodec, which must report no error; returns them in display order with the numbers they
/// went in with.
fn decode(name: &str, frames: &[(i64, Vec<Bytes>)]) -> Vec<(i64, Vec<u8>)> {
    let (mut judge, mut shown) = (StrictDecoder::default(), Vec::new());
    for (place, units) in frames {
        shown.extend(judge.show(&with_start_codes(units, |_| 4), *place));
    }
    shown.extend(judge.rest());
    assert_eq!(judge.errors, 0, "{name}");
    shown
        .into_iter()
        .map(|(place, frame)| (place, image(&frame)))
        .collect()
}

fn image(frame: &ffmpeg::frame::Video) -> Vec<u8> {
    let mut bytes = Vec::new();
    for plane in 0..frame.planes() {
        bytes.extend_from_slice(frame.data(plane));
    }
    bytes
}

/// An SPS of picture order count type 2, rewritten as type 1: every reference frame is 2 after the previous one.
fn sps_of_type_1(sps: &Bytes, deltas: bool, unused: i32) -> Bytes {
    let mut bits = Bits::of(&sps[4..]);
    let at = bits.skip_codes(0, 2); // seq_parameter_set_id, log2_max_frame_num_minus4
    assert_eq!(
        bits.0[at..at + 3],
        [false, true, true],
        "pic_order_cnt_type 2"
    );
    let mut new = vec![false, true, false, !deltas];
    for value in [unused, 0] {
        new.extend(signed(value));
    }
    new.extend(signed(1)); // one in the cycle: ue(1) is written as se(1)
    new.extend(signed(2));
    bits.0.splice(at..at + 3, new);
    bits.nal(&sps[..4])
}

/// A slice of a baseline frame with a `delta_pic_order_cnt[0]` of 0 inserted.
fn slice_with_delta(slice: &Bytes) -> Bytes {
    const FRAME_NUM: usize = 4;
    let mut bits = Bits::of(&slice[1..]);
    let mut at = bits.skip_codes(0, 3) + FRAME_NUM;
    if nal::unit_type(slice) == nal::IDR {
        at = bits.skip_codes(at, 1);
    }
    bits.0.insert(at, true);
    bits.nal(&slice[..1])
}

/// Bits of a NAL unit without emulation prevention and trailing bits.
struct Bits(Vec<bool>);

impl Bits {
    fn of(bytes: &[u8]) -> Bits {
        let (mut plain, mut zeros) = (Vec::new(), 0);
        for byte in bytes {
            let prevents = zeros >= 2 && *byte == 3;
            zeros = if *byte == 0 { zeros + 1 } else { 0 };
            if !prevents {
                plain.push(*byte);
            }
        }
        let bits = plain
            .iter()
            .flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1 == 1));
        let mut bits: Vec<bool> = bits.collect();
        while bits.pop() == Some(false) {}
        Bits(bits)
    }

    /// Position after this number of Exp-Golomb codes.
    fn skip_codes(&self, mut at: usize, count: usize) -> usize {
        for _ in 0..count {
            let zeros = self.0[at..].iter().take_while(|bit| !**bit).count();
            at += 2 * zeros + 1;
        }
        at
    }

    fn nal(mut self, head: &[u8]) -> Bytes {
        self.0.push(true);
        let mut nal = head.to_vec();
        let mut zeros = 0;
        for eight in self.0.chunks(8) {
            let byte = eight
                .iter()
                .enumerate()
                .fold(0, |byte, (at, bit)| byte | u8::from(*bit) << (7 - at));
            if zeros == 2 && byte < 4 {
                nal.push(3);
                zeros = 0;
            }
            zeros = if byte == 0 { zeros + 1 } else { 0 };
            nal.push(byte);
        }
        nal.into()
    }
}

/// se(v), 9.1.1.
fn signed(value: i32) -> Vec<bool> {
    let code = if value > 0 { 2 * value } else { 1 - 2 * value };
    let width = code.ilog2();
    let zeros = std::iter::repeat_n(false, width as usize);
    zeros
        .chain((0..=width).rev().map(|at| code >> at & 1 == 1))
        .collect()
}
