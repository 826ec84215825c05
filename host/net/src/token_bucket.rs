//! A token bucket: how much a peer may send, as a rate with bursts. It keeps the count only; whether a peer beyond it
//! waits or is disconnected is decided by who holds the bucket, and so is how often it is refilled.

use std::time::Duration;
use tokio::time::Instant;

/// Tokens that are refilled at a rate up to a capacity. A token is what the holder counts: a byte, a message.
#[derive(Debug)]
pub(crate) struct TokenBucket {
    /// Tokens per second.
    rate: f64,
    capacity: f64,
    left: f64,
    /// When it was last refilled.
    refilled: Instant,
}

impl TokenBucket {
    /// A full bucket that gains `rate` tokens per second, up to `capacity`. Both are constants above 0.
    pub(crate) fn new(rate: f64, capacity: f64, now: Instant) -> TokenBucket {
        debug_assert!(rate > 0.0 && capacity > 0.0, "{rate} {capacity}");
        TokenBucket {
            rate,
            capacity,
            left: capacity,
            refilled: now,
        }
    }

    /// Adds what was gained since the last refill.
    pub(crate) fn refill(&mut self, now: Instant) {
        let passed = (now - self.refilled).as_secs_f64();
        self.left = (self.left + passed * self.rate).min(self.capacity);
        self.refilled = now;
    }

    /// Takes tokens out, or what is left of them; what a peer sent beyond that is forgiven.
    pub(crate) fn take(&mut self, tokens: f64) {
        self.left = (self.left - tokens).max(0.0);
    }

    /// Tokens left as of the last refill.
    pub(crate) fn left(&self) -> f64 {
        self.left
    }

    /// When it was last refilled.
    pub(crate) fn refilled(&self) -> Instant {
        self.refilled
    }

    /// When a refill brings it to this many tokens, at most its capacity; the time of the last refill if it has them.
    pub(crate) fn has_at(&self, tokens: f64) -> Instant {
        let short = (tokens - self.left).max(0.0) / self.rate;
        self.refilled + Duration::from_secs_f64(short)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_refilled_at_its_rate_and_not_beyond_its_capacity() {
        let began = Instant::now();
        let mut bucket = TokenBucket::new(2.0, 10.0, began);
        assert_eq!(bucket.has_at(10.0), began);
        bucket.take(4.0);
        assert_eq!(bucket.left(), 6.0);
        assert_eq!(bucket.has_at(7.0), began + Duration::from_millis(500));
        bucket.refill(began + Duration::from_secs(1));
        assert_eq!(bucket.left(), 8.0);
        bucket.take(100.0);
        assert_eq!(bucket.left(), 0.0);
        let later = began + Duration::from_secs(60);
        bucket.refill(later);
        assert_eq!((bucket.left(), bucket.refilled()), (10.0, later));
    }
}
