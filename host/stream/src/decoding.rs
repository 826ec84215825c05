//! From samples to decoded pictures in the order of showing: what the shared decoder (`frames.rs`) and one that catches up with
//! it (`catchup.rs`) have in common. No thread, no clock.

use super::{
    frames::Decoded,
    ring::{Info, Numbers},
    status::Status,
};
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

/// A picture that comes out of the decoder so much further ahead of what goes in than the last ones, and a few steps, is not meant
/// to be shown then: those behind it would be out of order for as long. Unless that many in a row are.
const AHEAD: i64 = TIMESCALE as i64 * 3 / 10;
const COMPARED: usize = 32;

/// Access units that a decoder may hold back for reordering, and more (H.264 A.3.1: at most 16 frames).
const MAX_HELD: usize = 64;

/// Decoded pictures of all streams together have so many bytes at most. A coded picture of a few kilobytes may be a hundred megabytes
/// decoded, and whoever makes something of it keeps it for as long as that takes.
const MAX_DECODED: usize = 512 << 20;
static PICTURES: LazyLock<Budget> = LazyLock::new(|| Budget::new(MAX_DECODED));

/// A decoder for whatever tracks a feed has, and where its pictures belong.
pub(super) struct Decoding {
    status: Arc<Status>,
    /// By which a picture is told to begin a group.
    numbers: Numbers,
    decoder: Option<(Decoder, Format)>,
    /// How its pictures are to be shown.
    geometry: Geometry,
    /// Decoding begins with the next independent sample.
    joins: bool,
    /// It began with the newest independent one, so the pictures that lead it cannot be decoded.
    joined: bool,
    /// Of access units whose pictures have not come out: when captured, by time of showing.
    held: BTreeMap<i64, u64>,
    /// When the newest picture is shown, and the keyframe that it belongs to.
    last: Option<u64>,
    keyframe: Option<u64>,
    /// Decode time of the newest sample, and how far that is from the one before.
    decoded: Option<u64>,
    step: u64,
    /// How far the last pictures' times of showing were ahead of the sample that went in when they came out.
    ahead: VecDeque<i64>,
    /// Pictures in a row that were too far ahead.
    strange: usize,
}

impl Decoding {
    /// Counts pictures and failures in `status`; groups begin as `numbers` of an encoded feed say.
    pub fn new(status: &Arc<Status>, numbers: Numbers) -> Decoding {
        Decoding {
            status: status.clone(),
            numbers,
            decoder: None,
            geometry: Geometry::default(),
            joins: true,
            joined: false,
            held: BTreeMap::new(),
            last: None,
            keyframe: None,
            decoded: None,
            step: 0,
            ahead: VecDeque::new(),
            strange: 0,
        }
    }

    /// The samples that follow are of these tracks.
    ///
    /// # Errors
    /// There is no decoder for them; nothing is decoded until the next call.
    pub fn configure(&mut self, info: &Info) -> Result<(), codec::Error> {
        self.held.clear();
        self.ahead.clear();
        self.joins = true;
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
            // No picture comes of parameter sets alone, which some versions of libavcodec call an error.
            let _ = decoder.decode(&h264::annexb::join(&sets), 0);
        }
        self.decoder = Some((decoder.counted(&self.status.codec), format));
        Ok(())
    }

    /// The next sample does not follow the last one.
    pub fn reset(&mut self) {
        if let Some((decoder, _)) = &mut self.decoder {
            decoder.reset();
        }
        self.joins = true;
        self.held.clear();
    }

    /// Whether the next sample cannot be decoded, as it leads the independent one that decoding began with and refers to what came
    /// before that. To be asked of each sample.
    pub fn passes_over(&mut self, sample: &Sample) -> bool {
        if sample.independent {
            self.joined = std::mem::take(&mut self.joins);
        }
        self.joined && sample.leading
    }

    /// What comes out while `sample` goes in, in the order of showing, and whether the sample itself was decoded without error.
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
        let shown = i64::try_from(sample.shown_at()).unwrap_or(i64::MAX);
        self.held.insert(shown, sample.captured_at);
        if self.held.len() > MAX_HELD {
            self.held.pop_first();
        }
        let geometry = self.geometry;
        let take = |frame: Frame| frames.push(frame.shown(geometry));
        let outcome = decoder.decode_each(&data, shown, take);
        (frames, outcome)
    }

    /// Where a picture that came out while `sample` went in belongs; none for one that is out of order.
    pub fn place(&mut self, frame: Frame, sample: &Sample) -> Option<Decoded> {
        let shown = frame
            .pts()
            .unwrap_or(i64::try_from(sample.decode_time).unwrap_or(i64::MAX));
        let captured_at = self.held.remove(&shown).unwrap_or(sample.captured_at);
        let mut time = u64::try_from(shown).ok()?;
        if let Some(last) = self.last {
            if self.is_too_far_ahead(shown, sample) {
                time = last + self.step.clamp(1, u64::from(TIMESCALE));
            }
            if time <= last {
                return None;
            }
        }
        let Some(memory) = PICTURES.take_within(frame.bytes()) else {
            self.status.codec.dropped.fetch_add(1, Ordering::Relaxed);
            let most = MAX_DECODED >> 20;
            self.status.note(
                "memory",
                format!("decoded pictures of all streams take {most} MiB, so some are left out; smaller pictures, or fewer streams or sizes at a time, help"),
            );
            return None;
        };
        self.last = Some(time);
        let keyframe = self.numbers.keyframe(time);
        let begins = keyframe != self.keyframe;
        self.keyframe = keyframe;
        Some(Decoded {
            frame,
            time,
            captured_at,
            begins,
            _memory: memory,
        })
    }

    /// Whether a picture that came out while `sample` went in cannot be meant to be shown then.
    fn is_too_far_ahead(&mut self, shown: i64, sample: &Sample) -> bool {
        let ahead = shown.saturating_sub(i64::try_from(sample.decode_time).unwrap_or(i64::MAX));
        let usual = self.ahead.iter().max();
        let steps = i64::try_from(4 * self.step).unwrap_or(i64::MAX);
        let strange = usual.is_some_and(|usual| ahead > usual.saturating_add(AHEAD.max(steps)));
        if strange && self.strange < COMPARED {
            self.strange += 1;
            return true;
        }
        self.strange = 0;
        self.ahead.push_back(ahead);
        if self.ahead.len() > COMPARED {
            self.ahead.pop_front();
        }
        false
    }
}
