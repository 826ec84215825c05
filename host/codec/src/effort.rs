//! How much of the time that passes is work.

use std::time::Duration;

/// Counts pieces of work. A piece that takes far longer than the one before was not work all the time: the machine was suspended, or
/// with other processes.
#[derive(Debug, Default)]
pub struct Effort {
    /// What the last piece counted for.
    last: Duration,
}

impl Effort {
    /// A piece may always count for this much.
    const SUDDEN: Duration = Duration::from_millis(250);
    /// And for so many times the piece before.
    const GROWTH: u32 = 4;

    /// What a piece counts for that took so long.
    pub fn count(&mut self, took: Duration) -> Duration {
        self.last = took.min(Effort::SUDDEN.max(Effort::GROWTH * self.last));
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_work_counts_and_a_suspended_machine_does_not() {
        let mut effort = Effort::default();
        let mut count = |ms| effort.count(Duration::from_millis(ms)).as_millis();
        assert_eq!([20, 3000, 20].map(&mut count), [20, 250, 20]);
        assert_eq!([600, 600, 600].map(&mut count), [250, 600, 600]);
    }
}
