//! Media made of the test pattern: encoded, packaged and decoded by the ffmpeg program.

use crate::{Gateway, scratch};
use bytes::Bytes;
use sluicegate_codec::Decoder;
use sluicegate_media::{
    blocks,
    h264::{nal, parameter_sets::ParameterSets},
    pattern::Painter,
};
use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Encodes `count` frames of the test pattern, numbered from `first`, into the file `name` with these ffmpeg arguments.
/// The rate is 30 per second unless the arguments override it after the input.
pub fn encode_pattern(
    name: &str,
    size: (u32, u32),
    first: u64,
    count: u64,
    arguments: &[&str],
) -> PathBuf {
    let path = scratch("media").join(name);
    let mut ffmpeg = Command::new("ffmpeg")
        .args([
            "-hide_banner",
            "-loglevel",
            "error",
            "-y",
            "-f",
            "rawvideo",
            "-pix_fmt",
            "yuv420p",
            "-r",
            "30",
        ])
        .args(["-s", &format!("{}x{}", size.0, size.1), "-i", "-"])
        .args(arguments)
        .arg(&path)
        .stdin(Stdio::piped())
        .spawn()
        .expect("the tests need the ffmpeg program");
    let mut input = ffmpeg.stdin.take().unwrap();
    let mut painter = Painter::new(size.0, size.1).unwrap();
    for number in first..first + count {
        let view = painter.paint(number, number * 1000 / 30);
        for plane in 0..3 {
            for row in view.rows(plane) {
                input.write_all(row).unwrap();
            }
        }
    }
    drop(input);
    assert!(
        ffmpeg.wait().unwrap().success(),
        "ffmpeg could not encode {name}"
    );
    path
}

/// NAL units of an Annex B file, in order.
pub fn nals_of(path: &Path) -> Vec<Bytes> {
    cut(&std::fs::read(path).unwrap())
}

/// Splits a byte stream into NAL units by the simplest reading of H.264 B.1, as a reference for the gateway's own
/// parser.
pub fn cut(stream: &[u8]) -> Vec<Bytes> {
    let codes: Vec<usize> = (0..stream.len().saturating_sub(2))
        .filter(|at| stream[*at..*at + 3] == [0, 0, 1])
        .collect();
    let ends = codes.iter().skip(1).copied().chain([stream.len()]);
    codes
        .iter()
        .zip(ends)
        .map(|(code, end)| {
            let nal = &stream[code + 3..end];
            let padding = nal.iter().rev().take_while(|byte| **byte == 0).count();
            Bytes::copy_from_slice(&nal[..nal.len() - padding])
        })
        .filter(|nal| !nal.is_empty())
        .collect()
}

/// Groups NAL units into access units: one starts at the first NAL unit after a frame's slices that is not a slice of
/// it. Correct for ffmpeg's encoders: every frame has its top slice, and nothing follows a frame's slices.
pub fn frames(nals: &[Bytes]) -> Vec<Vec<Bytes>> {
    let mut frames: Vec<Vec<Bytes>> = Vec::new();
    let mut ended = true;
    for unit in nals {
        let slice = matches!(nal::unit_type(unit), nal::SLICE | nal::IDR);
        // `first_mb_in_slice` is 0 if its Exp-Golomb code is the single bit 1.
        let top = slice && unit[1] & 0x80 != 0;
        if ended && (top || !slice) {
            frames.push(Vec::new());
            ended = false;
        }
        frames.last_mut().unwrap().push(unit.clone());
        ended |= slice;
    }
    frames
}

/// Byte stream of these NAL units. `length` maps the index of a NAL unit to the length of its start code.
pub fn with_start_codes(nals: &[Bytes], length: impl Fn(usize) -> usize) -> Vec<u8> {
    let mut stream = Vec::new();
    for (at, unit) in nals.iter().enumerate() {
        stream.resize(stream.len() + length(at) - 1, 0);
        stream.push(1);
        stream.extend_from_slice(unit);
    }
    stream
}

/// NAL units in the video track of an mp4, mkv or ts file, unchanged, as the ffmpeg program reads its packets.
pub fn packets_of(path: &Path) -> Vec<Bytes> {
    let out = scratch("media").join("track.data");
    ffmpeg(|command| {
        command
            .arg("-i")
            .arg(path)
            .args(["-map", "0:v:0", "-c", "copy", "-f", "data"])
            .arg(&out)
    });
    let data = std::fs::read(&out).unwrap();
    if data.starts_with(&[0, 0, 1]) || data.starts_with(&[0, 0, 0, 1]) {
        return cut(&data);
    }
    let mut nals = Vec::new();
    let mut rest = &data[..];
    while let Some((length, body)) = rest.split_first_chunk::<4>() {
        let (unit, more) = body.split_at(u32::from_be_bytes(*length) as usize);
        nals.push(Bytes::copy_from_slice(unit));
        rest = more;
    }
    nals
}

/// Runs the ffmpeg program with the arguments added by `add`; overwrites existing files.
pub fn ffmpeg(add: impl FnOnce(&mut Command) -> &mut Command) {
    let mut command = Command::new("ffmpeg");
    command.args(["-hide_banner", "-loglevel", "error", "-nostdin", "-y"]);
    add(&mut command);
    let done = command.status().expect("the tests need the ffmpeg program");
    assert!(done.success(), "{command:?}");
}

/// Converts the H.264 track of a file to Annex B with the ffmpeg program, which adds parameter sets to keyframes.
pub fn annexb_of(path: &Path) -> PathBuf {
    let out = scratch("media").join("track.h264");
    ffmpeg(|command| {
        command
            .arg("-i")
            .arg(path)
            .args(["-an", "-c:v", "copy", "-bsf:v", "h264_mp4toannexb"])
            .args(["-f", "h264"])
            .arg(&out)
    });
    out
}

/// Path of real footage that the test set-up fetched from a package.
pub fn footage(name: &str) -> PathBuf {
    let path = Gateway::root().join("target/media").join(name);
    assert!(
        path.is_file(),
        "{} is missing: run `.ci/setup test`",
        path.display()
    );
    path
}

/// Decodes access units and reads the frame numbers shown in the frames, in display order.
pub struct NumberReader {
    decoder: Decoder,
    pts: i64,
}

impl Default for NumberReader {
    fn default() -> Self {
        NumberReader {
            decoder: Decoder::h264().unwrap(),
            pts: 0,
        }
    }
}

impl NumberReader {
    /// Feeds one access unit; returns the numbers in the frames that the decoder outputs. Frames without a number are
    /// skipped.
    pub fn feed(&mut self, access_unit: &[u8]) -> Vec<u32> {
        let mut numbers = Vec::new();
        self.pts += 3000;
        let _ = self.decoder.decode_each(access_unit, self.pts, |frame| {
            let view = frame.view().expect("a planar frame");
            let (width, height) = (view.width() as usize, view.height() as usize);
            numbers.extend(blocks::read(
                view.plane(0),
                view.stride(0),
                width,
                height,
                blocks::Row::Number,
            ));
        });
        numbers
    }
}

/// Width and height of the pictures that the parameter sets in a message are for.
pub fn picture_size(message: &[u8]) -> (u32, u32) {
    let nals = cut(message);
    let of = |kind: u8| -> Vec<Bytes> {
        let found = nals.iter().filter(|unit| nal::unit_type(unit) == kind);
        found.cloned().collect()
    };
    let sets = ParameterSets::new(&of(nal::SPS), &of(nal::PPS)).unwrap();
    (sets.picture.width, sets.picture.height)
}
