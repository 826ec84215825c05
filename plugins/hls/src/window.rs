//! The window: samples in; parts, segments and what may still be asked for out. Pure.
//!
//! A segment is a group of the host's, and its media sequence number the group's, so that numbers go on over a rebuilt
//! instance and are alike in all renditions. A sample lasts until the next one of its track, so each track's newest is held
//! back until that is known: durations in the playlist, in `trun` and between `tfdt`s then always agree, and the hinted part
//! is one that surely comes. It costs the time of one picture.

use crate::{
    options::{Settings, Targets},
    time::{self, Time},
};
use sluicegate_fmp4 as fmp4;
use sluicegate_sdk::{Buffer, Kind, Sample, StreamInfo, log};
use std::collections::VecDeque;

/// The host grants 64 MiB of buffers: this much is held, as much again while a segment is put together for a client.
const MOST_BYTES: usize = 28 << 20;
/// And 8,192 handles.
const MOST_PARTS: usize = 6000;

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
    /// The track whose samples begin segments and parts: video if there is any.
    leading: u32,
    /// Ids and timescales.
    tracks: Vec<(u32, u32)>,
}

/// A run of samples from an independent one to the next segment's.
pub struct Segment {
    /// Media sequence number.
    pub msn: u64,
    /// Of which epoch.
    pub epoch: u32,
    /// Unix microseconds when its first sample was captured, as the host says: what decode times drift by is in it.
    pub date: u64,
    /// Since the run began.
    pub began: Time,
    /// Where the next one begins; grows while it is open.
    pub ended: Time,
    /// None: a gap, whose samples are missing.
    pub parts: Vec<Part>,
    bytes: usize,
}

/// One fragment.
pub struct Part {
    /// Until the next.
    pub duration: Time,
    /// Has an independent sample of the leading track.
    pub independent: bool,
    /// `moof` and `mdat`.
    pub bytes: Buffer,
}

impl Segment {
    fn new(msn: u64, epoch: u32, began: Time, date: u64) -> Segment {
        Segment {
            msn,
            epoch,
            date,
            began,
            ended: began,
            parts: Vec::new(),
            bytes: 0,
        }
    }

    /// From its first sample to the next segment's.
    pub fn duration(&self) -> Time {
        self.ended - self.began
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
    /// The last distance between two samples of the leading track within the open segment, in its ticks.
    step: u32,
    /// The open segment outgrew the memory: what is left of it is passed over.
    given_up: bool,
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
        let Some(leading) = video.or(tracks.first()).map(|track| track.id) else {
            return Err("nothing of this stream can be written as fragmented MP4".into());
        };
        self.epochs.push_back(Epoch {
            number: info.epoch,
            init: fmp4::init(&tracks)
                .map_err(|error| error.to_string())?
                .into(),
            targets: Targets::new(&self.settings, info),
            codecs: fmp4::codecs(&tracks),
            leading,
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
        if sample.track == epoch.leading {
            self.push_leading(sample);
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
        let promised = self.epoch().map_or(0, |epoch| epoch.targets.duration);
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

    /// The newest complete segment.
    pub fn last(&self) -> Option<&Segment> {
        self.complete.back()
    }

    /// The part that comes next: in which segment, and its place there.
    pub fn next_part(&self) -> Option<(u64, usize)> {
        match (&self.open, self.complete.back()) {
            (Some(open), _) => Some((open.msn, open.parts.len())),
            (None, Some(last)) => Some((last.msn + 1, 0)),
            (None, None) => None,
        }
    }

    /// The target duration: what was promised, unless the source's keyframes were further apart than it said. Then no
    /// segment could end in time and begin with a keyframe, and truth goes before constancy as long as that segment is held.
    pub fn target_duration(&self) -> Time {
        let longest = self.complete.iter().map(Segment::duration).max();
        let promised = self.epoch().map_or(0, |epoch| epoch.targets.duration);
        promised.max(time::rounded(longest.unwrap_or(0)))
    }

    /// Peak and average bit rate of what is held (4.4.6.2).
    pub fn bit_rates(&self) -> Option<(u64, u64)> {
        let target = self.target_duration();
        let rate = |bits: u64, duration: Time| bits * time::SECOND / duration.max(1);
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

    fn push_leading(&mut self, sample: Sample) {
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
        let follows = newest.is_none_or(|newest| sample.group <= newest.msn + 1);
        let until = follows.then_some(sample.decode_time);
        let now = self.time(&sample);
        if let Some(before) = self.take_newest(sample.track, until) {
            self.ripen(before, begins);
        }
        if begins {
            self.complete_open();
            self.begin(sample.group, now, sample.captured_at);
        }
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

    /// Adds a sample of the leading track to the part in progress, and ends that where it is as long as parts are; `last`:
    /// where the segment ends, too.
    fn ripen(&mut self, sample: Sample, last: bool) {
        let Some(epoch) = self.epochs.back() else {
            return;
        };
        let (leading, most) = (epoch.leading, epoch.targets.part);
        let (began, ended) = (epoch.time(&sample), epoch.end(&sample));
        self.step = sample.duration;
        let has_picture = self.ripe.iter().any(|ripe| ripe.track == leading);
        if has_picture && ended.saturating_sub(self.part_began) > most {
            self.end_part(began);
        }
        self.ripe.push(sample);
        let next = ended.saturating_sub(began);
        if last || (ended + next).saturating_sub(self.part_began) > most {
            self.end_part(ended);
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
        // The leading track first, whichever came first.
        samples.sort_by_key(|sample| sample.track != epoch.leading);
        let independent = samples
            .iter()
            .any(|sample| sample.track == epoch.leading && sample.independent);
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

    fn begin(&mut self, msn: u64, now: Time, date: u64) {
        let Some(epoch) = self.epochs.back().map(|epoch| epoch.number) else {
            return;
        };
        self.fill(msn, epoch, now);
        self.part_began = now;
        // What an instance that begins here would not know must not count.
        self.step = 0;
        self.open = Some(Segment::new(msn, epoch, now, date));
    }

    /// Groups that the host could not give: their numbers are listed as gaps, which together last as long as they did.
    fn fill(&mut self, msn: u64, epoch: u32, now: Time) {
        let Some(last) = self.complete.back() else {
            return;
        };
        let (before, number, ended) = (last.msn, last.epoch, last.ended);
        let date = last.date + last.duration() * 10;
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
            let date = date + nth * length * 10;
            let mut gap = Segment::new(before + 1 + nth, number, ended + nth * length, date);
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
        if bytes > MOST_BYTES || parts > MOST_PARTS {
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
            bytes <= MOST_BYTES && parts <= MOST_PARTS
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
        let leading = epoch.leading;
        let others: Vec<u32> = self.newest.iter().map(|newest| newest.track).collect();
        for track in others.into_iter().filter(|track| *track != leading) {
            let newest = self.take_newest(track, None);
            self.ripe.extend(newest);
        }
        if let Some(newest) = self.take_newest(leading, None) {
            self.ripen(newest, true);
        }
        self.complete_open();
        self.ripe.clear();
        self.newest.clear();
        self.step = 0;
    }

    fn time(&self, sample: &Sample) -> Time {
        self.epochs.back().map_or(0, |epoch| epoch.time(sample))
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

    fn end(&self, sample: &Sample) -> Time {
        let ended = sample.decode_time.saturating_add(sample.duration.into());
        time::of(ended, self.timescale(sample.track).unwrap_or(1))
    }
}
