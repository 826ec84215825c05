//! Keeps what could come at any speed at the speed it was made for.

use crate::source::{SourceTimes, Stop};
use std::time::{Duration, Instant};

/// A gap in the times that is not waited for.
const LEAP: Duration = Duration::from_secs(30);

/// When the next packet is due.
#[derive(Default)]
pub struct Pace {
    /// When the packet of that time is due.
    anchor: Option<(Instant, i64)>,
    last: i64,
    step: i64,
    /// When the tracks read so far end.
    end: i64,
    /// When the next packet is due, whatever its time: the file has begun again.
    restart: Option<Instant>,
}

impl Pace {
    /// Waits until a packet of these times is due, or less if told to end. One that only says how long it lasts is given
    /// the time at which the one before ends.
    pub fn wait(&mut self, times: &mut SourceTimes, stop: &Stop) {
        let ticks = times.decode.or(times.presentation);
        let ticks = ticks.unwrap_or(self.last + self.step);
        if times.presentation.is_none() && times.duration > 0 {
            times.decode = Some(ticks);
        }
        let now = Instant::now();
        if let Some(restart) = self.restart.take() {
            self.anchor = Some((restart, ticks));
            self.end = ticks;
        }
        let (start, zero) = *self.anchor.get_or_insert_with(|| {
            self.end = ticks;
            (now, ticks)
        });
        if times.duration > 0 {
            self.step = i64::from(times.duration);
        } else if ticks > self.last {
            self.step = ticks - self.last;
        }
        self.last = ticks;
        self.end = self.end.max(ticks + self.step);
        let due = start + after(ticks - zero);
        // A leap in the file's times is not waited for.
        if due > now + LEAP {
            self.anchor = Some((now, ticks));
        } else {
            stop.wait_until(due);
        }
    }

    /// The file begins again: its first packet follows where the longest of its tracks ended.
    pub fn loops(&mut self) {
        self.restart = self
            .anchor
            .map(|(start, zero)| start + after(self.end - zero));
    }
}

/// Ticks as a duration; none if negative.
fn after(ticks: i64) -> Duration {
    let ticks = u64::try_from(ticks).unwrap_or(0);
    Duration::from_micros(ticks.saturating_mul(100) / 9)
}
