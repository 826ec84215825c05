//! Tells a source whose picture times are no clock: times that stand still, count in other units, repeat or jump about, as cheap
//! cameras give them. What pictures' times say is compared with when they arrived, a second at a time; arrival is jittery, but
//! never wrong for long. Used by [`super::timeline::Timeline`], which goes by arrival while there is a [`Fault`].

use super::time::TIMESCALE;

const SECOND: i64 = TIMESCALE as i64;
/// A window is judged when it has lasted a second and has so many steps.
const MIN_STEPS: usize = 6;
/// Beyond, steps of a window are not looked at.
const MAX_STEPS: usize = 256;
/// A window with such a pause in it says nothing.
const PAUSE: i64 = 2 * SECOND;
/// Pictures that arrive closer together came in one piece, whatever their times.
const TOGETHER: i64 = SECOND / 200;
/// So many windows in a row have to be of one mind: times that stand still for a second are never right.
const CONVINCED: u8 = 3;
const CONVINCED_STOPPED: u8 = 1;
const CONVINCED_AGAIN: u8 = 5;
const CONVINCED_MILDLY: u8 = 10;
/// Arrival is followed at once if a picture is this much later than expected, else smoothed: a moment in which the machine was busy is
/// none of the camera's. Ahead of arrival, times slow down from here on.
const LATE: i64 = SECOND;
const AHEAD: i64 = SECOND / 4;

/// What is wrong with a source's picture times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// All pictures have the same time.
    Stopped,
    /// Times advance at less than a fifth of the speed of arrival, or for long at less than four fifths.
    Slow,
    /// Times advance at more than one and a half times the speed of arrival, or for long at more than five fourths.
    Fast,
    /// Many pictures have the time of the one before.
    Repeats,
    /// Times go back and forth while pictures arrive evenly.
    Unsteady,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Fault::Stopped => "they stand still",
            Fault::Slow => "they advance too slowly",
            Fault::Fast => "they advance too fast",
            Fault::Repeats => "many pictures have the time of the one before",
            Fault::Unsteady => "they jump back and forth",
        })
    }
}

/// How far another track's clock has come: its newest time, and when that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// As the source says.
    pub told: i64,
    /// In ticks of the run.
    pub came: i64,
}

/// Judges the times of one track. All times are in ticks of [`TIMESCALE`].
#[derive(Debug, Default)]
pub struct ClockMonitor {
    window: Option<Window>,
    /// What the newest windows say, and how many of them.
    verdict: Option<Verdict>,
    windows: u8,
    fault: Option<Fault>,
    /// When the newest picture arrived, how long after the one before, and the same smoothed.
    came: Option<i64>,
    gap: i64,
    step: i64,
}

/// What a window says of the times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Verdict {
    fault: Fault,
    /// It may be an accident of arrival.
    mild: bool,
}

#[derive(Debug)]
struct Window {
    told: i64,
    came: i64,
    newest: i64,
    newest_came: i64,
    sound: Option<Progress>,
    /// The first [`MAX_STEPS`] times, and how long after the one before each picture came.
    times: Vec<i64>,
    gaps: Vec<i64>,
    /// Of pictures that came apart: how many there were, and how many had the time of the one before.
    apart: usize,
    equal: usize,
}

impl ClockMonitor {
    /// The source begins again: its times may, too.
    pub fn begins_again(&mut self) {
        self.window = None;
    }

    /// What is wrong, if anything is.
    pub fn fault(&self) -> Option<Fault> {
        self.fault
    }

    /// A picture arrived at `now`.
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

    /// The picture's time, and how far the sound has come, if there is any. The answer is a change: the fault that times have
    /// from here on, or that they have none any more.
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

    /// Where a picture goes by its arrival: `last` is where the one before is, `target` where this one would be if arrival was
    /// exact. Rises.
    pub fn pace(&self, last: i64, target: i64) -> i64 {
        let expected = last.saturating_add(self.step);
        let off = target.saturating_sub(expected);
        let at = match off {
            off if off > LATE => target,
            // Ahead of its arrival, as its clock was too fast: half the speed until that is made up for.
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
        // Which fault it is matters to nobody once there is one.
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
        // Even arrival is no accident, uneven times beside it are no pictures left out. In order, as some sources only say when
        // pictures are shown, and those that refer to later ones come behind them.
        let mut times = self.times.clone();
        times.sort_unstable();
        let steps = times.windows(2).map(|two| two[1].saturating_sub(two[0]));
        let (uneven, of_arrival) = (uneven(steps.collect()), uneven(self.gaps.clone()));
        (uneven * 5 >= self.gaps.len() * 2 && of_arrival * 7 <= self.gaps.len())
            .then_some(sure(Fault::Unsteady))
    }

    /// Whether the sound's times advanced as those of the pictures did: then the source is faster or slower than life, and not
    /// its clock.
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

/// How many are more than a quarter off the middle one.
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
