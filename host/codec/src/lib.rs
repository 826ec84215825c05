//! Decoding, encoding, scaling, JPEG and AAC on top of libav (FFmpeg) and libjpeg-turbo.
//!
//! Every call works on the calling thread, at the cost that its doc comment states, and keeps only the state that the
//! next call needs; threads, queues and dropping are the callers' business (`source` for transcoding, `stream` for
//! renditions, `capture` for stills). [`Decoder`] and [`Encoder`] may move between threads; [`Scaler`] and
//! [`JpegEncoder`] are not `Send`, because libswscale does not document that its context may move.

mod audio;
mod colour;
mod counts;
mod decode;
mod encode;
mod extradata;
mod frame;
mod headers;
mod jpeg;
mod probe;
mod scale;
mod still;
#[cfg(test)]
mod tests;
mod work_meter;

use std::sync::Once;

use ffmpeg_next as ffmpeg;
use thiserror::Error;

use sluicegate_config::EncoderName;
use sluicegate_media::image::SizeError;

pub use audio::{AAC_LC_CODEC, AacConverter, AacFrame, AudioCoding};
pub use colour::{Colour, Matrix, Range};
pub use counts::Counts;
pub use decode::Decoder;
pub use encode::{Encoder, Packet, Settings, codec_string, is_encodable};
pub use extradata::of as extradata;
pub use frame::Frame;
pub use jpeg::JpegEncoder;
pub use probe::{EncoderChoice, PassedOver, answer, encoders, set_probe_program};
pub use scale::{Scaler, fit};
pub use still::{EncodedStill, StillFormat, StillImageEncoder};
pub use work_meter::WorkMeter;

/// Ticks per second of every `pts` and `dts` in this crate: 90 kHz.
pub const TIME_BASE: u32 = 90_000;

/// Errors of decoding, encoding and conversion.
#[derive(Debug, Error)]
pub enum Error {
    /// This build of libavcodec lacks a codec.
    #[error("this build of libavcodec has no {what}; install an FFmpeg build that has it")]
    Missing {
        /// Name of the codec.
        what: &'static str,
    },
    /// A codec could not be opened with these settings.
    #[error("cannot open the {what}")]
    Open {
        /// Name of the codec and its settings.
        what: String,
        /// Error of libav.
        source: ffmpeg::Error,
    },
    /// The encoder cannot be used on this machine or in this version.
    #[error("{reason}")]
    Unusable {
        /// Name of the encoder.
        name: EncoderName,
        /// Reason shown to the user.
        reason: String,
    },
    /// The encoder that the config names does not work on this machine.
    #[error(
        "the encoder {name} does not work on this machine: {reason}; set `encoder` to another one, or remove it to use the first that works"
    )]
    Pinned {
        /// Name of the encoder.
        name: EncoderName,
        /// Reason shown to the user.
        reason: String,
    },
    /// No H.264 encoder works on this machine.
    #[error("no H.264 encoder works on this machine: {reasons}")]
    NoEncoder {
        /// The encoders with the reason why each does not work.
        reasons: String,
    },
    /// A setting is out of range.
    #[error("cannot encode with {setting} {value}: it must be from {least} to {most}")]
    Setting {
        /// Name of the field in [`Settings`].
        setting: &'static str,
        /// The value that was given.
        value: u64,
        /// Smallest valid value.
        least: u64,
        /// Largest valid value.
        most: u64,
    },
    /// A frame could not be encoded.
    #[error("cannot encode the frame at {pts}/90000 s")]
    Encode {
        /// Presentation time of the frame, 90 kHz.
        pts: i64,
        /// Error of libav.
        source: ffmpeg::Error,
    },
    /// The frame's size is not the encoder's.
    #[error("the encoder expects frames of {expected:?} pixels but got {found:?}; scale it first")]
    Size {
        /// Width and height the encoder was opened for, pixels.
        expected: (u32, u32),
        /// Width and height of the frame, pixels.
        found: (u32, u32),
    },
    /// An access unit could not be decoded; the next one may succeed.
    #[error("cannot decode the access unit of {bytes} bytes at {pts}/90000 s")]
    Decode {
        /// Presentation time of the access unit, else its decode time, 90 kHz.
        pts: i64,
        /// Length in bytes.
        bytes: usize,
        /// Error of libav.
        source: ffmpeg::Error,
    },
    /// A packet of audio could not be decoded or re-encoded; the next one may succeed.
    #[error("cannot convert the audio packet at {time}/90000 s")]
    Audio {
        /// Time of the packet, 90 kHz.
        time: i64,
        /// Error of libav.
        source: ffmpeg::Error,
    },
    /// An access unit is empty or too long.
    #[error("cannot decode an access unit of {bytes} bytes; it must have 1 to {most}")]
    Length {
        /// Length in bytes.
        bytes: usize,
        /// Largest accepted length in bytes.
        most: usize,
    },
    /// A frame could not be converted to another size or pixel format.
    #[error("cannot convert a {width}x{height} frame in {format}")]
    Scale {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// libav's name of the pixel format.
        format: String,
        /// Error of libav.
        source: ffmpeg::Error,
    },
    /// The size is not possible for planar 4:2:0.
    #[error(transparent)]
    ImageSize(#[from] SizeError),
    /// libjpeg-turbo failed.
    #[error("cannot encode the JPEG")]
    Jpeg(#[from] turbojpeg::Error),
    /// libav could not allocate a frame.
    #[error("cannot allocate a {width}x{height} frame")]
    Memory {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
}

/// Initialises libav; only the first call has an effect. libav's own lines on stderr are turned off, except those
/// before an abort: failures are in the errors, and a camera with a bad cable must not fill the log.
pub fn init() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Registers the error texts. `ffmpeg::init` would also load libavdevice and the eighty libraries that it
        // depends on.
        ffmpeg::util::error::register_all();
        ffmpeg::log::set_level(ffmpeg::log::Level::Fatal);
    });
}

/// Whether the error only means that libav needs more input or is at the end.
fn needs_input(error: ffmpeg::Error) -> bool {
    matches!(
        error,
        ffmpeg::Error::Eof
            | ffmpeg::Error::Other {
                errno: ffmpeg::error::EAGAIN
            }
    )
}
