//! An HTTP and WebSocket client that breaks rules on purpose: it writes bytes unchanged and reads answers as they
//! arrive.

use crate::{client::take_part, within};
use anyhow::{Context, Result, bail};
use bytes::{Buf, Bytes, BytesMut};
use std::net::{Ipv4Addr, SocketAddr};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

/// A connection with the bytes that were read but not parsed yet.
pub struct Raw {
    pub socket: TcpStream,
    pub buffer: BytesMut,
}

/// Head of a response.
#[derive(Debug)]
pub struct Head {
    pub status: u16,
    pub text: String,
}

impl Head {
    /// Value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.text.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

impl Raw {
    /// Connects.
    pub async fn connect(address: SocketAddr) -> Raw {
        Raw::with_buffer(address, None).await
    }

    /// Connects with a receive buffer of this size in bytes, so that the sender soon notices that nothing is read.
    pub async fn with_buffer(address: SocketAddr, receive: Option<u32>) -> Raw {
        let socket = TcpSocket::new_v4().unwrap();
        if let Some(size) = receive {
            socket.set_recv_buffer_size(size).unwrap();
        }
        Raw::over(socket, address).await
    }

    /// Connects from this local address.
    pub async fn from(own: Ipv4Addr, address: SocketAddr) -> Raw {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from((own, 0))).unwrap();
        Raw::over(socket, address).await
    }

    async fn over(socket: TcpSocket, address: SocketAddr) -> Raw {
        let socket = within("connect", socket.connect(address)).await.unwrap();
        Raw {
            socket,
            buffer: BytesMut::new(),
        }
    }

    /// Writes bytes. A closed connection is not an error, since the peer may have answered before closing.
    pub async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = within("write", self.socket.write_all(bytes.as_ref())).await;
    }

    /// Reads the head of the next response.
    pub async fn head(&mut self) -> Result<Head> {
        let end = loop {
            let end = self.buffer.windows(4).position(|four| four == b"\r\n\r\n");
            match end {
                Some(end) => break end,
                None => self.more().await?,
            }
        };
        let text = String::from_utf8(self.buffer.split_to(end + 4).to_vec())?;
        let status = text.split(' ').nth(1).and_then(|code| code.parse().ok());
        Ok(Head {
            status: status.with_context(|| format!("no status in {text:?}"))?,
            text,
        })
    }

    /// Reads the next response and its body of `Content-Length` bytes.
    pub async fn response(&mut self) -> Result<(Head, String)> {
        let head = self.head().await?;
        let length = head
            .header("content-length")
            .map_or(Ok(0), str::parse::<usize>)?;
        while self.buffer.len() < length {
            self.more().await?;
        }
        let body = String::from_utf8_lossy(&self.buffer.split_to(length)).into_owned();
        Ok((head, body))
    }

    /// Reads the next part of a multipart body that is not chunked.
    pub async fn part(&mut self) -> Result<Bytes> {
        loop {
            if let Some(part) = take_part(&mut self.buffer)? {
                return Ok(part);
            }
            self.more().await?;
        }
    }

    /// Requests a WebSocket; returns the head of the answer.
    pub async fn upgrade(&mut self, address: SocketAddr, path: &str) -> Result<Head> {
        self.write(handshake(address, path)).await;
        self.head().await
    }

    /// Reads the server's next WebSocket frame: opcode and payload.
    pub async fn frame(&mut self) -> Result<(u8, Bytes)> {
        loop {
            if let Some(frame) = self.frame_in_buffer()? {
                return Ok(frame);
            }
            self.more().await?;
        }
    }

    /// Reads frames until the server closes the WebSocket; returns code and reason.
    pub async fn closed(&mut self) -> Result<(u16, String)> {
        loop {
            let (opcode, mut payload) = self.frame().await?;
            if opcode == 8 {
                let code = payload.get_u16();
                return Ok((code, String::from_utf8(payload.to_vec())?));
            }
        }
    }

    /// Reads until the server closes the connection.
    pub async fn end(&mut self) -> Result<Bytes> {
        while within(
            "more bytes or the end",
            self.socket.read_buf(&mut self.buffer),
        )
        .await?
            > 0
        {}
        Ok(self.buffer.split().freeze())
    }

    fn frame_in_buffer(&mut self) -> Result<Option<(u8, Bytes)>> {
        let [head, short, ..] = self.buffer[..] else {
            return Ok(None);
        };
        let (header, length) = match (short, &self.buffer[2..]) {
            (0..126, _) => (2, u64::from(short)),
            (126, [a, b, ..]) => (4, u64::from(u16::from_be_bytes([*a, *b]))),
            (127, [a, b, c, d, e, f, g, h, ..]) => {
                (10, u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]))
            }
            (128.., _) => bail!("a masked frame from the server"),
            _ => return Ok(None),
        };
        if head & 0xf0 != 0x80 {
            bail!("a fragment or an extension from the server: {head:#x}");
        }
        let length = usize::try_from(length)?;
        if self.buffer.len() < header + length {
            return Ok(None);
        }
        self.buffer.advance(header);
        Ok(Some((head & 0x0f, self.buffer.split_to(length).freeze())))
    }

    /// Reads once from the socket.
    pub async fn more(&mut self) -> Result<()> {
        let read = within("more bytes", self.socket.read_buf(&mut self.buffer));
        if read.await? == 0 {
            bail!("the connection ended after {:?}", self.buffer);
        }
        Ok(())
    }
}

/// A valid WebSocket handshake.
pub fn handshake(address: SocketAddr, path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

/// A masked client frame whose first byte is `head`.
pub fn masked(head: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [3, 1, 4, 1];
    let mut frame = vec![head];
    match payload.len() {
        short @ 0..126 => frame.push(0x80 | short as u8),
        middle @ 126..0x1_0000 => {
            frame.push(0x80 | 126);
            frame.extend((middle as u16).to_be_bytes());
        }
        long => {
            frame.push(0x80 | 127);
            frame.extend((long as u64).to_be_bytes());
        }
    }
    frame.extend(mask);
    frame.extend(
        payload
            .iter()
            .zip(mask.iter().cycle())
            .map(|(one, two)| one ^ two),
    );
    frame
}
