//! `tls` under `[server]`: the source of the certificate.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// `tls` of the server: where the certificate comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tls {
    /// `"self-signed"`: the gateway generates a certificate and keeps it.
    SelfSigned,
    /// `{ certificate = "…", key = "…" }`: PEM files, relative to the config file, read again when they change.
    Files {
        /// Path of the certificate, followed in the file by the chain to its root.
        certificate: PathBuf,
        /// Path of the certificate's private key.
        key: PathBuf,
    },
}

impl Tls {
    /// Resolves relative paths against `dir`.
    pub(super) fn resolve(&mut self, dir: &Path) {
        if let Tls::Files { certificate, key } = self {
            *certificate = dir.join(&certificate);
            *key = dir.join(&key);
        }
    }
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
                        "`{text}` is not a TLS setting; write \"self-signed\" or {{ certificate = \"…\", key = \"…\" }}"
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
