//! TLS clients that accept any server, so that tests inspect the certificate they get, and certificates in files.

use crate::{scratch, within};
use anyhow::Result;
use sha2::{Digest, Sha256};
use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::{net::TcpStream, process::Command};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig,
        pki_types::{CertificateDer, ServerName, pem::PemObject},
    },
};

/// Connects and performs the handshake, offering this ALPN protocol.
pub async fn connect(address: SocketAddr, protocol: &str) -> Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(address).await?;
    Ok(within(
        "the TLS handshake",
        connector(protocol).connect(name(), tcp),
    )
    .await?)
}

/// Certificate presented by the server.
pub fn certificate(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    let (_, session) = stream.get_ref();
    session.peer_certificates().unwrap()[0].clone().into_owned()
}

/// Client configuration that accepts any certificate.
pub fn connector(protocol: &str) -> TlsConnector {
    let config = sluicegate_source::unverified_tls().unwrap();
    let mut config = ClientConfig::clone(&config);
    config.alpn_protocols = vec![protocol.into()];
    TlsConnector::from(Arc::new(config))
}

/// Server name that the client requests.
pub fn name() -> ServerName<'static> {
    "localhost".try_into().unwrap()
}

/// Runs a program; returns whether it succeeded, and what it printed.
pub async fn run(program: &str, arguments: &[&str]) -> (bool, String) {
    let command = Command::new(program)
        .args(arguments)
        .kill_on_drop(true)
        .output();
    let output = within(program, command).await.unwrap();
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

/// A directory with a certificate and its key, and the setting `tls = { … }` for it.
pub struct Pair {
    dir: PathBuf,
}

impl Pair {
    /// A new one.
    pub async fn new() -> Pair {
        let pair = Pair {
            dir: scratch("pair"),
        };
        pair.renew().await;
        pair
    }

    /// Creates a new pair, writing the key first.
    pub async fn renew(&self) {
        let (key, certificate) = Pair::make(&scratch("new")).await;
        fs::rename(key, self.key()).unwrap();
        fs::rename(certificate, self.certificate()).unwrap();
    }

    pub async fn make(dir: &Path) -> (PathBuf, PathBuf) {
        let (key, certificate) = (dir.join("key.pem"), dir.join("cert.pem"));
        let made = run(
            "openssl",
            &[
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-days",
                "9",
                "-subj",
                "/CN=localhost",
                "-addext",
                "subjectAltName=DNS:localhost",
                "-keyout",
                key.to_str().unwrap(),
                "-out",
                certificate.to_str().unwrap(),
            ],
        )
        .await;
        assert!(made.0, "{}", made.1);
        (key, certificate)
    }

    pub fn key(&self) -> PathBuf {
        self.dir.join("key.pem")
    }

    pub fn certificate(&self) -> PathBuf {
        self.dir.join("cert.pem")
    }

    /// SHA-256 of the certificate.
    pub fn hash(&self) -> [u8; 32] {
        let pem = fs::read(self.certificate()).unwrap();
        let certificate = CertificateDer::from_pem_slice(&pem).unwrap();
        Sha256::digest(certificate).into()
    }

    pub fn config(&self) -> String {
        format!(
            "[server]\ntls = {{ certificate = {:?}, key = {:?} }}\n",
            self.certificate(),
            self.key()
        )
    }
}
