//! The window: samples in; parts, segments and what may still be asked for out. Pure.
//!
//! A segment is a group of the host's, and its media sequence number the group's, so that numbers go on over a rebuilt
//! instance and are alike in all renditions. A sample lasts until the next one of its track, so each track's newest is held
//! back until that is known: durations in the playlist, in `trun` and between `tfdt`s then always agree, and the hinted part
//! is one that surely comes. It costs the time of one picture.

use crate::{
    options::{Settings, Targets},
    time::{self, MILLISECOND, SECOND, Time},
};
use sluicegate_fmp4 as fmp4;
use sluicegate_sdk::{Buffer, Kind, Sample, StreamInfo, h264, log};
use std::collections::VecDeque;

/// The host grants 64 MiB of buffers: this much is held, as much again while a segment is put together for a client.
const MAX_BYTES: usize = 28 << 20;
/// And 8,192 handles.
const MAX_PARTS: usize = 6000;

/// The tracks between two breaks.
pub struct Epoch {
    /// The host's count.
    pub number: u32,
    /// The init segment.
    pub init: Buffer,
    /// RFC 6381, of all tracks.
    pub codecs: String,
    /// What its segments keep to.
    pub targets: Targets,
    /// The longest of its segments that others followed, those that have gone and those from before this instance among them.
    longest: Time,
    /// The track whose samples begin segments and parts: video if there is any.
    primary: u32,
    /// It has pictures that lead an independent one and refer to what comes before that: open groups of pictures.
    leads: bool,
    /// Ids and timescales.
    tracks: Vec<(u32, u32)>,
}

/// A run of samples from an independent one to the next segment's.
pub struct Segment {
    /// Media sequence number.
    pub msn: u64,
    /// Of which epoch.
    pub epoch: u32,
    /// Since the run began.
    pub began: Time,
    /// The same in Unix microseconds, by the wall clock.
    pub date: u64,
    /// Where the next one begins; grows while it is open.
    pub ended: Time,
    /// None: a gap, whose samples are missing.
    pub parts: Vec<Part>,
    /// How much later than its decode time its first sample is shown. Renditions agree about when pictures are shown, so the
    /// segment's times are of that: decode times and this.
    offset: i64,
    bytes: usize,
}

/// One fragment.
pub struct Part {
    /// Until the next.
    pub duration: Time,
    /// Has an independent sample of the primary track, with which players may start.
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

    /// From its first sample to the next segment's.
    pub fn duration(&self) -> Time {
        self.ended - self.began
    }

    /// When what is decoded at `decoded` is shown, as its first sample is.
    fn time(&self, decoded: Time) -> Time {
        decoded.saturating_add_signed(self.offset)
    }

    /// Places on a grid of its parts, so many of which are behind it so far.
    fn cells(&self, at: Time, grid: Time) -> u64 {
        let passed = at.saturating_sub(self.began);
        (passed + Targets::slack(grid)) / grid.max(1)
    }

    /// Its size.
    pub fn bits(&self) -> u64 {
        self.bytes as u64 * 8
    }
}

/// What is there of a stream.
pub struct Window {
    /// As configured.
    pub settings: Settings,
    /// Unix microseconds at decode time 0, which tells runs apart.
    pub run: u64,
    /// Nothing follows, ever.
    pub ended: bool,
    epochs: VecDeque<Epoch>,
    complete: VecDeque<Segment>,
    open: Option<Segment>,
    /// Where the part in progress begins, and its samples whose durations are known.
    part_began: Time,
    ripe: Vec<Sample>,
    /// The newest sample of each track.
    newest: Vec<Sample>,
    /// The last distance between two samples of the primary track within the open segment, in its ticks.
    step: u32,
    /// The open segment outgrew the memory: what is left of it is passed over.
    given_up: bool,
    /// The newest independent sample is the one that began the open segment.
    at_start: bool,
}

impl Window {
    /// An empty one.
    pub fn new(settings: Settings, run: u64) -> Window {
        Window {
            settings,
            run,
            ended: false,
            epochs: VecDeque::new(),
            complete: VecDeque::new(),
            open: None,
            part_began: 0,
            ripe: Vec::new(),
            newest: Vec::new(),
            step: 0,
            given_up: false,
            at_start: false,
        }
    }

    /// New tracks, or the same after a loss. What is open ends here.
    ///
    /// # Errors
    /// Why there can be no segments of them.
    pub fn configure(&mut self, info: &StreamInfo) -> Result<(), String> {
        self.ended = false;
        if self
            .epochs
            .back()
            .is_some_and(|epoch| epoch.number == info.epoch)
        {
            return Ok(());
        }
        self.cut();
        let mut tracks = info.tracks.clone();
        tracks.retain(|track| match fmp4::check(track) {
            Ok(()) => true,
            Err(error) => {
                log::warn(format!("{error}; it is left out"));
                false
            }
        });
        let video = tracks
            .iter()
            .find(|track| matches!(track.kind, Kind::Video(_)));
        let Some(primary) = video.or(tracks.first()).map(|track| track.id) else {
            return Err("nothing of this stream can be written as fragmented MP4".into());
        };
        self.epochs.push_back(Epoch {
            number: info.epoch,
            init: fmp4::init(&tracks)
                .map_err(|error| error.to_string())?
                .into(),
            targets: Targets::new(&self.settings, info),
            codecs: fmp4::codecs(&tracks),
            longest: Time::from(info.longest_group_ms) * MILLISECOND,
            primary,
            leads: false,
            tracks: tracks
                .iter()
                .map(|track| (track.id, track.timescale))
                .collect(),
        });
        Ok(())
    }

    /// The next sample.
    pub fn push(&mut self, sample: Sample) {
        let Some(epoch) = self.epochs.back() else {
            return;
        };
        if sample.track == epoch.primary {
            self.push_primary(sample);
        } else if self.open.is_some() && epoch.timescale(sample.track).is_some() {
            // Until a segment is open there is nowhere to put it.
            let before = self.take_newest(sample.track, Some(sample.decode_time));
            self.ripe.extend(before);
            self.newest.push(sample);
        }
    }

    /// Nothing comes until the next `configure`, or ever.
    pub fn stop(&mut self, last: bool) {
        self.cut();
        self.ended |= last;
    }

    /// The newest epoch.
    pub fn epoch(&self) -> Option<&Epoch> {
        self.epochs.back()
    }

    /// One that is still referred to.
    pub fn epoch_of(&self, number: u32) -> Option<&Epoch> {
        self.epochs.iter().find(|epoch| epoch.number == number)
    }

    /// What a playlist lists of the complete segments, oldest first: as many as configured, and more where those are too
    /// short to make three target durations (6.2.2).
    pub fn listed(&self) -> impl DoubleEndedIterator<Item = &Segment> + Clone {
        // Never of what the segments are: one that has gone does not come back because a later one is longer.
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

    /// The segment of that number, complete or not.
    pub fn segment(&self, msn: u64) -> Option<&Segment> {
        let first = self.complete.front().map_or(msn, |segment| segment.msn);
        let place = usize::try_from(msn.checked_sub(first)?).ok()?;
        self.complete
            .get(place)
            .or(self.open.as_ref())
            .filter(|segment| segment.msn == msn)
    }

    /// What no part that is listed is longer than, and the hold-back that goes with it: of all epochs, as parts of an earlier one are
    /// listed for a while.
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

    /// The part that comes next: in which segment, and its place there.
    pub fn next_part(&self) -> Option<(u64, usize)> {
        match (&self.open, self.complete.back()) {
            (Some(open), _) if self.given_up => Some((open.msn + 1, 0)),
            (Some(open), _) => Some((open.msn, open.parts.len())),
            (None, Some(last)) => Some((last.msn + 1, 0)),
            (None, None) => None,
        }
    }

    /// The newest part at `time`, on another grid of parts in the same segments: its segment and its place there.
    pub fn part_at(&self, time: Time, grid: Time) -> Option<(u64, u64)> {
        let open = self.open.as_ref();
        if let Some((open, parts)) = open.map(|open| (open, open.cells(time, grid)))
            && parts > 0
        {
            return Some((open.msn, parts - 1));
        }
        let last = self.last()?;
        // What is left behind the grid is a part, too.
        let slack = Targets::slack(grid);
        let parts = (last.duration().saturating_sub(slack)).div_ceil(grid.max(1));
        Some((last.msn, parts.saturating_sub(1)))
    }

    /// How long the open segment is, while there is no complete one to list: keyframes are further apart than players wait.
    pub fn first_takes(&self) -> Option<Time> {
        let open = self.open.as_ref().filter(|_| self.complete.is_empty())?;
        Some(open.duration())
    }

    /// The target duration: what was promised, or what the longest segment of the epoch makes of it. Keyframes that are further apart
    /// than all that came before raise it: no segment could end in time and begin with a keyframe, and truth goes before constancy.
    /// It falls with a break only.
    pub fn target_duration(&self) -> Time {
        let held = self.complete.iter().map(Segment::duration).max();
        let (promised, longest) = self
            .epoch()
            .map_or((0, 0), |epoch| (epoch.targets.duration, epoch.longest));
        let longest = time::rounded(held.unwrap_or(0).max(longest));
        promised.max(longest).max(SECOND)
    }

    /// Peak and average bit rate of what is held (4.4.6.2).
    pub fn bit_rates(&self) -> Option<(u64, u64)> {
        let target = self.target_duration();
        let rate = |bits: u64, duration: Time| bits * SECOND / duration.max(1);
        let mut peak = 0;
        for first in 0..self.complete.len() {
            // "The largest bit rate of any contiguous set of segments whose total duration is between 0.5 and 1.5 times the
            // target duration."
            let (mut bits, mut duration) = (0, 0);
            for segment in self.complete.range(first..) {
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
        let bits = self.complete.iter().map(Segment::bits).sum();
        let duration = self.complete.iter().map(Segment::duration).sum();
        let average = rate(bits, duration);
        (average > 0).then_some((peak.max(average), average))
    }

    fn push_primary(&mut self, sample: Sample) {
        let newest = self.open.as_ref().or(self.complete.back());
        let begins = match (&self.open, newest.map(|segment| segment.msn)) {
            (Some(_), Some(newest)) => sample.group > newest,
            (None, Some(newest)) if sample.group <= newest => return,
            _ => true,
        };
        // The sample that began this group was left out, and no segment begins without it: the picture before stays.
        if begins && !sample.independent {
            return;
        }
        // Players start with any segment, and decoders in browsers end with an error where one begins with pictures that are made from
        // those of the segment before.
        if sample.leading {
            if let Some(epoch) = self.epochs.back_mut() {
                epoch.leads = true;
            }
            if self.at_start {
                return;
            }
        }
        self.at_start = begins || (self.at_start && !sample.independent);
        let follows = newest.is_none_or(|newest| sample.group <= newest.msn + 1);
        let until = follows.then_some(sample.decode_time);
        let before = self.take_newest(sample.track, until);
        if !begins {
            if let Some(before) = before {
                self.ripen(before);
            }
            self.newest.push(sample);
            return;
        }
        let shown = self.epochs.back().map_or(0, |epoch| epoch.shown(&sample));
        if let Some(before) = before {
            self.ripen_last(before, Some(shown).filter(|_| follows));
        }
        if let (Some(open), Some(epoch), true) = (&self.open, self.epochs.back_mut(), follows) {
            epoch.longest = epoch.longest.max(open.duration());
        }
        self.complete_open();
        self.begin(&sample, shown);
        self.newest.push(sample);
    }

    /// The newest sample of a track, whose duration is now known: it lasts until the next one or, where none follows, as
    /// long as is to be expected.
    fn take_newest(&mut self, track: u32, until: Option<u64>) -> Option<Sample> {
        let place = self
            .newest
            .iter()
            .position(|newest| newest.track == track)?;
        let mut sample = self.newest.swap_remove(place);
        let known = until.and_then(|until| until.checked_sub(sample.decode_time));
        if let Some(known) = known {
            sample.duration = u32::try_from(known).unwrap_or(u32::MAX);
        } else if sample.duration == 0 {
            let timescale = self.epochs.back().and_then(|epoch| epoch.timescale(track));
            sample.duration = match self.step {
                0 => timescale.unwrap_or(0) / 25,
                step => step,
            };
        }
        Some(sample)
    }

    /// Adds a sample of the primary track to the part in progress, and ends that where the next one is in another cell of the
    /// grid. Whatever distances the source's pictures have, parts are as long as they must be, but for a picture that is longer.
    fn ripen(&mut self, sample: Sample) {
        let (Some(epoch), Some(open)) = (self.epochs.back(), &self.open) else {
            return;
        };
        let grid = epoch.targets.grid;
        let ended = open.time(epoch.end(&sample));
        let (cell, before) = (open.cells(ended, grid), open.cells(self.part_began, grid));
        let line = open.began + cell * grid;
        self.step = sample.duration;
        if cell > before + 1 {
            self.end_before_long();
        }
        self.ripe.push(sample);
        if cell > before {
            let is_near = ended <= line + Targets::slack(grid);
            self.end_part(if is_near { ended } else { line });
        }
    }

    /// The same with the last one of the segment; `until`: when the next segment begins, if it follows.
    fn ripen_last(&mut self, sample: Sample, until: Option<Time>) {
        let (Some(epoch), Some(open)) = (self.epochs.back(), &self.open) else {
            return;
        };
        let most = epoch.targets.part;
        let ended = until.unwrap_or(open.time(epoch.end(&sample)));
        // Times of showing that go back would give it a negative length.
        let ended = ended.max(self.part_began);
        if ended - self.part_began > most {
            self.end_before_long();
        }
        self.ripe.push(sample);
        self.end_part(ended.max(self.part_began));
    }

    /// The next picture reaches beyond the part in progress and cannot end it: it begins the next one, on the grid.
    fn end_before_long(&mut self) {
        let (Some(epoch), Some(open)) = (self.epochs.back(), &self.open) else {
            return;
        };
        let (primary, grid) = (epoch.primary, epoch.targets.grid);
        let line = open.began + (open.cells(self.part_began, grid) + 1) * grid;
        if self.ripe.iter().any(|ripe| ripe.track == primary) {
            self.end_part(line);
        }
    }

    fn end_part(&mut self, ended: Time) {
        let mut samples = std::mem::take(&mut self.ripe);
        let duration = ended.saturating_sub(self.part_began);
        self.part_began = ended;
        let (Some(open), Some(epoch)) = (&mut self.open, self.epochs.back()) else {
            return;
        };
        open.ended = ended;
        if self.given_up {
            return;
        }
        // The primary track first, whichever came first.
        samples.sort_by_key(|sample| sample.track != epoch.primary);
        // Nobody may start or seek within a segment to a picture that others lead, as those stay there.
        let mut is_start = open.parts.is_empty();
        let primary = samples
            .iter_mut()
            .filter(|sample| sample.track == epoch.primary);
        for sample in primary {
            if epoch.leads && sample.independent && !is_start {
                sample.independent = false;
                if let Some(data) = h264::without_recovery_point(&sample.data) {
                    (sample.size, sample.data) = (data.size(), data);
                }
            }
            is_start = false;
        }
        let independent = samples
            .iter()
            .any(|sample| sample.track == epoch.primary && sample.independent);
        // Wraps after years; nobody minds.
        let number = ((open.msn as u32) << 10).wrapping_add(open.parts.len() as u32);
        match fmp4::fragment(Vec::new(), number, &samples) {
            Ok(bytes) => {
                open.bytes += bytes.size() as usize;
                open.parts.push(Part {
                    duration,
                    independent,
                    bytes,
                });
            }
            Err(error) => log::error(format!("segment {}: {error}", open.msn)),
        }
        self.keep_within_bounds();
    }

    fn complete_open(&mut self) {
        self.given_up = false;
        self.complete.extend(self.open.take());
        self.keep_within_bounds();
    }

    /// Opens the segment of this sample, which is shown `now`.
    fn begin(&mut self, sample: &Sample, now: Time) {
        let Some(epoch) = self.epochs.back() else {
            return;
        };
        let (msn, decoded, epoch) = (sample.group, epoch.time(sample), epoch.number);
        self.fill(msn, epoch, now);
        self.part_began = now;
        // What an instance that begins here would not know must not count.
        self.step = 0;
        let mut open = Segment::new(msn, epoch, now, sample.group_started_at);
        open.offset = now.cast_signed().saturating_sub(decoded.cast_signed());
        self.open = Some(open);
    }

    /// Groups that the host could not give: their numbers are listed as gaps, which together last as long as they did.
    fn fill(&mut self, msn: u64, epoch: u32, now: Time) {
        let Some(last) = self.complete.back() else {
            return;
        };
        let (before, number, ended) = (last.msn, last.epoch, last.ended);
        let (began, date) = (last.began, last.date);
        let date = |at: Time| date + at.saturating_sub(began) * 1_000_000 / SECOND;
        let missing = msn.saturating_sub(before + 1);
        if missing > self.settings.held() as u64 {
            self.complete.clear();
            return;
        }
        for nth in 0..missing {
            // Beyond a break there is no saying how long it was.
            let length = match number == epoch {
                true => now.saturating_sub(ended) / missing,
                false => self.settings.segment,
            };
            let from = ended + nth * length;
            let mut gap = Segment::new(before + 1 + nth, number, from, date(from));
            gap.ended = match nth + 1 == missing && number == epoch {
                true => now.max(gap.began),
                false => gap.began + length,
            };
            self.complete.push_back(gap);
        }
        self.keep_within_bounds();
    }

    /// The oldest go where there are too many or they are too large: what is held is the same for an instance that was fed
    /// the newest groups only.
    fn keep_within_bounds(&mut self) {
        let of_open = |part: fn(&Segment) -> usize| self.open.as_ref().map_or(0, part);
        let (mut bytes, mut parts) = (of_open(|open| open.bytes), of_open(|open| open.parts.len()));
        if bytes > MAX_BYTES || parts > MAX_PARTS {
            if let Some(open) = &mut self.open {
                log::warn(format!(
                    "segment {} has no keyframe after {} MiB; it is a gap from here on",
                    open.msn,
                    open.bytes >> 20
                ));
                (open.parts, open.bytes) = (Vec::new(), 0);
                self.given_up = true;
            }
            (bytes, parts) = (0, 0);
        }
        let fits = |segment: &&Segment| {
            bytes += segment.bytes;
            parts += segment.parts.len();
            bytes <= MAX_BYTES && parts <= MAX_PARTS
        };
        let most = self.settings.held();
        let keep = self
            .complete
            .iter()
            .rev()
            .take(most)
            .take_while(fits)
            .count();
        self.complete.drain(..self.complete.len() - keep);
        let oldest = self.complete.front().or(self.open.as_ref());
        let oldest = oldest.map(|segment| segment.epoch);
        while self.epochs.len() > 1 && oldest.is_none_or(|oldest| self.epochs[0].number < oldest) {
            self.epochs.pop_front();
        }
    }

    /// Ends what is open, with what is to be expected of the newest samples.
    fn cut(&mut self) {
        let Some(epoch) = self.epochs.back() else {
            return;
        };
        let primary = epoch.primary;
        let others: Vec<u32> = self.newest.iter().map(|newest| newest.track).collect();
        for track in others.into_iter().filter(|track| *track != primary) {
            let newest = self.take_newest(track, None);
            self.ripe.extend(newest);
        }
        if let Some(newest) = self.take_newest(primary, None) {
            self.ripen_last(newest, None);
        }
        self.complete_open();
        self.ripe.clear();
        self.newest.clear();
        self.step = 0;
    }
}

impl Epoch {
    fn timescale(&self, track: u32) -> Option<u32> {
        let known = self.tracks.iter().find(|(id, _)| *id == track);
        known.map(|(_, timescale)| *timescale)
    }

    fn time(&self, sample: &Sample) -> Time {
        time::of(
            sample.decode_time,
            self.timescale(sample.track).unwrap_or(1),
        )
    }

    fn shown(&self, sample: &Sample) -> Time {
        let offset = sample.composition_offset.into();
        let shown = sample.decode_time.saturating_add_signed(offset);
        time::of(shown, self.timescale(sample.track).unwrap_or(1))
    }

    fn end(&self, sample: &Sample) -> Time {
        let ended = sample.decode_time.saturating_add(sample.duration.into());
        time::of(ended, self.timescale(sample.track).unwrap_or(1))
    }
}
