//! [`Sample`]s, the unit that feeds store and transports receive, and the [`Video`] and [`Audio`] tracks they belong
//! to.
//!
//! A sample is one access unit of video or one audio frame with its times. Its coded bytes are shared: cloning a sample
//! costs a reference count, and each packaging (Annex B or length-prefixed) is made at most once, on first use, for all
//! muxers and viewers. `stream::Ingest` and the encoders of derived feeds create samples; muxers and decoders read
//! them.

use super::{
    aac,
    geometry::Geometry,
    h264::{self, parameter_sets::ParameterSets},
};
use bytes::Bytes;
use std::sync::{Arc, OnceLock};

/// Packaging of a sample's bytes. The names are those of `profile.formats` in `wit/gateway.wit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// "h264/avcc": NAL units, each after its length in 4 bytes (ISO/IEC 14496-15 5.3).
    H264Avcc,
    /// "h264/annexb": NAL units, each after a start code (ITU-T H.264 Annex B).
    H264AnnexB,
    /// "h264/avcc;reorder=0": as [`Format::H264Avcc`], in presentation order, so without B-frames.
    H264AvccInOrder,
    /// "h264/annexb;reorder=0": as [`Format::H264AnnexB`], in presentation order, so without B-frames.
    H264AnnexBInOrder,
    /// "jpeg": one JFIF image.
    Jpeg,
    /// "aac": one raw AAC frame (ISO/IEC 14496-3 4.4.2.1) without an ADTS header.
    Aac,
}

impl Format {
    /// Returns the format with this name, or `None` if the gateway has no such format.
    pub fn from_name(name: &str) -> Option<Format> {
        match name {
            "h264/avcc" => Some(Format::H264Avcc),
            "h264/annexb" => Some(Format::H264AnnexB),
            "h264/avcc;reorder=0" => Some(Format::H264AvccInOrder),
            "h264/annexb;reorder=0" => Some(Format::H264AnnexBInOrder),
            "jpeg" => Some(Format::Jpeg),
            "aac" => Some(Format::Aac),
            _ => None,
        }
    }

    /// Name of the format in the WIT.
    pub fn name(self) -> &'static str {
        match self {
            Format::H264Avcc => "h264/avcc",
            Format::H264AnnexB => "h264/annexb",
            Format::H264AvccInOrder => "h264/avcc;reorder=0",
            Format::H264AnnexBInOrder => "h264/annexb;reorder=0",
            Format::Jpeg => "jpeg",
            Format::Aac => "aac",
        }
    }

    /// Codec of the samples that can be packaged this way.
    pub fn codec(self) -> Codec {
        match self {
            Format::H264Avcc
            | Format::H264AnnexB
            | Format::H264AvccInOrder
            | Format::H264AnnexBInOrder => Codec::H264,
            Format::Jpeg => Codec::Jpeg,
            Format::Aac => Codec::Aac,
        }
    }

    /// Whether decoding order must be presentation order.
    pub fn is_in_order(self) -> bool {
        matches!(self, Format::H264AvccInOrder | Format::H264AnnexBInOrder)
    }

    /// Whether this is an audio format.
    pub fn is_audio(self) -> bool {
        self.codec().is_audio()
    }
}

/// Codec of a track, independent of the packaging.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    /// ITU-T H.264.
    H264,
    /// Motion JPEG.
    Jpeg,
    /// AAC-LC or HE-AAC.
    Aac,
    /// Any other audio codec. Only the gateway decodes it, to make AAC of it.
    OtherAudio,
}

impl Codec {
    /// Whether this is an audio codec.
    pub fn is_audio(self) -> bool {
        matches!(self, Codec::Aac | Codec::OtherAudio)
    }
}

impl std::fmt::Display for Codec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Codec::H264 => "H.264",
            Codec::Jpeg => "MJPEG",
            Codec::Aac => "AAC",
            Codec::OtherAudio => "another audio codec",
        })
    }
}

/// Description of a stream's video track.
#[derive(Clone, Debug, PartialEq)]
pub struct Video {
    /// Codec of the samples.
    pub codec: Codec,
    /// Codec string (RFC 6381) such as "avc1.64001f"; empty for JPEG.
    pub codec_string: String,
    /// Payload of the `avcC` box; empty for JPEG.
    pub config: Bytes,
    /// Width of the coded frames, in pixels.
    pub width: u32,
    /// Height of the coded frames, in pixels.
    pub height: u32,
    /// How the coded frames are to be displayed.
    pub geometry: Geometry,
    /// Frames per second; 0 if unknown.
    pub frame_rate: f32,
    /// Longest expected distance between independent samples, in milliseconds; 0 if unknown.
    pub keyframe_ms: u32,
}

impl Video {
    /// Width and height of the displayed frames, upright and in square pixels.
    pub fn display_size(&self) -> (u32, u32) {
        self.geometry.display_size(self.width, self.height)
    }
}

/// Description of a stream's audio track.
#[derive(Clone, Debug, PartialEq)]
pub struct Audio {
    /// [`Codec::Aac`] or [`Codec::OtherAudio`].
    pub codec: Codec,
    /// Name of the codec in libav, such as "aac" or "pcm_alaw".
    pub name: String,
    /// Codec string (RFC 6381) such as "mp4a.40.2"; empty if the codec is not AAC.
    pub codec_string: String,
    /// The AudioSpecificConfig; empty if the codec is not AAC.
    pub config: Bytes,
    /// Unit in which AAC frames are timed: coded samples per second.
    pub timescale: u32,
    /// Output samples per second. Twice the timescale in HE-AAC.
    pub sample_rate: u32,
    /// Number of channels.
    pub channels: u8,
    /// Language as a BCP 47 tag; "und" if unknown.
    pub language: String,
}

impl Audio {
    /// Describes an AAC track. `channels` is used if the configuration does not state the number of channels.
    pub fn aac(config: &aac::Config, channels: u8, language: &str) -> Audio {
        Audio {
            codec: Codec::Aac,
            name: "aac".into(),
            codec_string: config.codec_string(),
            config: config.bytes.clone(),
            timescale: config.sample_rate,
            sample_rate: config.output_rate,
            channels: match config.channels {
                0 => channels,
                told => told,
            },
            language: language.to_owned(),
        }
    }
}

/// One access unit or audio frame, with its times in ticks of [`super::time::TIMESCALE`].
#[derive(Clone, Debug)]
pub struct Sample {
    /// Decode time. Rises from sample to sample within a stream's run.
    pub decode_time: u64,
    /// Presentation time minus decode time.
    pub composition_offset: i32,
    /// Expected duration; 0 if unknown.
    pub duration: u32,
    /// Whether decoding can start here: the sample refers to no earlier one, or is a recovery point (H.264 D.1.8).
    pub independent: bool,
    /// Leading frame of an open GOP: it follows an independent sample in decoding order and precedes it in presentation
    /// order. It may refer to frames before that sample, so a viewer that starts there must not get it.
    pub leading: bool,
    /// Time of capture in microseconds since the Unix epoch.
    pub captured_at: u64,
    /// Count of repeats of the last frame, including this one, during a silence of the source; 0 for a frame of its
    /// own.
    pub repeat: u32,
    /// Presentation time from before [`Sample::place_after`] moved the sample, if it was moved. Groups identify the
    /// sample by this time, see [`super::group`].
    pub group_time: Option<u64>,
    body: Arc<Body>,
}

#[derive(Debug)]
enum Body {
    H264 {
        nals: Vec<Bytes>,
        sets: Option<Arc<ParameterSets>>,
        annexb: OnceLock<Bytes>,
        avcc: OnceLock<Bytes>,
    },
    Jpeg(Bytes),
    Aac {
        data: Bytes,
        sample_range: SampleRange,
    },
    OtherAudio(Bytes),
}

/// Position of an AAC frame in samples of its track. Exact, whereas 90 kHz ticks are rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SampleRange {
    /// Position of the first sample, counted from decode time 0.
    pub at: u64,
    /// Number of samples in the frame.
    pub length: u32,
}

/// The times of a sample without its bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Times {
    /// See [`Sample::decode_time`].
    pub decode_time: u64,
    /// See [`Sample::composition_offset`].
    pub composition_offset: i32,
    /// See [`Sample::duration`].
    pub duration: u32,
    /// See [`Sample::captured_at`].
    pub captured_at: u64,
}

impl Sample {
    /// Creates an H.264 sample from the NAL units of one access unit.
    pub fn h264(times: Times, independent: bool, nals: Vec<Bytes>) -> Sample {
        Sample::of_nals(times, independent, nals, None)
    }

    /// Creates an H.264 sample together with the parameter sets that it decodes with, including those among its own NAL
    /// units.
    pub fn h264_with(
        times: Times,
        independent: bool,
        nals: Vec<Bytes>,
        sets: Arc<ParameterSets>,
    ) -> Sample {
        Sample::of_nals(times, independent, nals, Some(sets))
    }

    fn of_nals(
        times: Times,
        independent: bool,
        nals: Vec<Bytes>,
        sets: Option<Arc<ParameterSets>>,
    ) -> Sample {
        Sample::new(
            times,
            independent,
            Arc::new(Body::H264 {
                nals,
                sets,
                annexb: OnceLock::new(),
                avcc: OnceLock::new(),
            }),
        )
    }

    /// Creates a sample of one JPEG image.
    pub fn jpeg(times: Times, data: Bytes) -> Sample {
        Sample::new(times, true, Arc::new(Body::Jpeg(data)))
    }

    /// Creates a sample of one raw AAC frame.
    pub fn aac(times: Times, sample_range: SampleRange, data: Bytes) -> Sample {
        Sample::new(times, true, Arc::new(Body::Aac { data, sample_range }))
    }

    /// Creates a sample of one audio packet in any other codec.
    pub fn other_audio(times: Times, data: Bytes) -> Sample {
        Sample::new(times, true, Arc::new(Body::OtherAudio(data)))
    }

    fn new(times: Times, independent: bool, body: Arc<Body>) -> Sample {
        Sample {
            decode_time: times.decode_time,
            composition_offset: times.composition_offset,
            duration: times.duration,
            independent,
            leading: false,
            captured_at: times.captured_at,
            repeat: 0,
            group_time: None,
            body,
        }
    }

    /// Creates a repeat of this frame with new times: an access unit of the given NAL units, or the same bytes once
    /// more.
    pub fn again(&self, times: Times, nals: Option<Vec<Bytes>>) -> Sample {
        let again = match nals {
            Some(nals) => Sample::of_nals(times, false, nals, self.sets().cloned()),
            None => Sample::new(times, self.independent, self.body.clone()),
        };
        Sample {
            repeat: self.repeat + 1,
            ..again
        }
    }

    /// Moves the sample directly after the decode time of another one. Its presentation time stays, unless that would
    /// be before its new decode time.
    pub fn place_after(&mut self, decode_time: u64) {
        let shown = self.presentation_time();
        self.group_time.get_or_insert(shown);
        self.decode_time = decode_time + 1;
        let offset = shown.saturating_sub(self.decode_time);
        self.composition_offset = i32::try_from(offset).unwrap_or(0);
    }

    /// NAL units of an H.264 access unit; `None` for other codecs.
    pub fn nals(&self) -> Option<&[Bytes]> {
        match self.body.as_ref() {
            Body::H264 { nals, .. } => Some(nals),
            _ => None,
        }
    }

    /// Parameter sets that an H.264 access unit decodes with, if they are known.
    pub fn sets(&self) -> Option<&Arc<ParameterSets>> {
        match self.body.as_ref() {
            Body::H264 { sets, .. } => sets.as_ref(),
            _ => None,
        }
    }

    /// Times of the sample, to create another sample at the same place.
    pub fn times(&self) -> Times {
        Times {
            decode_time: self.decode_time,
            composition_offset: self.composition_offset,
            duration: self.duration,
            captured_at: self.captured_at,
        }
    }

    /// Bytes in this packaging, made once and shared. `None` if the sample has another codec.
    pub fn packaged(&self, format: Format) -> Option<Bytes> {
        match (self.body.as_ref(), format) {
            (Body::H264 { nals, annexb, .. }, Format::H264AnnexB | Format::H264AnnexBInOrder) => {
                Some(annexb.get_or_init(|| h264::annexb::join(nals)).clone())
            }
            (Body::H264 { nals, avcc, .. }, Format::H264Avcc | Format::H264AvccInOrder) => {
                Some(avcc.get_or_init(|| h264::avcc::join(nals)).clone())
            }
            (Body::Jpeg(data), Format::Jpeg) | (Body::Aac { data, .. }, Format::Aac) => {
                Some(data.clone())
            }
            _ => None,
        }
    }

    /// Codec of the sample.
    pub fn codec(&self) -> Codec {
        match *self.body {
            Body::H264 { .. } => Codec::H264,
            Body::Jpeg(_) => Codec::Jpeg,
            Body::Aac { .. } => Codec::Aac,
            Body::OtherAudio(_) => Codec::OtherAudio,
        }
    }

    /// Whether this is an audio sample.
    pub fn is_audio(&self) -> bool {
        self.codec().is_audio()
    }

    /// Presentation time in ticks.
    pub fn presentation_time(&self) -> u64 {
        self.decode_time
            .saturating_add_signed(self.composition_offset.into())
    }

    /// Position in samples of the track, if this is an AAC frame.
    pub fn sample_range(&self) -> Option<SampleRange> {
        match self.body.as_ref() {
            Body::Aac { sample_range, .. } => Some(*sample_range),
            _ => None,
        }
    }

    /// Coded bytes, if this is an audio sample.
    pub fn audio_data(&self) -> Option<&Bytes> {
        match self.body.as_ref() {
            Body::Aac { data, .. } | Body::OtherAudio(data) => Some(data),
            _ => None,
        }
    }

    /// Size of the coded bytes, without packaging.
    pub fn size(&self) -> usize {
        match self.body.as_ref() {
            Body::H264 { nals, .. } => nals.iter().map(Bytes::len).sum(),
            Body::Jpeg(data) | Body::Aac { data, .. } | Body::OtherAudio(data) => data.len(),
        }
    }
}
