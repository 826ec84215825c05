//! Checks the composition offsets (presentation time minus decode time) that a source states.
//!
//! A single wrong presentation time would freeze a player that presents frames in order until that time has passed. An
//! offset that no decoder buffer explains is therefore replaced: without reordering by the usual offset of the track,
//! otherwise by the previous plausible one. `stream::Ingest` asks for each video sample, after [`super::timeline`] has
//! given it its decode time.

use super::time::TIMESCALE;

const SECOND: i64 = TIMESCALE as i64;
/// Largest number of frames between the decoding and the presentation of a frame: the decoded picture buffer (H.264
/// A.3.1) and a margin.
const MAX_HELD: i64 = 20;
/// A source with irregular intervals may show a pause in the presentation time of a frame before it shows in the decode
/// times. An offset may exceed [`MAX_HELD`] steps by this many ticks.
const PAUSE: i64 = 3 * SECOND;
/// Without reordering, offsets may differ from the usual one by half a step and this many ticks.
const TOLERANCE: i64 = SECOND * 60 / 1000;
/// Number of frames after which the usual offset is final. Before that, as many deviating frames in a row replace it.
const SETTLED_FRAMES: u32 = 25;

/// The composition offsets of one track, in ticks of [`TIMESCALE`].
#[derive(Debug, Default)]
pub struct Offsets {
    /// Last plausible offset; smoothed if the stream does not reorder frames.
    usual: Option<i64>,
    agreed: u32,
    deviating: u32,
}

/// Result of checking a presentation time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offset {
    /// Presentation time minus decode time.
    pub ticks: i32,
    /// The source stated an implausible offset, which was replaced.
    pub replaced: bool,
}

impl Offsets {
    /// Returns the offset of the next frame. `stated` is the offset that the source states, `None` if it states none.
    /// `reorder` is the number of frames that may precede another in decoding order and follow it in output order, if
    /// known. `step` is the number of ticks between frames.
    pub fn place(&mut self, stated: Option<i64>, reorder: Option<u8>, step: u64) -> Offset {
        let step = i64::try_from(step).unwrap_or(SECOND).min(10 * SECOND);
        let in_order = reorder == Some(0);
        let Some(stated) = stated else {
            return Offset::of(self.usual.filter(|_| in_order).unwrap_or(0), false);
        };
        let possible = stated >= -MAX_HELD * step && stated <= MAX_HELD * step + PAUSE;
        let usual = match (self.usual, in_order) {
            (Some(usual), true) => {
                let near = stated.saturating_sub(usual).saturating_abs() <= step / 2 + TOLERANCE;
                near || (self.deviating >= SETTLED_FRAMES && self.agreed < SETTLED_FRAMES)
            }
            _ => true,
        };
        if possible && usual {
            // Smoothed, so that an offset that grows steadily does not pull the usual offset with it.
            let before = self
                .usual
                .filter(|_| in_order && self.deviating < SETTLED_FRAMES);
            self.usual = Some(before.map_or(stated, |before| before + (stated - before) / 8));
            self.agreed = self.agreed.saturating_add(1);
            self.deviating = 0;
            return Offset::of(stated, false);
        }
        self.deviating = self.deviating.saturating_add(1);
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

    fn run(reorder: Option<u8>, stated: &[i64]) -> Vec<(i32, bool)> {
        let mut offsets = Offsets::default();
        let placed = stated.iter().map(|stated| {
            let offset = offsets.place(Some(*stated), reorder, STEP);
            (offset.ticks, offset.replaced)
        });
        placed.collect()
    }

    #[test]
    fn without_reordering_one_deviating_frame_is_presented_as_the_others_are() {
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
        let stated: Vec<i64> = (0..10).map(|nth| -7200 * nth).collect();
        let placed = run(Some(0), &[&stated[..], &[0; 10]].concat());
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
