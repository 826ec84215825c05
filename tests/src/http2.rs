//! HTTP/2 frame by frame (RFC 9113 section 4), for clients that break the rules on purpose.

use crate::within;
use anyhow::{Result, bail};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use std::net::SocketAddr;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf},
    net::TcpStream,
};

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// Error code ENHANCE_YOUR_CALM (RFC 9113 section 7).
pub const ENHANCE_YOUR_CALM: u32 = 11;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A received frame.
#[derive(Clone, Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Bytes,
}

impl Frame {
    /// Error code of a GOAWAY frame (section 6.8).
    pub fn error_code(&self) -> u32 {
        assert_eq!(self.kind, GOAWAY);
        (&self.payload[4..]).get_u32()
    }
}

/// Serializes a frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap();
    let mut bytes = length.to_be_bytes()[1..].to_vec();
    bytes.put_u8(kind);
    bytes.put_u8(flags);
    bytes.put_u32(stream);
    bytes.put_slice(payload);
    bytes
}

/// A header block without Huffman codes and without indexing (RFC 7541 section 6.2.2).
pub fn block(headers: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in headers {
        block.put_u8(0);
        for text in [name, value] {
            length(&mut block, text.len());
            block.put_slice(text.as_bytes());
        }
    }
    block
}

/// Writes an integer with a 7-bit prefix (RFC 7541 section 5.1).
fn length(block: &mut Vec<u8>, length: usize) {
    let Some(mut rest) = length.checked_sub(127) else {
        return block.put_u8(length as u8);
    };
    block.put_u8(127);
    while rest >= 128 {
        block.put_u8(rest as u8 | 0x80);
        rest >>= 7;
    }
    block.put_u8(rest as u8);
}

/// Header block of a valid GET.
pub fn get(address: SocketAddr, path: &str) -> Vec<u8> {
    block(&[
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", &address.to_string()),
        (":path", path),
    ])
}

/// A connection with the bytes that were read but not parsed yet.
pub struct RawHttp2<S = TcpStream> {
    pub socket: S,
    buffer: BytesMut,
}

impl RawHttp2 {
    /// Connects without TLS and sends the preface.
    pub async fn connect(address: SocketAddr) -> RawHttp2 {
        let socket = within("connect", TcpStream::connect(address))
            .await
            .unwrap();
        RawHttp2::over(socket).await
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> RawHttp2<S> {
    /// Sends the preface on an existing connection.
    pub async fn over(socket: S) -> RawHttp2<S> {
        let mut raw = RawHttp2 {
            socket,
            buffer: BytesMut::new(),
        };
        raw.write([PREFACE, &frame(SETTINGS, 0, 0, &[])].concat())
            .await;
        raw
    }

    /// Splits into a half that reads frames and a half that writes bytes.
    pub fn split(self) -> (RawHttp2<ReadHalf<S>>, WriteHalf<S>) {
        let (socket, output) = tokio::io::split(self.socket);
        let buffer = self.buffer;
        (RawHttp2 { socket, buffer }, output)
    }

    /// Writes bytes. A closed connection is not an error, since the peer may have answered before closing.
    pub async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = within("write", async {
            self.socket.write_all(bytes.as_ref()).await?;
            self.socket.flush().await
        })
        .await;
    }

    /// Sends a PING and waits for its answer: everything sent before has then been processed.
    pub async fn ping(&mut self) -> Result<()> {
        self.write(frame(PING, 0, 0, b"are you?")).await;
        while self.next_of(PING).await?.payload[..] != *b"are you?" {}
        Ok(())
    }
}

impl<S: AsyncRead + Unpin> RawHttp2<S> {
    /// Waits for the next frame; an error at the end of the connection.
    pub async fn next(&mut self) -> Result<Frame> {
        loop {
            if let [a, b, c, kind, flags, d, e, f, g, ..] = self.buffer[..] {
                let length = u32::from_be_bytes([0, a, b, c]) as usize;
                if self.buffer.len() >= 9 + length {
                    self.buffer.advance(9);
                    return Ok(Frame {
                        kind,
                        flags,
                        stream: u32::from_be_bytes([d, e, f, g]),
                        payload: self.buffer.split_to(length).freeze(),
                    });
                }
            }
            if within("a frame", self.socket.read_buf(&mut self.buffer)).await? == 0 {
                bail!("the connection ended");
            }
        }
    }

    /// Waits for the next frame of this type.
    pub async fn next_of(&mut self, kind: u8) -> Result<Frame> {
        loop {
            let frame = self.next().await?;
            if frame.kind == kind {
                return Ok(frame);
            }
        }
    }

    /// Reads to the end; returns the code of a GOAWAY if there was one.
    pub async fn end(&mut self) -> Option<u32> {
        let mut code = None;
        while let Ok(frame) = self.next().await {
            if frame.kind == GOAWAY {
                code = Some(frame.error_code());
            }
        }
        code
    }
}
