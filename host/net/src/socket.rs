//! The byte stream of one connection, with or without TLS, including its permit from the connection limiter.
//!
//! It adds three things to the stream: a read rate limit for HTTP/2 ([`ReadLimiter`]), a note of whether the client
//! reads ([`Stall`]), and a lingering close, so that a client that is still sending gets to read the answer.

use super::{limiter::Permit, stall::Stall, token_bucket::TokenBucket};
use std::{
    io::{self, IoSlice},
    mem::MaybeUninit,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
    time::{Instant, Sleep, sleep, sleep_until},
};
use tokio_rustls::server::TlsStream;

/// A connection. Its permit is released when it is dropped.
#[derive(Debug)]
pub struct Socket {
    stream: Stream,
    read_limiter: Option<ReadLimiter>,
    stall: Arc<Stall>,
    closing: Closing,
    _permit: Permit,
}

/// Progress of closing. A client that is still sending when it gets the answer, such as one with a large body, is read
/// for a while longer: unread bytes at close make the kernel send a reset, which discards the answer that the client
/// has not read yet (RFC 9112 section 9.6).
#[derive(Debug)]
enum Closing {
    Open,
    /// Our side is shut down.
    ShutDown,
    /// The client kept sending; it is read until this timer expires.
    Lingers(Pin<Box<Sleep>>),
}

/// How long a client that keeps sending is read after our side is shut down.
const LINGER: Duration = Duration::from_secs(2);

#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Socket {
    /// A connection without TLS.
    pub fn plain(socket: TcpStream, permit: Permit) -> Socket {
        Socket::new(Stream::Plain(socket), permit)
    }

    /// A connection over a Unix socket.
    pub fn unix(socket: UnixStream, permit: Permit) -> Socket {
        Socket::new(Stream::Unix(socket), permit)
    }

    /// A connection with TLS, after its handshake.
    pub fn tls(socket: TlsStream<TcpStream>, permit: Permit) -> Socket {
        Socket::new(Stream::Tls(Box::new(socket)), permit)
    }

    fn new(stream: Stream, permit: Permit) -> Socket {
        Socket {
            stream,
            read_limiter: None,
            stall: Arc::default(),
            closing: Closing::Open,
            _permit: permit,
        }
    }

    /// Whether the client accepts data.
    pub(crate) fn stall(&self) -> &Arc<Stall> {
        &self.stall
    }

    /// Notes in [`Socket::stall`] whether the client accepted what was written or flushed.
    fn noted<T>(&self, written: Poll<T>) -> Poll<T> {
        match written {
            Poll::Ready(_) => self.stall.end(),
            Poll::Pending => self.stall.begin(),
        }
        written
    }

    /// Limits the read rate from here on.
    pub fn with_read_limit(mut self) -> Socket {
        self.read_limiter = Some(ReadLimiter::new(Instant::now()));
        self
    }

    fn stream(&mut self) -> Pin<&mut (dyn Duplex + Unpin)> {
        match &mut self.stream {
            Stream::Plain(socket) => Pin::new(socket),
            Stream::Unix(socket) => Pin::new(socket),
            Stream::Tls(socket) => Pin::new(socket.as_mut()),
        }
    }
}

trait Duplex: AsyncRead + AsyncWrite {}

impl<S: AsyncRead + AsyncWrite> Duplex for S {}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(read_limiter) = &mut self.read_limiter {
            ready!(read_limiter.poll_ready(context));
        }
        let before = buffer.filled().len();
        let read = self.stream().poll_read(context, buffer);
        if let Some(read_limiter) = &mut self.read_limiter {
            read_limiter.consume(buffer.filled().len() - before);
        }
        read
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = self.stream().poll_write(context, bytes);
        self.noted(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self.stream().poll_write_vectored(context, slices);
        self.noted(written)
    }

    fn is_write_vectored(&self) -> bool {
        // Also for TLS: rustls joins the slices to full records.
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = self.stream().poll_flush(context);
        self.noted(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if matches!(self.closing, Closing::Open) {
            ready!(self.stream().poll_shutdown(context))?;
            self.closing = Closing::ShutDown;
        }
        // No lingering for HTTP/2: the client gets a GOAWAY frame, and one that floods must not be read any longer.
        if self.read_limiter.is_some() {
            return Poll::Ready(Ok(()));
        }
        let mut scrap = [MaybeUninit::uninit(); 8 << 10];
        loop {
            if let Closing::Lingers(until) = &mut self.closing
                && until.as_mut().poll(context).is_ready()
            {
                return Poll::Ready(Ok(()));
            }
            let mut buffer = ReadBuf::uninit(&mut scrap);
            match self.stream().poll_read(context, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    if matches!(self.closing, Closing::ShutDown) {
                        self.closing = Closing::Lingers(Box::pin(sleep(LINGER)));
                    }
                }
                // A client that has nothing in flight is not waited for.
                Poll::Pending if matches!(self.closing, Closing::Lingers(_)) => {
                    return Poll::Pending;
                }
                _ => return Poll::Ready(Ok(())),
            }
        }
    }
}

/// Read rate limit of an HTTP/2 client: a token bucket of bytes. Such a client has little to send, and each frame of a
/// few bytes, even an empty one, costs the server more than the client. Beyond the limit it is read late, which affects
/// no other client.
#[derive(Debug)]
struct ReadLimiter {
    bucket: TokenBucket,
    wait: Option<Pin<Box<Sleep>>>,
}

impl ReadLimiter {
    /// Capacity of the bucket in bytes.
    const BURST: u32 = 1 << 20;
    /// Refill rate in bytes per second.
    const RATE: u32 = 256 << 10;
    /// How long reading pauses at least when the bucket is empty, so that a refill is worth a read.
    const PAUSE: Duration = Duration::from_millis(50);

    fn new(now: Instant) -> ReadLimiter {
        ReadLimiter {
            bucket: TokenBucket::new(Self::RATE.into(), Self::BURST.into(), now),
            wait: None,
        }
    }

    fn consume(&mut self, bytes: usize) {
        self.bucket.take(bytes as f64);
    }

    /// Refills an empty bucket; returns when to try again if it is still empty.
    fn fill(&mut self, now: Instant) -> Option<Instant> {
        if self.bucket.left() >= 1.0 {
            return None;
        }
        let due = self.bucket.refilled() + Self::PAUSE;
        if now < due {
            return Some(due);
        }
        self.bucket.refill(now);
        None
    }

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while let Some(at) = self.fill(Instant::now()) {
            let wait = self.wait.get_or_insert_with(|| Box::pin(sleep_until(at)));
            ready!(wait.as_mut().poll(context));
            self.wait = None;
        }
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fast_sender_is_read_at_the_rate_limit() {
        let began = Instant::now();
        let mut read_limiter = ReadLimiter::new(began);
        let (mut now, mut read) = (began, 0_u64);
        while now < began + Duration::from_secs(10) {
            match read_limiter.fill(now) {
                Some(at) => now = at,
                None => {
                    read_limiter.consume(4096);
                    read += 4096;
                }
            }
        }
        let allowed = u64::from(ReadLimiter::BURST + 10 * ReadLimiter::RATE);
        assert!(read.abs_diff(allowed) < allowed / 5, "{read} of {allowed}");
    }

    #[test]
    fn a_silent_sender_may_burst_again_and_not_more() {
        let began = Instant::now();
        let mut read_limiter = ReadLimiter::new(began);
        read_limiter.consume(2 << 20);
        assert_eq!(read_limiter.fill(began), Some(began + ReadLimiter::PAUSE));
        assert_eq!(read_limiter.fill(began + Duration::from_secs(60)), None);
        assert_eq!(read_limiter.bucket.left(), f64::from(ReadLimiter::BURST));
    }
}
