//! TLS by rustls: the certificate in use, exchanged when there is a better one. A connection keeps what it began with.

mod files;
mod self_signed;

use files::{Files, Stamp};
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
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};
use thiserror::Error;
use tokio_rustls::TlsAcceptor;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Why there is no certificate to use.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}: {reason}", file.display())]
    Read {
        /// As configured.
        file: PathBuf,
        /// Why.
        reason: std::io::Error,
    },
    /// A file has nothing of the kind, or only a part of it.
    #[error("{} {what}", file.display())]
    Content {
        /// As configured.
        file: PathBuf,
        /// What is wrong, and what to do.
        what: String,
    },
    /// Two files that do not belong together.
    #[error(
        "the key in {} does not belong to the certificate in {}: name the key that the certificate was made with",
        key.display(), certificate.display()
    )]
    Mismatch {
        /// As configured.
        certificate: PathBuf,
        /// As configured.
        key: PathBuf,
    },
    /// rustls or rcgen refuses.
    #[error("cannot make a certificate: {0}")]
    Make(String),
}

/// The certificate in use.
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
    /// Of the files when they were last read, be they good or bad.
    seen: Option<Stamp>,
}

/// A certificate, ready to be shown to clients.
#[derive(Clone, Debug)]
struct Identity {
    config: Arc<ServerConfig>,
    /// SHA-256 of the certificate, as browsers show it.
    fingerprint: String,
    /// When to make the next one.
    renew: Option<SystemTime>,
}

impl Tls {
    /// Reads or makes the certificate.
    pub fn open(tls: &config::Tls, server: &Server) -> Result<Tls, TlsError> {
        let (source, seen, identity) = match tls {
            config::Tls::Files { certificate, key } => {
                let files = Files::new(certificate, key);
                // Before they are read, so that a change in between is noticed later.
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

    /// For a handshake now.
    pub fn acceptor(&self) -> TlsAcceptor {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        TlsAcceptor::from(state.identity.config.clone())
    }

    /// SHA-256 of the certificate in use, in hex with colons.
    pub fn fingerprint(&self) -> String {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.identity.fingerprint.clone()
    }

    /// Looks for a better certificate from time to time, for ever.
    pub async fn watch(self: Arc<Tls>) {
        let mut tick = tokio::time::interval(LOOK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let tls = self.clone();
            // The disk may be slow, or far away.
            let _ = tokio::task::spawn_blocking(move || tls.refresh(SystemTime::now())).await;
        }
    }

    /// Takes what is new, if it is good; else what was goes on, and one line says why.
    fn refresh(&self, now: SystemTime) {
        let loaded = match &self.source {
            Source::Files(files) => {
                let found = files.stamp();
                {
                    let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                    if state.seen.as_ref() == Some(&found) {
                        return;
                    }
                    state.seen = Some(found);
                }
                files.load().and_then(|key| Identity::new(key, None))
            }
            Source::SelfSigned(own) => {
                let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                if state.identity.renew.is_none_or(|renew| now < renew) {
                    return;
                }
                drop(state);
                own.load(now)
                    .and_then(|(key, renew)| Identity::new(key, Some(renew)))
            }
        };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match loaded {
            Ok(identity) if identity.fingerprint == state.identity.fingerprint => {}
            Ok(identity) => {
                tracing::info!(
                    "a new certificate is in use, SHA-256 {}",
                    identity.fingerprint
                );
                state.identity = identity;
            }
            Err(error) => tracing::error!("the certificate stays as it is: {error}"),
        }
    }
}

impl Identity {
    fn new(key: CertifiedKey, renew: Option<SystemTime>) -> Result<Identity, TlsError> {
        let certificate = key.cert.first().map(|certificate| certificate.as_ref());
        let digest = Sha256::digest(certificate.unwrap_or_default());
        let hex: Vec<String> = digest.iter().map(|byte| format!("{byte:02X}")).collect();
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError::Make(error.to_string()))?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Identity {
            config: Arc::new(config),
            fingerprint: hex.join(":"),
            renew,
        })
    }
}
