//! Slice headers (ISO/IEC 14496-10 7.3.3), read as far as needed to tell pictures apart (7.4.1.2.4), to find gaps in
//! `frame_num`, to order pictures, and to see whether a picture resets all that (7.4.3.3). Used by
//! [`super::access_unit`] and [`super::repeat`].

mod marking;

use super::nal;
use super::parameter_sets::{OrderSyntax, Pps, Sps};
use h264_reader::rbsp::{BitRead, BitReader, BitReaderError, ByteReader};

/// Everything that is read here fits into this many bytes, including emulation prevention: at most 64 weights of six
/// numbers with up to 32 bits. Few headers have more than 20 bytes, and nothing is copied.
const MAX_HEADER_BYTES: usize = 4096;

/// Header of one slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The slice begins with the first macroblock of the picture.
    pub at_top: bool,
    /// B slice: may be predicted from pictures that are later in output order.
    pub bidirectional: bool,
    pub pps_id: u8,
    /// `colour_plane_id`, 0 to 2; 0 unless colour planes are coded separately.
    pub colour_plane: u8,
    /// The slice belongs to a redundant coded picture (7.4.1.2.5), not to the primary one.
    pub redundant: bool,
    pub field: Option<Field>,
    pub idr: bool,
    pub frame_num: u32,
    /// Later pictures may be predicted from this one (`nal_ref_idc` is not 0).
    pub reference: bool,
    /// The picture is an IDR picture that becomes a long-term reference (8.2.5.1).
    pub long_term: bool,
    /// The picture has `memory_management_control_operation` 5: after its decoding it counts as an IDR picture. No
    /// later picture refers to an earlier one or is output before them, and `frame_num` and picture order counts
    /// restart with it.
    pub forgets: bool,
    idr_pic_id: u32,
    /// `pic_order_cnt_lsb` and `delta_pic_order_cnt_bottom`, or `delta_pic_order_cnt[0]` and `[1]`.
    pub(super) order: [i64; 2],
}

/// Parity of a field picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// Lines 0, 2, 4 and so on.
    Top,
    /// Lines 1, 3, 5 and so on.
    Bottom,
}

/// Error: a slice header could not be read completely.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unreadable {
    /// The slice begins with the first macroblock of the picture, if that much was readable.
    pub at_top: bool,
    /// PPS that the slice refers to, if that PPS or its SPS is not known.
    pub missing_pps: Option<u8>,
}

impl Header {
    /// Reads a NAL unit of type 1, 2 or 5. `lookup` returns the PPS of an id together with its SPS.
    pub fn read<'a>(
        nal: &[u8],
        lookup: impl FnOnce(u8) -> Option<(&'a Pps, &'a Sps)>,
    ) -> Result<Self, Unreadable> {
        let mut bits = BitReader::new(ByteReader::skipping_h264_header(
            &nal[..nal.len().min(MAX_HEADER_BYTES)],
        ));
        let mut unreadable = Unreadable {
            at_top: false,
            missing_pps: None,
        };
        let (first_mb, slice_type, pps_id) = match read_ids(&mut bits) {
            Ok(ids) => ids,
            Err(_) => return Err(unreadable),
        };
        unreadable.at_top = first_mb == 0;
        let Ok(pps_id) = u8::try_from(pps_id) else {
            return Err(unreadable);
        };
        let Some((pps, sps)) = lookup(pps_id) else {
            unreadable.missing_pps = Some(pps_id);
            return Err(unreadable);
        };
        let mut header = Self {
            at_top: first_mb == 0,
            bidirectional: slice_type % 5 == 1,
            pps_id,
            colour_plane: 0,
            redundant: false,
            field: None,
            idr: nal::unit_type(nal) == nal::IDR,
            frame_num: 0,
            reference: nal::ref_idc(nal) != 0,
            long_term: false,
            forgets: false,
            idr_pic_id: 0,
            order: [0; 2],
        };
        if header.read_rest(&mut bits, pps, sps).is_err() {
            return Err(unreadable);
        }
        if header.reference {
            // A slice that ends here is damaged elsewhere.
            let marking = marking::read(&mut bits, header.idr, slice_type, pps, sps);
            let marking = marking.unwrap_or_default();
            (header.long_term, header.forgets) = (marking.long_term, marking.forgets);
        }
        Ok(header)
    }

    /// The header as later pictures see it: reset if the picture has memory management operation 5.
    pub fn left(self) -> Self {
        match self.forgets {
            true => Self {
                frame_num: 0,
                order: [0, self.order[1]],
                ..self
            },
            false => self,
        }
    }

    /// Whether this slice and `other`, both of primary pictures, belong to the same picture (7.4.1.2.4).
    pub fn same_picture(&self, other: &Self) -> bool {
        self.frame_num == other.frame_num
            && self.pps_id == other.pps_id
            && self.field == other.field
            && self.reference == other.reference
            && self.idr == other.idr
            && self.idr_pic_id == other.idr_pic_id
            && self.order == other.order
    }

    /// Whether this slice's field completes the frame that the previous field, `first`, began (3.30).
    pub fn completes(&self, first: &Self) -> bool {
        self.field.is_some()
            && first.field.is_some()
            && self.field != first.field
            && (self.frame_num == first.frame_num || self.frame_num == first.left().frame_num)
            && !self.idr
    }

    fn read_rest(
        &mut self,
        bits: &mut impl BitRead,
        pps: &Pps,
        sps: &Sps,
    ) -> Result<(), BitReaderError> {
        let syntax = sps.slice;
        if syntax.separate_colour_planes {
            self.colour_plane = bits.read::<2, u8>("colour_plane_id")?;
        }
        self.frame_num = bits.read_var(syntax.frame_num_bits, "frame_num")?;
        if !syntax.frames_only && bits.read_bit("field_pic_flag")? {
            self.field = Some(match bits.read_bit("bottom_field_flag")? {
                false => Field::Top,
                true => Field::Bottom,
            });
        }
        if self.idr {
            self.idr_pic_id = bits.read_ue("idr_pic_id")?;
        }
        let both_fields = pps.bottom_field_order && self.field.is_none();
        match syntax.order {
            OrderSyntax::Lsb { bits: width } => {
                self.order[0] = bits.read_var::<u32>(width, "pic_order_cnt_lsb")?.into();
                if both_fields {
                    self.order[1] = bits.read_se("delta_pic_order_cnt_bottom")?.into();
                }
            }
            OrderSyntax::Delta => {
                self.order[0] = bits.read_se("delta_pic_order_cnt[0]")?.into();
                if both_fields {
                    self.order[1] = bits.read_se("delta_pic_order_cnt[1]")?.into();
                }
            }
            OrderSyntax::Nothing => {}
        }
        if pps.redundant_pictures {
            self.redundant = bits.read_ue("redundant_pic_cnt")? > 0;
        }
        Ok(())
    }
}

impl Header {
    /// Whether no reference picture is missing between `reference` and this picture, as far as `frame_num` tells
    /// (7.4.3). `reference` is the last reference picture as it [counts afterwards](Self::left).
    pub fn follows(&self, reference: &Header, sps: &Sps) -> bool {
        let next = reference.frame_num.wrapping_add(1) & ((1 << sps.slice.frame_num_bits) - 1);
        match self.frame_num == reference.frame_num {
            true => !self.stands_still(reference, sps),
            false => sps.slice.gaps_allowed || self.frame_num == next,
        }
    }

    /// Whether a `frame_num` equal to that of `reference` means a loss. It should have advanced if this is a reference
    /// picture and not a field, so as many pictures are missing as it takes to wrap around. But if the picture order
    /// count has advanced, the source is trusted, although its `frame_num` is wrong.
    fn stands_still(&self, reference: &Header, sps: &Sps) -> bool {
        let told_by_order = matches!(sps.slice.order, OrderSyntax::Lsb { .. });
        let goes_on = told_by_order && self.order != reference.order;
        self.reference && self.field.is_none() && !goes_on
    }
}

fn read_ids(bits: &mut impl BitRead) -> Result<(u32, u32, u32), BitReaderError> {
    Ok((
        bits.read_ue("first_mb_in_slice")?,
        bits.read_ue("slice_type")?,
        bits.read_ue("pic_parameter_set_id")?,
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::super::testing::{PpsOptions, SliceOptions, SpsOptions};
    use super::*;
    use h264_reader::rbsp::BitWrite;
    use proptest::prelude::*;

    fn read(sps: &SpsOptions, pps: &PpsOptions, slice: &SliceOptions) -> Header {
        let sps_nal = Sps::parse(&sps.nal()).unwrap();
        let pps_nal = Pps::parse(&pps.nal()).unwrap();
        Header::read(&slice.nal(sps, pps), |id| {
            (id == pps.id).then_some((&pps_nal, &sps_nal))
        })
        .unwrap()
    }

    #[test]
    fn each_rule_of_7_4_1_2_4_tells_two_pictures_apart() {
        let fields = SpsOptions {
            fields: true,
            ..SpsOptions::default()
        };
        let deltas = SpsOptions {
            poc_type: 1,
            ..SpsOptions::default()
        };
        let pps = PpsOptions {
            bottom_field_order: true,
            ..PpsOptions::default()
        };
        let base = SliceOptions::default();
        let field = SliceOptions {
            field: Some(Field::Top),
            ..base
        };
        let idr = SliceOptions { idr: true, ..base };
        let table = [
            (
                "frame_num",
                &fields,
                base,
                SliceOptions {
                    frame_num: 1,
                    ..base
                },
            ),
            ("field_pic_flag", &fields, base, field),
            (
                "bottom_field_flag",
                &fields,
                field,
                SliceOptions {
                    field: Some(Field::Bottom),
                    ..field
                },
            ),
            (
                "nal_ref_idc",
                &fields,
                base,
                SliceOptions { ref_idc: 0, ..base },
            ),
            (
                "pic_order_cnt_lsb",
                &fields,
                base,
                SliceOptions {
                    order: [2, 0],
                    ..base
                },
            ),
            (
                "delta_pic_order_cnt_bottom",
                &fields,
                base,
                SliceOptions {
                    order: [0, -1],
                    ..base
                },
            ),
            (
                "delta_pic_order_cnt[0]",
                &deltas,
                base,
                SliceOptions {
                    order: [-3, 0],
                    ..base
                },
            ),
            (
                "delta_pic_order_cnt[1]",
                &deltas,
                base,
                SliceOptions {
                    order: [0, 3],
                    ..base
                },
            ),
            ("IdrPicFlag", &fields, base, idr),
            (
                "idr_pic_id",
                &fields,
                idr,
                SliceOptions {
                    idr_pic_id: 1,
                    ..idr
                },
            ),
        ];
        for (rule, sps, one, other) in table {
            let (first, second) = (read(sps, &pps, &one), read(sps, &pps, &other));
            assert!(!first.same_picture(&second), "{rule}");
            assert!(first.same_picture(&first), "{rule}");
        }
    }

    #[test]
    fn two_reference_levels_above_zero_are_one_picture() {
        let (sps, pps) = (SpsOptions::default(), PpsOptions::default());
        let base = SliceOptions::default();
        let other = SliceOptions {
            ref_idc: 3,
            first_mb: 40,
            ..base
        };
        assert!(read(&sps, &pps, &base).same_picture(&read(&sps, &pps, &other)));
    }

    #[test]
    fn a_slice_of_an_unknown_pps_says_which() {
        let (sps, pps) = (SpsOptions::default(), PpsOptions::default());
        let nal = SliceOptions::default().nal(&sps, &pps);
        assert_eq!(
            Header::read(&nal, |_| None),
            Err(Unreadable {
                at_top: true,
                missing_pps: Some(pps.id)
            })
        );
    }

    #[test]
    fn the_marking_is_found_behind_everything_that_may_stand_before_it() {
        use crate::h264::testing::nal;
        let sps = Sps::parse(&SpsOptions::default().nal()).unwrap();
        let plain = Pps::parse(&PpsOptions::default().nal()).unwrap();
        let weighted = Pps {
            weighted: true,
            weighted_b: true,
            references: [2, 1],
            ..plain.clone()
        };
        for (what, slice_type, pps) in [
            ("P", 0, &plain),
            ("B", 1, &plain),
            ("I", 2, &plain),
            ("P, weighted", 5, &weighted),
            ("B, weighted", 6, &weighted),
        ] {
            for operations in [
                &[0][..],
                &[1, 0, 0],
                &[5, 0],
                &[1, 4, 5, 0],
                &[3, 1, 0, 4, 0, 6, 2, 5, 0],
            ] {
                let unit = nal(0x61, |bits| {
                    bits.write_ue(0)?;
                    bits.write_ue(slice_type)?;
                    bits.write_ue(0)?;
                    bits.write::<8, u8>(0x11)?;
                    let lists = [1, 2, 0][slice_type as usize % 5];
                    let mut references = pps.references;
                    if lists == 2 {
                        bits.write_bit(true)?;
                    }
                    if lists > 0 {
                        bits.write_bit(true)?;
                        references = [3, 2];
                        for count in &references[..lists] {
                            bits.write_ue(count - 1)?;
                        }
                    }
                    for _ in 0..lists {
                        bits.write_bit(true)?;
                        for number in [0, 4, 1, 2, 2, 0, 3] {
                            bits.write_ue(number)?;
                        }
                    }
                    if pps.weighted && lists > 0 {
                        bits.write_ue(5)?;
                        bits.write_ue(4)?;
                        for _ in 0..references[..lists].iter().sum::<u32>() {
                            for numbers in [2, 4] {
                                bits.write_bit(true)?;
                                for number in 0..numbers {
                                    bits.write_se(7 - 5 * number)?;
                                }
                            }
                        }
                    }
                    bits.write_bit(operations != [0])?;
                    for number in operations.iter().filter(|_| operations != [0]) {
                        bits.write_ue(*number)?;
                    }
                    bits.write::<16, u16>(0xbeef)
                });
                let header = Header::read(&unit, |_| Some((pps, &sps))).unwrap();
                let forgets = operations.contains(&5);
                assert_eq!(header.forgets, forgets, "{what} {operations:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..100), fields in any::<bool>(), poc_type in 0u32..3) {
            let sps = Sps::parse(&SpsOptions { fields, poc_type, ..SpsOptions::default() }.nal()).unwrap();
            let pps = Pps::parse(&PpsOptions { redundant_pictures: true, ..PpsOptions::default() }.nal()).unwrap();
            let _ = Header::read(&bytes, |_| Some((&pps, &sps)));
        }
    }
}
