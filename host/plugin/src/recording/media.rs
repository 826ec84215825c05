//! Tracks and samples as `wit/gateway.wit` has them, with their bytes instead of handles, for recordings.

use super::Blob;
use crate::bindings::{media, transport};
use crate::guest::Guest;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Further properties by name; see `more` in the WIT.
type More = Vec<(String, String)>;

/// `stream-info`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub struct StreamInfo {
    pub started_at: u64,
    pub epoch: u32,
    pub tracks: Vec<Track>,
    pub renditions: Vec<Rendition>,
    pub longest_group_ms: u32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub more: More,
}

/// `track`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub struct Track {
    pub id: u32,
    pub format: String,
    pub codec: String,
    pub config: Blob,
    pub timescale: u32,
    pub kind: Kind,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub more: More,
}

/// `kind`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum Kind {
    Video(Video),
    Audio(Audio),
    Data,
}

/// `video`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub struct Video {
    pub width: u32,
    pub height: u32,
    pub pixel_aspect: (u32, u32),
    pub rotation: u16,
    pub mirrored: bool,
    pub frame_rate: f32,
    pub keyframe_ms: u32,
}

/// `audio`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub struct Audio {
    pub sample_rate: u32,
    pub channels: u8,
    pub language: String,
}

/// `rendition`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub struct Rendition {
    pub name: String,
    pub base: String,
    pub codecs: String,
    pub bandwidth: u32,
    pub width: u32,
    pub height: u32,
    pub frame_rate: f32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub more: More,
}

/// `sample`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub struct Sample {
    pub track: u32,
    pub group: u64,
    pub decode_time: u64,
    pub composition_offset: i32,
    pub duration: u32,
    pub independent: bool,
    pub leading: bool,
    pub repeated: bool,
    pub captured_at: u64,
    pub group_started_at: u64,
    pub data: Blob,
}

impl Sample {
    /// Lends it to a guest.
    pub(crate) fn lend(self, guest: &mut Guest) -> wasmtime::Result<media::Sample> {
        let size = u32::try_from(self.data.len()).unwrap_or(u32::MAX);
        Ok(media::Sample {
            track: self.track,
            group: self.group,
            decode_time: self.decode_time,
            composition_offset: self.composition_offset,
            duration: self.duration,
            independent: self.independent,
            leading: self.leading,
            repeated: self.repeated,
            captured_at: self.captured_at,
            group_started_at: self.group_started_at,
            size,
            data: guest.lend(self.data.0)?,
        })
    }
}

impl From<&transport::StreamInfo> for StreamInfo {
    fn from(info: &transport::StreamInfo) -> StreamInfo {
        StreamInfo {
            started_at: info.started_at,
            epoch: info.epoch,
            tracks: info.tracks.iter().map(Track::from).collect(),
            renditions: info.renditions.iter().map(Rendition::from).collect(),
            longest_group_ms: info.longest_group_ms,
            more: info.more.clone(),
        }
    }
}

impl From<&StreamInfo> for transport::StreamInfo {
    fn from(info: &StreamInfo) -> transport::StreamInfo {
        transport::StreamInfo {
            started_at: info.started_at,
            epoch: info.epoch,
            tracks: info.tracks.iter().map(media::Track::from).collect(),
            renditions: info
                .renditions
                .iter()
                .map(transport::Rendition::from)
                .collect(),
            longest_group_ms: info.longest_group_ms,
            more: info.more.clone(),
        }
    }
}

impl From<&media::Track> for Track {
    fn from(track: &media::Track) -> Track {
        Track {
            id: track.id,
            format: track.format.clone(),
            codec: track.codec.clone(),
            config: Bytes::copy_from_slice(&track.config).into(),
            timescale: track.timescale,
            kind: match &track.kind {
                media::Kind::Video(video) => Kind::Video(Video {
                    width: video.width,
                    height: video.height,
                    pixel_aspect: video.pixel_aspect,
                    rotation: video.rotation,
                    mirrored: video.mirrored,
                    frame_rate: video.frame_rate,
                    keyframe_ms: video.keyframe_ms,
                }),
                media::Kind::Audio(audio) => Kind::Audio(Audio {
                    sample_rate: audio.sample_rate,
                    channels: audio.channels,
                    language: audio.language.clone(),
                }),
                media::Kind::Data => Kind::Data,
            },
            more: track.more.clone(),
        }
    }
}

impl From<&Track> for media::Track {
    fn from(track: &Track) -> media::Track {
        media::Track {
            id: track.id,
            format: track.format.clone(),
            codec: track.codec.clone(),
            config: track.config.0.to_bytes().to_vec(),
            timescale: track.timescale,
            kind: match &track.kind {
                Kind::Video(video) => media::Kind::Video(media::Video {
                    width: video.width,
                    height: video.height,
                    pixel_aspect: video.pixel_aspect,
                    rotation: video.rotation,
                    mirrored: video.mirrored,
                    frame_rate: video.frame_rate,
                    keyframe_ms: video.keyframe_ms,
                }),
                Kind::Audio(audio) => media::Kind::Audio(media::Audio {
                    sample_rate: audio.sample_rate,
                    channels: audio.channels,
                    language: audio.language.clone(),
                }),
                Kind::Data => media::Kind::Data,
            },
            more: track.more.clone(),
        }
    }
}

impl From<&transport::Rendition> for Rendition {
    fn from(rendition: &transport::Rendition) -> Rendition {
        Rendition {
            name: rendition.name.clone(),
            base: rendition.base.clone(),
            codecs: rendition.codecs.clone(),
            bandwidth: rendition.bandwidth,
            width: rendition.width,
            height: rendition.height,
            frame_rate: rendition.frame_rate,
            more: rendition.more.clone(),
        }
    }
}

impl From<&Rendition> for transport::Rendition {
    fn from(rendition: &Rendition) -> transport::Rendition {
        transport::Rendition {
            name: rendition.name.clone(),
            base: rendition.base.clone(),
            codecs: rendition.codecs.clone(),
            bandwidth: rendition.bandwidth,
            width: rendition.width,
            height: rendition.height,
            frame_rate: rendition.frame_rate,
            more: rendition.more.clone(),
        }
    }
}
