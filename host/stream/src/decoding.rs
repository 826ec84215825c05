//! From samples to decoded frames in presentation order: the part that the shared decoder (`frames.rs`) and one that
//! catches up with it (`catchup.rs`) have in common. No thread, no clock.
//!
//! libavcodec returns a frame later than its sample went in, and after damage at implausible times. [`Decoding`] gives
//! each frame its presentation and capture time back, drops frames that are out of order, and says which frame begins a
//! group. All decoded frames of the process share one memory limit.

use super::{frames::Decoded, info::Info, ring::GroupNumbers, status::Status};
use sluicegate_codec as codec;
use sluicegate_codec::{Decoder, Frame};
use sluicegate_media::{
    budget::Budget,
    geometry::Geometry,
    h264,
    sample::{Codec, Format, Sample},
    time::TIMESCALE,
};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, LazyLock, atomic::Ordering},
};

/// A frame whose presentation time is further ahead of the decoder's input than that of the last `COMPARED` frames by
/// more than this, and by more than a few steps, has a wrong time stamp: the frames after it would be out of order for
/// that long. After `COMPARED` such frames in a row, the times are accepted.
const MAX_AHEAD: i64 = TIMESCALE as i64 * 3 / 10;
const COMPARED: usize = 32;

/// Access units that a decoder may hold back for reordering, with a margin (H.264 A.3.1: at most 16 frames).
const MAX_HELD: usize = 64;

/// Limit on the decoded frames of all streams together, in bytes. A coded frame of a few kilobytes may take a hundred
/// megabytes decoded, and is held for as long as something is made of it.
const MAX_DECODED: usize = 512 << 20;
static DECODED_FRAMES: LazyLock<Budget> = LazyLock::new(|| Budget::new(MAX_DECODED));

/// A decoder for the tracks of a feed, which places its frames on the timeline.
pub(super) struct Decoding {
    status: Arc<Status>,
    /// Group index that says whether a frame begins a group.
    numbers: GroupNumbers,
    decoder: Option<(Decoder, Format)>,
    /// How the frames are presented.
    geometry: Geometry,
    /// Whether decoding begins with the next independent sample.
    awaits_start: bool,
    /// Whether decoding began with the newest independent sample, so that its leading frames cannot be decoded.
    skips_leading: bool,
    /// Capture times of access units whose frames have not come out, by presentation time.
    pending: BTreeMap<i64, u64>,
    /// Presentation time of the newest frame, and the keyframe that it belongs to.
    last: Option<u64>,
    keyframe: Option<u64>,
    /// Decode time of the newest sample, and its distance from the one before.
    decoded: Option<u64>,
    step: u64,
    /// How far the presentation times of the last frames were ahead of the sample that went in when they came out.
    ahead: VecDeque<i64>,
    /// Number of frames in a row that were too far ahead.
    too_far_ahead: usize,
}

impl Decoding {
    /// Creates a decoding without tracks. Frames and failures are counted in `status`; `numbers` is the group index of
    /// an encoded feed.
    pub fn new(status: &Arc<Status>, numbers: GroupNumbers) -> Decoding {
        Decoding {
            status: status.clone(),
            numbers,
            decoder: None,
            geometry: Geometry::default(),
            awaits_start: true,
            skips_leading: false,
            pending: BTreeMap::new(),
            last: None,
            keyframe: None,
            decoded: None,
            step: 0,
            ahead: VecDeque::new(),
            too_far_ahead: 0,
        }
    }

    /// Sets the tracks of the samples that follow.
    ///
    /// # Errors
    /// There is no decoder for them; nothing is decoded until the next call.
    pub fn configure(&mut self, info: &Info) -> Result<(), codec::Error> {
        self.pending.clear();
        self.ahead.clear();
        self.awaits_start = true;
        self.decoder = None;
        let Some(video) = &info.video else {
            return Ok(());
        };
        self.geometry = video.geometry;
        let (mut decoder, format) = match video.codec {
            Codec::Jpeg => (Decoder::mjpeg()?, Format::Jpeg),
            _ => (Decoder::h264()?, Format::H264AnnexB),
        };
        let sets = h264::avcc::DecoderConfig::parse(&video.config)
            .map(|config| [config.sps, config.pps].concat())
            .unwrap_or_default();
        if !sets.is_empty() {
            // Parameter sets alone give no frame, which some versions of libavcodec report as an error.
            let _ = decoder.decode(&h264::annexb::join(&sets), 0);
        }
        self.decoder = Some((decoder.counted(&self.status.codec), format));
        Ok(())
    }

    /// Declares that the next sample does not follow the last one.
    pub fn reset(&mut self) {
        if let Some((decoder, _)) = &mut self.decoder {
            decoder.reset();
        }
        self.awaits_start = true;
        self.pending.clear();
    }

    /// Whether the next sample cannot be decoded, because it leads the independent sample that decoding began with and
    /// refers to frames before that. Call it for every sample.
    pub fn must_skip(&mut self, sample: &Sample) -> bool {
        if sample.independent {
            self.skips_leading = std::mem::take(&mut self.awaits_start);
        }
        self.skips_leading && sample.leading
    }

    /// Decodes `sample`. Returns the frames that come out, in presentation order, and whether the sample itself was
    /// decoded without error.
    pub fn decode(&mut self, sample: &Sample) -> (Vec<Frame>, Result<(), codec::Error>) {
        let mut frames = Vec::new();
        let Some((decoder, format)) = &mut self.decoder else {
            return (frames, Ok(()));
        };
        let Some(data) = sample.packaged(*format) else {
            return (frames, Ok(()));
        };
        let before = self.decoded.replace(sample.decode_time);
        self.step = before.map_or(0, |before| sample.decode_time.saturating_sub(before));
        let shown = i64::try_from(sample.presentation_time()).unwrap_or(i64::MAX);
        self.pending.insert(shown, sample.captured_at);
        if self.pending.len() > MAX_HELD {
            self.pending.pop_first();
        }
        let geometry = self.geometry;
        let take = |frame: Frame| frames.push(frame.with_geometry(geometry));
        let outcome = decoder.decode_each(&data, shown, take);
        (frames, outcome)
    }

    /// Places a frame that came out while `sample` went in on the timeline. `None` if it is out of order, or the memory
    /// limit is reached.
    pub fn place(&mut self, frame: Frame, sample: &Sample) -> Option<Decoded> {
        let shown = frame
            .pts()
            .unwrap_or(i64::try_from(sample.decode_time).unwrap_or(i64::MAX));
        let captured_at = self.pending.remove(&shown).unwrap_or(sample.captured_at);
        let mut time = u64::try_from(shown).ok()?;
        if let Some(last) = self.last {
            if self.is_too_far_ahead(shown, sample) {
                time = last + self.step.clamp(1, u64::from(TIMESCALE));
            }
            if time <= last {
                return None;
            }
        }
        let Some(memory) = DECODED_FRAMES.reserve_within(frame.bytes()) else {
            self.status.codec.dropped.fetch_add(1, Ordering::Relaxed);
            let most = MAX_DECODED >> 20;
            self.status.note(
                "memory",
                format!("the limit of {most} MiB for decoded frames of all streams is reached, so frames are dropped; use smaller frames, or fewer streams or renditions at a time"),
            );
            return None;
        };
        self.last = Some(time);
        let keyframe = self.numbers.keyframe(time);
        let starts_group = keyframe != self.keyframe;
        self.keyframe = keyframe;
        Some(Decoded {
            frame,
            time,
            captured_at,
            starts_group,
            _memory: memory,
        })
    }

    /// Whether the time of a frame that came out while `sample` went in is implausibly far ahead.
    fn is_too_far_ahead(&mut self, shown: i64, sample: &Sample) -> bool {
        let ahead = shown.saturating_sub(i64::try_from(sample.decode_time).unwrap_or(i64::MAX));
        let usual = self.ahead.iter().max();
        let steps = i64::try_from(4 * self.step).unwrap_or(i64::MAX);
        let strange = usual.is_some_and(|usual| ahead > usual.saturating_add(MAX_AHEAD.max(steps)));
        if strange && self.too_far_ahead < COMPARED {
            self.too_far_ahead += 1;
            return true;
        }
        self.too_far_ahead = 0;
        self.ahead.push_back(ahead);
        if self.ahead.len() > COMPARED {
            self.ahead.pop_front();
        }
        false
    }
}
