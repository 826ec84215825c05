//! `[policy]` and `[[clients]]`: which transports and renditions a client may get, and the component that chooses among
//! them.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Deserializer, de::Error as _};

use super::document::{Problem, Step};
use super::{Limits, Network, Span, Transport, transport};

/// `[policy]`: the component that chooses transport and rendition for sessions.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// `plugin`: `"auto"`, the built-in policy, or a .wasm file. Relative paths are resolved against the config file's
    /// directory when [`Config::parse`](super::Config::parse) returns. Default `"auto"`.
    pub plugin: String,
    /// Resource limits of the component, shared by all sessions. Default: as [`Limits::default`].
    pub limits: Limits,
    /// `start-timeout`, duration, 1 s to 60 s: time that a session's new transport has for its first frame, or two
    /// groups if that is longer. Default 5 s.
    pub start_timeout: Span,
    /// All other keys, as one JSON object that the component gets with each session. Default: empty.
    pub options: serde_json::Value,
}

impl Policy {
    /// Default of `start-timeout`: 5 s.
    pub const START_TIMEOUT: Span = Span::from_duration(Duration::from_secs(5));

    pub(super) fn check(&self, path: &[Step]) -> Result<(), Problem> {
        if self.plugin.is_empty() {
            let what = "is empty; write \"auto\", which is built in, or name a .wasm file";
            return Err(Problem::value([path, &["plugin".into()]].concat(), what));
        }
        let timeout = self.start_timeout.duration();
        if !(Duration::from_secs(1)..=Duration::from_secs(60)).contains(&timeout) {
            let what = "is out of range; write 1s to 60s, such as \"5s\"";
            return Err(Problem::value(
                [path, &["start-timeout".into()]].concat(),
                what,
            ));
        }
        self.limits.check(path)
    }

    /// Resolves the path of a file; the name of a built-in policy has neither dot nor slash.
    pub(super) fn resolve(&mut self, dir: &Path) {
        if self.plugin.contains(['.', '/']) {
            self.plugin = dir.join(&self.plugin).display().to_string();
        }
    }
}

// The keys are those of a transport, except that the built-in component is named by `plugin`.
impl<'de> Deserialize<'de> for Policy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Transport {
            plugin,
            limits,
            trusted,
            watch,
            mut options,
        } = Transport::deserialize(deserializer)?;
        if trusted {
            let what = "`trusted` is for transports: a policy serves no pages; remove it";
            return Err(D::Error::custom(what));
        }
        if watch {
            let what =
                "`watch` is for transports; reload a policy by `sluicegate plugin reload policy`";
            return Err(D::Error::custom(what));
        }
        let timeout = options
            .as_object_mut()
            .and_then(|options| options.remove("start-timeout"));
        let start_timeout = match timeout {
            None => Policy::START_TIMEOUT,
            Some(timeout) => serde_json::from_value(timeout)
                .map_err(|reason| D::Error::custom(format!("`start-timeout`: {reason}")))?,
        };
        let plugin = plugin.map_or_else(
            || "auto".to_owned(),
            |plugin| plugin.to_string_lossy().into_owned(),
        );
        Ok(Policy {
            plugin,
            limits,
            start_timeout,
            options,
        })
    }
}

/// One of `[[clients]]`: what a kind of client may get. The first entry that matches applies.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(
    deny_unknown_fields,
    rename_all = "kebab-case",
    expecting = "a table such as { match = { network = \"192.168.0.0/16\" }, transport = \"mjpeg\" }"
)]
pub struct Client {
    /// Which clients the entry is for. Every given key must match; an empty table matches all clients.
    pub r#match: Match,
    /// List of transports that the client may get, best first; the policy chooses among several. Default: all.
    #[serde(default, deserialize_with = "one_or_more")]
    pub transport: Option<Vec<String>>,
    /// List of renditions that the client may get, best first, `""` for the stream itself; the policy chooses among
    /// several. Default: all.
    #[serde(default, deserialize_with = "one_or_more")]
    pub rendition: Option<Vec<String>>,
    /// Table of policy options that replace those in `[policy]` for these clients. Default: none.
    #[serde(default, deserialize_with = "json")]
    pub policy: Option<serde_json::Value>,
    /// Boolean: whether the viewer cannot choose any other transport or rendition; needs one of these two keys. Default
    /// `false`.
    #[serde(default)]
    pub force: bool,
}

impl Client {
    pub(super) fn check(&self, path: &[Step]) -> Result<(), Problem> {
        for (key, names) in [
            ("transport", &self.transport),
            ("rendition", &self.rendition),
        ] {
            if names.as_ref().is_some_and(Vec::is_empty) {
                let what = "is empty; name at least one, or remove the key";
                return Err(Problem::value([path, &[key.into()]].concat(), what));
            }
        }
        let pins = self.transport.is_some() || self.rendition.is_some();
        if self.force && !pins {
            let what = "has no effect without `transport` or `rendition`; add one of them";
            return Err(Problem::key([path, &["force".into()]].concat(), what));
        }
        Ok(())
    }
}

/// `match = { … }` of a client. All keys are optional; a missing key matches everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    rename_all = "kebab-case",
    expecting = "a table such as { network = \"192.168.0.0/16\" }"
)]
pub struct Match {
    /// The client's address is in this network.
    pub network: Option<Network>,
    /// `User-Agent` contains this text, ignoring case.
    pub user_agent: Option<String>,
    /// Each of these headers has this value.
    pub header: BTreeMap<String, String>,
    /// Each of these query parameters has this value.
    pub query: BTreeMap<String, String>,
    /// Name of the stream.
    pub stream: Option<String>,
    /// Name that the client gives itself with `?client=NAME`; the player keeps it.
    pub client: Option<String>,
}

/// Reads `"mjpeg"` or `["mjpeg", "hls"]`.
fn one_or_more<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Vec<String>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a name or a list of names")]
    enum Names {
        One(String),
        More(Vec<String>),
    }
    Names::deserialize(deserializer).map(|names| {
        Some(match names {
            Names::One(name) => vec![name],
            Names::More(names) => names,
        })
    })
}

fn json<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<serde_json::Value>, D::Error> {
    let table = toml::Table::deserialize(deserializer)?;
    transport::to_json(toml::Value::Table(table))
        .map(Some)
        .map_err(serde::de::Error::custom)
}
