//! Media fragments: `moof` and `mdat`, and the boxes that may precede them.
//!
//! Only boxes are written here. The payload of samples stays where it is: a fragment is the bytes before the payload,
//! and the samples in the order in which their payload follows. The size of the `moof` is known from the number of
//! tracks and samples, so data offsets are computed before it is written. Section numbers without a name are those of
//! ISO/IEC 14496-12.

use crate::{Error, boxes::Boxes};

const MOOF: usize = 8 + 16;
const TRAF: usize = 8 + 16 + 20 + 20;
const TRUN_SAMPLE: usize = 16;
const MDAT: usize = 8;

/// One access unit of video, or one audio frame. `P` is the payload or a handle of it, which is never looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample<P> {
    /// Id of its track ([`Track::id`](crate::Track::id)).
    pub track: u32,
    /// Decode time in ticks of the track's timescale.
    pub decode_time: u64,
    /// Presentation time minus decode time, in ticks of the track's timescale.
    pub composition_offset: i32,
    /// Duration in ticks of the track's timescale. Counts only for the last sample of its track in a fragment.
    pub duration: u32,
    /// Decodable without any earlier sample.
    pub independent: bool,
    /// Presented before the independent sample that it follows, and possibly not decodable after it alone.
    pub leading: bool,
    /// Size of the payload in bytes.
    pub size: u32,
    /// The payload in the track's format.
    pub payload: P,
}

/// A fragment, complete except that the payload is not yet joined to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fragment<P> {
    /// All bytes before the payload: the boxes that precede the fragment, `moof`, and the header of `mdat`.
    pub head: Vec<u8>,
    /// The samples in the order in which their payload follows `head`: [`Sample::size`] bytes of each, without gaps.
    pub samples: Vec<Sample<P>>,
}

impl<P: AsRef<[u8]>> Fragment<P> {
    /// The complete fragment, if payload is in memory: `head` and the payload of all samples, each of which must have
    /// [`Sample::size`] bytes.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = self.head.clone();
        for sample in &self.samples {
            let payload = sample.payload.as_ref();
            debug_assert_eq!(payload.len(), sample.size as usize, "a payload's size");
            bytes.extend_from_slice(payload);
        }
        bytes
    }
}

/// `moof` + `mdat` of these samples, after the bytes `before` (complete boxes such as [`styp`], or none).
///
/// Samples may belong to several tracks, mixed in order of arrival. In the file the samples of each track are
/// contiguous, with tracks in the order of their first sample. `sequence` is the number in `mfhd` (8.8.5). It should
/// rise with each fragment; no known player minds gaps.
///
/// # Errors
/// There are no samples, the fragment exceeds 2 GiB, or a track's decode times fall or are too far apart.
pub fn fragment<P>(
    before: Vec<u8>,
    sequence: u32,
    mut samples: Vec<Sample<P>>,
) -> Result<Fragment<P>, Error> {
    if samples.is_empty() {
        return Err(Error::Empty);
    }
    let tracks = tracks(&samples);
    // The sort is stable: samples of one track keep their order.
    samples.sort_by_key(|sample| tracks.iter().position(|track| *track == sample.track));
    let payload: u64 = samples.iter().map(|sample| u64::from(sample.size)).sum();
    let moof = MOOF + tracks.len() * TRAF + samples.len() * TRUN_SAMPLE;
    // The data offset in `trun` is signed and counts from the start of the `moof`.
    i32::try_from((moof + MDAT) as u64 + payload).map_err(|_| Error::Large)?;

    let mut boxes = Boxes(before);
    boxes.0.reserve_exact(moof + MDAT);
    let mut offset = (moof + MDAT) as u32;
    let mut failed = None;
    boxes.put_box(b"moof", |boxes| {
        boxes.put_full_box(b"mfhd", 0, 0, |boxes| {
            boxes.u32(sequence);
        });
        for of_track in samples.chunk_by(|one, next| one.track == next.track) {
            match traf(boxes, offset, of_track) {
                Ok(size) => offset += size,
                Err(error) => failed = Some(error),
            }
        }
    });
    if let Some(error) = failed {
        return Err(error);
    }
    boxes.u32((MDAT as u64 + payload) as u32).bytes(b"mdat");
    let head = boxes.0;
    Ok(Fragment { head, samples })
}

/// A `styp` box (8.16.2), which starts a segment.
pub fn styp() -> Vec<u8> {
    let mut boxes = Boxes(Vec::with_capacity(24));
    boxes.put_box(b"styp", |boxes| {
        boxes.bytes(b"msdh").u32(0).bytes(b"msdhmsix");
    });
    boxes.0
}

/// A `prft` box (8.16.5) for the fragment that starts with this sample: the wall clock at its capture in microseconds
/// since the Unix epoch, from which a player can tell its latency.
pub fn prft<P>(sample: &Sample<P>, captured_at: u64) -> Vec<u8> {
    /// "The UTC time when the frame was captured."
    const CAPTURED: u32 = 24;
    let mut boxes = Boxes(Vec::with_capacity(32));
    boxes.put_full_box(b"prft", 1, CAPTURED, |boxes| {
        let shown = sample
            .decode_time
            .wrapping_add_signed(sample.composition_offset.into());
        boxes.u32(sample.track).u64(ntp(captured_at)).u64(shown);
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

/// Ids of the samples' tracks, in the order of their first samples.
fn tracks<P>(samples: &[Sample<P>]) -> Vec<u32> {
    let mut tracks = Vec::with_capacity(2);
    for sample in samples {
        if !tracks.contains(&sample.track) {
            tracks.push(sample.track);
        }
    }
    tracks
}

/// Writes the `traf` of one track's samples, of which there is at least one. Their payload starts `offset` bytes after
/// the start of the `moof`. Returns the size of that payload in bytes.
fn traf<P>(boxes: &mut Boxes, offset: u32, samples: &[Sample<P>]) -> Result<u32, Error> {
    const DEFAULT_BASE_IS_MOOF: u32 = 0x02_0000;
    // Duration, size, flags and composition offset of each sample, and the data offset.
    const TRUN_FLAGS: u32 = 0x0100 | 0x0200 | 0x0400 | 0x0800 | 0x01;
    let count = samples.len() as u32;
    let first = samples.first();
    let (track, time) = first.map_or((0, 0), |first| (first.track, first.decode_time));
    let mut size = 0;
    let mut failed = None;
    boxes.put_box(b"traf", |boxes| {
        boxes.put_full_box(b"tfhd", 0, DEFAULT_BASE_IS_MOOF, |boxes| {
            boxes.u32(track);
        });
        boxes.put_full_box(b"tfdt", 1, 0, |boxes| {
            boxes.u64(time);
        });
        boxes.put_full_box(b"trun", 1, TRUN_FLAGS, |boxes| {
            boxes.u32(count).u32(offset);
            let mut samples = samples.iter().peekable();
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

fn distance<P>(sample: &Sample<P>, next: &Sample<P>) -> Result<u32, Error> {
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
fn flags<P>(sample: &Sample<P>) -> u32 {
    const IS_LEADING: u32 = 1 << 26;
    const DEPENDS_ON_OTHERS: u32 = 1 << 24;
    const DEPENDS_ON_NONE: u32 = 2 << 24;
    const NON_SYNC_SAMPLE: u32 = 1 << 16;
    match (sample.independent, sample.leading) {
        (true, _) => DEPENDS_ON_NONE,
        (false, true) => IS_LEADING | DEPENDS_ON_OTHERS | NON_SYNC_SAMPLE,
        (false, false) => DEPENDS_ON_OTHERS | NON_SYNC_SAMPLE,
    }
}
