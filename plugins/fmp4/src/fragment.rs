//! Media fragments: `moof` and `mdat`, and the boxes that may precede them.
//!
//! Only the boxes are the guest's own bytes; samples are joined as slices of the host's buffers. The size of the `moof`
//! is known from the number of tracks and samples, so data offsets are computed before it is written. Section numbers
//! without a name are those of ISO/IEC 14496-12.

use crate::{Error, boxes::Boxes};
use sluicegate_sdk::{Buffer, Piece, Sample};

const MOOF: usize = 8 + 16;
const TRAF: usize = 8 + 16 + 20 + 20;
const TRUN_SAMPLE: usize = 16;
const MDAT: usize = 8;

/// `moof` + `mdat` of these samples, after the bytes `before` (complete boxes such as [`styp`], or none).
///
/// Samples may belong to several tracks, mixed in order of arrival. In the file the samples of each track are
/// contiguous, with tracks in the order of their first sample. `sequence` is the number in `mfhd` (8.8.5). It should
/// rise with each fragment; no known player minds gaps.
///
/// # Errors
/// There are no samples, the fragment exceeds 2 GiB, or a track's decode times fall or are too far apart.
pub fn fragment(before: Vec<u8>, sequence: u32, samples: &[Sample]) -> Result<Buffer, Error> {
    if samples.is_empty() {
        return Err(Error::Empty);
    }
    let tracks = tracks(samples);
    let payload: u64 = samples.iter().map(|sample| u64::from(sample.size)).sum();
    let moof = MOOF + tracks.len() * TRAF + samples.len() * TRUN_SAMPLE;
    // The data offset in `trun` is signed and counts from the start of the `moof`.
    i32::try_from((moof + MDAT) as u64 + payload).map_err(|_| Error::Large)?;

    let mut boxes = Boxes(before);
    boxes.0.reserve_exact(moof + MDAT);
    let mut offset = (moof + MDAT) as u32;
    let mut failed = None;
    boxes.put(b"moof", |boxes| {
        boxes.full(b"mfhd", 0, 0, |boxes| {
            boxes.u32(sequence);
        });
        for track in &tracks {
            match traf(boxes, *track, offset, samples) {
                Ok(size) => offset += size,
                Err(error) => failed = Some(error),
            }
        }
    });
    if let Some(error) = failed {
        return Err(error);
    }
    boxes.u32((MDAT as u64 + payload) as u32).bytes(b"mdat");

    let mut pieces = Vec::with_capacity(1 + samples.len());
    pieces.push(Piece::Bytes(boxes.0));
    for track in tracks {
        let samples = of(samples, track);
        pieces.extend(samples.map(|sample| sample.data.slice(0, sample.size)));
    }
    Ok(Buffer::new(pieces))
}

/// A `styp` box (8.16.2), which starts a segment.
pub fn styp() -> Vec<u8> {
    let mut boxes = Boxes(Vec::with_capacity(24));
    boxes.put(b"styp", |boxes| {
        boxes.bytes(b"msdh").u32(0).bytes(b"msdhmsix");
    });
    boxes.0
}

/// A `prft` box (8.16.5) for the fragment that starts with this sample: the wall clock at capture, from which a player
/// can tell its latency.
pub fn prft(sample: &Sample) -> Vec<u8> {
    /// "The UTC time when the frame was captured."
    const CAPTURED: u32 = 24;
    let mut boxes = Boxes(Vec::with_capacity(32));
    boxes.full(b"prft", 1, CAPTURED, |boxes| {
        let shown = sample
            .decode_time
            .wrapping_add_signed(sample.composition_offset.into());
        boxes
            .u32(sample.track)
            .u64(ntp(sample.captured_at))
            .u64(shown);
    });
    boxes.0
}

/// NTP's 64-bit time stamp (RFC 5905, 6): seconds since 1900 and a binary fraction. The seconds wrap in 2036, as NTP's
/// eras do.
fn ntp(unix_us: u64) -> u64 {
    const FROM_1900_TO_1970: u64 = 2_208_988_800;
    let seconds = (unix_us / 1_000_000).wrapping_add(FROM_1900_TO_1970);
    seconds << 32 | (((unix_us % 1_000_000) << 32) / 1_000_000)
}

fn tracks(samples: &[Sample]) -> Vec<u32> {
    let mut tracks = Vec::with_capacity(2);
    for sample in samples {
        if !tracks.contains(&sample.track) {
            tracks.push(sample.track);
        }
    }
    tracks
}

fn of(samples: &[Sample], track: u32) -> impl Iterator<Item = &Sample> {
    samples.iter().filter(move |sample| sample.track == track)
}

/// Writes one track's `traf`. Its payload starts `offset` bytes after the start of the `moof`. Returns the size of that
/// payload in bytes.
fn traf(boxes: &mut Boxes, track: u32, offset: u32, samples: &[Sample]) -> Result<u32, Error> {
    const DEFAULT_BASE_IS_MOOF: u32 = 0x02_0000;
    // Duration, size, flags and composition offset of each sample, and the data offset.
    const TRUN_FLAGS: u32 = 0x0100 | 0x0200 | 0x0400 | 0x0800 | 0x01;
    let count = of(samples, track).count() as u32;
    let first = of(samples, track)
        .next()
        .map_or(0, |sample| sample.decode_time);
    let mut size = 0;
    let mut failed = None;
    boxes.put(b"traf", |boxes| {
        boxes.full(b"tfhd", 0, DEFAULT_BASE_IS_MOOF, |boxes| {
            boxes.u32(track);
        });
        boxes.full(b"tfdt", 1, 0, |boxes| {
            boxes.u64(first);
        });
        boxes.full(b"trun", 1, TRUN_FLAGS, |boxes| {
            boxes.u32(count).u32(offset);
            let mut samples = of(samples, track).peekable();
            while let Some(sample) = samples.next() {
                let duration = match samples.peek() {
                    None => Ok(sample.duration),
                    Some(next) => distance(sample, next),
                };
                let duration = duration.unwrap_or_else(|error| {
                    failed = Some(error);
                    0
                });
                boxes.u32(duration).u32(sample.size).u32(flags(sample));
                boxes.bytes(&sample.composition_offset.to_be_bytes());
                size += sample.size;
            }
        });
    });
    failed.map_or(Ok(size), Err)
}

fn distance(sample: &Sample, next: &Sample) -> Result<u32, Error> {
    let (from, to) = (sample.decode_time, next.decode_time);
    let distance = to
        .checked_sub(from)
        .and_then(|distance| u32::try_from(distance).ok());
    distance.ok_or(Error::Time {
        track: sample.track,
        from,
        to,
    })
}

/// Sample flags (8.8.3.1): whether the sample is leading, whether it depends on others, and whether it is a sync
/// sample.
fn flags(sample: &Sample) -> u32 {
    const LEADS: u32 = 1 << 26;
    const DEPENDS_ON_OTHERS: u32 = 1 << 24;
    const DEPENDS_ON_NONE: u32 = 2 << 24;
    const NO_SYNC_SAMPLE: u32 = 1 << 16;
    match (sample.independent, sample.leading) {
        (true, _) => DEPENDS_ON_NONE,
        (false, true) => LEADS | DEPENDS_ON_OTHERS | NO_SYNC_SAMPLE,
        (false, false) => DEPENDS_ON_OTHERS | NO_SYNC_SAMPLE,
    }
}
