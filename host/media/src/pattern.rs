//! The test pattern: generated video for users without a camera, with a title, a running UTC clock, the frame number,
//! and the block code ([`super::blocks`]) that tests and the player read.
//!
//! Waves and a ball move with the clock, so that they have the same speed at any frame rate. Whatever does not change
//! from one frame to the next has the same bytes, so that an encoder spends its bits on the rest. [`Painter`] is used
//! by the test pattern source, by encoder probes and by tests.

mod font;

use self::font::Font;
use super::blocks::{self, Row};
use super::image::{I420Image, I420View, SizeError};

const TITLE: &[u8] = b"sluicegate";
const ZONE: &[u8] = b"utc";
const MS_PER_DAY: u64 = 86_400_000;
/// Steps of the sine table per turn; a power of two.
const TURN: usize = 4096;

/// Y, U, V in limited range.
type Colour = [u8; 3];
const SKY_TOP: Colour = [30, 140, 122];
const SKY_FOOT: Colour = [92, 146, 112];
const TEXT: Colour = [228, 128, 128];
const TITLE_TEXT: Colour = [196, 138, 112];
const BALL: Colour = [176, 74, 168];
const BAR: Colour = [150, 118, 96];

/// The waves, back to front: colour; height of the crest above the bottom of the water, and amplitude, both in parts of
/// the water's height; number of waves across the frame; turns per [`CYCLE_MS`].
const WAVES: [(Colour, f32, f32, f32, f32); 3] = [
    ([112, 148, 98], 0.80, 0.10, 1.25, 11.0),
    ([84, 152, 94], 0.58, 0.09, 1.75, -16.0),
    ([58, 152, 100], 0.36, 0.08, 2.50, 23.0),
];
/// Subdivisions of a pixel for the position of a crest: as fine as 16 bits allow for the tallest frame.
const QUARTERS: f32 = 4.0;
/// Period of all movement, in milliseconds.
const CYCLE_MS: u64 = 60_000;

/// Paints frames of one size. A frame depends only on its number and its time.
pub struct Painter {
    image: I420Image,
    background: I420Image,
    sine: Vec<f32>,
    clock: Font,
    counter: Font,
    water: Water,
}

/// Buffers for the surface of the water: for each wave and column, the line of the crest in quarters of a pixel.
struct Water {
    top: usize,
    bottom: usize,
    luma: [Vec<i16>; 3],
    chroma: [Vec<i16>; 3],
}

impl Painter {
    /// Creates a painter for frames of even width and height, at least 64×24.
    pub fn new(width: u32, height: u32) -> Result<Self, SizeError> {
        if width < 64 || height < 24 {
            return Err(SizeError::Unsupported { width, height });
        }
        let mut background = I420Image::new(width, height)?;
        paint_sky(&mut background);
        let (across, down) = (width as f32, height as f32);
        let unit = |text: &[u8], share: f32, part: f32| {
            (across * share / font::units(text)).min(down * part / font::CAP)
        };
        let clock_unit = unit(b"00:00:00.000", 0.72, 0.15);
        let counter_unit = unit(b"frame 00000000", 0.40, 0.06);
        let (clock, counter) = (Font::new(clock_unit), Font::new(counter_unit));
        let title = Font::new(unit(TITLE, 0.30, 0.07));
        let (left, top) = ((across * 0.04) as usize, (down * 0.06) as usize);
        write(&mut background, &title, TITLE, left, top, TITLE_TEXT);
        let size = (width as usize, height as usize);
        let (left, line) = text_at(size);
        let right = left as f32 + font::units(b"00:00:00.000") * clock_unit
            - font::units(ZONE) * counter_unit;
        write(
            &mut background,
            &counter,
            ZONE,
            right as usize,
            line[1],
            TITLE_TEXT,
        );
        Ok(Self {
            image: background.clone(),
            background,
            sine: (0..TURN)
                .map(|step| (step as f32 / TURN as f32 * std::f32::consts::TAU).sin())
                .collect(),
            clock,
            counter,
            water: Water {
                // Even, so that luma and chroma agree on where it starts.
                top: size.1 * 60 / 100 / 2 * 2,
                bottom: size.1 - 2 * (size.1 / 12),
                luma: std::array::from_fn(|_| vec![0; size.0]),
                chroma: std::array::from_fn(|_| vec![0; size.0 / 2]),
            },
        })
    }

    /// Paints frame `frame_number` at `unix_ms`, in milliseconds since 1970 UTC.
    pub fn paint(&mut self, frame_number: u64, unix_ms: u64) -> I420View<'_> {
        let from = self.background.view();
        for (index, plane) in self.image.planes_mut().into_iter().enumerate() {
            plane.copy_from_slice(from.plane(index));
        }
        let turn = (unix_ms % CYCLE_MS) as f32 / CYCLE_MS as f32;
        self.paint_ball(unix_ms, turn);
        self.paint_water(turn);
        self.paint_text(frame_number, unix_ms);
        self.paint_blocks(frame_number, unix_ms);
        self.image.view()
    }

    /// The ball hops over the water, eight times across the frame and back per cycle.
    fn paint_ball(&mut self, unix_ms: u64, turn: f32) {
        let (width, height) = (self.image.width() as f32, self.image.height() as f32);
        let radius = height / 15.0;
        let sway = ((turn * 8.0).fract() * 2.0 - 1.0).abs();
        let hop = self.sine_at((unix_ms % 1_500) as f32 / 3_000.0);
        let centre = (
            radius * 1.5 + sway * (width - radius * 3.0),
            self.water.top as f32 + radius * 0.6 - hop * height * 0.34,
        );
        paint_disc(&mut self.image, centre, radius);
    }

    fn paint_water(&mut self, turn: f32) {
        let Self {
            image, sine, water, ..
        } = self;
        let width = image.width() as usize;
        let tall = (water.bottom - water.top) as f32;
        for (index, &(_, crest, swing, waves, turns)) in WAVES.iter().enumerate() {
            let foot = water.top as f32 + tall * (1.0 - crest);
            for (x, line) in water.luma[index].iter_mut().enumerate() {
                let phase = (x as f32 / width as f32)
                    .mul_add(waves, turn * turns)
                    .rem_euclid(1.0);
                *line = ((foot + tall * swing * sine[(phase * TURN as f32) as usize % TURN])
                    * QUARTERS) as i16;
            }
            for (x, line) in water.chroma[index].iter_mut().enumerate() {
                *line = water.luma[index][2 * x] / 2;
            }
        }
        for (index, plane) in image.planes_mut().into_iter().enumerate() {
            let (stride, top, bottom, crests) = match index {
                0 => (width, water.top, water.bottom, &water.luma),
                _ => (width / 2, water.top / 2, water.bottom / 2, &water.chroma),
            };
            for y in top..bottom {
                let row = &mut plane[y * stride..][..stride];
                for (crest, (colour, ..)) in crests.iter().zip(&WAVES) {
                    cover(row, crest, y as i16, i16::from(colour[index]));
                }
            }
        }
    }

    fn paint_text(&mut self, frame_number: u64, unix_ms: u64) {
        let (width, height) = (self.image.width() as usize, self.image.height() as usize);
        let (left, line) = text_at((width, height));
        write(
            &mut self.image,
            &self.clock,
            &clock_text(unix_ms),
            left,
            line[0],
            TEXT,
        );
        let counter = format!("frame {frame_number:06}");
        write(
            &mut self.image,
            &self.counter,
            counter.as_bytes(),
            left,
            line[1],
            TEXT,
        );
        // A bar that grows through each second: even movement makes stutter visible.
        let (top, bottom) = (
            self.water.bottom.saturating_sub(height / 90) / 2 * 2,
            self.water.bottom / 2 * 2,
        );
        let right = ((unix_ms % 1_000) as usize * width / 1_000) / 2 * 2;
        for (index, plane) in self.image.planes_mut().into_iter().enumerate() {
            let shift = usize::from(index != 0);
            for row in plane
                .chunks_mut(width >> shift)
                .take(bottom >> shift)
                .skip(top >> shift)
            {
                row[..right >> shift].fill(BAR[index]);
            }
        }
    }

    fn paint_blocks(&mut self, frame_number: u64, unix_ms: u64) {
        let (width, height) = (self.image.width() as usize, self.image.height() as usize);
        let [luma, chroma @ ..] = self.image.planes_mut();
        for (row, value) in [(Row::Number, frame_number), (Row::Clock, unix_ms)] {
            blocks::paint(
                luma,
                width,
                width,
                height,
                row,
                (value % u64::from(blocks::MODULUS)) as u32,
            );
        }
        for plane in chroma {
            plane[self.water.bottom / 2 * (width / 2)..].fill(128);
        }
    }

    /// Sine of `turns` full turns, which must not be negative.
    fn sine_at(&self, turns: f32) -> f32 {
        self.sine[(turns.fract() * TURN as f32) as usize % TURN]
    }
}

/// Left edge of clock and counter, and the top line of each.
fn text_at((width, height): (usize, usize)) -> (usize, [usize; 2]) {
    (width * 14 / 100, [height * 24 / 100, height * 46 / 100])
}

fn paint_sky(image: &mut I420Image) {
    let (width, height) = (image.width() as usize, image.height() as usize);
    for (index, plane) in image.planes_mut().into_iter().enumerate() {
        let shift = usize::from(index != 0);
        let (columns, rows) = (width >> shift, height >> shift);
        let (top, foot) = (f32::from(SKY_TOP[index]), f32::from(SKY_FOOT[index]));
        for (y, row) in plane.chunks_mut(columns).enumerate() {
            for (x, sample) in row.iter_mut().enumerate() {
                let down = y as f32 / rows as f32;
                let across = x as f32 / columns as f32;
                *sample = (top + (foot - top) * (down * 0.85 + across * 0.15)) as u8;
            }
        }
    }
}

fn paint_disc(image: &mut I420Image, (x, y): (f32, f32), radius: f32) {
    let (width, height) = (image.width() as usize, image.height() as usize);
    for (index, plane) in image.planes_mut().into_iter().enumerate() {
        let scale = if index == 0 { 1.0 } else { 0.5 };
        let shift = usize::from(index != 0);
        let (columns, rows) = (width >> shift, height >> shift);
        let (x, y, radius) = (x * scale, y * scale, radius * scale);
        // Casts from float saturate at zero.
        let (left, right) = (
            (x - radius) as usize,
            ((x + radius) as usize + 2).min(columns),
        );
        let (top, bottom) = ((y - radius) as usize, ((y + radius) as usize + 2).min(rows));
        for (line, row) in plane.chunks_mut(columns).enumerate().take(bottom).skip(top) {
            for (column, sample) in row.iter_mut().enumerate().take(right).skip(left) {
                let (across, down) = (column as f32 + 0.5 - x, line as f32 + 0.5 - y);
                let inside = (radius - across.hypot(down) + 0.5).clamp(0.0, 1.0);
                let lit = if index == 0 {
                    (across + down) / radius * -28.0
                } else {
                    0.0
                };
                let was = f32::from(*sample);
                *sample = (was + (f32::from(BALL[index]) + lit - was) * inside) as u8;
            }
        }
    }
}

/// Fills the part of row `y` that is below a crest.
fn cover(row: &mut [u8], crest: &[i16], y: i16, colour: i16) {
    for (sample, &crest) in row.iter_mut().zip(crest) {
        let under = (4 * (y + 1) - crest).clamp(0, 4);
        let was = i16::from(*sample);
        *sample = (was + (((colour - was) * under) >> 2)) as u8;
    }
}

/// Blends a text into the frame; parts outside the frame are clipped.
fn write(image: &mut I420Image, font: &Font, text: &[u8], left: usize, top: usize, colour: Colour) {
    let width = image.width() as usize;
    let [luma, mut chroma @ ..] = image.planes_mut();
    for letter in font.place(text) {
        let left = left + letter.left;
        let visible = letter.width.min(width.saturating_sub(left));
        if visible == 0 {
            return;
        }
        let lines = || {
            letter
                .coverage
                .chunks(letter.width)
                .take(font.height())
                .enumerate()
        };
        for (line, coverage) in lines() {
            let Some(row) = luma.chunks_mut(width).nth(top + line) else {
                break;
            };
            for (sample, &part) in row[left..][..visible].iter_mut().zip(coverage) {
                blend(sample, colour[0], part);
            }
        }
        for (plane, value) in chroma.iter_mut().zip(&colour[1..]) {
            for (line, coverage) in lines().filter(|(line, _)| (top + line).is_multiple_of(2)) {
                let Some(row) = plane.chunks_mut(width / 2).nth((top + line) / 2) else {
                    break;
                };
                for (x, &part) in coverage
                    .iter()
                    .enumerate()
                    .take(visible)
                    .filter(|(x, _)| (left + x).is_multiple_of(2))
                {
                    blend(&mut row[(left + x) / 2], *value, part);
                }
            }
        }
    }
}

fn blend(sample: &mut u8, colour: u8, part: u8) {
    let (was, part) = (i32::from(*sample), i32::from(part));
    *sample = (was + (i32::from(colour) - was) * part / 255) as u8;
}

/// `HH:MM:SS.mmm`, UTC.
fn clock_text(unix_ms: u64) -> [u8; 12] {
    let ms = unix_ms % MS_PER_DAY;
    let digit = |value: u64| b'0' + (value % 10) as u8;
    let (seconds, minutes, hours) = (ms / 1_000 % 60, ms / 60_000 % 60, ms / 3_600_000);
    [
        digit(hours / 10),
        digit(hours),
        b':',
        digit(minutes / 10),
        digit(minutes),
        b':',
        digit(seconds / 10),
        digit(seconds),
        b'.',
        digit(ms / 100),
        digit(ms / 10),
        digit(ms),
    ]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn number(view: &I420View<'_>, row: Row) -> Option<u32> {
        blocks::read(
            view.plane(0),
            view.stride(0),
            view.width() as usize,
            view.height() as usize,
            row,
        )
    }

    #[test]
    fn the_numbers_are_in_the_frame_at_every_size() {
        for (width, height) in [
            (64, 24),
            (320, 180),
            (360, 640),
            (642, 362),
            (1280, 720),
            (64, 8192),
            (8192, 24),
        ] {
            let mut painter = Painter::new(width, height).unwrap();
            for (frame, ms) in [(0, 0), (1, 1_700_000_000_123), (u64::MAX, u64::MAX)] {
                let view = painter.paint(frame, ms);
                assert_eq!(
                    number(&view, Row::Number),
                    Some((frame % (1 << 24)) as u32),
                    "{width}x{height}"
                );
                assert_eq!(
                    number(&view, Row::Clock),
                    Some((ms % (1 << 24)) as u32),
                    "{width}x{height}"
                );
            }
        }
    }

    #[test]
    fn a_frame_depends_on_its_number_and_time_only() {
        let (mut one, mut other) = (
            Painter::new(320, 180).unwrap(),
            Painter::new(320, 180).unwrap(),
        );
        for frame in 0..40 {
            one.paint(frame, frame * 331);
        }
        let (one, other) = (one.paint(7, 123_456_789), other.paint(7, 123_456_789));
        assert!((0..3).all(|plane| one.plane(plane) == other.plane(plane)));
    }

    #[test]
    fn samples_stay_in_limited_range_around_the_clock() {
        let mut painter = Painter::new(128, 72).unwrap();
        for step in 0..CYCLE_MS / 50 {
            let view = painter.paint(step, step * 50);
            assert!(
                view.plane(0).iter().all(|luma| (16..=235).contains(luma)),
                "at {} ms",
                step * 50
            );
            assert!(
                view.plane(1)
                    .iter()
                    .chain(view.plane(2))
                    .all(|chroma| (16..=240).contains(chroma))
            );
        }
    }

    #[test]
    fn the_clock_reads_as_utc() {
        assert_eq!(&clock_text(0), b"00:00:00.000");
        assert_eq!(&clock_text(1_700_000_000_123), b"22:13:20.123");
        assert_eq!(&clock_text(MS_PER_DAY - 1), b"23:59:59.999");
    }

    #[test]
    fn sizes_without_room_for_the_blocks_are_refused() {
        for (width, height) in [(62, 180), (320, 22), (321, 180), (0, 0), (u32::MAX, 720)] {
            assert!(Painter::new(width, height).is_err(), "{width}x{height}");
        }
    }
}
