//! Colour ranges and matrices of Y'CbCr samples, and the conversion between them. Pure.
//!
//! A conversion between two colour spaces is one linear map, computed in 16-bit fixed point so that it is vectorised.
//! [`super::Scaler`] uses it after libswscale, which changes size and layout only.

use sluicegate_media::image::{I420Image, I420View};

/// Sample values of black and white.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    /// Y 16 to 235, U and V 16 to 240: video range.
    Limited,
    /// 0 to 255: full range, as in JPEG.
    Full,
}

/// Matrix that derives Y, U and V from red, green and blue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Matrix {
    /// ITU-R BT.601: SD video, and JPEG according to JFIF.
    Bt601,
    /// ITU-R BT.709: HD video.
    Bt709,
    /// ITU-R BT.2020, non-constant luminance.
    Bt2020,
}

/// Colour space of a frame's samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Colour {
    /// Sample values of black and white.
    pub range: Range,
    /// Matrix that derives Y, U and V.
    pub matrix: Matrix,
}

impl Colour {
    /// Colour space of a JFIF file: full range, BT.601.
    pub const JPEG: Self = Self {
        range: Range::Full,
        matrix: Matrix::Bt601,
    };
    /// Colour space that [`super::Encoder`] signals in the stream: limited range, BT.709.
    pub const VIDEO: Self = Self {
        range: Range::Limited,
        matrix: Matrix::Bt709,
    };
}

/// Converts the samples of `image` from one colour space to another; `into` has the same size.
pub(super) fn convert(image: I420View<'_>, from: Colour, to: Colour, into: &mut I420Image) {
    debug_assert_eq!(
        (image.width(), image.height()),
        (into.width(), into.height())
    );
    let terms = LinearMap::new(from, to);
    let width = image.width() as usize;
    let mut tint = vec![0; width];
    let [luma, blue, red] = into.planes_mut();
    let mut lines = image.rows(0).zip(luma.chunks_mut(width));
    let chroma = image
        .rows(1)
        .zip(image.rows(2))
        .zip(blue.chunks_mut(width / 2).zip(red.chunks_mut(width / 2)));
    for ((from_blue, from_red), (to_blue, to_red)) in chroma {
        convert_chroma(from_blue, from_red, terms.blue, to_blue);
        convert_chroma(from_red, from_blue, terms.red, to_red);
        chroma_offsets(from_blue, from_red, terms.tint, &mut tint);
        for (from, to) in lines.by_ref().take(2) {
            convert_luma(from, &tint, &terms, to);
        }
    }
}

/// The linear map between two colour spaces, with factors in units of 1/512. Each factor differs by at most one half
/// from one (for a sample's own component) or zero (for the others), so the difference times a sample fits into 16
/// bits. Such products are vectorised on every processor, 32-bit ones are not.
struct LinearMap {
    black: i16,
    new_black: i16,
    /// Factor of the old Y in the new one, minus one.
    luma: i16,
    /// Contributions of U and V to Y.
    tint: [i16; 2],
    /// Factor of the old U in the new one, minus one; contribution of V.
    blue: [i16; 2],
    /// Factor of the old V in the new one, minus one; contribution of U.
    red: [i16; 2],
}

impl LinearMap {
    fn new(from: Colour, to: Colour) -> Self {
        let (old, new) = (from.scale(), to.scale());
        // Grey stays grey, so the images of the two colour differences determine the whole map.
        let [of_blue, of_red] = [(1.0, 0.0), (0.0, 1.0)]
            .map(|(blue, red)| to.matrix.analyse(from.matrix.synthesise(blue, red)));
        let parts = |factor: f32| (factor * 512.0).round() as i16;
        let (luma, tint, chroma) = (
            new.luma / old.luma,
            new.luma / old.chroma,
            new.chroma / old.chroma,
        );
        Self {
            black: old.black,
            new_black: new.black,
            luma: parts(luma - 1.0),
            tint: [parts(of_blue[0] * tint), parts(of_red[0] * tint)],
            blue: [parts(of_blue[1] * chroma - 1.0), parts(of_red[1] * chroma)],
            red: [parts(of_red[2] * chroma - 1.0), parts(of_blue[2] * chroma)],
        }
    }
}

/// Computes one colour difference from its old value and the other one.
fn convert_chroma(own: &[u8], other: &[u8], [factor, from_other]: [i16; 2], to: &mut [u8]) {
    for ((&own, &other), to) in own.iter().zip(other).zip(to) {
        let (own, other) = (i16::from(own) - 128, i16::from(other) - 128);
        *to = level((own << 3) + eighths(own * factor + other * from_other), 128);
    }
}

/// Contribution of chroma to the two neighbouring luma samples that share it, in eighths of a level.
fn chroma_offsets(blue: &[u8], red: &[u8], [from_blue, from_red]: [i16; 2], to: &mut [i16]) {
    for ((&blue, &red), pair) in blue.iter().zip(red).zip(to.chunks_exact_mut(2)) {
        pair.fill(eighths(
            (i16::from(blue) - 128) * from_blue + (i16::from(red) - 128) * from_red,
        ));
    }
}

fn convert_luma(luma: &[u8], tint: &[i16], terms: &LinearMap, to: &mut [u8]) {
    let LinearMap {
        black,
        new_black,
        luma: factor,
        ..
    } = *terms;
    for ((&luma, &tint), to) in luma.iter().zip(tint).zip(to) {
        let luma = i16::from(luma) - black;
        *to = level((luma << 3) + eighths(luma * factor) + tint, new_black);
    }
}

/// Converts 1/512 units to eighths, rounded.
fn eighths(parts: i16) -> i16 {
    (parts + 32) >> 6
}

fn level(eighths: i16, zero: i16) -> u8 {
    (((eighths + 4) >> 3) + zero).clamp(0, 255) as u8
}

/// Black level, and the number of levels of luma and of chroma.
struct Scale {
    black: i16,
    luma: f32,
    chroma: f32,
}

impl Colour {
    fn scale(self) -> Scale {
        match self.range {
            Range::Limited => Scale {
                black: 16,
                luma: 219.0,
                chroma: 224.0,
            },
            Range::Full => Scale {
                black: 0,
                luma: 255.0,
                chroma: 255.0,
            },
        }
    }
}

impl Matrix {
    /// Weights of red and blue in Y.
    fn shares(self) -> (f32, f32) {
        match self {
            Self::Bt601 => (0.299, 0.114),
            Self::Bt709 => (0.2126, 0.0722),
            Self::Bt2020 => (0.2627, 0.0593),
        }
    }

    /// Red, green and blue of a colour difference at Y = 0.
    fn synthesise(self, blue: f32, red: f32) -> [f32; 3] {
        let (of_red, of_blue) = self.shares();
        let (r, b) = (2.0 * (1.0 - of_red) * red, 2.0 * (1.0 - of_blue) * blue);
        [r, -(of_red * r + of_blue * b) / (1.0 - of_red - of_blue), b]
    }

    /// Y and the colour differences, blue first, of red, green and blue.
    fn analyse(self, [r, g, b]: [f32; 3]) -> [f32; 3] {
        let (of_red, of_blue) = self.shares();
        let y = of_red * r + (1.0 - of_red - of_blue) * g + of_blue * b;
        [
            y,
            (b - y) / (2.0 * (1.0 - of_blue)),
            (r - y) / (2.0 * (1.0 - of_red)),
        ]
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    const ALL: [Colour; 6] = {
        const fn of(range: Range, matrix: Matrix) -> Colour {
            Colour { range, matrix }
        }
        [
            of(Range::Limited, Matrix::Bt601),
            of(Range::Limited, Matrix::Bt709),
            of(Range::Limited, Matrix::Bt2020),
            of(Range::Full, Matrix::Bt601),
            of(Range::Full, Matrix::Bt709),
            of(Range::Full, Matrix::Bt2020),
        ]
    };

    /// A frame of one colour.
    fn flat(levels: [u8; 3]) -> I420Image {
        let mut image = I420Image::new(34, 2).unwrap();
        for (plane, level) in image.planes_mut().into_iter().zip(levels) {
            plane.fill(level);
        }
        image
    }

    fn through(levels: [u8; 3], from: Colour, to: Colour) -> [u8; 3] {
        let mut into = I420Image::new(34, 2).unwrap();
        convert(flat(levels).view(), from, to, &mut into);
        let view = into.view();
        std::array::from_fn(|plane| {
            let samples = view.plane(plane);
            assert!(samples.iter().all(|sample| *sample == samples[0]));
            samples[0]
        })
    }

    /// Levels of red, green and blue (0 to 1), computed directly from the definitions.
    fn levels(colour: Colour, rgb: [f32; 3]) -> [u8; 3] {
        let (scale, [y, u, v]) = (colour.scale(), colour.matrix.analyse(rgb));
        [
            (y, scale.luma, f32::from(scale.black)),
            (u, scale.chroma, 128.0),
            (v, scale.chroma, 128.0),
        ]
        .map(|(value, scale, zero)| (value * scale + zero).round().clamp(0.0, 255.0) as u8)
    }

    #[test]
    fn white_black_and_grey_land_where_the_range_says() {
        for matrix in [Matrix::Bt601, Matrix::Bt709, Matrix::Bt2020] {
            let limited = Colour {
                range: Range::Limited,
                matrix,
            };
            assert_eq!(
                through([235, 128, 128], limited, Colour::JPEG),
                [255, 128, 128]
            );
            assert_eq!(
                through([16, 128, 128], limited, Colour::JPEG),
                [0, 128, 128]
            );
            assert_eq!(through([0, 128, 128], limited, Colour::JPEG), [0, 128, 128]);
            assert_eq!(
                through([255, 128, 128], limited, Colour::JPEG),
                [255, 128, 128]
            );
        }
        assert_eq!(
            through([255, 128, 128], Colour::JPEG, Colour::VIDEO),
            [235, 128, 128]
        );
        assert_eq!(
            through([0, 128, 128], Colour::JPEG, Colour::VIDEO),
            [16, 128, 128]
        );
    }

    #[test]
    fn no_product_leaves_its_16_bits() {
        for (from, to) in ALL.into_iter().flat_map(|from| ALL.map(|to| (from, to))) {
            let terms = LinearMap::new(from, to);
            for sum in [terms.tint, terms.blue, terms.red, [terms.luma, 0]]
                .map(|two| two[0].abs() + two[1].abs())
            {
                assert!(
                    i32::from(sum) * 128 + 32 <= 32_767,
                    "{sum} from {from:?} to {to:?}"
                );
            }
            assert!(
                i32::from(terms.luma.abs()) * 255 + 32 <= 32_767,
                "{from:?} to {to:?}"
            );
        }
    }

    #[test]
    fn every_colour_keeps_its_red_green_and_blue() {
        for from in ALL {
            for to in ALL {
                for step in 0..125 {
                    let rgb = [step % 5, step / 5 % 5, step / 25].map(|part| part as f32 / 4.0);
                    let (got, want) = (through(levels(from, rgb), from, to), levels(to, rgb));
                    let close = got
                        .iter()
                        .zip(&want)
                        .all(|(got, want)| got.abs_diff(*want) <= 2);
                    assert!(
                        close,
                        "{rgb:?} from {from:?} to {to:?}: {got:?}, not {want:?}"
                    );
                }
            }
        }
    }
}
