//! What several H.264 transports need.

/// The SPS and PPS of an avcC (ISO/IEC 14496-15, 5.3.3.1.2) in Annex B: each behind a 4-byte start code, in their order.
/// `avcc` is [`Track::config`](crate::Track::config) of an H.264 track.
///
/// # Errors
/// What is wrong with the record.
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
