//! H.264 as MP4 files carry it (ISO/IEC 14496-15): NAL units after their lengths (5.3.3.2), and the decoder
//! configuration record `avcC` (5.3.3.1).
//!
//! Sources that demux MP4, MKV or FLV read both; the `h264/avcc` packaging of samples and the track's `config` write
//! them.

use super::parameter_sets::ParameterSets;
use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Reason why a sample or a configuration record is rejected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The length size is not 1, 2 or 4 bytes, as ISO/IEC 14496-15 5.3.3.1.2 requires.
    #[error("the NAL unit length size of {0} bytes is not supported; it must be 1, 2 or 4")]
    LengthSize(u8),
    /// A length points beyond the end of the sample.
    #[error(
        "the sample is truncated: at byte {offset} a NAL unit needs {needed} bytes, {left} are left"
    )]
    Truncated {
        /// Offset of the NAL unit, or of its length, from the start of the sample in bytes.
        offset: usize,
        /// Number of bytes that are required.
        needed: usize,
        /// Number of bytes that are left.
        left: usize,
    },
    /// The configuration record has an unknown version.
    #[error(
        "the avcC record has version {0} instead of 1; check that it is an AVCDecoderConfigurationRecord"
    )]
    Version(u8),
    /// The configuration record ends within the named field.
    #[error("the avcC record ends within its {0}")]
    Incomplete(&'static str),
}

/// Returns the NAL units of a sample whose lengths have `length_size` bytes, sharing its memory. Empty NAL units are
/// skipped.
pub fn split(sample: &Bytes, length_size: u8) -> Result<Vec<Bytes>, Error> {
    if !matches!(length_size, 1 | 2 | 4) {
        return Err(Error::LengthSize(length_size));
    }
    let mut nals = Vec::new();
    let mut rest = sample.clone();
    while !rest.is_empty() {
        let offset = sample.len() - rest.len();
        let length = read_length(&mut rest, length_size, offset)?;
        if rest.len() < length {
            return Err(Error::Truncated {
                offset,
                needed: length,
                left: rest.len(),
            });
        }
        let nal = rest.split_to(length);
        if !nal.is_empty() {
            nals.push(nal);
        }
    }
    Ok(nals)
}

/// Joins NAL units into one sample, each after a length of four bytes. Each must be shorter than 4 GiB.
pub fn join(nals: &[Bytes]) -> Bytes {
    let mut sample = BytesMut::with_capacity(nals.iter().map(|nal| nal.len() + 4).sum());
    for nal in nals {
        sample.put_u32(nal.len() as u32);
        sample.extend_from_slice(nal);
    }
    sample.freeze()
}

/// The fields of an AVCDecoderConfigurationRecord that the gateway uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecoderConfig {
    /// Number of bytes of the length before each NAL unit: 1, 2 or 4.
    pub length_size: u8,
    /// Sequence parameter sets as NAL units.
    pub sps: Vec<Bytes>,
    /// Picture parameter sets as NAL units.
    pub pps: Vec<Bytes>,
}

impl DecoderConfig {
    /// Parses a record, sharing its memory. The parameter sets in it are not checked. What follows them (the tail of
    /// the high profiles, 5.3.3.1.2) repeats the SPS and is skipped.
    pub fn parse(record: &Bytes) -> Result<Self, Error> {
        let mut rest = record.clone();
        let incomplete = |what| move |_| Error::Incomplete(what);
        let version = rest.try_get_u8().map_err(incomplete("version"))?;
        if version != 1 {
            return Err(Error::Version(version));
        }
        // AVCProfileIndication, profile_compatibility and AVCLevelIndication repeat the SPS.
        for _ in 0..3 {
            rest.try_get_u8().map_err(incomplete("profile"))?;
        }
        let length_size = (rest.try_get_u8().map_err(incomplete("length size"))? & 3) + 1;
        if length_size == 3 {
            return Err(Error::LengthSize(length_size));
        }
        let count = rest.try_get_u8().map_err(incomplete("SPS count"))? & 0x1f;
        let sps = read_sets(&mut rest, count, "SPS")?;
        let count = rest.try_get_u8().map_err(incomplete("PPS count"))?;
        let pps = read_sets(&mut rest, count, "PPS")?;
        Ok(Self {
            length_size,
            sps,
            pps,
        })
    }

    /// Writes the record for samples from [`join`] that decode with `sets`.
    pub fn write(sets: &ParameterSets) -> Bytes {
        let head = sets.head();
        let mut record = BytesMut::with_capacity(64);
        record.put_u8(1);
        record.extend_from_slice(&[head.profile_idc, head.constraints, head.level_idc]);
        record.put_u8(0b1111_1100 | 3);
        // The counts have 5 and 8 bits, the lengths 16. `ParameterSets` has at most 32 SPS, one of which is in use.
        let sps = &sets.sps[..sets.sps.len().min(31)];
        record.put_u8(0b1110_0000 | sps.len() as u8);
        write_sets(&mut record, sps);
        let pps = &sets.pps[..sets.pps.len().min(255)];
        record.put_u8(pps.len() as u8);
        write_sets(&mut record, pps);
        if !matches!(head.profile_idc, 66 | 77 | 88) {
            record.put_u8(0b1111_1100 | head.chroma_format);
            record.put_u8(0b1111_1000 | (head.bit_depth_luma - 8));
            record.put_u8(0b1111_1000 | (head.bit_depth_chroma - 8));
            record.put_u8(0);
        }
        record.freeze()
    }
}

fn read_length(rest: &mut Bytes, size: u8, offset: usize) -> Result<usize, Error> {
    let needed = usize::from(size);
    if rest.len() < needed {
        return Err(Error::Truncated {
            offset,
            needed,
            left: rest.len(),
        });
    }
    Ok(rest.get_uint(needed) as usize)
}

fn read_sets(rest: &mut Bytes, count: u8, what: &'static str) -> Result<Vec<Bytes>, Error> {
    let mut sets = Vec::new();
    for _ in 0..count {
        let length = rest.try_get_u16().map_err(|_| Error::Incomplete(what))?;
        if rest.len() < usize::from(length) {
            return Err(Error::Incomplete(what));
        }
        let set = rest.split_to(usize::from(length));
        if !set.is_empty() {
            sets.push(set);
        }
    }
    Ok(sets)
}

fn write_sets(record: &mut BytesMut, sets: &[Bytes]) {
    for set in sets {
        record.put_u16(set.len() as u16);
        record.extend_from_slice(set);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::super::testing::{self, nal_unit};
    use super::*;
    use proptest::prelude::*;
    use std::slice::from_ref;

    #[test]
    fn reads_lengths_of_each_size() {
        let table: [(u8, &[u8]); 3] = [
            (1, &[2, 9, 16, 1, 5]),
            (2, &[0, 2, 9, 16, 0, 1, 5]),
            (4, &[0, 0, 0, 2, 9, 16, 0, 0, 0, 0, 0, 0, 0, 1, 5]),
        ];
        for (size, sample) in table {
            let nals = split(&Bytes::from_static(sample), size).unwrap();
            assert_eq!(nals, [&[9, 16][..], &[5]], "length size {size}");
        }
    }

    #[test]
    fn says_where_a_sample_is_cut_short() {
        let sample = Bytes::from_static(&[0, 0, 0, 1, 9, 0, 0, 0, 5, 1, 2]);
        assert_eq!(
            split(&sample, 4).unwrap_err().to_string(),
            "the sample is truncated: at byte 5 a NAL unit needs 5 bytes, 2 are left"
        );
        let sample = Bytes::from_static(&[0, 1, 9, 0]);
        let error = Error::Truncated {
            offset: 3,
            needed: 2,
            left: 1,
        };
        assert_eq!(split(&sample, 2), Err(error));
        assert_eq!(split(&sample, 3), Err(Error::LengthSize(3)));
        assert_eq!(split(&sample, 0), Err(Error::LengthSize(0)));
    }

    #[test]
    fn writes_the_record_that_ffmpeg_writes() {
        for (name, set) in testing::STREAMS {
            let (sps, pps) = set.nals();
            let sets = ParameterSets::new(from_ref(&sps), from_ref(&pps)).unwrap();
            let record = DecoderConfig::write(&sets);
            assert_eq!(record, set.avcc, "{name}");
            let config = DecoderConfig {
                length_size: 4,
                sps: vec![sps],
                pps: vec![pps],
            };
            assert_eq!(DecoderConfig::parse(&record), Ok(config), "{name}");
        }
    }

    #[test]
    fn a_record_may_lack_the_tail_of_high_profiles() {
        let (_, set) = testing::STREAMS[1];
        let record = Bytes::from_static(&set.avcc[..set.avcc.len() - 4]);
        assert_eq!(DecoderConfig::parse(&record).unwrap().sps, [set.nals().0]);
    }

    #[test]
    fn a_record_that_is_none_is_refused() {
        let table: [(&[u8], Error); 5] = [
            (&[], Error::Incomplete("version")),
            (&[0, 0, 0, 1, 0x67], Error::Version(0)),
            (&[1, 100, 0], Error::Incomplete("profile")),
            (
                &[1, 100, 0, 31, 0xff, 0xe1, 0, 9, 0x67],
                Error::Incomplete("SPS"),
            ),
            (&[1, 100, 0, 31, 0xfe], Error::LengthSize(3)),
        ];
        for (record, error) in table {
            assert_eq!(
                DecoderConfig::parse(&Bytes::from_static(record)),
                Err(error)
            );
        }
    }

    proptest! {
        #[test]
        fn split_undoes_join(nals in prop::collection::vec(nal_unit(), 0..8)) {
            prop_assert_eq!(split(&join(&nals), 4), Ok(nals));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300), size in 0u8..6) {
            let bytes = Bytes::from(bytes);
            let _ = split(&bytes, size);
            let _ = DecoderConfig::parse(&bytes);
            let mut record = vec![1, 100, 0, 31, 0xff];
            record.extend_from_slice(&bytes);
            let _ = DecoderConfig::parse(&Bytes::from(record));
        }
    }
}
