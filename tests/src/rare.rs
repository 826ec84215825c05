//! Valid H.264 that no available encoder produces: streams of x264 with rewritten slice headers, and fields of raw
//! (I_PCM) macroblocks.
//!
//! The ffmpeg program is the judge of validity: a rewritten stream must decode to the same frames.

use crate::bits::Bits;
use bytes::Bytes;
use sluicegate_media::h264::nal;

/// x264's arguments for streams whose slice headers can be rewritten: CAVLC, one slice and one reference frame.
pub const REWRITABLE: [&str; 8] = [
    "-c:v",
    "libx264",
    "-preset",
    "veryfast",
    "-profile:v",
    "baseline",
    "-x264-params",
    "ref=1:slices=1:bframes=0:weightp=0:keyint=1000:scenecut=0",
];

/// Fields of a slice header that can be rewritten.
#[derive(Debug)]
struct Slice {
    pub frame_num: u32,
    pub quantizer_delta: i32,
    /// `memory_management_control_operation` 5.
    pub mmco5: bool,
}

/// NAL units of a [`REWRITABLE`] stream with each slice header changed by `edit`, which also gets the number of slices
/// before it.
fn rewrite(nals: &[Bytes], mut edit: impl FnMut(usize, &mut Slice)) -> Vec<Bytes> {
    let sps = nals.iter().find(|unit| nal::unit_type(unit) == nal::SPS);
    let mut bits = Bits::of_nal(sps.expect("an SPS"));
    assert_eq!(bits.read(24) >> 16, 66, "the baseline profile");
    bits.read_ue();
    let frame_num_bits = 4 + bits.read_ue();
    assert_eq!(bits.read_ue(), 2, "pic_order_cnt_type");
    let mut count = 0;
    let mut anew = |unit: &Bytes| {
        if !matches!(nal::unit_type(unit), nal::SLICE | nal::IDR) {
            return unit.clone();
        }
        let idr = nal::unit_type(unit) == nal::IDR;
        let (mut old, mut new) = (Bits::of_nal(unit), Bits::default());
        for _ in ["first_mb_in_slice", "slice_type", "pic_parameter_set_id"] {
            new.ue(old.read_ue());
        }
        let mut slice = Slice {
            frame_num: old.read(frame_num_bits),
            quantizer_delta: 0,
            mmco5: false,
        };
        let idr_pic_id = idr.then(|| old.read_ue());
        let references = (!idr).then(|| {
            let override_flag = old.read(1);
            let count = (override_flag == 1).then(|| old.read_ue());
            assert_eq!(old.read(1), 0, "the list of references is as it is");
            count
        });
        let marking = old.read(if idr { 2 } else { 1 });
        assert!(idr || marking == 0, "references slide");
        slice.quantizer_delta = old.read_se();
        edit(count, &mut slice);
        count += 1;

        new.put(
            frame_num_bits,
            slice.frame_num & ((1 << frame_num_bits) - 1),
        );
        if let Some(id) = idr_pic_id {
            new.ue(id);
        }
        if let Some(references) = references {
            new.put(1, references.is_some().into());
            if let Some(count) = references {
                new.ue(count);
            }
            new.put(1, 0);
        }
        match (idr, slice.mmco5) {
            (true, _) => new.put(2, marking),
            (false, false) => new.put(1, 0),
            (false, true) => new.put(1, 1).ue(5).ue(0),
        };
        new.se(slice.quantizer_delta).raw(old.rest());
        new.into_nal(unit[0])
    };
    nals.iter().map(&mut anew).collect()
}

/// A [`REWRITABLE`] stream with a different PPS of the same id before each frame but the first, five in rotation. It
/// decodes to the same frames.
pub fn with_changing_pps(plain: &[Bytes]) -> Vec<Bytes> {
    let by = |nth: usize| nth as i32 % 5;
    let pps = plain.iter().find(|unit| nal::unit_type(unit) == nal::PPS);
    let pps = pps.expect("a PPS");
    let anew = rewrite(plain, |nth, slice| slice.quantizer_delta -= by(nth));
    let (mut nals, mut nth) = (Vec::new(), 0);
    for unit in anew {
        if matches!(nal::unit_type(&unit), nal::SLICE | nal::IDR) {
            nals.extend((nth > 0).then(|| requantized(pps, by(nth))));
            nth += 1;
        }
        nals.push(unit);
    }
    nals
}

/// A [`REWRITABLE`] stream in which every seventh frame has `memory_management_control_operation` 5. It decodes to the
/// same frames.
pub fn with_mmco5(plain: &[Bytes]) -> Vec<Bytes> {
    let mut counted = 0;
    rewrite(plain, |nth, slice| {
        slice.frame_num = counted;
        slice.mmco5 = nth % 7 == 3;
        counted = if slice.mmco5 { 1 } else { counted + 1 };
    })
}

/// A PPS of a [`REWRITABLE`] stream with its quantizer raised by `by`.
fn requantized(pps: &Bytes, by: i32) -> Bytes {
    let (mut old, mut new) = (Bits::of_nal(pps), Bits::default());
    new.ue(old.read_ue()).ue(old.read_ue()).put(2, old.read(2));
    assert_eq!(old.read_ue(), 0, "one slice group");
    new.ue(0).ue(old.read_ue()).ue(old.read_ue());
    new.put(3, old.read(3)).se(old.read_se() + by);
    new.raw(old.rest());
    new.into_nal(pps[0])
}

/// Coding of the frames of an interlaced stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// Every frame as two fields, top field first.
    TopFirst,
    /// Every frame as two fields, bottom field first.
    BottomFirst,
    /// Alternating field pairs and frames.
    Mixed,
}

/// Width and height in macroblocks.
const WIDTH: u32 = 4;
const FIELD_HEIGHT: u32 = 2;
/// Distance in frames between two reference frames.
const STEP: u32 = 3;

/// `count` frames of 64×64 raw samples, frame-adaptive (PAFF), 25 per second. Every third frame in display order is a
/// reference frame and is sent before the two non-reference frames that are shown before it. There is one IDR frame.
pub fn interlaced(coding: Coding, count: u32) -> Vec<Bytes> {
    let mut nals = vec![interlaced_sps(), interlaced_pps()];
    let mut references = 0;
    let shown = std::iter::once(0).chain(
        (STEP..)
            .step_by(STEP as usize)
            .flat_map(|last| std::iter::once(last).chain(last + 1 - STEP..last)),
    );
    for shown in shown.take(count as usize) {
        let reference = shown.is_multiple_of(STEP);
        let frame_num = references;
        references += u32::from(reference);
        let as_frame = coding == Coding::Mixed && shown % 2 == 1 && !reference;
        let fields: &[Option<bool>] = match coding {
            _ if as_frame => &[None],
            Coding::BottomFirst => &[Some(true), Some(false)],
            _ => &[Some(false), Some(true)],
        };
        for (nth, bottom) in fields.iter().enumerate() {
            let slice = Raw {
                idr: shown == 0 && nth == 0,
                reference,
                frame_num,
                bottom: *bottom,
                order: 2 * shown + nth as u32,
            };
            nals.push(slice.nal());
        }
    }
    nals
}

/// A slice of raw samples.
struct Raw {
    idr: bool,
    reference: bool,
    frame_num: u32,
    /// For a field, whether it is the bottom one.
    bottom: Option<bool>,
    order: u32,
}

impl Raw {
    fn nal(&self) -> Bytes {
        const I_ONLY: u32 = 7;
        const I_PCM: u32 = 25;
        let mut bits = Bits::default();
        bits.ue(0).ue(I_ONLY).ue(0).put(8, self.frame_num & 0xff);
        bits.put(1, self.bottom.is_some().into());
        if let Some(bottom) = self.bottom {
            bits.put(1, bottom.into());
        }
        if self.idr {
            bits.ue(0);
        }
        bits.put(8, self.order & 0xff);
        match (self.idr, self.reference) {
            (true, _) => bits.put(2, 0),
            (false, true) => bits.put(1, 0),
            (false, false) => &mut bits,
        };
        // No quantizer difference, no deblocking.
        bits.se(0).ue(1);
        let rows = FIELD_HEIGHT * if self.bottom.is_some() { 1 } else { 2 };
        for at in 0..WIDTH * rows {
            bits.ue(I_PCM).align();
            for sample in 0..256 + 2 * 64 {
                bits.put(8, 1 + (self.order * 7 + at * 31 + sample / 16) % 254);
            }
        }
        let kind = if self.idr { 5 } else { 1 };
        bits.into_nal(kind | if self.reference { 0x60 } else { 0 })
    }
}

fn interlaced_sps() -> Bytes {
    let mut bits = Bits::default();
    // Main profile, level 3; frame_num and pic_order_cnt_lsb have 8 bits, four reference frames.
    bits.put(8, 77).put(8, 0).put(8, 30).ue(0);
    bits.ue(4).ue(0).ue(4).ue(4).put(1, 0);
    bits.ue(WIDTH - 1).ue(FIELD_HEIGHT - 1);
    // Not frames only, no macroblock-adaptive coding, direct_8x8_inference_flag; no cropping.
    bits.put(1, 0).put(1, 0).put(1, 1).put(1, 0);
    // VUI: 50 fields per second; one frame is reordered.
    bits.put(1, 1).put(4, 0);
    bits.put(1, 1).put(32, 1).put(32, 50).put(1, 1);
    bits.put(3, 0);
    bits.put(1, 1)
        .put(1, 1)
        .ue(0)
        .ue(0)
        .ue(10)
        .ue(10)
        .ue(1)
        .ue(4);
    bits.into_nal(0x67)
}

fn interlaced_pps() -> Bytes {
    let mut bits = Bits::default();
    bits.ue(0).ue(0).put(2, 0).ue(0).ue(0).ue(0).put(3, 0);
    bits.se(0).se(0).se(0).put(1, 1).put(2, 0);
    bits.into_nal(0x68)
}
