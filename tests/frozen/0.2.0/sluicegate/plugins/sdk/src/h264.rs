//! H.264 helpers that several transports need: parameter sets from an avcC record, and the removal of recovery point
//! SEI.
//!
//! Section numbers are those of ITU-T H.264 unless another specification is named. Input is untrusted; nothing here
//! panics.

use crate::Buffer;

/// Largest part of an SEI NAL unit, in bytes, that is searched.
const MAX_SEI: u32 = 4096;
/// `nal_unit_type` of SEI (table 7-1), and payload type of a recovery point in it (D.1.1).
const SEI: u8 = 6;
const RECOVERY_POINT: usize = 6;

/// Copy of an access unit without its recovery point SEI (D.2.8), or `None` if it has none or is malformed. Browsers
/// treat recovery points as seek points, whatever the container's flags say.
///
/// `unit` consists of NAL units behind 4-byte lengths, as in the format `h264/avcc`.
pub fn without_recovery_point(unit: &Buffer) -> Option<Buffer> {
    let (mut kept, mut at, mut found) = (Vec::new(), 0, false);
    while at < unit.size() {
        let head = unit.read(at, 5.min(unit.size() - at));
        let (length, rest) = head.split_first_chunk()?;
        let length = u32::from_be_bytes(*length);
        let next = at.checked_add(4)?.checked_add(length)?;
        if next > unit.size() {
            return None;
        }
        let is_sei = rest.first().is_some_and(|head| head & 0x1f == SEI);
        if is_sei && has_recovery_point(&unit.read(at + 5, length.saturating_sub(1).min(MAX_SEI))) {
            found = true;
        } else {
            kept.push((at, next - at));
        }
        at = next;
    }
    let kept = kept.into_iter().map(|(at, length)| unit.slice(at, length));
    found.then(|| Buffer::new(kept))
}

/// Whether one of an SEI's messages is a recovery point. `payload` starts after the NAL unit header and still contains
/// emulation prevention bytes.
fn has_recovery_point(payload: &[u8]) -> bool {
    let mut zeros = 0;
    let plain = payload.iter().copied().filter(|byte| {
        let is_emulation = zeros >= 2 && *byte == 3;
        zeros = if *byte == 0 { zeros + 1 } else { 0 };
        !is_emulation
    });
    let plain: Vec<u8> = plain.collect();
    let mut rest = plain.as_slice();
    while let (Some(kind), Some(size)) = (sei_number(&mut rest), sei_number(&mut rest)) {
        if kind == RECOVERY_POINT {
            return true;
        }
        rest = rest.get(size..).unwrap_or_default();
    }
    false
}

/// Reads a message's payload type or payload size: a run of 255s plus a final byte (7.3.2.3.1).
fn sei_number(rest: &mut &[u8]) -> Option<usize> {
    let full = rest.iter().take_while(|byte| **byte == 255).count();
    let last = *rest.get(full)?;
    *rest = rest.get(full + 1..)?;
    Some(full * 255 + usize::from(last))
}

/// SPS and PPS of an avcC record (ISO/IEC 14496-15, 5.3.3.1.2) in Annex B format, each behind a 4-byte start code, in
/// their order. `avcc` is [`Track::config`](crate::Track::config) of an H.264 track.
///
/// # Errors
/// States what is wrong with the record: truncated, or of another version.
pub fn parameter_sets(avcc: &[u8]) -> Result<Vec<u8>, String> {
    let mut input = Reader(avcc);
    let [
        version,
        _profile,
        _compatibility,
        _level,
        _length_size,
        sps_count,
    ] = input.array()?;
    if version != 1 {
        return Err(format!("avcC version {version}, expected 1"));
    }
    let mut out = Vec::with_capacity(avcc.len() + 8);
    input.units(sps_count & 0x1f, &mut out)?;
    let [pps_count] = input.array()?;
    input.units(pps_count, &mut out)?;
    Ok(out)
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let (head, rest) = self.0.split_first_chunk().ok_or("avcC ends early")?;
        self.0 = rest;
        Ok(*head)
    }

    fn units(&mut self, count: u8, out: &mut Vec<u8>) -> Result<(), String> {
        for _ in 0..count {
            let length = usize::from(u16::from_be_bytes(self.array()?));
            let (unit, rest) = self
                .0
                .split_at_checked(length)
                .ok_or("avcC ends within a parameter set")?;
            self.0 = rest;
            out.extend_from_slice(&[0, 0, 0, 1]);
            out.extend_from_slice(unit);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic)]

    use super::*;
    use proptest::prelude::*;

    const AVCC: [u8; 16] = [
        1, 0x42, 0xc0, 0x1e, 0xff, 0xe1, 0, 3, 0x67, 0x42, 0xc0, 1, 0, 2, 0x68, 0xce,
    ];

    #[test]
    fn parameter_sets_come_out_in_annex_b() {
        assert_eq!(
            parameter_sets(&AVCC),
            Ok(vec![0, 0, 0, 1, 0x67, 0x42, 0xc0, 0, 0, 0, 1, 0x68, 0xce])
        );
    }

    #[test]
    fn recovery_points_go_and_nothing_else() {
        let unit = |nals: &[&[u8]]| {
            let mut bytes = Vec::new();
            for nal in nals {
                bytes.extend((nal.len() as u32).to_be_bytes());
                bytes.extend_from_slice(nal);
            }
            Buffer::from(bytes)
        };
        let (delimiter, slice) = (&[9, 0xf0][..], &[0x61, 1, 2, 3][..]);
        // The SEI alone, behind a message of more than 255 bytes, and behind one that contains an emulation prevention
        // byte.
        let alone = &[6, 6, 1, 0xc4, 0x80][..];
        let long = [&[6, 5, 255, 1][..], &[7; 256], &[6, 1, 0xc4, 0x80]].concat();
        let escaped = &[6, 1, 4, 0, 0, 3, 0, 9, 6, 1, 0xc4, 0x80][..];
        for sei in [alone, &long, escaped] {
            let found = without_recovery_point(&unit(&[delimiter, sei, slice]));
            assert_eq!(found, Some(unit(&[delimiter, slice])), "{sei:?}");
        }
        let other = &[6, 5, 2, 6, 1, 0x80][..];
        for nals in [
            &[delimiter, slice][..],
            &[other, slice],
            &[&[6], slice],
            &[&[6, 255], slice],
        ] {
            assert_eq!(without_recovery_point(&unit(nals)), None, "{nals:?}");
        }
        let cut = Buffer::from(vec![0, 0, 0, 9, 6, 6, 1]);
        assert_eq!(without_recovery_point(&cut), None);
    }

    proptest! {
        #[test]
        fn whatever_an_access_unit_holds_nothing_traps(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = without_recovery_point(&Buffer::from(bytes));
        }
    }

    #[test]
    fn high_profile_tail_is_passed_over() {
        let mut avcc = AVCC.to_vec();
        avcc.extend([0xfd, 0xf8, 0xf8, 0]);
        assert_eq!(parameter_sets(&avcc), parameter_sets(&AVCC));
    }

    #[test]
    fn every_cut_is_an_error() {
        for end in 0..AVCC.len() {
            let Err(error) = parameter_sets(&AVCC[..end]) else {
                panic!("cut at {end} was taken")
            };
            assert!(error.starts_with("avcC ends"), "{error}");
        }
    }

    #[test]
    fn unknown_version_is_named() {
        let mut avcc = AVCC;
        avcc[0] = 7;
        assert_eq!(
            parameter_sets(&avcc),
            Err("avcC version 7, expected 1".into())
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = parameter_sets(&bytes);
        }
    }
}
