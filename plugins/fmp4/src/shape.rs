//! Geometry of a video track: the displayed size in its header, and the matrix that rotates and mirrors it (ISO/IEC
//! 14496-12, 6.2.2 and 8.3.2).

use crate::Video;

/// 1.0 in 16.16 fixed point.
const ONE: i32 = 1 << 16;
/// Width and height in a track header have 16 integer bits.
const MAX_SIDE: u64 = 0xffff;

/// Identity matrix.
pub(crate) const IDENTITY: [i32; 9] = [ONE, 0, 0, 0, ONE, 0, 0, 0, 1 << 30];

/// Width and height in square pixels before rotation: one as coded, the other stretched by the pixel aspect ratio.
pub(crate) fn display_size(video: &Video) -> (u32, u32) {
    let stretch = |side: u32, by: u32, to: u32| {
        let side = u64::from(side) * u64::from(by) + u64::from(to) / 2;
        u32::try_from((side / u64::from(to)).min(MAX_SIDE)).unwrap_or(u32::MAX)
    };
    match video.pixel_aspect {
        (0, _) | (_, 0) => (video.width, video.height),
        (wide, tall) if wide >= tall => (stretch(video.width, wide, tall), video.height),
        (wide, tall) => (video.width, stretch(video.height, tall, wide)),
    }
}

/// Matrix that mirrors and rotates the frame, and translates it so that both coordinates start at 0.
pub(crate) fn matrix(video: &Video) -> [i32; 9] {
    // A point (p, q) is displayed at (a p + c q + x, b p + d q + y); q and y point downwards.
    let (a, b, c, d) = match video.rotation % 360 {
        90 => (0, 1, -1, 0),
        180 => (-1, 0, 0, -1),
        270 => (0, -1, 1, 0),
        _ => (1, 0, 0, 1),
    };
    let (a, b) = match video.mirrored {
        true => (-a, -b),
        false => (a, b),
    };
    let (width, height) = display_size(video);
    // Fixed-point numbers here have 16 integer bits including the sign.
    let side = |side: u32| side.min(0x7fff) as i32;
    let (width, height) = (side(width), side(height));
    let back = |by_width: i32, by_height: i32| {
        -(by_width.min(0) * width + by_height.min(0) * height).max(-0x7fff)
    };
    let (x, y) = (back(a, c), back(b, d));
    [
        a * ONE,
        b * ONE,
        0,
        c * ONE,
        d * ONE,
        0,
        x * ONE,
        y * ONE,
        1 << 30,
    ]
}
