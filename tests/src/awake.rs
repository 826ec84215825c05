//! A clock that stops while the machine sleeps or all its processes are stopped. Deadlines measured with it do not
//! expire in a time in which nothing could run.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::task::JoinHandle;

/// Polling interval of the clock, and the delay of a poll from which on the machine counts as asleep.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
const ASLEEP_FROM: Duration = Duration::from_secs(1);

/// Measures the time for which the test was awake, so that deadlines exclude time in which nothing could run.
pub struct AwakeClock {
    micros: Arc<AtomicU64>,
    looks: JoinHandle<()>,
}

impl AwakeClock {
    /// Starts the clock at zero.
    pub fn new() -> AwakeClock {
        let micros = Arc::new(AtomicU64::new(0));
        let passed = micros.clone();
        let looks = tokio::spawn(async move {
            let mut last = Instant::now();
            loop {
                tokio::time::sleep(POLL_INTERVAL).await;
                let now = Instant::now();
                let since = now - std::mem::replace(&mut last, now);
                let awake = if since > ASLEEP_FROM {
                    POLL_INTERVAL
                } else {
                    since
                };
                passed.fetch_add(awake.as_micros() as u64, Ordering::Relaxed);
            }
        });
        AwakeClock { micros, looks }
    }

    /// Time awake so far, accurate to one polling interval.
    pub fn passed(&self) -> Duration {
        Duration::from_micros(self.micros.load(Ordering::Relaxed))
    }
}

impl Default for AwakeClock {
    fn default() -> AwakeClock {
        AwakeClock::new()
    }
}

impl Drop for AwakeClock {
    fn drop(&mut self) {
        self.looks.abort();
    }
}
