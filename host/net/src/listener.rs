//! The listening sockets and their accept loop: each connection that the limiter admits gets a task (`http`), others are
//! reset at once.

use super::{
    BoxError, Drain, http,
    limiter::ConnectionLimiter,
    tls::Tls,
    unix::{self, SocketFile},
};
use crate::auth::Peer;
use bytes::Bytes;
use hyper::{
    Request, Response,
    body::{Body, Incoming},
};
use sluicegate_config::ListenAddress;
use sluicegate_telemetry::LogRateLimit;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::{
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// Pause after an error of accept, such as too many open files. The connection stays in the kernel's queue meanwhile.
const PAUSE: Duration = Duration::from_millis(100);
/// Length of the accept queue, or `net.core.somaxconn` if that is less. Beyond it the kernel drops connections, and
/// clients retry after one, three and seven seconds. tokio's default of 128 is less than the number of viewers that may
/// reconnect at once after a restart.
const BACKLOG: u32 = 1024;

/// A socket that accepts connections: TCP, or a Unix socket with its file.
#[derive(Debug)]
pub struct Listener(Kind);

#[derive(Debug)]
enum Kind {
    Tcp(TcpListener),
    Unix {
        /// Dropped first, while nobody can take the path for one that was left behind. `None` if the socket was passed
        /// to this process: the file is not ours then.
        _file: Option<SocketFile>,
        listener: UnixListener,
    },
}

/// A connection before its first byte.
#[derive(Debug)]
pub(crate) enum Connection {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Listener {
    /// Opens a listening socket. With `only_v6`, one for IPv6 leaves IPv4 to another one; otherwise the unspecified
    /// address `[::]` stands for both.
    ///
    /// # Errors
    /// The address is in use, does not belong to this machine, or is not permitted.
    pub fn open(address: &ListenAddress, only_v6: bool) -> io::Result<Listener> {
        Ok(Listener(match address {
            ListenAddress::Tcp(address) => Kind::Tcp(listen(*address, only_v6)?),
            ListenAddress::Unix(path) => {
                let (listener, file) = unix::listen(path, BACKLOG)?;
                Kind::Unix {
                    _file: Some(file),
                    listener,
                }
            }
        }))
    }

    /// A TCP socket that listens already.
    ///
    /// # Errors
    /// The operating system refuses, for this reason.
    pub(crate) fn tcp(listener: std::net::TcpListener) -> io::Result<Listener> {
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        Ok(Listener(Kind::Tcp(listener)))
    }

    /// A Unix socket that listens already, whose file belongs to somebody else.
    ///
    /// # Errors
    /// The operating system refuses, for this reason.
    pub(crate) fn unix(listener: std::os::unix::net::UnixListener) -> io::Result<Listener> {
        listener.set_nonblocking(true)?;
        let listener = UnixListener::from_std(listener)?;
        Ok(Listener(Kind::Unix {
            _file: None,
            listener,
        }))
    }

    /// Where it listens, with the port that the system chose.
    ///
    /// # Errors
    /// The operating system refuses, for this reason.
    pub fn address(&self) -> io::Result<ListenAddress> {
        Ok(match &self.0 {
            Kind::Tcp(listener) => ListenAddress::Tcp(listener.local_addr()?),
            Kind::Unix { listener, .. } => {
                let address = listener.local_addr()?;
                let path = address.as_pathname().map(PathBuf::from);
                ListenAddress::Unix(path.unwrap_or_default())
            }
        })
    }

    async fn accept(&self) -> io::Result<(Connection, SocketAddr)> {
        Ok(match &self.0 {
            Kind::Tcp(listener) => {
                let (socket, address) = listener.accept().await?;
                (Connection::Tcp(socket), address)
            }
            Kind::Unix { listener, .. } => {
                let (socket, _) = listener.accept().await?;
                (Connection::Unix(socket), Peer::UNIX)
            }
        })
    }
}

fn listen(address: SocketAddr, only_v6: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() && only_v6 {
        socket.set_only_v6(true)?;
    }
    // So that the port can be used again at once after the gateway has ended.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(BACKLOG).unwrap_or(i32::MAX))?;
    TcpListener::from_std(socket.into())
}

/// Serves until the gateway shuts down; `answer` handles each request. Returns when every connection has ended,
/// including those that became WebSockets, and those of other listeners with the same limiter. A Unix socket has no
/// TLS, since both ends of it are on this machine.
pub async fn serve<A, F, B>(
    listener: Listener,
    limiter: Arc<ConnectionLimiter>,
    tls: Option<Arc<Tls>>,
    mut drain: Drain,
    answer: A,
) where
    A: Fn(Peer, Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    let (mut refusals, mut failures) = (LogRateLimit::default(), LogRateLimit::default());
    let mut late = 0;
    loop {
        let accepted = tokio::select! {
            biased;
            // Connections already in the accept queue are still served, at most [`BACKLOG`] of them, since clients keep
            // coming.
            () = drain.wait() => {
                late += 1;
                tokio::select! {
                    biased;
                    Ok(accepted) = listener.accept(), if late <= BACKLOG => Ok(accepted),
                    () = std::future::ready(()) => break,
                }
            }
            accepted = listener.accept() => accepted,
        };
        let (connection, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                if let Some(hidden) = failures.tell(Instant::now()) {
                    tracing::error!(
                        "cannot accept connections: {error}; retrying ({hidden} more failures since the last log line)"
                    );
                }
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        match limiter.enter(address.ip()) {
            Ok(permit) => {
                let (answer, tls, drain) = (answer.clone(), tls.clone(), drain.clone());
                tokio::spawn(http::handle_connection(
                    connection, address, permit, tls, drain, answer,
                ));
            }
            Err(refused) => {
                reset_connection(&connection);
                if let Some(hidden) = refusals.tell(Instant::now()) {
                    tracing::warn!(
                        "refused a connection: {refused} ({hidden} more since the last log line)"
                    );
                }
            }
        }
    }
    // Releases the port before waiting for the connections.
    drop(listener);
    limiter.empty().await;
}

/// Lets the connection be closed by a reset, which leaves no state in the kernel. A Unix socket has none anyway.
fn reset_connection(connection: &Connection) {
    if let Connection::Tcp(socket) = connection {
        let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
    }
}
