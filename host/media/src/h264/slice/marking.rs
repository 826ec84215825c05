//! `dec_ref_pic_marking` of a slice header (ISO/IEC 14496-10 7.3.3.3). Everything between `redundant_pic_cnt` and it
//! has to be parsed to find it.

use super::super::parameter_sets::{Pps, Sps};
use h264_reader::rbsp::{BitRead, BitReaderError};

/// Largest number of entries of a reference list (7.4.3.1), or of marking operations, that is accepted: more than any
/// picture needs.
const MAX_ENTRIES: usize = 80;
/// Values of `slice_type` modulo 5.
const B: u32 = 1;
const I: u32 = 2;
const SI: u32 = 4;

/// Marking of reference pictures by this picture.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Marking {
    /// `long_term_reference_flag` of an IDR picture.
    pub long_term: bool,
    /// `memory_management_control_operation` 5 is present.
    pub forgets: bool,
}

/// Continues after `redundant_pic_cnt`, in a slice of a reference picture.
pub fn read(
    bits: &mut impl BitRead,
    idr: bool,
    slice_type: u32,
    pps: &Pps,
    sps: &Sps,
) -> Result<Marking, BitReaderError> {
    let kind = slice_type % 5;
    let lists = match kind {
        I | SI => 0,
        B => 2,
        _ => 1,
    };
    let mut references = pps.references;
    if kind == B {
        bits.skip(1, "direct_spatial_mv_pred_flag")?;
    }
    if lists > 0 && bits.read_bit("num_ref_idx_active_override_flag")? {
        for count in &mut references[..lists] {
            *count = bits.read_ue("num_ref_idx_active_minus1")?.min(31) + 1;
        }
    }
    for _ in 0..lists {
        skip_modification(bits)?;
    }
    let weighted = match kind {
        B => pps.weighted_b,
        _ => lists > 0 && pps.weighted,
    };
    if weighted {
        skip_weights(bits, &references[..lists], sps.slice.chroma)?;
    }
    if idr {
        bits.skip(1, "no_output_of_prior_pics_flag")?;
        return Ok(Marking {
            long_term: bits.read_bit("long_term_reference_flag")?,
            forgets: false,
        });
    }
    let mut marking = Marking::default();
    if !bits.read_bit("adaptive_ref_pic_marking_mode_flag")? {
        return Ok(marking);
    }
    let name = "memory_management_control_operation";
    for _ in 0..MAX_ENTRIES {
        let operands = match bits.read_ue(name)? {
            0 => return Ok(marking),
            1 | 2 | 4 | 6 => 1,
            3 => 2,
            5 => {
                marking.forgets = true;
                0
            }
            _ => break,
        };
        for _ in 0..operands {
            bits.read_ue(name)?;
        }
    }
    Err(BitReaderError::ExpGolombTooLarge(name))
}

/// Skips `ref_pic_list_modification` of one list (7.3.3.1).
fn skip_modification(bits: &mut impl BitRead) -> Result<(), BitReaderError> {
    if !bits.read_bit("ref_pic_list_modification_flag")? {
        return Ok(());
    }
    let name = "modification_of_pic_nums_idc";
    for _ in 0..MAX_ENTRIES {
        match bits.read_ue(name)? {
            0..=2 => bits.read_ue(name)?,
            3 => return Ok(()),
            _ => break,
        };
    }
    Err(BitReaderError::ExpGolombTooLarge(name))
}

/// Skips `pred_weight_table` (7.3.3.2).
fn skip_weights(
    bits: &mut impl BitRead,
    references: &[u32],
    chroma: bool,
) -> Result<(), BitReaderError> {
    let name = "pred_weight_table";
    bits.read_ue(name)?;
    if chroma {
        bits.read_ue(name)?;
    }
    for _ in 0..references.iter().sum::<u32>() {
        for numbers in if chroma { &[2, 4][..] } else { &[2] } {
            if bits.read_bit(name)? {
                for _ in 0..*numbers {
                    bits.read_se(name)?;
                }
            }
        }
    }
    Ok(())
}
