//! QUIC: the UDP port, its certificates, and its limits.
//!
//! [`Quic`] owns the socket; [`serve`] accepts connections within the same [`ConnectionLimiter`] as TCP, and calls the
//! gateway for each WebTransport session that a client requests. Three things keep clients from costing more than they
//! do over TCP: handshakes are limited in number and time, and from some number on, or from the second of an address
//! on, a client has to show that its address is its own (Retry, RFC 9000 section 8.1.2); windows for what clients send
//! are small; and what waits to be sent is limited by the viewer's session (`crate::webtransport`).

mod certificates;
mod congestion;
mod losses;
mod path;
mod rate;

pub use certificates::Certificates;
pub use path::Path;

use crate::{
    Drain,
    auth::Peer,
    http::{CONNECTION_TIMEOUT, FIRST_REQUEST_GRACE},
    limiter::{AddressLimiter, AddressPermit, ConnectionLimiter, Permit},
    webtransport::SessionRequest,
};
use quinn::{
    Endpoint, EndpointConfig, Incoming, ServerConfig, TokioRuntime, TransportConfig,
    crypto::rustls::QuicServerConfig,
};
use rustls::crypto::ring;
use sluicegate_config::Congestion;
use sluicegate_telemetry::LogRateLimit;
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    io,
    net::{SocketAddr, UdpSocket},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};
use wtransport::endpoint::IncomingSessionFuture;

/// Connections that have not requested a session yet.
const MAX_HANDSHAKES: usize = 512;
/// Those of one address.
const MAX_ADDRESS_HANDSHAKES: u32 = 32;
/// Handshakes in progress, from which on clients have to prove their address by a Retry. One of the same address is
/// enough for that, so that nobody can use up the connections of another one's address.
const RETRY_FROM: usize = 64;
/// Connections that wait to be accepted, and what they may send until then, in bytes: each, and all together.
const MAX_INCOMING: usize = 256;
const INCOMING_BUFFER: u64 = 16 << 10;
const INCOMING_BUFFERS: u64 = 2 << 20;
/// Streams that a client may have open, of each kind. HTTP/3 itself needs four.
const MAX_CLIENT_STREAMS: u32 = 16;
/// Flow-control windows for what clients send, in bytes: of a stream, and of the connection. That of the connection is
/// enough for all streams, so that none waits for data that another one has and that is not read.
const STREAM_WINDOW: u32 = 8 << 10;
const CONNECTION_WINDOW: u32 = 256 << 10;
/// Datagrams that wait to be read, in bytes. Beyond, the oldest ones are dropped.
const DATAGRAM_BUFFER: usize = 64 << 10;
/// Datagrams that wait to be sent, in bytes. Sessions send none beyond that.
pub(crate) const DATAGRAM_SEND_BUFFER: usize = 16 << 10;
/// Bytes that QUIC holds until they are acknowledged, before the session finds that the path needs more.
pub(crate) const SEND_WINDOW: u64 = 64 << 10;
/// A client that is silent for this long is given up. It is asked for a sign of life before.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Buffers of the socket in bytes, as far as the system permits: all connections share it.
const SOCKET_BUFFER: usize = 2 << 20;
/// How long the closes of connections may take at the end.
const LAST_PACKETS: Duration = Duration::from_secs(1);
/// Pause before the port is opened again after it failed.
const PAUSE: Duration = Duration::from_millis(100);

/// ALPN of HTTP/3 (RFC 9114 section 3.1).
const HTTP3: &[u8] = b"h3";

/// The UDP port.
#[derive(Debug)]
pub struct Quic {
    endpoint: Endpoint,
    port: Port,
    config: ServerConfig,
}

/// How the port is opened.
#[derive(Debug)]
pub struct Port {
    /// Address and port.
    pub address: SocketAddr,
    /// Whether it leaves IPv4 to another one; otherwise the unspecified address `[::]` stands for both.
    pub only_v6: bool,
    /// The socket, if it was passed to this process.
    pub passed: Option<UdpSocket>,
}

impl Quic {
    /// Opens the port.
    ///
    /// # Errors
    ///
    /// The address is in use, does not belong to this machine, or is not permitted.
    pub fn open(
        port: Port,
        certificates: Arc<Certificates>,
        congestion: Congestion,
    ) -> io::Result<Quic> {
        let config = server_config(certificates, congestion)?;
        let endpoint = port.open(config.clone())?;
        Ok(Quic {
            port: Port {
                address: endpoint.local_addr()?,
                ..port
            },
            endpoint,
            config,
        })
    }

    /// Its address and port.
    pub fn address(&self) -> SocketAddr {
        self.port.address
    }
}

impl From<SocketAddr> for Port {
    fn from(address: SocketAddr) -> Port {
        Port {
            address,
            only_v6: false,
            passed: None,
        }
    }
}

impl Port {
    fn open(&self, config: ServerConfig) -> io::Result<Endpoint> {
        let socket = match &self.passed {
            Some(passed) => Socket::from(passed.try_clone()?),
            None => self.bind()?,
        };
        let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
        let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
        socket.set_nonblocking(true)?;
        Endpoint::new(
            EndpointConfig::default(),
            Some(config),
            socket.into(),
            Arc::new(TokioRuntime),
        )
    }

    fn bind(&self) -> io::Result<Socket> {
        let socket = Socket::new(
            Domain::for_address(self.address),
            Type::DGRAM,
            Some(Protocol::UDP),
        )?;
        if self.address.is_ipv6() && self.only_v6 {
            socket.set_only_v6(true)?;
        }
        socket.bind(&self.address.into())?;
        Ok(socket)
    }
}

/// Opens the port again after it failed; `None` if the gateway shuts down before that succeeds.
async fn open_again(port: &Port, config: &ServerConfig, drain: &mut Drain) -> Option<Endpoint> {
    let mut failures = LogRateLimit::default();
    loop {
        tokio::select! {
            biased;
            () = drain.wait() => return None,
            () = sleep(PAUSE) => {}
        }
        match port.open(config.clone()) {
            Ok(endpoint) => return Some(endpoint),
            Err(error) => {
                if let Some(hidden) = failures.tell(Instant::now()) {
                    tracing::error!(
                        "cannot open UDP port {} of {} again for WebTransport: {error}; retrying ({hidden} more failures since the last log line)",
                        port.address.port(),
                        port.address.ip()
                    );
                }
            }
        }
    }
}

fn server_config(
    certificates: Arc<Certificates>,
    congestion: Congestion,
) -> io::Result<ServerConfig> {
    let mut tls = rustls::ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    tls.alpn_protocols = vec![HTTP3.to_vec()];
    // Each connection verifies the certificate anew.
    tls.send_tls13_tickets = 0;
    let crypto = QuicServerConfig::try_from(tls).map_err(io::Error::other)?;
    let mut config = ServerConfig::with_crypto(Arc::new(crypto));
    config
        .transport_config(Arc::new(transport_config(congestion)?))
        .max_incoming(MAX_INCOMING)
        .incoming_buffer_size(INCOMING_BUFFER)
        .incoming_buffer_size_total(INCOMING_BUFFERS);
    Ok(config)
}

fn transport_config(congestion: Congestion) -> io::Result<TransportConfig> {
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(MAX_CLIENT_STREAMS.into())
        .max_concurrent_uni_streams(MAX_CLIENT_STREAMS.into())
        .stream_receive_window(STREAM_WINDOW.into())
        .receive_window(CONNECTION_WINDOW.into())
        .send_window(SEND_WINDOW)
        // A stream is sent to its end before another one of the same priority.
        .send_fairness(false)
        .datagram_receive_buffer_size(Some(DATAGRAM_BUFFER))
        .datagram_send_buffer_size(DATAGRAM_SEND_BUFFER)
        .max_idle_timeout(Some(IDLE_TIMEOUT.try_into().map_err(io::Error::other)?))
        .keep_alive_interval(Some(KEEP_ALIVE));
    config.congestion_controller_factory(Arc::new(congestion::Factory::new(congestion)));
    Ok(config)
}

/// Serves until the gateway shuts down; `answer` handles each request for a session. `page` is the TCP port of the
/// gateway's pages, and whether it has TLS. Returns when every connection has ended, also those of the same limiter
/// over TCP.
pub async fn serve<A, F>(
    quic: Quic,
    limiter: Arc<ConnectionLimiter>,
    page: Page,
    mut drain: Drain,
    answer: A,
) where
    A: Fn(Peer, SessionRequest) -> F + Clone + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let Quic {
        mut endpoint,
        port,
        config,
    } = quic;
    let own = port.address;
    let mut door = Door {
        limiter: limiter.clone(),
        handshakes: Arc::new(Semaphore::new(MAX_HANDSHAKES)),
        by_address: limiter.for_each_address(MAX_ADDRESS_HANDSHAKES),
        refusals: LogRateLimit::default(),
    };
    loop {
        let incoming = tokio::select! {
            biased;
            () = drain.wait() => break,
            incoming = endpoint.accept() => incoming,
        };
        let Some(incoming) = incoming else {
            // Its connections are lost. Their tasks end, and close the old socket with that.
            tracing::error!(
                "UDP port {} of {} failed; WebTransport opens it again",
                own.port(),
                own.ip()
            );
            drop(endpoint);
            let Some(opened) = open_again(&port, &config, &mut drain).await else {
                limiter.empty().await;
                return;
            };
            endpoint = opened;
            continue;
        };
        let address = incoming.remote_address();
        let Some((incoming, admission)) = door.admit(incoming) else {
            continue;
        };
        let (answer, drain) = (answer.clone(), drain.clone());
        let peer = Peer {
            address,
            tls: page.tls,
        };
        tokio::spawn(async move {
            if let Some((session, permit)) = handshake(incoming, admission, drain).await
                && let Some(request) =
                    SessionRequest::read(session, permit, own.port(), page.port).await
            {
                answer(peer, request).await;
            }
        });
    }
    endpoint.set_server_config(None);
    limiter.empty().await;
    let _ = timeout(LAST_PACKETS, endpoint.wait_idle()).await;
}

/// The gateway's pages, with which WebTransport shares `Host` and `Origin`.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    /// Their TCP port.
    pub port: u16,
    /// Whether it has TLS.
    pub tls: bool,
}

/// Admits connections.
struct Door {
    limiter: Arc<ConnectionLimiter>,
    handshakes: Arc<Semaphore>,
    by_address: Arc<AddressLimiter>,
    refusals: LogRateLimit,
}

/// What a connection holds while its handshake goes on.
struct Admission {
    permit: Permit,
    _handshake: OwnedSemaphorePermit,
    _address: AddressPermit,
}

impl Door {
    fn admit(&mut self, incoming: Incoming) -> Option<(Incoming, Admission)> {
        let address = incoming.remote_address().ip();
        let in_progress = MAX_HANDSHAKES - self.handshakes.available_permits();
        let has_to_prove = in_progress >= RETRY_FROM || self.by_address.count(address) > 0;
        if has_to_prove && incoming.may_retry() {
            // It may retry, so this does not fail.
            let _ = incoming.retry();
            return None;
        }
        let Ok(handshake) = self.handshakes.clone().try_acquire_owned() else {
            // The client tries again, after a second at first.
            incoming.ignore();
            return self.refused(&format!(
                "{MAX_HANDSHAKES} handshakes are in progress, which is the limit"
            ));
        };
        let by_address = match self.by_address.enter(address) {
            Ok(by_address) => by_address,
            Err(most) => {
                incoming.ignore();
                return self.refused(&format!(
                    "{most} handshakes of {address} are in progress, which is the limit of an address"
                ));
            }
        };
        match self.limiter.enter(address) {
            Ok(permit) => Some((
                incoming,
                Admission {
                    permit,
                    _handshake: handshake,
                    _address: by_address,
                },
            )),
            Err(refused) => {
                incoming.refuse();
                self.refused(&refused.to_string())
            }
        }
    }

    fn refused<T>(&mut self, reason: &str) -> Option<T> {
        if let Some(hidden) = self.refusals.tell(Instant::now()) {
            tracing::warn!(
                "refused a QUIC connection: {reason} ({hidden} more since the last log line)"
            );
        }
        None
    }
}

/// Completes the handshake up to the request for a session.
async fn handshake(
    incoming: Incoming,
    admission: Admission,
    mut drain: Drain,
) -> Option<(wtransport::endpoint::SessionRequest, Permit)> {
    let address = incoming.remote_address();
    let began = Instant::now();
    let requested = tokio::select! {
        requested = timeout(CONNECTION_TIMEOUT, IncomingSessionFuture::with_quic_incoming(incoming)) => requested,
        () = async { drain.wait().await; sleep(FIRST_REQUEST_GRACE).await } => return None,
    };
    let reason = match requested {
        Ok(Ok(session)) => return Some((session, admission.permit)),
        Ok(Err(error)) => error.to_string(),
        Err(_) => {
            "timeout: the client requested no session or did not complete the handshake".into()
        }
    };
    tracing::debug!(peer = %address, "QUIC connection ended after {:?}: {reason}", began.elapsed());
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use quinn::{
        AsyncUdpSocket, UdpPoller,
        udp::{RecvMeta, Transmit},
    };
    use sluicegate_config::Server;
    use std::{
        io::IoSliceMut,
        pin::Pin,
        task::{Context, Poll},
    };
    use tokio::{net::UdpSocket as Asking, sync::watch};

    /// A socket that the system has taken away.
    #[derive(Debug)]
    struct Broken;

    impl AsyncUdpSocket for Broken {
        fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
            Box::pin(Broken)
        }

        fn try_send(&self, _: &Transmit<'_>) -> io::Result<()> {
            Err(io::ErrorKind::NotConnected.into())
        }

        fn poll_recv(
            &self,
            _: &mut Context<'_>,
            _: &mut [IoSliceMut<'_>],
            _: &mut [RecvMeta],
        ) -> Poll<io::Result<usize>> {
            Poll::Ready(Err(io::ErrorKind::NotConnected.into()))
        }

        fn local_addr(&self) -> io::Result<SocketAddr> {
            Ok(([127, 0, 0, 1], 1).into())
        }
    }

    impl UdpPoller for Broken {
        fn poll_writable(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// Asks until the port answers to a version of QUIC that it does not have (RFC 9000 section 6.1).
    async fn answers(port: SocketAddr) {
        let socket = Asking::bind("127.0.0.1:0").await.unwrap();
        let mut asking = tokio::time::interval(Duration::from_millis(20));
        let packet = [&[0xc0, 0x1a, 0x2a, 0x3a, 0x4a, 8][..], &[7; 1194]].concat();
        let mut answer = [0; 100];
        loop {
            tokio::select! {
                // An error says that the port is closed.
                Ok(_) = socket.recv_from(&mut answer) => return,
                _ = asking.tick() => drop(socket.send_to(&packet, port).await),
            }
        }
    }

    #[tokio::test]
    async fn a_port_that_fails_is_opened_again_and_tcp_goes_on() {
        let certificates = Arc::new(Certificates::new(None).unwrap());
        let port = SocketAddr::from(([127, 0, 0, 1], 0));
        let quic = Quic::open(port.into(), certificates, Congestion::default()).unwrap();
        let (address, endpoint) = (quic.address(), quic.endpoint.clone());
        let limiter = ConnectionLimiter::new(&Server::default(), 1);
        let draining = watch::Sender::new(false);
        let page = Page {
            port: address.port(),
            tls: false,
        };
        let serving = serve(
            quic,
            limiter.clone(),
            page,
            Drain::new(&draining),
            async |_, _| {},
        );
        let serving = tokio::spawn(serving);
        answers(address).await;
        endpoint.rebind_abstract(Arc::new(Broken)).unwrap();
        drop(endpoint);
        answers(address).await;
        drop(limiter.enter(address.ip()).unwrap());
        draining.send_replace(true);
        serving.await.unwrap();
    }
}
