//! The rate at which a path delivers, as the clients' acknowledgements tell.
//!
//! QUIC itself tells its congestion window only. That is no measure of the path: it does not grow while there is little
//! to send, and a client that does not read leaves it as it was. So `congestion` tells of each acknowledgement, and
//! whether the sender had too little to send. A rate is measured over a round trip in which it had enough all the time.

use std::time::{Duration, Instant};

/// Round trips of which the best counts.
const ROUNDS: usize = 8;
/// Shortest time over which a rate is measured.
const MIN_ROUND: Duration = Duration::from_millis(5);
/// How long a rate counts at least; it counts for twice the time over which it was measured.
const COUNTS: Duration = Duration::from_secs(1);

/// The rates of the last round trips.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct DeliveryRate {
    /// The one that is being measured.
    round: Option<Round>,
    rates: [Option<Rate>; ROUNDS],
    /// Place of the oldest rate.
    oldest: usize,
}

#[derive(Clone, Copy, Debug)]
struct Round {
    began: Instant,
    /// Acknowledged since then.
    bytes: u64,
    length: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Rate {
    bits_per_second: u64,
    counts_until: Instant,
}

impl DeliveryRate {
    /// The client has acknowledged so many bytes. `had_enough` says that more was to be sent before that.
    pub fn acknowledged(
        &mut self,
        now: Instant,
        bytes: u64,
        had_enough: bool,
        round_trip: Duration,
    ) {
        if !had_enough {
            self.round = None;
            return;
        }
        let length = round_trip.max(MIN_ROUND);
        match &mut self.round {
            // What is acknowledged at its beginning was sent before.
            None => {
                self.round = Some(Round {
                    began: now,
                    bytes: 0,
                    length,
                });
            }
            Some(round) if round.began < now => round.bytes += bytes,
            Some(_) => {}
        }
    }

    /// That were all acknowledgements of this time.
    pub fn end(&mut self, now: Instant) {
        let Some(round) = &mut self.round else { return };
        let took = now.saturating_duration_since(round.began);
        if took < round.length {
            return;
        }
        let rate = round.bytes as f64 * 8.0 / took.as_secs_f64();
        (round.began, round.bytes) = (now, 0);
        if let Some(oldest) = self.rates.get_mut(self.oldest) {
            *oldest = Some(Rate {
                // A cast from float saturates at the integer's bounds.
                bits_per_second: rate as u64,
                counts_until: now + COUNTS.max(2 * took),
            });
        }
        self.oldest = (self.oldest + 1) % ROUNDS;
    }

    /// The best of the last round trips, in bits per second; `None` if nothing was measured of late.
    pub fn best(&self, now: Instant) -> Option<u64> {
        let rates = self.rates.iter().flatten();
        let rates = rates.filter(|rate| rate.counts_until > now);
        rates.map(|rate| rate.bits_per_second).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(100);

    /// Acknowledgements of 1,000 bytes each 10 ms, from 10 ms on, so many; the rate after that.
    fn after(count: u32, had_enough: impl Fn(u32) -> bool) -> (DeliveryRate, Instant) {
        let (mut rate, start) = (DeliveryRate::default(), Instant::now());
        let at = |nth: u32| start + Duration::from_millis(10) * nth;
        for nth in 1..=count {
            // Two packets at the same time.
            rate.acknowledged(at(nth), 600, had_enough(nth), RTT);
            rate.acknowledged(at(nth), 400, had_enough(nth), RTT);
            rate.end(at(nth));
        }
        (rate, at(count))
    }

    #[test]
    fn the_rate_is_that_of_acknowledgements_while_there_was_enough_to_send() {
        let (rate, now) = after(10, |_| true);
        assert_eq!(rate.best(now), None);
        let (rate, now) = after(11, |_| true);
        assert_eq!(rate.best(now), Some(800_000));
        assert_eq!(rate.best(now + COUNTS), None);
        // Never a round trip with enough to send.
        let (rate, now) = after(100, |nth| nth % 10 > 0);
        assert_eq!(rate.best(now), None);
        let (rate, now) = after(100, |_| false);
        assert_eq!(rate.best(now), None);
        // It had enough once, for long enough.
        let (rate, now) = after(30, |nth| (5..20).contains(&nth));
        assert_eq!(rate.best(now), Some(800_000));
    }

    #[test]
    fn the_best_of_the_last_round_trips_counts() {
        let (mut rate, start) = (DeliveryRate::default(), Instant::now());
        for (nth, bytes) in (0..).zip([0, 10_000, 50_000, 20_000]) {
            rate.acknowledged(start + RTT * nth, bytes, true, RTT);
            rate.end(start + RTT * nth);
        }
        assert_eq!(rate.best(start + RTT * 3), Some(4_000_000));
        for nth in 4..20 {
            rate.acknowledged(start + RTT * nth, 10_000, true, RTT);
            rate.end(start + RTT * nth);
        }
        assert_eq!(rate.best(start + RTT * 19), Some(800_000));
    }
}
