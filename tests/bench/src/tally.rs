//! Shared state between a load's thread and the scenario that measures: what viewers received, and the processor time
//! that the load itself used, so that it can be told from the cost of the process under measurement.

use crate::{
    clock::{Histogram, now},
    film::Stamp,
    process::running,
};
use anyhow::{Result, bail};
use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI32, Ordering},
    },
    thread,
    time::Duration,
};

/// Interval at which the age of what a viewer has is taken, in nanoseconds.
const AGE_STEP: u64 = 10_000_000;
/// Groups that a viewer may receive at a time.
const OPEN_GROUPS: usize = 16;

/// What viewers received.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Viewers that have received something.
    pub viewers: u64,
    /// Frames.
    pub messages: u64,
    /// Bytes, including all overhead.
    pub bytes: u64,
    /// Frames that were skipped before one that arrived.
    pub missed: u64,
    /// Number of gaps.
    pub gaps: u64,
    /// Frames of which every byte was compared.
    pub compared: u64,
    /// Latency from sending to receiving, of the viewers watched closely.
    pub delays: Histogram,
    /// Age of the newest frame that a viewer has, of each viewer every [`AGE_STEP`].
    pub ages: Histogram,
    /// Groups that began to arrive, or were skipped, and those of which every frame arrived.
    pub groups: u64,
    pub whole_groups: u64,
    /// Number of faults: not a frame of the film, out of order, cut off.
    pub faults: u64,
    /// Descriptions of the first few faults.
    pub said: Vec<String>,
}

impl Counts {
    /// Counts a fault.
    pub fn fault(&mut self, what: impl FnOnce() -> String) {
        self.faults += 1;
        if self.said.len() < 5 {
            self.said.push(what());
        }
    }
}

/// What a viewer has, where frames may be late or missing.
#[derive(Default)]
pub struct Screen {
    newest: Option<Stamp>,
    /// Next moment at which the age is taken.
    due: u64,
    /// Number of frames of the newest groups.
    groups: BTreeMap<u64, u64>,
}

impl Screen {
    /// A frame has arrived, and so have those before it in its group, which has so many frames.
    pub fn frame(&mut self, stamp: Stamp, at: u64, group: u64, counts: &mut Counts) {
        let number = stamp.number / group;
        let frames = self.groups.entry(number).or_default();
        *frames += 1;
        counts.whole_groups += u64::from(*frames == group);
        while self.groups.len() > OPEN_GROUPS {
            self.groups.pop_first();
        }
        match self.newest {
            None => {
                counts.groups += 1;
                self.due = at;
            }
            Some(newest) if stamp.number <= newest.number => return,
            Some(newest) => {
                counts.groups += number - newest.number / group;
                while self.due < at {
                    counts.ages.add(self.due.saturating_sub(newest.sent));
                    self.due += AGE_STEP;
                }
            }
        }
        self.newest = Some(stamp);
    }
}

/// State shared between the two threads.
#[derive(Default)]
pub struct Tally {
    counts: Mutex<Counts>,
    stop: AtomicBool,
    /// Id of the load's thread, for its processor time.
    thread: AtomicI32,
    /// Processor time at the previous reading.
    used: Mutex<Duration>,
}

impl Tally {
    /// Registers the calling thread as the load's.
    pub fn begin(&self) {
        let id = rustix::thread::gettid().as_raw_nonzero().get();
        self.thread.store(id, Ordering::Relaxed);
    }

    /// Whether the thread should end.
    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Tells the thread to end.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Counts so far, for adding to.
    pub fn counts(&self) -> MutexGuard<'_, Counts> {
        lock(&self.counts)
    }

    /// Counts and processor time since the previous reading.
    pub fn take(&self) -> Result<(Counts, Duration)> {
        let taken = {
            let mut counts = self.counts();
            let viewers = counts.viewers;
            std::mem::replace(
                &mut *counts,
                Counts {
                    viewers,
                    ..Counts::default()
                },
            )
        };
        let used = running(self.thread.load(Ordering::Relaxed))?;
        let before = std::mem::replace(&mut *lock(&self.used), used);
        Ok((taken, used.saturating_sub(before)))
    }

    /// Waits until this many viewers have received something.
    pub fn settled(&self, wanted: u64, patience: Duration) -> Result<()> {
        let until = now() + u64::try_from(patience.as_nanos())?;
        loop {
            let (viewers, said) = {
                let counts = self.counts();
                (counts.viewers, counts.said.clone())
            };
            if viewers == wanted {
                return Ok(());
            }
            if now() > until || !said.is_empty() {
                bail!("{viewers} of {wanted} viewers received data within {patience:?}; {said:?}");
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_age_is_that_of_the_newest_frame_and_groups_may_overtake_each_other() {
        let (mut screen, mut counts) = (Screen::default(), Counts::default());
        let ms = 1_000_000;
        for (number, sent, at) in [
            (0, 0, 5),
            (2, 66, 75),
            (1, 33, 80),
            (3, 99, 135),
            (8, 264, 270),
        ] {
            let stamp = Stamp {
                number,
                sent: sent * ms,
            };
            screen.frame(stamp, at * ms, 2, &mut counts);
        }
        assert_eq!((counts.groups, counts.whole_groups), (5, 2));
        // At 5, 15, … 265 ms.
        assert_eq!(counts.ages.count(), 27);
        let most = counts.ages.quantile(1.0).as_millis();
        assert!((166..170).contains(&most), "{most}");
    }
}
