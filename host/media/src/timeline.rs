//! Puts the samples of a source on one rising timeline, whatever its clock does.
//!
//! A source's times loop, jump, wrap, repeat and stop. The timeline goes on from what it knows better: how far apart a track's
//! samples have been, when they arrived, and where the other track is. A time that fits is taken as it is. One that does not fit is
//! taken for a fault of the clock: the sample is put one step behind the one before, and the difference becomes the track's new
//! offset, which is taken back as soon as times agree with an earlier offset again. So a wrong time moves one sample, a clock that
//! is set moves none, and in neither case are pictures and sound separated.
//!
//! Called by `stream::Ingest` for every sample; asks no clock and does no I/O.

use super::{
    clock::{ClockMonitor, Fault, Progress},
    time::{Moment, TIMESCALE},
};
use std::collections::VecDeque;

const SECOND: i64 = TIMESCALE as i64;
const MILLISECOND: i64 = SECOND / 1000;

/// A first sample of a track is put where the other track's offset says, if that is within this of the newest sample.
const LEAP: i64 = 10 * SECOND;
/// After so many samples at an even distance, a track is expected to go on like that.
const REGULAR: u8 = 8;
/// Beyond half a step, a sample may be this far from where it is expected.
const TOLERANCE: i64 = 40 * MILLISECOND;
/// A gap in the times is believed if the sample arrived no earlier for its time than others, give or take this; of a track whose
/// samples come at uneven distances the second.
const EARLY: i64 = 200 * MILLISECOND;
const EARLY_UNEVEN: i64 = SECOND;
/// Samples of a track with uneven distances may be this much earlier than the one before: they are put right behind it.
const BACK: i64 = SECOND;
/// If nothing arrived for this long, a sample whose time means nothing follows the one before at that distance.
const SILENCE: i64 = SECOND / 2;
/// Two samples of one packet may differ by rounding.
const ROUNDING: i64 = 10 * MILLISECOND;
/// An offset that held for so many samples is remembered, and so many of them are.
const HELD: u32 = 5;
const EARLIER: usize = 4;
/// After so many samples without a time, a track is one that has none.
const MISSING: u32 = 25;
/// Clocks wrap at 33 bits (MPEG transport streams), 32 bits (RTP) and 32 bits of milliseconds (FLV).
const WRAPS: [i64; 3] = [1 << 33, 1 << 32, (1 << 32) * MILLISECOND];

/// Maps a source's decode times onto a timeline that only rises.
#[derive(Debug, Default)]
pub struct Timeline {
    pictures: Track,
    sound: Track,
    /// The source begins again with no gap: a file that loops. Else it goes on at the present time.
    seamless: bool,
    judge: ClockMonitor,
    /// How far the clock of the sound has come.
    heard: Option<Progress>,
    remark: Option<Remark>,
}

/// Something that the source's operator should know, in 90 kHz ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remark {
    /// The clock of one track jumped by so much, and the timeline did not.
    Jump {
        /// Which track.
        is_sound: bool,
        /// Forward, or back.
        by: i64,
    },
    /// The clock of the pictures is of no use; their arrival is used instead.
    NoClock(Fault),
    /// It works again.
    Clock,
}

impl Remark {
    /// Remarks of one kind, of which the newest is kept.
    pub fn key(&self) -> &'static str {
        match self {
            Remark::Jump {
                is_sound: false, ..
            } => "picture times",
            Remark::Jump { is_sound: true, .. } => "sound times",
            Remark::NoClock(_) | Remark::Clock => "clock",
        }
    }
}

impl std::fmt::Display for Remark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Remark::Jump { is_sound, by } => {
                let track = if *is_sound { "sound" } else { "pictures" };
                let seconds = *by as f64 / f64::from(TIMESCALE);
                write!(
                    f,
                    "the source's times of its {track} jumped by {seconds:+.3} s; they go on without a jump"
                )
            }
            Remark::NoClock(fault) => write!(
                f,
                "the source's picture times are of no use ({fault}); the times of arrival are used instead. Check the clock and \
                 firmware of the source"
            ),
            Remark::Clock => f.write_str("the source's picture times are right again and are used"),
        }
    }
}

/// Where one track is.
#[derive(Debug)]
struct Track {
    /// From the source's times to ours, while those go on.
    offset: Option<i64>,
    /// Samples in a row that agreed with it.
    agreed: u32,
    /// Offsets that held before, newest first.
    earlier: VecDeque<i64>,
    last: Option<i64>,
    /// How long the last sample is said to last; else the step.
    length: i64,
    /// From one sample to the next, smoothed where that is even.
    step: i64,
    regular: u8,
    /// When the last sample arrived, in ticks of the run.
    came: i64,
    lead: Lead,
    /// The last gap that was believed, by this offset.
    gap: Option<Gap>,
    /// Samples are put right behind the one before, as that gap was none.
    catches_up: bool,
    /// The last sample's own time put it where it is.
    is_told: bool,
    /// Samples in a row without a time.
    missing: u32,
}

#[derive(Clone, Copy, Debug)]
struct Gap {
    /// Where the sample behind it was expected.
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
            came: 0,
            lead: Lead::default(),
            gap: None,
            catches_up: false,
            is_told: false,
            missing: 0,
        }
    }
}

impl Timeline {
    /// The source begins again where it ended.
    pub fn loops(&mut self) {
        self.begin(true);
        self.judge.begins_again();
    }

    /// The source was lost and comes back.
    pub fn resumes(&mut self) {
        self.begin(false);
        self.judge = ClockMonitor::default();
    }

    fn begin(&mut self, seamless: bool) {
        self.seamless = seamless;
        for track in [&mut self.pictures, &mut self.sound] {
            track.offset = None;
            track.agreed = 0;
            track.earlier.clear();
            track.gap = None;
        }
    }

    /// The decode time of the next picture.
    ///
    /// `decode` is the source's own time in ticks, `duration` what it claims for this sample (0: unknown).
    /// Without `decode` the present stands in.
    pub fn place(&mut self, decode: Option<i64>, duration: u32, now: Moment) -> u64 {
        let ticks = signed(now.ticks());
        self.judge.arrived(ticks);
        if let Some(decode) = decode {
            let changed = self.judge.observe(decode, ticks, self.heard);
            if let Some(fault) = changed {
                self.remark = Some(fault.map_or(Remark::Clock, Remark::NoClock));
            }
            if changed == Some(None) {
                // What is told from here on is taken up where the pictures are.
                self.pictures.offset = Some(self.pictures.expected(ticks).saturating_sub(decode));
            }
        }
        let at = match (self.judge.fault(), self.pictures.last) {
            (Some(_), Some(last)) => {
                let target = ticks.saturating_add(self.sound.lead.most().unwrap_or(0));
                self.judge.pace(last, target)
            }
            _ => self.find(false, decode, ticks),
        };
        let at = at.max(0);
        let told = if self.judge.fault().is_some() {
            0
        } else {
            duration
        };
        self.pictures.reach(at, told, ticks);
        at.unsigned_abs()
    }

    /// The same of the next sound; `None` if it is from before the run began.
    pub fn place_sound(&mut self, decode: Option<i64>, duration: u32, now: Moment) -> Option<u64> {
        let ticks = signed(now.ticks());
        let at = self.find(true, decode, ticks);
        let placed = u64::try_from(at).ok()?;
        self.heard = decode.map(|told| Progress { told, came: ticks });
        self.sound.reach(at, duration, ticks);
        Some(placed)
    }

    /// Whether what the source says of its pictures' times is of use: if not, neither are its durations and presentation times.
    pub fn is_trusted(&self) -> bool {
        self.judge.fault().is_none()
    }

    /// Ticks from one picture to the next, as far as is known.
    pub fn step(&self) -> u64 {
        self.pictures.step.unsigned_abs()
    }

    /// What there is to tell since it was asked last.
    pub fn take_remark(&mut self) -> Option<Remark> {
        self.remark.take()
    }

    fn find(&mut self, is_sound: bool, decode: Option<i64>, now: i64) -> i64 {
        let ends = [&self.pictures, &self.sound].map(|track| Some(track.last? + track.length));
        let end = ends.into_iter().flatten().max();
        let newest = self.pictures.last.max(self.sound.last);
        let (own, other) = match is_sound {
            false => (&mut self.pictures, &self.sound),
            true => (&mut self.sound, &self.pictures),
        };
        let Some(decode) = decode else {
            self.seamless = false;
            return own.untimed(now);
        };
        own.missing = 0;
        if let Some(last) = own.last
            && own.offset.is_some()
        {
            let (at, jump) = own.go_on(last, decode, other.offset, now);
            if let Some(by) = jump {
                self.remark = Some(Remark::Jump { is_sound, by });
            }
            return at;
        }
        if let Some(offset) = other.offset
            && let Some(at) = own.begin_with(decode.saturating_add(offset), newest)
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
    /// The first sample by the other track's offset, if that is near what is there.
    fn begin_with(&self, placed: i64, newest: Option<i64>) -> Option<i64> {
        let before = self.last.or(newest).unwrap_or(0).saturating_sub(placed);
        let most = if self.last.is_some() { BACK } else { LEAP };
        let near = before > -LEAP && before < most;
        near.then(|| self.last.map_or(placed, |last| placed.max(last + 1)))
    }

    /// The next sample, and by how much its time jumped if that means nothing.
    fn go_on(
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
        // What fits an earlier offset is no gap by this one.
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
        self.is_told = true;
        if let Some(at) = self.accept(last, placed, now) {
            self.agreed = self.agreed.saturating_add(1);
            return (at, None);
        }
        self.is_told = false;
        let expected = self.expected(now);
        let silence = if expected > next { SILENCE } else { 0 };
        let near = tolerance + 20 * MILLISECOND + silence;
        if off(offset, expected).saturating_abs() <= near {
            return (if placed > last { placed } else { expected }, None);
        }
        // By an earlier offset the sample may be later than expected: those before it were counted on by their steps.
        let earlier = self.earlier.iter().copied();
        let mut earlier =
            earlier.filter(|earlier| (-near..=near + EARLY).contains(&off(*earlier, expected)));
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
                // The shortest way, if the clock wraps.
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

    /// Goes on by that offset; the one before is remembered if it held.
    fn change(&mut self, offset: i64) {
        if let Some(before) = self.offset.replace(offset)
            && self.agreed >= HELD
        {
            self.earlier.retain(|earlier| *earlier != before);
            self.earlier.push_front(before);
            self.earlier.truncate(EARLIER);
        }
        self.agreed = 0;
        self.gap = None;
        self.is_told = false;
    }

    /// Where a sample of that time goes, if the time makes sense.
    fn accept(&mut self, last: i64, placed: i64, now: i64) -> Option<i64> {
        let is_regular = self.regular >= REGULAR;
        let expected = last.saturating_add(self.next_step());
        let tolerance = self.tolerance();
        if placed > last {
            let is_gap = placed.saturating_sub(expected) > tolerance;
            let early = if is_regular {
                self.step + EARLY
            } else {
                EARLY_UNEVEN
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
        // Times go on where they were before a gap: the sample behind that was the wrong one.
        let was_none = |gap: Gap| {
            placed >= gap.at - tolerance
                && expected.saturating_sub(placed) <= gap.length.saturating_add(tolerance)
        };
        if self.gap.is_some_and(was_none) {
            (self.catches_up, self.is_told) = (true, false);
            return Some(last + 1);
        }
        let back = last.saturating_sub(placed);
        if !is_regular {
            return (back < BACK).then_some(last + 1);
        }
        let together = now - self.came < self.step / 2;
        if back <= ROUNDING && together {
            return Some(last + 1);
        }
        (back <= self.step).then_some(expected)
    }

    /// A sample without a time: one step on if such are the exception, else when it arrives.
    fn untimed(&mut self, now: i64) -> i64 {
        self.missing = self.missing.saturating_add(1);
        let next = self.last.map_or(0, |last| last + 1);
        let is_exception =
            self.offset.is_some() && self.regular >= REGULAR && self.missing <= MISSING;
        if is_exception {
            return self.expected(now).max(next);
        }
        self.offset = None;
        now.max(next)
    }

    /// Where the next sample is if its time does not tell.
    fn expected(&self, now: i64) -> i64 {
        let last = self.last.unwrap_or(now);
        let silent = now.saturating_sub(self.came);
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
            false => self.length.min(LEAP),
        }
        .max(1)
    }

    fn reach(&mut self, at: i64, duration: u32, now: i64) {
        if let Some(last) = self.last {
            let step = at.saturating_sub(last);
            let is_even =
                step.abs_diff(self.next_step()) <= (self.step / 2 + TOLERANCE).unsigned_abs();
            self.regular = match is_even {
                true => (self.regular + 1).min(2 * REGULAR),
                false => self.regular.saturating_sub(REGULAR / 2),
            };
            if self.regular < REGULAR {
                if step < LEAP {
                    self.step = step;
                }
            } else if is_even && self.is_told {
                self.step += (step - self.step) / 8;
            }
        } else if duration > 0 {
            self.step = duration.into();
        }
        self.length = match duration {
            0 => self.step,
            told => told.into(),
        };
        self.last = Some(at);
        self.came = now;
        self.lead.observe(at.saturating_sub(now), now);
    }
}

/// How far ahead of their arrival samples were placed, the most in the last ten to twenty seconds: samples are late for many
/// reasons, but never early.
#[derive(Debug, Default)]
struct Lead {
    newest: Option<i64>,
    before: Option<i64>,
    since: i64,
}

impl Lead {
    const WINDOW: i64 = 10 * SECOND;

    fn observe(&mut self, ahead: i64, now: i64) {
        if now.saturating_sub(self.since) >= Lead::WINDOW {
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
