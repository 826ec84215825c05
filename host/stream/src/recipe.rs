//! What can be made from a stream, and with which settings. A [`Recipe`] is the key by which viewers share what
//! `transcoders` make. Pure, but for the choice of an encoder.

use sluicegate_codec as codec;
use sluicegate_codec::Settings;
use sluicegate_config as config;
use sluicegate_media::sample::{Codec, Video};
use std::time::Duration;

/// Keyframe interval of an encoder that makes keyframes only where the source does.
const KEYFRAMES_AS_SOURCE: config::Span = config::Span::from_duration(Duration::from_secs(600));
/// Frame rate assumed for rate control if the source declares none.
const ASSUMED_FRAME_RATE: u32 = 25;

/// What is made from a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recipe {
    /// Transcoded video, without audio.
    Video(VideoTranscode),
    /// The audio transcoded to AAC, without video.
    Aac,
    /// Video and audio in one feed, either of them transcoded or as the source delivers it.
    Joined {
        /// How the video is transcoded; `None` if it is as the source delivers it.
        video: Option<VideoTranscode>,
        /// Whether the audio is transcoded to AAC.
        aac: bool,
    },
}

/// How video is transcoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VideoTranscode {
    /// To JPEGs.
    Jpeg {
        /// Size, quality and rate.
        jpeg_settings: JpegSettings,
        /// Whether the settings come from a viewer and not from the config, so that their number is limited.
        ad_hoc: bool,
    },
    /// To H.264.
    H264(H264Settings),
}

/// Settings of a JPEG transcoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct JpegSettings {
    /// Maximum width in pixels; the aspect ratio is kept.
    pub max_width: u32,
    /// Maximum height in pixels; the aspect ratio is kept.
    pub max_height: u32,
    /// Quality, 1 to 100.
    pub quality: u8,
    /// Maximum frames per second, at least 1.
    pub max_per_second: u32,
}

impl Default for JpegSettings {
    /// The settings of MJPEG viewers that request no others.
    fn default() -> JpegSettings {
        JpegSettings {
            max_width: 1280,
            max_height: 720,
            quality: 75,
            max_per_second: 10,
        }
    }
}

/// Settings of an H.264 transcoder, as limits that depend on the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct H264Settings {
    /// Encoder settings of the stream's config. Its size is not used, nor its rate if `frame_rate` is set.
    pub encode: config::Encode,
    /// Maximum width in pixels; the aspect ratio is kept.
    pub max_width: u32,
    /// Maximum height in pixels; the aspect ratio is kept.
    pub max_height: u32,
    /// Maximum frames per second; `None` for the rate of the source.
    pub frame_rate: Option<u32>,
    /// Longest time between keyframes. Independently of it, there are keyframes where the source has them, or in each
    /// keyframe interval of `encode` if the source has only keyframes.
    pub keyframe_interval: Option<config::Span>,
}

impl H264Settings {
    /// Encoder settings for frames of `video` with this display size. May block, see [`Settings::of`].
    pub(super) fn settings(
        &self,
        video: &Video,
        size: (u32, u32),
    ) -> Result<Settings, codec::Error> {
        Settings::of(&self.encode_settings(video, size))
    }

    /// Like [`H264Settings::settings`], without selecting an encoder.
    pub(super) fn encode_settings(&self, video: &Video, size: (u32, u32)) -> config::Encode {
        let (width, height) = codec::fit(size.0, size.1, self.max_width, self.max_height);
        let native = match video.frame_rate {
            rate if rate >= 1.0 => Some((rate.round() as u32).min(240)),
            _ => None,
        };
        let frame_rate = match (self.frame_rate, native) {
            (Some(most), Some(native)) => most.min(native),
            (Some(rate), None) | (None, Some(rate)) => rate,
            (None, None) => ASSUMED_FRAME_RATE,
        };
        config::Encode {
            width,
            height,
            frame_rate,
            keyframe_interval: self.keyframe_interval.unwrap_or(KEYFRAMES_AS_SOURCE),
            ..self.encode
        }
    }

    /// Longest distance between keyframes in milliseconds; 0 if it is the source's.
    pub(super) fn keyframe_ms(&self, video: &Video) -> u32 {
        let cell = (video.codec == Codec::Jpeg).then_some(self.encode.keyframe_interval);
        let both = self.keyframe_interval.into_iter().chain(cell);
        let least = both.map(|interval| interval.duration().as_millis()).min();
        least.map_or(0, |ms| u32::try_from(ms).unwrap_or(u32::MAX))
    }
}
