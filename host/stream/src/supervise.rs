//! The loop of a worker thread of a stream (decoder, transcoder, joiner), which survives a panic in its work.
//!
//! A panic is handled as a failure of one step: it is recorded, the worker discards its state, and after a backoff it
//! continues with the next input. Consumers of what it makes then get it later instead of never.

use super::status::Status;
use sluicegate_source::Stop;
use sluicegate_telemetry::{Backoff, Panicked, contain, panic_point};
use std::time::{Duration, Instant};

/// Backoff after a panic. It starts again with the first delay if the previous panic is longer ago than the longest
/// delay.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(10));

/// Work that is repeated until its thread is stopped.
pub(super) trait Work {
    /// Name of the part in logs and notes, such as "decode" or "jpeg".
    const PART: &'static str;
    /// Key of the note for all faults of the part.
    const FAULT: &'static str;

    /// Called once, before the first step.
    fn begin(&mut self) {}

    /// Processes the next input, or parks the thread until there is some. It must move past the input before it can
    /// panic on it, or the same panic would repeat for ever.
    fn step(&mut self);

    /// Discards what a panic may have left inconsistent, so that work continues with the next input.
    fn recover(&mut self, panicked: &Panicked);
}

/// Runs `work` until it is stopped. A panic is logged and noted with its location, and after a delay the work
/// continues.
pub(super) fn run<W: Work>(work: &mut W, status: &Status, stop: &Stop) {
    let mut backoff = BACKOFF;
    // The previous panic, and the delay after it.
    let mut last: Option<(Instant, Duration)> = None;
    let mut done = contain(|| work.begin());
    loop {
        let Err(panicked) = done else {
            if stop.is_stopped() {
                return;
            }
            done = contain(|| {
                panic_point(W::PART);
                work.step();
            });
            continue;
        };
        status.fault(
            W::FAULT,
            format!("`{}` {panicked}; it is restarted", W::PART),
        );
        if let Err(again) = contain(|| work.recover(&panicked)) {
            status.fault(
                W::FAULT,
                format!("`{}` {again}; the restart failed", W::PART),
            );
        }
        let now = Instant::now();
        let again = last.is_some_and(|(last, wait)| {
            now.saturating_duration_since(last) < backoff.longest() + wait
        });
        if !again {
            backoff.reset();
        }
        let wait = backoff.next_delay();
        last = Some((now, wait));
        stop.wait(wait);
        done = Ok(());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic)]
    use super::*;
    use std::sync::Arc;

    /// Panics on every third step, and during the first recovery.
    struct PanickingWork {
        taken: u32,
        recovered: Vec<u32>,
        stop: Stop,
    }

    impl Work for PanickingWork {
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
    fn work_continues_behind_what_it_panicked_on_and_the_note_has_the_place() {
        let status = Status::new("cam", Arc::default());
        let stop = Stop::default();
        stop.attach();
        let mut work = PanickingWork {
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
                && note.ends_with("it is restarted (3 times)"),
            "{note}"
        );
    }
}
