//! Estimates how much of the elapsed time was work of this process.

use std::time::Duration;

/// Measures pieces of work. A piece that takes far longer than the one before was not all work: the machine was
/// suspended or busy with other processes. Counting such a piece in full would make the pipeline drop frames for no
/// reason.
#[derive(Debug, Default)]
pub struct WorkMeter {
    /// Time counted for the previous piece.
    last: Duration,
}

impl WorkMeter {
    /// Every piece may count up to this much.
    const SUDDEN: Duration = Duration::from_millis(250);
    /// A piece may also count up to this multiple of the previous one.
    const GROWTH: u32 = 4;

    /// Time to count for a piece that took `took`.
    pub fn count(&mut self, took: Duration) -> Duration {
        self.last = took.min(WorkMeter::SUDDEN.max(WorkMeter::GROWTH * self.last));
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_work_counts_and_a_suspended_machine_does_not() {
        let mut work_meter = WorkMeter::default();
        let mut count = |ms| work_meter.count(Duration::from_millis(ms)).as_millis();
        assert_eq!([20, 3000, 20].map(&mut count), [20, 250, 20]);
        assert_eq!([600, 600, 600].map(&mut count), [250, 600, 600]);
    }
}
