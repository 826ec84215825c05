//! The tracks of a stream between two discontinuities.

use sluicegate_codec::AudioCoding;
use sluicegate_media::sample::{Audio, Sample, Video};

/// The tracks of the samples after a discontinuity.
#[derive(Clone, Debug, Default)]
pub struct Info {
    /// Unix microseconds at decode time 0 of this run.
    pub started_at: u64,
    /// Number of discontinuities of this run so far.
    pub epoch: u32,
    /// The video track.
    pub video: Option<Video>,
    /// The audio track.
    pub audio: Option<Audio>,
    /// Decoder parameters of the audio, if it is not AAC.
    pub coding: Option<AudioCoding>,
}

impl Info {
    /// Whether a viewer may start at this sample: at an independent frame, or at any audio if there is no video.
    pub fn starts_at(&self, sample: &Sample) -> bool {
        sample.independent && (!sample.is_audio() || self.video.is_none())
    }
}
