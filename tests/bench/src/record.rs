//! The film as records of the transport `webcodecs`, which docs/reference/http.md describes: frames in MP4's form, each
//! behind a header. Pure.

use crate::film::{Film, SAMPLE_STAMP, Stamp};
use anyhow::{Context, Result, ensure};

/// Bytes of a frame's record before the frame.
const HEADER: usize = 24;
/// Bytes at the front of a record that identify its frame.
pub const HEAD: usize = HEADER + SAMPLE_STAMP;
/// A record of the kind that comes before the frames of a group: its length and its kind, then JSON.
pub const CATALOGUE: &[u8] = b"\0\0\x01\x0c\0{\"version\":1,\"startedAt\":1700000000000000,\"epoch\":0,\"tracks\":[\
    {\"kind\":\"video\",\"format\":\"h264/avcc\",\"codec\":\"avc1.64001f\",\"config\":\"AWQAH//hABlnZAAfrNlAUAW7AWoCAgKAAAADAIA=\",\
    \"timescale\":90000,\"width\":1280,\"height\":720,\"pixelAspect\":[1,1],\"rotation\":0,\"frameRate\":30}]}";
const TIMESCALE: u32 = 90_000;
const FRAME: u8 = 1;
const INDEPENDENT: u8 = 1;

/// Whether a record that begins with these bytes is a catalogue.
pub fn is_catalogue(head: &[u8]) -> bool {
    head.get(4) == Some(&0)
}

impl Film {
    /// Bytes that a viewer receives for a frame.
    pub fn record(&self, stamp: Stamp) -> Vec<u8> {
        let sample = self.sample(stamp);
        let length = u32::try_from(HEADER - 4 + sample.len()).unwrap_or(u32::MAX);
        let time = stamp.number * u64::from(TIMESCALE / self.rate);
        let mut record = length.to_be_bytes().to_vec();
        record.extend([FRAME, 0, u8::from(self.is_key(stamp.number)), 0]);
        record.extend((stamp.number / self.group).to_be_bytes());
        record.extend(time.to_be_bytes());
        record.extend(sample);
        record
    }

    /// Identifies a record of `length` bytes by `head`, which is at least [`HEAD`] bytes; with `whole` it is all of it,
    /// and every byte of the frame is compared.
    ///
    /// # Errors
    ///
    /// If it is not a frame of this film, or differs from what was sent.
    pub fn recognise_record(&self, head: &[u8], length: usize, whole: bool) -> Result<Stamp> {
        let (header, sample) = head
            .split_at_checked(HEADER)
            .context("a truncated record")?;
        ensure!(header[4..6] == [FRAME, 0], "not a frame: {header:02x?}");
        let stamp = Film::stamp_in_sample(sample).context("a frame without a stamp")?;
        let number = stamp.number;
        let is_key = header[6] & INDEPENDENT != 0;
        ensure!(
            is_key == self.is_key(number),
            "frame {number} is marked as a keyframe, or a keyframe is not"
        );
        ensure!(
            length == HEADER + self.sample_length(number),
            "frame {number} has a record of {length} bytes"
        );
        ensure!(
            !whole || self.sample(stamp) == sample,
            "frame {number} differs from what was sent"
        );
        Ok(stamp)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{
        film::tests::film,
        wire::{Cutter, Kind},
    };

    #[test]
    fn records_are_cut_from_a_stream_and_recognised() {
        let film = film(&[b"\0\0\0\x01\x65one", b"\0\0\0\x01\x41two"]);
        let stamps = [0, 1].map(|number| Stamp { number, sent: 7 });
        let records = stamps.map(|stamp| film.record(stamp));
        let stream = [CATALOGUE, &records[0], &records[1]].concat();
        for step in [1, 3, stream.len()] {
            let (mut cutter, mut seen) = (Cutter::new(Kind::Records, usize::MAX), Vec::new());
            for bytes in stream.chunks(step) {
                let mut take = |head: &[u8], length| seen.push((head.to_vec(), length));
                cutter.take(bytes, &mut take).unwrap();
            }
            assert_eq!(seen.len(), 3);
            assert!(is_catalogue(&seen[0].0) && seen[0].1 == CATALOGUE.len());
            for ((head, length), stamp) in seen[1..].iter().zip(stamps) {
                assert_eq!(film.recognise_record(head, *length, true).unwrap(), stamp);
            }
        }
    }

    #[test]
    fn other_bytes_are_errors() {
        let film = film(&[b"\0\0\0\x01\x65one", b"\0\0\0\x01\x41two"]);
        let record = film.record(Stamp { number: 1, sent: 7 });
        let mut damaged = record.clone();
        *damaged.last_mut().unwrap() ^= 1;
        assert!(
            film.recognise_record(&damaged, damaged.len(), false)
                .is_ok()
        );
        let mut key = record.clone();
        key[6] = INDEPENDENT;
        for (bytes, length) in [
            (&damaged, record.len()),
            (&key, record.len()),
            (&record, record.len() + 1),
            (&record[..20].to_vec(), record.len()),
        ] {
            assert!(film.recognise_record(bytes, length, true).is_err());
        }
    }
}
