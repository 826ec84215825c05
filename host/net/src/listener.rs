//! The listening socket and its accept loop.

use super::{
    BoxError, Drain, http,
    limiter::{Burst, ConnectionLimiter},
    tls::Tls,
};
use crate::auth::Peer;
use bytes::Bytes;
use hyper::{
    Request, Response,
    body::{Body, Incoming},
};
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    time::Instant,
};

/// After an error of accept, such as too many open files: the connection waits in the kernel, and so do we.
const PAUSE: Duration = Duration::from_millis(100);
/// Connections that the kernel holds until they are accepted, or `net.core.somaxconn` if that is less. Beyond it drops them, and
/// their clients try again after one, three and seven seconds; tokio's own 128 are fewer than the viewers that come back at once when
/// a gateway was restarted.
const BACKLOG: u32 = 1024;

/// Listens there.
///
/// # Errors
///
/// Where the address is taken, not of this machine, or not allowed.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // A port is free at once when its gateway has ended.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves until the gateway drains, each request by `answer`; returns when every connection has ended, those that
/// became WebSockets too.
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
    let (mut refusals, mut failures) = (Burst::default(), Burst::default());
    let mut late = 0;
    loop {
        let accepted = tokio::select! {
            biased;
            // Who already waits in the kernel would be cut off unheard; who comes all the while is not waited for.
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
                        "cannot accept connections: {error}; trying on ({hidden} more times since the last word)"
                    );
                }
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        match limiter.enter(address.ip()) {
            Ok(permit) => {
                let (answer, tls, drain) = (answer.clone(), tls.clone(), drain.clone());
                tokio::spawn(http::converse(socket, address, permit, tls, drain, answer));
            }
            Err(refused) => {
                hang_up(socket);
                if let Some(hidden) = refusals.tell(Instant::now()) {
                    tracing::warn!(
                        "refused a connection: {refused} ({hidden} more since the last word)"
                    );
                }
            }
        }
    }
    // The port is free from here on.
    drop(listener);
    limiter.empty().await;
}

/// By a reset, which leaves nothing behind in the kernel.
fn hang_up(socket: TcpStream) {
    let _ = socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO));
}
