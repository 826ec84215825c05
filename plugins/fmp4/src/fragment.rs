//! Fragments: `moof` and `mdat`, and what may stand before them.

use crate::{Error, boxes::Boxes};
use sluicegate_sdk::{Buffer, Piece, Sample};

const MOOF: usize = 8 + 16;
const TRAF: usize = 8 + 16 + 20 + 20;
const TRUN_SAMPLE: usize = 16;
const MDAT: usize = 8;

/// `moof` + `mdat` of these samples behind the bytes `before` (whole boxes, e.g. [`styp`], or none).
///
/// The samples may be of several tracks, mixed as they came; in the file each track's stand together, in the order of their
/// tracks' first. `sequence` is `mfhd`'s number (8.8.5): rising over fragments, and nobody known minds gaps.
///
/// # Errors
/// No samples, too many bytes, or decode times that do not rise.
pub fn fragment(before: Vec<u8>, sequence: u32, samples: &[Sample]) -> Result<Buffer, Error> {
    if samples.is_empty() {
        return Err(Error::Empty);
    }
    let tracks = tracks(samples);
    let payload: u64 = samples.iter().map(|sample| u64::from(sample.size)).sum();
    let moof = MOOF + tracks.len() * TRAF + samples.len() * TRUN_SAMPLE;
    // `trun` counts from the start of the `moof`, with a sign.
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

/// A `styp` box (8.16.2): the start of a segment.
pub fn styp() -> Vec<u8> {
    let mut boxes = Boxes(Vec::with_capacity(24));
    boxes.put(b"styp", |boxes| {
        boxes.bytes(b"msdh").u32(0).bytes(b"msdhmsix");
    });
    boxes.0
}

/// A `prft` box (8.16.5) for the fragment that starts with this sample: the wall clock when it was captured, so that a
/// player can tell how late it shows it.
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

/// NTP's 64 bits (RFC 5905, 6): seconds since 1900 and their 2^32nd parts; the seconds wrap in 2036, as NTP's eras do.
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

/// One track's part of the `moof`, its payload `offset` bytes behind the start of that; says how many bytes its payload has.
fn traf(boxes: &mut Boxes, track: u32, offset: u32, samples: &[Sample]) -> Result<u32, Error> {
    const DEFAULT_BASE_IS_MOOF: u32 = 0x02_0000;
    // Of each sample its duration, size, flags and composition offset, and where the first is.
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

/// A sample's flags (8.8.3.1): whether it leads a start and depends on what is before that, whether it depends on others, and whether
/// it is a sync sample.
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
