//! Shared state between a load's thread and the scenario that measures: what viewers received, and the processor time
//! that the load itself used, so that it can be told from the cost of the process under measurement.

use crate::{
    clock::{Histogram, now},
    process::running,
};
use anyhow::{Result, bail};
use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI32, Ordering},
    },
    thread,
    time::Duration,
};

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
