//! Duration histograms that many threads update without a lock. Pure. Read by `/metrics` and written with
//! [`super::exposition`].

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Upper bounds of the buckets in microseconds. Longer durations are in one more bucket.
const BOUNDS: [u64; 17] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 5_000_000, 10_000_000,
];

/// Durations in buckets from 50 µs to 10 s. An observation is two atomic additions and no allocation.
#[derive(Debug, Default)]
pub struct Histogram {
    counts: [AtomicU64; BOUNDS.len() + 1],
    nanos: AtomicU64,
}

impl Histogram {
    /// Counts one duration.
    pub fn observe(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.partition_point(|bound| bound * 1000 < nanos);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    /// Reads the current counts. Not atomic with concurrent observations.
    pub fn read(&self) -> Reading {
        let mut count = 0;
        let buckets = BOUNDS
            .iter()
            .zip(&self.counts)
            .map(|(bound, counted)| {
                count += counted.load(Ordering::Relaxed);
                (*bound as f64 / 1e6, count)
            })
            .collect();
        let beyond = self.counts[BOUNDS.len()].load(Ordering::Relaxed);
        Reading {
            buckets,
            count: count + beyond,
            seconds: self.nanos.load(Ordering::Relaxed) as f64 / 1e9,
        }
    }
}

/// Snapshot of a [`Histogram`].
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// Upper bound of each bucket in seconds, and the number of observations up to it.
    pub buckets: Vec<(f64, u64)>,
    /// Number of all observations.
    pub count: u64,
    /// Sum of all observations in seconds.
    pub seconds: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative_and_their_bounds_belong_to_them() {
        let histogram = Histogram::default();
        for micros in [0, 50, 51, 9_999, 10_000_000, 10_000_001, 3_600_000_000] {
            histogram.observe(Duration::from_micros(micros));
        }
        let reading = histogram.read();
        let at = |bound: f64| {
            reading
                .buckets
                .iter()
                .find(|(known, _)| *known == bound)
                .map(|(_, count)| *count)
        };
        assert_eq!(
            (at(0.000_05), at(0.000_1), at(0.01), at(10.0), reading.count),
            (Some(2), Some(3), Some(4), Some(5), 7)
        );
        assert!((reading.seconds - 3_620.010_101).abs() < 1e-6);
    }
}
