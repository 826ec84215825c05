//! Judges how much later than they are decoded pictures are said to be shown. A wrong presentation time of a single picture would
//! freeze whoever shows pictures in order for as long as it is wrong.

use super::time::TIMESCALE;

const SECOND: i64 = TIMESCALE as i64;
/// Pictures that may come between a picture's decoding and its showing: the decoded picture buffer (H.264 A.3.1), and a few.
const MAX_HELD: i64 = 20;
/// Where distances are uneven, the pause before a picture is known by the presentation time first.
const PAUSE: i64 = 3 * SECOND;
/// Beyond half a step, offsets of a stream without reordering differ by no more.
const TOLERANCE: i64 = SECOND * 60 / 1000;
/// After so many pictures an offset is the usual one for good; until then so many of another take its place.
const USUAL: u32 = 25;

/// The composition offsets of one track, in ticks of [`TIMESCALE`].
#[derive(Debug, Default)]
pub struct Offsets {
    /// What was believed lately; without reordering smoothed.
    usual: Option<i64>,
    agreed: u32,
    strange: u32,
}

/// What becomes of a presentation time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offset {
    /// Presentation minus decode time.
    pub ticks: i32,
    /// The source said something else, which cannot be.
    pub replaced: bool,
}

impl Offsets {
    /// The offset of the next picture, of which the source says `told`; `None` if it says nothing. `reorder`: how many pictures
    /// may precede another in decoding order and follow it in output order, if that is known; `step`: ticks between pictures.
    pub fn place(&mut self, told: Option<i64>, reorder: Option<u8>, step: u64) -> Offset {
        let step = i64::try_from(step).unwrap_or(SECOND).min(10 * SECOND);
        let in_order = reorder == Some(0);
        let Some(told) = told else {
            return Offset::of(self.usual.filter(|_| in_order).unwrap_or(0), false);
        };
        let possible = told >= -MAX_HELD * step && told <= MAX_HELD * step + PAUSE;
        let usual = match (self.usual, in_order) {
            (Some(usual), true) => {
                let near = told.saturating_sub(usual).saturating_abs() <= step / 2 + TOLERANCE;
                near || (self.strange >= USUAL && self.agreed < USUAL)
            }
            _ => true,
        };
        if possible && usual {
            // Slowly, lest a time that runs away takes it along.
            let before = self.usual.filter(|_| in_order && self.strange < USUAL);
            self.usual = Some(before.map_or(told, |before| before + (told - before) / 8));
            self.agreed = self.agreed.saturating_add(1);
            self.strange = 0;
            return Offset::of(told, false);
        }
        self.strange = self.strange.saturating_add(1);
        Offset::of(self.usual.unwrap_or(0), true)
    }
}

impl Offset {
    fn of(ticks: i64, replaced: bool) -> Offset {
        Offset {
            ticks: i32::try_from(ticks).unwrap_or(0),
            replaced,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: u64 = 3600;

    fn run(reorder: Option<u8>, told: &[i64]) -> Vec<(i32, bool)> {
        let mut offsets = Offsets::default();
        let placed = told.iter().map(|told| {
            let offset = offsets.place(Some(*told), reorder, STEP);
            (offset.ticks, offset.replaced)
        });
        placed.collect()
    }

    #[test]
    fn without_reordering_one_picture_that_is_off_is_shown_as_the_others_are() {
        for off in [0.5, 2.0, 8.0, 20.0, 3600.0, -0.5, -2.0, -3600.0] {
            let off = (off * 90_000.0) as i64;
            let placed = run(Some(0), &[900, 900, 900 + off, 910, 900]);
            let expected = [
                (900, false),
                (900, false),
                (900, true),
                (910, false),
                (900, false),
            ];
            assert_eq!(placed, expected, "{off}");
        }
    }

    #[test]
    fn without_reordering_an_offset_that_runs_away_takes_nothing_along() {
        let told: Vec<i64> = (0..10).map(|nth| -7200 * nth).collect();
        let placed = run(Some(0), &[&told[..], &[0; 10]].concat());
        assert!(
            placed[3..10].iter().all(|(_, replaced)| *replaced),
            "{placed:?}"
        );
        assert_eq!(placed[10..], [(0, false); 10]);
    }

    #[test]
    fn without_reordering_a_new_offset_counts_only_if_the_first_was_an_exception() {
        let placed = run(Some(0), &[&[45_000; 3][..], &[0; 60]].concat());
        assert_eq!(placed[27], (45_000, true));
        assert_eq!(placed[28..], [(0, false); 35]);
        let placed = run(Some(0), &[[0; 60], [45_000; 60]].concat());
        assert_eq!(placed[60..], [(0, true); 60]);
        let wrong = run(Some(0), &[1 << 40; 100]);
        assert_eq!(wrong, [(0, true); 100]);
    }

    #[test]
    fn reordering_and_pauses_are_left_as_they_are_and_what_no_buffer_holds_is_not() {
        for reorder in [None, Some(2), Some(16)] {
            let usual = [7200, 18_000, 7200, 0, 3600, 16 * 3600, 200_000, -3600];
            let placed = run(reorder, &usual);
            assert!(placed.iter().all(|(_, replaced)| !replaced), "{placed:?}");
            let wrong = [
                7200,
                8 * SECOND,
                0,
                -2 * SECOND,
                3600 * SECOND,
                i64::MAX,
                i64::MIN,
            ];
            let wrong = run(reorder, &wrong)
                .into_iter()
                .map(|(_, replaced)| replaced);
            assert_eq!(
                wrong.collect::<Vec<_>>(),
                [false, true, false, true, true, true, true]
            );
        }
    }
}
