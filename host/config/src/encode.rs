//! `encode` and `renditions`: settings for encoding video to H.264.

use std::time::Duration;

use serde::Deserialize;

use super::document::{Problem, Step};
use super::{BitRate, EncoderName, Span};

/// `encode = { … }`: how video is encoded to H.264.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    rename_all = "kebab-case",
    expecting = "a table such as { width = 1280, height = 720 }"
)]
pub struct Encode {
    /// Width in pixels: an even integer, 64 to 8192. Default 1280.
    pub width: u32,
    /// Height in pixels: an even integer, 64 to 8192. Default 720.
    pub height: u32,
    /// Frames per second: an integer, 1 to 240. Default 15.
    pub frame_rate: u32,
    /// Average bit rate and VBV cap, 16 kbit/s to 200 Mbit/s. Default 1 Mbit/s.
    pub bitrate: BitRate,
    /// Duration between keyframes, 100 ms to 1 min. Default 2 s.
    pub keyframe_interval: Span,
    /// Name of the encoder. Default: the first that works on this machine.
    pub encoder: Option<EncoderName>,
}

impl Encode {
    pub(super) fn check(&self, path: &[Step]) -> Result<(), Problem> {
        Check(path)
            .side("width", self.width)?
            .side("height", self.height)?
            .frame_rate(self.frame_rate)?
            .bitrate(self.bitrate)?
            .keyframe_interval(self.keyframe_interval)
    }
}

impl Default for Encode {
    fn default() -> Self {
        Self {
            width: 1280,
            height: 720,
            frame_rate: 15,
            bitrate: BitRate::from_bits_per_second(1_000_000),
            keyframe_interval: Span::from_duration(Duration::from_secs(2)),
            encoder: None,
        }
    }
}

/// `renditions.NAME = { … }`: the settings in which a rendition differs from the stream's `encode`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    rename_all = "kebab-case",
    expecting = "a table such as { width = 640, bitrate = \"500k\" }"
)]
pub struct Rendition {
    /// Width in pixels, an even integer, 64 to 8192. Default: the stream's, or what keeps the aspect ratio for the
    /// given height.
    pub width: Option<u32>,
    /// Height in pixels, an even integer, 64 to 8192. Default: the stream's, or what keeps the aspect ratio for the
    /// given width.
    pub height: Option<u32>,
    /// Frames per second, an integer, 1 to 240. Default: the stream's.
    pub frame_rate: Option<u32>,
    /// Average bit rate and VBV cap, 16 kbit/s to 200 Mbit/s. Default: the stream's.
    pub bitrate: Option<BitRate>,
    /// Longest duration between keyframes, 100 ms to 1 min. Default: none. The stream's own keyframes are kept in any
    /// case, so that viewers can switch there.
    pub keyframe_interval: Option<Span>,
}

impl Rendition {
    pub(super) fn check(&self, path: &[Step]) -> Result<(), Problem> {
        let check = Check(path);
        for (key, side) in [("width", self.width), ("height", self.height)] {
            side.map_or(Ok(&check), |side| check.side(key, side))?;
        }
        self.frame_rate
            .map_or(Ok(&check), |rate| check.frame_rate(rate))?;
        self.bitrate
            .map_or(Ok(&check), |rate| check.bitrate(rate))?;
        self.keyframe_interval
            .map_or(Ok(()), |interval| check.keyframe_interval(interval))
    }
}

/// Range checks shared by the tables that configure an encoder; holds the path of the table.
pub(super) struct Check<'a>(pub(super) &'a [Step]);

impl Check<'_> {
    fn side(&self, key: &str, size: u32) -> Result<&Self, Problem> {
        if (64..=8192).contains(&size) && size.is_multiple_of(2) {
            return Ok(self);
        }
        self.refuse(
            key,
            format!("{size} is not a valid size in pixels; write an even number from 64 to 8192"),
        )
    }

    /// Checks the longer side of a frame whose other side follows from the aspect ratio.
    pub(super) fn longer_side(&self, key: &str, size: u32) -> Result<&Self, Problem> {
        if (64..=8192).contains(&size) {
            return Ok(self);
        }
        self.refuse(
            key,
            format!("{size} is out of range; write 64 to 8192 pixels"),
        )
    }

    pub(super) fn frame_rate(&self, rate: u32) -> Result<&Self, Problem> {
        if (1..=240).contains(&rate) {
            return Ok(self);
        }
        self.refuse(
            "frame-rate",
            format!("{rate} frames per second is out of range; write 1 to 240"),
        )
    }

    pub(super) fn bitrate(&self, rate: BitRate) -> Result<&Self, Problem> {
        if (16_000..=200_000_000).contains(&rate.bits_per_second()) {
            return Ok(self);
        }
        self.refuse(
            "bitrate",
            format!("{rate} bit/s is out of range; write \"16k\" to \"200M\""),
        )
    }

    pub(super) fn keyframe_interval(&self, interval: Span) -> Result<(), Problem> {
        if (Duration::from_millis(100)..=Duration::from_secs(60)).contains(&interval.duration()) {
            return Ok(());
        }
        self.refuse(
            "keyframe-interval",
            format!("{interval} is out of range; write \"100ms\" to \"1m\""),
        )
    }

    fn refuse<T>(&self, key: &str, what: String) -> Result<T, Problem> {
        Err(Problem::value([self.0, &[key.into()]].concat(), what))
    }
}
