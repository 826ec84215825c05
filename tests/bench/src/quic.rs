//! The baseline of WebTransport: quinn and nothing else. It gets the records of `webcodecs` ready-made from the camera
//! and writes each to each connection in turn, on a new stream where a group begins. It has no ring, no limits, and
//! gives up nothing. Sessions are accepted by the crate that the gateway uses; after that it has no part.

use crate::{record::is_catalogue, server::Runs};
use anyhow::{Context, Result};
use bytes::Bytes;
use quinn::{
    Endpoint, EndpointConfig, ServerConfig, TokioRuntime, TransportConfig,
    crypto::rustls::QuicServerConfig,
};
use rustls::{crypto::ring, pki_types::PrivateKeyDer};
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    net::{Ipv4Addr, SocketAddr, TcpStream},
    sync::Arc,
    thread,
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use wtransport::{Connection, endpoint::IncomingSessionFuture, proto::stream_header::StreamHeader};

/// Buffers of the socket in bytes, as the gateway has them.
const SOCKET_BUFFER: usize = 2 << 20;

/// Serves until the source ends: prints its address on standard output and takes runs from `source`.
pub fn serve(source: SocketAddr) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let endpoint = endpoint()?;
        println!("listening on http://{}", endpoint.local_addr()?);
        let runs = Runs(TcpStream::connect(source)?);
        let (arrive, arrived) = unbounded_channel();
        let (hand, handed) = unbounded_channel();
        tokio::spawn(accept(endpoint, arrive));
        thread::Builder::new()
            .name("runs".into())
            .spawn(move || runs.for_each(|run| drop(hand.send(run))))?;
        write(handed, arrived).await
    })
}

fn endpoint() -> Result<Endpoint> {
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let key = PrivateKeyDer::Pkcs8(certified.signing_key.serialize_der().into());
    let mut tls = rustls::ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key)?;
    tls.alpn_protocols = vec![b"h3".to_vec()];
    let mut transport = TransportConfig::default();
    transport.send_fairness(false);
    let mut config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
    config.transport_config(Arc::new(transport));
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_send_buffer_size(SOCKET_BUFFER)?;
    socket.set_recv_buffer_size(SOCKET_BUFFER)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    let config = (EndpointConfig::default(), Some(config));
    Ok(Endpoint::new(
        config.0,
        config.1,
        socket.into(),
        Arc::new(TokioRuntime),
    )?)
}

async fn accept(endpoint: Endpoint, arrive: UnboundedSender<Connection>) {
    while let Some(incoming) = endpoint.accept().await {
        let arrive = arrive.clone();
        tokio::spawn(async move {
            let request = IncomingSessionFuture::with_quic_incoming(incoming).await?;
            drop(arrive.send(request.accept().await?));
            anyhow::Ok(())
        });
    }
}

/// A viewer with the stream of its group, once one has begun.
struct Viewer {
    session: Connection,
    prefix: Bytes,
    stream: Option<quinn::SendStream>,
}

async fn write(
    mut runs: UnboundedReceiver<Bytes>,
    mut arrived: UnboundedReceiver<Connection>,
) -> Result<()> {
    let mut viewers: Vec<Viewer> = Vec::new();
    while let Some(run) = runs.recv().await {
        while let Ok(session) = arrived.try_recv() {
            let mut prefix = Vec::new();
            StreamHeader::new_webtransport(session.session_id())
                .write(&mut prefix)
                .context("a header")?;
            viewers.push(Viewer {
                session,
                prefix: prefix.into(),
                stream: None,
            });
        }
        let mut stay = Vec::with_capacity(viewers.len());
        for mut viewer in viewers {
            if viewer.send(&run).await.is_ok() {
                stay.push(viewer);
            }
        }
        viewers = stay;
    }
    Ok(())
}

impl Viewer {
    async fn send(&mut self, run: &Bytes) -> Result<()> {
        if is_catalogue(run) {
            if let Some(stream) = &mut self.stream {
                stream.finish()?;
            }
            let stream = self.session.quic_connection().open_uni().await?;
            let stream = self.stream.insert(stream);
            let mut first = [self.prefix.clone(), run.clone()];
            return Ok(stream.write_all_chunks(&mut first).await?);
        }
        match &mut self.stream {
            Some(stream) => Ok(stream.write_chunk(run.clone()).await?),
            None => Ok(()),
        }
    }
}
