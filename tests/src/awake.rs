//! A clock that stands still while the machine sleeps, or while everything on it is stopped.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::task::JoinHandle;

/// How often it is looked, and from what delay of a look on it was asleep.
const LOOK: Duration = Duration::from_millis(50);
const ASLEEP: Duration = Duration::from_secs(1);

/// Tells for how long the test was awake, so that what must happen in time is not asked for in a time in which nothing could.
pub struct Awake {
    micros: Arc<AtomicU64>,
    looks: JoinHandle<()>,
}

impl Awake {
    /// Begins at zero.
    pub fn new() -> Awake {
        let micros = Arc::new(AtomicU64::new(0));
        let passed = micros.clone();
        let looks = tokio::spawn(async move {
            let mut last = Instant::now();
            loop {
                tokio::time::sleep(LOOK).await;
                let now = Instant::now();
                let since = now - std::mem::replace(&mut last, now);
                let awake = if since > ASLEEP { LOOK } else { since };
                passed.fetch_add(awake.as_micros() as u64, Ordering::Relaxed);
            }
        });
        Awake { micros, looks }
    }

    /// The time so far, to within a look.
    pub fn passed(&self) -> Duration {
        Duration::from_micros(self.micros.load(Ordering::Relaxed))
    }
}

impl Default for Awake {
    fn default() -> Awake {
        Awake::new()
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        self.looks.abort();
    }
}
