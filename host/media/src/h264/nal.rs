//! NAL unit types, ISO/IEC 14496-10 table 7-1.

/// Slice of a non-IDR picture.
pub const SLICE: u8 = 1;
/// Data partition A: slice header and motion vectors of a slice that is split into three partitions.
pub const PARTITION_A: u8 = 2;
/// Slice of an IDR picture.
pub const IDR: u8 = 5;
/// Supplemental enhancement information.
pub const SEI: u8 = 6;
/// Sequence parameter set.
pub const SPS: u8 = 7;
/// Picture parameter set.
pub const PPS: u8 = 8;
/// Access unit delimiter.
pub const AUD: u8 = 9;
/// Prefix of the following slice (SVC, MVC).
pub const PREFIX: u8 = 14;

/// `nal_unit_type` of a NAL unit; 0 (unspecified) for an empty one.
pub fn unit_type(nal: &[u8]) -> u8 {
    nal.first().map_or(0, |header| header & 0x1f)
}

/// Whether `forbidden_zero_bit` is set: "the NAL unit may contain bit errors" (RFC 6184 1.3).
pub fn is_marked_damaged(nal: &[u8]) -> bool {
    nal.first().is_some_and(|header| header & 0x80 != 0)
}

/// `nal_ref_idc` of a NAL unit, 0 to 3; 0 if no later picture refers to this one.
pub fn ref_idc(nal: &[u8]) -> u8 {
    nal.first().map_or(0, |header| header >> 5 & 3)
}
