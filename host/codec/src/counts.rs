//! Counters of frames that passed through codecs, exported as metrics.

use std::sync::atomic::AtomicU64;

/// Counters of frames; each only increases.
#[derive(Debug, Default)]
pub struct Counts {
    /// Frames that came out of a decoder.
    pub decoded: AtomicU64,
    /// Access units that a decoder rejected.
    pub decode_failures: AtomicU64,
    /// Decoded frames and access units dropped because the machine was too slow.
    pub dropped: AtomicU64,
    /// Packets that came out of a video encoder.
    pub encoded: AtomicU64,
    /// Frames that a video encoder rejected.
    pub encode_failures: AtomicU64,
    /// JPEGs encoded.
    pub jpegs: AtomicU64,
    /// Frames that could not be encoded as JPEG.
    pub jpeg_failures: AtomicU64,
}
