//! Time in the resolution of a playlist: five decimals of a second, which is all that iOS reads.

use std::fmt;

/// A time or duration in units of 10 µs. Times count from the start of the run. Durations are differences of times, so
/// parts add up to their segment without rounding drift.
pub type Time = u64;

/// One second.
pub const SECOND: Time = 100_000;
/// One millisecond.
pub const MILLISECOND: Time = 100;

/// Converts ticks of a timescale.
pub fn of(ticks: u64, timescale: u32) -> Time {
    let units = u128::from(ticks) * u128::from(SECOND) / u128::from(timescale.max(1));
    Time::try_from(units).unwrap_or(Time::MAX)
}

/// Rounds to the nearest whole second, as required for comparisons with the target duration (4.4.3.1).
pub fn rounded(duration: Time) -> Time {
    (duration + SECOND / 2) / SECOND * SECOND
}

/// Formats a duration as seconds with five decimals.
pub struct Seconds(pub Time);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:05}", self.0 / SECOND, self.0 % SECOND)
    }
}

/// Formats a wall-clock time for `EXT-X-PROGRAM-DATE-TIME` (4.4.4.6), in UTC.
pub struct Date {
    /// Microseconds since the Unix epoch.
    pub unix_us: u64,
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.unix_us / 1000;
        let (days, ms_of_day) = (ms / 86_400_000, ms % 86_400_000);
        let (year, month, day) = civil(days);
        let (hour, minute) = (ms_of_day / 3_600_000, ms_of_day / 60_000 % 60);
        let (second, ms) = (ms_of_day / 1000 % 60, ms_of_day % 1000);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z"
        )
    }
}

/// Year, month and day of the Gregorian calendar, `days` after 1 January 1970.
fn civil(days: u64) -> (u64, u64, u64) {
    // Years start in March here, so that the leap day is the last day, and an era is the 400 years after which the
    // calendar repeats.
    const ERA: u64 = 146_097;
    let days = days + 719_468;
    let (era, day_of_era) = (days / ERA, days % ERA);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    (era * 400 + year_of_era + next, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (unix, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_827_696_789, "2000-02-29T12:34:56.789Z"),
            (1_709_164_800_000, "2024-02-29T00:00:00.000Z"),
            (1_735_689_599_999, "2024-12-31T23:59:59.999Z"),
            (4_107_542_399_000, "2100-02-28T23:59:59.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            let unix_us = unix * 1000;
            assert_eq!(Date { unix_us }.to_string(), text);
        }
    }

    #[test]
    fn seconds_have_five_decimals() {
        assert_eq!(Seconds(0).to_string(), "0.00000");
        assert_eq!(Seconds(203_333).to_string(), "2.03333");
    }

    proptest! {
        #[test]
        fn each_day_follows_the_one_before(days in 0u64..200_000) {
            let (before, after) = (civil(days), civil(days + 1));
            prop_assert!(after > before);
            prop_assert!(after.2 == before.2 + 1 || after.2 == 1);
        }

        #[test]
        fn differences_add_up(ticks in proptest::collection::vec(0u64..200_000, 1..50), timescale in 1u32..200_000) {
            let mut at = 1 << 33;
            let (start, mut sum) = (of(at, timescale), 0);
            for step in ticks {
                sum += of(at + step, timescale) - of(at, timescale);
                at += step;
            }
            prop_assert_eq!(of(at, timescale) - start, sum);
        }
    }
}
