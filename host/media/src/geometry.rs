//! How coded frames are displayed: the shape of a pixel and the orientation. Pure.
//!
//! Samples stay as they were coded; their [`Geometry`] travels with the track. Whoever decodes frames applies it
//! (`codec::Scaler`), so that everything made of decoded frames is upright and has square pixels. A muxer, which passes
//! samples on as coded, tells the player (the `video` record in `wit/gateway.wit`).

/// Longest side, in pixels, to which a frame is stretched. A frame that would be larger is scaled down as a whole.
const MAX_SIDE: u32 = 16384;
/// Largest aspect ratio of a pixel, either way, that is accepted as real; actual ones go up to 4.
const MAX_RATIO: u32 = 16;

/// Pixel aspect ratio (sample aspect ratio): width to height, reduced to lowest terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PixelAspect {
    width: u32,
    height: u32,
}

impl PixelAspect {
    /// Square pixels.
    pub const SQUARE: PixelAspect = PixelAspect {
        width: 1,
        height: 1,
    };

    /// Creates a ratio. `None` if a side is 0, which formats use for "unknown", or if the ratio is beyond 16:1 or 1:16.
    pub fn new(width: u32, height: u32) -> Option<PixelAspect> {
        let factor = gcd(width, height);
        let (mut width, mut height) = (width.checked_div(factor)?, height.checked_div(factor)?);
        // Limited to 16 bits, so that products with the sides of a frame fit into every integer used.
        let excess = u16::BITS.saturating_sub(width.max(height).leading_zeros());
        width = (width >> excess).max(u32::from(width > 0));
        height = (height >> excess).max(u32::from(height > 0));
        let believed = width > 0
            && height > 0
            && width <= height.saturating_mul(MAX_RATIO)
            && height <= width.saturating_mul(MAX_RATIO);
        believed.then_some(PixelAspect { width, height })
    }

    /// Width of a pixel, 1 to 65,535, in the unit of [`PixelAspect::height`].
    pub fn width(self) -> u32 {
        self.width
    }

    /// Height of a pixel, 1 to 65,535.
    pub fn height(self) -> u32 {
        self.height
    }
}

impl Default for PixelAspect {
    fn default() -> PixelAspect {
        PixelAspect::SQUARE
    }
}

/// Orientation in which a coded frame is displayed: mirrored left to right or not, then rotated clockwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Orientation {
    /// Quarter turns clockwise, 0 to 3.
    quarters: u8,
    mirrored: bool,
}

impl Orientation {
    /// Displayed as coded.
    pub const UPRIGHT: Orientation = Orientation {
        quarters: 0,
        mirrored: false,
    };
    /// All eight orientations.
    pub const ALL: [Orientation; 8] = {
        let mut all = [Orientation::UPRIGHT; 8];
        let mut at = 0;
        while at < all.len() {
            all[at] = Orientation {
                quarters: (at % 4) as u8,
                mirrored: at >= 4,
            };
            at += 1;
        }
        all
    };

    /// Mirrored if `mirrored`, then rotated clockwise by `degrees`, rounded to a quarter turn.
    pub fn new(degrees: i32, mirrored: bool) -> Orientation {
        let quarters = (i64::from(degrees) + 45).div_euclid(90).rem_euclid(4);
        Orientation {
            quarters: quarters as u8,
            mirrored,
        }
    }

    /// Reads a transformation matrix (ISO/IEC 14496-12 8.3.2) given row by row, as libav does. With a, b and c, d from
    /// its first two rows, it shows a point (p, q) of the frame, with q downwards, at (a p + c q, b p + d q). Scale and
    /// translation are ignored; the angle is rounded to a quarter turn. `None` if the matrix maps all points onto one
    /// line.
    pub fn from_matrix(matrix: &[i32; 9]) -> Option<Orientation> {
        let [a, b, _, c, d, ..] = matrix.map(i64::from);
        let mirrored = match a * d - b * c {
            0 => return None,
            area => area < 0,
        };
        // With the mirroring undone, (a, b) is the direction of the frame's first row.
        let (a, b) = if mirrored { (-a, -b) } else { (a, b) };
        let quarters = match (a.abs() >= b.abs(), a > 0, b > 0) {
            (true, true, _) => 0,
            (false, _, true) => 1,
            (true, false, _) => 2,
            (false, _, false) => 3,
        };
        Some(Orientation { quarters, mirrored })
    }

    /// Rotation in degrees clockwise, after mirroring: 0, 90, 180 or 270.
    pub fn degrees(self) -> u16 {
        u16::from(self.quarters) * 90
    }

    /// Whether left and right are exchanged before the rotation.
    pub fn is_mirrored(self) -> bool {
        self.mirrored
    }

    /// Whether width and height are exchanged.
    pub fn is_sideways(self) -> bool {
        self.quarters % 2 == 1
    }

    /// Returns the pixel (column, row) of a frame of `width`×`height` that is displayed at `column` and `row` of the
    /// result. All coordinates must be within their frames.
    pub fn source_of(
        self,
        (width, height): (usize, usize),
        (column, row): (usize, usize),
    ) -> (usize, usize) {
        let (x, y) = match self.quarters {
            0 => (column, row),
            1 => (row, height - 1 - column),
            2 => (width - 1 - column, height - 1 - row),
            _ => (width - 1 - row, column),
        };
        match self.mirrored {
            true => (width - 1 - x, y),
            false => (x, y),
        }
    }
}

/// How the coded frames of a track are displayed. The default is to display them as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Geometry {
    /// Shape of a coded pixel.
    pub pixel_aspect: PixelAspect,
    /// Orientation of the coded frame.
    pub orientation: Orientation,
}

impl Geometry {
    /// Whether frames are displayed as they are coded.
    pub fn is_identity(self) -> bool {
        self == Geometry::default()
    }

    /// Size in square pixels of a coded frame of `width`×`height`, before rotation. One side stays and the other is
    /// stretched, so that no detail is lost: a pixel aspect ratio of 16:11 makes 931×360 of 640×360. At most 16,384 per
    /// side.
    pub fn stretched_size(self, width: u32, height: u32) -> (u32, u32) {
        let PixelAspect {
            width: wide,
            height: tall,
        } = self.pixel_aspect;
        let scale = |side: u32, by: u32, to: u32| -> u64 {
            let (by, to) = (u64::from(by), u64::from(to));
            (u64::from(side) * by + to / 2) / to
        };
        let (width, height) = match wide >= tall {
            true => (scale(width, wide, tall), height.into()),
            false => (width.into(), scale(height, tall, wide)),
        };
        let (longest, most) = (width.max(height), u64::from(MAX_SIDE));
        let limited = |side: u64| match longest > most {
            true => ((side * most + longest / 2) / longest).max(1),
            false => side,
        };
        (limited(width) as u32, limited(height) as u32)
    }

    /// Size in square pixels at which a coded frame of `width`×`height` is displayed, upright.
    pub fn display_size(self, width: u32, height: u32) -> (u32, u32) {
        let (width, height) = self.stretched_size(width, height);
        match self.orientation.is_sideways() {
            true => (height, width),
            false => (width, height),
        }
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    match b {
        0 => a,
        b => gcd(b, a % b),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;

    const ONE: i32 = 1 << 16;

    fn geometry(width: u32, height: u32, degrees: i32) -> Geometry {
        Geometry {
            pixel_aspect: PixelAspect::new(width, height).unwrap(),
            orientation: Orientation::new(degrees, false),
        }
    }

    #[test]
    fn non_square_pixels_stretch_the_frame() {
        for (aspect, coded, stretched) in [
            ((16, 11), (640, 360), (931, 360)),
            ((1, 1), (640, 360), (640, 360)),
            // DV and DVDs.
            ((64, 45), (720, 576), (1024, 576)),
            ((8, 9), (720, 480), (720, 540)),
            ((4, 3), (1440, 1080), (1920, 1080)),
            // Every second line is missing.
            ((1, 2), (704, 288), (704, 576)),
            ((16, 1), (16384, 360), (16384, 23)),
        ] {
            let geometry = geometry(aspect.0, aspect.1, 0);
            assert_eq!(
                geometry.display_size(coded.0, coded.1),
                stretched,
                "{aspect:?}"
            );
        }
    }

    #[test]
    fn a_quarter_turn_swaps_the_sides_of_the_stretched_frame() {
        for (degrees, size) in [
            (0, (931, 360)),
            (90, (360, 931)),
            (180, (931, 360)),
            (-90, (360, 931)),
            (450, (360, 931)),
        ] {
            assert_eq!(geometry(16, 11, degrees).display_size(640, 360), size);
        }
    }

    #[test]
    fn shapes_that_no_pixel_has_are_not_believed() {
        for (width, height) in [(0, 0), (0, 1), (1, 0), (17, 1), (1, 17), (u32::MAX, 1)] {
            assert_eq!(PixelAspect::new(width, height), None, "{width}:{height}");
        }
        assert_eq!(PixelAspect::new(72, 72), Some(PixelAspect::SQUARE));
        let large = PixelAspect::new(4_000_000_001, 3_000_000_000).unwrap();
        assert!(large.width() <= 65_535 && large.height() <= 65_535);
        let ratio = f64::from(large.width()) / f64::from(large.height());
        assert!((ratio - 4.0 / 3.0).abs() < 0.001, "{ratio}");
    }

    #[test]
    fn matrices_of_phones_say_which_way_is_up() {
        for (matrix, degrees, mirrored) in [
            ([ONE, 0, 0, 0, ONE, 0, 0, 0, 1 << 30], 0, false),
            ([0, ONE, 0, -ONE, 0, 0, 0, 0, 1 << 30], 90, false),
            ([-ONE, 0, 0, 0, -ONE, 0, 0, 0, 1 << 30], 180, false),
            ([0, -ONE, 0, ONE, 0, 0, 0, 0, 1 << 30], 270, false),
            ([-ONE, 0, 0, 0, ONE, 0, 0, 0, 1 << 30], 0, true),
            ([ONE, 0, 0, 0, -ONE, 0, 0, 0, 1 << 30], 180, true),
            ([0, ONE, 0, ONE, 0, 0, 0, 0, 1 << 30], 270, true),
            // Rotated by three degrees, and twice as large.
            (
                [130_892, 6_860, 0, -6_860, 130_892, 0, 0, 0, 1 << 30],
                0,
                false,
            ),
        ] {
            let found = Orientation::from_matrix(&matrix).unwrap();
            assert_eq!(found, Orientation::new(degrees, mirrored), "{matrix:?}");
            assert_eq!(i32::from(found.degrees()), degrees);
        }
        assert_eq!(Orientation::from_matrix(&[0; 9]), None);
        assert_eq!(Orientation::from_matrix(&[i32::MIN; 9]), None);
    }

    proptest! {
        #[test]
        fn every_matrix_and_size_gives_a_frame(
            matrix in any::<[i32; 9]>(),
            aspect in (any::<u32>(), any::<u32>()),
            size in (1u32..=16384, 1u32..=16384),
        ) {
            let geometry = Geometry {
                pixel_aspect: PixelAspect::new(aspect.0, aspect.1).unwrap_or_default(),
                orientation: Orientation::from_matrix(&matrix).unwrap_or_default(),
            };
            let (width, height) = geometry.display_size(size.0, size.1);
            prop_assert!((1..=16384).contains(&width) && (1..=16384).contains(&height));
        }

        #[test]
        fn each_pixel_is_shown_once(width in 1usize..9, height in 1usize..9, which in 0usize..8) {
            let orientation = Orientation::ALL[which];
            let (columns, rows) = match orientation.is_sideways() {
                true => (height, width),
                false => (width, height),
            };
            let mut seen: Vec<(usize, usize)> = (0..columns)
                .flat_map(|column| (0..rows).map(move |row| (column, row)))
                .map(|place| orientation.source_of((width, height), place))
                .collect();
            seen.sort_unstable();
            let all: Vec<(usize, usize)> = (0..width)
                .flat_map(|column| (0..height).map(move |row| (column, row)))
                .collect();
            prop_assert_eq!(seen, all);
        }
    }
}
