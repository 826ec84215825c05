//! Measured rates of a stream: averages over windows of fixed length.

use std::time::{Duration, Instant};

/// Window over which rates are averaged.
const WINDOW: Duration = Duration::from_secs(2);

/// Bit rate and frame rate, measured from counters that only increase.
#[derive(Debug)]
pub struct Rates {
    window_start: Instant,
    bytes: u64,
    samples: u64,
    /// Bits per second in the newest complete window; 0 before there is one.
    pub bits_per_second: u64,
    /// Frames per second in it; the declared rate before there is one.
    pub frame_rate: f32,
}

impl Rates {
    /// Rates that are measured from `now` on, when the counters had these values. `declared` is the frame rate to
    /// report until a window is complete.
    pub fn since(now: Instant, bytes: u64, samples: u64, declared: f32) -> Rates {
        Rates {
            window_start: now,
            bytes,
            samples,
            bits_per_second: 0,
            frame_rate: declared,
        }
    }

    /// Completes the window if it is over.
    pub fn update(&mut self, now: Instant, bytes: u64, samples: u64) {
        let passed = now - self.window_start;
        if passed < WINDOW {
            return;
        }
        let seconds = passed.as_secs_f64();
        *self = Rates {
            window_start: now,
            bytes,
            samples,
            bits_per_second: ((bytes - self.bytes) as f64 * 8.0 / seconds) as u64,
            frame_rate: ((samples - self.samples) as f64 / seconds) as f32,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_those_of_the_newest_complete_window() {
        let start = Instant::now();
        let mut rates = Rates::since(start, 1000, 10, 25.0);
        rates.update(start + WINDOW / 2, 5000, 20);
        assert_eq!((rates.bits_per_second, rates.frame_rate), (0, 25.0));
        rates.update(start + WINDOW, 5000, 70);
        assert_eq!((rates.bits_per_second, rates.frame_rate), (16_000, 30.0));
        rates.update(start + 2 * WINDOW, 5000, 70);
        assert_eq!((rates.bits_per_second, rates.frame_rate), (0, 0.0));
    }
}
