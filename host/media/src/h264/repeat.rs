//! Repeats a frame without decoding: creates a P picture of skipped macroblocks only (ISO/IEC 14496-10 7.3.4, 8.4.1.1),
//! which a decoder shows as a copy of a picture that it already has.
//!
//! A source that sends nothing while nothing changes (a screen) would stall transports that need continuous video. The
//! feed (`host/stream/src/feed/repeats.rs`) fills such a silence with these pictures. Nothing refers to them, so that
//! the decoder's state is the same with one, ten or none of them. A slice header and, with CABAC, the arithmetic code
//! of the skip flags are all that has to be written.

use super::nal;
use super::order::{self, PictureOrderCounts};
use super::parameter_sets::{OrderSyntax, Pps, Sps};
use super::slice::Header;
use bytes::Bytes;
use h264_reader::rbsp::ByteWriter;
use std::io::Write;

/// Number of newest access units that are examined. No picture is further than this from its place in output order
/// (A.3.1).
pub const MAX_LOOKBACK: usize = 32;

/// An access unit delimiter (7.3.2.4) before a P picture. All repeats of a picture are identical, and without a
/// delimiter several of them in a byte stream would be slices of one picture.
const DELIMITER: &[u8] = &[nal::AUD, 0x30];
/// `slice_type` 5: P, like all slices of the picture.
const P_ONLY: u32 = 5;
/// Number of pictures that may precede another in decoding order and follow it in output order (A.3.1).
const MAX_REORDERED: usize = 16;

/// Returns the NAL units of a picture that repeats the last output one of `pictures`. `pictures` are the access units
/// up to the newest, back to the last IDR picture or [`MAX_LOOKBACK`] of them; `sps` and `pps` are the parameter sets
/// that are valid before the first.
///
/// Nothing is predicted from the repeat, so it may be sent any number of times or not at all, and what follows decodes
/// identically. In output order it directly follows the picture that it repeats, and precedes everything after that.
///
/// Returns `None` for interlaced streams, slice groups, data partitions, separate colour planes, multiple views, and
/// streams of keyframes only; while pictures may follow that are output before one that is already there (B pictures);
/// and if the picture to repeat cannot be referred to, because it is disposable (such as the last of a group of
/// non-reference pictures), a long-term reference, or too old.
pub fn repeat(sps: &Bytes, pps: &[Bytes], pictures: &[&[Bytes]]) -> Option<Vec<Bytes>> {
    let sps = Sps::parse(sps).ok()?;
    let mut pps: Vec<Pps> = pps.iter().filter_map(|nal| Pps::parse(nal).ok()).collect();
    let headers = headers(&sps, &mut pps, pictures)?;
    // The other POC types are accepted without B slices only, so output order is decoding order.
    let told = matches!(sps.slice.order, OrderSyntax::Lsb { .. });
    let mut counts = PictureOrderCounts::default();
    let placed: Vec<(i64, &Header)> = headers
        .iter()
        .enumerate()
        .map(|(nth, header)| {
            let count = counts.next(header, &sps).filter(|_| told);
            (count.unwrap_or(nth as i64), header)
        })
        .collect();
    let newest = placed.iter().rev().find(|(_, header)| header.reference)?;
    let shown = placed.iter().max_by_key(|(count, _)| *count)?;
    let waits = sps.picture.reorder != Some(0) && told && has_gap(&placed);
    if waits || !shown.1.reference || shown.1.long_term {
        return None;
    }
    let again = RepeatSlice {
        sps: &sps,
        pps: pps.iter().find(|pps| pps.id == shown.1.pps_id)?,
        newest: newest.1,
        shown: shown.1,
        ahead: shown.0 + 1 - newest.0,
    };
    Some(vec![Bytes::from_static(DELIMITER), again.slice()?])
}

/// Returns the first slice header of each picture, and leaves in `pps` those that are valid at the last picture.
fn headers(sps: &Sps, pps: &mut Vec<Pps>, pictures: &[&[Bytes]]) -> Option<Vec<Header>> {
    let mut headers: Vec<Header> = Vec::new();
    for picture in pictures {
        let mut first = None;
        for unit in *picture {
            match nal::unit_type(unit) {
                nal::PPS => {
                    let changed = Pps::parse(unit).ok()?;
                    pps.retain(|known| known.id != changed.id);
                    pps.push(changed);
                }
                nal::SLICE | nal::IDR if first.is_none() => {
                    let lookup = |id| {
                        let pps = pps.iter().find(|pps| pps.id == id)?;
                        (pps.sps_id == sps.id).then_some((pps, sps))
                    };
                    first = Some(Header::read(unit, lookup).ok()?);
                }
                // Data partitions, and slices of other views or layers.
                2..=4 | 20 | 21 => return None,
                _ => {}
            }
        }
        let header = first?;
        let in_order = !matches!(sps.slice.order, OrderSyntax::Lsb { .. });
        if in_order && header.bidirectional {
            return None;
        }
        // If the source counts `frame_num` wrongly, its reference pictures cannot be identified.
        let before = headers.iter().rev().find(|header| header.reference);
        if before.is_some_and(|before| !header.idr && !header.follows(before, sps)) {
            return None;
        }
        if header.idr || header.mmco5 {
            headers.clear();
        }
        headers.push(header.after_decoding());
    }
    Some(headers)
}

/// Whether output order seems to have a free place before the last picture, which a later B picture may take.
fn has_gap(placed: &[(i64, &Header)]) -> bool {
    let mut counts: Vec<i64> = placed.iter().map(|(count, _)| *count).collect();
    counts.sort_unstable();
    let steps = counts.windows(2).map(|two| two[1] - two[0]);
    // Consecutive frames are 2 counts apart, or 1 in some streams.
    let usual = steps.clone().min().unwrap_or(order::STEP).min(order::STEP);
    steps.rev().take(MAX_REORDERED).any(|step| step > usual)
}

/// Inputs of the repeated slice.
struct RepeatSlice<'a> {
    sps: &'a Sps,
    pps: &'a Pps,
    /// The newest reference picture.
    newest: &'a Header,
    /// The picture to repeat.
    shown: &'a Header,
    /// Distance of the repeat from the newest reference picture, in picture order counts.
    ahead: i64,
}

impl RepeatSlice<'_> {
    fn slice(&self) -> Option<Bytes> {
        let (sps, pps) = (self.sps, self.pps);
        let syntax = sps.slice;
        let possible = syntax.frames_only && !syntax.separate_colour_planes && !pps.slice_groups;
        if !possible || sps.intra_only || sps.reference_frames == 0 {
            return None;
        }
        // How many reference pictures ago the repeated one was. 1 is the newest, which is first in the default list
        // (8.2.4.2.1).
        let numbers = 1 << syntax.frame_num_bits;
        let number = (self.newest.frame_num + 1) % numbers;
        let ago = (number + numbers - self.shown.frame_num) % numbers;
        if ago > sps.reference_frames {
            return None;
        }

        let mut bits = Bits::default();
        bits.ue(0); // first_mb_in_slice
        bits.ue(P_ONLY);
        bits.ue(pps.id.into());
        bits.fixed(syntax.frame_num_bits, number);
        self.order(&mut bits)?;
        if pps.redundant_pictures {
            bits.ue(0);
        }
        bits.put(true); // num_ref_idx_active_override_flag
        bits.ue(0); // num_ref_idx_l0_active_minus1
        bits.put(ago != 1); // ref_pic_list_modification_flag_l0
        if ago != 1 {
            bits.ue(0); // the one of a lower picture number
            bits.ue(ago - 1);
            bits.ue(3);
        }
        if pps.weighted {
            // Weights of one.
            bits.ue(0);
            if sps.head.chroma_format != 0 {
                bits.ue(0);
            }
            bits.put(false);
            if sps.head.chroma_format != 0 {
                bits.put(false);
            }
        }
        let quantizer = match pps.cabac {
            true => {
                bits.ue(skips::TABLE);
                skips::QUANTIZER
            }
            false => pps.quantizer,
        };
        bits.se(quantizer - pps.quantizer); // slice_qp_delta
        if pps.deblocking_control {
            bits.ue(1); // none
        }
        match pps.cabac {
            true => skips::write(sps.macroblocks, &mut bits),
            false => {
                bits.ue(sps.macroblocks); // mb_skip_run
                bits.put(true); // rbsp_stop_one_bit
            }
        }

        let mut slice = vec![nal::SLICE]; // with nal_ref_idc 0
        ByteWriter::new(&mut slice).write_all(&bits.bytes).ok()?;
        Some(slice.into())
    }

    /// Writes the picture order count that directly follows the repeated picture (8.2.1).
    fn order(&self, bits: &mut Bits) -> Option<()> {
        let (Header { order, .. }, both) = (self.shown, self.pps.bottom_field_order);
        match self.sps.slice.order {
            OrderSyntax::Lsb { bits: width } => {
                let range = 1 << width;
                // The upper bits of the count are derived from the newest reference picture.
                if self.ahead.abs() >= range / 2 {
                    return None;
                }
                bits.fixed(width, u32::try_from((order[0] + 1) % range).ok()?);
                if both {
                    bits.se(i32::try_from(order[1]).ok()?);
                }
            }
            OrderSyntax::Delta => {
                let step = i64::from(self.sps.order_step);
                bits.se(i32::try_from(order[0] + 1 - step).ok()?);
                if both {
                    bits.se(i32::try_from(order[1]).ok()?);
                }
            }
            OrderSyntax::Nothing if self.sps.order_step < 1 => return None,
            OrderSyntax::Nothing => {}
        }
        Some(())
    }
}

/// Writer of bits, most significant bit first.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    count: usize,
}

impl Bits {
    fn put(&mut self, bit: bool) {
        if self.count.is_multiple_of(8) {
            self.bytes.push(0);
        }
        if let Some(last) = self.bytes.last_mut() {
            *last |= u8::from(bit) << (7 - self.count % 8);
        }
        self.count += 1;
    }

    fn fixed(&mut self, width: u32, value: u32) {
        (0..width)
            .rev()
            .for_each(|at| self.put(value >> at & 1 == 1));
    }

    /// Writes an unsigned Exp-Golomb code (9.1).
    fn ue(&mut self, value: u32) {
        let code = u64::from(value) + 1;
        let width = code.ilog2();
        self.fixed(width, 0);
        (0..=width)
            .rev()
            .for_each(|at| self.put(code >> at & 1 == 1));
    }

    /// Writes a signed Exp-Golomb code (9.1.1).
    fn se(&mut self, value: i32) {
        self.ue(match value {
            1.. => value.unsigned_abs() * 2 - 1,
            _ => value.unsigned_abs().saturating_mul(2),
        });
    }
}

/// CABAC code of skipped macroblocks (9.3).
mod skips {
    use super::Bits;

    /// `cabac_init_idc`, and with it the quantizer (`SliceQPY`): the combination that makes a skipped macroblock most
    /// likely.
    pub const TABLE: u32 = 2;
    pub const QUANTIZER: i32 = 51;
    /// First state, from m and n of `ctxIdx` 11 in that table (table 9-13), which is `mb_skip_flag` with both
    /// neighbours skipped or missing. The initial state is 44 with most probable value 1. Only the value 1 is coded, so
    /// that states rise to 62 (table 9-45).
    const FIRST_STATE: usize = (((29 * QUANTIZER) >> 4) + 16 - 64) as usize;
    const LAST_STATE: usize = 62;
    /// `rangeTabLPS` from [`FIRST_STATE`] on (table 9-44).
    const LESS_LIKELY: [[u32; 4]; LAST_STATE - FIRST_STATE + 1] = [
        [14, 18, 21, 24],
        [14, 17, 20, 23],
        [13, 16, 19, 22],
        [12, 15, 18, 21],
        [12, 14, 17, 20],
        [11, 14, 16, 19],
        [11, 13, 15, 18],
        [10, 12, 15, 17],
        [10, 12, 14, 16],
        [9, 11, 13, 15],
        [9, 11, 12, 14],
        [8, 10, 12, 14],
        [8, 9, 11, 13],
        [7, 9, 11, 12],
        [7, 9, 10, 12],
        [7, 8, 10, 11],
        [6, 8, 9, 11],
        [6, 7, 9, 10],
        [6, 7, 8, 9],
    ];

    /// Writes `slice_data` of skipped macroblocks, including the bits that end the slice.
    pub fn write(macroblocks: u32, bits: &mut Bits) {
        while !bits.count.is_multiple_of(8) {
            bits.put(true); // cabac_alignment_one_bit
        }
        let mut encoder = Encoder {
            bits,
            low: 0,
            range: 510,
            outstanding: 0,
            begun: false,
        };
        let mut state = 0;
        for nth in 1..=macroblocks {
            encoder.range -= LESS_LIKELY[state][(encoder.range >> 6 & 3) as usize];
            encoder.renormalize();
            state = (state + 1).min(LESS_LIKELY.len() - 1);
            encoder.end_of_slice(nth == macroblocks);
        }
    }

    /// Arithmetic encoder (9.3.4.2).
    struct Encoder<'a> {
        bits: &'a mut Bits,
        low: u32,
        range: u32,
        outstanding: u32,
        begun: bool,
    }

    impl Encoder<'_> {
        /// Encodes `end_of_slice_flag` (9.3.4.5).
        fn end_of_slice(&mut self, ends: bool) {
            self.range -= 2;
            if ends {
                self.low += self.range;
                self.range = 2;
            }
            self.renormalize();
            if ends {
                self.put(self.low >> 9 & 1 == 1);
                self.bits.put(self.low >> 8 & 1 == 1);
                self.bits.put(true); // rbsp_stop_one_bit
            }
        }

        /// RenormE (9.3.4.3).
        fn renormalize(&mut self) {
            while self.range < 256 {
                if self.low < 256 {
                    self.put(false);
                } else if self.low >= 512 {
                    self.low -= 512;
                    self.put(true);
                } else {
                    self.low -= 256;
                    self.outstanding += 1;
                }
                self.range <<= 1;
                self.low <<= 1;
            }
        }

        /// PutBit (9.3.4.4).
        fn put(&mut self, bit: bool) {
            if self.begun {
                self.bits.put(bit);
            }
            self.begun = true;
            for _ in 0..std::mem::take(&mut self.outstanding) {
                self.bits.put(!bit);
            }
        }
    }
}
