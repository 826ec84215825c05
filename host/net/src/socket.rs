//! One connection's bytes, with or without TLS.

use super::limiter::Permit;
use std::{
    io::{self, IoSlice},
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep, sleep, sleep_until},
};
use tokio_rustls::server::TlsStream;

/// A connection; its place at the door is free again when it is dropped.
#[derive(Debug)]
pub struct Socket {
    stream: Stream,
    intake: Option<Intake>,
    farewell: Closing,
    _ticket: Permit,
}

/// How far closing has come. A client that is not done sending when it is told why nobody listens, as one with a large body
/// is, is read for a while longer: bytes that lie unread have the kernel reset the connection, and take the answer from it
/// (RFC 9112 section 9.6).
#[derive(Debug)]
enum Closing {
    Open,
    /// Nothing more is said.
    Said,
    /// It went on sending; until then it is read.
    Lingers(Pin<Box<Sleep>>),
}

/// A client that goes on sending is read for so long after the last word.
const LINGER: Duration = Duration::from_secs(2);

#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Socket {
    /// Without TLS.
    pub fn plain(socket: TcpStream, permit: Permit) -> Socket {
        Socket {
            stream: Stream::Plain(socket),
            intake: None,
            farewell: Closing::Open,
            _ticket: permit,
        }
    }

    /// With TLS, after its handshake.
    pub fn tls(socket: TlsStream<TcpStream>, permit: Permit) -> Socket {
        Socket {
            stream: Stream::Tls(Box::new(socket)),
            intake: None,
            farewell: Closing::Open,
            _ticket: permit,
        }
    }

    /// From here on reads no faster than the intake allows.
    pub fn slowly(mut self) -> Socket {
        self.intake = Some(Intake::new(Instant::now()));
        self
    }

    fn stream(&mut self) -> Pin<&mut (dyn Duplex + Unpin)> {
        match &mut self.stream {
            Stream::Plain(socket) => Pin::new(socket),
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
        if let Some(intake) = &mut self.intake {
            ready!(intake.poll_ready(context));
        }
        let before = buffer.filled().len();
        let read = self.stream().poll_read(context, buffer);
        if let Some(intake) = &mut self.intake {
            intake.took(buffer.filled().len() - before);
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
        self.stream().poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream().poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        // rustls makes full records of the slices.
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if matches!(self.farewell, Closing::Open) {
            ready!(self.stream().poll_shutdown(context))?;
            self.farewell = Closing::Said;
        }
        // A client of HTTP/2 is told by a frame of its own to stop, and one that floods is not listened to any longer.
        if self.intake.is_some() {
            return Poll::Ready(Ok(()));
        }
        let mut scrap = [MaybeUninit::uninit(); 8 << 10];
        loop {
            if let Closing::Lingers(until) = &mut self.farewell
                && until.as_mut().poll(context).is_ready()
            {
                return Poll::Ready(Ok(()));
            }
            let mut buffer = ReadBuf::uninit(&mut scrap);
            match self.stream().poll_read(context, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    if matches!(self.farewell, Closing::Said) {
                        self.farewell = Closing::Lingers(Box::pin(sleep(LINGER)));
                    }
                }
                // Who has nothing on its way now is not waited for.
                Poll::Pending if matches!(self.farewell, Closing::Lingers(_)) => {
                    return Poll::Pending;
                }
                _ => return Poll::Ready(Ok(())),
            }
        }
    }
}

/// What a client of HTTP/2 may send. It has little to say, and each frame of a few bytes, empty or not, costs the
/// server more than the client; so beyond this it is read late, which costs nobody else anything.
#[derive(Debug)]
struct Intake {
    left: u64,
    filled: Instant,
    wait: Option<Pin<Box<Sleep>>>,
}

impl Intake {
    /// Bytes at once.
    const BURST: u64 = 1 << 20;
    /// Bytes a second.
    const RATE: u64 = 256 << 10;
    /// How long it waits when there is nothing left.
    const PAUSE: Duration = Duration::from_millis(50);

    fn new(now: Instant) -> Intake {
        Intake {
            left: Self::BURST,
            filled: now,
            wait: None,
        }
    }

    fn took(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(bytes as u64);
    }

    /// Adds what was gained since the last time, if nothing is left; says when to come again, if there is still nothing.
    fn fill(&mut self, now: Instant) -> Option<Instant> {
        if self.left > 0 {
            return None;
        }
        let passed = now - self.filled;
        if passed < Self::PAUSE {
            return Some(self.filled + Self::PAUSE);
        }
        let gained = passed.as_micros() * u128::from(Self::RATE) / 1_000_000;
        self.left = u64::try_from(gained).map_or(Self::BURST, |gained| gained.min(Self::BURST));
        self.filled = now;
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
    fn who_sends_much_is_read_at_the_rate() {
        let began = Instant::now();
        let mut intake = Intake::new(began);
        let (mut now, mut read) = (began, 0_u64);
        while now < began + Duration::from_secs(10) {
            match intake.fill(now) {
                Some(at) => now = at,
                None => {
                    intake.took(4096);
                    read += 4096;
                }
            }
        }
        let allowed = Intake::BURST + 10 * Intake::RATE;
        assert!(read.abs_diff(allowed) < allowed / 5, "{read} of {allowed}");
    }

    #[test]
    fn who_was_silent_may_burst_again_and_not_more() {
        let began = Instant::now();
        let mut intake = Intake::new(began);
        intake.took(2 << 20);
        assert_eq!(intake.fill(began), Some(began + Intake::PAUSE));
        assert_eq!(intake.fill(began + Duration::from_secs(60)), None);
        assert_eq!(intake.left, Intake::BURST);
    }
}
