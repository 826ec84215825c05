//! A viewer of `/live/{stream}/mse`, over WebSocket or as one endless file.

use crate::{
    Raw,
    mp4::{self, Part},
    within,
};
use anyhow::{Context, Result, bail, ensure};
use futures_util::StreamExt;
use std::{collections::VecDeque, net::SocketAddr};
use tokio::net::TcpStream;
use tokio_tungstenite::{WebSocketStream, tungstenite::Message};

/// A message received over WebSocket.
#[derive(Debug)]
pub enum Received {
    /// MIME type of the data that follows.
    Type(String),
    Part(Part),
}

/// A viewer over WebSocket.
pub struct Mse {
    socket: WebSocketStream<TcpStream>,
}

impl Mse {
    /// Connects to a stream.
    pub async fn connect(address: SocketAddr, stream: &str) -> Mse {
        Mse::connect_to(address, &format!("/live/{stream}/mse")).await
    }

    /// Connects to a transport with the component `mse`.
    pub async fn connect_to(address: SocketAddr, path: &str) -> Mse {
        let connected = async {
            let tcp = TcpStream::connect(address).await?;
            let url = format!("ws://{address}{path}");
            Ok::<_, anyhow::Error>(tokio_tungstenite::client_async(url, tcp).await?)
        };
        let (socket, _) = within("connect", connected).await.unwrap();
        Mse { socket }
    }

    /// Waits for the next message: whole boxes or a text.
    pub async fn next(&mut self) -> Result<Received> {
        loop {
            let message = within("a message", self.socket.next()).await;
            match message.context("the WebSocket ended")?? {
                Message::Text(text) => return Ok(Received::Type(text.to_string())),
                Message::Binary(bytes) => {
                    let (mut parts, end) = mp4::read(&bytes);
                    ensure!(
                        parts.len() == 1 && end == bytes.len(),
                        "not exactly one unit in a message: {parts:?}"
                    );
                    return Ok(Received::Part(parts.remove(0)));
                }
                Message::Close(close) => bail!("closed: {close:?}"),
                _ => {}
            }
        }
    }

    /// Waits for the MIME type and the init segment, which must come next.
    pub async fn header(&mut self) -> (String, Box<mp4_atom::Moov>) {
        let Received::Type(mime) = self.next().await.unwrap() else {
            panic!("no MIME type first")
        };
        let Received::Part(Part::Init(_, moov)) = self.next().await.unwrap() else {
            panic!("no init segment after the MIME type")
        };
        (mime, moov)
    }

    /// Waits for a fragment, which must come next.
    pub async fn fragment(&mut self) -> mp4::Fragment {
        match self.next().await.unwrap() {
            Received::Part(Part::Fragment(fragment)) => fragment,
            other => panic!("not a fragment: {other:?}"),
        }
    }
}

/// A viewer over HTTP, which receives one endless file.
pub struct File {
    connection: Raw,
    parts: VecDeque<Part>,
}

impl File {
    /// Requests the file of a stream.
    pub async fn open(address: SocketAddr, stream: &str) -> File {
        let mut connection = Raw::connect(address).await;
        // HTTP/1.0, so that no chunk sizes stand between the bytes of the body.
        let request = format!("GET /live/{stream}/mse HTTP/1.0\r\nHost: {address}\r\n\r\n");
        connection.write(request).await;
        let head = connection.head().await.unwrap();
        assert_eq!(
            (head.status, head.header("content-type")),
            (200, Some("video/mp4"))
        );
        File {
            connection,
            parts: VecDeque::new(),
        }
    }

    /// Waits for the next unit.
    pub async fn next(&mut self) -> Part {
        loop {
            if let Some(part) = self.parts.pop_front() {
                return part;
            }
            let (parts, end) = mp4::read(&self.connection.buffer);
            let _ = self.connection.buffer.split_to(end);
            self.parts.extend(parts);
            if self.parts.is_empty() {
                self.connection.more().await.unwrap();
            }
        }
    }
}
