//! A single blocking viewer that counts every byte it receives.

use crate::answer::Answer;
use anyhow::{Context, Result, ensure};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// Longer than a server holds a response back.
const PATIENCE: Duration = Duration::from_secs(20);

/// A persistent connection.
pub struct Client {
    socket: TcpStream,
    address: SocketAddr,
    buffer: Vec<u8>,
    answer: Answer,
    /// Bytes received, including heads.
    pub received: u64,
}

impl Client {
    /// Connects to a server.
    pub fn connect(address: SocketAddr) -> Result<Client> {
        let socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(Client {
            socket,
            address,
            buffer: vec![0; 64 << 10],
            answer: Answer::default(),
            received: 0,
        })
    }

    /// Sends a GET; returns status and body.
    pub fn get(&mut self, path: &str) -> Result<(u16, Vec<u8>)> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.address);
        self.write(request.as_bytes())?;
        self.answer.clear();
        loop {
            if let Some((status, body)) = self.answer.whole().with_context(|| path.to_owned())? {
                return Ok((status, body.to_vec()));
            }
            let size = self.fill().with_context(|| path.to_owned())?;
            self.answer
                .take(self.buffer.get(..size).unwrap_or_default());
        }
    }

    /// Writes bytes to the connection.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.socket.write_all(bytes)?)
    }

    /// Reads the bytes that arrive next.
    pub fn read(&mut self) -> Result<&[u8]> {
        let size = self.fill()?;
        Ok(self.buffer.get(..size).unwrap_or_default())
    }

    fn fill(&mut self) -> Result<usize> {
        let size = self.socket.read(&mut self.buffer)?;
        ensure!(size > 0, "the connection ended");
        self.received += size as u64;
        Ok(size)
    }
}
