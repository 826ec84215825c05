//! Bare Annex B from a socket or standard input.
//!
//! There are no times and no lengths: a picture is stamped when its first byte comes, and ends where the next one starts or
//! after [`SILENCE`]. A sender that pauses longer than that inside a picture loses the pictures up to the next start point.

use super::{LOOK, Sink, SourceError, Stop, readable};
use bytes::BytesMut;
use socket2::{SockRef, TcpKeepalive};
use std::{
    io::{self, Read},
    net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs},
    os::fd::AsFd,
    time::Duration,
};

/// After this long without a byte the picture is complete.
const SILENCE: Duration = Duration::from_millis(20);
const CONNECT: Duration = Duration::from_secs(5);
/// A sender may be silent for ever, but one whose machine is gone is noticed: after this long, and three tries this far apart.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(5));
const CHUNK: usize = 64 << 10;

/// Takes one connection at a time on `address`; when it ends, the next.
pub fn run_listener(
    address: SocketAddr,
    sink: &mut dyn Sink,
    stop: &Stop,
) -> Result<(), SourceError> {
    let what = format!("annexb:listen:{address}");
    let open = |error: io::Error| SourceError::Open {
        what: what.clone(),
        reason: format!("{error}; is the port taken by another program?"),
    };
    let listener = TcpListener::bind(address).map_err(open)?;
    listener.set_nonblocking(true).map_err(open)?;
    sink.listening(format!("waiting for a sender to connect to {address}"));
    while !stop.is_stopped() {
        if !readable(&listener, LOOK).map_err(open)? {
            continue;
        }
        match listener.accept() {
            Ok((connection, peer)) => {
                tracing::debug!("{what}: {peer} connected");
                let ended = connection
                    .set_nonblocking(false)
                    .and_then(|()| keep_alive(&connection))
                    .and_then(|()| pump(connection, sink, stop));
                if !stop.is_stopped() {
                    sink.lost(match &ended {
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

/// Connects to `address` and reads until it ends.
pub fn run_connection(address: &str, sink: &mut dyn Sink, stop: &Stop) -> Result<(), SourceError> {
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
    match pump(connection, sink, stop) {
        _ if stop.is_stopped() => Ok(()),
        Ok(()) => Err(SourceError::Ended(what)),
        Err(error) => Err(SourceError::Read {
            what,
            reason: error.to_string(),
        }),
    }
}

/// Reads standard input until it ends.
pub fn run_stdin(sink: &mut dyn Sink, stop: &Stop) -> Result<(), SourceError> {
    let what = "annexb:-".to_owned();
    match pump(io::stdin(), sink, stop) {
        _ if stop.is_stopped() => Ok(()),
        Ok(()) => Err(SourceError::Ended(what)),
        Err(error) => Err(SourceError::Read {
            what,
            reason: error.to_string(),
        }),
    }
}

fn keep_alive(connection: &TcpStream) -> io::Result<()> {
    let (time, interval) = KEEPALIVE;
    let keepalive = TcpKeepalive::new()
        .with_time(time)
        .with_interval(interval)
        .with_retries(3);
    SockRef::from(connection).set_tcp_keepalive(&keepalive)
}

fn pump(mut input: impl Read + AsFd, sink: &mut dyn Sink, stop: &Stop) -> io::Result<()> {
    sink.connected();
    let mut buffer = BytesMut::new();
    let mut flushed = true;
    while !stop.is_stopped() {
        let wait = if flushed { LOOK } else { SILENCE };
        if !readable(&input, wait)? {
            if !flushed {
                sink.silence();
                flushed = true;
            }
            continue;
        }
        buffer.resize(CHUNK, 0);
        match input.read(&mut buffer) {
            Ok(0) => {
                sink.silence();
                return Ok(());
            }
            Ok(size) => {
                sink.byte_stream(buffer.split_to(size).freeze());
                flushed = false;
            }
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
    fn the_system_asks_after_a_silent_peer() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let connection = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        keep_alive(&connection).unwrap();
        let socket = SockRef::from(&connection);
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEPALIVE.0);
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), KEEPALIVE.1);
    }
}
