//! How many pictures went through codecs.

use std::sync::atomic::AtomicU64;

/// Pictures, counted where they are decoded and made; only rises.
#[derive(Debug, Default)]
pub struct Counts {
    /// Came out of a decoder.
    pub decoded: AtomicU64,
    /// Access units that a decoder did not take.
    pub decode_failures: AtomicU64,
    /// Decoded pictures and access units left out because the machine was too slow.
    pub dropped: AtomicU64,
    /// Came out of a video encoder.
    pub encoded: AtomicU64,
    /// Pictures that a video encoder did not take.
    pub encode_failures: AtomicU64,
    /// JPEGs made.
    pub jpegs: AtomicU64,
    /// Pictures that could not be made a JPEG.
    pub jpeg_failures: AtomicU64,
}
