//! The film as fragmented MP4 (ISO/IEC 14496-12), as `mse` and `hls` package it. Identifies the frames in a fragment
//! and checks that they are complete. Pure.

use crate::film::{Film, Stamp};
use anyhow::{Context, Result, ensure};
use sluicegate_fmp4::Sample;

/// Bytes at the front of a fragment that identify its frames: `prft`, a `moof` of ten samples, the head of `mdat`, the
/// stamp of the first frame.
pub const HEAD: usize = 384;
const TIMESCALE: u32 = 90_000;
/// `sample_size` and the other fields of every sample are present: duration, size, flags, composition offset (8.8.8).
const TRUN_FLAGS: u32 = 0xf01;
const ENTRY: usize = 16;

/// Content of a fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// Stamp of the first frame.
    pub first: Stamp,
    /// Number of consecutive frames.
    pub frames: u64,
    /// Offset of the first frame's bytes.
    payload: usize,
}

impl Film {
    /// Builds a fragment of `count` frames from `first` on.
    pub fn fragment(&self, first: Stamp, count: u64) -> Result<Vec<u8>> {
        let duration = TIMESCALE / self.rate;
        let samples = (first.number..first.number + count)
            .map(|number| {
                let data = self.sample(Stamp { number, ..first });
                Sample {
                    track: 1,
                    decode_time: number * u64::from(duration),
                    composition_offset: 0,
                    duration,
                    independent: self.is_key(number),
                    leading: false,
                    size: u32::try_from(data.len()).unwrap_or(u32::MAX),
                    payload: data,
                }
            })
            .collect();
        let fragment = sluicegate_fmp4::fragment(vec![], first.number as u32, samples)?;
        Ok(fragment.to_vec())
    }

    /// Identifies a fragment of `length` bytes by `head`, which is at least [`HEAD`] bytes or all of it.
    ///
    /// # Errors
    ///
    /// If it does not belong to this film, by its boxes, its length, or the length of a frame.
    pub fn recognise_fragment(&self, head: &[u8], length: usize) -> Result<Fragment> {
        let (mut at, mut moof) = (0, None);
        let payload = loop {
            let (kind, size) = box_at(head, at).context("no `mdat` in the fragment's head")?;
            match kind {
                b"moof" => moof = Some((at, head.get(at + 8..at + size).context("a cut `moof`")?)),
                b"mdat" => {
                    ensure!(
                        at + size == length,
                        "`mdat` ends at {} of {length} bytes",
                        at + size
                    );
                    break at + 8;
                }
                _ => {}
            }
            at += size;
        };
        let (begins, moof) = moof.context("no `moof` before `mdat`")?;
        let traf = child(moof, b"traf").context("no `traf`")?;
        let trun = child(traf, b"trun").context("no `trun`")?;
        let word = |at: usize| word(trun, at).context("a cut `trun`");
        ensure!(
            word(0)? & 0x00ff_ffff == TRUN_FLAGS,
            "`trun` has unexpected fields"
        );
        let count = word(4)? as usize;
        ensure!(
            begins + word(8)? as usize == payload,
            "`trun` is at an unexpected offset"
        );
        ensure!(
            trun.len() == 12 + count * ENTRY,
            "`trun` has an unexpected size"
        );
        let first = Film::stamp_in_sample(head.get(payload..).unwrap_or_default())
            .context("a frame without a stamp")?;
        let mut end = payload;
        for (number, nth) in (first.number..).zip(0..count) {
            let size = word(12 + nth * ENTRY + 4)? as usize;
            ensure!(
                size == self.sample_length(number),
                "frame {number} has {size} bytes, not {}",
                self.sample_length(number)
            );
            end += size;
        }
        ensure!(
            count > 0 && end == length,
            "{count} frames end at {end} of {length} bytes"
        );
        Ok(Fragment {
            first,
            frames: count as u64,
            payload,
        })
    }

    /// Checks every frame of a complete fragment; returns the stamp of the last. With `whole` every byte is compared.
    ///
    /// # Errors
    ///
    /// If a frame does not follow the previous one, or differs from what was sent.
    pub fn compare_fragment(&self, fragment: Fragment, bytes: &[u8], whole: bool) -> Result<Stamp> {
        let (mut at, mut last) = (fragment.payload, fragment.first);
        for number in (fragment.first.number..).take(fragment.frames as usize) {
            let end = at + self.sample_length(number);
            let sample = bytes.get(at..end).context("the fragment is truncated")?;
            last = Film::stamp_in_sample(sample)
                .with_context(|| format!("frame {number} has no stamp"))?;
            ensure!(
                last.number == number,
                "frame {} in place of {number}",
                last.number
            );
            ensure!(
                !whole || self.sample(last) == sample,
                "frame {number} differs from what was sent"
            );
            at = end;
        }
        Ok(last)
    }
}

/// Type and size of the box at this offset.
fn box_at(bytes: &[u8], at: usize) -> Option<(&[u8; 4], usize)> {
    let size = word(bytes, at)? as usize;
    let kind = bytes.get(at + 4..at + 8)?.try_into().ok()?;
    (size >= 8).then_some((kind, size))
}

/// Content of the first box of this type.
fn child<'a>(bytes: &'a [u8], wanted: &[u8; 4]) -> Option<&'a [u8]> {
    let mut at = 0;
    loop {
        let (kind, size) = box_at(bytes, at)?;
        if kind == wanted {
            return bytes.get(at + 8..at + size);
        }
        at += size;
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_be_bytes(four.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::film::tests::film;

    const FRAMES: [&[u8]; 3] = [
        b"\0\0\0\x01\x67sets\0\0\0\x01\x65first",
        b"\0\0\0\x01\x41two",
        b"\0\0\0\x01\x41the third",
    ];

    #[test]
    fn frames_of_a_fragment_are_recognised_by_their_stamps_and_lengths() {
        let film = film(&FRAMES);
        for (number, count) in [(0, 1), (1, 1), (2, 5), (7, 10)] {
            let bytes = film.fragment(Stamp { number, sent: 9 }, count).unwrap();
            let head = &bytes[..bytes.len().min(HEAD)];
            let fragment = film.recognise_fragment(head, bytes.len()).unwrap();
            assert_eq!(
                (fragment.first.number, fragment.first.sent),
                (number, 9),
                "{count}"
            );
            assert_eq!(fragment.frames, count);
            for whole in [false, true] {
                let last = film.compare_fragment(fragment, &bytes, whole).unwrap();
                assert_eq!(last.number, number + count - 1);
            }
        }
    }

    #[test]
    fn boxes_before_a_fragment_are_passed_over() {
        let film = film(&FRAMES);
        let stamp = Stamp { number: 1, sent: 2 };
        let mut bytes = sluicegate_fmp4::styp();
        bytes.extend(film.fragment(stamp, 2).unwrap());
        let fragment = film.recognise_fragment(&bytes, bytes.len()).unwrap();
        assert_eq!(fragment.first, stamp);
        assert!(film.compare_fragment(fragment, &bytes, true).is_ok());
    }

    #[test]
    fn a_fragment_that_is_cut_or_altered_is_an_error() {
        let film = film(&FRAMES);
        let bytes = film.fragment(Stamp { number: 0, sent: 7 }, 3).unwrap();
        let fragment = film.recognise_fragment(&bytes, bytes.len()).unwrap();
        assert!(film.recognise_fragment(&bytes, bytes.len() - 1).is_err());
        for cut in [0, 4, 40, 120, 160] {
            assert!(film.recognise_fragment(&bytes[..cut], bytes.len()).is_err());
        }
        let mut altered = bytes.clone();
        *altered.last_mut().unwrap() ^= 1;
        assert!(film.compare_fragment(fragment, &altered, false).is_ok());
        assert!(film.compare_fragment(fragment, &altered, true).is_err());
        // Replaces the second frame by another one of the same length.
        let stamp = bytes
            .windows(16)
            .position(|window| window == b"0000000000000001");
        let mut other = bytes.clone();
        other[stamp.unwrap() + 15] = b'4';
        assert!(film.compare_fragment(fragment, &other, false).is_err());
    }

    #[test]
    fn boxes_of_nonsense_are_errors() {
        let film = film(&FRAMES);
        for bytes in [&[0; 64][..], &[0xff; 400], b"\0\0\0\x08moof\0\0\0\x08mdat"] {
            assert!(film.recognise_fragment(bytes, bytes.len()).is_err());
        }
    }
}
