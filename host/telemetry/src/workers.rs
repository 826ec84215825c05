//! Watches the runtime's workers, for tests: reports one that was held up by something that waits.
//!
//! A worker that waits (for a lock, a child, a disk) keeps every connection waiting whose turn it is. Linux says of a thread how
//! long it ran and how long it was ready to run and did not get a processor; what is left of the time between two rests of a
//! worker it has waited. So a busy machine blames nobody.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};
use tokio::runtime::Builder;

/// Logs each time a worker waited for so many milliseconds as `SLUICEGATE_WATCH_WORKERS` says, if it says so.
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
    tracing::info!("a worker that waits for {limit:?} is reported");
}

thread_local! {
    /// When the thread began to work, and its times then.
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
        tracing::error!("a worker was blocked for {waited:?}, and ran for {ran:?}");
    }
}

/// Of a thread, since it was made.
#[derive(Clone, Copy)]
struct Times {
    /// On a processor.
    ran: Duration,
    /// Ready to run, without a processor.
    queued: Duration,
}

impl Times {
    /// Of this thread; none where the system does not tell.
    fn now() -> Option<Times> {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
        let mut fields = text.split_whitespace().map(|field| field.parse().ok());
        Some(Times {
            ran: Duration::from_nanos(fields.next()??),
            queued: Duration::from_nanos(fields.next()??),
        })
    }
}
