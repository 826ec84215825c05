//! Media out of the test pattern, encoded by the ffmpeg program, and decoded again.

use crate::{Gateway, scratch};
use bytes::Bytes;
use sluicegate::{
    codec::Decoder,
    media::{blocks, h264::annexb, pattern::Painter},
};
use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Encodes `count` pictures of the test pattern, numbered from `first`, with the ffmpeg arguments given, into `name`.
/// The rate is 30 a second unless the arguments say otherwise behind the input.
pub fn encode_pattern(name: &str, size: (u32, u32), first: u64, count: u64, arguments: &[&str]) -> PathBuf {
    let path = scratch("media").join(name);
    let mut ffmpeg = Command::new("ffmpeg")
        .args(["-hide_banner", "-loglevel", "error", "-y", "-f", "rawvideo", "-pix_fmt", "yuv420p", "-r", "30"])
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
    assert!(ffmpeg.wait().unwrap().success(), "ffmpeg could not encode {name}");
    path
}

/// The NAL units of an Annex B file, in order.
pub fn nals_of(path: &Path) -> Vec<Bytes> {
    annexb::split(&std::fs::read(path).unwrap().into())
}

/// The H.264 track of any file as Annex B, by the ffmpeg program, which adds parameter sets to keyframes.
pub fn annexb_of(path: &Path) -> PathBuf {
    let out = scratch("media").join("track.h264");
    let done = Command::new("ffmpeg")
        .args(["-hide_banner", "-loglevel", "error", "-y", "-i"])
        .arg(path)
        .args(["-an", "-c:v", "copy", "-bsf:v", "h264_mp4toannexb", "-f", "h264"])
        .arg(&out)
        .status()
        .expect("the tests need the ffmpeg program");
    assert!(done.success());
    out
}

/// Real footage that test set-up fetched from a package.
pub fn footage(name: &str) -> PathBuf {
    let path = Gateway::root().join("target/media").join(name);
    assert!(path.is_file(), "{} is missing: run `.ci/setup test`", path.display());
    path
}

/// Decodes access units and reads the frame numbers out of the pictures, in the order of showing.
pub struct NumberReader {
    decoder: Decoder,
    pts: i64,
}

impl Default for NumberReader {
    fn default() -> Self {
        NumberReader { decoder: Decoder::h264().unwrap(), pts: 0 }
    }
}

impl NumberReader {
    /// The numbers in the pictures that come out when this access unit goes in. Pictures without one are left out.
    pub fn feed(&mut self, access_unit: &[u8]) -> Vec<u32> {
        let mut numbers = Vec::new();
        self.pts += 3000;
        let _ = self.decoder.decode_each(access_unit, self.pts, |frame| {
            let view = frame.view().expect("a planar picture");
            let (width, height) = (view.width() as usize, view.height() as usize);
            numbers.extend(blocks::read(view.plane(0), view.stride(0), width, height, blocks::Row::Number));
        });
        numbers
    }
}
