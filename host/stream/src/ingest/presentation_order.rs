//! When pictures are shown that come without a time for it: bare Annex B, raw `.h264`, AVI.
//!
//! The stream tells the order of showing (picture order counts, ISO/IEC 14496-10 8.2.1), and their decode times how far they are apart. A
//! picture that is shown after all before it leaves room for those that have to come in between, which their counts tell; each of these
//! then has its place in that room. All are shown as much later as the decoder has to hold pictures back.

use sluicegate_media::{h264::access_unit::AccessUnit, time::TIMESCALE};
use std::collections::VecDeque;

/// Pictures that are remembered: no more can be between one and its place (A.3.1), twice as fields.
const REMEMBERED: usize = 32;
/// Pictures that are waited for at most.
const MAX_REORDERED: i64 = 16;
/// Distance of pictures of unknown rate.
const LIKELY_STEP: i64 = TIMESCALE as i64 / 25;

/// Finds out when pictures are shown.
#[derive(Debug)]
pub struct PresentationOrder {
    /// The newest pictures in decoding order.
    pictures: VecDeque<Placed>,
    /// From one frame to the next in the order of showing, as the stream counts: 2, or 1.
    step: i64,
    /// Pictures that the decoder holds back.
    delay: i64,
    /// Pictures came in another order than they are shown, or the stream says that they will.
    reorders: bool,
}

#[derive(Clone, Copy, Debug)]
struct Placed {
    order: i64,
    decoded: i64,
    shown: i64,
}

impl Default for PresentationOrder {
    fn default() -> PresentationOrder {
        PresentationOrder {
            pictures: VecDeque::new(),
            step: 2,
            delay: 0,
            reorders: false,
        }
    }
}

impl PresentationOrder {
    /// What came so far tells nothing of what comes.
    pub fn reset(&mut self) {
        *self = PresentationOrder::default();
    }

    /// How much later than it is decoded, at `decoded`, a picture is shown. `frame`: how long one lasts; 0: unknown. All in ticks.
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
        if unit.orders_anew {
            // The times go on, whatever the counts were.
            let latest = self.pictures.iter().map(|picture| picture.shown).max();
            self.pictures.clear();
            let shown =
                (decoded + self.delay * frame).max(latest.map_or(i64::MIN, |shown| shown + 1));
            return self.place(unit.order, decoded, shown);
        }
        let before = self.pictures.iter().filter(|one| one.order < unit.order);
        let behind = self.pictures.iter().filter(|one| one.order > unit.order);
        let before = before.max_by_key(|one| one.order).copied();
        let behind = behind.min_by_key(|one| one.order).copied();
        if let Some(before) = before
            && unit.order - before.order == 1
        {
            self.step = 1;
        }
        // Those that have to come between it and the one before it.
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
        // Those that are decoded before it and shown after it have to be held back.
        let held = self.pictures.iter().filter(|one| one.order > unit.order);
        self.delay = self.delay.max((held.count() as i64).min(MAX_REORDERED));
        self.reorders = true;
        let earlier = ((behind.order - unit.order) / self.step).clamp(1, MAX_REORDERED);
        let shown = behind.shown - earlier * frame.max(1);
        let shown = after(before, between.clamp(0, MAX_REORDERED), shown);
        // Where there is no room it is shown with the one behind it.
        self.place(unit.order, decoded, shown.min(behind.shown))
    }

    fn place(&mut self, order: i64, decoded: i64, shown: i64) -> i32 {
        if self.pictures.len() >= REMEMBERED {
            self.pictures.pop_front();
        }
        self.pictures.push_back(Placed {
            order,
            decoded,
            shown,
        });
        i32::try_from(shown - decoded).unwrap_or(0)
    }

    /// How long a frame lasts: as is said, else as they have come.
    fn frame(&self, decoded: i64, said: u32) -> i64 {
        let count = self.pictures.len() as i64;
        match (said, self.pictures.front()) {
            (1.., _) => said.into(),
            (0, Some(oldest)) if count > 1 => ((decoded - oldest.decoded) / count).max(1),
            _ => LIKELY_STEP,
        }
    }
}

/// `shown`, or as soon behind the one before as leaves each of those in between a tick.
fn after(before: Option<Placed>, between: i64, shown: i64) -> i64 {
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

    /// Access units of pictures with these picture order counts, the first an IDR picture; `step` from one frame to the next.
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
                // None refers to any, so they may be numbered as they are.
                ref_idc: u8::from(*at == 0),
                slice_type: 2,
                order: [at * step % 16, 0],
                frame_num: u32::from(*at != 0),
                ..SliceOptions::default()
            };
            // References tell the higher bits of counts, so what is shown is not far from the IDR picture here.
            assert!(at * step < 8, "{at}");
            out.extend(assembler.push(options.nal(&sps, &pps)));
        }
        out.extend(assembler.flush());
        assert_eq!(out.len(), shown.len());
        out
    }

    /// When these are shown, in frames, where they are decoded one frame apart from `start` on.
    fn shown(units: &[AccessUnit], start: i64, presentation: &mut PresentationOrder) -> Vec<i64> {
        let frame = i64::from(FRAME);
        let times = units.iter().zip(start..).map(|(unit, nth)| {
            let decoded = nth * frame;
            decoded + i64::from(presentation.offset(unit, decoded as u64, FRAME))
        });
        times.map(|time| time / frame).collect()
    }

    #[test]
    fn pictures_are_a_frame_apart_in_the_order_of_showing() {
        for (what, step, order, delay, expected) in [
            ("in order", 2, &[0, 1, 2, 3][..], 0, &[0, 1, 2, 3][..]),
            ("B pictures", 2, &[0, 3, 1, 2], 1, &[1, 4, 2, 3]),
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
    fn pictures_that_come_all_at_once_have_times_of_their_own() {
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
    fn a_camera_without_b_pictures_has_no_delay() {
        let mut presentation = PresentationOrder::default();
        // It leaves pictures out now and then.
        let got = shown(&units(&[0, 1, 3, 0, 1, 2], 2), 0, &mut presentation);
        assert_eq!(got, [0, 1, 2, 3, 4, 5]);
    }

    proptest! {
        /// However irregularly they come, and whatever their counts: pictures of a sequence have times in the order of showing, all
        /// different as far as there is room.
        #[test]
        fn times_are_in_the_order_of_showing(
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
