//! The highest bit rate of a track, for the bandwidth that renditions are announced with.

use sluicegate_media::time::TIMESCALE;

/// Highest number of bits in a second of a track.
#[derive(Clone, Copy, Debug, Default)]
pub struct Peak {
    since: u64,
    bits: u64,
    most: u64,
}

impl Peak {
    /// Counts `bytes` that are decoded at `time`.
    pub fn add(&mut self, time: u64, bytes: usize) {
        let passed = time.checked_sub(self.since);
        if passed.is_none_or(|passed| passed >= u64::from(TIMESCALE)) {
            // A span that was cut short by a gap or a new run is no full second.
            if passed.is_some_and(|passed| passed < 2 * u64::from(TIMESCALE)) {
                self.most = self.most.max(self.bits);
            }
            (self.since, self.bits) = (time, 0);
        }
        self.bits += bytes as u64 * 8;
    }

    /// The peak in bits per second; 0 until a second has passed.
    pub fn bits_per_second(&self) -> u32 {
        u32::try_from(self.most).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_is_the_most_of_any_second_and_gaps_are_none() {
        let mut peak = Peak::default();
        for frame in 0..40u64 {
            // Ten per second; every tenth, from the first on, is large.
            let bytes = if frame % 10 == 0 { 1000 } else { 100 };
            peak.add(frame * 9000, bytes);
        }
        assert_eq!(peak.bits_per_second(), 8 * 1900);
        peak.add(40 * 9000, 1_000_000);
        // The source is away for a minute.
        peak.add(100 * 90_000, 10);
        assert_eq!(peak.bits_per_second(), 8 * 1900);
    }
}
