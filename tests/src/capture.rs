//! A client of the capture API, over WebSocket and HTTP.

use crate::{Gateway, client::request_with, within};
use anyhow::{Result, bail};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::net::SocketAddr;
use tokio::net::TcpStream;
use tokio_tungstenite::{WebSocketStream, tungstenite::Message};

/// A connected client of `WS /api/ws/capture/{serial}`.
pub struct CaptureClient {
    pub socket: WebSocketStream<TcpStream>,
}

impl CaptureClient {
    /// Connects; `stream` is put into the path unchanged.
    pub async fn connect(address: SocketAddr, stream: &str) -> Result<CaptureClient> {
        let tcp = TcpStream::connect(address).await?;
        let url = format!("ws://{address}/api/ws/capture/{stream}");
        let (socket, _) = tokio_tungstenite::client_async(url, tcp).await?;
        Ok(CaptureClient { socket })
    }

    /// Connects to the stream's captures; fails the test if that is not possible.
    pub async fn of(gateway: &Gateway, stream: &str) -> CaptureClient {
        let shots = CaptureClient::connect(gateway.address, stream);
        within("a capture client connects", shots).await.unwrap()
    }

    /// Sends a text message.
    pub async fn say(&mut self, text: &str) {
        let sent = self.socket.send(Message::Text(text.into()));
        within("the gateway listens", sent).await.unwrap();
    }

    /// Requests a capture; `more` has additional fields of the request.
    pub async fn ask(&mut self, more: Value) {
        let mut request = json!({ "type": "capture" });
        for (key, value) in more.as_object().unwrap() {
            request[key] = value.clone();
        }
        self.say(&request.to_string()).await;
    }

    /// Waits for the next answer: the description and the JPEG, or the error.
    pub async fn answer(&mut self) -> Result<(Value, Bytes), Value> {
        let said = within("an answer", self.message()).await.unwrap();
        let Message::Text(said) = said else {
            panic!("an image without a description: {} bytes", said.len());
        };
        let said: Value = serde_json::from_str(&said).unwrap();
        match said["type"].as_str() {
            Some("capture_result") => {
                let image = within("the image", self.message()).await.unwrap();
                let Message::Binary(image) = image else {
                    panic!("no image after {said}, but {image:?}");
                };
                assert_eq!(said["bytes"], image.len(), "{said}");
                Ok((said, image))
            }
            Some("error") => Err(said),
            _ => panic!("neither a description nor an error: {said}"),
        }
    }

    /// Requests a capture and waits for it.
    pub async fn take(&mut self, more: Value) -> Result<(Value, Bytes), Value> {
        self.ask(more).await;
        self.answer().await
    }

    /// Waits for the next message that is not a ping.
    async fn message(&mut self) -> Result<Message> {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(message)) => return Ok(message),
                Some(Err(error)) => return Err(error.into()),
                None => bail!("the gateway hung up"),
            }
        }
    }
}

/// Sends `POST /api/devices/{serial}/capture`; returns status, head and body.
pub async fn post(
    gateway: &Gateway,
    serial: &str,
    accept: &str,
    body: &str,
) -> (u16, String, Vec<u8>) {
    let path = format!("/api/devices/{serial}/capture");
    let headers = [("Accept", accept)];
    let answer = request_with(gateway.address, "POST", &path, &headers, body.as_bytes());
    within("a capture", answer).await.unwrap()
}
