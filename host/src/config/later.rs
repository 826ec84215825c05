//! The parts of the config that are settled but not built: parsed as agreed, then refused, so that nothing a file
//! asks for is silently left out. A version that brings one deletes its line from [`LATER`].

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::document::{Document, Problem};
use super::{Network, Span};

/// What this version parses and refuses; `*` stands for any name.
const LATER: &[&[&str]] = &[
    &["transports", "*", "wasi"],
    &["transports", "*", "record"],
    &["policy"],
    &["clients"],
    &["capture"],
];

/// Refuses the first part, in the file's order, that this version lacks.
pub(super) fn refuse(document: &Document<'_>) -> Result<(), Problem> {
    match document.first_of(LATER) {
        Some(path) => Err(Problem::key(
            path,
            "is part of the config but not in this version yet; remove it",
        )),
        None => Ok(()),
    }
}

/// `[policy]`: which component picks transports and renditions for sessions.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(
    deny_unknown_fields,
    rename_all = "kebab-case",
    expecting = "a table such as { plugin = \"auto\" }"
)]
pub struct Policy {
    /// `auto` is built in; else a .wasm file, relative to the config file.
    pub plugin: String,
}

/// One of `[[clients]]`: what a kind of client gets without asking the policy.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(
    deny_unknown_fields,
    rename_all = "kebab-case",
    expecting = "a table such as { match = { network = \"192.168.0.0/16\" }, transport = \"mjpeg\" }"
)]
pub struct Client {
    /// Whom it is for; every key given must fit.
    pub r#match: Match,
    /// The transport they get; `None`: the policy decides.
    pub transport: Option<String>,
    /// The rendition they get; `None`: the stream itself.
    pub rendition: Option<String>,
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
    /// `User-Agent` contains this text.
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

/// `[capture]`: single pictures on request.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    rename_all = "kebab-case",
    expecting = "a table"
)]
pub struct Capture {
    /// Where saved pictures go, relative to the config file. Default `captures`.
    pub dir: PathBuf,
    /// JPEG quality, 1 to 100. Default 80.
    pub quality: u8,
    /// How long a request waits for a picture. Default 5 s.
    pub timeout: Span,
    /// Whether decoders may run for captures. Default true.
    pub decoder: bool,
}

impl Default for Capture {
    fn default() -> Self {
        Self {
            dir: "captures".into(),
            quality: 80,
            timeout: Span::from_duration(Duration::from_secs(5)),
            decoder: true,
        }
    }
}
