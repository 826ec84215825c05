//! Lettering of the test pattern: strokes on a small grid, rasterized once to coverage at the required size.
//!
//! On the grid, x is 0 at the left edge of a letter; y is 0 at the top of capitals and digits, 4 at the top of small
//! letters, 12 on the baseline, and 15 at the bottom of a `g`. Strokes have round ends and are 1.5 units wide.

/// Grid units from the top of a capital to the baseline.
pub(super) const CAP: f32 = 12.0;
/// Grid units from the top of a capital to the bottom of the lowest letter, including half a stroke.
const DEPTH: f32 = 16.0;
const STROKE: f32 = 1.5;
const GAP: f32 = 3.5;
/// Grid units that are cut off a corner on either side, at most.
const CUT: f32 = 1.0;

/// Each letter with its width and its strokes. A stroke is a sequence of points, each of two hexadecimal digits, x and
/// y.
const LETTERS: [(char, f32, &str); 25] = [
    ('0', 8.0, "06 02 20 60 82 8a 6c 2c 0a 06"),
    ('1', 8.0, "13 40 4c,1c 7c"),
    ('2', 8.0, "03 01 20 60 82 84 66 0c 8c"),
    ('3', 8.0, "02 20 60 82 84 66 36,66 88 8a 6c 2c 0a"),
    ('4', 8.0, "6c 60 09 89"),
    ('5', 8.0, "70 10 06 25 55 87 8a 6c 2c 0a"),
    ('6', 8.0, "71 50 30 12 05 0a 2c 6c 8a 88 66 26 08"),
    ('7', 8.0, "00 80 3c"),
    ('8', 8.0, "26 04 02 20 60 82 84 66 26 08 0a 2c 6c 8a 88 66"),
    ('9', 8.0, "84 66 26 04 02 20 60 82 87 7a 5c 3c 1b"),
    (':', 1.0, "04 05,0a 0b"),
    ('.', 1.0, "0b 0c"),
    (' ', 3.0, ""),
    ('a', 6.0, "64 6c,66 44 24 06 0a 2c 4c 6a"),
    ('c', 6.0, "65 44 24 06 0a 2c 4c 6b"),
    ('e', 6.0, "08 68 66 44 24 06 0a 2c 4c 6b"),
    ('f', 5.0, "50 30 22 2c,04 44"),
    ('g', 6.0, "64 6d 4f 2f 0e,66 44 24 06 0a 2c 4c 6a"),
    ('i', 0.0, "04 0c,00 01"),
    ('l', 0.0, "00 0c"),
    ('m', 8.0, "04 0c,06 14 34 46 4c,46 54 74 86 8c"),
    ('r', 4.0, "04 0c,07 24 44"),
    ('s', 6.0, "65 44 24 05 07 28 48 69 6b 4c 2c 0b"),
    ('t', 4.0, "10 1a 3c 4c,04 44"),
    ('u', 6.0, "04 0a 2c 4c 6a,64 6c"),
];

/// Coverage of one letter, 0 to 255, row by row.
struct Glyph {
    letter: char,
    /// Width in pixels, including half a stroke on either side.
    width: usize,
    coverage: Vec<u8>,
}

/// All letters at one size.
pub(super) struct Font {
    glyphs: Vec<Glyph>,
    height: usize,
    unit: f32,
}

/// Position of a letter in a text: its left edge in pixels from that of the text, its width, and its coverage.
pub(super) struct PlacedGlyph<'a> {
    pub(super) left: usize,
    pub(super) width: usize,
    pub(super) coverage: &'a [u8],
}

impl Font {
    /// Rasterizes all letters for a grid unit of `unit` pixels; capitals are then 12 times that.
    pub(super) fn new(unit: f32) -> Self {
        let height = (DEPTH * unit).ceil() as usize + 1;
        let glyphs = LETTERS
            .iter()
            .map(|&(letter, width, strokes)| draw(letter, width, strokes, unit, height))
            .collect();
        Self {
            glyphs,
            height,
            unit,
        }
    }

    /// Number of rows of every letter's coverage.
    pub(super) fn height(&self) -> usize {
        self.height
    }

    /// Positions of the letters of a text. A letter that the font lacks leaves a gap.
    pub(super) fn place<'a>(&'a self, text: &'a [u8]) -> impl Iterator<Item = PlacedGlyph<'a>> {
        let mut at = 0.0;
        text.iter().filter_map(move |&byte| {
            let left = at as usize;
            let letter = LETTERS
                .iter()
                .position(|&(letter, ..)| letter == char::from(byte));
            at += (letter.map_or(4.0, |index| LETTERS[index].1) + GAP) * self.unit;
            let glyph = letter.and_then(|index| self.glyphs.get(index))?;
            debug_assert_eq!(glyph.letter, char::from(byte));
            Some(PlacedGlyph {
                left,
                width: glyph.width,
                coverage: &glyph.coverage,
            })
        })
    }
}

/// Width of a text in grid units.
pub(super) fn units(text: &[u8]) -> f32 {
    let width = |byte: u8| {
        LETTERS
            .iter()
            .find(|(letter, ..)| *letter == char::from(byte))
            .map_or(4.0, |found| found.1)
    };
    text.iter().map(|&byte| width(byte) + GAP).sum::<f32>() - GAP
}

fn draw(letter: char, width: f32, strokes: &str, unit: f32, height: usize) -> Glyph {
    let columns = ((width + STROKE) * unit).ceil() as usize + 1;
    let lines: Vec<[(f32, f32); 2]> = strokes.split(',').flat_map(segments).collect();
    let pixels = (0..height).flat_map(|y| (0..columns).map(move |x| (x, y)));
    let coverage = pixels
        .map(|(x, y)| {
            // The grid's origin is half a stroke inside the box.
            let at = (
                (x as f32 + 0.5) / unit - STROKE / 2.0,
                (y as f32 + 0.5) / unit - STROKE / 2.0,
            );
            let nearest = lines
                .iter()
                .map(|line| distance(at, *line))
                .fold(f32::INFINITY, f32::min);
            let inside = (STROKE / 2.0 - nearest) * unit + 0.5;
            (inside.clamp(0.0, 1.0) * 255.0) as u8
        })
        .collect();
    Glyph {
        letter,
        width: columns,
        coverage,
    }
}

fn segments(stroke: &str) -> Vec<[(f32, f32); 2]> {
    let points: Vec<(f32, f32)> = stroke
        .split_ascii_whitespace()
        .filter_map(|point| u8::from_str_radix(point, 16).ok())
        .map(|point| (f32::from(point >> 4), f32::from(point & 15)))
        .collect();
    let points = rounded(&rounded(&points));
    points.windows(2).map(|pair| [pair[0], pair[1]]).collect()
}

/// Cuts the obtuse corners of a stroke. Acute corners and the ends stay where they are.
fn rounded(points: &[(f32, f32)]) -> Vec<(f32, f32)> {
    let towards = |from: (f32, f32), to: (f32, f32)| {
        let length = (to.0 - from.0).hypot(to.1 - from.1);
        let part = (CUT / length).min(0.3);
        (
            from.0 + (to.0 - from.0) * part,
            from.1 + (to.1 - from.1) * part,
        )
    };
    let corners = points.windows(3).flat_map(|three| {
        let [before, at, after] = [three[0], three[1], three[2]];
        let acute =
            (before.0 - at.0) * (after.0 - at.0) + (before.1 - at.1) * (after.1 - at.1) > 0.0;
        if acute {
            [at, at]
        } else {
            [towards(at, before), towards(at, after)]
        }
    });
    points
        .first()
        .copied()
        .into_iter()
        .chain(corners)
        .chain(points.last().copied())
        .collect()
}

fn distance(at: (f32, f32), [from, to]: [(f32, f32); 2]) -> f32 {
    let (along, across) = (to.0 - from.0, to.1 - from.1);
    let length = (along * along + across * across).max(f32::MIN_POSITIVE);
    let part = (((at.0 - from.0) * along + (at.1 - from.1) * across) / length).clamp(0.0, 1.0);
    (at.0 - from.0 - part * along).hypot(at.1 - from.1 - part * across)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn every_letter_is_drawn_and_none_like_another() {
        let font = Font::new(2.0);
        for (index, glyph) in font.glyphs.iter().enumerate() {
            assert_eq!(
                glyph.coverage.len(),
                glyph.width * font.height,
                "{}",
                glyph.letter
            );
            assert_eq!(
                glyph.coverage.contains(&255),
                glyph.letter != ' ',
                "{}",
                glyph.letter
            );
            assert!(
                font.glyphs[..index]
                    .iter()
                    .all(|other| other.coverage != glyph.coverage),
                "{}",
                glyph.letter
            );
        }
    }

    #[test]
    fn strokes_are_runs_of_points_on_the_grid() {
        for (letter, width, strokes) in LETTERS {
            for point in strokes.split([',', ' ']).filter(|point| !point.is_empty()) {
                let value = u8::from_str_radix(point, 16).unwrap();
                assert!(
                    point.len() == 2 && f32::from(value >> 4) <= width,
                    "{letter}: {point}"
                );
            }
        }
    }
}
