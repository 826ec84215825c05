//! How a track's pictures are laid out on the screen: the size in its header, and the matrix that turns them
//! (ISO/IEC 14496-12, 6.2.2 and 8.3.2).

use sluicegate_sdk::Video;

/// 16.16
const ONE: i32 = 1 << 16;
/// Sides in a track header have 16 bits before the point.
const MAX_SIDE: u64 = 0xffff;

/// The matrix that leaves a picture as it is.
pub(crate) const UNITY: [i32; 9] = [ONE, 0, 0, 0, ONE, 0, 0, 0, 1 << 30];

/// Width and height in square pixels before turning: one side as coded, the other stretched by the shape of the pixels.
pub(crate) fn stretched(video: &Video) -> (u32, u32) {
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

/// The matrix that mirrors and turns the picture and moves it back to where both coordinates begin with 0.
pub(crate) fn matrix(video: &Video) -> [i32; 9] {
    // (p, q) is shown at (a p + c q + x, b p + d q + y); q and y are downwards.
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
    let (width, height) = stretched(video);
    // The point has 16 bits before it, and a sign.
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
