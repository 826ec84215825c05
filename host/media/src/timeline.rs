//! Maps the decode times of a source onto one timeline that only rises.
//!
//! A source's time stamps loop, jump, wrap, repeat and stop. The timeline compares each with what it can measure
//! itself: the interval between a track's samples, when they arrived, and where the other track is. A plausible time
//! stamp is taken as it is. Any other is treated as a fault of the clock: the sample is placed one step after the
//! previous one, and the difference becomes the track's new offset. An earlier offset is used again as soon as time
//! stamps agree with it. So a single wrong time stamp moves one sample, a clock that is set moves none, and video and
//! audio are never separated.
//!
//! `stream::Ingest` calls it for every sample and passes the arrival time; nothing here reads a clock or does I/O.
//! [`super::clock`] detects clocks that are unusable altogether.

use super::{
    clock::{ClockMonitor, Fault, Progress},
    time::{Moment, TIMESCALE},
};
use std::collections::VecDeque;

const SECOND: i64 = TIMESCALE as i64;
const MILLISECOND: i64 = SECOND / 1000;

/// The first sample of a track is placed by the other track's offset if that puts it within this distance of the newest
/// sample.
const MAX_TRACK_DISTANCE: i64 = 10 * SECOND;
/// After this many samples at even intervals a track counts as regular, and the interval as its step.
const REGULAR: u8 = 8;
/// A sample may be this far, plus half a step, from where it is expected.
const TOLERANCE: i64 = 40 * MILLISECOND;
/// A gap in the time stamps is accepted if the sample arrived that late, too: relative to its time stamp, no earlier
/// than other samples, with this tolerance. Tracks with irregular intervals get [`MAX_EARLY_IRREGULAR`].
const MAX_EARLY: i64 = 200 * MILLISECOND;
const MAX_EARLY_IRREGULAR: i64 = SECOND;
/// A sample of an irregular track may be this much earlier than the previous one; it is then placed directly after
/// that.
const MAX_BACKSTEP: i64 = SECOND;
/// After a silence of at least this length, a sample with an unusable time stamp is placed by its arrival.
const SILENCE: i64 = SECOND / 2;
/// Time stamps of two samples from one packet may differ by this much because of rounding.
const ROUNDING: i64 = 10 * MILLISECOND;
/// An offset that fitted this many samples is remembered; the last [`MAX_EARLIER_OFFSETS`] such offsets are kept.
const MIN_AGREED: u32 = 5;
const MAX_EARLIER_OFFSETS: usize = 4;
/// After this many consecutive samples without a time stamp, the track is taken to have none.
const MAX_UNTIMED: u32 = 25;
/// Values at which clocks wrap: 33 bits (MPEG transport streams), 32 bits (RTP), and 32 bits of milliseconds (FLV).
const WRAPS: [i64; 3] = [1 << 33, 1 << 32, (1 << 32) * MILLISECOND];

/// Mapping from a source's decode times, per track, to the timeline of a stream's run.
#[derive(Debug, Default)]
pub struct Timeline {
    video: Track,
    audio: Track,
    /// The source starts over without a gap, as a looping file does. Otherwise it continues at the present time.
    seamless: bool,
    monitor: ClockMonitor,
    /// Newest position of the audio clock, as evidence for the video clock.
    audio_progress: Option<Progress>,
    clock_event: Option<ClockEvent>,
}

/// A finding about the source's clock for its operator. Durations are in ticks of 90 kHz.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockEvent {
    /// The clock of one track jumped; the timeline did not follow.
    Jump {
        /// Whether it was the audio track.
        is_audio: bool,
        /// Length of the jump; negative if it went back.
        by: i64,
    },
    /// The video clock is unusable. Arrival times are used instead.
    Unusable(Fault),
    /// The video clock is usable again.
    Recovered,
}

impl ClockEvent {
    /// Key under which a status keeps only the newest remark of a kind.
    pub fn key(&self) -> &'static str {
        match self {
            ClockEvent::Jump {
                is_audio: false, ..
            } => "video times",
            ClockEvent::Jump { is_audio: true, .. } => "audio times",
            ClockEvent::Unusable(_) | ClockEvent::Recovered => "clock",
        }
    }
}

impl std::fmt::Display for ClockEvent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ClockEvent::Jump { is_audio, by } => {
                let track = if *is_audio { "audio" } else { "video" };
                let seconds = *by as f64 / f64::from(TIMESCALE);
                write!(
                    f,
                    "the time stamps of the source's {track} jumped by {seconds:+.3} s; the stream continues without a jump"
                )
            }
            ClockEvent::Unusable(fault) => write!(
                f,
                "the time stamps of the source's video are unusable ({fault}); arrival times are used instead. Check the clock and \
                 firmware of the source"
            ),
            ClockEvent::Recovered => {
                f.write_str("the time stamps of the source's video are usable again and in use")
            }
        }
    }
}

/// State of one track.
#[derive(Debug)]
struct Track {
    /// Offset from the source's time stamps to the timeline. `None` after a restart of the source.
    offset: Option<i64>,
    /// Number of consecutive samples that fitted the offset.
    agreed: u32,
    /// Previous offsets that had fitted, newest first.
    earlier: VecDeque<i64>,
    last: Option<i64>,
    /// Duration that was stated for the last sample, otherwise the step.
    length: i64,
    /// Interval from one sample to the next, smoothed while it is even.
    step: i64,
    regular: u8,
    /// Arrival of the last sample, in ticks of the run.
    arrived_at: i64,
    lead: LeadWindow,
    /// Last gap that was accepted under the current offset.
    gap: Option<Gap>,
    /// The last gap turned out to be a wrong time stamp; samples are placed directly one after the other until it is
    /// made up for.
    catches_up: bool,
    /// The last sample was placed by its own time stamp.
    timestamp_used: bool,
    /// Number of consecutive samples without a time stamp.
    missing: u32,
}

#[derive(Clone, Copy, Debug)]
struct Gap {
    /// Where the sample after the gap was expected.
    at: i64,
    length: i64,
}

impl Default for Track {
    fn default() -> Track {
        Track {
            offset: None,
            agreed: 0,
            earlier: VecDeque::new(),
            last: None,
            length: SECOND / 25,
            step: SECOND / 25,
            regular: 0,
            arrived_at: 0,
            lead: LeadWindow::default(),
            gap: None,
            catches_up: false,
            timestamp_used: false,
            missing: 0,
        }
    }
}

impl Timeline {
    /// The source starts over exactly where it ended, as a looping file does.
    pub fn loops(&mut self) {
        self.begin(true);
        self.monitor.restart();
    }

    /// The source was lost and is back: the timeline continues at the present time.
    pub fn resumes(&mut self) {
        self.begin(false);
        self.monitor = ClockMonitor::default();
    }

    fn begin(&mut self, seamless: bool) {
        self.seamless = seamless;
        for track in [&mut self.video, &mut self.audio] {
            track.offset = None;
            track.agreed = 0;
            track.earlier.clear();
            track.gap = None;
        }
    }

    /// Returns the decode time of the next video sample.
    ///
    /// `decode` is the source's own time stamp in ticks; without one, the sample is placed by the step of the track or
    /// by its arrival. `duration` is the duration that the source states for the sample (0 if unknown).
    pub fn place(&mut self, decode: Option<i64>, duration: u32, now: Moment) -> u64 {
        let ticks = signed(now.ticks());
        self.monitor.arrived(ticks);
        if let Some(decode) = decode {
            let changed = self.monitor.observe(decode, ticks, self.audio_progress);
            if let Some(fault) = changed {
                self.clock_event = Some(fault.map_or(ClockEvent::Recovered, ClockEvent::Unusable));
            }
            if changed == Some(None) {
                // The clock recovered: its time stamps continue from where the video is now.
                self.video.offset = Some(self.video.expected(ticks).saturating_sub(decode));
            }
        }
        let at = match (self.monitor.fault(), self.video.last) {
            (Some(_), Some(last)) => {
                let target = ticks.saturating_add(self.audio.lead.most().unwrap_or(0));
                self.monitor.pace(last, target)
            }
            _ => self.find(false, decode, ticks),
        };
        let at = at.max(0);
        let stated = if self.monitor.fault().is_some() {
            0
        } else {
            duration
        };
        self.video.advance(at, stated, ticks);
        at.unsigned_abs()
    }

    /// Like [`Timeline::place`] for the next audio sample. `None` if the sample is from before the run began.
    pub fn place_audio(&mut self, decode: Option<i64>, duration: u32, now: Moment) -> Option<u64> {
        let ticks = signed(now.ticks());
        let at = self.find(true, decode, ticks);
        let placed = u64::try_from(at).ok()?;
        self.audio_progress = decode.map(|stated| Progress {
            stated,
            arrived_at: ticks,
        });
        self.audio.advance(at, duration, ticks);
        Some(placed)
    }

    /// Whether the video clock is usable. If it is not, the source's durations and presentation times are not either.
    pub fn is_trusted(&self) -> bool {
        self.monitor.fault().is_none()
    }

    /// Ticks from one video sample to the next, as far as known.
    pub fn step(&self) -> u64 {
        self.video.step.unsigned_abs()
    }

    /// Takes the newest remark that was not taken yet.
    pub fn take_clock_event(&mut self) -> Option<ClockEvent> {
        self.clock_event.take()
    }

    fn find(&mut self, is_audio: bool, decode: Option<i64>, now: i64) -> i64 {
        let ends = [&self.video, &self.audio].map(|track| Some(track.last? + track.length));
        let end = ends.into_iter().flatten().max();
        let newest = self.video.last.max(self.audio.last);
        let (own, other) = match is_audio {
            false => (&mut self.video, &self.audio),
            true => (&mut self.audio, &self.video),
        };
        let Some(decode) = decode else {
            self.seamless = false;
            return own.place_untimed(now);
        };
        own.missing = 0;
        if let Some(last) = own.last
            && own.offset.is_some()
        {
            let (at, jump) = own.place_next(last, decode, other.offset, now);
            if let Some(by) = jump {
                self.clock_event = Some(ClockEvent::Jump { is_audio, by });
            }
            return at;
        }
        if let Some(offset) = other.offset
            && let Some(at) = own.place_first(decode.saturating_add(offset), newest)
        {
            own.offset = Some(offset);
            return at;
        }
        let at = match (newest, end) {
            (Some(_), Some(end)) if self.seamless => end,
            (Some(newest), _) => now.max(newest + 1),
            _ if self.seamless => 0,
            _ => now,
        };
        own.offset = Some(at.saturating_sub(decode));
        self.seamless = false;
        at
    }
}

impl Track {
    /// Places the first sample of a track by the other track's offset, if that is near the newest sample.
    fn place_first(&self, placed: i64, newest: Option<i64>) -> Option<i64> {
        let before = self.last.or(newest).unwrap_or(0).saturating_sub(placed);
        let most = if self.last.is_some() {
            MAX_BACKSTEP
        } else {
            MAX_TRACK_DISTANCE
        };
        let near = before > -MAX_TRACK_DISTANCE && before < most;
        near.then(|| self.last.map_or(placed, |last| placed.max(last + 1)))
    }

    /// Places the next sample. Also returns the length of the jump if its time stamp fits no known offset.
    fn place_next(
        &mut self,
        last: i64,
        decode: i64,
        others: Option<i64>,
        now: i64,
    ) -> (i64, Option<i64>) {
        let offset = self.offset.unwrap_or(0);
        let placed = decode.saturating_add(offset);
        let next = last.saturating_add(self.next_step());
        let tolerance = self.tolerance();
        let off = |candidate: i64, from: i64| {
            let at = decode.saturating_add(candidate);
            at.saturating_sub(from)
        };
        // A time stamp that fits an earlier offset is no gap under the current one.
        let earlier = self.earlier.iter().copied();
        let mut exact = earlier.filter(|earlier| {
            off(*earlier, next).saturating_abs() <= tolerance && off(*earlier, last) > 0
        });
        if placed.saturating_sub(next).saturating_abs() > tolerance
            && let Some(earlier) = exact.next()
        {
            self.change(earlier);
            return (decode.saturating_add(earlier), None);
        }
        self.timestamp_used = true;
        if let Some(at) = self.accept(last, placed, now) {
            self.agreed = self.agreed.saturating_add(1);
            return (at, None);
        }
        self.timestamp_used = false;
        let expected = self.expected(now);
        let silence = if expected > next { SILENCE } else { 0 };
        let near = tolerance + 20 * MILLISECOND + silence;
        if off(offset, expected).saturating_abs() <= near {
            return (if placed > last { placed } else { expected }, None);
        }
        // Under an earlier offset the sample may be later than expected, because the samples in between were placed by
        // steps.
        let earlier = self.earlier.iter().copied();
        let mut earlier =
            earlier.filter(|earlier| (-near..=near + MAX_EARLY).contains(&off(*earlier, expected)));
        let wraps = WRAPS.into_iter().flat_map(|wrap| [wrap, -wrap]);
        let wraps = wraps.map(|wrap| offset.saturating_add(wrap));
        let mut others = others.into_iter().chain(wraps);
        let found = earlier
            .next()
            .or_else(|| others.find(|other| off(*other, expected).saturating_abs() <= near));
        self.change(found.unwrap_or(expected.saturating_sub(decode)));
        match found {
            Some(found) => (decode.saturating_add(found).max(last + 1), None),
            None => {
                // Report the shortest jump, considering that clocks wrap.
                let by = placed.saturating_sub(expected);
                let around = WRAPS
                    .into_iter()
                    .flat_map(|wrap| [by.saturating_sub(wrap), by.saturating_add(wrap)]);
                let by = around
                    .chain([by])
                    .min_by_key(|by| by.saturating_abs())
                    .unwrap_or(by);
                (expected, (by.saturating_abs() > TOLERANCE).then_some(by))
            }
        }
    }

    /// Switches to `offset`. The previous one is remembered if it had fitted [`MIN_AGREED`] samples.
    fn change(&mut self, offset: i64) {
        if let Some(before) = self.offset.replace(offset)
            && self.agreed >= MIN_AGREED
        {
            self.earlier.retain(|earlier| *earlier != before);
            self.earlier.push_front(before);
            self.earlier.truncate(MAX_EARLIER_OFFSETS);
        }
        self.agreed = 0;
        self.gap = None;
        self.timestamp_used = false;
    }

    /// Returns the place of a sample whose time stamp maps to `placed`, if that is plausible.
    fn accept(&mut self, last: i64, placed: i64, now: i64) -> Option<i64> {
        let is_regular = self.regular >= REGULAR;
        let expected = last.saturating_add(self.next_step());
        let tolerance = self.tolerance();
        if placed > last {
            let is_gap = placed.saturating_sub(expected) > tolerance;
            let early = if is_regular {
                self.step + MAX_EARLY
            } else {
                MAX_EARLY_IRREGULAR
            };
            let most = self.lead.most().unwrap_or(0).saturating_add(early);
            let is_early = placed.saturating_sub(now) > most;
            if is_gap && is_early {
                return None;
            }
            let length = placed.saturating_sub(expected);
            if is_gap {
                self.gap = Some(Gap {
                    at: expected,
                    length,
                });
            } else if self.catches_up {
                self.gap = None;
            }
            self.catches_up = false;
            return Some(placed);
        }
        // Time stamps continue as before a gap, so the sample after the gap had the wrong one.
        let was_none = |gap: Gap| {
            placed >= gap.at - tolerance
                && expected.saturating_sub(placed) <= gap.length.saturating_add(tolerance)
        };
        if self.gap.is_some_and(was_none) {
            (self.catches_up, self.timestamp_used) = (true, false);
            return Some(last + 1);
        }
        let back = last.saturating_sub(placed);
        if !is_regular {
            return (back < MAX_BACKSTEP).then_some(last + 1);
        }
        let together = now - self.arrived_at < self.step / 2;
        if back <= ROUNDING && together {
            return Some(last + 1);
        }
        (back <= self.step).then_some(expected)
    }

    /// Places a sample without a time stamp: one step after the previous one if that is an exception, otherwise by
    /// arrival.
    fn place_untimed(&mut self, now: i64) -> i64 {
        self.missing = self.missing.saturating_add(1);
        let next = self.last.map_or(0, |last| last + 1);
        let is_exception =
            self.offset.is_some() && self.regular >= REGULAR && self.missing <= MAX_UNTIMED;
        if is_exception {
            return self.expected(now).max(next);
        }
        self.offset = None;
        now.max(next)
    }

    /// Where the next sample is placed if its time stamp is of no help.
    fn expected(&self, now: i64) -> i64 {
        let last = self.last.unwrap_or(now);
        let silent = now.saturating_sub(self.arrived_at);
        last.saturating_add(match silent > self.next_step() + SILENCE {
            true => silent,
            false => self.next_step(),
        })
    }

    fn tolerance(&self) -> i64 {
        self.step / 2 + TOLERANCE
    }

    fn next_step(&self) -> i64 {
        match self.regular >= REGULAR {
            true => self.step,
            false => self.length.min(MAX_TRACK_DISTANCE),
        }
        .max(1)
    }

    fn advance(&mut self, at: i64, duration: u32, now: i64) {
        if let Some(last) = self.last {
            let step = at.saturating_sub(last);
            let is_even =
                step.abs_diff(self.next_step()) <= (self.step / 2 + TOLERANCE).unsigned_abs();
            self.regular = match is_even {
                true => (self.regular + 1).min(2 * REGULAR),
                false => self.regular.saturating_sub(REGULAR / 2),
            };
            if self.regular < REGULAR {
                if step < MAX_TRACK_DISTANCE {
                    self.step = step;
                }
            } else if is_even && self.timestamp_used {
                self.step += (step - self.step) / 8;
            }
        } else if duration > 0 {
            self.step = duration.into();
        }
        self.length = match duration {
            0 => self.step,
            stated => stated.into(),
        };
        self.last = Some(at);
        self.arrived_at = now;
        self.lead.observe(at.saturating_sub(now), now);
    }
}

/// Largest lead of a sample's place over its arrival in the last ten to twenty seconds. Samples are late for many
/// reasons, but never early, so this is the undelayed arrival.
#[derive(Debug, Default)]
struct LeadWindow {
    newest: Option<i64>,
    before: Option<i64>,
    since: i64,
}

impl LeadWindow {
    const WINDOW: i64 = 10 * SECOND;

    fn observe(&mut self, ahead: i64, now: i64) {
        if now.saturating_sub(self.since) >= LeadWindow::WINDOW {
            self.since = now;
            self.before = self.newest.take();
        }
        self.newest = self.newest.max(Some(ahead));
    }

    fn most(&self) -> Option<i64> {
        self.newest.max(self.before)
    }
}

fn signed(ticks: u64) -> i64 {
    i64::try_from(ticks).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
