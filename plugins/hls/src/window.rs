//! The window: parts and segments of one run of a stream, and what may still be requested of them. Pure.
//!
//! A segment is a group of the host, with the group's number as media sequence number, so numbers continue in a
//! restarted instance and are equal in all renditions. A sample lasts until the next one of its track, so the newest
//! sample of each track is held back until its duration is known. Durations in the playlist, in `trun` and between
//! `tfdt`s then always agree, and a hinted part is certain to come. The cost is the duration of one frame. `fill` makes
//! segments of the samples that `Hls::push` gets; here is what `playlist` and `Hls::request` read.

mod fill;

use crate::{
    options::{Settings, Targets},
    time::{self, SECOND, Time},
};
use sluicegate_sdk::{Buffer, Sample};
use std::collections::VecDeque;

/// The span between two breaks, with its tracks.
pub struct Epoch {
    /// Number of the epoch, counted by the host.
    pub number: u32,
    /// Initialization segment.
    pub init: Buffer,
    /// Codec strings of all tracks (RFC 6381).
    pub codecs: String,
    /// Durations that its segments keep to.
    pub targets: Targets,
    /// Duration of its longest segment that was followed by another. Includes segments that are no longer kept or were
    /// before this instance.
    longest: Time,
    /// Id of the track whose samples start segments and parts: video if there is any.
    primary: u32,
    /// Whether the primary track has leading frames (open GOPs).
    has_leading: bool,
    /// Ids and timescales of the tracks.
    tracks: Vec<(u32, u32)>,
}

/// Samples from the first independent one of a group to the next group.
pub struct Segment {
    /// Media sequence number.
    pub msn: u64,
    /// Number of its epoch.
    pub epoch: u32,
    /// Presentation time of its first frame, since the start of the run.
    pub began: Time,
    /// The same by the wall clock, in microseconds since the Unix epoch.
    pub date: u64,
    /// Start of the next segment; grows while this one is open.
    pub ended: Time,
    /// Parts in order. None: a gap, whose samples are missing.
    pub parts: Vec<Part>,
    /// Presentation time minus decode time of its first sample. Renditions agree on presentation times only, so the
    /// segment's times are decode times plus this offset.
    offset: i64,
    bytes: usize,
}

/// One fragment.
pub struct Part {
    /// Time until the next part.
    pub duration: Time,
    /// Contains an independent sample of the primary track, so players may start with it.
    pub independent: bool,
    /// `moof` and `mdat`.
    pub bytes: Buffer,
}

impl Segment {
    fn new(msn: u64, epoch: u32, began: Time, date: u64) -> Segment {
        Segment {
            msn,
            epoch,
            began,
            date,
            ended: began,
            parts: Vec::new(),
            offset: 0,
            bytes: 0,
        }
    }

    /// Time from its first sample to the next segment's.
    pub fn duration(&self) -> Time {
        self.ended - self.began
    }

    /// Presentation time of a decode time, with the offset of the segment's first sample.
    fn time(&self, decoded: Time) -> Time {
        decoded.saturating_add_signed(self.offset)
    }

    /// Number of grid cells of its parts that are complete at a time.
    fn completed_cells(&self, at: Time, grid: Time) -> u64 {
        let passed = at.saturating_sub(self.began);
        (passed + Targets::slack(grid)) / grid.max(1)
    }

    /// Size in bits.
    pub fn bits(&self) -> u64 {
        self.bytes as u64 * 8
    }
}

/// Segments of one run of a stream.
pub struct Window {
    /// Validated options.
    pub settings: Settings,
    /// Wall clock at decode time 0 in microseconds since the Unix epoch; identifies the run.
    pub run: u64,
    /// The stream has ended for good.
    pub ended: bool,
    epochs: VecDeque<Epoch>,
    complete: VecDeque<Segment>,
    open: Option<Segment>,
    /// Start of the part in progress, and its samples whose durations are known.
    part_start: Time,
    part_samples: Vec<Sample>,
    /// Newest sample of each track, which is held back.
    newest: Vec<Sample>,
    /// Last distance between two samples of the primary track in the open segment, in the track's ticks.
    step: u32,
    /// The open segment exceeded the limits; the rest of it is ignored.
    over_limits: bool,
    /// The newest independent sample is the one that started the open segment.
    after_segment_start: bool,
}

impl Window {
    /// An empty window.
    pub fn new(settings: Settings, run: u64) -> Window {
        Window {
            settings,
            run,
            ended: false,
            epochs: VecDeque::new(),
            complete: VecDeque::new(),
            open: None,
            part_start: 0,
            part_samples: Vec::new(),
            newest: Vec::new(),
            step: 0,
            over_limits: false,
            after_segment_start: false,
        }
    }

    /// The newest epoch.
    pub fn epoch(&self) -> Option<&Epoch> {
        self.epochs.back()
    }

    /// An epoch that some kept segment still refers to.
    pub fn epoch_of(&self, number: u32) -> Option<&Epoch> {
        self.epochs.iter().find(|epoch| epoch.number == number)
    }

    /// The complete segments that a playlist lists, oldest first: as many as configured, or more if those are shorter
    /// than three target durations together (6.2.2).
    pub fn listed(&self) -> impl DoubleEndedIterator<Item = &Segment> + Clone {
        // Independent of the actual segments: a segment that was removed must not return because a later one is longer.
        let promised = self.epoch().map_or(0, |epoch| epoch.targets.duration);
        let promised = promised.max(self.settings.segment.div_ceil(SECOND) * SECOND);
        let (mut count, mut duration) = (0, 0);
        for segment in self.complete.iter().rev() {
            if count >= self.settings.window && duration >= 3 * promised {
                break;
            }
            count += 1;
            duration += segment.duration();
        }
        self.complete.range(self.complete.len() - count..)
    }

    /// The segment in progress.
    pub fn open(&self) -> Option<&Segment> {
        self.open.as_ref()
    }

    /// The segment with that number, complete or not.
    pub fn segment(&self, msn: u64) -> Option<&Segment> {
        let first = self.complete.front().map_or(msn, |segment| segment.msn);
        let place = usize::try_from(msn.checked_sub(first)?).ok()?;
        self.complete
            .get(place)
            .or(self.open.as_ref())
            .filter(|segment| segment.msn == msn)
    }

    /// Part target duration and part hold-back over all epochs, since parts of an earlier epoch remain listed for a
    /// while.
    pub fn part_targets(&self) -> (Time, Time) {
        let targets = self.epochs.iter().map(|epoch| &epoch.targets);
        targets.fold((0, 0), |(part, hold_back), targets| {
            (
                part.max(targets.part),
                hold_back.max(targets.part_hold_back),
            )
        })
    }

    /// The newest complete segment.
    pub fn last(&self) -> Option<&Segment> {
        self.complete.back()
    }

    /// The part that comes next: its segment's number, and its index there.
    pub fn next_part(&self) -> Option<(u64, usize)> {
        match (&self.open, self.complete.back()) {
            (Some(open), _) if self.over_limits => Some((open.msn + 1, 0)),
            (Some(open), _) => Some((open.msn, open.parts.len())),
            (None, Some(last)) => Some((last.msn + 1, 0)),
            (None, None) => None,
        }
    }

    /// The newest part at `time` in a rendition whose parts are on another grid of the same segments: its segment's
    /// number, and its index there.
    pub fn part_at(&self, time: Time, grid: Time) -> Option<(u64, u64)> {
        let open = self.open.as_ref();
        if let Some((open, parts)) = open.map(|open| (open, open.completed_cells(time, grid)))
            && parts > 0
        {
            return Some((open.msn, parts - 1));
        }
        let last = self.last()?;
        // A remainder after the last grid line is a part, too.
        let slack = Targets::slack(grid);
        let parts = (last.duration().saturating_sub(slack)).div_ceil(grid.max(1));
        Some((last.msn, parts.saturating_sub(1)))
    }

    /// Duration of the open segment while no segment is complete; it grows if keyframes are further apart than players
    /// wait.
    pub fn first_segment_duration(&self) -> Option<Time> {
        let open = self.open.as_ref().filter(|_| self.complete.is_empty())?;
        Some(open.duration())
    }

    /// Target duration: the promised one, or that of the epoch's longest segment if it is longer. A keyframe interval
    /// longer than all before raises it, because no segment could end in time and start with a keyframe, and a correct
    /// value matters more than a constant one. It falls only at a break.
    pub fn target_duration(&self) -> Time {
        let held = self.complete.iter().map(Segment::duration).max();
        let (promised, longest) = self
            .epoch()
            .map_or((0, 0), |epoch| (epoch.targets.duration, epoch.longest));
        let longest = time::round_to_seconds(held.unwrap_or(0).max(longest));
        promised.max(longest).max(SECOND)
    }

    /// Peak and average bit rate, in bits per second, of the listed segments (4.4.6.2). Older ones are held, but a new
    /// instance gets the oldest without the audio that arrived before its keyframe.
    pub fn bit_rates(&self) -> Option<(u64, u64)> {
        let target = self.target_duration();
        let rate = |bits: u64, duration: Time| bits * SECOND / duration.max(1);
        let mut peak = 0;
        for first in 0..self.listed().count() {
            // "The largest bit rate of any contiguous set of segments whose total duration is between 0.5 and 1.5 times
            // the target duration."
            let (mut bits, mut duration) = (0, 0);
            for segment in self.listed().skip(first) {
                bits += segment.bits();
                duration += segment.duration();
                if 2 * duration > 3 * target {
                    break;
                }
                if 2 * duration >= target {
                    peak = peak.max(rate(bits, duration));
                }
            }
        }
        let bits = self.listed().map(Segment::bits).sum();
        let duration = self.listed().map(Segment::duration).sum();
        let average = rate(bits, duration);
        (average > 0).then_some((peak.max(average), average))
    }
}
