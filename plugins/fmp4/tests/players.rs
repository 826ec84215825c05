//! Checks with a real player: AAC that ffmpeg encoded and this crate wrote as fragments is read and decoded by ffmpeg.
//! (For video, see `tests/tests/gateway/mse.rs`.)
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use sluicegate_fmp4::{Audio, Kind, Sample, Track};
use std::{
    io::Write,
    process::{Command, Stdio},
};

const RATE: u32 = 44_100;
/// Samples in an AAC frame.
const FRAME: u32 = 1024;
/// A start time that needs more than 32 bits.
const START: u64 = 1 << 33;

#[test]
fn ffmpeg_decodes_aac_in_fragments_to_the_original_audio() {
    let sine = format!("sine=frequency=440:sample_rate={RATE}:duration=1");
    let (adts, _) = ffmpeg(
        &[
            "-f", "lavfi", "-i", &sine, "-ac", "2", "-c:a", "aac", "-f", "adts", "-",
        ],
        &[],
    );
    let frames = frames(&adts);
    let track = Track {
        id: 5,
        format: "aac".into(),
        codec: "mp4a.40.2".into(),
        // AAC-LC, 44.1 kHz, stereo (ISO/IEC 14496-3, 1.6.2.1).
        config: vec![0x12, 0x10],
        timescale: RATE,
        kind: Kind::Audio(Audio {
            sample_rate: RATE,
            channels: 2,
            language: "fr".into(),
        }),
    };
    let mut file = sluicegate_fmp4::init(&[track]).unwrap();
    for (nth, frame) in (0..).zip(&frames) {
        let sample = Sample {
            track: 5,
            decode_time: START + nth * u64::from(FRAME),
            composition_offset: 0,
            duration: FRAME,
            independent: true,
            leading: false,
            size: frame.len() as u32,
            payload: *frame,
        };
        let fragment = sluicegate_fmp4::fragment(vec![], nth as u32, vec![sample]).unwrap();
        file.extend(fragment.to_vec());
    }

    let show = "stream=codec_name,profile,sample_rate,channels:stream_tags=language:packet=pts";
    let (probed, said) = command(
        "ffprobe",
        &[
            "-v",
            "warning",
            "-show_entries",
            show,
            "-of",
            "csv=p=0",
            "-",
        ],
        &file,
    );
    assert_eq!(said, "");
    let probed = String::from_utf8(probed).unwrap();
    let lines: Vec<&str> = probed.lines().collect();
    let packet = |nth: usize| (START + nth as u64 * u64::from(FRAME)).to_string();
    assert_eq!(
        lines[..frames.len()],
        (0..frames.len()).map(packet).collect::<Vec<_>>()
    );
    assert_eq!(lines[frames.len()], format!("aac,LC,{RATE},2,fra"));

    let (decoded, said) = ffmpeg(&["-i", "-", "-f", "s16le", "-ac", "1", "-"], &file);
    assert_eq!(said, "");
    let decoded: Vec<i16> = decoded
        .chunks_exact(2)
        .map(|two| i16::from_le_bytes([two[0], two[1]]))
        .collect();
    assert_eq!(decoded.len(), frames.len() * FRAME as usize);
    // Half a second of 440 Hz, away from the encoder's start and end, has this many upward zero crossings.
    let middle = &decoded[4 * FRAME as usize..][..RATE as usize / 2];
    let rises = middle
        .windows(2)
        .filter(|two| two[0] < 0 && two[1] >= 0)
        .count();
    assert!((219..=221).contains(&rises), "{rises}");
}

/// AAC frames of an ADTS stream (ISO/IEC 14496-3, 1.A.2.2), without their seven-byte headers.
fn frames(mut adts: &[u8]) -> Vec<&[u8]> {
    let mut frames = Vec::new();
    while !adts.is_empty() {
        assert_eq!(
            (adts[0], adts[1] & 0xf1),
            (0xff, 0xf1),
            "a header without checksum"
        );
        let length =
            usize::from(adts[3] & 3) << 11 | usize::from(adts[4]) << 3 | usize::from(adts[5] >> 5);
        let (frame, rest) = adts.split_at(length);
        frames.push(&frame[7..]);
        adts = rest;
    }
    frames
}

fn ffmpeg(arguments: &[&str], input: &[u8]) -> (Vec<u8>, String) {
    command(
        "ffmpeg",
        &[&["-hide_banner", "-v", "warning"], arguments].concat(),
        input,
    )
}

/// Runs a program and returns its standard output and error.
fn command(program: &str, arguments: &[&str], input: &[u8]) -> (Vec<u8>, String) {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("the tests need {program}: {error}"));
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let done = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    let said = String::from_utf8(done.stderr).unwrap();
    assert!(done.status.success(), "{program} {arguments:?}: {said}");
    (done.stdout, said)
}
