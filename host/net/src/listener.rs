//! The listening socket and its accept loop: each connection that the limiter admits gets a task (`http`), others are
//! reset at once.

use super::{BoxError, Drain, http, limiter::ConnectionLimiter, tls::Tls};
use crate::auth::Peer;
use bytes::Bytes;
use hyper::{
    Request, Response,
    body::{Body, Incoming},
};
use sluicegate_telemetry::LogRateLimit;
use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Pause after an error of accept, such as too many open files. The connection stays in the kernel's queue meanwhile.
const PAUSE: Duration = Duration::from_millis(100);
/// Length of the accept queue, or `net.core.somaxconn` if that is less. Beyond it the kernel drops connections, and
/// clients retry after one, three and seven seconds. tokio's default of 128 is less than the number of viewers that may
/// reconnect at once after a restart.
const BACKLOG: u32 = 1024;

/// Opens a listening socket.
///
/// # Errors
///
/// The address is in use, does not belong to this machine, or is not permitted.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // So that the port can be used again at once after the gateway has ended.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves until the gateway shuts down; `answer` handles each request. Returns when every connection has ended,
/// including those that became WebSockets.
pub async fn serve<A, F, B>(
    listener: TcpListener,
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
        let (socket, address) = match accepted {
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
                    socket, address, permit, tls, drain, answer,
                ));
            }
            Err(refused) => {
                reset_connection(socket);
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

/// Closes the connection by a reset, which leaves no state in the kernel.
fn reset_connection(socket: TcpStream) {
    let _ = socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO));
}
