//! HTTP/1.1 and HTTP/2 on hyper: one connection from its first byte, its limits, and the upgrade to WebSocket.

use super::{BoxError, Drain, Socket, limiter::Permit, tls::Tls};
use crate::auth::Peer;
use bytes::Bytes;
use hyper::{
    Request, Response,
    body::{Body, Frame, Incoming, SizeHint},
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use sluicegate_telemetry::Ends;
use socket2::{SockRef, TcpKeepalive};
use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
    time::{Instant, sleep, timeout},
};

/// A client has this long for a TLS handshake, for a request's head, and between two requests.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of a request's head, and of a response that hyper holds before the socket takes it: one picture, not ten.
const BUFFER: usize = 16 << 10;
const MAX_HEADERS: usize = 64;
/// Requests at a time on one connection of HTTP/2.
const MAX_STREAMS: u32 = 128;
/// Streams that a client of HTTP/2 took back before they were looked at, and that broke the protocol.
const MAX_TAKEN_BACK: usize = 20;
const MAX_BROKEN: usize = 64;
/// Bytes of a request's body, and of all on a connection of HTTP/2; the standard wants no less of the latter.
const STREAM_WINDOW: u32 = 16 << 10;
const CONNECTION_WINDOW: u32 = (64 << 10) - 1;
/// A client of HTTP/2 that answers no ping for this long is gone; so often it is asked.
const PING: Duration = Duration::from_secs(20);
/// A client that was just connecting when the gateway began to shut down has this long to ask something.
const LATE: Duration = Duration::from_secs(1);
/// How long a connection without requests may take to say goodbye.
const CLOSING: Duration = Duration::from_secs(3);
/// Bytes the kernel holds of what it has not sent; beyond, the viewer counts as slow.
const UNSENT: u32 = 128 << 10;
/// A peer that acknowledges nothing for this long is gone.
const DEAD: Duration = Duration::from_secs(60);

/// First byte of a TLS connection (RFC 8446 section 5.1: handshake).
const HANDSHAKE: u8 = 22;
/// How a client that knows speaks HTTP/2 without TLS (RFC 9113 section 3.4); no method of HTTP/1 starts so.
const PREFACE: &[u8; 3] = b"PRI";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    Http1,
    Http2,
}

/// Serves one connection to its end, or to where it became a WebSocket.
pub(super) async fn converse<A, F, B>(
    socket: TcpStream,
    address: SocketAddr,
    permit: Permit,
    tls: Option<Arc<Tls>>,
    drain: Drain,
    answer: A,
) where
    A: Fn(Peer, Request<Incoming>) -> F + Send + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    tune(&socket);
    let began = Instant::now();
    let ends = socket.local_addr().map(|local| Ends {
        local,
        peer: address,
    });
    let answer = move |peer, mut request: Request<Incoming>| {
        if let Ok(ends) = ends {
            request.extensions_mut().insert(ends);
        }
        answer(peer, request)
    };
    let peer = Peer {
        address,
        tls: tls.is_some(),
    };
    let mut over = drain.clone();
    let greeted = tokio::select! {
        greeted = timeout(PATIENCE, greet(socket, permit, tls)) => greeted,
        () = async { over.wait().await; sleep(LATE).await } => return,
    };
    let ended = match greeted {
        Ok(Ok(Some((socket, Version::Http1)))) => http1(socket, peer, drain, answer).await,
        Ok(Ok(Some((socket, Version::Http2)))) => http2(socket, peer, drain, answer).await,
        Ok(Ok(None)) => Ok(()),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err("nothing, or no whole handshake, came in time".into()),
    };
    if let Err(error) = ended {
        tracing::debug!(peer = %address, "connection ended after {:?}: {error}", began.elapsed());
    }
}

/// Looks at the first bytes and shakes hands; `None` where the client left or was sent away.
async fn greet(
    mut socket: TcpStream,
    permit: Permit,
    tls: Option<Arc<Tls>>,
) -> std::io::Result<Option<(Socket, Version)>> {
    let mut start = [0; PREFACE.len()];
    if socket.peek(&mut start).await? == 0 {
        return Ok(None);
    }
    let Some(tls) = tls else {
        let version = match &start == PREFACE {
            true => Version::Http2,
            false => Version::Http1,
        };
        return Ok(Some((Socket::plain(socket, permit), version)));
    };
    if start[0] != HANDSHAKE {
        refuse_plain(&mut socket).await?;
        return Ok(None);
    }
    let socket = tls.acceptor().accept(socket).await?;
    let version = match socket.get_ref().1.alpn_protocol() {
        Some(b"h2") => Version::Http2,
        _ => Version::Http1,
    };
    Ok(Some((Socket::tls(socket, permit), version)))
}

async fn refuse_plain(socket: &mut TcpStream) -> std::io::Result<()> {
    const TEXT: &str =
        "this port speaks TLS: write https:// in front of the address, not http://\n";
    let response = format!(
        "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Length: {}\r\n\r\n{TEXT}",
        TEXT.len()
    );
    socket.write_all(response.as_bytes()).await?;
    socket.shutdown().await?;
    // What is not read would reset the connection before the client has read the sentence.
    let mut rest = socket.take(BUFFER as u64);
    tokio::io::copy(&mut rest, &mut tokio::io::sink()).await?;
    Ok(())
}

async fn http1<A, F, B>(
    socket: Socket,
    peer: Peer,
    mut drain: Drain,
    answer: A,
) -> Result<(), BoxError>
where
    A: Fn(Peer, Request<Incoming>) -> F,
    F: Future<Output = Response<B>>,
    B: Body<Data = Bytes, Error: Into<BoxError>> + 'static,
{
    let asked = Arc::new(AtomicBool::new(false));
    let asks = asked.clone();
    let service = service_fn(move |request| {
        asks.store(true, Ordering::Relaxed);
        let answered = answer(peer, request);
        async move { Ok::<_, Infallible>(answered.await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_buf_size(BUFFER)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(socket), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    // In this order, so that what has come in is read before hyper is asked whether the connection is idle.
    tokio::select! {
        biased;
        ended = connection.as_mut() => return Ok(ended?),
        () = drain.wait() => {}
    }
    if !asked.load(Ordering::Relaxed)
        && let Ok(ended) = timeout(LATE, connection.as_mut()).await
    {
        return Ok(ended?);
    }
    connection.as_mut().graceful_shutdown();
    Ok(connection.await?)
}

async fn http2<A, F, B>(
    socket: Socket,
    peer: Peer,
    mut drain: Drain,
    answer: A,
) -> Result<(), BoxError>
where
    A: Fn(Peer, Request<Incoming>) -> F,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    let open = Open::default();
    let opened = open.clone();
    let service = service_fn(move |request| {
        let held = opened.hold();
        let answered = answer(peer, request);
        async move { Ok::<_, Infallible>(answered.await.map(|body| Holding { body, _held: held })) }
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_pending_accept_reset_streams(MAX_TAKEN_BACK)
        .max_local_error_reset_streams(MAX_BROKEN)
        .max_header_list_size(BUFFER as u32)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(BUFFER as u32)
        .max_send_buf_size(BUFFER)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING)
        .serve_connection(TokioIo::new(socket.slowly()), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return Ok(ended?),
        () = drain.wait() => {}
        () = open.none_for(PATIENCE) => {}
    }
    connection.as_mut().graceful_shutdown();
    // A request may have come in meanwhile; who sends none need not be waited for.
    tokio::select! {
        ended = connection.as_mut() => Ok(ended?),
        () = open.none_for(CLOSING) => Ok(()),
    }
}

/// Counts the requests under way on a connection of HTTP/2.
#[derive(Clone, Debug, Default)]
struct Open(Arc<watch::Sender<usize>>);

/// One request under way.
#[derive(Debug)]
struct Held(Open);

impl Open {
    fn hold(&self) -> Held {
        self.0.send_modify(|count| *count += 1);
        Held(self.clone())
    }

    /// Returns when there was none for so long.
    async fn none_for(&self, quiet: Duration) {
        let mut count = self.0.subscribe();
        loop {
            let _ = count.wait_for(|count| *count == 0).await;
            let busy = timeout(quiet, count.wait_for(|count| *count > 0)).await;
            if busy.is_err() {
                return;
            }
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.0.send_modify(|count| *count -= 1);
    }
}

/// A body that is a request under way as long as it is.
#[derive(Debug)]
struct Holding<B> {
    body: B,
    _held: Held,
}

impl<B: Body + Unpin> Body for Holding<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
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
