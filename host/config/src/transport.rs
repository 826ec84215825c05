//! `[transports.NAME]`: which component, within which limits, with which options.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::de::{Error, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::document::{Problem, Step};
use super::{ByteSize, Span};

/// `[transports.NAME]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Transport {
    /// The component's file; `None`: the built-in transport of this name. Relative to the config file as written,
    /// already resolved when [`Config::parse`](super::Config::parse) returns it.
    pub plugin: Option<PathBuf>,
    /// What one muxer may use.
    pub limits: Limits,
    /// Whether pages that the component answers may run script as the gateway's own. Default false.
    pub trusted: bool,
    /// Every other key, as one JSON object for the component's `open`. TOML's dates and times are strings in it.
    pub options: serde_json::Value,
}

impl Transport {
    pub(super) fn check(&self, path: &[Step]) -> Result<(), Problem> {
        if self
            .plugin
            .as_ref()
            .is_some_and(|path| path.as_os_str().is_empty())
        {
            let what =
                "is empty; name a .wasm file, or remove the key to use the built-in transport";
            return Err(Problem::value([path, &["plugin".into()]].concat(), what));
        }
        self.limits.check(path)
    }
}

/// A transport that only names itself: the built-in one with its defaults.
impl Default for Transport {
    fn default() -> Self {
        Self {
            plugin: None,
            limits: Limits::default(),
            trusted: false,
            options: serde_json::Value::Object(serde_json::Map::new()),
        }
    }
}

/// `limits = { … }` of a transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    rename_all = "kebab-case",
    expecting = "a table such as { memory = \"32MiB\", call = \"20ms\" }"
)]
pub struct Limits {
    /// Linear memories and tables of one muxer together, 1 MiB to 4 GiB. Default 32 MiB.
    pub memory: ByteSize,
    /// Time that one call may really run, 1 ms to 10 s. Default 20 ms.
    pub call: Span,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: ByteSize::from_bytes(32 << 20),
            call: Span::from_duration(Duration::from_millis(20)),
        }
    }
}

impl Limits {
    pub(super) fn check(&self, path: &[Step]) -> Result<(), Problem> {
        let fail = |key: &str, what: String| {
            let keys = [Step::from("limits"), Step::from(key)];
            Err(Problem::value([path, &keys].concat(), what))
        };
        let memory = self.memory;
        if !(1 << 20..=4 << 30).contains(&memory.bytes()) {
            let what = format!("{memory} is out of range; write \"1MiB\" to \"4GiB\"");
            return fail("memory", what);
        }
        let call = self.call;
        if !(Duration::from_millis(1)..=Duration::from_secs(10)).contains(&call.duration()) {
            let what = format!("{call} is out of range; write \"1ms\" to \"10s\"");
            return fail("call", what);
        }
        Ok(())
    }
}

/// Whether `name` can name a transport: a segment of URL paths behind the stream's name, so 1 to 64 small letters,
/// digits, `-` and `_`, a letter first. Without a `.` it is never taken for a file such as `frame.jpg`.
pub(super) fn check_name(name: &str) -> Result<(), String> {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    let first = name.chars().next().is_some_and(|c| c.is_ascii_lowercase());
    match first && name.len() <= 64 && name.chars().all(good) {
        true => Ok(()),
        false => Err(
            "is no transport name; use 1 to 64 small letters, digits, `-` and `_`, a letter first"
                .into(),
        ),
    }
}

// By hand, not by `flatten`: that would lose the place of every error inside the options.
impl<'de> Deserialize<'de> for Transport {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Keys)
    }
}

struct Keys;

impl<'de> Visitor<'de> for Keys {
    type Value = Transport;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table such as { plugin = \"plugins/flv.wasm\" }")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Transport, A::Error> {
        let mut transport = Transport::default();
        let mut options = serde_json::Map::new();
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "plugin" => transport.plugin = Some(map.next_value()?),
                "limits" => transport.limits = map.next_value()?,
                "trusted" => transport.trusted = map.next_value()?,
                // Kept from the component whatever they hold; `later` refuses them.
                "wasi" | "record" => drop(map.next_value::<IgnoredAny>()?),
                _ => {
                    let Json(value) = map.next_value()?;
                    options.insert(key, value);
                }
            }
        }
        transport.options = serde_json::Value::Object(options);
        Ok(transport)
    }
}

struct Json(serde_json::Value);

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = toml::Value::deserialize(deserializer)?;
        to_json(value).map(Self).map_err(D::Error::custom)
    }
}

pub(super) fn to_json(value: toml::Value) -> Result<serde_json::Value, String> {
    Ok(match value {
        toml::Value::String(text) => text.into(),
        toml::Value::Integer(number) => number.into(),
        toml::Value::Float(number) => serde_json::Number::from_f64(number)
            .ok_or_else(|| {
                format!("{number} cannot be told to a component: JSON has no such number")
            })?
            .into(),
        toml::Value::Boolean(value) => value.into(),
        toml::Value::Datetime(time) => time.to_string().into(),
        toml::Value::Array(values) => values.into_iter().map(to_json).collect::<Result<_, _>>()?,
        toml::Value::Table(table) => table
            .into_iter()
            .map(|(key, value)| Ok((key, to_json(value)?)))
            .collect::<Result<serde_json::Map<_, _>, String>>()?
            .into(),
    })
}
