//! TLS clients that accept any server: tests inspect the certificate they get.

use crate::within;
use anyhow::Result;
use std::{net::SocketAddr, sync::Arc};
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig,
        pki_types::{CertificateDer, ServerName},
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
