//! Supplemental enhancement information (ISO/IEC 14496-10 7.3.2.3 and annex D). Only the recovery point message is
//! read: streams with intra refresh or open GOPs mark their start points with it.

use h264_reader::rbsp::{BitRead, BitReader, decode_nal};

const RECOVERY_POINT: usize = 6;
/// `MaxFrameNum` is at most 2^16 (7.4.2.1.1).
const MAX_FRAMES: u32 = 1 << 16;

/// Reads `recovery_frame_cnt` (D.2.8): the number of frames after which the picture is correct if decoding starts here.
/// `None` if the NAL unit has no recovery point message or cannot be parsed.
pub fn recovery_point(nal: &[u8]) -> Option<u32> {
    if nal.is_empty() {
        return None;
    }
    let rbsp = decode_nal(nal).ok()?;
    let mut rest = &rbsp[..];
    // The last byte is rbsp_trailing_bits.
    while rest.len() > 1 {
        let kind = read_number(&mut rest)?;
        let size = read_number(&mut rest)?;
        let payload = rest.get(..size)?;
        rest = &rest[size..];
        if kind == RECOVERY_POINT {
            let frames = BitReader::new(payload).read_ue("recovery_frame_cnt").ok()?;
            return (frames < MAX_FRAMES).then_some(frames);
        }
    }
    None
}

/// Reads a payload type or size: the sum of any number of bytes 255 and a last one below.
fn read_number(rest: &mut &[u8]) -> Option<usize> {
    let mut number = 0usize;
    loop {
        let (&byte, tail) = rest.split_first()?;
        *rest = tail;
        number += usize::from(byte);
        if byte != 255 {
            return Some(number);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::super::testing;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn finds_the_recovery_point_among_other_messages() {
        let mut long = vec![6, 5, 255, 45];
        long.extend_from_slice(&[7; 300]);
        long.extend_from_slice(&[6, 1, 0x84, 0x80]);
        let table: [(&[u8], Option<u32>); 7] = [
            (&[6, 6, 1, 0xc4, 0x80], Some(0)),
            (&testing::recovery_sei(25), Some(25)),
            (&[6, 1, 2, 9, 9, 6, 1, 0xc4, 0x80], Some(0)),
            (&long, Some(0)),
            (&[6, 5, 3, 6, 1, 0xc4, 0x80], None),
            (&[6, 6, 9, 0xc4, 0x80], None),
            (&[], None),
        ];
        for (nal, frames) in table {
            assert_eq!(recovery_point(nal), frames, "{nal:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_ignored(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            recovery_point(&bytes);
        }
    }
}
