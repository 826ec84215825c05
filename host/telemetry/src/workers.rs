//! Detects runtime workers that block, for tests of debug builds.
//!
//! A worker that blocks (on a lock, a child process, a disk) delays every connection whose turn it is. Linux reports
//! how long a thread ran and how long it was runnable without getting a processor. The rest of the time between two
//! parkings of a worker it was blocked. So a busy machine causes no false reports. `main` installs it.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};
use tokio::runtime::Builder;

/// Logs each time a worker was blocked for at least as many milliseconds as `SLUICEGATE_WATCH_WORKERS` says. Does
/// nothing without that variable.
pub fn watch(builder: &mut Builder) {
    let limit = std::env::var("SLUICEGATE_WATCH_WORKERS");
    let Some(limit) = limit.ok().and_then(|ms| ms.parse().ok()) else {
        return;
    };
    let limit = Duration::from_millis(limit);
    builder
        .on_thread_start(begin)
        .on_thread_unpark(begin)
        .on_thread_park(move || end(limit));
    tracing::info!("runtime workers blocked for {limit:?} or longer are reported");
}

thread_local! {
    /// When the worker was unparked, and its times at that moment.
    static BEGAN: Cell<Option<(Instant, Times)>> = const { Cell::new(None) };
}

fn begin() {
    BEGAN.set(Times::now().map(|times| (Instant::now(), times)));
}

fn end(limit: Duration) {
    let (Some((began, before)), Some(after)) = (BEGAN.take(), Times::now()) else {
        return;
    };
    let passed = began.elapsed();
    let ran = after.ran.saturating_sub(before.ran);
    let queued = after.queued.saturating_sub(before.queued);
    let waited = passed.saturating_sub(ran + queued);
    if waited >= limit {
        tracing::error!("runtime worker blocked for {waited:?} (it ran for {ran:?})");
    }
}

/// Times of a thread since it was created.
#[derive(Clone, Copy)]
struct Times {
    /// Time on a processor.
    ran: Duration,
    /// Time runnable without a processor.
    queued: Duration,
}

impl Times {
    /// Reads the times of the current thread. `None` if the system does not report them.
    fn now() -> Option<Times> {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
        let mut fields = text.split_whitespace().map(|field| field.parse().ok());
        Some(Times {
            ran: Duration::from_nanos(fields.next()??),
            queued: Duration::from_nanos(fields.next()??),
        })
    }
}
