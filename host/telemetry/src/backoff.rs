//! Delays between attempts at something that keeps failing: each twice as long as the one before, up to a longest.
//! Pure: it neither waits nor reads a clock, and what counts as a success is the caller's decision.

use std::time::Duration;

/// Exponential backoff: the delays of one kind of attempt, and how many of them have been used.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    /// Number of delays since the last reset.
    used: u32,
}

impl Backoff {
    /// A backoff whose first delay is `first`; no delay is longer than `longest`.
    pub const fn new(first: Duration, longest: Duration) -> Backoff {
        Backoff {
            first,
            longest,
            used: 0,
        }
    }

    /// The longest delay.
    pub const fn longest(&self) -> Duration {
        self.longest
    }

    /// The delay that comes `nth` after the first (0: the first itself), whatever has been used.
    pub fn nth(&self, nth: u32) -> Duration {
        let doubled = self.first.saturating_mul(2_u32.saturating_pow(nth));
        doubled.min(self.longest)
    }

    /// The delay that [`Backoff::next_delay`] returns next.
    pub fn upcoming(&self) -> Duration {
        self.nth(self.used)
    }

    /// How long to wait before the next attempt. The delay after it is twice as long.
    pub fn next_delay(&mut self) -> Duration {
        let delay = self.upcoming();
        self.used = self.used.saturating_add(1);
        delay
    }

    /// Starts again with the first delay, after a success.
    pub fn reset(&mut self) {
        self.used = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn delays_double_up_to_the_longest_and_a_reset_starts_again() {
        let mut backoff = Backoff::new(MS(200), MS(2000));
        for ms in [200, 400, 800, 1600, 2000, 2000] {
            assert_eq!(backoff.upcoming(), MS(ms));
            assert_eq!(backoff.next_delay(), MS(ms));
        }
        backoff.reset();
        assert_eq!(backoff.next_delay(), MS(200));
        assert_eq!(backoff.longest(), MS(2000));
    }

    #[test]
    fn any_number_of_failures_has_a_delay() {
        let backoff = Backoff::new(MS(50), MS(5000));
        assert_eq!(backoff.nth(1), MS(100));
        for nth in [7, 31, 32, 64, u32::MAX] {
            assert_eq!(backoff.nth(nth), MS(5000));
        }
        let endless = Backoff::new(Duration::MAX, Duration::MAX);
        assert_eq!(endless.nth(u32::MAX), Duration::MAX);
    }
}
