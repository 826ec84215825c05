//! Fragmented MP4 (ISO/IEC 14496-12), as Media Source Extensions, HLS players and ffmpeg read it.
//!
//! | output | function |
//! |---|---|
//! | MIME type with codec strings of RFC 6381 | [`mime`], [`codecs`] |
//! | initialization segment: `ftyp` + `moov`, live (no duration anywhere) | [`init`] |
//! | fragment: `moof` + `mdat`, one or more tracks and samples | [`fragment()`] |
//! | boxes that may precede a fragment | [`styp`], [`prft`] |
//!
//! The crate knows nothing of the gateway. Payload is a type of the caller's and is neither read nor copied: a
//! [`Fragment`] is the bytes before the payload and the order in which it follows. Transports join it by handle
//! (`sluicegate_sdk::fmp4`); for payload in memory there is [`Fragment::to_vec`].
//!
//! Formats are "h264/avcc" (`avc1`, or `avc3` if the codec string says so), "aac" (`mp4a`) and "opus" (`Opus`);
//! [`check`] tells whether a track can be written. Pixels that are not square are described by a `pasp` box, rotation
//! by a matrix in the track header. Everything is pure, without state or clock.
//!
//! ```
//! use sluicegate_fmp4::{Kind, Sample, Track, Video};
//!
//! # let avcc = vec![1, 0x42, 0xc0, 0x1e, 0xff, 0xe1, 0, 3, 0x67, 0x42, 0xc0, 1, 0, 2, 0x68, 0xce];
//! let video = Video { width: 640, height: 360, pixel_aspect: (1, 1), rotation: 0, mirrored: false };
//! let track = Track {
//!     id: 1,
//!     format: "h264/avcc".into(),
//!     codec: "avc1.42c01e".into(),
//!     config: avcc,
//!     timescale: 90_000,
//!     kind: Kind::Video(video),
//! };
//! let tracks = [track];
//! assert_eq!(sluicegate_fmp4::mime(&tracks), "video/mp4; codecs=\"avc1.42c01e\"");
//! let mut file = sluicegate_fmp4::init(&tracks)?;
//! let sample = Sample {
//!     track: 1,
//!     decode_time: 0,
//!     composition_offset: 0,
//!     duration: 3000,
//!     independent: true,
//!     leading: false,
//!     size: 5,
//!     payload: [0u8, 0, 0, 1, 0x65],
//! };
//! let before = sluicegate_fmp4::styp();
//! file.extend(sluicegate_fmp4::fragment(before, 1, vec![sample])?.to_vec());
//! # Ok::<(), sluicegate_fmp4::Error>(())
//! ```
//!
//! # Times
//!
//! `tfdt` is the track's first decode time, unchanged, in 64 bits; players seek to where their buffer starts. Within a
//! fragment a sample lasts until the next one of its track. Only the last sample's duration comes from
//! [`Sample::duration`], so a caller that knows better sets it before. Decode times must not fall within a track.

mod boxes;
mod fragment;
mod init;
mod language;
mod shape;
mod track;

pub use fragment::{Fragment, Sample, fragment, prft, styp};
pub use init::{check, codecs, init, mime};
pub use track::{Audio, Kind, Track, Video};

use thiserror::Error;

/// Reason why something cannot be written as MP4.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Error {
    /// No tracks, more than a file may have, or ids that are 0 or not distinct.
    #[error(
        "an MP4 file has 1 to 64 tracks with distinct ids above 0; these tracks have the ids {0:?}"
    )]
    Tracks(Vec<u32>),
    /// The track cannot be described.
    #[error("track {id} ({format}) cannot be written as MP4: {reason}")]
    Track {
        /// Id of the track.
        id: u32,
        /// Format of the track.
        format: String,
        /// What is missing or wrong.
        reason: &'static str,
    },
    /// A fragment without samples was requested.
    #[error("a fragment needs at least one sample")]
    Empty,
    /// The fragment is too large: offsets in it have 31 bits.
    #[error("the fragment is larger than 2 GiB; end it earlier")]
    Large,
    /// A track's decode times fall, or are further apart than 32 bits of ticks.
    #[error(
        "track {track}: decode time {to} cannot follow {from}; a duration has 32 bits and is not negative"
    )]
    Time {
        /// Id of the track.
        track: u32,
        /// Decode time of a sample.
        from: u64,
        /// Decode time of the next sample.
        to: u64,
    },
}
