//! Raw Annex B from a TCP socket or standard input.
//!
//! The stream has neither times nor lengths. A frame gets the arrival time of its first byte, and ends where the next
//! one starts or after [`FRAME_TIMEOUT`] without data. If a sender pauses longer than that within a frame, frames are
//! lost up to the next start point.

use super::{POLL_INTERVAL, Sink, SourceContext, SourceError, readable};
use bytes::Bytes;
use socket2::{SockRef, TcpKeepalive};
use std::{
    io::{self, Read},
    net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs},
    os::fd::AsFd,
    time::Duration,
};

/// After this long without a byte the buffered frame is considered complete.
const FRAME_TIMEOUT: Duration = Duration::from_millis(20);
const CONNECT: Duration = Duration::from_secs(5);
/// TCP keepalive: idle time before the first probe and interval between probes, three of which may fail. A sender may
/// be silent for any time, but one whose machine is gone must be noticed.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(5));
/// Size of one read in bytes.
pub(super) const CHUNK: usize = 64 << 10;

/// Accepts connections on `address`, one at a time.
pub fn run_listener(
    address: SocketAddr,
    context: &mut SourceContext<'_>,
) -> Result<(), SourceError> {
    let what = format!("annexb:listen:{address}");
    let open = |error: io::Error| SourceError::Open {
        what: what.clone(),
        reason: format!("{error}; is the port taken by another program?"),
    };
    let listener = TcpListener::bind(address).map_err(open)?;
    listener.set_nonblocking(true).map_err(open)?;
    context
        .sink
        .listening(format!("waiting for a sender to connect to {address}"));
    while !context.stop.is_stopped() {
        if !readable(&listener, POLL_INTERVAL).map_err(open)? {
            continue;
        }
        match listener.accept() {
            Ok((connection, peer)) => {
                tracing::debug!("{what}: {peer} connected");
                let ended = connection
                    .set_nonblocking(false)
                    .and_then(|()| keep_alive(&connection))
                    .and_then(|()| pump(connection, context));
                if !context.stop.is_stopped() {
                    context.sink.lost(match &ended {
                        Ok(()) => format!("{peer} disconnected"),
                        Err(error) => format!("{peer}: {error}"),
                    });
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(open(error)),
        }
    }
    Ok(())
}

/// Connects to `address` and reads until the connection ends.
pub fn run_connection(address: &str, context: &mut SourceContext<'_>) -> Result<(), SourceError> {
    let what = format!("annexb:tcp://{address}");
    let open = |error: io::Error| SourceError::Open {
        what: what.clone(),
        reason: error.to_string(),
    };
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    let mut connection = None;
    for candidate in address.to_socket_addrs().map_err(open)? {
        match TcpStream::connect_timeout(&candidate, CONNECT) {
            Ok(found) => {
                connection = Some(found);
                break;
            }
            Err(error) => last = error,
        }
    }
    let Some(connection) = connection else {
        return Err(open(last));
    };
    keep_alive(&connection).map_err(open)?;
    match pump(connection, context) {
        _ if context.stop.is_stopped() => Ok(()),
        Ok(()) => Err(SourceError::Ended(what)),
        Err(error) => Err(SourceError::Read {
            what,
            reason: error.to_string(),
        }),
    }
}

/// Reads standard input until it ends.
pub fn run_stdin(context: &mut SourceContext<'_>) -> Result<(), SourceError> {
    let what = "annexb:-".to_owned();
    match pump(io::stdin(), context) {
        _ if context.stop.is_stopped() => Ok(()),
        Ok(()) => Err(SourceError::Ended(what)),
        Err(error) => Err(SourceError::Read {
            what,
            reason: error.to_string(),
        }),
    }
}

/// Enables TCP keepalive, which detects dead peers.
pub(super) fn keep_alive(connection: &TcpStream) -> io::Result<()> {
    let (time, interval) = KEEPALIVE;
    let keepalive = TcpKeepalive::new()
        .with_time(time)
        .with_interval(interval)
        .with_retries(3);
    SockRef::from(connection).set_tcp_keepalive(&keepalive)
}

/// Splits bytes without times at the pauses between them.
#[derive(Debug, Default)]
pub(super) struct ByteStream {
    /// Bytes have arrived since the last silence.
    is_open: bool,
}

impl ByteStream {
    /// How long to wait for more bytes before reporting silence.
    pub(super) fn wait(&self) -> Duration {
        if self.is_open {
            FRAME_TIMEOUT
        } else {
            POLL_INTERVAL
        }
    }

    /// Passes on received bytes.
    pub(super) fn bytes(&mut self, bytes: &[u8], sink: &mut dyn Sink) {
        // Copied, so that a small frame does not keep a whole chunk in memory.
        sink.byte_stream(Bytes::copy_from_slice(bytes));
        self.is_open = true;
    }

    /// Reports silence: no data arrived within [`ByteStream::wait`], or the stream has ended.
    pub(super) fn silence(&mut self, sink: &mut dyn Sink) {
        if std::mem::take(&mut self.is_open) {
            sink.silence();
        }
    }
}

fn pump(mut input: impl Read + AsFd, context: &mut SourceContext<'_>) -> io::Result<()> {
    context.sink.connected();
    let mut buffer = vec![0; CHUNK];
    let mut stream = ByteStream::default();
    while !context.stop.is_stopped() {
        if !readable(&input, stream.wait())? {
            stream.silence(context.sink);
            continue;
        }
        match input.read(&mut buffer) {
            Ok(0) => {
                stream.silence(context.sink);
                return Ok(());
            }
            Ok(size) => stream.bytes(&buffer[..size], context.sink),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn keepalive_probes_a_silent_peer() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let connection = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        keep_alive(&connection).unwrap();
        let socket = SockRef::from(&connection);
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEPALIVE.0);
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), KEEPALIVE.1);
    }
}
