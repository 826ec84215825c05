//! Fragmented MP4 of the SDK's tracks and samples (feature `fmp4`), written by `sluicegate_fmp4`, which describes
//! formats, times and boxes. Payload is joined by handle and never copied into the guest.

use crate::{Buffer, Kind, Piece, Sample, Track};
use sluicegate_fmp4 as fmp4;
use std::iter;

pub use sluicegate_fmp4::{Error, styp};

/// Checks whether [`init`] can describe this track.
///
/// # Errors
/// The format is not h264/avcc, aac or opus, the timescale is 0, or the decoder configuration is missing or not that of
/// the format.
pub fn check(track: &Track) -> Result<(), Error> {
    fmp4::check(&described(track))
}

/// Codec strings of the tracks as in RFC 6381, "avc1.64001f,mp4a.40.2". Tracks without a codec string are omitted.
pub fn codecs(tracks: &[Track]) -> String {
    fmp4::codecs(&all_described(tracks))
}

/// MIME type for these tracks: `video/mp4; codecs="avc1.64001f,mp4a.40.2"`, or `audio/mp4` without video.
pub fn mime(tracks: &[Track]) -> String {
    fmp4::mime(&all_described(tracks))
}

/// Initialization segment, `ftyp` + `moov`, for a live file with these tracks.
///
/// # Errors
/// There are no tracks or too many, the ids are 0 or not distinct, or [`check`] rejects a track.
pub fn init(tracks: &[Track]) -> Result<Vec<u8>, Error> {
    fmp4::init(&all_described(tracks))
}

/// `moof` + `mdat` of these samples, after the bytes `before` (complete boxes such as [`styp`], or none). `sequence` is
/// the number of the fragment.
///
/// # Errors
/// There are no samples, the fragment exceeds 2 GiB, or a track's decode times fall or are too far apart.
pub fn fragment(before: Vec<u8>, sequence: u32, samples: &[Sample]) -> Result<Buffer, Error> {
    let samples = samples.iter().map(timed).collect();
    let fragment = fmp4::fragment(before, sequence, samples)?;
    let payload = fragment.samples.iter();
    let payload = payload.map(|sample| sample.payload.slice(0, sample.size));
    let head = Piece::Bytes(fragment.head);
    Ok(Buffer::new(iter::once(head).chain(payload)))
}

/// A `prft` box for the fragment that starts with this sample: the wall clock at its capture, from which a player can
/// tell its latency.
pub fn prft(sample: &Sample) -> Vec<u8> {
    fmp4::prft(&timed(sample), sample.captured_at)
}

fn all_described(tracks: &[Track]) -> Vec<fmp4::Track> {
    tracks.iter().map(described).collect()
}

fn described(track: &Track) -> fmp4::Track {
    let kind = match &track.kind {
        Kind::Video(video) => fmp4::Kind::Video(fmp4::Video {
            width: video.width,
            height: video.height,
            pixel_aspect: video.pixel_aspect,
            rotation: video.rotation,
            mirrored: video.mirrored,
        }),
        Kind::Audio(audio) => fmp4::Kind::Audio(fmp4::Audio {
            sample_rate: audio.sample_rate,
            channels: audio.channels,
            language: audio.language.clone(),
        }),
        Kind::Data => fmp4::Kind::Other,
    };
    fmp4::Track {
        id: track.id,
        format: track.format.clone(),
        codec: track.codec.clone(),
        config: track.config.clone(),
        timescale: track.timescale,
        kind,
    }
}

fn timed(sample: &Sample) -> fmp4::Sample<&Buffer> {
    fmp4::Sample {
        track: sample.track,
        decode_time: sample.decode_time,
        composition_offset: sample.composition_offset,
        duration: sample.duration,
        independent: sample.independent,
        leading: sample.leading,
        size: sample.size,
        payload: &sample.data,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::mock;

    #[test]
    fn payload_follows_the_boxes_track_by_track() {
        let mut samples = mock::samples(
            0,
            [b"first", b"other", b"third"].map(|data| (true, data.to_vec())),
        );
        samples[1].track = 2;
        let fragment = fragment(styp(), 1, &samples).unwrap().to_vec();
        assert!(fragment.starts_with(&styp()));
        assert!(fragment.ends_with(b"mdatfirstthirdother"));
    }

    #[test]
    fn tracks_and_times_are_passed_on() {
        const AVCC: [u8; 16] = [
            1, 0x42, 0xc0, 0x1e, 0xff, 0xe1, 0, 3, 0x67, 0x42, 0xc0, 1, 0, 2, 0x68, 0xce,
        ];
        let mut tracks = mock::video("h264/avcc", "avc1.42c01e", &AVCC).tracks;
        assert_eq!(mime(&tracks), "video/mp4; codecs=\"avc1.42c01e\"");
        assert_eq!(codecs(&tracks), "avc1.42c01e");
        assert!(init(&tracks).is_ok());
        let sample = Sample {
            decode_time: 9000,
            composition_offset: -3,
            duration: 3003,
            leading: true,
            captured_at: 1_700_000_000_000_000,
            ..mock::samples(0, [(true, vec![1, 2])]).remove(0)
        };
        let same = || fmp4::Sample {
            track: sample.track,
            decode_time: 9000,
            composition_offset: -3,
            duration: 3003,
            independent: sample.independent,
            leading: true,
            size: 2,
            payload: [1, 2],
        };
        assert_eq!(prft(&sample), fmp4::prft(&same(), 1_700_000_000_000_000));
        let expected = fmp4::fragment(Vec::new(), 7, vec![same()]).unwrap();
        let written = fragment(Vec::new(), 7, &[sample]).unwrap();
        assert_eq!(written.to_vec(), expected.to_vec());
        tracks[0].kind = Kind::Data;
        assert!(check(&tracks[0]).is_err());
    }
}
