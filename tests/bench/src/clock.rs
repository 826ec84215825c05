//! A clock shared by all processes of a run, and histograms of durations measured with it.

use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// Time of the machine's monotonic clock in nanoseconds, equal in all processes.
pub fn now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

/// A random duration below `most`. Used between repeated measurements, so that they hit periodic events at every phase.
pub fn random_below(most: Duration) -> Duration {
    most.mul_f64(fastrand::f64())
}

/// Buckets per doubling: values are exact to 1/64.
const BUCKETS_PER_DOUBLING: u32 = 64;

/// A histogram whose buckets grow with the durations, so that a million values need no more memory than ten.
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    buckets: Vec<u64>,
    count: u64,
}

impl Histogram {
    /// Adds a duration in nanoseconds.
    pub fn add(&mut self, nanos: u64) {
        let bucket = bucket(nanos);
        if self.buckets.len() <= bucket {
            self.buckets.resize(bucket + 1, 0);
        }
        if let Some(count) = self.buckets.get_mut(bucket) {
            *count += 1;
        }
        self.count += 1;
    }

    /// Adds all values of another histogram.
    pub fn merge(&mut self, other: &Histogram) {
        if self.buckets.len() < other.buckets.len() {
            self.buckets.resize(other.buckets.len(), 0);
        }
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine += theirs;
        }
        self.count += other.count;
    }

    /// Number of values.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The smallest bound that this share (0 to 1) of the values does not exceed; zero if there are none.
    pub fn quantile(&self, part: f64) -> Duration {
        let wanted = ((self.count as f64 * part).ceil() as u64).max(1);
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return Duration::from_nanos(upper(bucket));
            }
        }
        Duration::ZERO
    }
}

fn bucket(nanos: u64) -> usize {
    let fine = u64::from(BUCKETS_PER_DOUBLING);
    if nanos < fine {
        return nanos as usize;
    }
    let shift = nanos.ilog2() - BUCKETS_PER_DOUBLING.ilog2();
    (u64::from(shift) * fine + (nanos >> shift)) as usize
}

/// Largest value of a bucket.
fn upper(bucket: usize) -> u64 {
    let (bucket, fine) = (bucket as u64, u64::from(BUCKETS_PER_DOUBLING));
    if bucket < 2 * fine {
        return bucket;
    }
    let shift = bucket / fine - 1;
    ((bucket - shift * fine + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_right_within_a_bucket() {
        let mut all = Histogram::default();
        for value in 1..=100_000u64 {
            all.add(value * 10);
        }
        for part in [0.01, 0.5, 0.9, 0.99, 1.0] {
            let exact = part * 1_000_000.0;
            let found = all.quantile(part).as_nanos() as f64;
            assert!(
                found >= exact && found <= exact * (1.0 + 2.0 / f64::from(BUCKETS_PER_DOUBLING)),
                "{part}: {found}"
            );
        }
        assert_eq!(Histogram::default().quantile(0.5), Duration::ZERO);
    }

    #[test]
    fn buckets_follow_one_another() {
        let mut last = 0;
        for value in 0..100_000 {
            let bucket = bucket(value);
            assert!(bucket == last || bucket == last + 1, "{value}");
            assert!(upper(bucket) >= value);
            last = bucket;
        }
    }
}
