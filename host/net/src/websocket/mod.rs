//! WebSocket (RFC 6455), the server's side.
//!
//! Frames to viewers are not masked, so all viewers of a chunk get the same bytes: header and payload are joined once, in
//! [`sluicegate_viewer::Piece`], and written to each socket as they are.

mod frame;
mod messages;
mod session;

pub use frame::{Close, Event, MessageEncoding, Reader, close_frame, ping_frame, pong_frame};
pub use messages::{MessageHandler, RateLimit, serve_messages};
pub use session::run;

use base64::{Engine, engine::general_purpose::STANDARD};
use hyper::{HeaderMap, Method, Version, header};
use sha1::{Digest, Sha1};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    time::{Instant, timeout_at},
};

/// Bytes that are read at a time of what nobody wants to know.
const SCRAP: usize = 8 << 10;

/// Reads and forgets what a client still sends, up to its end or to `deadline`, after all has been said to it: bytes that
/// lie unread when a socket is closed have the kernel reset the connection, and a reset takes what the client has not read
/// yet, such as why it is closed, from it (RFC 1122 section 4.2.2.13).
async fn read_out<S: AsyncRead + Unpin>(socket: &mut S, deadline: Instant) {
    let mut scrap = [0; SCRAP];
    let _ = timeout_at(deadline, async {
        while matches!(socket.read(&mut scrap).await, Ok(1..)) {}
    })
    .await;
}

/// Why a request is no WebSocket handshake (RFC 6455 4.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoHandshake {
    /// An ordinary request.
    NotAsked,
    /// Another version than 13.
    Version,
    /// It lacks something or has it wrong.
    Broken(&'static str),
}

/// Checks the handshake and gives the `Sec-WebSocket-Accept` value.
pub fn accept(
    method: &Method,
    version: Version,
    headers: &HeaderMap,
) -> Result<String, NoHandshake> {
    let has = |name: header::HeaderName, token: &str| {
        headers.get_all(name).iter().any(|value| {
            value.to_str().is_ok_and(|value| {
                value
                    .split(',')
                    .any(|part| part.trim().eq_ignore_ascii_case(token))
            })
        })
    };
    if version == Version::HTTP_2 && headers.contains_key(header::SEC_WEBSOCKET_KEY) {
        // There is no Upgrade in HTTP/2, and this gateway does not offer RFC 8441.
        return Err(NoHandshake::Broken(
            "a WebSocket needs a connection of HTTP/1.1; offer only http/1.1 in ALPN",
        ));
    }
    if !has(header::UPGRADE, "websocket") {
        return Err(NoHandshake::NotAsked);
    }
    if method != Method::GET || version < Version::HTTP_11 {
        return Err(NoHandshake::Broken(
            "a WebSocket handshake is a GET of HTTP/1.1",
        ));
    }
    if !has(header::CONNECTION, "upgrade") {
        return Err(NoHandshake::Broken(
            "a WebSocket handshake needs `Connection: Upgrade`",
        ));
    }
    if headers
        .get(header::SEC_WEBSOCKET_VERSION)
        .is_none_or(|version| version != "13")
    {
        return Err(NoHandshake::Version);
    }
    let key = headers
        .get(header::SEC_WEBSOCKET_KEY)
        .filter(|key| {
            STANDARD
                .decode(key.as_bytes())
                .is_ok_and(|bytes| bytes.len() == 16)
        })
        .ok_or(NoHandshake::Broken(
            "`Sec-WebSocket-Key` must be 16 bytes in base64",
        ))?;
    let mut hash = Sha1::new();
    hash.update(key.as_bytes());
    hash.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    Ok(STANDARD.encode(hash.finalize()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                (
                    header::HeaderName::from_static(name),
                    value.parse().unwrap(),
                )
            })
            .collect()
    }

    #[test]
    fn the_example_of_the_standard_is_accepted() {
        let good = headers(&[
            ("upgrade", "websocket"),
            ("connection", "keep-alive, Upgrade"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ]);
        let accepted = accept(&Method::GET, Version::HTTP_11, &good);
        assert_eq!(accepted, Ok("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".into()));
    }

    #[test]
    fn what_is_wrong_is_told_apart() {
        let mut bad = headers(&[("upgrade", "websocket"), ("connection", "upgrade")]);
        assert_eq!(
            accept(&Method::GET, Version::HTTP_11, &bad),
            Err(NoHandshake::Version)
        );
        bad.insert("sec-websocket-version", "13".parse().unwrap());
        bad.insert("sec-websocket-key", "short".parse().unwrap());
        assert!(matches!(
            accept(&Method::GET, Version::HTTP_11, &bad),
            Err(NoHandshake::Broken(_))
        ));
        assert!(matches!(
            accept(&Method::POST, Version::HTTP_11, &bad),
            Err(NoHandshake::Broken(_))
        ));
        assert_eq!(
            accept(&Method::GET, Version::HTTP_11, &HeaderMap::new()),
            Err(NoHandshake::NotAsked)
        );
    }
}
