//! HTTP/1.1 on hyper: connections, their limits, and the upgrade to WebSocket.

use super::{BoxError, Drain};
use bytes::Bytes;
use hyper::{
    Request, Response,
    body::{Body, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{SockRef, TcpKeepalive};
use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    time::Instant,
};

/// A client has this long to send a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of a request's head, and of a response that hyper holds before the socket takes it: one picture, not ten.
const BUFFER: usize = 16 << 10;
const MOST_HEADERS: usize = 64;
const MOST_CONNECTIONS: usize = 16_384;
/// Bytes the kernel holds of what it has not sent; beyond, the viewer counts as slow.
const UNSENT: u32 = 128 << 10;
/// A peer that acknowledges nothing for this long is gone.
const DEAD: Duration = Duration::from_secs(60);
/// After an error of accept, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until the gateway drains, each request by `answer`; returns when every connection has ended. A clone of
/// `upgrades` is held by each.
pub async fn serve<A, F, B>(
    listener: TcpListener,
    mut drain: Drain,
    upgrades: mpsc::Sender<()>,
    answer: A,
) where
    A: Fn(SocketAddr, Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let slots = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let mut told = false;
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else {
            return;
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = drain.wait() => break,
        };
        match accepted {
            Ok((socket, peer)) => {
                told = false;
                let (answer, drain, upgrades) = (answer.clone(), drain.clone(), upgrades.clone());
                tokio::spawn(async move {
                    converse(socket, peer, drain, answer).await;
                    drop((slot, upgrades));
                });
            }
            Err(error) => {
                if !told {
                    tracing::error!("cannot accept connections: {error}; trying on");
                    told = true;
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // The port is free from here on.
    drop(listener);
    let all = u32::try_from(MOST_CONNECTIONS).unwrap_or(u32::MAX);
    let _ = slots.acquire_many(all).await;
}

async fn converse<A, F, B>(socket: TcpStream, peer: SocketAddr, mut drain: Drain, answer: A)
where
    A: Fn(SocketAddr, Request<Incoming>) -> F,
    F: Future<Output = Response<B>>,
    B: Body<Data = Bytes, Error: Into<BoxError>> + 'static,
{
    tune(&socket);
    let began = Instant::now();
    let service = service_fn(move |request| {
        let answered = answer(peer, request);
        async move { Ok::<_, Infallible>(answered.await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(BUFFER)
        .max_headers(MOST_HEADERS)
        .serve_connection(TokioIo::new(socket), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = drain.wait() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, "connection ended after {:?}: {error}", began.elapsed());
    }
}

fn tune(socket: &TcpStream) {
    let _ = socket.set_nodelay(true);
    let socket = SockRef::from(socket);
    let _ = socket.set_tcp_notsent_lowat(UNSENT);
    let _ = socket.set_tcp_user_timeout(Some(DEAD));
    let _ = socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(DEAD / 2)
            .with_interval(DEAD / 6),
    );
}
