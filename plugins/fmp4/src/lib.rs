//! Fragmented MP4 (ISO/IEC 14496-12) for transports: what Media Source Extensions, HLS players and ffmpeg read.
//!
//! | what | how |
//! |---|---|
//! | MIME type with RFC 6381 codecs | [`mime`], [`codecs`] |
//! | init segment: `ftyp` + `moov`, live (no duration anywhere) | [`init`] |
//! | fragment: `moof` + `mdat`, one or several tracks and samples | [`fragment`] |
//! | what may stand before a fragment | [`styp`], [`prft`] |
//!
//! Tracks and samples are the SDK's. Pixels that are not square get a `pasp` box, pictures that have to be turned a matrix in the
//! track header. Formats: "h264/avcc" (`avc1`, or `avc3` as its codec says), "aac" (`mp4a`), "opus" (`Opus`); [`check`] tells, and
//! a track's id is its track ID in the file. Pure: no state, no clock. Payload is joined by handle, never copied into the guest.
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
//! `tfdt` is a track's first decode time as it is, in 64 bits; players seek to where the buffer starts. Within a fragment a
//! sample lasts until its track's next one; only the last one's duration is what its `duration` expects. So a caller that knows
//! better than [`sluicegate_sdk::Sample::duration`] sets it before, and decode times must not fall within a track.

mod boxes;
mod fragment;
mod init;
mod language;
mod shape;

pub use fragment::{fragment, prft, styp};
pub use init::{check, codecs, init, mime};

use thiserror::Error;

/// Why something cannot be written as MP4.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Error {
    /// No track at all, more than a file should have, or ids that are not distinct and above 0.
    #[error(
        "a file has from 1 to 64 tracks, each with its own id above 0; these have the ids {0:?}"
    )]
    Tracks(Vec<u32>),
    /// A track that cannot be described.
    #[error("track {id} ({format}) cannot be written as MP4: {reason}")]
    Track {
        /// The track's.
        id: u32,
        /// The track's.
        format: String,
        /// What is missing or wrong.
        reason: &'static str,
    },
    /// A fragment needs at least one sample.
    #[error("a fragment without samples")]
    Empty,
    /// Offsets within a fragment have 31 bits.
    #[error("a fragment of more than 2 GiB; cut it earlier")]
    Large,
    /// Decode times of a track that fall, or are further apart than 32 bits of ticks.
    #[error("track {track}: from decode time {from} to {to} is no duration of one sample")]
    Time {
        /// The track's id.
        track: u32,
        /// Of a sample.
        from: u64,
        /// Of the next one.
        to: u64,
    },
}
