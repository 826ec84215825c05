//! HTTP/1.1 and HTTP/2 on hyper: serves one connection from its first byte, with timeouts and limits, until it ends or
//! becomes a WebSocket.
//!
//! The protocol is chosen by the first bytes, or by ALPN under TLS; over a Unix socket it is HTTP/1.1. On shutdown a connection finishes the requests in
//! progress and is then closed. Called by `listener`; the gateway's handler is called for each request.

use super::{
    BoxError, Drain, Socket,
    auth::Peer,
    limiter::Permit,
    listener::Connection,
    stall::{DRAIN_WRITE_TIMEOUT, Stall, WRITE_TIMEOUT},
    tls::Tls,
};
use bytes::Bytes;
use hyper::{
    Request, Response,
    body::{Body, Frame, Incoming, SizeHint},
    rt::Executor,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use sluicegate_telemetry::SocketPair;
use socket2::{SockRef, TcpKeepalive};
use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
    time::{Instant, sleep, timeout},
};

/// Timeout of the TLS handshake, of a request's head, and of an idle connection.
pub(crate) const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest request head, and the part of a response that hyper buffers before the socket accepts it, in bytes: one
/// frame, not ten.
const BUFFER: usize = 16 << 10;
const MAX_HEADERS: usize = 64;
/// Concurrent requests on one HTTP/2 connection.
const MAX_STREAMS: u32 = 128;
/// Streams that an HTTP/2 client may reset before they are accepted (rapid reset), and streams that we may reset for
/// its protocol errors; beyond, the connection is closed.
const MAX_REMOTE_RESETS: usize = 20;
const MAX_LOCAL_RESETS: usize = 64;
/// Flow-control windows for request bodies, in bytes: of a stream and of the connection. The standard does not allow
/// less for the connection.
const STREAM_WINDOW: u32 = 16 << 10;
const CONNECTION_WINDOW: u32 = (64 << 10) - 1;
/// Interval of HTTP/2 pings, and the timeout of an answer.
const PING: Duration = Duration::from_secs(20);
/// How long a client that is still connecting when the gateway shuts down may take to send a request.
pub(crate) const FIRST_REQUEST_GRACE: Duration = Duration::from_secs(1);
/// How long an HTTP/2 connection without requests may take to close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);
/// `TCP_NOTSENT_LOWAT`: unsent bytes in the kernel, beyond which the socket is not writable and the viewer counts as
/// slow.
const TCP_NOTSENT_LOWAT: u32 = 128 << 10;
/// The same for a Unix socket, by the size of its buffer.
const UNIX_SEND_BUFFER: usize = TCP_NOTSENT_LOWAT as usize;
/// `TCP_USER_TIMEOUT`: a peer that acknowledges or accepts nothing for this long is disconnected by the kernel.
const TCP_USER_TIMEOUT: Duration = WRITE_TIMEOUT;

const STALLED: &str = "the client has stopped reading";

/// First byte of a TLS connection (RFC 8446 section 5.1: handshake).
const HANDSHAKE: u8 = 22;
/// Start of the HTTP/2 preface with prior knowledge (RFC 9113 section 3.4); no method of HTTP/1 starts with it.
const PREFACE: &[u8; 3] = b"PRI";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    Http1,
    Http2,
}

/// Serves one connection until it ends or becomes a WebSocket.
pub(super) async fn handle_connection<A, F, B>(
    connection: Connection,
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
    let began = Instant::now();
    let ends = match &connection {
        Connection::Tcp(socket) => {
            set_tcp_options(socket);
            let local = socket.local_addr().ok();
            local.map(|local| SocketPair {
                local,
                peer: address,
            })
        }
        Connection::Unix(socket) => {
            let _ = SockRef::from(socket).set_send_buffer_size(UNIX_SEND_BUFFER);
            None
        }
    };
    let answer = move |peer, mut request: Request<Incoming>| {
        if let Some(ends) = ends {
            request.extensions_mut().insert(ends);
        }
        answer(peer, request)
    };
    let peer = Peer {
        address,
        tls: tls.is_some() && matches!(connection, Connection::Tcp(_)),
    };
    let mut over = drain.clone();
    let negotiated = tokio::select! {
        negotiated = timeout(CONNECTION_TIMEOUT, negotiate(connection, permit, tls)) => negotiated,
        () = async { over.wait().await; sleep(FIRST_REQUEST_GRACE).await } => return,
    };
    let ended = match negotiated {
        Ok(Ok(Some((socket, Version::Http1)))) => http1(socket, peer, drain, answer).await,
        Ok(Ok(Some((socket, Version::Http2)))) => http2(socket, peer, drain, answer).await,
        Ok(Ok(None)) => Ok(()),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => {
            Err("timeout: the client sent no request or did not complete the TLS handshake".into())
        }
    };
    if let Err(error) = ended {
        tracing::debug!(peer = %address, "connection ended after {:?}: {error}", began.elapsed());
    }
}

/// Detects the protocol and does the TLS handshake; `None` if the client has left or was refused.
async fn negotiate(
    connection: Connection,
    permit: Permit,
    tls: Option<Arc<Tls>>,
) -> std::io::Result<Option<(Socket, Version)>> {
    let mut socket = match connection {
        Connection::Tcp(socket) => socket,
        Connection::Unix(socket) => {
            return Ok(Some((Socket::unix(socket, permit), Version::Http1)));
        }
    };
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
    // Unread bytes would make the kernel reset the connection before the client has read the answer.
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
    let stall = socket.stall().clone();
    let request_seen = Arc::new(AtomicBool::new(false));
    let set_request_seen = request_seen.clone();
    let service = service_fn(move |request| {
        set_request_seen.store(true, Ordering::Relaxed);
        let answered = answer(peer, request);
        async move { Ok::<_, Infallible>(answered.await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(CONNECTION_TIMEOUT)
        .max_buf_size(BUFFER)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(socket), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    // The kernel ends TCP connections of clients that have stopped reading ([`TCP_USER_TIMEOUT`]).
    let never_reads = async {
        match peer.is_unix() {
            true => stall.lasts(WRITE_TIMEOUT).await,
            false => std::future::pending().await,
        }
    };
    // `biased`, so that hyper reads what has arrived before it is asked whether the connection is idle.
    tokio::select! {
        biased;
        ended = connection.as_mut() => return Ok(ended?),
        () = drain.wait() => {}
        () = never_reads => return Err(STALLED.into()),
    }
    if !request_seen.load(Ordering::Relaxed)
        && let Ok(ended) = timeout(FIRST_REQUEST_GRACE, connection.as_mut()).await
    {
        return Ok(ended?);
    }
    connection.as_mut().graceful_shutdown();
    tokio::select! {
        ended = connection => Ok(ended?),
        () = stall.lasts(DRAIN_WRITE_TIMEOUT) => Err(STALLED.into()),
    }
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
    let stall = socket.stall().clone();
    let open = OpenRequests::default();
    let opened = open.clone();
    let service = service_fn(move |request| {
        let held = opened.hold();
        let answered = answer(peer, request);
        async move { Ok::<_, Infallible>(answered.await.map(|body| StreamBody::new(body, held))) }
    });
    let streams = StreamExecutor {
        drain: drain.clone(),
    };
    let connection = http2::Builder::new(streams)
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_pending_accept_reset_streams(MAX_REMOTE_RESETS)
        .max_local_error_reset_streams(MAX_LOCAL_RESETS)
        .max_header_list_size(BUFFER as u32)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(BUFFER as u32)
        .max_send_buf_size(BUFFER)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING)
        .serve_connection(TokioIo::new(socket.with_read_limit()), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return Ok(ended?),
        () = drain.wait() => {}
        () = open.idle_for(CONNECTION_TIMEOUT) => {}
    }
    connection.as_mut().graceful_shutdown();
    // A request may have arrived meanwhile; a connection without one is not waited for longer.
    tokio::select! {
        ended = connection.as_mut() => Ok(ended?),
        () = open.idle_for(CLOSE_TIMEOUT) => Ok(()),
        () = stall.lasts(DRAIN_WRITE_TIMEOUT) => Err(STALLED.into()),
    }
}

tokio::task_local! {
    /// The stall of the HTTP/2 stream that the task serves.
    static STREAM_STALL: Arc<Stall>;
}

/// Serves each stream of an HTTP/2 connection in a task, and resets a stream whose client has stopped reading it. hyper
/// alone would wait for the stream's window as long as the connection lasts, and the response would keep its viewer
/// and its source.
#[derive(Clone, Debug)]
struct StreamExecutor {
    drain: Drain,
}

impl<F> Executor<F> for StreamExecutor
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let stall = Arc::<Stall>::default();
        let mut drain = self.drain.clone();
        let served = STREAM_STALL.scope(stall.clone(), stream);
        tokio::spawn(async move {
            tokio::select! {
                biased;
                () = served => {}
                () = stall.lasts_too_long(&mut drain) => {
                    tracing::debug!("a stream is reset: {STALLED}");
                }
            }
        });
    }
}

/// Number of requests in progress on an HTTP/2 connection.
#[derive(Clone, Debug, Default)]
struct OpenRequests(Arc<watch::Sender<usize>>);

/// A request in progress.
#[derive(Debug)]
struct OpenRequest(OpenRequests);

impl OpenRequests {
    fn hold(&self) -> OpenRequest {
        self.0.send_modify(|count| *count += 1);
        OpenRequest(self.clone())
    }

    /// Returns once there was no request for `quiet`.
    async fn idle_for(&self, quiet: Duration) {
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

impl Drop for OpenRequest {
    fn drop(&mut self) {
        self.0.0.send_modify(|count| *count -= 1);
    }
}

/// A response body over HTTP/2. It counts as a request in progress until it is dropped, and notes in [`STREAM_STALL`]
/// whether the client accepts data. hyper asks for data while the stream's window is open; large parts are cut, so that
/// it asks again after each [`BUFFER`] bytes at the latest, and a slow client is not taken for one that does not read.
#[derive(Debug)]
struct StreamBody<B> {
    body: B,
    /// What is left of the body's last part.
    rest: Bytes,
    _held: OpenRequest,
}

impl<B> StreamBody<B> {
    fn new(body: B, held: OpenRequest) -> StreamBody<B> {
        StreamBody {
            body,
            rest: Bytes::new(),
            _held: held,
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for StreamBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let _ = STREAM_STALL.try_with(|stall| stall.end());
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                ended => return Poll::Ready(ended),
            }
        }
        let length = self.rest.len().min(BUFFER);
        let part = self.rest.split_to(length);
        let _ = STREAM_STALL.try_with(|stall| stall.begin());
        Poll::Ready(Some(Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (body, rest) = (self.body.size_hint(), self.rest.len() as u64);
        let mut hint = SizeHint::new();
        hint.set_lower(body.lower() + rest);
        if let Some(upper) = body.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}

fn set_tcp_options(socket: &TcpStream) {
    let _ = socket.set_nodelay(true);
    let socket = SockRef::from(socket);
    let _ = socket.set_tcp_notsent_lowat(TCP_NOTSENT_LOWAT);
    let _ = socket.set_tcp_user_timeout(Some(TCP_USER_TIMEOUT));
    let _ = socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(TCP_USER_TIMEOUT / 2)
            .with_interval(TCP_USER_TIMEOUT / 6),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::WholeBody;
    use std::future::{pending, poll_fn};

    #[tokio::test(start_paused = true)]
    async fn a_stream_ends_when_its_client_has_stopped_reading_but_not_when_it_is_slow() {
        const PARTS: u32 = 10;
        const PAUSE: Duration = Duration::from_secs(50);
        let open = OpenRequests::default();
        let whole = Bytes::from(vec![0; PARTS as usize * BUFFER]);
        let mut body = StreamBody::new(WholeBody::from(whole), open.hold());
        let began = Instant::now();
        let draining = watch::Sender::new(false);
        let executor = StreamExecutor {
            drain: Drain::new(&draining),
        };
        // As hyper sends a body: it asks for the next part when the client has made room for the last one.
        executor.execute(async move {
            for _ in 0..PARTS {
                let part = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
                assert_eq!(part.unwrap().unwrap().into_data().unwrap().len(), BUFFER);
                sleep(PAUSE).await;
            }
            pending().await
        });
        let mut count = open.0.subscribe();
        count.wait_for(|count| *count == 0).await.unwrap();
        assert_eq!(began.elapsed(), (PARTS - 1) * PAUSE + WRITE_TIMEOUT);
    }
}
