//! Fragmented MP4 (ISO/IEC 14496-12) for transports, as Media Source Extensions, HLS players and ffmpeg read it.
//!
//! | output | function |
//! |---|---|
//! | MIME type with codec strings of RFC 6381 | [`mime`], [`codecs`] |
//! | initialization segment: `ftyp` + `moov`, live (no duration anywhere) | [`init`] |
//! | fragment: `moof` + `mdat`, one or more tracks and samples | [`fragment`] |
//! | boxes that may precede a fragment | [`styp`], [`prft`] |
//!
//! Tracks and samples are the SDK's. Formats are "h264/avcc" (`avc1`, or `avc3` if the codec string says so), "aac"
//! (`mp4a`) and "opus" (`Opus`); [`check`] tells whether a track can be written. A track's id is its track ID in the
//! file. Pixels that are not square are described by a `pasp` box, rotation by a matrix in the track header. Everything
//! is pure, without state or clock. Payload is joined by handle and never copied into the guest.
//!
//! ```
//! use sluicegate_sdk::mock;
//!
//! # const AVCC: [u8; 16] = [1, 0x42, 0xc0, 0x1e, 0xff, 0xe1, 0, 3, 0x67, 0x42, 0xc0, 1, 0, 2, 0x68, 0xce];
//! let tracks = mock::video("h264/avcc", "avc1.42c01e", &AVCC).tracks;
//! assert_eq!(sluicegate_fmp4::mime(&tracks), "video/mp4; codecs=\"avc1.42c01e\"");
//! let mut file = sluicegate_fmp4::init(&tracks)?;
//! let samples = mock::samples(0, [(true, vec![0, 0, 0, 1, 0x65]), (false, vec![0, 0, 0, 1, 0x41])]);
//! let before = sluicegate_fmp4::styp();
//! file.extend(sluicegate_fmp4::fragment(before, 1, &samples)?.to_vec());
//! # Ok::<(), sluicegate_fmp4::Error>(())
//! ```
//!
//! # Times
//!
//! `tfdt` is the track's first decode time, unchanged, in 64 bits; players seek to where their buffer starts. Within a
//! fragment a sample lasts until the next one of its track. Only the last sample's duration comes from
//! [`sluicegate_sdk::Sample::duration`], so a caller that knows better sets it before. Decode times must not fall
//! within a track.

mod boxes;
mod fragment;
mod init;
mod language;
mod shape;

pub use fragment::{fragment, prft, styp};
pub use init::{check, codecs, init, mime};

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
