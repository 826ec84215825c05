//! What a load's thread tells who measures: what its viewers got, and the processor time it took.

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

/// What was received.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Viewers that have got something.
    pub viewers: u64,
    /// Pictures.
    pub messages: u64,
    /// Bytes, everything included.
    pub bytes: u64,
    /// Pictures that were left out before one that came.
    pub missed: u64,
    /// Times that happened.
    pub gaps: u64,
    /// Pictures of which every byte was compared.
    pub compared: u64,
    /// Sent to received, of those who are watched closely.
    pub delays: Histogram,
    /// What was wrong: no picture of the film, out of order, broken off. The first few in words.
    pub faults: u64,
    /// The first few faults.
    pub said: Vec<String>,
}

impl Counts {
    /// Of one fault.
    pub fn fault(&mut self, what: impl FnOnce() -> String) {
        self.faults += 1;
        if self.said.len() < 5 {
            self.said.push(what());
        }
    }
}

/// Shared between the two.
#[derive(Default)]
pub struct Tally {
    counts: Mutex<Counts>,
    stop: AtomicBool,
    /// The thread's id, for its processor time.
    thread: AtomicI32,
    /// The processor time when it was last asked for.
    used: Mutex<Duration>,
}

impl Tally {
    /// The thread that calls is the one.
    pub fn begin(&self) {
        let id = rustix::thread::gettid().as_raw_nonzero().get();
        self.thread.store(id, Ordering::Relaxed);
    }

    /// Whether it is to end.
    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Tells it to end.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// What was received so far, to add to.
    pub fn counts(&self) -> MutexGuard<'_, Counts> {
        lock(&self.counts)
    }

    /// What was received since the last time, and the processor time it took.
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

    /// Waits until so many viewers have got something.
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
                bail!("{viewers} of {wanted} viewers got something within {patience:?}; {said:?}");
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
