//! Pictures as planar YUV 4:2:0 with 8 bits a sample: what the pattern paints, the scaler gives and the
//! encoders take. Nothing here knows which library made the planes.

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
