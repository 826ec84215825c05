//! A picture once more: a P picture of skipped macroblocks only (ISO/IEC 14496-10 7.3.4, 8.4.1.1), which a decoder shows as a
//! copy of a picture that it has.

use super::nal;
use super::order::{self, Counts};
use super::parameter_sets::{OrderSyntax, Pps, Sps};
use super::slice::Header;
use bytes::Bytes;
use h264_reader::rbsp::ByteWriter;
use std::io::Write;

/// Pictures that are looked at; more cannot be between one and its place in the order of showing (A.3.1).
pub const LOOKED_AT: usize = 32;

/// An access unit delimiter (7.3.2.4) before a P picture: repeats of one picture are all alike, and without it several of
/// them in a byte stream would be slices of one.
const DELIMITER: &[u8] = &[nal::AUD, 0x30];
/// `slice_type`: P, as all slices of the picture.
const P_ONLY: u32 = 5;
/// Pictures that may come before one that they are shown behind (A.3.1).
const MAX_REORDERED: usize = 16;

/// The NAL units of a picture that shows again what is shown after `pictures`, of the parameter sets `sps` and, before the first of
/// them, `pps`: the access units up to the newest one, as many as there are since the last IDR picture or [`LOOKED_AT`].
///
/// Nothing is predicted from it, so it may come any number of times, or not at all; what follows decodes the same. It stands
/// right behind the shown picture in the order of showing, and so in front of all that follow.
///
/// `None` for interlaced streams, slice groups, data partitions, separate colour planes, several views, streams of keyframes
/// only, while pictures may come that are shown before one that is there (B pictures), and where the picture that is shown
/// cannot be predicted from: none refers to it (as the last of a group of disposable ones), it is a long-term reference, or
/// it is too far back.
pub fn repeat(sps: &Bytes, pps: &[Bytes], pictures: &[&[Bytes]]) -> Option<Vec<Bytes>> {
    let sps = Sps::parse(sps).ok()?;
    let mut pps: Vec<Pps> = pps.iter().filter_map(|nal| Pps::parse(nal).ok()).collect();
    let headers = headers(&sps, &mut pps, pictures)?;
    // Without B slices, as here with other types, pictures are shown in decoding order.
    let told = matches!(sps.slice.order, OrderSyntax::Lsb { .. });
    let mut counts = Counts::default();
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
    let again = Again {
        sps: &sps,
        pps: pps.iter().find(|pps| pps.id == shown.1.pps_id)?,
        newest: newest.1,
        shown: shown.1,
        ahead: shown.0 + 1 - newest.0,
    };
    Some(vec![Bytes::from_static(DELIMITER), again.slice()?])
}

/// The first slice header of each picture; `pps` then are those that hold at the last.
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
                // Data partitions and slices of other views or layers.
                2..=4 | 20 | 21 => return None,
                _ => {}
            }
        }
        let header = first?;
        let in_order = !matches!(sps.slice.order, OrderSyntax::Lsb { .. });
        if in_order && header.bidirectional {
            return None;
        }
        // Whoever counts wrongly has references that nobody can name.
        let before = headers.iter().rev().find(|header| header.reference);
        if before.is_some_and(|before| !header.idr && !header.follows(before, sps)) {
            return None;
        }
        if header.idr || header.forgets {
            headers.clear();
        }
        headers.push(header.left());
    }
    Some(headers)
}

/// Whether there seems to be a place for a picture before the last one in the order of showing.
fn has_gap(placed: &[(i64, &Header)]) -> bool {
    let mut counts: Vec<i64> = placed.iter().map(|(count, _)| *count).collect();
    counts.sort_unstable();
    let steps = counts.windows(2).map(|two| two[1] - two[0]);
    // A frame's count is 2 behind the one before, or 1 in some streams.
    let usual = steps.clone().min().unwrap_or(order::STEP).min(order::STEP);
    steps.rev().take(MAX_REORDERED).any(|step| step > usual)
}

/// What the slice depends on.
struct Again<'a> {
    sps: &'a Sps,
    pps: &'a Pps,
    /// The newest reference picture.
    newest: &'a Header,
    /// The picture to copy.
    shown: &'a Header,
    /// By how much the copy is behind the newest reference picture in the order of showing.
    ahead: i64,
}

impl Again<'_> {
    fn slice(&self) -> Option<Bytes> {
        let (sps, pps) = (self.sps, self.pps);
        let syntax = sps.slice;
        let possible = syntax.frames_only && !syntax.separate_colour_planes && !pps.slice_groups;
        if !possible || sps.intra_only || sps.reference_frames == 0 {
            return None;
        }
        // How many reference pictures ago the shown one was; 1: the newest, to which the list begins with anyway (8.2.4.2.1).
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
            // Factors of one.
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

    /// What places it right behind the shown picture, 8.2.1.
    fn order(&self, bits: &mut Bits) -> Option<()> {
        let (Header { order, .. }, both) = (self.shown, self.pps.bottom_field_order);
        match self.sps.slice.order {
            OrderSyntax::Lsb { bits: width } => {
                let range = 1 << width;
                // The rest of the count is told from the newest reference picture.
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

/// Bits from the highest of each byte on.
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

    /// 9.1.
    fn ue(&mut self, value: u32) {
        let code = u64::from(value) + 1;
        let width = code.ilog2();
        self.fixed(width, 0);
        (0..=width)
            .rev()
            .for_each(|at| self.put(code >> at & 1 == 1));
    }

    /// 9.1.1.
    fn se(&mut self, value: i32) {
        self.ue(match value {
            1.. => value.unsigned_abs() * 2 - 1,
            _ => value.unsigned_abs().saturating_mul(2),
        });
    }
}

/// Skipped macroblocks in CABAC, 9.3.
mod skips {
    use super::Bits;

    /// `cabac_init_idc`, and the quantizer (`SliceQPY`) with it: of all they make a skipped macroblock the likeliest.
    pub const TABLE: u32 = 2;
    pub const QUANTIZER: i32 = 51;
    /// m and n of `ctxIdx` 11 in that table (table 9-13): `mb_skip_flag` where both neighbours are skipped or missing. So it
    /// begins in state 44, its likelier value is 1, and 1 is all that comes: the states rise to 62 (table 9-45).
    const FIRST_STATE: usize = (((29 * QUANTIZER) >> 4) + 16 - 64) as usize;
    const LAST_STATE: usize = 62;
    /// `rangeTabLPS` from that state on, table 9-44.
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

    /// `slice_data` of so many skipped macroblocks, with the bits that end the slice.
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

    /// 9.3.4.2.
    struct Encoder<'a> {
        bits: &'a mut Bits,
        low: u32,
        range: u32,
        outstanding: u32,
        begun: bool,
    }

    impl Encoder<'_> {
        /// 9.3.4.5.
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

        /// 9.3.4.3.
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

        /// 9.3.4.4.
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
