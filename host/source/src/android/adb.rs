//! A client of the adb server: lists devices, opens a shell, pushes a file, connects to a socket on a device.
//!
//! It is our own, on a plain TCP socket: the protocol is a text after four hexadecimal digits, and a reply of four
//! letters (AOSP, `adb/OVERVIEW.TXT` and `adb/SERVICES.TXT`). The crate `adb_client` depends on USB, RSA keys and
//! images, and `forensic-adb` has its own tokio tasks and timeouts; with neither can a wait end when the source is
//! stopped, or one thread `poll` a shell and two sockets.
//!
//! A socket on a device is opened over its own connection, never by a forward. When the connection ends, however the
//! gateway ended, adb closes what was opened through it; a forward would stay in the adb server.

use super::super::{POLL_INTERVAL, Stop, annexb, readable};
use std::{
    io::{self, Read, Write},
    net::{TcpStream, ToSocketAddrs},
    os::fd::{AsFd, BorrowedFd},
    time::{Duration, Instant},
};
use thiserror::Error;

/// Timeouts for connecting to the adb server, and for its replies.
const CONNECT: Duration = Duration::from_secs(3);
const ANSWER: Duration = Duration::from_secs(5);
/// Requests and replies of the adb server have lengths of four hexadecimal digits.
const MAX_TEXT_BYTES: usize = 0xffff;
/// Largest DATA chunk of the sync protocol (AOSP, `adb/SYNC.TXT`).
const MAX_DATA_BYTES: usize = 64 << 10;

/// Why a request to the adb server failed.
#[derive(Debug, Error)]
pub enum AdbError {
    /// No server answers at the address.
    #[error("no adb server answers at {address} ({reason}); start it with `adb start-server`")]
    Unreachable {
        /// Address, as configured.
        address: String,
        /// Error of the connection attempt.
        reason: io::Error,
    },
    /// The server refused the request; its own message.
    #[error("adb: {0}")]
    Refused(String),
    /// The connection was lost.
    #[error("the connection to the adb server was lost: {0}")]
    Broken(#[from] io::Error),
    /// The peer is not an adb server, or not a known version.
    #[error("the peer at the adb server's address is not an adb server: {0}")]
    Protocol(String),
    /// The source was stopped.
    #[error("the source was stopped")]
    Stopped,
}

/// A connection to the adb server, or through it to a service on a device.
#[derive(Debug)]
pub struct Connection<'a> {
    stream: TcpStream,
    stop: &'a Stop,
}

impl<'a> Connection<'a> {
    /// Connects to the adb server at `address`, `HOST:PORT`.
    pub fn open(address: &str, stop: &'a Stop) -> Result<Connection<'a>, AdbError> {
        let fail = |reason| AdbError::Unreachable {
            address: address.to_owned(),
            reason,
        };
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for candidate in address.to_socket_addrs().map_err(fail)? {
            match TcpStream::connect_timeout(&candidate, CONNECT) {
                Ok(stream) => {
                    annexb::keep_alive(&stream)?;
                    stream.set_nodelay(true)?;
                    stream.set_write_timeout(Some(ANSWER))?;
                    return Ok(Connection { stream, stop });
                }
                Err(error) => last = error,
            }
        }
        Err(fail(last))
    }

    /// Connects to `service` on a device.
    pub fn service(
        address: &str,
        serial: &str,
        service: &str,
        stop: &'a Stop,
    ) -> Result<Connection<'a>, AdbError> {
        let mut connection = Connection::open(address, stop)?;
        connection.request(&format!("host:transport:{serial}"))?;
        connection.request(service)?;
        Ok(connection)
    }

    /// Requests a service and waits for the reply.
    pub fn request(&mut self, service: &str) -> Result<(), AdbError> {
        if service.len() > MAX_TEXT_BYTES {
            return Err(AdbError::Refused("the request is too long".into()));
        }
        let text = format!("{:04x}{service}", service.len());
        self.stream.write_all(text.as_bytes())?;
        let mut status = [0; 4];
        self.read_exact(&mut status)?;
        match &status {
            b"OKAY" => Ok(()),
            b"FAIL" => Err(AdbError::Refused(self.text()?)),
            other => Err(AdbError::Protocol(format!(
                "unexpected reply {:?}",
                String::from_utf8_lossy(other)
            ))),
        }
    }

    /// Reads a text with its length prefix.
    pub fn text(&mut self) -> Result<String, AdbError> {
        let mut digits = [0; 4];
        self.read_exact(&mut digits)?;
        let length = std::str::from_utf8(&digits).ok();
        let length = length.and_then(|digits| u16::from_str_radix(digits, 16).ok());
        let length = length.ok_or_else(|| AdbError::Protocol("an invalid length".into()))?;
        let mut bytes = vec![0; usize::from(length)];
        self.read_exact(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Whether there is data to read; waits up to [`POLL_INTERVAL`] for it.
    pub fn has_more(&mut self) -> Result<bool, AdbError> {
        Ok(readable(&self.stream, POLL_INTERVAL)?)
    }

    /// Reads until the peer closes the connection: at most `most` bytes, and not longer than [`ANSWER`].
    pub fn rest(&mut self, most: usize) -> Result<Vec<u8>, AdbError> {
        let deadline = Instant::now() + ANSWER;
        let mut all = Vec::new();
        let mut buffer = [0; 1024];
        loop {
            let size = self.read_before(&mut buffer, deadline)?;
            all.extend_from_slice(buffer.get(..size).unwrap_or_default());
            if size == 0 || all.len() >= most {
                return Ok(all);
            }
        }
    }

    /// Writes a file to the device; the connection must be to the service `sync:`.
    pub fn push(&mut self, path: &str, content: &[u8], unix_seconds: u32) -> Result<(), AdbError> {
        // A regular file that everybody may read: the shell's user writes it, and another may run it.
        let target = format!("{path},{}", 0o100_644);
        self.sync(b"SEND", target.len(), target.as_bytes())?;
        for data in content.chunks(MAX_DATA_BYTES) {
            self.sync(b"DATA", data.len(), data)?;
        }
        self.sync(b"DONE", unix_seconds as usize, &[])?;
        let mut answer = [0; 8];
        self.read_exact(&mut answer)?;
        let [a, b, c, d, length @ ..] = answer;
        match &[a, b, c, d] {
            b"OKAY" => Ok(()),
            b"FAIL" => {
                let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
                let mut reason = vec![0; length.min(MAX_TEXT_BYTES)];
                self.read_exact(&mut reason)?;
                let reason = String::from_utf8_lossy(&reason).into_owned();
                Err(AdbError::Refused(reason))
            }
            _ => Err(AdbError::Protocol(
                "an invalid reply to a pushed file".into(),
            )),
        }
    }

    /// Reads available bytes; 0 means that the peer closed the connection.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.stream.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return read,
            }
        }
    }

    /// Writes all bytes.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    fn sync(&mut self, id: &[u8; 4], length: usize, data: &[u8]) -> io::Result<()> {
        let length = u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes();
        self.stream.write_all(&[&id[..], &length, data].concat())
    }

    fn read_exact(&mut self, buffer: &mut [u8]) -> Result<(), AdbError> {
        let deadline = Instant::now() + ANSWER;
        let mut done = 0;
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.read_before(rest, deadline)? {
                0 => return Err(AdbError::Broken(io::ErrorKind::UnexpectedEof.into())),
                size => done += size,
            }
        }
        Ok(())
    }

    fn read_before(&mut self, buffer: &mut [u8], deadline: Instant) -> Result<usize, AdbError> {
        loop {
            if self.stop.is_stopped() {
                return Err(AdbError::Stopped);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(AdbError::Broken(io::ErrorKind::TimedOut.into()));
            }
            if readable(&self.stream, left.min(POLL_INTERVAL))? {
                return Ok(self.read(buffer)?);
            }
        }
    }
}

impl AsFd for Connection<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
