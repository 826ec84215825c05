//! Rate limit of log lines about events that come in bursts, such as refused connections.
//!
//! Clients can cause such an event as often as they like, so a line for each would fill the disk, and one line for ever
//! would hide that it goes on. [`LogRateLimit`] lets a line through at most every ten seconds and counts the events in
//! between for the next one. The accept loop of `host/net` has one for refusals and one for failures. For lines of
//! which the first is enough, use [`LogOnce`](super::LogOnce).

use std::time::{Duration, Instant};

/// Rate limit of a log line: one for a burst of the same event, with the number of those left out. Pure.
#[derive(Debug, Default)]
pub struct LogRateLimit {
    quiet_until: Option<Instant>,
    hidden: u64,
}

impl LogRateLimit {
    /// Shortest interval between two lines.
    const QUIET: Duration = Duration::from_secs(10);

    /// Whether to log the event now: `Some` with the number of events left out since the previous line.
    pub fn tell(&mut self, now: Instant) -> Option<u64> {
        if self.quiet_until.is_some_and(|until| now < until) {
            self.hidden += 1;
            return None;
        }
        self.quiet_until = Some(now + Self::QUIET);
        Some(std::mem::take(&mut self.hidden))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_logged_once_and_then_counted() {
        let mut burst = LogRateLimit::default();
        let began = Instant::now();
        assert_eq!(burst.tell(began), Some(0));
        for _ in 0..5 {
            assert_eq!(burst.tell(began + LogRateLimit::QUIET / 2), None);
        }
        assert_eq!(burst.tell(began + LogRateLimit::QUIET), Some(5));
        assert_eq!(burst.tell(began + LogRateLimit::QUIET * 3), Some(0));
    }
}
