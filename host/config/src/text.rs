//! Deserializes values that a config file writes as strings.

use std::fmt;

use serde::Deserializer;
use serde::de::{Error, Visitor};

/// Reads a string and parses it with `parse`. Any other type is an error that names `expecting`, what to write instead.
pub(super) fn parse<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    expecting: &str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<T, D::Error> {
    deserializer.deserialize_str(Parsed { expecting, parse })
}

struct Parsed<'a, F> {
    expecting: &'a str,
    parse: F,
}

impl<T, F: Fn(&str) -> Result<T, String>> Visitor<'_> for Parsed<'_, F> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expecting)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        (self.parse)(text).map_err(E::custom)
    }
}
