//! Samples and the tracks they belong to.

use super::{
    aac,
    geometry::Geometry,
    h264::{self, parameter_sets::ParameterSets},
};
use bytes::Bytes;
use std::sync::{Arc, OnceLock};

/// How the bytes of a sample are laid out; the names of `profile.formats` in `wit/gateway.wit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// "h264/avcc": NAL units behind 4-byte lengths (ISO/IEC 14496-15 5.3).
    H264Avcc,
    /// "h264/annexb": NAL units behind start codes (ITU-T H.264 Annex B).
    H264AnnexB,
    /// "jpeg": one JFIF picture.
    Jpeg,
    /// "aac": one raw frame (ISO/IEC 14496-3 4.4.2.1), without an ADTS header.
    Aac,
}

impl Format {
    /// The format of that name, if the gateway knows it.
    pub fn from_name(name: &str) -> Option<Format> {
        match name {
            "h264/avcc" => Some(Format::H264Avcc),
            "h264/annexb" => Some(Format::H264AnnexB),
            "jpeg" => Some(Format::Jpeg),
            "aac" => Some(Format::Aac),
            _ => None,
        }
    }

    /// Its name in the WIT.
    pub fn name(self) -> &'static str {
        match self {
            Format::H264Avcc => "h264/avcc",
            Format::H264AnnexB => "h264/annexb",
            Format::Jpeg => "jpeg",
            Format::Aac => "aac",
        }
    }

    /// What has to be coded that way.
    pub fn codec(self) -> Codec {
        match self {
            Format::H264Avcc | Format::H264AnnexB => Codec::H264,
            Format::Jpeg => Codec::Jpeg,
            Format::Aac => Codec::Aac,
        }
    }

    /// Whether it is for sound.
    pub fn is_sound(self) -> bool {
        self.codec().is_sound()
    }
}

/// How pictures and sound are coded, whatever the packaging.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    /// ITU-T H.264.
    H264,
    /// Motion JPEG.
    Jpeg,
    /// AAC-LC or HE-AAC.
    Aac,
    /// Sound in any other codec, which only the gateway itself decodes.
    OtherSound,
}

impl Codec {
    /// Whether it is of sound.
    pub fn is_sound(self) -> bool {
        matches!(self, Codec::Aac | Codec::OtherSound)
    }
}

impl std::fmt::Display for Codec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Codec::H264 => "H.264",
            Codec::Jpeg => "MJPEG",
            Codec::Aac => "AAC",
            Codec::OtherSound => "sound of another codec",
        })
    }
}

/// The one video track of a stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Video {
    /// How it is coded.
    pub codec: Codec,
    /// RFC 6381, "avc1.64001f"; empty for JPEG.
    pub codec_string: String,
    /// The `avcC` box's payload; empty for JPEG.
    pub config: Bytes,
    /// Pixels, as coded.
    pub width: u32,
    /// Pixels, as coded.
    pub height: u32,
    /// How that is to be shown.
    pub geometry: Geometry,
    /// Pictures a second; 0: unknown.
    pub frame_rate: f32,
    /// The longest distance between independent samples to expect; 0: unknown.
    pub keyframe_ms: u32,
}

impl Video {
    /// Width and height in square pixels at which its pictures are seen, upright.
    pub fn display_size(&self) -> (u32, u32) {
        self.geometry.display_size(self.width, self.height)
    }
}

/// The one audio track of a stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Audio {
    /// [`Codec::Aac`] or [`Codec::OtherSound`].
    pub codec: Codec,
    /// The codec in libav's words, "aac", "pcm_alaw".
    pub name: String,
    /// RFC 6381, "mp4a.40.2"; empty where it is not AAC.
    pub codec_string: String,
    /// The AudioSpecificConfig; empty where it is not AAC.
    pub config: Bytes,
    /// Samples a second in the frames: what frames of AAC are timed in.
    pub timescale: u32,
    /// Samples a second that are played; twice the timescale in HE-AAC.
    pub sample_rate: u32,
    /// How many.
    pub channels: u8,
    /// BCP 47; "und" when unknown.
    pub language: String,
}

impl Audio {
    /// Of a track of AAC. `channels` counts where the configuration has none.
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
    /// Rises within a stream's run.
    pub decode_time: u64,
    /// Presentation minus decode time.
    pub composition_offset: i32,
    /// Expected; 0: unknown.
    pub duration: u32,
    /// Decodable without what came before, or a recovery point (H.264 D.1.8).
    pub independent: bool,
    /// Shown before the independent sample that it comes behind, and perhaps made from what is before that: who starts there leaves
    /// it out.
    pub leading: bool,
    /// Microseconds since the Unix epoch.
    pub captured_at: u64,
    /// How often the last picture was repeated since it came, this time included; 0: this is a picture of its own.
    pub repeat: u32,
    /// When it was to be shown before it was put behind something: by that groups know it, see [`super::group`].
    pub known_by: Option<u64>,
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
        beat: Beat,
    },
    OtherSound(Bytes),
}

/// Where a frame of AAC is, in samples of its track: exact, as ticks are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beat {
    /// The first of its samples, counted from decode time 0.
    pub at: u64,
    /// How many samples it holds.
    pub length: u32,
}

/// The times of a sample, apart from its bytes.
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
    /// One H.264 access unit out of its NAL units.
    pub fn h264(times: Times, independent: bool, nals: Vec<Bytes>) -> Sample {
        Sample::of_nals(times, independent, nals, None)
    }

    /// The same, with the parameter sets that hold at it, those in its own NAL units among them.
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

    /// One JPEG picture.
    pub fn jpeg(times: Times, data: Bytes) -> Sample {
        Sample::new(times, true, Arc::new(Body::Jpeg(data)))
    }

    /// One raw frame of AAC.
    pub fn aac(times: Times, beat: Beat, data: Bytes) -> Sample {
        Sample::new(times, true, Arc::new(Body::Aac { data, beat }))
    }

    /// One packet of sound in another codec.
    pub fn other_sound(times: Times, data: Bytes) -> Sample {
        Sample::new(times, true, Arc::new(Body::OtherSound(data)))
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
            known_by: None,
            body,
        }
    }

    /// The same picture once more, out of these NAL units or else of the same bytes.
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

    /// Puts it behind a sample of this decode time, as late as it was to be shown or later.
    pub fn put_behind(&mut self, decode_time: u64) {
        let shown = self.shown_at();
        self.known_by.get_or_insert(shown);
        self.decode_time = decode_time + 1;
        let offset = shown.saturating_sub(self.decode_time);
        self.composition_offset = i32::try_from(offset).unwrap_or(0);
    }

    /// The NAL units of an H.264 access unit.
    pub fn nals(&self) -> Option<&[Bytes]> {
        match self.body.as_ref() {
            Body::H264 { nals, .. } => Some(nals),
            _ => None,
        }
    }

    /// The parameter sets that hold at an H.264 access unit, where they are known.
    pub fn sets(&self) -> Option<&Arc<ParameterSets>> {
        match self.body.as_ref() {
            Body::H264 { sets, .. } => sets.as_ref(),
            _ => None,
        }
    }

    /// Its times, to make another sample at the same place.
    pub fn times(&self) -> Times {
        Times {
            decode_time: self.decode_time,
            composition_offset: self.composition_offset,
            duration: self.duration,
            captured_at: self.captured_at,
        }
    }

    /// The bytes in that packaging, made once and shared; `None` if the sample is coded otherwise.
    pub fn packaged(&self, format: Format) -> Option<Bytes> {
        match (self.body.as_ref(), format) {
            (Body::H264 { nals, annexb, .. }, Format::H264AnnexB) => {
                Some(annexb.get_or_init(|| h264::annexb::join(nals)).clone())
            }
            (Body::H264 { nals, avcc, .. }, Format::H264Avcc) => {
                Some(avcc.get_or_init(|| h264::avcc::join(nals)).clone())
            }
            (Body::Jpeg(data), Format::Jpeg) | (Body::Aac { data, .. }, Format::Aac) => {
                Some(data.clone())
            }
            _ => None,
        }
    }

    /// How it is coded.
    pub fn codec(&self) -> Codec {
        match *self.body {
            Body::H264 { .. } => Codec::H264,
            Body::Jpeg(_) => Codec::Jpeg,
            Body::Aac { .. } => Codec::Aac,
            Body::OtherSound(_) => Codec::OtherSound,
        }
    }

    /// Whether it is sound.
    pub fn is_sound(&self) -> bool {
        self.codec().is_sound()
    }

    /// When it is shown, in ticks.
    pub fn shown_at(&self) -> u64 {
        self.decode_time
            .saturating_add_signed(self.composition_offset.into())
    }

    /// Its place in samples, if it is AAC.
    pub fn beat(&self) -> Option<Beat> {
        match self.body.as_ref() {
            Body::Aac { beat, .. } => Some(*beat),
            _ => None,
        }
    }

    /// Its bytes, if it is sound.
    pub fn sound(&self) -> Option<&Bytes> {
        match self.body.as_ref() {
            Body::Aac { data, .. } | Body::OtherSound(data) => Some(data),
            _ => None,
        }
    }

    /// Bytes of coded picture or sound, without packaging.
    pub fn size(&self) -> usize {
        match self.body.as_ref() {
            Body::H264 { nals, .. } => nals.iter().map(Bytes::len).sum(),
            Body::Jpeg(data) | Body::Aac { data, .. } | Body::OtherSound(data) => data.len(),
        }
    }
}
