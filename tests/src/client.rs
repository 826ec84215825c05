//! Clients for plain HTTP, MJPEG, and H.264 over WebSocket. They are strict: whatever they do not expect is an error,
//! so a test that uses them also checks the format of what it receives.

use anyhow::{Context, Result, bail};
use bytes::{Buf, Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use sluicegate_media::{
    blocks,
    h264::{annexb, nal},
};
use std::{net::SocketAddr, time::Instant};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, protocol::CloseFrame},
};

/// Sends a GET on a connection of its own; returns status, head and body. Supports `Content-Length` and chunked bodies.
pub async fn http_get(
    address: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
) -> Result<(u16, String, Vec<u8>)> {
    request(address, "GET", path, headers).await
}

/// Sends a request without a body on a connection of its own.
pub async fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> Result<(u16, String, Vec<u8>)> {
    request_with(address, method, path, headers, b"").await
}

/// Sends a request on a connection of its own, with `body` unless it is empty.
pub async fn request_with(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Result<(u16, String, Vec<u8>)> {
    let mut stream = TcpStream::connect(address).await?;
    let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
    if !headers
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case("host"))
    {
        head.push_str(&format!("Host: {address}\r\n"));
    }
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    stream.write_all(&[head.as_bytes(), body].concat()).await?;
    let mut raw = Vec::new();
    stream.read_to_end(&mut raw).await?;
    let end = raw
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .context("no end of the response's head")?;
    let head = String::from_utf8_lossy(&raw[..end]).into_owned();
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .context("no status")?;
    let mut body = Bytes::copy_from_slice(&raw[end + 4..]);
    if head
        .to_ascii_lowercase()
        .contains("transfer-encoding: chunked")
    {
        body = unchunk(body)?;
    }
    Ok((status, head, body.to_vec()))
}

fn unchunk(mut body: Bytes) -> Result<Bytes> {
    let mut all = BytesMut::new();
    loop {
        let end = body
            .windows(2)
            .position(|two| two == b"\r\n")
            .context("no chunk size")?;
        let size = usize::from_str_radix(std::str::from_utf8(&body[..end])?, 16)?;
        body.advance(end + 2);
        if size == 0 {
            return Ok(all.freeze());
        }
        all.extend_from_slice(&body.split_to(size));
        body.advance(2);
    }
}

/// A viewer of MJPEG over HTTP.
pub struct Mjpeg<S = TcpStream> {
    stream: S,
    buffer: BytesMut,
}

/// Connects to `/live/{stream}/mjpeg`.
pub async fn mjpeg(address: SocketAddr, stream: &str) -> Result<Mjpeg> {
    Mjpeg::open(address, &format!("/live/{stream}/mjpeg")).await
}

impl Mjpeg {
    /// Connects to a path that delivers JPEGs as a multipart body.
    pub async fn open(address: SocketAddr, path: &str) -> Result<Mjpeg> {
        Mjpeg::over(TcpStream::connect(address).await?, address, path).await
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Mjpeg<S> {
    /// Requests the path on an existing connection.
    pub async fn over(mut socket: S, address: SocketAddr, path: &str) -> Result<Mjpeg<S>> {
        // HTTP/1.0, so that no chunk sizes stand between the bytes of the body.
        socket
            .write_all(format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes())
            .await?;
        let mut viewer = Mjpeg {
            stream: socket,
            buffer: BytesMut::new(),
        };
        let head = viewer.until(b"\r\n\r\n").await?;
        let head = String::from_utf8_lossy(&head).into_owned();
        if !head.contains(" 200 ") || !head.contains("multipart/x-mixed-replace; boundary=frame") {
            bail!("not MJPEG: {head}");
        }
        Ok(viewer)
    }

    /// Waits for the next JPEG.
    pub async fn next(&mut self) -> Result<Bytes> {
        loop {
            if let Some(jpeg) = take_part(&mut self.buffer)? {
                return Ok(jpeg);
            }
            self.more().await?;
        }
    }

    /// Frame number of the next JPEG that shows one.
    pub async fn next_number(&mut self) -> Result<u32> {
        loop {
            let jpeg = self.next().await?;
            if let Some(number) = jpeg_number(&jpeg) {
                return Ok(number);
            }
        }
    }

    async fn until(&mut self, end: &[u8]) -> Result<Bytes> {
        loop {
            if let Some(at) = self.buffer.windows(end.len()).position(|part| part == end) {
                return Ok(self.buffer.split_to(at + end.len()).freeze());
            }
            self.more().await?;
        }
    }

    async fn more(&mut self) -> Result<()> {
        if self.stream.read_buf(&mut self.buffer).await? == 0 {
            bail!("the MJPEG stream ended");
        }
        Ok(())
    }
}

/// Takes the next part of a multipart body out of the buffer, if it is complete.
pub fn take_part(buffer: &mut BytesMut) -> Result<Option<Bytes>> {
    let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: "))
        .with_context(|| format!("a part without length: {head:?}"))?;
    let length: usize = length.trim().parse()?;
    if buffer.len() < end + 4 + length {
        return Ok(None);
    }
    buffer.advance(end + 4);
    Ok(Some(buffer.split_to(length).freeze()))
}

/// Frame number shown in a JPEG of the test pattern.
pub fn jpeg_number(jpeg: &[u8]) -> Option<u32> {
    let image = turbojpeg::decompress(jpeg, turbojpeg::PixelFormat::GRAY).ok()?;
    blocks::read(
        &image.pixels,
        image.pitch,
        image.width,
        image.height,
        blocks::Row::Number,
    )
}

/// A viewer of `/live/{stream}/nal`.
pub struct Nal<S = TcpStream> {
    pub socket: WebSocketStream<S>,
}

impl Nal {
    /// Connects to a stream.
    pub async fn connect(address: SocketAddr, stream: &str) -> Result<Nal> {
        Nal::open(address, &format!("/live/{stream}/nal")).await
    }

    /// Connects to any WebSocket path.
    pub async fn open(address: SocketAddr, path: &str) -> Result<Nal> {
        let tcp = TcpStream::connect(address).await?;
        Nal::over(tcp, &format!("ws://{address}{path}")).await
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Nal<S> {
    /// Performs the WebSocket handshake on a connection.
    pub async fn over(connection: S, url: &str) -> Result<Nal<S>> {
        let (socket, _) = tokio_tungstenite::client_async(url, connection).await?;
        Ok(Nal { socket })
    }

    /// Waits for the next binary message; an error when the connection ends.
    pub async fn next(&mut self) -> Result<Bytes> {
        loop {
            match self.socket.next().await.context("the WebSocket ended")?? {
                Message::Binary(data) => return Ok(data),
                // Display geometry: rotation, or pixels that are not square.
                Message::Text(text) if text.contains("pixelAspect") => {}
                Message::Text(text) => bail!("text on nal: {text}"),
                Message::Close(close) => bail!("closed: {close:?}"),
                _ => {}
            }
        }
    }

    /// Sends a text message.
    pub async fn say(&mut self, text: String) -> Result<()> {
        Ok(self.socket.send(Message::Text(text.into())).await?)
    }

    /// Reads until the server closes the WebSocket; returns its close frame.
    pub async fn closed(&mut self) -> Result<Option<CloseFrame>> {
        loop {
            let message = self.socket.next().await;
            if let Message::Close(close) = message.context("ended without a close frame")?? {
                return Ok(close);
            }
        }
    }

    /// NAL units of the next access unit. Messages that only repeat parameter sets are skipped.
    pub async fn next_unit(&mut self) -> Result<Unit> {
        loop {
            let data = self.next().await?;
            let nals = annexb::split(&data);
            if !is_header(&nals) {
                return Ok(Unit {
                    nals,
                    data,
                    at: Instant::now(),
                });
            }
        }
    }
}

/// One access unit as received.
#[derive(Clone, Debug)]
pub struct Unit {
    pub nals: Vec<Bytes>,
    pub data: Bytes,
    pub at: Instant,
}

impl Unit {
    /// Whether it contains an IDR frame.
    pub fn is_idr(&self) -> bool {
        self.nals
            .iter()
            .any(|unit| nal::unit_type(unit) == nal::IDR)
    }
}

/// Whether a message is only a header: parameter sets and nothing else.
pub fn is_header(nals: &[Bytes]) -> bool {
    nals.iter()
        .all(|unit| matches!(nal::unit_type(unit), nal::SPS | nal::PPS))
}
