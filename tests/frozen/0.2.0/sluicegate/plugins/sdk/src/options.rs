//! Parsing of a component's section of the config: JSON to a struct, or an error for the author of the config.
//!
//! The text of serde's errors is rewritten so that it names the option at fault and says what to write instead.

use std::fmt;

use serde::de::{DeserializeOwned, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

/// Parses `json`, an object (an empty text counts as an empty one), into the component's own struct. The struct should
/// have the attributes `#[serde(deny_unknown_fields)]` and `#[serde(default)]`.
///
/// # Errors
/// Names the option at fault and the reason, in a sentence for the author of the config.
pub fn options<T: DeserializeOwned>(json: &str) -> Result<T, String> {
    let json = if json.trim().is_empty() { "{}" } else { json };
    let value: Value = serde_json::from_str(json)
        .map_err(|error| format!("the options are not valid JSON: {error}"))?;
    let Value::Object(map) = value else {
        return Err(format!("the options must be a JSON object, not {value}"));
    };
    T::deserialize(Value::Object(map.clone()))
        .map_err(|error| explain::<T>(&map, &error.to_string()))
}

/// Options of a component that has none; any key is an error.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoOptions {}

/// A duration. In the config it is a string: a number and one of `ms`, `s`, `m`, `h`, without a space. Decimals are
/// allowed if the result is a whole number of milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Millis(
    /// Length in milliseconds.
    pub u32,
);

impl Millis {
    /// Parses a duration such as `200ms` or `1.5s`.
    ///
    /// # Errors
    /// States what is wrong with `text` and what to write instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        const HINT: &str = "write for example \"200ms\" or \"2s\"";
        let no_duration = || format!("`{text}` is not a valid duration; {HINT}");
        let digits = text
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let (whole, decimals) = number.split_once('.').unwrap_or((number, "0"));
        if whole.is_empty() || decimals.is_empty() || decimals.contains('.') {
            return Err(no_duration());
        }
        let unit: u64 = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "" => return Err(format!("`{text}` has no unit; {HINT}")),
            _ => return Err(no_duration()),
        };
        let too_long = || format!("`{text}` is too long; the longest duration is 49 days");
        let whole: u64 = whole.parse().map_err(|_| too_long())?;
        let decimals = decimals.trim_end_matches('0');
        let scale = u32::try_from(decimals.len())
            .ok()
            .and_then(|n| 10_u64.checked_pow(n));
        let part = decimals
            .parse::<u64>()
            .unwrap_or(0)
            .checked_mul(unit)
            .zip(scale);
        let part = match part {
            Some((part, scale)) if part % scale == 0 => part / scale,
            _ => return Err(format!("`{text}` is not a whole number of milliseconds")),
        };
        let total = whole
            .checked_mul(unit)
            .and_then(|whole| whole.checked_add(part));
        total
            .and_then(|total| u32::try_from(total).ok())
            .map(Millis)
            .ok_or_else(too_long)
    }
}

impl<'de> Deserialize<'de> for Millis {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = Millis;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a duration such as \"200ms\" or \"2s\"")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Millis, E> {
                Millis::parse(text).map_err(E::custom)
            }

            // A number without a unit is the most common mistake, so it gets its own message.
            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Millis, E> {
                Millis::parse(&number.to_string()).map_err(E::custom)
            }
        }

        deserializer.deserialize_any(Text)
    }
}

/// Rewrites a serde error for the author of the config: its "field" is an option, and a wrong value is attributed to
/// its option.
fn explain<T: DeserializeOwned>(map: &Map<String, Value>, error: &str) -> String {
    if let Some(rest) = error.strip_prefix("unknown field ") {
        let (name, known) = rest.split_once(", ").unwrap_or((rest, ""));
        return match known.strip_prefix("expected ") {
            Some(known) => {
                let known = known
                    .strip_prefix("one of ")
                    .unwrap_or(known)
                    .replace(" or ", ", ");
                format!("unknown option {name}; known: {known}")
            }
            None => format!("unknown option {name}: this component has no options"),
        };
    }
    if let Some(rest) = error.strip_prefix("missing field ") {
        return format!("option {rest} is missing");
    }
    // serde does not tell which field has the wrong value. It is the one that causes the same error on its own.
    let culprit = map.iter().find(|(name, value)| {
        let alone = Map::from_iter([((*name).clone(), (*value).clone())]);
        T::deserialize(Value::Object(alone)).is_err_and(|alone| alone.to_string() == error)
    });
    match culprit {
        Some((name, _)) => format!("option `{name}`: {error}"),
        None => error.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
    struct Example {
        stale: Millis,
        max_parts: u32,
    }

    impl Default for Example {
        fn default() -> Self {
            Example {
                stale: Millis(1000),
                max_parts: 7,
            }
        }
    }

    #[test]
    fn absent_options_have_their_defaults() {
        for json in ["", " ", "{}"] {
            assert_eq!(options(json), Ok(Example::default()));
        }
        let set = Example {
            stale: Millis(250),
            max_parts: 7,
        };
        assert_eq!(options(r#"{"stale": "250ms"}"#), Ok(set));
    }

    #[test]
    fn mistakes_are_named() {
        for (json, message) in [
            (
                r#"{"stael": "2s"}"#,
                "unknown option `stael`; known: `stale`, `max-parts`",
            ),
            (
                r#"{"stale": "2 parsecs"}"#,
                "option `stale`: `2 parsecs` is not a valid duration; write for example \"200ms\" or \"2s\"",
            ),
            (
                r#"{"max-parts": 1, "stale": 200}"#,
                "option `stale`: `200` has no unit; write for example \"200ms\" or \"2s\"",
            ),
            (
                r#"{"stale": "1s", "max-parts": "many"}"#,
                "option `max-parts`: invalid type: string \"many\", expected u32",
            ),
            (
                r#"{"stale": true}"#,
                "option `stale`: invalid type: boolean `true`, expected a duration such as \"200ms\" or \"2s\"",
            ),
            ("[]", "the options must be a JSON object, not []"),
        ] {
            assert_eq!(options::<Example>(json).unwrap_err(), message);
        }
        assert!(
            options::<Example>("{")
                .unwrap_err()
                .starts_with("the options are not valid JSON: EOF")
        );
        assert_eq!(
            options::<NoOptions>(r#"{"a": 1}"#).unwrap_err(),
            "unknown option `a`: this component has no options"
        );
    }

    #[test]
    fn missing_option_is_named() {
        #[derive(Debug, Deserialize)]
        struct Strict {
            #[allow(dead_code)]
            must: u32,
        }
        assert_eq!(
            options::<Strict>("{}").unwrap_err(),
            "option `must` is missing"
        );
    }

    #[test]
    fn durations() {
        for (text, millis) in [
            ("0s", 0),
            ("200ms", 200),
            ("1.5s", 1500),
            ("0.25s", 250),
            ("1.50m", 90_000),
            ("2h", 7_200_000),
        ] {
            assert_eq!(Millis::parse(text), Ok(Millis(millis)), "{text}");
        }
        for (text, error) in [
            ("", "`` is not a valid duration"),
            ("s", "`s` is not a valid duration"),
            ("-1s", "`-1s` is not a valid duration"),
            ("1 s", "`1 s` is not a valid duration"),
            (".5s", "`.5s` is not a valid duration"),
            ("1.s", "`1.s` is not a valid duration"),
            ("1.2.3s", "`1.2.3s` is not a valid duration"),
            ("2parsecs", "`2parsecs` is not a valid duration"),
            ("49d", "`49d` is not a valid duration"),
            ("20", "`20` has no unit"),
            ("1.5ms", "`1.5ms` is not a whole number of milliseconds"),
            (
                "0.00000000000000000000001h",
                "`0.00000000000000000000001h` is not a whole number",
            ),
            ("4294967296ms", "`4294967296ms` is too long"),
            (
                "99999999999999999999999s",
                "`99999999999999999999999s` is too long",
            ),
        ] {
            let message = Millis::parse(text).unwrap_err();
            assert!(message.starts_with(error), "{message}");
        }
    }

    proptest! {
        #[test]
        fn durations_keep_their_value(millis: u32) {
            prop_assert_eq!(Millis::parse(&format!("{millis}ms")), Ok(Millis(millis)));
            let seconds = format!("{}.{:03}s", millis / 1000, millis % 1000);
            prop_assert_eq!(Millis::parse(&seconds), Ok(Millis(millis)));
        }

        #[test]
        fn any_text_is_taken_or_refused(text in "\\PC*") {
            let _ = Millis::parse(&text);
            let _ = options::<Example>(&text);
        }
    }
}
