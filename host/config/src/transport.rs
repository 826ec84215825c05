//! `[transports.NAME]`: the component of a transport, its resource limits and its options.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::de::{DeserializeOwned, Error, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::document::{Problem, Step};
use super::error::{nearest, reword};
use super::{ByteSize, Span};

/// `[transports.NAME]`: a transport's component, limits and options.
#[derive(Debug, Clone, PartialEq)]
pub struct Transport {
    /// Path of the component's .wasm file. Relative paths are resolved against the config file's directory when
    /// [`Config::parse`](super::Config::parse) returns. Default: the built-in transport of this name.
    pub plugin: Option<PathBuf>,
    /// Resource limits of one muxer. Default: as [`Limits::default`].
    pub limits: Limits,
    /// Boolean: whether pages that the component serves may run scripts with the gateway's own origin. Default `false`.
    pub trusted: bool,
    /// Boolean: whether the component is reloaded when its file changes. Needs `plugin`. Default `false`.
    pub watch: bool,
    /// All other keys, as one JSON object for the component's `open`. TOML dates and times become strings. Default:
    /// empty.
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
        if self.watch && self.plugin.is_none() {
            let what =
                "has no effect without `plugin`: the built-in component has no file; add `plugin`";
            return Err(Problem::key([path, &["watch".into()]].concat(), what));
        }
        self.limits.check(path)
    }

    /// Reads a transport that is added while the gateway runs, from the keys of a `[transports.NAME]` as JSON.
    ///
    /// # Errors
    /// The message for the user: what is wrong with the name or a key.
    pub fn from_json(name: &str, keys: serde_json::Value) -> Result<Self, String> {
        check_name(name).map_err(|what| format!("`{name}` {what}"))?;
        if let Some(key) = UNSUPPORTED.iter().find(|key| keys.get(key).is_some()) {
            return Err(format!("`{key}` is not supported; remove it"));
        }
        if let Some(path) = path_of_null(&keys) {
            let what = "is null, which no key can be; leave it out";
            return Err(Problem::value(path, what).to_string());
        }
        // One by one first: the error does not say which key it is about.
        if let Some(limits) = keys.get("limits") {
            check_each::<Limits>(limits, &["limits".into()])?;
        }
        check_each::<Self>(&keys, &[])?;
        let transport: Self = serde_json::from_value(keys).map_err(|error| error.to_string())?;
        let checked = transport.check(&[]);
        checked.map_err(|problem| problem.to_string())?;
        Ok(transport)
    }

    /// Advice about the first option that is probably one of the gateway's own keys, misspelled: it looks like the key,
    /// and has a value that the key may have. It may as well be an option of the component.
    pub fn misspelled(&self) -> Option<String> {
        let options = self.options.as_object()?.iter();
        let mut meant = options.filter_map(|(key, value)| {
            let meant = nearest(key, &KEYS)?;
            let corrected = serde_json::json!({ meant: value });
            let is_possible = serde_json::from_value::<Self>(corrected).is_ok();
            is_possible.then_some((key, meant))
        });
        let (key, meant) = meant.next()?;
        Some(format!(
            "instead of `{key}`, did you mean the gateway's key `{meant}`?"
        ))
    }
}

/// The built-in transport with its defaults.
impl Default for Transport {
    fn default() -> Self {
        Self {
            plugin: None,
            limits: Limits::default(),
            trusted: false,
            watch: false,
            options: serde_json::Value::Object(serde_json::Map::new()),
        }
    }
}

/// `limits = { … }` of a transport or policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    rename_all = "kebab-case",
    expecting = "a table such as { memory = \"32MiB\", call = \"20ms\" }"
)]
pub struct Limits {
    /// Size of all linear memories and tables of one muxer together, 1 MiB to 4 GiB. Default 32 MiB.
    pub memory: ByteSize,
    /// Running time of one call to the component, 1 ms to 10 s; time while it is not scheduled does not count. Default
    /// 20 ms.
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
        for (key, checked) in [
            ("memory", Limits::check_memory(self.memory)),
            ("call", Limits::check_call(self.call)),
        ] {
            let keys = [Step::from("limits"), Step::from(key)];
            checked.map_err(|what| Problem::value([path, &keys].concat(), what))?;
        }
        Ok(())
    }

    /// Checks that it can be the limit `memory`.
    ///
    /// # Errors
    /// The message for the user: what it can be.
    pub fn check_memory(memory: ByteSize) -> Result<(), String> {
        match (1 << 20..=4 << 30).contains(&memory.bytes()) {
            true => Ok(()),
            false => Err(format!(
                "{memory} is out of range; write \"1MiB\" to \"4GiB\""
            )),
        }
    }

    /// Checks that it can be the limit `call`.
    ///
    /// # Errors
    /// The message for the user: what it can be.
    pub fn check_call(call: Span) -> Result<(), String> {
        let possible = Duration::from_millis(1)..=Duration::from_secs(10);
        match possible.contains(&call.duration()) {
            true => Ok(()),
            false => Err(format!("{call} is out of range; write \"1ms\" to \"10s\"")),
        }
    }
}

/// Reads each key of a table, which is at `path`, as a table of its own.
///
/// # Errors
/// The message for the user, about the first key that cannot be read.
fn check_each<T: DeserializeOwned>(table: &serde_json::Value, path: &[Step]) -> Result<(), String> {
    for (key, value) in table.as_object().into_iter().flatten() {
        let alone = serde_json::json!({ key: value });
        serde_json::from_value::<T>(alone)
            .map_err(|error| reword(&error.to_string(), &[path, &[key.into()]].concat()))?;
    }
    Ok(())
}

/// Where the first null in `value` is, which TOML does not have.
pub(super) fn path_of_null(value: &serde_json::Value) -> Option<Vec<Step>> {
    let within = |step: Step, value| {
        let mut path = path_of_null(value)?;
        path.insert(0, step);
        Some(path)
    };
    match value {
        serde_json::Value::Null => Some(Vec::new()),
        serde_json::Value::Array(items) => {
            let mut items = items.iter().enumerate();
            items.find_map(|(index, item)| within(Step::Index(index), item))
        }
        serde_json::Value::Object(table) => {
            let mut keys = table.iter();
            keys.find_map(|(key, value)| within(key.into(), value))
        }
        _ => None,
    }
}

/// Checks that `name` can name a transport. It is a segment of URL paths after the stream's name: 1 to 64 characters of
/// lower-case letters, digits, `-` and `_`, starting with a letter. Without a `.` it cannot be confused with a file
/// such as `frame.jpg`.
pub(super) fn check_name(name: &str) -> Result<(), String> {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    let first = name.chars().next().is_some_and(|c| c.is_ascii_lowercase());
    let meant = match name {
        "policy" => Some("the policy where components are named"),
        "auto" => Some("the automatic choice of a transport, and the built-in policy"),
        _ => None,
    };
    if let Some(meant) = meant {
        return Err(format!("means {meant}; choose another name"));
    }
    match first && name.len() <= 64 && name.chars().all(good) {
        true => Ok(()),
        false => Err(
            "is not a valid transport name; use 1 to 64 lower-case letters, digits, `-` and `_`, a letter first"
                .into(),
        ),
    }
}

// Written by hand instead of with `flatten`, which would lose the position of every error inside the options.
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
                "watch" => transport.watch = map.next_value()?,
                // Not passed to the component; `unsupported` refuses these keys.
                key if UNSUPPORTED.contains(&key) => drop(map.next_value::<IgnoredAny>()?),
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

/// Keys that are not options of the component.
const KEYS: [&str; 4] = ["plugin", "limits", "trusted", "watch"];
/// Keys that have no meaning yet, and must not be taken for options.
const UNSUPPORTED: [&str; 2] = ["wasi", "record"];

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
                format!("{number} cannot be passed to a component: JSON has no such number; write a finite one")
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_option_is_a_misspelled_key_if_it_could_be_the_key() {
        let advice = |options: &str| {
            let transport: Transport = toml::from_str(options).unwrap();
            transport.misspelled()
        };
        for (option, meant) in [
            ("plugn = \"flv.wasm\"", "plugin"),
            ("Plugin = \"flv.wasm\"", "plugin"),
            ("limit = { memory = \"64MiB\" }", "limits"),
            ("wacth = true", "watch"),
            ("stale = \"1s\"\ntrustd = true", "trusted"),
        ] {
            let told = advice(option);
            let named = format!("the gateway's key `{meant}`?");
            assert!(told.is_some_and(|told| told.contains(&named)), "{option}");
        }
        // Options that components have.
        for option in [
            "limit = 5",
            "limit = { width = 640 }",
            "match = \"door\"",
            "batch = 8",
            "stale = \"1s\"",
        ] {
            assert_eq!(advice(option), None, "{option}");
        }
    }
}
