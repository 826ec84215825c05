//! Tracks as this crate describes them in a file. What only a stream needs, such as a frame rate, is not part of them.

/// One track of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Track {
    /// Track ID in the file, above 0.
    pub id: u32,
    /// Coding of its samples: "h264/avcc" (NAL units with 4-byte lengths in front), "aac" or "opus".
    pub format: String,
    /// Codec string of RFC 6381, such as "avc1.64001f"; may be empty.
    pub codec: String,
    /// Decoder configuration in its MP4 form: avcC for H.264, AudioSpecificConfig for AAC, the content of a dOps box
    /// for Opus.
    pub config: Vec<u8>,
    /// Ticks per second of the track's times, above 0.
    pub timescale: u32,
    /// Properties of its kind.
    pub kind: Kind,
}

/// What a track carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Video.
    Video(Video),
    /// Audio.
    Audio(Audio),
    /// Anything else, which cannot be written.
    Other,
}

/// Properties of a video track.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Video {
    /// Coded width in pixels, before the other properties are applied.
    pub width: u32,
    /// Coded height in pixels.
    pub height: u32,
    /// Width and height of a coded pixel in relation to each other; (1, 1) if it is square.
    pub pixel_aspect: (u32, u32),
    /// Clockwise rotation in degrees that makes the coded picture upright: 0, 90, 180 or 270.
    pub rotation: u16,
    /// Whether left and right have to be exchanged before the rotation.
    pub mirrored: bool,
}

/// Properties of an audio track.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audio {
    /// Samples per second and channel.
    pub sample_rate: u32,
    /// Number of channels.
    pub channels: u8,
    /// Language as a BCP 47 tag; "und" or empty if unknown.
    pub language: String,
}
