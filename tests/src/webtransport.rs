//! WebTransport clients: [`Session`] on the crate `wtransport`, which verifies the certificate as browsers do, by its
//! hash; [`RawHttp3`] on QUIC alone, for requests that no browser sends and for the status of the answer.

use crate::{Gateway, PATIENCE, choose, within};
use anyhow::{Context, Result, bail};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use quinn::crypto::rustls::QuicClientConfig;
use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};
use tokio_rustls::rustls;
use wtransport::{
    ClientConfig, Connection, Endpoint, RecvStream,
    endpoint::{ConnectOptions, endpoint_side::Client},
    error::ConnectionError,
    proto::{
        frame::Frame, headers::Headers, session::SessionResponse, settings::Settings,
        stream_header::StreamHeader,
    },
    tls::Sha256Digest,
};

/// What the gateway tells a page of its WebTransport.
pub struct Access {
    pub port: u16,
    pub hashes: Vec<[u8; 32]>,
}

impl Access {
    /// As `GET /live/{stream}` tells it.
    pub async fn of(gateway: &Gateway, stream: &str) -> Access {
        let (status, chosen) = choose(gateway, stream, "", &[]).await;
        assert_eq!(status, 200, "{chosen}");
        Access::in_choice(gateway, &chosen)
    }

    /// As this answer of `GET /live/{stream}` tells it.
    pub fn in_choice(gateway: &Gateway, chosen: &serde_json::Value) -> Access {
        let told = &chosen["webtransport"];
        let hashes = told["hashes"].as_array().unwrap().iter();
        let hash = |text: &serde_json::Value| {
            let bytes = STANDARD.decode(text.as_str().unwrap()).unwrap();
            <[u8; 32]>::try_from(bytes).unwrap()
        };
        let port = told.get("port").map(|port| port.as_u64().unwrap());
        Access {
            port: port.map_or(gateway.address.port(), |port| port.try_into().unwrap()),
            hashes: hashes.map(hash).collect(),
        }
    }

    /// A client that accepts only these certificates.
    pub fn client(&self) -> Endpoint<Client> {
        client(&self.hashes)
    }

    /// Address of the UDP port.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }
}

/// A client that accepts only certificates with these hashes.
pub fn client(hashes: &[[u8; 32]]) -> Endpoint<Client> {
    Endpoint::client(config(hashes)).unwrap()
}

/// The same, over IPv4 and IPv6.
pub fn dual_client(hashes: &[[u8; 32]]) -> Endpoint<Client> {
    let hashes = hashes.iter().map(|hash| Sha256Digest::new(*hash));
    let config = ClientConfig::builder()
        .with_bind_default()
        .with_server_certificate_hashes(hashes)
        .build();
    Endpoint::client(config).unwrap()
}

/// A client that has room for so many streams of the gateway, and for so many bytes that nobody reads, of a stream and
/// of all together.
pub fn narrow_client(hashes: &[[u8; 32]], streams: u32, stream: u32, all: u32) -> Endpoint<Client> {
    client_with(hashes, |transport| {
        transport
            .max_concurrent_uni_streams(streams.into())
            .stream_receive_window(stream.into())
            .receive_window(all.into());
    })
}

/// A client with these further settings of QUIC.
pub fn client_with(
    hashes: &[[u8; 32]],
    set: impl FnOnce(&mut quinn::TransportConfig),
) -> Endpoint<Client> {
    let mut config = config(hashes);
    let mut transport = quinn::TransportConfig::default();
    set(&mut transport);
    config
        .quic_config_mut()
        .transport_config(Arc::new(transport));
    Endpoint::client(config).unwrap()
}

fn config(hashes: &[[u8; 32]]) -> ClientConfig {
    let hashes = hashes.iter().map(|hash| Sha256Digest::new(*hash));
    ClientConfig::builder()
        .with_bind_address((Ipv4Addr::LOCALHOST, 0).into())
        .with_server_certificate_hashes(hashes)
        .build()
}

/// A session that was accepted.
pub struct Session {
    pub connection: Connection,
    /// Keeps the socket.
    _client: Option<Endpoint<Client>>,
}

impl Session {
    /// Opens `/live/{path}` with a client of its own.
    pub async fn open(gateway: &Gateway, path: &str) -> Result<Session> {
        let stream = path.split('/').next().unwrap();
        let access = Access::of(gateway, stream).await;
        Session::via(&access, access.address(), path).await
    }

    /// Opens `/live/{path}` at this address, from which a link leads to the gateway, with a client of its own.
    pub async fn via(access: &Access, address: SocketAddr, path: &str) -> Result<Session> {
        let client = access.client();
        let mut session = Session::with(&client, address, path, &[]).await?;
        session._client = Some(client);
        Ok(session)
    }

    /// Opens `/live/{path}` with these headers.
    pub async fn with(
        client: &Endpoint<Client>,
        address: SocketAddr,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Session> {
        let mut options = ConnectOptions::builder(format!("https://{address}/live/{path}"));
        for (name, value) in headers {
            options = options.add_header(name, value);
        }
        let connecting = within("a session", client.connect(options.build())).await;
        Ok(Session {
            connection: connecting?,
            _client: None,
        })
    }

    /// The next stream that the gateway opens.
    pub async fn stream(&self) -> Result<RecvStream> {
        Ok(within("a stream", self.connection.accept_uni()).await?)
    }

    /// All of the next stream that is not reset; its group has to end for that.
    pub async fn whole_stream(&self) -> Result<Vec<u8>> {
        loop {
            let mut stream = self.stream().await?;
            if let Ok(all) = read_to_end(&mut stream).await {
                return Ok(all);
            }
        }
    }

    /// Waits until the session ends; returns the code and reason of the gateway's close.
    pub async fn closed(&self) -> (u64, String) {
        match within("the end of the session", self.connection.closed()).await {
            ConnectionError::ApplicationClosed(close) => (
                close.code().into_inner(),
                String::from_utf8_lossy(close.reason()).into_owned(),
            ),
            other => panic!("{other}"),
        }
    }
}

/// Reads a stream to its end.
pub async fn read_to_end(stream: &mut RecvStream) -> Result<Vec<u8>> {
    let (mut all, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
    while let Some(read) = within("the rest of a stream", stream.read(&mut buffer)).await? {
        all.extend_from_slice(&buffer[..read]);
    }
    Ok(all)
}

/// Reads as much of a stream.
pub async fn read_exact(stream: &mut RecvStream, length: usize) -> Result<Vec<u8>> {
    let mut buffer = vec![0; length];
    within("a part of a stream", stream.read_exact(&mut buffer)).await?;
    Ok(buffer)
}

/// A QUIC connection with the ALPN of HTTP/3, on which nothing was sent yet.
pub struct RawHttp3 {
    pub connection: quinn::Connection,
    pub endpoint: quinn::Endpoint,
    /// Streams that have to stay open.
    kept: Vec<quinn::SendStream>,
}

impl RawHttp3 {
    /// Connects; accepts any certificate.
    pub async fn connect(address: SocketAddr) -> Result<RawHttp3> {
        let endpoint = RawHttp3::endpoint();
        let connecting = endpoint.connect(address, "localhost")?;
        let connection = within("the handshake", connecting).await?;
        Ok(RawHttp3 {
            connection,
            endpoint,
            kept: Vec::new(),
        })
    }

    /// A client's endpoint, which accepts any certificate.
    pub fn endpoint() -> quinn::Endpoint {
        let tls = sluicegate_source::unverified_tls().unwrap();
        let mut tls = rustls::ClientConfig::clone(&tls);
        tls.alpn_protocols = vec![b"h3".to_vec()];
        let crypto = QuicClientConfig::try_from(tls).unwrap();
        let mut endpoint = quinn::Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(crypto)));
        endpoint
    }

    /// Opens a unidirectional stream with these bytes, and keeps it open.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        let mut stream = self.connection.open_uni().await?;
        stream.write_all(bytes).await?;
        self.kept.push(stream);
        Ok(())
    }

    /// Sends the settings of a client that supports WebTransport.
    pub async fn settle(&mut self) -> Result<()> {
        let settings = Settings::builder()
            .enable_connect_protocol()
            .enable_webtransport()
            .enable_h3_datagrams()
            .build();
        let mut bytes = Vec::new();
        StreamHeader::new_control().write(&mut bytes).unwrap();
        settings.generate_frame().write(&mut bytes).unwrap();
        self.send(&bytes).await
    }

    /// Requests a session with these header fields; returns the status of the answer.
    pub async fn request(&mut self, fields: &[(&str, &str)]) -> Result<u16> {
        let headers: Headers = fields.iter().copied().collect();
        let mut bytes = Vec::new();
        headers.generate_frame().write(&mut bytes).unwrap();
        let (mut sender, mut receiver) = self.connection.open_bi().await?;
        sender.write_all(&bytes).await?;
        self.kept.push(sender);
        let mut answer = Vec::new();
        while let Some(chunk) = within("an answer", receiver.read_chunk(4096, true)).await? {
            answer.extend_from_slice(&chunk.bytes);
            if let Ok(Some(frame)) = Frame::read(&mut answer.as_slice()) {
                let Ok(headers) = Headers::with_frame(&frame) else {
                    bail!("not an answer: {frame:?}");
                };
                return Ok(SessionResponse::try_from(headers)?.code().into_inner());
            }
        }
        bail!("the answer ended")
    }

    /// Status of the answer to a request for a session at `/live/{path}` with these headers.
    pub async fn status(
        address: SocketAddr,
        authority: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<u16> {
        let mut client = RawHttp3::connect(address).await?;
        client.settle().await?;
        let path = format!("/live/{path}");
        let mut fields = vec![
            (":method", "CONNECT"),
            (":scheme", "https"),
            (":protocol", "webtransport"),
            (":authority", authority),
            (":path", &path),
        ];
        fields.extend(headers);
        client.request(&fields).await
    }

    /// Waits until the gateway closes the connection.
    pub async fn closed(&self) -> quinn::ConnectionError {
        let closed = tokio::time::timeout(PATIENCE, self.connection.closed());
        closed.await.expect("the connection stays open")
    }
}

/// Answers of a client's bidirectional stream with this content.
pub async fn ask(session: &Session, content: &[u8]) -> Result<Vec<u8>> {
    let opening = session.connection.open_bi().await?;
    let (mut sender, mut receiver) = within("a stream", opening).await?;
    sender.write_all(content).await?;
    sender.finish().await.context("the end of a stream")?;
    read_to_end(&mut receiver).await
}

/// Sends the content on a unidirectional stream.
pub async fn tell(session: &Session, content: &[u8]) -> Result<()> {
    let opening = session.connection.open_uni().await?;
    let mut sender = within("a stream", opening).await?;
    sender.write_all(content).await?;
    Ok(sender.finish().await?)
}

/// Parts of a stream's content.
pub fn after<'a>(content: &'a [u8], prefix: &[u8]) -> &'a [u8] {
    content.strip_prefix(prefix).unwrap_or_else(|| {
        panic!(
            "{:?}",
            Bytes::copy_from_slice(&content[..content.len().min(40)])
        )
    })
}
