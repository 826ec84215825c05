//! The certificate of the UDP port.
//!
//! With certificate files it is that of the TCP port. Otherwise the port has certificates of its own, which pages of
//! the gateway accept by their hashes (`serverCertificateHashes`, W3C WebTransport section 5.9): ECDSA P-256, valid for
//! less than 14 days. There are always two, the one in use and the next, so that a page that has the hashes of both can
//! connect after the change, too. They are not saved: a page learns the hashes together with its session.

use crate::tls::{Tls, TlsError, self_sign};
use parking_lot::Mutex;
use rustls::{
    crypto::ring,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use sha2::{Digest, Sha256};
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

const DAY: Duration = Duration::from_secs(86_400);
/// How long a certificate is used.
const USED: Duration = DAY.saturating_mul(11);
/// How long it is valid from when it comes into use. It is backdated by another day, which makes 13 days.
const VALID: Duration = DAY.saturating_mul(12);
/// Pause after one could not be made.
const PAUSE: Duration = Duration::from_secs(60);

/// The certificates of the UDP port.
#[derive(Debug)]
pub struct Certificates(Source);

#[derive(Debug)]
enum Source {
    Files(Arc<Tls>),
    Own(Mutex<Pair>),
}

/// The certificate in use, and the one that follows it.
#[derive(Debug)]
struct Pair {
    current: Own,
    next: Own,
    /// When others could not be made.
    failed: Option<SystemTime>,
}

/// A self-signed certificate.
#[derive(Clone, Debug)]
struct Own {
    key: Arc<CertifiedKey>,
    hash: [u8; 32],
    /// When it comes into use.
    from: SystemTime,
    /// When the next one comes into use.
    until: SystemTime,
}

impl Certificates {
    /// Those for a gateway whose TCP port has the certificate `tls`, if any.
    ///
    /// # Errors
    /// No certificate can be made.
    pub fn new(tls: Option<&Arc<Tls>>) -> Result<Certificates, TlsError> {
        Ok(Certificates(match tls.filter(|tls| tls.is_from_files()) {
            Some(tls) => Source::Files(tls.clone()),
            None => Source::Own(Mutex::new(Pair::from(SystemTime::now())?)),
        }))
    }

    /// SHA-256 of the certificate in use and of the next one; empty if clients have to verify it in the usual way.
    pub fn hashes(&self) -> Vec<[u8; 32]> {
        self.hashes_at(SystemTime::now())
    }

    fn hashes_at(&self, now: SystemTime) -> Vec<[u8; 32]> {
        match &self.0 {
            Source::Files(_) => Vec::new(),
            Source::Own(pair) => {
                let mut pair = pair.lock();
                pair.advance(now);
                vec![pair.current.hash, pair.next.hash]
            }
        }
    }

    fn key_at(&self, now: SystemTime) -> Arc<CertifiedKey> {
        match &self.0 {
            Source::Files(tls) => tls.key(),
            Source::Own(pair) => {
                let mut pair = pair.lock();
                pair.advance(now);
                pair.current.key.clone()
            }
        }
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.key_at(SystemTime::now()))
    }
}

impl Pair {
    fn from(start: SystemTime) -> Result<Pair, TlsError> {
        let current = Own::from(start)?;
        let next = Own::from(current.until)?;
        Ok(Pair {
            current,
            next,
            failed: None,
        })
    }

    /// Puts the next certificate into use if its time has come, and makes another one.
    fn advance(&mut self, now: SystemTime) {
        let is_valid = now + DAY >= self.current.from;
        let failed = self
            .failed
            .and_then(|failed| now.duration_since(failed).ok());
        if is_valid && now < self.current.until || failed.is_some_and(|passed| passed < PAUSE) {
            return;
        }
        // After a longer pause the next one is out of date, too. A clock that was ahead and was set may be before the
        // time of both.
        let advanced = match is_valid && now < self.next.until {
            true => Own::from(self.next.until).map(|next| Pair {
                current: self.next.clone(),
                next,
                failed: None,
            }),
            false => Pair::from(now),
        };
        match advanced {
            Ok(advanced) => {
                *self = advanced;
                tracing::info!("the next certificate for WebTransport is in use");
            }
            Err(error) => {
                self.failed = Some(now);
                tracing::error!(
                    "the certificate for WebTransport is out of date, and no other can be made: {error}; retrying"
                );
            }
        }
    }
}

impl Own {
    /// A certificate that comes into use at `start`.
    fn from(start: SystemTime) -> Result<Own, TlsError> {
        // Names are not verified by clients that know the hash.
        let names = ["localhost".to_owned()];
        let (certificate, key) = self_sign(&names, start, start + VALID)?;
        let der = certificate.der().clone();
        let hash = Sha256::digest(&der).into();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let key = CertifiedKey::from_der(vec![der], key, &ring::default_provider())
            .map_err(|error| TlsError::Make(error.to_string()))?;
        Ok(Own {
            key: Arc::new(key),
            hash,
            from: start,
            until: start + USED,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::quic::Quic;
    use sluicegate_config::Congestion;
    use std::net::{Ipv4Addr, SocketAddr};
    use wtransport::{ClientConfig, Endpoint, endpoint::IncomingSessionFuture, tls::Sha256Digest};

    #[test]
    fn the_next_certificate_is_told_before_it_is_used() {
        let certificates = Certificates::new(None).unwrap();
        let start = SystemTime::now();
        let used = |days: u32| {
            let key = certificates.key_at(start + DAY * days);
            <[u8; 32]>::from(Sha256::digest(key.end_entity_cert().unwrap()))
        };
        let told = |days: u32| certificates.hashes_at(start + DAY * days);
        let first = told(0);
        assert_eq!((first.len(), used(0), used(10)), (2, first[0], first[0]));
        assert_eq!(told(10), first);
        let second = told(12);
        assert_eq!((second[0], used(12)), (first[1], first[1]));
        assert!(!first.contains(&second[1]));
        // A machine that slept.
        let late = told(100);
        assert!(late.iter().all(|hash| !second.contains(hash)));
        assert_eq!(used(100), late[0]);
        // A clock that is set back: they are valid from a day before they come into use.
        assert_eq!(told(99), late);
        let early = told(98);
        assert!(early.iter().all(|hash| !late.contains(hash)));
        assert_eq!((told(98), used(98)), (early.clone(), early[0]));
    }

    #[tokio::test]
    async fn the_next_certificate_comes_into_use_under_a_running_session() {
        // Half a day before the change, so that both are valid.
        let pair = Pair::from(SystemTime::now() - DAY * 21 / 2).unwrap();
        let certificates = Arc::new(Certificates(Source::Own(Mutex::new(pair))));
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let quic = Quic::open(address.into(), certificates.clone(), Congestion::default()).unwrap();
        let url = format!("https://{}/", quic.address());
        let accepted = async || {
            let incoming = quic.endpoint.accept().await.unwrap();
            let request = IncomingSessionFuture::with_quic_incoming(incoming).await?;
            request.accept().await
        };
        let open = async |hash: [u8; 32]| {
            let config = ClientConfig::builder()
                .with_bind_address(address)
                .with_server_certificate_hashes([Sha256Digest::new(hash)])
                .build();
            let client = Endpoint::client(config).unwrap();
            let (ours, theirs) = tokio::join!(client.connect(&url), accepted());
            Some((ours.ok()?, theirs.ok()?, client))
        };
        let told = certificates.hashes();
        assert!(open(told[1]).await.is_none(), "the next one is in use");
        let (client, server, _endpoint) = open(told[0]).await.unwrap();
        certificates.hashes_at(SystemTime::now() + DAY);
        assert!(open(told[0]).await.is_none(), "the former one is in use");
        assert!(open(told[1]).await.is_some());
        let mut stream = server.open_uni().await.unwrap().await.unwrap();
        stream.write_all(b"on").await.unwrap();
        stream.finish().await.unwrap();
        let mut content = [0; 2];
        let mut stream = client.accept_uni().await.unwrap();
        stream.read_exact(&mut content).await.unwrap();
        assert_eq!(&content, b"on");
    }
}
