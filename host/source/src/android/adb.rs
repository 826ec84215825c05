//! A client of the adb server, as far as it takes to show a device: who is there, a shell, a file to push, a socket on the device.
//!
//! Our own, over a plain socket: all of it is a text behind four digits and an answer of four letters (AOSP, `adb/OVERVIEW.TXT` and
//! `adb/SERVICES.TXT`). `adb_client` brings USB, RSA keys and images along, and `forensic-adb` its own tokio tasks and timeouts;
//! neither lets a wait end when the source is told to stop, and neither keeps a shell and two sockets in one thread's `poll`.
//!
//! A socket on a device is opened on a connection of its own, never by a forward: a connection that ends, however the gateway ended,
//! takes what it opened with it, where a forward stays in the adb server.

use super::super::{LOOK, Stop, annexb, readable};
use std::{
    io::{self, Read, Write},
    net::{TcpStream, ToSocketAddrs},
    os::fd::{AsFd, BorrowedFd},
    time::{Duration, Instant},
};
use thiserror::Error;

/// How long the adb server may take to be connected to, and then to answer.
const CONNECT: Duration = Duration::from_secs(3);
const ANSWER: Duration = Duration::from_secs(5);
/// The adb server's requests and answers have lengths of four hexadecimal digits.
const MAX_TEXT_BYTES: usize = 0xffff;
/// The sync protocol's (AOSP, `adb/SYNC.TXT`).
const MAX_DATA_BYTES: usize = 64 << 10;

/// Why the adb server gave nothing.
#[derive(Debug, Error)]
pub enum AdbError {
    /// It is not there.
    #[error("no adb server answers at {address} ({reason}); start it with `adb start-server`")]
    Unreachable {
        /// As configured.
        address: String,
        /// Why.
        reason: io::Error,
    },
    /// It said no, in its own words.
    #[error("adb: {0}")]
    Refused(String),
    /// The connection broke.
    #[error("the connection to the adb server broke: {0}")]
    Broken(#[from] io::Error),
    /// What answers is no adb server, or not one that this knows.
    #[error("what answers at the adb server's address is none: {0}")]
    Strange(String),
    /// Told to stop meanwhile.
    #[error("told to stop")]
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

    /// Asks for a service, and waits until it is granted.
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
            other => Err(AdbError::Strange(format!(
                "it says {:?}",
                String::from_utf8_lossy(other)
            ))),
        }
    }

    /// A text behind its length.
    pub fn text(&mut self) -> Result<String, AdbError> {
        let mut digits = [0; 4];
        self.read_exact(&mut digits)?;
        let length = std::str::from_utf8(&digits).ok();
        let length = length.and_then(|digits| u16::from_str_radix(digits, 16).ok());
        let length = length.ok_or_else(|| AdbError::Strange("a length that is none".into()))?;
        let mut bytes = vec![0; usize::from(length)];
        self.read_exact(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Whether there is something to read; waits for it for a moment.
    pub fn has_more(&mut self) -> Result<bool, AdbError> {
        Ok(readable(&self.stream, LOOK)?)
    }

    /// Reads until the other side ends; no more than `most` bytes, and for no longer than an answer may take.
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

    /// Writes a file to the device; the connection is to the service `sync:`.
    pub fn push(&mut self, path: &str, content: &[u8], unix_seconds: u32) -> Result<(), AdbError> {
        // A regular file that all may read: the shell's user wrote it, and another may run it.
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
            _ => Err(AdbError::Strange("an answer to a file that is none".into())),
        }
    }

    /// Reads what is there. 0: the other side ended.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.stream.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return read,
            }
        }
    }

    /// Writes all of it.
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
            if readable(&self.stream, left.min(LOOK))? {
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
