//! `encoder = "…"`: names of libavcodec's H.264 encoders.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;

/// An H.264 encoder, by its name in libavcodec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EncoderName {
    /// AMD's Advanced Media Framework.
    H264Amf,
    /// NVIDIA's NVENC.
    H264Nvenc,
    /// Intel's Quick Sync Video.
    H264Qsv,
    /// The Video Acceleration API.
    H264Vaapi,
    /// A V4L2 memory-to-memory device, as on small boards.
    H264V4l2m2m,
    /// x264, in software.
    Libx264,
}

impl EncoderName {
    /// All encoders, most preferred first.
    pub const ALL: [Self; 6] = [
        Self::H264Amf,
        Self::H264Nvenc,
        Self::H264Qsv,
        Self::H264Vaapi,
        Self::H264V4l2m2m,
        Self::Libx264,
    ];

    /// The name that libavcodec and the config use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::H264Amf => "h264_amf",
            Self::H264Nvenc => "h264_nvenc",
            Self::H264Qsv => "h264_qsv",
            Self::H264Vaapi => "h264_vaapi",
            Self::H264V4l2m2m => "h264_v4l2m2m",
            Self::Libx264 => "libx264",
        }
    }
}

impl fmt::Display for EncoderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for EncoderName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|name| name.as_str() == text);
        found.ok_or_else(|| {
            let known = Self::ALL.map(Self::as_str).join(", ");
            format!("`{text}` is not a known encoder; write one of {known}")
        })
    }
}

impl<'de> Deserialize<'de> for EncoderName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

impl Serialize for EncoderName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}
