//! TLS by rustls: the certificate in use, replaced when a newer one is available.
//!
//! The certificate comes from PEM files, which are checked once a second (`files`), or is self-signed and renewed
//! before it expires (`self_signed`). A connection keeps the certificate that it began with. If a new one is invalid,
//! the previous one stays in use. Called by `http` for each handshake.

mod files;
mod self_signed;

pub(crate) use self_signed::self_sign;

use files::{Files, Stamp};
use parking_lot::Mutex;
use rustls::{
    ServerConfig,
    crypto::ring,
    sign::{CertifiedKey, SingleCertAndKey},
};
use self_signed::SelfSigned;
use sha2::{Digest, Sha256};
use sluicegate_config::{self as config, Server};
use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};
use thiserror::Error;
use tokio_rustls::TlsAcceptor;

/// Interval at which the files are checked for changes.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Reason why a certificate cannot be used.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}: {reason}", file.display())]
    Read {
        /// Path from the config.
        file: PathBuf,
        /// Error of the operating system.
        reason: std::io::Error,
    },
    /// A file lacks the certificate or key, or is incomplete.
    #[error("{} {what}", file.display())]
    Content {
        /// Path from the config.
        file: PathBuf,
        /// What is wrong with it, and what to do.
        what: String,
    },
    /// The key does not belong to the certificate.
    #[error(
        "the key in {} does not belong to the certificate in {}: name the key that the certificate was made with",
        key.display(), certificate.display()
    )]
    Mismatch {
        /// Path of the certificate from the config.
        certificate: PathBuf,
        /// Path of the key from the config.
        key: PathBuf,
    },
    /// rustls or rcgen reported an error.
    #[error("cannot create a certificate: {0}")]
    Make(String),
}

/// The certificate in use and its source.
#[derive(Debug)]
pub struct Tls {
    source: Source,
    state: Mutex<State>,
}

#[derive(Debug)]
enum Source {
    Files(Files),
    SelfSigned(SelfSigned),
}

#[derive(Debug)]
struct State {
    identity: Identity,
    /// Stamp of the files when they were last read, whether valid or not.
    seen: Option<Stamp>,
}

/// A certificate with its key, as a server configuration.
#[derive(Clone, Debug)]
struct Identity {
    key: Arc<CertifiedKey>,
    config: Arc<ServerConfig>,
    /// SHA-256 of the certificate, in the format that browsers show.
    fingerprint: String,
    /// When to renew it; `None` for files.
    renew: Option<SystemTime>,
}

impl Tls {
    /// Reads the certificate from its files, or loads or creates a self-signed one.
    ///
    /// # Errors
    ///
    /// The files cannot be used, or no certificate can be created.
    pub fn open(tls: &config::Tls, server: &Server) -> Result<Tls, TlsError> {
        let (source, seen, identity) = match tls {
            config::Tls::Files { certificate, key } => {
                let files = Files::new(certificate, key);
                // Taken before the files are read, so that a change in between is noticed later.
                let seen = files.stamp();
                let identity = Identity::new(files.load()?, None)?;
                (Source::Files(files), Some(seen), identity)
            }
            config::Tls::SelfSigned => {
                let own = SelfSigned::new(server);
                let (key, renew) = own.load(SystemTime::now())?;
                (
                    Source::SelfSigned(own),
                    None,
                    Identity::new(key, Some(renew))?,
                )
            }
        };
        let state = Mutex::new(State { identity, seen });
        Ok(Tls { source, state })
    }

    /// Acceptor for a handshake with the certificate in use.
    pub fn acceptor(&self) -> TlsAcceptor {
        let state = self.state.lock();
        TlsAcceptor::from(state.identity.config.clone())
    }

    /// Whether the certificate is from files, rather than self-signed.
    pub(crate) fn is_from_files(&self) -> bool {
        matches!(self.source, Source::Files(_))
    }

    /// The certificate in use.
    pub(crate) fn key(&self) -> Arc<CertifiedKey> {
        self.state.lock().identity.key.clone()
    }

    /// SHA-256 of the certificate in use, in hexadecimal with colons.
    pub fn fingerprint(&self) -> String {
        let state = self.state.lock();
        state.identity.fingerprint.clone()
    }

    /// Checks for a new certificate every second, forever.
    pub async fn watch(self: Arc<Tls>) {
        let mut tick = tokio::time::interval(CHECK_INTERVAL);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let tls = self.clone();
            // On a blocking thread, since the disk may be slow or a network share.
            let _ = tokio::task::spawn_blocking(move || tls.refresh(SystemTime::now())).await;
        }
    }

    /// Replaces the certificate if there is a valid new one; otherwise keeps it and logs why once per change.
    fn refresh(&self, now: SystemTime) {
        let loaded = match &self.source {
            Source::Files(files) => {
                let found = files.stamp();
                {
                    let mut state = self.state.lock();
                    if state.seen.as_ref() == Some(&found) {
                        return;
                    }
                    state.seen = Some(found);
                }
                files.load().and_then(|key| Identity::new(key, None))
            }
            Source::SelfSigned(own) => {
                let state = self.state.lock();
                if state.identity.renew.is_none_or(|renew| now < renew) {
                    return;
                }
                drop(state);
                own.load(now)
                    .and_then(|(key, renew)| Identity::new(key, Some(renew)))
            }
        };
        let mut state = self.state.lock();
        match loaded {
            Ok(identity) if identity.fingerprint == state.identity.fingerprint => {}
            Ok(identity) => {
                tracing::info!(
                    "a new certificate is in use, SHA-256 {}",
                    identity.fingerprint
                );
                state.identity = identity;
            }
            Err(error) => tracing::error!("the previous certificate stays in use: {error}"),
        }
    }
}

impl Identity {
    fn new(key: CertifiedKey, renew: Option<SystemTime>) -> Result<Identity, TlsError> {
        let key = Arc::new(key);
        let certificate = key.cert.first().map(|certificate| certificate.as_ref());
        let digest = Sha256::digest(certificate.unwrap_or_default());
        let hex: Vec<String> = digest.iter().map(|byte| format!("{byte:02X}")).collect();
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError::Make(error.to_string()))?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(key.clone())));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Identity {
            key,
            config: Arc::new(config),
            fingerprint: hex.join(":"),
            renew,
        })
    }
}
