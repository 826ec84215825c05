//! Parameter sets of real streams, and a writer of small synthetic NAL units. For the tests of this crate and, by the
//! feature `testing`, of others.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

pub use super::slice::Field;
use bytes::Bytes;
use h264_reader::rbsp::{BitWrite, BitWriter, ByteWriter};
use proptest::prelude::*;
use std::io::Write;

/// Parameter sets written by ffmpeg with libx264, and the avcC that ffmpeg made of them.
#[derive(Clone, Copy)]
pub struct RealStream {
    pub sps: &'static [u8],
    pub pps: &'static [u8],
    pub avcc: &'static [u8],
}

impl RealStream {
    pub fn nals(&self) -> (Bytes, Bytes) {
        (Bytes::from_static(self.sps), Bytes::from_static(self.pps))
    }
}

/// Streams of each kind: baseline, high, main with B-frames, interlaced, 4:4:4 with 10 bits, a size that needs
/// cropping, full range.
pub const STREAMS: [(&str, RealStream); 7] = [
    ("baseline", RealStream { sps: b"\x67\x42\xc0\x0d\xd9\x01\x41\xfb\x01\x10\x00\x00\x03\x00\x10\x00\x00\x03\x03\x20\xf1\x42\xa4\x80", pps: b"\x68\xcb\x83\xcb\x20", avcc: b"\x01\x42\xc0\x0d\xff\xe1\x00\x18\x67\x42\xc0\x0d\xd9\x01\x41\xfb\x01\x10\x00\x00\x03\x00\x10\x00\x00\x03\x03\x20\xf1\x42\xa4\x80\x01\x00\x05\x68\xcb\x83\xcb\x20" }),
    ("high 1080p", RealStream { sps: b"\x67\x64\x00\x28\xac\xd9\x40\x78\x02\x27\xe5\xc0\x44\x00\x00\x03\x00\x04\x00\x00\x03\x00\xf0\x3c\x60\xc6\x58", pps: b"\x68\xef\x8f\xcb", avcc: b"\x01\x64\x00\x28\xff\xe1\x00\x1b\x67\x64\x00\x28\xac\xd9\x40\x78\x02\x27\xe5\xc0\x44\x00\x00\x03\x00\x04\x00\x00\x03\x00\xf0\x3c\x60\xc6\x58\x01\x00\x04\x68\xef\x8f\xcb\xfd\xf8\xf8\x00" }),
    ("main with B-frames", RealStream { sps: b"\x67\x4d\x40\x0d\xec\xa0\xa0\xfd\x80\x88\x00\x00\x03\x00\x08\x00\x00\x03\x01\x90\x78\xa1\x4c\xb0", pps: b"\x68\xeb\xe3\xcb\x20", avcc: b"\x01\x4d\x40\x0d\xff\xe1\x00\x18\x67\x4d\x40\x0d\xec\xa0\xa0\xfd\x80\x88\x00\x00\x03\x00\x08\x00\x00\x03\x01\x90\x78\xa1\x4c\xb0\x01\x00\x05\x68\xeb\xe3\xcb\x20" }),
    ("interlaced", RealStream { sps: b"\x67\x64\x00\x15\xac\xd9\x41\x41\x0f\xcb\x80\x88\x00\x00\x03\x00\x08\x00\x00\x03\x01\x90\xf8\xa1\x4c\xb0", pps: b"\x68\xfb\xa3\xcb\x22\xc0", avcc: b"\x01\x64\x00\x15\xff\xe1\x00\x1a\x67\x64\x00\x15\xac\xd9\x41\x41\x0f\xcb\x80\x88\x00\x00\x03\x00\x08\x00\x00\x03\x01\x90\xf8\xa1\x4c\xb0\x01\x00\x06\x68\xfb\xa3\xcb\x22\xc0\xfd\xf8\xf8\x00" }),
    ("4:4:4, 10 bits", RealStream { sps: b"\x67\xf4\x00\x0d\x90\xd9\xb2\x82\x83\xf6\x02\x20\x00\x00\x03\x00\x20\x00\x00\x06\x41\xe2\x85\x32\xc0", pps: b"\x68\xef\x8f\x19\x21\x90", avcc: b"\x01\xf4\x00\x0d\xff\xe1\x00\x19\x67\xf4\x00\x0d\x90\xd9\xb2\x82\x83\xf6\x02\x20\x00\x00\x03\x00\x20\x00\x00\x06\x41\xe2\x85\x32\xc0\x01\x00\x06\x68\xef\x8f\x19\x21\x90\xff\xfa\xfa\x00" }),
    ("642x362", RealStream { sps: b"\x67\x64\x00\x16\xac\xd9\x40\xa4\x2f\xe2\x24\xc0\x44\x00\x00\x03\x00\x04\x00\x00\x03\x00\x78\x3c\x58\xb6\x58", pps: b"\x68\xef\x8f\xcb", avcc: b"\x01\x64\x00\x16\xff\xe1\x00\x1b\x67\x64\x00\x16\xac\xd9\x40\xa4\x2f\xe2\x24\xc0\x44\x00\x00\x03\x00\x04\x00\x00\x03\x00\x78\x3c\x58\xb6\x58\x01\x00\x04\x68\xef\x8f\xcb\xfd\xf8\xf8\x00" }),
    ("full range", RealStream { sps: b"\x67\x64\x00\x0d\xac\xd9\x41\x41\xfb\x01\x6c\x80\x00\x00\x03\x00\x80\x00\x00\x19\x07\x8a\x14\xcb", pps: b"\x68\xef\x8f\xcb", avcc: b"\x01\x64\x00\x0d\xff\xe1\x00\x18\x67\x64\x00\x0d\xac\xd9\x41\x41\xfb\x01\x6c\x80\x00\x00\x03\x00\x80\x00\x00\x19\x07\x8a\x14\xcb\x01\x00\x04\x68\xef\x8f\xcb\xfd\xf8\xf8\x00" }),
];

/// Writes a NAL unit with this header byte, with emulation prevention.
pub fn nal(
    header: u8,
    write: impl FnOnce(&mut BitWriter<&mut Vec<u8>>) -> std::io::Result<()>,
) -> Bytes {
    let mut rbsp = Vec::new();
    let mut bits = BitWriter::new(&mut rbsp);
    write(&mut bits).unwrap();
    bits.write_rbsp_trailing_bits().unwrap();
    let mut nal = vec![header];
    ByteWriter::new(&mut nal).write_all(&rbsp).unwrap();
    Bytes::from(nal)
}

/// A small SPS. It has a VUI only if `pixel_aspect` is set.
#[derive(Debug, Clone, Copy)]
pub struct SpsOptions {
    pub id: u32,
    pub profile: u8,
    pub level: u8,
    pub poc_type: u32,
    pub width_mbs: u32,
    pub height_mbs: u32,
    pub crop_right: u32,
    pub fields: bool,
    pub gaps_allowed: bool,
    /// `sar_width` and `sar_height`.
    pub pixel_aspect: Option<(u16, u16)>,
}

impl Default for SpsOptions {
    fn default() -> Self {
        Self {
            id: 0,
            profile: 77,
            level: 31,
            poc_type: 0,
            width_mbs: 20,
            height_mbs: 15,
            crop_right: 0,
            fields: false,
            gaps_allowed: false,
            pixel_aspect: None,
        }
    }
}

impl SpsOptions {
    pub fn nal(&self) -> Bytes {
        nal(0x67, |bits| {
            bits.write::<8, u8>(self.profile)?;
            bits.write::<8, u8>(0)?;
            bits.write::<8, u8>(self.level)?;
            bits.write_ue(self.id)?;
            bits.write_ue(0)?; // log2_max_frame_num_minus4
            bits.write_ue(self.poc_type)?;
            match self.poc_type {
                0 => bits.write_ue(0)?, // log2_max_pic_order_cnt_lsb_minus4
                1 => {
                    bits.write_bit(false)?; // delta_pic_order_always_zero_flag
                    bits.write_se(0)?;
                    bits.write_se(0)?;
                    bits.write_ue(0)?;
                }
                _ => {}
            }
            bits.write_ue(1)?; // max_num_ref_frames
            bits.write_bit(self.gaps_allowed)?;
            bits.write_ue(self.width_mbs - 1)?;
            bits.write_ue(self.height_mbs - 1)?;
            bits.write_bit(!self.fields)?;
            if self.fields {
                bits.write_bit(false)?; // mb_adaptive_frame_field_flag
            }
            bits.write_bit(true)?; // direct_8x8_inference_flag
            bits.write_bit(self.crop_right > 0)?;
            if self.crop_right > 0 {
                for offset in [0, self.crop_right, 0, 0] {
                    bits.write_ue(offset)?;
                }
            }
            bits.write_bit(self.pixel_aspect.is_some())?; // vui_parameters_present_flag
            let Some((width, height)) = self.pixel_aspect else {
                return Ok(());
            };
            bits.write_bit(true)?; // aspect_ratio_info_present_flag
            bits.write::<8, u8>(255)?; // aspect_ratio_idc: Extended_SAR
            bits.write::<16, u16>(width)?;
            bits.write::<16, u16>(height)?;
            // Absent: overscan, signal type, chroma location, timing, two HRDs, pic_struct, restrictions.
            bits.write::<8, u8>(0)
        })
    }
}

/// A small PPS.
#[derive(Debug, Clone, Copy, Default)]
pub struct PpsOptions {
    pub id: u8,
    pub sps_id: u32,
    pub bottom_field_order: bool,
    pub redundant_pictures: bool,
    pub qp: i32,
}

impl PpsOptions {
    pub fn nal(&self) -> Bytes {
        self.nal_with_groups(|bits| bits.write_ue(0))
    }

    fn nal_with_groups(
        &self,
        groups: impl FnOnce(&mut BitWriter<&mut Vec<u8>>) -> std::io::Result<()>,
    ) -> Bytes {
        nal(0x68, |bits| {
            bits.write_ue(self.id.into())?;
            bits.write_ue(self.sps_id)?;
            bits.write_bit(false)?; // entropy_coding_mode_flag
            bits.write_bit(self.bottom_field_order)?;
            groups(bits)?;
            bits.write_ue(0)?;
            bits.write_ue(0)?;
            bits.write::<3, u8>(0)?; // weighted_pred_flag, weighted_bipred_idc
            bits.write_se(self.qp)?;
            bits.write_se(0)?;
            bits.write_se(0)?;
            bits.write_bit(false)?; // deblocking_filter_control_present_flag
            bits.write_bit(false)?; // constrained_intra_pred_flag
            bits.write_bit(self.redundant_pictures)
        })
    }
}

/// A PPS of id 3 that refers to SPS 2 and has three slice groups of `map_type`.
pub fn pps_with_slice_groups(map_type: u32) -> Bytes {
    let options = PpsOptions {
        id: 3,
        sps_id: 2,
        bottom_field_order: true,
        redundant_pictures: true,
        qp: 0,
    };
    options.nal_with_groups(|bits| {
        bits.write_ue(2)?;
        bits.write_ue(map_type)?;
        match map_type {
            0 => [3, 4, 5].into_iter().try_for_each(|run| bits.write_ue(run)),
            2 => [1, 2, 3, 4]
                .into_iter()
                .try_for_each(|corner| bits.write_ue(corner)),
            3..=5 => {
                bits.write_bit(true)?;
                bits.write_ue(7)
            }
            6 => {
                bits.write_ue(99)?;
                (0..100).try_for_each(|mb| bits.write::<2, u8>(mb % 3))
            }
            _ => Ok(()),
        }
    })
}

/// A slice with a valid header and an arbitrary payload.
#[derive(Debug, Clone, Copy)]
pub struct SliceOptions {
    pub ref_idc: u8,
    pub idr: bool,
    pub first_mb: u32,
    /// `slice_type`: 0 is P, 1 is B, 2 is I.
    pub slice_type: u32,
    pub frame_num: u32,
    pub field: Option<Field>,
    pub idr_pic_id: u32,
    /// `pic_order_cnt_lsb` and `delta_pic_order_cnt_bottom`, or `delta_pic_order_cnt[0]` and `[1]`.
    pub order: [i32; 2],
    pub redundant: u32,
    /// Whether it has `memory_management_control_operation` 5.
    pub mmco5: bool,
    /// Payload, to make slices distinguishable.
    pub payload: u16,
}

impl Default for SliceOptions {
    fn default() -> Self {
        Self {
            ref_idc: 2,
            idr: false,
            first_mb: 0,
            slice_type: 0,
            frame_num: 0,
            field: None,
            idr_pic_id: 0,
            order: [0, 0],
            redundant: 0,
            mmco5: false,
            payload: 0xbeef,
        }
    }
}

impl SliceOptions {
    /// Writes the slice for an SPS and a PPS of these options.
    pub fn nal(&self, sps: &SpsOptions, pps: &PpsOptions) -> Bytes {
        let header = self.ref_idc << 5 | if self.idr { 5 } else { 1 };
        nal(header, |bits| {
            bits.write_ue(self.first_mb)?;
            bits.write_ue(self.slice_type)?;
            bits.write_ue(pps.id.into())?;
            bits.write_var(4, self.frame_num)?;
            if sps.fields {
                bits.write_bit(self.field.is_some())?;
                if let Some(field) = self.field {
                    bits.write_bit(field == Field::Bottom)?;
                }
            }
            if self.idr {
                bits.write_ue(self.idr_pic_id)?;
            }
            let both_fields = pps.bottom_field_order && self.field.is_none();
            match sps.poc_type {
                0 => {
                    bits.write_var(4, self.order[0] as u32)?;
                    if both_fields {
                        bits.write_se(self.order[1])?;
                    }
                }
                1 => {
                    bits.write_se(self.order[0])?;
                    if both_fields {
                        bits.write_se(self.order[1])?;
                    }
                }
                _ => {}
            }
            if pps.redundant_pictures {
                bits.write_ue(self.redundant)?;
            }
            match self.slice_type % 5 {
                // num_ref_idx_active_override_flag, ref_pic_list_modification_flag_l0
                0 => bits.write::<2, u8>(0)?,
                // The same after direct_spatial_mv_pred_flag, for two lists.
                1 => bits.write::<4, u8>(0)?,
                _ => {}
            }
            if self.ref_idc > 0 {
                match (self.idr, self.mmco5) {
                    (true, _) => bits.write::<2, u8>(0)?,
                    (false, false) => bits.write_bit(false)?,
                    (false, true) => {
                        bits.write_bit(true)?;
                        bits.write_ue(5)?;
                        bits.write_ue(0)?;
                    }
                }
            }
            bits.write::<16, u16>(self.payload)
        })
    }
}

/// An SEI NAL unit with a recovery point message.
pub fn recovery_sei(frames: u32) -> Bytes {
    let mut payload = Vec::new();
    let mut bits = BitWriter::new(&mut payload);
    bits.write_ue(frames).unwrap();
    bits.write::<4, u8>(0b1000).unwrap();
    bits.write_rbsp_trailing_bits().unwrap();
    let mut sei = vec![6, 6, payload.len() as u8];
    sei.extend_from_slice(&payload);
    sei.push(0x80);
    Bytes::from(sei)
}

/// Arbitrary bytes as a valid NAL unit.
pub fn nal_unit() -> impl Strategy<Value = Bytes> {
    (1u8..128, prop::collection::vec(byte(), 0..40), 1u8..=255).prop_map(|(header, body, last)| {
        let mut nal = vec![header];
        let mut writer = ByteWriter::new(&mut nal);
        writer.write_all(&body).unwrap();
        writer.write_all(&[last]).unwrap();
        Bytes::from(nal)
    })
}

/// Bytes with many start codes and runs of zeros.
pub fn stream_bytes() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(byte(), 0..200)
}

fn byte() -> impl Strategy<Value = u8> {
    prop_oneof![4 => Just(0u8), 2 => Just(1u8), 1 => Just(3u8), 2 => any::<u8>()]
}

/// Splits `stream` into chunks of the given lengths and a last one with the rest.
pub fn chunks(stream: &[u8], lengths: &[usize]) -> Vec<Bytes> {
    let mut rest = stream;
    let mut chunks = Vec::new();
    for length in lengths {
        let (chunk, tail) = rest.split_at((*length).min(rest.len()));
        chunks.push(Bytes::copy_from_slice(chunk));
        rest = tail;
    }
    chunks.push(Bytes::copy_from_slice(rest));
    chunks
}
