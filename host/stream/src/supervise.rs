//! The loop of a thread that makes something of a stream, which outlives a panic in it.

use super::status::Status;
use sluicegate_source::Stop;
use sluicegate_telemetry::{Panicked, contain, provoke};
use std::time::{Duration, Instant};

/// After a panic: the first wait and the longest. The first again where the last panic is longer ago than the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(10));

/// What is repeated until its thread is told to stop.
pub(super) trait Work {
    /// Names the part in logs and notes: "decode", "jpeg".
    const PART: &'static str;
    /// One note for all faults of the part.
    const FAULT: &'static str;

    /// Comes before the first step.
    fn begin(&mut self) {}

    /// Takes what is next, or parks the thread until there is something. What it takes is behind it before it can panic on it, or
    /// the same would happen again for ever.
    fn step(&mut self);

    /// Throws away what a panic halfway may have left in disorder, and begins anew with what comes next.
    fn recover(&mut self, panicked: &Panicked);
}

/// Works until told to stop. A panic is the part's failure: it is logged and noted with its place, and after a wait the work goes
/// on, so that whoever waits for what it makes gets it later, not never.
pub(super) fn run<W: Work>(work: &mut W, status: &Status, stop: &Stop) {
    let mut wait = BACKOFF.0;
    let mut last: Option<Instant> = None;
    let mut done = contain(|| work.begin());
    loop {
        let Err(panicked) = done else {
            if stop.is_stopped() {
                return;
            }
            done = contain(|| {
                provoke(W::PART);
                work.step();
            });
            continue;
        };
        status.fault(
            W::FAULT,
            format!("`{}` {panicked}; it starts anew", W::PART),
        );
        if let Err(again) = contain(|| work.recover(&panicked)) {
            status.fault(
                W::FAULT,
                format!("`{}` {again}; it cannot start anew", W::PART),
            );
        }
        let now = Instant::now();
        wait = match last.replace(now) {
            Some(last) if now.saturating_duration_since(last) < BACKOFF.1 + wait => {
                (wait * 2).min(BACKOFF.1)
            }
            _ => BACKOFF.0,
        };
        stop.wait(wait);
        done = Ok(());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic)]
    use super::*;
    use std::sync::Arc;

    /// Panics on every third thing, and while it recovers from the first of them.
    struct Clumsy {
        taken: u32,
        recovered: Vec<u32>,
        stop: Stop,
    }

    impl Work for Clumsy {
        const PART: &'static str = "clumsy";
        const FAULT: &'static str = "clumsy";

        fn step(&mut self) {
            self.taken += 1;
            if self.taken == 8 {
                self.stop.stop();
            }
            assert!(!self.taken.is_multiple_of(3), "it slipped");
        }

        fn recover(&mut self, panicked: &Panicked) {
            assert!(panicked.to_string().contains("it slipped"));
            self.recovered.push(self.taken);
            assert!(self.taken > 3, "it slipped again");
        }
    }

    #[test]
    fn work_goes_on_behind_what_it_panicked_on_and_the_note_says_where() {
        let status = Status::new("cam", Arc::default());
        let stop = Stop::default();
        stop.attach();
        let mut work = Clumsy {
            taken: 0,
            recovered: Vec::new(),
            stop: stop.clone(),
        };
        run(&mut work, &status, &stop);
        assert_eq!((work.taken, work.recovered), (8, vec![3, 6]));
        let notes = status.report(false).notes;
        let [note] = notes.as_slice() else {
            panic!("{notes:?}");
        };
        assert!(
            note.starts_with("`clumsy` panicked at host/stream/src/supervise.rs:")
                && note.ends_with("it starts anew (3 times)"),
            "{note}"
        );
    }
}
