//! Sequence and picture parameter sets (ISO/IEC 14496-10 7.3.2.1 and 7.3.2.2).
//!
//! [`ParameterSets`] is the public result: the NAL units a picture decodes with and the picture format they describe.
//! The internal `Sps` and `Pps` have the fields that slice headers depend on. Devices write questionable SPS, so that
//! parsing is tolerant (`tolerant`), and an invalid level is replaced in the codec string and avcC (`level`); the NAL
//! units themselves are never changed.

use super::avcc::DecoderConfig;
use super::nal;
use crate::geometry::{Geometry, PixelAspect};
use crate::sample::{Codec, Video};
use bytes::Bytes;
use h264_reader::nal::sps::{ChromaFormat, FrameMbsFlags, PicOrderCntType, SeqParameterSet};
use h264_reader::rbsp::{BitRead, BitReader, BitReaderError, ByteReader, decode_nal};
use level::Requirements;
use tolerant::Tolerant;

mod level;
mod tolerant;

/// Largest accepted parameter set in bytes. Real ones have 10 to 200; one with all scaling matrices and 32 HRD
/// schedules stays below 2 KiB.
pub const MAX_SIZE: usize = 8 << 10;
/// Longest accepted side of a picture in pixels.
pub const MAX_SIDE: u32 = 16384;

/// The parameter sets that a picture decodes with. Equal if their NAL units are.
#[derive(Debug, Clone)]
pub struct ParameterSets {
    /// Sequence parameter sets as NAL units, starting with the one in use.
    pub sps: Vec<Bytes>,
    /// Picture parameter sets as NAL units.
    pub pps: Vec<Bytes>,
    /// Picture format that the SPS in use describes.
    pub picture: Picture,
    head: Head,
    requirements: Option<Requirements>,
}

/// Picture format that an SPS describes.
#[derive(Debug, Clone, PartialEq)]
pub struct Picture {
    /// Width in pixels after cropping; 1 to [`MAX_SIDE`].
    pub width: u32,
    /// Height of a whole frame in pixels after cropping; 1 to [`MAX_SIDE`].
    pub height: u32,
    /// `profile_idc` (annex A.2).
    pub profile_idc: u8,
    /// `level_idc`: ten times the level (annex A.3). If the SPS names no level that exists (some encoders write 0), the
    /// lowest one that fits.
    pub level_idc: u8,
    /// Codec string (RFC 6381, ISO/IEC 14496-15 annex E) such as `avc1.64001f`.
    pub codec: String,
    /// Frames per second from the VUI (E.2.1), if it states a rate above 0 and up to 300.
    pub frame_rate: Option<f32>,
    /// Number of frames that may precede another in decoding order and follow it in output order:
    /// `max_num_reorder_frames`, or 0 if the profile or the POC type excludes reordering. `None` if unknown.
    pub reorder: Option<u8>,
    /// Luma has the range 0 to 255 instead of 16 to 235.
    pub full_range: bool,
    /// Pixel aspect ratio from the VUI (E.2.1), if stated.
    pub pixel_aspect: Option<PixelAspect>,
}

/// Reason why a parameter set is rejected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No NAL unit of this type was given.
    #[error("no {0} was given; a decoder needs an SPS and a PPS")]
    Missing(&'static str),
    /// The NAL unit is longer than [`MAX_SIZE`].
    #[error("the {what} has {size} bytes, at most {MAX_SIZE} are accepted; it is ignored")]
    TooLarge {
        /// "SPS" or "PPS".
        what: &'static str,
        /// Size of the NAL unit in bytes.
        size: usize,
    },
    /// The NAL unit cannot be parsed.
    #[error("the {what} is invalid ({reason}); it is ignored")]
    Broken {
        /// "SPS" or "PPS".
        what: &'static str,
        /// Reason given by the parser.
        reason: String,
    },
    /// The SPS describes a picture size that is not accepted.
    #[error(
        "the SPS declares {width}×{height} pixels, but sides of 1 to {MAX_SIDE} are accepted; it is ignored"
    )]
    Size {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
}

impl ParameterSets {
    /// Creates parameter sets from out-of-band ones (avcC, SDP). The first SPS is taken as the one in use; the others
    /// are checked for size only.
    pub fn new(sps: &[Bytes], pps: &[Bytes]) -> Result<Self, Error> {
        let parsed = Sps::parse(sps.first().ok_or(Error::Missing("SPS"))?)?;
        for nal in pps {
            Pps::parse(nal)?;
        }
        if pps.is_empty() {
            return Err(Error::Missing("PPS"));
        }
        for nal in sps {
            check_size(nal, "SPS")?;
        }
        Ok(Self {
            sps: sps.to_vec(),
            pps: pps.to_vec(),
            picture: parsed.picture,
            head: parsed.head,
            requirements: parsed.requirements,
        })
    }

    /// The same parameter sets for a stream of `rate` frames per second (0: unknown), on which the level depends if the
    /// SPS names no valid one.
    pub fn at_rate(&self, rate: f32) -> Self {
        let mut sets = self.clone();
        if let Some(requirements) = self.requirements.filter(|_| rate > 0.0) {
            let level = level::lowest(requirements, rate);
            (sets.head.level_idc, sets.picture.level_idc) = (level, level);
            sets.picture.codec = sets.head.codec();
        }
        sets
    }

    /// Writes an AVCDecoderConfigurationRecord (avcC, ISO/IEC 14496-15 5.3.3.1) for samples with lengths of four bytes.
    pub fn decoder_config(&self) -> Bytes {
        DecoderConfig::write(self)
    }

    /// The video track that these parameter sets describe. `claimed_rate` (frames per second, 0: unknown) takes
    /// precedence over the rate in them.
    pub fn video(&self, claimed_rate: f32) -> Video {
        let frame_rate = if claimed_rate > 0.0 {
            claimed_rate
        } else {
            self.picture.frame_rate.unwrap_or(0.0)
        };
        let sets = self.at_rate(frame_rate);
        Video {
            codec: Codec::H264,
            config: sets.decoder_config(),
            codec_string: sets.picture.codec,
            width: sets.picture.width,
            height: sets.picture.height,
            geometry: Geometry {
                pixel_aspect: sets.picture.pixel_aspect.unwrap_or_default(),
                ..Geometry::default()
            },
            frame_rate,
            keyframe_ms: 0,
        }
    }

    pub(super) fn of_picture(sps: &Sps, pps: Vec<Bytes>) -> Self {
        Self {
            sps: vec![sps.nal.clone()],
            pps,
            picture: sps.picture.clone(),
            head: sps.head,
            requirements: sps.requirements,
        }
    }

    pub(super) fn head(&self) -> Head {
        self.head
    }
}

impl PartialEq for ParameterSets {
    fn eq(&self, other: &Self) -> bool {
        self.sps == other.sps && self.pps == other.pps
    }
}

/// Fields of the SPS that the avcC repeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub profile_idc: u8,
    pub constraints: u8,
    pub level_idc: u8,
    /// `chroma_format_idc`, 0 to 3.
    pub chroma_format: u8,
    /// Bits per luma sample, 8 to 14.
    pub bit_depth_luma: u8,
    /// Bits per chroma sample, 8 to 14.
    pub bit_depth_chroma: u8,
}

impl Head {
    /// Codec string (RFC 6381).
    fn codec(&self) -> String {
        let Head {
            profile_idc,
            constraints,
            level_idc,
            ..
        } = self;
        format!("avc1.{profile_idc:02x}{constraints:02x}{level_idc:02x}")
    }
}

/// Properties of an SPS that determine the syntax of slice headers (7.3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SliceSyntax {
    pub separate_colour_planes: bool,
    /// `ChromaArrayType` is not 0.
    pub chroma: bool,
    pub frame_num_bits: u32,
    /// `gaps_in_frame_num_value_allowed_flag`: `frame_num` may skip values on purpose.
    pub gaps_allowed: bool,
    pub frames_only: bool,
    pub order: OrderSyntax,
}

/// Coding of picture order counts (8.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OrderSyntax {
    Lsb { bits: u32 },
    Delta,
    Nothing,
}

/// A parsed sequence parameter set.
#[derive(Debug, Clone)]
pub(super) struct Sps {
    pub nal: Bytes,
    pub id: u8,
    pub picture: Picture,
    pub head: Head,
    pub slice: SliceSyntax,
    /// Macroblocks per frame; in an interlaced stream half of them.
    pub macroblocks: u32,
    /// `max_num_ref_frames`.
    pub reference_frames: u32,
    /// The profile has I slices only.
    pub intra_only: bool,
    /// Distance in output order of a non-reference picture from the reference picture before it, if it is not coded:
    /// `offset_for_non_ref_pic` (8.2.1.2), or 1 for type 2 (8.2.1.3).
    pub order_step: i32,
    /// Present if `pic_order_cnt_type` is 1.
    pub cycle: Option<Cycle>,
    /// Present if `level_idc` is not a level that exists.
    pub requirements: Option<Requirements>,
}

/// Expected differences of picture order counts of type 1 (8.2.1.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cycle {
    /// `offset_for_ref_frame`; at most 255 entries.
    pub offsets: Vec<i32>,
    /// `offset_for_top_to_bottom_field`.
    pub between_fields: i32,
}

impl Sps {
    pub fn parse(nal: &Bytes) -> Result<Self, Error> {
        let what = "SPS";
        check_size(nal, what)?;
        let broken = |reason: String| Error::Broken { what, reason };
        if nal::unit_type(nal) != nal::SPS {
            return Err(broken(format!("NAL unit type {}", nal::unit_type(nal))));
        }
        let mut rbsp = decode_nal(nal)
            .map_err(|error| broken(error.to_string()))?
            .into_owned();
        // Encoders understate the level, and the parser would reject the picture size; hide the level from it.
        let level_idc = match rbsp.get_mut(2) {
            Some(level) => std::mem::replace(level, u8::MAX),
            None => return Err(broken("too short".to_owned())),
        };
        let sps = SeqParameterSet::from_bits(Tolerant::new(&rbsp, false))
            .or_else(|_| SeqParameterSet::from_bits(Tolerant::new(&rbsp, true)))
            .map_err(|error| broken(format!("{error:?}")))?;

        let profile_idc = u8::from(sps.profile_idc);
        let constraints = u8::from(sps.constraint_flags);
        let chroma = &sps.chroma_info;
        let chroma_format = match chroma.chroma_format {
            ChromaFormat::Monochrome => 0,
            ChromaFormat::YUV420 => 1,
            ChromaFormat::YUV422 => 2,
            ChromaFormat::YUV444 => 3,
            ChromaFormat::Invalid(value) => return Err(broken(format!("chroma format {value}"))),
        };
        let (width, height) = sps
            .pixel_dimensions()
            .map_err(|error| broken(format!("{error:?}")))?;
        let sides = 1..=MAX_SIDE;
        if !sides.contains(&width) || !sides.contains(&height) {
            return Err(Error::Size { width, height });
        }
        let frame_rate = frame_rate(&sps);
        let requirements = (!level::exists(level_idc)).then(|| requirements(&sps));
        let head = Head {
            profile_idc,
            constraints,
            level_idc: requirements.map_or(level_idc, |requirements| {
                level::lowest(requirements, frame_rate.unwrap_or(0.0))
            }),
            chroma_format,
            bit_depth_luma: 8 + chroma.bit_depth_luma_minus8,
            bit_depth_chroma: 8 + chroma.bit_depth_chroma_minus8,
        };
        Ok(Self {
            requirements,
            macroblocks: sps.pic_size_in_map_units(),
            reference_frames: sps.max_num_ref_frames,
            intra_only: intra_only(&sps),
            order_step: match sps.pic_order_cnt {
                PicOrderCntType::TypeOne {
                    offset_for_non_ref_pic,
                    ..
                } => offset_for_non_ref_pic,
                _ => 1,
            },
            cycle: match &sps.pic_order_cnt {
                PicOrderCntType::TypeOne {
                    offset_for_top_to_bottom_field,
                    offsets_for_ref_frame,
                    ..
                } => Some(Cycle {
                    offsets: offsets_for_ref_frame.clone(),
                    between_fields: *offset_for_top_to_bottom_field,
                }),
                _ => None,
            },
            nal: nal.clone(),
            id: sps.seq_parameter_set_id.id(),
            picture: Picture {
                width,
                height,
                profile_idc,
                level_idc: head.level_idc,
                codec: head.codec(),
                frame_rate,
                reorder: reorder(&sps),
                full_range: sps
                    .vui_parameters
                    .as_ref()
                    .and_then(|vui| vui.video_signal_type.as_ref())
                    .is_some_and(|signal| signal.video_full_range_flag),
                pixel_aspect: pixel_aspect(&sps),
            },
            head,
            slice: SliceSyntax {
                separate_colour_planes: chroma.separate_colour_plane_flag,
                chroma: chroma_format != 0 && !chroma.separate_colour_plane_flag,
                frame_num_bits: u32::from(sps.log2_max_frame_num()),
                gaps_allowed: sps.gaps_in_frame_num_value_allowed_flag,
                frames_only: sps.frame_mbs_flags == FrameMbsFlags::Frames,
                order: match sps.pic_order_cnt {
                    PicOrderCntType::TypeZero {
                        log2_max_pic_order_cnt_lsb_minus4,
                    } => OrderSyntax::Lsb {
                        bits: u32::from(log2_max_pic_order_cnt_lsb_minus4) + 4,
                    },
                    PicOrderCntType::TypeOne {
                        delta_pic_order_always_zero_flag: false,
                        ..
                    } => OrderSyntax::Delta,
                    PicOrderCntType::TypeOne { .. } | PicOrderCntType::TypeTwo => {
                        OrderSyntax::Nothing
                    }
                },
            },
        })
    }
}

/// The fields of a picture parameter set that slice headers depend on. The rest is not checked, and no SPS is needed
/// for parsing, since a PPS may arrive first.
#[derive(Debug, Clone)]
pub(super) struct Pps {
    pub nal: Bytes,
    pub id: u8,
    pub sps_id: u8,
    /// `bottom_field_pic_order_in_frame_present_flag`.
    pub bottom_field_order: bool,
    /// `redundant_pic_cnt_present_flag`.
    pub redundant_pictures: bool,
    /// `entropy_coding_mode_flag`.
    pub cabac: bool,
    /// There is more than one slice group.
    pub slice_groups: bool,
    /// `num_ref_idx_l0_default_active_minus1` and `num_ref_idx_l1_default_active_minus1`, plus 1; at most 32.
    pub references: [u32; 2],
    /// `weighted_pred_flag`.
    pub weighted: bool,
    /// `weighted_bipred_idc` is 1: B slices contain explicit weights.
    pub weighted_b: bool,
    /// 26 + `pic_init_qp_minus26`; -36 to 51.
    pub quantizer: i32,
    /// `deblocking_filter_control_present_flag`.
    pub deblocking_control: bool,
}

impl Pps {
    pub fn parse(nal: &Bytes) -> Result<Self, Error> {
        let what = "PPS";
        check_size(nal, what)?;
        let broken = |reason: String| Error::Broken { what, reason };
        if nal::unit_type(nal) != nal::PPS {
            return Err(broken(format!("NAL unit type {}", nal::unit_type(nal))));
        }
        let mut bits = BitReader::new(ByteReader::skipping_h264_header(&nal[..]));
        Self::read(&mut bits, nal).map_err(|error| broken(format!("{error:?}")))
    }

    fn read(bits: &mut impl BitRead, nal: &Bytes) -> Result<Self, BitReaderError> {
        let too_large = |name| move |_| BitReaderError::ExpGolombTooLarge(name);
        let id = "pic_parameter_set_id";
        let id = u8::try_from(bits.read_ue(id)?).map_err(too_large(id))?;
        let sps_id = "seq_parameter_set_id";
        let sps_id = u8::try_from(bits.read_ue(sps_id)?).map_err(too_large(sps_id))?;
        if sps_id > 31 {
            return Err(BitReaderError::ExpGolombTooLarge("seq_parameter_set_id"));
        }
        let cabac = bits.read_bit("entropy_coding_mode_flag")?;
        let bottom_field_order = bits.read_bit("bottom_field_pic_order_in_frame_present_flag")?;
        let slice_groups = skip_slice_groups(bits)?;
        let references = [
            bits.read_ue("num_ref_idx_l0_default_active_minus1")?,
            bits.read_ue("num_ref_idx_l1_default_active_minus1")?,
        ];
        let weighted = bits.read_bit("weighted_pred_flag")?;
        let weighted_b = bits.read::<2, u8>("weighted_bipred_idc")? == 1;
        let quantizer = bits.read_se("pic_init_qp_minus26")?.clamp(-62, 25) + 26;
        bits.read_se("pic_init_qs_minus26")?;
        bits.read_se("chroma_qp_index_offset")?;
        let deblocking_control = bits.read_bit("deblocking_filter_control_present_flag")?;
        bits.skip(1, "constrained_intra_pred_flag")?;
        Ok(Self {
            nal: nal.clone(),
            id,
            sps_id,
            bottom_field_order,
            redundant_pictures: bits.read_bit("redundant_pic_cnt_present_flag")?,
            cabac,
            slice_groups,
            references: references.map(|last| last.min(31) + 1),
            weighted,
            weighted_b,
            quantizer,
            deblocking_control,
        })
    }
}

/// Skips the slice group parameters and returns whether there is more than one slice group.
fn skip_slice_groups(bits: &mut impl BitRead) -> Result<bool, BitReaderError> {
    let name = "num_slice_groups_minus1";
    let last_group = bits.read_ue(name)?;
    if last_group > 7 {
        return Err(BitReaderError::ExpGolombTooLarge(name));
    }
    if last_group == 0 {
        return Ok(false);
    }
    match bits.read_ue("slice_group_map_type")? {
        0 => {
            for _ in 0..=last_group {
                bits.read_ue("run_length_minus1")?;
            }
        }
        2 => {
            for _ in 0..last_group {
                bits.read_ue("top_left")?;
                bits.read_ue("bottom_right")?;
            }
        }
        3..=5 => {
            bits.skip(1, "slice_group_change_direction_flag")?;
            bits.read_ue("slice_group_change_rate_minus1")?;
        }
        6 => {
            // Ceil( Log2( num_slice_groups_minus1 + 1 ) ) bits each. An excessive count runs into the end of the NAL
            // unit.
            let width = u32::BITS - last_group.leading_zeros();
            for _ in 0..=bits.read_ue("pic_size_in_map_units_minus1")? {
                bits.skip(width, "slice_group_id")?;
            }
        }
        _ => {}
    }
    Ok(true)
}

fn check_size(nal: &Bytes, what: &'static str) -> Result<(), Error> {
    match nal.len() {
        0 => Err(Error::Missing(what)),
        size if size > MAX_SIZE => Err(Error::TooLarge { what, size }),
        _ => Ok(()),
    }
}

fn frame_rate(sps: &SeqParameterSet) -> Option<f32> {
    let timing = sps.vui_parameters.as_ref()?.timing_info.as_ref()?;
    // E.2.1: a tick is the duration of a field.
    let rate = f64::from(timing.time_scale) / (2.0 * f64::from(timing.num_units_in_tick));
    (rate > 0.0 && rate <= 300.0).then_some(rate as f32)
}

fn requirements(sps: &SeqParameterSet) -> Requirements {
    let interlaced = sps.frame_mbs_flags != FrameMbsFlags::Frames;
    let restrictions = sps
        .vui_parameters
        .as_ref()
        .and_then(|vui| vui.bitstream_restrictions.as_ref());
    let shown_later = restrictions.map_or(0, |told| told.max_dec_frame_buffering);
    Requirements {
        width: sps.pic_width_in_mbs(),
        height: sps
            .pic_height_in_map_units()
            .saturating_mul(1 + u32::from(interlaced)),
        frames: sps.max_num_ref_frames.max(shown_later),
        interlaced,
    }
}

fn pixel_aspect(sps: &SeqParameterSet) -> Option<PixelAspect> {
    let told = sps.vui_parameters.as_ref()?.aspect_ratio_info.as_ref()?;
    let (width, height) = told.get()?;
    PixelAspect::new(width.into(), height.into())
}

fn reorder(sps: &SeqParameterSet) -> Option<u8> {
    let restrictions = sps
        .vui_parameters
        .as_ref()
        .and_then(|vui| vui.bitstream_restrictions.as_ref());
    if let Some(restrictions) = restrictions {
        return u8::try_from(restrictions.max_num_reorder_frames)
            .ok()
            .filter(|frames| *frames <= 16);
    }
    // Baseline has no B slices (A.2.1), POC type 2 means that output order is decoding order (8.2.1.3), and E.2.1
    // infers 0 for the intra profiles.
    let in_order = u8::from(sps.profile_idc) == 66 || sps.pic_order_cnt == PicOrderCntType::TypeTwo;
    (in_order || intra_only(sps)).then_some(0)
}

fn intra_only(sps: &SeqParameterSet) -> bool {
    matches!(u8::from(sps.profile_idc), 44 | 86 | 100 | 110 | 122 | 244)
        && sps.constraint_flags.flag3()
}

#[cfg(test)]
mod tests;
