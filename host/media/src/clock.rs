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
const TOGETHER: i64 = SECOND / 200;
/// Number of consecutive windows with the same finding that are needed: for most faults, for a clock that stands still
/// (which is never right, so one window suffices), for a recovery, and for mild deviations.
const CONVINCED: u8 = 3;
const CONVINCED_STOPPED: u8 = 1;
const CONVINCED_AGAIN: u8 = 5;
const CONVINCED_MILDLY: u8 = 10;
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
            Fault::Stopped => "they stand still",
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
    pub told: i64,
    /// Arrival, in ticks of the run.
    pub came: i64,
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
    came: Option<i64>,
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
    told: i64,
    came: i64,
    newest: i64,
    newest_came: i64,
    sound: Option<Progress>,
    /// The first [`MAX_STEPS`] time stamps of the window, and the time between arrivals.
    times: Vec<i64>,
    gaps: Vec<i64>,
    /// Frames that arrived apart from the previous one, and how many of these had its time stamp.
    apart: usize,
    equal: usize,
}

impl ClockMonitor {
    /// Discards the current window: the source starts over, and its time stamps may, too.
    pub fn begins_again(&mut self) {
        self.window = None;
    }

    /// The current fault, if there is one.
    pub fn fault(&self) -> Option<Fault> {
        self.fault
    }

    /// Records that a frame arrived at `now`.
    pub fn arrived(&mut self, now: i64) {
        if let Some(came) = self.came.replace(now) {
            self.gap = now.saturating_sub(came).max(0);
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
        told: i64,
        now: i64,
        sound: Option<Progress>,
    ) -> Option<Option<Fault>> {
        let begin = Window {
            told,
            came: now,
            newest: told,
            newest_came: now,
            sound,
            times: vec![told],
            gaps: Vec::new(),
            apart: 0,
            equal: 0,
        };
        let Some(window) = &mut self.window else {
            self.window = Some(begin);
            return None;
        };
        let gap = now.saturating_sub(window.newest_came);
        let begins_again = told < window.newest.saturating_sub(SECOND / 2);
        if gap >= PAUSE || begins_again {
            self.window = Some(begin);
            return None;
        }
        if window.gaps.len() < MAX_STEPS {
            window.times.push(told);
            window.gaps.push(gap);
        }
        if gap >= TOGETHER {
            window.apart += 1;
            window.equal += usize::from(told == window.newest);
        }
        (window.newest, window.newest_came) = (told, now);
        if now.saturating_sub(window.came) < SECOND || window.gaps.len() < MIN_STEPS {
            return None;
        }
        let verdict = window.verdict(sound);
        self.window = Some(begin);
        self.hear(verdict)
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

    fn hear(&mut self, verdict: Option<Verdict>) -> Option<Option<Fault>> {
        self.windows = match self.verdict == verdict {
            true => self.windows.saturating_add(1),
            false => 1,
        };
        self.verdict = verdict;
        let enough = match verdict {
            None => CONVINCED_AGAIN,
            Some(Verdict { mild: true, .. }) => CONVINCED_MILDLY,
            Some(verdict) if verdict.fault == Fault::Stopped => CONVINCED_STOPPED,
            Some(_) => CONVINCED,
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
    fn verdict(&self, sound: Option<Progress>) -> Option<Verdict> {
        let sure = |fault| Verdict { fault, mild: false };
        if self.apart >= 4 {
            if self.equal == self.apart {
                return Some(sure(Fault::Stopped));
            }
            if self.equal * 4 >= self.apart {
                return Some(sure(Fault::Repeats));
            }
        }
        let told = self.newest.saturating_sub(self.told);
        let passed = self.newest_came.saturating_sub(self.came);
        let speed = match told as f64 / passed.max(1) as f64 {
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
        if speed.is_some() && !self.is_speed_of(sound, told, passed) {
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
    fn is_speed_of(&self, sound: Option<Progress>, told: i64, passed: i64) -> bool {
        let (Some(before), Some(now)) = (self.sound, sound) else {
            return false;
        };
        let heard = now.told.saturating_sub(before.told);
        let took = now.came.saturating_sub(before.came);
        if took < SECOND / 2 {
            return false;
        }
        let [pictures, sound] = [(told, passed), (heard, took)]
            .map(|(told, passed)| told as f64 / passed.max(1) as f64);
        sound > pictures / 1.5 && sound < pictures * 1.5
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
