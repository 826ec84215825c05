//! Output order of pictures, from their picture order counts (ISO/IEC 14496-10 8.2.1).
//!
//! Picture order counts restart at every IDR picture. [`Orders`] continues them on one scale, which identifies the
//! leading frames of open GOPs and gives sources without presentation times an output order. Used by
//! [`super::access_unit`] and [`super::repeat`].

use super::parameter_sets::{Cycle, OrderSyntax, Sps};
use super::slice::{Field, Header};

/// Usual distance of consecutive frames in output order, in picture order counts.
pub const STEP: i64 = 2;

/// Places pictures on one rising scale over all coded video sequences: the later a picture is output, the higher its
/// place.
#[derive(Debug, Default)]
pub struct Orders {
    counts: Counts,
    /// Place of count 0 of the current sequence.
    base: i64,
    /// Highest place so far.
    most: i64,
    restarts: bool,
}

impl Orders {
    /// The next picture does not continue the previous ones: it is output after all of them.
    pub fn restart(&mut self) {
        self.counts = Counts::default();
        self.restarts = true;
    }

    /// Returns the place of the next picture in decoding order, which is a frame or a first field.
    pub fn place(&mut self, header: &Header, sps: &Sps) -> i64 {
        let count = self.counts.next(header, sps);
        if std::mem::take(&mut self.restarts) || header.idr || header.forgets {
            // Such a picture is output after all pictures before it, whatever its count is (C.4.4).
            let count = if header.forgets {
                0
            } else {
                count.unwrap_or(0)
            };
            self.base = self.most.saturating_add(STEP).saturating_sub(count);
            self.most = self.base.saturating_add(count);
            return self.most;
        }
        // Without counts, output order is decoding order (8.2.1.3).
        let place = count.map_or(self.most.saturating_add(STEP), |count| {
            self.base.saturating_add(count)
        });
        self.most = self.most.max(place);
        place
    }

    /// Returns the place of a frame whose second field this is and whose first field has the place `first`.
    pub fn place_second(&mut self, header: &Header, sps: &Sps, first: i64) -> i64 {
        let count = self.counts.next(header, sps);
        count.map_or(first, |count| self.base.saturating_add(count).min(first))
    }
}

/// Picture order counts within a coded video sequence.
#[derive(Debug, Default)]
pub struct Counts {
    /// Type 0: count of the last reference picture.
    reference: i64,
    /// Type 1: `frame_num` of the last picture, and `FrameNumOffset`, by which it has wrapped.
    frame_num: u32,
    rounds: i64,
}

impl Counts {
    /// Returns the count of the next picture in decoding order; of a frame, the lower of its fields' counts (8.2.1).
    /// `None` for type 2, where output order is decoding order.
    ///
    /// May start in the middle of a sequence. Counts then have an unknown but constant offset.
    pub fn next(&mut self, header: &Header, sps: &Sps) -> Option<i64> {
        if header.idr {
            *self = Counts::default();
        }
        if let OrderSyntax::Lsb { bits } = sps.slice.order {
            return Some(self.by_lsb(header, 1 << bits));
        }
        let cycle = sps.cycle.as_ref()?;
        Some(self.by_cycle(header, sps, cycle))
    }

    /// Type 0 (8.2.1.1).
    fn by_lsb(&mut self, header: &Header, range: i64) -> i64 {
        // The nearest count with these low bits; the higher one if two are equally near.
        let ahead = header.order[0] - self.reference;
        let ahead = (ahead + range / 2 - 1).rem_euclid(range) - (range / 2 - 1);
        let count = self.reference + ahead;
        let bottom = count + header.order[1];
        if header.reference {
            self.reference = match header.forgets {
                false => count,
                // 8.2.1: what remains of it is the delay of its top field after its bottom field.
                true => (-header.order[1]).max(0),
            };
        }
        count.min(bottom)
    }

    /// Type 1 (8.2.1.2).
    fn by_cycle(&mut self, header: &Header, sps: &Sps, cycle: &Cycle) -> i64 {
        if header.frame_num < self.frame_num {
            self.rounds += 1 << sps.slice.frame_num_bits;
        }
        self.frame_num = header.frame_num;
        let offsets = &cycle.offsets;
        let mut number = match offsets.is_empty() {
            true => 0,
            false => self.rounds + i64::from(header.frame_num),
        };
        if !header.reference && number > 0 {
            number -= 1;
        }
        let sum = |part: &[i32]| part.iter().map(|offset| i64::from(*offset)).sum::<i64>();
        let mut expected = 0;
        if number > 0 {
            let length = offsets.len() as i64;
            let (rounds, at) = ((number - 1) / length, (number - 1) % length);
            let at = usize::try_from(at).unwrap_or(0);
            let whole = sum(offsets).saturating_mul(rounds);
            expected = whole.saturating_add(sum(&offsets[..=at]));
        }
        if !header.reference {
            expected = expected.saturating_add(sps.order_step.into());
        }
        let between = i64::from(cycle.between_fields);
        let first = expected.saturating_add(header.order[0]);
        let count = match header.field {
            Some(Field::Top) => first,
            Some(Field::Bottom) => first.saturating_add(between),
            None => first.min(first.saturating_add(between + header.order[1])),
        };
        if header.forgets {
            (self.frame_num, self.rounds) = (0, 0);
        }
        count
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::super::parameter_sets::Pps;
    use super::super::testing::{PpsOptions, SliceOptions, SpsOptions};
    use super::*;

    /// Places of pictures that refer to the given SPS.
    fn places(sps: &SpsOptions, cycle: Option<Cycle>, pictures: &[SliceOptions]) -> Vec<i64> {
        let pps = PpsOptions {
            bottom_field_order: true,
            ..PpsOptions::default()
        };
        let known = (
            Pps::parse(&pps.nal()).unwrap(),
            Sps {
                cycle: cycle.or(Sps::parse(&sps.nal()).unwrap().cycle),
                ..Sps::parse(&sps.nal()).unwrap()
            },
        );
        let mut orders = Orders::default();
        let place = |picture: &SliceOptions| {
            let header = Header::read(&picture.nal(sps, &pps), |_| Some((&known.0, &known.1)));
            orders.place(&header.unwrap(), &known.1)
        };
        pictures.iter().map(place).collect()
    }

    fn picture(frame_num: u32, order: [i32; 2], ref_idc: u8) -> SliceOptions {
        SliceOptions {
            frame_num,
            order,
            ref_idc,
            ..SliceOptions::default()
        }
    }

    fn idr() -> SliceOptions {
        SliceOptions {
            idr: true,
            slice_type: 2,
            ..SliceOptions::default()
        }
    }

    #[test]
    fn low_bits_go_round_and_an_idr_picture_is_behind_all_that_were_before() {
        // `pic_order_cnt_lsb` has four bits here.
        let pictures = [
            idr(),
            picture(1, [6, 0], 2),
            picture(2, [2, 0], 0),
            picture(2, [4, 0], 0),
            picture(2, [12, 0], 2),
            picture(3, [8, 0], 0),
            picture(3, [2, 0], 2),
            picture(4, [14, 0], 0),
            idr(),
            picture(1, [2, 0], 2),
        ];
        let got = places(&SpsOptions::default(), None, &pictures);
        assert_eq!(got, [2, 8, 4, 6, 14, 10, 20, 16, 22, 24]);
    }

    #[test]
    fn a_picture_that_forgets_is_behind_all_before_and_counts_go_on_from_it() {
        let forgets = SliceOptions {
            forgets: true,
            ..picture(2, [10, 0], 2)
        };
        let pictures = [
            idr(),
            picture(1, [4, 0], 2),
            forgets,
            picture(1, [4, 0], 2),
            picture(2, [2, 0], 0),
        ];
        let got = places(&SpsOptions::default(), None, &pictures);
        assert_eq!(got, [2, 6, 8, 12, 10]);
    }

    #[test]
    fn a_frame_counts_by_the_earlier_of_its_fields() {
        let pictures = [idr(), picture(1, [6, -1], 2), picture(2, [10, 1], 2)];
        let got = places(&SpsOptions::default(), None, &pictures);
        assert_eq!(got, [2, 7, 12]);
    }

    #[test]
    fn counts_of_a_cycle_are_what_is_expected_and_what_differs() {
        let sps = SpsOptions {
            poc_type: 1,
            ..SpsOptions::default()
        };
        // Every second reference picture is three frames after the previous one.
        let cycle = Cycle {
            offsets: vec![2, 6],
            between_fields: 0,
        };
        let pictures = [
            idr(),
            picture(1, [0, 0], 2),
            picture(2, [0, 0], 2),
            picture(3, [-4, 0], 0),
            picture(3, [1, 1], 2),
        ];
        assert_eq!(places(&sps, Some(cycle), &pictures), [2, 4, 10, 6, 13]);
    }

    #[test]
    fn without_counts_pictures_are_shown_as_they_are_decoded() {
        let sps = SpsOptions {
            poc_type: 2,
            ..SpsOptions::default()
        };
        let pictures = [idr(), picture(1, [0, 0], 2), picture(2, [0, 0], 0), idr()];
        assert_eq!(places(&sps, None, &pictures), [2, 4, 6, 8]);
    }
}
