//! Pictures as planar YUV 4:2:0 with 8 bits a sample: what the pattern paints, the scaler gives and the
//! encoders take. Nothing here knows which library made the planes.

use super::geometry::Orientation;
use thiserror::Error;

/// Largest width or height, in pixels; anything beyond is refused before memory is taken for it.
pub const MAX_SIDE: u32 = 8192;

/// An owned picture: three planes without padding, Y at full size, U and V at half the width and height.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    width: u32,
    height: u32,
    planes: [Vec<u8>; 3],
}

/// A picture somebody else owns. Every plane is known to hold all of its rows.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    width: u32,
    height: u32,
    planes: [&'a [u8]; 3],
    strides: [usize; 3],
}

/// A picture nobody can make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SizeError {
    /// 4:2:0 halves both sides.
    #[error(
        "a picture of {width}x{height} cannot be made: both sides must be even, from 2 to {MAX_SIDE}"
    )]
    Unsupported {
        /// Pixels across.
        width: u32,
        /// Pixels down.
        height: u32,
    },
    /// The memory handed over ends before the last row does.
    #[error(
        "plane {plane} of a {width}x{height} picture is too short: {have} bytes, {need} needed"
    )]
    ShortPlane {
        /// 0 is Y, 1 U, 2 V.
        plane: usize,
        /// Pixels across.
        width: u32,
        /// Pixels down.
        height: u32,
        /// Bytes in the plane.
        have: usize,
        /// Bytes that stride and height ask for.
        need: usize,
    },
    /// A picture is to be turned into one of another size.
    #[error("a picture that is {width}x{height} when turned does not fit into one of {into:?}")]
    Turned {
        /// Pixels across.
        width: u32,
        /// Pixels down.
        height: u32,
        /// Those of the one that is to take it.
        into: (u32, u32),
    },
}

impl Picture {
    /// A black picture in limited range (Y 16, U and V 128).
    pub fn new(width: u32, height: u32) -> Result<Self, SizeError> {
        check(width, height)?;
        let luma = width as usize * height as usize;
        Ok(Self {
            width,
            height,
            planes: [vec![16; luma], vec![128; luma / 4], vec![128; luma / 4]],
        })
    }

    /// Pixels across.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Pixels down.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// Bytes from one row of a plane to the next (0 is Y, others U and V): the plane's width.
    pub fn stride(&self, plane: usize) -> usize {
        plane_size(self.width, self.height, plane).0
    }

    /// The three planes, Y, U, V, to write to.
    pub fn planes_mut(&mut self) -> [&mut [u8]; 3] {
        let [y, u, v] = &mut self.planes;
        [y, u, v]
    }

    /// Takes over what `picture` shows when it is turned as `orientation` says.
    ///
    /// # Errors
    /// This picture has not the size that the other has then.
    pub fn turn(&mut self, picture: View<'_>, orientation: Orientation) -> Result<(), SizeError> {
        let (width, height) = match orientation.is_sideways() {
            true => (picture.height, picture.width),
            false => (picture.width, picture.height),
        };
        if (self.width, self.height) != (width, height) {
            return Err(SizeError::Turned {
                width,
                height,
                into: (self.width, self.height),
            });
        }
        for (plane, to) in self.planes.iter_mut().enumerate() {
            let from = (picture.planes[plane], picture.strides[plane]);
            let size = plane_size(picture.width, picture.height, plane);
            turn_plane(from, size, orientation, to);
        }
        Ok(())
    }

    /// The picture as those who only read take it.
    pub fn view(&self) -> View<'_> {
        let [y, u, v] = &self.planes;
        View {
            width: self.width,
            height: self.height,
            planes: [y, u, v],
            strides: [self.stride(0), self.stride(1), self.stride(2)],
        }
    }
}

impl<'a> View<'a> {
    /// A view of planes Y, U, V whose rows are `strides` bytes apart.
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

    /// Pixels across.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Pixels down.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// The bytes of a plane, padding between rows included (0 is Y, 1 U, 2 V).
    pub fn plane(&self, plane: usize) -> &'a [u8] {
        self.planes[plane]
    }

    /// Bytes from one row of a plane to the next.
    pub fn stride(&self, plane: usize) -> usize {
        self.strides[plane]
    }

    /// The rows of a plane, without padding.
    pub fn rows(&self, plane: usize) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let (columns, rows) = plane_size(self.width, self.height, plane);
        self.planes[plane]
            .chunks(self.strides[plane])
            .take(rows)
            .map(move |row| &row[..columns])
    }
}

/// Turns a plane of `size` (columns and rows), given with its stride, into one without padding.
fn turn_plane(
    (from, stride): (&[u8], usize),
    size: (usize, usize),
    orientation: Orientation,
    to: &mut [u8],
) {
    /// A tile of both planes stays in the first-level cache, whichever way its rows lie.
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
                Picture::new(width, height),
                Err(SizeError::Unsupported { width, height })
            );
        }
        assert!(Picture::new(MAX_SIDE, 2).is_ok());
    }

    #[test]
    fn a_view_needs_every_row_but_not_the_padding_of_the_last() {
        let (luma, chroma) = ([0; 8 + 4], [0; 2]);
        assert!(View::new(4, 2, [&luma, &chroma, &chroma], [8, 2, 2]).is_ok());
        let short = View::new(4, 2, [&luma[..11], &chroma, &chroma], [8, 2, 2]);
        assert!(matches!(
            short,
            Err(SizeError::ShortPlane {
                plane: 0,
                have: 11,
                need: 12,
                ..
            })
        ));
        assert!(View::new(4, 2, [&luma, &chroma, &chroma], [3, 2, 2]).is_err());
        assert!(View::new(4, 2, [&luma, &chroma, &chroma], [usize::MAX, 2, 2]).is_err());
    }

    #[test]
    fn each_plane_is_turned_and_mirrored() {
        let luma = [1, 2, 3, 4, 0, 5, 6, 7, 8];
        let view = View::new(4, 2, [&luma, &[1, 2], &[3, 4]], [5, 2, 2]).unwrap();
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
            let mut picture = Picture::new(width, height).unwrap();
            picture.turn(view, orientation).unwrap();
            assert_eq!(picture.planes[..2], turned, "{degrees} {mirrored}");
        }
        let mut small = Picture::new(2, 2).unwrap();
        assert!(small.turn(view, Orientation::UPRIGHT).is_err());
    }

    #[test]
    fn rows_leave_the_padding_out() {
        let luma: Vec<u8> = (0..12).collect();
        let view = View::new(4, 2, [&luma, &[1, 2], &[3, 4]], [8, 2, 2]).unwrap();
        assert_eq!(
            view.rows(0).collect::<Vec<_>>(),
            [&[0, 1, 2, 3], &[8, 9, 10, 11]]
        );
        assert_eq!(view.rows(1).collect::<Vec<_>>(), [&[1, 2]]);
    }
}
