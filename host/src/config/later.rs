//! The parts of the config that are settled but not built: parsed as agreed, then refused, so that nothing a file
//! asks for is silently left out. A version that brings one deletes its line from [`LATER`].

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::document::{Document, Problem};
use super::{Network, Span};

/// What this version parses and refuses; `*` stands for any name.
const LATER: &[&[&str]] = &[
    &["server", "tls"],
    &["server", "trusted-proxies"],
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

/// `tls` of the server: where the certificate comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tls {
    /// `"self-signed"`: the gateway makes one.
    SelfSigned,
    /// `{ certificate = "…", key = "…" }`: PEM files, relative to the config file, read again when they change.
    Files {
        /// The certificate chain.
        certificate: PathBuf,
        /// Its private key.
        key: PathBuf,
    },
}

impl<'de> Deserialize<'de> for Tls {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Files {
            certificate: PathBuf,
            key: PathBuf,
        }

        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Tls;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"self-signed\" or { certificate = \"…\", key = \"…\" }")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Tls, E> {
                match text {
                    "self-signed" => Ok(Tls::SelfSigned),
                    _ => Err(E::custom(format!(
                        "`{text}` is no kind of TLS; write \"self-signed\" or {{ certificate = \"…\", key = \"…\" }}"
                    ))),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Tls, A::Error> {
                let Files { certificate, key } =
                    Files::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Tls::Files { certificate, key })
            }
        }

        deserializer.deserialize_any(Either)
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
