//! Group numbers: counted by the host, so that they survive a muxer and a restart.

use super::time::TIMESCALE;
use std::collections::VecDeque;

/// Where groups of one `group-ms` begin, and their numbers.
///
/// A group runs from an independent sample to the first independent one at least `group-ms` later. The first
/// number is the Unix time in units of `group-ms` (at least 1 ms); the next ones count up. As groups are at least that
/// long, the count never outruns the clock, and a later run starts above it.
#[derive(Debug)]
pub struct Groups {
    period_ms: u64,
    started_at_us: u64,
    starts: VecDeque<Start>,
}

#[derive(Clone, Copy, Debug)]
struct Start {
    time: u64,
    number: u64,
    /// A break came before: the next independent sample opens a group however early it is.
    closed: bool,
}

impl Groups {
    /// Groups of `group_ms`, of a run that began at `started_at_us` (Unix microseconds at decode time 0).
    pub fn new(group_ms: u32, started_at_us: u64) -> Groups {
        Groups {
            period_ms: u64::from(group_ms),
            started_at_us,
            starts: VecDeque::new(),
        }
    }

    /// Takes note of a sample, in order.
    pub fn observe(&mut self, decode_time: u64, independent: bool) {
        if !independent {
            return;
        }
        let period = self.period_ms * u64::from(TIMESCALE) / 1000;
        let number = match self.starts.back() {
            None => {
                (self.started_at_us / 1000 + decode_time * 1000 / u64::from(TIMESCALE))
                    / self.period_ms.max(1)
            }
            Some(last) if last.closed || decode_time >= last.time + period => last.number + 1,
            Some(_) => return,
        };
        self.starts.push_back(Start {
            time: decode_time,
            number,
            closed: false,
        });
    }

    /// The tracks change or the source is lost: the group ends here.
    pub fn close(&mut self) {
        if let Some(last) = self.starts.back_mut() {
            last.closed = true;
        }
    }

    /// The group that a sample at `decode_time` belongs to.
    pub fn at(&self, decode_time: u64) -> Option<u64> {
        let after = self
            .starts
            .partition_point(|start| start.time <= decode_time);
        self.starts
            .get(after.checked_sub(1)?)
            .map(|start| start.number)
    }

    /// The decode time at which the `history`-th newest group begins (1: the newest); the oldest known if there are fewer.
    pub fn history_start(&self, history: u32) -> Option<u64> {
        let back = (history.max(1) as usize).min(self.starts.len());
        self.starts
            .get(self.starts.len().checked_sub(back)?)
            .map(|start| start.time)
    }

    /// Forgets groups that ended before `decode_time`; numbers go on.
    pub fn forget_before(&mut self, decode_time: u64) {
        while self.starts.len() > 1 && self.starts[1].time <= decode_time {
            self.starts.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: u64 = TIMESCALE as u64;

    #[test]
    fn groups_are_at_least_their_length_and_count_from_unix_time() {
        let mut groups = Groups::new(1000, 1_700_000_000_000_000);
        for n in 0..10 {
            groups.observe(n * SECOND / 2, true);
        }
        assert_eq!(groups.at(0), Some(1_700_000_000));
        assert_eq!(groups.at(SECOND - 1), Some(1_700_000_000));
        assert_eq!(groups.at(SECOND), Some(1_700_000_001));
        assert_eq!(groups.history_start(1), Some(4 * SECOND));
        assert_eq!(groups.history_start(3), Some(2 * SECOND));
        assert_eq!(groups.history_start(99), Some(0));
    }

    #[test]
    fn a_break_ends_a_group_early() {
        let mut groups = Groups::new(10_000, 0);
        groups.observe(0, true);
        groups.close();
        groups.observe(SECOND, true);
        assert_eq!((groups.at(0), groups.at(SECOND)), (Some(0), Some(1)));
    }

    proptest! {
        #[test]
        fn numbers_rise_by_one_and_never_outrun_the_clock(
            steps in prop::collection::vec((1u64..200_000, any::<bool>()), 1..300), group_ms in 0u32..4000) {
            let mut groups = Groups::new(group_ms, 5_000_000_000);
            let (mut time, mut last) = (0, None);
            for (step, independent) in steps {
                time += step.max(90);
                groups.observe(time, independent);
                if let Some(number) = groups.at(time) {
                    prop_assert!(last.is_none_or(|last| number == last || number == last + 1));
                    prop_assert!(number <= (5_000_000 + time * 1000 / SECOND) / u64::from(group_ms).max(1));
                    last = Some(number);
                }
                groups.forget_before(time.saturating_sub(SECOND));
            }
        }
    }
}
