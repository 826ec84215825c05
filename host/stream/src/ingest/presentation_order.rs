//! Presentation times for frames that come without: raw Annex B, `.h264` files, AVI.
//!
//! Picture order counts give the order (ISO/IEC 14496-10 8.2.1), decode times the distance between frames. A frame that
//! is presented after all before it leaves room for those that have to come in between, whose number follows from the
//! counts; each of these is then placed in that room. All are delayed by what the decoder has to hold back for
//! reordering: what the SPS says, or what was observed. Without B-frames nothing is delayed. `ingest` asks for each
//! frame that the source gives no trusted presentation time.

use sluicegate_media::{h264::access_unit::AccessUnit, time::TIMESCALE};
use std::collections::VecDeque;

/// Frames that are remembered. No more can come between a frame and its place (A.3.1), twice that as fields.
const REMEMBERED: usize = 32;
/// Largest reordering depth, in frames.
const MAX_REORDERED: i64 = 16;
/// Frame duration if the rate is unknown, in ticks.
const DEFAULT_STEP: i64 = TIMESCALE as i64 / 25;

/// Determines presentation times from picture order counts.
#[derive(Debug)]
pub struct PresentationOrder {
    /// The newest frames, in decoding order.
    frames: VecDeque<PlacedFrame>,
    /// Difference of picture order counts from one frame to the next in presentation order: 2, or 1.
    step: i64,
    /// Number of frames that the decoder holds back.
    delay: i64,
    /// Whether frames came out of presentation order, or the SPS says that they may.
    reorders: bool,
}

#[derive(Clone, Copy, Debug)]
struct PlacedFrame {
    order: i64,
    decoded: i64,
    shown: i64,
}

impl Default for PresentationOrder {
    fn default() -> PresentationOrder {
        PresentationOrder {
            frames: VecDeque::new(),
            step: 2,
            delay: 0,
            reorders: false,
        }
    }
}

impl PresentationOrder {
    /// Forgets what was learnt, after which nothing about the next frames follows from the previous ones.
    pub fn reset(&mut self) {
        *self = PresentationOrder::default();
    }

    /// Composition offset of the frame `unit`, which is decoded at `decoded`. `frame` is its duration, 0 if unknown.
    /// All are in ticks.
    pub fn offset(&mut self, unit: &AccessUnit, decoded: u64, frame: u32) -> i32 {
        let reorder = unit.parameter_sets.picture.reorder;
        if reorder == Some(0) {
            self.reset();
            return 0;
        }
        if let Some(frames @ 1..) = reorder {
            self.reorders = true;
            self.delay = self.delay.max(frames.into());
        }
        let decoded = i64::try_from(decoded).unwrap_or(i64::MAX);
        let frame = self.frame(decoded, frame);
        if unit.restarts_order {
            // Presentation times keep rising, whatever the counts were.
            let latest = self.frames.iter().map(|frame| frame.shown).max();
            self.frames.clear();
            let shown =
                (decoded + self.delay * frame).max(latest.map_or(i64::MIN, |shown| shown + 1));
            return self.place(unit.order, decoded, shown);
        }
        let before = self.frames.iter().filter(|one| one.order < unit.order);
        let behind = self.frames.iter().filter(|one| one.order > unit.order);
        let before = before.max_by_key(|one| one.order).copied();
        let behind = behind.min_by_key(|one| one.order).copied();
        if let Some(before) = before
            && unit.order - before.order == 1
        {
            self.step = 1;
        }
        // Number of frames that have to come between it and the one before it.
        let between = before.map_or(0, |before| (unit.order - before.order) / self.step - 1);
        let Some(behind) = behind else {
            let between = if self.reorders {
                between.clamp(0, MAX_REORDERED)
            } else {
                0
            };
            let shown = decoded + (between + self.delay) * frame;
            return self.place(unit.order, decoded, after(before, between, shown));
        };
        // Frames that are decoded before it and presented after it have to be held back.
        let held = self.frames.iter().filter(|one| one.order > unit.order);
        self.delay = self.delay.max((held.count() as i64).min(MAX_REORDERED));
        self.reorders = true;
        let earlier = ((behind.order - unit.order) / self.step).clamp(1, MAX_REORDERED);
        let shown = behind.shown - earlier * frame.max(1);
        let shown = after(before, between.clamp(0, MAX_REORDERED), shown);
        // If there is no room, it is presented together with the frame after it.
        self.place(unit.order, decoded, shown.min(behind.shown))
    }

    fn place(&mut self, order: i64, decoded: i64, shown: i64) -> i32 {
        if self.frames.len() >= REMEMBERED {
            self.frames.pop_front();
        }
        self.frames.push_back(PlacedFrame {
            order,
            decoded,
            shown,
        });
        i32::try_from(shown - decoded).unwrap_or(0)
    }

    /// Duration of a frame: the declared one, or else the average distance of the last ones.
    fn frame(&self, decoded: i64, said: u32) -> i64 {
        let count = self.frames.len() as i64;
        match (said, self.frames.front()) {
            (1.., _) => said.into(),
            (0, Some(oldest)) if count > 1 => ((decoded - oldest.decoded) / count).max(1),
            _ => DEFAULT_STEP,
        }
    }
}

/// `shown`, or the earliest time after `before` that leaves each of the `between` frames a tick.
fn after(before: Option<PlacedFrame>, between: i64, shown: i64) -> i64 {
    before.map_or(shown, |before| shown.max(before.shown + 1 + between))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;
    use sluicegate_media::h264::{
        access_unit::Assembler,
        testing::{PpsOptions, SliceOptions, SpsOptions},
    };

    const FRAME: u32 = 3600;

    /// Access units with these picture order counts, of which 0 is an IDR frame. `step` is the difference from one
    /// frame to the next.
    fn units(shown: &[i32], step: i32) -> Vec<AccessUnit> {
        let (sps, pps) = (SpsOptions::default(), PpsOptions::default());
        let mut assembler = Assembler::default();
        let mut out = Vec::new();
        for unit in [sps.nal(), pps.nal()] {
            out.extend(assembler.push(unit));
        }
        for at in shown {
            let options = SliceOptions {
                idr: *at == 0,
                // No frame is a reference, so `frame_num` does not matter.
                ref_idc: u8::from(*at == 0),
                slice_type: 2,
                order: [at * step % 16, 0],
                frame_num: u32::from(*at != 0),
                ..SliceOptions::default()
            };
            // The upper bits of the counts follow from reference frames, so all counts here are close to the IDR
            // frame's.
            assert!(at * step < 8, "{at}");
            out.extend(assembler.push(options.nal(&sps, &pps)));
        }
        out.extend(assembler.flush());
        assert_eq!(out.len(), shown.len());
        out
    }

    /// When these are presented, in frames, if they are decoded one frame apart from `start` on.
    fn shown(units: &[AccessUnit], start: i64, presentation: &mut PresentationOrder) -> Vec<i64> {
        let frame = i64::from(FRAME);
        let times = units.iter().zip(start..).map(|(unit, nth)| {
            let decoded = nth * frame;
            decoded + i64::from(presentation.offset(unit, decoded as u64, FRAME))
        });
        times.map(|time| time / frame).collect()
    }

    #[test]
    fn frames_are_one_duration_apart_in_presentation_order() {
        for (what, step, order, delay, expected) in [
            ("in order", 2, &[0, 1, 2, 3][..], 0, &[0, 1, 2, 3][..]),
            ("B-frames", 2, &[0, 3, 1, 2], 1, &[1, 4, 2, 3]),
            (
                "counted by one",
                1,
                &[0, 3, 1, 2, 6, 4, 5],
                1,
                &[1, 4, 2, 3, 7, 5, 6],
            ),
            ("a pyramid", 1, &[0, 4, 2, 1, 3], 2, &[2, 6, 4, 3, 5]),
        ] {
            let mut presentation = PresentationOrder {
                step: step.into(),
                delay,
                reorders: delay > 0,
                ..PresentationOrder::default()
            };
            let got = shown(&units(order, step), 0, &mut presentation);
            assert_eq!(got, expected, "{what}");
        }
    }

    #[test]
    fn what_the_stream_does_not_say_is_learnt_from_its_first_groups() {
        let group = units(&[0, 3, 1, 2, 6, 4, 5], 1);
        let mut presentation = PresentationOrder::default();
        let mut last = Vec::new();
        for turn in 0..3 {
            last = shown(&group, 7 * turn, &mut presentation);
        }
        assert_eq!(last, [15, 18, 16, 17, 21, 19, 20]);
    }

    #[test]
    fn frames_that_arrive_all_at_once_have_times_of_their_own() {
        let mut presentation = PresentationOrder {
            step: 1,
            delay: 2,
            reorders: true,
            ..PresentationOrder::default()
        };
        let units = units(&[0, 4, 2, 1, 3], 1);
        let all = units.iter().chain(&units);
        let mut times: Vec<i64> = all
            .map(|unit| i64::from(presentation.offset(unit, 0, FRAME)))
            .collect();
        times.sort_unstable();
        times.dedup();
        assert_eq!(times.len(), 10);
    }

    #[test]
    fn a_camera_without_b_frames_has_no_delay() {
        let mut presentation = PresentationOrder::default();
        // It drops frames now and then.
        let got = shown(&units(&[0, 1, 3, 0, 1, 2], 2), 0, &mut presentation);
        assert_eq!(got, [0, 1, 2, 3, 4, 5]);
    }

    proptest! {
        /// However irregular their arrival, and whatever their counts: frames of a sequence have times in presentation
        /// order, all different as far as there is room.
        #[test]
        fn times_are_in_presentation_order(
            order in Just((1..8).collect::<Vec<i32>>()).prop_shuffle(),
            waits in prop::collection::vec(0u64..9000, 8),
            frame in prop_oneof![Just(0u32), 1u32..9000],
        ) {
            let all: Vec<i32> = std::iter::once(0).chain(order).collect();
            let units = units(&all, 1);
            let mut presentation = PresentationOrder::default();
            let (mut decoded, mut times) = (100_000, Vec::new());
            for (unit, wait) in units.iter().zip(waits) {
                decoded += wait;
                let offset = presentation.offset(unit, decoded, frame);
                times.push((unit.order, decoded as i64 + i64::from(offset)));
            }
            times.sort_unstable();
            prop_assert!(times.windows(2).all(|two| two[0].1 <= two[1].1), "{:?}", times);
        }
    }
}
