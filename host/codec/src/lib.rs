//! Decoding, encoding, scaling, JPEG and AAC, on libav and libjpeg-turbo.
//!
//! Everything here works on the thread that calls it, at the cost the doc comments state, and keeps nothing of a
//! call but what the next needs. [`Decoder`] and [`Encoder`] may move between threads; [`Scaler`] and
//! [`JpegEncoder`] stay on the one that made them, since libswscale's context does not say it may move.

mod colour;
mod counts;
mod decode;
mod effort;
mod encode;
mod extradata;
mod frame;
mod headers;
mod jpeg;
mod probe;
mod scale;
mod sound;
mod still;
#[cfg(test)]
mod tests;

use std::sync::Once;

use ffmpeg_next as ffmpeg;
use thiserror::Error;

use sluicegate_config::EncoderName;
use sluicegate_media::picture::SizeError;

pub use colour::{Colour, Matrix, Range};
pub use counts::Counts;
pub use decode::Decoder;
pub use effort::Effort;
pub use encode::{Encoder, Packet, Settings, can_encode, codec_string};
pub use extradata::of as extradata;
pub use frame::Frame;
pub use jpeg::JpegEncoder;
pub use probe::{EncoderChoice, PassedOver, answer, encoders, probe_with};
pub use scale::{Scaler, fit};
pub use sound::{MADE_SOUND, SoundCoding, SoundConverter, SoundFrame};
pub use still::{Pictured, Still, StillEncoder};

/// Ticks a second of every `pts` and `dts` in this module: 90 kHz.
pub const TIME_BASE: u32 = 90_000;

/// What can go wrong with a picture.
#[derive(Debug, Error)]
pub enum Error {
    /// This build of libavcodec lacks a codec.
    #[error("libavcodec here has no {what}: install a build of FFmpeg that has it")]
    Missing {
        /// Which codec.
        what: &'static str,
    },
    /// A codec refused its settings.
    #[error("cannot open the {what}")]
    Open {
        /// Which codec, with what settings.
        what: String,
        /// What libav says.
        source: ffmpeg::Error,
    },
    /// An encoder that cannot be used on this machine or in this version.
    #[error("{reason}")]
    Unusable {
        /// Which.
        name: EncoderName,
        /// Why.
        reason: String,
    },
    /// The encoder the config names does not work here.
    #[error(
        "the encoder {name} does not work here: {reason}; name another, or none for the first that works"
    )]
    Pinned {
        /// Which.
        name: EncoderName,
        /// Why.
        reason: String,
    },
    /// None works.
    #[error("no H.264 encoder works here: {reasons}")]
    NoEncoder {
        /// Why each does not.
        reasons: String,
    },
    /// A setting is outside of what can be encoded.
    #[error("cannot encode with {setting} {value}: it must be from {least} to {most}")]
    Setting {
        /// Name of the field in [`Settings`].
        setting: &'static str,
        /// What it was.
        value: u64,
        /// Smallest good value.
        least: u64,
        /// Largest good value.
        most: u64,
    },
    /// A picture was not encoded.
    #[error("cannot encode the picture at {pts}/90000 s")]
    Encode {
        /// The picture's time.
        pts: i64,
        /// What libav says.
        source: ffmpeg::Error,
    },
    /// A picture of another size than the encoder's.
    #[error("the encoder takes {expected:?} pixels, the picture has {found:?}: scale it first")]
    Size {
        /// Width and height the encoder was made for.
        expected: (u32, u32),
        /// Width and height of the picture.
        found: (u32, u32),
    },
    /// An access unit could not be decoded; the next may well be.
    #[error("cannot decode the access unit of {bytes} bytes at {pts}/90000 s")]
    Decode {
        /// The access unit's time.
        pts: i64,
        /// Its length.
        bytes: usize,
        /// What libav says.
        source: ffmpeg::Error,
    },
    /// A packet of sound could not be decoded or encoded again; the next may well be.
    #[error("cannot convert the sound at {time}/90000 s")]
    Sound {
        /// The packet's time.
        time: i64,
        /// What libav says.
        source: ffmpeg::Error,
    },
    /// An access unit of no bytes or of too many.
    #[error("an access unit has {bytes} bytes: from 1 to {most} can be decoded")]
    Length {
        /// Its length.
        bytes: usize,
        /// The largest that is taken.
        most: usize,
    },
    /// A picture could not be brought to another size or pixel format.
    #[error("cannot convert a {width}x{height} picture in {format}")]
    Scale {
        /// Pixels across.
        width: u32,
        /// Pixels down.
        height: u32,
        /// libav's name of its pixel format.
        format: String,
        /// What libav says.
        source: ffmpeg::Error,
    },
    /// A size that planar 4:2:0 cannot have.
    #[error(transparent)]
    Picture(#[from] SizeError),
    /// libjpeg-turbo refused.
    #[error("cannot make the JPEG")]
    Jpeg(#[from] turbojpeg::Error),
    /// libav could not get memory for a picture.
    #[error("no memory for a {width}x{height} picture")]
    Memory {
        /// Pixels across.
        width: u32,
        /// Pixels down.
        height: u32,
    },
}

/// Prepares libav, once, however often it is called. libav's own lines on stderr are turned off but for those
/// before an abort: what fails is in the errors, and a camera with a bad cable must not fill the log.
pub fn init() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // The error texts. `ffmpeg::init` would bring libavdevice and its eighty libraries along.
        ffmpeg::util::error::register_all();
        ffmpeg::log::set_level(ffmpeg::log::Level::Fatal);
    });
}

/// Whether libav only says that it wants input, or has no more to give.
fn is_dry(error: ffmpeg::Error) -> bool {
    matches!(
        error,
        ffmpeg::Error::Eof
            | ffmpeg::Error::Other {
                errno: ffmpeg::error::EAGAIN
            }
    )
}
