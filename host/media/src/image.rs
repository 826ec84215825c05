//! Raw frames as planar YUV 4:2:0 with 8 bits per sample: what the test pattern paints, the scaler produces and the
//! encoders take.
//!
//! [`I420Image`] owns its planes; [`I420View`] borrows planes of any stride, checked once, so that a frame of libav can
//! be read without a copy. Nothing here knows which library made the planes.

use super::geometry::Orientation;
use thiserror::Error;

/// Largest width or height in pixels. Larger frames are rejected before memory is allocated.
pub const MAX_SIDE: u32 = 8192;

/// An owned frame: three planes without padding, Y at full size, U and V at half the width and height.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct I420Image {
    width: u32,
    height: u32,
    planes: [Vec<u8>; 3],
}

/// A borrowed frame. Every plane is checked to contain all of its rows.
#[derive(Clone, Copy, Debug)]
pub struct I420View<'a> {
    width: u32,
    height: u32,
    planes: [&'a [u8]; 3],
    strides: [usize; 3],
}

/// Reason why a frame is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SizeError {
    /// A side is odd, which 4:2:0 does not allow, or out of range.
    #[error(
        "unsupported frame size {width}x{height}: both sides must be even, from 2 to {MAX_SIDE}"
    )]
    Unsupported {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
    /// The given plane ends before its last row does.
    #[error("plane {plane} of a {width}x{height} frame is too short: {have} bytes, {need} needed")]
    ShortPlane {
        /// Index of the plane: 0 is Y, 1 U, 2 V.
        plane: usize,
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// Length of the plane in bytes.
        have: usize,
        /// Length in bytes that stride and height require.
        need: usize,
    },
    /// A rotated frame does not have the size of the frame it is written to.
    #[error("a frame of {width}x{height} after rotation does not fit a frame of {into:?}")]
    RotatedSize {
        /// Width in pixels, after rotation.
        width: u32,
        /// Height in pixels, after rotation.
        height: u32,
        /// Width and height of the destination.
        into: (u32, u32),
    },
}

impl I420Image {
    /// Creates a black frame in limited range (Y 16, U and V 128).
    pub fn new(width: u32, height: u32) -> Result<Self, SizeError> {
        check(width, height)?;
        let luma = width as usize * height as usize;
        Ok(Self {
            width,
            height,
            planes: [vec![16; luma], vec![128; luma / 4], vec![128; luma / 4]],
        })
    }

    /// Width in pixels.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Height in pixels.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// Bytes from one row of a plane to the next (0 is Y, 1 U, 2 V). Equals the width of the plane.
    pub fn stride(&self, plane: usize) -> usize {
        plane_size(self.width, self.height, plane).0
    }

    /// The three planes Y, U, V for writing.
    pub fn planes_mut(&mut self) -> [&mut [u8]; 3] {
        let [y, u, v] = &mut self.planes;
        [y, u, v]
    }

    /// Overwrites this image with `image`, rotated and mirrored by `orientation`.
    ///
    /// # Errors
    /// [`SizeError::RotatedSize`] if this image does not have the size of the rotated one.
    pub fn rotate_from(
        &mut self,
        image: I420View<'_>,
        orientation: Orientation,
    ) -> Result<(), SizeError> {
        let (width, height) = match orientation.is_sideways() {
            true => (image.height, image.width),
            false => (image.width, image.height),
        };
        if (self.width, self.height) != (width, height) {
            return Err(SizeError::RotatedSize {
                width,
                height,
                into: (self.width, self.height),
            });
        }
        for (plane, to) in self.planes.iter_mut().enumerate() {
            let from = (image.planes[plane], image.strides[plane]);
            let size = plane_size(image.width, image.height, plane);
            turn_plane(from, size, orientation, to);
        }
        Ok(())
    }

    /// Borrows the frame for reading.
    pub fn view(&self) -> I420View<'_> {
        let [y, u, v] = &self.planes;
        I420View {
            width: self.width,
            height: self.height,
            planes: [y, u, v],
            strides: [self.stride(0), self.stride(1), self.stride(2)],
        }
    }
}

impl<'a> I420View<'a> {
    /// Borrows planes Y, U, V whose rows are `strides` bytes apart.
    pub fn new(
        width: u32,
        height: u32,
        planes: [&'a [u8]; 3],
        strides: [usize; 3],
    ) -> Result<Self, SizeError> {
        check(width, height)?;
        for plane in 0..3 {
            let (columns, rows) = plane_size(width, height, plane);
            let (stride, have) = (strides[plane], planes[plane].len());
            let need = stride
                .max(columns)
                .saturating_mul(rows - 1)
                .saturating_add(columns);
            if stride < columns || have < need {
                return Err(SizeError::ShortPlane {
                    plane,
                    width,
                    height,
                    have,
                    need,
                });
            }
        }
        Ok(Self {
            width,
            height,
            planes,
            strides,
        })
    }

    /// Width in pixels.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Height in pixels.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// Bytes of a plane (0 is Y, 1 U, 2 V), including the padding between rows.
    pub fn plane(&self, plane: usize) -> &'a [u8] {
        self.planes[plane]
    }

    /// Bytes from one row of a plane to the next.
    pub fn stride(&self, plane: usize) -> usize {
        self.strides[plane]
    }

    /// Rows of a plane, without padding.
    pub fn rows(&self, plane: usize) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let (columns, rows) = plane_size(self.width, self.height, plane);
        self.planes[plane]
            .chunks(self.strides[plane])
            .take(rows)
            .map(move |row| &row[..columns])
    }
}

/// Rotates a plane of `size` (columns and rows), given with its stride, into one without padding.
fn turn_plane(
    (from, stride): (&[u8], usize),
    size: (usize, usize),
    orientation: Orientation,
    to: &mut [u8],
) {
    /// A tile of source and destination fits the first-level cache, in whichever direction the rows run.
    const TILE: usize = 32;
    let (columns, rows) = match orientation.is_sideways() {
        true => (size.1, size.0),
        false => size,
    };
    for top in (0..rows).step_by(TILE) {
        for left in (0..columns).step_by(TILE) {
            let right = columns.min(left + TILE);
            for row in top..rows.min(top + TILE) {
                let line = &mut to[row * columns..][left..right];
                for (column, sample) in (left..right).zip(line) {
                    let (x, y) = orientation.source_of(size, (column, row));
                    *sample = from[y * stride + x];
                }
            }
        }
    }
}

/// Columns and rows of a plane.
fn plane_size(width: u32, height: u32, plane: usize) -> (usize, usize) {
    let shift = u32::from(plane != 0);
    ((width >> shift) as usize, (height >> shift) as usize)
}

fn check(width: u32, height: u32) -> Result<(), SizeError> {
    let fits = |side: u32| (2..=MAX_SIDE).contains(&side) && side.is_multiple_of(2);
    if fits(width) && fits(height) {
        Ok(())
    } else {
        Err(SizeError::Unsupported { width, height })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn odd_empty_and_giant_sizes_are_refused() {
        for (width, height) in [
            (0, 0),
            (2, 0),
            (3, 2),
            (2, 3),
            (MAX_SIDE + 2, 2),
            (u32::MAX, u32::MAX),
        ] {
            assert_eq!(
                I420Image::new(width, height),
                Err(SizeError::Unsupported { width, height })
            );
        }
        assert!(I420Image::new(MAX_SIDE, 2).is_ok());
    }

    #[test]
    fn a_view_needs_every_row_but_not_the_padding_of_the_last() {
        let (luma, chroma) = ([0; 8 + 4], [0; 2]);
        assert!(I420View::new(4, 2, [&luma, &chroma, &chroma], [8, 2, 2]).is_ok());
        let short = I420View::new(4, 2, [&luma[..11], &chroma, &chroma], [8, 2, 2]);
        assert!(matches!(
            short,
            Err(SizeError::ShortPlane {
                plane: 0,
                have: 11,
                need: 12,
                ..
            })
        ));
        assert!(I420View::new(4, 2, [&luma, &chroma, &chroma], [3, 2, 2]).is_err());
        assert!(I420View::new(4, 2, [&luma, &chroma, &chroma], [usize::MAX, 2, 2]).is_err());
    }

    #[test]
    fn each_plane_is_turned_and_mirrored() {
        let luma = [1, 2, 3, 4, 0, 5, 6, 7, 8];
        let view = I420View::new(4, 2, [&luma, &[1, 2], &[3, 4]], [5, 2, 2]).unwrap();
        for (degrees, mirrored, turned) in [
            (0, false, [vec![1, 2, 3, 4, 5, 6, 7, 8], vec![1, 2]]),
            (90, false, [vec![5, 1, 6, 2, 7, 3, 8, 4], vec![1, 2]]),
            (180, false, [vec![8, 7, 6, 5, 4, 3, 2, 1], vec![2, 1]]),
            (270, false, [vec![4, 8, 3, 7, 2, 6, 1, 5], vec![2, 1]]),
            (0, true, [vec![4, 3, 2, 1, 8, 7, 6, 5], vec![2, 1]]),
            (90, true, [vec![8, 4, 7, 3, 6, 2, 5, 1], vec![2, 1]]),
        ] {
            let orientation = Orientation::new(degrees, mirrored);
            let (width, height) = match orientation.is_sideways() {
                true => (2, 4),
                false => (4, 2),
            };
            let mut image = I420Image::new(width, height).unwrap();
            image.rotate_from(view, orientation).unwrap();
            assert_eq!(image.planes[..2], turned, "{degrees} {mirrored}");
        }
        let mut small = I420Image::new(2, 2).unwrap();
        assert!(small.rotate_from(view, Orientation::UPRIGHT).is_err());
    }

    #[test]
    fn rows_leave_the_padding_out() {
        let luma: Vec<u8> = (0..12).collect();
        let view = I420View::new(4, 2, [&luma, &[1, 2], &[3, 4]], [8, 2, 2]).unwrap();
        assert_eq!(
            view.rows(0).collect::<Vec<_>>(),
            [&[0, 1, 2, 3], &[8, 9, 10, 11]]
        );
        assert_eq!(view.rows(1).collect::<Vec<_>>(), [&[1, 2]]);
    }
}
