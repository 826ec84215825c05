//! `[policy]` and `[[clients]]`: who gets which transport and rendition.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Deserializer, de::Error as _};

use super::document::{Problem, Step};
use super::{Limits, Network, Span, Transport, transport};

/// `[policy]`: the component that picks transports and renditions for sessions.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// `auto` is built in; else a .wasm file. Relative to the config file as written, already resolved when
    /// [`Config::parse`](super::Config::parse) returns it.
    pub plugin: String,
    /// What it may use, for all sessions together.
    pub limits: Limits,
    /// `start-timeout`: what a session moves to has at least so long for its first picture, and two groups of pictures.
    pub start_timeout: Span,
    /// Every other key, as one JSON object for the component's sessions.
    pub options: serde_json::Value,
}

impl Policy {
    /// Where the config says nothing.
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

    /// Makes the name of a file absolute; what is built in has no dot and no slash.
    pub(super) fn resolve(&mut self, dir: &Path) {
        if self.plugin.contains(['.', '/']) {
            self.plugin = dir.join(&self.plugin).display().to_string();
        }
    }
}

// What a transport has, but that its component has a name if it is built in.
impl<'de> Deserialize<'de> for Policy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Transport {
            plugin,
            limits,
            trusted,
            mut options,
        } = Transport::deserialize(deserializer)?;
        if trusted {
            let what = "`trusted` is for transports: a policy answers no pages";
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

/// One of `[[clients]]`: what a kind of client gets. The first that fits counts.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(
    deny_unknown_fields,
    rename_all = "kebab-case",
    expecting = "a table such as { match = { network = \"192.168.0.0/16\" }, transport = \"mjpeg\" }"
)]
pub struct Client {
    /// Whom it is for; every key given must fit, and nothing given fits everybody.
    pub r#match: Match,
    /// The transports they may get, best first; `None`: all. Among several the policy decides.
    #[serde(default, deserialize_with = "one_or_more")]
    pub transport: Option<Vec<String>>,
    /// The renditions they may get, best first, `""` for the stream itself; `None`: all. Among several the policy decides.
    #[serde(default, deserialize_with = "one_or_more")]
    pub rendition: Option<Vec<String>>,
    /// Options of the policy that differ for them from those in `[policy]`.
    #[serde(default, deserialize_with = "json")]
    pub policy: Option<serde_json::Value>,
    /// Whether nobody may choose anything else.
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
            let what = "means nothing without `transport` or `rendition`; add one of them";
            return Err(Problem::key([path, &["force".into()]].concat(), what));
        }
        Ok(())
    }
}

/// `match = { … }` of a client.
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
    /// `User-Agent` contains this text, in letters of either case.
    pub user_agent: Option<String>,
    /// These headers have these values.
    pub header: BTreeMap<String, String>,
    /// These query parameters have these values.
    pub query: BTreeMap<String, String>,
    /// The stream's name.
    pub stream: Option<String>,
    /// What the client calls itself: `?client=NAME`, kept by the player.
    pub client: Option<String>,
}

/// `"mjpeg"` or `["mjpeg", "hls"]`.
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
