//! Values with a unit: durations (`"200ms"`), sizes (`"32MiB"`) and bit rates (`"2Mbps"`).
//!
//! A number without a unit is an error, so that `10` cannot be mistaken for seconds or milliseconds. Parsing is exact:
//! no floating point and no rounding.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use super::text;

/// A duration with a resolution of one microsecond: `"200ms"`, `"2s"`, `"1.5s"`, `"1m"`, `"1h"`, `"1d"`; at most 365
/// days.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(Duration);

impl Span {
    /// Wraps `duration`; `Display` drops fractions of a microsecond.
    pub const fn from_duration(duration: Duration) -> Self {
        Self(duration)
    }

    /// The duration.
    pub const fn duration(self) -> Duration {
        self.0
    }
}

/// A number of bytes: `"512KiB"`, `"32MiB"`, `"10MB"`, `"100B"`. `kB`, `MB`, `GB`, `TB` are powers of 1000, `KiB`,
/// `MiB`, `GiB`, `TiB` powers of 1024; at most 1 PiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(u64);

impl ByteSize {
    /// `bytes` bytes.
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

/// A bit rate in bits (not bytes) per second: `"500k"`, `"1M"`, `"2Mbps"`, `"2.5Mbit/s"`; at most 1 Tbit/s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct BitRate(u64);

impl BitRate {
    /// `bits` bits per second.
    pub const fn from_bits_per_second(bits: u64) -> Self {
        Self(bits)
    }

    /// Bits per second.
    pub const fn bits_per_second(self) -> u64 {
        self.0
    }
}

/// Notation of one kind of value: its units, largest first, each with its size in the smallest unit. `Display` uses the
/// first unit of each size.
struct Scale {
    kind: &'static str,
    example: &'static str,
    zero: &'static str,
    units: &'static [(&'static str, u64)],
    max: u64,
}

const SPAN: Scale = Scale {
    kind: "duration",
    example: "write e.g. \"200ms\", \"10s\" or \"1m\"",
    zero: "0s",
    units: &[
        ("d", 86_400_000_000),
        ("h", 3_600_000_000),
        ("m", 60_000_000),
        ("min", 60_000_000),
        ("s", 1_000_000),
        ("ms", 1_000),
        ("us", 1),
        ("µs", 1),
    ],
    max: 365 * 86_400_000_000,
};

const BYTES: Scale = Scale {
    kind: "size",
    example: "write e.g. \"512KiB\", \"32MiB\" or \"10MB\"",
    zero: "0B",
    units: &[
        ("TiB", 1 << 40),
        ("TB", 1_000_000_000_000),
        ("GiB", 1 << 30),
        ("GB", 1_000_000_000),
        ("MiB", 1 << 20),
        ("MB", 1_000_000),
        ("KiB", 1 << 10),
        ("kB", 1_000),
        ("KB", 1_000),
        ("B", 1),
    ],
    max: 1 << 50,
};

const BITS: Scale = Scale {
    kind: "bit rate",
    example: "write e.g. \"500k\", \"1M\" or \"2.5Mbps\", in bits per second",
    zero: "0bps",
    units: &[
        ("G", 1_000_000_000),
        ("Gbps", 1_000_000_000),
        ("Gbit/s", 1_000_000_000),
        ("M", 1_000_000),
        ("Mbps", 1_000_000),
        ("Mbit/s", 1_000_000),
        ("k", 1_000),
        ("K", 1_000),
        ("kbps", 1_000),
        ("Kbps", 1_000),
        ("kbit/s", 1_000),
        ("bps", 1),
        ("bit/s", 1),
    ],
    max: 1_000_000_000_000,
};

impl Scale {
    /// Parses `12`, `12.5` or `.5` followed by a unit, exactly: no floating point, no rounding.
    fn parse(&self, text: &str) -> Result<u64, String> {
        let refuse = |why: &str| {
            let (kind, example) = (self.kind, self.example);
            // The value may be arbitrarily long; the message must not be.
            let shown: String = text.chars().take(40).collect();
            Err(format!("`{shown}` is not a {kind}: {why}; {example}"))
        };
        let digits = |text: &str| {
            text.find(|c: char| !c.is_ascii_digit())
                .unwrap_or(text.len())
        };

        let (whole, rest) = text.split_at(digits(text));
        let (fraction, rest) = match rest.strip_prefix('.') {
            Some(rest) => rest.split_at(digits(rest)),
            None => ("", rest),
        };
        if whole.is_empty() && fraction.is_empty() {
            return refuse("it does not start with a number");
        }
        let unit = rest.trim_start();
        if unit.is_empty() {
            return refuse("the unit is missing");
        }
        let Some((_, size)) = self.units.iter().find(|(name, _)| *name == unit) else {
            return refuse(&self.about_unit(unit));
        };
        // 19 digits fit into `u64` and, multiplied by the largest unit, into `u128`.
        if whole.len() + fraction.len() > 19 {
            return refuse("the number has too many digits");
        }
        let Ok(number) = format!("{whole}{fraction}").parse::<u64>() else {
            return refuse("the number is too large");
        };
        let scaled = u128::from(number) * u128::from(*size);
        let divisor = 10_u128.pow(fraction.len() as u32);
        if !scaled.is_multiple_of(divisor) {
            let smallest = self.units.last().map_or("", |(name, _)| name);
            return refuse(&format!("it is more precise than 1 {smallest}"));
        }
        match u64::try_from(scaled / divisor) {
            Ok(value) if value <= self.max => Ok(value),
            _ => refuse("it is too large"),
        }
    }

    fn about_unit(&self, unit: &str) -> String {
        let folded = unit.to_lowercase();
        let known = self
            .units
            .iter()
            .find(|(name, _)| name.to_lowercase() == folded);
        match known {
            Some((name, _)) => format!("the unit is written `{name}`"),
            None => format!("the unit `{}` is not known", unit.escape_debug()),
        }
    }

    /// Writes `value` in the largest unit in which it is a whole number.
    fn write(&self, value: u64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = self
            .units
            .iter()
            .find(|(_, size)| value.is_multiple_of(*size));
        match unit {
            Some((name, size)) if value > 0 => write!(f, "{}{name}", value / size),
            _ => f.write_str(self.zero),
        }
    }
}

macro_rules! unit {
    ($type:ty, $scale:expr, |$value:ident| $from:expr, |$self:ident| $into:expr) => {
        impl FromStr for $type {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                $scale.parse(text).map(|$value| $from)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let $self = self;
                $scale.write($into, f)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let expecting = format!("a {}; {}", $scale.kind, $scale.example);
                text::parse(deserializer, &expecting, str::parse)
            }
        }
    };
}

unit!(
    Span,
    SPAN,
    |value| Self(Duration::from_micros(value)),
    |span| u64::try_from(span.0.as_micros()).unwrap_or(u64::MAX)
);
unit!(ByteSize, BYTES, |value| Self(value), |size| size.0);
unit!(BitRate, BITS, |value| Self(value), |rate| rate.0);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_read_and_written_in_their_shortest_form() {
        for (text, micros, canonical) in [
            ("200ms", 200_000, "200ms"),
            ("2s", 2_000_000, "2s"),
            ("2 s", 2_000_000, "2s"),
            ("1.5s", 1_500_000, "1500ms"),
            (".5s", 500_000, "500ms"),
            ("90s", 90_000_000, "90s"),
            ("60s", 60_000_000, "1m"),
            ("1min", 60_000_000, "1m"),
            ("1h", 3_600_000_000, "1h"),
            ("48h", 172_800_000_000, "2d"),
            ("33.333ms", 33_333, "33333us"),
            ("5µs", 5, "5us"),
            ("0ms", 0, "0s"),
        ] {
            let span: Span = text.parse().unwrap();
            assert_eq!(span.duration(), Duration::from_micros(micros), "{text}");
            assert_eq!(span.to_string(), canonical, "{text}");
        }
    }

    #[test]
    fn sizes_are_read_and_written_in_their_shortest_form() {
        for (text, bytes, canonical) in [
            ("32MiB", 32 << 20, "32MiB"),
            ("10MB", 10_000_000, "10MB"),
            ("512KiB", 512 << 10, "512KiB"),
            ("1024KiB", 1 << 20, "1MiB"),
            ("1.5GiB", 3 << 29, "1536MiB"),
            ("1000KB", 1_000_000, "1MB"),
            ("1kB", 1_000, "1kB"),
            ("7B", 7, "7B"),
            ("0MiB", 0, "0B"),
        ] {
            let size: ByteSize = text.parse().unwrap();
            assert_eq!(size.bytes(), bytes, "{text}");
            assert_eq!(size.to_string(), canonical, "{text}");
        }
    }

    #[test]
    fn bit_rates_are_read_and_written_in_their_shortest_form() {
        for (text, bits, canonical) in [
            ("500k", 500_000, "500k"),
            ("1M", 1_000_000, "1M"),
            ("2Mbps", 2_000_000, "2M"),
            ("2.5M", 2_500_000, "2500k"),
            ("2.5 Mbit/s", 2_500_000, "2500k"),
            ("800Kbps", 800_000, "800k"),
            ("64bps", 64, "64bps"),
            ("0bps", 0, "0bps"),
        ] {
            let rate: BitRate = text.parse().unwrap();
            assert_eq!(rate.bits_per_second(), bits, "{text}");
            assert_eq!(rate.to_string(), canonical, "{text}");
        }
    }

    #[test]
    fn an_invalid_value_is_refused_with_the_reason_and_advice() {
        for (text, why) in [
            ("", "does not start with a number"),
            ("s", "does not start with a number"),
            ("-1s", "does not start with a number"),
            ("2 parsecs", "the unit `parsecs` is not known"),
            ("10", "the unit is missing"),
            ("10MS", "the unit is written `ms`"),
            ("1.2.3s", "the unit `.3s` is not known"),
            ("1e3s", "the unit `e3s` is not known"),
            ("0.5us", "more precise than 1 µs"),
            ("366d", "it is too large"),
            ("18446744073709551615d", "too many digits"),
            ("٣s", "does not start with a number"),
        ] {
            let error = text.parse::<Span>().unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
            assert!(error.contains("write e.g. \"200ms\""), "{text}: {error}");
        }
        for (text, why) in [
            ("2MBps", "the unit is written `Mbps`"),
            ("1m", "the unit is written `M`"),
            ("1MiB", "the unit `MiB` is not known"),
        ] {
            let error = text.parse::<BitRate>().unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
        assert!("10m".parse::<ByteSize>().is_err());
        assert!("2000TiB".parse::<ByteSize>().is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back_as_itself(value in 0..=BITS.max) {
            let span = Span::from_duration(Duration::from_micros(value % SPAN.max));
            prop_assert_eq!(span.to_string().parse(), Ok(span));
            let size = ByteSize::from_bytes(value);
            prop_assert_eq!(size.to_string().parse(), Ok(size));
            let rate = BitRate::from_bits_per_second(value);
            prop_assert_eq!(rate.to_string().parse(), Ok(rate));
        }

        #[test]
        fn round_values_read_back_as_themselves_too(number in 1..1000_u64, unit in 0..BYTES.units.len()) {
            let size = ByteSize::from_bytes(number * BYTES.units[unit].1);
            prop_assert_eq!(size.to_string().parse(), Ok(size));
        }

        #[test]
        fn no_text_panics(text in ".{0,30}", number in "[0-9]{0,25}\\.?[0-9]{0,25} ?[a-zA-Z/µ]{0,6}") {
            for text in [&text, &number] {
                let _ = text.parse::<Span>();
                let _ = text.parse::<ByteSize>();
                let _ = text.parse::<BitRate>();
            }
        }
    }
}
