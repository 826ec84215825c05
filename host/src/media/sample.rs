//! Samples and the tracks they belong to.

use super::h264;
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
}

impl Format {
    /// The format of that name, if the gateway knows it.
    pub fn from_name(name: &str) -> Option<Format> {
        match name {
            "h264/avcc" => Some(Format::H264Avcc),
            "h264/annexb" => Some(Format::H264AnnexB),
            "jpeg" => Some(Format::Jpeg),
            _ => None,
        }
    }

    /// Its name in the WIT.
    pub fn name(self) -> &'static str {
        match self {
            Format::H264Avcc => "h264/avcc",
            Format::H264AnnexB => "h264/annexb",
            Format::Jpeg => "jpeg",
        }
    }

    /// What has to be coded that way.
    pub fn codec(self) -> Codec {
        match self {
            Format::H264Avcc | Format::H264AnnexB => Codec::H264,
            Format::Jpeg => Codec::Jpeg,
        }
    }
}

/// How pictures are coded, whatever the packaging.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    /// ITU-T H.264.
    H264,
    /// Motion JPEG.
    Jpeg,
}

impl std::fmt::Display for Codec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Codec::H264 => "H.264",
            Codec::Jpeg => "MJPEG",
        })
    }
}

/// The one video track of a stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Track {
    /// From 1.
    pub id: u32,
    /// How it is coded.
    pub codec: Codec,
    /// RFC 6381, "avc1.64001f"; empty for JPEG.
    pub codec_string: String,
    /// The `avcC` box's payload; empty for JPEG.
    pub config: Bytes,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Pictures a second; 0: unknown.
    pub frame_rate: f32,
    /// The longest distance between independent samples to expect; 0: unknown.
    pub keyframe_ms: u32,
}

/// One access unit, with its times in ticks of [`super::time::TIMESCALE`].
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
    /// Microseconds since the Unix epoch.
    pub captured_at: u64,
    /// How often the last picture was repeated since it came, this time included; 0: this is a picture of its own.
    pub repeat: u32,
    body: Arc<Body>,
}

#[derive(Debug)]
enum Body {
    H264 {
        nals: Vec<Bytes>,
        annexb: OnceLock<Bytes>,
        avcc: OnceLock<Bytes>,
    },
    Jpeg(Bytes),
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
        Sample::new(
            times,
            independent,
            Arc::new(Body::H264 {
                nals,
                annexb: OnceLock::new(),
                avcc: OnceLock::new(),
            }),
        )
    }

    /// One JPEG picture.
    pub fn jpeg(times: Times, data: Bytes) -> Sample {
        Sample::new(times, true, Arc::new(Body::Jpeg(data)))
    }

    fn new(times: Times, independent: bool, body: Arc<Body>) -> Sample {
        Sample {
            decode_time: times.decode_time,
            composition_offset: times.composition_offset,
            duration: times.duration,
            independent,
            captured_at: times.captured_at,
            repeat: 0,
            body,
        }
    }

    /// The same picture once more, out of these NAL units or else of the same bytes.
    pub fn again(&self, times: Times, nals: Option<Vec<Bytes>>) -> Sample {
        let again = match nals {
            Some(nals) => Sample::h264(times, false, nals),
            None => Sample::new(times, self.independent, self.body.clone()),
        };
        Sample {
            repeat: self.repeat + 1,
            ..again
        }
    }

    /// Puts it behind a sample of this decode time, as late as it was to be shown or later.
    pub fn put_behind(&mut self, decode_time: u64) {
        let shown = self.shown();
        self.decode_time = decode_time + 1;
        let offset = shown.saturating_sub(self.decode_time);
        self.composition_offset = i32::try_from(offset).unwrap_or(0);
    }

    /// When it is to be shown.
    pub fn shown(&self) -> u64 {
        self.decode_time
            .saturating_add_signed(self.composition_offset.into())
    }

    /// The NAL units of an H.264 access unit.
    pub fn nals(&self) -> Option<&[Bytes]> {
        match self.body.as_ref() {
            Body::H264 { nals, .. } => Some(nals),
            Body::Jpeg(_) => None,
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
            (Body::Jpeg(data), Format::Jpeg) => Some(data.clone()),
            _ => None,
        }
    }

    /// How it is coded.
    pub fn codec(&self) -> Codec {
        match *self.body {
            Body::H264 { .. } => Codec::H264,
            Body::Jpeg(_) => Codec::Jpeg,
        }
    }

    /// Bytes of coded picture, without packaging.
    pub fn size(&self) -> usize {
        match self.body.as_ref() {
            Body::H264 { nals, .. } => nals.iter().map(Bytes::len).sum(),
            Body::Jpeg(data) => data.len(),
        }
    }
}
