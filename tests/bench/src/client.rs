//! One viewer that waits for what it asked for, and counts every byte that it gets.

use crate::answer::Answer;
use anyhow::{Context, Result, ensure};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// Longer than a server holds an answer back.
const PATIENCE: Duration = Duration::from_secs(20);

/// A connection that stays open.
pub struct Client {
    socket: TcpStream,
    address: SocketAddr,
    buffer: Vec<u8>,
    answer: Answer,
    /// Bytes received, heads included.
    pub received: u64,
}

impl Client {
    /// To that address.
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

    /// Status and body.
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

    /// Writes something.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.socket.write_all(bytes)?)
    }

    /// What comes next, whatever it is.
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
