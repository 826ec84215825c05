//! Detects video clocks that are not clocks: time stamps that stand still, count in other units, repeat or jump about,
//! as cheap cameras send them.
//!
//! [`ClockMonitor`] compares time stamps with arrival times in windows of a second. Arrival jitters, but it is never
//! wrong for long, so a fault needs several windows in a row with the same finding, and so does a recovery.
//! [`super::timeline::Timeline`] feeds it every video sample and places samples by arrival while there is a [`Fault`].

use super::time::TIMESCALE;

const SECOND: i64 = TIMESCALE as i64;
/// A window is evaluated once it spans a second and contains this many steps.
const MIN_STEPS: usize = 6;
/// Steps of a window beyond this number are not examined.
const MAX_STEPS: usize = 256;
/// A pause of this length inside a window makes the window inconclusive.
const PAUSE: i64 = 2 * SECOND;
/// Frames that arrive closer together than this came in one piece, whatever their time stamps say.
const BURST_INTERVAL: i64 = SECOND / 200;
/// Number of consecutive windows with the same finding that are needed: for most faults, for a clock that stands still
/// (which is never right, so one window suffices), for a recovery, and for mild deviations.
const WINDOWS_TO_FAIL: u8 = 3;
const WINDOWS_TO_FAIL_STOPPED: u8 = 1;
const WINDOWS_TO_RECOVER: u8 = 5;
const WINDOWS_TO_FAIL_MILD: u8 = 10;
/// When placing by arrival: a frame that is this much later than expected is placed at its arrival at once, while
/// smaller differences are smoothed, since they come from a busy machine rather than the camera. A frame that is more
/// than [`AHEAD`] before its arrival slows the times down.
const LATE: i64 = SECOND;
const AHEAD: i64 = SECOND / 4;

/// What is wrong with a source's video time stamps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// All frames have the same time stamp.
    Stopped,
    /// Time stamps advance at less than a fifth of the speed of arrival, or for ten seconds at less than four fifths.
    Slow,
    /// Time stamps advance at more than 1.6 times the speed of arrival, or for ten seconds at more than 1.25 times.
    Fast,
    /// Many frames have the time stamp of the previous one.
    Repeats,
    /// Time stamps go back and forth although frames arrive regularly.
    Unsteady,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Fault::Stopped => "they do not advance",
            Fault::Slow => "they advance too slowly",
            Fault::Fast => "they advance too fast",
            Fault::Repeats => "many frames have the time stamp of the previous one",
            Fault::Unsteady => "they jump back and forth",
        })
    }
}

/// Position of another track's clock: its newest time stamp, and when that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Time stamp of the source, in ticks.
    pub stated: i64,
    /// Arrival, in ticks of the run.
    pub arrived_at: i64,
}

/// Judges the time stamps of one track. All times are in ticks of [`TIMESCALE`].
#[derive(Debug, Default)]
pub struct ClockMonitor {
    window: Option<Window>,
    /// Finding of the newest windows, and how many windows in a row had it.
    verdict: Option<Verdict>,
    windows: u8,
    fault: Option<Fault>,
    /// Arrival of the newest frame, its distance from the previous arrival, and that distance smoothed.
    arrived_at: Option<i64>,
    gap: i64,
    step: i64,
}

/// Finding of one window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Verdict {
    fault: Fault,
    /// The deviation is small enough to be an accident of arrival, so more windows are needed.
    mild: bool,
}

#[derive(Debug)]
struct Window {
    stated: i64,
    arrived_at: i64,
    newest: i64,
    newest_arrived_at: i64,
    audio: Option<Progress>,
    /// The first [`MAX_STEPS`] time stamps of the window, and the time between arrivals.
    times: Vec<i64>,
    gaps: Vec<i64>,
    /// Frames that arrived apart from the previous one, and how many of these had its time stamp.
    apart: usize,
    equal: usize,
}

impl ClockMonitor {
    /// Discards the current window: the source starts over, and its time stamps may, too.
    pub fn restart(&mut self) {
        self.window = None;
    }

    /// The current fault, if there is one.
    pub fn fault(&self) -> Option<Fault> {
        self.fault
    }

    /// Records that a frame arrived at `now`.
    pub fn arrived(&mut self, now: i64) {
        if let Some(arrived_at) = self.arrived_at.replace(now) {
            self.gap = now.saturating_sub(arrived_at).max(0);
            if self.gap < SECOND {
                self.step = match self.step {
                    0 => self.gap,
                    step => step + (self.gap - step) / 8,
                };
            }
        }
    }

    /// Evaluates a frame's time stamp, given the position of the audio clock if there is one. Returns a change:
    /// `Some(Some(fault))` if the time stamps are unusable from here on, `Some(None)` if they are usable again.
    pub fn observe(
        &mut self,
        stated: i64,
        now: i64,
        audio: Option<Progress>,
    ) -> Option<Option<Fault>> {
        let begin = Window {
            stated,
            arrived_at: now,
            newest: stated,
            newest_arrived_at: now,
            audio,
            times: vec![stated],
            gaps: Vec::new(),
            apart: 0,
            equal: 0,
        };
        let Some(window) = &mut self.window else {
            self.window = Some(begin);
            return None;
        };
        let gap = now.saturating_sub(window.newest_arrived_at);
        let restart = stated < window.newest.saturating_sub(SECOND / 2);
        if gap >= PAUSE || restart {
            self.window = Some(begin);
            return None;
        }
        if window.gaps.len() < MAX_STEPS {
            window.times.push(stated);
            window.gaps.push(gap);
        }
        if gap >= BURST_INTERVAL {
            window.apart += 1;
            window.equal += usize::from(stated == window.newest);
        }
        (window.newest, window.newest_arrived_at) = (stated, now);
        if now.saturating_sub(window.arrived_at) < SECOND || window.gaps.len() < MIN_STEPS {
            return None;
        }
        let verdict = window.verdict(audio);
        self.window = Some(begin);
        self.record_verdict(verdict)
    }

    /// Places a frame by its arrival. `last` is the place of the previous frame, `target` the place that corresponds
    /// exactly to the arrival. The result is always after `last`.
    pub fn pace(&self, last: i64, target: i64) -> i64 {
        let expected = last.saturating_add(self.step);
        let off = target.saturating_sub(expected);
        let at = match off {
            off if off > LATE => target,
            // The timeline is ahead of arrival because the clock was too fast: run at half speed until that is made up
            // for.
            off if off < -AHEAD => last.saturating_add(self.gap.min(SECOND) / 2),
            off => expected.saturating_add(off / 8),
        };
        at.max(last.saturating_add(1))
    }

    fn record_verdict(&mut self, verdict: Option<Verdict>) -> Option<Option<Fault>> {
        self.windows = match self.verdict == verdict {
            true => self.windows.saturating_add(1),
            false => 1,
        };
        self.verdict = verdict;
        let enough = match verdict {
            None => WINDOWS_TO_RECOVER,
            Some(Verdict { mild: true, .. }) => WINDOWS_TO_FAIL_MILD,
            Some(verdict) if verdict.fault == Fault::Stopped => WINDOWS_TO_FAIL_STOPPED,
            Some(_) => WINDOWS_TO_FAIL,
        };
        let fault = verdict.map(|verdict| verdict.fault);
        // A change from one fault to another makes no difference to the caller.
        let is_change = self.fault.is_some() != verdict.is_some() && self.windows >= enough;
        is_change.then(|| {
            self.fault = fault;
            fault
        })
    }
}

impl Window {
    fn verdict(&self, audio: Option<Progress>) -> Option<Verdict> {
        let sure = |fault| Verdict { fault, mild: false };
        if self.apart >= 4 {
            if self.equal == self.apart {
                return Some(sure(Fault::Stopped));
            }
            if self.equal * 4 >= self.apart {
                return Some(sure(Fault::Repeats));
            }
        }
        let stated = self.newest.saturating_sub(self.stated);
        let passed = self.newest_arrived_at.saturating_sub(self.arrived_at);
        let speed = match stated as f64 / passed.max(1) as f64 {
            0.0..0.2 => Some(sure(Fault::Slow)),
            0.2..0.8 => Some(Verdict {
                fault: Fault::Slow,
                mild: true,
            }),
            1.25..=1.6 => Some(Verdict {
                fault: Fault::Fast,
                mild: true,
            }),
            1.6..=8.0 => Some(sure(Fault::Fast)),
            _ => None,
        };
        if speed.is_some() && !self.matches_audio_speed(audio, stated, passed) {
            return speed;
        }
        // Regular arrival is no accident; irregular time stamps beside it do not come from dropped frames. They are
        // sorted first, because some sources state presentation times only, and then frames that refer to later ones
        // follow those.
        let mut times = self.times.clone();
        times.sort_unstable();
        let steps = times.windows(2).map(|two| two[1].saturating_sub(two[0]));
        let (uneven, of_arrival) = (uneven(steps.collect()), uneven(self.gaps.clone()));
        (uneven * 5 >= self.gaps.len() * 2 && of_arrival * 7 <= self.gaps.len())
            .then_some(sure(Fault::Unsteady))
    }

    /// Whether the audio clock advanced at the same speed as the video clock. Then the source plays faster or slower
    /// than real time, and its clock is fine.
    fn matches_audio_speed(&self, audio: Option<Progress>, stated: i64, passed: i64) -> bool {
        let (Some(before), Some(now)) = (self.audio, audio) else {
            return false;
        };
        let heard = now.stated.saturating_sub(before.stated);
        let took = now.arrived_at.saturating_sub(before.arrived_at);
        if took < SECOND / 2 {
            return false;
        }
        let [video, audio] = [(stated, passed), (heard, took)]
            .map(|(stated, passed)| stated as f64 / passed.max(1) as f64);
        audio > video / 1.5 && audio < video * 1.5
    }
}

/// Number of steps that differ by more than a quarter from the median.
fn uneven(mut steps: Vec<i64>) -> usize {
    let middle = steps.len() / 2;
    if steps.is_empty() {
        return 0;
    }
    let (_, median, _) = steps.select_nth_unstable(middle);
    let median = *median;
    let off =
        |step: &&i64| step.saturating_sub(median).saturating_abs() > median.saturating_abs() / 4;
    steps.iter().filter(off).count()
}
