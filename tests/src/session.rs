//! A player's side of a session, without a player.

use crate::{Gateway, http_get, within};
use anyhow::{Context, Result, bail};
use futures_util::{SinkExt, future::poll_fn};
use serde_json::{Value, json};
use std::pin::Pin;
use tokio::net::TcpStream;
use tokio_tungstenite::{WebSocketStream, tungstenite::Message};

/// Asks the gateway what to play; `query` is like `can=mjpeg,hls`.
pub async fn choose(
    gateway: &Gateway,
    stream: &str,
    query: &str,
    headers: &[(&str, &str)],
) -> (u16, Value) {
    let headers: Vec<(&str, &str)> = [("Accept", "application/json")]
        .iter()
        .chain(headers)
        .copied()
        .collect();
    let path = format!("/live/{stream}?{query}");
    let (status, _, body) = within("a choice", http_get(gateway.address, &path, &headers))
        .await
        .unwrap();
    (status, serde_json::from_slice(&body).unwrap())
}

/// Control channel of a session.
pub struct Control {
    socket: WebSocketStream<TcpStream>,
    /// Path of the channel.
    pub path: String,
}

impl Control {
    /// Starts a session and opens its control channel; also returns what is to be played.
    pub async fn open(gateway: &Gateway, stream: &str, query: &str) -> (Control, Value) {
        let (status, chosen) = choose(gateway, stream, query, &[]).await;
        assert_eq!(status, 200, "{chosen}");
        let path = chosen["session"].as_str().unwrap().to_owned();
        let control = Control::attend(gateway, path).await.unwrap();
        (control, chosen)
    }

    /// Opens the control channel of an existing session.
    pub async fn attend(gateway: &Gateway, path: String) -> Result<Control> {
        let tcp = TcpStream::connect(gateway.address).await?;
        let url = format!("ws://{}{path}", gateway.address);
        let (socket, _) = tokio_tungstenite::client_async(url, tcp).await?;
        Ok(Control { socket, path })
    }

    /// Sends a JSON message.
    pub async fn say(&mut self, what: Value) {
        self.raw(&what.to_string()).await;
    }

    /// Sends a text message unchanged.
    pub async fn raw(&mut self, text: &str) {
        self.socket.send(Message::text(text)).await.unwrap();
    }

    /// Reports that a candidate is on the screen.
    pub async fn playing(&mut self, form: &Value) {
        self.say(json!({
            "type": "playing", "transport": form["transport"], "rendition": form["rendition"],
        }))
        .await;
    }

    /// Sends the report of a good link, with these changes.
    pub async fn report(&mut self, changes: Value) {
        let mut report = json!({
            "type": "report", "round_trip_ms": 20, "received": 400_000, "queued_ms": 0, "stalled_ms": 0,
            "frames_dropped": 0, "frame_rate": 30, "visible": true,
        });
        for (name, value) in changes.as_object().unwrap() {
            report[name] = value.clone();
        }
        self.say(report).await;
    }

    /// Waits for the gateway's next message; if the channel closes, the error has the reason.
    pub async fn hear(&mut self) -> Result<Value> {
        use futures_util::Stream;
        loop {
            let next = poll_fn(|context| Pin::new(&mut self.socket).poll_next(context));
            match next.await.context("the control channel closed")?? {
                Message::Text(text) => return Ok(serde_json::from_str(&text)?),
                Message::Close(Some(close)) => bail!("{}: {}", u16::from(close.code), close.reason),
                Message::Close(None) => bail!("closed"),
                _ => {}
            }
        }
    }

    /// Waits for the next message of this type.
    pub async fn heard(&mut self, kind: &str) -> Value {
        loop {
            let said = within(kind, self.hear()).await.unwrap();
            if said["type"] == kind {
                return said;
            }
        }
    }
}
