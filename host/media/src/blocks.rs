//! The block code: numbers that are painted into the frame as rows of black and white cells.
//!
//! Whoever sees the video, through any codec and scaling, can tell which frame it is and when it was made. The test
//! pattern paints the code; tests and the latency page read it.
//!
//! A row has 32 cells over the full width: 24 bits of value, then a CRC-8 over its three bytes, most significant bit
//! first, white for 1. A row is a twelfth of the frame's height. [`Row::Number`] is at the bottom, [`Row::Clock`]
//! directly above it.

/// Cells per row: 24 bits of value and 8 bits of CRC.
pub const CELLS: usize = 32;
/// Values are taken modulo this.
pub const MODULUS: u32 = 1 << 24;
/// Height of the frame divided by the height of a row.
const ROWS: usize = 12;
const WHITE: u8 = 235;
const BLACK: u8 = 16;

/// Selects one of the two rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Row {
    /// The bottom row: number of the frame, counted from 0 when the source starts.
    Number,
    /// The row above: Unix time in milliseconds at which the frame was made.
    Clock,
}

/// Paints `value` modulo 2²⁴ into a luma plane in limited range. Does nothing if the frame is narrower than 64 or lower
/// than 12 pixels, or if the plane is too short.
pub fn paint(plane: &mut [u8], stride: usize, width: usize, height: usize, row: Row, value: u32) {
    let Some((top, bottom)) = span(plane.len(), stride, width, height, row) else {
        return;
    };
    let word = codeword(value);
    let lines = &mut plane[top * stride..];
    let (first, rest) = lines.split_at_mut(stride.min(lines.len()));
    for cell in 0..CELLS {
        let white = word >> (CELLS - 1 - cell) & 1 == 1;
        first[edge(cell, width)..edge(cell + 1, width)].fill(if white { WHITE } else { BLACK });
    }
    for line in rest.chunks_mut(stride).take(bottom - top - 1) {
        line[..width].copy_from_slice(&first[..width]);
    }
}

/// Reads the value of a row from a luma plane in limited or full range. `None` if the CRC does not match.
pub fn read(luma: &[u8], stride: usize, width: usize, height: usize, row: Row) -> Option<u32> {
    let (top, bottom) = span(luma.len(), stride, width, height, row)?;
    let (top, bottom) = middle(top, bottom);
    let word = (0..CELLS).fold(0u32, |word, cell| {
        let (left, right) = middle(edge(cell, width), edge(cell + 1, width));
        let sum: u64 = (top..bottom)
            .flat_map(|y| &luma[y * stride + left..y * stride + right])
            .map(|&sample| u64::from(sample))
            .sum();
        let count = ((bottom - top) * (right - left)) as u64;
        word << 1 | u32::from(sum >= 128 * count)
    });
    (codeword(word >> 8) == word).then_some(word >> 8)
}

/// First line of a row and the line after its last, if the plane contains them.
fn span(
    len: usize,
    stride: usize,
    width: usize,
    height: usize,
    row: Row,
) -> Option<(usize, usize)> {
    let tall = height / ROWS;
    let bottom = match row {
        Row::Number => height,
        Row::Clock => height - tall,
    };
    let end = (bottom.checked_sub(1)?)
        .checked_mul(stride)?
        .checked_add(width)?;
    (width >= 2 * CELLS && tall >= 1 && stride >= width && len >= end)
        .then_some((bottom - tall, bottom))
}

/// Column of the left edge of a cell.
fn edge(cell: usize, width: usize) -> usize {
    cell * width / CELLS
}

/// The middle half of a range; never empty.
fn middle(from: usize, to: usize) -> (usize, usize) {
    let margin = (to - from) / 4;
    (from + margin, to - margin)
}

fn codeword(value: u32) -> u32 {
    let [_, data @ ..] = (value % MODULUS).to_be_bytes();
    (value % MODULUS) << 8 | u32::from(crc8(data))
}

/// CRC-8: polynomial 0x07, initial value 0xFF, not reflected, no final xor.
fn crc8(data: [u8; 3]) -> u8 {
    data.into_iter().fold(0xFF, |crc, byte| {
        (0..8).fold(crc ^ byte, |crc, _| {
            if crc & 0x80 != 0 {
                crc << 1 ^ 0x07
            } else {
                crc << 1
            }
        })
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;

    /// Scales by averaging areas, as a scaler does.
    fn scale(
        from: &[u8],
        (width, height): (usize, usize),
        (to_width, to_height): (usize, usize),
    ) -> Vec<u8> {
        let mut to = Vec::with_capacity(to_width * to_height);
        for y in 0..to_height {
            let (top, bottom) = (
                y * height / to_height,
                ((y + 1) * height).div_ceil(to_height),
            );
            for x in 0..to_width {
                let (left, right) = (x * width / to_width, ((x + 1) * width).div_ceil(to_width));
                let sum: usize = (top..bottom)
                    .flat_map(|y| &from[y * width + left..y * width + right])
                    .map(|&v| usize::from(v))
                    .sum();
                to.push((sum / ((bottom - top) * (right - left))) as u8);
            }
        }
        to
    }

    #[test]
    fn the_crc_is_the_one_the_page_uses() {
        for (data, crc) in [
            ([0, 0, 0], 0x2B),
            ([1, 2, 3], 0x63),
            ([0xAB, 0xCD, 0xEF], 0x08),
        ] {
            assert_eq!(crc8(data), crc, "{data:?}");
        }
        assert_eq!(codeword(MODULUS + 0x01_02_03), 0x0102_0363);
    }

    #[test]
    fn a_damaged_bit_gives_no_number() {
        let (width, height) = (320, 180);
        let mut plane = vec![0; width * height];
        paint(&mut plane, width, width, height, Row::Number, 0xABCDEF);
        assert_eq!(
            read(&plane, width, width, height, Row::Number),
            Some(0xABCDEF)
        );
        for cell in 0..CELLS {
            let mut damaged = plane.clone();
            for y in height - height / ROWS..height {
                for sample in
                    &mut damaged[y * width + edge(cell, width)..y * width + edge(cell + 1, width)]
                {
                    *sample = 255 - *sample;
                }
            }
            assert_eq!(read(&damaged, width, width, height, Row::Number), None);
        }
    }

    #[test]
    fn frames_too_small_or_planes_too_short_are_left_alone() {
        for (len, stride, width, height) in [
            (0, 0, 0, 0),
            (63 * 64, 63, 63, 64),
            (64 * 11, 64, 64, 11),
            (64 * 24 - 1, 64, 64, 24),
            (64 * 24, 32, 64, 24),
        ] {
            let mut plane = vec![7; len];
            paint(&mut plane, stride, width, height, Row::Number, 1);
            assert!(plane.iter().all(|&sample| sample == 7));
            assert_eq!(read(&plane, stride, width, height, Row::Number), None);
        }
    }

    #[test]
    fn an_even_frame_holds_no_number() {
        for luma in [0, 16, 128, 235, 255] {
            assert_eq!(
                read(&vec![luma; 320 * 180], 320, 320, 180, Row::Number),
                None,
                "luma {luma}"
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_painted_is_read_after_padding(
            width in 64usize..700, height in 12usize..400, padding in 0usize..40, number: u32, clock: u32,
        ) {
            let stride = width + padding;
            let mut plane = vec![90; stride * height];
            paint(&mut plane, stride, width, height, Row::Number, number);
            paint(&mut plane, stride, width, height, Row::Clock, clock);
            prop_assert_eq!(read(&plane, stride, width, height, Row::Number), Some(number % MODULUS));
            prop_assert_eq!(read(&plane, stride, width, height, Row::Clock), Some(clock % MODULUS));
        }

        #[test]
        fn what_is_painted_is_read_after_scaling_and_noise(
            width in 320usize..1300, height in 180usize..740, across in 320usize..700, down in 180usize..400,
            number: u32, clock: u32, seed: u64,
        ) {
            let mut plane = vec![90; width * height];
            paint(&mut plane, width, width, height, Row::Number, number);
            paint(&mut plane, width, width, height, Row::Clock, clock);
            let mut scaled = scale(&plane, (width, height), (across, down));
            let mut noise = seed | 1;
            for sample in &mut scaled {
                noise ^= noise << 13;
                noise ^= noise >> 7;
                noise ^= noise << 17;
                *sample = sample.saturating_add_signed((noise % 101) as i8 - 50);
            }
            prop_assert_eq!(read(&scaled, across, across, down, Row::Number), Some(number % MODULUS));
            prop_assert_eq!(read(&scaled, across, across, down, Row::Clock), Some(clock % MODULUS));
        }
    }
}
